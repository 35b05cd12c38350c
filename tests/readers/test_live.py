"""Live Keras models, read through what they say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import convcalc
from convcalc.errors import ModelError
from convcalc.readers import load

keras = pytest.importorskip("keras")
import sys  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
import keras_oracle  # noqa: E402
from keras import layers as kl  # noqa: E402


def functional() -> Any:
    x = keras.Input((16, 16, 3))
    inner = keras.Sequential([kl.Conv2D(4, 3, padding="same"), kl.BatchNormalization()])
    y = kl.ReLU()(inner(x))
    shared = kl.Conv2D(4, 3, padding="same", dtype="mixed_float16")
    y = kl.Add()([shared(y), shared(shared(y))])
    return keras.Model(x, kl.Dense(7, dtype="bfloat16")(kl.GlobalAveragePooling2D()(y)))


def state(model: Any) -> tuple[Any, ...]:
    """What could be changed in a model by looking at it."""
    weights = [(id(v), v.trainable, v.numpy().tobytes()) for v in model.weights]
    calls = [(id(layer), len(layer._inbound_nodes)) for layer in model._flatten_layers()]
    return model.to_json(), weights, calls, model.trainable, sorted(vars(model))


def test_a_functional_model_with_policies_and_a_nested_one_is_not_changed() -> None:
    model = functional()
    before = state(model)
    net = load(model)
    assert state(model) == before
    keras_oracle.check(model, net)
    assert load(model, input=(20, 16, 3)).inputs[next(iter(net.inputs))].shape == (1, 20, 16, 3)


def test_the_policy_of_the_process_changes_no_count() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = functional()
        keras_oracle.check(model, load(model))
    finally:
        keras.config.set_dtype_policy("float32")


def test_sequential_models_with_and_without_an_input() -> None:
    model = keras.Sequential([kl.Dense(3)])
    with pytest.raises(ModelError, match="pass input="):
        load(model)
    assert load(model, input=(5,)).tensors["input"].shape == (1, 5)
    model.build((None, 5))
    keras_oracle.check(model, load(model))


def test_a_single_layer() -> None:
    report = convcalc.analyze(kl.Conv2D(200, 5, padding="same"), input=(150, 100, 3))
    assert (report.totals.params, report.totals.macs) == (15_200, 225_000_000)


class Written(keras.Model):
    """A model whose connections are code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.inner = kl.Dense(3)

    def call(self, x: Any) -> Any:
        return self.inner(x)


class Silent(kl.Layer):
    """A layer that cannot be written down."""

    def __init__(self, size: int, function: Any) -> None:
        super().__init__()
        self.size = size

    def call(self, x: Any) -> Any:
        return x


def test_subclassed_models() -> None:
    model = Written(name="written")
    with pytest.raises(ModelError, match=r"'written' \(Written\) says in Python code how"):
        load(model)
    x = keras.Input((4,))
    # What the message proposes.
    assert convcalc.analyze(keras.Model(x, model.call(x))).totals.params == 15
    # Inside another model it is one layer without a rule.
    report = convcalc.analyze(keras.Model(x, kl.ReLU()(model(x))))
    assert [gap.op for gap in report.uncounted] == ["Written"]
    assert report.layers[0].output_shape == [1, 3]


def test_what_cannot_be_written_down_is_said() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, Silent(3, print)(x), name="m")
    with pytest.raises(ModelError, match=r"'m' \(Functional\) cannot write its configuration"):
        load(model)


def test_other_objects() -> None:
    with pytest.raises(ModelError, match="from an object of type object; give a Keras model"):
        load(object())
