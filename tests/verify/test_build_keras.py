"""Models built in Keras from our networks: parameters, shapes and values are the original's."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

import convcalc
from convcalc import zoo
from convcalc.errors import MissingExtra, ModelError
from convcalc.network import Network
from convcalc.readers.keras import read_config
from convcalc.readers.spec import read_spec
from convcalc.reference import convolve
from convcalc.tensors import TensorSpec
from convcalc.verify.build_keras import build, groups, output_shapes

keras = pytest.importorskip("keras")
layers = keras.layers


@pytest.fixture(autouse=True)
def forget() -> Any:
    """Keras numbers names over all models of a process."""
    yield
    keras.backend.clear_session()


def net_of(*entries: Any, input: Any = (8, 8, 4), layout: str = "channels_last") -> Network:
    """A network from a spec's layers; a channels-first one also takes sizes channels last."""
    sizes = (input[-1], *input[:-1]) if layout == "channels_first" else input
    return read_spec({"input": list(sizes), "layers": list(entries), "layout": layout})


def agrees(net: Network) -> Any:
    """Build, and hold parameters and shapes against the network's own."""
    model = build(net)
    for trainable in (True, False):
        counted = sum(
            prod(param.shape)
            for key, params in net.params.items()
            for param in params
            if (param.trainable and next(o for o in net.ops if o.weights == key).trainable)
            is trainable
        )
        weights = model.trainable_weights if trainable else model.non_trainable_weights
        assert sum(prod(w.shape) for w in weights) == counted
    expected = [net.tensors[name].dims[1:] for name in net.outputs]
    assert [shape[1:] for shape in output_shapes(net, model)] == expected
    return model


@pytest.mark.parametrize("name", ["mnist_convnet", "lenet5", "squeezenet", "resnet18"])
def test_networks_of_the_zoo_are_built_whole(name: str) -> None:
    model = agrees(zoo.load(name))
    assert model.count_params() == zoo.index()[name]["params"]


def small() -> Any:
    """A model with what networks are made of: branches, sharing, frozen layers, every padding."""
    x = inputs = keras.Input((21, 17, 3), name="image")
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(trainable=False)(x)
    x = layers.Activation("silu")(x)
    shared = layers.Conv2D(8, (3, 1), padding="same", activation="tanh", name="shared")
    a, b = shared(x), shared(shared(x))
    x = layers.Concatenate()([layers.Add()([a, b]), layers.Multiply()([a, x])])
    x = layers.SeparableConv2D(12, 3, strides=2, activation="relu")(x)
    x = layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, depth_multiplier=2, padding="same")(x)
    x = layers.LayerNormalization(epsilon=1e-3)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(24, 1, activation="sigmoid", groups=4)(gate)
    x = layers.Dropout(0.2)(layers.Multiply()([x, gate]))
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="elu")(x)
    x = layers.MaxPooling2D(3, 2, "same")(x)
    x = layers.Cropping2D(((1, 0), (0, 1)))(x)
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x), name="small")


def test_a_model_read_and_built_again_is_the_same_function() -> None:
    original = small()
    built = agrees(read_config(original.to_json()))
    # The order and the shapes of all variables are the original's, so weights can be handed over.
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.1, 0.5, w.shape) for w in original.get_weights()]
    original.set_weights(weights)
    built.set_weights(weights)
    image = rng.uniform(0, 255, (2, 21, 17, 3)).astype("float32")
    np.testing.assert_allclose(
        built(image, training=False), original(image, training=False), rtol=1e-4, atol=1e-6
    )


def test_a_model_read_and_built_again_has_the_same_layers() -> None:
    original = small()
    built = build(read_config(original.to_json()))
    assert [(layer.name, type(layer)) for layer in built.layers] == [
        (layer.name, type(layer)) for layer in original.layers
    ]
    for name in ("shared", "separable_conv2d", "dense"):
        assert built.get_layer(name).activation is original.get_layer(name).activation


def test_what_stands_between_is_not_fused() -> None:
    """An activation of another layer, or one whose argument is read elsewhere too, stays alone."""
    x = {"conv": {"filters": 2, "kernel": 1}, "name": "x"}
    net = net_of(x, {"activation": "relu", "name": "y"}, {"activation": "tanh", "layer": "x"})
    assert [len(ops) for ops in groups(net)] == [1, 1, 1]
    again = {"activation": "relu", "name": "y", "layer": "x"}
    net = net_of(x, again, {"add": {}, "from": ["x", "y"]})
    assert [len(ops) for ops in groups(net)] == [1, 1, 1]
    net = net_of(x, again)
    assert [len(ops) for ops in groups(net)] == [2]


@pytest.mark.parametrize("padding", ["same", "same_lower", "valid", 2, [[0, 3], [1, 0]]])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_padding_gives_the_reference_values(padding: Any, stride: int) -> None:
    net = net_of({"conv": {"filters": 3, "kernel": 3, "stride": stride, "padding": padding}})
    model = agrees(net)
    kernel, bias = model.get_weights()
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 4)).astype("float32")
    sides = tuple(map(tuple, padding)) if isinstance(padding, list) else padding
    expected = convolve(x, kernel, bias + 1, stride=stride, padding=sides)
    model.set_weights([kernel, bias + 1])
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_padding_that_is_keras_own_needs_no_layer(stride: int) -> None:
    """PyTorch's 1 on all sides is SAME at stride 1, and more than SAME adds at stride 2."""
    conv = {"conv": {"filters": 3, "kernel": 3, "stride": stride, "padding": 1}}
    found = [type(layer).__name__ for layer in build(net_of(conv)).layers]
    padded = [] if stride == 1 else ["ZeroPadding2D"]
    assert found == ["InputLayer", *padded, "Conv2D"]


def last(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A layer's entry for channels first."""
    ((kind, value), *rest) = entry.items()
    return {kind: {**value, **more}, **dict(rest)}


def test_channels_first_is_built_channels_last_with_the_same_values() -> None:
    """The same layers in both layouts, with the same weights, on the same image."""

    def entries(first: bool) -> list[dict[str, Any]]:
        place = {"channels_first": True} if first else {}
        axis = 1 if first else -1
        return [
            {"conv": {"filters": 6, "kernel": 3, "padding": 1, "bias": False, **place}},
            {"batch_norm": {"axis": axis}, "name": "bn"},
            {"activation": "relu"},
            {"max_pool": {"kernel": 3, "stride": 2, "padding": 1, **place}},
            {"depthwise_conv": {"kernel": 3, "padding": 1, **place}, "name": "a"},
            {"conv": {"filters": 6, "kernel": 1, **place}, "name": "b", "from": "activation_1"},
            {"max_pool": {"kernel": 2, "ceil_mode": True, **place}, "name": "c"},
            {"concat": {"axis": axis}, "from": ["a", "c"], "name": "d"},
            {"prelu": {"slopes": [12]}},
            {"conv_transpose": {"filters": 2, "kernel": 4, "stride": 2, "padding": 1, **place}},
            {"group_norm": {"groups": 2, "axis": axis}},
            {"reduce": {"kind": "max", "axes": [1, 2, 3]}},
        ]

    one = net_of(*entries(False), input=(9, 8, 3))
    two = net_of(*entries(True), input=(9, 8, 3), layout="channels_first")
    built, moved = agrees(one), agrees(two)
    assert moved.inputs[0].shape == (None, 9, 8, 3)
    rng = np.random.default_rng(2)
    weights = [rng.uniform(0.1, 1, w.shape) for w in built.get_weights()]
    built.set_weights(weights)
    moved.set_weights(weights)
    image = rng.normal(size=(2, 9, 8, 3)).astype("float32")
    np.testing.assert_allclose(moved(image), built(image), rtol=1e-5)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": 4, "stride": 2, "padding": 1},
        {"kernel": 3, "stride": 2, "padding": 1, "output_padding": 1, "activation": "relu"},
        {"kernel": 2, "stride": 2, "padding": "same"},
        {"kernel": 3, "stride": 2, "padding": "same", "output_padding": 0},
        {"kernel": 2, "stride": 3, "padding": 0},
    ],
)
def test_transposed_convolutions_are_pytorchs(settings: dict[str, Any], layout: str) -> None:
    net = net_of({"conv_transpose": {"filters": 3, **settings}})
    if layout == "channels_first":
        first = {"filters": 3, "channels_first": True, **settings}
        net = net_of({"conv_transpose": first}, layout=layout)
    model = agrees(net)
    if isinstance(settings["padding"], str):
        return
    torch = pytest.importorskip("torch")
    kernel, bias = model.get_weights()
    x = np.random.default_rng(3).normal(size=(1, 8, 8, 4)).astype("float32")
    extra = settings.get("output_padding", 0)
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(x).permute(0, 3, 1, 2),
        torch.tensor(kernel).permute(3, 2, 0, 1),
        torch.tensor(bias),
        stride=settings["stride"],
        padding=settings["padding"],
        output_padding=extra,
    ).permute(0, 2, 3, 1)
    if "activation" in settings:
        expected = torch.relu(expected)
    inner = slice(None, -extra or None)
    np.testing.assert_allclose(
        np.asarray(model(x))[:, inner, inner], expected[:, inner, inner], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg", "avg without padding"])
def test_pools_with_numbers_are_pytorchs(kind: str, ceil_mode: bool) -> None:
    torch = pytest.importorskip("torch")
    settings = {"kernel": 3, "stride": 2, "padding": 1, "channels_first": True}
    pool: dict[str, Any] = {"max_pool": settings}
    extra: dict[str, Any] = {}
    if kind != "max":
        pool = {"average_pool": {**settings, "count_include_pad": kind == "avg"}}
        extra = {"count_include_pad": kind == "avg"}
    pool[next(iter(pool))]["ceil_mode"] = ceil_mode
    net = net_of(pool, input=(10, 9, 4), layout="channels_first")
    x = -np.random.default_rng(4).uniform(1, 2, size=(1, 10, 9, 4)).astype("float32")
    function = getattr(torch.nn.functional, f"{kind[:3]}_pool2d")
    image = torch.tensor(x).permute(0, 3, 1, 2)
    expected = function(image, 3, 2, 1, ceil_mode=ceil_mode, **extra)
    np.testing.assert_allclose(agrees(net)(x), expected.permute(0, 2, 3, 1), rtol=1e-6)


VOLUME, SEQUENCE = (4, 6, 6, 4), (12, 4)


@pytest.mark.parametrize(
    ("input", "entries"),
    [
        (SEQUENCE, [{"conv": {"filters": 3, "kernel": 3, "padding": "causal"}}]),
        (SEQUENCE, [{"depthwise_conv": {"kernel": 3, "padding": "causal"}}]),
        (SEQUENCE, [{"separable_conv": {"filters": 3, "kernel": 3, "activation": "relu"}}]),
        (SEQUENCE, [{"recurrent": {"cell": "lstm", "units": 3, "sequences": True}}, "flatten"]),
        (SEQUENCE, [{"recurrent": {"cell": "gru", "units": 3, "reset_after": False}}]),
        (SEQUENCE, [{"recurrent": {"cell": "simple", "units": 3, "bias": False}}]),
        (SEQUENCE, [{"attention": {"heads": 2, "key_dim": 3}}]),
        (SEQUENCE, [{"attention": {"heads": 4, "key_dim": 3, "kv_heads": 2}}]),
        (SEQUENCE, [{"matmul": {"transpose_b": True}, "from": ["input", "input"]}]),
        (SEQUENCE, [{"dot": 2, "from": ["input", "input"]}]),
        (SEQUENCE, [{"upsample": 2}]),
        (SEQUENCE, [{"permute": [0, 2, 1]}]),
        (SEQUENCE, [{"crop": 1}, {"pad": [[0, 3]]}]),
        (SEQUENCE, [{"flatten": None}, {"repeat": 3}]),
        (SEQUENCE, [{"expand_dims": 1}, {"repeat": 2}]),
        (VOLUME, [{"conv": {"filters": 3, "kernel": 2, "padding": 1}}]),
        (VOLUME, [{"depthwise_conv": {"kernel": 2}}, {"global_pool": "max"}]),
        (VOLUME, [{"conv_transpose": {"filters": 2, "kernel": 2, "stride": 2, "padding": 1}}]),
        (VOLUME, [{"max_pool": 2}, {"upsample": 2}, {"depth_to_space": 1}]),
        ((8, 8, 4), [{"depthwise_conv": {"kernel": 3, "stride": [1, 2]}}]),
        ((8, 8, 4), [{"adaptive_pool": 4}, {"adaptive_pool": {"output": 3, "kind": "max"}}]),
        ((8, 8, 4), [{"space_to_depth": 2}, {"channel_shuffle": 4}, {"depth_to_space": 4}]),
        ((8, 8, 4), [{"upsample": {"factor": [2, 1], "interpolation": "bilinear"}}]),
        ((8, 8, 4), [{"resize": [5, 7]}, {"cast": "float16"}, {"cast": "float"}]),
        ((8, 8, 4), [{"slice": {"axis": 3, "size": 2, "start": 1}}, {"scale": -1}, {"scale": 1}]),
        ((8, 8, 4), [{"slice": {"axis": 1, "size": 4, "start": 7, "step": -2}}]),
        ((8, 8, 4), [{"split": {"sizes": [1, 3]}, "name": "s"}, {"identity": None, "from": "s:1"}]),
        ((8, 8, 4), [{"reshape": [32, -1]}, {"reshape": {"shape": [2, 128], "whole": True}}]),
        ((8, 8, 4), [{"reduce": {"kind": "argmax", "axes": 3}}]),
        ((8, 8, 4), [{"reduce": {"kind": "mean", "axes": [1], "keepdims": True}}, "squeeze"]),
        ((1, 8, 4), [{"squeeze": 1}, {"permute": [0, 2, 1]}]),
        ((8, 4), [{"permute": [2, 0, 1]}, {"permute": [1, 2, 0]}]),
        ((8, 8, 4), [{"layer_norm": [1, 2]}, {"rms_norm": -1}, {"unit_norm": -1}, "noise"]),
        ((8, 8, 4), [{"standardize": -1}, {"standardize": {"stored": False}}, "rescale"]),
        ((8, 8, 4), [{"standardize": None}]),
        ((8, 8, 4), [{"prelu": [1, 2]}, {"prelu": {"slopes": [1]}}, {"prelu": None}]),
        (
            (8, 8, 4),
            [
                {"function": "add"},
                {"function": "exp"},
                {"dropout": {"rate": 0.5, "noise_shape": [-1, 1, 1, 4]}},
            ],
        ),
        ((8, 8, 4), ["add", "concat", {"average": {}, "from": ["input", "input"]}]),
        ((8, 8, 4), [{"divide": {}, "from": ["input", "input"]}, {"activation": "hard_swish"}]),
        (
            (8, 8, 4),
            [{"constant": {"shape": [4]}, "name": "c"}, {"add": {}, "from": ["input", "c"]}],
        ),
        (
            (8, 8, 4),
            [
                {"constant": {"shape": [8, 4], "stored": True, "trainable": True}, "name": "c"},
                {"multiply": {}, "from": ["input", "c"]},
            ],
        ),
    ],
    ids=str,
)
def test_operators_keep_shapes_and_parameters(input: Any, entries: list[Any]) -> None:
    agrees(net_of(*entries, input=input))


def test_integers_are_looked_up() -> None:
    inputs = {"word": {"shape": [7], "dtype": "int32"}}
    net = read_spec({"inputs": inputs, "layers": [{"embedding": {"rows": 9, "width": 4}}]})
    assert agrees(net).inputs[0].dtype == "int32"


def test_orders_of_axes_meet() -> None:
    """A result without an image's layout, and axes named in the network's order."""
    place = {"channels_first": True}
    net = net_of(
        {"conv": {"filters": 3, "kernel": 1, **place}, "name": "a"},
        {"permute": [0, 2, 3, 1], "name": "b"},
        {"conv": {"filters": 3, "kernel": 1}, "name": "c"},
        {"conv": {"filters": 8, "kernel": 1}, "name": "d"},
        {"conv": {"filters": 8, "kernel": 1, **place}, "name": "e"},
        {"multiply": {}, "from": ["e", "d"], "name": "f"},
        {"conv": {"filters": 2, "kernel": 1, **place}, "name": "i"},
        {"layer_norm": [1, 2], "name": "g", "from": "a"},
        {"flatten": {}, "name": "h"},
        input=(8, 8, 4),
        layout="channels_first",
    )
    agrees(Network(net.name, net.ops, net.inputs, ("f", "h", "a", "i"), net.layout))


def test_constants_are_turned_to_meet_an_image() -> None:
    """ONNX writes a batch norm's scale as (C, 1, 1); the image need not be turned for it."""
    net = net_of(
        {"constant": {"shape": [4, 1, 1], "stored": True, "trainable": True}, "name": "c"},
        {"multiply": {}, "from": ["input", "c"], "name": "m"},
        {"constant": {"shape": [4, 8, 1], "stored": True, "trainable": True}, "name": "d"},
        {"add": {}, "from": ["m", "d"], "name": "a"},
        layout="channels_first",
    )
    model = agrees(net)
    scale = np.arange(4, dtype="float32").reshape(4, 1, 1)
    offset = np.arange(32, dtype="float32").reshape(4, 8, 1)
    model.set_weights([scale, offset])
    x = np.random.default_rng(6).normal(size=(1, 8, 8, 4)).astype("float32")
    expected = x.transpose(0, 3, 1, 2) * scale + offset
    np.testing.assert_allclose(model(x), expected.transpose(0, 2, 3, 1), rtol=1e-6)


def test_local_response_normalization_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    net = net_of({"function": "lrn"}, input=(3, 2, 9), layout="channels_first")
    x = np.random.default_rng(5).normal(size=(1, 3, 2, 9)).astype("float32") * 50
    expected = torch.nn.functional.local_response_norm(torch.tensor(x).permute(0, 3, 1, 2), 5)
    inner = slice(2, -2)  # at the edges the two divide by different numbers of channels
    np.testing.assert_allclose(
        np.asarray(agrees(net)(x))[..., inner],
        expected.permute(0, 2, 3, 1)[..., inner],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"opaque": {"name": "Mystery", "shapes": [[3]]}}, "no such operator"),
        ({"lp_pool": {}}, "no such operator"),
        ({"function": "frobnicate"}, "no function 'frobnicate'"),
        ({"global_pool": "lp"}, "no global lp pool"),
        ({"max_pool": {"dilation": 2}}, "no dilated pools"),
        ({"average": {}, "from": ["input", "c"]}, "no constants"),
        ({"attention": {"heads": 4, "key_dim": 2, "kv_heads": 2, "value_dim": 3}}, "no widths"),
        ({"batch_norm": {"statistics": False}}, "keeps statistics"),
        ({"rms_norm": {"scale": False}}, "always scales"),
        ({"reduce": {"kind": "l2", "axes": 1}}, "no reduction 'l2'"),
        ({"reduce": {"kind": "argmax", "axes": [1, 2]}}, "along one axis"),
        ({"conv_transpose": {"filters": 4, "kernel": 2, "groups": 2}}, "in groups"),
        ({"conv": {"filters": 4, "kernel": 2, "stride": 2, "dilation": 2}}, "dilation"),
    ],
    ids=str,
)
def test_what_keras_lacks_is_refused_by_name(entry: dict[str, Any], why: str) -> None:
    constant = {"constant": {"shape": [4]}, "name": "c"}
    net = net_of(constant, {"from": "input", **entry, "name": "odd", "layer": "block"})
    with pytest.raises(ModelError, match=f"'odd' .* of layer 'block' cannot be built.*{why}"):
        build(net)


def test_an_older_keras_is_told_from_a_missing_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(keras.activations, "celu")
    with pytest.raises(ModelError, match="no activation 'celu'"):
        build(net_of({"activation": "celu"}))


def test_weights_shared_under_other_settings_are_refused() -> None:
    net = net_of(
        {"conv": {"filters": 4, "kernel": 1}, "weights": "w", "name": "a"},
        {"conv": {"filters": 4, "kernel": 1, "stride": 2}, "weights": "w", "name": "b"},
    )
    with pytest.raises(ModelError, match=r"'b' .* shares the weights"):
        build(net)


def test_a_sum_that_scales_is_a_layer_of_its_own() -> None:
    x = np.ones((1, 8, 8, 4), np.float32)
    entry = {"add": {}, "layer_type": "CustomScaleLayer", "from": ["input", "input"]}
    np.testing.assert_allclose(agrees(net_of(entry))(x), 1.17, rtol=1e-6)


def test_an_input_needs_its_batch_in_front() -> None:
    net = net_of({"identity": {}})
    inputs = {"input": TensorSpec((8, 8, 4), batch_axis=None)}
    with pytest.raises(ModelError, match=r"'input' .* batch in front"):
        build(Network(net.name, net.ops, inputs, net.outputs))


def test_an_output_without_an_input_is_refused() -> None:
    net = net_of({"constant": {"shape": [4]}, "name": "c"})
    with pytest.raises(ModelError, match="output 'c' depends on no input"):
        build(net)


def test_names_that_backends_refuse_are_rewritten() -> None:
    net = net_of({"identity": {}, "name": "_a b/c#2"}, {"identity": {}, "name": "_a b/c_2"})
    assert [layer.name for layer in build(net).layers[1:]] == ["layer_a_b_c_2", "layer_a_b_c_2_2"]


def test_without_keras_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtra, match="convcalc\\[tensorflow\\]"):
        build(convcalc.load("lenet5"))
