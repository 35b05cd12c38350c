"""Where gradient checkpointing cuts a network: stretches of which only the first inputs are kept.

The backward pass makes a stretch's tensors again from what it begins with, when the gradient of its
end has come.  A network is cut where one tensor alone leads on, before an operator with a kernel or
before a fork: inside a residual block nothing is gained.  Where one long connection spans most of
the network, as in a U-Net, it is kept as well, and what it spans is cut as a network of its own.
The last stretch is not made again: its backward pass begins where its forward pass ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt
from typing import Any

from convcalc.memory.job import BLOCK, NONE
from convcalc.network import Network, Op
from convcalc.ops.base import spatial_axes

#: Operators that a stretch may begin with even where the network does not fork.
WORK = (
    *("conv", "depthwise_conv", "conv_transpose", "dense", "matmul", "attention"),
    *("scaled_dot_product", "recurrent"),
)
#: Sizes that differ by less, as unpadded convolutions make them, are one resolution.
ANOTHER = 1.5
#: A region without a cut of at least this share of all operators is looked into.
LARGE = 1 / 3


def stretches(net: Network, remat: str) -> list[tuple[Op, ...]]:
    """The operators in order, cut into stretches; one stretch for "none".

    "block": a residual block each, or what lies between two changes of resolution.  "sqrt": of n
    places where "block" might cut, about the square root of n, at even distances (Chen et al.,
    2016).
    """
    if remat == NONE:
        return [net.ops]
    places = Crossings(net)
    found = places.cuts()
    chosen = at_blocks(places, found) if remat == BLOCK else evenly(found)
    ends = [0, *chosen, len(net.ops)]
    return [net.ops[a:b] for a, b in pairwise(ends)]


def made_by(net: Network, stretch: Sequence[Op]) -> list[str]:
    """The tensors that a stretch makes."""
    return [op.output(place) for op in stretch for place in range(len(net.results[op.name]))]


def read_by(net: Network, stretch: Sequence[Op]) -> list[str]:
    """The tensors that a stretch begins with."""
    made = set(made_by(net, stretch))
    return [
        name for name in dict.fromkeys(n for op in stretch for n in op.inputs) if name not in made
    ]


class Crossings:
    """Which tensors lead from before each operator to it or beyond."""

    def __init__(self, net: Network) -> None:
        self.net = net
        made = {
            op.output(i): place
            for place, op in enumerate(net.ops)
            for i in range(len(net.results[op.name]))
        }
        self.readers: dict[str, list[int]] = {}
        for place, op in enumerate(net.ops):
            for name in dict.fromkeys(op.inputs):
                if name in made:
                    self.readers.setdefault(name, []).append(place)
        self.spans = {name: (made[name], places[-1]) for name, places in self.readers.items()}

    def alone(self, start: int, end: int, without: frozenset[str]) -> list[int]:
        """Places behind `start` and before `end` that only one tensor, `without` aside, crosses."""
        count = [0] * (len(self.net.ops) + 1)
        for name, (first, last) in self.spans.items():
            if name not in without:
                count[first + 1] += 1
                count[last + 1] -= 1
        found, alive = [], 0
        for place in range(end):
            alive += count[place]
            if place > start and alive == 1:
                found.append(place)
        return found

    def cuts(
        self, start: int = 0, end: int | None = None, without: frozenset[str] = frozenset()
    ) -> list[int]:
        """Places where a stretch may begin."""
        end = len(self.net.ops) if end is None else end
        single = self.alone(start, end, without)
        found = list(single)
        edges = [start, *single, end]
        for first, last in pairwise(edges):
            if last - first < LARGE * len(self.net.ops):
                continue
            inside = [
                name
                for name, (made, read) in self.spans.items()
                if name not in without and first <= made + 1 and read < last
            ]
            if inside:
                long = max(inside, key=lambda name: self.spans[name][1] - self.spans[name][0])
                made, read = self.spans[long]
                if read - made >= LARGE * len(self.net.ops):
                    found += self.cuts(made + 1, read, without | {long})
        return sorted(place for place in set(found) if self.begins(place))

    def begins(self, place: int) -> bool:
        """Whether the operator there is one that a stretch begins with."""
        op = self.net.ops[place]
        forks = any(len(self.readers.get(name, ())) > 1 for name in op.inputs)
        return op.operator.type in WORK or forks

    def joins(self, start: int, end: int) -> bool:
        """Whether branches meet within a stretch."""
        return any(
            len(op.inputs) > 1 and any(name in self.spans for name in op.inputs)
            for op in self.net.ops[start:end]
        )

    def resized(self, start: int, end: int) -> bool:
        """Whether what is read at two places has another resolution."""
        before, after = self.sizes(start), self.sizes(end)
        return len(before) != len(after) or any(
            max(a, b) >= ANOTHER * min(a, b) for a, b in zip(before, after, strict=True)
        )

    def sizes(self, place: int) -> list[Any]:
        """The spatial sizes of what the operator there reads."""
        dims = self.net.specs(self.net.ops[place])[0][0].dims
        axes = spatial_axes(len(dims), self.net.channels_first) if len(dims) > 2 else range(0)
        return [dims[axis] for axis in axes]


def at_blocks(places: Crossings, found: Sequence[int]) -> list[int]:
    """The cuts behind a meeting of branches or a change of resolution."""
    chosen: list[int] = []
    start = 0
    for place in found:
        if places.joins(start, place) or places.resized(start, place):
            chosen.append(place)
            start = place
    return chosen


def evenly(found: Sequence[int]) -> list[int]:
    """About the square root of the cuts, at even distances."""
    pieces = len(found) + 1
    parts = max(isqrt(pieces), 1)
    return [found[pieces * part // parts - 1] for part in range(1, parts)]
