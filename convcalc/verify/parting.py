"""Where a measured and a predicted timeline part: what each layer holds at the peak."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from convcalc.verify.request import Event


class Held(NamedTuple):
    """What one op holds at the measured peak."""

    op: str
    kind: str
    bytes: int


class Part(NamedTuple):
    """One layer at both peaks, without what rests there between steps."""

    layer: str
    predicted: int | None
    measured: int


def at_peak(events: Sequence[Event]) -> list[Held]:
    """What has been allocated during the step and is there at its peak, largest first."""
    if not events:
        return []
    peak = max(range(len(events)), key=lambda i: events[i].bytes)
    held: Counter[tuple[str, str]] = Counter()
    for event in events[: peak + 1]:
        held[event.op, event.kind] += event.delta
    # A release of what was there before the step has no name, and is no holding.
    found = [Held(op, kind, size) for (op, kind), size in held.items() if size > 0]
    return sorted(found, key=lambda item: -item.bytes)


def layer_of(op: str, layers: Collection[str]) -> str:
    """The layer that an op's name tells of; else its first part ("adam", "compile_loss").

    TensorFlow's names are paths, model/layer/op, under gradient_tape/ in the backward pass; a layer
    that is called again gets "_1" appended.
    """
    parts = op.split("/")
    for part in parts:
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in layers:
                return name
    return parts[0]


def parts(
    events: Sequence[Event], layers: Collection[str], predicted: Mapping[str, int] | None
) -> list[Part]:
    """Both timelines by layer, the largest difference first; `predicted` None: there is none."""
    measured: dict[str, int] = defaultdict(int)
    for item in at_peak(events):
        measured[layer_of(item.op, layers)] += item.bytes
    names = {**measured, **(predicted or {})}
    found = [
        Part(name, None if predicted is None else predicted.get(name, 0), measured.get(name, 0))
        for name in names
        if measured.get(name) or (predicted or {}).get(name)
    ]
    return sorted(found, key=lambda part: -abs(part.measured - (part.predicted or 0)))
