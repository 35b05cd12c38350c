"""`advise`: every remedy computed on the network at hand, ranked; the cheapest plan that fits."""

from __future__ import annotations

from typing import Any, cast

from convcalc.errors import ModelError
from convcalc.memory.engines import MODULES
from convcalc.memory.job import MODES, NONE, TRAINING
from convcalc.network import Network
from convcalc.planning.budget import BOUNDS, LIKELY, SAFE, Budget, budgets
from convcalc.planning.fit import input_sizes
from convcalc.planning.lint import lint
from convcalc.planning.remedies import EFFORTS, KINDS, Kind, NotApplicable, in_numbers
from convcalc.planning.situation import Situation
from convcalc.report import Advice, Refused, Remedy, Setting
from convcalc.settings import DEVICES, DTYPES, OPTIMIZERS, check_batch, choose, format_bytes

#: The remedies in the order of their price.
NAMES = [kind.name for kind in KINDS]

#: The batch is divided when all else has been decided: among devices first, then into parts.
DIVIDING = ("data-parallel", "smaller-batch")
DIVIDE = KINDS[NAMES.index("smaller-batch")]

#: A step of a plan must save at least this share of what is needed before it.
LEAST = 0.01


def advise(
    net: Network,
    *,
    memory: int | str | None = None,
    device: str | None = None,
    devices_file: str | None = None,
    mode: str = TRAINING,
    batch: int = 32,
    engine: str = "tensorflow-xla",
    dtype: str = "float32",
    optimizer: str = "adam",
) -> Advice:
    """What to change so that one step needs less, or fits `memory` or a device.

    Raises:
        UsageError: a setting is unknown or makes no sense.
        ModelError: a shape is unknown, or there is nothing to train.
    """
    choose(engine, MODULES, "engine")
    choose(dtype, DTYPES, "dtype")
    choose(optimizer, OPTIMIZERS, "optimizer")
    choose(mode, MODES, "mode")
    check_batch(batch)
    kind = device if device in DEVICES else "gpu"
    budget = None
    if memory is not None or device not in (None, *DEVICES):
        (budget,) = budgets(memory, device, engine, devices_file)
    now = Situation(
        *(net, mode, engine, dtype, optimizer if mode == TRAINING else "none", batch),
        kind or "gpu",
        capability=None if budget is None else budget.capability,
    )
    needed = now.candidate()
    remedies: list[Remedy] = []
    refused: list[Refused] = []
    for each in KINDS:
        try:
            remedy = tried(each, now, budget)[1]
        except (NotApplicable, ModelError) as error:
            refused.append(Refused(name=each.name, reason=str(error)))
            continue
        if remedy.saving_bytes > 0:
            remedies.append(remedy)
        else:
            more = format_bytes(-remedy.saving_bytes)
            refused.append(
                Refused(name=each.name, reason=f"{remedy.change}: would need {more} more")
            )
    remedies.sort(key=rank)
    fits = None if budget is None else now.fits(budget)
    return Advice(
        network=net.name,
        mode=mode,
        device=budget.device.name if budget is not None and budget.device else None,
        memory_bytes=None if budget is None else budget.memory,
        usable_bytes=None if budget is None else budget.usable,
        now=setting(now),
        peak_bytes=needed.peak_bytes,
        interval=needed.interval,
        fits=cast(Any, fits),
        remedies=remedies,
        plan=None if budget is None or fits == SAFE else combined(now, budget, remedies),
        refused=refused,
        lint=lint(net),
    )


def tried(kind: Kind, now: Situation, budget: Budget | None) -> tuple[Situation, Remedy]:
    """One remedy applied.

    Raises:
        NotApplicable: it has no use here.
        ModelError: the changed network cannot be predicted.
    """
    after, change, price = kind.change(now, budget)
    return after, described(kind.name, change, price, kind.effort, now, after, budget)


def described(
    name: str,
    change: str,
    price: list[str],
    effort: int,
    now: Situation,
    after: Situation,
    budget: Budget | None,
) -> Remedy:
    """What lies between two situations, as a remedy."""
    before, found = now.candidate(), after.candidate()
    return Remedy(
        name=name,
        change=change,
        rung="predicted",
        effort=cast(Any, EFFORTS[effort]),
        peak_bytes=found.peak_bytes,
        interval=found.interval,
        saving_bytes=before.peak_bytes - found.peak_bytes,
        fits=cast(Any, None if budget is None else after.fits(budget)),
        price=[*price, *in_numbers(now, after)],
        after=setting(after),
    )


def rank(remedy: Remedy) -> tuple[int, int, int]:
    """What fits before what does not; of what fits the cheaper first, else what saves more."""
    if remedy.fits in BOUNDS:
        return BOUNDS.index(remedy.fits), NAMES.index(remedy.name), 0
    return len(BOUNDS), EFFORTS.index(remedy.effort), -remedy.saving_bytes


def setting(now: Situation) -> Setting:
    """A situation as the report has it."""
    return Setting(
        engine=now.engine,
        dtype=now.dtype,
        optimizer=now.optimizer,
        batch=now.batch,
        accumulate=now.accumulate,
        devices=now.devices,
        checkpointed=now.remat != NONE,
        inputs=input_sizes(now.net),
        macs=now.macs,
        params=now.params,
        trainable_params=now.trainable_params,
    )


def combined(now: Situation, budget: Budget, remedies: list[Remedy]) -> Remedy | None:
    """The cheapest plan that is safe; if there is none, one that is likely to fit."""
    for bound in (SAFE, LIKELY):
        order = BOUNDS.index(bound)
        for remedy in remedies:  # ranked: one change that does it alone is the cheapest plan
            if remedy.fits in BOUNDS[: order + 1]:
                return remedy
        steps = gathered(now, budget, bound, [remedy.name for remedy in remedies])
        if steps is not None:
            return as_one(now, budget, pruned(now, budget, bound, steps))
    return None


def gathered(now: Situation, budget: Budget, bound: str, useful: list[str]) -> list[Kind] | None:
    """Remedies in the order of their price until the plan fits, dividing the batch as soon as that
    is enough; None if all of them are not enough.
    """
    chosen: list[Kind] = []
    current = now
    for kind in KINDS:
        if kind is DIVIDE or kind.name not in useful:
            continue
        try:
            after, remedy = tried(kind, current, budget)
        except (NotApplicable, ModelError):
            continue
        if remedy.saving_bytes < LEAST * current.candidate().peak_bytes:
            continue
        chosen.append(kind)
        current = after
        for steps in (chosen, [*chosen, DIVIDE]):
            if reached(now, budget, bound, steps):
                return steps
    return None


def applied(
    now: Situation, budget: Budget, steps: list[Kind]
) -> tuple[Situation, list[tuple[Kind, Remedy]]]:
    """The situation after all steps, and what each did; without those that had no use any more."""
    found = []
    for kind in ordered(steps):
        try:
            now, remedy = tried(kind, now, budget)
        except (NotApplicable, ModelError):
            continue
        found.append((kind, remedy))
    return now, found


def ordered(steps: list[Kind]) -> list[Kind]:
    """The steps in the order in which they are taken."""
    return sorted(steps, key=lambda kind: (kind.name in DIVIDING, -KINDS.index(kind)))


def reached(now: Situation, budget: Budget, bound: str, steps: list[Kind]) -> bool:
    """Whether a plan fits by that bound."""
    after, _ = applied(now, budget, steps)
    return after.fits(budget) in BOUNDS[: BOUNDS.index(bound) + 1]


def pruned(now: Situation, budget: Budget, bound: str, steps: list[Kind]) -> list[Kind]:
    """The plan without the steps that it fits without, the dearest looked at first; a batch in
    parts takes the place of what costs more.
    """
    for kind in sorted(steps, key=KINDS.index, reverse=True):
        fewer = [each for each in steps if each is not kind]
        options = [fewer]
        if DIVIDE not in steps and kind.effort > DIVIDE.effort:
            options.append([*fewer, DIVIDE])
        steps = next((o for o in options if o and reached(now, budget, bound, o)), steps)
    return steps


def as_one(now: Situation, budget: Budget, steps: list[Kind]) -> Remedy:
    """A plan of several steps in the form of one remedy."""
    after, taken = applied(now, budget, steps)
    return described(
        " + ".join(kind.name for kind, _ in taken),
        "; ".join(remedy.change for _, remedy in taken),
        [line for _, remedy in taken for line in words(remedy)],
        max(kind.effort for kind, _ in taken),
        now,
        after,
        budget,
    )


def words(remedy: Remedy) -> list[str]:
    """The price of one step without the figures, which the plan gives as a whole."""
    return [line for line in remedy.price if not line.startswith(("MACs ", "parameters "))]
