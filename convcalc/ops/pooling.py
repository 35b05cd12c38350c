"""Pools: a window slides over each channel and keeps its largest value, its mean or its norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import ceil_div, holds_everywhere, product
from convcalc.errors import ShapeError
from convcalc.ops.base import (
    Operator,
    View,
    Views,
    assemble,
    channel_axis,
    operator,
    positive,
)
from convcalc.ops.convolution import split, window_views
from convcalc.ops.window import Slide, slides
from convcalc.tensors import TensorSpec

GLOBAL_REDUCTIONS = ("average", "max", "lp")


class Pool(Operator):
    """What all windowed pools share.  A stride of None is the window's own size."""

    __slots__ = ()

    def way(self, x: TensorSpec) -> tuple[Slide, ...]:
        """How the window moves along each spatial axis."""
        config: Any = self
        sizes, _ = split(x, config.channels_first, "a pool")
        stride = config.kernel if config.stride is None else config.stride
        return slides(
            sizes,
            config.kernel,
            stride,
            config.dilation,
            config.padding,
            ceil_mode=config.ceil_mode,
        )

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        first = self.channels_first  # type: ignore[attr-defined]
        channels = x.dims[channel_axis(len(x.dims), first)] if len(x.dims) > 1 else 1
        spatial = [slide.output for slide in self.way(x)]
        return (x._replace(shape=assemble(x.dims[0], spatial, channels, first)),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """Each output looks at the whole window."""
        window = product(slide.kernel for slide in self.way(inputs[0]))
        return product((window, outputs[0].elements))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        found = self.way(inputs[0])
        first = self.channels_first  # type: ignore[attr-defined]
        rank = len(found) + 2
        start = 2 if first else 1
        views = [View(start + i, s.extent, s.stride, s.before) for i, s in enumerate(found)]
        return [window_views(rank, first, views, View(channel_axis(rank, first)))]


@operator("max_pool")
class MaxPool(Pool):
    """The largest value of each window."""

    kernel: Any = 2
    stride: Any = None
    padding: Any = "valid"
    dilation: Any = 1
    ceil_mode: bool = False
    channels_first: bool = False


@operator("average_pool")
class AveragePool(Pool):
    """The mean of each window, of the padding too where `count_include_pad` says so."""

    kernel: Any = 2
    stride: Any = None
    padding: Any = "valid"
    dilation: Any = 1
    ceil_mode: bool = False
    count_include_pad: bool = False
    channels_first: bool = False


@operator("lp_pool")
class LpPool(Pool):
    """The p-norm of each window."""

    kernel: Any = 2
    stride: Any = None
    padding: Any = "valid"
    dilation: Any = 1
    p: int = 2
    ceil_mode: bool = False
    channels_first: bool = False


@operator("global_pool")
class GlobalPool(Operator):
    """One value for each channel; `keepdims` leaves the spatial axes with size 1."""

    kind: str = "average"
    keepdims: bool = False
    channels_first: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        if self.kind not in GLOBAL_REDUCTIONS:
            raise ShapeError(f"kind '{self.kind}' is none of {', '.join(GLOBAL_REDUCTIONS)}")
        sizes, channels = split(x, self.channels_first, "a global pool")
        kept = (1,) * len(sizes) if self.keepdims else ()
        return (x._replace(shape=assemble(x.dims[0], kept, channels, self.channels_first)),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return inputs[0].elements

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(inputs[0].dims)
        kept = (None,) * (rank - 2) if self.keepdims else ()
        channels = View(channel_axis(rank, self.channels_first))
        return [assemble(View(0), kept, channels, self.channels_first)]


@operator("adaptive_pool")
class AdaptivePool(Operator):
    """A pool whose windows are chosen so that `output` places come out (PyTorch).

    Output o covers the inputs from floor(o n / m) to ceil((o + 1) n / m) - 1.
    """

    output: Any
    kind: str = "average"
    channels_first: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        sizes, channels = split(x, self.channels_first, "an adaptive pool")
        target = self.output if isinstance(self.output, tuple) else (self.output,) * len(sizes)
        if len(target) != len(sizes):
            raise ShapeError(f"output has {len(target)} values for {len(sizes)} axes")
        # None leaves an axis as it is.
        spatial = [
            n if m is None else positive(m, "output") for n, m in zip(sizes, target, strict=True)
        ]
        return (x._replace(shape=assemble(x.dims[0], spatial, channels, self.channels_first)),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return inputs[0].elements

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        sizes, _ = split(inputs[0], self.channels_first, "an adaptive pool")
        target, _ = split(outputs[0], self.channels_first, "an adaptive pool")
        rank = len(inputs[0].dims)
        start = 2 if self.channels_first else 1
        views = [
            View(start + i, ceil_div(n, m), ceil_div(n, m))
            if holds_everywhere(n % m == 0)
            else None
            for i, (n, m) in enumerate(zip(sizes, target, strict=True))
        ]
        channels = View(channel_axis(rank, self.channels_first))
        return [assemble(View(0), views, channels, self.channels_first)]
