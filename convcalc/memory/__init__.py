"""What a network's inference and training will allocate: a small compiler.

    Network -> lowering (an engine's rules, forward and backward) -> Program
            -> the engine's passes and order of execution -> liveness walk -> Timeline
            -> the engine's allocator -> peak

`predict` gives the report's `Prediction`; `plan` what it is made from.
"""

from __future__ import annotations

from convcalc.memory.engines import Plan, plan
from convcalc.memory.job import Job
from convcalc.memory.predict import predict

__all__ = ["Job", "Plan", "plan", "predict"]
