"""From an engine's plan to the report's `Prediction`."""

from __future__ import annotations

from convcalc.errors import ModelError
from convcalc.memory.engines import Plan, plan
from convcalc.memory.intervals import interval
from convcalc.memory.job import INFERENCE, NONE, TRAINING, Job
from convcalc.memory.segments import stretches
from convcalc.network import Network
from convcalc.report import Prediction
from convcalc.settings import engine_device, older_gpu


def job_for(
    mode: str,
    dtype: str,
    optimizer: str,
    device: str,
    loss: str | None = None,
    *,
    remat: str = NONE,
    accumulate: bool = False,
    ema: bool = False,
) -> Job:
    """The job of a mode; what inference does not use does not tell two jobs apart.

    `device` is "gpu", "cpu" or a name of the catalogue.

    Raises:
        UsageError: there is no such device.
    """
    kind, capability = engine_device(device), older_gpu(device)
    if mode == INFERENCE:
        return Job(mode, dtype, "none", kind, capability=capability)
    return Job(
        *(mode, dtype, optimizer, kind, loss),
        remat=remat,
        accumulate=accumulate,
        ema=ema,
        capability=capability,
    )


def doubts(net: Network, engine: str, job: Job, made: Plan) -> list[str]:
    """In words, what a plan rests on that was not measured."""
    found = [
        f"'{name}' has no memory rule for {engine}: its inputs and outputs are taken"
        for name in sorted(made.assumed)
    ]
    if job.remat != NONE:
        count = len(stretches(net, job.remat))
        if count < 2:
            found.append(f"checkpointing by '{job.remat}' finds no place to cut '{net.name}'")
        elif (engine, job.device) == ("jax", "cpu"):
            found.append("XLA on a CPU makes tensors again at once: checkpointing saves nothing")
        elif engine != "torch":
            found.append(
                f"checkpointing in {count} stretches was measured on {engine} with a few networks "
                "only: the interval is wider"
            )
    return found


def predict(net: Network, engine: str, job: Job, batch: int) -> Prediction:
    """What an engine will allocate for one step at a batch size.

    Raises:
        ModelError: a shape is unknown, or there is nothing to train.
    """
    return describe(plan(net, engine, job, batch), engine, job, batch)


def describe(made: Plan, engine: str, job: Job, batch: int) -> Prediction:
    """A plan's figures at a batch size."""
    timeline = made.timeline
    peak, floor = made.allocate(batch), timeline.floor(batch)
    process = None if made.process is None else made.process(batch)
    breakdown = timeline.breakdown(batch)
    # What the allocator hands out beyond the buffers: rounding, chunks that were not split, gaps.
    breakdown["slack"] = peak - sum(breakdown.values())
    step = timeline.at(batch)
    return Prediction(
        peak_bytes=peak,
        floor_bytes=floor,
        process_bytes=None if process is None else sum(process) // 2,
        process_interval=process,
        interval=interval(engine, job, peak, floor),
        at="between steps" if step is None else f"{step.layer} ({step.primitive}, {step.phase})",
        breakdown=breakdown,
    )


def predict_both(
    net: Network,
    *,
    engine: str,
    batch: int,
    dtype: str,
    optimizer: str,
    device: str,
    remat: str = NONE,
) -> tuple[Prediction | None, Prediction | None, list[str]]:
    """Inference and training, and in words what stands against one of them.

    Raises:
        UsageError: a setting is unknown.
    """
    found: list[Prediction | None] = []
    notes: dict[str, None] = {}
    for mode in (INFERENCE, TRAINING):
        job = job_for(mode, dtype, optimizer, device, remat=remat)
        try:
            made = plan(net, engine, job, batch)
        except ModelError as error:
            found.append(None)
            notes[f"no prediction of {mode}: {error}"] = None
            continue
        found.append(describe(made, engine, job, batch))
        notes.update((note, None) for note in doubts(net, engine, job, made))
    return found[0], found[1], list(notes)
