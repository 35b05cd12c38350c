"""Peaks of many batches at once against the timeline's own, batch by batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcalc
from convcalc.memory.engines import Plan, plan
from convcalc.memory.job import Job
from convcalc.memory.program import Size
from convcalc.memory.timeline import Buffer, Step, Timeline
from convcalc.planning import sweep_peaks
from convcalc.planning.sweep_peaks import Allocated, Peaks, envelope

sizes = st.tuples(st.integers(0, 5000), st.integers(0, 700))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Buffers that are taken and given back in any order."""
    buffers, events, living = [], [], []
    for step in range(draw(st.integers(1, 12))):
        size = Size(*draw(sizes))
        if draw(st.booleans()):
            size = Size(size.fixed, size.per_sample // 8 * 256)
        buffers.append(Buffer(size, "activations", "", "", step, 99))
        events.append((step, step))
        living.append(step)
        if draw(st.booleans()):
            gone = living.pop(draw(st.integers(0, len(living) - 1)))
            events.append((step, ~gone))
    steps = [Step("op", "layer", "forward")] * len(buffers)
    rest = Size(*draw(sizes))
    return Timeline(steps, buffers, events, draw(st.sampled_from([1, 16, 256])), rest)


@settings(max_examples=60, deadline=None)
@given(timeline=timelines(), low=st.integers(1, 40), count=st.integers(1, 300))
def test_peaks_are_the_timelines_own(timeline: Timeline, low: int, count: int) -> None:
    peaks = Peaks(timeline, low, low + count - 1)
    batches = np.arange(low, low + count)
    assert peaks(batches).tolist() == [timeline.peak(int(batch)) for batch in batches]
    assert peaks(batches[-1:]).tolist() == [timeline.peak(low + count - 1)]


@settings(max_examples=60)
@given(lines=st.lists(sizes, min_size=1, max_size=10), high=st.integers(1, 60))
def test_the_envelope_is_the_highest_line(lines: list[tuple[int, int]], high: int) -> None:
    fixed, per = (np.array(column, np.int64) for column in zip(*lines, strict=True))
    top = envelope(fixed, per, 1, high)
    for batch in range(1, high + 1):
        line = [line for start, line in top if start <= batch][-1]
        assert fixed[line] + batch * per[line] == (fixed + batch * per).max()


def test_a_peak_that_does_not_fit_is_an_error() -> None:
    buffer = Buffer(Size(0, 2**40), "activations", "", "", 0, 1)
    timeline = Timeline([Step("op", "layer", "forward")], [buffer], [(0, 0)])
    with pytest.raises(OverflowError):
        Peaks(timeline, 1, 2**40)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_eager_pytorch_to_the_byte(mode: str, dtype: str) -> None:
    made = plan(convcalc.load("lenet5"), "torch", Job(mode, dtype, "adam"), 1)
    batches = np.arange(1, 700)
    expected = [made.allocate(int(batch)) for batch in batches]
    assert Allocated(made, batches)(batches).tolist() == expected


def test_what_only_the_allocator_knows_is_replayed_as_often_as_is_affordable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = Buffer(Size(100, 10), "activations", "", "", 0, 1)
    timeline = Timeline([Step("op", "layer", "forward")], [buffer], [(0, 0)])
    asked: list[int] = []

    def allocate(batch: int) -> int:
        asked.append(batch)
        return timeline.peak(batch) + batch**2

    many = np.arange(64, 128)
    monkeypatch.setattr(sweep_peaks, "REPLAYED", 4)
    found = Allocated(Plan(timeline, allocate), many)(many)
    assert asked == [64, 85, 106, 127]
    assert [found[batch - 64] for batch in asked] == list(map(allocate, list(asked)))
    # The line between 64^2 and 85^2 at 65.
    assert found[1] == timeline.peak(65) + 64**2 + 64 + 85
    few = many[:4]
    assert Allocated(Plan(timeline, allocate), few)(few).tolist() == [allocate(b) for b in few]
    every = Allocated(Plan(timeline, allocate), many, exact=True)(many)
    assert every.tolist() == [allocate(batch) for batch in many]
