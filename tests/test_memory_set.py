"""The validation set of the memory records: what it holds, and that a run is not repeated."""

from __future__ import annotations

import pytest

from benchmarks.memory import measure
from benchmarks.memory.table import FORMULAS, markdown
from convcalc import analyze
from convcalc.readers.spec import write_spec
from convcalc.verify import records
from convcalc.verify.request import Measurement, Request

TUNE, REPORT = measure.networks("tune"), measure.networks("report")


def test_tuning_and_reporting_are_kept_apart() -> None:
    assert not TUNE.keys() & REPORT.keys()
    assert len(REPORT) >= 20


@pytest.mark.parametrize("name", sorted([*TUNE, *REPORT]))
def test_every_network_of_the_set_is_complete(name: str) -> None:
    entry = {**TUNE, **REPORT}[name]
    report = analyze(measure.load(name, entry), batch=entry["batches"][1])
    assert report.status == "complete"
    assert entry["batches"][0] < entry["batches"][1]


def test_a_run_has_the_identity_of_its_record() -> None:
    name, request = next(measure.cases(["tune"], [0]))
    found = Measurement("tensorflow", "2.21", request.method, "cpu", peaks=[1], peak_bytes=1)
    line = records.record(name, request, found)
    assert measure.identity(name, request) == records.identity(line)


def test_the_formulas_on_one_layer() -> None:
    net = measure.load("seed_layer", TUNE["seed_layer"])
    report = analyze(net, batch=2)
    sizes = {name: formula(report, "training") for name, formula in FORMULAS.items()}
    outputs, inputs, params = 2 * 12_000_000, 2 * 150 * 100 * 3 * 4, 15_200
    assert list(sizes.values()) == [
        outputs,
        inputs + outputs + 4 * params,
        outputs + 16 * params,
        inputs + 2 * outputs + 4 * params,
    ]


def test_the_page_says_how_far_off_they_are() -> None:
    net = measure.load("seed_layer", TUNE["seed_layer"])
    request = Request(write_spec(net), batch=1, threads=1)
    found = Measurement("tensorflow", "2.21", "allocator", "cpu")
    found.peaks, found.peak_bytes = [23_000_000, 24_000_000, 24_500_000], 24_000_000
    page = markdown([records.record("seed_layer", request, found)])
    assert "## TensorFlow, graph executor, cpu, training (1 runs)" in page
    assert "| the book's rule | 50.0% | -50% .. -50% | 100% |" in page
    assert "| training, graph executor, threads between ops: 1 | 1 | 6.25% | 6.25% |" in page
