"""Receptive fields: which positions of the input one neuron sees.

Along one axis the neurons of a map look at windows of one size, `jump` input positions apart.  An
operator whose window spans k positions of that map, stands `stride` apart and begins `before`
positions in front of it composes with it (Araujo, Norris, Sim 2019):

    size'  = size + (k - 1) * jump
    jump'  = jump * stride
    start' = start - before * jump

Where branches meet the field is the hull of theirs.

Up-sampling by u makes neurons differ: windows of k positions hold at most ``(k - 1) // u + 1`` of
the map below, and later layers go on from there with ``jump / u``.  Such a size may fall short of
what some neurons see, by less than one jump of each map that was up-sampled; `seen_by` is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from convcalc.arithmetic import ceil_div
from convcalc.errors import UsageError
from convcalc.network import Network, Op
from convcalc.ops import Operator, View
from convcalc.ops.base import Views, spatial_axes


class AxisField(NamedTuple):
    """What the neurons of a tensor see along one spatial axis of the network's first input."""

    size: int
    """Positions that one neuron sees, whether or not they lie within the input."""
    stride: int | Fraction
    """Input positions from one neuron to the next; below 1 after up-sampling; 0 if `whole`."""
    padding: int | Fraction
    """Positions of neuron 0's field that lie in front of the input; negative behind its start."""
    aligned: bool = True
    """False where branches of different stride or centre met: `size` is then the hull of neuron 0
    and `stride` the largest."""
    whole: bool = False
    """Every neuron sees the whole axis, whose length `size` then is."""


class Track(NamedTuple):
    """A tensor axis as a map of windows over one axis of the source."""

    source: int
    size: int | Fraction
    jump: int | Fraction
    start: int | Fraction
    #: Twice the centre of neuron 0's window; for up-sampling the centre before rounding, so that
    #: a map that was halved and doubled again counts as aligned with what it came from.
    centre: int | Fraction
    aligned: bool


class State(NamedTuple):
    """How a tensor sees the source."""

    tracks: tuple[Track | None, ...]
    """One for each axis of the tensor."""
    whole: int
    """Bits of the source axes of which every neuron sees all."""


def receptive_fields(net: Network) -> dict[str, tuple[AxisField, ...] | None]:
    """For each tensor its field along each spatial axis of the network's first input.

    None where nothing is seen of that input, where it has no spatial axes, or where an opaque
    operator without a known shape lies between.
    """
    source, spec = next(iter(net.inputs.items()))
    axes = spatial_axes(len(spec.dims), net.channels_first) if spec.known else range(0)
    if not len(axes):
        return dict.fromkeys(net.tensors)
    sizes = [spec.dims[axis] for axis in axes]
    tracks: list[Track | None] = [None] * len(spec.dims)
    for index, axis in enumerate(axes):
        tracks[axis] = Track(index, 1, 1, 0, 0, True)
    states: dict[str, State | None] = {source: State(tuple(tracks), 0)}
    tensors = net.tensors
    fields: dict[str, tuple[AxisField, ...] | None] = dict.fromkeys(tensors)
    # Tensors that see the input in the same way share one object.
    known: dict[int, tuple[AxisField, ...]] = {}
    for name in net.inputs:
        if name == source:
            fields[name] = summary(states[name], sizes, known)
    for op in net.ops:
        state = flow(net, op, states)
        if state is MISSING:
            continue
        states[op.name] = state
        fields[op.name] = found = summary(state, sizes, known)
        for index in range(1, len(net.results[op.name])):
            name = op.output(index)
            states[name], fields[name] = state, found
    return fields


#: The state of a tensor that does not depend on the source.
MISSING = State((), -1)


def flow(net: Network, op: Op, states: dict[str, State | None]) -> State | None:
    """The state of an op's outputs; `MISSING` without any of the source, None if unknown."""
    inputs: list[State] = []
    seen = False
    for name in op.inputs:
        source = states.get(name, MISSING)
        if source is None:
            return None
        inputs.append(source)
        seen = seen or source is not MISSING
    tensors = net.tensors
    target = tensors[op.name]
    if target.shape is None:
        return None if seen else MISSING
    if type(op.operator).views is Operator.views:
        # Element by element: nothing moves if all shapes are the output's.
        same = True
        for name in op.inputs:
            if tensors[name].shape != target.shape:
                same = False
                break
        if same:
            merged = MISSING
            for state in inputs:
                merged = state if merged is MISSING else merge(merged, state)
            return merged
    if not seen:
        return MISSING
    views = op.operator.views(*net.specs(op))
    merged = MISSING
    for state, looks in zip(inputs, views, strict=True):
        if state is not MISSING:
            state = look(state, looks)
            merged = state if merged is MISSING else merge(merged, state)
    return merged


def look(state: State, views: Views) -> State:
    """The state seen through the views of one operator."""
    tracks: list[Track | None] = []
    whole = state.whole
    looked = set()
    for view in views:
        if view is None:
            tracks.append(None)
            continue
        axis = view[0]
        looked.add(axis)
        track = state.tracks[axis]
        if track is None:
            tracks.append(None)
        elif view[2] == 0:
            # A window that does not move stands on the whole axis.
            whole |= 1 << track[0]
            tracks.append(None)
        else:
            tracks.append(compose(track, view))
    for axis, track in enumerate(state.tracks):
        if track is not None and axis not in looked:
            whole |= 1 << track[0]
    return State(tuple(tracks), whole)


def compose(track: Track, view: View) -> Track:
    """The track of windows over a map that itself is one of windows."""
    _, kernel, stride, before, up = view
    source, size, jump, start, centre, aligned = track
    if up == 1:
        if kernel == 1 and stride == 1 and before == 0:
            return track
        return Track(
            source,
            size + (kernel - 1) * jump,
            jump * stride,
            start - before * jump,
            centre + (kernel - 1 - 2 * before) * jump,
            aligned,
        )
    return Track(
        source,
        whole_number(size + (kernel - 1) // up * jump),
        whole_number(Fraction(jump * stride) / up),
        whole_number(start + ceil_div(-before, up) * jump),
        whole_number(centre + Fraction(kernel - 1 - 2 * before) * jump / up),
        aligned,
    )


def whole_number(value: int | Fraction) -> int | Fraction:
    """An integer where it is one: further arithmetic is then quick."""
    return value.numerator if value.denominator == 1 else value


def merge(a: State, b: State) -> State:
    """What is seen where two branches meet."""
    if a is b or a == b:
        return a
    if b is MISSING:
        return a
    whole = a.whole | b.whole
    tracks: list[Track | None] = []
    for left, right in zip(a.tracks, b.tracks, strict=True):
        if left is None or right is None or left == right:
            tracks.append(left or right)
        elif left[0] != right[0]:
            # Two axes of the source lie along one axis of the tensor: windows say nothing.
            whole |= 1 << left[0] | 1 << right[0]
            tracks.append(None)
        else:
            tracks.append(hull(left, right))
    return State(tuple(tracks), whole)


def hull(a: Track, b: Track) -> Track:
    """The smallest window with both."""
    start = min(a.start, b.start)
    size = max(a.start + a.size, b.start + b.size) - start
    if a.jump == b.jump and a.centre == b.centre:
        return Track(a.source, size, a.jump, start, a.centre, a.aligned and b.aligned)
    return Track(a.source, size, max(a.jump, b.jump), start, 2 * start + size - 1, False)


def summary(
    state: State | None, sizes: Sequence[int], known: dict[int, tuple[AxisField, ...]]
) -> tuple[AxisField, ...] | None:
    """The fields along the source's axes of `sizes` positions."""
    if state is None:
        return None
    found = known.get(id(state))
    if found is not None:
        return found
    fields: list[AxisField | None] = [None] * len(sizes)
    for track in state.tracks:
        if track is not None and not state.whole >> track[0] & 1:
            source, size, jump, start, _, aligned = track
            fields[source] = AxisField(-(-size // 1), jump, -start, aligned)
    found = known[id(state)] = tuple(
        [
            AxisField(size, 0, 0, whole=True) if field is None else field
            for size, field in zip(sizes, fields, strict=True)
        ]
    )
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """The positions lo ... hi of one spatial axis of an input that a neuron sees."""

    lo: int
    hi: int
    unclipped_lo: int
    """Where the window would begin if the input had no border: what lies before `lo` is padding."""
    unclipped_hi: int


#: Positions along one axis: disjoint ranges lo ... hi in ascending order, at least one.
Spans = tuple[tuple[int, int], ...]

#: Positions along each axis of a tensor.
Box = tuple[Spans, ...]

#: Neurons whose windows have gaps between them are followed one by one up to this many.
MAX_FOLLOWED = 10_000


def seen_by(net: Network, tensor: str, position: Sequence[int]) -> dict[str, tuple[Seen, ...]]:
    """Which positions of each input the neurons at `position` of a tensor see.

    `position` counts from 0 along the tensor's spatial axes; all its channels are asked for.
    The first and the last position seen are exact, whatever strides leave out between; a dilated
    kernel counts with all that it spans.  Operators that mix a whole axis are taken to see all of
    it.  An input of which nothing is seen is left out.

    Raises:
        UsageError: no such tensor or position, or its shape is unknown.
    """
    spec = net.tensors.get(tensor)
    if spec is None:
        raise UsageError(f"there is no tensor '{tensor}'")
    if spec.shape is None:
        raise UsageError(f"the shape of '{tensor}' is unknown")
    axes = spatial_axes(len(spec.dims), net.channels_first)
    if len(position) != len(axes):
        raise UsageError(
            f"position {tuple(position)} must have {len(axes)} numbers, as '{tensor}' is {spec}"
        )
    box = list(everything(spec.dims))
    for axis, at in zip(axes, position, strict=True):
        if type(at) is not int or not 0 <= at < spec.dims[axis]:
            raise UsageError(
                f"position {at!r} is outside 0 ... {spec.dims[axis] - 1} of '{tensor}'"
            )
        box[axis] = ((at, at),)
    inside = trace(net, tensor, tuple(box), clip=True)
    beyond = trace(net, tensor, tuple(box), clip=False)
    seen: dict[str, tuple[Seen, ...]] = {}
    for name, source in net.inputs.items():
        if name in inside:
            spatial = spatial_axes(len(source.dims), net.channels_first)
            seen[name] = tuple(
                Seen(*ends(inside[name][axis]), *ends(beyond[name][axis])) for axis in spatial
            )
    return seen


def trace(net: Network, tensor: str, box: Box, *, clip: bool) -> dict[str, Box]:
    """The boxes of all tensors that a box of `tensor` is computed from.

    `clip` leaves out at every step what lies outside the tensor: padding is seen, but nothing
    that it hides.
    """
    boxes: dict[str, Box] = {tensor: box}
    for op in reversed(net.ops):
        outputs = [name for name in outputs_of(net, op) if name in boxes]
        if not outputs:
            continue
        if not all(net.tensors[name].known for name in (*op.inputs, op.name)):
            raise UsageError(f"'{op.name}' hides what '{tensor}' sees: its shape is unknown")
        views = op.operator.views(*net.specs(op))
        for name, looks in zip(op.inputs, views, strict=True):
            dims = net.tensors[name].dims
            for output in outputs:
                found = back(boxes[output], looks, dims, clip)
                if found is not None:
                    known = boxes.get(name)
                    boxes[name] = found if known is None else around(known, found)
    return boxes


def outputs_of(net: Network, op: Op) -> list[str]:
    """The names of an op's outputs."""
    names = [op.name]
    while (name := op.output(len(names))) in net.tensors:
        names.append(name)
    return names


def everything(dims: tuple[int, ...]) -> Box:
    """All positions of a tensor."""
    return tuple(((0, size - 1),) for size in dims)


def ends(spans: Spans) -> tuple[int, int]:
    """The first and the last of some positions."""
    return spans[0][0], spans[-1][1]


def back(box: Box, views: Views, dims: tuple[int, ...], clip: bool) -> Box | None:
    """The box of an input that a box of the output looks at; None if it only sees padding."""
    found = list(everything(dims))
    if len(box) != len(views):
        # Views describe the first output; a further one of another rank may see anything.
        return tuple(found)
    for spans, view in zip(box, views, strict=True):
        if view is not None:
            found[view.axis] = back_axis(spans, view, dims[view.axis] if clip else None)
            if not found[view.axis]:
                return None
    return tuple(found)


def back_axis(spans: Spans, view: View, size: int | None) -> Spans:
    """The positions that neurons look at, of those below `size`; there may be none."""
    _, kernel, stride, before, up = view
    ranges: list[tuple[int, int]] = []
    for first, last in spans:
        # Windows that touch cover a range; others leave positions out between them.
        single = kernel >= stride or last - first >= MAX_FOLLOWED
        groups = ((first, last),) if single else ((o, o) for o in range(first, last + 1))
        for a, b in groups:
            lo = ceil_div(a * stride - before, up)
            hi = (b * stride - before + kernel - 1) // up
            if size is not None:
                lo, hi = max(lo, 0), min(hi, size - 1)
            if lo <= hi:
                ranges.append((lo, hi))
    return joined(ranges)


def joined(ranges: list[tuple[int, int]]) -> Spans:
    """Ranges in ascending order, those that touch or overlap as one."""
    if len(ranges) < 2:
        return tuple(ranges)
    ranges.sort()
    found = [ranges[0]]
    for lo, hi in ranges[1:]:
        if lo <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(hi, found[-1][1]))
        else:
            found.append((lo, hi))
    return tuple(found)


def around(a: Box, b: Box) -> Box:
    """What lies in either box, axis by axis."""
    return tuple(p if p == q else joined([*p, *q]) for p, q in zip(a, b, strict=True))
