"""Convolutions of any rank: plain, grouped, depthwise and transposed.

One neuron of a convolution with a kernel of k1 x k2 over C input channels in g groups multiplies
``k1 * k2 * C / g`` inputs by as many weights and adds a bias; each filter makes one map:

    parameters      = (k1 * k2 * C / g + 1) * filters
    multiplications = k1 * k2 * C / g * filters * positions

The textbook layer: (5 * 5 * 3 + 1) * 200 = 15,200 and 5 * 5 * 3 * 200 * 150 * 100 = 225,000,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import holds_everywhere, maximum, product
from convcalc.errors import ShapeError
from convcalc.ops.base import (
    Operator,
    Param,
    View,
    Views,
    assemble,
    channel_axis,
    operator,
    per_axis,
    positive,
    with_rank,
)
from convcalc.ops.window import Slide, extent, pads, slides
from convcalc.tensors import TensorSpec


def split(spec: TensorSpec, channels_first: bool, what: str) -> tuple[tuple[Any, ...], Any]:
    """Spatial sizes and channels of an input."""
    dims = with_rank(spec, 3, what)
    return (dims[2:], dims[1]) if channels_first else (dims[1:-1], dims[-1])


def window_views(
    rank: int, channels_first: bool, views: Sequence[View], channels: View | None
) -> Views:
    """Views of an operator that slides a window: identity on the batch, `views` on space."""
    return assemble(View(0), tuple(views), channels, channels_first)


def grouped(channels: Any, filters: Any, groups: Any) -> Any:
    """Input channels that one filter sees.

    Raises:
        ShapeError: groups do not divide the channels or the filters.
    """
    if groups == 1 and type(groups) is int:
        return channels
    positive(groups, "groups")
    for count, what in ((channels, "input channels"), (filters, "filters")):
        if not holds_everywhere(count % groups == 0):
            raise ShapeError(f"{groups} groups do not divide {count} {what}")
    return channels // groups


def external(inputs: Sequence[TensorSpec]) -> list[Views]:
    """Views of a kernel and a bias that come in: each place of the output uses them all."""
    return [(None,) * len(inputs[0].dims) for _ in inputs[1:]]


@operator("conv", inputs=(1, 3))
class Conv(Operator):
    """A convolution with `filters` kernels; rank from the input.

    A second input is a kernel that something else makes (standardized weights, dynamic filters),
    a third its bias; then the op stores nothing.
    """

    filters: int
    kernel: Any
    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    channels_first: bool = False

    def slides(self, x: TensorSpec) -> tuple[Slide, ...]:
        """How the kernel moves along each spatial axis."""
        sizes, _ = split(x, self.channels_first, "a convolution")
        return slides(sizes, self.kernel, self.stride, self.dilation, self.padding)

    def kernel_shape(self, x: TensorSpec) -> tuple[Any, ...]:
        """(k..., input channels of one group, filters), as TensorFlow lays it out."""
        sizes, channels = split(x, self.channels_first, "a convolution")
        seen = grouped(channels, self.filters, self.groups)
        return (*per_axis(self.kernel, len(sizes), "kernel"), seen, self.filters)

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        positive(self.filters, "filters")
        self.kernel_shape(x)
        spatial = [slide.output for slide in self.slides(x)]
        shape = assemble(x.dims[0], spatial, self.filters, self.channels_first)
        return (TensorSpec(shape, x.dtype, x.batch_axis),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        if len(inputs) > 1:
            return ()
        kernel = Param("kernel", self.kernel_shape(inputs[0]))
        return (kernel, Param("bias", (self.filters,))) if self.bias else (kernel,)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        *window, seen, _ = self.kernel_shape(inputs[0])
        return product((*window, seen, outputs[0].elements))

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return outputs[0].elements if self.bias else 0

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        found = self.slides(inputs[0])
        rank = len(found) + 2
        first = 2 if self.channels_first else 1
        views = [View(first + i, s.extent, s.stride, s.before) for i, s in enumerate(found)]
        return [window_views(rank, self.channels_first, views, None), *external(inputs)]


@operator("depthwise_conv")
class DepthwiseConv(Operator):
    """A convolution of each channel on its own, into `multiplier` maps each."""

    kernel: Any
    multiplier: int = 1
    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    bias: bool = True
    channels_first: bool = False

    def plain(self, x: TensorSpec) -> Conv:
        """The same as a convolution in as many groups as channels."""
        _, channels = split(x, self.channels_first, "a depthwise convolution")
        return Conv(
            filters=channels * positive(self.multiplier, "multiplier"),
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=channels,
            bias=self.bias,
            channels_first=self.channels_first,
        )

    def slides(self, x: TensorSpec) -> tuple[Slide, ...]:
        """How the kernel moves along each spatial axis."""
        return self.plain(x).slides(x)

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        return self.plain(inputs[0]).outputs(*inputs)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        return self.plain(inputs[0]).params(*inputs)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return self.plain(inputs[0]).macs(inputs, outputs)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return self.plain(inputs[0]).elementwise(inputs, outputs)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        (views,) = self.plain(inputs[0]).views(inputs, outputs)
        rank = len(inputs[0].dims)
        axis = channel_axis(rank, self.channels_first)
        own = View(axis) if self.multiplier == 1 else None
        return [(*views[:axis], own, *views[axis + 1 :])]


@operator("conv_transpose", inputs=(1, 3))
class ConvTranspose(Operator):
    """The transpose of a convolution: each input adds its kernel, `stride` apart, to the output.

    With n inputs, the output before cropping has ``(n - 1) * s + d * (k - 1) + 1`` positions.
    "valid" keeps them, and makes them n * s if the kernel is smaller than the stride; "same" keeps
    n * s; numbers are cropped, as PyTorch and ONNX do.  `output_padding` adds positions behind;
    with "same" and "valid" Keras' rule: (n - 1) * s + d * (k - 1) + 1 - 2 * pad + output_padding.
    `output_shape` (ONNX) names the spatial sizes instead.  A second and a third input are kernel
    and bias, as in `Conv`.
    """

    filters: int
    kernel: Any
    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    output_padding: Any = None
    output_shape: Any = None
    channels_first: bool = False

    def sizes(self, x: TensorSpec) -> tuple[tuple[Any, Any], ...]:
        """(output positions, positions cropped in front) for each spatial axis."""
        sizes, _ = split(x, self.channels_first, "a transposed convolution")
        rank = len(sizes)
        kernel = per_axis(self.kernel, rank, "kernel")
        stride = per_axis(self.stride, rank, "stride")
        dilation = per_axis(self.dilation, rank, "dilation")
        extra = self.output_padding
        extras = extra if isinstance(extra, tuple) else (extra,) * rank
        if len(extras) != rank:
            raise ShapeError(f"output_padding has {len(extras)} values for {rank} axes")
        if not all(e is None or type(e) is int for e in extras):
            raise ShapeError(f"output_padding must be integers, got {extra!r}")
        if self.output_shape is not None:
            if not isinstance(self.output_shape, tuple) or len(self.output_shape) != rank:
                raise ShapeError(f"output_shape {self.output_shape!r} must give {rank} sizes")
            full = [
                product((n - 1, s)) + extent(k, d) + (e or 0)
                for n, k, s, d, e in zip(sizes, kernel, stride, dilation, extras, strict=True)
            ]
            lower = self.padding == "same_lower"
            found = []
            for whole, size in zip(full, self.output_shape, strict=True):
                crop = maximum(whole - positive(size, "output_shape"), 0)
                found.append((size, crop - crop // 2 if lower else crop // 2))
            return tuple(found)
        named = isinstance(self.padding, str)
        if named and self.padding not in ("same", "same_lower", "valid"):
            raise ShapeError(f"a transposed convolution has no padding '{self.padding}'")
        sides = ((0, 0),) * rank if named else pads(self.padding, sizes, kernel, stride, dilation)
        result = []
        for n, k, s, d, e, (before, after) in zip(
            sizes, kernel, stride, dilation, extras, sides, strict=True
        ):
            span = extent(k, d)
            whole = product((n - 1, s)) + span
            if not named:
                size, crop = whole - before - after + (e or 0), before
            elif e is not None:
                pad = span // 2 if self.padding == "same" else 0
                size, crop = whole - 2 * pad + e, pad
            elif self.padding == "valid":
                size, crop = product((n, s)) + maximum(span - s, 0), 0
            else:
                size, total = n * s, maximum(span - s, 0)
                crop = total - total // 2 if self.padding == "same_lower" else total // 2
            if not holds_everywhere(size >= 1):
                raise ShapeError(f"an input of {n} leaves {size} positions")
            if e is not None and not 0 <= e < maximum(s, d):
                raise ShapeError(f"output_padding {e} must be below stride {s} or dilation {d}")
            result.append((size, crop))
        return tuple(result)

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        positive(self.filters, "filters")
        _, channels = split(x, self.channels_first, "a transposed convolution")
        grouped(channels, self.filters, self.groups)
        spatial = [size for size, _ in self.sizes(x)]
        shape = assemble(x.dims[0], spatial, self.filters, self.channels_first)
        return (TensorSpec(shape, x.dtype, x.batch_axis),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        if len(inputs) > 1:
            return ()
        sizes, channels = split(inputs[0], self.channels_first, "a transposed convolution")
        window = per_axis(self.kernel, len(sizes), "kernel")
        kernel = Param("kernel", (*window, self.filters // self.groups, channels))
        return (kernel, Param("bias", (self.filters,))) if self.bias else (kernel,)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """Each *input* meets every weight of its group once; what is cropped counts as made."""
        sizes, _ = split(inputs[0], self.channels_first, "a transposed convolution")
        window = per_axis(self.kernel, len(sizes), "kernel")
        return product((*window, self.filters // self.groups, inputs[0].elements))

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return outputs[0].elements if self.bias else 0

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        found = self.sizes(inputs[0])
        rank = len(found) + 2
        first = 2 if self.channels_first else 1
        kernel = per_axis(self.kernel, len(found), "kernel")
        stride = per_axis(self.stride, len(found), "stride")
        dilation = per_axis(self.dilation, len(found), "dilation")
        views = [
            View(first + i, extent(k, d), 1, extent(k, d) - 1 - crop, s)
            for i, ((_, crop), k, s, d) in enumerate(
                zip(found, kernel, stride, dilation, strict=True)
            )
        ]
        return [window_views(rank, self.channels_first, views, None), *external(inputs)]
