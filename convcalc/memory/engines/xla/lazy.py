"""Tensors as XLA has them after fusion: stored, or recomputed from stored ones wherever read.

A chain of element-by-element operations between two convolutions is no buffer: each fusion that
reads its end computes it anew from whatever is stored at its beginning.  So a tensor here is the
set of buffers that it is computed from, until something makes it one itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from convcalc.memory.lowering import Call, Lowering
from convcalc.memory.program import Node, Value
from convcalc.tensors import TensorSpec


class Lazy(Value):
    """A tensor that is stored only if `stored` says so.

    `origin` names what made it ("conv", "bn", "act", ...): whether XLA stores it depends on that.
    """

    __slots__ = (
        "gated", "mask", "mask_after_norm", "masked", "normalized", "origin", "pieces", "relu",
        "sources", "stored",
    )  # fmt: skip

    def __init__(
        self,
        spec: TensorSpec,
        width: int,
        sources: tuple[Value, ...] = (),
        stored: Value | None = None,
        origin: str = "",
    ) -> None:
        super().__init__(spec, width, "activations")
        self.sources = sources
        """The buffers that it is computed from, in the order in which they are made."""
        self.stored = stored
        self.origin = origin
        self.relu = False
        """It is a ReLU's output."""
        self.masked = False
        """A mask is made together with it, if it is stored."""
        self.mask_after_norm = False
        """It stands behind a normalization or a sum."""
        self.normalized = ""
        """The origin of what a normalization has normalized."""
        self.mask: Value | None = None
        """One byte for each element: where the ReLU let its input through."""
        self.gated: Value | None = None
        """What a ReLU's gradient lets through or not."""
        self.pieces: tuple[Value, ...] | None = None
        """What a concatenation is read from, whether it is stored or not."""

    @property
    def reads(self) -> tuple[Value, ...]:
        """The buffers that reading it reads."""
        return self.sources if self.stored is None else (self.stored,)


def ordered(values: Iterable[Value]) -> tuple[Value, ...]:
    """Each buffer once, in the order in which they are made (what rests comes first)."""
    unique = dict.fromkeys(values)
    if len(unique) < 2:
        return tuple(unique)
    return tuple(sorted(unique, key=lambda value: -1 if value.node is None else value.node.index))


def reads(*values: Value | None) -> tuple[Value, ...]:
    """The buffers that reading all of `values` reads."""
    found: list[Value] = []
    for value in values:
        if isinstance(value, Lazy):
            found.extend(value.reads)
        elif value is not None:
            found.append(value)
    return ordered(found)


class Emitter:
    """Appends operations of one op to the program; knows XLA's rule for working in place."""

    def __init__(self, lowering: Lowering, layer: str) -> None:
        self.lowering = lowering
        self.layer = layer

    def value(self, spec: TensorSpec, kind: str = "activations") -> Value:
        """A buffer that the next operation makes."""
        return Value(spec, self.lowering.job.width, kind)

    def run(
        self,
        primitive: str,
        inputs: Iterable[Value | None],
        outputs: Sequence[Value],
        *,
        elementwise: bool = False,
        phase: str | None = None,
    ) -> Node:
        """Append an operation on stored buffers.

        A result computed element by element may take the place of a dying operand of its size, but
        not of a library call's result, which is an element of a tuple (HloDataflowAnalysis).
        """
        low: Any = self.lowering
        read = reads(*inputs)
        places: tuple[int, ...] = ()
        if elementwise and len(outputs) == 1:
            places = tuple(
                place for place, value in enumerate(read) if value.node in low.rules.elementwise
            )
        node: Node = low.program.add(
            primitive,
            read,
            outputs,
            layer=self.layer,
            phase=phase or low.phase,
            inplace=places,
        )
        if elementwise:
            low.rules.elementwise.add(node)
        return node

    def one(
        self,
        primitive: str,
        inputs: Iterable[Value | None],
        spec: TensorSpec,
        *,
        elementwise: bool = False,
        kind: str = "activations",
    ) -> Value:
        """Append an operation with one result."""
        made = self.value(spec, kind)
        self.run(primitive, inputs, [made], elementwise=elementwise)
        return made

    def lazy(self, spec: TensorSpec, *inputs: Value | None, origin: str = "") -> Lazy:
        """A tensor that is computed from `inputs` wherever it is read."""
        return Lazy(spec, self.lowering.job.width, reads(*inputs), origin=origin)

    def kept(self, spec: TensorSpec, stored: Value, origin: str = "") -> Lazy:
        """A tensor that is a buffer."""
        return Lazy(spec, self.lowering.job.width, (stored,), stored, origin)

    def store(self, tensor: Value, primitive: str = "fusion") -> Value:
        """The buffer of a tensor; it becomes one if it was none."""
        if not isinstance(tensor, Lazy):
            return tensor
        if tensor.stored is None:
            tensor.stored = self.one(primitive, tensor.sources, tensor.spec, elementwise=True)
        return tensor.stored


def emitter(call: Call) -> Any:
    """The emitter of a call's layer."""
    return Emitter(call.lowering, call.layer)
