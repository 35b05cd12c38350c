"""Integer arithmetic that takes Python integers and NumPy int64 arrays alike.

Every formula in `convcalc.ops` is written with these and with ``+ - * //`` only, so that a sweep
over a million configurations runs the code that one layer runs.  NumPy is never imported here:
whoever passes an array has it already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import reduce
from math import prod
from typing import Any

INT64_MAX = 2**63 - 1


def is_array(value: Any) -> bool:
    """Whether `value` is a NumPy array (without importing NumPy)."""
    return type(value) is not int and hasattr(value, "dtype")


def ceil_div(a: Any, b: Any) -> Any:
    """``ceil(a / b)`` for integers, exactly."""
    return -(-a // b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two sizes, element by element for arrays."""
    # Most sizes are integers, and a look at their type is quicker than a call.
    if (type(a) is not int or type(b) is not int) and (is_array(a) or is_array(b)):
        return sys.modules["numpy"].maximum(a, b)
    return a if a >= b else b


def holds_everywhere(condition: Any) -> bool:
    """Whether a comparison is true for every configuration."""
    if condition is True:
        return True
    return bool(condition.all()) if hasattr(condition, "all") else bool(condition)


def product(factors: Iterable[Any]) -> Any:
    """The product of sizes; 1 for none.

    Unlike `math.prod` it never lets an int64 array wrap around in silence: factors that are
    arrays are multiplied in int64 only if their largest values cannot overflow.

    Raises:
        OverflowError: the product of arrays does not fit int64.
    """
    found = tuple(factors)
    for factor in found:
        if type(factor) is not int:
            return reduce(times, found, 1)
    return prod(found)


def times(a: Any, b: Any) -> Any:
    """``a * b``, an error instead of a wrapped int64.  Python integers never wrap."""
    if (is_array(a) or is_array(b)) and _largest(a) * _largest(b) > INT64_MAX:
        raise OverflowError("a size exceeds 2^63 - 1")
    return a * b


def total(terms: Iterable[Any]) -> Any:
    """The sum of counts that are not negative, an error instead of a wrapped int64.

    Raises:
        OverflowError: the sum of arrays does not fit int64.
    """
    found: Any = 0
    for term in terms:
        if (
            (type(found) is not int or type(term) is not int)
            and (is_array(found) or is_array(term))
            and _largest(found) + _largest(term) > INT64_MAX
        ):
            raise OverflowError("a size exceeds 2^63 - 1")
        found = found + term
    return found


def _largest(value: Any) -> int:
    if is_array(value):
        return int(abs(value).max()) if value.size else 0
    size: int = abs(value)
    return size
