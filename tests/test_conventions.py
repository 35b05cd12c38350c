"""Our conventions against what the tools themselves counted (scripts/measure_conventions.py)."""

import json
from pathlib import Path
from typing import Any

import pytest

from convcalc import load
from convcalc.analysis.conventions import CONVENTIONS, MEASURED, UNSEEN, count, explain
from convcalc.errors import UsageError
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec

PEERS = json.loads((Path(__file__).parent / "data" / "conventions.json").read_text())
KERAS = json.loads((Path(__file__).parent / "data" / "conventions_keras.json").read_text())
KERAS_RECORDS = {record["name"]: record for record in KERAS["networks"]}
RECORDS = {record["name"]: record for record in PEERS["networks"]}


def build(record: dict[str, Any], layout: str = "channels_first") -> Network:
    """The network that was measured."""
    ops = tuple(
        Op(op["name"], create(op["type"], op["attributes"]), tuple(op["inputs"]))
        for op in record["ops"]
    )
    shapes = {"x": TensorSpec(tuple(record["input"]))}
    return Network(record["name"], ops, shapes, (ops[-1].name,), layout)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize(
    "tool", ["fvcore", "ptflops", "ptflops-aten", "torchinfo", "onnx-tool", "thop"]
)
def test_counts_are_the_tools_own(tool: str, name: str) -> None:
    record = RECORDS[name]
    measured = record["counts"][tool]
    assert measured is not None
    if (tool, name) == ("onnx-tool", "lp pool"):
        pytest.skip("PyTorch exports it as powers and an average pool: several ops, not one")
    assert count(build(record), tool)[1] == measured


@pytest.mark.parametrize("name", KERAS_RECORDS)
def test_counts_are_tf_profilers(name: str) -> None:
    record = KERAS_RECORDS[name]
    assert count(build(record, "channels_last"), "keras")[1] == record["counts"]["keras"]


def test_measured_operators_are_those_of_the_records() -> None:
    assert {op["type"] for record in RECORDS.values() for op in record["ops"]} == MEASURED
    keras = {op["type"] for record in KERAS_RECORDS.values() for op in record["ops"]}
    assert keras == UNSEEN | set(CONVENTIONS["keras"].rules)


def test_titles_name_the_measured_versions() -> None:
    for name, version in PEERS["versions"].items():
        release = ".".join(version.partition("-")[0].split(".")[:3])
        named = [key for key in CONVENTIONS if key == name or key.startswith(f"{name}-")]
        assert named or name == "torch"
        assert all(f"{name} {release}" in CONVENTIONS[key].title for key in named)
    for name, version in KERAS["versions"].items():
        assert version.rpartition(".")[0] in CONVENTIONS["keras"].title, name


def test_what_was_not_measured_is_marked() -> None:
    op = Op("y", create("reduce", {"axes": -1}), ("x",))
    net = Network("n", (op,), {"x": TensorSpec((1, 3))}, ("y",))
    (row,) = explain(net, "macs", "fvcore")
    assert row.reason.endswith("(assumed, not measured)")
    (row,) = explain(net, "macs", "flops")
    assert "assumed" not in row.reason


def test_macs_and_flops() -> None:
    net = build(RECORDS["small CNN"])
    layers, total = count(net, "macs")
    # 3x3x3 to 8 maps of 16x16; 3x3 depthwise to 6x6; 1x1 to 16 maps; 16 to 10.
    assert layers["conv1"] == 3 * 3 * 3 * 8 * 16 * 16
    assert layers["dw"] == 3 * 3 * 8 * 6 * 6
    assert layers["pw"] == 8 * 16 * 6 * 6
    assert layers["fc"] == 16 * 10
    assert total == sum(layers.values()) == 55296 + 2592 + 4608 + 160
    assert count(net, "flops")[1] == 2 * total


def test_difference_is_explained() -> None:
    rows = explain(build(RECORDS["small CNN"]), "macs", "fvcore")
    first = rows[0]
    assert (first.type, first.a, first.b) == ("batch_norm", 0, 2 * 8 * 16 * 16)
    assert first.reason == "macs: not counted; fvcore: 2 an element, 1 without scale and shift"
    same = next(row for row in rows if row.type == "conv")
    assert same.a == same.b == 55296 + 4608
    assert same.reason == "multiply-accumulates, bias excluded"


def test_explained_rows_add_up() -> None:
    net = build(RECORDS["small CNN"])
    for a in CONVENTIONS:
        for b in CONVENTIONS:
            rows = explain(net, a, b)
            assert sum(row.a for row in rows) == count(net, a)[1]
            assert sum(row.b for row in rows) == count(net, b)[1]


def test_unknown_convention() -> None:
    with pytest.raises(UsageError, match="unknown convention 'fvcor'; did you mean 'fvcore'"):
        count(build(RECORDS["conv"]), "fvcor")
    with pytest.raises(UsageError, match="unknown convention"):
        explain(build(RECORDS["conv"]), "macs", "nonsense")


def test_opaque_ops_are_left_out() -> None:
    ops = (
        Op("o", create("opaque", {"name": "Unknown"}), ("x",)),
        Op("y", create("identity", {}), ("o",)),
    )
    net = Network("n", ops, {"x": TensorSpec((1, 3))}, ("y",))
    for convention in CONVENTIONS:
        assert count(net, convention) == ({"o": 0, "y": 0}, 0)


def test_resnet50_is_what_tf_profiler_counts() -> None:
    # Measured by scripts/measure_keras_profiler.py's float_operations on Keras' own ResNet50.
    assert count(load("resnet50"), "keras")[1] == 7_755_299_312
