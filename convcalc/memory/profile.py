"""`profile`: the timeline of one step in the form that terminal, API and page share."""

from __future__ import annotations

from collections import defaultdict

from convcalc.memory.engines import plan
from convcalc.memory.job import Job
from convcalc.memory.predict import describe, doubts
from convcalc.memory.program import KINDS
from convcalc.memory.timeline import Timeline
from convcalc.network import Network
from convcalc.report import Alive, LayerMemory, MemoryProfile, MemoryStep
from convcalc.settings import check_batch


def profile(net: Network, engine: str, job: Job, batch: int) -> MemoryProfile:
    """Where the memory of one step goes, and when.

    Raises:
        UsageError: the batch is not a number of samples.
        ModelError: a shape is unknown, or there is nothing to train.
    """
    check_batch(batch)
    made = plan(net, engine, job, batch)
    timeline = made.timeline
    series = timeline.by_kind(batch)
    steps = [MemoryStep(primitive="", layer="", phase="rest")]
    steps += [
        MemoryStep(primitive=step.primitive, layer=step.layer, phase=step.phase)
        for step in timeline.steps
    ]
    return MemoryProfile(
        network=net.name,
        engine=engine,
        device=job.device,
        mode=job.mode,
        batch=batch,
        dtype=job.dtype,
        optimizer=job.optimizer,
        remat=job.remat,
        prediction=describe(made, engine, job, batch),
        steps=steps,
        bytes={kind: series[kind].tolist() for kind in KINDS},
        peak_step=timeline.events[timeline.peak_event(batch)][0] + 1,
        fixed_bytes=int(timeline.lines[0][timeline.peak_event(batch)]),
        bytes_per_sample=int(timeline.lines[1][timeline.peak_event(batch)]),
        alive=[
            Alive(
                name=buffer.name,
                kind=buffer.kind,
                bytes=size,
                start=buffer.start + 1,
                end=min(buffer.end + 1, len(timeline.steps)),
            )
            for buffer, size in timeline.alive(batch)
        ],
        layers=by_layer(timeline, batch),
        assumed=sorted(made.assumed),
        notes=doubts(net, engine, job, made),
    )


def by_layer(timeline: Timeline, batch: int) -> list[LayerMemory]:
    """What is alive at the peak by the layer that it belongs to, largest first."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
    for buffer, size in timeline.alive(batch):
        found[buffer.layer][buffer.kind] += size
    rows = [
        LayerMemory(layer=layer, bytes=sum(kinds.values()), kinds=kinds)
        for layer, kinds in found.items()
    ]
    return sorted(rows, key=lambda row: -row.bytes)
