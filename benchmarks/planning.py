"""Is `fit` right? `python -m benchmarks.planning` runs its answers in an allocator that is capped.

For each network and budget TensorFlow's allocator on the CPU (the GPU's own, `BFC`) gets no more
than the budget: one training step of the safe batch has to run, and one of the hopeful batch and a
tenth more must run out of memory.  Each pair is a line of benchmarks/planning.jsonl; what is there
is skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import convcalc
from convcalc.readers.spec import write_spec
from convcalc.verify.child import VerifyError, measure
from convcalc.verify.request import Request

FILE = Path(__file__).with_name("planning.jsonl")
MIB = 2**20

#: (network, budget in MiB, optimizer), the quickest first.
CASES = (
    ("lenet5", 64, "adam"),
    ("lenet5", 256, "adam"),
    ("squeezenet", 256, "sgd"),
    ("resnet18", 384, "adam"),
    ("resnet18", 768, "adam"),
    ("mobilenetv2", 512, "adam"),
    ("mobilenet", 384, "momentum"),
    ("alexnet", 1536, "adam"),
    ("efficientnetb0", 768, "adam"),
    ("densenet121", 768, "sgd"),
    ("googlenet", 512, "momentum"),
    ("resnet50", 1024, "adam"),
    ("resnet50", 1536, "adam"),
    ("nasnetmobile", 768, "rmsprop"),
    ("vgg16", 3072, "momentum"),
)


def runs(network: convcalc.network.Network, batch: int, budget: int, optimizer: str) -> bool:
    """Whether one step of that batch runs in the budget."""
    request = Request(
        write_spec(network),
        batch=batch,
        optimizer=optimizer,
        repeats=1,
        memory_limit=budget,
    )
    return not measure(request).out_of_memory


def check(name: str, mebibytes: int, optimizer: str) -> dict[str, Any]:
    """One pair: what `fit` says, and what happens."""
    network = convcalc.load(name)
    budget = mebibytes * MIB
    (found,) = convcalc.fit(
        network,
        memory=budget,
        device="cpu",
        engine="tensorflow",
        mode="training",
        optimizer=optimizer,
    ).fits
    batches = {
        bound: 0 if candidate is None else candidate.batch
        for bound, candidate in (
            ("safe", found.safe),
            ("likely", found.likely),
            ("hopeful", found.hopeful),
        )
    }
    beyond = max(-(-batches["hopeful"] * 11 // 10), batches["hopeful"] + 1)
    return {
        "network": name,
        "budget": budget,
        "optimizer": optimizer,
        **batches,
        "safe_runs": runs(network, batches["safe"], budget, optimizer) if batches["safe"] else None,
        "beyond": beyond,
        "beyond_runs": runs(network, beyond, budget, optimizer),
    }


def main() -> None:
    """Check what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="networks whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after so many")
    parser.add_argument("--output", type=Path, default=FILE)
    options = parser.parse_args()
    started = time.monotonic()
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    done = {(line["network"], line["budget"]) for line in map(json.loads, lines)}
    for name, mebibytes, optimizer in CASES:
        if (name, mebibytes * MIB) in done or (options.only and options.only not in name):
            continue
        if time.monotonic() - started > 60 * options.minutes:
            break
        try:
            line = check(name, mebibytes, optimizer)
        except VerifyError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        with options.output.open("a") as file:
            file.write(json.dumps(line) + "\n")
        right = line["safe_runs"] is not False and not line["beyond_runs"]
        print(f"{name}: {'right' if right else 'WRONG'} {line}", file=sys.stderr, flush=True)


def table() -> str:
    """What was found, in Markdown."""
    rows = [
        "| network | budget | optimizer | safe, likely, hopeful | safe | hopeful + 10 % |",
        "|---|---:|---|---|---|---|",
    ]
    said = {None: "there is none", True: "runs", False: "does not run"}
    for line in map(json.loads, FILE.read_text().splitlines()):
        answers = ", ".join(f"{line[name]:,}" for name in ("safe", "likely", "hopeful"))
        what = f"{line['network']} | {line['budget'] // MIB:,} MiB | {line['optimizer']}"
        safe, beyond = said[line["safe_runs"]], said[line["beyond_runs"]]
        rows.append(f"| {what} | {answers} | {safe} | {line['beyond']:,}: {beyond} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
