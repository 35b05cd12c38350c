"""The filter of a sweep: what it means, against Python's own operators, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcalc.errors import UsageError
from convcalc.planning.where import Values, parse

KINDS = {"macs": "number", "peak": "number", "dtype": "text", "conv1.filters": "number"}
DATA: dict[str, Values] = {
    "macs": Values(np.array([1, 10, 2**60, 2**60 + 1])),
    "peak": Values(np.array([8 * 2**30, 5, -1, 7]), np.array([True, True, False, True])),
    "dtype": Values(np.array(["float16", "float32", "float32", "float64"])),
    "conv1.filters": Values(np.array([1, 2, 3, 4])),
}


def rows(text: str) -> list[int]:
    """The rows that pass."""
    where = parse(text, KINDS)
    return np.flatnonzero(np.broadcast_to(where(DATA.__getitem__), 4)).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs < 10", [0]),
        ("macs <= 10", [0, 1]),
        ("macs == 1152921504606846976", [2]),  # exact, where floats would not be
        ("2 <= macs < 1e3", [1]),
        ("peak >= 8GiB", [0]),
        ("peak >= 8 GiB", None),
        ("peak < 8.5GiB and not macs == 1", [1, 3]),
        ("not peak < 6", [0, 3]),  # row 2 is unknown, not refused
        ("peak < 6 or macs > 5", [1, 2, 3]),
        ("not (peak < 6 and macs > 5)", [0, 3]),
        ("dtype == 'float32'", [1, 2]),
        ('dtype != "float32"', [0, 3]),
        ("conv1.filters * 2 + 1 > 5", [2, 3]),
        ("`conv1.filters` - 1 == 0", [0]),
        ("-macs < -9", [1, 2, 3]),
        ("macs * macs > 1e30", [2, 3]),
        ("macs / (conv1.filters - 2) > 1", [1, 2, 3]),
        ("1 < 2", [0, 1, 2, 3]),
        ("macs > 9M", [2, 3]),
    ],
)
def test_what_filters_mean(text: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="character 11"):
            rows(text)
    else:
        assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: it ends here"),
        ("macs", "character 1: a comparison"),
        ("macs <", "character 7: it ends here"),
        ("macs < 5 5", "character 10: '5' is not expected"),
        ("mac < 5", "character 1: there is no column 'mac'; did you mean 'macs'"),
        ("zzz < 5", "known: macs, peak"),
        ("macs = 5", "equality is =="),
        ("macs < 5QiB", "'QiB' is no unit"),
        ("__import__('os')", "functions cannot be called"),
        ("macs.__class__ == 1", "no column 'macs.__class__'"),
        ("macs[0] < 1", "character 5: '\\[' means nothing here"),
        ("macs < 1; peak < 2", "character 9: ';' means nothing"),
        ("lambda: 1", "character 7: ':' means nothing"),
        ("macs ** 9 < 1", "character 7: '\\*' is not expected"),
        ("dtype < 'a'", "text is compared by == and != only"),
        ("dtype == 1", "compares numbers, or text with text"),
        ("(macs < 1) == (macs < 2)", "compares numbers"),
        ("macs and peak", "'and' takes comparisons"),
        ("not macs", "'not' takes comparisons"),
        ("-dtype == 1", "'-' takes numbers"),
        ("dtype + 1 < 2", "'\\+' takes numbers"),
        ("(macs < 1", "'\\)' is missing"),
        ("(" * 60 + "macs < 1" + ")" * 60, "more than 50 brackets"),
        ("not " * 60 + "macs < 1", "more than 50 brackets"),
        ("-" * 60 + "macs < 1", "more than 50 brackets"),
        ("macs < 1" + " " * 3000, "longer than 2,000"),
        ("and < 1", "'and' is not expected"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rows(text)


numbers = st.integers(0, 50).map(str)
columns = st.sampled_from(["macs", "peak2"])
values = st.recursive(
    numbers | columns,
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({' '.join(t)})"),
    max_leaves=4,
)
compared = st.tuples(values, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), values).map(
    " ".join
)
filters = st.recursive(
    compared,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})"),
        inner.map(lambda t: f"(not {t})"),
    ),
    max_leaves=5,
)


@settings(max_examples=150)
@given(text=filters)
def test_agrees_with_python(text: str) -> None:
    table: dict[str, Any] = {"macs": [0, 3, 17, 40], "peak2": [9, 3, 0, 21]}
    where = parse(text, dict.fromkeys(table, "number"))
    passed = np.broadcast_to(where(lambda name: Values(np.array(table[name]))), 4)
    for row in range(4):
        names = {name: column[row] for name, column in table.items()}
        assert bool(passed[row]) == bool(eval(text, {}, names))


@settings(max_examples=200)
@given(text=st.text(alphabet="macs peakdty'\"()<>=!+-*/0123456789.eGiB&|~[]{}:;,_`\n", max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        found = rows(text)
    except UsageError:
        return
    assert set(found) <= {0, 1, 2, 3}
