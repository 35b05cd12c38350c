"""Lint: each rule finds what it is for, and says nothing of networks without it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convcalc
from convcalc.ops.window import slides
from convcalc.planning.lint import input_share, lint


def network(*layers: Any, size: tuple[int, ...] = (32, 32, 8)) -> convcalc.network.Network:
    return convcalc.load({"input": list(size), "layers": list(layers)})


def codes(*layers: Any, size: tuple[int, ...] = (32, 32, 8)) -> list[str]:
    return [finding.code for finding in lint(network(*layers, size=size))]


def conv(filters: int = 8, kernel: int = 3, **more: Any) -> dict[str, Any]:
    return {"conv": {"filters": filters, "kernel": kernel, "padding": "same", **more}}


def test_a_sound_network_has_no_findings() -> None:
    assert (
        codes(
            conv(bias=False),
            "batch_norm",
            {"activation": "relu"},
            {"max_pool": 2},
            conv(16),
            {"global_pool": "average"},
            {"dense": 10},
        )
        == []
    )


@given(
    st.integers(1, 12),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_the_share_of_input_is_counted_place_by_place(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> None:
    if size + before + after < dilation * (kernel - 1) + 1:
        return
    (slide,) = slides((size,), (kernel,), (stride,), (dilation,), ((before, after),))
    inside = [
        0 <= place * stride - before + tap * dilation < size
        for place in range(slide.output)
        for tap in range(kernel)
    ]
    assert input_share(slide) == Fraction(sum(inside), len(inside))


def test_kernels_over_small_maps_see_padding() -> None:
    """3 x 3 on one position: 1 of 9 taps is input."""
    findings = lint(network({**conv(), "name": "c"}, size=(1, 1, 8)))
    (found,) = (finding for finding in findings if finding.code == "mostly-padding")
    assert found.layers == ["c"]
    assert "89% of what the kernel of 'c' covers" in found.message
    # On 2 x 2 positions 4 of 9 are, on 3 x 3 it is (7/9)^2.
    assert "mostly-padding" in codes(conv(), size=(2, 2, 8))
    assert "mostly-padding" not in codes(conv(), size=(3, 3, 8))
    depthwise = {"depthwise_conv": {"kernel": 5, "padding": "same"}}
    assert "mostly-padding" in codes(depthwise, size=(2, 2, 8))


def test_layers_that_see_everything_already() -> None:
    """Kernels of 5 on 9 positions: fields of 5 and 9, so the third adds no context."""
    net = network(*[{**conv(8, 5), "name": f"c{i}"} for i in range(4)], size=(9, 9, 8))
    (found,) = lint(net)
    assert found.code == "beyond-the-input"
    assert found.layers == ["c2", "c3"]
    assert codes(*[conv(8, 5)] * 2, size=(9, 9, 8)) == []


def test_channels_that_tensor_cores_pad() -> None:
    net = network({**conv(20), "name": "odd"}, conv(24), "flatten", {"dense": 10})
    found = [finding for finding in lint(net) if finding.code == "odd-channels"]
    assert [finding.layers for finding in found] == [["odd"]]
    # What gives the output keeps its classes.
    assert "odd-channels" not in codes({"global_pool": "average"}, {"dense": 10})


def test_a_dense_layer_behind_a_flattened_map() -> None:
    net = network("flatten", {"dropout": 0.5}, {"dense": 64, "name": "fc"}, {"dense": 10})
    (found,) = lint(net)
    assert (found.code, found.layers) == ("flatten-dense", ["fc"])
    whole = (32 * 32 * 8 + 1) * 64 + 65 * 10
    assert f"{(32 * 32 * 8 + 1) * 64 / whole:.0%}" in found.message
    assert codes({"global_pool": "average"}, {"dense": 64}, {"dense": 10}) == []


def test_a_bias_before_a_batch_norm() -> None:
    net = network({**conv(16), "name": "a"}, "batch_norm", {**conv(24), "name": "b"}, "batch_norm")
    (found,) = lint(net)
    assert (found.code, found.layers) == ("bias-before-norm", ["a", "b"])
    assert "40 parameters for nothing" in found.message
    several = network(*[layer for _ in range(5) for layer in (conv(), "batch_norm")])
    assert "and 2 more layers" in lint(several)[0].message
    assert codes(conv(), {"activation": "relu"}, "batch_norm") == []


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([conv(), {"max_pool": {"kernel": 1, "stride": 1}}], "a pool over single positions"),
        ([conv(), {"dropout": 0.0}], "dropout with a rate of 0"),
        ([conv(activation="relu"), {"activation": "relu"}], "relu of a relu"),
        ([conv(bias=False), "batch_norm", "batch_norm"], "a batch norm of a batch norm"),
        ([conv(), {"upsample": 1}], "it enlarges by 1"),
    ],
)
def test_layers_that_do_nothing(layers: list[Any], why: str) -> None:
    (found,) = (each for each in lint(network(*layers)) if each.code == "unproductive")
    assert why in found.message


@pytest.mark.parametrize(
    "layers",
    [
        [conv(), {"max_pool": {"kernel": 1, "stride": 2}}],
        [conv(), {"dropout": 0.1}],
        [conv(activation="tanh"), {"activation": "tanh"}],
        [conv(activation="relu"), {"activation": "sigmoid"}],
        [conv(), {"upsample": 2}],
        [{"activation": "relu"}],
    ],
)
def test_layers_that_do_something(layers: list[Any]) -> None:
    assert codes(*layers) == []


def test_unknown_shapes_and_flat_inputs_are_no_trouble() -> None:
    assert codes({"dense": 8}, size=(8,)) == []
    unknown = convcalc.load(
        {"input": [8, 8, 8], "layers": [{"opaque": {"name": "Custom"}}, conv()]}
    )
    assert lint(unknown) == []


def test_known_networks() -> None:
    vgg = {finding.code: finding for finding in lint(convcalc.load("vgg16"))}
    assert vgg["flatten-dense"].layers == ["fc1"]
    resnet = {finding.code: finding for finding in lint(convcalc.load("resnet50"))}
    assert "26,560 parameters" in resnet["bias-before-norm"].message
