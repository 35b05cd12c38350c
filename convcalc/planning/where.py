"""The filter of a sweep: ``macs < 1e9 and training_peak < 8GiB``, parsed and never run as code.

    either     = both {"or" both}
    both       = inverted {"and" inverted}
    inverted   = "not" inverted | comparison
    comparison = sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)+
    sum        = term {("+" | "-") term}
    term       = factor {("*" | "/") factor}
    factor     = "-" factor | NUMBER [UNIT] | TEXT | COLUMN | "(" either ")"

A comparison has at least one sign, and ``1e6 <= macs < 1e9`` means both, as in mathematics.  Units
are those of bytes (8GiB, 500MB) and of counts (25M, 4.1G).  Columns hold numbers or text; a column
with text is compared by == and != only.  Where a value is not known no comparison holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convcalc.errors import UsageError
from convcalc.ops.base import suggestion
from convcalc.settings import COUNTS, UNITS

Array = npt.NDArray[Any]

#: Longer filters are not written by people.
MAX_LENGTH = 2000
#: Deeper nesting would exhaust Python's stack.
MAX_DEPTH = 50

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+(?:[eE][+-]?\d{1,3})?)
             (?P<unit>[A-Za-z]*)
          | (?P<name>[A-Za-z_][\w./-]*\.[A-Za-z_]\w*|[A-Za-z_]\w*)
          | (?P<text>"[^"]*"|'[^']*')
          | `(?P<quoted>[^`]+)`
          | (?P<sign><=|>=|==|!=|[-+*/()<>])
          | (?P<end>$))""",
    re.VERBOSE | re.ASCII,
)

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
}
WORDS = ("and", "or", "not")


class Values(NamedTuple):
    """A column's values and where they are known; None: everywhere."""

    values: Any
    known: Any = None


#: A column by its name: numbers, or text.
Lookup = Callable[[str], Values]
Evaluate = Callable[[Lookup], Values]


@dataclass(frozen=True, slots=True)
class Part:
    """What a piece of the text means."""

    kind: str
    """number, text or truth."""
    run: Evaluate
    at: int


@dataclass(frozen=True, slots=True)
class Where:
    """A filter that has been understood."""

    text: str
    columns: frozenset[str]
    """The columns that it reads."""
    run: Evaluate

    def __call__(self, lookup: Lookup) -> npt.NDArray[np.bool_]:
        """Which rows pass."""
        passed, known = self.result(lookup)
        return np.asarray(passed if known is None else passed & known, dtype=bool)

    def possible(self, lookup: Lookup) -> npt.NDArray[np.bool_]:
        """Which rows pass if what is unknown so far turns out well."""
        passed, known = self.result(lookup)
        return np.asarray(passed if known is None else passed | ~known, dtype=bool)

    def result(self, lookup: Lookup) -> Values:
        """Which rows pass, and for which that is known."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.run(lookup)


class Token(NamedTuple):
    """One word of a filter: number, name, text, sign or end."""

    kind: str
    text: str
    at: int
    number: int | float = 0


def parse(text: str, columns: Mapping[str, str]) -> Where:
    """The filter that `text` means; `columns` maps the known ones to "number" or "text".

    Raises:
        UsageError: it is no filter; the message says at which character.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the filter is longer than {MAX_LENGTH:,} characters")
    parser = Parser(text, columns)
    part = parser.either()
    if parser.next.kind != "end":
        raise parser.error(f"'{parser.next.text}' is not expected")
    if part.kind != "truth":
        raise parser.error("a comparison such as macs < 1e9 is needed", part.at)
    return Where(text, frozenset(parser.used), part.run)


class Parser:
    """Reads one filter from left to right."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self.text = text
        self.columns = columns
        self.used: set[str] = set()
        self.place = 0
        self.depth = 0
        self.next = self.token()

    def error(self, what: str, at: int | None = None) -> UsageError:
        """An error that says where."""
        column = (self.next.at if at is None else at) + 1
        return UsageError(f"the filter '{self.text}', character {column}: {what}")

    def token(self) -> Token:
        """The next word."""
        match = TOKEN.match(self.text, self.place)
        if match is None:
            rest = self.text[self.place :]
            at = self.place + len(rest) - len(rest.lstrip())
            sign = self.text[at]
            hint = "; equality is ==" if sign == "=" else ""
            raise UsageError(
                f"the filter '{self.text}', character {at + 1}: {sign!r} means nothing here{hint}"
            )
        self.place = match.end()
        kind = match.lastgroup or "end"
        if match["number"] is not None:
            at = match.start("number")
            return Token("number", match[0].strip(), at, self.number(match, at))
        if kind == "quoted":
            return Token("name", match["quoted"], match.start("quoted"))
        if kind == "text":
            return Token("text", match["text"][1:-1], match.start("text"))
        return Token(kind, match[kind], match.start(kind))

    def number(self, match: re.Match[str], at: int) -> int | float:
        """A number with its unit; integers stay integers."""
        unit = match["unit"].lower()
        factor = COUNTS.get(unit, UNITS.get(unit))
        if factor is None:
            units = "GiB, MB, M, G, ..."
            raise UsageError(
                f"the filter '{self.text}', character {at + 1}: "
                f"'{match['unit']}' is no unit ({units})"
            )
        value = Decimal(match["number"]) * factor
        if abs(value) < 2**62 and value == value.to_integral_value():
            return int(value)
        return float(value)

    def take(self) -> Token:
        """The next word, which is now read."""
        taken, self.next = self.next, self.token()
        return taken

    def word(self, name: str) -> bool:
        """Whether the next word is `name`."""
        return self.next.kind == "name" and self.next.text == name

    def either(self) -> Part:
        """Comparisons joined by "or"."""
        return self.joined("or", self.both, np.logical_or)

    def both(self) -> Part:
        """Comparisons joined by "and"."""
        return self.joined("and", self.inverted, np.logical_and)

    def joined(self, word: str, read: Callable[[], Part], join: Callable[..., Any]) -> Part:
        """What `read` reads, as often as `word` stands behind it."""
        left = read()
        while self.word(word):
            at = self.take().at
            right = read()
            self.need(left, "truth", word, at)
            self.need(right, "truth", word, at)
            left = Part("truth", truths(join, left.run, right.run), left.at)
        return left

    def inverted(self) -> Part:
        """A comparison with or without "not"."""
        if not self.word("not"):
            return self.comparison()
        at = self.take().at
        self.deeper()
        part = self.inverted()
        self.depth -= 1
        self.need(part, "truth", "not", at)
        inner = part.run

        def run(lookup: Lookup) -> Values:
            passed, known = inner(lookup)
            return Values(np.logical_not(passed), known)

        return Part("truth", run, at)

    def comparison(self) -> Part:
        """One value, or two and more with signs between them."""
        left = self.sum()
        found: Part | None = None
        while self.next.kind == "sign" and self.next.text in COMPARE:
            sign = self.take()
            right = self.sum()
            if "truth" in (left.kind, right.kind) or left.kind != right.kind:
                raise self.error(f"'{sign.text}' compares numbers, or text with text", sign.at)
            if left.kind == "text" and sign.text not in ("==", "!="):
                raise self.error("text is compared by == and != only", sign.at)
            one = Part("truth", applied(COMPARE[sign.text], left.run, right.run), left.at)
            found = (
                one
                if found is None
                else Part("truth", truths(np.logical_and, found.run, one.run), found.at)
            )
            left = right
        return left if found is None else found

    def sum(self) -> Part:
        """Terms that are added or subtracted."""
        return self.chain(("+", "-"), self.term)

    def term(self) -> Part:
        """Factors that are multiplied or divided."""
        return self.chain(("*", "/"), self.factor)

    def chain(self, signs: tuple[str, ...], read: Callable[[], Part]) -> Part:
        """What `read` reads, joined by `signs`."""
        left = read()
        while self.next.kind == "sign" and self.next.text in signs:
            sign = self.take()
            right = read()
            self.need(left, "number", sign.text, sign.at)
            self.need(right, "number", sign.text, sign.at)
            run = applied(ARITHMETIC[sign.text], as_float(left.run), right.run)
            left = Part("number", run, left.at)
        return left

    def factor(self) -> Part:
        """A number, a column, text, or something in brackets."""
        token = self.next
        if token.kind == "number":
            self.take()
            return constant("number", token.number, token.at)
        if token.kind == "text":
            self.take()
            return constant("text", token.text, token.at)
        if token.kind == "name" and token.text not in WORDS:
            return self.column(self.take())
        if token.kind == "sign" and token.text in ("(", "-"):
            self.take()
            self.deeper()
            if token.text == "-":
                part = self.factor()
                self.need(part, "number", "-", token.at)
                part = Part("number", applied(np.negative, part.run), token.at)
            else:
                part = self.either()
                if self.next.text != ")" or self.next.kind != "sign":
                    raise self.error("')' is missing")
                self.take()
            self.depth -= 1
            return part
        said = "it ends here" if token.kind == "end" else f"'{token.text}' is not expected"
        raise self.error(f"{said}; a number or a column is needed")

    def column(self, token: Token) -> Part:
        """A column by its name."""
        name = token.text
        if self.next.kind == "sign" and self.next.text == "(":
            raise self.error("functions cannot be called", token.at)
        if name not in self.columns:
            hint = suggestion(name, self.columns) or f"; known: {', '.join(self.columns)}"
            raise self.error(f"there is no column '{name}'{hint}", token.at)
        self.used.add(name)
        return Part(self.columns[name], lambda lookup: lookup(name), token.at)

    def need(self, part: Part, kind: str, sign: str, at: int) -> None:
        """Refuse a part that `sign` cannot take."""
        if part.kind != kind:
            wanted = {"truth": "comparisons", "number": "numbers"}[kind]
            raise self.error(f"'{sign}' takes {wanted}", at)

    def deeper(self) -> None:
        """One more bracket or sign is open."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} brackets within each other")


def constant(kind: str, value: object, at: int) -> Part:
    """A value that stands in the text."""
    return Part(kind, lambda lookup: Values(value), at)


def as_float(run: Evaluate) -> Evaluate:
    """The same numbers as floats: sums and products of int64 could wrap around."""
    return lambda lookup: (lambda v: Values(np.asarray(v.values, dtype=float), v.known))(
        run(lookup)
    )


def applied(function: Callable[..., Any], *parts: Evaluate) -> Evaluate:
    """A function of values; the result is known where all of them are."""

    def run(lookup: Lookup) -> Values:
        found = [part(lookup) for part in parts]
        known: Any = None
        for value in found:
            if value.known is not None:
                known = value.known if known is None else known & value.known
        return Values(function(*(value.values for value in found)), known)

    return run


def truths(join: Callable[..., Any], left: Evaluate, right: Evaluate) -> Evaluate:
    """Two comparisons together: an unknown one is false, unless the other decides."""

    def run(lookup: Lookup) -> Values:
        sides = [left(lookup), right(lookup)]
        if all(known is None for _, known in sides):
            return Values(join(sides[0].values, sides[1].values))
        sure = join(*(v if k is None else v & k for v, k in sides))
        maybe = join(*(v if k is None else v | ~k for v, k in sides))
        return Values(sure, sure == maybe)

    return run
