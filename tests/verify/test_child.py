"""The child process: what it answers, how it fails, and that nothing of it is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import convcalc.verify
from convcalc.errors import ConvcalcError, MissingExtra, ModelError, UsageError
from convcalc.verify import child, worker
from convcalc.verify.child import VerifyError, measure
from convcalc.verify.request import Request

#: A framework that does what the request's `method` says.
FAKE = """
import os, pathlib, signal, subprocess, sys, time
from convcalc.errors import MissingExtra, ModelError, UsageError
from convcalc.verify.child import VerifyError
from convcalc.verify.request import Measurement

def environment(request):
    return {"FAKE_SETTING": request.dtype}

class ResourceExhaustedError(Exception):
    pass

def run(request):
    print("a line on stdout that must not be taken for data")
    print("what the framework says", file=sys.stderr)
    if request.method == "hang":
        grandchild = subprocess.Popen(["sleep", "60"])
        pathlib.Path(request.network["note"]).write_text(str(grandchild.pid))
        time.sleep(60)
    if request.method == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.method == "dies":
        os._exit(3)
    errors = {
        "extra": MissingExtra("torch"), "usage": UsageError("no such device"),
        "model": ModelError("no such layer"), "verify": VerifyError("no such luck"),
        "memory": MemoryError("too much"),
        "exhausted": ResourceExhaustedError("OOM"), "text": RuntimeError("RESOURCE_EXHAUSTED: no"),
        "bug": ValueError("a bug\\nin two lines"),
    }
    if request.method in errors:
        raise errors[request.method]
    version = os.environ.get("FAKE_SETTING", "")
    return Measurement("fake", version, "m", "cpu", peaks=[request.batch])
"""


@pytest.fixture(autouse=True)
def framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework called "fake", here and in child processes."""
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "sitecustomize.py").write_text(
        f"import convcalc.verify\nconvcalc.verify.__path__.append({str(tmp_path)!r})\n"
    )
    root = str(Path(convcalc.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), root]))
    monkeypatch.setattr(convcalc.verify, "__path__", [*convcalc.verify.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "convcalc.verify.fake", raising=False)


def asked(method: str, **settings: object) -> Request:
    return Request({}, framework="fake", method=method, **settings)  # type: ignore[arg-type]


def test_an_answer_and_its_environment() -> None:
    found = measure(asked("fine", batch=7, dtype="bfloat16"))
    assert (found.framework, found.version, found.peaks) == ("fake", "bfloat16", [7])
    assert not found.out_of_memory


@pytest.mark.parametrize("method", ["memory", "exhausted", "text", "killed"])
def test_running_out_of_memory_is_an_answer(method: str) -> None:
    found = measure(asked(method))
    assert found.out_of_memory
    assert found.peak_bytes is None
    assert found.notes[0].startswith("out of memory: ")


@pytest.mark.parametrize(
    ("method", "error", "text"),
    [
        ("extra", MissingExtra, r"pip install 'convcalc\[torch\]'"),
        ("usage", UsageError, "^no such device$"),
        ("model", ModelError, "^no such layer$"),
        ("verify", VerifyError, "no such luck"),
        ("bug", VerifyError, "ValueError: a bug in two lines: .*what the framework says"),
        ("dies", VerifyError, "ended with status 3"),
    ],
)
def test_errors_come_through(method: str, error: type[ConvcalcError], text: str) -> None:
    with pytest.raises(error, match=text) as raised:
        measure(asked(method))
    assert type(raised.value) is error


def test_the_deadline_ends_the_child_and_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    request = Request({"note": str(note)}, framework="fake", method="hang", timeout=4.0)
    with pytest.raises(VerifyError, match="longer than 4 s"):
        measure(request)
    assert gone(note)


def gone(note: Path) -> bool:
    """Whether the process whose number is in `note` ends soon."""
    stat = Path("/proc", note.read_text(), "stat")
    deadline = time.monotonic() + 20
    while stat.exists() and stat.read_text().split()[2] != "Z":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_nothing_outlives_a_parent_that_was_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    lines = f"""
from convcalc.verify.child import measure
from convcalc.verify.request import Request
measure(Request({{"note": {str(note)!r}}}, framework="fake", method="hang"))
"""
    parent = subprocess.Popen([sys.executable, "-c", lines])
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert gone(note)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("memory", "memory"),
        ("exhausted", "memory"),
        ("text", "memory"),
        ("extra", "extra"),
        ("usage", "usage"),
        ("model", "model"),
        ("verify", "failed"),
        ("bug", "failed"),
    ],
)
def test_the_worker_says_what_went_wrong(method: str, kind: str) -> None:
    assert worker.answer(asked(method))["error"] == kind


def test_the_worker_gives_the_measurement() -> None:
    assert worker.answer(asked("fine", batch=3))["measurement"]["peaks"] == [3]


def test_what_is_compiled_has_its_own_module() -> None:
    request = Request({}, framework="jax", method="compiled")
    assert child.module_of(request) == "convcalc.verify.compiled"
    assert child.module_of(asked("fine")) == "convcalc.verify.fake"


def test_the_tail_is_the_last_lines() -> None:
    assert child.tail("a\n\nb\nc\nd\n e \nf\n") == ": b | c | d | e | f"
    assert child.tail("\n") == ""
