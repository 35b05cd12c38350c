"""A `Network` as the Keras model that a user would have written, on whatever backend is active.

An activation that its layer applies itself becomes that layer's `activation=`, a depthwise and a
1x1 convolution of one layer a SeparableConv, and ops that share weights are one Keras layer: the
framework gets the graph that it gets in practice.  Images stand channels last in the model,
whatever the network has: on a CPU Keras has no other convolutions.

What a network does not hold (epsilon, momentum, slopes, constants of a rescaling) gets Keras'
default; none of it changes a shape or a byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from convcalc.errors import MissingExtra, ModelError
from convcalc.memory.job import NONE
from convcalc.memory.segments import made_by, read_by, stretches
from convcalc.network import Network, Op
from convcalc.ops import Operator
from convcalc.ops.base import axis_of
from convcalc.tensors import TensorSpec

#: Operators whose Keras layers take an activation.
WITH_ACTIVATION = ("conv", "depthwise_conv", "conv_transpose", "dense")


def build(network: Network, remat: str = NONE) -> Any:
    """The functional Keras model of a network, with fresh random weights.

    Under `remat` all stretches but the last are layers that are called again in the backward pass.

    Raises:
        MissingExtra: Keras is not installed.
        ModelError: Keras has nothing for an operator; the message names op and layer.
    """
    try:
        import keras
    except ImportError:
        raise MissingExtra("tensorflow") from None
    return Builder(network, keras, remat).build()


def output_shapes(network: Network, model: Any) -> list[tuple[Any, ...]]:
    """The shapes of a built model's outputs in the network's order of axes; None is the batch."""
    found = []
    for name, tensor in zip(network.outputs, model.outputs, strict=True):
        shape = tuple(tensor.shape)
        moved = name in model.convcalc_moved
        found.append((shape[0], shape[-1], *shape[1:-1]) if moved else shape)
    return found


class Held(NamedTuple):
    """A tensor while the model is built."""

    tensor: Any
    moved: bool = False
    """The network has its channels first; here they stand last."""


def groups(network: Network) -> Iterator[tuple[Op, ...]]:
    """The ops of a network, those that make one Keras layer together.

    These are a convolution or dense layer with the activation of the same layer that alone reads
    it, and a depthwise convolution with the 1x1 convolution of the same layer that alone reads it.
    """
    readers: dict[str, list[Op]] = {}
    for op in network.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    taken: set[str] = set()

    def follower(op: Op) -> Op | None:
        """The op of the same layer that reads this one, if nothing else does."""
        found = readers.get(op.name, [])
        alone = len(found) == 1 and len(found[0].inputs) == 1 and op.name not in network.outputs
        return found[0] if alone and found[0].layer == op.layer else None

    for op in network.ops:
        if op.name in taken:
            continue
        members = [op]
        if is_spreading(network, op):
            mixing = follower(op)
            if mixing is not None and is_mixing(mixing.operator):
                members.append(mixing)
        if op.operator.type in WITH_ACTIVATION:
            function = follower(members[-1])
            if function is not None and function.operator.type == "activation":
                members.append(function)
        taken.update(member.name for member in members)
        yield tuple(members)


def is_spreading(network: Network, op: Op) -> bool:
    """Whether an op can be the first half of a SeparableConv."""
    kind = op.operator
    rank = len(network.tensors[op.inputs[0]].shape or ()) - 2 if op.inputs else 0
    return kind.type == "depthwise_conv" and not kind.bias and rank in (1, 2)  # type: ignore[attr-defined]


def is_mixing(kind: Operator) -> bool:
    """Whether an operator is a plain 1x1 convolution, the second half of a SeparableConv."""

    def ones(value: Any) -> bool:
        return set(value if isinstance(value, tuple) else (value,)) == {1}

    return (
        kind.type == "conv"
        and ones(kind.kernel)  # type: ignore[attr-defined]
        and ones(kind.stride)  # type: ignore[attr-defined]
        and kind.groups == 1  # type: ignore[attr-defined]
        and kind.padding in ("same", "same_lower", "valid", 0)  # type: ignore[attr-defined]
    )


@dataclass(slots=True)
class Step:
    """What becomes one Keras layer (with padding and the like around it where it must)."""

    builder: Builder
    ops: tuple[Op, ...]
    inputs: list[TensorSpec]
    held: list[Held]

    @property
    def op(self) -> Op:
        return self.ops[0]

    @property
    def keras(self) -> Any:
        return self.builder.keras

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of the op's first output in the network's order, for a batch of one."""
        return self.builder.network.results[self.op.name][0].dims

    @property
    def activation(self) -> str | None:
        """The activation that is fused with the layer."""
        last: Any = self.ops[-1].operator
        return last.function if len(self.ops) > 1 and last.type == "activation" else None

    @property
    def mixing(self) -> Any:
        """The 1x1 convolution that is fused with a depthwise one."""
        found = [op.operator for op in self.ops[1:] if op.operator.type == "conv"]
        return found[0] if found else None

    def image(self) -> Any:
        """The input with its channels last, for an operator that says where it has them."""
        kind: Any = self.op.operator
        tensor, moved = self.held[0]
        if kind.channels_first == moved:
            return tensor
        if moved:
            return self.in_order()
        return self.keras.ops.transpose(tensor, (0, *range(2, len(tensor.shape)), 1))

    def made(self, image: Any) -> Held:
        """A result that has its channels last, of an operator that says where it has them."""
        kind: Any = self.op.operator
        return Held(image, kind.channels_first and len(image.shape) > 2)

    def in_order(self, index: int = 0) -> Any:
        """An input with its axes as the network has them."""
        tensor, moved = self.held[index]
        if not moved:
            return tensor
        rank = len(tensor.shape)
        return self.keras.ops.transpose(tensor, (0, rank - 1, *range(1, rank - 1)))

    def axis(self, axis: int) -> int:
        """An axis of the first input as a position in the tensor held."""
        rank = len(self.inputs[0].dims)
        at = axis_of(axis, rank)
        if not self.held[0].moved or at == 0:
            return at
        return rank - 1 if at == 1 else at - 1

    def axes(self, axes: Any) -> list[int]:
        """One axis or several as positions in the tensor held."""
        return [self.axis(axis) for axis in (axes if isinstance(axes, tuple) else (axes,))]

    def layer(self, kind: Any, *args: Any, suffix: str = "", **settings: Any) -> Any:
        """The Keras layer of that class for this op; the one made before where weights are shared.

        `kind` is a class, or the name of one of Keras' layers.

        Raises:
            ModelError: ops share weights under different settings.
        """
        network = self.builder.network
        keys = [op.weights for op in self.ops if network.params.get(op.weights)]
        key = (*(keys or [self.op.name]), suffix)
        asked = (kind, args, tuple(sorted(settings.items())))
        if key in self.builder.layers:
            made, known = self.builder.layers[key]
            if known != asked:
                raise self.refusal("it shares the weights of another op under other settings")
            return made
        whole = len(self.ops) > 1 or self.op.name == self.op.weights
        name = self.builder.unique((self.op.layer if whole else self.op.weights) + suffix)
        if isinstance(kind, str):
            kind = getattr(self.keras.layers, kind)
        made = kind(*args, **settings, name=name)
        made.trainable = self.op.trainable
        self.builder.layers[key] = (made, asked)
        return made

    def refusal(self, why: str) -> ModelError:
        """The error that says which op cannot be built."""
        return ModelError(
            f"'{self.op.name}' ({self.op.operator.type}) of layer '{self.op.layer}' cannot be "
            f"built in Keras: {why}"
        )


@dataclass(slots=True)
class Builder:
    """Walks a network and keeps what has been made."""

    network: Network
    keras: Any
    remat: str = NONE
    layers: dict[tuple[str, ...], tuple[Any, Any]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    tensors: dict[str, Held] = field(default_factory=dict)

    def build(self) -> Any:
        network = self.network
        sources = [self.source(name, spec) for name, spec in network.inputs.items()]
        together = list(groups(network))
        *again, last = stretches(network, self.remat)
        for stretch in again:
            self.add_again([ops for ops in together if ops[0] in stretch])
        for ops in together:
            if ops[0] in last:
                self.add(ops)
        outputs = [self.tensors[name] for name in network.outputs]
        for name, held in zip(network.outputs, outputs, strict=True):
            if not self.keras.backend.is_keras_tensor(held.tensor):
                raise ModelError(f"output '{name}' depends on no input; Keras has no such model")
        ends = [held.tensor for held in outputs]
        model = self.keras.Model(
            sources if len(sources) > 1 else sources[0],
            ends if len(ends) > 1 else ends[0],
            name=self.unique(network.name),
        )
        model.convcalc_moved = {name for name in network.outputs if self.tensors[name].moved}
        return model

    def add(self, ops: tuple[Op, ...]) -> None:
        """Append the layer of some ops.

        Raises:
            ModelError: Keras has nothing for them.
        """
        from convcalc.verify.keras_layers import RULES

        inputs, _ = self.network.specs(ops[0])
        step = Step(self, ops, inputs, [self.tensors[name] for name in ops[0].inputs])
        rule = RULES.get(step.op.operator.type)
        if rule is None:
            raise step.refusal("it has no such operator")
        try:
            made = rule(step, step.op.operator)
        except ModelError:
            raise
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise step.refusal(str(error).strip().split("\n")[0]) from error
        for index, held in enumerate(made if isinstance(made, list) else [made]):
            self.tensors[ops[-1].output(index)] = held

    def add_again(self, together: Sequence[tuple[Op, ...]]) -> None:
        """Append layers as a model of their own, in a layer that calls it again backwards."""
        from convcalc.verify.keras_layers import own

        network, keras = self.network, self.keras
        inside = [op for ops in together for op in ops]
        read = read_by(network, inside)
        later = {n for op in network.ops if op not in inside for n in op.inputs}
        wanted = [n for n in made_by(network, inside) if n in later or n in network.outputs]
        outer = [self.tensors[name] for name in read]
        inner = [keras.Input(shape=t.shape[1:], dtype=t.dtype) for t, _ in outer]
        for name, tensor, (_, moved) in zip(read, inner, outer, strict=True):
            self.tensors[name] = Held(tensor, moved)
        for ops in together:
            self.add(ops)
        ends = [self.tensors[name] for name in wanted]
        part = keras.Model(inner, [held.tensor for held in ends])
        results = own().Again(part)(*(tensor for tensor, _ in outer))
        results = results if isinstance(results, (list, tuple)) else [results]
        for name, held in zip(read, outer, strict=True):
            self.tensors[name] = held
        for name, held, tensor in zip(wanted, ends, results, strict=True):
            self.tensors[name] = Held(tensor, held.moved)

    def source(self, name: str, spec: TensorSpec) -> Any:
        """An input; images with their channels last."""
        dims = spec.dims
        if spec.batch_axis != 0 or dims[0] != 1:
            raise ModelError(f"input '{name}' ({spec}) does not have its batch in front")
        moved = self.network.channels_first and len(dims) > 2
        tensor = self.keras.Input(
            shape=(*dims[2:], dims[1]) if moved else dims[1:],
            dtype=None if spec.dtype == "float" else spec.dtype,
            name=self.unique(name),
        )
        self.tensors[name] = Held(tensor, moved)
        return tensor

    def unique(self, name: str) -> str:
        """`name` in the letters that every backend's scopes allow, numbered if it is taken."""
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        if not re.match(r"[A-Za-z0-9.]", plain):
            plain = f"layer{plain}"
        found, number = plain, 1
        while found in self.names:
            number += 1
            found = f"{plain}_{number}"
        self.names.add(found)
        return found
