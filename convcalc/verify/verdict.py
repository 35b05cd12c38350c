"""Every rung of the ladder beside what was measured, and whether they agree."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from convcalc.network import Network
from convcalc.report import Prediction
from convcalc.verify import values
from convcalc.verify.request import Measurement, Request


@dataclass(slots=True)
class Check:
    """One thing that must agree exactly, or within a stated difference."""

    what: str
    expected: Any
    found: Any
    holds: bool


@dataclass(slots=True)
class Rung:
    """One figure of the peak."""

    name: str
    """textbook, predicted, compiled or measured."""
    bytes: int
    error: float | None = None
    """(this - truth) / truth; None on the rung that is taken for the truth."""
    interval: tuple[int, int] | None = None
    held: bool | None = None
    """Whether the interval holds the truth."""


@dataclass(slots=True)
class Verdict:
    """One mode of one network."""

    network: str
    mode: str
    checks: list[Check]
    rungs: list[Rung]
    resting: tuple[int | None, int | None]
    """Bytes between two steps: predicted, measured."""
    spread: float | None
    """(highest - lowest) / median of the repeats."""
    flops: tuple[int, int | None]
    """Of the whole batch: ours (2 x MACs), the framework's."""
    measurement: Measurement
    predicted_layers: dict[str, int] | None = None
    """What each layer is predicted to hold at the peak, without what rests there."""
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """What does not hold, in words; empty: all well."""

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return dataclasses.asdict(self)


#: Allocators round a request up to a multiple of this at most.
ROUNDING = 512

#: Kinds of a prediction's breakdown that are there between two steps.
RESTING = ("weights", "optimizer", "inputs")


def judge(
    net: Network,
    request: Request,
    found: Measurement,
    *,
    predicted: Prediction | None,
    tolerance: float | None,
) -> Verdict:
    """Compare; `tolerance` is the largest error allowed of a prediction, as a share of the truth.

    Without a tolerance it is the prediction's interval that must hold the truth.
    """
    from convcalc.analysis.costs import analyze

    report = analyze(net, batch=request.batch, dtype=request.dtype)
    book = report.memory.textbook
    training = request.mode == "training"
    shape = list(net.tensors[net.outputs[0]].shape_at(request.batch) or ())
    verdict = Verdict(
        network=net.name,
        mode=request.mode,
        checks=[],
        rungs=[],
        resting=(resting(predicted), found.resting_bytes),
        spread=None,
        flops=(2 * report.totals.macs * request.batch, found.flops),
        measurement=found,
        notes=list(found.notes),
    )
    if found.peak_bytes is None:
        verdict.failed.append("it ran out of memory")
        return verdict
    verdict.spread = (max(found.peaks) - min(found.peaks)) / found.peak_bytes
    verdict.checks = exact(found, report.totals.params, shape, request.dtype)
    if len(net.ops) == 1 and found.timeline:
        verdict.checks.append(output_seen(found, report.totals.output_bytes))
    truth = found.peak_bytes
    textbook = book.training_bytes if training else book.inference_bytes
    verdict.rungs.append(Rung("textbook", textbook, error(textbook, truth)))
    if predicted is not None:
        low, high = predicted.interval
        verdict.rungs.append(
            Rung(
                "predicted",
                predicted.peak_bytes,
                error(predicted.peak_bytes, truth),
                predicted.interval,
                low <= truth <= high,
            )
        )
    name = "compiled" if found.method == "compiled" else "measured"
    verdict.rungs.append(Rung(name, truth))
    verdict.failed = shortcomings(verdict, tolerance)
    return verdict


def exact(found: Measurement, params: int, shape: list[int], dtype: str) -> list[Check]:
    """Parameters, output shape and a convolution's values, where the framework gave them."""
    checks = []
    if found.params is not None:
        checks.append(Check("parameters", params, found.params, params == found.params))
    if found.output_shape is not None:
        holds = shape == found.output_shape
        checks.append(Check("output shape", shape, found.output_shape, holds))
    if found.values_error is not None:
        most = values.tolerance(dtype)
        holds = found.values_error <= most
        checks.append(Check("difference of values", most, found.values_error, holds))
    return checks


def output_seen(found: Measurement, expected: int) -> Check:
    """Whether a single layer's output is among the allocations, to within rounding."""
    sizes = [event.delta for event in found.timeline if event.delta >= expected]
    seen = min(sizes, default=0)
    return Check("bytes of output", expected, seen, 0 <= seen - expected < ROUNDING)


def shortcomings(verdict: Verdict, tolerance: float | None) -> list[str]:
    """What does not hold, in words."""
    failed = [
        f"{check.what}: {check.expected} expected, {check.found} found"
        for check in verdict.checks
        if not check.holds
    ]
    for rung in verdict.rungs:
        if rung.name != "predicted" or rung.error is None:
            continue
        if tolerance is None and not rung.held:
            failed.append("the prediction's interval does not hold the peak")
        if tolerance is not None and abs(rung.error) > tolerance:
            failed.append(
                f"the prediction is {rung.error:+.1%} off, more than {100 * tolerance:g} %"
            )
    return failed


def error(value: int, truth: int) -> float:
    """How far a figure is off, as a share of the truth."""
    return (value - truth) / truth


def resting(predicted: Prediction | None) -> int | None:
    """What a prediction says is there between two steps."""
    if predicted is None:
        return None
    return sum(predicted.breakdown.get(kind, 0) for kind in RESTING)
