"""Reading a model's structure against loading the model, as ratios: time and peak memory.

    python -m benchmarks.readers

Each figure is of a process of its own; needs Keras (the extra `tensorflow`).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 3

# VmHWM is the peak of this process alone.
PEAK = "int(next(r.split()[1] for r in open('/proc/self/status') if r.startswith('VmHWM')))"
CHILD = """
import sys, time
{imports}
start = time.perf_counter()
{read}
print(time.perf_counter() - start, {peak})
"""
OURS = CHILD.format(imports="import convcalc", read="convcalc.load(sys.argv[1])", peak=PEAK)
KERAS = CHILD.format(
    imports="import keras",
    read="keras.models.load_model(sys.argv[1], compile=False)",
    peak=PEAK,
)
SAVE = """
import keras, sys
model = getattr(keras.applications, sys.argv[1])(weights=None)
for path in sys.argv[2:]:
    model.save(path)
"""


def run(code: str, *arguments: str) -> list[float]:
    """What a child prints, as numbers."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def measure(path: Path) -> tuple[list[float], list[float]]:
    """(seconds, kB at the peak) of both, medians."""
    pairs = [(run(OURS, str(path)), run(KERAS, str(path))) for _ in range(REPEATS)]
    ours, theirs = (list(zip(*side, strict=True)) for side in zip(*pairs, strict=True))
    return [statistics.median(column) for column in ours], [
        statistics.median(column) for column in theirs
    ]


def main() -> None:
    print("| file | MB | `convcalc.load` | `keras.models.load_model` | time | peak memory |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("MobileNetV2", "ResNet50"):
            paths = [Path(folder) / f"{name}{ending}" for ending in (".keras", ".h5")]
            run(SAVE, name, *map(str, paths))
            for path in paths:
                (ours, our_peak), (theirs, their_peak) = measure(path)
                print(
                    f"| {path.name} | {path.stat().st_size / 1e6:.0f} "
                    f"| {1e3 * ours:.0f} ms, {our_peak / 1e3:.0f} MB "
                    f"| {1e3 * theirs:.0f} ms, {their_peak / 1e3:.0f} MB "
                    f"| {ours / theirs:.3f} | {our_peak / their_peak:.3f} |"
                )


if __name__ == "__main__":
    main()
