"""TensorFlow's best-fit allocator with coalescing (`xla/tsl/framework/bfc_allocator.cc`).

Requests are rounded up to 256 bytes.  A chunk is split only if it has at least twice the request,
or 128 MiB more.  Otherwise the whole chunk is handed out, and counts as in use.
"""

from __future__ import annotations

from convcalc.errors import ModelError
from convcalc.memory.bestfit import BestFit

ROUND = 256
WHOLE = 128 << 20
FIRST_REGION = 2 << 20


class BFC(BestFit):
    """Two regions, of which the second is as good as endless."""

    __slots__ = ()

    def __init__(self, regions: tuple[int, ...] = (FIRST_REGION, 1 << 44)) -> None:
        super().__init__(least=WHOLE, in_halves=True)
        for size in regions:
            self.add(size)

    def grow(self, request: int) -> None:
        """No chunk is large enough."""
        raise ModelError("the step needs more than 16 TiB; take a smaller batch")
