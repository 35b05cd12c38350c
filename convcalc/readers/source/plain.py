"""What may be done with plain values: numbers, texts, lists, mappings.

Each function here bounds what it makes, so that no short text can make a large value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from convcalc.errors import ModelError

MAX_INT = 2**63 - 1
MAX_LENGTH = 10_000
MAX_TEXT = 65_536

#: Floating-point and integer formats as people write them; a width of 10^9 is not among them.
FORMAT = re.compile(r"[<>^]?[-+ ]?0?\d{0,2},?(\.\d{1,2})?[dfegxs%]?")
PERCENT = re.compile(r"%(?:\([A-Za-z_]\w*\))?[-+0 ]?\d{0,2}(?:\.\d{1,2})?[sdifgr%]")


def checked(value: Any) -> Any:
    """`value` if it is of bearable size.

    Raises:
        ModelError: it is not.
    """
    kind = type(value)
    if kind is int and not -MAX_INT <= value <= MAX_INT:
        raise ModelError("a number leaves 64 bits")
    if kind is str and len(value) > MAX_TEXT:
        raise ModelError(f"a text is longer than {MAX_TEXT:,} characters")
    if kind in (list, tuple, dict, set) and len(value) > MAX_LENGTH:
        raise ModelError(f"a list is longer than {MAX_LENGTH:,} items")
    if kind is complex:
        raise ModelError("complex numbers are not supported")
    return value


def weight(value: Any) -> int:
    """Steps that copying a value costs."""
    kind = type(value)
    if kind is str:
        return len(value) // 64
    return len(value) if kind in (list, tuple, dict, set) else 0


def flat(value: Any) -> bool:
    """Whether comparing and showing a value is cheap: a scalar, or a short list of them."""
    kind = type(value)
    if kind in (list, tuple, set):
        return len(value) <= 1000 and all(
            scalar(item) and (type(item) is not str or len(item) <= 100) for item in value
        )
    return kind in (range, slice) or scalar(value)


def scalar(value: Any) -> bool:
    return value is None or value is ... or type(value) in (int, float, str, bool)


def power(a: Any, b: Any) -> Any:
    if type(a) in (int, bool) and type(b) in (int, bool) and a.bit_length() * max(b, 0) > 128:
        raise ModelError("a number leaves 64 bits")
    return a**b


def shift(a: Any, b: Any) -> Any:
    if type(b) is not int or not 0 <= b <= 63:
        raise ModelError("a shift is by 0 to 63 bits")
    return a << b


def times(a: Any, b: Any) -> Any:
    for value, count in ((a, b), (b, a)):
        if type(value) in (list, tuple, str):
            if type(count) not in (int, bool):
                raise ModelError(f"cannot multiply a list or text by {shown(count)}")
            most = MAX_TEXT if type(value) is str else MAX_LENGTH
            if len(value) * count > most:
                raise ModelError(f"a list or text is longer than {most:,}")
    return a * b


def modulo(a: Any, b: Any) -> Any:
    if type(a) is not str:
        return a % b
    if PERCENT.sub("", a).count("%"):
        raise ModelError(f"the format {shown(a)} is not supported")
    if type(b) is dict:
        values: Iterable[Any] = b.values()
    else:
        values = b if type(b) is tuple else (b,)
    if not all(scalar(value) for value in values):
        raise ModelError("only numbers and texts can be formatted")
    return a % b


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": times,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": modulo,
    "**": power,
    "<<": shift,
    ">>": lambda a, b: a >> b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}

UNARY: dict[str, Callable[[Any], Any]] = {"-": lambda a: -a, "+": lambda a: +a, "~": lambda a: ~a}


def equal(a: Any, b: Any) -> bool:
    """``a == b`` for scalars and lists of scalars."""
    if a is b:
        return True
    if flat(a) and flat(b):
        return bool(a == b)
    if type(a) in (list, tuple, dict) and type(b) in (list, tuple, dict):
        raise ModelError("comparing nested lists is not supported")
    return False


def walk(item: Any, leaf: type) -> Iterator[Any]:
    """The objects of a class in lists, tuples and mappings, in order.

    Raises:
        ModelError: there is too much to look at.
    """
    stack, seen = [item], 0
    while stack:
        part = stack.pop()
        seen += 1
        if seen > 2 * MAX_LENGTH:
            raise ModelError("lists within lists are too long")
        if isinstance(part, leaf):
            yield part
        elif isinstance(part, (list, tuple)):
            stack.extend(reversed(part))
        elif isinstance(part, dict):
            stack.extend(part[key] for key in reversed(part))


def shown(value: Any) -> str:
    """A value for a message, or as ``str()`` gives it."""
    if type(value) is str:
        return repr(value[:60])
    if flat(value) and (scalar(value) or weight(value) <= 20):
        return repr(value)[:200]
    return f"a {type(value).__name__}" if isinstance(value, (list, tuple, dict)) else "an object"


def as_text(value: Any) -> str:
    """``str(value)`` of numbers, texts and short lists; anything else only by its kind."""
    if type(value) is str:
        return value
    long = type(value) in (list, tuple, set) and len(value) > 20
    return str(value) if flat(value) and not long else shown(value)


def formatted(value: Any, spec: str) -> str:
    """``format(value, spec)``."""
    if not spec:
        return as_text(value)
    if not scalar(value) or not FORMAT.fullmatch(spec):
        raise ModelError(f"the format {shown(spec)} is not supported")
    return format(value, spec)


def format_text(text: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """``text.format(...)`` with names and numbers, without attributes and indices."""
    counter = iter(range(len(args) + 1))

    def field(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        key, spec = match[1], match[2] or ""
        value = kwargs[key] if key and not key.isdigit() else args[int(key or next(counter))]
        return formatted(value, spec)

    return re.sub(r"\{\{|\}\}|\{(\w*)(?::([^{}]*))?\}", field, text)


def replaced(text: str, old: str, new: str) -> str:
    if len(text) + text.count(old) * len(new) > MAX_TEXT:
        raise ModelError(f"a text is longer than {MAX_TEXT:,} characters")
    return text.replace(old, new)


def joined(text: str, parts: Iterable[str]) -> str:
    found = list(parts)
    if sum(map(len, found)) + len(text) * len(found) > MAX_TEXT:
        raise ModelError(f"a text is longer than {MAX_TEXT:,} characters")
    return text.join(found)


#: Methods of plain values that may be called, each by a function of ours or a harmless one.
METHODS: dict[type, dict[str, Callable[..., Any]]] = {
    str: {
        "lower": str.lower, "upper": str.upper, "strip": str.strip, "title": str.title,
        "startswith": str.startswith, "endswith": str.endswith, "split": str.split,
        "isdigit": str.isdigit, "join": joined, "replace": replaced,
        "format": lambda text, *args, **kwargs: format_text(text, args, kwargs),
    },
    list: {
        "append": list.append, "extend": lambda a, b: a.extend(b), "insert": list.insert,
        "pop": list.pop, "copy": list.copy, "reverse": list.reverse, "clear": list.clear,
    },
    tuple: {"as_list": list},
    dict: {
        "items": lambda d: list(d.items()), "keys": lambda d: list(d), "get": dict.get,
        "values": lambda d: list(d.values()), "update": dict.update, "copy": dict.copy,
        "pop": dict.pop, "setdefault": dict.setdefault,
    },
    set: {"add": set.add},
    int: {"bit_length": int.bit_length},
    float: {"is_integer": float.is_integer},
}  # fmt: skip

#: Numbers of `math` and `numpy` that networks are built from.
NUMERIC: dict[str, Callable[..., Any]] = {
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "sqrt", "log", "log2")},
    "numpy.ceil": lambda x: float(math.ceil(x)),
    "numpy.floor": lambda x: float(math.floor(x)),
    "numpy.sqrt": math.sqrt,
    "numpy.log2": math.log2,
    "numpy.arange": range,
    **{f"numpy.{name}": lambda x: product(x) for name in ("prod", "product")},
    "math.prod": lambda x: product(x),
    "numpy.linspace": lambda a, b, n: linspace(a, b, n),
    **dict.fromkeys(("numpy.int32", "numpy.int64"), int),
    **dict.fromkeys(("numpy.float32", "numpy.float64"), float),
}

CONSTANTS = {"math.pi": math.pi, "numpy.pi": math.pi, "numpy.newaxis": None, "math.inf": math.inf}


def product(values: Any) -> Any:
    total: Any = 1
    for value in [values] if scalar(values) else values:
        total = checked(total * value)
    return total


def linspace(first: float, last: float, count: int) -> list[float]:
    if not 0 <= count <= MAX_LENGTH:
        raise ModelError(f"a list is longer than {MAX_LENGTH:,} items")
    step = (last - first) / max(count - 1, 1)
    return [first + step * i for i in range(count)]


def bound_names(args: list[Any], kwargs: dict[str, Any], signature: str) -> dict[str, Any]:
    """Arguments by name.

    Raises:
        ModelError: too many, or one given twice.
    """
    positions = signature.split()
    if len(args) > len(positions):
        raise ModelError(
            f"{len(args)} arguments by position, where {len(positions)} are known "
            f"({', '.join(positions) or 'none'}); give them by name"
        )
    given = dict(zip(positions, args, strict=False))
    for key, value in kwargs.items():
        if key in given:
            raise ModelError(f"'{key}' is given twice")
        given[key] = value
    return given
