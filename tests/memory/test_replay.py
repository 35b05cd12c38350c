"""The shortened replay of TensorFlow's allocator against one that leaves nothing out."""

from statistics import median

import pytest

import convcalc
from convcalc.memory import plan
from convcalc.memory.engines.tensorflow.replay import TINY, History, lasting, reachable
from convcalc.memory.job import Job

np = pytest.importorskip("numpy")


def in_full(history: History, batch: int) -> int:
    """Whole steps, event by event, after what comes before them; the median of the last three."""
    timeline = history.timeline
    sizes = timeline.sizes(batch).tolist()
    heap = history.begun(sizes)
    address = heap.address
    slots = sorted(history.slots)
    begun = sum(step < 0 for step, _ in timeline.events)

    def write(slot: int) -> None:
        if slot not in address:
            address[slot] = heap.take(sizes[slot])

    last = len(timeline.steps)
    peaks = []
    for _ in range(5):
        heap.peak = heap.used
        for number, (_, coded) in enumerate(timeline.events[begun:], begun):
            index = coded if coded >= 0 else ~coded
            if sizes[index] > TINY:
                if coded >= 0:
                    address[index] = heap.take(sizes[index])
                else:
                    heap.give(address[index])
            for slot in history.written.get(number, ()):
                write(slot)
        for slot in slots:
            write(slot)
        for before, after in history.renewed.items():
            address[before] = address[after]
        for index, buffer in enumerate(timeline.buffers):
            stays = buffer.end == last and buffer.start >= 0
            if stays and index not in history.renewed.values() and sizes[index] > TINY:
                heap.give(address[index])
        peaks.append(heap.peak)
    return max(median(peaks[2:]), timeline.peak(batch))


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "resnet18", "mobilenetv2"])
@pytest.mark.parametrize(
    ("mode", "optimizer"), [("inference", "none"), ("training", "sgd"), ("training", "adam")]
)
def test_nothing_that_counts_is_left_out(name: str, mode: str, optimizer: str) -> None:
    net = convcalc.load(name)
    for device in ("cpu", "gpu"):
        job = Job(mode, "float32", optimizer, device)
        for batch in (1, 3, 20, 37):
            found = plan(net, "tensorflow", job, batch)
            history = found.allocate.__self__  # type: ignore[attr-defined]
            assert found.allocate(batch) == in_full(history, batch)


def test_what_is_given_back_at_once_leaves_no_trace() -> None:
    assert lasting(np.array([0, 1, ~1, 2, ~0, 3, ~3])).tolist() == [0, 2, ~0]


def test_a_step_ends_where_its_peak_is_out_of_reach() -> None:
    size = np.array([1000, 400, 100])
    # After 0 has been taken and given back, 1 and 2 may be chunks of 799 and 199 bytes.
    moves = np.array([0, ~0, 1, 2, ~1, ~2])
    assert reachable(moves, size, 1, room=0) == 1
    assert reachable(moves, size, 1, room=-1) == 4
    assert reachable(moves, size, 1, room=-201) == 4
    assert reachable(moves, size, 1, room=-1001) == 6
