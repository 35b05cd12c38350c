"""The commands of planning: what they print, and their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import convcalc
from convcalc.cli import main


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["convcalc", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def test_fit_a_budget(capsys, monkeypatch) -> None:
    code, out, _ = run(capsys, monkeypatch, "fit", "lenet5", "--memory", "1GB", "--engine", "torch")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == [
        "device",
        "usable",
        "mode",
        "safe",
        "likely",
        "hopeful",
        *("peak", "of", "likely"),
    ]
    assert lines[2].split()[:4] == ["budget", "1", "GB", "inference"]
    assert "the largest batch of lenet5 on torch" in out


def test_fit_a_device_says_what_it_is(capsys, monkeypatch) -> None:
    code, out, _ = run(
        capsys, monkeypatch, "fit", "lenet5", "--device", "tpu-v4", "--mode", "inference"
    )
    assert code == 0
    assert "Google TPU v4: as on a GPU" in out


def test_fit_every_device(capsys, monkeypatch) -> None:
    code, out, _ = run(
        capsys, monkeypatch, "fit", "lenet5", "--engine", "jax", "--mode", "training"
    )
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.startswith("gtx-1650"))
    assert int(row[3]) <= int(row[4])
    code, out, _ = run(
        *(capsys, monkeypatch, "fit", "lenet5", "--engine", "jax", "--format", "markdown")
    )
    assert out.startswith(
        "| device | usable | inference: safe | likely | training: safe | likely |"
    )


def test_fit_the_largest_input(capsys, monkeypatch) -> None:
    arguments = ("fit", "lenet5", "--memory", "100MB", "--engine", "torch", "--largest-input")
    code, out, _ = run(capsys, monkeypatch, *arguments, "--batch", "8", "--step", "4", "-f", "csv")
    assert code == 0
    rows = [line.split(",") for line in out.splitlines()]
    assert rows[0][:4] == ["device", "usable", "mode", "safe"]
    sides = [int(size) for size in rows[1][3].split("x")]
    assert sides[0] == sides[1]
    assert sides[0] % 4 == 0


def test_fit_as_json_to_a_file(capsys, monkeypatch, tmp_path: Path) -> None:
    file = tmp_path / "fit.json"
    code, out, _ = run(
        *(capsys, monkeypatch, "fit", "lenet5", "--memory", "1GiB", "--engine", "torch"),
        *("--json", "--output", str(file)),
    )
    assert (code, out) == (0, "")
    data = json.loads(file.read_text())
    assert data["largest"] == "batch"
    assert data["fits"][1]["mode"] == "training"
    assert data["fits"][1]["safe"]["batch"] > 1


def test_fit_nothing(capsys, monkeypatch) -> None:
    code, out, err = run(capsys, monkeypatch, "fit", "lenet5", "--memory", "1kB")
    assert code == 1
    assert "-" in out
    assert err == "convcalc: nothing fits\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "many"], "'many' is not a size"),
        (["--device", "rtx-3091"], "did you mean 'rtx-3090'?"),
        (["--memory", "1GiB", "--batch", "3"], "go with --largest-input"),
        (["--memory", "1GiB", "--step", "3"], "go with --largest-input"),
        (["--devices", "none.toml"], "cannot read the devices file 'none.toml'"),
    ],
)
def test_fit_usage(capsys, monkeypatch, arguments: list[str], message: str) -> None:
    code, _, err = run(capsys, monkeypatch, "fit", "lenet5", *arguments)
    assert code == 2
    assert message in err


def test_devices(capsys, monkeypatch, tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('[our-card]\nmemory = "16GiB"\n')
    code, out, _ = run(capsys, monkeypatch, "devices", "--devices", str(file))
    assert code == 0
    assert any(line.startswith("rtx-4090") for line in out.splitlines())
    assert out.splitlines()[-1].split()[:2] == ["our-card", "our-card"]
    _, out, _ = run(capsys, monkeypatch, "devices", "--json")
    assert {entry["name"] for entry in json.loads(out)} >= {"t4", "tpu-v6e"}
    _, out, _ = run(capsys, monkeypatch, "devices", "--format", "csv")
    assert out.splitlines()[0].endswith("source")
    _, out, _ = run(capsys, monkeypatch, "devices", "--format", "markdown")
    assert out.startswith("| name | title |")


def test_memory_on_a_named_device(capsys, monkeypatch) -> None:
    named = run(capsys, monkeypatch, "memory", "lenet5", "--device", "rtx-4090", "--json")
    plain = run(capsys, monkeypatch, "memory", "lenet5", "--device", "gpu", "--json")
    assert named == plain


def test_advise(capsys, monkeypatch) -> None:
    base = ("advise", "lenet5", "--engine", "torch", "--batch", "64")
    code, out, _ = run(capsys, monkeypatch, *base, "--memory", "3MB")
    assert code == 0
    assert "does not fit 3 MB" in out
    assert "the cheapest plan that fits: batch 64 in " in " ".join(out.split())
    header = next(line for line in out.splitlines() if line.startswith("fits"))
    assert header.split() == ["fits", "remedy", "peak", "saved", "costs"]
    assert "not xla: torch runs in one way only" in out
    assert "note (odd-channels)" in out
    assert max(map(len, out.splitlines())) <= 80


def test_advise_without_a_budget_with_much_and_with_too_little(capsys, monkeypatch) -> None:
    base = ("advise", "lenet5", "--engine", "torch")
    _, out, _ = run(capsys, monkeypatch, *base)
    assert "that " not in out.split("fits  remedy")[0]
    _, out, _ = run(capsys, monkeypatch, *base, "--device", "rtx-4090")
    assert "that fits 25.8 GB of rtx-4090" in out
    code, out, _ = run(capsys, monkeypatch, *base, "--memory", "10kB")
    assert code == 0
    assert "not even together" in out


def test_advise_in_other_forms(capsys, monkeypatch) -> None:
    base = ("advise", "lenet5", "--engine", "torch", "--memory", "1MB")
    _, out, _ = run(capsys, monkeypatch, *base, "--json")
    data = json.loads(out)
    assert data["remedies"][0]["after"]["batch"] >= 1
    _, out, _ = run(capsys, monkeypatch, *base, "--format", "csv")
    assert out.startswith("name,fits,remedy,peak,saved,costs,price\n")
    _, out, _ = run(capsys, monkeypatch, *base, "--format", "markdown")
    assert out.startswith("| fits | remedy | peak | saved | costs |")
    code, _, err = run(capsys, monkeypatch, *base, "--mode", "both")
    assert code == 2
    assert "unknown mode 'both'" in err


def test_compare_two_settings(capsys, monkeypatch) -> None:
    base = ("compare", "lenet5", "--engine", "torch", "--optimizer", "adam", "--batch", "8")
    _, out, _ = run(capsys, monkeypatch, *base, "--right-dtype", "mixed_float16")
    assert out.splitlines()[0].split() == ["quantity", "float32", "mixed_float16", "ratio"]
    rows = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
    assert float(rows["training_peak_bytes"][-1]) < 1
    assert float(rows["params"][-1]) == 1
    _, out, _ = run(
        *(capsys, monkeypatch, *base, "--right-batch", "16", "--right-optimizer", "sgd"),
        *("--right-engine", "jax", "--right-device", "t4", "--json"),
    )
    data = json.loads(out)
    assert data["right_settings"]["device"] == "t4"
    assert data["left_settings"]["optimizer"] == "adam"
    peaks = {row["quantity"]: row["right"] for row in data["totals"]}
    report = convcalc.analyze("lenet5", engine="jax", optimizer="sgd", batch=16, device="t4")
    assert report.memory.training is not None
    assert peaks["training_peak_bytes"] == report.memory.training.peak_bytes


def test_compare_a_network_with_itself_or_with_the_book(capsys, monkeypatch) -> None:
    _, out, _ = run(capsys, monkeypatch, "compare", "lenet5")
    assert "lenet5 (left)" in out
    assert "peak_bytes" not in out
    _, out, _ = run(capsys, monkeypatch, "compare", "lenet5", "--right-engine", "torch")
    assert "textbook" in out.splitlines()[0]
    assert "peak_bytes" not in out
