"""`Timeline`: which bytes live when, for any batch.

Every buffer has ``fixed + batch * per_sample`` bytes and the order of events does not depend on the
batch, so what is alive after each event is a straight line in the batch, and the peak the highest
of them: a new batch is one cumulative sum, and the largest that fits is solved, not searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convcalc.memory.program import KINDS, Size

Ints = npt.NDArray[np.int64]


class Step(NamedTuple):
    """One primitive operation as it runs."""

    primitive: str
    layer: str
    phase: str


@dataclass(slots=True)
class Buffer:
    """One piece of memory, from the operation that takes it to the last that needs it."""

    size: Size
    kind: str
    name: str
    layer: str
    start: int
    """The step that takes it; -1 if it is there before the first."""
    end: int
    """The step after which it is given back; the number of steps if it stays."""


@dataclass(frozen=True)
class Timeline:
    """The buffers of one step of a program, and the events that take (+) and give back (-) them."""

    steps: Sequence[Step]
    buffers: Sequence[Buffer]
    events: Sequence[tuple[int, int]]
    """(step, buffer) if taken, (step, ~buffer) if given back, in order."""
    round_to: int = 1
    """The allocator rounds each buffer up to a multiple of this."""
    resting: Size = field(default=Size(0))
    """Bytes that are there all the time, and in no buffer."""

    @cached_property
    def _arrays(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        fixed = np.array([buffer.size.fixed for buffer in self.buffers], np.int64)
        per_sample = np.array([buffer.size.per_sample for buffer in self.buffers], np.int64)
        coded = np.array([buffer for _, buffer in self.events], np.int64)
        which = np.where(coded < 0, ~coded, coded)
        sign = np.where(coded < 0, -1, 1)
        steps = np.array([step for step, _ in self.events], np.int64)
        return fixed, per_sample, which, sign, steps

    @cached_property
    def lines(self) -> tuple[Ints, Ints]:
        """(fixed, per sample) bytes alive after each event, before rounding."""
        fixed, per_sample, which, sign, _ = self._arrays
        return (
            np.cumsum(sign * fixed[which]) + self.resting.fixed,
            np.cumsum(sign * per_sample[which]) + self.resting.per_sample,
        )

    def sizes(self, batch: int) -> Ints:
        """Rounded bytes of each buffer."""
        fixed, per_sample, *_ = self._arrays
        exact = fixed + batch * per_sample
        return exact if self.round_to == 1 else -(-exact // self.round_to) * self.round_to

    def live(self, batch: int) -> Ints:
        """Rounded bytes alive after each event."""
        _, _, which, sign, _ = self._arrays
        found: Ints = np.cumsum(sign * self.sizes(batch)[which]) + self.resting.at(batch)
        return found

    def peak(self, batch: int) -> int:
        """The most rounded bytes that are alive at once."""
        return int(self.live(batch).max())

    def floor(self, batch: int) -> int:
        """The most bytes that are alive at once, before rounding."""
        fixed, per_sample = self.lines
        return int((fixed + batch * per_sample).max())

    def peak_event(self, batch: int) -> int:
        """Which event reaches the peak."""
        return int(self.live(batch).argmax())

    def at(self, batch: int) -> Step | None:
        """The step of the peak; None if nothing but what rests is ever alive."""
        step = self.events[self.peak_event(batch)][0]
        return self.steps[step] if 0 <= step < len(self.steps) else None

    @cached_property
    def _lives(self) -> tuple[Ints, Ints]:
        """The events that take each buffer and give it back; behind the last one: none."""
        _, _, which, sign, _ = self._arrays
        taken, given = (np.full(len(self.buffers), len(which), np.int64) for _ in range(2))
        for found, changes in ((taken, sign > 0), (given, sign < 0)):
            found[which[changes]] = np.flatnonzero(changes)
        return taken, given

    @cached_property
    def _kinds(self) -> Ints:
        """Which of `KINDS` each buffer is of."""
        places = {kind: place for place, kind in enumerate(KINDS)}
        return np.array([places[buffer.kind] for buffer in self.buffers], np.int64)

    def _present(self, batch: int) -> Ints:
        """Which buffers are alive at the peak."""
        event = self.peak_event(batch)
        taken, given = self._lives
        return np.flatnonzero((taken <= event) & (given > event))

    def alive(self, batch: int) -> list[tuple[Buffer, int]]:
        """The buffers alive at the peak with their rounded bytes, largest first."""
        present = self._present(batch)
        sizes = self.sizes(batch)[present]
        found = zip(present.tolist(), sizes.tolist(), strict=True)
        return sorted(((self.buffers[i], size) for i, size in found), key=lambda pair: -pair[1])

    def breakdown(self, batch: int) -> dict[str, int]:
        """Rounded bytes at the peak by kind."""
        present = self._present(batch)
        sizes, kinds = self.sizes(batch)[present], self._kinds[present]
        return {kind: int(sizes[kinds == place].sum()) for place, kind in enumerate(KINDS)}

    @cached_property
    def marks(self) -> Ints:
        """The event after which each step holds the most; the first entry is what rests before."""
        taken = [-1] * (len(self.steps) + 1)
        first = [-1] * (len(self.steps) + 1)
        for event, (step, coded) in enumerate(self.events):
            if coded >= 0:
                taken[step + 1] = event
            elif first[step + 1] < 0:
                first[step + 1] = event
        for place in range(1, len(taken)):
            if taken[place] < 0:
                # It takes nothing: what counts is there before it gives something back.
                taken[place] = first[place] - 1 if first[place] > 0 else taken[place - 1]
        return np.array(taken, np.int64)

    def by_kind(self, batch: int) -> dict[str, Ints]:
        """The most rounded bytes alive during each step, by kind; before it what rests before."""
        _, _, which, sign, _ = self._arrays
        deltas = sign * self.sizes(batch)[which]
        kinds = self._kinds[which]
        found = {}
        for place, kind in enumerate(KINDS):
            total = np.concatenate([np.cumsum(np.where(kinds == place, deltas, 0)), [0]])
            found[kind] = total[self.marks]  # no event at all: the zero at the end
        return found

    def largest_batch(self, memory: int) -> int:
        """The largest batch whose peak before rounding fits `memory` bytes; 0 if none does."""
        fixed, per_sample = self.lines
        room = memory - fixed
        if room.min() < 0:
            return 0
        growing = per_sample > 0
        if not growing.any():
            raise ValueError("nothing in this timeline grows with the batch")
        return int((room[growing] // per_sample[growing]).min())
