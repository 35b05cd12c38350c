"""What the allocator reports after the history that every measured step has behind it.

A chunk is handed out whole unless it has twice the request, so the bytes in use depend on which
chunks are free: on the holes that random initializers leave, on the chunks that the optimizer's
slots got when they were first written, on what the step before left behind.  So the history is
replayed: variables, inputs, labels, slots, then the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convcalc.memory.engines.tensorflow.bfc import BFC
from convcalc.memory.timeline import Buffer, Timeline

#: The first step writes the slots for the first time, the second finds their chunks, and is what
#: every further one is.
STEPS = 2


#: What is made in the step and has fewer bytes finds a place in any hole.
TINY = 2048


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

    def peak(self, batch: int) -> int:
        """The allocator's peak in a step that has others behind it."""
        sizes: list[int] = self.timeline.sizes(batch).tolist()
        heap = BFC()
        take, give = heap.take, heap.give
        begun = sum(step < 0 for step, _ in self.timeline.events)
        address: dict[int, int] = {}
        # The slots of one size begin as one constant of zeros.
        sharing: dict[int, int] = {}
        slots: list[int] = []
        for _, index in self.timeline.events[:begun]:
            size, buffer = sizes[index], self.timeline.buffers[index]
            if buffer.kind == "optimizer":
                sharing[size] = sharing.get(size, 0) + 1
                slots.append(index)
            elif drawn(buffer):
                uniform, scaled = take(size), take(size)
                address[index] = take(size)
                give(uniform)
                give(scaled)
            else:
                address[index] = take(size)
        zeros = {size: take(size) for size in sharing}
        moves, results = self.moves(sizes, begun)
        count = len(sizes)

        def write(slot: int) -> None:
            """The last of the slots that share a constant keeps it, the others are copied."""
            if slot not in address:
                size = sizes[slot]
                sharing[size] -= 1
                address[slot] = take(size) if sharing[size] else zeros[size]

        for _ in range(STEPS):
            heap.peak = heap.used
            for move in moves:
                if move < 0:
                    give(address[~move])
                elif move < count:
                    address[move] = take(sizes[move])
                else:
                    write(move - count)
            for slot in slots:
                write(slot)
            for before, after in self.renewed.items():
                address[before] = address[after]
            for index in results:
                give(address[index])
        return max(heap.peak, self.timeline.peak(batch))

    def moves(self, sizes: Sequence[int], begun: int) -> tuple[list[int], list[int]]:
        """What happens in a step, and the results that are dropped after it.

        A buffer's index takes it, its complement gives it back; beyond the last buffer's index
        are the slots that are written.
        """
        found = []
        for number, (_, coded) in enumerate(self.timeline.events[begun:], begun):
            if sizes[coded if coded >= 0 else ~coded] > TINY:
                found.append(coded)
            found.extend(slot + len(sizes) for slot in self.written.get(number, ()))
        last = len(self.timeline.steps)
        kept = set(self.renewed.values())
        results = [
            index
            for index, buffer in enumerate(self.timeline.buffers)
            if buffer.end == last and buffer.start >= 0 and index not in kept
        ]
        return found, [index for index in results if sizes[index] > TINY]
