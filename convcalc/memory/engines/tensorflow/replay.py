"""What the allocator reports after the history that every measured step has behind it.

A chunk is handed out whole unless it has twice the request, so the bytes in use depend on which
chunks are free: on the holes that random initializers leave, on the chunks that the optimizer's
slots got when they were first written, on what the step before left behind.  So the history is
replayed: variables, inputs, labels, slots, then the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convcalc.memory.engines.tensorflow.bfc import BFC, rounded
from convcalc.memory.timeline import Buffer, Timeline

#: The first step writes the slots for the first time, the second finds their chunks, and is what
#: every further one is.
STEPS = 2


def drawn(buffer: Buffer) -> bool:
    """Whether it began as random numbers, scaled and shifted into tensors of their own."""
    return buffer.kind == "weights" and buffer.name.endswith(("kernel", "embeddings"))


@dataclass(frozen=True, slots=True)
class History:
    """A step's events, and what ties one step to the next."""

    timeline: Timeline
    renewed: dict[int, int]
    """A variable's buffer -> the buffer that has replaced it at the end of the step."""
    written: dict[int, list[int]]
    """Event -> the slots that are written for the first time after it."""

    def peak(self, batch: int, steps: int = STEPS) -> int:
        """The allocator's peak in a step that has others behind it."""
        timeline = self.timeline
        buffers = timeline.buffers
        sizes = [rounded(buffer.size.at(batch)) for buffer in buffers]
        heap = BFC()
        address: dict[int, int] = {}
        shared: dict[int, list[int]] = {}
        begun = sum(step < 0 for step, _ in timeline.events)
        for _, index in timeline.events[:begun]:
            buffer, size = buffers[index], sizes[index]
            if buffer.kind == "optimizer":
                shared.setdefault(size, []).append(index)
            elif drawn(buffer):
                uniform, scaled = heap.take(size), heap.take(size)
                address[index] = heap.take(size)
                heap.give(uniform)
                heap.give(scaled)
            else:
                address[index] = heap.take(size)
        zeros = {size: heap.take(size) for size in shared}
        left = {index: size for size, slots in shared.items() for index in slots}
        events = [coded for _, coded in timeline.events[begun:]]
        last = len(timeline.steps)
        kept = set(self.renewed.values())
        results = [
            index
            for index, buffer in enumerate(buffers)
            if buffer.start >= 0 and buffer.end == last and index not in kept
        ]
        for step in range(steps):
            heap.peak = heap.used
            self.step(heap, events, begun, sizes, address, zeros, left if step == 0 else {}, shared)
            for before, after in self.renewed.items():
                address[before] = address[after]
            for index in results:
                heap.give(address[index])
        return heap.peak

    def step(
        self,
        heap: BFC,
        events: Sequence[int],
        begun: int,
        sizes: Sequence[int],
        address: dict[int, int],
        zeros: dict[int, int],
        left: dict[int, int],
        shared: dict[int, list[int]],
    ) -> None:
        """One step; `left` are the slots that still share a constant of zeros.

        The last of those that share one keeps it, the others are copied.
        """
        take, give = heap.take, heap.give
        for number, coded in enumerate(events, begun):
            if coded >= 0:
                address[coded] = take(sizes[coded])
            else:
                give(address[~coded])
            if left and number in self.written:
                for index in self.written[number]:
                    size = left.pop(index, None)
                    if size is None:
                        continue
                    sharing = shared[size]
                    sharing.remove(index)
                    address[index] = take(size) if sharing else zeros[size]
        for index, size in left.items():
            # Updated together with others, in one operation.
            sharing = shared[size]
            sharing.remove(index)
            address[index] = take(size) if sharing else zeros[size]
