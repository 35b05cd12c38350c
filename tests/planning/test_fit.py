"""`fit`: its answers are the last that fit, whatever the engine, the budget and the network."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcalc
from convcalc.errors import ModelError, UsageError
from convcalc.memory import plan
from convcalc.memory.intervals import interval
from convcalc.memory.predict import job_for
from convcalc.network import Network
from convcalc.planning.advise import advise
from convcalc.planning.budget import budgets
from convcalc.planning.fit import candidate, fit, scaled
from convcalc.planning.situation import Situation

NET = convcalc.load(
    {
        "name": "small",
        "input": [16, 24, 3],
        "layers": [
            {"conv": {"filters": 8, "kernel": 3, "padding": "same", "activation": "relu"}},
            {"max_pool": 2},
            {"conv": {"filters": 16, "kernel": 3, "padding": "same", "activation": "relu"}},
            {"global_pool": "average"},
            {"dense": {"units": 10, "activation": "softmax"}},
        ],
    }
)
ENGINES = ("tensorflow", "tensorflow-xla", "torch", "jax")


def one(net: Network = NET, **given: Any) -> convcalc.report.Fitted:
    (found,) = fit(net, **given).fits
    return found


def upper(engine: str, mode: str, batch: int, net: Network = NET) -> int:
    """The upper bound of a batch's peak, straight from the engine."""
    job = job_for(mode, "float32", "adam", "gpu")
    made = plan(net, engine, job, batch)
    return interval(engine, job, made.allocate(batch), made.timeline.floor(batch))[1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", ["inference", "training"])
@given(memory=st.integers(2**15, 2**34))
@settings(max_examples=15)
def test_it_is_the_last_that_fits(engine: str, mode: str, memory: int) -> None:
    found = one(memory=memory, engine=engine, mode=mode)
    job = job_for(mode, "float32", "adam", "gpu")
    safe = found.safe.batch if found.safe else 0
    assert safe == 0 or upper(engine, mode, safe) <= memory
    assert memory < upper(engine, mode, safe + 1)
    likely = found.likely.batch if found.likely else 0
    assert likely == 0 or plan(NET, engine, job, likely).allocate(likely) <= memory
    assert memory < plan(NET, engine, job, likely + 1).allocate(likely + 1)
    assert safe <= likely <= (found.hopeful.batch if found.hopeful else 0)


@given(st.integers(2**16, 2**32), st.integers(0, 2**32))
@settings(max_examples=20)
def test_more_memory_holds_no_less(memory: int, more: int) -> None:
    small = one(memory=memory, engine="torch", mode="training").likely
    large = one(memory=memory + more, engine="torch", mode="training").likely
    assert (small.batch if small else 0) <= (large.batch if large else 0)


@pytest.mark.parametrize("engine", ["tensorflow", "tensorflow-xla"])
@pytest.mark.parametrize("batch", [1, 3, 4, 7, 8, 31, 32])
def test_where_another_order_of_execution_begins(engine: str, batch: int) -> None:
    job = job_for("training", "float32", "adam", "gpu")
    memory = plan(NET, engine, job, batch).allocate(batch)
    found = one(memory=memory, engine=engine, mode="training").likely
    assert found is not None
    assert found.peak_bytes <= memory
    # Not "no fewer than `batch`": a chunk that is handed out whole makes fewer samples need more.
    after = found.batch + 1
    assert plan(NET, engine, job, after).allocate(after) > memory


def test_a_larger_batch_that_needs_less_is_found() -> None:
    """On a CPU TensorFlow unfolds the images of AlexNet otherwise from a batch of 8 on."""
    net = convcalc.load("alexnet")
    job = job_for("training", "float32", "adam", "cpu")
    one_sample, eight = (candidate(net, "tensorflow", job, batch).peak_bytes for batch in (1, 8))
    assert eight < one_sample
    asked = {"device": "cpu", "engine": "tensorflow", "mode": "training"}
    found = one(net, memory=eight, **asked).likely
    assert found is not None
    assert found.batch >= 8
    part = Situation(net, "training", "tensorflow", "float32", "adam", 8, "cpu", accumulate=2)
    advice = advise(net, memory=part.candidate().interval[1], batch=512, **asked)
    (divided,) = (each for each in advice.remedies if each.name == "smaller-batch")
    assert divided.fits == "safe"
    assert divided.after.batch >= 8


def test_counted_by_hand() -> None:
    """PyTorch's inference of a ReLU: input and output, blocks of 512 bytes."""
    net = convcalc.load({"input": [128], "layers": [{"activation": "relu"}]})
    for batch in (1, 2, 1000):
        found = one(net, memory=2 * 512 * batch, engine="torch", mode="inference").likely
        assert found is not None
        assert (found.batch, found.peak_bytes) == (batch, 1024 * batch)
        found = one(net, memory=2 * 512 * (batch + 1) - 1, engine="torch", mode="inference").likely
        assert found is not None
        assert found.batch == batch
    assert one(net, memory=1023, engine="torch", mode="inference").likely is None


def test_on_a_device_the_whole_process_of_pytorch_counts() -> None:
    found = one(device="gtx-1650", engine="torch", mode="training")
    safe, hopeful = found.safe, found.hopeful
    assert safe is not None
    assert hopeful is not None
    assert safe.process_interval is not None
    assert hopeful.process_interval is not None
    assert found.usable_bytes == 4 * 2**30
    most = safe.process_interval[1] + safe.interval[1] - safe.peak_bytes
    assert most <= found.usable_bytes
    assert hopeful.process_interval[0] <= found.usable_bytes
    assert safe.batch < hopeful.batch


def test_the_whole_catalogue() -> None:
    report = fit(NET, engine="jax", mode="training")
    assert [row.device for row in report.fits] == list(convcalc.devices())
    assert {row.note for row in report.fits if row.device == "tpu-v5e"} == {
        "as on a GPU; a TPU pads channels to 128"
    }
    batches = {row.device: row.likely.batch for row in report.fits if row.likely}
    assert batches["rtx-4090"] > batches["rtx-3080"] > batches["gtx-1650"]
    eager = fit(NET, engine="torch", mode="inference")
    assert not any((row.device or "").startswith("tpu") for row in eager.fits)


def test_both_modes_stand_together() -> None:
    report = fit(NET, memory="1GiB", engine="torch")
    assert [row.mode for row in report.fits] == ["inference", "training"]
    assert report.fits[0].memory_bytes == report.fits[0].usable_bytes == 2**30
    assert not report.nothing_fits
    assert fit(NET, memory=100, engine="torch").nothing_fits


def test_nothing_to_train_is_a_note_unless_it_was_asked() -> None:
    net = convcalc.load({"input": [8, 8, 3], "layers": [{"max_pool": 2}]})
    report = fit(net, memory="1MiB", engine="torch")
    assert [row.mode for row in report.fits] == ["inference"]
    assert "no trainable variable" in report.notes[0]
    with pytest.raises(ModelError, match="no trainable variable"):
        fit(net, memory="1MiB", engine="torch", mode="training")


def test_what_an_engine_has_no_rule_for_is_said() -> None:
    net = convcalc.load(
        {
            "input": [8, 8, 4],
            "layers": [{"channel_shuffle": 2}, {"conv": {"filters": 4, "kernel": 1}}],
        }
    )
    report = fit(net, memory="1MiB", engine="tensorflow", mode="inference")
    assumed = plan(net, "tensorflow", job_for("inference", "float32", "none", "gpu"), 1).assumed
    assert len(report.notes) == len(assumed)


@pytest.mark.parametrize("engine", ["torch", "tensorflow-xla"])
def test_the_largest_input(engine: str) -> None:
    memory = 5_000_000
    row = one(memory=memory, engine=engine, mode="training", largest="input", batch=2)
    found = row.likely
    assert found is not None
    height, width, channels = found.inputs["input"]
    assert channels == 3
    assert width == (3 * height + 1) // 2
    job = job_for("training", "float32", "adam", "gpu")
    assert candidate(scaled(NET, height, 16), engine, job, 2).peak_bytes == found.peak_bytes
    assert found.peak_bytes <= memory
    assert candidate(scaled(NET, height + 1, 16), engine, job, 2).peak_bytes > memory


def test_the_largest_input_in_steps() -> None:
    row = one(memory=5_000_000, engine="torch", mode="training", largest="input", step=8)
    assert row.likely is not None
    assert row.likely.inputs["input"][0] % 8 == 0
    assert one(memory=1000, engine="torch", mode="training", largest="input").likely is None


def test_sizes_that_the_network_refuses() -> None:
    """Two valid windows of 9 take an input of at least 17; a reshape takes one size only."""
    valid = convcalc.load(
        {
            "input": [20, 20, 1],
            "layers": [
                {"conv": {"filters": 4, "kernel": 9}},
                {"conv": {"filters": 4, "kernel": 9}},
            ],
        }
    )
    job = job_for("inference", "float32", "none", "gpu")
    least = candidate(scaled(valid, 17, 20), "torch", job, 1).peak_bytes
    asked = {"engine": "torch", "mode": "inference", "largest": "input"}
    found = one(valid, memory=least, **asked).likely
    assert found is not None
    assert found.inputs == {"input": [17, 17, 1]}
    assert one(valid, memory=least - 1, **asked).likely is None
    tied = convcalc.load(
        {"input": [4, 4, 2], "layers": [{"reshape": [32]}, {"dense": 3}]},
    )
    found = one(tied, memory="1MiB", **asked).likely
    assert found is not None
    assert found.inputs == {"input": [4, 4, 2]}


def test_channels_first_networks_are_scaled_in_space_only() -> None:
    net = convcalc.load(
        {
            "layout": "channels_first",
            "inputs": {"image": [3, 8, 8], "numbers": [5]},
            "layers": [
                {
                    "conv": {"filters": 4, "kernel": 3, "channels_first": True},
                    "from": "image",
                    "name": "c",
                },
                {"global_pool": {"channels_first": True}, "name": "g"},
                {"dense": 4, "from": "numbers", "name": "d"},
                {"add": None, "from": ["g", "d"]},
            ],
        }
    )
    larger = scaled(net, 16, 8)
    assert larger.inputs["image"].dims == (1, 3, 16, 16)
    assert larger.inputs["numbers"].dims == (1, 5)
    found = one(net, memory="1MiB", engine="torch", mode="inference", largest="input").likely
    assert found is not None
    assert found.inputs["image"][2] == 3
    assert found.inputs["image"][0] == found.inputs["image"][1] > 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": "8GiBs"}, "'8GiBs' is not a size"),
        ({"memory": "0"}, "between one byte"),
        ({"memory": -1}, "between one byte"),
        ({"memory": 1.5}, "between one byte"),
        ({"memory": True}, "between one byte"),
        ({"memory": "9999999TiB"}, "between one byte"),
        ({"memory": "1GiB", "device": "t4"}, "not both"),
        ({"device": "cpu"}, "how much memory does the cpu have"),
        ({"device": "t5"}, "unknown device 't5'"),
        ({"device": "tpu-v4", "engine": "torch"}, "does not run on a TPU"),
        ({"memory": "1GiB", "engine": "textbook"}, "unknown engine 'textbook'"),
        ({"memory": "1GiB", "mode": "trainin"}, "did you mean 'training'"),
        ({"memory": "1GiB", "optimizer": "adma"}, "did you mean 'adam"),
        ({"memory": "1GiB", "dtype": "int4"}, "unknown dtype"),
        ({"memory": "1GiB", "largest": "width"}, "unknown question"),
        ({"memory": "1GiB", "batch": 0}, "batch must be"),
        ({"memory": "1GiB", "step": 0}, "step must be"),
    ],
)
def test_wrong_questions(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit(NET, **given)


def test_questions_without_an_answer() -> None:
    flat = convcalc.load({"input": [7], "layers": [{"dense": 3}]})
    with pytest.raises(UsageError, match="no input of 'network' has a height"):
        fit(flat, memory="1GiB", largest="input")


def test_a_cpu_has_a_budget_too() -> None:
    (found,) = budgets("2GB", "cpu", "torch")
    assert (found.memory, found.usable, found.whole) == (2 * 10**9, 2 * 10**9, False)
    assert one(memory="2GB", device="cpu", engine="torch", mode="inference").likely is not None


def test_the_public_function() -> None:
    report = convcalc.fit("lenet5", memory="8GiB", input=(32, 32, 1), engine="torch")
    assert report.network == "lenet5"
    assert report.fits[0].likely is not None
    assert report.fits[0].likely.inputs == {"input": [32, 32, 1]}
    again = type(report).model_validate(report.model_dump())
    assert again == report
    assert "safe" in str(type(report).model_json_schema())
