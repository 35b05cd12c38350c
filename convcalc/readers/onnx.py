"""ONNX files: only the structure is read, no weights and nothing outside the file.

The modules beside this one: `onnx_wire` reads the file, `onnx_inline` unfolds functions,
`onnx_fold` computes small constants, `onnx_ops`, `onnx_layers`, `onnx_recurrent` and `onnx_shapes`
hold the rules of the operators, `onnx_build` makes the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from convcalc.arithmetic import INT64_MAX, product
from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers.onnx_build import build, clean, label, sizes
from convcalc.readers.onnx_inline import inlined
from convcalc.readers.onnx_layers import WEIGHT_SLOTS
from convcalc.readers.onnx_ops import dtype_of
from convcalc.readers.onnx_wire import Graph, Node, Value, read_model
from convcalc.tensors import TensorSpec

# Their rules register themselves.
from convcalc.readers import onnx_recurrent as _recurrent  # noqa: F401  isort: skip
from convcalc.readers import onnx_shapes as _shapes  # noqa: F401  isort: skip

Sizes = tuple[int, ...]


def match(start: bytes, name: str) -> bool:
    """Whether a file that starts so, or is called so, is an ONNX model.

    ONNX has no magic bytes: it begins with its first field, the version of the format, and then
    text (the producer), opsets or a graph follow.
    """
    if name.lower().endswith(".onnx"):
        return True
    return len(start) > 2 and start[0] == 8 and 1 <= start[1] <= 32 and start[2] in b"\x12\x3a\x42"


def read(path: Path, input: Sizes | Mapping[str, Sizes] | None = None) -> Network:
    """The network in an ONNX file, for a batch of one.

    `input` is height, width, channels of the one image that it takes, or the full shape (batch
    included, in the file's order of axes) of inputs by their names.

    Raises:
        ModelError: the file is no ONNX or damaged, a size that is needed is given nowhere, or a
            node cannot take its inputs.
    """
    try:
        model = read_model(path)
        graph = model.graph
        assert graph is not None
        nodes = in_order(inlined(model, graph), graph)
        return network(nodes, graph, input, path.stem)
    except ModelError as error:
        raise ModelError(f"'{path}': {error}") from None


def network(
    nodes: Sequence[Node],
    graph: Graph,
    given: Sizes | Mapping[str, Sizes] | None,
    name: str,
) -> Network:
    """The network, with one sample where the file has a batch of several."""
    shapes, dtypes = input_shapes(nodes, graph, given)
    trusted = given is None
    leads = {shape[0] for shape in shapes.values() if shape}
    own = {key: spec(shape, dtypes[key]) for key, shape in shapes.items()}
    whole = build(nodes, graph, own, name, trusted=trusted)
    batch = leads.pop() if len(leads) == 1 else 1
    if batch == 1:
        return whole
    one = {key: spec((1, *shape[1:]), dtypes[key]) for key, shape in shapes.items() if shape}
    one.update({key: own[key] for key in own if key not in one})
    try:
        single = build(nodes, graph, one, name, batch=batch, trusted=trusted)
    except ModelError:
        return whole
    same = len(single.outputs) == len(whole.outputs) and all(
        single.tensors[a].shape_at(batch) == whole.tensors[b].shape
        for a, b in zip(single.outputs, whole.outputs, strict=True)
    )
    # A batch that cannot be taken out, because it became part of other sizes, is one sample.
    return single if same else whole


def spec(shape: Sizes, dtype: str) -> TensorSpec:
    return TensorSpec(shape, dtype, 0 if shape else None)


def in_order(nodes: list[Node], graph: Graph) -> list[Node]:
    """The nodes so that each comes after those it reads.

    Raises:
        ModelError: two nodes make the same tensor, or there is a cycle.
    """
    maker: dict[str, int] = {}
    sorted_already = True
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if name and maker.setdefault(name, index) != index:
                raise ModelError(f"'{clean(name):.80}' is made by two nodes")
    waiting: dict[int, list[int]] = {}
    missing = [0] * len(nodes)
    for index, node in enumerate(nodes):
        sources = {maker[name] for name in node.inputs if name in maker}
        sorted_already &= all(source < index for source in sources)
        for source in sources:
            waiting.setdefault(source, []).append(index)
        missing[index] = len(sources)
    if sorted_already:
        return nodes
    order = [index for index, count in enumerate(missing) if not count]
    for index in order:
        for reader in waiting.get(index, ()):
            missing[reader] -= 1
            if not missing[reader]:
                order.append(reader)
    if len(order) != len(nodes):
        stuck = next(node for index, node in enumerate(nodes) if missing[index])
        raise ModelError(f"{label(stuck)} is part of a cycle, or reads from one")
    return [nodes[index] for index in order]


def input_shapes(
    nodes: Sequence[Node], graph: Graph, given: Sizes | Mapping[str, Sizes] | None
) -> tuple[dict[str, Sizes], dict[str, str]]:
    """Shapes and dtypes of the inputs, from the file and from what was given.

    Raises:
        ModelError: a size is open, an input does not exist, or is no tensor.
    """
    inputs = data_inputs(nodes, graph)
    if not inputs:
        raise ModelError("the graph has no input")
    for value in inputs.values():
        if not value.is_tensor:
            raise ModelError(f"its input '{clean(value.name):.80}' is no tensor")
    wanted = given if isinstance(given, Mapping) else by_name(inputs, given)
    for name in wanted:
        if name not in inputs:
            names = ", ".join(clean(known) for known in inputs)
            raise ModelError(f"it has no input '{clean(name):.80}'; its inputs: {names:.400}")
    bound: dict[str, int] = {}
    for name, shape in wanted.items():
        check_given(inputs[name], shape)
        pairs = zip(inputs[name].dims or (), shape, strict=False)
        bound.update({symbol: size for symbol, size in pairs if isinstance(symbol, str)})
    for value in inputs.values():
        if value.dims and isinstance(value.dims[0], str):
            bound.setdefault(value.dims[0], 1)
    shapes = {
        name: tuple(wanted[name]) if name in wanted else complete(value, bound)
        for name, value in inputs.items()
    }
    for name, shape in shapes.items():
        if product(shape) > INT64_MAX:
            raise ModelError(f"input '{clean(name):.80}' has more than 2^63 - 1 elements")
    return shapes, {name: dtype_of(value.data_type or 1) for name, value in inputs.items()}


def data_inputs(nodes: Sequence[Node], graph: Graph) -> dict[str, Value]:
    """The inputs that are data: weights may be listed as inputs, with or without their values."""
    elsewhere: set[str] = set()
    weights: set[str] = set()
    for node in nodes:
        slots = WEIGHT_SLOTS.get(node.op_type, ())
        for index, name in enumerate(node.inputs):
            (weights if index in slots else elsewhere).add(name)
    weights -= elsewhere
    return {
        value.name: value
        for value in graph.inputs
        if value.name not in graph.initializers
        and not (value.name in weights and len(sizes(value)) == len(value.dims or ()))
    }


def by_name(inputs: Mapping[str, Value], size: Sizes | None) -> dict[str, Sizes]:
    """Height, width, channels as the full shape of the input that they are meant for.

    Raises:
        ModelError: no input has as many axes, or several have.
    """
    if size is None:
        return {}
    rank = len(size) + 1
    images = [v for v in inputs.values() if v.dims is None or len(v.dims) == rank]
    if len(images) != 1:
        names = ", ".join(clean(name) for name in inputs)
        raise ModelError(
            f"{len(images)} of its inputs ({names:.200}) have {rank} axes; "
            "give the size by name, as in --input NAME=1x3x224x224"
        )
    (image,) = images
    dims = image.dims or (None,) * rank
    channels = size[-1]
    last = dims[-1] == channels and isinstance(dims[1], int) and dims[1] != channels
    return {image.name: (1, *size) if last else (1, channels, *size[:-1])}


def check_given(value: Value, shape: Sizes) -> None:
    """Refuse a given shape that cannot be the input's.

    Raises:
        ModelError: it has other axes, or sizes that are none.
    """
    name = f"{clean(value.name):.80}"
    if value.dims is not None and len(value.dims) != len(shape):
        raise ModelError(f"input '{name}' has {len(value.dims)} axes, not {len(shape)}")
    if not all(type(size) is int and size >= 1 for size in shape):
        raise ModelError(f"input '{name}': sizes are positive integers, not {shape}")


def complete(value: Value, bound: Mapping[str, int]) -> Sizes:
    """An input's shape with a batch of one where the file leaves it open.

    Raises:
        ModelError: another size is open; the message says how to give it.
    """
    name = f"{clean(value.name):.80}"
    if value.dims is None:
        raise ModelError(
            f"the file gives no shape for input '{name}'; give it, as in --input {name}=1x3x224x224"
        )
    found = [bound.get(size) if isinstance(size, str) else size for size in value.dims]
    if found and found[0] is None:
        found[0] = 1
    for axis, size in enumerate(found):
        if size is None:
            symbol = f" ('{clean(str(value.dims[axis])):.40}')" if value.dims[axis] else ""
            example = "x".join(str(known or 224) for known in found)
            raise ModelError(
                f"the file leaves axis {axis}{symbol} of input '{name}' open; give all its sizes, "
                f"as in --input {name}={example}"
            )
    return tuple(size for size in found if size is not None)
