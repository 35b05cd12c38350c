"""`sweep` against a loop over `analyze` and over its peers: rows a second, linearity, memory.

    python -m benchmarks.sweep

Every row has all columns: costs, the textbook's figures, both peaks.  Seconds include the plans.
Peers that are not installed are named as such; torchinfo needs PyTorch.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import convcalc
from convcalc.network import Network
from convcalc.planning.sweep import Sweep

MILLION = 10**6
PEAK = "print(next(r.split()[1] for r in open('/proc/self/status') if r.startswith('VmHWM')))"
#: 100 million rows that pass through memory, of which the front is kept.
HUNDRED_MILLION = f"""
import convcalc
table = convcalc.sweep(
    "resnet50", batch=range(1, 10**7), input=[(s, s, 3) for s in (128, 160, 192, 224, 256)],
    optimizer=["sgd", "adam"], engine="torch", where="training_peak < 80GB",
)
assert len(table) > 99_999_000
table.pareto("macs", "training_peak", "-batch")
{PEAK}
"""


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call: what others on the machine take does not count."""
    start = time.process_time()
    call()
    return time.process_time() - start


def through(table: Sweep) -> None:
    """Compute every column of every row."""
    for start, stop in table.chunks():
        table.block(start, stop, table.names)


def rate(what: str, net: Network, **axes: Any) -> float:
    """Print how many rows of a sweep are computed in a second."""
    table = convcalc.sweep(Network(net.name, net.ops, net.inputs, net.outputs, net.layout), **axes)
    taken = seconds(lambda: through(table))
    print(f"| {what} | {len(table):,} | {taken:.2f} s | {len(table) / taken:,.0f} |")
    return len(table) / taken


def loop_over_analyze(net: Network) -> float:
    """Configurations a second of a loop, its plan being made once as well."""
    count = 20
    taken = seconds(
        lambda: [
            convcalc.analyze(net, batch=batch, engine="torch", optimizer="adam")
            for batch in range(1, count + 1)
        ]
    )
    return count / taken


def torchinfo_rate() -> float | None:
    """Configurations a second of torchinfo's summary, None if it is not installed."""
    try:
        import torch
        import torchinfo
    except ImportError:
        return None
    from benchmarks.torch_resnet import ResNet50

    model = ResNet50().to("meta")
    size = (8, 3, 224, 224)
    call = lambda: torchinfo.summary(model, input_size=size, verbose=0, device="meta")  # noqa: E731
    with torch.no_grad():
        call()
        return 1 / seconds(call)


def keras_rate() -> float | None:
    """Models a second of Keras, which must be built to be counted; None if not installed."""
    try:
        import keras
    except ImportError:
        return None
    call = lambda: keras.applications.ResNet50(weights=None).count_params()  # noqa: E731
    call()
    return 1 / seconds(call)


def main() -> None:
    net, deep = convcalc.load("resnet50"), convcalc.load("resnet152")
    convcalc.analyze("lenet5", engine="torch")  # imports
    convcalc.analyze("lenet5", engine="tensorflow")
    print("| sweep | rows | CPU time | rows/s |")
    print("|---|---:|---:|---:|")
    adam: dict[str, Any] = {"optimizer": "adam", "engine": "torch"}
    most = rate("ResNet-50, torch, batch 1:4,000,000", net, batch=range(1, 4 * MILLION + 1), **adam)
    tenth = rate("the same, a tenth of the rows", net, batch=range(1, 400_001), **adam)
    rate("ResNet-152, torch, batch 1:4,000,000", deep, batch=range(1, 4 * MILLION + 1), **adam)
    rate(
        "ResNet-50 by the book, batch 1:256 x 97 inputs x 10 widths x 4 dtypes",
        net,
        batch=range(1, 257),
        input=[(s, s, 3) for s in range(128, 516, 4)],
        width=[0.1 * n for n in range(1, 11)],
        dtype=["float32", "float16", "float64", "bfloat16"],
    )
    for engine in ("torch", "tensorflow"):
        rate(
            f"ResNet-50, {engine}, batch 1:256 x 2 inputs x 2 optimizers",
            net,
            batch=range(1, 257),
            input=[(128, 128, 3), (224, 224, 3)],
            optimizer=["sgd", "adam"],
            engine=engine,
        )
    print()
    print("| one configuration at a time | rows/s | sweep (4 million rows) is faster by |")
    print("|---|---:|---:|")
    peers = {
        "a loop over `analyze`, torch": loop_over_analyze(net),
        "torchinfo (no optimizer, no peak)": torchinfo_rate(),
        "Keras (parameters only)": keras_rate(),
    }
    for name, found in peers.items():
        if found is None:
            print(f"| {name} | not installed | |")
        else:
            print(f"| {name} | {found:.1f} | {most / found:,.0f} |")
    print()
    print(f"Ten times the rows take {10 * tenth / most:.1f} times as long.")
    command = [sys.executable, "-c", HUNDRED_MILLION]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(f"100 million rows: {int(done.stdout) / 1e6:.2f} GB at the peak of the process.")


if __name__ == "__main__":
    main()
