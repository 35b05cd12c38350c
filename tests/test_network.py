"""The graph: order, names, shapes that do not fit, shared weights, settings of sizes."""

from __future__ import annotations

import pytest

from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec

IMAGE = {"x": TensorSpec((1, 8, 8, 3))}


def op(name: str, kind: str, *inputs: str, weights: str = "", **attributes: object) -> Op:
    return Op(name, create(kind, attributes), inputs, weights=weights)


def test_ops_are_put_in_order() -> None:
    net = Network(
        "n",
        (op("c", "add", "a", "b"), op("b", "identity", "a"), op("a", "identity", "x")),
        IMAGE,
        ("c",),
    )
    assert [each.name for each in net.ops] == ["a", "b", "c"]


def test_ops_in_order_keep_their_order() -> None:
    names = ["a", "d", "b", "c"]
    ops = tuple(op(name, "identity", "x") for name in names)
    assert [each.name for each in Network("n", ops, IMAGE, ("a",)).ops] == names


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ((op("a", "add", "x", "b"), op("b", "identity", "a")), "'a' is part of a cycle"),
        ((op("a", "identity", "a"),), "'a' is part of a cycle"),
        ((op("a", "identity", "y"),), "'a' reads 'y', which nothing makes"),
        ((op("a", "identity", "x"), op("a", "identity", "x")), "the name 'a' is used twice"),
        ((op("x", "identity", "x"),), "the name 'x' is used twice"),
        ((op("a", "subtract", "x"),), "takes 2 inputs, not 1"),
        (
            (op("a", "conv", "x", filters=4, kernel=9),),
            "'a' (conv) on 1x8x8x3: a kernel of 9 (dilation included) does not fit",
        ),
        (
            (op("a", "conv", "x", filters=4, kernel=1, groups=2),),
            "2 groups do not divide 3 input channels",
        ),
        ((op("a", "conv", "x", filters=10**30, kernel=1),), "2^63 - 1"),
        ((op("a", "conv", "x", filters=0, kernel=1),), "filters must be a positive integer"),
    ],
)
def test_what_does_not_fit_is_named(ops: tuple[Op, ...], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        Network("n", ops, IMAGE, (ops[-1].name,))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shared_weights_are_stored_once_and_must_agree() -> None:
    first = op("a", "dense", "x", units=3)
    again = op("b", "dense", "a", weights="a", units=3)
    net = Network("n", (first, again), IMAGE, ("b",))
    assert list(net.params) == ["a"]
    other = op("b", "dense", "a", weights="a", units=4)
    with pytest.raises(ModelError, match="shares the weights of 'a'"):
        Network("n", (first, other), IMAGE, ("b",))


def test_what_follows_an_unknown_shape_is_unknown() -> None:
    opaque = Op("a", create("opaque", {"name": "Mystery"}), ("x",))
    net = Network("n", (opaque, op("b", "dense", "a", units=3)), IMAGE, ("b",))
    assert not net.tensors["b"].known


def test_the_batch_moves_with_its_axis() -> None:
    net = Network("n", (op("a", "permute", "x", order=[1, 0, 2, 3]),), IMAGE, ("a",))
    assert net.tensors["a"].shape_at(5) == (8, 5, 8, 3)


@pytest.mark.parametrize("size", [0, -1, True, "8", 2.0, None])
def test_an_input_without_positive_sizes_is_refused(size: object) -> None:
    with pytest.raises(ModelError, match="input 'x'"):
        Network("n", (op("a", "identity", "x"),), {"x": TensorSpec((1, size, 3))}, ("a",))


def test_ten_thousand_ops_in_reverse_order() -> None:
    """No recursion, no quadratic search."""
    count = 10_000
    ops = [op(f"op{i}", "identity", f"op{i - 1}" if i else "x") for i in range(count)]
    net = Network("n", tuple(reversed(ops)), IMAGE, (f"op{count - 1}",))
    assert net.ops[0].name == "op0"
