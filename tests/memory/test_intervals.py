"""Intervals of predictions, with bounds counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from convcalc.memory import intervals

ENTRY = {"low": 0.96, "high": 1.1, "dtypes": ["float32"]}


def job(device="cpu", dtype="float32"):
    return SimpleNamespace(device=device, dtype=dtype, mode="training")


@pytest.fixture(autouse=True)
def records(monkeypatch):
    monkeypatch.setattr(intervals, "residuals", lambda: {"torch cpu training": ENTRY})


def test_measured_as_recorded():
    assert intervals.ratios("torch", job()) == pytest.approx((0.96, 1.1))


def test_unmeasured_dtype_is_half_as_wide_again():
    assert intervals.ratios("torch", job(dtype="float16")) == pytest.approx((0.94, 1.15))


def test_unmeasured_device_is_twice_as_wide():
    assert intervals.ratios("torch", job("gpu")) == pytest.approx((0.92, 1.2))


def test_unmeasured_device_and_dtype_multiply():
    assert intervals.ratios("torch", job("gpu", "float16")) == pytest.approx((0.88, 1.3))


def test_without_records_the_widest():
    assert intervals.ratios("jax", job()) == intervals.UNKNOWN


def test_never_below_what_is_alive():
    assert intervals.interval("torch", job(), 1000, 990)[0] == 990


@pytest.mark.parametrize("found", [[0.9] * 30, [1.2] * 30, [0.9, 1.0, 1.3]])
def test_bounds_hold_one(found):
    low, high = intervals.bounds(found)
    assert low <= 1 <= high
