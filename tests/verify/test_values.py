"""The comparison of a convolution's values finds the difference that is there."""

from __future__ import annotations

import numpy as np
import pytest

import convcalc
from convcalc.errors import UsageError
from convcalc.network import Network
from convcalc.readers.spec import read_spec
from convcalc.verify.values import difference, tolerance


def layer(kind: str, **attributes: object) -> Network:
    return read_spec({"input": [4, 5, 2], "layers": [{kind: {"kernel": 2, **attributes}}]})


def test_ones_give_the_number_of_cells() -> None:
    net = layer("conv", filters=3)
    weights = [np.ones((2, 2, 2, 3)), np.full(3, 2.0)]
    output = np.full((1, 3, 4, 3), 2 * 2 * 2 + 2.0)
    assert difference(net, np.ones((1, 4, 5, 2)), weights, output) == 0
    output[0, 1, 2, 0] += 5
    assert difference(net, np.ones((1, 4, 5, 2)), weights, output) == 0.5


def test_a_depthwise_kernel_is_each_channels_own() -> None:
    net = layer("depthwise_conv", multiplier=2, bias=False)
    kernel = np.zeros((2, 2, 2, 2))
    kernel[..., 0, 0], kernel[..., 0, 1], kernel[..., 1, 0], kernel[..., 1, 1] = 1, 2, 3, 4
    x = np.ones((1, 4, 5, 2))
    x[..., 1] = 10
    output = np.broadcast_to([4.0, 8.0, 120.0, 160.0], (1, 3, 4, 4))
    assert difference(net, x, [kernel], output) == 0


def test_only_one_convolution_is_compared() -> None:
    with pytest.raises(UsageError, match="one convolution"):
        difference(convcalc.load("lenet5"), np.ones(1), [], np.ones(1))
    with pytest.raises(UsageError, match="one convolution"):
        difference(layer("conv_transpose", filters=1), np.ones(1), [], np.ones(1))


def test_a_policy_is_judged_by_what_it_computes_in() -> None:
    assert tolerance("mixed_float16") == tolerance("float16") > tolerance("float32")
