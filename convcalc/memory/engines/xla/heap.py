"""Where XLA puts its temporaries: one block of memory, filled by the best fit.

`xla/service/heap_simulator`: buffers one after the other in order of size, or of length of life;
each takes the smallest gap that is free for its whole life, or goes on top.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALIGNMENT = 256
CPU_ALIGNMENT = 64
#: Smaller buffers fit in between the others.
SMALLEST = 4096
#: And those that take up less than such a share of all do not decide its height.
SHARES = 1 << 10
NO_GAP = 1 << 62


class Interval(NamedTuple):
    """A buffer's size and the steps from which and up to which it lives."""

    size: int
    start: int
    end: int


def into_donated(
    buffers: Sequence[Interval],
    donated: Sequence[Interval],
    places: Sequence[int] | None = None,
) -> tuple[list[int], list[int]]:
    """Positions of the buffers that fit into donated memory while it is free, and of the others.

    The memory of a variable that the step gives back updated is a buffer like any other between
    the last read of the old value and the write of the new one.  The largest come first; of equal
    ones those whose operations do so in post-order (`BufferAssigner`), which `places` gives, or
    those that live longest, where they are not known.  With `places` each goes where it just fits.
    """
    ties = [b.start - b.end for b in buffers] if places is None else places
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, ties[i]))
    # Buffers come by falling size: memory that is large enough for one is so for all that follow.
    smaller = sorted(range(len(donated)), key=lambda room: donated[room].size)
    large_enough: list[tuple[int, int]] = []
    taken: list[list[Interval]] = [[] for _ in donated]
    inside, rest = [], []
    for i in order:
        size, start, end = buffers[i]
        if size < SMALLEST:
            rest.append(i)
            continue
        while smaller and donated[smaller[-1]].size >= size:
            room = smaller.pop()
            insort(large_enough, (0 if places is None else donated[room].size, room))
        for _, room in large_enough:
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
    """The height of the block that holds all of them, the largest placed first (``kSpatial``).

    Of equal ones that which lives longest.  XLA also places by length of life alone; on a GPU our
    lives have fewer steps than its own, and what came out was too low where both were compared.
    """
    large = [buffer for buffer in buffers if buffer.size >= SMALLEST]
    if (least := most_at_once(large)) >= NO_GAP:
        # More than any address; where it would lie does not matter.
        return least
    return best_fit(sorted(large, key=lambda b: (-b.size, b.start - b.end)))


def packed_best(
    buffers: Sequence[Interval],
    handed: Sequence[Sequence[int]] | None = None,
    places: Sequence[int] | None = None,
) -> int:
    """The height of the lower of two blocks, as XLA chooses on a CPU (`ChooseBestHeapAlgorithm`).

    The largest first, of equal ones that whose first owner lives longest, or those that live
    longest first with all their owners (``kTemporal``).  `handed` are the steps at which each is
    handed on to a result that takes its place, `places` tell which of equal ones comes first.
    """
    spans = lives(buffers, handed)
    ties = [buffer.start for buffer in buffers] if places is None else places
    least = most_at_once(buffers, CPU_ALIGNMENT)
    if least >= NO_GAP:
        return least
    smallest = min(SMALLEST, least // SHARES)
    large = [i for i, buffer in enumerate(buffers) if buffer.size > smallest]
    spatial = sorted(large, key=lambda i: (-buffers[i].size, -spans[i].first, ties[i]))
    block = best_fit([buffers[i] for i in spatial], CPU_ALIGNMENT)
    if block <= least:
        return least
    temporal = sorted(large, key=lambda i: (-spans[i].whole, -buffers[i].size, ties[i]))
    return max(least, best_fit([buffers[i] for i in temporal], CPU_ALIGNMENT, block))


class Life(NamedTuple):
    """How long a buffer's first owner lives, and how long all of them."""

    first: int
    whole: int


def lives(buffers: Sequence[Interval], handed: Sequence[Sequence[int]] | None = None) -> list[Life]:
    """How long buffers live, counted as `GlobalDecreasingSizeBestFitHeap` counts its time.

    It goes on by one whenever memory is taken or given back, be it the smallest; at one step first
    all is taken, then given back.  Who hands memory on gives it back just before.  What takes no
    memory does neither.
    """
    begin, change, end = range(3)
    events = []
    for i, buffer in enumerate(buffers):
        if buffer.size:
            events.append((buffer.start, begin, buffer.start, i))
            last = buffer.start
            for step in handed[i] if handed else ():
                events.append((step, change, step, i))
                last = step
            events.append((buffer.end, end, last, i))
    taken = [0] * len(buffers)
    first = [0] * len(buffers)
    whole = [0] * len(buffers)
    time = 0
    for _, what, _, i in sorted(events):
        if what == begin:
            taken[i] = time
        else:
            whole[i] = time - taken[i]
            first[i] = first[i] or whole[i]
            time += what == change
        time += 1
    return list(map(Life, first, whole))


def rounded(size: int, alignment: int = ALIGNMENT) -> int:
    """Bytes that a buffer takes up."""
    return -(-size // alignment) * alignment


def most_at_once(buffers: Sequence[Interval], alignment: int = ALIGNMENT) -> int:
    """The most bytes alive at once: no block can be lower."""
    changes: dict[int, int] = {}
    for size, start, end in buffers:
        changes[start] = changes.get(start, 0) + rounded(size, alignment)
        changes[end + 1] = changes.get(end + 1, 0) - rounded(size, alignment)
    alive = most = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most


def best_fit(buffers: Sequence[Interval], alignment: int = ALIGNMENT, enough: int = NO_GAP) -> int:
    """The height of a block into which buffers are put in the order given, at most `enough`."""
    # Lowest and highest address, first and last step of what lies there, by rising addresses;
    # underneath the block's floor, which is always there.
    placed = np.empty((4, len(buffers) + 1), np.int64)
    placed[:, 0] = 0, 0, -1, NO_GAP
    block = 0
    for count, (size, start, end) in enumerate(buffers, 1):
        need = rounded(size, alignment)
        low, high, starts, ends = placed[:, :count]
        (meet,) = ((starts <= end) & (ends >= start)).nonzero()
        tops = np.maximum.accumulate(high.take(meet))
        gaps = low.take(meet[1:]) - tops[:-1]
        (fits,) = (gaps >= need).nonzero()
        at = int(tops[fits[gaps[fits].argmin()]] if fits.size else tops[-1])
        place = int(low.searchsorted(at, "right"))
        placed[:, place + 1 : count + 1] = placed[:, place:count]
        placed[:, place] = at, at + need, start, end
        block = max(block, at + need)
        if block >= enough:
            return enough
    return block
