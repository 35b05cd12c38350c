"""The profiler's log becomes a timeline with the names of those who asked."""

from __future__ import annotations

from typing import Any

from convcalc.verify.parting import Held, Part, at_peak, layer_of, parts
from convcalc.verify.request import Event
from convcalc.verify.trace import Entry, events


def move(time: int, taken: bool, addr: int, size: int, total: int, op: str = "") -> Entry:
    name = "MemoryAllocation" if taken else "MemoryDeallocation"
    stats: dict[str, Any] = {"addr": addr, "allocation_bytes": size, "bytes_allocated": total}
    return Entry(time, name, {**stats, "tf_op": op} if op else stats)


LOG = [
    Entry(500, "net_1/conv_1/Relu:_FusedConv2D", {}),
    Entry(501, "ThreadpoolListener::Record:X", {}),
    move(1000, True, 1, 1024, 1024, "net_1/conv_1/Relu"),
    move(5000, True, 2, 256, 1280, "adam/Sqrt"),
    move(7000, False, 1, 1024, 256, "net_1/dense_1/BiasAdd"),
    move(9000, True, 1, 512, 768, "net_1/dense_1/BiasAdd"),
    move(9500, False, 7, 256, 512),
]


def test_a_release_carries_the_name_of_its_allocation() -> None:
    assert events(LOG) == [
        Event(0, "net_1/conv_1/Relu", 1024, 1024, "_FusedConv2D"),
        Event(4, "adam/Sqrt", 1280, 256, ""),
        Event(6, "net_1/conv_1/Relu", 256, -1024, "_FusedConv2D"),
        Event(8, "net_1/dense_1/BiasAdd", 768, 512, ""),
        Event(8, "", 512, -256, ""),
    ]
    assert events([]) == []


def test_what_is_held_at_the_peak() -> None:
    assert at_peak(events(LOG)) == [
        Held("net_1/conv_1/Relu", "_FusedConv2D", 1024),
        Held("adam/Sqrt", "", 256),
    ]
    assert at_peak([]) == []


def test_an_ops_name_tells_its_layer() -> None:
    layers = {"conv_1", "conv_1_1", "pool"}
    assert layer_of("net_1/conv_1_1/Relu", layers) == "conv_1"
    assert layer_of("gradient_tape/net_1/pool/MaxPoolGrad", layers) == "pool"
    assert layer_of("gradient_tape/net_1/pool_1/MaxPoolGrad", layers) == "pool"
    assert layer_of("adam/Sqrt_3", layers) == "adam"


def test_where_two_timelines_part() -> None:
    found = parts(events(LOG), {"conv_1", "dense_1"}, {"conv_1": 1000, "dense_1": 512, "input": 0})
    assert found == [Part("dense_1", 512, 0), Part("adam", 0, 256), Part("conv_1", 1000, 1024)]
    alone = parts(events(LOG), {"conv_1"}, None)
    assert alone == [Part("conv_1", None, 1024), Part("adam", None, 256)]
