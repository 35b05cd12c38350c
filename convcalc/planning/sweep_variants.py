"""The networks of a sweep: one for each combination of input size, width and fields of the spec.

Their costs are computed for many at once, by the operators' own formulas on arrays of sizes; where
arrays cannot be taken (one of the networks does not fit together, a total does not fit 64 bits, an
operator decides by a size), for each half of them, down to a single network on integers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convcalc.analysis.costs import add_up
from convcalc.arithmetic import INT64_MAX, total
from convcalc.errors import ConvcalcError
from convcalc.network import Network
from convcalc.planning.sweep_axes import Axes, affected
from convcalc.planning.sweep_peaks import envelope
from convcalc.planning.sweep_widen import widen
from convcalc.tensors import TensorSpec

Ints = npt.NDArray[np.int64]

#: What code that is not made for arrays says to them.
NOT_FOR_ARRAYS = (
    ConvcalcError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)

COMPLETE, PARTIAL, IMPOSSIBLE = range(3)
STATUS = ("complete", "partial", "impossible")


class Costs(NamedTuple):
    """What does not depend on batch, dtype, optimizer or engine, for each of some networks."""

    params: Ints
    trainable: Ints
    macs: Ints
    status: Ints
    book: dict[int, Book]
    """By the width of a float in bytes."""


class Book(NamedTuple):
    """The textbook's figures as lines in the batch: fixed bytes, and bytes of one sample.

    The arrays of inference have a row for each line that is the highest at some batch.
    """

    inference: tuple[Ints, Ints]
    training: tuple[Ints, Ints]


class Variants:
    """The networks of a sweep by their number: fields outermost, then width, input innermost."""

    def __init__(self, net: Network, axes: Axes) -> None:
        self.net = net
        self.names = list(axes.fields)
        self.values: list[Sequence[Any]] = [axes.fields[name] for name in self.names]
        self.ops = [affected(net, name) for name in self.names]
        self.widths = axes.width
        self.inputs = axes.input
        self.lengths = [*map(len, self.values), len(axes.width or (1,)), len(axes.input)]
        self.high = max(axes.batch)
        self.problems: dict[str, None] = {}
        """In words why some networks are impossible; the first of them only."""

    def __len__(self) -> int:
        found = 1
        for length in self.lengths:
            found *= length
        return found

    def indices(self, numbers: Any) -> list[Any]:
        """For each axis the positions of some networks, which may be an array of numbers."""
        found = []
        for length in reversed(self.lengths):
            found.append(numbers % length)
            numbers = numbers // length
        return found[::-1]

    def network(self, numbers: int | Ints) -> Network:
        """One network, or for an array of numbers a network on arrays of sizes.

        Raises:
            ModelError: it does not fit together.
        """
        *fields, width, size = self.indices(numbers)
        ops = list(self.net.ops)
        if self.widths is not None:
            ops = widen(self.net, chosen(self.widths, width))
        if fields:
            place = {op.name: index for index, op in enumerate(ops)}
            for values, index, (names, attribute) in zip(
                self.values, fields, self.ops, strict=True
            ):
                value = chosen(values, index)
                for name in names:
                    op = ops[place[name]]
                    changed = dataclasses.replace(op.operator, **{attribute: value})
                    ops[place[name]] = dataclasses.replace(op, operator=changed)
        inputs = dict(self.net.inputs)
        for name in self.inputs[0]:
            columns = zip(*(sizes[name] for sizes in self.inputs), strict=True)
            shape = (1, *(chosen(column, size) for column in columns))
            inputs[name] = inputs[name]._replace(shape=shape)
        return Network(self.net.name, tuple(ops), inputs, self.net.outputs, self.net.layout)

    def costs(self, first: int, last: int, floats: Sequence[int]) -> Costs:
        """The costs of networks `first` up to and without `last`; floats of these widths."""
        parts = list(self.parts(np.arange(first, last), floats))
        if len(parts) == 1:
            return parts[0]
        return Costs(
            params=np.concatenate([part.params for part in parts]),
            trainable=np.concatenate([part.trainable for part in parts]),
            macs=np.concatenate([part.macs for part in parts]),
            status=np.concatenate([part.status for part in parts]),
            book={width: joined([part.book[width] for part in parts]) for width in floats},
        )

    def parts(self, numbers: Ints, floats: Sequence[int]) -> Iterator[Costs]:
        """The costs of some networks, in as few parts as can be computed at once."""
        if len(numbers) == 1:
            yield self.one(int(numbers[0]), floats)
            return
        try:
            yield measured(self.network(numbers), len(numbers), floats, self.high)
        except NOT_FOR_ARRAYS:
            middle = len(numbers) // 2
            yield from self.parts(numbers[:middle], floats)
            yield from self.parts(numbers[middle:], floats)

    def one(self, number: int, floats: Sequence[int]) -> Costs:
        """The costs of one network; an impossible one says why in `problems`."""
        try:
            return measured(self.network(number), 1, floats, self.high)
        except (ConvcalcError, OverflowError) as error:
            if len(self.problems) < 20:
                self.problems[f"{self.describe(number)}: {error}"] = None
            unknown = np.array([-1], np.int64)
            line = (unknown.reshape(1, 1), np.zeros((1, 1), np.int64))
            book = Book(line, (line[0][0], line[1][0]))
            status = np.array([IMPOSSIBLE], np.int64)
            return Costs(unknown, unknown, unknown, status, dict.fromkeys(floats, book))

    def describe(self, number: int) -> str:
        """A network in words: "input 8x8x3, conv1.filters 5"."""
        *fields, width, size = self.indices(number)
        words = [self.input_text(size)]
        if self.widths is not None:
            words.append(f"width {self.widths[width]:g}")
        words += [
            f"{name} {values[index]}"
            for name, values, index in zip(self.names, self.values, fields, strict=True)
        ]
        return ", ".join(words)

    def input_text(self, size: int) -> str:
        """An input size in words."""
        return f"input {input_label(self.net, self.inputs[size])}"


def chosen(values: Sequence[Any], index: Any) -> Any:
    """The value at a position; for an array of positions an array, or the one value that all have.

    Raises:
        TypeError: there are several values that are no numbers.
    """
    if isinstance(index, int):
        return values[index]
    first = values[int(index[0])]
    if (index == index[0]).all():
        return first
    used = [values[i] for i in np.unique(index)]
    if all(type(value) is int for value in used):
        return np.array(values, np.int64)[index] if len(set(used)) > 1 else first
    if all(type(value) is float for value in used):
        return np.array(values)[index]
    raise TypeError("values that are no numbers make no array")


def input_label(net: Network, sizes: dict[str, tuple[int, ...]]) -> str:
    """An input size as text: "224x224x3", or for several inputs "a=224x224x3 b=10"."""
    found = {}
    for name, spec in net.inputs.items():
        size = sizes.get(name, spec.dims[1:])
        if net.channels_first:
            size = (*size[1:], size[0])
        found[name] = "x".join(map(str, size))
    if len(found) == 1:
        return next(iter(found.values()))
    return " ".join(f"{name}={size}" for name, size in found.items())


def measured(net: Network, count: int, floats: Sequence[int], high: int) -> Costs:
    """The costs of a network whose sizes are arrays of `count`, or integers.

    Raises:
        OverflowError: a figure does not fit 64 bits at batch `high`.
    """
    rows = list(add_up(net).values())
    params, trainable, macs = (
        fitting(total(getattr(row, name) for row in rows))
        for name in ("params", "trainable", "macs")
    )
    fitting(2 * int(np.max(macs)))
    outputs = [net.results[row.last.name] for row in rows]
    partial = any(row.missing for row in rows)
    return Costs(
        params=filled(params, count),
        trainable=filled(trainable, count),
        macs=filled(macs, count),
        status=filled(PARTIAL if partial else COMPLETE, count),
        book={width: book(outputs, width, count, high) for width in floats},
    )


def fitting(figure: Any) -> Any:
    """A figure if it is one of 64 bits."""
    if isinstance(figure, int) and figure > INT64_MAX:
        raise OverflowError("a total exceeds 2^63 - 1")
    return figure


def filled(figure: Any, count: int) -> Ints:
    """A figure for each of `count` networks."""
    return np.array(np.broadcast_to(figure, count), np.int64)


def book(outputs: Sequence[Sequence[TensorSpec]], width: int, count: int, high: int) -> Book:
    """The textbook's lines for layers with these outputs."""
    fixed = np.zeros((len(outputs), count), np.int64)
    per = np.zeros((len(outputs), count), np.int64)
    for index, specs in enumerate(outputs):
        if all(spec.known for spec in specs):
            rests = [spec.bytes_at(0, width) for spec in specs]
            fixed[index] = total(rests)
            per[index] = total(spec.bytes_at(1, width) for spec in specs) - total(rests)
    most = fixed.sum(axis=0, dtype=object) + high * per.sum(axis=0, dtype=object)
    if most.max() > INT64_MAX:
        raise OverflowError(f"bytes at batch {high} exceed 2^63 - 1")
    sums = fixed.sum(axis=0), per.sum(axis=0)
    if len(outputs) > 1:
        fixed, per = fixed[:-1] + fixed[1:], per[:-1] + per[1:]
    return Book(highest(fixed, per, high), sums)


def highest(fixed: Ints, per: Ints, high: int) -> tuple[Ints, Ints]:
    """Of lines (rows) in each network (columns) those that are the highest at some batch."""
    if not fixed.any():
        best = per.max(axis=0, keepdims=True)
        return np.zeros_like(best), best
    tops = [
        [line for _, line in envelope(fixed[:, column], per[:, column], 1, high)]
        for column in range(fixed.shape[1])
    ]
    most = max(map(len, tops))
    rows = np.array([top + top[-1:] * (most - len(top)) for top in tops]).T
    columns = np.arange(fixed.shape[1])
    return fixed[rows, columns], per[rows, columns]


def joined(books: Sequence[Book]) -> Book:
    """The lines of several parts; the last line of those with fewer is repeated."""
    most = max(len(part.inference[0]) for part in books)
    inference = [
        np.concatenate(
            [np.pad(part.inference[i], ((0, most - len(part.inference[i])), (0, 0)), "edge")
             for part in books], axis=1
        )
        for i in (0, 1)
    ]  # fmt: skip
    training = [np.concatenate([part.training[i] for part in books]) for i in (0, 1)]
    return Book((inference[0], inference[1]), (training[0], training[1]))
