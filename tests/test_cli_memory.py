"""`convcalc memory` on the command line."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from convcalc.cli import app
from convcalc.errors import UsageError
from convcalc.report import MemoryProfile


def run(*arguments):
    return CliRunner().invoke(app, ["memory", "lenet5", *arguments])


@pytest.mark.parametrize("engine", ["tensorflow", "tensorflow-xla", "torch", "jax"])
def test_json_is_a_profile_whose_kinds_add_up(engine):
    result = run("--engine", engine, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    found = MemoryProfile.model_validate(json.loads(result.stdout))
    totals = [sum(values) for values in zip(*found.bytes.values(), strict=True)]
    assert max(totals) == totals[found.peak_step]
    low, high = found.prediction.interval
    assert low <= found.prediction.peak_bytes <= high


def test_plot_is_xml_without_scripts_and_marks_the_peak(tmp_path):
    path = tmp_path / "memory.svg"
    result = run("--plot", str(path))
    assert result.exit_code == 0, result.output
    nodes = list(ElementTree.parse(path).iter())
    assert not [node for node in nodes if node.tag.split("}")[-1] in ("script", "style")]
    assert "peak" in [node.text for node in nodes]


@pytest.mark.parametrize(
    "arguments", [("--batch", "0"), ("--engine", "caffe"), ("--plot", "memory.gif")]
)
def test_wrong_options_are_wrong_usage(arguments):
    assert isinstance(run(*arguments).exception, UsageError)


def test_all_engines_side_by_side():
    result = run("--engine", "all")
    assert result.exit_code == 0, result.output
    assert "PyTorch" in result.output
    assert "JAX" in result.output


def test_png_is_a_picture_of_the_same_size_and_colours(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from convcalc.memory.chart import COLOURS, HEIGHT, WIDTH

    path = tmp_path / "memory.png"
    result = run("--plot", str(path), "--device", "cpu")
    assert result.exit_code == 0, result.output
    with image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        seen = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in picture.getcolors(1 << 20)}
    assert {COLOURS["weights"], COLOURS["activations"], "#d00000", "#ffffff"} <= seen


def test_checkpointing_is_said_and_needs_less():
    pieces = {}
    for remat in ("none", "block", "sqrt"):
        result = CliRunner().invoke(
            app, ["memory", "resnet50", "-b", "8", "--engine", "torch", "--remat", remat, "--json"]
        )
        pieces[remat] = MemoryProfile.model_validate(json.loads(result.stdout))
        assert pieces[remat].remat == remat
    peaks = {remat: found.prediction.peak_bytes for remat, found in pieces.items()}
    assert peaks["block"] < peaks["sqrt"] < peaks["none"]
    words = run("--remat", "block", "--engine", "jax", "--device", "cpu").output
    assert "checkpointing saves nothing" in " ".join(words.split())


def test_what_rests_more():
    def resting(*arguments):
        result = run("--engine", "torch", "--json", *arguments)
        return MemoryProfile.model_validate(json.loads(result.stdout)).bytes

    plain, ema, accumulated = resting(), resting("--ema"), resting("--accumulate")
    adam = plain["optimizer"][0]
    assert ema["optimizer"][0] == adam * 3 // 2
    assert plain["gradients"][0] == 0
    assert accumulated["gradients"][0] == adam // 2


#: A network without anything to train.
FROZEN = {"input": [8, 8, 4], "layers": [{"max_pool": 2}]}


def test_notes_say_what_stands_against_a_prediction():
    from convcalc import load
    from convcalc.memory.predict import predict_both

    settings = {"batch": 2, "dtype": "float32", "optimizer": "adam", "device": "gpu"}
    inference, training, notes = predict_both(load(FROZEN), engine="jax", **settings)
    assert inference is not None
    assert training is None
    assert len(notes) == 1
    assert notes[0].startswith("no prediction of training: ")
    *_, notes = predict_both(load("lenet5"), engine="jax", remat="block", **settings)
    assert len(notes) == 1
    assert "stretches was measured on jax with a few networks" in notes[0]
    seed = load({"input": [8, 8, 4], "layers": [{"conv": {"filters": 4, "kernel": 3}}]})
    *_, notes = predict_both(seed, engine="torch", remat="sqrt", **settings)
    assert notes == ["checkpointing by 'sqrt' finds no place to cut 'network'"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["lenet5", "--engine", "torch"], 0, ""),
        (["lenet5", "--remat", "all"], 2, "unknown remat 'all'"),
        (["lenet5", "--batch", "0"], 2, "batch must be a positive integer"),
        (["lenet5", "--plot", "/nowhere/x.svg"], 2, "cannot write '/nowhere/x.svg'"),
        (["lenet6"], 4, "lenet6"),
        ([str(FROZEN).replace("'", '"')], 4, ""),
    ],
)
def test_exit_codes_of_the_entry_point(monkeypatch, capsys, arguments, code, words):
    """What a shell sees: `convcalc.cli.main`, which pyproject names."""
    import sys
    import tomllib
    from importlib import import_module
    from pathlib import Path

    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8")
    module, name = tomllib.loads(text)["project"]["scripts"]["convcalc"].split(":")
    monkeypatch.setattr(sys, "argv", ["convcalc", "memory", *arguments])
    try:
        found = getattr(import_module(module), name)() or 0
    except SystemExit as stop:
        found = stop.code or 0
    captured = capsys.readouterr()
    assert found == code, captured.err
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert bool(captured.out) is (code == 0)


def test_a_missing_extra_is_exit_code_5(monkeypatch, capsys, tmp_path):
    import sys

    from convcalc.cli import main

    monkeypatch.setitem(sys.modules, "PIL", None)
    path = str(tmp_path / "memory.png")
    monkeypatch.setattr(sys, "argv", ["convcalc", "memory", "lenet5", "--plot", path])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 5
    assert "images" in capsys.readouterr().err
