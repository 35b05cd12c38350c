"""What the engines' predictions are worth: every record beside its prediction.

    python -m benchmarks.memory.score                 # the table
    python -m benchmarks.memory.score --worst 10      # and the networks that are furthest off
    python -m benchmarks.memory.score --write         # also convcalc/memory/residuals.json
    python -m benchmarks.memory.score --docs          # also the table of docs/memory.md

Only networks marked `report` count for the published accuracy and for the intervals; those marked
`tune` were looked at while an engine was written.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

import convcalc
from benchmarks.memory.measure import load
from convcalc.errors import ModelError
from convcalc.memory.intervals import bounds
from convcalc.memory.predict import job_for, predict
from convcalc.verify import records, targets

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "memory.md"
MARKS = ("<!-- accuracy -->\n", "\n<!-- /accuracy -->")
RESIDUALS = Path(convcalc.__file__).parent / "memory" / "residuals.json"

#: A prediction that is lower than the measurement by more than this fails: it runs out of memory.
TOO_LOW = 0.95


class Score(NamedTuple):
    """One record beside its prediction."""

    key: str
    """Engine, device and mode."""
    network: str
    report: bool
    record: dict[str, Any]
    predicted: int

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / float(self.record["peak_bytes"]) - 1


def engine_of(record: dict[str, Any]) -> tuple[str, str] | None:
    """The engine and device that a record measures; None if it is not one that is predicted."""
    framework, method = record["framework"], record["method"]
    if record["out_of_memory"] or record["peak_bytes"] is None:
        return None
    if framework == "tensorflow":
        return ("tensorflow-xla" if record["jit"] else "tensorflow"), "cpu"
    if method == "compiled" and not record["device"].startswith("tpu"):
        return "jax", "cpu" if record["device"] == "cpu" else "gpu"
    if framework == "torch" and method == "memtracker":
        # The engine predicts PyTorch's default, which is to update together on GPUs only.
        if record["settings"].get("foreach", record["device"] != "cpu") != (
            record["device"] != "cpu"
        ):
            return None
        return "torch", "gpu" if record["device"] != "cpu" else "cpu"
    return None


def scores(
    found: Iterable[dict[str, Any]], marks: dict[str, str], only: str = ""
) -> Iterator[Score]:
    """Every record that has a prediction, those whose key starts with `only`."""
    loaded: dict[tuple[str, tuple[int, ...]], Any] = {}
    for record in found:
        chosen = engine_of(record)
        if chosen is None or record["network"] not in marks:
            continue
        engine, device = chosen
        threads = f" threads={record['threads']}" if record.get("threads") else ""
        target = "" if device == "cpu" or engine != "jax" else f" {record['device']}"
        key = f"{engine} {device} {record['mode']}{threads}{target}"
        if not key.startswith(only):
            continue
        size = tuple(record["input"])
        if (record["network"], size) not in loaded:
            loaded[record["network"], size] = load(record["network"], {"input": size})
        job = job_for(record["mode"], record["dtype"], record["optimizer"], device)
        more = {name: record[name] for name in records.EXTRA if name in record}
        capability = targets.find(record["device"]).older if target else None
        job = replace(job, threads=record.get("threads"), capability=capability, **more)
        try:
            made = predict(loaded[record["network"], size], engine, job, record["batch"])
        except (ModelError, ModuleNotFoundError) as error:
            print(f"no prediction: {record['network']} {engine} {device}: {error}")
            continue
        yield Score(
            key,
            record["network"],
            marks[record["network"]] == "report",
            record,
            made.peak_bytes,
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 100) * len(ordered) // 100) - 1))]


def held(group: Sequence[Score]) -> float:
    """How many measurements lie in intervals made from the other networks' records."""
    inside = 0
    for score in group:
        others = [1 / (1 + s.error) for s in group if s.network != score.network]
        if len(others) < 2:
            return float("nan")
        low, high = bounds(others)
        inside += low <= 1 / (1 + score.error) <= high
    return inside / len(group)


def row(key: str, group: Sequence[Score]) -> str:
    """One line of the table."""
    errors = [abs(score.error) for score in group]
    low = sum(score.predicted < TOO_LOW * score.record["peak_bytes"] for score in group)
    networks = len({score.network for score in group})
    return (
        f"| {key} | {len(group)} | {networks} | {median(errors):.2%} | "
        f"{percentile(errors, 0.95):.2%} | {max(errors):.2%} | {low / len(group):.1%} | "
        f"{held(group):.0%} |"
    )


HEAD = (
    "| engine | records | networks | median error | p95 | worst | too low by > 5 % | "
    "90 % interval holds |\n|---|---:|---:|---:|---:|---:|---:|---:|"
)


def table(found: Sequence[Score]) -> str:
    """The scores by engine, device and mode."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in found:
        groups[score.key].append(score)
    return "\n".join([HEAD, *(row(key, groups[key]) for key in sorted(groups))])


def published(found: Iterable[Score]) -> str:
    """The table of the documentation: networks that no engine was tuned on."""
    return table([score for score in found if score.report])


def between_marks(text: str) -> str:
    """What stands between the marks of a page.

    Raises:
        ValueError: they are not there.
    """
    start, end = (text.index(mark) for mark in MARKS)
    return text[start + len(MARKS[0]) : end]


def with_table(text: str, new: str) -> str:
    """A page with another table between its marks."""
    return text.replace(between_marks(text).join(MARKS), new.join(MARKS))


def residuals(found: Sequence[Score]) -> dict[str, Any]:
    """What `convcalc.memory.intervals` reads; threads and targets are taken together."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in found:
        groups[" ".join(score.key.split()[:3])].append(score)
    made = {}
    for key, group in sorted(groups.items()):
        low, high = bounds([1 / (1 + score.error) for score in group])
        made[key] = {
            "records": len(group),
            "networks": len({score.network for score in group}),
            "low": round(low, 4),
            "high": round(high, 4),
            "dtypes": sorted({score.record["dtype"] for score in group}),
        }
    return made


def all_records() -> list[dict[str, Any]]:
    """Every committed record."""
    return [line for path in sorted(HERE.glob("*.jsonl")) for line in records.read(path)]


def marked() -> dict[str, str]:
    """ "tune" or "report" by network."""
    listed = yaml.safe_load((HERE / "networks.yaml").read_text("utf-8"))
    return {name: mark for mark, networks in listed.items() for name in networks}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worst", type=int, default=0, help="networks to list for each engine")
    parser.add_argument("--write", action="store_true", help="write residuals.json")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/memory.md")
    parser.add_argument("--only", default="", help="keys that start with this")
    asked = parser.parse_args()
    found = list(scores(all_records(), marked(), asked.only))
    for report in (False, True):
        chosen = [score for score in found if score.report == report]
        print(f"\n{'report' if report else 'tune'} networks\n\n{table(chosen)}")
        if asked.worst:
            for key in sorted({score.key for score in chosen}):
                group = [score for score in chosen if score.key == key]
                for score in sorted(group, key=lambda s: -abs(s.error))[: asked.worst]:
                    r = score.record
                    print(
                        f"{key:36} {score.network:18} batch {r['batch']:3} {r['optimizer']:8} "
                        f"{r['dtype']:8} {r['peak_bytes'] / 1e6:9.2f} MB {score.error:+.2%}"
                    )
    if asked.write:
        text = json.dumps(residuals([score for score in found if score.report]), indent=1)
        RESIDUALS.write_text(text + "\n", "utf-8")
        print(f"wrote {RESIDUALS}")
    if asked.docs:
        if asked.only:
            parser.error("--docs writes the whole table; leave out --only")
        DOCS.write_text(with_table(DOCS.read_text("utf-8"), published(found)), "utf-8")
        print(f"wrote {DOCS}")


if __name__ == "__main__":
    main()
