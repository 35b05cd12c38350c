"""The derivation: what is written is what was computed, and it is what the book says."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convcalc.analysis.derivation import Step, derive
from convcalc.errors import ModelError, UsageError
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec


def layer(type: str, /, *shape: int, layout: str = "channels_last", **attributes: Any) -> Network:
    """A network of one op on an input of that shape, the batch left out."""
    made = Op("layer", create(type, attributes), ("input",))
    return Network("n", (made,), {"input": TensorSpec((1, *shape))}, ("layer",), layout)


def steps_of(net: Network, **options: Any) -> dict[str, Step]:
    """The steps of a network's last op by quantity."""
    steps = derive(net, net.ops[-1], **options)
    found = {step.quantity: step for step in steps}
    assert len(found) == len(steps), "a quantity is derived twice"
    return found


def calculated(values: str) -> Any:
    """What the values come to, in exact fractions: "(5 x 5 x 3 + 1) x 200"."""
    text = values.replace(",", "") if "max(" not in values else values.replace(", 0)", "; 0)")
    text = text.replace(",", "").replace(";", ",").replace(" x ", " * ")
    text = re.sub(r"\d+", lambda number: f"Fraction({number[0]})", text)
    names = {
        "Fraction": Fraction,
        "ceil": math.ceil,
        "floor": math.floor,
        "round": round,
        "max": max,
    }
    return eval(text, {"__builtins__": {}}, names)


def check(steps: dict[str, Step]) -> None:
    """Every result that has values is what they come to, and symbols stand with values."""
    for step in steps.values():
        assert bool(step.symbols) == bool(step.values), step
        if step.values:
            assert calculated(step.values) == step.result, step


def test_the_textbook_layer() -> None:
    net = layer("conv", 150, 100, 3, filters=200, kernel=5, padding="same")
    steps = steps_of(net, neuron=(0, 99))
    check(steps)
    assert steps["output rows"] == Step(
        "output rows", "ceil(n_h / s_h)", "ceil(150 / 1)", 150, "", "2 rows added above, 2 below"
    )
    assert steps["rows added"].values == "max((150 - 1) x 1 + 5 - 150, 0)"
    assert steps["output shape"].result == "1 x 150 x 100 x 200"
    assert steps["parameters"] == Step(
        "parameters",
        "(k_h x k_w x C_in + 1) x filters",
        "(5 x 5 x 3 + 1) x 200",
        15_200,
        note="1 for the bias",
    )
    assert steps["multiplications"].values == "5 x 5 x 3 x 200 x 150 x 100"
    assert steps["multiplications"].result == 225_000_000
    assert steps["output bytes"].result == 12_000_000
    assert steps["output bytes"].unit == "bytes"
    dense = steps["weights of a fully connected layer instead"]
    assert (dense.values, dense.result) == ("45,000 x 3,000,000", 135_000_000_000)
    assert dense.note.endswith("3,000,000 biases come on top")
    assert steps["times as many parameters as here"].result == 8_881_776
    assert steps["first row seen"].values == "0 x 1 - 2"
    assert (steps["first row seen"].result, steps["last row seen"].result) == (-2, 2)
    assert steps["last column seen"].note == "behind the last, 99: padding"
    seen = steps["neuron (0, 99) sees of 'input'"]
    assert seen.result == "rows 0 to 2, columns 97 to 99"
    assert "2 rows above" in seen.note


def test_fields_say_how_neurons_follow_each_other() -> None:
    padded = steps_of(layer("conv", 9, 9, 1, filters=1, kernel=3, padding="same"))
    note = padded["receptive field in rows"].note
    assert note == "from one neuron to the next: 1 row of 'input'; neuron 0 begins 1 row above"
    doubled = steps_of(layer("upsample", 9, 9, 1, factor=2))
    note = doubled["receptive field in columns"].note
    assert (
        note == "from one neuron to the next: 1/2 columns of 'input'; neuron 0 begins at column 0"
    )


def test_batch_and_dtype_count_in_bytes_alone() -> None:
    net = layer("conv", 150, 100, 3, filters=200, kernel=5, padding="same")
    steps = steps_of(net, batch=8, dtype="mixed_float16")
    check(steps)
    assert steps["output bytes"].values == "8 x 150 x 100 x 200 x 2"
    assert steps["output bytes"].result == 48_000_000
    assert steps["output shape"].result == "8 x 150 x 100 x 200"
    assert steps["multiplications"].result == 225_000_000
    assert "8 times" in steps["multiplications"].note
    with pytest.raises(UsageError, match="dtype"):
        derive(net, net.ops[0], dtype="float31")


def test_valid_says_what_it_ignores() -> None:
    net = layer("conv", 13, 9, 1, filters=1, kernel=6, stride=5)
    steps = steps_of(net)
    check(steps)
    assert steps["output rows"].values == "floor((13 - 6) / 5) + 1"
    assert steps["output rows"].note == "no rows added; the last 2 rows are ignored"
    assert steps["output columns"].note == "no columns added; the last 3 columns are ignored"
    one = steps_of(layer("conv", 7, 7, 1, filters=1, kernel=2, stride=2))
    assert one["output rows"].note == "no rows added; the last 1 row is ignored"


def test_batch_norm_says_what_is_not_trained() -> None:
    steps = steps_of(layer("batch_norm", 8, 8, 64))
    check(steps)
    assert steps["parameters"].symbols == "gamma + beta + moving_mean + moving_variance"
    assert steps["parameters"].result == 256
    assert steps["trainable parameters"].result == 128
    assert steps["other operations"].values == "2 x 4,096"
    assert steps["multiplications"].result == 0
    assert "times as many parameters as here" not in steps


def test_frozen_and_shared_weights_are_said() -> None:
    conv = create("conv", {"filters": 3, "kernel": 3, "padding": "same"})
    ops = (
        Op("a", conv, ("input",), weights="both", trainable=False),
        Op("b", conv, ("a",), weights="both", trainable=False),
    )
    net = Network("n", ops, {"input": TensorSpec((1, 8, 8, 3))}, ("b",))
    steps = steps_of(net, neuron=(0, 4))
    check(steps)
    assert steps["parameters"].note == "1 for the bias; shared by a, b and stored once"
    assert steps["trainable parameters"].result == 0
    assert steps["trainable parameters"].note == "the layer is frozen"
    assert steps["receptive field in rows"].values == "3 + (3 - 1) x 1"
    assert steps["neuron (0, 4) sees of 'input'"].result == "rows 0 to 2, columns 2 to 6"


def test_what_has_no_rule_says_so() -> None:
    net = layer("opaque", 8, 8, 1, name="Mystery")
    (step,) = derive(net, net.ops[0])
    assert step.result == "unknown"
    assert "no rule" in step.note


def test_a_neuron_that_sees_only_padding() -> None:
    net = layer("conv", 4, 4, 1, filters=1, kernel=1, padding=2)
    steps = steps_of(net, neuron=(0, 3))
    check(steps)
    assert steps["neuron (0, 3) sees"].result == "nothing but padding"
    with pytest.raises(UsageError, match="outside"):
        derive(net, net.ops[0], neuron=(8, 0))


def test_branches_that_do_not_match_are_said() -> None:
    ops = (
        Op("a", create("conv", {"filters": 1, "kernel": 2, "stride": 2}), ("input",)),
        Op("b", create("conv", {"filters": 1, "kernel": 1, "stride": 2}), ("input",)),
        Op("sum", create("add", {}), ("a", "b")),
        Op("all", create("flatten", {}), ("sum",)),
    )
    net = Network("n", ops, {"input": TensorSpec((1, 8, 8, 3))}, ("sum", "all"))
    fields_of_sum = {step.quantity: step for step in derive(net, ops[2])}
    assert "branches of different stride or centre" in fields_of_sum["receptive field in rows"].note
    flat = {step.quantity: step for step in derive(net, ops[3])}
    assert flat["receptive field in columns"].note == "every neuron sees all columns"


CASES = [
    ("conv", (9, 4), {"filters": 6, "kernel": 3, "padding": "causal", "dilation": 2}),
    ("conv", (9, 9, 8, 4), {"filters": 6, "kernel": (3, 2, 1), "stride": 2, "padding": "same"}),
    ("conv", (9, 9, 4), {"filters": 6, "kernel": 3, "groups": 2, "bias": False}),
    ("conv", (9, 9, 4), {"filters": 6, "kernel": 3, "padding": ((1, 2), (0, 1)), "groups": 2}),
    ("depthwise_conv", (9, 9, 4), {"kernel": 3, "multiplier": 2, "stride": 2, "padding": "same"}),
    ("depthwise_conv", (9, 9, 4), {"kernel": (3, 1), "bias": False}),
    ("conv_transpose", (5, 5, 4), {"filters": 6, "kernel": 3, "stride": 2, "padding": "same"}),
    ("conv_transpose", (5, 5, 4), {"filters": 6, "kernel": 2, "stride": 3}),
    ("conv_transpose", (5, 5, 4), {"filters": 6, "kernel": 4, "stride": 3, "dilation": 2}),
    (
        "conv_transpose",
        (5, 5, 4),
        {"filters": 6, "kernel": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    ),
    (
        "conv_transpose",
        (5, 5, 4),
        {"filters": 6, "kernel": 3, "stride": 2, "padding": "same", "output_padding": 1},
    ),
    (
        "conv_transpose",
        (5, 5, 4),
        {"filters": 6, "kernel": 3, "stride": 2, "output_shape": (9, 10)},
    ),
    ("max_pool", (9, 9, 4), {"kernel": 3, "stride": 2, "padding": "same"}),
    ("max_pool", (9, 9, 4), {"kernel": 2, "stride": 4, "ceil_mode": True}),
    ("average_pool", (6, 6, 4), {"kernel": 1, "stride": 4, "padding": 1, "ceil_mode": True}),
    ("average_pool", (9, 9, 4), {"kernel": 2}),
    ("global_pool", (9, 9, 4), {}),
    ("dense", (9,), {"units": 5}),
    ("dense", (9, 9, 4), {"units": 5, "bias": False}),
    ("batch_norm", (9, 9, 4), {"scale": False}),
    ("layer_norm", (9, 9, 4), {}),
    ("standardize", (9, 9, 4), {}),
    ("upsample", (9, 9, 4), {"factor": 2}),
    ("flatten", (9, 9, 4), {}),
    ("attention", (9, 4), {"heads": 2, "key_dim": 3}),
]


@pytest.mark.parametrize(("type", "shape", "attributes"), CASES)
def test_values_come_to_the_results(
    type: str, shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    net = layer(type, *shape, **attributes)
    rank = max(len(net.tensors["layer"].dims) - 2, 0)
    steps = steps_of(net, batch=3, neuron=(0,) * rank)
    check(steps)
    op = net.ops[0]
    ins, outs = net.specs(op)
    assert steps["parameters"].result == sum(math.prod(p.shape) for p in net.params["layer"])
    assert steps["multiplications"].result == op.operator.macs(ins, outs)
    assert steps["output bytes"].result == outs[0].elements * 3 * 4
    assert steps["output shape"].result == " x ".join(map(str, outs[0].shape_at(3) or ()))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """One layer of any windowed kind, with everything that changes its arithmetic."""
    rank = draw(st.integers(1, 3))
    type = draw(st.sampled_from(["conv", "depthwise_conv", "conv_transpose", "max_pool"]))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    first = draw(st.booleans())
    attributes: dict[str, Any] = {"kernel": each(1, 4), "stride": each(1, 4)}
    attributes |= {"dilation": each(1, 3), "channels_first": first}
    named = ["same", "same_lower", "valid"]
    attributes["padding"] = draw(st.one_of(st.sampled_from(named), st.integers(0, 2)))
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 3))
    if type in ("conv", "conv_transpose"):
        attributes |= {"filters": groups * draw(st.integers(1, 3)), "groups": groups}
    if type == "depthwise_conv":
        attributes["multiplier"] = draw(st.integers(1, 3))
    if type == "max_pool":
        attributes["ceil_mode"] = draw(st.booleans())
    else:
        attributes["bias"] = draw(st.booleans())
    sizes = each(1, 12)
    shape = (channels, *sizes) if first else (*sizes, channels)
    try:
        layout = "channels_first" if first else "channels_last"
        return layer(type, *shape, layout=layout, **attributes)
    except ModelError:
        assume(False)
        raise


@given(networks(), st.data())
@settings(max_examples=300)
def test_values_come_to_the_results_of_any_window(net: Network, data: st.DataObject) -> None:
    dims = net.tensors["layer"].dims
    sizes = dims[2:] if net.channels_first else dims[1:-1]
    neuron = tuple(data.draw(st.integers(0, size - 1)) for size in sizes)
    check(steps_of(net, batch=2, dtype="float64", neuron=neuron))


def test_a_step_is_plain_data() -> None:
    names = [field.name for field in fields(Step)]
    assert names == ["quantity", "symbols", "values", "result", "unit", "note"]
