"""Eager PyTorch's engine: sums done by hand, every record of the set, and the tracker's own events.

Where PyTorch is installed, each operator is held against the tracker: allocation by allocation, in
order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import convcalc
from benchmarks.memory.measure import load, networks
from convcalc.memory.bestfit import REGION
from convcalc.memory.engines.torch import make
from convcalc.memory.engines.torch.allocator import (
    CONTEXT,
    MIDDLE_SEGMENT,
    SMALL_SEGMENT,
    WORKSPACE,
    Pool,
    reserved,
    segment,
)
from convcalc.memory.engines.torch.rules import channels_in_front, viewable
from convcalc.memory.job import Job
from convcalc.network import Network
from convcalc.verify import records

MIB = 2**20
RECORDS = records.read(Path(__file__).parents[2] / "benchmarks" / "memory" / "torch.jsonl")

ONE = {"input": [64], "layers": [{"dense": {"units": 32, "bias": False}, "name": "dense"}]}
WEIGHTS, X, Y = 64 * 32 * 4, 8 * 64 * 4, 8 * 32 * 4
LOSS = 512


def peak(net: Any, batch: int = 8, foreach: bool | None = None, **job: Any) -> int:
    return make(convcalc.load(net), Job(**job), foreach=foreach).allocate(batch)


SAND = {"conv": {"filters": 8, "kernel": 1, "bias": False}}


def sandwich(*layers: Any, size: tuple[int, ...] = (16, 16, 8), end: Any = SAND) -> Network:
    """Layers between two that train: what they keep for their gradient shows."""
    return convcalc.load({"input": list(size), "layers": [SAND, *layers, {**end, "name": "post"}]})


DENSE = {"dense": 8}


def test_inference_of_one_layer_is_weights_input_and_output() -> None:
    assert peak(ONE, mode="inference", optimizer="none") == WEIGHTS + X + Y


def test_a_step_of_one_layer() -> None:
    rest = WEIGHTS + X + Y + LOSS
    # Backward: the output, its gradient, the gradient of the loss, and that of the weights.
    assert peak(ONE, optimizer="sgd") == rest + Y + LOSS + WEIGHTS
    assert peak(ONE, optimizer="momentum") == rest + WEIGHTS + Y + LOSS + WEIGHTS
    # At the update: the gradient, and the root of a slot; one by one, its quotient as well.
    assert peak(ONE, optimizer="adam") == rest + 2 * WEIGHTS + WEIGHTS + WEIGHTS
    assert peak(ONE, optimizer="adam", foreach=False) == rest + 2 * WEIGHTS + WEIGHTS + 2 * WEIGHTS
    # On a CPU nothing is rounded, and the count of steps is there, too.
    cpu = WEIGHTS + X + Y + 4
    assert peak(ONE, optimizer="adam", device="cpu") == cpu + 4 + 2 * WEIGHTS + 3 * WEIGHTS


def test_what_a_block_keeps() -> None:
    block = [
        {"conv": {"filters": 16, "kernel": 3, "padding": "same", "bias": False}},
        "batch_norm",
        {"activation": "relu"},
    ]
    one = {"input": [32, 32, 16], "layers": block}
    three = {"input": [32, 32, 16], "layers": block * 3}
    tensor, batch = 32 * 32 * 16 * 4, 64
    fixed = 3 * 3 * 16 * 16 * 4 + 4 * 16 * 4
    more = peak(three, batch, device="cpu") - peak(one, batch, device="cpu")
    # The convolution's output and the activation's stay; the normalization's does not.
    statistics = 2 * 16 * 4 + 8
    assert more == 2 * (2 * tensor * batch + fixed + statistics)


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "autoencoder", "conv1d_audio", "conv3d_video", "densenet121", "dilated"),
        *("dropout_dense", "efficientnetb0", "googlenet", "inception_block", "large_kernel"),
        *("lenet5", "mnist_convnet", "mobilenet", "mobilenetv3small", "odd_residual"),
        *("pre_activation", "resnet18", "resnet50", "seed_layer", "separable_wide"),
        *("squeeze_excite", "squeezenet", "strided_only", "unet", "vgg16", "xception"),
    ],
)
def test_the_tracker_counted_the_same_to_the_byte(name: str) -> None:
    net = load(name, {})
    lines = [line for line in RECORDS if line["network"] == name]
    assert lines
    for line in lines:
        job = Job(line["mode"], line["dtype"], line["optimizer"], line["device"])
        made = make(net, job, foreach=line["settings"]["foreach"])
        assert made.allocate(line["batch"]) == line["peak_bytes"]
        assert not made.assumed


def test_every_network_of_the_set_has_records() -> None:
    known = {line["network"] for line in RECORDS}
    assert known == {*networks("tune"), *networks("report")}


def test_frozen_layers_have_no_gradient_and_keep_nothing_below() -> None:
    conv = {"conv": {"filters": 8, "kernel": 3, "padding": "same"}}
    frozen = {**conv, "trainable": False}
    net = {"input": [32, 32, 8], "layers": [frozen, frozen, conv]}
    every = {"input": [32, 32, 8], "layers": [conv, conv, conv]}
    tensor, gradients = 32 * 32 * 8 * 4 * 8, 2560 + 512
    # All trained: in the last convolution's backward, both outputs below it, the gradient that
    # comes and the one that goes, and its variables'. Frozen: in the loss', the output, the one
    # below it, and the gradient that goes.
    assert peak(every) - peak(net) == (4 - 3) * tensor + gradients


def test_axes_that_follow_each_other_in_memory_need_no_copy() -> None:
    front = channels_in_front((8, 6, 4))
    assert front == [6, 1, 48]
    assert viewable((8, 6, 4), front, (48, 4))
    assert viewable((8, 6, 4), front, (2, 4, 6, 1, 4))
    assert not viewable((8, 6, 4), front, (192,))
    assert not viewable((8, 6, 4), front, (8, 24))
    assert viewable((1, 1, 4), channels_in_front((1, 1, 4)), (4,))
    # On its own: the batch, a view of positions, and the copy that merges them with the channels.
    net = sandwich({"reshape": [256, 8]}, {"reshape": [2048]}, end=DENSE)
    whole = 16 * 16 * 8 * 4 * 2
    kept = sandwich({"reshape": [256, 8]}, {"reshape": [16, 16, 8]})
    taken_forward = [
        buffer.size.at(2)
        for buffer in make(net, Job()).timeline.buffers
        if buffer.layer.startswith("reshape")
    ]
    assert taken_forward == [whole]
    assert not [b for b in make(kept, Job()).timeline.buffers if b.layer.startswith("reshape")]


def test_segments() -> None:
    assert segment(512) == segment(MIB) == SMALL_SEGMENT
    assert segment(MIB + 512) == segment(10 * MIB - 512) == MIDDLE_SEGMENT
    assert segment(10 * MIB) == 10 * MIB
    assert segment(10 * MIB + 512) == 12 * MIB


def test_a_pool_splits_joins_and_takes_the_smallest_that_fits() -> None:
    pool = Pool(small=False)
    a, b, c = pool.take(3 * MIB), pool.take(4 * MIB), pool.take(5 * MIB)
    assert (a, b, c) == (0, 3 * MIB, 7 * MIB)
    pool.give(b)
    # The hole of 4 MiB is smaller than the 8 MiB at the end; what is left of it is not split off.
    assert pool.take(3 * MIB + 512) == b
    pool.give(b)
    pool.give(a)
    assert pool.take(7 * MIB) == a
    pool.give(a)
    pool.give(c)
    assert pool.take(20 * MIB) == 0
    assert pool.regions == [20 * MIB]
    assert pool.take(15 * MIB) == REGION
    assert pool.regions == [20 * MIB, 16 * MIB]


def test_small_blocks_leave_anything_above_a_block() -> None:
    pool = Pool(small=True)
    assert [pool.take(MIB), pool.take(512), pool.take(MIB)] == [0, MIB, REGION]
    assert pool.take(MIB - 512) == MIB + 512


def test_the_process_holds_segments_context_and_workspace() -> None:
    net = convcalc.load(ONE)
    made = make(net, Job(mode="inference", optimizer="none"))
    assert reserved(made.timeline, 8) == SMALL_SEGMENT
    assert made.process is not None
    assert made.process(8) == (
        SMALL_SEGMENT + CONTEXT[0] + WORKSPACE[0],
        SMALL_SEGMENT + CONTEXT[1] + WORKSPACE[1],
    )
    assert make(net, Job(device="cpu")).process is None
    large = make(convcalc.load("resnet50"), Job(optimizer="adam"))
    assert large.process is not None
    for batch in (4, 7):
        least, most = large.process(batch)
        held = reserved(large.timeline, batch)
        assert least - CONTEXT[0] - WORKSPACE[0] <= held <= most - CONTEXT[1] - WORKSPACE[1]


def forked(kind: str, branches: int) -> Network:
    """A tensor that meets convolutions of itself."""
    names = [f"branch{i}" for i in range(branches)]
    layers: list[Any] = [{**SAND, "name": "x"}]
    layers += [{**SAND, "name": name, "from": "x"} for name in names]
    return convcalc.load(
        {"input": [16, 16, 8], "layers": [*layers, {kind: {}, "from": ["x", *names]}, SAND]}
    )


def taken(
    net: Network,
    device: str,
    optimizer: str = "sgd",
    mode: str = "training",
    dtype: str = "float32",
) -> Any:
    """What the tracker saw taken, and what is predicted: bytes in order, and the peak."""
    from convcalc.readers.spec import write_spec
    from convcalc.verify.request import Request
    from convcalc.verify.torch import track

    batch = 2
    request = Request(
        write_spec(net),
        framework="torch",
        method="memtracker",
        device=device,
        mode=mode,
        batch=batch,
        optimizer=optimizer,
        dtype=dtype,
        timeline=True,
    )
    found = track(request)
    made = make(net, Job(mode, dtype, optimizer, device))
    sizes = made.timeline.sizes(batch)
    steps = [int(sizes[buffer]) for step, buffer in made.timeline.events if step >= 0 <= buffer]
    return (
        ([event.delta for event in found.timeline if event.delta > 0], found.peak_bytes),
        ([size for size in steps if size], made.allocate(batch)),
        made.assumed,
    )


#: Each operator between convolutions, in chains: a chain costs the tracker one run.
CHAINS: dict[str, Network] = {
    "convolutions": sandwich(
        {"conv": {"filters": 8, "kernel": 3, "padding": "same", "stride": 2}},
        {"depthwise_conv": {"kernel": 3, "padding": "same", "multiplier": 2}},
        {"conv_transpose": {"filters": 4, "kernel": 2, "stride": 2}},
        {"conv_transpose": {"filters": 4, "kernel": 3, "stride": 2, "padding": "same"}},
        {"crop": 1},
        {"pad": [[1, 0], [2, 1]]},
        {"resize": [12, 9]},
        {"upsample": 2},
    ),
    "a convolution behind a permuted view": sandwich(
        "layer_norm",
        {"conv": {"filters": 8, "kernel": 3, "padding": "same"}},
        {"depthwise_conv": {"kernel": 3}},
        {"activation": "relu"},
    ),
    "pools": sandwich(
        {"max_pool": {"kernel": 2, "stride": 1, "padding": "same"}},
        {"max_pool": 2},
        {"average_pool": {"kernel": 2, "stride": 1, "padding": "same"}},
        {"average_pool": {"kernel": 3, "stride": 1, "padding": 1}},
        {"average_pool": {"kernel": 2, "stride": 1, "padding": "same", "count_include_pad": True}},
        {"adaptive_pool": {"output": 5}},
        {"adaptive_pool": {"output": 4, "kind": "max"}},
    ),
    "a global maximum": sandwich({"global_pool": "max"}, end=DENSE),
    "a global norm": sandwich({"global_pool": "lp"}, end=DENSE),
    "a global mean": sandwich({"adaptive_pool": 1}, "flatten", {"dropout": 0.5}, end=DENSE),
    "a sum": sandwich({"reduce": {"kind": "sum", "axes": [1, 2]}}, end=DENSE),
    "a maximum": sandwich({"reduce": {"kind": "max", "axes": -1, "keepdims": True}}),
    "normalizations": sandwich(
        "batch_norm",
        {"batch_norm": {"scale": False, "center": False}},
        {"group_norm": 2},
        {"activation": "relu"},
        {"batch_norm": {"scale": False}},
        "layer_norm",
        "scale",
        "standardize",
        "rescale",
    ),
    "slopes": sandwich({"prelu": {"shared_axes": [1, 2]}}, "prelu"),
    "rows": sandwich({"dense": 16}, {"activation": "gelu"}, {"dense": 8}),
    "activations": sandwich(
        *[
            {"activation": name}
            for name in (
                *("relu", "relu6", "silu", "hard_silu", "sigmoid", "tanh", "gelu", "softmax"),
                *("log_softmax", "elu", "selu", "celu", "leaky_relu", "hard_tanh", "hard_sigmoid"),
                *("softplus", "softsign", "tanh_shrink", "squareplus", "hard_shrink"),
                *("soft_shrink", "threshold", "linear"),
            )
        ]
    ),
    "functions": sandwich(
        *[{"function": name} for name in ("add", "multiply", "exp", "abs", "square", "divide")],
        *[{"function": name} for name in ("subtract", "sqrt", "rsqrt", "reciprocal", "sin", "log")],
    ),
    "moves": sandwich(
        {"slice": {"axis": 1, "size": 8, "start": 1, "step": 2}},
        {"slice": {"axis": 3, "size": 8, "start": 7, "step": -1}},
        {"channel_shuffle": 2},
        {"space_to_depth": 2},
        {"depth_to_space": 2},
        "identity",
    ),
    "random": sandwich(
        {"dropout": 0.5}, {"dropout": {"rate": 0.5, "noise_shape": [None, 1, 1, 1]}}, "noise"
    ),
    **{
        f"{kind} of {branches + 1}": forked(kind, branches)
        for kind, branches in (
            *(("add", 1), ("add", 2), ("subtract", 1), ("multiply", 1), ("multiply", 2)),
            *(("divide", 1), ("maximum", 1), ("minimum", 2), ("average", 2), ("concat", 2)),
        )
    },
}


#: On CPUs, where the kernels are others.
ON_CPU = {
    "normalizations": sandwich("batch_norm", "rms_norm"),
    "activations": sandwich({"activation": "log_sigmoid"}, {"activation": "relu"}),
    "random": CHAINS["random"],
}


@pytest.mark.parametrize("chain", ON_CPU)
def test_operators_take_what_the_tracker_sees_on_a_cpu(chain: str) -> None:
    pytest.importorskip("torch")
    seen, predicted, assumed = taken(ON_CPU[chain], "cpu")
    assert predicted == seen
    assert not assumed


@pytest.mark.parametrize("chain", CHAINS)
def test_operators_take_what_the_tracker_sees(chain: str) -> None:
    pytest.importorskip("torch")
    seen, predicted, assumed = taken(CHAINS[chain], "gpu")
    assert predicted == seen
    assert not assumed


@pytest.mark.parametrize("end", [DENSE, {"dense": {"units": 8, "activation": "softmax"}}])
def test_mixed_precision_copies_what_the_tracker_sees(end: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    net = sandwich(
        {"conv": {"filters": 8, "kernel": 3, "padding": "same"}},
        {"activation": "relu"},
        {"max_pool": 2},
        {"depthwise_conv": {"kernel": 3}},
        {"activation": "silu"},
        {"global_pool": "average"},
        end=end,
    )
    for mode, optimizer in (("training", "adam"), ("inference", "none")):
        seen, predicted, _ = taken(net, "cpu", optimizer, mode, "mixed_bfloat16")
        assert predicted[1] == seen[1]
        assert sorted(predicted[0]) == sorted(seen[0])


def test_mixed_precision_by_hand() -> None:
    # Inference: float32 weights and input, copies of both in 16 bits, and the output.
    found = peak(ONE, mode="inference", optimizer="none", dtype="mixed_float16")
    assert found == WEIGHTS + X + WEIGHTS // 2 + X // 2 + Y // 2
    half = peak(ONE, mode="inference", optimizer="none", dtype="float16")
    assert half == (WEIGHTS + X + Y) // 2
    # A layer normalization of a GPU is computed in float32: its input is copied, its output twice
    # as large; on a CPU it is computed in what comes.
    net = {"input": [64], "layers": [{"dense": {"units": 4096, "bias": False}}, "layer_norm"]}
    sizes = {
        device: {
            buffer.name.partition(":")[2]: buffer.size.at(8)
            for buffer in make(
                convcalc.load(net),
                Job("inference", "mixed_bfloat16", "none", device),
            ).timeline.buffers
            if buffer.layer.startswith("layer_norm")
        }
        for device in ("gpu", "cpu")
    }
    rows = 8 * 4096
    assert sizes["gpu"]["to"] == 4 * rows
    assert "to" not in sizes["cpu"]
