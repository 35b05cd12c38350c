"""Requests and measurements survive the way through JSON; small rules about them."""

from __future__ import annotations

import json

import pytest

import convcalc
from convcalc.network import Network
from convcalc.readers.spec import read_spec, write_spec
from convcalc.verify.request import Event, Measurement, Request, loss_of, median


def test_a_request_comes_back_from_json() -> None:
    asked = Request(
        write_spec(convcalc.load("lenet5")), mode="inference", batch=4, threads=1, jit=True
    )
    back = Request.from_json(json.loads(json.dumps(asked.to_json())))
    assert back == asked
    assert read_spec(back.network) == convcalc.load("lenet5")


def test_a_measurement_comes_back_from_json() -> None:
    found = Measurement("torch", "2.13", "profiler", "cpu", 10, [1, 2], [5, 6], 5, 3)
    found.timeline = [Event(0, "conv/Relu", 300, 256, "Relu"), Event(9, "conv/Relu", 44, -256, "")]
    back = Measurement.from_json(json.loads(json.dumps(found.to_json())))
    assert back == found
    assert isinstance(back.timeline[1], Event)


@pytest.mark.parametrize(
    ("values", "middle"), [([7], 7), ([9, 1, 5], 5), ([4, 2], 2), ([8, 2, 6, 4], 4)]
)
def test_the_median_is_a_value_that_was_seen(values: list[int], middle: int) -> None:
    assert median(values) == middle


def two_heads() -> Network:
    return read_spec(
        {
            "input": [8, 8, 3],
            "layers": [
                {"conv": {"filters": 2, "kernel": 1}, "name": "map"},
                {"flatten": None, "name": "flat", "from": "map"},
                {"dense": {"units": 3, "activation": "softmax"}, "name": "class"},
            ],
            "outputs": ["class", "map"],
        }
    )


def test_a_softmax_is_trained_with_cross_entropy_and_the_rest_is_not() -> None:
    net = two_heads()
    assert loss_of(net) == loss_of(net, "class") == "cross_entropy"
    assert loss_of(net, "map") == "mean_squared_error"
    assert loss_of(convcalc.load("seed_layer")) == "mean_squared_error"
