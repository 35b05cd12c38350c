"""Layers and functions that rearrange or reduce, and the functions of tf.keras."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from convcalc.ops import activation as act
from convcalc.ops import merge
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call, Rule
from convcalc.readers.keras.rules.elementwise import one, plain
from convcalc.tensors import DTYPE_BYTES


def concatenate(c: Call) -> list[Ref]:
    return [c.emit(merge.Concat(c.get("axis", -1)))]


def reshape(c: Call) -> list[Ref]:
    if "target_shape" in c.config:
        return [c.emit(shapes.Reshape(c.need("target_shape")))]
    target = c.get("newshape", c.kwargs.get("newshape"))
    if not isinstance(target, (tuple, list)):
        return c.unknown()
    sizes = tuple(-1 if n is None else n for n in target)
    # The batch of one stands in front; the -1 is its place where it is the only one.
    return [c.emit(shapes.Reshape(sizes, whole=True))]


def permute(c: Call) -> list[Ref]:
    order = c.need("dims")
    return [c.emit(shapes.Permute((0, *order) if isinstance(order, tuple) else order))]


def transpose(c: Call) -> list[Ref]:
    axes, dims = c.get("axes"), c.dims()
    if dims is None:
        return c.unknown()
    order = tuple(range(len(dims)))[::-1] if axes is None else tuple(a % len(dims) for a in axes)
    return [c.emit(shapes.Permute(order))]


def squeeze(c: Call) -> list[Ref]:
    return [c.emit(shapes.Squeeze(c.get("axis")))]


def expand_dims(c: Call) -> list[Ref]:
    axis = one(c.get("axis", -1))
    return [c.emit(shapes.ExpandDims(axis))]


def split(c: Call) -> list[Ref]:
    dims, axis, parts = c.dims(), c.get("axis", 0), c.get("indices_or_sections")
    if dims is None or type(axis) is not int or not -len(dims) <= axis < len(dims):
        return c.unknown()
    total = dims[axis]
    if type(parts) is int and parts > 0:
        sizes = (total // parts,) * parts
    elif isinstance(parts, tuple):
        marks = (0, *parts, total)
        sizes = tuple(b - a for a, b in pairwise(marks))
    else:
        return c.unknown()
    found = c.emit(shapes.Split(sizes, axis))
    return [found, *(Ref(f"{found}:{i}") for i in range(1, len(sizes)))]


def reduction(kind: str) -> Rule:
    return lambda c: (
        [c.emit(shapes.Reduce(kind, c.get("axis"), c.get("keepdims", False)))]
        if c.get("axis") is not None
        else c.unknown()
    )


def stack(c: Call) -> list[Ref]:
    axis = c.get("axis", 0)
    parts = [c.emit(shapes.ExpandDims(axis), [ref], f"part{i}") for i, ref in enumerate(c.inputs)]
    return [c.emit(merge.Concat(axis), parts)]


def cast(c: Call) -> list[Ref]:
    dtype = c.get("dtype")
    whole = isinstance(dtype, str) and dtype in DTYPE_BYTES and "float" not in dtype
    return [c.emit(act.Cast(dtype if whole else "float"))]


def moved(c: Call) -> list[Ref]:
    """swapaxes and moveaxis."""
    dims = c.dims()
    if dims is None:
        return c.unknown()
    order = list(range(len(dims)))
    if c.type == "Swapaxes":
        one_, other = c.whole("axis1"), c.whole("axis2")
        order[one_], order[other] = order[other], order[one_]
    else:
        target = c.whole("destination")
        axis = order.pop(c.whole("source"))
        order.insert(target % len(dims), axis)
    return [c.emit(shapes.Permute(tuple(order)))]


def placed(c: Call) -> list[Ref]:
    """Elements at other places, of which there may be more: pad, tile, repeat, broadcast, flip."""
    dims = c.dims()
    if dims is None or dims[0] != 1:
        return c.unknown()
    sizes = list(dims)
    if c.type == "Tile":
        times = c.need("repeats")
        sizes = [n * k for n, k in zip(dims, times, strict=True)]
    elif c.type == "Repeat":
        axis, times = c.whole("axis"), c.whole("repeats")
        sizes[axis] *= times
    elif c.type == "BroadcastTo":
        sizes = [1, *c.need("shape")[1:]]
    elif c.type == "Pad":
        sizes = [n + sum(sides) for n, sides in zip(dims, c.need("pad_width"), strict=True)]
    if sizes[0] != 1:
        return c.unknown()
    return [c.emit(shapes.Gather(tuple(sizes)))]


def combined(name: str, dtype: str = "float") -> Rule:
    """Elements that meet by another function than arithmetic; numbers among them are no tensors."""

    def rule(c: Call) -> list[Ref]:
        if len(c.inputs) > 1 or dtype != "float":
            return [c.emit(merge.Combine(name, dtype))]
        return [c.emit(act.Function(name))]

    return rule


def get_item(c: Call) -> list[Ref]:
    """``x[key]`` with whole numbers, slices, an ellipsis, new axes; the batch is left alone."""
    dims = c.dims()
    key = c.args[1] if len(c.args) > 1 else c.kwargs.get("key")
    keys = list(key) if isinstance(key, (list, tuple)) else [key]
    return c.unknown() if dims is None else sliced(c, keys, dims)


def sliced(c: Call, keys: list[Any], dims: tuple[Any, ...]) -> list[Ref]:
    """The ops of ``x[keys]``."""
    rest = [k for k in keys if isinstance(k, dict) and k.get("class_name") == "__ellipsis__"]
    missing = len(dims) - sum(k is not None for k in keys) + len(rest)
    if missing < 0 or len(rest) > 1:
        return c.unknown()
    every = {"class_name": "__slice__", "config": {}}
    at = keys.index(rest[0]) if rest else len(keys)
    keys = [*keys[:at], *[every] * missing, *keys[at + len(rest) :]]
    steps: list[tuple[int, int, int, int]] = []
    gone: list[int] = []
    new: list[int] = []
    axis = 0
    for part in keys:
        if part is None:
            # Positions in the result, whose axes before this one have been counted.
            new.append(axis - len(gone) + len(new))
            continue
        size = dims[axis]
        if isinstance(part, dict) and part.get("class_name") == "__slice__":
            limits = part.get("config")
            if not isinstance(limits, dict):
                return c.unknown()
            ends = [limits.get(name) for name in ("start", "stop", "step")]
            if any(end is not None and type(end) is not int for end in ends) or ends[2] == 0:
                return c.unknown()
            if axis == 0 and ends != [None, None, None]:
                return c.unknown()
            span = range(*slice(*ends).indices(size))
        elif type(part) is int and axis and -size <= part < size:
            span = range(part % size, part % size + 1)
            gone.append(axis)
        else:
            return c.unknown()
        if span != range(size):
            steps.append((axis, len(span), span.start, span.step))
        axis += 1
    todo: list[tuple[str, Operator]] = [
        (f"axis{axis}", shapes.Slice(axis, length, start, step))
        for axis, length, start, step in steps
    ]
    if gone:
        todo.append(("squeeze", shapes.Squeeze(tuple(gone))))
    todo.extend((f"new{axis}", shapes.ExpandDims(axis)) for axis in new)
    tensor = c.inputs[0]
    for number, (suffix, operator) in enumerate(todo, 1):
        tensor = c.emit(operator, [tensor], suffix if number < len(todo) else "")
    return [tensor if todo else c.emit(act.Identity())]


def tf_slice(c: Call) -> list[Ref]:
    """The slices of tf.keras, which writes them without their classes."""
    dims, keys = c.dims(), c.kwargs.get("slice_spec")
    if dims is None or not isinstance(keys, (list, tuple)):
        return c.unknown()
    named = [
        {"class_name": "__slice__", "config": k} if isinstance(k, dict) and "start" in k else k
        for k in keys
    ]
    return sliced(c, named, dims)


#: Functions that tf.keras wraps in a TFOpLambda -> the class that does the same in Keras 3.
TF_FUNCTIONS = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract",
    "math.multiply": "Multiply", "math.truediv": "Divide", "math.divide": "Divide",
    "math.maximum": "Maximum", "math.minimum": "Minimum", "linalg.matmul": "Matmul",
    "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.silu": "Silu", "nn.gelu": "Gelu",
    "nn.softmax": "Softmax", "math.sigmoid": "Sigmoid", "math.tanh": "Tanh", "math.exp": "Exp",
    "math.sqrt": "Sqrt", "math.square": "Square", "math.abs": "Abs", "math.negative": "Negative",
    "clip_by_value": "Clip", "identity": "Identity", "stop_gradient": "StopGradient",
    "concat": "Concatenate", "reshape": "Reshape", "expand_dims": "ExpandDims",
    "transpose": "Transpose", "squeeze": "Squeeze", "split": "Split", "stack": "Stack",
    "cast": "Cast", "pad": "Pad", "image.resize": "Resize", "math.reduce_mean": "Mean",
    "math.reduce_sum": "Sum", "math.reduce_max": "Max", "math.reduce_min": "Min",
}  # fmt: skip

#: Arguments that have other names there.
TF_ARGUMENTS = {
    "shape": "newshape",
    "perm": "axes",
    "num_or_size_splits": "indices_or_sections",
    "paddings": "pad_width",
}


def tf_function(c: Call) -> list[Ref]:
    """A function of TensorFlow in a model of tf.keras."""
    function = c.get("function")
    name = function.removeprefix("compat.v1.") if isinstance(function, str) else ""
    kind = TF_FUNCTIONS.get(name)
    if kind is None:
        return c.unknown(str(function))
    config = {TF_ARGUMENTS.get(key, key): value for key, value in c.kwargs.items()}
    sizes = config.get("indices_or_sections")
    if isinstance(sizes, list):
        # TensorFlow gives the sizes of the pieces, Keras 3 where they end.
        config["indices_or_sections"] = list(accumulate(sizes))[:-1]
    return c.builder.rules[kind](replace(c, type=kind, config=config))


RULES: dict[str, Rule] = {
    "Concatenate": concatenate,
    "Reshape": reshape,
    "Flatten": plain(shapes.Flatten()),
    "Permute": permute,
    "Transpose": transpose,
    "RepeatVector": lambda c: [c.emit(shapes.Repeat(c.whole("n")))],
    "Squeeze": squeeze,
    "ExpandDims": expand_dims,
    "Split": split,
    "Stack": stack,
    "Cast": cast,
    "StopGradient": plain(act.Identity()),
    "Copy": plain(act.Identity()),
    **dict.fromkeys(("Swapaxes", "Moveaxis"), moved),
    **dict.fromkeys(("Pad", "Tile", "Repeat", "BroadcastTo", "Flip"), placed),
    "GetItem": get_item,
    "TFOpLambda": tf_function,
    "SlicingOpLambda": tf_slice,
    **{
        kind: combined(kind.lower(), "bool")
        for kind in (
            "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd",
            "LogicalOr", "LogicalXor", "LogicalNot",
        )
    },
    **{
        kind: combined(kind.lower())
        for kind in ("Where", "Mod", "FloorDivide", "Arctan2", "Hypot")
    },
    **{
        kind: reduction(kind.lower())
        for kind in (
            "Mean", "Sum", "Max", "Min", "Prod", "Argmax", "Argmin", "Std", "Var", "Amax", "Amin",
            "Logsumexp",
        )
    },
}  # fmt: skip
