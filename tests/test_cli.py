"""The command line: what is on stdout, what is on stderr, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from convcalc.cli import main
from convcalc.cli.render import fold, prefix
from convcalc.readers import load
from convcalc.settings import format_bytes, format_count, parse_bytes, parse_count


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def call(*args: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["convcalc", *args])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


SEED = [
    "conv",
    "--input",
    "150x100x3",
    "--filters",
    "200",
    "--kernel",
    "5",
    "--stride",
    "1",
    "--padding",
    "same",
]


def test_the_textbook_layer(run: Run) -> None:
    report = json.loads(run(*SEED, "--json").out)
    (layer,) = report["layers"]
    assert layer["output_shape"] == [1, 150, 100, 200]
    assert (layer["params"], layer["macs"]) == (15_200, 225_000_000)
    assert layer["output_bytes"] == 12_000_000
    assert layer["receptive_field"]["size"] == [5, 5]
    assert report["memory"]["textbook"]["training_bytes"] == 12_000_000
    assert report["schema_version"] == 1
    assert report["status"] == "complete"


def test_the_textbook_layer_in_words(run: Run) -> None:
    result = run(*SEED, "--explain")
    assert "(5 x 5 x 3 + 1) x 200 = 15,200" in result.out
    assert result.code == 0
    assert not result.err


@pytest.mark.parametrize(
    ("options", "shape", "params", "macs"),
    [
        ("--input 100x3 --filters 8 --kernel 5 --padding causal", [100, 8], 128, 12_000),
        ("--input 9x9x9x2 --filters 4 --kernel 3", [7, 7, 7, 4], 220, 74_088),
        ("--input 8x8x4 --depthwise --kernel 3 --padding same", [8, 8, 4], 40, 2_304),
        ("--input 8x8x4 --depthwise --filters 8 --kernel 1", [8, 8, 8], 16, 512),
        (
            "--input 8x8x4 --filters 2 --kernel 2 --stride 2 --transposed",
            [16, 16, 2],
            34,
            2_048,
        ),
        ("--input 8x8x4 --filters 2 --kernel 5x3 --stride 2x1 --no-bias", [2, 6, 2], 120, 1_440),
        ("--input 9x9x1 --filters 1 --kernel 3 --stride 1,2,2,1", [4, 4, 1], 10, 144),
        ("--input 8x8x3 --filters 6 --kernel 3 --padding 1,0,2,0 --groups 3", [7, 8, 6], 60, 3_024),
        ("--input 8x6x3 --filters 2 --kernel 1 --layout nchw", [2, 8, 6], 8, 288),
    ],
)
def test_one_layer_in_many_forms(
    run: Run, options: str, shape: list[int], params: int, macs: int
) -> None:
    result = run("conv", *options.split(), "--json")
    (layer,) = json.loads(result.out)["layers"]
    assert layer["output_shape"] == [1, *shape]
    assert (layer["params"], layer["macs"]) == (params, macs)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ("conv --input 150x100x3 --kernel 5", 2, "--filters is missing"),
        ("conv --input 5x5x3 --filters 2 --kernel 7", 2, "a kernel of 7"),
        ("conv --input 0x5x3 --filters 2", 2, "0 is not positive"),
        ("conv --input axbxc --filters 2", 2, "must be positive numbers"),
        ("conv --input 5 --filters 2", 2, "must be LxC, HxWxC or DxHxWxC"),
        ("conv --input 5x5x3 --filters 0", 2, "filters must be a positive integer"),
        (f"conv --input 5x5x3 --filters {10**30}", 2, "2^63 - 1"),
        ("conv --input 5x5x3 --filters 4 --groups 2", 2, "2 groups do not divide 3"),
        ("conv --input 5x5x3 --filters 4 --stride 2,2,2,1", 2, "must be 1"),
        ("conv --input 5x5x3 --filters 4 --stride 0", 2, "0 is not positive"),
        ("conv --input 5x5x3 --filters 4 --padding wide", 2, "--padding 'wide'"),
        ("conv --input 5x5x3 --filters 4 --padding 1,2,3", 2, "4 are needed"),
        ("conv --input 5x5x3 --filters 4 --layout hwcn", 2, "neither nhwc nor nchw"),
        ("conv --input 5x5x3 --filters 4 --depthwise", 2, "multiple of 3"),
        ("conv --input 5x5x3 --filters 4 --neuron 1", 2, "must be 2 numbers"),
        ("conv --input 5x5x3 --filters 4 --dtype float31", 2, "did you mean 'float32'"),
        ("conv --input 5x5x3 --filters 4 --batch 0", 2, "batch must be"),
        ("conv --input 5x5x3 --filters 4 --format xml", 2, "unknown format 'xml'"),
        ("analyze resnet5", 4, "did you mean 'resnet50'"),
        ("analyze /", 4, "is a directory"),
        ("analyze resnet50 --columns name,mac", 2, "did you mean 'macs'"),
        ("analyze resnet50 --max-memory lots", 2, "'lots' is not a size"),
        ("analyze resnet50 --engine magic", 2, "unknown engine 'magic'"),
        ("analyze lenet5 --max-params 10k", 1, "params 61,706 is over the limit of 10,000"),
        ("analyze lenet5 --max-memory 1kB", 1, "memory"),
        ("analyze lenet5 --output /nowhere/file", 2, "cannot write"),
        ("analyze", 2, "give either MODEL or --source FILE"),
        ("nonsense", 2, "No such command"),
    ],
)
def test_mistakes_are_told_in_a_line(run: Run, args: str, code: int, message: str) -> None:
    result = run(*args.split())
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err


def test_limits_that_hold(run: Run) -> None:
    args = [
        "analyze",
        "resnet50",
        "--max-params",
        "26M",
        "--max-macs",
        "3.9G",
        "--max-memory",
        "8GiB",
    ]
    assert run(*args).code == 0


def test_strict_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("input: [8, 8, 3]\nlayers: [{opaque: {name: Mystery}}, {dense: 3}]\n")
    result = run("analyze", str(path), "--strict")
    assert result.code == 3
    assert "not counted" in result.out
    assert "partial" in result.out
    report = json.loads(run("analyze", str(path), "--json").out)
    assert report["status"] == "partial"
    assert report["layers"][0]["macs"] is None
    assert report["layers"][0]["params"] is None
    assert [gap["op"] for gap in report["uncounted"]] == ["opaque", "dense"]


def test_the_table_fits_eighty_columns_and_adds_up(run: Run) -> None:
    lines = run("analyze", "resnet50").out.splitlines()
    assert max(map(len, lines)) <= 80
    rules = [i for i, line in enumerate(lines) if set(line) == {"-"}]
    rows = lines[rules[0] + 1 : rules[1]]
    # From the right: memory and MACs with their units, then parameters.
    params = sum(
        int(re.findall(r"[\d,]+(?= )", line.split("x")[-1])[1].replace(",", "")) for line in rows
    )
    assert params == 25_636_712
    assert "25,636,712" in lines[rules[1] + 1]


def test_csv_adds_up(run: Run) -> None:
    text = run("analyze", "resnet50", "--format", "csv", "--columns", "name,params,macs").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["params"]) for row in rows) == 25_636_712
    assert sum(int(row["macs"]) for row in rows) == 3_857_973_248


def test_folding_keeps_the_sums() -> None:
    from convcalc import analyze

    report = analyze("resnet50")
    folded = fold(report.layers, 1)
    assert len(folded) < 30
    assert sum(layer.params or 0 for layer in folded) == report.totals.params
    assert sum(layer.macs or 0 for layer in folded) == report.totals.macs
    assert prefix("conv2_block1_out", 2) == "conv2_block1"
    assert prefix("layer1/0/relu", 5) == "layer1/0/relu"


def test_markdown_and_output_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    result = run("analyze", "lenet5", "--format", "markdown", "--output", str(path))
    assert result.out == ""
    assert "wrote" in result.err
    assert path.read_text().startswith("| layer | type |")


def test_compare_two_networks_and_two_settings(run: Run) -> None:
    result = json.loads(run("compare", "vgg16", "vgg19", "--json").out)
    totals = {row["quantity"]: (row["left"], row["right"]) for row in result["totals"]}
    assert totals["params"] == (138_357_544, 143_667_240)
    extra = [pair["right"]["name"] for pair in result["layers"] if pair["left"] is None]
    assert extra == ["block3_conv4", "block4_conv4", "block5_conv4"]
    result = json.loads(run("compare", "lenet5", "lenet5", "--right-batch", "4", "--json").out)
    totals = {row["quantity"]: (row["left"], row["right"]) for row in result["totals"]}
    left, right = totals["textbook_training_bytes"]
    assert right == 4 * left
    assert "vgg19" in run("compare", "vgg16", "vgg19", "--layers").out


def test_zoo_lists_every_network(run: Run) -> None:
    names = json.loads(run("zoo", "--json").out)
    assert len(names) >= 46
    assert all(name in run("zoo").out for name in ("resnet50", "lenet5", "unet"))


def test_export_gives_the_network_back(run: Run, tmp_path: Path) -> None:
    for form in ((), ("--yaml",)):
        path = tmp_path / "net.yaml"
        assert run("export", "resnet18", *form, "--output", str(path)).code == 0
        assert load(path) == load("resnet18")


def test_version_and_help(run: Run) -> None:
    from convcalc import __version__

    assert run("--version").out.strip() == __version__
    assert "conv" in run("--help").out


def test_a_reader_that_stops_early_is_no_error() -> None:
    code = "from convcalc.cli import main; main()"
    command = f"{sys.executable} -c '{code}' analyze resnet50 | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr


def test_no_framework_is_imported_to_analyze() -> None:
    code = (
        "import sys; import convcalc; convcalc.analyze('resnet50');"
        "bad = {'numpy', 'tensorflow', 'keras', 'torch', 'onnx', 'h5py', 'rich', 'fastapi'};"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "value"),
    [("8GiB", 8 * 2**30), ("500 MB", 500_000_000), ("12000000", 12_000_000), ("1.5kB", 1_500)],
)
def test_sizes_in_text(text: str, value: int) -> None:
    assert parse_bytes(text) == value


def test_counts_in_text() -> None:
    assert (parse_count("25M"), parse_count("1e9"), parse_count("4.1G")) == (
        25_000_000,
        10**9,
        4_100_000_000,
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (12_000_000, "12 MB"), (999_999, "1 MB"), (1_234, "1.23 kB")],
)
def test_bytes_for_people(value: int, text: str) -> None:
    assert format_bytes(value) == text


def test_counts_for_people() -> None:
    assert format_count(225_000_000) == "225 M"
    assert format_count(3_857_973_248) == "3.86 G"
    assert format_count(7) == "7"


def test_data_is_any_json(run: Run) -> None:
    data: Any = json.loads(run("conv", *SEED[1:], "--neuron", "0,0", "--json").out)
    assert data["derivation"]


def test_why_two_tools_differ(run: Run) -> None:
    rows = json.loads(run("analyze", "resnet50", "--versus", "fvcore", "--json").out)
    norm = next(row for row in rows if row["type"] == "batch_norm")
    assert norm["a"] == 0
    # fvcore takes two operations for each element that a batch norm reads.
    assert norm["b"] == 2 * 10_587_136
    assert "fvcore" in run("analyze", "resnet50", "--versus", "fvcore").out
