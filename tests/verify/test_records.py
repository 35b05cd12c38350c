"""Records: a line a run, found again by what tells runs apart."""

from __future__ import annotations

from pathlib import Path

import pytest

import convcalc
from convcalc.errors import UsageError
from convcalc.readers.spec import write_spec
from convcalc.verify import records
from convcalc.verify.request import Measurement, Request

ASKED = Request(write_spec(convcalc.load("lenet5")), batch=4, optimizer="adam", threads=1)
FOUND = Measurement("tensorflow", "2.21", "allocator", "cpu", 61_706, [4, 10], [7, 9], 7, 5)


def test_a_record_holds_the_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert records.read(path) == []
    for batch in (4, 8):
        asked = Request(ASKED.network, batch=batch, optimizer="adam", threads=1)
        records.append(path, records.record("lenet5", asked, FOUND))
    first, second = records.read(path)
    assert (first["network"], first["input"], first["peaks"]) == ("lenet5", [28, 28, 1], [7, 9])
    assert (first["batch"], second["batch"], first["threads"]) == (4, 8, 1)
    assert (first["device"], first["hardware"]) == ("cpu", "cpu")
    assert first["spec"] == second["spec"]
    assert records.identity(first) != records.identity(second)


def test_the_same_run_has_the_same_identity_whatever_it_said() -> None:
    other = Measurement("tensorflow", "2.22", "allocator", "cpu", peaks=[8], peak_bytes=8)
    one, two = (records.record("lenet5", ASKED, found) for found in (FOUND, other))
    assert records.identity(one) == records.identity(two)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        records.append(tmp_path / "no" / "runs.jsonl", {})
