"""Operators in which branches meet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from convcalc.arithmetic import holds_everywhere, product, total
from convcalc.errors import ShapeError
from convcalc.ops.base import Operator, View, Views, axis_of, operator, suggestion
from convcalc.ops.linear import broadcast
from convcalc.tensors import DTYPE_BYTES, TensorSpec


class Broadcasting(Operator):
    """Element by element over inputs of shapes that go together."""

    __slots__ = ()

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        shape = reduce(broadcast, (spec.dims for spec in inputs))
        source = next((spec for spec in inputs if spec.batch_axis is not None), inputs[0])
        batch_axis = source.batch_axis
        if batch_axis is not None:
            batch_axis += len(shape) - len(source.dims)
        return (TensorSpec(shape, inputs[0].dtype, batch_axis),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((max(len(inputs) - 1, 1), outputs[0].elements))


@operator("add", inputs=(1, None))
class Add(Broadcasting):
    """The sum: where a residual branch comes back."""


@operator("subtract", inputs=(2, 2))
class Subtract(Broadcasting):
    """The difference."""


@operator("multiply", inputs=(1, None))
class Multiply(Broadcasting):
    """The product: squeeze-and-excitation's gate."""


@operator("divide", inputs=(2, 2))
class Divide(Broadcasting):
    """The quotient."""


@operator("maximum", inputs=(1, None))
class Maximum(Broadcasting):
    """The largest."""


@operator("minimum", inputs=(1, None))
class Minimum(Broadcasting):
    """The smallest."""


@operator("average", inputs=(1, None))
class Average(Broadcasting):
    """The mean."""


@operator("power", inputs=(2, 2))
class Power(Broadcasting):
    """The first to the power of the second."""


@operator("combine", inputs=(1, None))
class Combine(Broadcasting):
    """Any other function of elements that meet, by its name: where, lerp, a comparison."""

    name: str
    dtype: str = "float"

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        if self.dtype != "float" and self.dtype not in DTYPE_BYTES:
            raise ShapeError(f"unknown dtype '{self.dtype}'{suggestion(self.dtype, DTYPE_BYTES)}")
        return (Broadcasting.outputs(self, *inputs)[0]._replace(dtype=self.dtype),)


@operator("concat", inputs=(1, None))
class Concat(Operator):
    """The inputs one behind the other along `axis`."""

    axis: int = -1

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        first = inputs[0]
        axis = axis_of(self.axis, len(first.dims))
        for spec in inputs[1:]:
            fits = len(spec.dims) == len(first.dims) and all(
                i == axis or holds_everywhere(m == n)
                for i, (m, n) in enumerate(zip(first.dims, spec.dims, strict=True))
            )
            if not fits:
                raise ShapeError(f"cannot concatenate {first} and {spec} along axis {axis}")
        along = total(spec.dims[axis] for spec in inputs)
        source = next((spec for spec in inputs if spec.batch_axis is not None), first)
        shape = (*first.dims[:axis], along, *first.dims[axis + 1 :])
        return (source._replace(shape=shape),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        axis = axis_of(self.axis, len(outputs[0].dims))
        same: Views = tuple(None if i == axis else View(i) for i in range(len(outputs[0].dims)))
        return [same for _ in inputs]
