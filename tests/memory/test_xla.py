"""XLA's mechanisms, each on a program of a few operations whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import convcalc
from convcalc.memory import engines
from convcalc.memory.engines import xla
from convcalc.memory.engines.tensorflow.bfc import BFC
from convcalc.memory.engines.tensorflow_xla import (
    OF_A_STEP,
    constants,
    graph_constants,
    handed_out,
    place,
)
from convcalc.memory.engines.xla.fusion import Fusion, Kind
from convcalc.memory.engines.xla.heap import (
    SMALLEST,
    Interval,
    best_fit,
    into_donated,
    lives,
    most_at_once,
    packed,
    packed_best,
)
from convcalc.memory.engines.xla.lazy import Emitter, reads
from convcalc.memory.engines.xla.schedule import (
    POINTERS,
    breadth_first,
    list_schedule,
    most_alive,
    post_order,
)
from convcalc.memory.job import Job
from convcalc.memory.keras_graph import as_keras, padding
from convcalc.memory.program import Node, Program, Value
from convcalc.tensors import TensorSpec

KIB = 1024


class Made:
    """A program written down operation by operation; names stand for operations and results."""

    def __init__(self) -> None:
        self.program = Program()
        self.node: dict[str, Node] = {}
        self.value: dict[str, Value] = {}
        self.kinds: dict[Node, Kind] = {}

    def add(
        self, name: str, *inputs: str, kind: Kind = Kind.CALL, elements: int = 100, **how: Any
    ) -> Made:
        shape = how.pop("shape", (1, elements))
        made = Value(TensorSpec(shape, "float", None), 4, "activations", name)
        read = [self.value[each] for each in inputs]
        self.node[name] = self.program.add(name, read, [made], layer=name, phase="forward", **how)
        self.value[name] = made
        self.kinds[self.node[name]] = kind
        return self

    def rests(self, name: str) -> Made:
        made = Value(TensorSpec((1, 100), "float", None), 4, "weights", name)
        self.program.resting.append(made)
        self.value[name] = made
        return self

    def fused(self, *roots: str) -> dict[str, list[str]]:
        """What is left, with what each operation reads."""
        fusion = Fusion(self.program, self.kinds, [self.node[root] for root in roots], 1)
        left = fusion.run()
        return {node.primitive: [value.name for value in node.inputs] for node in left}


EW, COSTLY = Kind.ELEMENTWISE, Kind.EXPENSIVE


# --- fusion -------------------------------------------------------------------------------------


def test_a_chain_becomes_its_last_operation():
    made = Made().add("a").add("b", "a", kind=EW).add("c", "b", kind=EW).add("d", "c")
    assert made.fused("d") == {"a": [], "c": ["a"], "d": ["c"]}


def test_a_cheap_operation_is_computed_in_each_reader():
    made = Made().add("a").add("b", "a", kind=EW)
    made.add("c", "b", kind=EW).add("d", "b", kind=EW).add("e", "c", "d")
    assert made.fused("e") == {"a": [], "c": ["a"], "d": ["a"], "e": ["c", "d"]}


def test_an_expensive_operation_is_never_computed_twice():
    made = Made().add("a").add("b", "a", kind=COSTLY)
    made.add("c", "b", kind=EW).add("d", "b", kind=EW).add("e", "c", "d")
    assert made.fused("e")["b"] == ["a"]
    alone = Made().add("a").add("b", "a", kind=COSTLY).add("c", "b", kind=EW).add("d", "c")
    assert alone.fused("d") == {"a": [], "c": ["a"], "d": ["c"]}
    # Nor for each element of something larger, through whatever is computed on the way.
    small = Made().add("a").add("b", "a", kind=COSTLY)
    small.add("c", "b", kind=EW, elements=1000).add("d", "c")
    assert "b" in small.fused("d")
    through = Made().add("a").add("b", "a", kind=COSTLY).add("c", "b", kind=EW)
    through.add("d", "c", kind=EW, elements=1000).add("e", "d")
    assert through.fused("e") == {"a": [], "b": ["a"], "d": ["b"], "e": ["d"]}
    # Numbers around it make it larger, but read it once.
    padded = Made().add("a").add("b", "a", kind=COSTLY)
    padded.add("c", "b", kind=Kind.PAD, elements=1000).add("d", "c")
    assert padded.fused("d") == {"a": [], "c": ["a"], "d": ["c"]}


def test_numbers_around_are_stored_for_several_fusions():
    made = Made().add("a").add("pad", "a", kind=Kind.PAD)
    for name in "bc":
        made.add(name, "pad", kind=Kind.MOVE).add(f"{name}2", name, kind=Kind.MOVE)
    made.add("d", "b2", "c2")
    assert made.fused("d") == {
        "a": [],
        "pad": ["a"],
        "b2": ["pad"],
        "c2": ["pad"],
        "d": ["b2", "c2"],
    }
    alone = Made().add("a").add("pad", "a", kind=Kind.PAD).add("b", "pad", kind=Kind.MOVE)
    alone.add("b2", "b", kind=Kind.MOVE).add("c", "b2")
    assert alone.fused("c") == {"a": [], "b2": ["a"], "c": ["b2"]}


def test_a_sum_that_a_call_reads_as_well_stays():
    made = Made().add("a").add("b").add("sum", "a", "b", kind=EW)
    made.add("c", "sum", kind=EW).add("d", "sum").add("e", "c", "d")
    assert made.fused("e")["c"] == ["sum"]
    # Where all readers can compute it, it goes.
    every = Made().add("a").add("b").add("sum", "a", "b", kind=EW)
    every.add("c", "sum", kind=EW).add("d", "sum", kind=EW).add("e", "c", "d")
    assert "sum" not in every.fused("e")


def test_a_concatenation_of_wide_rows_is_a_buffer():
    for elements, stays in ((32, False), (64, True)):
        made = Made().add("a", elements=elements).add("b", elements=elements)
        made.add("cat", "a", "b", kind=Kind.CONCAT, shape=(8, 2 * elements))
        made.add("c", "cat", kind=EW, shape=(8, 2 * elements)).add("d", "c")
        assert ("cat" in made.fused("d")) is stays


def test_a_result_takes_the_place_of_what_is_read_element_by_element():
    made = Made().add("a").add("b").add("turned", "a", kind=Kind.MOVE)
    made.add("sum", "turned", "b", kind=EW).add("end", "sum")
    fusion = Fusion(made.program, made.kinds, [made.node["end"]], 1)
    fusion.run()
    total = made.node["sum"]
    assert [total.inputs[place].name for place in fusion.places(total)] == ["b"]
    whole = Made().add("a").add("b", "a", kind=EW).add("turned", "b", kind=Kind.MOVE)
    whole.add("end", "turned")
    fusion = Fusion(whole.program, whole.kinds, [whole.node["end"]], 1)
    fusion.run()
    assert fusion.places(whole.node["turned"]) == ()


def test_a_shape_is_changed_within_a_fusion_or_for_nothing():
    made = Made().add("a").add("b", "a", kind=EW).add("flat", "b", kind=Kind.RESHAPE)
    made.add("end", "flat")
    assert made.fused("end") == {"a": [], "flat": ["a"], "end": ["flat"]}
    assert not made.node["flat"].alias
    alone = Made().add("a").add("flat", "a", kind=Kind.RESHAPE).add("end", "flat")
    assert alone.fused("end")["flat"] == ["a"]
    assert alone.node["flat"].alias


def test_what_no_root_needs_is_gone():
    made = Made().add("a").add("b", "a", kind=EW).add("dead", "a").add("c", "b")
    assert set(made.fused("c")) == {"a", "b", "c"}


# --- orders -------------------------------------------------------------------------------------


def two_chains() -> Made:
    """A large and a small tensor, each summed up, and the two sums."""
    made = Made().add("A", elements=100).add("B", elements=50)
    made.add("a", "A", elements=1).add("b", "B", elements=1)
    return made.add("end", "a", "b", elements=1)


def order_of(nodes: list[Node]) -> str:
    return " ".join(node.primitive for node in nodes)


def test_the_list_takes_what_frees_most():
    made = two_chains()
    # B takes least; then b frees most; only then A.
    found = list_schedule(made.program, 1, frozenset())
    assert order_of(found) == "B b A a end"
    assert most_alive(found, 1) == 4 * (1 + 100 + 1)


def test_a_tuple_costs_its_pointers():
    made = Made().add("A", elements=4).add("B", elements=4).add("end", "A", "B")
    # Equals: what became ready last; as a call B takes pointers as well.
    assert order_of(list_schedule(made.program, 1, frozenset())) == "B A end"
    assert order_of(list_schedule(made.program, 1, frozenset({"B"}))) == "A B end"
    assert POINTERS > 0


def test_post_order_finishes_an_operand_before_the_next():
    made = two_chains()
    found = post_order(made.program, [made.node["end"]])
    assert order_of(found) == "A a B b end"
    assert most_alive(found, 1) == 4 * (100 + 1)
    # What no root needs comes last, or not at all.
    made.add("alone")
    assert order_of(post_order(made.program, [made.node["end"]])) == "A a B b end alone"
    assert len(post_order(made.program, [made.node["end"]], all_nodes=False)) == 5


def test_breadth_first_is_first_in_first_out():
    made = two_chains()
    users = {
        node: [u for value in node.outputs for u in value.users] for node in made.program.nodes
    }
    found = breadth_first(made.program, users)
    assert order_of(found) == "A B a b end"
    assert most_alive(found, 1) == 4 * (100 + 50 + 1)


def test_sources_come_before_what_reads_parameters():
    made = Made().rests("first").rests("second")
    made.add("late", "second").add("early", "first").add("source")
    users: dict[Node, list[Node]] = {node: [] for node in made.program.nodes}
    assert order_of(breadth_first(made.program, users)) == "source early late"


# --- the block ----------------------------------------------------------------------------------


def test_buffers_that_never_meet_share_a_place():
    apart = [Interval(8 * KIB, 0, 1), Interval(8 * KIB, 2, 3)]
    meeting = [Interval(8 * KIB, 0, 2), Interval(8 * KIB, 2, 3)]
    assert packed(apart) == 8 * KIB == most_at_once(apart)
    assert packed(meeting) == 16 * KIB == most_at_once(meeting)
    assert packed([Interval(SMALLEST - 1, 0, 9)]) == 0
    assert packed([Interval(SMALLEST + 1, 0, 9)]) == SMALLEST + 256


def test_the_smallest_gap_is_taken():
    placed = [
        Interval(8 * KIB, 0, 9),
        Interval(12 * KIB, 0, 4),  # a gap of 12 KiB from step 5 on
        Interval(8 * KIB, 0, 9),
        Interval(6 * KIB, 0, 4),  # and one of 6 KiB
        Interval(8 * KIB, 0, 9),
    ]
    assert best_fit(placed) == 42 * KIB
    assert best_fit([*placed, Interval(6 * KIB, 5, 9), Interval(12 * KIB, 5, 9)]) == 42 * KIB
    assert best_fit([*placed, Interval(13 * KIB, 5, 9)]) == 55 * KIB


def test_gaps_can_make_a_block_higher_than_what_is_alive():
    # The two 8s lie apart when the 12 comes, in whatever order they are placed.
    buffers = [Interval(8 * KIB, 0, 3), Interval(8 * KIB, 2, 6), Interval(12 * KIB, 4, 5)]
    assert packed(buffers) >= most_at_once(buffers) == 20 * KIB


def test_lives_are_counted_in_what_begins_and_ends_meanwhile():
    buffers = [
        Interval(8 * KIB, 0, 3),  # begins at 0; 1, 2, 3, 4 are the next two's
        Interval(64, 1, 1),
        Interval(64, 2, 2),
        Interval(0, 2, 3),  # takes nothing
        Interval(8 * KIB, 3, 9),  # begins before the first ends, at 5 and 6
    ]
    assert [life.whole for life in lives(buffers)] == [6, 1, 1, 0, 2]
    # Handed on at 1, after the second has begun: given back, and taken.
    handed = lives(buffers, [[1], [], [], [], []])
    assert handed[0] == (2, 8)
    assert handed[1] == (3, 3)


def test_a_cpus_block_is_the_lower_of_two():
    """By size the 16 and the first 12 take the bottom, and the other 12 lies above the 16."""
    buffers = [
        Interval(8 * KIB, 1, 2),
        Interval(16 * KIB, 5, 5),
        Interval(12 * KIB, 2, 5),
        Interval(12 * KIB, 0, 1),
    ]
    assert packed(buffers) == 36 * KIB
    # What lives longest has the bottom, and then all the others find room above it.
    assert packed_best(buffers) == most_at_once(buffers) == 28 * KIB
    assert packed_best([Interval(8 * KIB + 1, 0, 1)]) == 8 * KIB + 64
    assert packed_best([]) == 0


def test_a_donated_variable_holds_what_fits_while_it_is_free():
    room = [Interval(8 * KIB, 2, 6)]
    buffers = [
        Interval(8 * KIB, 3, 4),
        Interval(8 * KIB, 4, 5),  # the room is taken at 4
        Interval(4 * KIB, 5, 6),
        Interval(8 * KIB, 1, 2),  # begins too early
        Interval(9 * KIB, 3, 3),  # is too large
        Interval(SMALLEST - 1, 3, 3),
    ]
    inside, rest = into_donated(buffers, room)
    assert sorted(inside) == [0, 2]
    assert sorted(rest) == [1, 3, 4, 5]
    # Of equal ones the first in post-order has it, and it goes where it just fits.
    assert into_donated(buffers, room, [5, 0, 1, 2, 3, 4])[0] == [1]
    rooms = [Interval(16 * KIB, 0, 9), Interval(8 * KIB, 0, 9)]
    both = [Interval(8 * KIB, 0, 5), Interval(12 * KIB, 6, 7), Interval(12 * KIB, 3, 4)]
    assert sorted(into_donated(both, rooms, [0, 1, 2])[0]) == [0, 1, 2]
    assert sorted(into_donated(both[::2], [Interval(16 * KIB, 0, 9)] * 1, [0, 1])[0]) == [1]


# --- tensors that are computed where they are read ----------------------------------------------


def emitter() -> Emitter:
    low: Any = SimpleNamespace(
        program=Program(),
        job=Job(),
        phase="forward",
        rules=SimpleNamespace(elementwise=set()),
    )
    return Emitter(low, "layer")


IMAGE = TensorSpec((1, 64), "float", 0)


def test_a_lazy_tensor_is_what_it_is_computed_from():
    emit = emitter()
    a, b = emit.one("conv", [], IMAGE), emit.one("conv", [], IMAGE)
    norm = emit.lazy(IMAGE, a)
    total = emit.lazy(IMAGE, b, norm)
    # Each buffer once, in the order in which they are made.
    assert reads(total, norm, None) == (a, b)
    assert len(emit.lowering.program.nodes) == 2


def test_stored_once_it_is_read_itself():
    emit = emitter()
    a = emit.one("conv", [], IMAGE)
    norm = emit.lazy(IMAGE, a)
    stored = emit.store(norm)
    assert emit.store(norm) is stored
    assert reads(emit.lazy(IMAGE, norm)) == (stored,)
    assert [node.primitive for node in emit.lowering.program.nodes] == ["conv", "fusion"]
    assert emit.store(a) is a


def test_a_library_calls_result_is_not_written_over():
    emit = emitter()
    called = emit.one("conv", [], IMAGE)
    first = emit.one("fusion", [called], IMAGE, elementwise=True)
    second = emit.one("fusion", [first], IMAGE, elementwise=True)
    assert first.node is not None
    assert second.node is not None
    assert first.node.inplace == ()
    assert second.node.inplace == (0,)


# --- whole programs -----------------------------------------------------------------------------


def network(*layers: Any, size: tuple[int, ...] = (16, 16, 8)) -> Any:
    return convcalc.load({"input": list(size), "layers": list(layers)})


CONV = {"conv": {"filters": 8, "kernel": 3, "padding": "same", "bias": False}}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_batch_norm_and_a_relu_are_no_buffers(device: str):
    image, batch = 16 * 16 * 8 * 4, 64
    job = Job("inference", optimizer="none", device=device)

    def temporary(*layers: Any) -> int:
        return xla.compiled(network(*layers), job, batch).temporary(batch)

    plain = temporary(CONV, CONV, CONV)
    between = temporary(CONV, {"activation": "relu"}, CONV, {"activation": "relu"}, CONV)
    # The first convolution's output becomes the activation, the second's is its own buffer.
    assert plain <= between <= plain + image * batch
    assert plain >= 2 * image * batch


def test_padding_in_numbers_is_a_cpu_convolutions_own():
    job, batch = Job("inference", optimizer="none", device="cpu"), 8

    def temporary(padding: Any) -> int:
        conv = {"conv": {"filters": 8, "kernel": 3, "padding": padding}}
        pool = {"max_pool": {"kernel": 3, "stride": 1, "padding": padding}}
        return xla.compiled(network(conv, pool, conv), job, batch, tensorflow=True).temporary(batch)

    named = temporary("same")
    assert temporary([[2, 0], [0, 2]]) == named >= 2 * 16 * 16 * 8 * 4 * batch


def test_a_sequence_is_an_image_of_height_one_to_tensorflow():
    """What is read in another shape is not written over."""
    job, batch = Job("inference", optimizer="none", device="cpu"), 64
    conv = {"conv": {"filters": 8, "kernel": 3, "padding": "same", "activation": "relu"}}
    net, row = network(conv, conv, size=(64, 8)), 64 * 8 * 4 * batch

    def temporary(tensorflow: bool) -> int:
        return xla.compiled(net, job, batch, tensorflow=tensorflow).temporary(batch)

    assert temporary(True) == 2 * row
    assert temporary(False) <= 2 * row


def test_a_dense_map_of_classes_keeps_what_a_softmax_is_made_of():
    """Its gradient is computed for the bias, for the kernel and for the input, one by one."""
    batch, size = 8, 32 * 32 * 24 * 4
    conv = {"conv": {"filters": 24, "kernel": 1, "activation": "softmax"}}
    net = network(conv, size=(32, 32, 8))
    job = Job(device="cpu", optimizer="sgd")
    made = xla.compiled(net, job, batch, tensorflow=True)
    assert made.temporary(batch) >= 4 * size * batch
    names = {buffer.name for buffer in made.timeline.buffers}
    assert {"loss:exp", "loss:mean gradient", "loss:cross entropy"} <= names


def test_gradients_wait_where_it_is_decided_whether_to_update():
    net = network(*[{"dense": {"units": 512, "bias": False}}] * 6, size=(512,))
    one = 512 * 512 * 4

    def temporary(device: str, **job: Any) -> int:
        return xla.compiled(net, Job(device=device, **job), 1).temporary(1)

    for device in ("cpu", "gpu"):
        assert temporary(device, accumulate=True) >= 6 * one
        assert temporary(device) < temporary(device, accumulate=True)


def test_a_plan_serves_the_batches_of_its_power_of_two():
    assert [xla.regime(batch) for batch in (1, 2, 3, 4, 31, 32)] == [1, 2, 2, 4, 16, 32]


def test_the_block_finds_a_hole_of_an_initializer_or_not():
    net = network({"dense": {"units": 32, "bias": False}}, size=(64,))
    job = Job("inference", optimizer="none")
    kernel, handle, x, y = 64 * 32 * 4, 256, 8 * 64 * 4, 8 * 32 * 4
    # Three tensors of the kernel's size are made, two of them let go; the handle, the input and the
    # output go into that hole, and leave one of 13,056 bytes.
    hole = 2 * kernel - handle - x - y
    for block, taken in ((4096, 4096), (6400, 6400), (6656, hole), (hole, hole), (13312, 13312)):
        assert handed_out(net, job, 8, block) == kernel + handle + x + y + taken


def test_training_also_has_handles_tables_and_what_the_last_step_left():
    net = network({"dense": {"units": 32, "bias": False}}, size=(64,))
    kernel, x, y, block = 64 * 32 * 4, 8 * 64 * 4, 8 * 32 * 4, 1 << 16
    for optimizer, slots, traces in (("sgd", 0, 1), ("adam", 2, 2)):
        variables = 1 + slots + 4  # the step's number, the rate, the loss's sum and number
        table = 256  # 8 bytes each
        found = handed_out(net, Job(optimizer=optimizer), 8, block)
        made = kernel * (1 + slots) + 256 * (variables + OF_A_STEP * traces) + x + y
        least = made + block + 2 * 256 + table + 256
        # Part of the zeros that the slots began with lies before the block, which takes it, too.
        assert least <= found <= least + kernel * bool(slots)


def test_a_graph_has_constants_by_operator():
    """As the allocator's log counts them: 76 more for Adam, which is traced twice."""
    plain = {"conv": {"filters": 8, "kernel": 3, "bias": False}}
    assert graph_constants(network(plain)) == OF_A_STEP
    assert graph_constants(network({"conv": {"filters": 8, "kernel": 3}})) == OF_A_STEP + 3
    assert graph_constants(network(plain, "batch_norm")) == OF_A_STEP + 20
    padded = {"conv": {"filters": 8, "kernel": 3, "padding": [[2, 0], [0, 2]], "bias": False}}
    assert graph_constants(network(padded)) == OF_A_STEP + 1


def test_zeros_are_made_by_the_names_of_the_last_slots_of_each_shape():
    shapes = [((size,), 256 * size) for size in (1, 2, 3, 2, 5, 6, 7, 5)]
    # Two slots each: as texts, the last of each shape are 1, 7, 5, 9 (behind 15), 11 and 13.
    assert [size for _, size in constants(shapes, 2)] == [256 * i for i in (1, 6, 7, 3, 2, 5)]
    assert constants(shapes, 0) == []


def test_what_inference_gives_back_is_asked_for_beside_the_block():
    """The book's layer, batch 8: TensorFlow's allocator said 97,977,344 bytes."""
    net = network({"conv": {"filters": 200, "kernel": 5, "padding": "same"}}, size=(150, 100, 3))
    job = Job("inference", optimizer="none", device="cpu")
    assert abs(engines.plan(net, "tensorflow-xla", job, 8).allocate(8) / 97_977_344 - 1) < 0.01


def test_only_what_is_drawn_leaves_holes():
    bfc = BFC()
    place(bfc, 1024, random=False)
    assert bfc.used == bfc.peak == 1024
    place(bfc, 1024, random=True)
    assert (bfc.used, bfc.peak) == (2048, 4096)


# --- the network as Keras has it -----------------------------------------------------------------


def test_padding_in_numbers_becomes_a_layer():
    net = network(
        {"conv": {"filters": 4, "kernel": 3, "padding": [[1, 0], [2, 1]]}}, {"max_pool": 2}
    )
    found = as_keras(net)
    assert [op.operator.type for op in found.ops] == ["pad", "conv", "max_pool"]
    pad, conv, _ = found.ops
    assert found.results[pad.name][0].dims == (1, 17, 19, 8)
    assert conv.inputs == (pad.name,)
    assert conv.operator.padding == "valid"
    assert found.results[conv.name] == net.results[conv.name]
    assert padding(net, net.ops[0]) == ((1, 0), (2, 1))


def test_named_padding_stays():
    net = network(CONV, {"max_pool": 2}, {"activation": "relu"})
    assert as_keras(net) is net
    assert padding(net, net.ops[2]) == ()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_an_operator_without_a_rule_reads_and_writes_buffers(device, mode):
    net = network(CONV, {"space_to_depth": 2}, CONV)
    optimizer = "adam" if mode == "training" else "none"
    made = engines.plan(net, "jax", Job(mode, optimizer=optimizer, device=device), 8)
    assert made.assumed == {"space_to_depth"}
    assert made.allocate(8) > made.timeline.peak(8) * 0.9
