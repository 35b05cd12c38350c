"""Structure of a 2 GB ONNX file: our reader against `onnx.load`, time and memory as ratios.

    python -m benchmarks.readers_onnx

needs onnx.  The file is made of holes, so no disk is measured: 500 convolutions of 1024 x 1024
weights, 2.1 GB, just under the most that protobuf reads.  Each reader runs in a process of its own;
the figures leave out what starting Python and importing take.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

LAYERS = 500
CHANNELS = 1024
WEIGHTS = 4 * CHANNELS * CHANNELS

MEASURE = """
import sys, time
path = sys.argv[1]
def memory(key):
    return next(int(r.split()[1]) for r in open('/proc/self/status') if r.startswith(key)) / 1024
{prepare}
before = memory('VmRSS')
start = time.process_time()
{run}
print(time.process_time() - start, memory('VmHWM') - before, memory('VmHWM'))
"""
READERS = {
    "structure": (
        "from pathlib import Path; from convcalc.readers import onnx_wire",
        "onnx_wire.read_model(Path(path))",
    ),
    "network": (
        "from pathlib import Path; from convcalc.readers import onnx",
        "onnx.read(Path(path))",
    ),
    "onnx.load": ("import onnx", "onnx.load(path)"),
}


def write(path: Path) -> None:
    """A chain of convolutions of 1x1, its weights as holes."""
    import onnx
    from onnx import helper

    nodes = [
        helper.make_node("Conv", [f"t{i}", f"w{i}"], [f"t{i + 1}"], f"conv{i}")
        for i in range(LAYERS)
    ]
    values = [
        helper.make_tensor_value_info(name, 1, [1, CHANNELS, 14, 14])
        for name in ("t0", f"t{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:]).SerializeToString()
    heads = [
        onnx.TensorProto(
            name=f"w{i}", data_type=1, dims=[CHANNELS, CHANNELS, 1, 1]
        ).SerializeToString()
        + b"\x4a"
        + varint(WEIGHTS)
        for i in range(LAYERS)
    ]
    sizes = [len(head) + WEIGHTS for head in heads]
    total = len(graph) + sum(1 + len(varint(size)) + size for size in sizes)
    with path.open("wb") as file:
        file.write(b"\x08\x08\x42\x02\x10\x11" + b"\x3a" + varint(total) + graph)
        for head, size in zip(heads, sizes, strict=True):
            file.write(b"\x2a" + varint(size) + head)
            file.seek(WEIGHTS, 1)
        file.truncate()


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def measured(path: Path, reader: str, repeats: int) -> tuple[float, float, float]:
    """CPU seconds, MiB more than before, and the process's most MiB: medians."""
    prepare, run = READERS[reader]
    code = MEASURE.format(prepare=prepare, run=run)
    rows = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
        )
        rows.append([float(number) for number in done.stdout.split()])
    seconds, more, most = (median(column) for column in zip(*rows, strict=True))
    return seconds, more, most


def main(repeats: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.onnx"
        write(path)
        size = path.stat().st_size
        rows = {reader: measured(path, reader, repeats) for reader in READERS}
    theirs = rows["onnx.load"]
    print(f"{LAYERS} convolutions, {size / 1e9:.2f} GB, medians of {repeats}")
    print(
        "| reader | CPU seconds | MiB more | MiB in all | time of onnx.load | memory of onnx.load |"
    )
    print("|---|---|---|---|---|---|")
    for reader, (seconds, more, most) in rows.items():
        print(
            f"| {reader} | {seconds:.3f} | {more:.0f} | {most:.0f} | 1/{theirs[0] / seconds:.0f} "
            f"| 1/{theirs[1] / max(more, 0.1):.0f} |"
        )


if __name__ == "__main__":
    main()
