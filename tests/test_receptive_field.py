"""Receptive fields against published tables and against dependencies followed one by one."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convcalc.analysis.receptive_field import AxisField, Seen, receptive_fields, seen_by
from convcalc.errors import ModelError, UsageError
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec
from tests.slim_networks import NETWORKS, Builder, slim

TABLE = Path(__file__).parent / "data" / "receptive_field.csv"


def published() -> dict[tuple[str, str], list[dict[str, str]]]:
    """The published rows by network and resolution."""
    rows: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with TABLE.open() as file:
        for row in csv.DictReader(file):
            rows[row["CNN"], row["resolution"]].append(row)
    return rows


PUBLISHED = published()


def test_the_table_is_whole() -> None:
    assert sum(map(len, PUBLISHED.values())) == 561
    assert {name for name, _ in PUBLISHED} == set(NETWORKS)


@pytest.mark.parametrize(("name", "resolution"), PUBLISHED, ids="-".join)
def test_published(name: str, resolution: str) -> None:
    """Size, stride and padding at every end point.

    SAME's padding depends on whether sizes are odd.  Where the table leaves the resolution open it
    leaves open such paddings too; sizes and strides are the same at all, so 224 does.
    """
    net = slim(name, 224 if resolution == "None" else int(resolution))
    fields = receptive_fields(net)
    for row in PUBLISHED[name, resolution]:
        found = fields[row["end-point"]]
        assert found is not None
        padding = row["effective padding"]
        for axis in found:
            assert (axis.size, axis.stride) == (int(row["RF"]), int(row["effective stride"]))
            assert padding == "None" or axis.padding == int(padding)
            assert axis.aligned
            assert not axis.whole


def network(*ops: Op, size: Any = (1, 12, 12, 1), **more: Any) -> Network:
    """A network on one input of that shape."""
    return Network("n", ops, {"input": TensorSpec(size)}, (ops[-1].name,), **more)


def op(name: str, type: str, /, *sources: str, **attributes: Any) -> Op:
    return Op(name, create(type, attributes), sources or ("input",))


# The brute-force oracle: which inputs does each output depend on, followed one by one.


def dependencies(kind: str, a: dict[str, Any], seen: np.ndarray) -> np.ndarray:
    """For one axis: `seen` (positions, inputs) through one operator, by its definition."""
    n = len(seen)
    k, s = a.get("kernel", 1), a.get("stride", 1)
    before, after = a.get("padding", (0, 0))
    if kind in ("conv", "depthwise_conv", "max_pool", "average_pool"):
        padded = np.concatenate(
            [np.zeros((before, seen.shape[1]), bool), seen, np.zeros((after, seen.shape[1]), bool)]
        )
        places = range(0, len(padded) - k + 1, s)
        return np.array([padded[p : p + k].any(axis=0) for p in places])
    if kind == "conv_transpose":
        full = np.zeros(((n - 1) * s + k, seen.shape[1]), bool)
        for i in range(n):
            full[i * s : i * s + k] |= seen[i]
        return full[before : len(full) - after]
    if kind == "upsample":
        return np.repeat(seen, a["factor"], axis=0)
    if kind == "pad":
        return np.pad(seen, (a["padding"], (0, 0)))
    if kind == "crop":
        left, right = a["cropping"]
        return seen[left : n - right]
    raise AssertionError(kind)


KINDS = (
    "conv",
    "depthwise_conv",
    "max_pool",
    "average_pool",
    "conv_transpose",
    "upsample",
    "pad",
    "crop",
)


@st.composite
def along_an_axis(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """An operator's attributes for one axis; no more padding than the window is long."""
    if kind == "upsample":
        return {"factor": draw(st.integers(1, 3))}
    if kind in ("pad", "crop"):
        pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
        return {"padding" if kind == "pad" else "cropping": draw(pair)}
    k = draw(st.integers(1, 4))
    side = st.integers(0, k - 1)
    return {
        "kernel": k,
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.tuples(side, side)),
    }


def both_axes(kind: str, rows: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an operator with different values along rows and columns."""
    attributes: dict[str, Any] = {key: (rows[key], columns[key]) for key in rows}
    if kind in ("conv", "conv_transpose"):
        attributes["filters"] = 2
    return attributes


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Network, list[np.ndarray]]:
    """A stack of operators with a branch around part of it, and the truth about both axes."""
    sizes = draw(st.tuples(st.integers(3, 9), st.integers(3, 9)))
    truth = [np.eye(size, dtype=bool) for size in sizes]
    ops: list[Op] = []
    here = "input"
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(KINDS))
        rows, columns = draw(along_an_axis(kind)), draw(along_an_axis(kind))
        truth = [
            dependencies(kind, a, seen) for a, seen in zip((rows, columns), truth, strict=True)
        ]
        assume(all(0 < len(seen) < 60 for seen in truth))
        ops.append(op(f"op{number}", kind, here, **both_axes(kind, rows, columns)))
        here = ops[-1].name
        if draw(st.booleans()):
            # A branch of the same size that looks further and comes back.
            k = 2 * draw(st.integers(0, 2)) + 1
            ops.append(
                op(f"wide{number}", "depthwise_conv", here, kernel=k, padding=(k // 2, k // 2))
            )
            ops.append(op(f"sum{number}", "add", here, f"wide{number}"))
            here = ops[-1].name
            side = {"kernel": k, "padding": (k // 2, k // 2)}
            truth = [seen | dependencies("conv", side, seen) for seen in truth]
    try:
        return network(*ops, size=(1, *sizes, 1)), truth
    except ModelError:
        assume(False)
        raise


@given(stacks())
@settings(max_examples=200)
def test_seen_by_is_what_following_every_dependency_says(
    made: tuple[Network, list[np.ndarray]],
) -> None:
    net, truth = made
    end = net.outputs[0]
    assert net.tensors[end].dims[1:3] == tuple(map(len, truth))
    for i in range(len(truth[0])):
        for j in range(len(truth[1])):
            found = seen_by(net, end, (i, j))
            rows, columns = np.flatnonzero(truth[0][i]), np.flatnonzero(truth[1][j])
            if len(rows) and len(columns):
                spans = [(axis.lo, axis.hi) for axis in found["input"]]
                assert spans == [(rows[0], rows[-1]), (columns[0], columns[-1])]
            else:
                assert found == {}


@given(stacks())
@settings(max_examples=100)
def test_fields_hold_what_is_seen(made: tuple[Network, list[np.ndarray]]) -> None:
    """Without up-sampling each neuron's inputs lie where the track says; with it, as documented,
    they reach less than one jump of each up-sampled map further than the size."""
    net, truth = made
    fields = receptive_fields(net)
    found = fields[net.outputs[0]]
    assert found is not None
    rising = [o for o in net.ops if o.operator.type in ("conv_transpose", "upsample")]
    for index, (field, neurons) in enumerate(zip(found, truth, strict=True)):
        slack: Any = 0
        for o in rising:
            below = fields[o.inputs[0]]
            assert below is not None
            slack += below[index].stride
        for position, inputs in enumerate(neurons):
            seen = np.flatnonzero(inputs)
            if len(seen):
                assert seen[-1] - seen[0] < field.size + slack
            if len(seen) and not rising:
                start = position * field.stride - field.padding
                assert start <= seen[0]
                assert seen[-1] < start + field.size


def test_gaps_between_windows_stay_gaps() -> None:
    """Padding in front of a stride that skips it: position 0 is never looked at."""
    net = network(
        op("padded", "pad", padding=((1, 0), (1, 0))),
        op("half", "conv", "padded", filters=1, kernel=1, stride=2),
        op("wide", "conv", "half", filters=1, kernel=3, padding="same"),
    )
    assert seen_by(net, "wide", (0, 1)) == {"input": (Seen(1, 1, -3, 1), Seen(1, 3, -1, 3))}


def test_padding_is_visible_in_what_a_neuron_sees() -> None:
    net = network(op("c", "conv", filters=200, kernel=5, padding="same"), size=(1, 150, 100, 3))
    assert seen_by(net, "c", (0, 99)) == {"input": (Seen(0, 2, -2, 2), Seen(97, 99, 97, 101))}
    assert seen_by(net, "c", (75, 50)) == {"input": (Seen(73, 77, 73, 77), Seen(48, 52, 48, 52))}


def test_a_dilated_window_counts_with_all_that_it_spans() -> None:
    net = network(op("c", "conv", filters=1, kernel=3, dilation=4, padding="valid"))
    assert receptive_fields(net)["c"] == (AxisField(9, 1, 0),) * 2
    assert seen_by(net, "c", (1, 3)) == {"input": (Seen(1, 9, 1, 9), Seen(3, 11, 3, 11))}


def test_several_inputs_are_told_apart() -> None:
    ops = (
        op("a", "conv", "left", filters=1, kernel=3, padding="same"),
        op("b", "conv", "right", filters=1, kernel=1),
        op("sum", "add", "a", "b"),
    )
    spec = TensorSpec((1, 8, 8, 1))
    net = Network("two", ops, {"left": spec, "right": spec}, ("sum",))
    assert seen_by(net, "sum", (4, 0)) == {
        "left": (Seen(3, 5, 3, 5), Seen(0, 1, -1, 1)),
        "right": (Seen(4, 4, 4, 4), Seen(0, 0, 0, 0)),
    }
    assert receptive_fields(net)["right"] is None
    assert receptive_fields(net)["b"] is None
    assert receptive_fields(net)["sum"] == (AxisField(3, 1, 1),) * 2


def test_a_gate_makes_everything_behind_it_see_the_whole() -> None:
    """Squeeze and excitation: after the gate each neuron depends on all of the picture."""
    net = network(
        op("c", "conv", filters=4, kernel=3, padding="same"),
        op("mean", "global_pool", "c", keepdims=True),
        op("gate", "conv", "mean", filters=4, kernel=1),
        op("gated", "multiply", "c", "gate"),
        op("after", "conv", "gated", filters=4, kernel=3),
    )
    fields = receptive_fields(net)
    everything = (AxisField(12, 0, 0, whole=True),) * 2
    assert fields["c"] == (AxisField(3, 1, 1),) * 2
    assert fields["mean"] == fields["gate"] == fields["gated"] == fields["after"] == everything
    assert seen_by(net, "after", (0, 0))["input"][0].hi == 11


def test_paths_of_different_centre_or_stride_are_reported() -> None:
    shifted = network(
        op("a", "conv", filters=1, kernel=2, stride=2),
        op("b", "conv", filters=1, kernel=1, stride=2),
        op("sum", "add", "a", "b"),
        op("next", "conv", "sum", filters=1, kernel=3, padding="same"),
    )
    fields = receptive_fields(shifted)
    assert fields["sum"] == (AxisField(2, 2, 0, aligned=False),) * 2
    assert fields["next"] == (AxisField(6, 2, 2, aligned=False),) * 2
    uneven = network(
        op("a", "conv", filters=1, kernel=3, stride=1),
        op("b", "conv", filters=1, kernel=3, stride=1, dilation=1),
        op("half", "conv", filters=1, kernel=12, stride=2, padding=((4, 4), (4, 4))),
        op("crop", "crop", cropping=((3, 4), (3, 4))),
        op("sum", "add", "half", "crop"),
    )
    found = receptive_fields(uneven)["sum"]
    assert found is not None
    assert not any(axis.aligned for axis in found)
    assert {(axis.size, axis.stride, axis.padding) for axis in found} == {(12, 2, 4)}


@pytest.mark.parametrize(
    "rise",
    [
        op("up", "upsample", "down", factor=2),
        op("up", "conv_transpose", "down", filters=1, kernel=2, stride=2),
        op("up", "upsample", "down", factor=2, interpolation="bilinear"),
    ],
    ids=["nearest", "transposed", "bilinear"],
)
def test_a_map_halved_and_doubled_meets_its_own_source(rise: Op) -> None:
    """U-Net's skip connection: centres agree although windows begin at every other pixel."""
    net = network(op("down", "max_pool"), rise, op("join", "concat", "input", "up"))
    field = receptive_fields(net)["join"]
    assert field is not None
    assert all(axis.aligned and axis.stride == 1 for axis in field)


def test_up_sampled_maps_have_strides_below_one() -> None:
    net = network(
        op("up", "upsample", factor=2),
        op("c", "conv", "up", filters=1, kernel=3, padding="same"),
    )
    fields = receptive_fields(net)
    assert fields["up"] == (AxisField(1, Fraction(1, 2), 0),) * 2
    assert fields["c"] == (AxisField(2, Fraction(1, 2), Fraction(1, 2)),) * 2


def test_axes_are_followed_through_a_permutation() -> None:
    net = network(
        op("c", "conv", filters=5, kernel=(3, 1), stride=(2, 1)),
        op("turn", "permute", "c", order=(0, 2, 1, 3)),
        op("d", "conv", "turn", filters=1, kernel=(4, 1)),
        op("flat", "flatten", "d"),
    )
    fields = receptive_fields(net)
    assert fields["turn"] == fields["c"] == (AxisField(3, 2, 0), AxisField(1, 1, 0))
    assert fields["d"] == (AxisField(3, 2, 0), AxisField(4, 1, 0))
    assert fields["flat"] == (AxisField(12, 0, 0, whole=True),) * 2


def test_channels_first_and_other_ranks() -> None:
    attributes = {"filters": 2, "kernel": 3, "stride": 2, "channels_first": True}
    first = network(op("c", "conv", **attributes), size=(1, 3, 9, 9), layout="channels_first")
    assert receptive_fields(first)["c"] == (AxisField(3, 2, 0),) * 2
    assert seen_by(first, "c", (1, 2)) == {"input": (Seen(2, 4, 2, 4), Seen(4, 6, 4, 6))}
    causal = network(op("c", "conv", filters=2, kernel=3, padding="causal"), size=(1, 9, 4))
    assert receptive_fields(causal)["c"] == (AxisField(3, 1, 2),)
    assert seen_by(causal, "c", (0,)) == {"input": (Seen(0, 0, -2, 0),)}
    vector = network(op("d", "dense", units=3), size=(1, 9))
    assert receptive_fields(vector) == {"input": None, "d": None}


def test_resizing_by_a_broken_factor_is_taken_to_mix_the_whole_axis() -> None:
    net = network(op("r", "resize", size=(9, 24)))
    assert receptive_fields(net)["r"] == (
        AxisField(12, 0, 0, whole=True),
        AxisField(2, Fraction(1, 2), 1),
    )
    assert seen_by(net, "r", (4, 0)) == {"input": (Seen(0, 11, 0, 11), Seen(0, 0, -1, 0))}


def test_where_rows_meet_columns_the_whole_is_seen() -> None:
    net = network(op("turn", "permute", order=(0, 2, 1, 3)), op("sum", "add", "input", "turn"))
    assert receptive_fields(net)["sum"] == (AxisField(12, 0, 0, whole=True),) * 2
    assert seen_by(net, "sum", (2, 5)) == {"input": (Seen(2, 5, 2, 5),) * 2}


def test_all_outputs_of_an_op_see_alike() -> None:
    net = network(
        op("c", "conv", filters=4, kernel=3),
        op("halves", "split", "c", sizes=(1, 3)),
        op("d", "conv", "halves:1", filters=1, kernel=3),
    )
    fields = receptive_fields(net)
    assert fields["halves"] == fields["halves:1"] == (AxisField(3, 1, 0),) * 2
    assert fields["d"] == (AxisField(5, 1, 0),) * 2
    assert seen_by(net, "d", (1, 0)) == {"input": (Seen(1, 5, 1, 5), Seen(0, 4, 0, 4))}


def test_slices_forwards_and_backwards() -> None:
    net = network(
        op("third", "slice", axis=1, start=2, step=3, size=4),
        op("flip", "slice", axis=1, start=11, step=-1, size=12),
    )
    fields = receptive_fields(net)
    assert fields["third"] == (AxisField(1, 3, -2), AxisField(1, 1, 0))
    assert seen_by(net, "third", (3, 0)) == {"input": (Seen(11, 11, 11, 11), Seen(0, 0, 0, 0))}
    assert fields["flip"] == (AxisField(12, 0, 0, whole=True), AxisField(1, 1, 0))
    assert seen_by(net, "flip", (0, 0)) == {"input": (Seen(0, 11, 0, 11), Seen(0, 0, 0, 0))}


def test_constants_see_nothing() -> None:
    net = network(
        Op("table", create("constant", {"shape": (1, 12, 12, 1)}), ()),
        op("scaled", "rescale", "table"),
        op("sum", "add", "scaled", "input"),
    )
    fields = receptive_fields(net)
    assert fields["table"] is fields["scaled"] is None
    assert fields["sum"] == (AxisField(1, 1, 0),) * 2
    assert seen_by(net, "scaled", (0, 0)) == {}


def test_what_is_unknown_stays_unknown() -> None:
    net = network(
        op("c", "conv", filters=2, kernel=3),
        op("what", "opaque", "c", name="Mystery"),
        op("known", "opaque", "what", name="Mystery", shapes=((4, 4, 1),)),
        op("shaped", "opaque", "c", name="Mystery", shapes=((4, 4, 1),)),
    )
    fields = receptive_fields(net)
    assert fields["what"] is None
    assert fields["known"] is None
    assert fields["shaped"] == (AxisField(12, 0, 0, whole=True),) * 2
    with pytest.raises(UsageError, match="'what' is unknown"):
        seen_by(net, "what", (0, 0))
    with pytest.raises(UsageError, match="hides what 'known' sees"):
        seen_by(net, "known", (0, 0))


@pytest.mark.parametrize(
    ("tensor", "position", "message"),
    [
        ("nothing", (0, 0), "there is no tensor 'nothing'"),
        ("c", (0,), "must have 2 numbers"),
        ("c", (0, 10), r"position 10 is outside 0 \.\.\. 9 of 'c'"),
        ("c", (-1, 0), r"position -1 is outside"),
    ],
)
def test_positions_that_are_not_there(tensor: str, position: tuple[int, ...], message: str) -> None:
    net = network(op("c", "conv", filters=2, kernel=3))
    with pytest.raises(UsageError, match=message):
        seen_by(net, tensor, position)


def test_time_grows_with_the_ops_alone() -> None:
    """The best of several runs: twenty times the ops take about twenty times as long."""

    def best(count: int) -> float:
        builder = Builder()
        for _ in range(count):
            builder.conv(3)
        net = builder.network(32)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            receptive_fields(net)
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(4000) < 20 * 4 * best(200)
