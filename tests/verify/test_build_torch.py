"""Any network in PyTorch: the same variables, the same shapes, the same values as the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convcalc
from convcalc import reference, zoo
from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.ops import operators

torch = pytest.importorskip("torch")

from convcalc.verify.build_torch import (  # noqa: E402
    RULES,
    build,
    count_params,
    input_shapes,
    output_shape,
)

#: What no rule is there for: PyTorch's recurrent layers hold other variables, and what is opaque
#: cannot be built by anybody.
REFUSED = {"opaque", "recurrent", "conv_recurrent", "combine", "gather"}


def meta(net: Network, batch: int = 2, **settings: Any) -> tuple[Any, list[tuple[int, ...]]]:
    """The module on meta tensors, and its outputs' shapes in the network's order."""
    with torch.device("meta"):
        model = build(net, **settings)
        inputs = [
            torch.empty(shape, dtype=None if spec.dtype == "float" else getattr(torch, spec.dtype))
            for shape, spec in zip(
                input_shapes(model, net, batch), net.inputs.values(), strict=True
            )
        ]
        outputs = model(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    shapes = [
        output_shape(model, name, tuple(output.shape))
        for name, output in zip(net.outputs, outputs, strict=True)
    ]
    return model, shapes


def network(*layers: Any, input: tuple[int, ...] = (8, 8, 4), **more: Any) -> Network:
    """A chain of layers."""
    return convcalc.load({"input": list(input), "layers": list(layers), **more})


# Rebuilding a family's larger members would test the same operators again.
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnexttiny", "densenet121", "efficientnetb0", "efficientnetv2b0"),
        *("googlenet", "inceptionresnetv2", "inceptionv3", "lenet5", "mnist_convnet", "mobilenet"),
        *("mobilenetv2", "mobilenetv3small", "nasnetmobile", "resnet18", "resnet50v2"),
        *("seed_layer", "squeezenet", "unet", "vgg16", "xception"),
    ],
)
def test_the_zoo_has_our_variables_and_shapes(name: str) -> None:
    net = zoo.load(name)
    model, shapes = meta(net)
    assert count_params(model) == zoo.index()[name]["params"]
    assert shapes == [net.tensors[output].shape_at(2) for output in net.outputs]


CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "activation softmax": ({"activation": "softmax"}, (8, 8, 4)),
    "activation exponential": ({"activation": "exponential"}, (8, 8, 4)),
    "activation threshold": ({"activation": "threshold"}, (8, 8, 4)),
    "activation squareplus": ({"activation": "squareplus"}, (8, 8, 4)),
    "activation glu": ({"activation": "glu"}, (8, 8, 4)),
    "adaptive average": ({"adaptive_pool": {"output": [3, 2]}}, (8, 8, 4)),
    "adaptive max": ({"adaptive_pool": {"output": 3, "kind": "max"}}, (8, 8, 4)),
    "attention": ({"attention": {"heads": 2, "key_dim": 3}}, (6, 8)),
    "attention, grouped": ({"attention": {"heads": 4, "key_dim": 3, "kv_heads": 2}}, (6, 8)),
    "batch norm, no scale": ({"batch_norm": {"scale": False}}, (8, 8, 4)),
    "batch norm, no center": ({"batch_norm": {"center": False, "statistics": False}}, (8, 8, 4)),
    "cast": ({"cast": "float64"}, (8, 8, 4)),
    "cast back": ({"cast": "float"}, (8, 8, 4)),
    "channel shuffle": ({"channel_shuffle": 2}, (8, 8, 4)),
    "conv 1d causal": ({"conv": {"filters": 3, "kernel": 3, "padding": "causal"}}, (16, 4)),
    "conv 3d": ({"conv": {"filters": 3, "kernel": 2, "padding": "same"}}, (6, 6, 6, 2)),
    "conv, first": ({"conv": {"filters": 3, "kernel": 3, "channels_first": True}}, (4, 8, 8)),
    "crop": ({"crop": [[1, 2], [0, 3]]}, (8, 8, 4)),
    "dense on images": ({"dense": 5}, (8, 8, 4)),
    "depth to space": ({"depth_to_space": 2}, (8, 8, 4)),
    "dropout": ({"dropout": 0.3}, (8, 8, 4)),
    "dropout of maps": (
        {"dropout": {"rate": 0.3, "noise_shape": [None, 1, 1, None]}},
        (8, 8, 4),
    ),
    "expand dims": ({"expand_dims": 2}, (8, 4)),
    "flatten": ("flatten", (8, 8, 4)),
    "function": ({"function": "sqrt"}, (8, 8, 4)),
    "function with a constant": ({"function": "clip"}, (8, 8, 4)),
    "global average": ({"global_pool": "average"}, (8, 8, 4)),
    "global max": ({"global_pool": {"kind": "max", "keepdims": True}}, (8, 8, 4)),
    "global lp": ({"global_pool": "lp"}, (8, 8, 4)),
    "group norm": ({"group_norm": 2}, (8, 8, 4)),
    "instance norm": ({"group_norm": {"groups": -1, "center": False}}, (8, 8, 4)),
    "identity": ("identity", (8, 8, 4)),
    "layer norm": ({"layer_norm": {"axes": [-2, -1]}}, (8, 8, 4)),
    "lp pool": ({"lp_pool": {"kernel": 3, "padding": 1}}, (8, 8, 4)),
    "max pool, uneven": ({"max_pool": {"kernel": 2, "stride": 1, "padding": "same"}}, (8, 8, 4)),
    "noise": ("noise", (8, 8, 4)),
    "pad": ({"pad": [[1, 0], [2, 3]]}, (8, 8, 4)),
    "permute": ({"permute": [0, 2, 1, 3]}, (8, 6, 4)),
    "prelu": ({"prelu": {"shared_axes": [1, 2]}}, (8, 8, 4)),
    "prelu everywhere": ("prelu", (8, 8, 4)),
    "reduce mean": ({"reduce": {"kind": "mean", "axes": [1, 2]}}, (8, 8, 4)),
    "reduce max": ({"reduce": {"kind": "max", "axes": -1, "keepdims": True}}, (8, 8, 4)),
    "reduce argmax": ({"reduce": {"kind": "argmax", "axes": -1}}, (8, 8, 4)),
    "repeat": ({"repeat": 3}, (4,)),
    "rescale": ("rescale", (8, 8, 4)),
    "reshape": ({"reshape": [16, -1]}, (8, 8, 4)),
    "resize": ({"resize": [5, 7]}, (8, 8, 4)),
    "rms norm": ("rms_norm", (8, 8, 4)),
    "scale": ("scale", (8, 8, 4)),
    "slice": ({"slice": {"axis": 1, "size": 3, "start": 1, "step": 2}}, (8, 8, 4)),
    "slice backwards": ({"slice": {"axis": 3, "size": 4, "start": 3, "step": -1}}, (8, 8, 4)),
    "space to depth": ({"space_to_depth": 2}, (8, 8, 4)),
    "spectral norm": ({"spectral_norm": 7}, (8, 8, 4)),
    "squeeze": ("squeeze", (8, 1, 4)),
    "standardize": ("standardize", (8, 8, 4)),
    "standardize by constants": ({"standardize": {"stored": False}}, (8, 8, 4)),
    "transposed, direct": (
        {"conv_transpose": {"filters": 3, "kernel": 2, "stride": 2}},
        (8, 8, 4),
    ),
    "transposed, cropped": (
        {"conv_transpose": {"filters": 3, "kernel": 3, "stride": 2, "padding": "same"}},
        (8, 8, 4),
    ),
    "unit norm": ("unit_norm", (8, 8, 4)),
    "upsample": ({"upsample": 2}, (8, 8, 4)),
    "upsample between": ({"upsample": {"factor": 2, "interpolation": "bilinear"}}, (8, 8, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_keep_shapes_and_variables(case: str) -> None:
    layer, size = CASES[case]
    first = "first" in case
    net = network(layer, input=size, layout="channels_first" if first else "channels_last")
    model, shapes = meta(net)
    assert shapes == [net.tensors[net.outputs[0]].shape_at(2)]
    assert count_params(model) == convcalc.analyze(net).totals.params


@pytest.mark.parametrize(
    ("kind", "attributes", "shapes"),
    [
        *[
            (kind, {}, [(8, 8, 4), (8, 8, 4)])
            for kind in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "average")
        ],
        ("power", {}, [(8, 8, 4), (8, 8, 4)]),
        ("concat", {"axis": 1}, [(8, 8, 4), (3, 8, 4)]),
        ("multiply", {}, [(8, 8, 4), (1, 1, 4)]),
        ("matmul", {"transpose_b": True}, [(6, 5), (7, 5)]),
        ("dot", {"axes": [2, 1]}, [(6, 5), (5, 7)]),
        ("dot", {"axes": 1}, [(6,), (6,)]),
    ],
)
def test_merges_keep_shapes(
    kind: str, attributes: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    net = convcalc.load(
        {
            "inputs": {f"x{i}": list(shape) for i, shape in enumerate(shapes)},
            "layers": [{kind: attributes, "from": ["x0", "x1"], "name": "merge"}],
        }
    )
    assert meta(net)[1] == [net.tensors["merge"].shape_at(2)]


def test_every_operator_has_a_rule_or_is_refused() -> None:
    assert set(RULES) | REFUSED == set(operators())
    net = network({"recurrent": {"cell": "lstm", "units": 4}}, input=(5, 3))
    with pytest.raises(ModelError, match=r"'recurrent_1' .* cannot be built in PyTorch"):
        build(net)
    with pytest.raises(ModelError, match="no activation 'sparsemax'"):
        build(network({"activation": "sparsemax"}))
    with pytest.raises(ModelError, match="no function 'mystery'"):
        build(network({"function": "mystery"}))


def test_scaled_dot_product() -> None:
    net = convcalc.load(
        {
            "inputs": {"q": [4, 6, 5], "k": [2, 7, 5], "v": [2, 7, 3]},
            "layers": [{"scaled_dot_product": {}, "from": ["q", "k", "v"], "name": "core"}],
        }
    )
    assert meta(net)[1] == [(2, 4, 6, 3)]


def test_shared_weights_are_one_module() -> None:
    layers = [
        {"conv": {"filters": 4, "kernel": 3, "padding": "same"}, "name": "first"},
        {"conv": {"filters": 4, "kernel": 3, "padding": "same"}, "name": "again"},
    ]
    shared = [layers[0], {**layers[1], "weights": "first"}]
    assert count_params(build(network(*shared))) == 3 * 3 * 4 * 4 + 4
    assert count_params(build(network(*layers))) == 2 * (3 * 3 * 4 * 4 + 4)
    other = [layers[0], {"conv": {"filters": 4, "kernel": 3}, "name": "again", "weights": "first"}]
    with pytest.raises(ModelError, match="shares the weights of 'first' under other settings"):
        build(network(*other))


def test_frozen_layers_need_no_gradient() -> None:
    net = network(
        {"conv": {"filters": 2, "kernel": 3}, "trainable": False, "name": "base"},
        {"conv": {"filters": 2, "kernel": 3}, "name": "head"},
    )
    model = build(net)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "head.weight",
        "head.bias",
    ]


def test_logits_leave_the_softmax_out() -> None:
    net = network(
        "flatten", {"dense": 3}, {"activation": "softmax", "name": "end"}, input=(2, 2, 1)
    )
    x = torch.ones(1, 1, 2, 2)
    assert build(net)(x).sum().item() == pytest.approx(1.0)
    assert type(build(net, logits=["end"]).end) is torch.nn.Identity


def test_a_tensor_is_let_go_of_after_its_last_reader() -> None:
    net = zoo.load("resnet18")
    model = build(net)
    done = [name for step in model.steps for name in step.done]
    made = [name for step in model.steps for name in step.outputs]
    assert sorted(done) == sorted({*made, *net.inputs} - set(net.outputs))


@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": 3, "stride": 2, "padding": "same"},  # by ceil_mode
        {"kernel": 2, "stride": 1, "padding": "same"},  # by an F.pad
        {"kernel": 3, "stride": 1, "padding": "same"},
        {"kernel": 3, "stride": 2, "padding": "valid", "ceil_mode": True},
        {"kernel": [2, 3], "stride": [1, 2], "padding": [[0, 1], [2, 2]]},
    ],
)
def test_an_average_pool_counts_what_the_operator_says(
    settings: dict[str, Any], count_padding: bool
) -> None:
    net = network(
        {"average_pool": {**settings, "count_include_pad": count_padding}}, input=(8, 9, 2)
    )
    x = np.random.default_rng(1).standard_normal((1, 2, 8, 9))
    found = build(net)(torch.from_numpy(x)).numpy()
    down, across = net.ops[0].operator.way(net.inputs["input"])  # type: ignore[attr-defined]
    for i in range(down.output):
        for j in range(across.output):
            rows = range(i * down.stride - down.before, i * down.stride - down.before + down.kernel)
            first = j * across.stride - across.before
            columns = range(first, first + across.kernel)
            real = [x[0, :, r, c] for r in rows for c in columns if 0 <= r < 8 and 0 <= c < 9]
            # Beyond the padding, where ceil_mode lets a window reach, nothing is ever counted.
            inside = sum(r < 8 + down.after and c < 9 + across.after for r in rows for c in columns)
            wanted = np.sum(real, axis=0) / (inside if count_padding else len(real))
            np.testing.assert_allclose(found[0, :, i, j], wanted, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": 3, "padding": "same"},
        {"kernel": 3, "padding": "same", "stride": 2},  # uneven: behind an F.pad
        {"kernel": [3, 2], "padding": [[0, 2], [1, 0]], "stride": [2, 1]},
        {"kernel": 3, "dilation": 2, "groups": 2},
    ],
)
def test_a_convolution_has_the_references_values(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    net = network({"conv": {"filters": 6, **settings}}, input=(8, 9, 4))
    kernel, bias = (rng.standard_normal(param.shape) for param in net.params["conv_1"])
    x = rng.standard_normal((2, 8, 9, 4))
    model = build(net).double()
    with torch.no_grad():
        model.conv_1.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1)))
        model.conv_1.bias.copy_(torch.from_numpy(bias))
        found = model(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    given = {"padding": "valid", **settings}
    given.pop("kernel")
    wanted = reference.convolve(x, kernel, bias, **given)
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), wanted, rtol=1e-9, atol=1e-9)
