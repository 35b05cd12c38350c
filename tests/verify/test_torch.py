"""What PyTorch's trackers say of steps whose bytes can be added up by hand."""

from __future__ import annotations

from typing import Any

import pytest

import convcalc
from convcalc.errors import UsageError
from convcalc.readers.spec import write_spec
from convcalc.verify.request import Measurement, Request

torch = pytest.importorskip("torch")

from convcalc.verify.torch import environment, run, track  # noqa: E402

ONE = {"input": [64], "layers": [{"dense": {"units": 32, "bias": False}, "name": "dense"}]}
WEIGHTS, X, Y = 64 * 32 * 4, 8 * 64 * 4, 8 * 32 * 4


def ask(network: Any, **settings: Any) -> Request:
    spec = write_spec(convcalc.load(network))
    return Request(spec, framework="torch", batch=8, **{"method": "memtracker", **settings})


def measured(network: Any, **settings: Any) -> Measurement:
    return run(ask(network, **settings))


def test_inference_of_one_layer_is_weights_input_and_output() -> None:
    found = measured(ONE, mode="inference", optimizer="none", flops=True)
    assert found.params == 64 * 32
    assert found.output_shape == [8, 32]
    assert found.resting_bytes == WEIGHTS + X
    assert found.peak_bytes == WEIGHTS + X + Y
    assert found.flops == 2 * 8 * 64 * 32


@pytest.mark.parametrize(
    ("optimizer", "slots", "scalars"), [("sgd", 0, 0), ("momentum", 1, 0), ("adam", 2, 1)]
)
def test_a_step_rests_on_weights_slots_input_and_labels(
    optimizer: str, slots: int, scalars: int
) -> None:
    found = measured(ONE, optimizer=optimizer)
    # The last loss and Adam's count of steps are single floats.
    assert found.resting_bytes == (1 + slots) * WEIGHTS + X + Y + 4 * (1 + scalars)
    assert found.settings["loss"] == "mean_squared_error"


def test_a_gpu_rounds_to_blocks_and_updates_lists_of_tensors() -> None:
    small = {"input": [8], "layers": [{"dense": {"units": 4}, "name": "dense"}]}
    found = measured(small, optimizer="adam", device="gpu")
    # Kernel, bias, two slots each, input, labels, loss: a block each. Steps are counted elsewhere.
    assert found.resting_bytes == (2 * 3 + 3) * 512
    assert found.settings["foreach"] is True
    plain = track(ask(ONE, optimizer="adam", device="gpu"), foreach=False)
    listed = track(ask(ONE, optimizer="adam", device="gpu"), foreach=True)
    # At the update, with the gradient: the square root of a slot and its quotient, a new tensor;
    # over lists, where the quotient is in place, the square root alone.
    rest = 3 * WEIGHTS + X + Y + 512 + WEIGHTS
    assert (plain.peak_bytes, listed.peak_bytes) == (rest + 2 * WEIGHTS, rest + WEIGHTS)


def test_cross_entropy_takes_class_numbers() -> None:
    net = {"input": [64], "layers": [{"dense": {"units": 32, "activation": "softmax"}}]}
    found = measured(net)
    assert found.settings["loss"] == "cross_entropy"
    assert found.resting_bytes == WEIGHTS + 32 * 4 + X + 8 * 8 + 4


def test_cross_entropy_of_maps_and_sequences() -> None:
    for input, classes in (([4, 6, 3], 4 * 6), ([5, 3], 5)):
        net = {"input": input, "layers": [{"dense": {"units": 7, "activation": "softmax"}}]}
        found = measured(net)
        assert found.resting_bytes == (3 * 7 + 7 + 8 * classes * 3 + 1) * 4 + 8 * classes * 8


def test_dropout_keeps_bytes_on_a_gpu_and_floats_on_a_cpu() -> None:
    def taken(device: str) -> list[int]:
        net = {"input": [2], "layers": [{"dense": 4096}, {"dropout": 0.5}, {"dense": 1}]}
        found = measured(net, device=device, timeline=True).timeline
        first = next(i for i, event in enumerate(found) if event.op == "dropout_1")
        return [event.delta for event in found[first : first + 2]]

    whole = 8 * 4096 * 4
    assert taken("gpu") == [whole, 8 * 4096]
    assert taken("cpu") == [whole, whole]


def test_the_timeline_adds_up_to_the_peak() -> None:
    found = measured("mnist_convnet", timeline=True, optimizer="adam", device="gpu")
    assert max(event.bytes for event in found.timeline) == found.peak_bytes
    total = found.resting_bytes or 0
    for event in found.timeline:
        total += event.delta
        assert event.bytes == total
    assert {"convolution", "convolution_backward", "max_pool2d_with_indices"} <= {
        event.kind for event in found.timeline
    }
    assert {
        op.layer for op in convcalc.load("mnist_convnet").ops if op.operator.type == "conv"
    } <= {event.op for event in found.timeline}
    assert total == found.resting_bytes


def test_the_profiler_agrees_with_the_tracker() -> None:
    net = {"input": [64], "layers": [{"dense": 128}, {"activation": "relu"}, {"dense": 9}]}
    real = measured(net, method="profiler", optimizer="adam", timeline=True, repeats=1)
    fake = measured(net, optimizer="adam")
    assert real.peaks == [pytest.approx(fake.peak_bytes, rel=0.01)]
    assert real.resting_bytes == pytest.approx(fake.resting_bytes, rel=0.01)
    assert max(event.bytes for event in real.timeline) == real.peaks[0]


def test_mixed_precision_on_a_cpu_halves_activations_only() -> None:
    net = {
        "input": [32, 32, 8],
        "layers": [{"conv": {"filters": 64, "kernel": 3, "padding": "same"}}] * 2,
    }
    full = measured(net, mode="inference", optimizer="none")
    mixed = measured(net, mode="inference", optimizer="none", dtype="mixed_bfloat16")
    assert mixed.resting_bytes == full.resting_bytes
    assert mixed.peak_bytes is not None
    assert full.peak_bytes is not None
    assert mixed.peak_bytes < 0.7 * full.peak_bytes
    half = measured(net, mode="inference", optimizer="none", dtype="bfloat16")
    assert half.resting_bytes == (full.resting_bytes or 0) // 2


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UsageError, match="has no optimizer 'ftrl'; it has sgd, momentum"):
        measured(ONE, optimizer="ftrl")
    with pytest.raises(UsageError, match="training needs an optimizer"):
        measured(ONE, optimizer="none")
    with pytest.raises(UsageError, match="cannot follow mixed precision without a GPU"):
        measured(ONE, dtype="mixed_float16", device="gpu")
    with pytest.raises(UsageError, match="has no dtype 'int8'"):
        measured(ONE, dtype="int8")


def test_a_cpu_run_sees_no_gpu() -> None:
    assert environment(ask(ONE)) == {"CUDA_VISIBLE_DEVICES": "-1"}
    assert environment(ask(ONE, device="gpu")) == {}
