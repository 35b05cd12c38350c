"""`convcalc sweep` on the command line: ranges in text, what is printed, what is refused."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import convcalc
from convcalc.cli import app
from convcalc.cli import sweep as command
from convcalc.cli.ranges import decimals, integers, values
from convcalc.errors import UsageError


def run(*arguments: str) -> Any:
    """The command's result; an error on purpose is raised."""
    result = CliRunner().invoke(app, ["sweep", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8", [8]),
        ("1:4", [1, 2, 3, 4]),
        ("128:512:128", [128, 256, 384, 512]),
        ("1:10:4", [1, 5, 9]),
        ("1,2, 8:10", [1, 2, 8, 9, 10]),
    ],
)
def test_whole_numbers(text: str, expected: Any) -> None:
    assert list(integers(text, "--batch")) == list(expected)


def test_a_long_range_stays_one() -> None:
    assert integers("1:9999999", "--batch") == range(1, 10**7)


def test_other_values() -> None:
    assert decimals("0.1:0.5:0.2,1", "--width") == [0.1, 0.3, 0.5, 1.0]
    assert values("3,3x5,same,true,false,0.5,1:2", "--set") == [
        *(3, (3, 5), "same", True, False, 0.5, 1, 2)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1:", "has no end"),
        ("1::2", "has no end"),
        (":9", "is no range"),
        ("1:2:3:4", "is no range"),
        ("9:1", "holds no values"),
        ("1:9:0", "holds no values"),
        ("1:99999999999", "at most 10,000,000"),
        ("1,,2", "empty place"),
        ("", "empty place"),
        ("eight", "must be a whole number"),
        ("-4", "must be a whole number"),
        ("1:2:0.5", "must be whole numbers"),
        ("9" * 30, "must be a whole number"),
    ],
)
def test_ranges_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        integers(text, "--batch")


def test_widths_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="must be a number"):
        decimals("half", "--width")


def test_a_table_shows_what_differs() -> None:
    result = run("lenet5", "--batch", "1:30", "--engine", "torch", "--optimizer", "sgd,adam")
    head, _, *rows = result.stdout.splitlines()
    assert head.split() == [
        *("batch", "optimizer", "params", "macs", "textbook_inference", "textbook_training"),
        *("inference_peak", "training_peak"),
    ]
    assert len(rows) == 20
    assert "the first 20 rows" in result.stderr
    assert "training_peak" not in run("lenet5").stdout


def test_json_and_csv_have_everything() -> None:
    given = ("lenet5", "--batch", "1,2", "--input", "28,32x40x1", "--where", "macs > 1000")
    rows = json.loads(run(*given, "--json").stdout)
    table = convcalc.sweep("lenet5", batch=[1, 2], input=[(28, 28, 1), (32, 40, 1)])
    assert [{**row, "input": tuple(row["input"])} for row in rows] == list(table)
    lines = list(csv.reader(io.StringIO(run(*given, "--format", "csv").stdout)))
    assert lines[0] == list(table.names)
    assert [line[:2] for line in lines[1:]] == [
        *(["1", "28x28x1"], ["2", "28x28x1"], ["1", "32x40x1"], ["2", "32x40x1"])
    ]
    limited = run(*given, "--format", "csv", "--limit-rows", "3").stdout
    assert list(csv.reader(io.StringIO(limited))) == lines[:4]
    assert run(*given, "--format", "markdown").stdout.startswith("| batch | input |")


def test_fields_and_widths() -> None:
    rows = json.loads(
        run("lenet5", "--width", "0.5,1", "--set", "conv_1.kernel=3,3x5", "--json").stdout
    )
    assert [(row["width"], row["conv_1.kernel"]) for row in rows] == [
        *((0.5, "3"), (1.0, "3"), (0.5, "3x5"), (1.0, "3x5"))
    ]


def test_a_front() -> None:
    result = run(
        *("lenet5", "--batch", "1:9", "--engine", "torch", "--json"),
        *("--pareto", "training_peak,-batch", "--where", "batch <= 4"),
    )
    assert [row["batch"] for row in json.loads(result.stdout)] == [1, 2, 3, 4]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    result = run("lenet5", "--batch", "1:9", "--where", "batch > 5", "-o", str(path))
    assert "4 of 9 configurations" in result.stderr
    assert len(path.read_text().splitlines()) == 5
    front = tmp_path / "front.csv"
    run("lenet5", "--batch", "1:9", "--pareto=-batch", "-o", str(front), "--format", "csv")
    assert len(front.read_text().splitlines()) == 2


def test_networks_that_are_impossible_are_told() -> None:
    result = run("lenet5", "--input", "4,28", "--json")
    assert [row["status"] for row in json.loads(result.stdout)] == ["impossible", "complete"]
    assert "input 4x4x1" in result.stderr


def test_sizes_of_a_network_with_other_inputs(tmp_path: Path) -> None:
    spec = {
        "layout": "channels_first",
        "inputs": {"x": [3, 8, 8], "z": [4]},
        "layers": [
            {"name": "f", "flatten": None, "from": "x"},
            {"concat": {}, "from": ["f", "z"]},
            {"dense": 2},
        ],
    }
    path = tmp_path / "two.json"
    path.write_text(json.dumps(spec))
    rows = json.loads(run(str(path), "--input", "x=4:6:2", "--json").stdout)
    assert [row["input"] for row in rows] == ["x=4x4x3 z=4", "x=6x6x3 z=4"]
    assert [row["params"] for row in rows] == [(48 + 4) * 2 + 2, (108 + 4) * 2 + 2]
    rows = json.loads(run(str(path), "--input", "z=5,7", "--json").stdout)
    assert [row["input"] for row in rows] == ["x=8x8x3 z=5", "x=8x8x3 z=7"]
    with pytest.raises(UsageError, match="does not say which of x, z"):
        run(str(path), "--input", "4")
    with pytest.raises(UsageError, match="has no input 'y'"):
        run(str(path), "--input", "y=4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "conv_1.kernel"], "must be LAYER.ATTRIBUTE=VALUES"),
        (["--output", "out.xlsx"], "must end in .csv or .parquet"),
        (["--output", "out.csv", "--limit-rows", "3"], "for what is printed"),
        (["--jobs", "2"], "are for --output"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--where", "open('x')"], "functions cannot be called"),
        (["--pareto", "dtype"], "no column of numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run("lenet5", *arguments)


def test_a_bar_appears_on_a_terminal_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with command.progress_bar() as progress:
        progress(1, 4)
    assert "configurations" not in terminal.getvalue()
    monkeypatch.setattr(command, "PATIENCE", -1)
    with command.progress_bar() as progress:
        progress(1000, 4000)
    assert "1,000 of 4,000 configurations" in terminal.getvalue()
