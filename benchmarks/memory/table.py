"""What the book's rules and the well-known formulas score on the records.

`python -m benchmarks.memory.table` writes benchmarks/memory/formulas.md.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import convcalc
from benchmarks.memory.measure import load, networks
from convcalc.report import Report
from convcalc.verify import records

HERE = Path(__file__).parent


def book(report: Report, mode: str) -> int:
    """The textbook's two rules: all layers' outputs, or the two consecutive largest."""
    rules = report.memory.textbook
    return rules.training_bytes if mode == "training" else rules.inference_bytes


def most_copied(report: Report, mode: str) -> int:
    """`get_model_memory_usage` (StackOverflow 43137288): inputs, outputs and variables, once."""
    return input_bytes(report) + report.totals.output_bytes + 4 * report.totals.params


def four_times(report: Report, mode: str) -> int:
    """All outputs, and weight, gradient and two slots for each parameter."""
    return report.totals.output_bytes + 16 * report.totals.params


def torchinfo(report: Report, mode: str) -> int:
    """torchinfo's "estimated total size": outputs of layers with parameters count twice."""
    outputs = sum(layer.output_bytes or 0 for layer in report.layers if layer.params)
    return input_bytes(report) + 2 * outputs + 4 * report.totals.params


def input_bytes(report: Report) -> int:
    """Float32 inputs of the whole batch."""
    total = 0
    for given in report.inputs:
        size = 4
        for length in given.shape:
            size *= length
        total += size
    return total


FORMULAS: dict[str, Callable[[Report, str], int]] = {
    "the book's rule": book,
    "most-copied formula (StackOverflow 43137288)": most_copied,
    "all outputs + 4 x parameters": four_times,
    "torchinfo's rule": torchinfo,
}

#: What a record is counted under: framework, how it runs and where, mode.
Group = tuple[str, str, str]


class Score(NamedTuple):
    """Errors of one formula over a group of records, as shares of the measured peak."""

    errors: list[float]

    @property
    def cells(self) -> list[str]:
        """Median of the absolute errors, range, share of records that it is too low on."""
        low = sum(error < 0 for error in self.errors) / len(self.errors)
        return [
            f"{statistics.median(map(abs, self.errors)):.1%}",
            f"{min(self.errors):+.0%} .. {max(self.errors):+.0%}",
            f"{low:.0%}",
        ]


def group_of(record: dict[str, Any]) -> Group:
    """Where a record belongs."""
    if record["framework"] == "tensorflow":
        kind = "XLA" if record["jit"] else "graph executor"
        return ("TensorFlow", f"{kind}, {record['device']}", record["mode"])
    return (record["framework"], f"{record['method']}, {record['device']}", record["mode"])


def scores(lines: Iterable[dict[str, Any]]) -> dict[Group, dict[str, Score]]:
    """Every formula on every group."""
    entries = {**networks("tune"), **networks("report")}
    found: dict[Group, dict[str, Score]] = defaultdict(
        lambda: {name: Score([]) for name in FORMULAS}
    )
    for line in lines:
        # The formulas are written for float32.
        if line["peak_bytes"] is None or line["dtype"] != "float32":
            continue
        if line["network"] not in entries:
            continue
        entry = {**entries[line["network"]], "input": line["input"]}
        net = load(line["network"], entry)
        report = convcalc.analyze(net, batch=line["batch"], dtype=line["dtype"])
        for name, formula in FORMULAS.items():
            error = formula(report, line["mode"]) / line["peak_bytes"] - 1
            found[group_of(line)][name].errors.append(error)
    return found


def noise(lines: Iterable[dict[str, Any]]) -> list[str]:
    """How far repeats of one run are apart, by kind of run."""
    spreads: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        if line["framework"] != "tensorflow" or line["peak_bytes"] is None:
            continue
        threads = line["threads"] or "default"
        kind = "XLA" if line["jit"] else f"graph executor, threads between ops: {threads}"
        spread = (max(line["peaks"]) - min(line["peaks"])) / line["peak_bytes"]
        spreads[f"{line['mode']}, {kind}"].append(spread)
    return [
        f"| {kind} | {len(found)} | {statistics.median(found):.2%} | {max(found):.2%} |"
        for kind, found in sorted(spreads.items())
    ]


def markdown(lines: list[dict[str, Any]]) -> str:
    """The page."""
    text = [
        "# What the book's rules and the well-known formulas are worth",
        "",
        "Made by `python -m benchmarks.memory.table` from the records in this folder; do not edit.",
        "Errors are (formula - measured) / measured, over the float32 records",
        "of both sets: these formulas were tuned on neither.",
    ]
    for group, by_formula in sorted(scores(lines).items()):
        count = len(next(iter(by_formula.values())).errors)
        text += [
            "",
            f"## {', '.join(group)} ({count} runs)",
            "",
            "| formula | median error | range | too low |",
            "|---|---:|---:|---:|",
        ]
        text += [f"| {name} | {' | '.join(s.cells)} |" for name, s in by_formula.items()]
    text += [
        "",
        "## How well TensorFlow's runs repeat",
        "",
        "(highest - lowest) / median of one run's repeats.",
        "",
        "| run | runs | median | worst |",
        "|---|---:|---:|---:|",
        *noise(lines),
        "",
    ]
    return "\n".join(text)


def main() -> None:
    """Write the page."""
    lines = [line for path in sorted(HERE.glob("*.jsonl")) for line in records.read(path)]
    (HERE / "formulas.md").write_text(markdown(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
