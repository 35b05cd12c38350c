"""The verdict: exact things exactly, predictions by tolerance or by their own interval."""

from __future__ import annotations

import json
from typing import Any

import pytest

import convcalc
from convcalc.readers.spec import write_spec
from convcalc.report import Prediction
from convcalc.verify.request import Event, Measurement, Request
from convcalc.verify.verdict import Verdict, judge

NET = convcalc.load("seed_layer")


def judged(
    peak: int | None = 12_000,
    low: int = 9_000,
    tolerance: float | None = None,
    mode: str = "training",
    **found: Any,
) -> Verdict:
    measurement = Measurement(
        "tensorflow",
        "2.21",
        found.pop("method", "allocator"),
        "cpu",
        **{
            "params": 15_200,
            "output_shape": [2, 150, 100, 200],
            "peaks": [] if peak is None else [peak - 120, peak, peak],
            "peak_bytes": peak,
            "resting_bytes": 1_000,
            **found,
        },
    )
    prediction = Prediction(
        peak_bytes=10_000,
        floor_bytes=9_000,
        process_bytes=None,
        interval=(low, 12_500),
        at="conv",
        breakdown={"weights": 300, "optimizer": 20, "inputs": 1, "activations": 9_679},
    )
    request = Request(write_spec(NET), mode=mode, batch=2)
    return judge(NET, request, measurement, predicted=prediction, tolerance=tolerance)


def test_every_rung_stands_beside_the_truth() -> None:
    verdict = judged()
    book, predicted, measured = verdict.rungs
    assert (book.name, book.bytes, book.error) == ("textbook", 24_000_000, 1999.0)
    assert (predicted.name, predicted.bytes, predicted.held) == ("predicted", 10_000, True)
    assert predicted.error == pytest.approx(-1 / 6)
    assert (measured.name, measured.bytes, measured.error) == ("measured", 12_000, None)
    assert verdict.resting == (321, 1_000)
    assert verdict.spread == 0.01
    assert verdict.flops == (2 * 2 * 225_000_000, None)
    assert verdict.failed == []


def test_what_was_compiled_is_not_called_measured() -> None:
    assert [rung.name for rung in judged(method="compiled").rungs][-1] == "compiled"


def test_inference_is_held_against_the_books_rule_for_it() -> None:
    from convcalc.analysis.costs import analyze

    book = analyze(NET, batch=2).memory.textbook.inference_bytes
    assert judged(mode="inference").rungs[0].bytes == book


def test_without_a_tolerance_the_interval_must_hold() -> None:
    assert judged(peak=8_999).failed == ["the prediction's interval does not hold the peak"]
    assert judged(peak=9_000).failed == []


def test_a_tolerance_is_a_share_of_the_truth() -> None:
    assert judged(peak=8_000, tolerance=0.25).failed == []
    assert judged(peak=7_999, tolerance=0.25).failed == [
        "the prediction is +25.0% off, more than 25 %"
    ]


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ({"params": 15_201}, "parameters: 15200 expected, 15201 found"),
        ({"output_shape": [2, 150, 100, 1]}, "output shape: "),
        ({"values_error": 1.1e-5}, "difference of values: 1e-05 expected"),
        ({"timeline": [Event(0, "conv", 1, 24_000_512, "")]}, "bytes of output: 24000000"),
        ({"timeline": [Event(0, "conv", 1, 23_999_744, "")]}, "bytes of output: 24000000"),
    ],
)
def test_what_is_not_exact_fails(found: dict[str, Any], what: str) -> None:
    (failed,) = judged(tolerance=1.0, **found).failed
    assert failed.startswith(what)


def test_the_output_is_seen_to_within_rounding() -> None:
    events = [Event(0, "conv", 1, 30_000_000, ""), Event(0, "conv", 1, 24_000_256, "")]
    verdict = judged(timeline=events, values_error=1e-6)
    assert [check.what for check in verdict.checks] == [
        *("parameters", "output shape", "difference of values", "bytes of output")
    ]
    assert all(check.holds for check in verdict.checks)


def test_out_of_memory_is_a_verdict() -> None:
    verdict = judged(peak=None, out_of_memory=True, notes=["out of memory: 8 MiB"])
    assert verdict.failed == ["it ran out of memory"]
    assert verdict.notes == ["out of memory: 8 MiB"]
    assert verdict.rungs == []


def test_a_verdict_is_plain_data() -> None:
    data = json.loads(json.dumps(judged().to_json()))
    assert data["rungs"][1]["interval"] == [9_000, 12_500]
    assert data["measurement"]["peaks"] == [11_880, 12_000, 12_000]
