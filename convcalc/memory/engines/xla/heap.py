"""Where XLA puts its temporaries: one block of memory, filled by the best fit.

`xla/service/heap_simulator`: buffers in order of size, the largest first; each takes the smallest
gap that is free for its whole life, or goes on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 256
#: Smaller buffers fit in between the others.
SMALLEST = 4096


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
    rooms = [[place] for place in donated]
    inside, rest = [], []
    for i in order:
        size, start, end = buffers[i]
        if size < SMALLEST:
            rest.append(i)
            continue
        for room in rooms:
            free = room[0]
            if (
                free.size >= size
                and free.start <= start
                and end <= free.end
                and all(end < other.start or start > other.end for other in room[1:])
            ):
                room.append(buffers[i])
                inside.append(i)
                break
        else:
            rest.append(i)
    return inside, rest


def packed(buffers: Sequence[Interval]) -> int:
    """The height of the block that holds all of them: the lowest of several orders of placing.

    ChooseBestHeapAlgorithm places by size and by length of life.  Among buffers of equal size XLA's
    order hangs on the numbers of instructions, which are not known here; with the best of three its
    own height came out in nearly all blocks that were compared.
    """
    large = [buffer for buffer in buffers if buffer.size >= SMALLEST]
    orders = (
        lambda b: (-b.size, b.start),
        lambda b: (-b.size, -b.start),
        lambda b: (-b.size, b.start - b.end),
        lambda b: (b.start - b.end, -b.size),
    )
    return min(best_fit(sorted(large, key=order)) for order in orders)


def best_fit(buffers: Sequence[Interval]) -> int:
    """The height of a block into which buffers are put in the order given."""
    top = 0
    placed: list[tuple[int, int, int, int]] = []
    for size, start, end in buffers:
        rounded = -(-size // ALIGNMENT) * ALIGNMENT
        offset = 0
        best: tuple[int, int] | None = None
        for low, high in sorted(
            (low, high) for low, high, s, e in placed if s <= end and start <= e
        ):
            if low - offset >= rounded and (best is None or low - offset < best[0]):
                best = (low - offset, offset)
            offset = max(offset, high)
        at = best[1] if best else offset
        placed.append((at, at + rounded, start, end))
        top = max(top, at + rounded)
    return top
