"""Rules of ONNX operators that move, cut, copy or sum elements."""

from __future__ import annotations

import struct
from math import floor, isfinite
from typing import Any

from convcalc.arithmetic import product
from convcalc.errors import ShapeError
from convcalc.ops import Operator
from convcalc.ops.linear import Embedding, broadcast
from convcalc.ops.merge import Concat
from convcalc.ops.shape import (
    Crop,
    DepthToSpace,
    ExpandDims,
    Flatten,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Resize,
    Slice,
    SpaceToDepth,
    Split,
    Squeeze,
    Upsample,
)
from convcalc.readers.onnx_ops import Edge, NotStatic, Use, dtype_of, moved, position, rule


def whole(values: Any, what: str) -> list[int]:
    """Integers from an attribute or a constant.

    Raises:
        ShapeError: they are something else.
    """
    found = list(values)
    if not all(type(value) is int for value in found):
        raise ShapeError(f"its {what} must be integers")
    return found


@rule("Reshape")
def reshape(use: Use) -> Edge:
    x = use.edge(0)
    target = whole(use.listed(1, "shape") or (), "shape")
    if not use.integer("allowzero"):
        if any(size == 0 and i >= x.rank for i, size in enumerate(target)):
            raise ShapeError(f"cannot reshape {x.spec} to {target}")
        target = [x.dims[i] if size == 0 else size for i, size in enumerate(target)]
    if use.builder.batch > 1 and target[:1] == [use.builder.batch] and x.dims[:1] == (1,):
        target[0] = 1
    if tuple(target) == x.dims:
        return x
    return use.emit(Reshape(tuple(target), whole=True), x)


@rule("ConstantOfShape")
def constant_of_shape(use: Use) -> Edge:
    """A constant; one whose shape is stored in the file stands for a weight that was taken out."""
    shape = tuple(whole(use.values(0) or (), "shape"))
    value = use.node.attributes.get("value")
    kind = dtype_of(value.value.data_type) if value is not None else "float"
    edge = use.builder.literal(shape, kind)
    edge.root = next(iter(use.node.outputs), "")
    edge.stored = kind == "float" and use.edge(0).root in use.builder.initializers
    return edge


@rule("Flatten")
def flatten(use: Use) -> Edge:
    x = use.edge(0)
    axis = use.integer("axis", 1)
    if axis == 1 and x.rank > 1:
        return use.emit(Flatten(), x)
    at = axis if axis == x.rank else position(axis, x.rank)
    return use.emit(Reshape((product(x.dims[:at]), product(x.dims[at:])), whole=True), x)


@rule("Transpose")
def transpose(use: Use) -> Edge:
    x = use.edge(0)
    order = use.ints("perm") or tuple(reversed(range(x.rank)))
    return x if order == tuple(range(x.rank)) else use.emit(Permute(order), x)


@rule("Squeeze")
def squeeze(use: Use) -> Edge:
    axes = use.listed(1, "axes")
    return use.emit(Squeeze(None if axes is None else tuple(axes)), use.edge(0))


@rule("Unsqueeze")
def unsqueeze(use: Use) -> Edge:
    x = use.edge(0)
    axes = whole(use.listed(1, "axes") or (), "axes")
    rank = x.rank + len(axes)
    for axis in sorted(position(axis, rank) for axis in axes):
        x = use.emit(ExpandDims(axis), x)
    return x


@rule("Concat")
def concat(use: Use) -> Edge:
    edges = [edge for edge in use.edges if edge is not None and product(edge.dims)]
    if len(edges) == 1:
        return edges[0]
    if not edges:
        raise ShapeError("it has nothing to concatenate")
    return use.emit(Concat(use.axis(1, edges[0].rank)), *edges)


def sliced(use: Use, x: Edge, axis: int, start: int, stop: int, step: int) -> Edge:
    """``x[start:stop:step]`` along one axis, as Python counts."""
    places = range(x.dims[axis])[slice(start, stop, step)]
    if places == range(x.dims[axis]):
        return x
    if not places:
        raise ShapeError(f"nothing is left of axis {axis} of {x.spec}")
    return use.emit(Slice(axis, len(places), places.start, places.step), x)


@rule("Slice")
def cut(use: Use) -> Edge:
    x = use.edge(0)
    starts = whole(use.listed(1, "starts") or (), "starts")
    ends = whole(use.listed(2, "ends") or (), "ends")
    axes = whole(use.listed(3, "axes") or range(len(starts)), "axes")
    steps = whole(use.values(4) or [1] * len(starts), "steps")
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ShapeError("its starts, ends, axes and steps are not as many")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise ShapeError("a step of zero")
        at = position(axis, x.rank)
        size = x.dims[at]
        # Below the first element there is none: Python would count such an end from behind.
        stop: Any = None if step < 0 and end < -size else end
        x = sliced(use, x, at, start, stop, step)
    return x


@rule("Split")
def split(use: Use) -> list[Edge]:
    x = use.edge(0)
    axis = use.axis(0, x.rank)
    sizes = use.listed(1, "split")
    if not sizes:
        pieces = use.integer("num_outputs", use.outputs) or 1
        each = -(-x.dims[axis] // max(pieces, 1))
        sizes = tuple(min(each, x.dims[axis] - each * i) for i in range(min(pieces, use.outputs)))
    if len(sizes) == 1:
        return [x]
    return use.builder.emit(Split(tuple(sizes), axis), [x], [])


@rule("Gather")
def gather(use: Use) -> Edge:
    x, indices = use.edge(0), use.edge(1)
    axis = use.axis(0, x.rank)
    table = x.constant and not indices.constant and axis == 0 and x.rank == 2
    if table and not use.builder.torn([x], "embedding"):
        return use.emit(Embedding(*x.dims), indices, weights=[x])
    size = x.dims[axis]
    if indices.value is not None and indices.rank < 2 and not x.constant:
        numbers = whole(indices.value.ravel().tolist(), "indices")
        if not all(-size <= number < size for number in numbers):
            raise ShapeError(f"an index is outside axis {axis} of {x.spec}")
        places = progression([number % size for number in numbers])
        if places is not None:
            y = sliced(use, x, axis, places.start, places.stop, places.step)
            return y if indices.rank else use.emit(Squeeze((axis,)), y)
    shape = (*x.dims[:axis], *indices.dims, *x.dims[axis + 1 :])
    batch = x.spec.batch_axis
    if batch is None:
        own = indices.spec.batch_axis
        batch = None if own is None else own + axis
    elif batch >= axis:
        batch = None if batch == axis else batch + indices.rank - 1
    return moved(use, shape, x, indices, batch=batch)


def progression(numbers: list[int]) -> range | None:
    """Positions as a range that goes forward, None if they are none."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    if not numbers or step < 1:
        return None
    found = range(numbers[0], numbers[-1] + 1, step)
    return found if numbers == list(found) else None


@rule("GatherElements")
def gather_elements(use: Use) -> Edge:
    x, indices = use.edge(0), use.edge(1)
    return moved(use, indices.dims, x, indices, batch=x.spec.batch_axis)


@rule("GatherND")
def gather_slices(use: Use) -> Edge:
    x, indices = use.edge(0), use.edge(1)
    if not indices.rank:
        raise ShapeError("its indices have no axis")
    taken = use.integer("batch_dims") + indices.dims[-1]
    if not 0 <= taken <= x.rank:
        raise ShapeError(f"indices of {indices.spec} do not fit {x.spec}")
    return moved(use, (*indices.dims[:-1], *x.dims[taken:]), x, indices, batch=None)


@rule("Scatter", "ScatterElements", "ScatterND", "TensorScatter")
def scatter(use: Use) -> Edge:
    edges = [edge for edge in use.edges if edge is not None]
    return moved(use, use.edge(0).dims, *edges, batch=use.edge(0).spec.batch_axis)


@rule("ReverseSequence")
def reverse(use: Use) -> Edge:
    x = use.edge(0)
    return moved(use, x.dims, x, batch=x.spec.batch_axis)


@rule("TopK")
def largest(use: Use) -> list[Edge]:
    x = use.edge(0)
    axis = use.axis(-1, x.rank)
    (count,) = whole(use.values(1) or [use.integer("k")], "k")
    if not 1 <= count <= x.dims[axis]:
        raise ShapeError(f"it takes {count} of {x.dims[axis]}")
    shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
    batch = x.spec.batch_axis
    return [moved(use, shape, x, batch=batch, dtype=kind) for kind in (x.spec.dtype, "int64")]


@rule("OneHot")
def one_hot(use: Use) -> Edge:
    x = use.edge(0)
    (depth,) = whole(map(int, use.values(1) or ()), "depth")
    at = use.axis(-1, x.rank + 1)
    batch = x.spec.batch_axis
    if batch is not None and batch >= at:
        batch += 1
    shape = (*x.dims[:at], depth, *x.dims[at:])
    return moved(use, shape, x, batch=batch, dtype=use.edge(2).spec.dtype)


@rule("EyeLike")
def identity_matrix(use: Use) -> Edge:
    return use.builder.literal(use.edge(0).dims, dtype_of(use.integer("dtype", 1)))


@rule("Expand")
def expand(use: Use) -> Edge:
    x = use.edge(0)
    target = tuple(whole(use.values(1) or (), "shape"))
    if use.builder.batch > 1 and target[:1] == (use.builder.batch,) and len(target) >= x.rank:
        target = (1, *target[1:])
    shape = broadcast(x.dims, target)
    batch = x.spec.batch_axis
    batch = 0 if batch is None else batch + len(shape) - x.rank
    return x if shape == x.dims else moved(use, shape, x, batch=None if x.constant else batch)


@rule("Tile")
def tile(use: Use) -> Edge:
    x = use.edge(0)
    times = whole(use.values(1) or (), "repeats")
    if len(times) != x.rank:
        raise ShapeError(f"{len(times)} repeats do not fit {x.spec}")
    if all(count == 1 for count in times):
        return x
    shape = tuple(product((size, count)) for size, count in zip(x.dims, times, strict=True))
    return moved(use, shape, x, batch=x.spec.batch_axis)


@rule("CenterCropPad")
def crop_or_pad(use: Use) -> Edge:
    x = use.edge(0)
    target = whole(use.values(1) or (), "shape")
    axes = use.ints("axes") or range(x.rank)
    shape = list(x.dims)
    for axis, size in zip(axes, target, strict=True):
        shape[position(axis, x.rank)] = size
    return moved(use, tuple(shape), x, batch=x.spec.batch_axis)


@rule("Pad")
def pad(use: Use) -> Edge:
    x = use.edge(0)
    pads = whole(use.listed(1, "pads") or use.ints("paddings") or (), "pads")
    axes = [position(axis, x.rank) for axis in whole(use.values(3) or range(x.rank), "axes")]
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"{len(pads)} pads do not fit {len(axes)} axes")
    sides = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    space = range(2, x.rank)
    added = tuple((max(b, 0), max(a, 0)) for b, a in (sides.pop(i, (0, 0)) for i in space))
    cut = tuple(
        (max(-pads[axes.index(i)], 0), max(-pads[axes.index(i) + len(axes)], 0))
        if i in axes
        else (0, 0)
        for i in space
    )
    if any(map(any, cut)):
        x = use.emit(Crop(cut, channels_first=True), x)
    if any(map(any, added)):
        x = use.emit(Pad(added, channels_first=True), x)
    for axis, (before, after) in sides.items():
        x = lengthened(use, x, axis, before, after)
    return x


def lengthened(use: Use, x: Edge, axis: int, before: int, after: int) -> Edge:
    """Positions added to, or cut from, an axis that is not one of space."""
    if before < 0 or after < 0:
        stop = x.dims[axis] + min(after, 0)
        if stop <= max(-before, 0):
            raise ShapeError(f"nothing is left of axis {axis} of {x.spec}")
        x = sliced(use, x, axis, max(-before, 0), stop, 1)
    parts = [x]
    for place, count in ((0, before), (1, after)):
        if count > 0:
            shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
            parts.insert(len(parts) * place, use.builder.literal(shape, x.spec.dtype))
    return use.emit(Concat(axis), *parts) if len(parts) > 1 else x


METHODS = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic"}


@rule("Resize", "Upsample")
def resize(use: Use) -> Edge:
    x = use.edge(0)
    sizes = new_sizes(use, x)
    changed = [i for i, (n, m) in enumerate(zip(x.dims, sizes, strict=True)) if n != m]
    if not changed:
        return x
    method = METHODS.get(use.text("mode", "nearest"), "bilinear")
    first = changed[0] > 1
    if x.rank < 3 or not (first or (changed[0] == 1 and changed[-1] < x.rank - 1)):
        raise NotStatic
    space = range(2, x.rank) if first else range(1, x.rank - 1)
    operator: Operator = Resize(tuple(sizes[i] for i in space), method, channels_first=first)
    if all(sizes[i] % x.dims[i] == 0 for i in space):
        factors = tuple(sizes[i] // x.dims[i] for i in space)
        operator = Upsample(factors, method, channels_first=first)
    return use.emit(operator, x)


def new_sizes(use: Use, x: Edge) -> list[int]:
    """All sizes after `Resize` (any version) or `Upsample`.

    Raises:
        NotStatic: they are computed while the network runs.
        ShapeError: they make no sense.
    """
    new = use.op_type == "Resize" and use.opset >= 11
    scales = use.values(2) if new else use.listed(1, "scales")
    target = use.values(3) if new else None
    axes = [position(axis, x.rank) for axis in use.ints("axes") or range(x.rank)]
    given = target or list(scales or ())
    if len(given) != len(axes):
        raise ShapeError(f"it gives {len(given)} sizes for {len(axes)} axes")
    if not all(isinstance(number, (int, float)) and isfinite(number) for number in given):
        raise ShapeError("a size or scale is not a number")
    sizes = list(x.dims)
    if target:
        policy = use.text("keep_aspect_ratio_policy", "stretch")
        ratios = [size / x.dims[axis] for axis, size in zip(axes, target, strict=True)]
        for axis, size in zip(axes, target, strict=True):
            sizes[axis] = int(size)
            if policy != "stretch":
                ratio = min(ratios) if policy == "not_larger" else max(ratios)
                sizes[axis] = floor(ratio * x.dims[axis] + 0.5)
    else:
        region = [1.0] * len(axes)
        if use.text("coordinate_transformation_mode") == "tf_crop_and_resize":
            corners = use.values(1) or []
            if len(corners) == 2 * len(axes):
                pairs = zip(corners[: len(axes)], corners[len(axes) :], strict=True)
                region = [float(end) - float(start) for start, end in pairs]
        for axis, scale, share in zip(axes, given, region, strict=True):
            sizes[axis] = floor(single(x.dims[axis] * share * scale))
    if not all(1 <= size < 1 << 62 for size in sizes):
        raise ShapeError(f"it resizes {x.spec} to {sizes}")
    return sizes


def single(value: float) -> float:
    """A number rounded to float32, in which ONNX multiplies sizes by scales."""
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        raise ShapeError(f"a size of {value}") from None
    return float(rounded)


@rule("DepthToSpace", "SpaceToDepth")
def blocks(use: Use) -> Edge:
    kind = DepthToSpace if use.op_type == "DepthToSpace" else SpaceToDepth
    return use.emit(kind(use.integer("blocksize", 0), channels_first=True), use.edge(0))


REDUCTIONS = {
    "ReduceL1": "sum",
    "ReduceL2": "norm",
    "ReduceLogSum": "sum",
    "ReduceLogSumExp": "logsumexp",
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
    "ReduceSumSquare": "sum",
}


@rule(*REDUCTIONS)
def reduction(use: Use) -> Edge:
    x = use.edge(0)
    axes = use.listed(1, "axes")
    if not axes:
        if use.integer("noop_with_empty_axes"):
            return x
        axes = tuple(range(x.rank))
    places = tuple(position(axis, x.rank) for axis in axes)
    kept = bool(use.integer("keepdims", 1))
    return use.emit(Reduce(REDUCTIONS[use.op_type], places, kept), x) if x.rank else x


@rule("ArgMax", "ArgMin")
def extreme(use: Use) -> Edge:
    x = use.edge(0)
    axis = use.axis(0, x.rank)
    return use.emit(Reduce(use.op_type.lower(), (axis,), bool(use.integer("keepdims", 1))), x)
