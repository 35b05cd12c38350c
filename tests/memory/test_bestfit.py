"""The allocator that keeps its free chunks in order against one that looks at every byte range."""

import random

import pytest

from convcalc.memory.bestfit import BestFit


class Plain:
    """Best fit over one list of (address, size, in use), by the words of its documentation."""

    def __init__(self, least: int, in_halves: bool, region: int) -> None:
        self.least, self.in_halves = least, in_halves
        self.chunks = [(0, region, False)]

    def take(self, request: int) -> int:
        fits = [(size, at) for at, size, taken in self.chunks if not taken and size >= request]
        size, address = min(fits)
        left = size - request
        split = left >= self.least or (self.in_halves and left >= request)
        self.chunks.remove((address, size, False))
        self.chunks.append((address, request if split else size, True))
        if split:
            self.chunks.append((address + request, left, False))
        return address

    def give(self, address: int) -> None:
        self.chunks = [(at, size, taken and at != address) for at, size, taken in self.chunks]
        joined: list[tuple[int, int, bool]] = []
        for at, size, taken in sorted(self.chunks):
            if joined and not taken and not joined[-1][2]:
                before, more, _ = joined.pop()
                joined.append((before, more + size, False))
            else:
                joined.append((at, size, taken))
        self.chunks = joined


@pytest.mark.parametrize(("least", "in_halves"), [(512, False), (4096, True), (1, True)])
@pytest.mark.parametrize("seed", range(5))
def test_takes_the_chunks_that_best_fit_says(seed: int, least: int, in_halves: bool) -> None:
    draw = random.Random(seed)
    heap, plain = BestFit(least, in_halves), Plain(least, in_halves, 1 << 20)
    heap.add(1 << 20)
    held: list[int] = []
    for _ in range(300):
        if held and draw.random() < 0.45:
            address = held.pop(draw.randrange(len(held)))
            heap.give(address)
            plain.give(address)
        else:
            request = 256 * draw.randint(1, 12)
            held.append(heap.take(request))
            assert held[-1] == plain.take(request)
        assert heap.free == sorted((size, at) for at, size, taken in plain.chunks if not taken)
        assert heap.used == sum(size for _, size, taken in plain.chunks if taken)


def test_a_resumed_state_is_independent() -> None:
    heap, other = BestFit(1), BestFit(1)
    heap.add(1024)
    first = heap.take(256)
    other.resume(heap)
    other.give(first)
    assert (heap.used, other.used) == (256, 0)
    assert (heap.free, other.free) == ([(768, 256)], [(1024, 0)])


@pytest.mark.parametrize(("least", "in_halves"), [(512, False), (4096, True), (1, True)])
def test_keeping_many_is_taking_one_after_the_other(least: int, in_halves: bool) -> None:
    draw = random.Random(7)
    heap, other = BestFit(least, in_halves), BestFit(least, in_halves)
    heap.add(1 << 20)
    held = [heap.take(256 * draw.randint(1, 40)) for _ in range(60)]
    for address in draw.sample(held, 30):
        heap.give(address)
    for request, count in ((256, 7), (768, 5), (2560, 3), (256, 90), (512, 1)):
        other.resume(heap)
        other.keep(request, count)
        for _ in range(count):
            heap.take(request)
        assert (other.free, other.used, other.peak) == (heap.free, heap.used, heap.peak)
        assert (other.begins, other.ends) == (heap.begins, heap.ends)
