"""What torchinfo and accelerate say of the memory of every measured network.

    python -m benchmarks.peers_memory       # in the environment of scripts/peers.sh

Both are linear in the batch, so a batch of one is enough; the page is made by peers_report.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.memory.measure import load
from benchmarks.memory.score import all_records, engine_of, marked

HERE = Path(__file__).parent
RECORDS = HERE / "peers_memory.jsonl"


def estimate(name: str, size: list[int]) -> dict[str, Any]:
    """The figures that the estimates are made of, in bytes of float32."""
    import torch
    from accelerate.utils import calculate_maximum_sizes
    from torchinfo import summary

    from convcalc.verify.build_torch import build, input_shapes

    network = load(name, {"input": tuple(size)})
    with torch.device("meta"):
        model = build(network).eval()
    (shape,) = input_shapes(model, network, 1)
    found = summary(model, input_size=shape, device="meta", verbose=0)
    return {
        "network": name,
        "input": size,
        "torchinfo_input": found.total_input,
        "torchinfo_outputs": found.total_output_bytes,
        "torchinfo_params": found.total_param_bytes,
        "accelerate": calculate_maximum_sizes(model)[0],
        "params": 4 * sum(each.numel() for each in model.parameters()),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    marks = marked()
    wanted = {
        (record["network"], tuple(record["input"]))
        for record in all_records()
        if engine_of(record) and marks.get(record["network"]) == "report"
    }
    with RECORDS.open("w") as file:
        for name, size in sorted(wanted):
            try:
                line = estimate(name, list(size))
            except Exception as error:
                line = {"network": name, "input": size, "error": f"{type(error).__name__}: {error}"}
                print(line, file=sys.stderr)
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
