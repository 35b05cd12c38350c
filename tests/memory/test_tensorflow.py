"""The TensorFlow engine: mechanisms counted by hand, and what was measured of small networks."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from convcalc.memory.engines.tensorflow import kernels, make, regime, run, windows
from convcalc.memory.engines.tensorflow.bfc import BFC
from convcalc.memory.engines.tensorflow.executor import execute, speeds
from convcalc.memory.engines.tensorflow.rules import TensorFlow
from convcalc.memory.job import SLOTS, Job
from convcalc.memory.liveness import Walk
from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Program, Value
from convcalc.memory.timeline import Timeline
from convcalc.network import Network
from convcalc.readers.spec import read_spec
from convcalc.tensors import TensorSpec

RECORDS = Path(__file__).parents[2] / "benchmarks" / "memory" / "tensorflow.jsonl"


def network(*layers: object, size: tuple[int, ...] = (8, 8, 4), **more: object) -> Network:
    return read_spec({"input": list(size), "layers": list(layers), **more})


def conv(filters: int, kernel: int = 3, **more: object) -> dict[str, object]:
    return {"conv": {"filters": filters, "kernel": kernel, "padding": "same", **more}}


def timeline(net: Network, mode: str = "training", batch: int = 2, **job: str) -> Timeline:
    return make(net, Job(mode, device=job.pop("device", "gpu"), threads=1, **job), batch).timeline


def names(net: Network, **job: str) -> list[str]:
    return [f"{step.layer}:{step.primitive}" for step in timeline(net, **job).steps]


# --- what is alive ------------------------------------------------------------------------------


def test_inference_is_weights_input_and_two_layers():
    net = network(conv(16, activation="relu"), conv(32))
    weights = 4 * (3 * 3 * 4 * 16 + 16 + 3 * 3 * 16 * 32 + 32)
    found = timeline(net, "inference")
    # The ReLU is done in the convolution's place.
    assert found.floor(2) == weights + 2 * 4 * 64 * (4 + 16 + 32)
    assert found.at(2).layer == "conv_2"


@pytest.mark.parametrize("groups", [4, 16])
def test_a_convolution_in_groups_copies_its_input_in_training_only(groups):
    net = network(conv(16), conv(16, groups=groups))
    made = timeline(net).buffers
    copies = [b.size for b in made if b.name == "conv_2:XlaRun"]
    image = 4 * 64 * 16
    assert copies[:3] == [(0, image), (4 * 9 * 16 // groups * 16, 0), (0, image)]
    weights = 4 * (9 * 4 * 16 + 16 + 9 * 16 // groups * 16 + 16)
    # A profile of one step at inference lists the output alone.
    assert timeline(net, "inference").floor(2) == weights + 2 * (4 * 64 * 4 + 2 * image)


def test_batch_norm_at_inference_works_in_place_unless_its_input_has_another_reader():
    plain = network(conv(16, bias=False), {"batch_norm": {}, "name": "bn"}, conv(4))
    forked = network(
        {**conv(16, bias=False), "name": "c"},
        {"batch_norm": {}, "name": "bn"},
        {"add": {}, "from": ["c", "bn"]},
    )
    weights = 4 * (3 * 3 * 4 * 16 + 4 * 16)
    last = 4 * (3 * 3 * 16 * 4 + 4)
    image = 2 * 4 * 64
    assert timeline(plain, "inference").floor(2) == weights + last + image * (4 + 16 + 4)
    assert timeline(forked, "inference").floor(2) == weights + image * (4 + 16 + 16)


def test_batch_norm_in_training_holds_four_tensors():
    net = network(conv(64, bias=False), "batch_norm", {"global_pool": "average"})
    found = timeline(net, batch=64, optimizer="none")
    image = 64 * 4 * 64 * 64
    # The convolution's output, two tiles and the gradient.
    assert 4 * image < found.floor(64) < 4.2 * image


def test_squared_error_holds_four_tensors_of_the_output():
    net = network(conv(50), size=(30, 20, 3))
    output = 4 * 30 * 20 * 50
    resting = 4 * (3 * 3 * 3 * 50 + 50) + 4 * 30 * 20 * 3 + output
    # Labels rest; the tile that divides, the difference (in the output's place) and the product.
    assert timeline(net, batch=1, optimizer="none").floor(1) == resting + 3 * output


def test_cross_entropy_takes_the_logits_place():
    net = network({"dense": {"units": 100, "activation": "softmax"}}, size=(10,))
    resting = 4 * 1100 + 2 * 4 * (10 + 100)
    found = timeline(net, optimizer="none")
    # Logits, then their gradient, then the kernel's gradient beside it.
    assert found.floor(2) == resting + 2 * 4 * 100 + 4 * 1000


def test_a_variable_that_is_still_read_is_copied_by_its_update():
    shapes = {"dense": {"units": 300, "bias": False}}
    first = network(shapes, size=(300,))
    chain = network(shapes, shapes, size=(300,))
    matrix = 4 * 300 * 300
    for net, copies in ((first, 0), (chain, 1)):
        found = timeline(net, optimizer="sgd")
        fresh = [b for b in found.buffers if b.kind == "weights" and b.start >= 0]
        # The second kernel's update runs before the input's gradient has read the kernel.
        assert [b.size.fixed for b in fresh] == [matrix] * copies


def test_adam_holds_two_tensors_beside_the_gradient_in_turn():
    net = network({"dense": {"units": 500, "bias": False}}, size=(400,))
    matrix = 4 * 400 * 500
    found = timeline(net, batch=1, optimizer="adam")
    extra = found.floor(1) - int(found.live(1)[-1])
    assert 2 * matrix <= extra < 2.05 * matrix
    assert timeline(net, batch=1, optimizer="sgd").floor(1) < found.floor(1) - 2.9 * matrix


@pytest.mark.parametrize("optimizer", sorted(SLOTS))
def test_slots_rest_and_every_step_ends_where_it_began(optimizer):
    net = network({"dense": {"units": 200}}, "batch_norm", {"dense": {"units": 150}}, size=(200,))
    found = timeline(net, optimizer=optimizer)
    params = 200 * 200 + 200 + 4 * 200 + 200 * 150 + 150
    trained = params - 2 * 200
    expected = 4 * params + SLOTS[optimizer] * 4 * trained + 2 * 4 * (200 + 150)
    sizes = found.breakdown(2)
    held = sum(b.size.at(2) for b in found.buffers if b.start < 0)
    assert held == expected
    assert sizes["optimizer"] >= SLOTS[optimizer] * 4 * trained
    assert int(found.live(2)[-1]) == sum(
        -(-b.size.at(2) // 256) * 256 for b in found.buffers if b.start < 0
    )


def test_added_batch_norms_share_the_sum_of_their_gradient():
    net = network(
        {**conv(16, bias=False), "name": "stem"},
        {**conv(8, bias=False), "from": "stem", "name": "long"},
        {"batch_norm": {}, "name": "bn_long"},
        {**conv(8, 1, bias=False), "from": "stem", "name": "short"},
        {"batch_norm": {}, "name": "bn_short"},
        {"add": {}, "from": ["bn_long", "bn_short"]},
        {"global_pool": "average"},
    )
    found = names(net, optimizer="none")
    # Gamma's of each, and beta's of both.
    assert sum(found.count(f"{name}:Sum") for name in ("bn_long", "bn_short")) == 3


def test_in_one_dimension_the_biases_wait_till_the_end():
    # A view of the gradient goes to both products, which are put before the bias's gradient.
    net = network(conv(8), conv(8), conv(4), "flatten", size=(32, 4))
    found = names(net, optimizer="none")
    products = [n for n, name in enumerate(found) if "Backprop" in name]
    assert min(found.index(f"conv_{n}:Grad(bias)") for n in (1, 2)) > max(products)


def test_frozen_batch_norm_uses_its_moving_statistics():
    net = network(conv(8), {"batch_norm": {}, "trainable": False}, conv(4))
    assert "batch_norm_1:SquaredDifference" not in names(net)
    assert "batch_norm_1:Mul" in names(net)


def test_mixed_precision_copies_weights_and_keeps_statistics_wide():
    net = network(conv(32), "batch_norm", {"global_pool": "average"})
    found = make(net, Job("training", dtype="mixed_float16", optimizer="sgd"), 2).timeline
    wide = [b.size.per_sample for b in found.buffers if b.layer == "batch_norm_1"]
    assert max(wide) == 4 * 64 * 32
    assert [s.primitive for s in found.steps].count("Cast") >= 3


# --- kernels' scratch ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "window", "filters", "images"),
    # As `tf.profiler` listed the shapes of these temporaries: [images, positions, window].
    [(256, 216, 32, 112), (1024, 144, 24, 45), (1024, 27, 16, 177), (270, 216, 24, 113)],
)
def test_the_filters_gradient_unfolds_as_many_images_as_the_cache_holds(
    positions, window, filters, images
):
    found = kernels.unfolded_for_filter(positions, window, filters, 4)
    assert found == images * positions * window * 4


def test_the_inputs_gradient_unfolds_one_image_if_that_is_work_enough():
    assert kernels.unfolded_for_input(1024, 144, 24, 4, False) == 1024 * 144 * 4
    assert kernels.unfolded_for_input(270, 216, 24, 4, False) == 113 * 270 * 216 * 4
    assert kernels.unfolded_for_input(270, 216, 24, 4, True) == 270 * 216 * 4


def test_a_gpu_has_none_of_a_cpus_scratch():
    net = network(conv(16), conv(16), {"max_pool": 2}, {"global_pool": "average"})
    cpu, gpu = (timeline(net, device=device, optimizer="sgd") for device in ("cpu", "gpu"))
    assert cpu.peak(2) > 20e6 > gpu.peak(2)


def test_dilation_folds_images_into_the_batch():
    layers = [conv(24, dilation=2), conv(24, dilation=4), {"global_pool": "average"}]
    found = timeline(network(*layers, size=(60, 72, 16)), batch=4, device="cpu")
    folded = [b.size.per_sample for b in found.buffers if b.name.endswith("SpaceToBatchND")]
    # [16, 32, 38, 16] and [64, 17, 20, 24] for four images, as the profiler listed them.
    assert folded[0] == 4 * 4 * 32 * 38 * 16
    assert folded[1] == 4 * 16 * 17 * 20 * 24
    unfolded = {b.size.fixed for b in found.buffers if b.kind == "workspace"}
    assert 113 * 270 * 216 * 4 in unfolded


def test_three_dimensions_unfold_nothing():
    net = network(conv(8), {"max_pool": 2}, {"global_pool": "average"}, size=(4, 8, 8, 2))
    found = timeline(net, device="cpu", optimizer="none")
    assert not [b for b in found.buffers if b.kind == "workspace"]


# --- order of execution -------------------------------------------------------------------------


def ordered(workers: int, cost: dict[str, float] | None = None) -> list[str]:
    """A program a -> (b -> d, c, e) whose steps are noted as they start."""
    program = Program()
    spec = TensorSpec((1, 64))
    values = {name: Value(spec, 4, "activations") for name in "abcde"}
    for name, reads in (("a", ""), ("b", "a"), ("c", "a"), ("e", "a"), ("d", "b")):
        inputs = [values[read] for read in reads]
        program.add(name, inputs, [values[name]], layer=name, phase="forward")
    walk = Walk(program)
    times = cost or {}
    execute(program, walk, workers, lambda node: times.get(node.primitive, 1.0))
    return [step.primitive for step in walk.steps]


def test_one_worker_goes_on_with_the_last_that_became_ready():
    assert ordered(1) == ["a", "e", "c", "b", "d"]


def test_a_second_worker_takes_from_the_back():
    # While the first runs e, the second takes b, which was put into the queue first.
    assert ordered(2, {"e": 5.0}) == ["a", "e", "b", "d", "c"]


def test_kernels_side_by_side_share_two_cores():
    product, plain, asleep = True, False, None
    assert speeds((plain,)) == (1,)
    assert speeds((product, product)) == (0.5, 0.5)
    # Three threads on two cores: two of the pool's, and the worker that runs the plain one.
    assert speeds((product, plain)) == (pytest.approx(2 / 3), 0.5)
    # Who sleeps takes no core, and his time passes as it does.
    assert speeds((product, asleep)) == (1, 1)
    assert speeds((product, asleep, plain)) == (pytest.approx(2 / 3), 1, 0.5)


def test_turning_a_kernel_takes_longer_where_its_rows_fall_on_the_same_lines():
    plain = kernels.reading("MatMulTransposed", (2000, 2000), 8)
    aliased = kernels.reading("MatMulTransposed", (2000, 2048), 8)
    assert aliased > 3 * plain > 3 * kernels.reading("MatMul", (2000, 2000), 8)
    assert kernels.reading("MatMulTransposed", (2000, 2048), 1) < plain


def test_an_overlapping_window_is_looked_at_again():
    tiles = network({"max_pool": 2}, size=(32, 32, 8))
    slides = network({"max_pool": {"kernel": 3, "stride": 1, "padding": "same"}}, size=(32, 32, 8))
    assert windows(tiles, 2) == {"max_pool_1": 2 * 32 * 32 * 8}
    assert windows(slides, 2) == {"max_pool_1": 9 * 2 * 32 * 32 * 8}


# --- the allocator ------------------------------------------------------------------------------


def test_chunks_are_split_only_from_twice_the_request():
    heap = BFC((1 << 20,))
    whole = heap.take(1024)
    heap.take(256)
    heap.give(whole)
    again = heap.take(768)
    assert again == whole
    assert heap.used == 1024 + 256
    heap.give(again)
    heap.take(512)
    assert heap.used == 512 + 256


def test_chunks_are_split_from_128_mib_on():
    heap = BFC((200 << 20,))
    heap.take((200 << 20) - (128 << 20))
    assert heap.used == 72 << 20


def test_freed_neighbours_are_joined():
    heap = BFC((1 << 20,))
    chunks = [heap.take(256) for _ in range(4)]
    for index in (0, 2, 1):
        heap.give(chunks[index])
    assert (768, chunks[0]) in heap.free
    heap.give(chunks[3])
    assert heap.free == [(1 << 20, 0)]
    assert heap.used == 0


def test_each_regime_is_a_power_of_two():
    assert [regime(batch) for batch in (1, 2, 3, 4, 7, 8, 1000)] == [1, 2, 2, 4, 4, 8, 512]


def test_each_variable_has_two_handles():
    net = network(conv(64), "batch_norm", conv(64))
    history = run(Lowering(net, Job("inference"), TensorFlow(Job("inference"), 1)), 1, 1)
    sizes = history.timeline.sizes(1).tolist()
    # Kernel and bias twice, and four of the batch norm; what they hold and 2 x 256 bytes for each.
    assert history.begun(sizes).used == sum(sizes[: history.resting]) + 8 * 512


def test_zeros_for_slots_are_made_by_shape_in_the_order_of_names():
    sizes = (24, 24, 48, 48, 96, 96, 160)
    convs = [{"conv": {"filters": n, "kernel": 3}, "name": f"c{i}"} for i, n in enumerate(sizes, 1)]
    dense = [{"dense": {"units": n}, "name": f"d{i}"} for i, n in ((1, 400), (2, 20))]
    net = network(*convs, {"global_pool": "average"}, *dense, size=(16, 16, 3))
    job = Job("training", optimizer="adam", threads=1)
    history = run(Lowering(net, job, TensorFlow(job, 4)), 4, 1)
    made = [history.shapes[slot] for slot in history.constants]
    # As a profile of the first step lists them; of a bias's shape there are one or two variables.
    biases = [shape for shape in made if len(shape) == 1]
    assert biases == [(48,), (96,), (160,), (400,), (20,), (24,)]
    kernels = [shape[-2:] for shape in made if len(shape) == 4]
    assert kernels == [(3, 24), (48, 48), (48, 96), (96, 96), (96, 160), (24, 24), (24, 48)]


# --- breadth ------------------------------------------------------------------------------------

LAYERS = {
    "activations": [
        *({"activation": name} for name in ("relu6", "leaky_relu", "silu", "gelu", "softmax")),
        *({"activation": name} for name in ("hard_sigmoid", "hard_silu", "softplus", "linear")),
        {"prelu": {"shared_axes": [1, 2]}},
        {"function": {"name": "sqrt"}},
        {"dropout": 0.3},
        {"dropout": {"rate": 0.3, "noise_shape": [None, 1, 1, 8]}},
        "noise",
        "identity",
    ],
    "normalizations": [
        "batch_norm",
        "layer_norm",
        {"group_norm": {"groups": 4}},
        {"group_norm": {"groups": -1}},
        "rms_norm",
        "rescale",
        "scale",
    ],
    "products": [
        conv(8, groups=2),
        {"depthwise_conv": {"kernel": 3, "padding": "same"}},
        {"depthwise_conv": {"kernel": 3, "padding": "same", "dilation": 2}},
        {"conv_transpose": {"filters": 8, "kernel": 2, "stride": 2}},
        {"dense": {"units": 8}},
    ],
    "shapes": [
        {"max_pool": 2},
        {"upsample": 2},
        {"upsample": {"factor": 2, "interpolation": "bilinear"}},
        {"average_pool": 2},
        {"pad": 1},
        {"crop": 1},
        {"space_to_depth": 2},
        {"depth_to_space": 2},
        {"channel_shuffle": 2},
        {"permute": [0, 2, 1, 3]},
        {"slice": {"axis": 1, "size": 8}},
        {"resize": [8, 8]},
        "flatten",
        {"reshape": [8, -1]},
        {"reduce": "max"},
    ],
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_operator_has_a_rule(name, device):
    net = network(conv(8), *LAYERS[name], size=(16, 16, 3))
    for mode in ("inference", "training"):
        made = make(net, Job(mode, device=device), 2)
        assert made.assumed == frozenset()
        resting = sum(-(-b.size.at(2) // 256) * 256 for b in made.timeline.buffers if b.start < 0)
        held = 0 if mode == "training" else made.timeline.live(2)[-1] - resting
        assert made.timeline.live(2)[-1] == resting + held
        assert made.allocate(2) >= made.timeline.floor(2) > resting


def test_branches_meet_in_every_way():
    merges = ("add", "average", "subtract", "multiply", "divide", "maximum", "minimum", "concat")
    layers: list[object] = [{**conv(8), "name": "a"}, {**conv(8), "name": "b", "from": "a"}]
    for number, kind in enumerate(merges):
        layers.append({kind: {}, "name": f"m{number}", "from": ["a", "b"]})
        layers.append({**conv(8), "name": f"c{number}"})
    ends = [f"c{number}" for number in range(len(merges))]
    layers.append({"add": {}, "from": ends})
    layers.append({"global_pool": {"kind": "max", "keepdims": True}, "name": "gate"})
    layers.append({"multiply": {}, "from": ["a", "gate"]})
    layers.append({"split": {"sizes": [3, 5]}, "name": "s"})
    layers.append({"concat": {}, "from": ["s:1", "s"]})
    made = make(network(*layers), Job("training"), 2)
    assert made.assumed == frozenset()
    assert made.timeline.peak(2) > 0


def test_shared_weights_sum_their_gradients():
    layers = [
        {**conv(4), "name": "a"},
        {**conv(4), "name": "b", "weights": "a"},
        {"global_pool": "average"},
    ]
    assert names(network(*layers)).count("a/kernel:AddN") == 1


# --- records ------------------------------------------------------------------------------------


def recorded(mode: str, threads: int | None) -> list[tuple[str, float]]:
    """Predicted over measured, minus 1, of records of small networks."""
    from benchmarks.memory.measure import load

    found = []
    for line in RECORDS.read_text().splitlines():
        record = json.loads(line)
        if record["network"] not in ("seed_layer", "lenet5", "alexnet", "unet", "mobilenet"):
            continue
        if record["jit"] or record["mode"] != mode or record["threads"] != threads:
            continue
        net = load(record["network"], {"input": record["input"]})
        job = Job(mode, optimizer=record["optimizer"], device="cpu", threads=threads)
        plan = make(net, job, regime(record["batch"]))
        error = plan.allocate(record["batch"]) / record["peak_bytes"] - 1
        found.append((record["network"], error))
    return found


def test_inference_is_within_two_percent_of_the_records():
    errors = recorded("inference", None)
    assert len(errors) >= 5
    assert max(abs(error) for _, error in errors) < 0.02


def test_training_is_within_a_few_percent_of_the_records():
    # With one worker a process may read the learning rate last, and then holds all gradients to
    # the end: the median is what can be foretold.
    for threads in (1, None):
        errors = [abs(error) for _, error in recorded("training", threads)]
        assert len(errors) >= 4
        assert median(errors) < 0.03


def test_a_grouped_convolutions_scratch_is_what_xla_asked_for():
    layers = [conv(64), conv(64, 7, groups=64), conv(96, groups=4), {"global_pool": "average"}]
    found = timeline(network(*layers, size=(32, 32, 3)), batch=8)
    scratch = {b.size.at(8) for b in found.buffers if b.kind == "workspace"}
    assert {2097152, 3145728 + 55296, 2097152 + 802816} <= scratch


# --- 16 bits --------------------------------------------------------------------------------------


#: Peaks of the BFC allocator in bytes, one thread, batch 8 (TensorFlow 2.21, oneDNN off).
SIXTEEN = [
    ("plain", "float16", "inference", 3_137_792, 0.005),
    ("plain", "mixed_float16", "inference", 3_144_704, 0.005),
    ("plain", "mixed_bfloat16", "inference", 3_145_728, 0.005),
    ("plain", "mixed_float16", "training", 33_457_152, 0.02),
    ("plain", "mixed_bfloat16", "training", 33_754_624, 0.02),
    ("plain", "float16", "training", 33_664_512, 0.05),
    ("residual", "float16", "inference", 2_685_952, 0.01),
    ("residual", "mixed_bfloat16", "inference", 3_177_216, 0.03),
    ("residual", "mixed_bfloat16", "training", 43_024_128, 0.02),
]


def measured_in_16_bits(name: str) -> Network:
    pair = [conv(16), {"activation": "relu"}]
    end = {"dense": {"units": 10, "activation": "softmax"}}
    if name == "plain":
        stage = [*pair, *pair, {"max_pool": 2}]
        dense = ["flatten", {"dense": 64}, {"activation": "relu"}]
        return network(*stage, *stage, *stage, *dense, end, size=(64, 64, 3))
    layers: list[object] = [{**conv(16), "name": "x"}]
    for block in range(5):
        x = "x" + "+" * block
        layers += [
            *({**conv(16), "name": f"{x}a", "from": x}, "batch_norm", {"activation": "relu"}),
            *({**conv(16), "name": f"{x}c"}, {"batch_norm": {}, "name": f"{x}e"}),
            {"add": {}, "name": f"{x}d", "from": [f"{x}e", x]},
            {"activation": "relu", "name": f"{x}+"},
        ]
    return network(*layers, {"global_pool": "average"}, end, size=(48, 48, 3))


@pytest.mark.parametrize(("name", "dtype", "mode", "peak", "tolerance"), SIXTEEN)
def test_what_was_measured_in_16_bits(name, dtype, mode, peak, tolerance):
    optimizer = "adam" if mode == "training" else "none"
    made = make(measured_in_16_bits(name), Job(mode, dtype, optimizer, "cpu", threads=1), 8)
    assert made.allocate(8) == pytest.approx(peak, rel=tolerance)


def test_a_mixed_policys_data_come_in_32_bits():
    net = network(conv(4, bias=False))
    found = timeline(net, "inference", dtype="mixed_float16")
    kernel, image = 3 * 3 * 4 * 4, 2 * 64 * 4
    # Variables and input in 32 bits; the copies of both, and the output, in 16.
    assert found.floor(2) == 4 * (kernel + image) + 2 * (kernel + image + image)
    training = timeline(net, dtype="mixed_float16", optimizer="sgd")
    assert training.breakdown(2)["inputs"] == 4 * 2 * image
