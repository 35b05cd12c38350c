"""Lists and ranges in text: ``1:256``, ``128:512:32``, ``1,2,4,8``; ends are part of a range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from convcalc.errors import UsageError

#: More values on one axis are a mistake.
MAX_VALUES = 10_000_000

NUMBER = r"\d{1,18}(?:\.\d{1,9})?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(?::({NUMBER}))?")


def items(text: str, what: str) -> list[str]:
    """The parts between commas.

    Raises:
        UsageError: one of them is empty.
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise UsageError(f"{what} '{text}' has an empty place")
    return found


def span(text: str, what: str) -> tuple[Decimal, Decimal, int] | None:
    """First value, step and number of values of a range; None if the text is no range.

    Raises:
        UsageError: it has no end, or no values, or too many.
    """
    if ":" not in text:
        return None
    match = RANGE.fullmatch(text)
    if match is None:
        ends = re.fullmatch(rf"{NUMBER}:(:{NUMBER})?", text)
        hint = "has no end" if ends else "is no range"
        raise UsageError(
            f"{what} '{text}' {hint}; write FIRST:LAST or FIRST:LAST:STEP, as in 1:256"
        )
    first, last, step = (Decimal(number or 1) for number in match.groups())
    if step == 0 or last < first:
        raise UsageError(f"{what} '{text}' holds no values")
    length = int((last - first) / step) + 1
    if length > MAX_VALUES:
        raise UsageError(f"{what} '{text}' holds {length:,} values; at most {MAX_VALUES:,}")
    return first, step, length


def integers(text: str, what: str) -> Sequence[int]:
    """Whole numbers: a range as such, so that a long one needs no memory.

    Raises:
        UsageError: it is something else.
    """
    found: list[int] = []
    parts = items(text, what)
    for part in parts:
        spanned = span(part, what)
        if spanned is not None:
            first, step, length = spanned
            if first % 1 or step % 1:
                raise UsageError(f"{what} '{part}' must be whole numbers")
            numbers = range(int(first), int(first + step * (length - 1)) + 1, int(step))
            if len(parts) == 1:
                return numbers
            found += numbers
        elif re.fullmatch(r"\d{1,18}", part):
            found.append(int(part))
        else:
            raise UsageError(f"{what} '{part}' must be a whole number, or a range such as 1:256")
    return found


def decimals(text: str, what: str) -> list[float]:
    """Numbers: 0.25:1:0.25 or 0.5,1.

    Raises:
        UsageError: it is something else.
    """
    found: list[float] = []
    for part in items(text, what):
        spanned = span(part, what)
        if spanned is not None:
            first, step, length = spanned
            found += [float(first + step * place) for place in range(length)]
        elif re.fullmatch(NUMBER, part):
            found.append(float(part))
        else:
            raise UsageError(f"{what} '{part}' must be a number, or a range such as 0.25:1:0.25")
    return found


def values(text: str, what: str) -> list[Any]:
    """Values of an attribute: whole numbers and ranges, 3x5, true, or a word such as same.

    Raises:
        UsageError: it is something else.
    """
    found: list[Any] = []
    for part in items(text, what):
        if re.fullmatch(r"\d+(x\d+)+", part):
            found.append(tuple(map(int, part.split("x"))))
        elif part in ("true", "false"):
            found.append(part == "true")
        elif re.fullmatch(r"[A-Za-z_]\w*", part):
            found.append(part)
        elif re.fullmatch(r"\d+\.\d+", part):
            found.append(float(part))
        else:
            found += integers(part, what)
    return found
