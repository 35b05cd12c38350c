"""Lint: what looks like a mistake or a waste in a network, found from its shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from convcalc.analysis.receptive_field import receptive_fields
from convcalc.arithmetic import product
from convcalc.network import Network, Op
from convcalc.ops.base import spatial_axes
from convcalc.ops.window import Slide
from convcalc.planning.sweep_widen import last
from convcalc.report import Finding

Rule = Callable[[Network], Iterator[Finding]]

#: A kernel sees mostly padding if less than this of what it multiplies is input.
LEAST_INPUT = Fraction(1, 2)

#: Tensor cores take channels in groups of this many at 16 bits (NVIDIA's guide for convolutions).
GROUP = 8

#: The share of all parameters in one dense layer that is worth a word.
MOST_PARAMS = Fraction(1, 2)

PRODUCTS = ("conv", "depthwise_conv", "conv_transpose", "dense")
POOLS = ("max_pool", "average_pool", "lp_pool")
#: Applying these twice is applying them once.
IDEMPOTENT = ("relu", "relu6", "hard_sigmoid", "linear", "threshold")


def lint(net: Network) -> list[Finding]:
    """All findings, by rule."""
    return [finding for rule in RULES for finding in rule(net)]


def mostly_padding(net: Network) -> Iterator[Finding]:
    """A window over a map smaller than itself multiplies zeros."""
    for op in net.ops:
        share = Fraction(1)
        for slide in windows(net, op):
            share *= input_share(slide)
        if share < LEAST_INPUT:
            yield Finding(
                code="mostly-padding",
                layers=[op.layer],
                message=f"{float(1 - share):.0%} of what the kernel of '{op.layer}' covers is "
                "padding: a smaller kernel would see the same",
            )


def windows(net: Network, op: Op) -> tuple[Slide, ...]:
    """How an op's window moves; nothing for ops without one."""
    operator: Any = op.operator
    spec = net.tensors[op.inputs[0]] if op.inputs else None
    if spec is None or not spec.known:
        return ()
    if operator.type == "conv":
        found: tuple[Slide, ...] = operator.slides(spec)
        return found
    if operator.type == "depthwise_conv":
        found = operator.plain(spec).slides(spec)
        return found
    return ()


def input_share(slide: Slide) -> Fraction:
    """The share of the window's places that lie on the input, over all its positions."""
    inside = 0
    for tap in range(slide.kernel):
        # output o sees input o * stride - before + tap * dilation: those from 0 to size - 1
        shift = tap * slide.dilation - slide.before
        first = max(-(shift // slide.stride), 0) if shift < 0 else 0
        final = (slide.size - 1 - shift) // slide.stride
        inside += max(min(final, slide.output - 1) - first + 1, 0)
    return Fraction(inside, slide.kernel * slide.output)


def beyond_the_input(net: Network) -> Iterator[Finding]:
    """Layers whose input sees the whole picture can add no context (Richter et al., 2021)."""
    fields = receptive_fields(net)
    layers = []
    dims = next(iter(net.inputs.values())).dims
    seen = spatial_axes(len(dims), net.channels_first)
    sides = dims[seen.start : seen.stop]
    for op in net.ops:
        if op.operator.type not in ("conv", "depthwise_conv") or len(op.inputs) != 1:
            continue
        axes = fields.get(op.inputs[0])
        wide = any(slide.kernel > 1 for slide in windows(net, op))
        if (
            axes
            and wide
            and all(axis.whole or axis.size >= side for axis, side in zip(axes, sides, strict=True))
        ):
            layers.append(op.layer)
    if layers:
        yield Finding(
            code="beyond-the-input",
            layers=list(dict.fromkeys(layers)),
            message=f"{len(set(layers))} layers from '{layers[0]}' on read maps that see the whole "
            "input already: they add depth, no context; a larger input would use them",
        )


def odd_channels(net: Network) -> Iterator[Finding]:
    """Channels that 16-bit tensor cores pad."""
    kept = last(net)
    layers = []
    for op in net.ops:
        operator: Any = op.operator
        if operator.type not in ("conv", "conv_transpose", "dense") or op.name in kept:
            continue
        count = operator.units if operator.type == "dense" else operator.filters
        if count % GROUP:
            layers.append(op.layer)
    if layers:
        yield Finding(
            code="odd-channels",
            layers=list(dict.fromkeys(layers)),
            message=f"the channels of {named(layers)} are no multiple of {GROUP}: 16-bit tensor "
            "cores pad them",
        )


def flatten_dense(net: Network) -> Iterator[Finding]:
    """A dense layer behind a flattened map that holds most of the parameters."""
    sizes = {key: sum(product(p.shape) for p in params) for key, params in net.params.items()}
    whole = sum(sizes.values())
    makers = {op.name: op for op in net.ops}
    for op in net.ops:
        if op.operator.type != "dense" or sizes[op.weights] <= MOST_PARAMS * whole:
            continue
        source = makers.get(op.inputs[0])
        while source is not None and source.operator.type in ("dropout", "activation", "identity"):
            source = makers.get(source.inputs[0])
        if source is not None and source.operator.type in ("flatten", "reshape"):
            before = net.tensors[source.inputs[0]]
            yield Finding(
                code="flatten-dense",
                layers=[op.layer],
                message=f"'{op.layer}' behind '{source.layer}' ({before}) holds "
                f"{sizes[op.weights] / whole:.0%} of all parameters: a global pool instead of the "
                "flattening would spare most of them",
            )


def bias_before_norm(net: Network) -> Iterator[Finding]:
    """A bias that the batch norm behind it subtracts again."""
    users = consumers(net)
    layers, wasted = [], 0
    for op in net.ops:
        if op.operator.type not in PRODUCTS or not getattr(op.operator, "bias", False):
            continue
        readers = users.get(op.name, [])
        if (
            readers
            and op.name not in net.outputs
            and all(reader.operator.type == "batch_norm" for reader in readers)
        ):
            layers.append(op.layer)
            wasted += next(
                (product(p.shape) for p in net.params[op.weights] if p.name == "bias"), 0
            )
    if layers:
        yield Finding(
            code="bias-before-norm",
            layers=list(dict.fromkeys(layers)),
            message=f"the bias of {named(layers)} goes into a batch norm, which takes it out "
            f"again: {wasted:,} parameters for nothing",
        )


def unproductive(net: Network) -> Iterator[Finding]:
    """Layers that change nothing."""
    makers = {op.name: op for op in net.ops}
    for op in net.ops:
        why = idle(net, op, makers)
        if why:
            yield Finding(
                code="unproductive", layers=[op.layer], message=f"'{op.layer}' does nothing: {why}"
            )


def idle(net: Network, op: Op, makers: dict[str, Op]) -> str:
    """Why an op changes nothing; "" if it does."""
    operator: Any = op.operator
    kind = operator.type
    if kind in POOLS and all(
        slide.kernel == slide.stride == 1 and slide.before == slide.after == 0
        for slide in operator.way(net.tensors[op.inputs[0]])
    ):
        return "a pool over single positions"
    if kind == "dropout" and operator.rate == 0:
        return "dropout with a rate of 0"
    if kind == "upsample" and net.tensors[op.name] == net.tensors[op.inputs[0]]:
        return "it enlarges by 1"
    before = makers.get(op.inputs[0]) if op.inputs else None
    if kind == "activation" and before is not None and before.operator.type == "activation":
        earlier = before.operator.function  # type: ignore[attr-defined]
        if operator.function == earlier and earlier in IDEMPOTENT:
            return f"{earlier} of a {earlier}"
    if kind == "batch_norm" and before is not None and before.operator.type == "batch_norm":
        return "a batch norm of a batch norm"
    return ""


def consumers(net: Network) -> dict[str, list[Op]]:
    """Who reads each tensor."""
    found: dict[str, list[Op]] = {}
    for op in net.ops:
        for name in op.inputs:
            found.setdefault(name, []).append(op)
    return found


def named(layers: list[str]) -> str:
    """The first names, and how many there are more."""
    unique = list(dict.fromkeys(layers))
    shown = ", ".join(f"'{name}'" for name in unique[:3])
    return shown if len(unique) <= 3 else f"{shown} and {len(unique) - 3} more layers"


RULES: tuple[Rule, ...] = (
    mostly_padding,
    beyond_the_input,
    odd_channels,
    flatten_dense,
    bias_before_norm,
    unproductive,
)
