"""`fit`: the largest batch, or the largest input at a batch, that a budget holds.

A plan's timeline is a straight line in the batch at every point, so the batch is solved from it;
the allocator's rounding and another regime's order of execution move it by a step or two, which
are taken until ``need(batch) <= memory < need(batch + 1)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isqrt

from convcalc.errors import ModelError, UsageError
from convcalc.memory.engines import MODULES, plan
from convcalc.memory.intervals import interval
from convcalc.memory.job import INFERENCE, MODES, NONE, TRAINING, Job
from convcalc.memory.predict import doubts, job_for
from convcalc.network import Network
from convcalc.ops.base import spatial_axes
from convcalc.planning.budget import BOUNDS, HOPEFUL, LIKELY, SAFE, Budget, budgets
from convcalc.planning.search import largest as search
from convcalc.report import Candidate, FitReport, Fitted
from convcalc.settings import DEVICES, DTYPES, OPTIMIZERS, REMATS, check_batch, choose
from convcalc.tensors import TensorSpec

#: Sizes that `largest_input` tries are multiples of this; of 1 where the network's own are small.
STEP = 32
SMALL = 128

#: Up to this batch more samples may need less: one image, or a few, are unfolded otherwise.
MANY = 16

#: Engines for which a GPU's architecture makes a difference.
XLA = ("tensorflow-xla", "jax")

#: The need of something that cannot be.
INFINITE = 2**80


def fit(
    net: Network,
    *,
    memory: int | str | None = None,
    device: str | None = None,
    devices_file: str | None = None,
    mode: str | None = None,
    engine: str = "tensorflow-xla",
    dtype: str = "float32",
    optimizer: str = "adam",
    remat: str = NONE,
    largest: str = "batch",
    batch: int = 1,
    step: int | None = None,
) -> FitReport:
    """What fits `memory` (bytes or "8GiB"), a device, or with neither each known device.

    `largest`: "batch", or "input": the largest height and width for a batch of `batch`, in steps of
    `step`.  `mode`: "inference" or "training"; both if None.

    Raises:
        UsageError: a setting is unknown or makes no sense.
        ModelError: a shape is unknown, there is nothing to train or nothing that grows.
    """
    choose(engine, MODULES, "engine")
    choose(dtype, DTYPES, "dtype")
    choose(optimizer, OPTIMIZERS, "optimizer")
    choose(remat, REMATS, "remat")
    choose(largest, ("batch", "input"), "question")
    check_batch(batch)
    if step is not None and (type(step) is not int or step < 1):
        raise UsageError(f"step must be a positive integer, got {step!r}")
    modes = MODES if mode is None else (choose(mode, MODES, "mode"),)
    asked = budgets(memory, device, engine, devices_file)
    kind = device if device in DEVICES else "gpu"
    fits: list[Fitted] = []
    notes: dict[str, None] = {}
    for each in modes:
        job = job_for(each, dtype, optimizer, kind or "gpu", remat=remat)
        try:
            lines: dict[int | None, Batches | Sizes] = {}
            for budget in asked:
                # Budgets of one architecture share what is predicted.
                capability = budget.capability if engine in XLA else None
                if capability not in lines:
                    older = replace(job, capability=capability)
                    lines[capability] = (
                        Batches(net, engine, older)
                        if largest == "batch"
                        else Sizes(net, engine, older, batch, step)
                    )
                fits.append(lines[capability].fitted(budget))
        except ModelError as error:
            if mode is not None or each != TRAINING:
                raise
            notes[f"no prediction of training: {error}"] = None
            continue
        said = doubts(net, engine, job, plan(net, engine, job, batch))
        notes.update((note, None) for note in said)
    return FitReport(
        network=net.name,
        engine=engine,
        dtype=dtype,
        optimizer=optimizer,
        remat=remat,
        largest="batch" if largest == "batch" else "input",
        fits=sorted(fits, key=lambda row: order(row, asked)),
        notes=list(notes),
    )


def order(row: Fitted, asked: list[Budget]) -> tuple[int, bool]:
    """Rows of one budget stand together, inference first."""
    names = [budget.device.name if budget.device else None for budget in asked]
    return names.index(row.device), row.mode != INFERENCE


class Line:
    """Candidates by a number that they grow with."""

    start = 1

    def __init__(self, engine: str, job: Job) -> None:
        self.engine = engine
        self.job = job
        self.seen: dict[int, Candidate | None] = {}

    def candidate(self, number: int) -> Candidate | None:
        """What that number stands for; None if there is no such thing."""
        if number not in self.seen:
            self.seen[number] = self.make(number)
        return self.seen[number]

    def make(self, number: int) -> Candidate | None:
        """The candidate, computed."""
        raise NotImplementedError

    def guess(self, number: int, need: int, memory: int) -> int:
        """Which number may need just `memory`, if `number` needs `need`."""
        raise NotImplementedError

    def later(self, number: int, memory: int) -> Iterator[int]:
        """Larger numbers from which on needs may be lower than they were."""
        yield from ()

    def need(self, number: int, budget: Budget, bound: str) -> int:
        """Bytes of the budget."""
        found = self.candidate(number)
        if found is None:
            return 0 if number < self.start else INFINITE
        return budget.needs(found, bound)

    def largest(self, budget: Budget, bound: str) -> Candidate | None:
        """The largest candidate of which a bound fits."""

        def need(number: int) -> int:
            return self.need(number, budget, bound)

        number, more = 0, True
        while more:
            number = search(
                need,
                budget.usable,
                lambda at: self.guess(at, need(at), budget.usable),
                self.start,
                list(self.seen),
            )
            # What fits there is known now, and the next search goes on from it.
            more = any(need(at) <= budget.usable for at in self.later(number, budget.usable))
        return self.candidate(number) if number else None

    def fitted(self, budget: Budget) -> Fitted:
        """What a budget holds, by the prediction and by both ends of its interval."""
        found = {bound: self.largest(budget, bound) for bound in BOUNDS}
        return Fitted(
            device=budget.device.name if budget.device else None,
            title=budget.title,
            mode=self.job.mode,
            memory_bytes=budget.memory,
            usable_bytes=budget.usable,
            safe=found[SAFE],
            likely=found[LIKELY],
            hopeful=found[HOPEFUL],
            note=budget.note,
        )


class Batches(Line):
    """One network at any batch."""

    def __init__(self, net: Network, engine: str, job: Job) -> None:
        super().__init__(engine, job)
        self.net = net

    def make(self, number: int) -> Candidate:
        return candidate(self.net, self.engine, self.job, number)

    def later(self, number: int, memory: int) -> Iterator[int]:
        # Other algorithms, another order of execution begin at powers of two (see `engines.plan`).
        at = 1 << number.bit_length()
        while at <= MANY or plan(self.net, self.engine, self.job, at).timeline.floor(at) <= memory:
            yield at
            at *= 2

    def guess(self, number: int, need: int, memory: int) -> int:
        timeline = plan(self.net, self.engine, self.job, number).timeline
        try:
            # The lines are those before rounding: what the need is more, it is in proportion.
            return timeline.largest_batch(memory * timeline.floor(number) // max(need, 1))
        except ValueError:
            raise ModelError(
                f"nothing in '{self.net.name}' grows with the batch: any batch fits"
            ) from None


class Sizes(Line):
    """A network at one batch on inputs of any size, its sides in proportion."""

    def __init__(self, net: Network, engine: str, job: Job, batch: int, step: int | None) -> None:
        super().__init__(engine, job)
        self.net = net
        self.batch = batch
        self.side = shortest_side(net)
        self.step = step or (STEP if self.side >= SMALL else 1)
        self.start = max(self.side // self.step, 1)

    def make(self, number: int) -> Candidate | None:
        try:
            net = scaled(self.net, number * self.step, self.side)
            return candidate(net, self.engine, self.job, self.batch)
        except ModelError:
            if number == self.start:
                raise
            return None  # too small for its windows, or tied to its own size

    def guess(self, number: int, need: int, memory: int) -> int:
        # Memory grows with the area.
        return isqrt(number * number * memory // max(need, 1))


def candidate(net: Network, engine: str, job: Job, batch: int) -> Candidate:
    """What an engine needs for a batch."""
    made = plan(net, engine, job, batch)
    peak = made.allocate(batch)
    return Candidate(
        batch=batch,
        inputs=input_sizes(net),
        peak_bytes=peak,
        interval=interval(engine, job, peak, made.timeline.floor(batch)),
        process_interval=None if made.process is None else made.process(batch),
    )


def input_sizes(net: Network) -> dict[str, list[int]]:
    """Height, width, channels of each input, whatever the layout."""
    found = {}
    for name, spec in net.inputs.items():
        sizes = list(spec.dims[1:])
        found[name] = [*sizes[1:], sizes[0]] if net.channels_first and len(sizes) > 1 else sizes
    return found


def spatial(net: Network, spec: TensorSpec) -> range:
    """An input's axes between batch and channels; none of an input without such."""
    rank = len(spec.dims)
    return spatial_axes(rank, net.channels_first) if rank > 2 else range(0)


def shortest_side(net: Network) -> int:
    """The shortest side of the first input that has sides.

    Raises:
        UsageError: no input has any.
    """
    for spec in net.inputs.values():
        axes = spatial(net, spec)
        if axes:
            return min(int(spec.dims[axis]) for axis in axes)
    raise UsageError(f"no input of '{net.name}' has a height or a width")


def scaled(net: Network, numerator: int, denominator: int) -> Network:
    """The network on inputs whose sides are as many times as long, rounded.

    Raises:
        ModelError: an operator cannot take such sizes.
    """
    inputs: Mapping[str, TensorSpec] = {
        name: spec._replace(
            shape=tuple(
                max((2 * size * numerator + denominator) // (2 * denominator), 1)
                if axis in spatial(net, spec)
                else size
                for axis, size in enumerate(spec.dims)
            )
        )
        for name, spec in net.inputs.items()
    }
    return net if inputs == dict(net.inputs) else net.with_inputs(inputs)
