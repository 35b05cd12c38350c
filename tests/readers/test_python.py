"""`file.py:function`: code that is run because the caller named it, and only then."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from convcalc.cli import main
from convcalc.errors import MissingExtra, ModelError, UsageError
from convcalc.readers import load, python

NET = """
import dataclasses
from helper import filters

@dataclasses.dataclass
class Settings:
    filters: "int" = filters

def build():
    print("building")
    layer = {"conv": {"filters": Settings().filters, "kernel": 3}, "name": "c"}
    return {"input": [8, 8, 3], "layers": [layer]}

def needs(argument):
    return argument

def fails():
    layers = []
    return layers[3]

def leaves():
    raise SystemExit("not today")

def nothing():
    return None

constant = 3
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("filters = 5\n")
    path = tmp_path / "json.py"
    path.write_text(NET)
    return path


def test_a_function_makes_the_network(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    before = list(sys.path)
    assert load(f"{net}:build").tensors["c"].shape == (1, 6, 6, 5)
    assert load(f"{net}:build", input=(10, 8, 3)).tensors["c"].shape == (1, 8, 6, 5)
    assert sys.path == before
    # A file that is called like a module does not take its place.
    assert sys.modules["json"] is json
    assert capsys.readouterr() == ("", "building\nbuilding\n")
    sys.modules.pop("helper")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", r"json\.py', line 19: IndexError: list index out of range"),
        ("leaves", r"json\.py', line 22: SystemExit: not today"),
        ("needs", r"json\.py': TypeError: needs\(\) missing 1 required positional argument"),
        ("missing", r"json\.py' has no function 'missing'"),
        ("constant", r"json\.py' has no function 'constant'"),
        ("nothing", "cannot read a network from an object of type NoneType"),
    ],
)
def test_errors_in_the_code_name_its_line(net: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(f"{net}:{function}")
    sys.modules.pop("helper", None)


def test_code_that_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("x = 1\ndef build(:\n    pass\n")
    with pytest.raises(ModelError, match=r"net\.py', line 2: SyntaxError"):
        load(f"{path}:build")
    path.write_text("from convcalc import UsageError\nraise UsageError('no such size')\n")
    with pytest.raises(UsageError, match="no such size"):
        load(f"{path}:build")
    with pytest.raises(ModelError, match="is no file"):
        load(f"{tmp_path / 'other.py'}:build")


def test_the_command_line_takes_it(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["convcalc", "analyze", f"{net}:build", "--format", "csv"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    out, err = capsys.readouterr()
    # (3 * 3 * 3 + 1) * 5 parameters.
    assert "140" in out
    assert "building" not in out
    assert "building" in err
    sys.modules.pop("helper", None)


def test_a_framework_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    file = tmp_path / "net.py"
    file.write_text("import torch\ndef build(): return torch.nn.Linear(3, 2)\n", encoding="utf-8")
    with pytest.raises(MissingExtra, match=r"convcalc\[torch\]"):
        python.call(file, "build")
