"""Keras configurations: whole networks against Keras, other versions' formats, what goes wrong."""

from __future__ import annotations

import gc
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from convcalc.readers.keras import read_config

keras = pytest.importorskip("keras")
sys.path.insert(0, str(Path(__file__).parent))
import keras_oracle  # noqa: E402

APPLICATIONS = sorted(
    {
        title: build
        for _, module in inspect.getmembers(keras.applications, inspect.ismodule)
        for title, build in inspect.getmembers(module, inspect.isfunction)
        if title[0].isupper()
    }.items()
)


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


def test_there_are_at_least_38_applications() -> None:
    assert len(APPLICATIONS) >= 38
