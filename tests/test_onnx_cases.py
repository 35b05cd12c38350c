"""ONNX's own one-operator test cases: our operators make the shapes that ONNX states.

`values` in a case are the small integer or scale inputs that ONNX passes as tensors.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec

CASES = json.loads((Path(__file__).parent / "data" / "onnx_node_cases.json").read_text())

#: Cases that say nothing about a formula of ours, each with why.
SKIPPED = {
    "test_maxunpool_export_without_output_shape": "no operator: readers keep MaxUnpool opaque",
    "test_maxunpool_export_with_output_shape": "no operator: readers keep MaxUnpool opaque",
    "test_basic_deform_conv_with_padding": "no operator: readers keep DeformConv opaque",
    "test_basic_deform_conv_without_padding": "no operator: readers keep DeformConv opaque",
    "test_deform_conv_with_mask_bias": "no operator: readers keep DeformConv opaque",
    "test_deform_conv_with_multiple_offset_groups": "no operator: readers keep DeformConv opaque",
}


def pairs(pads: list[int]) -> list[list[int]]:
    """ONNX's [begin..., end...] as (before, after) of each axis."""
    half = len(pads) // 2
    return [list(pair) for pair in zip(pads[:half], pads[half:], strict=True)]


def padding(attrs: dict[str, Any]) -> Any:
    """`auto_pad` and `pads` as our padding."""
    named = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
    auto = attrs.get("auto_pad", "NOTSET")
    return named[auto] if auto != "NOTSET" else pairs(attrs["pads"]) if "pads" in attrs else "valid"


def window(attrs: dict[str, Any]) -> dict[str, Any]:
    """What convolutions and pools have in common."""
    return {
        "stride": attrs.get("strides", 1),
        "dilation": attrs.get("dilations", 1),
        "padding": padding(attrs),
        "channels_first": True,
    }


def convolution(case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    attrs = case["attrs"]
    weights = case["inputs"][3 if case["op"] == "QLinearConv" else 1]
    bias = len(case["inputs"]) > 2 and case["op"] != "ConvInteger"
    made = {"kernel": weights[2:], "groups": attrs.get("group", 1), "bias": bias, **window(attrs)}
    if case["op"] != "ConvTranspose":
        return "conv", {"filters": weights[0], **made}
    for key in ("output_padding", "output_shape"):
        if key in attrs:
            made[key] = attrs[key]
    return "conv_transpose", {"filters": weights[1] * attrs.get("group", 1), **made}


def pool(case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    attrs = case["attrs"]
    kind = {"AveragePool": "average_pool", "MaxPool": "max_pool", "LpPool": "lp_pool"}[case["op"]]
    made = {"kernel": attrs["kernel_shape"], **window(attrs)}
    made["ceil_mode"] = bool(attrs.get("ceil_mode", 0))
    if kind == "average_pool":
        made["count_include_pad"] = bool(attrs.get("count_include_pad", 0))
    return kind, made


def pad(case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    rank = len(case["inputs"][0])
    axes = [axis % rank for axis in case["values"].get("axes", range(rank))]
    sides = [[0, 0] for _ in range(rank)]
    for axis, pair in zip(axes, pairs(case["values"]["pads"]), strict=True):
        sides[axis] = pair
    assert sides[:2] == [[0, 0], [0, 0]], "batch and channels are never padded here"
    return "pad", {"padding": sides[2:], "channels_first": True}


def resize(case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Spatial sizes as ONNX defines them: floor(n * roi * scale), or named, or of kept aspect."""
    shape, values, attrs = case["inputs"][0], case["values"], case["attrs"]
    axes = attrs.get("axes", list(range(len(shape))))
    sizes = list(shape)
    if "sizes" in values:
        wanted = dict(zip(axes, values["sizes"], strict=True))
        policy = attrs.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            choose = min if policy == "not_larger" else max
            scale = choose(size / shape[axis] for axis, size in wanted.items())
            wanted = {axis: math.floor(scale * shape[axis] + 0.5) for axis in wanted}
    else:
        scales = zip(axes, values["scales"], strict=True)
        # The scales are stored in float32: 0.6 comes back as 0.60000002.
        wanted = {axis: math.floor(shape[axis] * round(scale, 6)) for axis, scale in scales}
        if all(float(scale).is_integer() for scale in values["scales"]):
            factors = dict(zip(axes, map(int, values["scales"]), strict=True))
            factor = [factors.get(axis, 1) for axis in range(2, len(shape))]
            return "upsample", {"factor": factor, "channels_first": True}
    for axis, size in wanted.items():
        sizes[axis] = size
    return "resize", {"size": sizes[2:], "channels_first": True}


def translate(case: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An ONNX node as one of our operators."""
    match case["op"]:
        case "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose":
            return convolution(case)
        case "AveragePool" | "MaxPool" | "LpPool":
            return pool(case)
        case "GlobalAveragePool" | "GlobalMaxPool":
            kind = "average" if case["op"] == "GlobalAveragePool" else "max"
            return "global_pool", {"kind": kind, "keepdims": True, "channels_first": True}
        case "BatchNormalization":
            return "batch_norm", {"axis": 1}
        case "Pad":
            return pad(case)
        case "Resize":
            return resize(case)
    raise AssertionError(f"no translation for {case['op']}")


def test_all_126_cases_are_here() -> None:
    assert len(CASES) == 126
    assert set(SKIPPED) <= {case["name"] for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_shape_is_what_onnx_states(case: dict[str, Any]) -> None:
    if case["name"] in SKIPPED:
        pytest.skip(SKIPPED[case["name"]])
    kind, attributes = translate(case)
    shape = tuple(case["inputs"][0])
    net = Network(
        case["name"],
        (Op("y", create(kind, attributes), ("x",)),),
        {"x": TensorSpec(shape)},
        ("y",),
        "channels_first",
    )
    assert net.tensors["y"].shape == tuple(case["outputs"][0])
