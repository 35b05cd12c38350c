"""Keras configurations: whole networks against Keras, other versions' formats, what goes wrong."""

from __future__ import annotations

import copy
import gc
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from convcalc.analysis.costs import add_up
from convcalc.errors import ModelError
from convcalc.readers.keras import LAYERS, read_config

keras = pytest.importorskip("keras")
sys.path.insert(0, str(Path(__file__).parents[1]))
import keras_oracle  # noqa: E402
from keras import layers as kl  # noqa: E402

APPLICATIONS = [
    (title, build)
    for title, build in inspect.getmembers(keras.applications, inspect.isfunction)
    if title[0].isupper()
]


def check(model: Any) -> None:
    """Every layer's shape, variables and multiplications, and the totals, equal Keras'."""
    keras_oracle.check(model, read_config(model.to_json()))


@pytest.mark.parametrize(("title", "build"), APPLICATIONS, ids=[title for title, _ in APPLICATIONS])
def test_keras_applications(title: str, build: Any) -> None:
    # MobileNetV3 leaves its size open unless it is told one.
    size = {"input_shape": (224, 224, 3)} if title.startswith("MobileNetV3") else {}
    check(build(weights=None, **size))
    keras.utils.clear_session()
    gc.collect()


def test_there_are_at_least_40_applications() -> None:
    assert len(APPLICATIONS) >= 40


def test_recurrent_wrappers_and_attention() -> None:
    x = keras.Input((7, 5))
    shared = kl.GRU(3, return_sequences=True)
    a = kl.Bidirectional(kl.LSTM(4, return_sequences=True))(x)
    b = kl.Bidirectional(kl.GRU(4, reset_after=False), merge_mode="sum")(a)
    c = kl.TimeDistributed(kl.Dense(6, activation="relu"))(a)
    d = kl.GroupQueryAttention(4, 6, 2)(c, c)
    e = kl.Attention(use_scale=True)([d, shared(c), c])
    f = kl.EinsumDense("abc,cde->abde", output_shape=(7, 2, 3), bias_axes="de")(x)
    g = kl.EinsumDense("abde,dec->abc", output_shape=(7, 4))(f)
    model = keras.Model(x, [b, e, g, kl.SimpleRNN(2)(shared(c))])
    net = read_config(model.to_json())
    rows = add_up(net)
    assert not any(row.missing for row in rows.values())
    assert sum(row.params for row in rows.values()) == model.count_params()
    shapes = [net.tensors[name].shape for name in net.outputs]
    assert shapes == [(1, *tensor.shape[1:]) for tensor in model.outputs]
    # A bidirectional LSTM: 2 directions, 7 steps, 4 gates of 4 units on 5 inputs and 4 states.
    assert rows["bidirectional"].macs == 2 * 7 * 4 * 4 * (5 + 4)
    assert rows["einsum_dense"].macs == 7 * 5 * 6


def test_operations_in_a_functional_model() -> None:
    x = keras.Input((8, 8, 6))
    ops = keras.ops
    y = ops.relu(x) * 2.0 + ops.ones((1, 6))
    y = y[:, 1:7:2, -1]
    left, right = ops.split(y, 2, axis=-1)
    y = ops.concatenate([left, ops.exp(right)], axis=1)
    y = ops.transpose(ops.expand_dims(y, 1), (0, 2, 1, 3))
    y = ops.squeeze(y, 2)
    y = ops.matmul(y, ops.transpose(y, (0, 2, 1)))
    z = ops.reshape(ops.max(y, axis=1, keepdims=True), (-1, 3, 2))
    model = keras.Model(x, [y, z])
    net = read_config(model.to_json())
    assert [net.tensors[name].shape for name in net.outputs] == [(1, 6, 6), (1, 3, 2)]
    assert sum(row.macs for row in add_up(net).values()) == 6 * 3 * 6


def equal(model: Any) -> dict[str, Any]:
    """The rows of a model of which nothing is uncounted and whose sums and shapes are Keras'."""
    net = read_config(model.to_json())
    rows = add_up(net)
    assert not any(row.missing for row in rows.values())
    assert sum(row.params for row in rows.values()) == model.count_params()
    trainable = sum(v.numpy().size for v in model.trainable_weights)
    assert sum(row.trainable for row in rows.values()) == trainable
    shapes = [net.tensors[name].shape for name in net.outputs]
    assert shapes == [(1, *tensor.shape[1:]) for tensor in model.outputs]
    return rows


def test_states_and_convolutional_recurrence() -> None:
    x = keras.Input((5, 9))
    a = kl.LSTM(4, return_state=True)(x)
    b = kl.GRU(4, return_state=True, return_sequences=True)(x)
    c = kl.LSTM(4, return_sequences=True)(b[0], initial_state=a[1:])
    d = kl.Bidirectional(kl.LSTM(4, return_state=True), merge_mode="sum")(x)
    e = kl.Bidirectional(kl.SimpleRNN(4, return_state=True), merge_mode=None)(x)
    equal(keras.Model(x, [*a, *b, c, *d, *e]))
    x = keras.Input((5, 9, 8, 3))
    a = kl.ConvLSTM2D(4, 3, 2, padding="same", return_sequences=True, return_state=True)(x)
    b = kl.Bidirectional(kl.ConvLSTM2D(2, (2, 3), return_sequences=True))(x)
    rows = equal(keras.Model(x, [*a, b, kl.ConvLSTM2D(3, 2, use_bias=False, dilation_rate=2)(x)]))
    # 5 steps, 5 x 4 places, 4 gates of 4 filters, 3 x 3 windows over 3 channels and 4 states.
    assert rows["conv_lstm2d"].macs == 5 * (5 * 4) * (4 * 4) * 9 * (3 + 4)


def test_attention_without_projections() -> None:
    x, y, z = keras.Input((5, 6)), keras.Input((7, 6)), keras.Input((7, 3))
    scores = kl.Attention(name="dot")([x, y], return_attention_scores=True)
    outputs = [
        kl.AdditiveAttention(name="add")([x, z, y]),
        kl.AdditiveAttention(use_scale=False)([x, y]),
        kl.Attention(score_mode="concat", use_scale=True)([x, z, y]),
        *scores,
    ]
    rows = equal(keras.Model([x, y, z], outputs))
    # Only the products with the values are matrix products.
    assert rows["add"].macs == 5 * 7 * 3
    assert rows["dot"].macs == 5 * 7 * (6 + 6)


@pytest.mark.parametrize(
    ("equation", "shape", "output", "bias", "macs"),
    [
        ("abc,cd->abd", (4, 6), (4, 3), "d", 4 * 6 * 3),
        ("...x,xy->...y", (4, 6), 5, "y", 4 * 6 * 5),
        ("abc,bcd->acd", (4, 6), (6, 3), "d", 4 * 6 * 3),
        ("abc,bcd->adc", (4, 6), (3, 6), "dc", 4 * 6 * 3),
        ("abc,bd->adc", (4, 6), (3, 6), "d", 4 * 6 * 3),
        ("ab...,bc->ac...", (4, 6, 2), (5,), "c", 4 * 6 * 2 * 5),
        ("abcd,cdef->abfe", (4, 6, 2), (4, 7, 3), "e", 4 * 6 * 2 * 7 * 3),
        ("abc,cb->ab", (4, 6), (4,), "b", 4 * 6),
        ("abc,bde->abcde", (4, 6), (4, 6, 2, 3), None, 4 * 6 * 2 * 3),
    ],
)
def test_einsum_dense(equation: str, shape: Any, output: Any, bias: Any, macs: int) -> None:
    x = keras.Input(shape)
    rows = equal(keras.Model(x, kl.EinsumDense(equation, output, bias_axes=bias, name="e")(x)))
    assert rows["e"].macs == macs


def test_einsums_that_are_not_read_are_opaque() -> None:
    for equation, shape in (
        ("abc,cd,de->abe", (4, 6)), ("abb,bd->ad", (6, 6)), ("abc,d->abd", (4, 6)),
        ("ab,bc->ac", (4, 6)), ("abc,cd->abe", (4, 6)),
    ):  # fmt: skip
        config = {"name": "e", "equation": equation, "output_shape": [4, 3]}
        layer = {"class_name": "EinsumDense", "config": config}
        try:
            kinds = [op.operator.type for op in read_config(layer, input=shape).ops]
        except ModelError as error:
            assert "equation" in str(error)  # noqa: PT017
        else:
            assert "opaque" in kinds


def test_functions_of_keras_ops() -> None:
    ops, x = keras.ops, keras.Input((8, 8, 6))
    outputs = [
        ops.stack([x, x], 1), ops.cast(x, "float16"), ops.cast(x, "int32"), ops.swapaxes(x, 1, 3),
        ops.moveaxis(x, -1, 1), ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0))), x[..., 0:3],
        x[:, None], x[:, 2, None, :, 1], ops.greater(x, 0.5), ops.where(ops.greater(x, 0), x, x),
        ops.max_pool(x, 2), ops.average_pool(x, (2, 2), padding="same"), ops.std(x, axis=(1, 2)),
        ops.tile(x, (1, 2, 1, 1)), ops.repeat(x, 2, axis=1), ops.flip(x, 1), ops.mod(x, 2),
        ops.einsum("abcd,aefd->abcef", x, x), ops.log1p(x), ops.stop_gradient(x),
        ops.broadcast_to(ops.mean(x, axis=(1, 2), keepdims=True), (1, 8, 8, 6)),
    ]  # fmt: skip
    rows = equal(keras.Model(x, outputs))
    assert rows["einsum"].macs == 8 * 8 * 8 * 8 * 6
    # What moves samples, or has no rule, is opaque.
    left = [
        ops.tile(x, (2, 1, 1, 1)),
        ops.normalize(x),
        ops.mean(x),
        ops.einsum("abcd->d", x),
    ]
    missing = list(add_up(read_config(keras.Model(x, left).to_json())).values())
    assert all(row.missing for row in missing)
    assert len(missing) == len(left)


def tf_layer(kind: str, name: str, node: Any, function: str = "") -> dict[str, Any]:
    """A layer of tf.keras around a function, as TensorFlow 2.15 writes it."""
    config = {"name": name, "function": function}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": [node]}


def test_functions_of_tf_keras() -> None:
    full = {"start": None, "stop": None, "step": None}
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 8, 8, 6], "name": "x"},
            "name": "x",
            "inbound_nodes": [],
        },
        {
            "class_name": "BatchNormalization",
            "config": {"name": "bn", "axis": [3], "renorm": True},
            "name": "bn",
            "inbound_nodes": [[["x", 0, 0, {}]]],
        },
        *(
            tf_layer("SlicingOpLambda", name, ["bn", 0, 0, {"slice_spec": keys}], "getitem")
            for name, keys in {
                "a": [full, {"start": 1, "stop": 7, "step": 2}, -1],
                "b": [{"class_name": "__ellipsis__"}, {"start": 0, "stop": 3, "step": None}],
                "c": [full, None],
            }.items()
        ),
        *(
            tf_layer("TFOpLambda", name, ["bn", 0, 0, arguments], function)
            for name, (function, arguments) in {
                "d": ("reshape", {"shape": [-1, 64, 6]}),
                "e": ("compat.v1.transpose", {"perm": [0, 3, 1, 2], "name": "t"}),
                "f": ("math.reduce_mean", {"axis": [1, 2], "keepdims": True}),
                "g": ("image.resize", {"size": [4, 4]}),
                "h": ("split", {"num_or_size_splits": 2, "axis": 1}),
                "i": ("split", {"num_or_size_splits": [1, 3, 4], "axis": 1}),
                "j": ("compat.v1.pad", {"paddings": [[0, 0], [1, 1], [2, 0], [0, 0]]}),
                "k": ("cast", {"dtype": "float16"}),
                "l": ("__operators__.add", {"y": 1.0, "name": None}),
                "m": ("bitcast", {}),
            }.items()
        ),
        tf_layer(
            "TFOpLambda", "n", [["b", 0, 0, {"axis": -1}], ["b", 0, 0, {"axis": -1}]], "concat"
        ),
    ]
    ends = [[name, 0, 0] for name in "abcdefgijklmn"] + [["h", 0, 1]]
    config = {"name": "old", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": ends}
    net = read_config({"class_name": "Functional", "config": config})
    assert [net.tensors[name].shape for name in net.outputs] == [
        (1, 3, 6), (1, 8, 8, 3), (1, 1, 8, 8, 6), (1, 64, 6), (1, 6, 8, 8), (1, 1, 1, 6),
        (1, 4, 4, 6), (1, 1, 8, 6), (1, 10, 10, 6), (1, 8, 8, 6), (1, 8, 8, 6), None,
        (1, 8, 8, 6), (1, 4, 8, 6),
    ]  # fmt: skip
    rows = add_up(net)
    # Batch renormalization has three more statistics.
    assert (rows["bn"].params, rows["bn"].trainable) == (7 * 6, 2 * 6)
    assert [name for name, row in rows.items() if row.missing] == ["m"]


#: Layers of Keras that have no rule and are opaque by their name.
OPAQUE = {
    # Code or another framework's model.
    "FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper",
    # Cells and wrappers, which appear in other layers.
    "GRUCell", "LSTMCell", "RNN", "SimpleRNNCell", "SpectralNormalization", "StackedRNNCells",
    "Wrapper", "Layer",
    # Of text and tables, or of pictures before the network gets them.
    "AugMix", "AutoContrast", "CategoryEncoding", "ContrastLimitedAdaptiveHistogramEqualization",
    "CutMix", "Discretization", "Equalization", "HashedCrossing", "Hashing", "IntegerLookup",
    "MaxNumBoundingBoxes", "MelSpectrogram", "MixUp", "Pipeline", "RandAugment",
    "RandomColorDegeneration", "RandomColorJitter", "RandomCrop", "RandomElasticTransform",
    "RandomErasing", "RandomGaussianBlur", "RandomGrayscale", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomSharpness", "RandomShear", "STFTSpectrogram", "Solarization",
    "StringLookup", "TextVectorization",
    "ReversibleEmbedding",
}  # fmt: skip


def test_every_layer_class_of_keras_has_a_rule_or_is_opaque_by_name() -> None:
    found = {cls for _, cls in inspect.getmembers(kl, inspect.isclass)}
    # Aliases share a class, whose own name is what a configuration has.
    names = {cls.__name__ for cls in found} - {"InputLayer", "InputSpec"}
    assert names - LAYERS.keys() <= OPAQUE
    for name in names & OPAQUE:
        layer = {"class_name": name, "module": "keras.layers", "config": {"name": "l"}}
        (op,) = read_config(layer, input=(8, 8, 3)).ops
        assert (op.operator.type, op.layer_type) == ("opaque", name)


def test_unknown_layers_stay_by_name_with_the_recorded_shape() -> None:
    x = keras.Input((8, 8, 2))
    y = kl.Lambda(lambda t: t[:, 1:, 0, :1] + [0.0, 0.0, 0.0], output_shape=(7, 3), name="code")(x)
    model = keras.Model(x, kl.Conv1D(4, 3)(y))
    net = read_config(model.to_json())
    rows = add_up(net)
    assert rows["code"].missing == {"arithmetic", "memory"}
    assert rows["conv1d"].params == (3 * 3 + 1) * 4
    assert net.tensors["conv1d"].shape == (1, 5, 4)
    # The recorded shape no longer holds on another size.
    assert not read_config(model.to_json(), input=(9, 9, 2)).tensors["conv1d"].known


KERAS_2 = {
    "class_name": "Functional",
    "config": {
        "name": "old",
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {"batch_input_shape": [None, 8, 8, 3], "dtype": "float32", "name": "in"},
                "name": "in",
                "inbound_nodes": [],
            },
            {
                "class_name": "Conv2D",
                "config": {"name": "conv", "filters": 4, "kernel_size": [3, 3], "padding": "same"},
                "name": "conv",
                "inbound_nodes": [[["in", 0, 0, {}]]],
            },
            {
                "class_name": "Functional",
                "name": "inner",
                "config": {
                    "name": "inner",
                    "trainable": False,
                    "layers": [
                        {
                            "class_name": "InputLayer",
                            "config": {"batch_input_shape": [None, 8, 8, 4], "name": "i"},
                            "name": "i",
                            "inbound_nodes": [],
                        },
                        {
                            "class_name": "BatchNormalization",
                            "config": {"name": "bn", "axis": [3]},
                            "name": "bn",
                            "inbound_nodes": [[["i", 0, 0, {}]]],
                        },
                    ],
                    "input_layers": [["i", 0, 0]],
                    "output_layers": [["bn", 0, 0]],
                },
                "inbound_nodes": [[["conv", 0, 0, {}]], [["in2", 0, 0, {}]]],
            },
            {
                "class_name": "Activation",
                "config": {"name": "in2", "activation": "relu"},
                "name": "in2",
                "inbound_nodes": [[["conv", 0, 0, {"training": False}]]],
            },
            {
                "class_name": "Add",
                "config": {"name": "add"},
                "name": "add",
                # Call 0 of a nested model is its own and not written down.
                "inbound_nodes": [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]],
            },
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["add", 0, 0]],
    },
    "keras_version": "2.12.0",
    "backend": "tensorflow",
}


def test_keras_2_functional_with_a_nested_model_called_twice() -> None:
    net = read_config(KERAS_2)
    rows = add_up(net)
    assert list(rows) == ["conv", "inner/bn", "in2", "add"]
    assert (rows["conv"].params, rows["conv"].macs) == (112, 8 * 8 * 27 * 4)
    assert (rows["inner/bn"].params, rows["inner/bn"].trainable) == (16, 0)
    assert [op.weights for op in net.ops].count("inner/bn") == 2
    assert net.tensors["add"].shape == (1, 8, 8, 4)


@pytest.mark.parametrize("wrap", [list, lambda layers: {"name": "s", "layers": layers}])
def test_keras_2_sequential(wrap: Any) -> None:
    layers = [
        {
            "class_name": "Conv2D",
            "config": {
                "name": "c",
                "batch_input_shape": [None, 10, 9, 3],
                "filters": 2,
                "kernel_size": [3, 3],
                "activation": "relu",
            },
        },
        {"class_name": "Flatten", "config": {"name": "f"}},
        {"class_name": "Dense", "config": {"name": "d", "units": 5, "use_bias": False}},
    ]
    net = read_config({"class_name": "Sequential", "config": wrap(layers)})
    assert [op.layer for op in net.ops] == ["c", "c", "f", "d"]
    assert net.tensors["d"].shape == (1, 5)
    assert add_up(net)["d"].params == 8 * 7 * 2 * 5


def test_a_single_layer_needs_the_input() -> None:
    layer = kl.Conv2D(200, 5, padding="same")
    config = {"class_name": "Conv2D", "config": layer.get_config()}
    net = read_config(config, input=(150, 100, 3))
    (row,) = add_up(net).values()
    assert (row.params, row.macs) == (15_200, 225_000_000)
    with pytest.raises(ModelError, match="pass input="):
        read_config(config)


def test_input_replaces_open_sizes_and_is_height_width_channels() -> None:
    x = keras.Input((3, None, None))
    layer = kl.Conv2D(2, 3, strides=2, data_format="channels_first")
    text = keras.Model(x, layer(x)).to_json()
    with pytest.raises(ModelError, match="pass input= as height, width, channels"):
        read_config(text)
    net = read_config(text, input=(20, 30, 3))
    assert net.layout == "channels_first"
    assert net.tensors[net.outputs[0]].shape == (1, 2, 9, 14)
    with pytest.raises(ModelError, match="takes 3 sizes, got 2"):
        read_config(text, input=(20, 30))


def changed(change: Any) -> dict[str, Any]:
    """The Keras 2 network with a change made to its layers (by name) and its configuration."""
    config = copy.deepcopy(KERAS_2)
    body: Any = config["config"]
    change({layer["name"]: layer for layer in body["layers"]}, body)
    return config


def nested(depth: int) -> dict[str, Any]:
    """Sequential models in each other."""
    layer: dict[str, Any] = {"class_name": "ReLU", "config": {}}
    for _ in range(depth):
        layer = {"class_name": "Sequential", "config": {"layers": [layer]}}
    return layer


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not valid JSON.*line 1, column 2"),
        ("[]", "is a list, not a mapping"),
        ("{}", "has no 'class_name'"),
        ("[" * 100_000, "nested too deeply"),
        ({"class_name": 3}, "class_name 3 is not a name"),
        ({"class_name": "Sequential", "config": 3}, "config is a int"),
        ({"class_name": "Sequential", "config": {"layers": 3}}, "layers is a int"),
        ({"class_name": "Sequential", "config": {"layers": []}}, "has no layers"),
        ({"class_name": "Sequential", "config": {"layers": [3]}}, "a layer of model .* is a int"),
        (nested(150), "more than 100 levels"),
        (nested(5_000), "more than 100 levels|too deeply"),
        (changed(lambda by, _: by["conv"].update(inbound_nodes=3)), "inbound_nodes is a int"),
        (changed(lambda by, _: by["conv"].update(inbound_nodes=[3])), "an inbound node is a int"),
        (changed(lambda by, _: by["conv"].update(inbound_nodes=[[["x", 0, 0]]])), "'x', which"),
        (changed(lambda by, _: by["conv"].update(inbound_nodes=[[["in2", 0, 0]]])), "cycle"),
        (changed(lambda by, _: by["conv"].update(inbound_nodes=[[["in", 4, 0]]])), "call 4 of"),
        (changed(lambda by, _: by["in2"].update(inbound_nodes=[[["conv", 0, 2]]])), "output 2 of"),
        (changed(lambda by, _: by["in2"].update(name="conv")), "two layers called 'conv'"),
        (changed(lambda by, _: by["conv"]["config"].update(filters="x")), "filters must be an int"),
        (changed(lambda by, _: by["conv"]["config"].update(filters=0)), "'conv'.*filters"),
        (changed(lambda by, _: by["conv"]["config"].update(kernel_size={})), "'conv'"),
        (changed(lambda by, _: by["conv"]["config"].pop("kernel_size")), "has no 'kernel_size'"),
        (changed(lambda by, _: by["conv"]["config"].update(activation=3)), "3 is no activation"),
        (changed(lambda by, _: by["in"]["config"].update(batch_input_shape="x")), "is no shape"),
        (changed(lambda by, _: by["in"]["config"].update(batch_input_shape=[1, "x"])), "holds 'x'"),
        (changed(lambda _, body: body.update(output_layers=[["add", 0, 1]])), "no output 1"),
        (changed(lambda _, body: body.update(output_layers=[])), "no output_layers"),
        (changed(lambda _, body: body.update(output_layers=3)), "3 does not name"),
        (changed(lambda _, body: body.update(input_layers=[["x", 0, 0]])), "no input layer 'x'"),
        (changed(lambda _, body: body.update(input_layers=[])), "call 0 of .in."),
    ],
)  # fmt: skip
def test_bad_configurations_say_what_and_where(config: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_config(config)
    assert "\n" not in str(caught.value)


def test_keras_2_functions_with_constants() -> None:
    def change(by: dict[str, Any], _: Any) -> None:
        by["in2"].update(class_name="TFOpLambda", config={"function": "math.multiply"})
        by["in2"]["inbound_nodes"] = [["conv", 0, 0, {"y": 0.5, "name": None}]]

    net = read_config(changed(change))
    assert next(op for op in net.ops if op.layer == "in2").operator.type == "function"
    assert net.tensors["add"].shape == (1, 8, 8, 4)


def test_layers_refuse_settings_of_the_wrong_type() -> None:
    config = {"class_name": "Permute", "config": {"name": "p", "dims": ["a", 1]}}
    with pytest.raises(ModelError, match=r"'p' \(Permute\)"):
        read_config(config, input=(4, 5))
    config = {"class_name": "EinsumDense", "config": {"name": "e", "equation": "ab,bc"}}
    with pytest.raises(ModelError, match=r"'e' \(EinsumDense\)"):
        read_config(config, input=(4, 5))


def test_mappings_as_inputs_and_outputs() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    inner = keras.Model({"b": b, "a": a}, {"y": kl.Dense(2)(b), "x": kl.Dense(3)(a)}, name="inner")
    p, q = keras.Input((4,), name="p"), keras.Input((6,), name="q")
    outputs = inner({"a": p, "b": q})
    model = keras.Model([p, q], [outputs["x"], outputs["y"]])
    check(model)
