"""What XLA's CPU compiler makes of operators, read off its dumps: which buffers there are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import convcalc
from convcalc.memory.engines.xla import compiled as xla_compiled
from convcalc.memory.engines.xla import for_cpu
from convcalc.memory.job import Job
from convcalc.memory.keras_graph import as_keras
from convcalc.memory.program import Program

CONV = {"conv": {"filters": 8, "kernel": 3, "padding": "same"}}


def compiled(
    *layers: Any,
    size: tuple[int, ...] = (16, 16, 8),
    optimizer: str = "sgd",
    batch: int = 2,
    dtype: str = "float",
    tensorflow: bool = True,
) -> Program:
    """The program after fusion."""
    job = Job("training", optimizer=optimizer, device="cpu")
    inputs = {"x": {"shape": list(size), "dtype": dtype}}
    net = convcalc.load({"name": "net", "inputs": inputs, "layers": list(layers)})
    return for_cpu(net.once(as_keras), job, batch, tensorflow)[0]


def sizes(program: Program, batch: int = 2) -> Counter[tuple[str, int]]:
    """How many buffers of which size each primitive makes."""
    return Counter(
        (node.primitive, value.size.at(batch)) for node in program.nodes for value in node.outputs
    )


def count(program: Program, primitive: str) -> int:
    return sum(node.primitive == primitive for node in program.nodes)


def test_bilinear_resizing_gathers_nine_pixels_for_each():
    """`image_resize_ops.cc`; its gradient scatters as many into zeros."""
    up = {"upsample": {"factor": 2, "interpolation": "bilinear"}}
    image = 2 * 16 * 16 * 8 * 4
    found = sizes(compiled(CONV, up, CONV))
    assert found["gather", 9 * 4 * image] == 1
    assert found["interpolate", 4 * image] == 1
    assert found["transpose gradient", 9 * 4 * image] == 1
    assert found["scatter", image] == found["zeros", image] == 1
    # An axis of one pixel has no others to be made of.
    low = sizes(compiled(CONV, up, CONV, size=(1, 16, 8)))
    assert low["gather", 3 * 4 * image // 16] == 1
    nearest = compiled(CONV, {"upsample": 2}, CONV)
    assert not count(nearest, "gather")


@pytest.mark.parametrize(
    ("conv", "size", "turned"),
    [
        ({"padding": "same"}, (2, 2, 8), 1),
        ({"padding": "same"}, (3, 3, 8), 0),
        ({"padding": "same"}, (1, 8, 8), 1),
        ({"padding": "same"}, (1, 16, 8), 0),
        # The kernel covers the image: a product of matrices.
        ({"padding": "valid"}, (3, 3, 8), 0),
        # What pads an image of one pixel to show each of the kernel's pixels once.
        ({"padding": [[2, 2], [2, 2]]}, (1, 1, 8), 0),
        ({"padding": "same", "groups": 2}, (2, 2, 8), 0),
    ],
)
def test_a_kernel_larger_than_its_image_changes_places_with_it(conv, size, turned):
    """`conv_operand_swapper.cc`."""
    program = compiled(CONV, {"conv": {"filters": 8, "kernel": 3, **conv}}, size=size)
    of_second = [node for node in program.nodes if node.layer == "conv_2"]
    assert sum(node.primitive == "flip kernel" for node in of_second) == turned


@pytest.mark.parametrize(("optimizer", "again"), [("rmsprop", True), ("adam", False)])
def test_a_step_that_reads_the_gradient_again_keeps_it(optimizer, again):
    program = compiled(CONV, CONV, optimizer=optimizer)
    gradient = next(n for n in program.nodes if n.primitive == "kernel gradient")
    readers = {node.primitive for node in gradient.outputs[0].users}
    assert readers == ({"moments", "update"} if again else {"moments"})


def test_pools_of_one_size_have_iotas_and_zeros_of_their_own():
    """`HloCSE` merges zeros, which are then copied, but not what reads nothing."""
    pool = {"max_pool": {"kernel": 3, "stride": 1, "padding": "same"}}
    one, two = compiled(CONV, pool, CONV), compiled(CONV, pool, CONV, pool, CONV)
    iotas = [sum(n.primitive.startswith("iota") for n in each.nodes) for each in (one, two)]
    assert iotas == [4, 8]
    assert [count(each, "zeros") for each in (one, two)] == [1, 1]
    assert [sum("copy " in n.primitive for n in each.nodes) for each in (one, two)] == [0, 2]


@pytest.mark.parametrize(
    ("optimizer", "tables"), [("sgd", 1), ("momentum", 1), ("adam", 2), ("rmsprop", 2)]
)
def test_an_embeddings_gradient_is_a_table_for_each_slot(optimizer, tables):
    layers = ({"embedding": {"rows": 100, "width": 8}}, {"conv": {"filters": 4, "kernel": 3}})
    made = sizes(compiled(*layers, size=(32,), dtype="int32", optimizer=optimizer))
    assert made["scatter", 100 * 8 * 4] == tables


def test_the_largest_value_shares_its_gradient_among_equal_ones():
    """`math_grad.py`: the comparison reads what was reduced once more, for a count."""
    program = compiled(CONV, {"global_pool": {"kind": "max"}}, {"dense": {"units": 4}})
    assert count(program, "selected") == 1
    mean = compiled(CONV, {"global_pool": {"kind": "average"}}, {"dense": {"units": 4}})
    assert not count(mean, "selected")


def test_an_average_pools_gradient_is_cut_out_only_where_it_was_padded():
    def layers(padding: str) -> tuple[Any, ...]:
        return (CONV, {"average_pool": {"kernel": 3, "stride": 2, "padding": padding}}, CONV)

    image = 2 * 15 * 15 * 8 * 4
    plain = sizes(compiled(*layers("valid"), size=(15, 15, 8)))
    assert plain["window sum gradient", image] == 1
    padded = sizes(compiled(*layers("same"), size=(15, 15, 8)))
    assert padded["window sum gradient", 2 * 17 * 17 * 8 * 4] == 1


@pytest.mark.parametrize(
    ("optimizer", "made"),
    [
        ("adam", {}),
        ("lion", {"slot copy": 1}),
        ("adadelta", {"root": 1, "inverse root": 1}),
        ("ftrl", {"slot copy": 1, "power": 1}),
        ("lamb", {"quotient": 1, "square": 2}),
    ],
)
def test_what_a_step_makes_of_a_dense_kernel(optimizer, made):
    """A kernel of 4 MiB, which the gradient of the input reads and so is copied itself."""
    dense = {"dense": {"units": 1024}}
    found = sizes(compiled(dense, dense, size=(1024,), optimizer=optimizer))
    large = {name: times for (name, size), times in found.items() if size == 4 << 20}
    copies = large.pop("copy")
    assert large.pop("kernel gradient") == 2
    # Only the second kernel's old value is read after the first gradients have come.
    named = {"slot copy": copies // 2} if copies > 1 else {}
    assert {**named, **{name: times // 2 for name, times in large.items()}} == made


def test_a_gradient_in_its_variables_order_lies_where_that_is_written():
    """A dense kernel of 4 MiB, which was copied: only the copy is alive beside the variable."""
    job = Job("training", optimizer="sgd", device="cpu")

    def temporary(*layers: Any) -> int:
        net = convcalc.load({"input": [4, 4, 64], "layers": list(layers)})
        return xla_compiled(net, job, 1, tensorflow=True).temporary(1)

    narrow = {"conv": {"filters": 64, "kernel": 1, "bias": False}}
    dense = temporary(narrow, "flatten", {"dense": {"units": 1024}})
    assert 4 << 20 < dense < 5 << 20


def test_random_numbers_are_drawn_from_a_key_that_takes_steps_to_make():
    """So breadth first other operations come before them."""
    program = compiled(CONV, {"dropout": 0.5}, CONV)
    (random,) = (node for node in program.nodes if node.primitive == "random")
    depth, node = 0, random
    while node.inputs and node.inputs[0].node is not None:
        depth, node = depth + 1, node.inputs[0].node
    assert depth == 3
    # The first reads the generator's state, which rests behind the variables before it.
    assert [value.name for value in node.inputs] == ["conv_1/bias"]
