"""Measure the validation set in pieces: `python -m benchmarks.memory.measure --set tune`.

Each run is a line of benchmarks/memory/FRAMEWORK.jsonl.  What is there already is skipped, so the
script can be stopped and started again at any time; one process measures at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import convcalc
from convcalc.readers.spec import write_spec
from convcalc.verify import records
from convcalc.verify.child import VerifyError, measure
from convcalc.verify.request import Request

HERE = Path(__file__).parent


class Setting(NamedTuple):
    """One run of every network; `batch` is the first or the second of its two."""

    mode: str
    jit: bool
    optimizer: str
    batch: int
    threads: int | None


#: In rounds: all networks have had one round before any has the next, so that a run cut short is
#: still one over all of them.
ROUNDS = (
    (
        Setting("training", False, "adam", 0, 1),
        Setting("training", True, "adam", 0, None),
        Setting("inference", False, "none", 0, None),
    ),
    (
        Setting("training", False, "sgd", 1, 1),
        Setting("training", False, "adam", 0, None),
        Setting("inference", True, "none", 0, None),
    ),
    (
        Setting("training", True, "sgd", 1, None),
        Setting("training", False, "momentum", 1, None),
        Setting("inference", False, "none", 1, None),
    ),
    (
        Setting("training", False, "rmsprop", 0, 1),
        Setting("training", True, "momentum", 0, None),
        Setting("inference", True, "none", 1, None),
    ),
)


def needs_repeats(setting: Setting) -> bool:
    """Only the graph executor's training with several threads differs from step to step.

    Such runs want a machine with nothing else to do: what takes a core's time keeps kernels from
    running side by side, and `shufflenet_v2_small` then reads 19 MB where it takes 34.
    """
    return setting.mode == "training" and not setting.jit and setting.threads is None


def networks(part: str) -> dict[str, dict[str, Any]]:
    """The networks marked `part`, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "networks.yaml").read_text())[part]
    return found


def load(name: str, entry: dict[str, Any]) -> convcalc.network.Network:
    """A network of the zoo, or one of ours in networks/."""
    own = HERE / "networks" / f"{name}.yaml"
    if own.exists():
        return convcalc.load(own)  # its sizes are the file's, of every input
    return convcalc.load(name, input=tuple(entry["input"]) if "input" in entry else None)


def cases(
    parts: list[str], rounds: list[int], device: str = "cpu", dtype: str = "float32"
) -> Iterator[tuple[str, Request]]:
    """Every run that is wanted, the most useful first."""
    for number in rounds:
        for part in parts:
            for name, entry in networks(part).items():
                spec = write_spec(load(name, entry))
                for setting in ROUNDS[number]:
                    yield (
                        name,
                        Request(
                            spec,
                            device=device,
                            dtype=dtype,
                            mode=setting.mode,
                            jit=setting.jit,
                            optimizer=setting.optimizer,
                            batch=entry["batches"][setting.batch],
                            threads=setting.threads,
                            repeats=15 if needs_repeats(setting) else 3,
                        ),
                    )


def main() -> None:
    """Measure what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("tune", "report"), action="append")
    parser.add_argument("--round", type=int, action="append", help="1 to 4; default: all")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", default="float32", help="or mixed_float16, ...")
    parser.add_argument("--mode", choices=("inference", "training"))
    parser.add_argument("--only", help="networks whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after so many")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one run")
    parser.add_argument("--output", type=Path, default=HERE / "tensorflow.jsonl")
    options = parser.parse_args()
    started = time.monotonic()
    done = {records.identity(line) for line in records.read(options.output)}
    rounds = [number - 1 for number in options.round or range(1, len(ROUNDS) + 1)]
    parts = options.set or ["tune", "report"]
    for name, request in cases(parts, rounds, options.device, options.dtype):
        if options.only and options.only not in name:
            continue
        if options.mode not in (None, request.mode):
            continue
        if identity(name, request) in done:
            continue
        if time.monotonic() - started > 60 * options.minutes:
            break
        begun = time.monotonic()
        try:
            found = measure(dataclasses.replace(request, timeout=options.timeout))
        except VerifyError as error:
            print(f"{describe(name, request)}: {error}", file=sys.stderr, flush=True)
            continue
        records.append(options.output, records.record(name, request, found))
        peak = f"{found.peak_bytes:,}" if found.peak_bytes else "out of memory"
        seconds = time.monotonic() - begun
        print(f"{describe(name, request)}: {peak} B, {seconds:.0f} s", file=sys.stderr, flush=True)


def identity(name: str, request: Request) -> str:
    """What the record of a run will be told by."""
    wanted = {"network": name, "input": next(iter(request.network["inputs"].values()))}
    return records.identity(
        {**wanted, **{key: getattr(request, key) for key in records.IDENTITY[2:]}}
    )


def describe(name: str, request: Request) -> str:
    """One run in a line."""
    kind = "xla" if request.jit else "graph"
    threads = "default" if request.threads is None else request.threads
    return f"{name} {request.mode} {kind} {request.optimizer} b{request.batch} t={threads}"


if __name__ == "__main__":
    main()
