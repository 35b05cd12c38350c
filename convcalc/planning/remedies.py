"""The remedies: what can be changed so that less memory is needed, and what each costs.

A remedy changes a `Situation`; what that saves is computed from the changed one.  They stand in
the order of their price: first those that change no result, then those that cost time, tuning or
devices, last those that make another network of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from convcalc.errors import ConvcalcError, ModelError
from convcalc.memory.engines import plan
from convcalc.memory.job import BLOCK, NONE, SLOTS, SQRT
from convcalc.memory.segments import stretches
from convcalc.network import Network
from convcalc.planning import rewrite
from convcalc.planning.budget import SAFE, Budget
from convcalc.planning.fit import INFINITE, scaled, shortest_side
from convcalc.planning.search import largest
from convcalc.planning.situation import Situation
from convcalc.settings import DTYPES, format_bytes, format_count

T = TypeVar("T")


class NotApplicable(ConvcalcError):
    """A remedy that this situation has no use for; the message says why."""


#: What a remedy costs beyond memory.
NOTHING, TIME, TUNING, DEVICES, ACCURACY = range(5)
EFFORTS = ("nothing", "time", "tuning", "devices", "accuracy")

Changed = tuple[Situation, str, list[str]]
"""The situation after, the change in words, the price in words."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One remedy."""

    name: str
    effort: int
    change: Callable[[Situation, Budget | None], Changed]
    """
    Raises:
        NotApplicable: it cannot be done here.
    """


def other_engine(now: Situation, budget: Budget | None) -> Changed:
    """XLA on or off."""
    if now.engine == "tensorflow":
        price = ["the same mathematics", "compiling takes seconds to minutes for each new shape"]
        return replace(now, engine="tensorflow-xla"), "compile with XLA: jit_compile=True", price
    if now.engine == "tensorflow-xla":
        price = ["the same mathematics", "often slower without fused kernels"]
        return replace(now, engine="tensorflow"), "run without XLA: jit_compile=False", price
    raise NotApplicable(f"{now.engine} runs in one way only")


def lower_precision(now: Situation, budget: Budget | None) -> Changed:
    """Half the bytes: float32 for float64, mixed precision in training, float16 in inference."""
    width = DTYPES[now.dtype]
    if width <= 2:
        raise NotApplicable(f"{now.dtype} has 16 bits already")
    if width == 8:
        price = ["accuracy as nearly all networks have it"]
        return replace(now, dtype="float32"), "float32 instead of float64", price
    if now.training:
        price = [
            "variables stay float32; losses are scaled",
            "accuracy is usually kept, check it; faster where there are tensor cores",
            "mixed_bfloat16 needs the same and no scaling, on GPUs since Ampere and on TPUs",
        ]
        return replace(now, dtype="mixed_float16"), "mixed precision: mixed_float16", price
    price = ["accuracy is usually kept, check it; faster where there are tensor cores"]
    return replace(now, dtype="float16"), "float16 weights and activations", price


def smaller_batch(now: Situation, budget: Budget | None) -> Changed:
    """The largest part of the batch that fits; in training gradients of the parts are added up."""
    if now.batch == 1:
        raise NotApplicable("the batch is one sample already")
    parts = 2 if budget is None else parts_that_fit(now, budget)
    batch = -(-now.batch // parts)
    after = replace(now, batch=batch, accumulate=now.accumulate * parts if now.training else 1)
    if not now.training:
        price = [f"{parts} calls instead of one; small batches use a GPU less well"]
        return after, f"batch {now.batch} in parts of {batch}", price
    price = [
        f"{parts} steps instead of one for each update; small batches use a GPU less well",
        f"a copy of the gradients more ({format_bytes(now.gradient_bytes)}), counted here",
    ]
    if any(op.operator.type == "batch_norm" for op in now.net.ops):
        price.append(f"batch norm sees {batch} samples at a time: results differ a little")
    change = f"batch {now.batch} in {parts} parts of {batch}, gradients accumulated"
    return after, change, price


def parts_that_fit(now: Situation, budget: Budget) -> int:
    """In how many parts the batch must be divided at least."""

    def need(batch: int) -> int:
        part = replace(now, batch=batch, accumulate=2 if now.training else 1)
        return budget.needs(part.candidate(), SAFE)

    def guess(batch: int) -> int:
        timeline = plan(now.net, now.engine, now.job, batch).timeline
        try:
            return timeline.largest_batch(
                budget.usable * timeline.floor(batch) // max(need(batch), 1)
            )
        except ValueError:
            return batch  # nothing grows with the batch

    def divided(batch: int) -> int:
        return INFINITE if batch >= now.batch else need(batch)

    size = largest(divided, budget.usable, guess)
    if not size:
        # A larger part may need less, where an engine takes other algorithms for it.
        powers = [1 << k for k in range(1, (now.batch - 1).bit_length())]
        size = largest(divided, budget.usable, guess, known=[1, *powers])
    if not size:
        raise NotApplicable("not even one sample fits")
    return max(-(-now.batch // size), 2)


def checkpointing(now: Situation, budget: Budget | None) -> Changed:
    """Keep few outputs, make the others again in the backward pass."""
    if not now.training:
        raise NotApplicable("inference keeps nothing for a backward pass")
    if now.remat != NONE:
        raise NotApplicable("outputs are made again already")
    options = [
        replace(now, remat=name) for name in (BLOCK, SQRT) if len(stretches(now.net, name)) > 1
    ]
    if not options:
        raise NotApplicable("there are too few layers to divide")
    after = min(options, key=lambda each: each.candidate().peak_bytes)
    if after.candidate().peak_bytes >= now.candidate().peak_bytes:
        raise NotApplicable("its peak is not made of what is kept for the backward pass")
    count = len(stretches(now.net, after.remat)) - 1
    price = [
        "up to one forward pass more for each step: a third more arithmetic",
        f"the first {count} of {count + 1} stretches run in torch.utils.checkpoint, "
        "tf.recompute_grad or jax.checkpoint",
    ]
    change = {
        BLOCK: "checkpointing of every block (--remat block)",
        SQRT: f"checkpointing of {count} stretches (--remat sqrt)",
    }[after.remat]
    return after, change, price


def optimizer(name: str) -> Callable[[Situation, Budget | None], Changed]:
    """Another optimizer with fewer slots."""

    def change(now: Situation, budget: Budget | None) -> Changed:
        if not now.training:
            raise NotApplicable("inference has no optimizer")
        fewer = SLOTS[now.optimizer] - SLOTS[name]
        if fewer <= 0:
            raise NotApplicable(f"{now.optimizer} keeps no more than {name}")
        price = ["the learning rate must be tuned anew", "it may take more epochs: unknown"]
        words = f"{name} instead of {now.optimizer}"
        return replace(now, optimizer=name), words, price

    return change


def several_devices(now: Situation, budget: Budget | None) -> Changed:
    """Plain data parallelism: the batch divided, weights, gradients and slots on each device."""
    counts = [n for n in (2, 4, 8) if n <= now.batch]
    if not counts or now.devices > 1:
        raise NotApplicable("there is no batch left to divide")
    options = [replace(now, batch=-(-now.batch // n), devices=n) for n in counts]
    after = options[0]
    if budget is not None:
        after = next((each for each in options if each.fits(budget) == SAFE), options[-1])
    price = [f"{after.devices} devices"]
    if now.training:
        # A ring passes 2 (n - 1) / n of the gradients through each device.
        moved = 2 * (after.devices - 1) * now.gradient_bytes // after.devices
        price.append(f"each sends {format_bytes(moved)} of gradients a step; a copy more, counted")
    return after, f"{after.devices} devices, {after.batch} samples on each", price


def frozen_backbone(now: Situation, budget: Budget | None) -> Changed:
    """Train the last layers only."""
    if not now.training:
        raise NotApplicable("inference trains nothing")
    if now.another:
        raise NotApplicable("a changed network has no pretrained weights")
    net, count = attempt(lambda: once(now.net, "frozen", rewrite.frozen))
    after = replace(now, net=net)
    price = [
        f"{count} layers frozen: {after.trainable_params:,} of {now.trainable_params:,} parameters "
        "learn",
        "of use with pretrained weights only",
    ]
    return after, "freeze all but the last layer", price


def smaller_input(now: Situation, budget: Budget | None) -> Changed:
    """Three quarters of the height and width, or half."""
    side = attempt(lambda: shortest_side(now.net))
    found: tuple[Situation, int] | None = None
    reason = "its sides are too short"
    for quarters in (3, 2):
        if side * quarters // 4 < 1:
            continue
        try:
            net = once(
                now.net, f"scaled {quarters}", partial(scaled, numerator=quarters, denominator=4)
            )
            after = replace(now, net=net)
            after.candidate()
        except ModelError as error:
            reason = str(error)
            continue
        found = (after, quarters)
        if budget is None or after.fits(budget) == SAFE:
            break
    if found is None:
        raise NotApplicable(reason)
    after, quarters = found
    share = {3: "three quarters", 2: "half"}[quarters]
    price = ["small things are lost: accuracy unknown, measure it"]
    if now.params != after.params:
        price.append("layers behind Flatten change their size: their weights cannot be kept")
    return after, f"inputs of {share} of the height and width", price


def earlier_stride(now: Situation, budget: Budget | None) -> Changed:
    """The first convolution at twice the stride."""
    net, layer = attempt(lambda: once(now.net, "strided", rewrite.strided))
    price = ["fine detail is lost: accuracy unknown; must be trained again"]
    return replace(now, net=net, another=True), f"twice the stride in '{layer}'", price


def thinner_layers(now: Situation, budget: Budget | None) -> Changed:
    """Three quarters of the channels, or half."""
    found: tuple[Situation, float] | None = None
    reason = ""
    for factor in (0.75, 0.5):
        try:
            net = once(now.net, f"thinner {factor}", partial(rewrite.thinner, factor=factor))
            after = replace(now, net=net, another=True)
            after.candidate()
        except ModelError as error:
            reason = str(error)
            continue
        found = (after, factor)
        if budget is None or after.fits(budget) == SAFE:
            break
    if found is None:
        raise NotApplicable(reason)
    after, factor = found
    price = ["less accurate by an unknown amount; must be trained again"]
    share = {0.75: "three quarters", 0.5: "half"}[factor]
    return after, f"{share} of the channels in each layer", price


def layer_dropped(now: Situation, budget: Budget | None) -> Changed:
    """Leave out the layer, or the residual block, with the largest outputs."""
    net, layers = attempt(lambda: once(now.net, "shortened", rewrite.shortened))
    price = ["less accurate by an unknown amount; must be trained again"]
    words = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]} ({len(layers)} layers)"
    return replace(now, net=net, another=True), f"leave out {words}", price


def once(net: Network, name: str, change: Callable[[Network], T]) -> T:
    """A changed network, made once: what is known of it is asked for again and again."""
    key = f"planning {name}"
    if key not in net.memo:
        net.memo[key] = change(net)
    found: T = net.memo[key]
    return found


def attempt(make: Callable[[], T]) -> T:
    """What `make` gives.

    Raises:
        NotApplicable: the network does not allow it.
    """
    try:
        return make()
    except ConvcalcError as error:
        raise NotApplicable(str(error)) from None


KINDS = (
    Kind("xla", NOTHING, other_engine),
    Kind("lower-precision", TIME, lower_precision),
    Kind("smaller-batch", TIME, smaller_batch),
    Kind("checkpointing", TIME, checkpointing),
    Kind("optimizer-momentum", TUNING, optimizer("momentum")),
    Kind("optimizer-sgd", TUNING, optimizer("sgd")),
    Kind("data-parallel", DEVICES, several_devices),
    Kind("freeze", ACCURACY, frozen_backbone),
    Kind("smaller-input", ACCURACY, smaller_input),
    Kind("earlier-stride", ACCURACY, earlier_stride),
    Kind("thinner", ACCURACY, thinner_layers),
    Kind("drop-layer", ACCURACY, layer_dropped),
)


def in_numbers(before: Situation, after: Situation) -> list[str]:
    """What a change does to arithmetic and parameters, where it does something."""
    found = []
    if before.macs != after.macs:
        found.append(f"MACs {format_count(before.macs)} -> {format_count(after.macs)}")
    if before.params != after.params:
        found.append(f"parameters {before.params:,} -> {after.params:,}")
    return found
