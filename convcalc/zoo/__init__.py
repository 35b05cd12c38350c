"""Networks that everybody knows, as compressed specs; `scripts/make_zoo.py` made them."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources
from typing import Any

from convcalc.network import Network


@cache
def index() -> dict[str, dict[str, Any]]:
    """What is known of each network without loading it: title, source, input, params, macs."""
    text = resources.files(__name__).joinpath("index.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def spec(name: str) -> dict[str, Any]:
    """The spec of a network of the zoo.

    Raises:
        KeyError: there is no such network.
    """
    entry = resources.files(__name__).joinpath(f"{name}.json.gz")
    if name not in index():
        raise KeyError(name)
    found: dict[str, Any] = json.loads(gzip.decompress(entry.read_bytes()))
    return found


def load(name: str) -> Network:
    """The network of that name.

    Raises:
        KeyError: there is no such network.
    """
    from convcalc.readers.spec import read_spec

    return read_spec(spec(name))
