"""TensorFlow's best-fit allocator with coalescing (`xla/tsl/framework/bfc_allocator.cc`).

Requests are rounded up to 256 bytes.  The smallest free chunk that is large enough is taken (the
lowest address among equals); it is split only if it has at least twice the request, or 128 MiB
more.  Otherwise the whole chunk is handed out, and counts as in use.  Freed neighbours are joined.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from convcalc.errors import ModelError

ROUND = 256
WHOLE = 128 << 20
FIRST_REGION = 2 << 20


class BFC:
    """Chunks by address: size, whether in use, the neighbours' addresses (-1: none)."""

    __slots__ = ("before", "behind", "free", "peak", "size", "taken", "used")

    def __init__(self, regions: tuple[int, ...] = (FIRST_REGION, 1 << 44)) -> None:
        self.size: dict[int, int] = {}
        self.taken: dict[int, bool] = {}
        self.before: dict[int, int] = {}
        self.behind: dict[int, int] = {}
        self.free: list[tuple[int, int]] = []
        self.used = self.peak = 0
        for number, size in enumerate(regions):
            address = number << 48
            self.size[address], self.taken[address] = size, False
            self.before[address] = self.behind[address] = -1
            insort(self.free, (size, address))

    def take(self, request: int) -> int:
        """The address of a chunk for a request that has been rounded.

        Raises:
            ModelError: no chunk is large enough.
        """
        place = bisect_left(self.free, (request, -1))
        if place == len(self.free):
            raise ModelError("the step needs more than 16 TiB; take a smaller batch")
        size, address = self.free.pop(place)
        if size >= 2 * request or size - request >= WHOLE:
            rest, after = address + request, self.behind[address]
            self.size[rest], self.taken[rest] = size - request, False
            self.before[rest], self.behind[rest] = address, after
            if after >= 0:
                self.before[after] = rest
            self.size[address], self.behind[address] = request, rest
            insort(self.free, (size - request, rest))
            size = request
        self.taken[address] = True
        self.used += size
        if self.used > self.peak:
            self.peak = self.used
        return address

    def give(self, address: int) -> None:
        """Free a chunk and join it with free neighbours."""
        size = self.size[address]
        self.used -= size
        self.taken[address] = False
        after = self.behind[address]
        if after >= 0 and not self.taken[after]:
            size += self.drop(after)
            self.size[address], self.behind[address] = size, self.behind.pop(after)
            if (last := self.behind[address]) >= 0:
                self.before[last] = address
        ahead = self.before[address]
        if ahead >= 0 and not self.taken[ahead]:
            joined = self.size[ahead]
            del self.free[bisect_left(self.free, (joined, ahead))]
            self.behind[ahead] = last = self.behind.pop(address)
            if last >= 0:
                self.before[last] = ahead
            del self.size[address], self.taken[address], self.before[address]
            size += joined
            self.size[ahead] = size
            address = ahead
        insort(self.free, (size, address))

    def drop(self, address: int) -> int:
        """Take a free chunk out; its `behind` is left for the caller."""
        size = self.size.pop(address)
        del self.free[bisect_left(self.free, (size, address))], self.taken[address]
        del self.before[address]
        return size
