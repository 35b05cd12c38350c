"""How far a prediction may be off: quantiles of measured over predicted, from recorded runs.

`residuals.json` is made from `benchmarks/memory/*.jsonl` by `python -m benchmarks.memory.score`,
from networks that no engine was tuned on.  Where a device or a dtype has no records, the interval
of the nearest that has some is widened.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

from convcalc.memory.job import NONE, Job

#: How much further each bound is from 1 where nothing was measured for a device, or for a dtype.
UNMEASURED_DEVICE = 2.0
UNMEASURED_DTYPE = 1.5
#: And at least by this much: a perfect score on one device says little about another.
LEAST_UNMEASURED = 0.05
#: The same for checkpointing and accumulated gradients where only a few networks were measured.
LEAST_REMAT = 0.15
#: The interval of an engine without any record.
UNKNOWN = (0.7, 1.4)


@cache
def residuals() -> dict[str, Any]:
    """Records by "engine device mode": count, low, high (measured over predicted), dtypes."""
    text = files("convcalc.memory").joinpath("residuals.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


#: Engines that share a compiler: what was measured of one says most of the other.
SIBLINGS = {"tensorflow-xla": "jax", "jax": "tensorflow-xla"}


def ratios(engine: str, job: Job) -> tuple[float, float]:
    """The least and the most that a measurement is of a prediction, nine times in ten."""
    known = residuals()
    other = "cpu" if job.device == "gpu" else "gpu"
    sibling = SIBLINGS.get(engine, engine)
    for name, device in ((engine, job.device), (sibling, job.device), (engine, other)):
        entry = known.get(f"{name} {device} {job.mode}")
        if entry is None:
            continue
        measured = (name, device) == (engine, job.device)
        factor = 1.0 if measured else UNMEASURED_DEVICE
        if job.dtype not in entry["dtypes"]:
            factor *= UNMEASURED_DTYPE
        least = LEAST_UNMEASURED if factor > 1 else 0.0
        if name != "torch" and (job.remat != NONE or job.accumulate):
            factor *= UNMEASURED_DTYPE
            least = LEAST_REMAT
        low = 1 - max((1 - entry["low"]) * factor, least)
        high = 1 + max((entry["high"] - 1) * factor, least)
        return max(low, 0.0), high
    return UNKNOWN


def interval(engine: str, job: Job, peak: int, floor: int) -> tuple[int, int]:
    """The 90 % interval of a predicted peak; never below what is certain to be alive at once."""
    low, high = ratios(engine, job)
    return max(math.floor(peak * low), min(floor, peak)), math.ceil(peak * high)


def bounds(found: list[float]) -> tuple[float, float]:
    """Bounds that hold the next ratio with 90 % (split conformal: order statistics of n + 1).

    They always hold 1: a prediction lies within its own interval.
    """
    ordered = sorted(found)
    n = len(ordered)
    below = math.floor(0.05 * (n + 1)) - 1
    above = math.ceil(0.95 * (n + 1)) - 1
    low = ordered[below] if below >= 0 else ordered[0] - (1 - ordered[0]) * 0.5
    high = ordered[above] if above < n else ordered[-1] + (ordered[-1] - 1) * 0.5
    return min(low, 1.0), max(high, 1.0)
