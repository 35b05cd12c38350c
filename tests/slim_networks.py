"""The geometry of TF-slim's networks: their windows, strides and branches, with one channel each.

Receptive fields depend on nothing else.  The end points carry the names of the published table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec

#: A branch: windows one after the other, each (height x width, stride, padding).
Window = tuple[Any, int, Any]


class Builder:
    """Ops one behind the other; `here` is the tensor that the next one reads."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.here = "input"

    def add(self, type: str, *sources: str, name: str = "", **attributes: Any) -> str:
        name = name or f"op{len(self.ops)}"
        self.ops.append(Op(name, create(type, attributes), sources or (self.here,)))
        self.here = name
        return name

    def conv(self, kernel: Any, stride: int = 1, padding: Any = "same", name: str = "") -> str:
        return self.add(
            "conv", name=name, filters=1, kernel=kernel, stride=stride, padding=padding, bias=False
        )

    def pool(self, kernel: int, stride: int, padding: Any = "same", name: str = "") -> str:
        return self.add("max_pool", name=name, kernel=kernel, stride=stride, padding=padding)

    def branches(self, name: str, *branches: list[Window | str]) -> str:
        """An Inception block; "pool" is a 3x3 pool that keeps the size."""
        start = self.here
        ends = []
        for branch in branches:
            self.here = start
            for window in branch:
                if isinstance(window, str):
                    self.pool(3, 1)
                else:
                    self.conv(*window)
            ends.append(self.here)
        return self.add("concat", *ends, name=name)

    def residual(self, name: str, *branches: list[Window | str]) -> str:
        """A residual block on what the branches make together."""
        start = self.here
        self.branches("", *branches)
        return self.add("add", start, self.conv(1), name=name)

    def network(self, size: int) -> Network:
        spec = TensorSpec((1, size, size, 1))
        return Network("slim", tuple(self.ops), {"input": spec}, (self.here,))


def same(*kernels: Any) -> list[Window | str]:
    """Windows of stride 1 that keep the size."""
    return [(kernel, 1, "same") for kernel in kernels]


def alexnet_v2(b: Builder) -> None:
    b.conv(11, 4, "valid", "alexnet_v2/conv1")
    b.pool(3, 2, "valid", "alexnet_v2/pool1")
    b.conv(5, name="alexnet_v2/conv2")
    b.pool(3, 2, "valid", "alexnet_v2/pool2")
    for number in (3, 4, 5):
        b.conv(3, name=f"alexnet_v2/conv{number}")
    b.pool(3, 2, "valid", "alexnet_v2/pool5")


def vgg(name: str, depths: tuple[int, ...]) -> Callable[[Builder], None]:
    def build(b: Builder) -> None:
        for block, depth in enumerate(depths, 1):
            for number in range(1, depth + 1):
                b.conv(3, name=f"{name}/conv{block}/conv{block}_{number}")
            b.pool(2, 2, "valid", f"{name}/pool{block}")

    return build


def mobilenet_v1(b: Builder) -> None:
    b.conv(3, 2, name="Conv2d_0")
    for number, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), 1):
        b.add("depthwise_conv", kernel=3, stride=stride, padding="same")
        b.conv(1, name=f"Conv2d_{number}_pointwise")


def resnet(name: str, units: tuple[int, ...]) -> Callable[[Builder], None]:
    """Bottlenecks; a block's last unit has the stride, its shortcut takes every other pixel."""

    def build(b: Builder) -> None:
        b.conv(7, 2, 3)
        b.pool(3, 2)
        for block, (count, last) in enumerate(zip(units, (2, 2, 2, 1), strict=True), 1):
            for unit in range(count):
                stride = last if unit == count - 1 else 1
                start = b.here
                shortcut = b.pool(1, stride) if stride > 1 else start
                b.here = start
                b.conv(1)
                b.conv(3, stride, 1)
                b.conv(1)
                end = f"{name}/block{block}" if unit == count - 1 else ""
                b.add("add", shortcut, b.here, name=end)

    return build


def reduction(b: Builder, name: str, padding: str, *branches: list[Window | str]) -> None:
    """Branches that end in a 3x3 window of stride 2, beside a pool of the same."""
    start = b.here
    pooled = b.pool(3, 2, padding)
    ends = [pooled]
    for branch in branches:
        b.here = start
        for window in branch:
            assert not isinstance(window, str)
            b.conv(*window)
        ends.append(b.conv(3, 2, padding))
    b.add("concat", *ends, name=name)


SMALL = (same(1), same(1, 3), same(1, 3, 3), ["pool", *same(1)])
SEVEN = (1, 7), (7, 1)
TALL = (
    same(1),
    same(1, *SEVEN),
    same(1, *SEVEN, *SEVEN),
    ["pool", *same(1)],
)
WIDE = ((1, 3), (3, 1))


def inception_v2(b: Builder) -> None:
    b.conv(7, 2, name="Conv2d_1a_7x7")
    b.pool(3, 2, name="MaxPool_2a_3x3")
    b.conv(1, name="Conv2d_2b_1x1")
    b.conv(3, name="Conv2d_2c_3x3")
    b.pool(3, 2, name="MaxPool_3a_3x3")
    for stage, letters in ((3, "bc"), (4, "abcde"), (5, "abc")):
        for letter in letters:
            name = f"Mixed_{stage}{letter}"
            if letter == "a":
                reduction(b, name, "same", same(1), same(1, 3))
            else:
                b.branches(name, *SMALL)


def stem(b: Builder, padding: str) -> None:
    """What Inception v3 and Inception-ResNet v2 begin with."""
    b.conv(3, 2, padding, "Conv2d_1a_3x3")
    b.conv(3, 1, padding, "Conv2d_2a_3x3")
    b.conv(3, name="Conv2d_2b_3x3")
    b.pool(3, 2, padding, "MaxPool_3a_3x3")
    b.conv(1, name="Conv2d_3b_1x1")
    b.conv(3, 1, padding, "Conv2d_4a_3x3")
    b.pool(3, 2, padding, "MaxPool_5a_3x3")


def forked(b: Builder, name: str, before: tuple[Any, ...]) -> None:
    """A block whose branches fork into 1x3 and 3x1 at their ends."""
    ends = [same(1, end) for end in WIDE] + [same(1, *before, end) for end in WIDE]
    b.branches(name, same(1), *ends, ["pool", *same(1)])


def inception_v3(b: Builder) -> None:
    stem(b, "valid")
    for letter in "bcd":
        b.branches(f"Mixed_5{letter}", same(1), same(1, 5), same(1, 3, 3), ["pool", *same(1)])
    reduction(b, "Mixed_6a", "valid", [], same(1, 3))
    for letter in "bcde":
        b.branches(f"Mixed_6{letter}", *TALL)
    reduction(b, "Mixed_7a", "valid", same(1), same(1, *SEVEN))
    for letter in "bc":
        forked(b, f"Mixed_7{letter}", (3,))


def inception_v4(b: Builder) -> None:
    b.conv(3, 2, "valid", "Conv2d_1a_3x3")
    b.conv(3, 1, "valid", "Conv2d_2a_3x3")
    b.conv(3, name="Conv2d_2b_3x3")
    reduction(b, "Mixed_3a", "valid", [])
    valid: Window = (3, 1, "valid")
    b.branches("Mixed_4a", [*same(1), valid], [*same(1, *SEVEN), valid])
    reduction(b, "Mixed_5a", "valid", [])
    for letter in "bcde":
        b.branches(f"Mixed_5{letter}", *SMALL)
    reduction(b, "Mixed_6a", "valid", [], same(1, 3))
    for letter in "bcdefgh":
        b.branches(f"Mixed_6{letter}", *TALL)
    reduction(b, "Mixed_7a", "valid", same(1), same(1, *SEVEN))
    for letter in "bcd":
        forked(b, f"Mixed_7{letter}", WIDE)


def inception_resnet_v2(padding: str) -> Callable[[Builder], None]:
    def build(b: Builder) -> None:
        stem(b, padding)
        b.branches("Mixed_5b", same(1), same(1, 5), same(1, 3, 3), ["pool", *same(1)])
        for _ in range(10):
            b.residual("", same(1), same(1, 3), same(1, 3, 3))
        reduction(b, "Mixed_6a", padding, [], same(1, 3))
        for number in range(20):
            b.residual("PreAuxLogits" if number == 19 else "", same(1), same(1, *SEVEN))
        reduction(b, "Mixed_7a", padding, same(1), same(1), same(1, 3))
        for _ in range(10):
            b.residual("", same(1), same(1, *WIDE))
        b.conv(1, name="Conv2d_7b_1x1")

    return build


RESNETS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}

NETWORKS: dict[str, Callable[[Builder], None]] = {
    "alexnet_v2": alexnet_v2,
    "vgg_a": vgg("vgg_a", (1, 1, 2, 2, 2)),
    "vgg_16": vgg("vgg_16", (2, 2, 3, 3, 3)),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v1_075": mobilenet_v1,
    "inception_v2": inception_v2,
    "inception_v2-no-separable-conv": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2("valid"),
    "inception_resnet_v2-same": inception_resnet_v2("same"),
    **{
        f"resnet_{version}_{depth}": resnet(f"resnet_{version}_{depth}", units)
        for version in ("v1", "v2")
        for depth, units in RESNETS.items()
    },
}


def slim(name: str, size: int) -> Network:
    """The network of that name on a picture of `size` x `size`."""
    builder = Builder()
    NETWORKS[name](builder)
    return builder.network(size)
