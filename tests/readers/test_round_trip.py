"""Whatever is read can be exported as our spec, and reads back as the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from convcalc.cli import main
from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.readers import load
from convcalc.readers.spec import read_spec, write_spec
from convcalc.tensors import TensorSpec

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
FILES = ["tiny.keras", "tiny.h5", "tiny.json", "tiny.yaml", "tiny.onnx"]


def back(net: Network) -> Network:
    return read_spec(json.loads(json.dumps(write_spec(net))))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_export_of_every_format(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / f"net.{form}"
    options = ["--yaml"] if form == "yaml" else []
    command = ["convcalc", "export", str(CORPUS / name), *options, "--output", str(output)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert load(output) == load(CORPUS / name)


def test_a_live_module_survives() -> None:
    torch = pytest.importorskip("torch")
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()
    net = load(torch.nn.Sequential(*layers), input=(8, 8, 3))
    assert back(net) == net


def test_an_op_that_reads_nothing() -> None:
    ops = (
        Op("a", create("opaque", {"name": "Generator", "shapes": [[3]]}), ()),
        Op("b", create("constant", {"shape": [3]}), ()),
        Op("c", create("add", {}), ("a", "b")),
    )
    net = Network("n", ops, {"x": TensorSpec((1, 3))}, ("c",))
    assert back(net) == net


def test_inputs_whose_batch_is_elsewhere() -> None:
    inputs = {
        "steps": TensorSpec((7, 1, 64), "float", 1),
        "table": TensorSpec((9, 64), "int32", None),
        "two": TensorSpec((2, 3)),
    }
    net = Network("n", (Op("i", create("identity", {}), ("steps",)),), inputs, ("i",))
    assert back(net) == net
    spec = write_spec(net)
    spec["inputs"]["steps"]["batch_axis"] = 3
    with pytest.raises(ModelError, match="input 'steps' has no axis 3 for the batch"):
        read_spec(spec)


SIZE = st.integers(1, 4)
LAYERS = st.one_of(
    st.builds(lambda f, k, p: {"conv": {"filters": f, "kernel": k, "padding": p}}, SIZE, SIZE,
              st.sampled_from(("same", "valid", 1, [[0, 1], [1, 0]]))),
    st.builds(lambda m, k: {"depthwise_conv": {"multiplier": m, "kernel": [k, 1]}}, SIZE, SIZE),
    st.builds(lambda f, a: {"separable_conv": {"filters": f, "kernel": 2, "activation": a}}, SIZE,
              st.sampled_from(("relu", "tanh"))),
    st.builds(lambda k, s: {"max_pool": {"kernel": k, "stride": s}}, SIZE, SIZE),
    st.builds(lambda n: {"dense": n}, SIZE),
    st.builds(lambda s: {"split": {"sizes": [s, 4 - s], "axis": 1}}, st.integers(1, 3)),
    st.sampled_from(("flatten", "batch_norm", {"dropout": 0.5}, {"layer_norm": {"axes": [1]}},
                     {"permute": [0, 2, 1, 3]}, {"opaque": {"name": "x", "shapes": [[3]]}},
                     {"constant": {"shape": [2], "stored": True}}, "add")),
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Networks of a few layers that fit together, some frozen, sharing weights or branching."""
    layers: list[dict[str, Any]] = []
    spec: dict[str, Any] = {"name": "n", "input": [4, 6, 2], "layers": layers}
    if draw(st.booleans()):
        spec |= {"layout": "channels_first", "input": [2, 4, 6]}
    net = None
    for number in range(draw(st.integers(1, 8))):
        entry = draw(LAYERS)
        entry = {entry: {}} if isinstance(entry, str) else dict(entry)
        entry["name"] = f"l{number}"
        if layers and draw(st.integers(0, 3)) == 0:
            names = [layer["name"] for layer in layers]
            entry["from"] = draw(
                st.lists(st.sampled_from(["input", *names]), min_size=1, max_size=2)
            )
            entry["weights"] = draw(st.sampled_from(names))
        if draw(st.integers(0, 3)) == 0:
            entry |= {"trainable": False, "layer": "block/one", "layer_type": "Own"}
        layers.append(entry)
        try:
            net = read_spec(spec)
        except ModelError:
            layers.pop()
    return net or read_spec({"input": [4], "layers": ["flatten"]})


@settings(max_examples=150)
@given(net=networks())
def test_random_networks_survive(net: Network) -> None:
    assert back(net) == net
    assert read_spec(yaml.safe_load(yaml.safe_dump(write_spec(net)))) == net
