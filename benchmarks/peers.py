"""What other tools say about the same networks, and what asking them costs.

    scripts/peers.sh                       # an environment with all of them, then this
    python -m benchmarks.peers             # where they are installed: measures, writes the page
    python -m benchmarks.peers --only thop

Every network is built once as a PyTorch module (or Keras model, or ONNX file) from convcalc's own
description, so that all tools look at the same operators.  Each question runs in a process of its
own and is a line of benchmarks/peers.jsonl; what is there already is skipped.  Seconds are those of
the processor, of all threads, one thread for each numerical library.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RECORDS = HERE / "peers.jsonl"
#: Zoo names, and files of the validation set.
NETWORKS = (
    "resnet50",
    "mobilenetv2",
    "unet",
    "efficientnetb0",
    "vgg16",
    "convnexttiny",
    "benchmarks/memory/networks/conv1d_audio.yaml",
)
#: No figure of the machine should depend on how threads wait for each other.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

Found = dict[str, int]


class Tool(NamedTuple):
    """A peer: what it imports, what it looks at, how it is asked."""

    package: str
    """The distribution whose version is recorded."""
    modules: tuple[str, ...]
    """What importing it means."""
    kind: str
    """module, meta (a module without storage), keras, onnx or network."""
    ask: Callable[[Any, tuple[int, ...]], Found]
    """Parameters, MACs and bytes, as far as it says them; shapes with a batch of one."""


def image(shape: tuple[int, ...]) -> Any:
    """An input of zeros."""
    import torch

    return torch.zeros(shape)


def torchinfo(model: Any, shape: tuple[int, ...]) -> Found:
    from torchinfo import summary

    found = summary(model, input_size=shape, verbose=0)
    return {
        "params": found.total_params,
        "macs": found.total_mult_adds,
        "input_bytes": found.total_input,
        "output_bytes": found.total_output_bytes,
        "param_bytes": found.total_param_bytes,
    }


def fvcore(model: Any, shape: tuple[int, ...]) -> Found:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    found = FlopCountAnalysis(model, image(shape))
    found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return {"params": parameter_count(model)[""], "macs": int(found.total())}


def ptflops(model: Any, shape: tuple[int, ...]) -> Found:
    from ptflops import get_model_complexity_info

    macs, params = get_model_complexity_info(
        model, shape[1:], as_strings=False, print_per_layer_stat=False, backend="pytorch"
    )
    return {"params": int(params), "macs": int(macs)}


def thop(model: Any, shape: tuple[int, ...]) -> Found:
    from thop import profile

    macs, params = profile(model, (image(shape),), verbose=False)
    return {"params": int(params), "macs": int(macs)}


def calflops(model: Any, shape: tuple[int, ...]) -> Found:
    from calflops import calculate_flops

    _, macs, params = calculate_flops(
        model, input_shape=shape, output_as_string=False, print_results=False, print_detailed=False
    )
    return {"params": int(params), "macs": int(macs)}


def flop_counter(model: Any, shape: tuple[int, ...]) -> Found:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as found, torch.no_grad():
        model(torch.empty(shape, device="meta"))
    return {"macs": found.get_total_flops() // 2}


def mem_tracker(model: Any, shape: tuple[int, ...]) -> Found:
    """A training step with Adam: the tracker follows it without computing."""
    import torch
    from torch.distributed._tools.mem_tracker import MemTracker

    model.train()
    optimizer = torch.optim.Adam(model.parameters())
    # A batch of one leaves batch normalization nothing to average on a map of one pixel.
    x = torch.empty((2, *shape[1:]), device="meta")
    with MemTracker() as tracker:
        tracker.track_external(model, optimizer, x)
        for _ in range(2):
            model(x).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            tracker.reset_mod_stats()
    peak = tracker.get_tracker_snapshot("peak")
    return {"training_bytes_batch_2": sum(int(each["Total"]) for each in peak.values())}


def torchscan(model: Any, shape: tuple[int, ...]) -> Found:
    from torchscan import crawl_module

    found = crawl_module(model, shape[1:])
    totals = [layer["metrics"]["macs"] for layer in found["layers"] if layer["depth"] == 1]
    params = sum(each.numel() for each in model.parameters())
    return {
        "params": params,
        "macs": sum(int(each["known_value"] or 0) for each in totals),
        "incomplete": sum(each["status"] != "complete" for each in totals),
    }


def accelerate(model: Any, shape: tuple[int, ...]) -> Found:
    from accelerate.utils import calculate_maximum_sizes

    size, _ = calculate_maximum_sizes(model)
    return {"params": size // 4, "inference_bytes": size, "training_bytes": 4 * size}


def keras(model: Any, shape: tuple[int, ...]) -> Found:
    with contextlib.redirect_stdout(io.StringIO()):
        model.summary(print_fn=lambda *_, **__: None)
    return {"params": model.count_params()}


def onnx_tool(path: Any, shape: tuple[int, ...]) -> Found:
    import onnx_tool

    model = onnx_tool.Model(path)
    model.graph.shape_infer()
    model.graph.profile()
    macs = model.graph.macs
    return {
        "params": int(model.graph.params),
        "macs": int(macs[0] if isinstance(macs, (list, tuple)) else macs),
    }


#: convcalc's later questions differ in the batch, which is what one asks next.
ASKED = iter(range(1, 100))


def ours(engine: str) -> Callable[[Any, tuple[int, ...]], Found]:
    def ask(network: Any, shape: tuple[int, ...]) -> Found:
        import convcalc

        report = convcalc.analyze(network, batch=next(ASKED), engine=engine, optimizer="adam")
        return {"params": report.totals.trainable_params, "macs": report.totals.macs}

    return ask


def ours_live(model: Any, shape: tuple[int, ...]) -> Found:
    import convcalc

    report = convcalc.analyze(model, input=(*shape[2:], shape[1]), batch=next(ASKED))
    return {"params": report.totals.trainable_params, "macs": report.totals.macs}


TOOLS: dict[str, Tool] = {
    "convcalc": Tool("convcalc", ("convcalc",), "network", ours("textbook")),
    "convcalc, with PyTorch's memory": Tool("convcalc", ("convcalc",), "network", ours("torch")),
    "convcalc, with TensorFlow's memory": Tool(
        "convcalc", ("convcalc",), "network", ours("tensorflow")
    ),
    "convcalc, of the live module": Tool("convcalc", ("torch", "convcalc"), "module", ours_live),
    "torchinfo": Tool("torchinfo", ("torchinfo",), "module", torchinfo),
    "fvcore": Tool("fvcore", ("fvcore.nn",), "module", fvcore),
    "ptflops": Tool("ptflops", ("ptflops",), "module", ptflops),
    "thop": Tool("thop", ("thop",), "module", thop),
    "calflops": Tool("calflops", ("calflops",), "module", calflops),
    "FlopCounterMode": Tool("torch", ("torch.utils.flop_counter",), "meta", flop_counter),
    "MemTracker": Tool("torch", ("torch.distributed._tools.mem_tracker",), "meta", mem_tracker),
    "torch-scan": Tool("torchscan", ("torchscan",), "module", torchscan),
    "accelerate": Tool("accelerate", ("accelerate",), "meta", accelerate),
    "Keras summary": Tool("keras", ("keras",), "keras", keras),
    "onnx-tool": Tool("onnx-tool", ("onnx_tool",), "onnx", onnx_tool),
}


def plain(model: Any) -> Any:
    """The module with PyTorch's own batch normalizations: some tools know exact classes only."""
    from torch import nn

    kinds = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
    rank = next(
        len(each.kernel_size)
        for each in model.modules()
        if isinstance(each, nn.modules.conv._ConvNd)
    )
    for name, each in list(model.named_children()):
        known = isinstance(each, nn.modules.batchnorm._BatchNorm)
        if known and each.weight is not None and each.bias is not None:
            setattr(model, name, kinds[rank](each.num_features))
    return model


def prepared(kind: str, name: str, onnx: str) -> tuple[Any, tuple[int, ...]]:
    """What a tool looks at, and its input's shape."""
    import convcalc

    network = convcalc.load(name)
    (spec,) = network.inputs.values()
    shape = spec.shape_at(1)
    assert shape is not None
    if kind == "network":
        return network, shape
    if kind == "keras":
        from convcalc.verify.build_keras import build as build_keras

        return build_keras(network), shape
    import torch

    from convcalc.verify.build_torch import build, input_shapes

    with torch.device("meta") if kind == "meta" else contextlib.nullcontext():
        model = plain(build(network)).eval()
    (shape,) = input_shapes(model, network, 1)
    if kind == "onnx":
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(model, (torch.zeros(shape),), onnx, dynamo=False, opset_version=17)
        return onnx, shape
    return model, shape


def peak() -> int:
    """Most resident bytes of this process so far."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(row.split()[1] for row in rows if row.startswith("VmHWM")))


def measure(name: str, network: str, onnx: str) -> dict[str, Any]:
    """One tool on one network, in this process: seconds of the processor, and what it says."""
    tool = TOOLS[name]
    record: dict[str, Any] = {"tool": name, "network": Path(network).stem}
    begun = time.process_time()
    for module in tool.modules:
        importlib.import_module(module)
    record["import"] = time.process_time() - begun
    record["version"] = importlib.metadata.version(tool.package)
    begun = time.process_time()
    # The ONNX file was made before, so that its making is in nobody's memory.
    if tool.kind == "onnx":
        subject, shape = onnx, ()
    else:
        subject, shape = prepared(tool.kind, network, onnx)
    record["build"] = time.process_time() - begun
    built = peak()
    for call in ("first", "second"):
        begun = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            found = tool.ask(subject, shape)
        record[call] = time.process_time() - begun
        record.setdefault("found", found)
    return {**record, "peak_bytes": peak(), "built_bytes": built}


def child(words: list[str]) -> dict[str, Any] | str:
    """A record of another process, or why there is none."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *words],
        env={**os.environ, **THREADS, **QUIET},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def records() -> list[dict[str, Any]]:
    """What has been measured."""
    return [json.loads(line) for line in RECORDS.open()] if RECORDS.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="tools whose name contains this")
    parser.add_argument("--child", nargs=3, metavar=("TOOL", "NETWORK", "ONNX"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.child:
        name, network, onnx = options.child
        if name == "export":
            prepared("onnx", network, onnx)
            print("{}")
        else:
            print(json.dumps(measure(name, network, onnx)))
        return
    done = {(record["tool"], record["network"]) for record in records()}
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            for name in TOOLS:
                short = Path(network).stem
                if (name, short) in done or options.only not in name:
                    continue
                onnx = f"{folder}/{short}.onnx"
                found: dict[str, Any] | str = {}
                if TOOLS[name].kind == "onnx":
                    found = child(["--child", "export", network, onnx])
                if not isinstance(found, str):
                    found = child(["--child", name, network, onnx])
                if isinstance(found, str):
                    found = {"tool": name, "network": short, "error": found}
                with RECORDS.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                said = found.get("error") or f"{found['first']:.2f} s, {found['found']}"
                print(f"{short} {name}: {said}", file=sys.stderr, flush=True)
    from benchmarks.peers_report import write

    write()


if __name__ == "__main__":
    main()
