"""Small constants computed ahead: the chains by which exporters make shapes, sizes and axes.

`Shape`, `Gather`, `Concat`, `Reshape` and their like on a few numbers have the values that they
will have at run time, because all shapes are known.  Values are NumPy arrays of at most
`MAX_VALUES` elements; whatever would be larger is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from convcalc.readers.onnx_wire import DATA_TYPES, MAX_VALUES

Attributes = dict[str, Any]

#: Element-wise functions of one and of two values by their names in NumPy.
UNARY = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Neg": "negative",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Round": "rint",
    "Sign": "sign",
    "Sqrt": "sqrt",
}
BINARY = {
    "Add": "add",
    "And": "logical_and",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Max": "maximum",
    "Min": "minimum",
    "Mul": "multiply",
    "Or": "logical_or",
    "Pow": "power",
    "Sub": "subtract",
}
REDUCTIONS = {
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
}


def array(values: Any, data_type: int, dims: tuple[int, ...]) -> Any:
    """The stored numbers as an array: whole numbers as int64, others as float64."""
    import numpy as np

    kind = DATA_TYPES[data_type][0]
    dtype = "float64" if kind == "float" else "bool" if kind == "bool" else "int64"
    with np.errstate(all="ignore"):
        return np.array(values).astype(dtype).reshape(dims)


def fold(
    op_type: str, inputs: Sequence[Any], attributes: Attributes, outputs: int
) -> tuple[Any, ...] | None:
    """The values of a node's outputs from those of its inputs; None if they are not computed.

    An input of None is left out.  Attributes that older versions had instead of inputs are given
    under the input's name.  Nothing is raised: what does not go together is not computed.
    """
    rule = RULES.get(op_type)
    if rule is None:
        return None
    import numpy as np

    try:
        with np.errstate(all="ignore"):
            made = rule(np, list(inputs), attributes)
            found = made if isinstance(made, list) else [made]
            values = [np.asarray(value) for value in found]
    except (
        *(ArithmeticError, AttributeError, IndexError, KeyError, LookupError, MemoryError),
        *(TypeError, ValueError),
    ):
        return None
    if any(value.size > MAX_VALUES or value.dtype.kind not in "bif" for value in values):
        return None
    return tuple(values) if len(values) >= outputs else None


def ints(value: Any) -> list[int]:
    """An array or list as Python integers."""
    return [int(item) for item in (value.ravel() if hasattr(value, "ravel") else value)]


def limited(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that is small enough to be computed.

    Raises:
        ValueError: it is not.
    """
    if any(size < 0 for size in shape) or prod(shape) > MAX_VALUES:
        raise ValueError(shape)
    return tuple(shape)


def unary(name: str) -> Callable[..., Any]:
    return lambda np, x, a: getattr(np, name)(x[0])


def binary(name: str) -> Callable[..., Any]:
    def apply(np: Any, x: list[Any], a: Attributes) -> Any:
        found = x[0]
        for other in x[1:]:
            limited(np.broadcast_shapes(found.shape, other.shape))
            found = getattr(np, name)(found, other)
        return found

    return apply


def reduction(name: str) -> Callable[..., Any]:
    def apply(np: Any, x: list[Any], a: Attributes) -> Any:
        axes = x[1] if len(x) > 1 and x[1] is not None else a.get("axes")
        axis = tuple(ints(axes)) if axes is not None and len(axes) else None
        return getattr(x[0], name)(axis=axis, keepdims=bool(a.get("keepdims", 1)))

    return apply


def divide(np: Any, x: list[Any], a: Attributes) -> Any:
    """Whole numbers are divided towards zero, as ONNX does."""
    limited(np.broadcast_shapes(x[0].shape, x[1].shape))
    if x[0].dtype.kind == "f" or x[1].dtype.kind == "f":
        return x[0] / x[1]
    return np.sign(x[0]) * np.sign(x[1]) * (abs(x[0]) // abs(x[1]))


def modulo(np: Any, x: list[Any], a: Attributes) -> Any:
    limited(np.broadcast_shapes(x[0].shape, x[1].shape))
    return np.fmod(x[0], x[1]) if a.get("fmod") else np.mod(x[0], x[1])


def cast(np: Any, x: list[Any], a: Attributes) -> Any:
    kind = DATA_TYPES[a["to"]][0]
    if kind == "float":
        return x[0].astype("float64")
    if kind == "bool":
        return x[0].astype(bool)
    if x[0].dtype.kind == "f" and not np.isfinite(x[0]).all():
        raise ValueError("not finite")
    return x[0].astype("int64")


def reshape(np: Any, x: list[Any], a: Attributes) -> Any:
    target = ints(x[1] if len(x) > 1 else a["shape"])
    if not a.get("allowzero"):
        target = [x[0].shape[i] if size == 0 else size for i, size in enumerate(target)]
    return x[0].reshape(target)


def unsqueeze(np: Any, x: list[Any], a: Attributes) -> Any:
    axes = ints(x[1] if len(x) > 1 else a["axes"])
    return np.expand_dims(x[0], tuple(axes))


def squeeze(np: Any, x: list[Any], a: Attributes) -> Any:
    axes = x[1] if len(x) > 1 and x[1] is not None else a.get("axes")
    return np.squeeze(x[0], None if axes is None else tuple(ints(axes)))


def gather(np: Any, x: list[Any], a: Attributes) -> Any:
    axis = a.get("axis", 0)
    rest = [size for i, size in enumerate(x[0].shape) if i != axis % x[0].ndim]
    limited([*rest, x[1].size])
    return np.take(x[0], x[1], axis=axis)


def gather_elements(np: Any, x: list[Any], a: Attributes) -> Any:
    return np.take_along_axis(x[0], x[1], axis=a.get("axis", 0))


def cut(np: Any, x: list[Any], a: Attributes) -> Any:
    """`Slice`; version 1 has attributes for what are inputs from 10 on."""
    given = [*x[1:], None, None, None, None]
    starts = ints(given[0] if len(x) > 1 else a["starts"])
    ends = ints(given[1] if len(x) > 2 else a["ends"])
    axes = given[2] if given[2] is not None else a.get("axes", range(len(starts)))
    steps = given[3] if given[3] is not None else [1] * len(starts)
    keys = [slice(None)] * x[0].ndim
    for start, end, axis, step in zip(starts, ends, ints(axes), ints(steps), strict=True):
        first, last = start, end
        if step < 0 and end < -x[0].shape[axis]:
            last = None  # type: ignore[assignment]
        keys[axis] = slice(first, last, step)
    return x[0][tuple(keys)]


def concat(np: Any, x: list[Any], a: Attributes) -> Any:
    if sum(value.size for value in x) > MAX_VALUES:
        raise ValueError("too large")
    return np.concatenate(x, axis=a.get("axis", 1))


def split(np: Any, x: list[Any], a: Attributes) -> Any:
    axis = a.get("axis", 0)
    sizes = x[1] if len(x) > 1 and x[1] is not None else a.get("split")
    if sizes is None:
        pieces = a["outputs"]
        each = -(-x[0].shape[axis] // pieces)
        marks = [each * i for i in range(1, pieces)]
    else:
        marks = list(np.cumsum(ints(sizes))[:-1])
    return list(np.split(x[0], marks, axis=axis))


def constant_of_shape(np: Any, x: list[Any], a: Attributes) -> Any:
    value = a.get("value")
    fill = value if value is not None else np.zeros(1)
    return np.full(limited(ints(x[0])), fill.ravel()[0])


def sequence(np: Any, x: list[Any], a: Attributes) -> Any:
    start, limit, step = (value.ravel()[0] for value in x[:3])
    limited([max(int(np.ceil((limit - start) / step)), 0)])
    return np.arange(start, limit, step)


def expand(np: Any, x: list[Any], a: Attributes) -> Any:
    shape = limited(np.broadcast_shapes(x[0].shape, limited_rank(ints(x[1]))))
    return np.broadcast_to(x[0], shape)


def limited_rank(shape: list[int]) -> tuple[int, ...]:
    """A shape of not too many axes, all small."""
    limited(shape)
    if len(shape) > 32:
        raise ValueError(shape)
    return tuple(shape)


def tile(np: Any, x: list[Any], a: Attributes) -> Any:
    times = ints(x[1])
    limited([size * count for size, count in zip(x[0].shape, times, strict=True)])
    return np.tile(x[0], times)


def where(np: Any, x: list[Any], a: Attributes) -> Any:
    limited(np.broadcast_shapes(*(value.shape for value in x)))
    return np.where(*x)


def transpose(np: Any, x: list[Any], a: Attributes) -> Any:
    return np.transpose(x[0], a.get("perm"))


def clip(np: Any, x: list[Any], a: Attributes) -> Any:
    low = x[1] if len(x) > 1 else a.get("min")
    high = x[2] if len(x) > 2 else a.get("max")
    if low is None and high is None:
        return x[0]
    return np.clip(x[0], low, high)


def cumulative(np: Any, x: list[Any], a: Attributes) -> Any:
    if a.get("exclusive") or a.get("reverse"):
        raise ValueError("not supported")
    return np.cumsum(x[0], axis=int(x[1]))


def scatter(np: Any, x: list[Any], a: Attributes) -> Any:
    """`ScatterND` without a reduction."""
    if a.get("reduction", "none") != "none":
        raise ValueError("not supported")
    found = x[0].copy()
    found[tuple(np.moveaxis(x[1], -1, 0))] = x[2]
    return found


def non_zero(np: Any, x: list[Any], a: Attributes) -> Any:
    return np.array(np.nonzero(x[0]), dtype="int64")


RULES: dict[str, Callable[..., Any]] = {
    **{name: unary(function) for name, function in UNARY.items()},
    **{name: binary(function) for name, function in BINARY.items()},
    **{name: reduction(method) for name, method in REDUCTIONS.items()},
    "Cast": cast,
    "Clip": clip,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "CumSum": cumulative,
    "Div": divide,
    "Expand": expand,
    "Flatten": lambda np, x, a: x[0].reshape(prod(x[0].shape[: a.get("axis", 1)]), -1),
    "Gather": gather,
    "GatherElements": gather_elements,
    "Identity": lambda np, x, a: x[0],
    "Mod": modulo,
    "NonZero": non_zero,
    "Range": sequence,
    "Reshape": reshape,
    "ScatterND": scatter,
    "Size": lambda np, x, a: np.array(x[0].size),
    "Slice": cut,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
