"""Every network of torchvision through both ONNX exporters of PyTorch, against PyTorch's counts.

    python scripts/onnx_torchvision.py tests/data/onnx_torchvision.json [NAME ...]

needs torch, torchvision, onnx and onnxscript.  Parameters are those of the module and, as Keras
counts, its batch-norm statistics; MACs are half of what `torch.utils.flop_counter` gives.  Each
export goes to a temporary file, is read, and is deleted.  What is in the file already stays, unless
it is named.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from convcalc.analysis.costs import analyze
from convcalc.readers import onnx

#: The smallest input that a network takes without changing what it is.
SIZES = {"inception_v3": 299}
#: The second classifiers of these do not run when a network is used, so they are not exported.
OPTIONS = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", *SIZES)}
#: More than 2 GB: their weights are left out, as inputs of the graph.
HUGE = ("regnet_y_128gf", "vit_h_14")


def built(name: str) -> torch.nn.Module:
    """A network whose variables differ: exporters store equal tensors once."""
    torch.manual_seed(0)
    options = OPTIONS.get(name, {})
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.ndim:
            tensor.data.uniform_(0.5, 1.5)
    return model


def truth(model: torch.nn.Module, size: int) -> dict[str, int]:
    """Parameters, statistics and MACs as PyTorch counts them; nothing is computed."""
    model.to("meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "statistics": sum(b.numel() for key, b in model.named_buffers() if "running_" in key),
        "macs": counter.get_total_flops() // 2,
    }


def exported(model: torch.nn.Module, size: int, dynamo: bool, params: bool, path: Path) -> None:
    """The network as an ONNX file, batch norms left as they are where the exporter can."""
    image = torch.zeros(1, 3, size, size)
    quiet = io.StringIO()
    with redirect_stdout(quiet), redirect_stderr(quiet):
        if dynamo:
            torch.onnx.export(model, (image,), path, dynamo=True, external_data=True)
        else:
            torch.onnx.export(
                model,
                (image,),
                path,
                dynamo=False,
                opset_version=17,
                export_params=params,
                do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                dynamic_axes={"input": {0: "batch"}},
                input_names=["input"],
            )


def counted(path: Path) -> dict[str, Any]:
    """What we make of it."""
    report = analyze(onnx.read(path))
    return {
        "params": report.totals.params,
        "trainable": report.totals.trainable_params,
        "macs": report.totals.macs,
        "output": report.layers[-1].output_shape,
        "uncounted": sorted(entry.op for entry in report.uncounted),
    }


def main(target: Path, names: list[str]) -> None:
    """Count what is missing in the file, and write it after each network."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found = json.loads(target.read_text()) if target.exists() else {}
    for name in names or torchvision.models.list_models(module=torchvision.models):
        if name in found and not names:
            continue
        size = SIZES.get(name, 224)
        model = built(name)
        row: dict[str, Any] = {}
        for exporter in ("torchscript", "dynamo"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                try:
                    exported(model, size, exporter == "dynamo", name not in HUGE, path)
                    row[exporter] = counted(path)
                except Exception as error:
                    row[exporter] = {"error": f"{type(error).__name__}: {error}"[:300]}
        row["torch"] = truth(model, size)
        print(name, row, flush=True)
        found[name] = row
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(found[key])}" for key in sorted(found))
        target.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
