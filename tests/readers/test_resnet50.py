"""The same ResNet-50 through every reader: equal where it is, and each difference explained."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import convcalc
from convcalc.report import Totals

KERAS = Path(__file__).parents[2] / "benchmarks" / "resnet50_keras.json.gz"

#: Moving means and variances of 53 batch normalizations, and biases of 53 convolutions before them.
STATISTICS, BIASES = 53_120, 26_560
#: A stride in the first 1x1 of a block instead of in its 3x3 leaves that a quarter of the places.
STRIDE_IN_1X1, STRIDE_IN_3X3 = 3_857_973_248, 4_089_184_256


def counts(totals: Totals) -> tuple[int, int, int]:
    return totals.params, totals.trainable_params, totals.macs


def test_keras_in_all_its_files(tmp_path: Path) -> None:
    text = gzip.decompress(KERAS.read_bytes())
    expected = (25_636_712, 25_636_712 - STATISTICS, STRIDE_IN_1X1)
    paths = [tmp_path / "net.json", tmp_path / "net.keras"]
    paths[0].write_bytes(text)
    with zipfile.ZipFile(paths[1], "w") as file:
        file.writestr("config.json", text)
    try:
        import h5py
    except ImportError:
        pass
    else:
        paths.append(tmp_path / "net.h5")
        with h5py.File(paths[2], "w") as file:
            file.attrs["model_config"] = text
    networks = [convcalc.load(path) for path in (*paths, json.loads(text))]
    for net in networks:
        assert net == networks[0]
        assert counts(convcalc.analyze(net).totals) == expected


def onnx_resnet50(stride_in_3x3: bool) -> Any:
    """The graph as exporters write it, the weights without their values."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []
    weights: list[Any] = []

    def weight(name: str, *dims: int) -> str:
        weights.append(TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT))
        return name

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(x: str, source: int, filters: int, kernel: int, stride: int = 1) -> str:
        name = f"c{len(nodes)}"
        pads, square = [kernel // 2] * 4, [kernel] * 2
        settings = {"kernel_shape": square, "strides": [stride] * 2, "pads": pads}
        y = add("Conv", x, weight(f"{name}.w", filters, source, kernel, kernel), **settings)
        parts = [weight(f"{name}.{part}", filters) for part in ("scale", "shift", "mean", "var")]
        return add("BatchNormalization", y, *parts)

    x = add("Relu", conv("x", 3, 64, 7, 2))
    x = add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            first, second = (1, stride) if stride_in_3x3 else (stride, 1)
            y = add("Relu", conv(x, channels, width, 1, first))
            y = add("Relu", conv(y, width, width, 3, second))
            y = conv(y, width, 4 * width, 1)
            x = x if block else conv(x, channels, 4 * width, 1, stride)
            x = add("Relu", add("Add", y, x))
            channels = 4 * width
    x = add("Flatten", add("GlobalAveragePool", x))
    head = weight("fc.w", 1000, 2048), weight("fc.b", 1000)
    out = add("Gemm", x, *head, transB=1)
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])
    target = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", 1000])
    return helper.make_model(helper.make_graph(nodes, "resnet50", [source], [target], weights))


@pytest.mark.parametrize(("stride_in_3x3", "macs"), [(True, STRIDE_IN_3X3), (False, STRIDE_IN_1X1)])
def test_onnx(tmp_path: Path, stride_in_3x3: bool, macs: int) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "resnet50.onnx"
    onnx.save(onnx_resnet50(stride_in_3x3), path)
    params = 25_636_712 - BIASES
    found = convcalc.analyze(path)
    assert counts(found.totals) == (params, params - STATISTICS, macs)
    assert found.status == "complete"


def test_pytorch() -> None:
    pytest.importorskip("torch")
    from benchmarks.torch_resnet import resnet50

    module = resnet50().to("meta")
    params = 25_636_712 - BIASES
    totals = convcalc.analyze(module, input=(224, 224, 3)).totals
    assert counts(totals) == (params, params - STATISTICS, STRIDE_IN_3X3)
    assert totals.trainable_params == sum(p.numel() for p in module.parameters())
