"""Error messages without what was sent: they say where it was instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

#: In quotes: our own words, or something that was sent.
QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")

#: The command line's options have the names of our fields.
OPTION = re.compile(r"--([a-z]+)")

#: Shorter pieces of input are no information, and part of every sentence.
LEAST = 4

#: Longest message that is told.
MOST = 500


def masked(message: str, given: dict[str, Any]) -> str:
    """`message` with what comes from `given` replaced: a layer by its place, the rest by "…".

    The uppermost keys of `given` are fields of ours.
    """
    message = OPTION.sub(r"'\1'", " ".join(message.split()))
    ours = vocabulary() | set(given)
    places = layers(given)

    def stand_in(match: re.Match[str]) -> str:
        text = match[1] if match[1] is not None else match[2]
        if text in ours:
            return match[0]
        return places.get(text, "'…'")

    message = QUOTED.sub(stand_in, message)
    # What a message takes over without quotes; the longest first, for one may hold another.
    found = {text for value in given.values() for text in texts(value) if text in message}
    for text in sorted(found - ours, key=len, reverse=True):
        # Whole words: "relu" was sent, and "prelu" is proposed.
        message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", message)
    return message[:MOST]


def layers(given: dict[str, Any]) -> dict[str, str]:
    """The place of each named layer of the network, or networks, that were sent."""
    found: dict[str, str] = {}
    for key in ("network", "left", "right"):
        config = given.get(key)
        if not isinstance(config, dict):
            continue
        inner = config.get("config")
        entries = config.get("layers") or (inner.get("layers") if isinstance(inner, dict) else None)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            name = entry.get("name") if isinstance(entry, dict) else None
            if isinstance(name, str):
                found.setdefault(name, f"layers[{index}]")
    return found


def texts(value: Any) -> Iterator[str]:
    """Every text in some JSON that is long enough to be told apart."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack += [*part, *part.values()]
        elif isinstance(part, list):
            stack += part
        elif isinstance(part, str) and len(part) >= LEAST:
            yield part


@cache
def vocabulary() -> frozenset[str]:
    """Words that are ours whoever says them."""
    from convcalc import zoo
    from convcalc.analysis.conventions import CONVENTIONS
    from convcalc.imaging import FILTERS, SAMPLES
    from convcalc.memory.job import LOSSES, MODES
    from convcalc.ops import operators
    from convcalc.readers import keras, spec
    from convcalc.settings import DEVICES, DTYPES, ENGINES, OPTIMIZERS

    words = {
        *zoo.index(),
        *operators(),
        *CONVENTIONS,
        *FILTERS,
        *SAMPLES,
        *LOSSES,
        *MODES,
        *keras.LAYERS,
        *spec.NETWORK_KEYS,
        *spec.INPUT_KEYS,
        *spec.LAYER_KEYS,
        *DEVICES,
        *DTYPES,
        *ENGINES,
        *OPTIMIZERS,
        *("the upload", "class_name", "config.json", "same", "valid", "causal", "convcalc"),
        *("network", "layers", "reader", "operator", "memory", "kernel", "stride", "padding"),
    }
    return frozenset(words)
