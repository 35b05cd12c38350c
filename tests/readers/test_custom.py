"""Custom layers: opaque until the user describes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import convcalc
from convcalc.errors import ModelError
from convcalc.readers import custom

BLOCK = {
    "module": "mine.layers",
    "class_name": "Block",
    "registered_name": "mine>Block",
    "config": {"name": "block", "filters": 4, "trainable": True},
}


def model(*layers: dict[str, Any]) -> dict[str, Any]:
    source = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "name": "x"}}
    return {"class_name": "Sequential", "config": {"name": "n", "layers": [source, *layers]}}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    before = dict(custom.DESCRIBED)
    yield
    custom.DESCRIBED.clear()
    custom.DESCRIBED.update(before)


def block(config: Any, shapes: Any) -> Any:
    ((*_, channels),) = shapes
    return [
        {"conv": {"filters": config["filters"], "kernel": 3, "padding": "same"}, "name": "a"},
        {"conv": {"filters": channels, "kernel": 1, "bias": False}, "name": "b"},
        {"add": {}, "from": ["b", "input"]},
        "flatten",
    ]


def test_a_residual_block_in_the_words_of_a_spec() -> None:
    assert convcalc.analyze(model(BLOCK)).status == "partial"
    convcalc.register_layer("mine>Block", block)
    report = convcalc.analyze(model(BLOCK))
    (row,) = report.layers
    assert (row.name, row.type, row.output_shape) == ("block", "Block", [1, 192])
    assert row.params == (3 * 3 * 3 + 1) * 4 + 4 * 3
    assert row.macs == 8 * 8 * (27 * 4 + 4 * 3)
    frozen = {**BLOCK, "config": {**BLOCK["config"], "trainable": False}}
    assert convcalc.analyze(model(frozen)).totals.trainable_params == 0


def test_a_description_replaces_another_and_can_be_taken_back() -> None:
    convcalc.register_layer("Block", lambda config, shapes: "relu")
    with pytest.raises(ModelError, match=r"the description of 'block' \(Block\): layer 1"):
        convcalc.load(model(BLOCK))
    convcalc.register_layer("Block", lambda config, shapes: {"activation": "relu"})
    assert [op.operator.type for op in convcalc.load(model(BLOCK)).ops] == ["activation"]
    convcalc.register_layer("Block", None)
    assert [op.operator.type for op in convcalc.load(model(BLOCK)).ops] == ["opaque"]


def test_a_layer_called_twice_has_its_variables_once() -> None:
    convcalc.register_layer(
        "Block", lambda config, shapes: [{"conv": {"filters": 3, "kernel": 1}}, "identity"]
    )
    config = {
        "class_name": "Functional",
        "config": {
            "name": "n",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "config": {"batch_shape": [None, 8, 8, 3], "name": "x"},
                    "name": "x",
                    "inbound_nodes": [],
                },
                {
                    **BLOCK,
                    "name": "block",
                    "inbound_nodes": [[["x", 0, 0, {}]], [["block", 0, 0, {}]]],
                },
            ],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["block", 1, 0]],
        },
    }  # fmt: skip
    totals = convcalc.analyze(config).totals
    assert (totals.params, totals.macs) == (12, 2 * 8 * 8 * 9)


def test_several_inputs_and_outputs() -> None:
    convcalc.register_layer(
        "Pair",
        lambda config, shapes: [
            {"concat": {}, "from": ["input:1", "input"]},
            {"split": {"sizes": [1, shapes[0][-1] + shapes[1][-1] - 1]}},
        ],
    )

    def layer(kind: str, name: str, *nodes: Any, **config: Any) -> dict[str, Any]:
        config["name"] = name
        return {"class_name": kind, "config": config, "name": name, "inbound_nodes": list(nodes)}

    config = {
        "class_name": "Functional",
        "config": {
            "name": "n",
            "layers": [
                layer("InputLayer", "x", batch_shape=[None, 4]),
                layer("Dense", "d", [["x", 0, 0, {}]], units=5),
                layer("Pair", "p", [["x", 0, 0, {}], ["d", 0, 0, {}]]),
                layer("Dense", "e", [["p", 0, 1, {}]], units=2),
            ],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["e", 0, 0], ["p", 0, 0]],
        },
    }
    net = convcalc.load(config)
    assert [net.tensors[name].shape for name in net.outputs] == [(1, 2), (1, 1)]
    assert net.params["e"][0].shape == (8, 2)


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        (lambda config, shapes: config["no"], r"of 'block' \(Block\) failed: KeyError: 'no'"),
        (lambda config, shapes: [], "holds no layer"),
        (lambda config, shapes: 3, "must be a name or a mapping"),
        (lambda config, shapes: {"conv": {}}, "'conv' needs 'filters'"),
        (lambda config, shapes: {"add": {}, "from": "other"}, "reads 'other', which nothing"),
        (lambda config, shapes: convcalc.load("nothing"), "neither a file nor"),
    ],
)
def test_descriptions_that_fail(describe: Any, message: str) -> None:
    convcalc.register_layer("Block", describe)
    with pytest.raises(ModelError, match=message):
        convcalc.load(model(BLOCK))


def test_a_custom_class_with_the_name_of_one_of_keras_stays_opaque() -> None:
    conv = {"name": "c", "filters": 4, "kernel_size": [3, 3]}
    theirs = {"module": "mine", "class_name": "Conv2D", "registered_name": "mine>Conv2D"}
    ours = {"module": "keras.layers", "class_name": "Conv2D", "registered_name": None}
    old = {"class_name": "mine>Conv2D"}
    kinds = [
        convcalc.load(model({**entry, "config": conv})).ops[0].operator.type
        for entry in (theirs, ours, old, {"class_name": "Conv2D"}, {"class_name": "keras>Conv2D"})
    ]
    assert kinds == ["opaque", "conv", "opaque", "conv", "conv"]


def test_an_operator_of_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", dims=[4, 3], data_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        [
            helper.make_node("MyConv", ["x", "w"], ["y"], domain="mine", filters=4, size=[3, 3]),
            helper.make_node("Relu", ["y"], ["z"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    assert convcalc.analyze(path).status == "partial"
    seen: list[Any] = []

    def describe(config: Any, shapes: Any) -> Any:
        seen.append(shapes)
        layer = {"filters": config["filters"], "kernel": list(config["size"])}
        return [{"conv": {**layer, "channels_first": True}}, {"activation": "tanh"}]

    convcalc.register_layer("mine>MyConv", describe)
    report = convcalc.analyze(path)
    assert set(seen) == {((3, 8, 8),)}
    assert report.status == "complete"
    assert (report.totals.params, report.totals.macs) == (112, 6 * 6 * 27 * 4)
    assert [layer.output_shape for layer in report.layers] == [[1, 4, 6, 6]] * 2


def test_an_operator_of_pytorch() -> None:
    """Its weights are those of the description, and count once."""
    torch = pytest.importorskip("torch")

    with torch.library._scoped_library("mine", "FRAGMENT") as library:
        library.define("mix(Tensor x, Tensor weight, int groups) -> Tensor")
        library.impl("mix", lambda x, weight, groups: x[:, :1] * weight.sum(), "Meta")
        library.impl("mix", lambda x, weight, groups: x[:, :1] * weight.sum(), "CPU")

        class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.ones(1, 4, 1, 1))

            def forward(self, x: Any) -> Any:
                return torch.relu(torch.ops.mine.mix(x, self.weight, 1))

        net = Net()
        before = convcalc.analyze(net, input=(6, 5, 4))
        assert before.status == "partial"
        for name in ("mix", "mine::mix"):
            conv = {"kernel": 1, "bias": False, "channels_first": True}
            convcalc.register_layer(
                name,
                lambda config, shapes, conv=conv: {"conv": {"filters": config["groups"], **conv}},
            )
            report = convcalc.analyze(net, input=(6, 5, 4))
            assert report.status == "complete"
            assert (report.totals.params, report.totals.macs) == (4, 4 * 30)
            convcalc.register_layer(name, None)
        convcalc.register_layer("mix", lambda config, shapes: "batch_norm")
        with pytest.raises(ModelError, match="makes 1x4x6x5, where PyTorch makes 1x1x6x5"):
            convcalc.analyze(net, input=(6, 5, 4))
