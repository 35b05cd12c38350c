"""ATen operators that move elements and compute nothing with weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convcalc.ops import activation as act
from convcalc.ops import merge
from convcalc.ops import shape as shapes
from convcalc.ops.base import axis_of
from convcalc.readers.torch_graph import Call, Folded, Ref, Unsupported

MOVES: dict[str, Callable[[Call], Any]] = {}


def move(*names: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Register a rule for these operators."""

    def decorate(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        MOVES.update(dict.fromkeys(names, function))
        return function

    return decorate


def listed_sizes(values: Any, rank: int) -> tuple[Any, ...]:
    """One value for each axis, where PyTorch may give one for all."""
    found = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    return found * rank if len(found) == 1 else found


@move("alias", "detach", "lift_fresh", "lift_fresh_copy", "view_as_real", "expand_as", "_to_copy")
def same(c: Call) -> Ref:
    x = c.x
    if c.dims(x) != c.shape:
        return c.gather([x], c.shape)
    return x if c.spec(x).dtype == c.dtype else c.emit(act.Cast(c.dtype), [x])


for name in ("to", "type_as", "float", "half", "double", "bfloat16", "_autocast_to_full_precision"):
    MOVES[name] = same


@move("contiguous", "clone")
def copied(c: Call) -> Ref:
    """A copy, where PyTorch makes one."""
    x = c.x
    source: Any = c.node.args[0]
    kept = c.base == "contiguous" and source.meta["val"].is_contiguous()
    return x if kept else c.emit(act.Identity(), [x])


@move("flatten")
def flatten(c: Call) -> Ref:
    x = c.x
    rank = len(c.dims(x))
    whole = rank > 1 and (c["start_dim"], axis_of(c["end_dim"], rank)) == (1, rank - 1)
    if whole and c.spec(x).batch_axis == 0:
        return c.emit(shapes.Flatten(), [x])
    return reshaped(c, x)


@move("view", "reshape", "_unsafe_view", "unflatten", "view_as", "reshape_as", "_reshape_alias")
def reshape(c: Call) -> Ref:
    return reshaped(c, c.x)


def reshaped(c: Call, x: Ref) -> Ref:
    """The elements in the shape that comes out."""
    if c.dims(x) == c.shape:
        return x
    asked = c.get("size", c.get("shape"))
    if c.spec(x).batch_axis == 0 and c.shape and c.shape[0] == c.dims(x)[0]:
        # Written with -1, it fits other sizes too.
        target = tuple(asked) if c.base != "unflatten" and -1 in (asked or ()) else c.shape
        if target[0] != -1:
            return c.emit(shapes.Reshape(target[1:]), [x])
    return c.emit(shapes.Reshape(c.shape, whole=True), [x])


@move("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis", "numpy_T", "mT")
def permute(c: Call) -> Ref:
    x = c.x
    rank = len(c.dims(x))
    order = list(range(rank))
    if c.base == "permute":
        order = [axis_of(axis, rank) for axis in c["dims"]]
    elif c.base in ("movedim", "moveaxis"):
        sources, targets = (
            [axis_of(axis, rank) for axis in listed_sizes(c[key], 1)]
            for key in ("source", "destination")
        )
        rest = iter(axis for axis in order if axis not in sources)
        placed = dict(zip(targets, sources, strict=True))
        order = [placed[axis] if axis in placed else next(rest) for axis in range(rank)]
    elif c.base == "numpy_T":
        order.reverse()
    elif rank > 1:
        keys = ("axis0", "axis1") if "axis0" in c.args else ("dim0", "dim1")
        first, second = (
            axis_of(c.get(key, n), rank) for key, n in zip(keys, (-2, -1), strict=True)
        )
        order[first], order[second] = order[second], order[first]
    return x if order == list(range(rank)) else c.emit(shapes.Permute(tuple(order)), [x])


@move("squeeze")
def squeeze(c: Call) -> Ref:
    x = c.x
    dims = c.dims(x)
    asked = c.get("dim", tuple(range(len(dims))))
    axes = [axis_of(axis, len(dims)) for axis in listed_sizes(asked, 1)]
    gone = tuple(axis for axis in axes if dims[axis] == 1)
    return c.emit(shapes.Squeeze(gone), [x]) if gone else x


@move("unsqueeze")
def unsqueeze(c: Call) -> Ref:
    return c.emit(shapes.ExpandDims(c["dim"]), [c.x])


def cut(c: Call, x: Ref, axis: int, start: int, size: int, step: int = 1) -> Ref:
    """A part of an axis; nothing where it is all of it."""
    if size == c.dims(x)[axis] and step == 1:
        return x
    if c.spec(x).batch_axis == axis:
        raise Unsupported
    return c.emit(shapes.Slice(axis, size, start, step), [x])


@move("select")
def select(c: Call) -> Ref:
    x = c.x
    axis = axis_of(c["dim"], len(c.dims(x)))
    part = cut(c, x, axis, c["index"] % c.dims(x)[axis], 1)
    return c.emit(shapes.Squeeze((axis,)), [part])


@move("slice", "narrow")
def slice_(c: Call) -> Ref:
    x = c.x
    axis = axis_of(c["dim"], len(c.dims(x)))
    start = c.get("start", 0)
    start = start + c.dims(x)[axis] if start < 0 else start
    return cut(c, x, axis, start, c.shape[axis], c.get("step", 1))


@move("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(c: Call) -> list[Ref]:
    x = c.x
    axis = axis_of(c["dim"], len(c.dims(x)))
    sizes = tuple(shape[axis] for shape in c.shapes)
    if len(sizes) == 1:
        return [x]
    first = c.emit(shapes.Split(sizes, axis), [x])
    return [first, *(Ref(f"{first}:{i}") for i in range(1, len(sizes)))]


@move("unbind")
def unbind(c: Call) -> list[Ref]:
    axis = axis_of(c["dim"], len(c.dims(c.x)))
    count = len(c.shapes)
    if count == 1:
        pieces = [c.x]
    else:
        first = c.emit(shapes.Split((1,) * count, axis), [c.x])
        pieces = [first, *(Ref(f"{first}:{i}") for i in range(1, count))]
    return [c.emit(shapes.Squeeze((axis,)), [piece]) for piece in pieces]


@move("cat", "concat", "concatenate")
def concat(c: Call) -> Ref:
    # PyTorch leaves out tensors without elements, with which lists are often begun.
    empty = [isinstance(value, Folded) and value.shape == (0,) for value in c["tensors"]]
    kept = [
        c.builder.tensor(value, c)
        for value, none in zip(c["tensors"], empty, strict=True)
        if not none
    ]
    return kept[0] if len(kept) == 1 else c.emit(merge.Concat(c["dim"]), kept)


@move("stack")
def stack(c: Call) -> Ref:
    axis = axis_of(c["dim"], len(c.shape))
    wide = [c.emit(shapes.ExpandDims(axis), [ref]) for ref in c.refs("tensors")]
    return wide[0] if len(wide) == 1 else c.emit(merge.Concat(axis), wide)


@move(
    "pad",
    "constant_pad_nd",
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    "_pad_circular",
)
def pad(c: Call) -> Ref:
    """Padding is listed from the last axis backwards."""
    x = c.x
    rank = len(c.dims(x))
    listed = list(c.get("pad", c.get("padding")))
    pairs = [(0, 0)] * (rank - len(listed) // 2)
    pairs += [(listed[i], listed[i + 1]) for i in range(len(listed) - 2, -1, -2)]
    touched = [axis for axis, pair in enumerate(pairs) if pair != (0, 0)]
    if not touched:
        return x
    least = min(min(pair) for pair in pairs)
    most = max(max(pair) for pair in pairs)
    first = 1 not in touched
    if rank < 3 or 0 in touched or (not first and rank - 1 in touched) or least < 0 < most:
        return c.gather([x], c.shape)
    spatial = tuple(pairs[2:] if first else pairs[1:-1])
    if least < 0:
        cropped = tuple((-before, -after) for before, after in spatial)
        return c.emit(shapes.Crop(cropped, channels_first=first), [x])
    return c.emit(shapes.Pad(spatial, channels_first=first), [x])


@move(
    *(f"upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d")),
    *(f"upsample_{kind}" for kind in ("bilinear2d", "bicubic2d", "trilinear3d")),
    *(f"_upsample_{kind}" for kind in ("bilinear2d_aa", "bicubic2d_aa")),
    *(f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)),
)
def resize(c: Call) -> Ref:
    x = c.x
    method = next(m for m in ("nearest", "bilinear", "bicubic", "linear") if m in c.base)
    before, after = c.dims(x)[2:], c.shape[2:]
    scales = c.get("scale_factors")
    if scales and all(m == n * s for n, m, s in zip(before, after, scales, strict=True)):
        factors = tuple(m // n for n, m in zip(before, after, strict=True))
        if all(m % n == 0 for n, m in zip(before, after, strict=True)):
            return c.emit(shapes.Upsample(factors, method, channels_first=True), [x])
    return c.emit(shapes.Resize(after, method, channels_first=True), [x])


@move("pixel_shuffle")
def pixel_shuffle(c: Call) -> Ref:
    operator = shapes.DepthToSpace(c["upscale_factor"], channels_first=True)
    return c.emit(operator, [c.x])


@move("pixel_unshuffle")
def pixel_unshuffle(c: Call) -> Ref:
    operator = shapes.SpaceToDepth(c["downscale_factor"], channels_first=True)
    return c.emit(operator, [c.x])


@move("channel_shuffle")
def channel_shuffle(c: Call) -> Ref:
    return c.emit(shapes.ChannelShuffle(c["groups"], channels_first=True), [c.x])


@move("expand", "broadcast_to")
def expand(c: Call) -> Ref:
    x = c.x
    return x if c.dims(x) == c.shape else c.gather([x], c.shape)


def tensors_of(values: Sequence[Any]) -> list[Any]:
    """The tensors among arguments, lists of them opened."""
    from convcalc.readers.torch_graph import flat

    return list(flat(values))


@move(
    *("repeat", "tile", "repeat_interleave", "roll", "flip", "rot90", "index", "gather"),
    *("index_select", "take_along_dim", "unfold", "im2col", "diagonal", "take", "masked_select"),
    *("index_put", "index_copy", "scatter", "scatter_add", "slice_scatter", "select_scatter"),
    *("index_fill", "index_add", "masked_scatter", "sort", "argsort", "topk", "col2im", "one_hot"),
    *("view_as_complex", "real", "imag", "diag_embed", "meshgrid", "broadcast_tensors"),
    *("as_strided", "unfold_copy"),
)
def gather(c: Call) -> Any:
    inputs = [c.builder.tensor(value, c) for value in tensors_of(list(c.args.values()))]
    made = [c.gather(inputs, shape) for shape in c.shapes]
    return made if len(made) > 1 or isinstance(c.node.meta["val"], (list, tuple)) else made[0]
