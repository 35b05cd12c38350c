"""Media types, and which of them a request asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

JSON = "application/json"
CSV = "text/csv"
MARKDOWN = "text/markdown"
NDJSON = "application/x-ndjson"
PNG = "image/png"
NAMES = {JSON: "json", NDJSON: "ndjson", CSV: "csv", MARKDOWN: "markdown", PNG: "png"}


class Form(NamedTuple):
    """The form of an answer."""

    media: str
    exact: bool = False
    """Integers beyond 2^53 - 1 are welcome."""

    @property
    def name(self) -> str:
        return NAMES[self.media]


def negotiate(accept: str | None, offers: Sequence[str]) -> Form | None:
    """The offer that `Accept` likes best, the first of equals; None if it takes none."""
    if not accept or accept == "*/*":
        return Form(offers[0])
    best, found = 0.0, None
    for offer in offers:
        quality, precision, exact = 0.0, -1, False
        for part in accept.split(","):
            pattern, *given = (item.strip().lower() for item in part.split(";"))
            parameters = dict(item.partition("=")[::2] for item in given)
            weight = parse_quality(parameters.get("q", "1"))
            fits = {offer: 2, offer.split("/")[0] + "/*": 1, "*/*": 0}.get(pattern, -1)
            if fits > precision or (fits == precision >= 0 and weight > quality):
                quality, precision = weight, fits
                exact = parameters.get("integers") == "exact"
        if quality > best:
            best, found = quality, Form(offer, exact)
    return found


def parse_quality(text: str) -> float:
    """A weight from 0 to 1; what is none counts as 0."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0
