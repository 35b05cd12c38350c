"""Best fit with coalescing: what TensorFlow's and PyTorch's caching allocators have in common.

The smallest free chunk that is large enough is taken, the lowest address among equals.  It is split
if enough would be left over; otherwise it is handed out whole.  Freed neighbours are joined.
"""

from __future__ import annotations

from bisect import bisect_left, insort

#: Regions of memory begin so far apart that no two touch.
REGION = 1 << 48


class BestFit:
    """The chunks in use and the free ones between them, no two of which touch.

    So what is in use, and where, says all about it: when the same chunks are in use again, the free
    ones are the same again.
    """

    __slots__ = (
        "begins", "ends", "free", "in_halves", "least", "peak", "regions", "size", "used",
    )  # fmt: skip

    def __init__(self, least: int, in_halves: bool = False) -> None:
        self.least = least
        """A chunk is split if at least so many bytes are left,"""
        self.in_halves = in_halves
        """or, where this is true, as many as are asked for."""
        self.size: dict[int, int] = {}
        """Bytes of each chunk in use, by its address."""
        self.free: list[tuple[int, int]] = []
        """(size, address) of each free chunk, sorted."""
        self.ends: dict[int, int] = {}
        """Where a free chunk ends, by where it begins."""
        self.begins: dict[int, int] = {}
        """Where a free chunk begins, by where it ends."""
        self.regions: list[int] = []
        """Bytes of each region."""
        self.used = self.peak = 0

    def resume(self, other: BestFit) -> None:
        """Take over the state of another."""
        self.size, self.free = other.size.copy(), other.free.copy()
        self.begins, self.ends = other.begins.copy(), other.ends.copy()
        self.regions, self.used, self.peak = other.regions.copy(), other.used, other.peak

    def add(self, size: int) -> None:
        """A new region, free as a whole."""
        begin = len(self.regions) * REGION
        end = begin + size
        self.regions.append(size)
        self.ends[begin], self.begins[end] = end, begin
        insort(self.free, (size, begin))

    def grow(self, request: int) -> None:
        """Add a region that a request fits into."""
        raise NotImplementedError

    def take(self, request: int) -> int:
        """The address of a chunk for a request that has been rounded."""
        free = self.free
        place = bisect_left(free, (request, -1))
        if place == len(free):
            self.grow(request)
        size, address = free.pop(place)
        end = self.ends.pop(address)
        left = size - request
        if left >= self.least or (self.in_halves and left >= request):
            rest = address + request
            self.ends[rest] = end
            self.begins[end] = rest
            insort(free, (left, rest))
            size = request
        else:
            del self.begins[end]
        self.size[address] = size
        self.used += size
        if self.used > self.peak:
            self.peak = self.used
        return address

    def keep(self, request: int, count: int) -> None:
        """Take `count` chunks that are never given back."""
        while count:
            place = bisect_left(self.free, (request, -1))
            if place == len(self.free):
                self.grow(request)
            _, address = self.free.pop(place)
            begin, end = address, self.ends.pop(address)
            # What is left of the best fit is the best fit for the next.
            while count and end - begin >= request:
                left = end - begin - request
                split = left >= self.least or (self.in_halves and left >= request)
                begin = begin + request if split else end
                count -= 1
            if begin < end:
                self.ends[begin] = end
                self.begins[end] = begin
                insort(self.free, (end - begin, begin))
            else:
                del self.begins[end]
            self.used += begin - address
        self.peak = max(self.peak, self.used)

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
