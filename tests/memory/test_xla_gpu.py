"""XLA for GPUs: orders and layouts by hand, and small networks beside what its compiler said."""

from __future__ import annotations

from typing import Any

import pytest

import convcalc
from convcalc.memory.engines import plan, xla
from convcalc.memory.engines.xla.depth_first import depth_first
from convcalc.memory.engines.xla.gpu import GpuRules
from convcalc.memory.engines.xla.planar import WORKSPACE, Layout
from convcalc.memory.engines.xla.schedule import post_order
from convcalc.memory.job import Job
from convcalc.memory.lowering import Lowering
from convcalc.memory.predict import job_for
from convcalc.memory.program import Node, Program, Value
from convcalc.settings import before_hopper
from convcalc.tensors import TensorSpec

MIB = 1 << 20
RELU = {"activation": "relu"}
END = [{"global_pool": {}}, {"dense": {"units": 10}}, {"activation": "softmax"}]


def network(*layers: Any, size: tuple[int, ...] = (16, 16, 8)) -> Any:
    return convcalc.load({"input": list(size), "layers": list(layers)})


def conv(filters: int, kernel: int, name: str = "", source: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "conv": {"filters": filters, "kernel": kernel, "padding": "same", "bias": True}
    }
    if name:
        made["name"] = name
    if source:
        made["from"] = source
    return made


def relu(name: str) -> dict[str, Any]:
    return {"activation": "relu", "name": name}


def lowered(net: Any, batch: int = 8, **job: Any) -> Program:
    """What the rules make of a network, before any order."""
    rules = GpuRules(batch)
    lowering = Lowering(net, Job(**job), rules)
    rules.prepare(lowering)
    return lowering.run()


def temporary(net: Any, batch: int = 8, **job: Any) -> int:
    return xla.compiled(net, Job(**job), batch).temporary(batch)


INFERENCE = {"mode": "inference", "optimizer": "none"}

# --- orders -------------------------------------------------------------------------------------


def test_the_operand_with_most_behind_it_comes_first() -> None:
    program = Program()
    values: dict[str, Value] = {}

    def add(name: str, *inputs: str, elements: int = 10) -> Node:
        values[name] = Value(TensorSpec((1, elements), "float", None), 4, "activations", name)
        read = [values[each] for each in inputs]
        return program.add(name, read, [values[name]], layer=name, phase="forward")

    for name, elements in (("small", 10), ("large", 20), ("shared", 10)):
        add(name, elements=elements)
    add("a", "small")
    add("b", "large")
    add("c", "shared")
    add("d", "shared")
    end = add("end", "a", "b", "c", "d")
    walked = post_order(program, [end])
    order = [node.primitive for node in depth_first(program, [end], walked, 1)]
    # What others read as well comes first, then what is largest.
    assert order == ["shared", "c", "d", "large", "b", "small", "a", "end"]
    # Results, too, are visited by what is behind them; what none needs comes last.
    add("alone")
    results = [program.nodes[3], program.nodes[4]]
    walked = post_order(program, results)
    order = [node.primitive for node in depth_first(program, results, walked, 1)]
    assert order[:4] == ["large", "b", "small", "a"]
    assert order[-1] == "alone"


# --- older GPUs ---------------------------------------------------------------------------------


def test_a_card_is_known_by_its_architecture() -> None:
    assert [before_hopper(each) for each in ("6.1", "7.0", "7.5", "8.9")] == [7, 7, 7, 8]
    assert [before_hopper(each) for each in (None, "9.0", "12.0")] == [None, None, None]
    assert job_for("training", "float32", "adam", "t4").capability == 7
    assert job_for("inference", "float32", "none", "a100-80gb").capability == 8
    assert job_for("training", "float32", "adam", "h100-sxm").capability is None
    for device in ("gpu", "cpu"):
        assert job_for("training", "float32", "adam", device) == Job(
            optimizer="adam", device=device
        )


def test_who_lays_out_images_channel_by_channel() -> None:
    net = network(conv(8, 3))

    def layout(**job: Any) -> Layout:
        return Layout.of(net, Job(**job), 8)

    assert layout() == Layout()
    assert layout(capability=7).planar
    assert layout(capability=7).cublas
    assert layout(capability=8).turns
    assert not layout(capability=8).cublas
    # In 16 bits tensor cores want channels last, where there are two spatial axes.
    assert not layout(capability=7, dtype="mixed_float16").planar
    video = convcalc.load({"input": [4, 16, 16, 8], "layers": [conv(8, 3)]})
    assert Layout.of(video, Job(dtype="float16", capability=7), 8).planar


def test_sums_compute_what_they_read_where_there_are_enough_blocks() -> None:
    few, many = Layout(planar=True, busy=40, batch=8), Layout(planar=True, busy=40, batch=9)
    assert many.recomputed(1, 1)
    assert few.recomputed(40, 56 * 56)
    assert not few.recomputed(39, 56 * 56)
    assert not few.recomputed(40, 28 * 28)
    assert few.masked(39, 56 * 56, last=False)
    assert not few.masked(40, 28 * 28, last=False)
    assert few.masked(40, 28 * 28, last=True)


def test_cublas_keeps_a_workspace() -> None:
    net = network("flatten", {"dense": {"units": 8}}, size=(4, 4, 1))
    assert WORKSPACE.elements == 4 * MIB
    assert temporary(net, **INFERENCE, capability=7) >= 4 * MIB
    assert temporary(net, **INFERENCE, capability=8) < MIB
    assert temporary(net, **INFERENCE) < MIB


def test_images_are_transposed_at_a_networks_ends() -> None:
    primitives = [
        node.primitive for node in lowered(network(conv(8, 3)), **INFERENCE, capability=8).nodes
    ]
    # The image, the kernel, and what is given back.
    assert primitives == ["transpose", "transpose", "conv", "transpose"]
    # One channel is in the same order both ways.
    grey = network({"conv": {"filters": 1, "kernel": 3}}, size=(16, 16, 1))
    found = [node.primitive for node in lowered(grey, **INFERENCE, capability=8).nodes]
    assert found == ["transpose", "conv"]


# --- convolutions that add ----------------------------------------------------------------------


def test_a_convolution_adds_a_tensor_by_itself() -> None:
    both = network(conv(8, 3, "a"), RELU, conv(8, 3, "b"), {"add": None, "from": ["a", "b"]})
    # Only the second is read by nothing else.
    program = lowered(both, **INFERENCE)
    assert [len(node.inputs) for node in program.nodes if node.primitive == "conv"] == [2, 3]
    assert [node.primitive for node in program.nodes].count("fusion") == 1


def test_of_two_convolutions_the_left_one_adds() -> None:
    net = network(
        conv(8, 3, "a"), conv(8, 3, "b", "a"), conv(8, 1, "c", "a"),
        {"add": None, "from": ["b", "c"]},
    )  # fmt: skip
    program = lowered(net, **INFERENCE)
    made = {node.layer: len(node.inputs) for node in program.nodes if node.primitive == "conv"}
    assert made["c"] == 2
    assert sorted(made.values()) == [2, 2, 3]


def test_a_gradient_of_a_pointwise_convolution_takes_one_tensor() -> None:
    net = network(
        conv(8, 3), relu("a"), conv(8, 1, "p", "a"), conv(8, 1, "q", "a"), conv(8, 1, "r", "a"),
        {"concat": None, "from": ["p", "q", "r"]}, *END,
    )  # fmt: skip
    program = lowered(net)
    backward = [
        node for node in program.nodes if node.primitive == "conv" and node.phase == "backward"
    ]
    # Three gradients meet: one convolution adds another's result, the third is added as it is read.
    assert sorted(len(node.inputs) for node in backward) == [2, 2, 3]


# --- beside the compiler ------------------------------------------------------------------------


def fire(name: str, source: str, squeezed: int, wide: int) -> list[Any]:
    return [
        conv(squeezed, 1, source=source) if source else conv(squeezed, 1), relu(f"{name}s"),
        conv(wide, 1), relu(f"{name}1"), conv(wide, 3, source=f"{name}s"), relu(f"{name}3"),
        {"concat": None, "from": [f"{name}1", f"{name}3"]},
    ]  # fmt: skip


def test_two_pieces_before_a_max_pool_are_read_where_they_are() -> None:
    net = network(
        conv(32, 3), RELU, *fire("a", "", 16, 32), *fire("b", "", 16, 32), {"max_pool": 2},
        *fire("c", "", 24, 48), conv(10, 1), RELU, {"global_pool": {}}, {"activation": "softmax"},
        size=(64, 64, 3),
    )  # fmt: skip
    # XLA 0.10.2 for an H100: 253,610,228 bytes.
    found = plan(net, "jax", Job(optimizer="adam"), 32).allocate(32)
    assert found == pytest.approx(253_610_228, rel=0.005)


@pytest.mark.parametrize(
    ("capability", "bytes_said"),
    [(None, 12_301_056), (7, 24_301_056), (8, 24_301_056)],
)
def test_the_books_layer_on_three_generations(capability: int | None, bytes_said: int) -> None:
    net = network({"conv": {"filters": 200, "kernel": 5, "padding": "same"}}, size=(150, 100, 3))
    found = plan(net, "jax", Job(**INFERENCE, capability=capability), 1).allocate(1)
    assert found == pytest.approx(bytes_said, rel=0.01)


def test_a_gated_block_on_both_kinds_of_gpu() -> None:
    def gated(place: int, filters: int, small: int, stride: int) -> list[Any]:
        return [
            {"conv": {"filters": filters, "kernel": 3, "stride": stride, "padding": "same",
                      "bias": False}},
            "batch_norm",
            {"activation": "silu", "name": f"a{place}"},
            {"global_pool": {}},
            {"dense": {"units": small, "activation": "relu"}},
            {"dense": {"units": filters, "activation": "sigmoid"}},
            {"reshape": [1, 1, filters], "name": f"g{place}"},
            {"multiply": None, "from": [f"a{place}", f"g{place}"]},
        ]  # fmt: skip

    net = network(
        {"conv": {"filters": 24, "kernel": 3, "stride": 2, "padding": "same", "bias": False}},
        "batch_norm", RELU,
        *gated(1, 40, 6, 1), *gated(2, 56, 8, 2), *gated(3, 80, 10, 2), *gated(4, 112, 12, 1),
        *END, size=(96, 96, 3),
    )  # fmt: skip
    # XLA 0.10.2 for an H100: 81,568,124 and 161,870,972 bytes.
    job = Job(optimizer="sgd")
    assert plan(net, "jax", job, 32).allocate(32) == pytest.approx(81_568_124, rel=0.01)
    assert plan(net, "jax", job, 64).allocate(64) == pytest.approx(161_870_972, rel=0.01)
