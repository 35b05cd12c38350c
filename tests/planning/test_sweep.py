"""A sweep against `analyze`, row by row, and what it refuses."""

from __future__ import annotations

from itertools import count, product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convcalc
from convcalc.errors import ModelError, UsageError
from convcalc.network import Network
from convcalc.planning import sweep as module
from convcalc.planning.sweep import Sweep, from_recipe
from convcalc.report import Report

SMALL: dict[str, Any] = {
    "name": "small",
    "input": [16, 16, 3],
    "layers": [
        {"name": "a", "conv": {"filters": 8, "kernel": 3, "padding": "same"}},
        {"name": "n", "batch_norm": None},
        {"name": "r", "activation": "relu"},
        {"name": "p", "max_pool": 2},
        {"name": "b", "conv": {"filters": 8, "kernel": 5}, "trainable": False},
        {"name": "f", "flatten": None},
        {"name": "d", "dense": {"units": 10, "activation": "softmax"}},
    ],
}


@pytest.fixture(scope="module")
def small() -> Network:
    return convcalc.load(SMALL)


def reported(table: Sweep, number: int) -> Report:
    """What `analyze` says of the configuration of a row."""
    row = table[number]
    net = table.variants.network(number // (len(table) // len(table.variants)))
    return convcalc.analyze(
        net,
        batch=row["batch"],
        dtype=row["dtype"],
        optimizer=row["optimizer"],
        engine=row["engine"],
    )


def costs(report: Report) -> dict[str, Any]:
    """The columns of a sweep in a report."""
    totals, book = report.totals, report.memory.textbook
    return {
        "params": totals.params,
        "trainable_params": totals.trainable_params,
        "macs": totals.macs,
        "flops": totals.flops,
        "textbook_inference": book.inference_bytes,
        "textbook_training": book.training_bytes,
        "status": report.status,
    }


def peaks(report: Report) -> dict[str, Any]:
    """The columns of memory in a report."""
    inference, training = report.memory.inference, report.memory.training
    return {
        "inference_peak": inference and inference.peak_bytes,
        "training_peak": training and training.peak_bytes,
    }


some = {"min_size": 1, "max_size": 4, "unique": True}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    batch=st.lists(st.integers(1, 2000), **some),
    sides=st.lists(st.tuples(st.integers(12, 60), st.integers(12, 60)), **some),
    dtype=st.lists(st.sampled_from(["float32", "float64", "mixed_float16"]), **some),
    optimizer=st.lists(st.sampled_from(["none", "sgd", "adam"]), **some),
    engine=st.lists(st.sampled_from(["textbook", "torch"]), min_size=1, unique=True),
    width=st.none() | st.lists(st.sampled_from([0.3, 0.5, 1.0, 2.0]), **some),
    filters=st.none() | st.lists(st.integers(1, 40), **some),
    padding=st.none() | st.just(["same", "valid"]),
)
def test_rows_are_those_of_analyze(
    data: st.DataObject,
    batch: list[int],
    sides: list[tuple[int, int]],
    dtype: list[str],
    optimizer: list[str],
    engine: list[str],
    width: list[float] | None,
    filters: list[int] | None,
    padding: list[str] | None,
) -> None:
    fields = {"a.filters": filters, "b.padding": padding}
    table = convcalc.sweep(
        SMALL,
        batch=batch,
        input=[(*side, 3) for side in sides],
        dtype=dtype,
        optimizer=optimizer,
        engine=engine,
        width=width,
        fields={name: values for name, values in fields.items() if values},
    )
    number = data.draw(st.integers(0, len(table) - 1))
    expected = reported(table, number)
    row = table[number]
    assert {name: row[name] for name in costs(expected)} == costs(expected)
    # Eager PyTorch's peak is the timeline's: exact at every batch.
    assert {name: row[name] for name in peaks(expected)} == peaks(expected)
    assert int(table.columns["macs"][number]) == row["macs"]


@pytest.mark.parametrize("engine", ["tensorflow", "tensorflow-xla", "jax"])
def test_replayed_allocators_are_exact_for_few_batches(small: Network, engine: str) -> None:
    table = convcalc.sweep(small, batch=[1, 3, 16, 17], optimizer=["sgd", "adam"], engine=engine)
    assert not table.exact
    for number in range(len(table)):
        expected = peaks(reported(table, number))
        assert {name: table[number][name] for name in expected} == expected


def test_replayed_allocators_are_near_for_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from convcalc.planning import sweep_peaks

    monkeypatch.setattr(sweep_peaks, "REPLAYED", 1)
    given: dict[str, Any] = {"batch": range(64, 128), "optimizer": "adam", "engine": "tensorflow"}
    found = convcalc.sweep("lenet5", **given).columns["training_peak"]
    expected = convcalc.sweep("lenet5", **given, exact=True).columns["training_peak"]
    assert found[0] == expected[0]
    assert found[-1] == expected[-1]
    assert (found != expected).any()
    # Chunks of a few kB weigh much in so small a network: larger ones are within 2 %.
    assert np.abs(found / expected - 1).max() < 0.12
    table = convcalc.sweep("lenet5", **given, exact=True)
    assert peaks(reported(table, 20))["training_peak"] == expected[20]


def test_every_combination_is_one_row(small: Network) -> None:
    table = convcalc.sweep(
        small,
        batch=range(1, 4),
        input=[(16, 16, 3), (20, 24, 3)],
        dtype=["float32", "float16"],
        optimizer=["sgd", "adam"],
        width=[0.5, 1],
        fields={"b.bias": [True, False]},
    )
    assert len(table) == 3 * 2 * 2 * 2 * 2 * 2
    keys = ("batch", "input", "dtype", "optimizer", "width", "b.bias")
    combinations = {tuple(row[key] for key in keys) for row in table}
    assert combinations == set(
        product(
            range(1, 4),
            [(16, 16, 3), (20, 24, 3)],
            ["float32", "float16"],
            ["sgd", "adam"],
            [0.5, 1.0],
            ["True", "False"],
        )
    )
    assert table[-1] == table[len(table) - 1]
    assert list(table.columns) == list(table[0])
    assert len(table.columns) == len(table[0])
    with pytest.raises(IndexError):
        table[len(table)]
    with pytest.raises(KeyError, match="did you mean 'macs'"):
        table.columns["mac"]


def test_the_filter_leaves_the_product_alone(small: Network) -> None:
    table = convcalc.sweep(
        small,
        batch=range(1, 33),
        input=[(16, 16, 3), (64, 64, 3)],
        engine="torch",
        where="macs < 1e6 and 300kB < training_peak < 700kB or batch == 32",
    )
    assert len(table) == 64
    rows = list(table)
    everything = [table[number] for number in range(64)]
    assert rows == [
        row
        for row in everything
        if (row["macs"] < 1e6 and 300_000 < row["training_peak"] < 700_000) or row["batch"] == 32
    ]
    assert 2 < len(rows) < 64
    assert table.columns["batch"].tolist() == [row["batch"] for row in rows]


def test_plans_are_made_only_for_what_may_pass(
    small: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Any] = []
    original = module.plan

    def plan(net: Network, *rest: Any) -> Any:
        planned.append(net.inputs["input"].dims)
        return original(net, *rest)

    monkeypatch.setattr(module, "plan", plan)
    table = convcalc.sweep(
        small,
        batch=range(1, 9),
        input=[(16, 16, 3), (64, 64, 3)],
        engine="torch",
        where="macs < 1e6 and training_peak > 1",
    )
    assert len(table.columns["training_peak"]) == 8
    assert planned == [(1, 16, 16, 3)]


def test_impossible_networks_are_rows_that_say_so(small: Network) -> None:
    table = convcalc.sweep(
        small, input=[(side, side, 3) for side in range(1, 17)], engine="torch", where="batch == 1"
    )
    status = table.columns["status"].tolist()
    assert status == ["impossible"] * 9 + ["complete"] * 7
    assert table[0]["macs"] is None
    assert table[0]["training_peak"] is None
    assert table.columns["macs"].mask.tolist() == [True] * 9 + [False] * 7
    assert any("input 9x9x3" in line for line in table.variants.problems)
    # What is unknown passes no filter.
    assert len(convcalc.sweep(small, input=(1, 1, 3), where="macs < 1e9").columns["macs"]) == 0
    assert len(convcalc.sweep(small, input=(1, 1, 3), where="macs >= 0").columns["macs"]) == 0


def test_the_textbook_has_no_peaks(small: Network) -> None:
    row = convcalc.sweep(small)[0]
    assert row["inference_peak"] is None
    assert row["training_peak"] is None


def test_a_network_without_training_says_why(small: Network) -> None:
    frozen = {**SMALL, "layers": [{**layer, "trainable": False} for layer in SMALL["layers"]]}
    table = convcalc.sweep(frozen, engine="torch", optimizer="sgd")
    assert table[0]["training_peak"] is None
    assert table[0]["inference_peak"] > 0
    assert any("no prediction of training by torch" in line for line in table.notes)


def test_what_is_unknown_of_a_layer_makes_rows_partial() -> None:
    spec = {**SMALL, "layers": [*SMALL["layers"][:1], {"opaque": {"name": "Mystery"}}]}
    assert convcalc.sweep(spec)[0]["status"] == "partial"


@pytest.mark.parametrize(
    ("name", "width", "params"),
    [
        # The figures of Keras' MobileNet(alpha=...).
        ("mobilenet", 0.25, 475_544),
        ("mobilenet", 0.5, 1_342_536),
        ("mobilenet", 0.75, 2_601_976),
        ("mobilenet", 1.0, 4_253_864),
    ],
)
def test_width_is_that_of_mobilenet(name: str, width: float, params: int) -> None:
    assert convcalc.sweep(name, width=width)[0]["params"] == params
    together = convcalc.sweep(name, width=[0.1, width, 3]).columns["params"]
    assert together[1] == params


def test_grouped_convolutions_stay_depthwise() -> None:
    layers = [
        {"conv": {"filters": 8, "kernel": 1, "bias": False}},
        {"conv": {"filters": 8, "kernel": 3, "groups": 8, "bias": False}},
        {"dense": {"units": 4, "bias": False}},
    ]
    table = convcalc.sweep({"input": [8, 8, 3], "layers": layers}, width=[0.5, 1.0])
    assert table.columns["params"].tolist() == [3 * 4 + 9 * 4 + 4 * 4, 3 * 8 + 9 * 8 + 8 * 4]


def test_a_star_means_every_layer_that_has_the_attribute(small: Network) -> None:
    table = convcalc.sweep(small, fields={"[ab].kernel": [1, 3]}, width=[1.0])
    assert table[0]["params"] == 3 * 8 + 8 + 4 * 8 + 8 * 8 + 8 + 8 * 8 * 8 * 10 + 10
    assert table[0]["[ab].kernel"] == 1


def test_several_inputs_by_name() -> None:
    spec = {
        "inputs": {"x": [8, 8, 3], "z": [4]},
        "layers": [
            {"name": "f", "flatten": None, "from": "x"},
            {"concat": {}, "from": ["f", "z"]},
            {"dense": 2},
        ],
    }
    table = convcalc.sweep(spec, input=[{"x": (4, 4, 3), "z": (5,)}, {"x": (2, 2, 3), "z": (6,)}])
    assert table.columns["params"].tolist() == [(48 + 5) * 2 + 2, (12 + 6) * 2 + 2]
    assert table[0]["input"] == "x=4x4x3 z=5"
    with pytest.raises(ModelError, match="has 2 inputs"):
        convcalc.sweep(spec, input=(4, 4, 3))
    with pytest.raises(UsageError, match="same inputs"):
        convcalc.sweep(spec, input=[{"x": (4, 4, 3)}, {"z": (6,)}])


def test_channels_first_takes_height_width_channels() -> None:
    layers = [{"conv": {"filters": 2, "kernel": 3, "channels_first": True}}]
    spec = {"layout": "channels_first", "input": [3, 8, 8], "layers": layers}
    table = convcalc.sweep(spec, input=[(10, 12, 3)])
    assert table[0]["macs"] == 8 * 10 * 2 * 27
    assert table[0]["input"] == (10, 12, 3)


def test_overflow_is_never_a_wrong_number(small: Network) -> None:
    huge = 2**31 - 1
    table = convcalc.sweep(small, input=[(16, 16, 3), (huge, huge, 3)])
    assert table.columns["status"].tolist() == ["complete", "impossible"]
    assert any("2^63" in line for line in table.variants.problems)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"batch": 0}, "batch must be an integer from 1"),
        ({"batch": [1, 2.5]}, "batch must be an integer from 1"),
        ({"batch": []}, "batch has no values"),
        ({"batch": [3, 3]}, "batch has 3 twice"),
        ({"batch": count(1)}, "a range with an end"),
        ({"batch": range(1, 10**9)}, "at most 10,000,000"),
        ({"batch": 2**40}, "from 1 to 2,147,483,647"),
        ({"batch": None}, "batch must be a value"),
        ({"dtype": "float31"}, "did you mean 'float32'"),
        ({"optimizer": ["adma"]}, "unknown optimizer"),
        ({"engine": "caffe"}, "unknown engine"),
        ({"width": 0}, "width must be a number above 0"),
        ({"width": ["wide"]}, "width must be a number above 0"),
        ({"input": (8, 8)}, "takes 3 sizes, not 2"),
        ({"input": (8, 0, 3)}, "sizes are integers from 1"),
        ({"fields": {"filters": 3}}, "must be LAYER.ATTRIBUTE"),
        ({"fields": {"c.filters": 3}}, "no layer 'c'"),
        ({"fields": {"a.filter": 3}}, "did you mean 'filters'"),
        ({"device": "abacus"}, "abacus"),
        ({"where": "mac < 3"}, "did you mean 'macs'"),
        (
            {"batch": range(1, 10**7), "fields": {"a.filters": range(1, 10**6)}},
            "configurations; at most",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(small: Network, axes: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, ModelError), match=message):
        convcalc.sweep(small, **axes)


def test_numpy_axes_are_welcome(small: Network) -> None:
    table = convcalc.sweep(small, batch=np.arange(2, 5))
    assert table.columns["batch"].tolist() == [2, 3, 4]


def test_too_many_rows_are_not_held(small: Network) -> None:
    table = convcalc.sweep(small, batch=range(1, 10**7), input=[(s, s, 3) for s in range(16, 32)])
    assert table[len(table) - 1]["batch"] == 10**7 - 1
    with pytest.raises(UsageError, match="too many to hold"):
        table.columns["macs"]


def test_a_recipe_gives_the_same_table(small: Network) -> None:
    table = convcalc.sweep(
        small,
        batch=[4, 2],
        input=[(16, 20, 3)],
        engine=["torch"],
        width=[0.5],
        fields={"a.kernel": [3, (1, 3)], "b.padding": ["same"]},
        where="batch < 4",
    )
    twin = from_recipe(table.recipe)
    assert twin.recipe == table.recipe
    assert list(twin) == list(table)
    assert [row["a.kernel"] for row in table] == ["3", "1x3"]


def test_pareto_rows_are_beaten_by_none(small: Network) -> None:
    table = convcalc.sweep(
        small,
        batch=range(1, 20),
        engine="torch",
        width=[0.5, 1, 2],
        input=[(s, s, 3) for s in (8, 16, 20)],  # 8 is too small
    )
    names = ("macs", "training_peak", "batch")
    signs = (1, 1, -1)
    found = table.pareto("macs", "training_peak", "-batch")
    points = [
        tuple(sign * row[name] for name, sign in zip(names, signs, strict=True))
        for row in table
        if row["macs"] is not None
    ]
    best = {p for p in points if not any(q != p and all(map(int.__le__, q, p)) for q in points)}
    assert {
        tuple(sign * row[name] for name, sign in zip(names, signs, strict=True)) for row in found
    } == best
    assert len(found) == len(best)
    pair = table.pareto("macs", "training_peak")
    assert [row["batch"] for row in pair] == [1]
    assert table.pareto("params")[0]["width"] == 0.5


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ((), "at least one column"),
        (("dtype",), "no column of numbers"),
        (("mac",), "no column of numbers"),
        (("training_peak",), "choose an engine"),
    ],
)
def test_fronts_of_nothing_are_refused(
    small: Network, objectives: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        convcalc.sweep(small).pareto(*objectives)


@settings(max_examples=50)
@given(
    values=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25
    ),
    columns=st.integers(1, 3),
)
def test_fronts_by_definition(values: list[tuple[int, ...]], columns: int) -> None:
    from convcalc.planning.sweep_pareto import front

    points = [point[:columns] for point in values]
    found = sorted(points[index] for index in front(np.array(points)))
    expected = {p for p in points if not any(q != p and all(map(int.__le__, q, p)) for q in points)}
    assert found == sorted(expected)
