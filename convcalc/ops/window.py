"""How a window slides along an axis: convolutions and pools of every kind share this geometry.

With n input positions, a kernel of k, stride s, dilation d and p = before + after positions added,
the window covers ``d * (k - 1) + 1`` positions and stands in
``floor((n + p - d * (k - 1) - 1) / s) + 1`` places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from convcalc.arithmetic import ceil_div, holds_everywhere, maximum
from convcalc.errors import ShapeError
from convcalc.ops.base import per_axis

#: Positions before and after each axis.
Sides = tuple[tuple[Any, Any], ...]

PADDINGS = ("same", "same_lower", "valid", "causal")


class Slide(NamedTuple):
    """A window sliding along one axis."""

    size: Any
    """Input positions."""
    kernel: Any
    stride: Any
    dilation: Any
    before: Any
    """Positions added in front."""
    after: Any
    """Positions added behind."""
    output: Any
    """Places in which the window stands."""

    @property
    def extent(self) -> Any:
        """Positions from the window's first to its last, dilation included."""
        return extent(self.kernel, self.dilation)

    @property
    def ignored(self) -> Any:
        """Input positions at the end that no window reaches (VALID with a stride)."""
        reach = (self.output - 1) * self.stride + self.extent - self.before
        return maximum(self.size - reach, 0)


def extent(kernel: Any, dilation: Any) -> Any:
    """Positions that a dilated kernel spans."""
    return dilation * (kernel - 1) + 1


def same_padding(size: Any, kernel: Any, stride: Any = 1, dilation: Any = 1) -> tuple[Any, Any]:
    """TensorFlow's SAME: as little as gives ``ceil(size / stride)`` places, the odd one behind."""
    total = maximum((ceil_div(size, stride) - 1) * stride + extent(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def filled(slides: Sequence[Slide]) -> Sides:
    """Positions to add (before, after) so that all windows are full, rounding up included."""
    return tuple(
        (s.before, max((s.output - 1) * s.stride + s.extent - s.size - s.before, s.after))
        for s in slides
    )


def same_sides(slides: Sequence[Slide]) -> Sides:
    """What TensorFlow's SAME would add."""
    return tuple(same_padding(s.size, s.kernel, s.stride, s.dilation) for s in slides)


def output_size(
    size: Any,
    kernel: Any,
    stride: Any = 1,
    dilation: Any = 1,
    before: Any = 0,
    after: Any = 0,
) -> Any:
    """Places in which the window stands; below 1 where it does not fit."""
    return (size + before + after - extent(kernel, dilation)) // stride + 1


def ceil_output_size(
    size: Any, kernel: Any, stride: Any, dilation: Any, before: Any, after: Any
) -> Any:
    """`output_size` rounded up, without a last window that starts beyond the input (PyTorch)."""
    places = ceil_div(size + before + after - extent(kernel, dilation), stride) + 1
    return places - ((places - 1) * stride >= size + before) * 1


def pads(
    padding: Any, sizes: tuple[Any, ...], kernel: Any, stride: Any, dilation: Any
) -> tuple[tuple[Any, Any], ...]:
    """Positions (before, after) for each axis.

    `padding` is a name of `PADDINGS`, one number for all sides, one number for each axis, or a
    pair for each axis.

    Raises:
        ShapeError: it is none of these.
    """
    rank = len(sizes)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * rank
        if padding == "causal":
            return tuple((d * (k - 1), 0) for k, d in zip(kernel, dilation, strict=True))
        if padding in PADDINGS:
            both = tuple(map(same_padding, sizes, kernel, stride, dilation))
            return both if padding == "same" else tuple((after, before) for before, after in both)
        raise ShapeError(f"padding '{padding}' is none of {', '.join(PADDINGS)} or numbers")
    if type(padding) is int:
        padding = (padding,) * rank
    if not isinstance(padding, tuple) or len(padding) != rank:
        raise ShapeError(f"padding {padding!r} does not name {rank} axes")
    sides = tuple((side, side) if type(side) is int else side for side in padding)
    for side in sides:
        if not (isinstance(side, tuple) and len(side) == 2 and all(type(n) is int for n in side)):
            raise ShapeError(f"padding {padding!r} must give (before, after) for each axis")
        if min(side) < 0:
            raise ShapeError(f"padding {padding!r} is negative")
    return sides


def slides(
    sizes: tuple[Any, ...],
    kernel: Any,
    stride: Any,
    dilation: Any = 1,
    padding: Any = "valid",
    *,
    ceil_mode: bool = False,
) -> tuple[Slide, ...]:
    """The window's way along each axis.

    Raises:
        ShapeError: a value makes no sense, or the window is larger than the padded input.
    """
    rank = len(sizes)
    kernel = per_axis(kernel, rank, "kernel")
    stride = per_axis(stride, rank, "stride")
    dilation = per_axis(dilation, rank, "dilation")
    places = ceil_output_size if ceil_mode else output_size
    result = []
    for size, k, s, d, (before, after) in zip(
        sizes, kernel, stride, dilation, pads(padding, sizes, kernel, stride, dilation), strict=True
    ):
        output = places(size, k, s, d, before, after)
        fits = output >= 1
        if fits is not True and not holds_everywhere(fits):
            raise ShapeError(
                f"a kernel of {extent(k, d)} (dilation included) does not fit "
                f"an input of {size} with padding {before}+{after}"
            )
        result.append(Slide(size, k, s, d, before, after, output))
    return tuple(result)
