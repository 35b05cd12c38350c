"""What Keras itself says of a model: shapes, parameters, and multiplications from its kernels.

Keras' side uses nothing of convcalc: multiplications follow from kernels' and outputs' sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from convcalc.analysis.costs import add_up
from convcalc.network import Network

Dims = tuple[int, ...]


@dataclass
class Facts:
    """One layer: the output shapes and the multiplications of all calls, its variables."""

    shapes: set[Dims]
    params: int
    trainable: int
    macs: int


def facts(model: Any) -> dict[str, Facts]:
    """Facts of every layer that is no model and no input, by its path."""
    found: dict[str, Facts] = {}
    for path, layer, nodes, frozen in layers_of(model, "", 1, False):
        outputs = [one(node.output_tensors) for node in nodes]
        inputs = [one(node.input_tensors) for node in nodes]
        macs = sum(
            multiplications(layer, full(a), full(b), node)
            for a, b, node in zip(inputs, outputs, nodes, strict=True)
        )
        variables = getattr(layer, "weights", [])
        trainable = [] if frozen else getattr(layer, "trainable_weights", [])
        found[path] = Facts(set(map(full, outputs)), size_of(variables), size_of(trainable), macs)
    return found


def size_of(variables: Any) -> int:
    """Elements of distinct variables."""
    return sum(math.prod(v.shape) for v in {id(v): v for v in variables}.values())


def layers_of(
    model: Any, prefix: str, times: int, frozen: bool
) -> Iterator[tuple[str, Any, list[Any], bool]]:
    """(path, layer, its calls in this model as often as the model is called, frozen from above)."""
    function = model._functional if isinstance(model, keras.Sequential) else model
    frozen = frozen or not model.trainable
    own = {id(node) for nodes in function._nodes_by_depth.values() for node in nodes}
    for layer in function.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        nodes = [node for node in layer._inbound_nodes if id(node) in own] * times
        path = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            yield from layers_of(layer, f"{path}/", len(nodes), frozen)
        else:
            yield path, layer, nodes, frozen


def one(tensors: Any) -> Any:
    return tensors[0] if isinstance(tensors, (list, tuple)) else tensors


def full(tensor: Any) -> Dims:
    """The shape for a batch of one."""
    return (1, *tensor.shape[1:])


def multiplications(layer: Any, source: Dims, target: Dims, node: Any = None) -> int:
    """Multiply-accumulates of one call."""
    kind = type(layer).__name__
    if kind.endswith("Transpose") and kind.startswith("Conv"):
        # Every input element meets its kernel once for each filter.
        *window, filters, _ = layer.kernel.shape
        return math.prod(window) * filters * math.prod(source)
    if kind.startswith("Conv"):
        return math.prod(layer.kernel.shape[:-1]) * math.prod(target)
    if kind.startswith("DepthwiseConv"):
        return math.prod(layer.kernel.shape[:-2]) * math.prod(target)
    if kind.startswith("SeparableConv"):
        first = layer.data_format == "channels_first"
        places = math.prod(target[2:] if first else target[1:-1])
        return places * (
            math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        )
    if kind == "Dense":
        return layer.kernel.shape[0] * math.prod(target)
    if kind == "MultiHeadAttention":
        tensors = list(node.input_tensors)
        steps = [math.prod(tensor.shape[1:-1]) for tensor in tensors]
        ends = steps[0], steps[1]
        kernels = {
            "query": ends[0], "key": ends[1], "value": ends[1], "output": ends[0]
        }  # fmt: skip
        total = 0
        for name, count in kernels.items():
            total += count * math.prod(getattr(layer, f"_{name}_dense").kernel.shape)
        pairs = ends[0] * ends[1] * layer.num_heads
        return total + pairs * (layer.key_dim + layer.value_dim)
    return 0


def check(model: Any, net: Network) -> None:
    """Assert that every layer's shape, variables and multiplications, and the totals, agree."""
    expected = facts(model)
    rows = add_up(net)
    assert not any(row.missing for row in rows.values())
    shapes: dict[str, set[Any]] = {}
    for op in net.ops:
        shapes.setdefault(op.layer, set()).add(net.tensors[op.name].shape)
    assert rows.keys() == expected.keys()
    for name, row in rows.items():
        wanted = expected[name]
        assert net.tensors[row.last.name].shape in wanted.shapes, name
        assert wanted.shapes <= shapes[name], name
        counts = (row.params, row.trainable, row.macs)
        assert counts == (wanted.params, wanted.trainable, wanted.macs), name
    assert sum(row.params for row in rows.values()) == model.count_params()
    assert sum(row.trainable for row in rows.values()) == size_of(model.trainable_weights)
    outputs = {full(tensor) for tensor in model.outputs}
    assert {net.tensors[name].shape for name in net.outputs} == outputs
