"""Do remedies save what `advise` says? `python -m benchmarks.remedies` measures before and after.

TensorFlow on the CPU trains the network as it is and as each remedy changes it; what that saves of
the allocator's peak is compared with the prediction.  Not run are checkpointing, an estimate, and
several devices; a divided batch is run without the gradients that add up.  Each run is a line of
benchmarks/remedies.jsonl; what is there is skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import convcalc
from convcalc.errors import ModelError
from convcalc.planning.remedies import KINDS, NotApplicable
from convcalc.planning.situation import Situation
from convcalc.readers.spec import write_spec
from convcalc.verify.child import VerifyError, measure
from convcalc.verify.request import Request

FILE = Path(__file__).with_name("remedies.jsonl")

#: (network, input, batch), the quickest first.
CASES = (
    ("mnist_convnet", None, 128),
    ("mobilenet", (96, 96, 3), 16),
    ("resnet18", (96, 96, 3), 16),
    ("squeezenet", (128, 128, 3), 16),
    ("densenet121", (64, 64, 3), 8),
    ("vgg16", (64, 64, 3), 16),
)

NOT_RUN = ("checkpointing", "data-parallel")


def measured(now: Situation, timeout: float) -> int | None:
    """The allocator's peak of one training step."""
    request = Request(
        write_spec(now.net),
        device="cpu",
        batch=now.batch,
        dtype=now.dtype,
        optimizer=now.optimizer,
        jit=now.engine == "tensorflow-xla",
        timeout=timeout,
    )
    return measure(request).peak_bytes


def changed(now: Situation) -> dict[str, Situation]:
    """The situation as it is, and after each remedy that can be run."""
    found = {"": now}
    for kind in KINDS:
        if kind.name in NOT_RUN:
            continue
        try:
            after, _, _ = kind.change(now, None)
            after.candidate()
        except (NotApplicable, ModelError):
            continue
        found[kind.name] = replace(after, accumulate=1)
    return found


def main() -> None:
    """Measure what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="networks whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after so many")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one run")
    parser.add_argument("--output", type=Path, default=FILE)
    options = parser.parse_args()
    started = time.monotonic()
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    done = {(line["network"], line["remedy"]) for line in map(json.loads, lines)}
    for name, size, batch in CASES:
        if options.only and options.only not in name:
            continue
        net = convcalc.load(name, input=size)
        now = Situation(net, "training", "tensorflow", "float32", "adam", batch, "cpu")
        for remedy, after in changed(now).items():
            if (name, remedy) in done:
                continue
            if time.monotonic() - started > 60 * options.minutes:
                return
            try:
                peak = measured(after, options.timeout)
            except (VerifyError, ModelError) as error:
                print(f"{name} {remedy}: {error}", file=sys.stderr, flush=True)
                continue
            line = {
                "network": name,
                "batch": batch,
                "remedy": remedy,
                "predicted": after.candidate().peak_bytes,
                "measured": peak,
            }
            with options.output.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, file=sys.stderr, flush=True)


def table() -> str:
    """Predicted and measured savings, as shares of what was needed before, in Markdown."""
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    before = {line["network"]: line for line in lines if not line["remedy"]}
    rows = ["| network | remedy | predicted saving | measured |", "|---|---|---:|---:|"]
    for line in lines:
        if line["remedy"] and line["network"] in before and line["measured"]:
            base = before[line["network"]]
            shares = [1 - int(line[key]) / int(base[key]) for key in ("predicted", "measured")]
            cells = " | ".join(f"{share:.0%}" for share in shares)
            rows.append(f"| {line['network']} | {line['remedy']} | {cells} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
    print(table())
