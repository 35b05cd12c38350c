"""A network as Keras runs it, where that differs from what the network says."""

from __future__ import annotations

import dataclasses
from typing import Any

from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.ops.window import Sides, filled, same_sides

#: Operators whose windows may have padding in numbers.
WINDOWS = ("conv", "depthwise_conv", "max_pool", "average_pool")


def as_keras(net: Network) -> Network:
    """The network with padding in numbers as an operation of its own.

    Keras' layers know "same" and "valid" only; PyTorch's and ONNX' numbers, where they are not what
    "same" would be, become a ZeroPadding layer in front, whose output is one more tensor.
    """
    ops: list[Op] = []
    changed = False
    for op in net.ops:
        sides = padding(net, op)
        if not any(before or after for before, after in sides):
            ops.append(op)
            continue
        changed = True
        kind: Any = op.operator
        first = kind.channels_first
        name = f"{op.name}/padding"
        pad = create("pad", {"padding": sides, "channels_first": first})
        ops.append(Op(name, pad, op.inputs[:1], op.layer, op.layer_type))
        valid = dataclasses.replace(kind, padding="valid")
        ops.append(dataclasses.replace(op, operator=valid, inputs=(name, *op.inputs[1:])))
    if not changed:
        return net
    return Network(net.name, tuple(ops), net.inputs, net.outputs, net.layout)


def padding(net: Network, op: Op) -> Sides:
    """Positions before and after each axis that Keras has no name for."""
    kind: Any = op.operator
    if kind.type not in WINDOWS or isinstance(kind.padding, str):
        return ()
    x = net.tensors[op.inputs[0]]
    if not x.known or getattr(kind, "ceil_mode", False):
        return ()
    slides = kind.way(x) if hasattr(kind, "way") else kind.slides(x)
    named = not getattr(kind, "count_include_pad", False)
    if named and filled(slides) == same_sides(slides):
        return ()
    return tuple((slide.before, slide.after) for slide in slides)
