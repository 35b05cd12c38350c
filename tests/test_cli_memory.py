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
