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
    """The chunks in use and the free ones between them, no two of which touch.

    So what is in use, and where, says all about it: when the same chunks are in use again, so are
    the free ones the same.
    """

    __slots__ = ("begins", "ends", "free", "peak", "size", "used")

    def __init__(self, regions: tuple[int, ...] = (FIRST_REGION, 1 << 44)) -> None:
        self.size: dict[int, int] = {}
        """Bytes of each chunk in use, by its address."""
        self.free: list[tuple[int, int]] = []
        """(size, address) of each free chunk, sorted."""
        self.ends: dict[int, int] = {}
        """Where a free chunk ends, by where it begins."""
        self.begins: dict[int, int] = {}
        """Where a free chunk begins, by where it ends."""
        self.used = self.peak = 0
        for number, size in enumerate(regions):
            begin = number << 48
            self.ends[begin], self.begins[begin + size] = begin + size, begin
            insort(self.free, (size, begin))

    def resume(self, other: BFC) -> None:
        """Take over the state of another."""
        self.size, self.free = other.size.copy(), other.free.copy()
        self.begins, self.ends = other.begins.copy(), other.ends.copy()
        self.used, self.peak = other.used, other.peak

    def take(self, request: int) -> int:
        """The address of a chunk for a request that has been rounded.

        Raises:
            ModelError: no chunk is large enough.
        """
        free = self.free
        place = bisect_left(free, (request, -1))
        if place == len(free):
            raise ModelError("the step needs more than 16 TiB; take a smaller batch")
        size, address = free.pop(place)
        end = self.ends.pop(address)
        if size >= 2 * request or size - request >= WHOLE:
            rest = address + request
            self.ends[rest] = end
            self.begins[end] = rest
            insort(free, (size - request, rest))
            size = request
        else:
            del self.begins[end]
        self.size[address] = size
        self.used += size
        if self.used > self.peak:
            self.peak = self.used
        return address

    def give(self, address: int) -> None:
        """Free a chunk and join it with free neighbours."""
        size = self.size.pop(address)
        self.used -= size
        free, begin, end = self.free, address, address + size
        if end in self.ends:
            behind, end = end, self.ends.pop(end)
            del free[bisect_left(free, (end - behind, behind))]
        if begin in self.begins:
            ahead, begin = begin, self.begins.pop(begin)
            del free[bisect_left(free, (ahead - begin, begin))]
        self.ends[begin] = end
        self.begins[end] = begin
        insort(free, (end - begin, begin))
