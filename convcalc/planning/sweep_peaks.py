"""The peak of a timeline at many batches at once.

What is alive after an event is a line in the batch plus what rounding each buffer up adds.  Only a
few events can reach the peak at any batch: the upper envelope of the lines, and what lies below it
by less than rounding may add.  These are looked at for every batch, the others for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convcalc.arithmetic import INT64_MAX
from convcalc.memory.engines import Plan
from convcalc.memory.timeline import Timeline

Ints = npt.NDArray[np.int64]

#: Events that are replayed for one plan; more batches than that allows are drawn between others.
REPLAYED = 20_000


def envelope(fixed: Ints, per: Ints, low: int, high: int) -> list[tuple[int, int]]:
    """The highest of the lines ``fixed + batch * per`` from `low` to `high`.

    Returns (batch, line): from that batch on, up to the next entry's, this line is the highest.
    """
    at = low
    found: list[tuple[int, int]] = []
    while True:
        height = fixed + at * per
        best = np.flatnonzero(height == height.max())
        line = int(best[per[best].argmax()])
        found.append((at, line))
        steeper = np.flatnonzero(per > per[line])
        if not steeper.size:
            return found
        behind = fixed[line] - fixed[steeper]
        at = int((behind // (per[steeper] - per[line])).min()) + 1
        if at > high:
            return found


class Peaks:
    """`Timeline.peak` for arrays of batches between `low` and `high`, exactly.

    Raises:
        OverflowError: a peak does not fit int64.
    """

    def __init__(self, timeline: Timeline, low: int, high: int) -> None:
        step = timeline.round_to
        fixed = np.array([buffer.size.fixed for buffer in timeline.buffers], np.int64)
        per = np.array([buffer.size.per_sample for buffer in timeline.buffers], np.int64)
        coded = np.array([buffer for _, buffer in timeline.events], np.int64)
        which = np.where(coded < 0, ~coded, coded)
        sign = np.where(coded < 0, -1, 1)
        # Where whole steps are added by each sample, rounding does not depend on the batch.
        ragged = per % step != 0
        fixed = np.where(ragged, fixed, -(-fixed // step) * step)
        rests = timeline.resting
        if rests.at(high) + sum_at(fixed, per, high) > INT64_MAX // 2:
            raise OverflowError("a peak exceeds 2^63 - 1")
        lines = np.cumsum(sign * fixed[which]) + rests.fixed
        slopes = np.cumsum(sign * per[which]) + rests.per_sample
        top = envelope(lines, slopes, low, high)
        self.step = step
        if not ragged.any():
            chosen = np.array([line for _, line in top])
            self.fixed, self.per = lines[chosen], slopes[chosen]
            self.slack: Callable[[Ints], Ints] | None = None
            return
        most = lines + np.cumsum(sign * ragged[which]) * (step - 1)
        ends = [start for start, _ in top[1:]] + [high + 1]
        near = np.zeros(len(lines), bool)
        for (start, line), end in zip(top, ends, strict=True):
            for batch in (start, end - 1):
                near |= most + batch * slopes >= lines[line] + batch * slopes[line]
        kinds, kind = np.unique(
            np.stack([fixed % step, per % step])[:, ragged], axis=1, return_inverse=True
        )
        place = np.full(len(ragged), -1)
        place[ragged] = kind.ravel()
        rows = alive(np.flatnonzero(near), place[which], sign, kinds.shape[1])
        table = np.unique(np.column_stack([lines[near], slopes[near], rows]), axis=0)
        self.fixed, self.per, counts = table[:, 0], table[:, 1], table[:, 2:]

        def slack(batches: Ints) -> Ints:
            """What rounding adds at each event (rows) and batch (columns)."""
            found: Ints = counts @ (-(kinds[0][:, None] + kinds[1][:, None] * batches) % step)
            return found

        self.slack = slack

    def __call__(self, batches: Ints) -> Ints:
        """The peak in bytes at each batch."""
        extra: Any = None
        if self.slack is not None:
            # It repeats: rounding depends on the batch modulo the step.
            repeats = batches.size > self.step
            extra = self.slack(np.arange(self.step) if repeats else batches)
            rest = batches % self.step if repeats else slice(None)
        found: Ints | None = None
        for index in range(len(self.fixed)):
            height = self.fixed[index] + batches * self.per[index]
            if extra is not None:
                height += extra[index][rest]
            found = height if found is None else np.maximum(found, height, out=found)
        assert found is not None
        return found


def sum_at(fixed: Ints, per: Ints, batch: int) -> int:
    """An upper bound of what is alive, without overflow."""
    return int(fixed.sum(dtype=object)) + batch * int(per.sum(dtype=object))


def alive(events: Ints, kind: Ints, sign: Ints, kinds: int) -> Ints:
    """How many buffers of each kind are alive after some events; kind -1 is not counted."""
    running = np.zeros(kinds, np.int64)
    found = np.empty((len(events), kinds), np.int64)
    before = 0
    for row, event in enumerate(events):
        part, signs = kind[before : event + 1], sign[before : event + 1]
        counted = part >= 0
        np.add.at(running, part[counted], signs[counted])
        found[row] = running
        before = event + 1
    return found


class Allocated:
    """`Plan.allocate` for arrays of some of `batches`, which are sorted and belong to one regime.

    Exact where the allocator takes what the timeline says (eager PyTorch), and if `exact` is asked
    for.  Other allocators are replayed, for all batches if these or the events are few, else for
    some, the first and the last among them; what they take beyond the timeline's peak is drawn as
    straight lines between these.
    """

    def __init__(self, plan: Plan, batches: Ints, exact: bool = False) -> None:
        self.peaks = Peaks(plan.timeline, int(batches[0]), int(batches[-1]))
        self.anchors: Ints | None = None
        if plan.allocate == plan.timeline.peak:
            return
        most = max(REPLAYED // len(plan.timeline.events), 2)
        self.anchors = batches
        if len(batches) > most and not exact:
            self.anchors = batches[np.linspace(0, len(batches) - 1, most).astype(np.int64)]
        taken = np.array([plan.allocate(int(batch)) for batch in self.anchors], np.int64)
        self.beyond = taken - self.peaks(self.anchors)

    def __call__(self, batches: Ints) -> Ints:
        """The allocator's peak in bytes at each batch."""
        found: Ints = self.peaks(batches)
        if self.anchors is None:
            return found
        beyond = np.interp(batches, self.anchors, self.beyond)
        slack: Ints = np.rint(beyond).astype(np.int64)
        return found + slack
