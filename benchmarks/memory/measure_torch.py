"""Count PyTorch's memory with MemTracker: `python -m benchmarks.memory.measure_torch --set tune`.

Nothing is computed, so networks have their own sizes, and a run takes a second or two.  Each is a
line of benchmarks/memory/torch.jsonl; what is there already is skipped, so the script can be
stopped and started again at any time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.memory.measure import HERE, load, networks
from convcalc.readers.spec import write_spec
from convcalc.verify import records
from convcalc.verify.request import Request
from convcalc.verify.torch import track


class Setting(NamedTuple):
    """One run of every network."""

    device: str
    mode: str
    optimizer: str
    batch: int
    foreach: bool = True


#: In rounds: all networks have had one round before any has the next.
ROUNDS = (
    (
        Setting("gpu", "training", "adam", 8),
        Setting("gpu", "training", "sgd", 32),
        Setting("gpu", "inference", "none", 8),
    ),
    (
        Setting("gpu", "training", "momentum", 2),
        Setting("gpu", "training", "adamw", 2, foreach=False),
        Setting("gpu", "training", "rmsprop", 8, foreach=False),
        Setting("gpu", "inference", "none", 2),
    ),
    (
        Setting("cpu", "training", "adam", 2, foreach=False),
        Setting("cpu", "training", "sgd", 8, foreach=False),
        Setting("cpu", "inference", "none", 2),
    ),
    (
        *(
            Setting("gpu", "training", optimizer, 2, foreach)
            for optimizer in ("sgd", "momentum", "adam", "rmsprop", "adamw")
            for foreach in (True, False)
        ),
        Setting("gpu", "training", "adam", 32),
        Setting("gpu", "inference", "none", 32),
    ),
)


def cases(parts: list[str], rounds: list[int]) -> Iterator[tuple[str, Setting, Request]]:
    """Every run that is wanted, the most useful first."""
    specs: dict[str, dict[str, Any]] = {}
    for number in rounds:
        for part in parts:
            for name in networks(part):
                spec = specs.setdefault(name, write_spec(load(name, {})))
                for setting in ROUNDS[number]:
                    request = Request(
                        spec,
                        framework="torch",
                        method="memtracker",
                        device=setting.device,
                        mode=setting.mode,
                        batch=setting.batch,
                        optimizer=setting.optimizer,
                    )
                    yield name, setting, request


def identity(data: dict[str, Any]) -> str:
    """What tells a record from others: how the optimizer runs, too."""
    foreach = data["settings"]["foreach"] if data["mode"] == "training" else None
    return json.dumps([records.identity(data), foreach])


def main() -> None:
    """Measure what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("tune", "report"), action="append")
    parser.add_argument("--round", type=int, action="append", help="1 to 4; default: all")
    parser.add_argument("--only", help="networks whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after so many")
    parser.add_argument("--output", type=Path, default=HERE / "torch.jsonl")
    options = parser.parse_args()
    started = time.monotonic()
    done = {identity(line) for line in records.read(options.output)}
    rounds = [number - 1 for number in options.round or range(1, len(ROUNDS) + 1)]
    for name, setting, request in cases(options.set or ["tune", "report"], rounds):
        if options.only and options.only not in name:
            continue
        wanted = {
            "network": name,
            "input": next(iter(request.network["inputs"].values())),
            "settings": {"foreach": setting.foreach},
            **{key: getattr(request, key) for key in records.IDENTITY[2:]},
        }
        if identity(wanted) in done:
            continue
        if time.monotonic() - started > 60 * options.minutes:
            break
        begun = time.monotonic()
        found = track(request, foreach=setting.foreach)
        line = records.record(name, request, found)
        records.append(options.output, line)
        done.add(identity(line))
        seconds = time.monotonic() - begun
        text = f"{name} {' '.join(map(str, setting))}: {found.peak_bytes:,} B, {seconds:.1f} s"
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
