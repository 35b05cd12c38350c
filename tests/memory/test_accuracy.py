"""The published accuracy is what the records and the engines give."""

from __future__ import annotations

import pytest

from benchmarks.memory import score

PAGE = score.DOCS.read_text("utf-8")


def test_the_table_of_the_documentation_is_what_the_records_give() -> None:
    marks = {name: mark for name, mark in score.marked().items() if mark == "report"}
    found = score.published(score.scores(score.all_records(), marks))
    assert score.between_marks(PAGE) == found, "run python -m benchmarks.memory.score --docs"


def test_another_table_takes_the_place_of_the_old() -> None:
    page = score.with_table(PAGE, "| new |")
    assert score.between_marks(page) == "| new |"
    assert score.with_table(page, score.between_marks(PAGE)) == PAGE
    with pytest.raises(ValueError, match="not found"):
        score.with_table("no marks", "| new |")


def fake(network: str, peak: int, predicted: int) -> score.Score:
    return score.Score("jax cpu training", network, True, {"peak_bytes": peak}, predicted)


def test_a_row_by_hand() -> None:
    group = [fake("a", 100, 101), fake("b", 100, 90), fake("c", 100, 102), fake("c", 200, 200)]
    # Errors of 1, 10, 2 and 0 per cent; one of four is too low by more than 5 %.
    cells = [cell.strip() for cell in score.row("key", group).strip("|").split("|")]
    assert cells[:7] == ["key", "4", "3", "1.50%", "10.00%", "10.00%", "25.0%"]
    assert score.percentile([0.1, 0.2, 0.3, 0.4], 0.5) == 0.2


def test_records_that_no_engine_predicts_are_left_out() -> None:
    record = {"framework": "tensorflow", "method": "allocator", "jit": True, "out_of_memory": True}
    assert score.engine_of({**record, "peak_bytes": 1}) is None
    record["out_of_memory"] = False
    assert score.engine_of({**record, "peak_bytes": None}) is None
    assert score.engine_of({**record, "peak_bytes": 1}) == ("tensorflow-xla", "cpu")
    tracked = {**record, "framework": "torch", "method": "memtracker", "peak_bytes": 1}
    together = {**tracked, "device": "cpu", "settings": {"foreach": True}}
    assert score.engine_of(together) is None
    assert score.engine_of({**together, "settings": {"foreach": False}}) == ("torch", "cpu")
