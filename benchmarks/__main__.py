"""Speed of convcalc against its limits and its peers, measured in one run, as Markdown.

    python -m benchmarks

Every figure is a ratio against something of the same run, from medians of paired repeats.
Peers that are not installed are named as such; torchinfo and PyTorch bring the last two rows.
"""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import convcalc
from convcalc.analysis.costs import analyze
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec

HERE = Path(__file__).parent
BARE = "import typer, pydantic, rich"
CONV = (
    "import sys; sys.argv = 'convcalc conv --input 150x100x3 --filters 200 --kernel 5 "
    "--padding same'.split(); from convcalc.cli import main; main()"
)
# VmHWM starts anew with the program; ru_maxrss would remember the process that started it.
PEAK = "print(next(r.split()[1] for r in open('/proc/self/status') if r.startswith('VmHWM')))"


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def paired(
    one: Callable[[], object], other: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Median seconds of each, and the median of the ratios pair by pair."""
    one(), other()
    pairs = [(seconds(one), seconds(other)) for _ in range(repeats)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def process(code: str) -> Callable[[], object]:
    """Run code in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def chain(length: int) -> Network:
    """A network of `length` convolutions."""
    conv = create("conv", {"filters": 8, "kernel": 3, "padding": "same"})
    ops = [Op(f"c{i}", conv, (f"c{i - 1}" if i else "x",)) for i in range(length)]
    return Network("chain", tuple(ops), {"x": TensorSpec((1, 32, 32, 8))}, (ops[-1].name,))


def row(what: str, ours: float, theirs: float, ratio: float, limit: str) -> str:
    return f"| {what} | {1e3 * ours:.2f} ms | {1e3 * theirs:.2f} ms | {ratio:.3g} | {limit} |"


def main() -> None:
    print("| what | convcalc | against | ratio | aim |\n|---|---:|---:|---:|---|")
    print(
        row(
            "`conv`, whole process / bare imports",
            *paired(process(CONV), process(BARE), 15),
            "<= 2.0",
        )
    )

    small, large = (iter([chain(length) for _ in range(6)]) for length in (1_000, 10_000))
    numbers = paired(lambda: analyze(next(large)), lambda: analyze(next(small)), 5)
    print(row("10,000 layers / 1,000 layers", *numbers, "about 10"))

    net = convcalc.load("resnet50")
    # A network remembers what follows from it alone: its first analysis is measured on fresh ones.
    fresh = iter([convcalc.load("resnet50") for _ in range(130)])
    config = gzip.decompress((HERE / "resnet50_keras.json.gz").read_bytes())
    numbers = paired(lambda: analyze(next(fresh)), lambda: json.loads(config), 101)
    print(row("first `analyze` of ResNet-50 / `json.loads` of its configuration", *numbers, "<= 6"))

    for name, call in peers().items():
        numbers = paired(lambda: analyze(next(fresh)), call, 9)
        print(row(f"first `analyze` of ResNet-50 / {name}", *numbers, "<= 0.02"))
        numbers = paired(lambda: analyze(net), call, 9)
        print(row(f"`analyze` with other settings / {name}", *numbers, "<= 0.02"))

    code = f"import convcalc; convcalc.analyze('resnet50'); {PEAK}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    megabytes = int(done.stdout) * 1.024e-3
    print(f"\nMemory of a process that analyses ResNet-50: {megabytes:.0f} MB (aim: under 60)")


def peers() -> dict[str, Callable[[], object]]:
    """The same network counted by other tools, where they are installed."""
    found: dict[str, Callable[[], object]] = {}
    try:
        import torch
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError:
        print("PyTorch is not installed: no peers", file=sys.stderr)
        return found
    from benchmarks.torch_resnet import resnet50

    model = resnet50().to("meta").eval()
    image = torch.empty(1, 3, 224, 224, device="meta")

    def count() -> None:
        with FlopCounterMode(display=False), torch.no_grad():
            model(image)

    found["FlopCounterMode on meta tensors"] = count
    try:
        from torchinfo import summary
    except ImportError:
        print("torchinfo is not installed", file=sys.stderr)
        return found
    real = resnet50().eval()
    found["torchinfo"] = lambda: summary(real, input_size=(1, 3, 224, 224), verbose=0)
    return found


if __name__ == "__main__":
    main()
