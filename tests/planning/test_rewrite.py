"""Networks changed in one place: what comes out is what one would have written."""

from __future__ import annotations

from typing import Any

import pytest

import convcalc
from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.planning.rewrite import frozen, shortened, strided, thinner


def conv(name: str, filters: int = 8, **more: Any) -> dict[str, Any]:
    attributes = {"filters": filters, "kernel": 3, "padding": "same"}
    layer = {"conv": {**attributes, **more.pop("attributes", {})}, "name": name}
    return {**layer, **more}


def network(*layers: Any, size: tuple[int, ...] = (16, 16, 3)) -> Network:
    return convcalc.load({"name": "n", "input": list(size), "layers": list(layers)})


HEAD = ({"global_pool": "average"}, {"dense": {"units": 5, "activation": "softmax"}, "name": "fc"})

RESIDUAL = (
    conv("stem"),
    conv("a1", **{"from": "stem"}),
    {"activation": "relu", "name": "a2"},
    conv("a3"),
    {"add": None, "from": ["stem", "a3"], "name": "sum"},
    *HEAD,
)


def test_twice_the_stride() -> None:
    net, layer = strided(network(conv("c"), {"max_pool": 2}, *HEAD))
    assert layer == "c"
    assert net.tensors["c"].dims == (1, 8, 8, 8)
    assert net.tensors["fc"].dims == (1, 5)
    net, _ = strided(network(conv("c", attributes={"stride": [1, 2]}), *HEAD))
    assert net.tensors["c"].dims == (1, 8, 4, 8)


def test_a_stride_that_would_shrink_the_output_is_refused() -> None:
    with pytest.raises(ModelError, match="the output 'c' would be 1x8x8x8, not 1x16x16x8"):
        strided(network(conv("c")))
    with pytest.raises(ModelError, match="no convolution over a picture"):
        strided(network("flatten", {"dense": 3}))


def test_the_channels_of_all_but_the_last_layer() -> None:
    net = thinner(network(conv("a", 16), "batch_norm", conv("b", 32), *HEAD), 0.5)
    assert net.tensors["a"].dims[-1] == 8
    assert net.tensors["b"].dims[-1] == 16
    assert net.tensors["fc"].dims == (1, 5)


def test_all_but_the_head_frozen() -> None:
    net, count = frozen(network(conv("a"), "batch_norm", conv("b"), *HEAD))
    assert count == 3
    assert [op.name for op in net.ops if op.trainable and net.params.get(op.weights)] == [
        "fc/dense"
    ]
    report = convcalc.analyze(net)
    assert report.totals.trainable_params == 8 * 5 + 5
    with pytest.raises(ModelError, match="nothing before the last layer"):
        frozen(network(*HEAD))
    with pytest.raises(ModelError, match="nothing before the last layer"):
        frozen(net)


def test_a_convolution_with_what_follows_it_is_left_out() -> None:
    net, layers = shortened(
        network(
            conv("wide", 4),
            conv("same", 4),
            {"batch_norm": None, "name": "norm"},
            {"activation": "relu", "name": "relu"},
            {"max_pool": 2, "name": "pool"},
            conv("small", 4),
            *HEAD,
        )
    )
    assert layers == ["same", "norm", "relu"]
    assert {op.name for op in net.ops} >= {"wide", "pool", "small"}
    assert "same" not in net.tensors
    pool = next(op for op in net.ops if op.name == "pool")
    assert pool.inputs == ("wide",)


def test_a_residual_branch_is_left_out_as_a_whole() -> None:
    net, layers = shortened(network(*RESIDUAL))
    assert layers == ["a1", "a2", "a3", "sum"]
    assert [op.layer for op in net.ops] == ["stem", "global_pool_1", "fc", "fc"]
    # The same with the shortcut as the second input.
    turned = [
        {**layer, "from": ["a3", "stem"]} if isinstance(layer, dict) and "add" in layer else layer
        for layer in RESIDUAL
    ]
    assert shortened(network(*turned))[1] == layers


def test_branches_that_cannot_go() -> None:
    # The shortcut changes the shape; the branch is read elsewhere; two branches meet.
    projected = (
        conv("stem"),
        conv("left", 16, **{"from": "stem"}),
        conv("right", 16, **{"from": "stem"}),
        {"add": None, "from": ["left", "right"], "name": "sum"},
        *HEAD,
    )
    with pytest.raises(ModelError, match="no layer's output has the shape of its input"):
        shortened(network(*projected))
    read_elsewhere = (
        conv("stem"),
        {"max_pool": {"kernel": 3, "stride": 1, "padding": "same"}, "name": "p"},
        {"add": None, "from": ["stem", "p"], "name": "sum"},
        {"concat": None, "from": ["sum", "p"], "name": "both"},
        *HEAD,
    )
    with pytest.raises(ModelError, match="no layer's output has the shape"):
        shortened(network(*read_elsewhere))


def test_what_gives_the_output_stays() -> None:
    with pytest.raises(ModelError, match="no layer's output has the shape"):
        shortened(network(conv("c", 3)))
    last = network(
        conv("stem"),
        {"activation": "relu", "name": "r"},
        {"add": None, "from": ["stem", "r"], "name": "sum"},
    )
    with pytest.raises(ModelError, match="no layer's output has the shape"):
        shortened(last)


def test_known_networks() -> None:
    resnet = convcalc.load("resnet50")
    net, layers = shortened(resnet)
    assert layers[0].startswith("conv2_block")
    assert layers[-1].endswith("_add")
    assert net.tensors[net.outputs[0]] == resnet.tensors[resnet.outputs[0]]
    vgg, layers = shortened(convcalc.load("vgg16"))
    assert layers == ["block1_conv2"]
    assert len(vgg.ops) < len(convcalc.load("vgg16").ops)
