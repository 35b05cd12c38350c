"""How a layer's numbers come about, in symbols, in numbers and in words.

The results are what the operators' own methods say.  The strings show a formula with its values
put in; a test does their arithmetic and compares, so that what is read is what was computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convcalc.analysis.receptive_field import (
    AxisField,
    back,
    ends,
    everything,
    receptive_fields,
    seen_by,
)
from convcalc.arithmetic import product
from convcalc.network import Network, Op
from convcalc.ops import View, create
from convcalc.ops.base import channel_axis, per_axis, spatial_axes
from convcalc.ops.convolution import Conv, ConvTranspose, DepthwiseConv
from convcalc.ops.linear import Dense
from convcalc.ops.normalization import BatchNorm
from convcalc.ops.pooling import Pool
from convcalc.ops.window import Slide
from convcalc.settings import DTYPES, choose
from convcalc.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Step:
    """One number of a layer."""

    quantity: str
    """What it is: "parameters"."""
    symbols: str
    """The formula: "(k_h x k_w x C_in + 1) x filters"; empty where there is none."""
    values: str
    """The formula with its values: "(5 x 5 x 3 + 1) x 200"."""
    result: int | str
    unit: str = ""
    note: str = ""
    """What else there is to say, in a sentence."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The words for one spatial axis."""

    suffix: str
    """What its symbols end in: k_h."""
    one: str
    many: str
    before: str
    after: str

    def count(self, number: int) -> str:
        """ "1 row", "2 rows"."""
        return f"{number:,} {self.one if number == 1 else self.many}"


ROWS = Axis("_h", "row", "rows", "above", "below")
COLUMNS = Axis("_w", "column", "columns", "on the left", "on the right")
PLANES = Axis("_d", "plane", "planes", "in front", "behind")
POSITIONS = Axis("", "position", "positions", "before", "after")
AXES = {1: (POSITIONS,), 2: (ROWS, COLUMNS), 3: (PLANES, ROWS, COLUMNS)}


def derive(
    net: Network,
    op: Op,
    batch: int = 1,
    dtype: str = "float32",
    neuron: Sequence[int] | None = None,
) -> tuple[Step, ...]:
    """The numbers of one op of a network, step by step.

    Parameters and multiplications are those of one sample, bytes those of a batch of `batch`.
    `neuron` is a place on the output's spatial axes, from 0.

    Raises:
        UsageError: an unknown dtype, or a neuron that is not there.
    """
    width = DTYPES[choose(dtype, DTYPES, "dtype")]
    output = net.tensors[op.name]
    if not output.known or not all(net.tensors[name].known for name in op.inputs):
        note = f"no rule is known for '{op.layer_type}' or for what it reads"
        return (Step("output shape", "", "", "unknown", note=note),)
    inputs, _ = net.specs(op)
    steps = [*shape_steps(op, inputs, output, batch), *parameter_steps(net, op)]
    steps += multiplication_steps(net, op, batch)
    steps.append(bytes_step(output, batch, width, dtype))
    steps += field_steps(net, op)
    if neuron is not None:
        steps += neuron_steps(net, op, neuron)
    steps += dense_steps(op, inputs, output)
    return tuple(steps)


def times(numbers: Sequence[Any]) -> str:
    """ "5 x 5 x 3"."""
    return " x ".join(f"{number:,}" for number in numbers)


def words(rank: int) -> tuple[Axis, ...]:
    """The words for the spatial axes of a tensor with `rank` of them."""
    return AXES.get(rank) or tuple(
        Axis(f"_{i}", "position", "positions", "before", "after") for i in range(rank)
    )


def spatial(spec: TensorSpec, channels_first: bool) -> tuple[int, ...]:
    """The sizes between batch and channels."""
    axes = spatial_axes(len(spec.dims), channels_first)
    return spec.dims[axes.start : axes.stop]


# Shape


def windows(op: Op, x: TensorSpec) -> tuple[Slide, ...]:
    """How the op's window slides; none where it has no window."""
    kind = op.operator
    if isinstance(kind, (Conv, DepthwiseConv)):
        return kind.slides(x)
    return kind.way(x) if isinstance(kind, Pool) else ()


def shape_steps(
    op: Op, inputs: Sequence[TensorSpec], output: TensorSpec, batch: int
) -> Iterator[Step]:
    """Each spatial axis with what padding adds or leaves out, then the whole shape."""
    kind: Any = op.operator
    if slides := windows(op, inputs[0]):
        for axis, slide in zip(words(len(slides)), slides, strict=True):
            yield from slide_steps(axis, slide, kind)
    elif isinstance(kind, ConvTranspose):
        yield from transposed_steps(kind, inputs[0])
    shape = output.shape_at(batch)
    note = "" if output.batch_axis is None else f"a batch of {batch:,}"
    yield Step("output shape", "", "", times(shape or ()), note=note)


def slide_steps(axis: Axis, slide: Slide, kind: Any) -> Iterator[Step]:
    """The places of a window along one axis."""
    n, k, s, d = slide.size, slide.kernel, slide.stride, slide.dilation
    sub = axis.suffix
    span, span_values = f"k{sub}", f"{k:,}"
    if d != 1:
        span, span_values = f"(d{sub} x (k{sub} - 1) + 1)", f"({d:,} x ({k:,} - 1) + 1)"
    same = kind.padding in ("same", "same_lower")
    ceil_mode = getattr(kind, "ceil_mode", False)
    if same and not ceil_mode:
        symbols, values = f"ceil(n{sub} / s{sub})", f"ceil({n:,} / {s:,})"
    else:
        total = slide.before + slide.after
        added = f" + {total:,}" if total else ""
        rounding = "ceil" if ceil_mode else "floor"
        symbols = f"{rounding}((n{sub}{' + p' + sub if total else ''} - {span}) / s{sub}) + 1"
        values = f"{rounding}(({n:,}{added} - {span_values}) / {s:,}) + 1"
        places = -(-(n + total - slide.extent) // s) + 1
        if ceil_mode and places != slide.output:
            # PyTorch leaves a window out that would begin beyond the input.
            symbols, values = f"{symbols} - 1", f"{values} - 1"
    yield Step(f"output {axis.many}", symbols, values, slide.output, note=edges(axis, slide))
    if same:
        yield Step(
            f"{axis.many} added",
            f"max((out{sub} - 1) x s{sub} + {span} - n{sub}, 0)",
            f"max(({slide.output:,} - 1) x {s:,} + {span_values} - {n:,}, 0)",
            slide.before + slide.after,
            note=f"{slide.before:,} {axis.before}, {slide.after:,} {axis.after}",
        )


def edges(axis: Axis, slide: Slide) -> str:
    """What padding adds, and what no window reaches."""
    parts = []
    if slide.before or slide.after:
        parts.append(
            f"{axis.count(slide.before)} added {axis.before}, {slide.after:,} {axis.after}"
        )
    else:
        parts.append(f"no {axis.many} added")
    if slide.ignored:
        are = "is" if slide.ignored == 1 else "are"
        parts.append(f"the last {axis.count(slide.ignored)} {are} ignored")
    return "; ".join(parts)


def transposed_steps(kind: ConvTranspose, x: TensorSpec) -> Iterator[Step]:
    """The positions that a transposed convolution makes along each axis."""
    sizes = spatial(x, kind.channels_first)
    rank = len(sizes)
    names = words(rank)
    kernel = per_axis(kind.kernel, rank, "kernel")
    stride = per_axis(kind.stride, rank, "stride")
    dilation = per_axis(kind.dilation, rank, "dilation")
    extra = kind.output_padding
    extras = extra if isinstance(extra, tuple) else (extra,) * rank
    found = kind.sizes(x)
    for axis, n, k, s, d, e, (size, crop) in zip(
        names, sizes, kernel, stride, dilation, extras, found, strict=True
    ):
        sub = axis.suffix
        span, span_values = f"k{sub}", f"{k:,}"
        if d != 1:
            span, span_values = f"d{sub} x (k{sub} - 1) + 1", f"{d:,} x ({k:,} - 1) + 1"
        full = f"(n{sub} - 1) x s{sub} + {span}"
        full_values = f"({n:,} - 1) x {s:,} + {span_values}"
        # Positions that the kernels reach, cropped or filled up to the size that comes out.
        whole = (n - 1) * s + d * (k - 1) + 1
        named = isinstance(kind.padding, str) and e is None
        if kind.output_shape is not None:
            symbols, values = f"output_shape{sub}", f"{size:,}"
        elif named and (kind.padding != "valid" or size != whole):
            symbols, values = f"n{sub} x s{sub}", f"{n:,} x {s:,}"
        else:
            symbols, values = full, full_values
            cropped = whole + (e or 0) - size
            if cropped:
                symbols, values = f"{symbols} - p{sub}", f"{values} - {cropped:,}"
            if e:
                symbols, values = f"{symbols} + output_padding{sub}", f"{values} + {e:,}"
        note = f"the kernels reach {axis.count(whole)}"
        if crop:
            note += f"; {axis.count(crop)} cropped {axis.before}"
        yield Step(f"output {axis.many}", symbols, values, size, note=note)


# Parameters and arithmetic


def kernel_of(op: Op, x: TensorSpec) -> tuple[tuple[Any, ...], str]:
    """(sizes of the window, their symbols)."""
    kind: Any = op.operator
    rank = len(spatial(x, kind.channels_first))
    symbols = " x ".join(f"k{axis.suffix}" for axis in words(rank))
    return per_axis(kind.kernel, rank, "kernel"), symbols


def parameter_steps(net: Network, op: Op) -> Iterator[Step]:
    """What the op stores."""
    kind = op.operator
    inputs, _ = net.specs(op)
    variables = kind.params(*inputs)
    total = sum(product(variable.shape) for variable in variables)
    if not variables:
        yield Step("parameters", "", "", 0, note="it stores nothing")
        return
    symbols = " + ".join(variable.name for variable in variables)
    values = " + ".join(times(variable.shape) or "1" for variable in variables)
    x = inputs[0] if inputs else None
    note = ""
    if x is not None and isinstance(kind, (Conv, DepthwiseConv, ConvTranspose)):
        window, names = kernel_of(op, x)
        channels = x.dims[channel_axis(len(x.dims), kind.channels_first)]
        bias, bias_note = (" + 1", "1 for the bias") if kind.bias else ("", "no bias")
        if isinstance(kind, DepthwiseConv):
            inner, inner_values = names, times(window)
            outer, outer_values = "C_in x multiplier", times((channels, kind.multiplier))
            note = f"each channel on its own; {bias_note}"
        else:
            inner, inner_values = f"{names} x C_in", times((*window, channels))
            if kind.groups != 1:
                inner, inner_values = f"{inner} / groups", f"{inner_values} / {kind.groups:,}"
            outer, outer_values = "filters", f"{kind.filters:,}"
            note = bias_note
        if kind.bias:
            inner, inner_values = f"({inner}{bias})", f"({inner_values}{bias})"
        symbols, values = f"{inner} x {outer}", f"{inner_values} x {outer_values}"
    elif x is not None and isinstance(kind, Dense):
        width = x.dims[-1]
        symbols = "(n + 1) x units" if kind.bias else "n x units"
        values = f"({width:,} + 1) x {kind.units:,}" if kind.bias else times((width, kind.units))
        note = "1 for the bias" if kind.bias else "no bias"
    elif isinstance(kind, BatchNorm):
        note = "four numbers a channel at most; no optimizer touches the moving statistics"
    sharing = [other.name for other in net.ops if other.weights == op.weights]
    if len(sharing) > 1:
        note = f"{note}; " if note else ""
        note += f"shared by {', '.join(sharing)} and stored once"
    yield Step("parameters", symbols, values, total, note=note)
    trained = [variable for variable in variables if variable.trainable and op.trainable]
    if len(trained) != len(variables):
        yield Step(
            "trainable parameters",
            " + ".join(variable.name for variable in trained),
            " + ".join(times(variable.shape) or "1" for variable in trained),
            sum(product(variable.shape) for variable in trained),
            note="" if op.trainable else "the layer is frozen",
        )


def multiplication_steps(net: Network, op: Op, batch: int) -> Iterator[Step]:
    """Multiplications, or the other operations of what multiplies no weights."""
    kind: Any = op.operator
    inputs, outputs = net.specs(op)
    output = outputs[0]
    macs = kind.macs(inputs, outputs)
    symbols = values = ""
    if isinstance(kind, (Conv, DepthwiseConv, ConvTranspose)):
        x = inputs[0]
        window, names = kernel_of(op, x)
        at = channel_axis(len(x.dims), kind.channels_first)
        where, side = (x, "in") if isinstance(kind, ConvTranspose) else (output, "out")
        # What an operator has folded into the batch axis counts as further positions.
        folded = (where.dims[0],) if where.dims[0] != 1 else ()
        places = (*folded, *spatial(where, kind.channels_first))
        place_names = [f"{side}{axis.suffix}" for axis in words(len(places) - len(folded))]
        at_places = " x ".join(["windows"] * len(folded) + place_names)
        if isinstance(kind, DepthwiseConv):
            symbols = f"{names} x C_in x multiplier x {at_places}"
            values = times((*window, x.dims[at], kind.multiplier, *places))
        else:
            by, by_values = (" / groups", f" / {kind.groups:,}") if kind.groups != 1 else ("", "")
            symbols = f"{names} x C_in{by} x filters x {at_places}"
            values = f"{times((*window, x.dims[at]))}{by_values} x {times((kind.filters, *places))}"
    elif isinstance(kind, Dense):
        vectors = inputs[0].dims[:-1]
        more = vectors if product(vectors) != 1 else ()
        symbols = "n x units" + (" x vectors" if more else "")
        values = times((inputs[0].dims[-1], kind.units, *((product(more),) if more else ())))
    note = "for one sample" if batch == 1 else f"for one sample; the batch takes {batch:,} times"
    yield Step(
        "multiplications", symbols, values, macs, note=note if macs else "it has no products"
    )
    other = kind.elementwise(inputs, outputs)
    if isinstance(kind, Pool):
        slides = kind.way(inputs[0])
        names = " x ".join(f"k{axis.suffix}" for axis in words(len(slides)))
        window_values = times([slide.kernel for slide in slides])
        yield Step(
            "other operations",
            f"{names} x outputs",
            f"{window_values} x {output.elements:,}",
            other,
            note="each output looks at its whole window",
        )
    elif isinstance(kind, BatchNorm):
        yield Step(
            "other operations",
            "2 x elements",
            f"2 x {output.elements:,}",
            other,
            note="at inference: one factor and one shift an element",
        )


# Memory


def bytes_step(output: TensorSpec, batch: int, width: int, dtype: str) -> Step:
    """What the output takes."""
    each = output.bytes_at(1, width) // output.elements
    shape = output.shape_at(batch) or ()
    element = dtype if output.dtype == "float" else output.dtype
    return Step(
        "output bytes",
        "elements x bytes of one",
        times((*shape, each)),
        output.bytes_at(batch, width),
        "bytes",
        f"{each} bytes for each {element}" if each != 1 else f"1 byte for each {element}",
    )


# Receptive field


def field_steps(net: Network, op: Op) -> Iterator[Step]:
    """How much of the network's first input one neuron sees."""
    fields = receptive_fields(net)
    found = fields[op.name]
    if found is None:
        return
    source = next(iter(net.inputs))
    before = fields[op.inputs[0]] if len(op.inputs) == 1 else None
    views = axis_views(net, op)
    for index, (axis, field) in enumerate(zip(words(len(found)), found, strict=True)):
        quantity = f"receptive field in {axis.many}"
        if field.whole:
            yield Step(quantity, "", "", field.size, note=f"every neuron sees all {axis.many}")
            continue
        symbols = values = ""
        if before is not None and views and composes(before[index], views[index]):
            symbols, values = composition(before[index], views[index], axis.suffix)
        stride, padding = field.stride, field.padding
        step = axis.count(stride) if isinstance(stride, int) else f"{stride} {axis.many}"
        begins = (
            f"neuron 0 begins {padding} {axis.one if padding == 1 else axis.many} {axis.before}"
            if padding > 0
            else f"neuron 0 begins at {axis.one} {-padding}"
        )
        note = f"from one neuron to the next: {step} of '{source}'; {begins}"
        if not field.aligned:
            note += "; branches of different stride or centre meet: the hull of them"
        yield Step(quantity, symbols, values, field.size, note=note)


def axis_views(net: Network, op: Op) -> list[View]:
    """How the spatial axes of an op look at those of its only input; none if they do otherwise."""
    inputs, outputs = net.specs(op)
    if len(inputs) != 1:
        return []
    (views,) = op.operator.views(inputs, outputs)
    axes = spatial_axes(len(inputs[0].dims), net.channels_first)
    looks = [views[axis] if axis < len(views) else None for axis in axes]
    straight = [v for v, axis in zip(looks, axes, strict=True) if v and v.axis == axis]
    return straight if len(straight) == len(axes) else []


def composes(before: AxisField, view: View) -> bool:
    """Whether the field follows from the one before in whole numbers."""
    return not before.whole and isinstance(before.stride, int) and view.stride != 0


def composition(before: AxisField, view: View, sub: str) -> tuple[str, str]:
    """The field's growth in symbols and in numbers."""
    if view.upsample == 1:
        grown, values = f"(k{sub} - 1)", f"({view.kernel:,} - 1)"
    else:
        grown = f"floor((k{sub} - 1) / s{sub})"
        values = f"floor(({view.kernel:,} - 1) / {view.upsample:,})"
    return f"field + {grown} x jump", f"{before.size:,} + {values} x {before.stride:,}"


def neuron_steps(net: Network, op: Op, neuron: Sequence[int]) -> Iterator[Step]:
    """Which inputs of its layer and of the network one neuron sees."""
    place = ", ".join(map(str, neuron))
    seen = seen_by(net, op.name, neuron)
    views = axis_views(net, op)
    inputs, outputs = net.specs(op)
    if views and len(views) == len(neuron) and op.inputs[0] in net.inputs:
        # The layer stands on the input itself: the book's formula, neuron by neuron.
        axes = spatial_axes(len(inputs[0].dims), net.channels_first)
        box = list(everything(outputs[0].dims))
        for axis, at in zip(axes, neuron, strict=True):
            box[axis] = ((at, at),)
        (looks,) = op.operator.views(inputs, outputs)
        window = back(tuple(box), looks, inputs[0].dims, clip=False)
        for word, view, at, index in zip(words(len(views)), views, neuron, axes, strict=True):
            if window is None:
                break
            yield from end_steps(word, view, at, ends(window[index]), inputs[0].dims[index])
    for name, axes_seen in seen.items():
        parts, padded = [], []
        for word, span in zip(words(len(axes_seen)), axes_seen, strict=True):
            parts.append(f"{word.many} {span.lo} to {span.hi}")
            before = max(span.lo - span.unclipped_lo, 0)
            after = max(span.unclipped_hi - span.hi, 0)
            if before or after:
                padded.append(f"{before:,} {word.many} {word.before} and {after:,} {word.after}")
        note = f"its window reaches beyond the input: {'; '.join(padded)}" if padded else ""
        result = ", ".join(parts) or "all"
        yield Step(f"neuron ({place}) sees of '{name}'", "", "", result, note=note)
    if not seen:
        yield Step(f"neuron ({place}) sees", "", "", "nothing but padding")


def end_steps(
    axis: Axis, view: View, at: int, window: tuple[int, int], size: int
) -> Iterator[Step]:
    """The first and the last position that neuron `at` looks at along one axis."""
    sub = axis.suffix
    first, first_values = f"i{sub} x s{sub} - p{sub}", f"{at:,} x {view.stride:,} - {view.before:,}"
    last, last_values = f"{first} + k{sub} - 1", f"{first_values} + {view.kernel:,} - 1"
    if view.upsample != 1:
        up = f"{view.upsample:,}"
        first, first_values = f"ceil(({first}) / u{sub})", f"ceil(({first_values}) / {up})"
        last, last_values = f"floor(({last}) / u{sub})", f"floor(({last_values}) / {up})"
    low = "before the first: padding" if window[0] < 0 else ""
    high = f"behind the last, {size - 1:,}: padding" if window[1] >= size else ""
    yield Step(f"first {axis.one} seen", first, first_values, window[0], note=low)
    yield Step(f"last {axis.one} seen", last, last_values, window[1], note=high)


# Comparison


def dense_steps(op: Op, inputs: Sequence[TensorSpec], output: TensorSpec) -> Iterator[Step]:
    """What a fully connected layer between the same tensors would store."""
    kind = op.operator
    if not isinstance(kind, (Conv, DepthwiseConv, ConvTranspose)):
        return
    before, after = inputs[0].elements, output.elements
    variables = create("dense", {"units": after}).params(TensorSpec((1, before)))
    weights, total = product(variables[0].shape), sum(product(v.shape) for v in variables)
    own = sum(product(variable.shape) for variable in kind.params(*inputs))
    yield Step(
        "weights of a fully connected layer instead",
        "inputs x outputs",
        times((before, after)),
        weights,
        note=f"each of {after:,} neurons would see all {before:,} inputs; "
        f"{total - weights:,} biases come on top",
    )
    yield Step(
        "times as many parameters as here",
        "round((inputs + 1) x outputs / parameters)",
        f"round(({before:,} + 1) x {after:,} / {own:,})",
        round(Fraction(total, own)),
    )
