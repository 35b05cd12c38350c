"""`Situation`: a network under all the settings that a remedy may change, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from convcalc.analysis.costs import add_up
from convcalc.memory.job import NONE, TRAINING, Job
from convcalc.memory.predict import job_for
from convcalc.network import Network
from convcalc.planning.budget import BOUNDS, Budget
from convcalc.planning.fit import candidate
from convcalc.report import Candidate

NO = "no"


@dataclass(frozen=True, slots=True)
class Situation:
    """One step of a network on one of `devices` devices, each with `batch` samples."""

    net: Network
    mode: str
    engine: str
    dtype: str
    optimizer: str
    batch: int
    device: str = "gpu"
    accumulate: int = 1
    """Steps whose gradients are added up before one update."""
    devices: int = 1
    remat: str = NONE
    """By which rule outputs are kept, while those between are made again."""
    capability: int | None = None
    """See `Job.capability`."""
    another: bool = False
    """Weights that were trained for the network as it was are of no use any more."""

    @property
    def job(self) -> Job:
        job = job_for(self.mode, self.dtype, self.optimizer, self.device, remat=self.remat)
        return replace(job, capability=self.capability)

    @property
    def training(self) -> bool:
        return self.mode == TRAINING

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, forward."""
        return sum(row.macs for row in self.net.once(add_up).values())

    @property
    def params(self) -> int:
        return sum(row.params for row in self.net.once(add_up).values())

    @property
    def trainable_params(self) -> int:
        return sum(row.trainable for row in self.net.once(add_up).values())

    @property
    def gradient_bytes(self) -> int:
        """One copy of all gradients."""
        return self.trainable_params * self.job.variable_width

    def candidate(self) -> Candidate:
        """What it needs: the engine's prediction, and on top of it what the remedies take.

        Gradients that accumulate take a copy of all gradients (Keras'
        `gradient_accumulation_steps`; PyTorch keeps `.grad`), and so do the buckets in which
        devices exchange them.
        """
        key = f"candidate {self.engine} {self.job} {self.batch}"
        if key not in self.net.memo:
            self.net.memo[key] = candidate(self.net, self.engine, self.job, self.batch)
        found: Candidate = self.net.memo[key]
        if self.training:
            copies = (self.accumulate > 1) + (self.devices > 1)
            if copies:
                found = shifted(found, copies * self.gradient_bytes)
        return found

    def fits(self, budget: Budget) -> str:
        """By which bound it fits: "safe", "likely", "hopeful", or "no"."""
        found = self.candidate()
        return next((b for b in BOUNDS if budget.needs(found, b) <= budget.usable), NO)


def shifted(found: Candidate, more: int) -> Candidate:
    """The candidate with so many bytes more (or less) everywhere."""
    low, high = found.interval
    process = found.process_interval
    return replace(
        found,
        peak_bytes=found.peak_bytes + more,
        interval=(max(low + more, 0), high + more),
        process_interval=None
        if process is None
        else (max(process[0] + more, 0), process[1] + more),
    )
