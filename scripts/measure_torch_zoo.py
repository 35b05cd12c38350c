"""Reads the networks of torchvision and timm and holds them against PyTorch's own counts.

    python scripts/measure_torch_zoo.py {torchvision|timm} OUT.csv [--jobs N] [--match WORD ...]
    python scripts/measure_torch_zoo.py --table OUT.csv

Parameters are compared with the module's own (parameters, and the floating buffers of its state),
MACs with half of what `torch.utils.flop_counter` counts on meta tensors.  A line says

    complete   both are equal and every operator is known
    partial    the report owns up to operators that it did not count
    wrong      it claims to be complete and a figure differs
    refused    the reader gave a reason why it cannot read the network
    no truth   PyTorch cannot make the network, or cannot run it on meta tensors

Networks that are in OUT.csv already are left out, so that a run can be cut short and taken up.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FIELDS = (
    *("library", "name", "input", "status", "params", "trainable", "macs", "torch_params"),
    *("torch_trainable", "torch_macs", "ops", "note"),
)

#: timm's families without convolutions as their main operator (or of transformers with few).
NO_CNN = (
    *("vit", "deit", "beit", "cait", "xcit", "swin", "eva", "flexivit", "tnt", "twins", "pit_"),
    *("mixer", "gmixer", "resmlp", "gmlp", "samvit", "volo", "nest", "crossvit", "convit", "mvit"),
    *("gemma", "qwen", "deepseek", "sam2", "pvt", "davit", "gcvit", "levit", "coat_", "tiny_vit"),
    *("maxvit", "naflexvit", "hiera", "aimv2", "sequencer", "test_", "csatv2", "dinov3"),
)


def networks(library: str) -> list[str]:
    """The networks to read."""
    if library == "torchvision":
        import torchvision

        return list(torchvision.models.list_models())
    import timm

    families: dict[str, list[str]] = {}
    for name in timm.list_models():
        if not name.startswith(NO_CNN):
            families.setdefault(re.split(r"[\d_]", name)[0], []).append(name)
    # In turns, so that a run that is cut short has seen every family.
    turns = zip_longest(*families.values())
    return [name for turn in turns for name in turn if name is not None]


def build(library: str, name: str) -> tuple[Any, Any]:
    """A network without weights, and its input: height, width, channels, or shapes by name."""
    if library == "torchvision":
        import torchvision

        kind = torchvision.models.get_model_builder(name).__module__
        more: dict[str, Any] = {"weights": None}
        if "detection" in kind or "segmentation" in kind:
            more["weights_backbone"] = None
        size: Any = (224, 224, 3)
        if "inception" in name:
            size = (299, 299, 3)
        if "video" in kind:
            size = (16, 224, 224, 3) if name.startswith(("mvit", "s3d")) else (16, 112, 112, 3)
        if "optical_flow" in kind:
            size = {"image1": (1, 3, 256, 256), "image2": (1, 3, 256, 256)}
        return without_memory(lambda: torchvision.models.get_model(name, **more)), size
    import timm

    model = without_memory(lambda: timm.create_model(name))
    channels, *spatial = model.default_cfg["input_size"]
    return model, (*spatial, channels)


def without_memory(make: Callable[[], Any]) -> Any:
    """A network on the meta device, where its constructor can do without values."""
    import torch

    try:
        with torch.device("meta"):
            return make()
    except Exception:
        return make()


def truth(model: Any, size: Any) -> tuple[int, int, int]:
    """Parameters with statistics, trainable parameters, MACs: as PyTorch counts them."""
    import copy

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    state = set(model.state_dict())
    params = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    params += sum(
        b.numel() for key, b in model.named_buffers() if b.is_floating_point() and key in state
    )
    shapes = size.values() if isinstance(size, dict) else [(1, size[-1], *size[:-1])]
    meta = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(*(torch.empty(shape, device="meta") for shape in shapes))
    return params, trainable, counter.get_total_flops() // 2


def measure(job: tuple[str, str]) -> dict[str, Any]:
    """One line of the table."""
    library, name = job
    warnings.simplefilter("ignore")
    import convcalc
    from convcalc.errors import ModelError
    from convcalc.readers.torch import read_module

    line: dict[str, Any] = {"library": library, "name": name}
    try:
        model, size = build(library, name)
    except Exception as error:
        return {**line, "status": "no truth", "note": noted(error)}
    shapes = list(size.values()) if isinstance(size, dict) else [size]
    line["input"] = " ".join("x".join(map(str, shape)) for shape in shapes)
    try:
        net = read_module(model, input=size)
        totals = (report := convcalc.analyze(net)).totals
    except ModelError as error:
        return {**line, "status": "refused", "note": noted(error)}
    except Exception as error:
        return {**line, "status": "wrong", "note": noted(error)}
    line |= {"params": totals.params, "trainable": totals.trainable_params, "macs": totals.macs}
    line["ops"] = len(net.ops)
    try:
        params, trainable, macs = truth(model, size)
    except Exception as error:
        return {**line, "status": "no truth", "note": noted(error)}
    line |= {"torch_params": params, "torch_trainable": trainable, "torch_macs": macs}
    equal = (totals.params, totals.trainable_params, totals.macs) == (params, trainable, macs)
    line["status"] = "complete" if equal else "wrong"
    if report.status == "partial":
        line["status"] = "partial"
        line["note"] = " ".join(f"{gap.op}({len(gap.layers)})" for gap in report.uncounted)[:150]
    return line


def noted(error: Exception) -> str:
    """The beginning of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:150]


def read(path: Path) -> list[dict[str, str]]:
    """The lines that are there already."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(library: str, path: Path, jobs: int, words: list[str]) -> Iterator[dict[str, Any]]:
    """Measure what is missing, each network in a process that is replaced now and then."""
    done = {line["name"] for line in read(path)}
    todo = [
        (library, name)
        for name in networks(library)
        if name not in done and (not words or any(word in name for word in words))
    ]
    with get_context("spawn").Pool(jobs, maxtasksperchild=25) as pool:
        yield from pool.imap_unordered(measure, todo)


def table(path: Path) -> None:
    """How many networks of each library came out how."""
    counts = Counter((line["library"], line["status"]) for line in read(path))
    for (library, status), number in sorted(counts.items()):
        print(f"{library:12} {status:10} {number:5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", choices=("torchvision", "timm"), nargs="?")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--match", nargs="*", default=[])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        new = not options.out.exists()
        with options.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if new:
                writer.writeheader()
            for line in run(options.library, options.out, options.jobs, options.match):
                writer.writerow(line)
                file.flush()
                print(line["status"], line["name"], line.get("note", ""), file=sys.stderr)
    table(options.out)


if __name__ == "__main__":
    main()
