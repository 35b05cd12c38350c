"""The commands of planning: what they print, and their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

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
