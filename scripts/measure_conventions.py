"""What other tools count for small networks: writes tests/data/conventions.json.

Run it in an environment of its own, for the tools ask for old neighbours:

    python -m venv peers
    peers/bin/pip install torch numpy fvcore ptflops torchinfo thop onnx onnx-tool
    peers/bin/python scripts/measure_conventions.py

Each network is one PyTorch module and the same as our spec; a tool that fails says so by null.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.metadata
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

Shape = tuple[int, ...]


class Join(nn.Module):
    """Two convolutions whose maps meet."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x), self.b(x)
        if self.how == "add":
            return a + b
        if self.how == "multiply":
            return a * b
        if self.how == "subtract":
            return a - b
        if self.how == "divide":
            return a / b
        if self.how == "maximum":
            return torch.maximum(a, b)
        if self.how == "matmul":
            return a @ b.transpose(-1, -2)
        return torch.cat([a, b], 1)


def op(name: str, kind: str, inputs: str = "x", /, **attributes: Any) -> dict[str, Any]:
    """An op of our spec."""
    return {"name": name, "type": kind, "inputs": inputs.split(), "attributes": attributes}


def first(**attributes: Any) -> dict[str, Any]:
    """Channels first, as PyTorch has them."""
    return {"channels_first": True, **attributes}


#: How the ops that join branches are set.
WAYS: dict[str, dict[str, Any]] = {"concat": {"axis": 1}, "matmul": {"transpose_b": True}}

#: name -> (module, input shape, the same as our ops)
NETWORKS: dict[str, tuple[nn.Module, Shape, list[dict[str, Any]]]] = {}


def one(name: str, module: nn.Module, shape: Shape, kind: str, /, **attributes: Any) -> None:
    """A network of one operator."""
    NETWORKS[name] = (nn.Sequential(module), shape, [op("y", kind, **attributes)])


IMAGE = (1, 6, 10, 8)
one("conv", nn.Conv2d(6, 4, 3), IMAGE, "conv", **first(filters=4, kernel=3))
one(
    "conv without bias",
    nn.Conv2d(6, 4, 3, bias=False),
    IMAGE,
    "conv",
    **first(filters=4, kernel=3, bias=False),
)
one(
    "strided conv",
    nn.Conv2d(6, 4, (3, 2), (2, 1), (1, 0)),
    IMAGE,
    "conv",
    **first(filters=4, kernel=[3, 2], stride=[2, 1], padding=[1, 0]),
)
one("conv1d", nn.Conv1d(3, 4, 5), (1, 3, 20), "conv", **first(filters=4, kernel=5))
one("conv3d", nn.Conv3d(2, 4, 3), (1, 2, 5, 6, 7), "conv", **first(filters=4, kernel=3))
one(
    "grouped conv",
    nn.Conv2d(6, 4, 3, groups=2),
    IMAGE,
    "conv",
    **first(filters=4, kernel=3, groups=2),
)
one(
    "depthwise conv",
    nn.Conv2d(6, 12, 3, groups=6),
    IMAGE,
    "depthwise_conv",
    **first(multiplier=2, kernel=3),
)
one(
    "transposed conv",
    nn.ConvTranspose2d(6, 4, 3, 2, 1, 1),
    IMAGE,
    "conv_transpose",
    **first(filters=4, kernel=3, stride=2, padding=1, output_padding=1),
)
one(
    "transposed conv without bias",
    nn.ConvTranspose2d(6, 4, 3, bias=False),
    IMAGE,
    "conv_transpose",
    **first(filters=4, kernel=3, padding=0, bias=False),
)
one(
    "grouped transposed conv",
    nn.ConvTranspose2d(6, 4, 3, 2, groups=2),
    IMAGE,
    "conv_transpose",
    **first(filters=4, kernel=3, stride=2, padding=0, groups=2),
)
one("linear", nn.Linear(12, 5), (1, 12), "dense", units=5)
one("linear without bias", nn.Linear(12, 5, bias=False), (1, 12), "dense", units=5, bias=False)
one("linear on tokens", nn.Linear(12, 5), (1, 7, 12), "dense", units=5)
one("batch norm", nn.BatchNorm2d(6), IMAGE, "batch_norm", axis=1)
one(
    "batch norm without affine",
    nn.BatchNorm2d(6, affine=False),
    IMAGE,
    "batch_norm",
    axis=1,
    scale=False,
    center=False,
)
one("layer norm", nn.LayerNorm(12), (1, 7, 12), "layer_norm")
one("longer layer norm", nn.LayerNorm(20), (1, 5, 20), "layer_norm")
one(
    "layer norm without affine",
    nn.LayerNorm(12, elementwise_affine=False),
    (1, 7, 12),
    "layer_norm",
    scale=False,
    center=False,
)
one("lp pool", nn.LPPool2d(2, 2), IMAGE, "lp_pool", **first(kernel=2))
one(
    "adaptive max pool",
    nn.AdaptiveMaxPool2d(1),
    IMAGE,
    "global_pool",
    **first(keepdims=True, kind="max"),
)
one("1D average pool", nn.AvgPool1d(2), (1, 3, 20), "average_pool", **first(kernel=2))
one(
    "1D global average pool",
    nn.AdaptiveAvgPool1d(1),
    (1, 3, 20),
    "global_pool",
    **first(keepdims=True),
)
one(
    "1D linear upsampling",
    nn.Upsample(scale_factor=2, mode="linear"),
    (1, 3, 20),
    "upsample",
    **first(interpolation="linear"),
)
one(
    "upsample bicubic",
    nn.Upsample(scale_factor=2, mode="bicubic"),
    IMAGE,
    "upsample",
    **first(interpolation="bicubic"),
)
one("1D batch norm", nn.BatchNorm1d(3), (1, 3, 20), "batch_norm", axis=1)
one("softmax on tokens", nn.Softmax(-1), (1, 7, 12), "activation", function="softmax")
for convolution, norm, shape in (
    (nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), IMAGE),
    (nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), IMAGE),
    (nn.ConvTranspose2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), IMAGE),
):
    transposed = isinstance(convolution, nn.ConvTranspose2d)
    bias = convolution.bias is not None
    NETWORKS[f"{'transposed ' * transposed}conv{'' if bias else ' without bias'}, batch norm"] = (
        nn.Sequential(convolution, norm),
        shape,
        [
            op(
                "c",
                "conv_transpose" if transposed else "conv",
                **first(filters=4, kernel=3, bias=bias, padding=0),
            ),
            op("y", "batch_norm", "c", axis=1),
        ],
    )
one("group norm", nn.GroupNorm(3, 6), IMAGE, "group_norm", groups=3, axis=1)
one(
    "instance norm",
    nn.InstanceNorm2d(6, affine=True),
    IMAGE,
    "group_norm",
    groups=-1,
    axis=1,
)
one("max pool", nn.MaxPool2d(2), IMAGE, "max_pool", **first(kernel=2))
one(
    "overlapping max pool",
    nn.MaxPool2d(3, 2, 1),
    IMAGE,
    "max_pool",
    **first(kernel=3, stride=2, padding=1),
)
one("average pool", nn.AvgPool2d(2), IMAGE, "average_pool", **first(kernel=2))
one(
    "overlapping average pool",
    nn.AvgPool2d(3, 2, 1),
    IMAGE,
    "average_pool",
    **first(kernel=3, stride=2, padding=1),
)
one(
    "global average pool",
    nn.AdaptiveAvgPool2d(1),
    IMAGE,
    "global_pool",
    **first(keepdims=True),
)
one(
    "adaptive average pool",
    nn.AdaptiveAvgPool2d((5, 4)),
    IMAGE,
    "adaptive_pool",
    **first(output=[5, 4]),
)
one(
    "upsample nearest",
    nn.Upsample(scale_factor=2),
    IMAGE,
    "upsample",
    **first(factor=2, interpolation="nearest"),
)
one(
    "upsample bilinear",
    nn.Upsample(scale_factor=2, mode="bilinear"),
    IMAGE,
    "upsample",
    **first(factor=2, interpolation="bilinear"),
)
for mode in ("nearest", "bilinear"):
    one(
        f"resize {mode}",
        nn.Upsample(size=(15, 12), mode=mode),
        IMAGE,
        "resize",
        **first(size=[15, 12], interpolation=mode),
    )
for function, made in {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(0.1),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "hard_swish": nn.Hardswish(),
    "hard_sigmoid": nn.Hardsigmoid(),
}.items():
    one(function, made, IMAGE, "activation", function=function)
one("softmax", nn.Softmax(-1), (1, 12), "activation", function="softmax")
one("prelu", nn.PReLU(6), IMAGE, "prelu", slopes=[6])
one("dropout", nn.Dropout(), IMAGE, "dropout")
one("flatten", nn.Flatten(), IMAGE, "flatten")
one("pixel shuffle", nn.PixelShuffle(2), (1, 8, 5, 4), "depth_to_space", **first(block=2))
one("zero padding", nn.ZeroPad2d(1), IMAGE, "pad", **first(padding=1))
for how in ("add", "multiply", "subtract", "divide", "maximum", "concat", "matmul"):
    NETWORKS[how] = (
        Join(how),
        (1, 3, 10, 8),
        [
            op("a", "conv", **first(filters=4, kernel=3, padding=1)),
            op("b", "conv", **first(filters=4, kernel=1)),
            op("y", how, "a b", **WAYS.get(how, {})),
        ],
    )
NETWORKS["small CNN"] = (
    nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
        nn.Softmax(-1),
    ),
    (1, 3, 16, 16),
    [
        op("conv1", "conv", **first(filters=8, kernel=3, padding=1)),
        op("bn", "batch_norm", "conv1", axis=1),
        op("relu", "activation", "bn", function="relu"),
        op("pool", "max_pool", "relu", **first(kernel=2)),
        op("dw", "depthwise_conv", "pool", **first(kernel=3, bias=False)),
        op("pw", "conv", "dw", **first(filters=16, kernel=1)),
        op("gap", "global_pool", "pw", **first(keepdims=True)),
        op("flat", "flatten", "gap"),
        op("fc", "dense", "flat", units=10),
        op("y", "activation", "fc", function="softmax"),
    ],
)


def by_fvcore(module: nn.Module, shape: Shape) -> int:
    from fvcore.nn import FlopCountAnalysis

    found = FlopCountAnalysis(module, torch.zeros(shape))
    return int(found.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def by_ptflops(backend: str) -> Callable[[nn.Module, Shape], int]:
    def count(module: nn.Module, shape: Shape) -> int:
        from ptflops import get_model_complexity_info

        macs, _ = get_model_complexity_info(
            module, shape[1:], as_strings=False, print_per_layer_stat=False, backend=backend
        )
        return int(macs)

    return count


def by_torchinfo(module: nn.Module, shape: Shape) -> int:
    from torchinfo import summary

    return int(summary(module, input_size=shape, verbose=0).total_mult_adds)


def by_thop(module: nn.Module, shape: Shape) -> int:
    from thop import profile

    macs, _ = profile(module, (torch.zeros(shape),), verbose=False)
    return int(macs)


def by_onnx_tool(module: nn.Module, shape: Shape) -> int:
    import onnx_tool

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.onnx")
        torch.onnx.export(module, (torch.zeros(shape),), path, dynamo=False, opset_version=17)
        model = onnx_tool.Model(path)
    model.graph.shape_infer()
    model.graph.profile()
    macs = model.graph.macs
    return int(macs[0] if isinstance(macs, (list, tuple)) else macs)


TOOLS: dict[str, tuple[str, Callable[[nn.Module, Shape], int]]] = {
    "fvcore": ("fvcore", by_fvcore),
    "ptflops": ("ptflops", by_ptflops("pytorch")),
    "ptflops-aten": ("ptflops", by_ptflops("aten")),
    "torchinfo": ("torchinfo", by_torchinfo),
    "thop": ("thop", by_thop),
    "onnx-tool": ("onnx-tool", by_onnx_tool),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default="tests/data/conventions.json")
    path = parser.parse_args().output
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    known = [tool for tool, _ in TOOLS.values()]
    records = []
    for name, (module, shape, ops) in NETWORKS.items():
        counts: dict[str, int | None] = {}
        for tool, (_, count) in TOOLS.items():
            # A fresh copy for each tool: some leave buffers and hooks behind.
            fresh = copy.deepcopy(module).eval()
            try:
                with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
                    counts[tool] = count(fresh, shape)
            except Exception as error:
                print(f"{tool} on {name}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
                counts[tool] = None
        records.append({"name": name, "input": list(shape), "ops": ops, "counts": counts})
    versions = {tool: importlib.metadata.version(tool) for tool in ["torch", *dict.fromkeys(known)]}
    lines = ",\n".join("  " + json.dumps(record) for record in records)
    path.write_text(f'{{"versions": {json.dumps(versions)},\n "networks": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
