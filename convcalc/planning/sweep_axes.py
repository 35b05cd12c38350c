"""The axes of a sweep: what people give, checked and made plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from convcalc.errors import UsageError
from convcalc.network import Network
from convcalc.ops.base import frozen, suggestion
from convcalc.readers.sizes import by_name, laid_out
from convcalc.settings import DTYPES, ENGINES, OPTIMIZERS, choose

#: Values of one axis, rows of a sweep, and a batch or size: more is a mistake or takes years.
MAX_VALUES = 10_000_000
MAX_ROWS = 10**12
MAX_SIZE = 2**31 - 1

Sizes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Axes:
    """The values along each axis; every combination of them is a row."""

    batch: Sequence[int]
    input: tuple[Sizes, ...]
    """Sizes without the batch in the network's own order, by input; {}: as they are."""
    dtype: tuple[str, ...]
    optimizer: tuple[str, ...]
    engine: tuple[str, ...]
    width: tuple[float, ...] | None
    fields: dict[str, tuple[Any, ...]]
    """"layer.attribute" -> values."""


def make_axes(
    net: Network,
    *,
    batch: Any = 1,
    input: Any = None,
    dtype: Any = "float32",
    optimizer: Any = "none",
    engine: Any = "textbook",
    width: Any = None,
    fields: Mapping[str, Any] | None = None,
) -> Axes:
    """The axes that people mean; a single value is an axis of one.

    Raises:
        UsageError: a value makes no sense, is given twice, or there are too many.
        ModelError: a size does not belong to the network's inputs.
    """
    axes = Axes(
        batch=batches(batch),
        input=tuple(sizes(net, given) for given in several(input, "input", inputs_of)),
        dtype=names(dtype, DTYPES, "dtype"),
        optimizer=names(optimizer, OPTIMIZERS, "optimizer"),
        engine=names(engine, ENGINES, "engine"),
        width=None if width is None else widths(width),
        fields={name: field_values(net, name, given) for name, given in (fields or {}).items()},
    )
    if len({frozenset(given) for given in axes.input}) > 1:
        raise UsageError("every input size must be one of the same inputs")
    rows = count(axes)
    if rows > MAX_ROWS:
        raise UsageError(f"these axes make {rows:,} configurations; at most {MAX_ROWS:,}")
    return axes


def count(axes: Axes) -> int:
    """How many combinations there are."""
    rows = len(axes.batch) * len(axes.input) * len(axes.dtype) * len(axes.optimizer)
    rows *= len(axes.engine) * len(axes.width or (1,))
    for values in axes.fields.values():
        rows *= len(values)
    return rows


def several(given: Any, what: str, single: Any) -> Sequence[Any]:
    """The values of an axis.

    Raises:
        UsageError: there are none, too many, or no end of them.
    """
    if single(given):
        return (given,)
    if not isinstance(given, Iterable) or not hasattr(given, "__len__"):
        raise UsageError(f"{what} must be a value, a list or a range with an end")
    values = given if isinstance(given, range) else list(given)
    if not values:
        raise UsageError(f"{what} has no values")
    if len(values) > MAX_VALUES:
        raise UsageError(f"{what} has {len(values):,} values; at most {MAX_VALUES:,}")
    return values


def distinct(values: Sequence[Any], what: str) -> Sequence[Any]:
    """The values if none is there twice: a row would be, too.

    Raises:
        UsageError: one is.
    """
    seen = set()
    for value in values:
        if value in seen:
            raise UsageError(f"{what} has {value!r} twice")
        seen.add(value)
    return values


def batches(given: Any) -> Sequence[int]:
    """Batches: numbers from 1."""
    values = several(given, "batch", lambda value: isinstance(value, int))
    if not isinstance(values, range):
        values = [getattr(value, "item", lambda value=value: value)() for value in values]
    for value in (values[0], values[-1]) if isinstance(values, range) else values:
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise UsageError(f"batch must be an integer from 1 to {MAX_SIZE:,}, got {value!r}")
    return values if isinstance(values, range) else tuple(distinct(values, "batch"))


def inputs_of(given: Any) -> bool:
    """Whether this is one input size: (224, 224, 3), by name, or none."""
    if given is None or isinstance(given, Mapping):
        return True
    return isinstance(given, (tuple, list)) and all(isinstance(size, int) for size in given)


def sizes(net: Network, given: Any) -> Sizes:
    """The sizes of a network's inputs as it has them."""
    found = {}
    for name, size in by_name(given, list(net.inputs), net.name).items():
        rank = len(net.inputs[name].dims) - 1
        if len(size) != rank:
            raise UsageError(f"input '{name}' of '{net.name}' takes {rank} sizes, not {len(size)}")
        for number in size:
            if type(number) is not int or not 1 <= number <= MAX_SIZE:
                raise UsageError(
                    f"input '{name}': sizes are integers from 1 to {MAX_SIZE:,}, got {number!r}"
                )
        found[name] = laid_out(size, net.channels_first)
    return found


def names(given: Any, known: Any, what: str) -> tuple[str, ...]:
    """Names, each of which must be known."""
    values = several(given, what, lambda value: isinstance(value, str))
    return tuple(distinct([choose(value, known, what) for value in values], what))


def widths(given: Any) -> tuple[float, ...]:
    """Width multipliers."""
    values = several(given, "width", lambda value: isinstance(value, (int, float)))
    for value in values:
        if not isinstance(value, (int, float)) or not 0 < value <= 1000:
            raise UsageError(f"width must be a number above 0 and up to 1000, got {value!r}")
    return tuple(distinct([float(value) for value in values], "width"))


def field_values(net: Network, name: str, given: Any) -> tuple[Any, ...]:
    """The values of an attribute of some layers."""
    affected(net, name)
    values = several(given, name, lambda value: isinstance(value, (str, int, float)))
    return tuple(distinct([frozen(value) for value in values], name))


def affected(net: Network, name: str) -> tuple[list[str], str]:
    """The ops that "layer.attribute" means, and the attribute; "*" stands for any letters.

    Raises:
        UsageError: there is no such layer, or it has no such attribute.
    """
    layer, separator, attribute = name.rpartition(".")
    if not separator:
        raise UsageError(f"'{name}' must be LAYER.ATTRIBUTE, as in conv1.filters")
    meant = [op for op in net.ops if layer in (op.name, op.layer)] or [
        op for op in net.ops if fnmatchcase(op.name, layer) or fnmatchcase(op.layer, layer)
    ]
    if not meant:
        hint = suggestion(layer, {op.layer for op in net.ops})
        raise UsageError(f"'{name}': '{net.name}' has no layer '{layer}'{hint}")
    known = [{field.name for field in dataclasses.fields(op.operator)} for op in meant]
    found = [op.name for op, fields in zip(meant, known, strict=True) if attribute in fields]
    if not found:
        every = sorted(set[str]().union(*known))
        hint = suggestion(attribute, every) or f"; known: {', '.join(every)}"
        raise UsageError(f"'{name}': '{layer}' has no attribute '{attribute}'{hint}")
    return found, attribute
