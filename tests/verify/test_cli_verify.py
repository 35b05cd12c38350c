"""`convcalc verify`: what it asks for, shows, keeps and exits with; the run itself is canned."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from convcalc.cli import main
from convcalc.cli import verify as command
from convcalc.errors import ModelError
from convcalc.readers import load
from convcalc.readers.spec import write_spec
from convcalc.report import Prediction
from convcalc.verify import child
from convcalc.verify.request import Event, Measurement, Request

CONV = ["--conv", "--input", "150x100x3", "--filters", "200", "--kernel", "5"]


class Canned:
    """Answers every request and remembers it."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.peak: int | None = 12_242_432

    def measure(self, request: Request) -> Measurement:
        self.asked.append(request)
        found = Measurement("tensorflow", "tensorflow 2.21.0", request.method, "cpu")
        found.out_of_memory = self.peak is None
        if self.peak is None:
            found.notes.append("out of memory: too small")
            return found
        found.params, found.output_shape = 15_200, [request.batch, 150, 100, 200]
        found.peaks, found.peak_bytes, found.resting_bytes = [self.peak] * 3, self.peak, 242_432
        found.settings = {"loss": ["mean_squared_error"], "threads": None}
        if request.timeline:
            found.timeline = [Event(0, "conv_1/conv/BiasAdd", 12_242_432, 12_000_000, "Conv2D")]
        if request.values:
            found.values_error = 4.5e-7
        if request.flops:
            found.flops = 453_000_000
        return found


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Canned:
    made = Canned()
    monkeypatch.setattr(child, "measure", made.measure)
    predict(monkeypatch, 12_000_000)
    return made


def predict(monkeypatch: pytest.MonkeyPatch, peak: int) -> None:
    prediction = Prediction(
        peak_bytes=peak,
        floor_bytes=peak,
        process_bytes=None,
        interval=(peak, peak + 300_000),
        at="conv",
        breakdown={"weights": 60_800},
    )
    monkeypatch.setattr(command, "predict", lambda net, request: (prediction, {"conv": peak}))


def verify(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["convcalc", "verify", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_textbook_layer(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, *CONV, "--timeline") == 0
    out, err = capsys.readouterr()
    assert "inference  predicted  12,000,000 B" in out
    assert "inference  measured   12,242,432 B" in out
    assert "values to the reference 4.5e-07 of the largest, within 1e-05" in out
    assert "bytes of output 12,000,000 = 12,000,000" in out
    assert "output shape 1x150x100x200 = 1x150x100x200" in out
    assert "at rest between steps 242 kB, predicted 60.8 kB" in out
    assert "453 M FLOPs by the framework, 2 x MACs 450 M" in out
    assert "where they part" in out
    assert "running conv with tensorflow for" in err
    inference, training = canned.asked
    assert (inference.mode, inference.optimizer, inference.values) == ("inference", "none", True)
    assert (training.mode, training.optimizer, training.values) == ("training", "sgd", False)
    assert not training.jit


def test_json_and_records(
    canned: Canned,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.jsonl"
    settings = ["--mode", "training", "--optimizer", "adam", "--threads", "1", "--jit", "--json"]
    assert verify(monkeypatch, "seed_layer", *settings, "--record", str(path)) == 0
    (verdict,) = json.loads(capsys.readouterr().out)
    assert (verdict["mode"], verdict["checks"][0]["found"]) == ("training", 15_200)
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["optimizer"] == "adam"
    (asked,) = canned.asked
    assert (asked.jit, asked.threads, asked.optimizer) == (True, 1, "adam")


def test_outside_the_tolerance_or_the_interval_is_exit_1(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(monkeypatch, 11_000_000)
    assert verify(monkeypatch, *CONV, "--mode", "inference") == 1
    assert "interval does not hold" in capsys.readouterr().err
    assert verify(monkeypatch, *CONV, "--mode", "inference", "--tolerance", "11") == 0
    capsys.readouterr()
    assert verify(monkeypatch, *CONV, "--mode", "inference", "--tolerance", "10") == 1
    assert "-10.1% off, more than 10 %" in capsys.readouterr().err


def test_out_of_memory_is_an_answer(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canned.peak = None
    assert verify(monkeypatch, *CONV, "--memory", "8MiB") == 1
    out, err = capsys.readouterr()
    assert "out of memory: too small" in out
    assert "it ran out of memory" in err
    assert canned.asked[0].memory_limit == 8 * 2**20


def test_compiled_for_a_device_that_is_not_there(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, *CONV, "--compiled", "--device", "h100", "--format", "csv") == 0
    assert "inference,compiled,12242432,,," in capsys.readouterr().out
    request = canned.asked[0]
    assert (request.framework, request.method, request.device) == ("jax", "compiled", "h100")
    assert request.jit
    assert not request.values
    assert command.engine_of(request) == "jax"


def test_a_prediction_that_cannot_be_made_is_said(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(net: object, request: object) -> None:
        raise ModelError("no rule for it")

    monkeypatch.setattr(command, "predict", fail)
    assert verify(monkeypatch, *CONV, "--mode", "inference") == 0
    assert "no prediction: no rule for it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "give either a model or --conv"),
        (["lenet5", "--conv"], "give either a model or --conv"),
        (["--conv"], "--conv needs one --input"),
        (["lenet5", "--mode", "both_"], "unknown mode"),
        (["lenet5", "--framework", "caffe"], "unknown framework"),
        (["lenet5", "--device", "h100"], "unknown device"),
        (["lenet5", "--repeats", "0"], "--repeats must be at least 1"),
        (["lenet5", "--batch", "0"], "--batch must be at least 1"),
        (["lenet5", "--loss", "hinge"], "unknown loss"),
    ],
)
def test_usage(
    args: list[str],
    text: str,
    canned: Canned,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verify(monkeypatch, *args) == 2
    assert text in capsys.readouterr().err
    assert canned.asked == []


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({"jit": True}, "tensorflow-xla"),
        ({}, "tensorflow"),
        ({"framework": "torch"}, "torch"),
        ({"framework": "jax"}, "jax"),
    ],
)
def test_the_engine_that_predicts_it(settings: dict[str, object], engine: str) -> None:
    assert command.engine_of(Request({}, **settings)) == engine  # type: ignore[arg-type]


def test_the_prediction_and_for_a_timeline_its_layers() -> None:
    net = load("lenet5")
    asked = Request(write_spec(net), framework="jax", method="compiled", optimizer="adam")
    alone, layers = command.predict(net, asked)
    assert layers is None
    again, layers = command.predict(net, dataclasses.replace(asked, timeline=True))
    assert again == alone
    assert layers is not None
    assert layers.keys() & {op.layer for op in net.ops}
    assert 0 < sum(layers.values()) < alone.peak_bytes


def test_a_driver_without_devices_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not command.has_gpu()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU 0: Some Card\n")
    tool.chmod(0o755)
    assert command.has_gpu()
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert not command.has_gpu()
