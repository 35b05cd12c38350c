"""What no rule is known for: kept by name, reported as uncounted, never taken for zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.ops.base import Operator, Param, Views, listed, operator
from convcalc.tensors import TensorSpec


@operator("opaque", inputs=(0, None))
class Opaque(Operator):
    """An operator called `name` of which at most the output shapes are known.

    `shapes` are shapes without the batch axis, one for each output; None where unknown.  With
    `whole` they have all axes, for a batch of one.
    """

    name: str
    shapes: Any = (None,)
    whole: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        if self.whole:
            return tuple(TensorSpec(shape) for shape in self.shapes)
        lead = inputs[0].dims[0] if inputs and inputs[0].known else 1
        return tuple(TensorSpec(None if shape is None else (lead, *shape)) for shape in self.shapes)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(outputs[0].dims) if outputs[0].known else 0
        return [(None,) * rank for _ in inputs]

    def missing(self) -> tuple[str, ...]:
        return (
            ("shape", "arithmetic", "memory") if None in self.shapes else ("arithmetic", "memory")
        )


@operator("constant", inputs=(0, 0))
class Constant(Operator):
    """A tensor that is part of the network and does not grow with the batch.

    `stored`: it is a variable of the model; `trainable`: an optimizer updates it.
    """

    shape: Any
    stored: bool = False
    trainable: bool = False
    dtype: str = "float"

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        return (TensorSpec(listed(self.shape, "shape"), self.dtype, None),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        found = Param("value", self.shape, self.trainable, self.dtype)
        return (found,) if self.stored else ()

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return []
