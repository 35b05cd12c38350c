"""Measurements kept: one JSON line a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from convcalc.errors import UsageError
from convcalc.verify.request import Measurement, Request

#: What tells two runs apart; a record that agrees in all of them repeats one that is there.
IDENTITY = (
    *("network", "input", "framework", "method", "device", "mode", "jit"),
    *("batch", "dtype", "optimizer", "threads"),
)
#: Settings that are written only where they are not the default, and tell runs apart as well.
EXTRA = ("remat", "accumulate", "ema")
DEFAULTS = {field.name: field.default for field in fields(Request)}


def record(name: str, request: Request, found: Measurement) -> dict[str, Any]:
    """One run as plain data; `name` is what the network is known by."""
    spec = json.dumps(request.network, sort_keys=True).encode()
    return {
        "network": name,
        "input": next(iter(request.network["inputs"].values())),
        "spec": hashlib.sha256(spec).hexdigest()[:16],
        "framework": request.framework,
        "version": found.version,
        "method": request.method,
        "device": request.device,
        "hardware": found.device,
        "mode": request.mode,
        "jit": request.jit,
        "batch": request.batch,
        "dtype": request.dtype,
        "optimizer": request.optimizer,
        "threads": request.threads,
        "params": found.params,
        "resting_bytes": found.resting_bytes,
        "peak_bytes": found.peak_bytes,
        "peaks": found.peaks,
        "out_of_memory": found.out_of_memory,
        "settings": found.settings,
        "notes": found.notes,
        **{key: getattr(request, key) for key in EXTRA if getattr(request, key) != DEFAULTS[key]},
    }


def identity(data: Mapping[str, Any]) -> str:
    """What tells a record from others."""
    return json.dumps([*(data[key] for key in IDENTITY), *(data.get(key) for key in EXTRA)])


def append(path: Path, data: Mapping[str, Any]) -> None:
    """Add a line to a file of records.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror}") from None


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
