"""Ask XLA's compiler: `python -m benchmarks.memory.measure_compiled --set tune`.

The devices need not be there.  Needs jax, keras and the extras xla-gpu and xla-tpu.  Nothing is
run, so networks have their own sizes.  Each answer is a line of benchmarks/memory/compiled.jsonl;
what is there already is skipped, so the script can be stopped and started again at any time.  All
is compiled in this process, since importing takes longer than compiling a small network.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.memory.measure import HERE, load, networks
from convcalc.readers.spec import write_spec
from convcalc.verify import compiled, records
from convcalc.verify.request import Measurement, Request


class Setting(NamedTuple):
    """One compilation of every network."""

    device: str
    mode: str
    optimizer: str
    batch: int
    dtype: str = "float32"


#: In rounds: all networks have had one round before any has the next.
ROUNDS = (
    (
        Setting("h100", "training", "adam", 8),
        Setting("h100", "inference", "none", 8),
        Setting("cpu", "training", "adam", 8),
    ),
    (
        Setting("t4", "training", "adam", 8),
        Setting("h100", "training", "sgd", 32),
        Setting("cpu", "inference", "none", 8),
    ),
    (
        Setting("h100", "inference", "none", 32),
        Setting("t4", "inference", "none", 8),
        Setting("cpu", "training", "sgd", 32),
    ),
    (
        Setting("a100", "training", "adam", 8),
        Setting("h100", "training", "momentum", 8),
        Setting("h100", "training", "adam", 8, "mixed_bfloat16"),
        Setting("t4", "training", "adam", 8, "mixed_float16"),
        Setting("a100", "inference", "none", 8),
    ),
)

#: The textbook's layer, on everything.
LAYER = tuple(
    Setting(device, mode, "none" if mode == "inference" else "sgd", 1)
    for device in (
        *("cpu", "h100", "a100", "t4", "tpu-v5e"),
        *("v100", "l4", "b200", "rtx3090", "rtx4090", "rtx5090"),
    )
    for mode in ("inference", "training")
)

#: At its own 572 x 572 a U-Net is too large for most cards.
SIZES = {"unet": {"input": [188, 188, 1]}}


def cases(parts: list[str], rounds: list[int]) -> Iterator[tuple[str, Request]]:
    """Every compilation that is wanted, the most useful first."""
    specs: dict[str, dict[str, Any]] = {}

    def request(name: str, setting: Setting) -> tuple[str, Request]:
        spec = specs.setdefault(name, write_spec(load(name, SIZES.get(name, {}))))
        asked = Request(spec, "jax", "compiled", jit=True, repeats=1, **setting._asdict())
        return name, asked

    if 0 in rounds:
        for setting in LAYER:
            yield request("seed_layer", setting)
    for number in rounds:
        for part in parts:
            for name in networks(part):
                for setting in ROUNDS[number]:
                    yield request(name, setting)


def compile_here(request: Request) -> Measurement:
    """The answer of `compiled.run`, given in this process.  What memory ran out of is an answer."""
    import jax
    import keras

    keras.backend.clear_session()
    try:
        return compiled.run(request)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        note = " ".join(str(error).split())[:400]
        return Measurement("jax", "", "compiled", request.device, notes=[note], out_of_memory=True)


def main() -> None:
    """Compile what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("tune", "report"), action="append")
    parser.add_argument("--round", type=int, action="append", help="1 to 4; default: all")
    parser.add_argument("--only", action="append", help="these networks alone")
    parser.add_argument("--device", action="append", help="these targets alone")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after so many")
    parser.add_argument("--output", type=Path, default=HERE / "compiled.jsonl")
    options = parser.parse_args()
    started = time.monotonic()
    os.environ.update(compiled.environment(Request({}, "jax", "compiled")))
    import jax  # reads the environment

    done = {records.identity(line) for line in records.read(options.output)}
    rounds = [number - 1 for number in options.round or range(1, len(ROUNDS) + 1)]
    for name, request in cases(options.set or ["tune", "report"], rounds):
        if options.only and name not in options.only:
            continue
        if options.device and request.device not in options.device:
            continue
        wanted = {
            "network": name,
            "input": next(iter(request.network["inputs"].values())),
            **{key: getattr(request, key) for key in records.IDENTITY[2:]},
        }
        if records.identity(wanted) in done:
            continue
        if time.monotonic() - started > 60 * options.minutes:
            break
        begun = time.monotonic()
        what = f"{name} {request.device} {request.mode} {request.optimizer} b{request.batch}"
        what += "" if request.dtype == "float32" else f" {request.dtype}"
        try:
            found = compile_here(request)
        except jax.errors.JaxRuntimeError as error:
            print(f"{what}: {' '.join(str(error).split())[:400]}", file=sys.stderr, flush=True)
            continue
        line = records.record(name, request, found)
        records.append(options.output, line)
        done.add(records.identity(line))
        peak = f"{found.peak_bytes:,}" if found.peak_bytes else "out of memory"
        seconds = time.monotonic() - begun
        print(f"{what}: {peak} B, {seconds:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
