"""JAX's own run of a step: its tensors are what the arithmetic says."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from convcalc.errors import UsageError
from convcalc.readers.spec import read_spec, write_spec
from convcalc.settings import OPTIMIZERS
from convcalc.verify import jax as ours
from convcalc.verify.child import measure
from convcalc.verify.request import Request

LAYER = {
    "input": [15, 10, 3],
    "layers": [{"conv": {"filters": 20, "kernel": 5, "padding": "same"}}],
}
WEIGHTS, INPUT, OUTPUT = 5 * 5 * 3 * 20 + 20, 15 * 10 * 3, 15 * 10 * 20

#: An optimizer's step counter (int32) and learning rate.
COUNTERS = 8


def request(mode: str = "inference", **settings: Any) -> Request:
    """A request for the small layer."""
    optimizer = "none" if mode == "inference" else "momentum"
    asked = Request(write_spec(read_spec(LAYER)), "jax", mode=mode, optimizer=optimizer)
    return dataclasses.replace(asked, **settings)


def test_an_inference_computes_the_reference() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("keras")
    found = measure(request(batch=2, values=True))
    assert found.values_error is not None
    assert found.values_error < 1e-5
    assert found.params == WEIGHTS
    assert found.output_shape == [2, 15, 10, 20]
    assert found.resting_bytes == 4 * (WEIGHTS + 2 * INPUT)
    assert found.peak_bytes is not None
    assert found.peak_bytes >= found.resting_bytes + 4 * 2 * OUTPUT


def test_a_training_step_holds_weights_slots_inputs_and_labels() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("keras")
    found = measure(request("training", batch=2))
    resting = 4 * (2 * WEIGHTS + 2 * INPUT + 2 * OUTPUT) + COUNTERS
    assert found.resting_bytes == resting
    # The output, and the gradient or the difference that it becomes.
    assert found.peak_bytes is not None
    assert found.peak_bytes >= resting + 4 * 2 * OUTPUT
    assert found.settings["loss"] == ["mean_squared_error"]


def test_a_gpu_that_is_not_there_is_said() -> None:
    jax = pytest.importorskip("jax")
    pytest.importorskip("keras")
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="JAX sees no GPU"):
        measure(request(device="gpu"))


def test_training_without_an_optimizer_is_refused() -> None:
    with pytest.raises(UsageError, match="training needs an optimizer"):
        ours.optimizer_of(None, request("training", optimizer="none"))


def test_every_optimizer_is_keras_own() -> None:
    keras = pytest.importorskip("keras")
    for name in OPTIMIZERS:
        if name not in ("none", "momentum"):
            made = ours.optimizer_of(keras, request("training", optimizer=name))
            assert type(made).__name__.lower() == name
    momentum = ours.optimizer_of(keras, request("training", optimizer="momentum"))
    assert momentum.momentum == 0.9
    scaled = ours.optimizer_of(keras, request("training", optimizer="sgd", dtype="mixed_float16"))
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)


def test_what_is_donated_is_counted_once() -> None:
    analysis = SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=60,
        temp_size_in_bytes=7,
        alias_size_in_bytes=50,
    )
    assert ours.total(analysis) == 117


def test_a_cpu_run_sees_no_gpu() -> None:
    assert ours.environment(request())["JAX_PLATFORMS"] == "cpu"
    gpu = ours.environment(request(device="gpu"))
    assert gpu["JAX_PLATFORMS"] == "cuda,cpu"
    assert gpu["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
