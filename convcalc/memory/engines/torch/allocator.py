"""CUDA's caching allocator and what else a process takes on a card.

Blocks are rounded up to 512 bytes and cut from segments that the driver hands out: of 2 MiB for
requests up to 1 MiB, of 20 MiB up to 10 MiB, above that of the request rounded up to 2 MiB.  A
cached block is split if more than 512 bytes (small) or 1 MiB (large) would be left.
(c10/cuda/CUDACachingAllocator.cpp)
"""

from __future__ import annotations

from bisect import bisect_left, insort

from convcalc.memory.timeline import Timeline

BLOCK = 512
SMALL = 2**20
SMALL_SEGMENT = 2 * 2**20
MIDDLE = 10 * 2**20
MIDDLE_SEGMENT = 20 * 2**20
LARGE_ROUND = 2 * 2**20

#: What a process takes before its first tensor: the CUDA context with its kernels, by the card and
#: the driver (read in reports, not measured here).
CONTEXT = (300 * 2**20, 700 * 2**20)
#: cuBLAS' workspace, and from there to what cuDNN may add for the algorithm that it picks.
WORKSPACE = (8_519_680, 256 * 2**20)


def segment(size: int) -> int:
    """Bytes that are asked of the driver for a block of `size`."""
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < MIDDLE:
        return MIDDLE_SEGMENT
    return -(-size // LARGE_ROUND) * LARGE_ROUND


class Pool:
    """The free blocks of one kind of segments: the smallest that is large enough is taken."""

    def __init__(self, small: bool) -> None:
        self.small = small
        self.free: list[tuple[int, int, int]] = []
        """(size, segment, offset), sorted."""
        self.neighbours: dict[tuple[int, int], tuple[int, bool]] = {}
        """For each block by (segment, offset): its size, and whether it is free."""
        self.before: dict[tuple[int, int], int] = {}
        """The offset of the block in front of it in its segment."""
        self.segments: list[int] = []

    def take(self, size: int) -> tuple[int, int]:
        """A block of `size` bytes: its segment and offset; a new segment if none fits."""
        place = bisect_left(self.free, (size, -1, -1))
        if place < len(self.free):
            whole, number, offset = self.free.pop(place)
        else:
            whole, number, offset = segment(size), len(self.segments), 0
            self.segments.append(whole)
        left = whole - size
        if left >= BLOCK if self.small else left > SMALL:
            self.place_free(number, offset + size, left, offset)
            after = offset + whole
            if (number, after) in self.neighbours:
                self.before[number, after] = offset + size
            whole = size
        self.neighbours[number, offset] = (whole, False)
        return number, offset

    def place_free(self, number: int, offset: int, size: int, before: int | None) -> None:
        """Note a free block."""
        insort(self.free, (size, number, offset))
        self.neighbours[number, offset] = (size, True)
        if before is not None:
            self.before[number, offset] = before

    def give(self, number: int, offset: int) -> None:
        """A block is free again, and becomes one with free neighbours."""
        size, _ = self.neighbours.pop((number, offset))
        before = self.before.pop((number, offset), None)
        after = offset + size
        if (number, after) in self.neighbours and self.neighbours[number, after][1]:
            more, _ = self.neighbours.pop((number, after))
            self.before.pop((number, after), None)
            self.free.remove((more, number, after))
            size += more
        if before is not None and self.neighbours[number, before][1]:
            more, _ = self.neighbours.pop((number, before))
            self.free.remove((more, number, before))
            offset, size = before, size + more
            before = self.before.pop((number, before), None)
        self.place_free(number, offset, size, before)
        end = offset + size
        if (number, end) in self.neighbours:
            self.before[number, end] = offset


def reserved(timeline: Timeline, batch: int) -> int:
    """Bytes of segments after a step: what `torch.cuda.max_memory_reserved` would say."""
    sizes = [max(int(size), BLOCK) for size in timeline.sizes(batch)]
    pools = {True: Pool(True), False: Pool(False)}
    where: dict[int, tuple[int, int]] = {}
    for _, coded in timeline.events:
        buffer = coded if coded >= 0 else ~coded
        pool = pools[sizes[buffer] <= SMALL]
        if coded >= 0:
            where[buffer] = pool.take(sizes[buffer])
        else:
            pool.give(*where.pop(buffer))
    return sum(sum(pool.segments) for pool in pools.values()) + timeline.resting.at(batch)


class Process:
    """What the card shows for the whole process, least and most, at a batch.

    How far the allocator fills its segments is worked out event by event; of a long timeline only
    for batches that are powers of two, since it takes a few milliseconds.
    """

    #: How far the filling of batches between was off on ResNet-50, VGG-16 and EfficientNet-B0.
    FILLING = 0.1
    #: Events that are walked through for any batch.
    SHORT = 1500

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.filling: dict[int, float] = {}

    def __call__(self, batch: int) -> tuple[int, int]:
        short = len(self.timeline.events) <= self.SHORT
        near = batch if short else 1 << (batch.bit_length() - 1)
        if near not in self.filling:
            self.filling[near] = reserved(self.timeline, near) / max(self.timeline.peak(near), 1)
        slack = 0.0 if batch == near else self.FILLING
        peak, filled = self.timeline.peak(batch), self.filling[near]
        least = max(peak, round(peak * (filled - slack)))
        most = max(peak, round(peak * (filled + slack)))
        return least + CONTEXT[0] + WORKSPACE[0], most + CONTEXT[1] + WORKSPACE[1]
