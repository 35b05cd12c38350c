"""The search that finds the largest number whose need fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from convcalc.planning.search import largest


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.integers(0, 10**4),
    st.integers(0, 10**13),
    st.integers(1, 10**9),
    st.lists(st.integers(1, 10**8), max_size=5),
)
def test_of_a_line_with_rounding(
    fixed: int, slope: int, rounding: int, memory: int, start: int, known: list[int]
) -> None:
    def need(number: int) -> int:
        exact = fixed + slope * number
        return exact + (number * 2_654_435_761 % (rounding + 1) if rounding < slope else 0)

    asked = []

    def guess(number: int) -> int:
        asked.append(number)
        return max(memory - fixed, 0) // slope

    found = largest(need, memory, guess, start, known)
    assert found == 0 or need(found) <= memory
    assert need(found + 1) > memory
    assert len(asked) < 80


@given(st.integers(1, 10**12), st.integers(-(10**13), 10**13), st.integers(1, 10**6))
def test_a_guess_that_is_no_help_changes_only_the_steps(
    answer: int, nonsense: int, start: int
) -> None:
    calls = []

    def need(number: int) -> int:
        calls.append(number)
        return number

    assert largest(need, answer, lambda number: nonsense, start) == answer
    assert len(calls) < 200


def test_a_good_guess_takes_three_looks() -> None:
    calls = []

    def need(number: int) -> int:
        calls.append(number)
        return 5 * number

    assert largest(need, 5003, lambda number: 1000) == 1000
    assert calls == [1, 1000, 1001]


def test_where_needs_do_not_grow_the_answer_is_still_one() -> None:
    needs = {1: 1, 2: 9, 3: 2, 4: 8, 5: 20}
    found = largest(lambda n: needs.get(n, 100), 8, lambda n: n + 1)
    assert needs[found] <= 8 < needs.get(found + 1, 100)
