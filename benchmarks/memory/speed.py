"""How long a prediction takes on a loaded network, and for one more batch.

    python -m benchmarks.memory.speed [NETWORK ...]

Milliseconds of processor time, the least of several runs, which on a busy machine is the figure
that can be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import process_time

import convcalc
from convcalc.memory.job import Job
from convcalc.memory.predict import job_for, predict
from convcalc.network import Network

ENGINES = (
    ("torch", "gpu"),
    ("tensorflow", "cpu"),
    ("tensorflow", "gpu"),
    ("jax", "gpu"),
    ("jax", "cpu"),
    ("tensorflow-xla", "gpu"),
)
MODES = ("inference", "training")
BATCH = 32
RUNS = 10


def least(run: Callable[[], object]) -> float:
    """Milliseconds of the fastest run."""
    taken = []
    for _ in range(RUNS):
        start = process_time()
        run()
        taken.append(process_time() - start)
    return 1000 * min(taken)


def rows(net: Network) -> Iterator[tuple[str, float, float]]:
    """Engine, device and mode; the first prediction; one for another batch."""
    for engine, device in ENGINES:
        for mode in MODES:
            job = job_for(mode, "float32", "adam", device)

            def first(engine: str, job: Job) -> None:
                net.memo.clear()
                predict(net, engine, job, BATCH)

            def another(engine: str, job: Job, batches: Iterator[int]) -> None:
                predict(net, engine, job, next(batches))

            whole = least(partial(first, engine, job))
            more = least(partial(another, engine, job, iter(range(BATCH + 1, 2 * BATCH))))
            yield f"{engine} {device} {mode}", whole, more


def main() -> None:
    """Print a table for each network."""
    for name in sys.argv[1:] or ("resnet50", "nasnetlarge"):
        print(f"\n| {name} | first, ms | another batch, ms |\n|---|---:|---:|")
        for what, whole, more in rows(convcalc.load(name)):
            print(f"| {what} | {whole:.1f} | {more:.2f} |", flush=True)


if __name__ == "__main__":
    main()
