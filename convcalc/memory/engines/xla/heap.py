"""Where XLA puts its temporaries: one block of memory, filled by the best fit.

`xla/service/heap_simulator`: buffers in order of size, the largest first; each takes the smallest
gap that is free for its whole life, or goes on top.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALIGNMENT = 256
#: Smaller buffers fit in between the others.
SMALLEST = 4096
NO_GAP = 1 << 62


class Interval(NamedTuple):
    """A buffer's size and the steps from which and up to which it lives."""

    size: int
    start: int
    end: int


def into_donated(
    buffers: Sequence[Interval], donated: Sequence[Interval]
) -> tuple[list[int], list[int]]:
    """Positions of the buffers that fit into donated memory while it is free, and of the others.

    The memory of a variable that the step gives back updated is a buffer like any other between
    the last read of the old value and the write of the new one.
    """
    order = sorted(
        range(len(buffers)),
        key=lambda i: (-buffers[i].size, buffers[i].start - buffers[i].end),
    )
    # Buffers come by falling size: memory that is large enough for one is so for all that follow.
    smaller = sorted(range(len(donated)), key=lambda room: donated[room].size)
    large_enough: list[int] = []
    taken: list[list[Interval]] = [[] for _ in donated]
    inside, rest = [], []
    for i in order:
        size, start, end = buffers[i]
        if size < SMALLEST:
            rest.append(i)
            continue
        while smaller and donated[smaller[-1]].size >= size:
            insort(large_enough, smaller.pop())
        for room in large_enough:
            free = donated[room]
            if (
                free.start <= start
                and end <= free.end
                and all(end < other.start or start > other.end for other in taken[room])
            ):
                taken[room].append(buffers[i])
                inside.append(i)
                break
        else:
            rest.append(i)
    return inside, rest


def packed(buffers: Sequence[Interval]) -> int:
    """The height of the block that holds all of them.

    The largest first, of equal ones that which lives longest (``kSpatial``).  XLA also places by
    length of life alone and takes the lower block.  Our lives have fewer steps than its own, and
    placed so they came out lower than XLA's block where both were compared; it is left out.
    """
    large = [buffer for buffer in buffers if buffer.size >= SMALLEST]
    if (least := most_at_once(large)) >= NO_GAP:
        # More than any address; where it would lie does not matter.
        return least
    return best_fit(sorted(large, key=lambda b: (-b.size, b.start - b.end)))


def rounded(size: int) -> int:
    """Bytes that a buffer takes up."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def most_at_once(buffers: Sequence[Interval]) -> int:
    """The most bytes alive at once: no block can be lower."""
    changes: dict[int, int] = {}
    for size, start, end in buffers:
        changes[start] = changes.get(start, 0) + rounded(size)
        changes[end + 1] = changes.get(end + 1, 0) - rounded(size)
    alive = most = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most


def best_fit(buffers: Sequence[Interval]) -> int:
    """The height of a block into which buffers are put in the order given."""
    count = len(buffers)
    starts = np.array([buffer.start for buffer in buffers], np.int64)
    ends = np.array([buffer.end for buffer in buffers], np.int64)
    low, high = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for i, (size, start, end) in enumerate(buffers):
        meet = np.flatnonzero((starts[:i] <= end) & (ends[:i] >= start))
        at = 0
        if meet.size:
            meet = meet[np.argsort(low[meet])]
            tops = np.maximum.accumulate(high[meet])
            below = np.concatenate(([0], tops[:-1]))
            gaps = low[meet] - below
            gaps[gaps < rounded(size)] = NO_GAP
            best = int(gaps.argmin())
            at = int(below[best] if gaps[best] < NO_GAP else tops[-1])
        low[i], high[i] = at, at + rounded(size)
    return int(high.max(initial=0))
