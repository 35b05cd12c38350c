"""`advise`: each saving is what the engine says of the changed network, each plan fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcalc
from convcalc.errors import ModelError, UsageError
from convcalc.memory import plan
from convcalc.memory.predict import job_for
from convcalc.network import Network
from convcalc.planning import rewrite
from convcalc.planning.advise import advise
from convcalc.planning.budget import Budget
from convcalc.planning.fit import scaled
from convcalc.planning.remedies import KINDS, NotApplicable
from convcalc.planning.situation import Situation
from convcalc.report import Advice, Remedy

MIB = 2**20


def build(input_size: int = 32) -> Network:
    """Twelve convolutions in residual blocks, batch norms, a dense head."""
    layers: list[dict[str, Any]] = [
        {"conv": {"filters": 16, "kernel": 3, "padding": "same"}, "name": "stem"}
    ]
    before = "stem"
    for stage, filters in enumerate((16, 32)):
        for block in range(3):
            name = f"s{stage}b{block}"
            same = {"filters": filters, "kernel": 3, "padding": "same"}
            first = {**same, "stride": 2} if stage and not block else same
            layers += [
                {"conv": first, "name": f"{name}_c1", "from": before},
                {"batch_norm": None, "name": f"{name}_n1"},
                {"activation": "relu", "name": f"{name}_r1"},
                {"conv": same, "name": f"{name}_c2"},
            ]
            if first is same:
                added = [before, f"{name}_c2"]
                layers.append({"add": None, "from": added, "name": f"{name}_add"})
            before = layers[-1]["name"]
    layers += [{"global_pool": "average"}, {"dense": {"units": 10, "activation": "softmax"}}]
    return convcalc.load({"name": "blocks", "input": [input_size] * 2 + [3], "layers": layers})


def by_name(found: Advice) -> dict[str, Remedy]:
    return {remedy.name: remedy for remedy in found.remedies}


def peak(net: Network, engine: str, batch: int, dtype: str, optimizer: str) -> int:
    job = job_for("training", dtype, optimizer, "gpu")
    return plan(net, engine, job, batch).allocate(batch)


@pytest.fixture(scope="module")
def net() -> Network:
    return build()


@pytest.fixture(scope="module")
def advice(net: Network) -> Advice:
    return advise(net, batch=32, engine="torch")


def test_every_saving_is_the_engines(net: Network, advice: Advice) -> None:
    now = peak(net, "torch", 32, "float32", "adam")
    assert advice.peak_bytes == now
    found = by_name(advice)
    gradients = 4 * advice.now.trainable_params
    expected = {
        "lower-precision": peak(net, "torch", 32, "mixed_float16", "adam"),
        "smaller-batch": peak(net, "torch", 16, "float32", "adam") + gradients,
        "data-parallel": peak(net, "torch", 16, "float32", "adam") + gradients,
        "optimizer-momentum": peak(net, "torch", 32, "float32", "momentum"),
        "optimizer-sgd": peak(net, "torch", 32, "float32", "sgd"),
        "freeze": peak(rewrite.frozen(net)[0], "torch", 32, "float32", "adam"),
        "smaller-input": peak(scaled(net, 3, 4), "torch", 32, "float32", "adam"),
        "earlier-stride": peak(rewrite.strided(net)[0], "torch", 32, "float32", "adam"),
        "thinner": peak(rewrite.thinner(net, 0.75), "torch", 32, "float32", "adam"),
        "drop-layer": peak(rewrite.shortened(net)[0], "torch", 32, "float32", "adam"),
    }
    for name, value in expected.items():
        assert found[name].peak_bytes == value, name
        assert found[name].saving_bytes == now - value > 0, name
        assert found[name].fits is None
        assert found[name].price
    assert advice.plan is None
    assert {refused.name for refused in advice.refused} == {"xla"}


def test_checkpointing_takes_the_rule_that_needs_least(net: Network, advice: Advice) -> None:
    found = by_name(advice)["checkpointing"]
    peaks = {
        remat: plan(net, "torch", job_for("training", "float32", "adam", "gpu", remat=remat), 32)
        for remat in ("none", "block", "sqrt")
    }
    needs = {remat: made.allocate(32) for remat, made in peaks.items()}
    assert found.peak_bytes == min(needs.values()) < needs["none"] == advice.peak_bytes
    assert min(needs, key=needs.__getitem__) in found.change
    assert found.after.checkpointed
    assert all(remedy.rung == "predicted" for remedy in advice.remedies)


def test_prices_are_in_numbers(net: Network, advice: Advice) -> None:
    found = by_name(advice)
    assert "2 steps instead of one" in found["smaller-batch"].price[0]
    assert "batch norm sees 16 samples" in found["smaller-batch"].price[-1]
    after = found["earlier-stride"].after
    assert after.macs == convcalc.analyze(rewrite.strided(net)[0]).totals.macs
    assert any(line.startswith("MACs ") for line in found["earlier-stride"].price)
    assert any("330 of" in line for line in found["freeze"].price)
    assert found["data-parallel"].after.devices == 2
    # A ring of two: each sends all of the gradients once.
    gradients = convcalc.settings.format_bytes(4 * advice.now.trainable_params)
    assert f"each sends {gradients}" in found["data-parallel"].price[1]
    assert found["smaller-batch"].after.accumulate == 2
    assert found["smaller-input"].after.inputs == {"input": [24, 24, 3]}


def test_xla_on_and_off(net: Network) -> None:
    graph = peak(net, "tensorflow", 32, "float32", "adam")
    xla = peak(net, "tensorflow-xla", 32, "float32", "adam")
    better, worse = (
        ("tensorflow-xla", "tensorflow") if xla < graph else ("tensorflow", "tensorflow-xla")
    )
    found = by_name(advise(net, batch=32, engine=worse))["xla"]
    assert found.after.engine == better
    assert found.saving_bytes == abs(graph - xla)
    refused = {each.name: each.reason for each in advise(net, batch=32, engine=better).refused}
    assert "more" in refused["xla"]


@pytest.mark.parametrize("engine", ["torch", "tensorflow-xla"])
@given(memory=st.integers(2**17, 2**29))
@settings(max_examples=6)
def test_a_plan_fits(net: Network, engine: str, memory: int) -> None:
    found = advise(net, memory=memory, batch=64, engine=engine)
    high = found.interval[1]
    assert (found.fits == "safe") == (high <= memory)
    if found.fits == "safe":
        assert found.plan is None
    elif found.plan is not None:
        assert found.plan.fits in ("safe", "likely")
        if found.plan.fits == "safe":
            assert found.plan.interval[1] <= memory
        else:
            assert found.plan.peak_bytes <= memory
        assert found.plan.saving_bytes == found.peak_bytes - found.plan.peak_bytes
        after = found.plan.after
        assert after.batch * after.accumulate * after.devices >= 64
    else:
        assert all(remedy.fits in ("no", "hopeful") for remedy in found.remedies)
    grades = [("safe", "likely", "hopeful", "no").index(r.fits or "no") for r in found.remedies]
    assert grades == sorted(grades)


def test_a_plan_of_several_steps_has_no_step_too_many(net: Network) -> None:
    memory = None
    for megabytes in range(8, 0, -1):
        found = advise(net, memory=megabytes * 10**6, batch=64, engine="torch")
        if found.plan is not None and " + " in found.plan.name:
            memory = megabytes * 10**6
            break
    assert memory is not None
    assert found.plan is not None
    names = found.plan.name.split(" + ")
    budget = Budget(memory, memory)
    for left_out in names:
        now = Situation(net, "training", "torch", "float32", "adam", 64)
        for name in names:
            if name != left_out:
                kind = next(kind for kind in KINDS if kind.name == name)
                try:
                    now, _, _ = kind.change(now, budget)
                except NotApplicable:
                    continue
        assert now.fits(budget) != "safe", left_out


def test_what_is_tiny_cannot_be_helped(net: Network) -> None:
    found = advise(net, memory=1000, engine="torch")
    assert found.fits == "no"
    assert found.plan is None
    assert {each.name: each.reason for each in found.refused}["smaller-batch"] == (
        "not even one sample fits"
    )


def test_inference(net: Network) -> None:
    found = advise(net, mode="inference", batch=32, engine="torch", memory="2MB")
    names = by_name(found)
    assert names["lower-precision"].after.dtype == "float16"
    assert names["smaller-batch"].after.accumulate == 1
    assert "calls instead of one" in names["smaller-batch"].price[0]
    refused = {each.name: each.reason for each in found.refused}
    assert refused["checkpointing"].startswith("inference keeps nothing")
    assert refused["freeze"] == "inference trains nothing"
    assert refused["optimizer-sgd"] == "inference has no optimizer"
    assert found.now.optimizer == "none"


def test_what_is_done_already_is_refused(net: Network) -> None:
    found = advise(net, batch=1, dtype="mixed_float16", optimizer="sgd", engine="torch")
    refused = {each.name: each.reason for each in found.refused}
    assert refused["lower-precision"] == "mixed_float16 has 16 bits already"
    assert refused["smaller-batch"] == "the batch is one sample already"
    assert refused["optimizer-sgd"] == "sgd keeps no more than sgd"
    assert refused["data-parallel"] == "there is no batch left to divide"
    wide = by_name(advise(net, batch=8, dtype="float64", engine="torch"))["lower-precision"]
    assert wide.after.dtype == "float32"


def test_networks_that_allow_little() -> None:
    flat = convcalc.load({"name": "flat", "input": [7], "layers": [{"dense": 3}]})
    refused = {each.name: each.reason for each in advise(flat, batch=8, engine="torch").refused}
    assert refused["smaller-input"] == "no input of 'flat' has a height or a width"
    assert refused["earlier-stride"] == "'flat' has no convolution over a picture"
    assert refused["freeze"] == "there is nothing before the last layer to freeze"
    assert refused["drop-layer"] == "no layer's output has the shape of its input"
    assert refused["checkpointing"] == "there are too few layers to divide"
    tied = convcalc.load(
        {
            "input": [8, 8, 4],
            "layers": [
                {"conv": {"filters": 4, "kernel": 1}},
                {"reshape": [16, 16]},
                {"dense": 3},
            ],
        }
    )
    refused = {each.name: each.reason for each in advise(tied, batch=8, engine="torch").refused}
    assert "reshape" in refused["smaller-input"]
    assert "reshape" in refused["thinner"]


def test_layers_behind_a_flattening_lose_their_weights() -> None:
    net = convcalc.load(
        {
            "input": [16, 16, 3],
            "layers": [
                {"conv": {"filters": 8, "kernel": 3}},
                "flatten",
                {"dense": 100},
                {"dense": 10},
            ],
        }
    )
    price = by_name(advise(net, batch=16, engine="torch"))["smaller-input"].price
    assert any("their weights cannot be kept" in line for line in price)


def test_on_a_device(net: Network) -> None:
    found = advise(net, device="gtx-1650", batch=32768, engine="torch")
    assert found.device == "gtx-1650"
    assert found.usable_bytes == 4 * 2**30
    assert found.fits == "no"
    assert found.plan is not None
    more = Situation(net, "training", "torch", "float32", "adam", 64)
    accumulating = replace(more, accumulate=2).candidate()
    plain = more.candidate()
    assert plain.process_interval is not None
    assert accumulating.process_interval is not None
    extra = accumulating.peak_bytes - plain.peak_bytes
    assert extra == more.gradient_bytes
    assert accumulating.process_interval[1] - plain.process_interval[1] == extra


def test_a_changed_network_is_not_frozen(net: Network) -> None:
    freeze = next(kind for kind in KINDS if kind.name == "freeze")
    now = Situation(net, "training", "torch", "float32", "adam", 8, another=True)
    with pytest.raises(NotApplicable, match="no pretrained weights"):
        freeze.change(now, None)


def test_the_public_function_and_its_mistakes(net: Network) -> None:
    found = convcalc.advise("lenet5", memory="1MB", engine="torch", batch=64)
    assert found.network == "lenet5"
    assert type(found).model_validate(found.model_dump()) == found
    assert found.lint
    with pytest.raises(UsageError, match="not both"):
        advise(net, memory="1GiB", device="t4")
    with pytest.raises(UsageError, match="unknown mode"):
        advise(net, mode="train")
    with pytest.raises(UsageError, match="unknown engine"):
        advise(net, engine="textbook")
    with pytest.raises(ModelError, match="no trainable variable"):
        advise(convcalc.load({"input": [8, 8, 3], "layers": [{"max_pool": 2}]}), engine="torch")
