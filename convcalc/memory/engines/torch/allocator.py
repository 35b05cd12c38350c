"""CUDA's caching allocator and what else a process takes on a card.

Blocks are rounded up to 512 bytes and cut from segments that the driver hands out: of 2 MiB for
requests up to 1 MiB, of 20 MiB up to 10 MiB, above that of the request rounded up to 2 MiB.  A
cached block is split if 512 bytes (small) or more than 1 MiB (large) would be left.
(c10/cuda/CUDACachingAllocator.cpp)
"""

from __future__ import annotations

import numpy as np

from convcalc.memory.bestfit import BestFit
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


class Pool(BestFit):
    """The segments for small requests, or for all others."""

    __slots__ = ()

    def __init__(self, small: bool) -> None:
        super().__init__(least=BLOCK if small else SMALL + 1)

    def grow(self, request: int) -> None:
        self.add(segment(request))


def reserved(timeline: Timeline, batch: int) -> int:
    """Bytes of segments after a step: what `torch.cuda.max_memory_reserved` would say."""
    sizes: list[int] = np.maximum(timeline.sizes(batch), BLOCK).tolist()
    small, large = Pool(small=True), Pool(small=False)
    address = [0] * len(sizes)
    for _, coded in timeline.events:
        buffer = coded if coded >= 0 else ~coded
        pool = small if sizes[buffer] <= SMALL else large
        if coded >= 0:
            address[buffer] = pool.take(sizes[buffer])
        else:
            pool.give(address[buffer])
    return sum(small.regions) + sum(large.regions) + timeline.resting.at(batch)


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
