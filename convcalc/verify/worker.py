"""The child process of `child.measure`: a request on stdin, an answer in the file that it names."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from convcalc.errors import ConvcalcError, MissingExtra, ModelError, UsageError
from convcalc.verify.child import module_of
from convcalc.verify.request import Request

#: How frameworks say that memory ran out: by the exception's class, or in its text.
MEMORY_ERRORS = ("MemoryError", "OutOfMemoryError", "ResourceExhaustedError")
MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory", "OOM when")


def answer(request: Request) -> dict[str, Any]:
    """The measurement, or what went wrong, as plain data."""
    try:
        return {"measurement": import_module(module_of(request)).run(request).to_json()}
    except MissingExtra as error:
        return {"error": "extra", "message": error.extra}
    except ConvcalcError as error:
        kind = "usage" if isinstance(error, UsageError) else "model"
        kind = kind if isinstance(error, (UsageError, ModelError)) else "failed"
        return {"error": kind, "message": str(error)}
    except Exception as error:
        text = " ".join(str(error).split())[:400]
        name = type(error).__name__
        memory = name in MEMORY_ERRORS or any(word in str(error) for word in MEMORY_WORDS)
        return {"error": "memory" if memory else "failed", "message": f"{name}: {text}"}


def end_with(parent: int) -> None:  # pragma: no cover - ends the process that it runs in
    """End this process and its children when `parent` is gone, which can then not do it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def main() -> None:  # pragma: no cover - the child process
    """Read, run, write."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    request = Request.from_json(json.load(sys.stdin))
    Path(sys.argv[1]).write_text(json.dumps(answer(request)), encoding="utf-8")


if __name__ == "__main__":
    main()
