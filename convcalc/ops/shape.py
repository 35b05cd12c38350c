"""Operators that move, cut, copy or sum elements without multiplying weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import holds_everywhere, product
from convcalc.errors import ShapeError
from convcalc.ops.base import (
    Operator,
    View,
    Views,
    assemble,
    axis_of,
    channel_axis,
    listed,
    operator,
    per_axis,
    positive,
    suggestion,
)
from convcalc.ops.convolution import split, window_views
from convcalc.tensors import DTYPE_BYTES, TensorSpec


class Rearrange(Operator):
    """Positions lose their meaning: each output may come from anywhere in the sample."""

    __slots__ = ()

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [(View(0), *(None,) * (len(outputs[0].dims) - 1))]


@operator("flatten")
class Flatten(Rearrange):
    """All axes but the batch as one."""

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        dims = inputs[0].dims
        return (inputs[0]._replace(shape=(dims[0], product(dims[1:]))),)


@operator("reshape")
class Reshape(Rearrange):
    """The same elements in another shape; one -1 is filled in.

    `shape` leaves the batch axis out, unless `whole`: then it holds all axes for a batch of one.
    """

    shape: Any
    whole: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        dims = x.dims if self.whole else x.dims[1:]
        target = list(listed(self.shape, "shape"))
        elements = product(dims)
        if target.count(-1) > 1 or any(type(n) is int and n < -1 for n in target):
            raise ShapeError(f"target {self.shape} must be sizes, with at most one -1")
        if -1 in target:
            known = product(n for n in target if not (type(n) is int and n == -1))
            if known == 0 or not holds_everywhere(elements % known == 0):
                raise ShapeError(f"cannot reshape {x} to {self.shape}")
            target[target.index(-1)] = elements // known
        if not holds_everywhere(product(target) == elements):
            raise ShapeError(f"cannot reshape {x} ({elements} elements) to {self.shape}")
        if self.whole:
            return (x._replace(shape=tuple(target), batch_axis=self.batch_axis(x, target)),)
        return (x._replace(shape=(x.dims[0], *target)),)

    @staticmethod
    def batch_axis(x: TensorSpec, target: list[Any]) -> int | None:
        """Where the batch is afterwards: where the elements in front are as many as before."""
        if x.batch_axis is None:
            return None
        ahead = product(x.dims[: x.batch_axis])
        seen: Any = 1
        for axis, size in enumerate(target):
            if holds_everywhere(seen == ahead):
                return axis
            seen = seen * size
        return 0


@operator("gather", inputs=(1, None))
class Gather(Operator):
    """Elements of the inputs at other places, some of them often, some not at all.

    Indexing, rolling, repeating, cutting into patches, writing into a part: nothing is computed.
    `shape` has all axes, for a batch of one; `batch_axis` says which of them grows with the batch.
    """

    shape: Any
    batch_axis: Any = 0
    dtype: str = "float"

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        shape = listed(self.shape, "shape")
        if self.batch_axis is not None:
            axis_of(self.batch_axis, len(shape))
        if self.dtype != "float" and self.dtype not in DTYPE_BYTES:
            raise ShapeError(f"unknown dtype '{self.dtype}'{suggestion(self.dtype, DTYPE_BYTES)}")
        return (TensorSpec(shape, self.dtype, self.batch_axis),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rest = (None,) * len(outputs[0].dims)
        kept = 0 if self.batch_axis == 0 else None
        return [
            (View(0), *rest[1:]) if spec.batch_axis == kept == 0 and rest else rest
            for spec in inputs
        ]


@operator("permute")
class Permute(Operator):
    """Axes in another order; `order` names all axes, the batch as 0."""

    order: Any

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        order = listed(self.order, "order")
        if set(order) != set(range(len(x.dims))) or len(order) != len(x.dims):
            raise ShapeError(f"order {order} does not name the {len(x.dims)} axes once each")
        batch_axis = None if x.batch_axis is None else self.order.index(x.batch_axis)
        return (x._replace(shape=tuple(x.dims[i] for i in self.order), batch_axis=batch_axis),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [tuple(map(View, self.order))]


@operator("repeat")
class Repeat(Operator):
    """Keras' RepeatVector: a new axis of `times` copies behind the batch."""

    times: int

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        dims = inputs[0].dims
        return (inputs[0]._replace(shape=(dims[0], positive(self.times, "times"), *dims[1:])),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [(View(0), None, *map(View, range(1, len(inputs[0].dims))))]


@operator("expand_dims")
class ExpandDims(Operator):
    """A new axis of size 1 at `axis`."""

    axis: int

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        at = axis_of(self.axis, len(x.dims) + 1)
        batch = x.batch_axis
        if batch is not None and batch >= at:
            batch += 1
        return (x._replace(shape=(*x.dims[:at], 1, *x.dims[at:]), batch_axis=batch),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(inputs[0].dims)
        at = axis_of(self.axis, rank + 1)
        return [(*map(View, range(at)), None, *map(View, range(at, rank)))]


@operator("squeeze")
class Squeeze(Operator):
    """Without the axes named, which have size 1; None: all such axes but the batch."""

    axes: Any = None

    def kept(self, x: TensorSpec) -> list[int]:
        """The axes that stay."""
        rank = len(x.dims)
        if self.axes is None:
            rest = {i: n for i, n in enumerate(x.dims) if i != x.batch_axis}
            gone = {i for i, n in rest.items() if holds_everywhere(n == 1)}
            for i, n in rest.items():
                if i not in gone and not holds_everywhere(n != 1):
                    raise ShapeError(f"axis {i} has size 1 in some configurations only")
        else:
            axes = self.axes if isinstance(self.axes, tuple) else (self.axes,)
            gone = {axis_of(axis, rank) for axis in axes}
        for axis in gone:
            if not holds_everywhere(x.dims[axis] == 1):
                raise ShapeError(f"cannot squeeze axis {axis} of {x}: its size is not 1")
        return [i for i in range(rank) if i not in gone]

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        kept = self.kept(x)
        batch = kept.index(x.batch_axis) if x.batch_axis in kept else None
        return (x._replace(shape=tuple(x.dims[i] for i in kept), batch_axis=batch),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [tuple(map(View, self.kept(inputs[0])))]


@operator("slice")
class Slice(Operator):
    """Positions start, start + step, ... of `axis`, `size` of them."""

    axis: int
    size: int
    start: int = 0
    step: int = 1

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        at = axis_of(self.axis, len(x.dims))
        positive(self.size, "size")
        last = self.start + (self.size - 1) * self.step
        if not holds_everywhere(x.dims[at] > max(self.start, last)) or min(self.start, last) < 0:
            raise ShapeError(f"a slice up to {last} leaves axis {at} of {x}")
        return (x._replace(shape=(*x.dims[:at], self.size, *x.dims[at + 1 :])),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(inputs[0].dims)
        at = axis_of(self.axis, rank)
        # A view cannot run backwards: of a reversed axis every position may be seen.
        cut = View(at, 1, self.step, -self.start) if self.step > 0 else None
        return [tuple(cut if i == at else View(i) for i in range(rank))]


@operator("split")
class Split(Operator):
    """Pieces of `axis`, one output each."""

    sizes: Any
    axis: int = -1

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        x = inputs[0]
        at = axis_of(self.axis, len(x.dims))
        for size in listed(self.sizes, "sizes"):
            positive(size, "a piece")
        if not holds_everywhere(sum(self.sizes) == x.dims[at]):
            raise ShapeError(f"pieces {self.sizes} do not add up to axis {at} of {x}")
        head, tail = x.dims[:at], x.dims[at + 1 :]
        return tuple(x._replace(shape=(*head, size, *tail)) for size in self.sizes)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(inputs[0].dims)
        at = axis_of(self.axis, rank)
        return [tuple(None if i == at else View(i) for i in range(rank))]


class Spatial(Operator):
    """Operators that change the spatial axes one by one and keep the channels."""

    __slots__ = ()

    def axes(self, sizes: tuple[Any, ...]) -> list[tuple[Any, View]]:
        """(new size, view) of each spatial axis; the view's axis is filled in by `views`."""
        raise NotImplementedError

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        first = self.channels_first  # type: ignore[attr-defined]
        sizes, channels = split(x, first, f"'{self.type}'")
        found = self.axes(sizes)
        for size, _ in found:
            if not holds_everywhere(size >= 1):
                raise ShapeError(f"nothing of {x} is left")
        shape = assemble(x.dims[0], [size for size, _ in found], channels, first)
        return (x._replace(shape=shape),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        first = self.channels_first  # type: ignore[attr-defined]
        rank = len(inputs[0].dims)
        sizes, _ = split(inputs[0], first, f"'{self.type}'")
        start = 2 if first else 1
        views = [view._replace(axis=start + i) for i, (_, view) in enumerate(self.axes(sizes))]
        return [window_views(rank, first, views, View(channel_axis(rank, first)))]


def sides(value: Any, rank: int, what: str) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis from one number, one for each axis, or a pair for each.

    Raises:
        ShapeError: it is none of these, or negative.
    """
    values = value if isinstance(value, tuple) else (value,) * rank
    pairs = tuple(v if isinstance(v, tuple) else (v, v) for v in values)
    good = len(pairs) == rank and all(
        len(pair) == 2 and all(type(n) is int and n >= 0 for n in pair) for pair in pairs
    )
    if not good:
        raise ShapeError(f"{what} {value!r} must give (before, after) for each of {rank} axes")
    return pairs


@operator("pad")
class Pad(Spatial):
    """Positions added on each side of the spatial axes."""

    padding: Any = 1
    channels_first: bool = False

    def axes(self, sizes: tuple[Any, ...]) -> list[tuple[Any, View]]:
        pairs = sides(self.padding, len(sizes), "padding")
        return [
            (n + before + after, View(0, before=before))
            for n, (before, after) in zip(sizes, pairs, strict=True)
        ]


@operator("crop")
class Crop(Spatial):
    """Positions cut off each side of the spatial axes."""

    cropping: Any = 1
    channels_first: bool = False

    def axes(self, sizes: tuple[Any, ...]) -> list[tuple[Any, View]]:
        pairs = sides(self.cropping, len(sizes), "cropping")
        return [
            (n - before - after, View(0, before=-before))
            for n, (before, after) in zip(sizes, pairs, strict=True)
        ]


@operator("upsample")
class Upsample(Spatial):
    """`factor` times as many positions, each copied or interpolated."""

    factor: Any = 2
    interpolation: str = "nearest"
    channels_first: bool = False

    def axes(self, sizes: tuple[Any, ...]) -> list[tuple[Any, View]]:
        factors = per_axis(self.factor, len(sizes), "factor")
        return [
            (product((n, u)), interpolating(u, self.interpolation))
            for n, u in zip(sizes, factors, strict=True)
        ]

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((interpolation_cost(self.interpolation), outputs[0].elements))


@operator("resize")
class Resize(Spatial):
    """Spatial axes interpolated to the sizes `size`."""

    size: Any
    interpolation: str = "bilinear"
    channels_first: bool = False

    def axes(self, sizes: tuple[Any, ...]) -> list[tuple[Any, View]]:
        target = per_axis(self.size, len(sizes), "size")
        return [(m, self.view(n, m)) for n, m in zip(sizes, target, strict=True)]

    def view(self, size: Any, target: Any) -> View:
        """The whole axis, unless it is enlarged by a whole factor."""
        if holds_everywhere(target % size == 0):
            return interpolating(target // size, self.interpolation)
        return View(0, size, 0)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((interpolation_cost(self.interpolation), outputs[0].elements))


def interpolation_cost(method: str) -> int:
    """Operations for one output element: the inputs that it mixes."""
    return {"nearest": 0, "bilinear": 4, "bicubic": 16}.get(method, 4)


def interpolating(factor: Any, method: str) -> View:
    """The view of an upsampling by a whole factor u, pixel centres aligned.

    Nearest: position o copies floor(o / u).  Linear: it mixes the inputs i with
    ``|i * u - o + (u - 1) / 2| < u``.
    """
    if method == "nearest":
        return View(0, factor, 1, factor - 1, factor)
    return View(0, 2 * factor - factor % 2, 1, factor - 1 + factor // 2, factor)


@operator("space_to_depth")
class SpaceToDepth(Operator):
    """Blocks of block x block pixels become channels."""

    block: int
    channels_first: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        sizes, channels = split(x, self.channels_first, "space_to_depth")
        for size in sizes:
            if not holds_everywhere(size % positive(self.block, "block") == 0):
                raise ShapeError(f"blocks of {self.block} do not divide {size}")
        spatial = [size // self.block for size in sizes]
        deep = product((channels, self.block ** len(sizes)))
        return (x._replace(shape=assemble(x.dims[0], spatial, deep, self.channels_first)),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(inputs[0].dims)
        start = 2 if self.channels_first else 1
        views = [View(start + i, self.block, self.block) for i in range(rank - 2)]
        return [window_views(rank, self.channels_first, views, None)]


@operator("depth_to_space")
class DepthToSpace(Operator):
    """Channels become blocks of block x block pixels (pixel shuffle)."""

    block: int
    channels_first: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        sizes, channels = split(x, self.channels_first, "depth_to_space")
        area = positive(self.block, "block") ** len(sizes)
        if not holds_everywhere(channels % area == 0):
            raise ShapeError(f"{channels} channels do not make blocks of {area}")
        spatial = [product((size, self.block)) for size in sizes]
        flat = channels // area
        return (x._replace(shape=assemble(x.dims[0], spatial, flat, self.channels_first)),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(inputs[0].dims)
        start = 2 if self.channels_first else 1
        views = [
            View(start + i, self.block, 1, self.block - 1, self.block) for i in range(rank - 2)
        ]
        return [window_views(rank, self.channels_first, views, None)]


@operator("channel_shuffle")
class ChannelShuffle(Operator):
    """Channels of `groups` groups interleaved (ShuffleNet)."""

    groups: int
    channels_first: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        channels = x.dims[channel_axis(len(x.dims), self.channels_first)]
        if not holds_everywhere(channels % positive(self.groups, "groups") == 0):
            raise ShapeError(f"{self.groups} groups do not divide {channels} channels")
        return (x,)


@operator("reduce")
class Reduce(Operator):
    """Sum, mean, max, ... over `axes` (None: all but the batch)."""

    kind: str = "mean"
    axes: Any = None
    keepdims: bool = False

    def reduced(self, x: TensorSpec) -> set[int]:
        """The axes that are summed over."""
        rank = len(x.dims)
        if self.axes is None:
            return {i for i in range(rank) if i != x.batch_axis}
        axes = self.axes if isinstance(self.axes, tuple) else (self.axes,)
        return {axis_of(axis, rank) for axis in axes}

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (x,) = inputs
        gone = self.reduced(x)
        kept = [i for i in range(len(x.dims)) if i not in gone]
        batch = x.batch_axis
        if self.keepdims:
            shape = tuple(1 if i in gone else n for i, n in enumerate(x.dims))
            batch = None if batch in gone else batch
        else:
            shape = tuple(x.dims[i] for i in kept)
            batch = kept.index(batch) if batch in kept else None
        dtype = "int64" if self.kind in ("argmax", "argmin") else x.dtype
        return (TensorSpec(shape, dtype, batch),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return inputs[0].elements

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        gone = self.reduced(inputs[0])
        axes = range(len(inputs[0].dims))
        if self.keepdims:
            return [tuple(None if i in gone else View(i) for i in axes)]
        return [tuple(View(i) for i in axes if i not in gone)]
