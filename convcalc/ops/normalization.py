"""Normalizations: statistics over some axes, then scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import holds_everywhere, product
from convcalc.errors import ShapeError
from convcalc.ops.base import Operator, Param, View, Views, axis_of, operator, positive
from convcalc.tensors import TensorSpec


class Normalization(Operator):
    """What the normalizations share: the shape stays, each element is scaled and shifted."""

    __slots__ = ()

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        self.params(*inputs)
        return (inputs[0],)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((2, inputs[0].elements))


def scale_and_center(shape: tuple[Any, ...], scale: bool, center: bool) -> tuple[Param, ...]:
    """The trainable gamma and beta that are switched on."""
    wanted = (("gamma", scale), ("beta", center))
    return tuple(Param(name, shape) for name, on in wanted if on)


@operator("batch_norm")
class BatchNorm(Normalization):
    """Statistics over all axes but one, with moving mean and variance that no optimizer touches.

    `renorm` is batch renormalization (Ioffe 2017) as tf.keras has it, with three more of them.
    """

    axis: int = -1
    scale: bool = True
    center: bool = True
    statistics: bool = True
    renorm: bool = False

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        shape = (inputs[0].dims[axis_of(self.axis, len(inputs[0].dims))],)
        found = scale_and_center(shape, self.scale, self.center)
        if self.statistics:
            moving = ["moving_mean", "moving_variance"]
            if self.renorm:
                moving += ("moving_stddev", "renorm_mean", "renorm_stddev")
            found += tuple(Param(name, shape, trainable=False) for name in moving)
        return found


@operator("layer_norm")
class LayerNorm(Normalization):
    """Statistics of each sample over `axes`."""

    axes: Any = -1
    scale: bool = True
    center: bool = True

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        dims = inputs[0].dims
        axes = self.axes if isinstance(self.axes, tuple) else (self.axes,)
        shape = tuple(dims[axis_of(axis, len(dims))] for axis in axes)
        return scale_and_center(shape, self.scale, self.center)


@operator("group_norm")
class GroupNorm(Normalization):
    """Statistics of each sample over groups of channels; -1 groups: each channel (instance)."""

    groups: int = 32
    axis: int = -1
    scale: bool = True
    center: bool = True

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        channels = inputs[0].dims[axis_of(self.axis, len(inputs[0].dims))]
        if self.groups != -1:
            positive(self.groups, "groups")
            if not holds_everywhere(channels % self.groups == 0):
                raise ShapeError(f"{self.groups} groups do not divide {channels} channels")
        return scale_and_center((channels,), self.scale, self.center)


@operator("rms_norm")
class RMSNorm(Normalization):
    """Division by the root mean square over `axes`, then a scale."""

    axes: Any = -1
    scale: bool = True

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        return LayerNorm(axes=self.axes, scale=self.scale, center=False).params(*inputs)[:1]


@operator("unit_norm")
class UnitNorm(Normalization):
    """Division by the Euclidean norm along `axis`."""

    axis: Any = -1


@operator("rescale")
class Rescale(Normalization):
    """``x * scale + offset`` with constants."""


@operator("standardize")
class Standardize(Normalization):
    """Keras' Normalization layer: (x - mean) / sqrt(variance), with adapted, stored statistics."""

    axis: Any = -1
    stored: bool = True

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        if not self.stored:
            return ()
        dims = inputs[0].dims
        axis = () if self.axis is None else self.axis
        axes = axis if isinstance(axis, tuple) else (axis,)
        shape = tuple(dims[axis_of(a, len(dims))] for a in axes)
        return (
            Param("mean", shape, trainable=False),
            Param("variance", shape, trainable=False),
            Param("count", (), trainable=False, dtype="int32"),
        )


@operator("scale")
class Scale(Normalization):
    """A trainable factor for each channel (ConvNeXt's LayerScale)."""

    axis: int = -1

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        return (Param("gamma", (inputs[0].dims[axis_of(self.axis, len(inputs[0].dims))],)),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return inputs[0].elements


@operator("spectral_norm")
class SpectralNorm(Operator):
    """The stored singular vector of Keras' SpectralNormalization; the wrapped layer is apart."""

    width: int

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        positive(self.width, "width")
        return (inputs[0],)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        return (Param("vector_u", (1, self.width), trainable=False),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [tuple(map(View, range(len(inputs[0].dims))))]
