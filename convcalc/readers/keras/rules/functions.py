"""Layers and functions that rearrange or reduce, and the functions of tf.keras."""

from __future__ import annotations

from itertools import pairwise

from convcalc.ops import activation as act
from convcalc.ops import merge
from convcalc.ops import shape as shapes
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call, Rule
from convcalc.readers.keras.rules.elementwise import one, plain


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


def get_item(c: Call) -> list[Ref]:
    """``x[key]`` with whole numbers and slices; the batch is left alone."""
    dims = c.dims()
    key = c.args[1] if len(c.args) > 1 else c.kwargs.get("key")
    keys = list(key) if isinstance(key, (list, tuple)) else [key]
    if dims is None or len(keys) > len(dims):
        return c.unknown()
    steps: list[tuple[int, int, int, int]] = []
    gone: list[int] = []
    for axis, part in enumerate(keys):
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
    tensor = c.inputs[0]
    for number, (axis, length, start, step) in enumerate(steps):
        suffix = f"axis{axis}" if gone or number + 1 < len(steps) else ""
        tensor = c.emit(shapes.Slice(axis, length, start, step), [tensor], suffix)
    if gone:
        return [c.emit(shapes.Squeeze(tuple(gone)), [tensor])]
    return [tensor if steps else c.emit(act.Identity())]


#: Functions that tf.keras wraps in a TFOpLambda -> the class that does the same in Keras 3.
TF_FUNCTIONS = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract",
    "math.multiply": "Multiply", "math.truediv": "Divide", "math.divide": "Divide",
    "math.maximum": "Maximum", "math.minimum": "Minimum", "linalg.matmul": "Matmul",
    "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.silu": "Silu", "nn.gelu": "Gelu",
    "nn.softmax": "Softmax", "math.sigmoid": "Sigmoid", "math.tanh": "Tanh", "math.exp": "Exp",
    "math.sqrt": "Sqrt", "math.square": "Square", "math.abs": "Abs", "math.negative": "Negative",
    "clip_by_value": "Clip", "identity": "Identity",
}  # fmt: skip


def tf_function(c: Call) -> list[Ref]:
    """A function of TensorFlow in a model of tf.keras."""
    function = c.get("function")
    kind = TF_FUNCTIONS.get(function) if isinstance(function, str) else None
    return c.unknown(str(function)) if kind is None else c.builder.rules[kind](c)


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
    "GetItem": get_item,
    "TFOpLambda": tf_function,
    **{
        kind: reduction(kind.lower())
        for kind in ("Mean", "Sum", "Max", "Min", "Prod", "Argmax", "Argmin")
    },
}  # fmt: skip
