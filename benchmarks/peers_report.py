"""Writes docs/peers.md from benchmarks/peers.jsonl, peers_memory.jsonl and the measured records.

python -m benchmarks.peers_report
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import convcalc
from benchmarks.memory.score import TOO_LOW, Score, all_records, marked, scores
from benchmarks.peers import NETWORKS, TOOLS, records
from convcalc.analysis.conventions import CONVENTIONS, count, explain

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/peers.md"
MEASURED = {record["network"] for record in records()}
SHOWN = [stem for stem in (Path(name).stem for name in NETWORKS) if stem in MEASURED]
OWN = "convcalc"
#: Tools whose counting convcalc can reproduce.
REPRODUCED = {"torchinfo", "fvcore", "ptflops", "thop", "onnx-tool"}
#: What the modules do by calling functions, which most tools do not see.
CALLS = ("global_pool", "layer_norm", "scale")
#: What convcalc has no convention for, and why these counts or their absence.
WORDS = {
    "calflops": "its MACs are ours; its FLOPs, not shown here, add normalizations and activations",
    "FlopCounterMode": "FLOPs of convolutions and matrix products, halved here; nothing else, and "
    "no parameters. It follows any code that runs, the backward pass too",
    "torch-scan": "adds normalizations and pools, and marks its sum as partial where it knows no "
    "formula (fvcore warns; the others are silent)",
    "accelerate": "sizes of parameters and buffers only; the figure here includes batch "
    "normalizations' statistics and counters of batches",
    "Keras summary": "parameters only, moving statistics included (our `params`; the column holds "
    "our `trainable_params`)",
    "MemTracker": "memory only",
}


def by_tool() -> dict[str, dict[str, dict[str, Any]]]:
    """Records by tool and network."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in records():
        found[record["tool"]][record["network"]] = record
    return found


def seconds(value: float) -> str:
    """Milliseconds, three figures where there are so many."""
    return f"{1e3 * value:,.1f}" if value < 0.1 else f"{1e3 * value:,.0f}"


def cost_of(one: dict[str, Any]) -> str:
    """The cells of a row of the table of costs."""
    answer = one["import"] + one["build"] + one["first"]
    times = [*(one[part] for part in ("import", "build", "first", "second")), answer]
    return " | ".join([*map(seconds, times), f"{one['peak_bytes'] / 1e6:,.0f}"])


def costs(found: dict[str, dict[str, dict[str, Any]]], network: str) -> list[str]:
    """What asking each tool about one network costs."""
    rows = [
        "| tool | import | network | first | second | from nothing to an answer | memory, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in TOOLS:
        one = found[name].get(network, {"error": "not measured"})
        cells = cost_of(one) if "error" not in one else f"{one['error'][:80]} | | | | |"
        rows.append(f"| {name} | {cells} |")
    return rows


def ratios(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """How many times longer than convcalc, over all networks that both answered."""
    rows = [
        "| tool | networks | from nothing to an answer | first | second | memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in TOOLS:
        if name == OWN:
            continue
        pairs = [
            (one, found[OWN][network])
            for network, one in found[name].items()
            if "error" not in one and "error" not in found[OWN].get(network, {"error": ""})
        ]
        if not pairs:
            continue
        answers = median(
            sum(a[part] for part in ("import", "build", "first"))
            / sum(b[part] for part in ("import", "build", "first"))
            for a, b in pairs
        )
        # A network's first analysis includes what other tools do while the module is built.
        first = median(a["first"] / (b["build"] + b["first"]) for a, b in pairs)
        cells = [
            f"{len(pairs)} of {len(SHOWN)}",
            f"{answers:.3g}",
            f"{first:.3g}",
            f"{median(a['second'] / b['second'] for a, b in pairs):.3g}",
            f"{median(a['peak_bytes'] / b['peak_bytes'] for a, b in pairs):.3g}",
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def nets() -> dict[str, Any]:
    """The networks by short name."""
    return {Path(name).stem: convcalc.load(name) for name in NETWORKS}


def difference(value: int | None, ours: int) -> str:
    """A count beside ours."""
    if value is None:
        return "-"
    return "=" if value == ours else f"{value - ours:+,d} ({value / ours - 1:+.2%})"


def counts(found: dict[str, dict[str, dict[str, Any]]], what: str) -> list[str]:
    """What each tool counts, as the difference from ours."""
    own = {network: found[OWN][network]["found"][what] for network in SHOWN}
    rows = [
        f"| tool | {' | '.join(SHOWN)} |",
        f"|---|{'---:|' * len(SHOWN)}",
        f"| convcalc | {' | '.join(f'{value:,d}' for value in own.values())} |",
    ]
    for name in TOOLS:
        if name.startswith(OWN) and "live" not in name:
            continue
        cells = []
        for network in SHOWN:
            one = found[name].get(network, {"found": {}})
            said = "fails" if "error" in one else difference(one["found"].get(what), own[network])
            cells.append(said)
        if any(cell not in ("-", "fails") for cell in cells):
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def reasons(found: dict[str, dict[str, dict[str, Any]]], networks: dict[str, Any]) -> list[str]:
    """Why each tool's MACs differ: how many of its counts convcalc reproduces to the last unit."""
    rows = []
    for name in TOOLS:
        if name in REPRODUCED:
            told = {n: one["found"]["macs"] for n, one in found[name].items() if "found" in one}
            exact = [n for n in told if count(networks[n], name)[1] == told[n]]
            title = CONVENTIONS[name].title.partition(": ")[2]
            text = f"- **{name}**: {title}. `--convention {name}` gives its count to the last unit "
            text += f"for {len(exact)} of {len(told)}"
            for other in sorted(told.keys() - set(exact)):
                gap = told[other] - count(networks[other], name)[1]
                calls = sum(
                    r.b - r.a for r in explain(networks[other], "macs", name) if r.type in CALLS
                )
                why = "within these calls" if 0 > gap >= -calls else "beyond our rules"
                text += f"; {other}: {gap:+,d}, {why}"
            parts = [row for row in explain(networks["resnet50"], "macs", name) if row.a != row.b]
            listed = ", ".join(f"{row.type} {row.b - row.a:+,d}" for row in parts[:5])
            rows.append(f"{text}. In ResNet-50: {listed}.")
        elif name in WORDS:
            rows.append(f"- **{name}**: {WORDS[name]}.")
    return rows


def failures(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """What was not answered, in the tool's words."""
    return [
        f"- {name}, {network}: `{one['error'][:160].replace('`', chr(39))}`"
        for name in TOOLS
        for network, one in found[name].items()
        if "error" in one
    ]


#: How a tool's memory figure comes about: from its record, batch and mode.
def torchinfo_total(line: dict[str, Any], batch: int, mode: str) -> int:
    each = line["torchinfo_input"] + line["torchinfo_outputs"]
    return int(batch * each + line["torchinfo_params"])


def accelerate_total(line: dict[str, Any], batch: int, mode: str) -> int:
    return int(line["accelerate"] * (4 if mode == "training" else 1))


def keras_total(line: dict[str, Any], batch: int, mode: str) -> int:
    return int(line["params"] * (3 if mode == "training" else 1))


ESTIMATES = {
    "torchinfo, estimated total size": torchinfo_total,
    "accelerate estimate-memory (x 4 for Adam)": accelerate_total,
    "Keras summary, parameters (and optimizer)": keras_total,
}


def errors_row(name: str, errors: Iterable[float]) -> str:
    """Median, range and share of estimates that are too low."""
    found = list(errors)
    low = sum(1 + error < TOO_LOW for error in found) / len(found)
    middle = median(abs(error) for error in found)
    return f"| {name} | {middle:.1%} | {min(found):+.0%} .. {max(found):+.0%} | {low:.0%} |"


def memory() -> list[str]:
    """Estimates against measured records of networks that no engine was tuned on."""
    lines = [json.loads(line) for line in (HERE / "peers_memory.jsonl").open()]
    said = {(line["network"], tuple(line["input"])): line for line in lines if "error" not in line}
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores(all_records(), marked()):
        key = (score.network, tuple(score.record["input"]))
        optimizer = score.record["optimizer"]
        if score.report and key in said and optimizer in ("adam", "none"):
            groups[" ".join(score.key.split()[:3])].append(score)
    rows = []
    for group, members in sorted(groups.items()):
        rows += [
            "",
            f"### {group}: {len(members)} runs of {len({m.network for m in members})} networks",
            "",
            "| estimate | median error | range | too low by > 5 % |",
            "|---|---:|---:|---:|",
            errors_row(f"convcalc, engine {group.split()[0]}", (m.error for m in members)),
        ]
        for name, estimate in ESTIMATES.items():
            errors = [
                estimate(
                    said[m.network, tuple(m.record["input"])], m.record["batch"], m.record["mode"]
                )
                / m.record["peak_bytes"]
                - 1
                for m in members
            ]
            rows.append(errors_row(name, errors))
    return rows


def better(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Where another tool is the one to take; figures from the records."""
    live = found[f"{OWN}, of the live module"]["resnet50"]
    hooks = {n: found[n]["resnet50"]["first"] for n in ("torchinfo", "fvcore", "ptflops", "thop")}
    quick = min(hooks, key=lambda name: hooks[name])
    tracker = found["MemTracker"]["resnet50"]
    summary = found["Keras summary"].get("resnet50", {})
    rows = [
        f"- **A live PyTorch module.** Where PyTorch is imported already, {quick} answers for "
        f"ResNet-50 in {seconds(hooks[quick])} ms; we trace the module with `torch.export` "
        f"first, {seconds(live['first'])} ms, and each time anew ({seconds(live['second'])} ms).",
        "- **Code that cannot be traced.** FlopCounterMode, fvcore and tools that hook modules "
        "run the code; whatever runs is counted, as far as they know its operators. We read "
        "structure, and refuse what `torch.export` refuses.",
        "- **PyTorch's memory to the byte for any code**: MemTracker follows the real dispatch, "
        f"any loss and any optimizer; {seconds(tracker['second'])} ms a step of ResNet-50. Our "
        "`torch` engine was made to agree with it, so its rows above measure agreement with "
        "MemTracker, not with a card.",
        "- **Per-layer times and energy**: none of this page; profilers measure them.",
        "- **Transformers**: calflops, fvcore and FlopCounterMode know more of them than we do.",
    ]
    if "second" in summary:
        rows.append(
            f"- **Keras' `summary()` on a model that is already there** takes "
            f"{seconds(summary['second'])} ms and needs nothing else."
        )
    return rows


def page() -> str:
    """The page."""
    found = by_tool()
    networks = nets()
    versions = {
        one["version"] for each in found.values() for one in each.values() if "version" in one
    }
    assert versions
    named = ", ".join(
        f"{name} {next(one['version'] for one in found[name].values() if 'version' in one)}"
        for name in TOOLS
        if not name.startswith(OWN) and any("version" in one for one in found[name].values())
    )
    text = [
        "# Beside other tools",
        "",
        "Made by `python -m benchmarks.peers_report` from `benchmarks/peers.jsonl`; do not edit.",
        "`scripts/peers.sh` installs all tools into an environment of their own and measures anew.",
        "",
        f"{named}; Python 3.11, PyTorch 2.13 and TensorFlow 2.21 on a CPU. Each question ran in "
        "a process of its own, once. Times are **seconds of the processor**, all threads "
        "together, with one thread for each numerical library: the machine (two cores) had "
        "other work, which wall time would have measured. The modules are built from convcalc's "
        "description of the same network, in evaluation mode, batch 1, float32.",
        "",
        "## What an answer costs",
        "",
        "ResNet-50 at 224x224, milliseconds: importing the tool with its framework, building or "
        "loading the network, the first call, and the second (ours with another batch, theirs "
        "the same call again); memory is the process's highest.",
        "",
        *costs(found, "resnet50"),
        "",
        "MemTracker's calls are two steps of training with Adam each, batch 2. "
        "onnx-tool reads a file whose export (by PyTorch) is not counted. Keras' network is built "
        "layer by layer, as its user's would be.",
        "",
        "As multiples of convcalc's, medians over networks. `first` is the call alone, against our "
        "loading and first call together.",
        "",
        *ratios(found),
        "",
        "## What they count",
        "",
        'Trainable parameters, and each tool\'s difference ("=" is the same to the last one):',
        "",
        *counts(found, "params"),
        "",
        "Multiply-accumulates, as each tool calls them:",
        "",
        *counts(found, "macs"),
        "",
        "Why (our modules call functions for global averages, layer normalizations and scales, "
        "where a user may write modules; most tools do not see such calls):",
        "",
        *reasons(found, networks),
        "",
        "Not answered:",
        "",
        *(failures(found) or ["- nothing"]),
        "",
        "## Memory: estimates against measured runs",
        "",
        "Networks marked `report` in `benchmarks/memory/networks.yaml`, which no engine of ours "
        "was tuned on; float32, training with Adam. Measured by MemTracker (`torch`), "
        "TensorFlow's allocator (`tensorflow`, `tensorflow-xla`) and XLA's buffer assignment "
        "(`jax`). The other tools do not claim to predict a framework's allocator: this says "
        "how far their figures carry if one takes them for it. fvcore, ptflops, thop, calflops, "
        "FlopCounterMode, torch-scan and onnx-tool say nothing of memory that could be compared.",
        *memory(),
        "",
        "## Where another tool is better",
        "",
        *better(found),
        "",
    ]
    return "\n".join(text)


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
