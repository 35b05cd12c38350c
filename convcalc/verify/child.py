"""`measure`: one request in a fresh process, which is ended when its time is over.

A framework reads its settings once, when it is imported, and an allocator remembers what went
before; so each measurement has a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from convcalc.errors import ConvcalcError, MissingExtra, ModelError, UsageError
from convcalc.verify.request import Measurement, Request

#: Lines of the child's stderr that an error quotes.
TAIL = 5


class VerifyError(ConvcalcError):
    """A run that failed for a reason of its own: not memory, not a mistake of usage."""

    exit_code = 1


def module_of(request: Request) -> str:
    """The module that runs a request."""
    name = "compiled" if request.method == "compiled" else request.framework
    return f"convcalc.verify.{name}"


def measure(request: Request) -> Measurement:
    """Run `request` in a process of its own.  Running out of memory is an answer.

    Raises:
        MissingExtra: the framework is not installed.
        UsageError, ModelError: it cannot run this network or this setting.
        VerifyError: it failed, or its time was over; the message ends with what it printed last.
    """
    environment = {**os.environ, **import_module(module_of(request)).environment(request)}
    with tempfile.TemporaryDirectory(prefix="convcalc-") as folder:
        answer, log = Path(folder, "answer.json"), Path(folder, "stderr")
        with log.open("wb") as stderr:
            code = run(request, answer, stderr, environment)
        printed = log.read_text(encoding="utf-8", errors="replace")
        data = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    if code is None:
        raise VerifyError(f"the run took longer than {request.timeout:g} s{tail(printed)}")
    if data is None:
        if code == -signal.SIGKILL:
            # Nobody else sends it to a process that we have just started.
            return exhausted(request, "ended by signal 9, as the kernel does when memory is short")
        raise VerifyError(f"the run ended with status {code}{tail(printed)}")
    return interpret(request, data, printed)


def interpret(request: Request, data: dict[str, Any], printed: str) -> Measurement:
    """What the child's answer says."""
    if "measurement" in data:
        return Measurement.from_json(data["measurement"])
    kind, message = data["error"], data["message"]
    if kind == "memory":
        return exhausted(request, message)
    if kind == "extra":
        raise MissingExtra(message)
    if kind in ("usage", "model"):
        raise (UsageError if kind == "usage" else ModelError)(message)
    raise VerifyError(f"the run failed: {message}{tail(printed)}")


def run(
    request: Request, answer: Path, stderr: IO[bytes], environment: dict[str, str]
) -> int | None:
    """The child's exit status, None if its time was over; nothing of its group outlives it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "convcalc.verify.worker", str(answer)],
        stdin=subprocess.PIPE,
        stdout=stderr,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )
    try:
        child.communicate(json.dumps(request.to_json()).encode(), timeout=request.timeout)
        return child.returncode
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def exhausted(request: Request, message: str) -> Measurement:
    """The answer of a run that had too little memory."""
    return Measurement(
        framework=request.framework,
        version="",
        method=request.method,
        device=request.device,
        notes=[f"out of memory: {message}"],
        out_of_memory=True,
    )


def tail(printed: str) -> str:
    """The last lines of what a child printed, for the end of a sentence."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return ": " + " | ".join(lines[-TAIL:]) if lines else ""
