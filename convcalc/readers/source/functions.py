"""Python's own functions, as far as they are harmless: what needs no import."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convcalc.errors import ModelError
from convcalc.readers.source import plain
from convcalc.readers.source.values import (
    External,
    Ignored,
    Instance,
    Super,
    Thing,
    UserClass,
    hashed,
)

if TYPE_CHECKING:
    from convcalc.readers.source.interpreter import Run


class Builtin(Thing):
    """One of Python's own functions, as far as it is harmless."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.what = f"'{name}'"

    def attribute(self, name: str, run: Run) -> Any:
        if name == "__name__":
            return self.name
        return super().attribute(name, run)

    def item(self, key: Any, run: Run) -> Any:
        return Ignored(self.name)  # list[int] in an annotation

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        return Ignored(self.name)  # int | None in an annotation

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        if self.name == "super":
            return super_(args, run)
        ignored = [a for a in args if isinstance(a, (Ignored, External))]
        if ignored and self.name not in ("print", "isinstance"):
            return Ignored(ignored[0].what.strip("'"))
        return plain.checked(BUILTINS[self.name](run, *args, **kwargs))


def super_(args: list[Any], run: Run) -> Super:
    owner = run.scope.owner
    if len(args) == 2 and isinstance(args[0], UserClass) and isinstance(args[1], Instance):
        owner = (args[0], args[1])
    if owner is None:
        raise ModelError("super() outside of a method")
    return Super(*owner)


def length(run: Run, value: Any) -> int:
    return len(run.values(value)) if isinstance(value, Thing) else len(value)


def integer(run: Run, value: Any = 0) -> int:
    if type(value) is str and len(value) > 20:
        raise ModelError("a number leaves 64 bits")
    return int(value)


def ordered(run: Run, value: Any, key: Any = None, reverse: bool = False) -> list[Any]:
    items = list(run.values(value))
    if key is not None or not all(plain.flat(item) for item in items):
        raise ModelError("sorted() takes numbers and texts, without a key")
    return sorted(items, reverse=bool(reverse))


def extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(run: Run, *args: Any, default: Any = None) -> Any:
        items = list(run.values(args[0])) if len(args) == 1 else list(args)
        if not all(plain.flat(item) for item in items):
            raise ModelError("min() and max() take numbers and texts")
        return function(items) if items or default is None else default

    return call


def summed(run: Run, values: Any, start: Any = 0) -> Any:
    total = start
    for value in run.values(values):
        total = run.binary("+", total, value)
    return total


def is_instance(run: Run, value: Any, kinds: Any) -> Any:
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if isinstance(kind, Builtin):
            names = [cls.__name__ for cls in type(value).__mro__]
            if not isinstance(value, Thing) and kind.name in names:
                return True
        elif isinstance(kind, UserClass):
            if isinstance(value, Instance) and kind in value.cls.lineage():
                return True
        elif isinstance(kind, External):
            if isinstance(value, Ignored):
                return value
            if getattr(value, "type", None) == kind.path.rpartition(".")[2]:
                return True
    return False


def rounded(run: Run, value: Any, digits: int | None = None) -> Any:
    if digits is not None and not -20 <= digits <= 20:
        raise ModelError("round() takes up to 20 digits")
    return round(value, digits)


def mapped(run: Run, function: Any, *values: Any) -> list[Any]:
    if not isinstance(function, Thing):
        raise ModelError(f"{plain.shown(function)} cannot be called")
    rows = zip(*(run.values(v) for v in values), strict=False)
    return [function.call(list(row), {}, run) for row in rows]


def zipped(run: Run, *values: Any, strict: bool = False) -> list[Any]:
    return list(zip(*(run.values(v) for v in values), strict=bool(strict)))


def mapping(run: Run, value: Any = (), **kwargs: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        run.step(len(value))
        return {**value, **kwargs}
    pairs = [tuple(run.values(pair)) for pair in run.values(value)]
    hashed([key for key, _ in pairs])
    return {**dict(pairs), **kwargs}


BUILTINS: dict[str, Callable[..., Any]] = {
    "print": lambda run, *args, **kwargs: None,
    "range": lambda run, *args: range(*args),
    "len": length,
    "int": integer,
    "float": lambda run, value=0.0: float(value),
    "str": lambda run, value="": plain.as_text(value),
    "bool": lambda run, value=False: run.truth(value),
    "list": lambda run, value=(): list(run.values(value)),
    "tuple": lambda run, value=(): tuple(run.values(value)),
    "set": lambda run, value=(): hashed(list(run.values(value))),
    "dict": mapping,
    "zip": zipped,
    "enumerate": lambda run, value, start=0: list(enumerate(run.values(value), start)),
    "reversed": lambda run, value: list(run.values(value))[::-1],
    "sorted": ordered,
    "sum": summed,
    "min": extreme(min),
    "max": extreme(max),
    "abs": lambda run, value: abs(value),
    "round": rounded,
    "pow": lambda run, a, b: plain.power(a, b),
    "divmod": lambda run, a, b: divmod(a, b),
    "any": lambda run, values: any(map(run.truth, run.values(values))),
    "all": lambda run, values: all(map(run.truth, run.values(values))),
    "map": mapped,
    "isinstance": is_instance,
    "callable": lambda run, value: isinstance(value, Thing),
    "object": lambda run: Ignored("object"),
    "type": lambda run, value: Ignored("type"),
}

#: What hostile text tries first; named so that the error says why.
REFUSED = frozenset(
    {
        "open", "exec", "eval", "compile", "__import__", "getattr", "setattr", "delattr", "globals",
        "locals", "vars", "dir", "input", "breakpoint", "exit", "quit", "help", "memoryview",
        "__builtins__", "__loader__", "__spec__", "id", "hash", "iter", "next",
    }
)  # fmt: skip
