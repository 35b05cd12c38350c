"""The engines: each its rules, its order of execution and its allocator, in a module of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from convcalc.memory.job import Job
from convcalc.memory.timeline import Timeline
from convcalc.network import Network


@dataclass(frozen=True, slots=True)
class Plan:
    """What an engine makes of a network and a job, for any batch."""

    timeline: Timeline
    allocate: Callable[[int], int]
    """The allocator's peak in bytes at a batch size."""
    process: Callable[[int], tuple[int, int]] | None = None
    """What the device shows for the whole process, least and most; None where it makes no sense."""
    assumed: frozenset[str] = frozenset()
    """Operators that the engine has no rule for."""


#: Which module makes an engine's plans: ``make(net, job, batch) -> Plan``.
MODULES = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "tensorflow-xla": "tensorflow_xla",
    "jax": "xla",
}


def plan(net: Network, engine: str, job: Job, batch: int) -> Plan:
    """The plan of an engine for a batch; made once for each network, job and regime.

    A module may say with ``regime(batch)`` for which batch it makes the plan that serves `batch`,
    where its program or its order of execution depend on sizes; otherwise one plan serves all.
    """
    module = import_module(f"convcalc.memory.engines.{MODULES[engine]}")
    regime = module.regime(batch) if hasattr(module, "regime") else 1
    key = f"plan {MODULES[engine]} {job} {regime}"
    if key not in net.memo:
        net.memo[key] = module.make(net, job, regime)
    found: Plan = net.memo[key]
    return found
