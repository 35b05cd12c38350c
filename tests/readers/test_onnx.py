"""The ONNX reader against the onnx package: its networks, its test cases, its reading."""

import json
import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcalc.analysis.costs import analyze
from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers import onnx as reader
from convcalc.readers import onnx_wire
from convcalc.readers.onnx_ops import RULES

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

PACKAGE = Path(onnx.__file__).parent / "backend" / "test" / "data"
DATA = Path(__file__).parents[1] / "data"

#: MACs of the networks of `light` whose count is published or that PyTorch counts the same.
LIGHT = {
    "bvlc_alexnet": 654_560_384,
    "densenet121": 2_834_161_664,
    "inception_v1": None,
    "inception_v2": None,
    "resnet50": 4_089_184_256,
    "shufflenet": None,
    "squeezenet": 349_151_936,
    "vgg19": 19_632_062_464,
    "zfnet512": None,
}


def value(name: str, shape: Sequence[Any], kind: int = 1) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, shape: Sequence[int], kind: int = 1) -> Any:
    """A stored tensor of ones."""
    numbers = np.ones(shape, helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(numbers, name)


def numbers(name: str, *items: int) -> Any:
    return numpy_helper.from_array(np.array(items, "int64"), name)


def net_of(
    tmp_path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[str],
    stored: Sequence[Any] = (),
    *,
    opset: int = 18,
    input: Any = None,
    functions: Sequence[Any] = (),
) -> Network:
    """The network that the reader makes of a graph."""
    outs = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "graph", inputs, outs, list(stored))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return reader.read(path, input)


def shape(net: Network, index: int = 0) -> Any:
    return net.tensors[net.outputs[index]].shape


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_networks(name: str) -> None:
    """Their weights were taken out: what is left says of each how large it is."""
    path = PACKAGE / "light" / f"light_{name}.onnx"
    model = onnx.load(path)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    floats = (name for name, array in stored.items() if array.dtype == np.float32)
    sizes = [stored[name].size for name in floats if name in read]
    made = [n for n in model.graph.node if n.op_type == "ConstantOfShape"]
    sizes += [int(stored[n.input[0]].prod()) for n in made]
    expected = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))

    net = reader.read(path)
    report = analyze(net)
    assert report.status == "complete"
    assert report.totals.params == sum(sizes)
    assert shape(net) == expected.shape
    if LIGHT[name]:
        assert report.totals.macs == LIGHT[name]


def converted() -> list[Path]:
    folders = ("pytorch-converted", "pytorch-operator")
    return sorted(path for name in folders for path in (PACKAGE / name).iterdir())


@pytest.mark.parametrize("folder", converted(), ids=lambda path: path.name)
def test_what_pytorch_exported(folder: Path) -> None:
    data = folder / "test_data_set_0"
    batch = numpy_helper.to_array(onnx.load_tensor(data / "input_0.pb")).shape[0]
    net = reader.read(folder / "model.onnx")
    assert not [op for op in net.ops if op.operator.type == "opaque"]
    for index, name in enumerate(net.outputs):
        expected = numpy_helper.to_array(onnx.load_tensor(data / f"output_{index}.pb")).shape
        spec = net.tensors[name]
        assert expected in (spec.shape, spec.shape_at(batch))


#: Why some cases of the onnx package cannot be networks of ours.
REASONS = {
    "the file leaves axis": "a tensor without elements (exporters write 0 for unknown sizes)",
    "is empty": "a tensor without elements",
    "nothing is left": "a tensor without elements",
    "a piece must be": "a tensor without elements",
    "cannot reshape 1x3x4": "a tensor without elements",
    "has no input": "no input",
    "no output": "an output without elements",
    "is no tensor": "sequences and optionals are no tensors",
    "not one of numbers": "text",
}


def attempt(path: Path) -> tuple[Network | None, str]:
    """The network in a file, or why there is none."""
    try:
        return reader.read(path), ""
    except ModelError as error:
        return None, str(error)


def test_every_node_case_of_the_onnx_package(tmp_path: Path) -> None:
    """All inputs but the first become constants, as exporters store weights, sizes and axes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    path = tmp_path / "case.onnx"
    right, known, skipped, wrong = 0, 0, dict.fromkeys(REASONS.values(), 0), []
    for case in cases:
        if not case.data_sets:
            continue
        arrays, results = case.data_sets[0]
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        rest = list(zip(model.graph.input, arrays, strict=False))[1:]
        if not all(isinstance(array, np.ndarray) for _, array in rest):
            continue
        for declared, array in rest:
            model.graph.initializer.append(numpy_helper.from_array(array, declared.name))
        path.write_bytes(model.SerializeToString())
        net, refusal = attempt(path)
        if net is None:
            reason = next((text for part, text in REASONS.items() if part in refusal), None)
            assert reason, f"{case.name}: {refusal}"
            skipped[reason] += 1
            continue
        ruled = {node.op_type for node in model.graph.node} <= set(RULES)
        for name, result in zip(net.outputs, results, strict=False):
            spec = net.tensors[name]
            if not spec.known:
                # Only an operator without a rule may leave a shape open.
                assert not ruled or case.name == "test_constantofshape_int_shape_zero", case.name
                continue
            known += 1
            expected = tuple(result.dims if hasattr(result, "dims") else np.shape(result))
            first = getattr(arrays[0], "dims", None) or np.shape(arrays[0]) if arrays else ()
            if expected in (spec.shape, spec.shape_at(first[0] if first else 1)):
                right += 1
            else:
                wrong.append((case.name, spec.shape, expected))
    assert wrong == []
    assert right == known >= 1500
    assert sum(skipped.values()) < 100


def test_torchvision_through_both_exporters_as_recorded() -> None:
    """`scripts/onnx_torchvision.py` made the file; MACs are those of PyTorch's own counter.

    The newer exporter folds batch norms into the convolutions before them: gamma, beta and the
    statistics of C channels become a bias of C, or none where there is one already.
    """
    rows = json.loads((DATA / "onnx_torchvision.json").read_text())
    assert len(rows) >= 67
    for name, row in rows.items():
        truth = row["torch"]
        old, new = row["torchscript"], row["dynamo"]
        assert old["macs"] == new["macs"] == truth["macs"], name
        assert old["trainable"] == truth["params"], name
        assert old["params"] == truth["params"] + truth["statistics"], name
        assert truth["params"] - truth["statistics"] <= new["trainable"] <= truth["params"]
        assert old["uncounted"] == new["uncounted"] == [], name


@pytest.mark.filterwarnings("ignore")
def test_a_module_exported_now_counts_as_pytorch_counts_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding=2),
        nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1, groups=2),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
        nn.LayerNorm(10),
    ).eval()
    image = torch.zeros(1, 3, 32, 24)
    with FlopCounterMode(display=False) as counter:
        expected = model(image)
    path = tmp_path / "module.onnx"
    torch.onnx.export(
        model,
        (image,),
        path,
        dynamo=False,
        opset_version=17,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["image"],
        dynamic_axes={"image": {0: "batch"}},
    )
    net = reader.read(path)
    report = analyze(net)
    assert report.totals.macs == counter.get_total_flops() // 2
    assert report.totals.trainable_params == sum(p.numel() for p in model.parameters())
    assert report.totals.params == report.totals.trainable_params + 16
    assert shape(net) == tuple(expected.shape)


def test_layers_are_called_as_the_nodes_or_their_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "stem.conv.weight"], ["a"], "/stem/conv/Conv"),
        helper.make_node("Conv", ["a", "body.0.weight"], ["b"]),
        helper.make_node("Conv", ["b", "body.0.weight"], ["c"], "node_Conv_7"),
        helper.make_node("Relu", ["c"], ["activated"]),
        helper.make_node("Relu", ["activated"], ["17"]),
    ]
    stored = [weight("stem.conv.weight", (4, 4, 1, 1)), weight("body.0.weight", (4, 4, 1, 1))]
    net = net_of(tmp_path, nodes, [value("x", ["N", 4, 8, 8])], ["17"], stored)
    names = ["stem/conv/Conv", "body.0", "body.0_1", "activated", "relu"]
    assert [op.layer for op in net.ops] == names
    assert [op.layer_type for op in net.ops] == ["Conv"] * 3 + ["Relu"] * 2


def test_a_shared_kernel_counts_once_with_or_without_its_bias(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b1"], ["a"]),
        helper.make_node("Conv", ["a", "w", "b1"], ["b"]),
    ]
    stored = [weight("w", (4, 4, 3, 3)), weight("b1", (4,)), weight("b2", (4,))]
    inputs = [value("x", [1, 4, 9, 9])]
    report = analyze(net_of(tmp_path, nodes, inputs, ["b"], stored))
    assert (report.totals.params, report.totals.macs) == (148, 144 * (49 + 25))
    nodes[1] = helper.make_node("Conv", ["a", "w", "b2"], ["b"])
    report = analyze(net_of(tmp_path, nodes, inputs, ["b"], stored))
    assert (report.totals.params, report.totals.macs) == (152, 144 * (49 + 25))


def test_a_tied_table_counts_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Transpose", ["table"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["e", "t"], ["y"]),
    ]
    ids = [value("ids", ["N", 7], 7)]
    net = net_of(tmp_path, nodes, ids, ["y"], [weight("table", (100, 16))])
    report = analyze(net)
    assert (report.totals.params, report.totals.macs) == (1600, 7 * 16 * 100)
    assert shape(net) == (1, 7, 100)


def test_split_and_merged_products_count_the_same(tmp_path: Path) -> None:
    x = [value("x", ["N", 12])]
    gemm = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    product = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["m"]),
        helper.make_node("Add", ["b", "m"], ["y"]),
    ]
    stored = [weight("w", (5, 12)), weight("b", (5,))]
    for nodes in (gemm, product):
        report = analyze(net_of(tmp_path, nodes, x, ["y"], stored))
        assert (report.totals.params, report.totals.macs) == (65, 60)


def test_quantized_networks_count_as_the_plain_one(tmp_path: Path) -> None:
    x = [value("x", ["N", 3, 8, 8])]
    scale = [
        numpy_helper.from_array(np.float32(0.5), "s"),
        numpy_helper.from_array(np.uint8(0), "z"),
    ]
    plain = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    qdq = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["e"]),
        helper.make_node("DequantizeLinear", ["b", "s"], ["f"]),
        helper.make_node("Conv", ["d", "e", "f"], ["y"]),
    ]
    linear = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z", "b"], ["y"]),
    ]
    floats = [weight("w", (4, 3, 3, 3)), weight("b", (4,))]
    integers = [weight("w", (4, 3, 3, 3), 3), weight("b", (4,), 6)]
    for nodes, stored in ((plain, floats), (qdq, integers), (linear, integers)):
        net = net_of(tmp_path, nodes, x, ["y"], [*stored, *scale])
        report = analyze(net)
        assert (report.totals.params, report.totals.macs) == (112, 108 * 36)
        assert report.totals.trainable_params == (112 if stored is floats else 0)
    assert [param.dtype for param in net.params["y"]] == ["int8", "int32"]
    whole = [helper.make_node("ConvInteger", ["x", "w"], ["y"])]
    net = net_of(tmp_path, whole, [value("x", [1, 3, 8, 8], 2)], ["y"], integers)
    assert net.tensors[net.outputs[0]].dtype == "int32"
    assert analyze(net).totals.macs == 108 * 36


@pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(kind: str, way: str, tmp_path: Path) -> None:
    """Cells of 5 units on 7 steps of 3 features: each gate has two matrices and two biases."""
    gates, sides = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if way == "bidirectional" else 1
    names = ["y", "h", "c"] if kind == "LSTM" else ["y", "h"]
    stored = [
        weight("w", (sides, gates * 5, 3)),
        weight("r", (sides, gates * 5, 5)),
        weight("b", (sides, 2 * gates * 5)),
    ]
    first = numpy_helper.from_array(np.zeros((sides, 1, 5), "float32"), "zeros")
    node = helper.make_node(
        kind, ["x", "w", "r", "b", "", "zeros"], names, hidden_size=5, direction=way
    )
    net = net_of(tmp_path, [node], [value("x", [7, 1, 3])], names, [*stored, first])
    assert [shape(net, i) for i in range(len(names))] == [
        (7, sides, 1, 5), *((sides, 1, 5) for _ in names[1:])
    ]  # fmt: skip
    report = analyze(net)
    assert (report.status, len(report.layers)) == ("complete", 1)
    assert report.totals.params == sides * gates * 5 * (3 + 5 + 2)
    assert report.totals.macs == sides * 7 * gates * 5 * (3 + 5)

    # With the batch in front, weights that another node reads too, and without a bias.
    twice = [
        helper.make_node(kind, ["x", "w", "r"], [f"y{i}"], direction=way, layout=1)
        for i in range(2)
    ]
    net = net_of(tmp_path, twice, [value("x", [1, 7, 3])], ["y0", "y1"], stored[:2])
    report = analyze(net)
    assert report.totals.params == sides * gates * 5 * (3 + 5)
    if sides == 1:
        assert (shape(net), report.totals.macs) == ((1, 7, 1, 5), 2 * 7 * gates * 5 * (3 + 5))
    else:
        assert {gap.op for gap in report.uncounted} == {kind}
    with pytest.raises(ModelError, match=r"its weights of 1x5x3 do not fit"):
        net_of(tmp_path, [node], [value("x", [7, 1, 4])], names, [weight("w", (1, 5, 3)),
               *stored[1:], first])  # fmt: skip


def test_weights_may_be_missing(tmp_path: Path) -> None:
    """`export_params=False` leaves them as inputs of the graph."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    inputs = [value("x", ["N", 3, 8, 8]), value("w", [4, 3, 3, 3])]
    net = net_of(tmp_path, nodes, inputs, ["y"])
    assert list(net.inputs) == ["x"]
    assert analyze(net).totals.params == 108


def test_kernels_that_the_network_computes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["k"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    inputs = [value("x", [1, 3, 8, 8]), value("k", [4, 3, 3, 3])]
    report = analyze(net_of(tmp_path, nodes, inputs, ["y"]))
    assert (report.totals.params, report.totals.macs) == (0, 108 * 36)


def shuffle(batch: int) -> tuple[list[Any], list[Any]]:
    """Channels shuffled with the shapes that an exporter fixed."""
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "back"], ["y"]),
    ]
    return nodes, [numbers("split", batch, 2, 3, 5, 5), numbers("back", batch, 6, 5, 5)]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_taken_out(batch: int, tmp_path: Path) -> None:
    nodes, stored = shuffle(batch)
    net = net_of(tmp_path, nodes, [value("x", [batch, 6, 5, 5])], ["y"], stored)
    assert shape(net) == (1, 6, 5, 5)
    assert net.tensors[net.outputs[0]].batch_axis == 0


def test_a_batch_that_became_part_of_other_sizes_stays(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"])]
    net = net_of(tmp_path, nodes, [value("x", [4, 6])], ["y"], [numbers("to", 2, 12)])
    assert shape(net) == (2, 12)


def test_shapes_are_folded_through_exporters_chains(tmp_path: Path) -> None:
    """Upsampling to twice the size, as PyTorch writes it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "two", "four"], ["space"]),
        helper.make_node("Cast", ["space"], ["f"], to=1),
        helper.make_node("Mul", ["f", "scale"], ["g"]),
        helper.make_node("Floor", ["g"], ["h"]),
        helper.make_node("Cast", ["h"], ["i"], to=7),
        helper.make_node("Slice", ["s", "zero", "two"], ["lead"]),
        helper.make_node("Concat", ["lead", "i"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
    ]
    stored = [numbers("two", 2), numbers("four", 4), numbers("zero", 0)]
    stored.append(numpy_helper.from_array(np.float32(2.0), "scale"))
    net = net_of(tmp_path, nodes, [value("x", ["N", 3, 7, 9])], ["y"], stored)
    assert shape(net) == (1, 3, 14, 18)
    assert [op.operator.type for op in net.ops] == ["upsample"]


def test_open_sizes_are_asked_for_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["image"], ["y"])]
    inputs = [value("image", ["N", 3, "height", None])]
    with pytest.raises(ModelError, match=r"axis 2 \('height'\).*--input image=1x3x224x224"):
        net_of(tmp_path, nodes, inputs, ["y"])
    named = net_of(tmp_path, nodes, inputs, ["y"], input={"image": (1, 3, 30, 20)})
    assert shape(named) == (1, 3, 30, 20)
    assert shape(net_of(tmp_path, nodes, inputs, ["y"], input=(30, 20, 3))) == (1, 3, 30, 20)
    for given, words in (
        ({"picture": (1, 3, 4, 4)}, "has no input 'picture'; its inputs: image"),
        ({"image": (1, 3)}, "has 4 axes, not 2"),
        ({"image": (1, 3, 0, 4)}, "positive integers"),
        ((5,), "0 of its inputs"),
    ):
        with pytest.raises(ModelError, match=words):
            net_of(tmp_path, nodes, inputs, ["y"], input=given)


def test_symbols_are_the_same_in_all_inputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    inputs = [value("a", ["N", "width"]), value("b", ["N", "width"])]
    net = net_of(tmp_path, nodes, inputs, ["y"], input={"a": (1, 12)})
    assert shape(net) == (1, 12)


def test_images_with_channels_last_take_sizes_so(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2])]
    net = net_of(tmp_path, nodes, [value("x", ["N", 224, 224, 3])], ["y"], input=(30, 20, 3))
    assert shape(net) == (1, 3, 30, 20)


def test_an_input_without_a_shape(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    bare = helper.make_tensor_value_info("x", 1, None)
    with pytest.raises(ModelError, match="gives no shape for input 'x'"):
        net_of(tmp_path, nodes, [bare], ["y"])
    assert shape(net_of(tmp_path, nodes, [bare], ["y"], input={"x": (1, 5)})) == (1, 5)


def test_unknown_operators_and_subgraphs_are_opaque_by_name(tmp_path: Path) -> None:
    branch = helper.make_graph([], "branch", [], [value("x", [1, 4])])
    nodes = [
        helper.make_node("Wavelet", ["x"], ["w"], domain="somewhere"),
        helper.make_node("If", ["flag"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    inputs = [value("x", [1, 4]), value("flag", [], 9)]
    report = analyze(net_of(tmp_path, nodes, inputs, ["w", "i", "y"]))
    assert report.status == "partial"
    assert {entry.op for entry in report.uncounted} == {"Wavelet", "If", "NonZero", "Relu"}


def test_declared_shapes_help_behind_what_is_unknown(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Wavelet", ["x"], ["w"], domain="somewhere"),
        helper.make_node("Conv", ["w", "k"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "declared",
        [value("x", ["N", 3, 8, 8])],
        [helper.make_empty_tensor_value_info("y")],
        [weight("k", (4, 6, 3, 3))],
        value_info=[value("w", ["N", 6, 5, 5])],
    )
    path = tmp_path / "declared.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    net = reader.read(path)
    assert shape(net) == (1, 4, 3, 3)
    # With other sizes than the file's, what it declares of them is worth nothing.
    other = reader.read(path, (16, 16, 3))
    assert shape(other) is None


def test_functions_are_unfolded(tmp_path: Path) -> None:
    inner = helper.make_node("LeakyRelu", ["c"], ["d"])
    inner.attribute.append(onnx.AttributeProto(name="alpha", type=1, ref_attr_name="slope"))
    body = [helper.make_node("Conv", ["a", "k"], ["c"], "conv"), inner]
    opsets = [helper.make_opsetid("", 18)]
    block = helper.make_function("local", "Block", ["a", "k"], ["d"], body, opsets, ["slope"])
    nodes = [
        helper.make_node("Block", ["x", "k1"], ["m"], "first", domain="local", slope=0.2),
        helper.make_node("Block", ["m", "k2"], ["y"], "second", domain="local", slope=0.3),
    ]
    stored = [weight("k1", (4, 3, 3, 3)), weight("k2", (5, 4, 3, 3))]
    inputs = [value("x", [1, 3, 8, 8])]
    net = net_of(tmp_path, nodes, inputs, ["y"], stored, functions=[block])
    assert shape(net) == (1, 5, 4, 4)
    assert [op.layer_type for op in net.ops] == ["Conv", "LeakyRelu"] * 2
    assert net.ops[0].layer == "first/conv"
    assert analyze(net).totals.params == 108 + 180


def test_older_versions_have_attributes_for_inputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["a"], axes=[1]),
        helper.make_node("Slice", ["a"], ["b"], axes=[2], starts=[1], ends=[9]),
        helper.make_node("Pad", ["b"], ["c"], pads=[0, 1, 0, 0, 1, 2], mode="constant"),
        helper.make_node("Split", ["c"], ["d", "e"], axis=1, split=[1, 2]),
        helper.make_node("ReduceSum", ["e"], ["f"], axes=[1], keepdims=0),
        helper.make_node("Upsample", ["d"], ["g"], scales=[1.0, 1.0, 2.0]),
        helper.make_node("Squeeze", ["d"], ["h"], axes=[1]),
    ]
    net = net_of(tmp_path, nodes, [value("x", ["N", 6])], ["f", "g", "h"], opset=7)
    assert [shape(net, i) for i in range(3)] == [(1, 7), (1, 1, 14), (1, 7)]


def test_group_norm_of_both_versions_counts_what_it_stores(tmp_path: Path) -> None:
    nodes = [helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)]
    x = [value("x", [1, 6, 4, 4])]
    for opset, count in ((18, 2), (21, 6)):
        stored = [weight("s", (count,)), weight("b", (count,))]
        net = net_of(tmp_path, nodes, x, ["y"], stored, opset=opset)
        assert shape(net) == (1, 6, 4, 4)
        assert analyze(net).totals.params == 2 * count


def test_wrong_weights_are_named_with_the_node(tmp_path: Path) -> None:
    cases = [
        ("Conv", (4, 2, 3, 3), "for 2 channels"),
        ("ConvTranspose", (2, 4, 3, 3), "for 2 channels"),
        ("Conv", (4, 3, 3), "do not fit"),
    ]
    for kind, dims, words in cases:
        nodes = [helper.make_node(kind, ["x", "w"], ["y"], "layer")]
        with pytest.raises(ModelError, match=f"node 'layer' \\({kind}\\) on 1x3x8x8.*{words}"):
            net_of(tmp_path, nodes, [value("x", [1, 3, 8, 8])], ["y"], [weight("w", dims)])
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    with pytest.raises(ModelError, match="for 5 features"):
        net_of(tmp_path, nodes, [value("x", [1, 4])], ["y"], [weight("w", (5, 3))])


def test_match_knows_the_first_bytes_or_the_name() -> None:
    assert reader.match(b"\x08\x08\x12\x07pytorch", "model.bin")
    assert reader.match(b"anything", "model.ONNX")
    assert not reader.match(b"PK\x03\x04", "model.keras")
    assert not reader.match(b"", "model")


def test_the_wire_reader_sees_what_the_onnx_package_sees() -> None:
    for path in sorted((PACKAGE / "light").glob("*.onnx")):
        theirs, ours = onnx.load(path).graph, onnx_wire.read_model(path).graph
        assert ours is not None
        assert [(n.op_type, n.input, n.output) for n in theirs.node] == [
            (n.op_type, n.inputs, n.outputs) for n in ours.nodes
        ]
        assert {t.name: tuple(t.dims) for t in theirs.initializer} == {
            t.name: t.dims for t in ours.initializers.values()
        }
        for node, read in zip(theirs.node, ours.nodes, strict=True):
            for attribute in node.attribute:
                expected = helper.get_attribute_value(attribute)
                found = read.attributes[attribute.name].value
                if isinstance(expected, onnx.TensorProto):
                    assert prod(found.dims) == prod(expected.dims)
                elif isinstance(expected, bytes):
                    assert found == expected.decode()
                else:
                    assert found == (tuple(expected) if isinstance(expected, list) else expected)
