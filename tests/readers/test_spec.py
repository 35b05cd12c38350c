"""Our own network spec: short to write, exact to read back, strict about mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import convcalc
from convcalc import zoo
from convcalc.errors import ModelError
from convcalc.readers import load
from convcalc.readers.spec import json_schema, read_spec, write_spec

LENET = """
name: lenet5
input: [28, 28, 1]
layers:
  - conv: {filters: 6, kernel: 5, padding: same, activation: tanh}
  - average_pool: 2
  - conv: {filters: 16, kernel: 5, activation: tanh}
  - average_pool: 2
  - conv: {filters: 120, kernel: 5, activation: tanh}
  - flatten
  - dense: {units: 84, activation: tanh}
  - dense: {units: 10, activation: softmax}
"""


def test_lenet_in_a_dozen_lines() -> None:
    report = convcalc.analyze(yaml.safe_load(LENET))
    assert len(LENET.strip().splitlines()) <= 12
    # 156 + 2,416 + 48,120 + 10,164 + 850, as LeCun et al. 1998 count layer by layer.
    assert [layer.params for layer in report.layers if layer.params] == [
        156,
        2_416,
        48_120,
        10_164,
        850,
    ]


def test_a_separable_convolution_is_one_layer_of_two_ops() -> None:
    layer = {"separable_conv": {"filters": 8, "kernel": 3, "padding": "same"}, "name": "s"}
    report = convcalc.analyze({"input": [16, 16, 4], "layers": [layer]})
    (row,) = report.layers
    assert row.params == 3 * 3 * 4 + (4 + 1) * 8
    assert row.macs == 16 * 16 * 4 * (3 * 3 + 8)


@pytest.mark.parametrize("name", sorted(zoo.index()))
def test_every_network_of_the_zoo_survives_a_round_trip(name: str) -> None:
    net = zoo.load(name)
    assert read_spec(json.loads(json.dumps(write_spec(net)))) == net


def test_yaml_and_json_say_the_same(tmp_path: Any) -> None:
    as_yaml, as_json = tmp_path / "net.yaml", tmp_path / "net.json"
    as_yaml.write_text(LENET)
    as_json.write_text(json.dumps(yaml.safe_load(LENET)))
    assert load(as_yaml) == load(as_json)


def test_frozen_and_shared_layers_round_trip() -> None:
    spec = {
        "inputs": {"a": [4, 4, 3], "ids": {"shape": [7], "dtype": "int32"}},
        "layers": [
            {"dense": 5, "name": "one", "from": "a", "trainable": False},
            {"dense": 5, "name": "two", "from": "a", "weights": "one"},
            {"embedding": {"rows": 9, "width": 2}, "name": "table", "from": "ids"},
            {"add": {}, "name": "sum", "from": ["one", "two"]},
        ],
        "outputs": ["sum", "table"],
    }
    net = read_spec(spec)
    assert read_spec(write_spec(net)) == net
    totals = convcalc.analyze(net).totals
    assert (totals.params, totals.trainable_params) == (20 + 18, 18)


CONV = {"conv": {"filters": 1, "kernel": 1}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layers": []}, "at least one layer"),
        ({"layers": [CONV]}, "has no sizes"),
        ({"input": [8, 8, 3], "layers": ["convv"]}, "did you mean 'conv'"),
        ({"input": [8, 8, 3], "layers": [{"conv": {"filter": 1}}]}, "did you mean 'filters'"),
        ({"input": [8, 8, 3], "layers": [{"conv": {"kernel": 1}}]}, "'conv' needs 'filters'"),
        ({"input": [8, 8, 3], "layers": [{**CONV, "flatten": {}}]}, "one operator, not 2"),
        ({"input": [8, 8, 3], "layers": [7]}, "layer 1 must be a name or a mapping"),
        ({"input": [8, 8, 3], "layers": [{**CONV, "from": 3}]}, "'from' must be"),
        ({"input": [8, 8, 3], "layers": [{**CONV, "trainable": 1}]}, "true or false"),
        ({"input": [8, 8, 3], "layer": [CONV], "layers": []}, "did you mean 'layers'"),
        ({"input": [8, -8, 3], "layers": [CONV]}, "-8"),
        ({"input": "8x8x3", "layers": [CONV]}, "has no sizes"),
        ({"input": [8, 8, 3], "layers": [{"conv": {"filters": [[[[[1]]]]], "kernel": 1}}]}, "deep"),
        ({"input": [8, 8, 3], "layers": [{"dense": "ten"}]}, "positive integer"),
        ({"input": [8, 8, 3], "layout": "sideways", "layers": [CONV]}, "layout 'sideways'"),
        ({"input": [8, 8, 3], "layers": [CONV], "outputs": ["y"]}, "output 'y'"),
        ({"inputs": {"a": {"shape": [1], "dtype": "text"}}, "layers": [CONV]}, "dtype"),
        ({"inputs": {"a": {"shape": [1], "dtype": ["int8"]}}, "layers": [CONV]}, "dtype"),
        (
            {"input": [8, 8, 3], "layers": [{**CONV, "dtypes": [[]]}]},
            "'dtypes' must be a list of element types",
        ),
        (
            {"input": [8, 8, 3], "layers": [{**CONV, "dtypes": ["int8"]}]},
            "1 dtypes do not fit its 2 variables",
        ),
    ],
)
def test_mistakes_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_spec(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "in no format that is read"),
        (b'{"layers": [', "is not valid JSON"),
        (b"layers: [a\n b: c", "is not valid YAML"),
        (b"just words", "holds no mapping"),
        (b'{"a": 1}', "has neither 'layers'"),
        (b"!!python/object/apply:os.system ['true']", "is not valid YAML"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"layers": ' + b"[" * 100_000, "nested too deeply"),
        (b"a: &a [x, x]\nlayers: *b", "is not valid YAML"),
    ],
)
def test_files_that_hold_no_network(tmp_path: Any, content: bytes, message: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert message in str(caught.value)


def test_aliases_do_not_multiply(tmp_path: Any) -> None:
    levels = ["a0: &a0 [1, 1]"]
    for level in range(1, 9):
        items = ", ".join([f"*a{level - 1}"] * 60)
        levels.append(f"a{level}: &a{level} [{items}]")
    path = tmp_path / "bomb.yaml"
    layers = "input: [8, 8, 3]\nlayers: [{conv: {filters: 1, kernel: *a8}}]\n"
    path.write_text("\n".join(levels) + "\n" + layers)
    with pytest.raises(ModelError, match="has no 'a0'"):
        load(path)
    body = f"input: [8, 8, 3]\nlayers: [{{conv: {{filters: 1, stride: {{{', '.join(levels)}}}, "
    path.write_text(body + "kernel: *a8}}]\n")
    with pytest.raises(ModelError, match="nested too deeply"):
        load(path)


def test_the_schema_accepts_the_zoo_and_refuses_mistakes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json_schema())
    for name in ("lenet5", "resnet18", "unet"):
        check.validate(zoo.spec(name))
    check.validate(yaml.safe_load(LENET))
    assert not check.is_valid({"layers": [{"convv": {}}]})
    assert not check.is_valid({"input": [0, 1], "layers": ["flatten"]})


def test_the_published_schema_is_the_operators_own() -> None:
    path = Path(__file__).parents[2] / "docs" / "network.schema.json"
    assert json.loads(path.read_text()) == convcalc.network_schema()


def test_a_layer_with_two_outputs_keeps_both() -> None:
    layers = [{"split": {"sizes": [1, 3]}, "name": "s"}, {"concat": {}, "from": ["s", "s:1"]}]
    report = convcalc.analyze({"input": [4, 4, 4], "layers": layers})
    assert report.layers[0].output_shape == [1, 4, 4, 1]
    assert report.layers[0].output_bytes == 4 * 4 * (1 + 3) * 4
