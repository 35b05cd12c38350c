"""What the allocator reports after the history that every measured step has behind it.

A chunk is handed out whole unless it has twice the request, so the bytes in use depend on which
chunks are free: on the holes that random initializers leave, on the chunks that the optimizer's
slots got when they were first written, on what the step before left behind.  So the history is
replayed: variables, inputs, labels, slots, then steps.  The first writes the slots for the first
time, the second finds their chunks.  If an update gives a variable another chunk, because its old
one is still being read, no two steps are quite alike: three more are replayed, as three are
measured, and the one in the middle is the answer.

Hardly two batches get the same chunks throughout, so each is replayed by itself.  What cannot
change the answer is left out: variables lie alike for all batches, what is given back at once
leaves no trace, and the last step ends where its peak can no longer be reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, takewhile
from statistics import median_high

import numpy as np
from numpy.typing import NDArray

from convcalc.memory.engines.tensorflow.bfc import BFC, ROUND, WHOLE
from convcalc.memory.engines.tensorflow.grappler import SET, numbered
from convcalc.memory.timeline import Buffer, Ints, Timeline

#: Scalars that Keras' initializers hold while they draw.
SEEDS = 4

#: Steps that are measured, after two.
MEASURED = 3

#: What is made in the step and has fewer bytes finds a place in any hole.
TINY = 2048


def drawn(buffer: Buffer) -> bool:
    """Whether it began as random numbers, scaled and shifted into tensors of their own."""
    return buffer.kind == "weights" and buffer.name.endswith(("kernel", "embeddings"))


class Heap(BFC):
    """An allocator that knows where it has put which buffer."""

    __slots__ = ("address",)

    def __init__(self) -> None:
        super().__init__()
        self.address: dict[int, int] = {}

    def copy(self) -> Heap:
        """Another one in the same state."""
        other = Heap()
        other.resume(self)
        other.address = self.address.copy()
        return other

    def begin(self, index: int, buffer: Buffer, size: int) -> None:
        """Place what is there before the first step, as a profile of Keras' layers lists it.

        A seed, a key and a counter are there while uniform numbers are drawn, scaled and shifted;
        constants are filled by a scalar; behind each variable lies its handle.
        """
        take, give = self.take, self.give
        if drawn(buffer):
            seeds = [take(ROUND) for _ in range(SEEDS)]
            uniform, width, scaled = take(size), take(ROUND), take(size)
            give(width)
            self.address[index] = take(size)
            give(scaled)
            for seed in seeds[1:]:
                give(seed)
            give(uniform)
            give(seeds[0])
        elif buffer.kind == "weights":
            scalar = take(ROUND)
            self.address[index] = take(size)
            give(scalar)
        else:
            self.address[index] = take(size)
            return
        take(ROUND)

    def run(self, moves: Ints, sizes: list[int]) -> None:
        """Take buffers, by index, and give them back, by its complement."""
        address, take, give = self.address, self.take, self.give
        for move in moves.tolist():
            if move >= 0:
                address[move] = take(sizes[move])
            else:
                give(address[~move])


@dataclass(frozen=True)
class History:
    """A step's events, and what ties one step to the next."""

    timeline: Timeline
    renewed: dict[int, int]
    """A variable's buffer -> the buffer that has replaced it at the end of the step."""
    written: dict[int, list[int]]
    """Event -> the slots that are written for the first time after it."""
    shapes: list[tuple[int, ...]]
    """Of what is there before the step."""

    @cached_property
    def resting(self) -> int:
        """How many buffers there are before the step: the first ones, as are their events."""
        return sum(buffer.start < 0 for buffer in self.timeline.buffers)

    @cached_property
    def slots(self) -> list[int]:
        """The optimizer's slots in the order in which they are first written."""
        buffers = self.timeline.buffers[: self.resting]
        written = [slot for event in sorted(self.written) for slot in self.written[event]]
        unwritten = [slot for slot, buffer in enumerate(buffers) if buffer.kind == "optimizer"]
        return list(dict.fromkeys([*written, *unwritten]))

    @cached_property
    def constants(self) -> list[int]:
        """Of the slots of one shape, which begin as one constant of zeros, the last keeps it.

        All are made by one function, whose optimized graph goes by the names of its assignments
        (see `grappler.Graph.pruned`): a constant stands where the last of its slots does.
        """
        slots = sorted(self.slots)
        by_name = sorted(range(len(slots)), key=lambda number: numbered(SET, number))
        keeps = {self.shapes[slot]: slot for slot in self.slots}
        last_first = dict.fromkeys(self.shapes[slots[number]] for number in reversed(by_name))
        return [keeps[shape] for shape in reversed(last_first)]

    @cached_property
    def step(self) -> Ints:
        """What a step takes, by a buffer's index, and gives back, by its complement."""
        return np.array([coded for _, coded in self.timeline.events[self.resting :]], np.int64)

    @cached_property
    def first_step(self) -> tuple[Ints, list[tuple[int, int]]]:
        """The same, with the slots written meanwhile; bytes and number of those written later."""
        left = dict.fromkeys(self.slots)
        for slot in self.constants:
            del left[slot]
        found = []
        for number, coded in enumerate(self.step.tolist(), self.resting):
            found.append(coded)
            for slot in self.written.get(number, ()):
                if slot in left:
                    del left[slot]
                    found.append(slot)
        sizes = self.timeline.sizes(1)[list(left)].tolist()
        return np.array(found, np.int64), [(size, len(list(run))) for size, run in groupby(sizes)]

    @cached_property
    def results(self) -> list[int]:
        """What is dropped after the step."""
        last = len(self.timeline.steps)
        kept = set(self.renewed.values())
        return [
            index
            for index, buffer in enumerate(self.timeline.buffers)
            if buffer.end == last and buffer.start >= 0 and index not in kept
        ]

    @cached_property
    def variables(self) -> tuple[Heap, list[int]]:
        """The heap with all that comes before what grows with the batch, and what follows."""
        heap = Heap()
        buffers = self.timeline.buffers
        sizes: list[int] = self.timeline.sizes(1).tolist()
        resting = [i for i in range(self.resting) if buffers[i].kind != "optimizer"]
        fixed = list(takewhile(lambda i: not buffers[i].size.per_sample, resting))
        for index in fixed:
            heap.begin(index, buffers[index], sizes[index])
        # The function that runs a step holds a second handle of each variable.
        heap.keep(ROUND, sum(buffers[index].kind == "weights" for index in fixed))
        return heap, resting[len(fixed) :]

    def begun(self, sizes: list[int]) -> Heap:
        """The heap before the first step."""
        variables, others = self.variables
        heap = variables.copy()
        for index in others:
            heap.begin(index, self.timeline.buffers[index], sizes[index])
        for slot in self.constants:
            heap.address[slot] = heap.take(sizes[slot])
        heap.keep(ROUND, 2 * len(self.slots))
        return heap

    def peak(self, batch: int) -> int:
        """The allocator's peak in a step that has others behind it."""
        size = self.timeline.sizes(batch)
        sizes: list[int] = size.tolist()
        large = size > TINY
        heap = self.begun(sizes)
        # Slots are written whatever their size.
        large[self.slots] = True
        step = self.step[large[buffer_of(self.step)]]
        peaks: list[int] = []
        if self.slots or self.renewed:
            first, slots = self.first_step
            heap.run(lasting(first[large[buffer_of(first)]]), sizes)
            for bytes_each, count in slots:
                heap.keep(bytes_each, count)
            self.end(heap, large)
        if self.renewed:
            heap.run(lasting(step), sizes)
            self.end(heap, large)
            for _ in range(MEASURED - 1):
                heap.peak = heap.used
                heap.run(step, sizes)
                peaks.append(heap.peak)
                self.end(heap, large)
        heap.peak = heap.used
        highest = highest_live(step, size) + 1
        heap.run(step[:highest], sizes)
        more = reachable(step, size, highest, heap.peak - heap.used)
        heap.run(step[highest:more], sizes)
        return max(median_high([*peaks, heap.peak]), self.timeline.peak(batch))

    def end(self, heap: Heap, large: NDArray[np.bool_]) -> None:
        """A step is over: variables are where their new values are, results are dropped."""
        for before, after in self.renewed.items():
            heap.address[before] = heap.address[after]
        for index in self.results:
            if large[index]:
                heap.give(heap.address[index])


def buffer_of(moves: Ints) -> Ints:
    """Which buffer each move is about."""
    return np.where(moves < 0, ~moves, moves)


def lasting(moves: Ints) -> Ints:
    """Moves without what is given back at once: the same chunks are in use after it as before."""
    brief = np.flatnonzero((moves[:-1] >= 0) & (moves[1:] == ~moves[:-1]))
    return np.delete(moves, [*brief, *(brief + 1)])


def highest_live(moves: Ints, size: Ints) -> int:
    """The move after which most bytes have been asked for."""
    change = np.where(moves < 0, -1, 1) * size[buffer_of(moves)]
    return int(np.cumsum(change).argmax()) if moves.size else 0


def reachable(moves: Ints, size: Ints, begin: int, room: int) -> int:
    """Up to which move the bytes in use may still grow by more than `room`, from `begin` on.

    A chunk has at least the bytes asked for, and less than twice as many or 128 MiB more; one that
    is taken and given back counts the same both times.
    """
    which, taken = buffer_of(moves[begin:]), moves[begin:] >= 0
    fresh = np.zeros(len(size), bool)
    fresh[which[taken]] = True
    asked = size[which]
    most = np.minimum(2 * asked, asked + WHOLE)
    change = np.where(taken, most, np.where(fresh[which], -most, -asked))
    above = np.flatnonzero(np.cumsum(change) > room)
    return begin + (int(above[-1]) + 1 if above.size else 0)
