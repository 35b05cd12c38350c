"""A network with all its layers wider or narrower: the width multiplier of MobileNet's paper.

Each layer that chooses its channels gets ``int(channels * factor)``, as Keras' MobileNet does it;
those that give the outputs keep theirs, since the number of classes is not a matter of width.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from convcalc.arithmetic import is_array
from convcalc.network import Network, Op
from convcalc.ops import Operator
from convcalc.ops.base import channel_axis

#: The attribute that chooses how many channels an operator gives.
CHANNELS = {
    "conv": "filters",
    "conv_transpose": "filters",
    "conv_recurrent": "filters",
    "dense": "units",
    "recurrent": "units",
}


def widen(net: Network, factor: Any) -> list[Op]:
    """The network's ops with channels times `factor`: a float, or an array of floats.

    Reshapes that name the channels find them out instead.  Whether the ops still fit together says
    `Network`: sizes that a network's source has computed from its width stay what they are.
    """
    kept = last(net)
    return [
        op
        if op.name in kept
        else dataclasses.replace(op, operator=wider(net, op, op.operator, factor))
        for op in net.ops
    ]


def last(net: Network) -> set[str]:
    """The ops behind the outputs, up to those that choose the outputs' channels."""
    makers = {op.output(i): op for op in net.ops for i in range(len(net.results[op.name]))}
    found: set[str] = set()
    waiting = list(net.outputs)
    while waiting:
        op = makers.get(waiting.pop())
        if op is None or op.name in found:
            continue
        found.add(op.name)
        if op.operator.type not in CHANNELS:
            waiting += op.inputs
    return found


def wider(net: Network, op: Op, operator: Operator, factor: Any) -> Operator:
    """One operator with more or fewer channels."""
    changes: dict[str, Any] = {}
    name = CHANNELS.get(operator.type)
    if name is not None:
        channels = getattr(operator, name)
        changes[name] = times(channels, factor)
        # Depthwise: as many groups as channels.
        if getattr(operator, "groups", 1) == channels > 1:
            changes["groups"] = changes[name]
    elif operator.type == "reshape":
        dims = net.tensors[op.inputs[0]].dims
        channels = dims[channel_axis(len(dims), net.channels_first)]
        shape = getattr(operator, "shape", ())
        if shape.count(channels) == 1 and -1 not in shape:
            changes["shape"] = tuple(-1 if size == channels else size for size in shape)
    return dataclasses.replace(operator, **changes)


def times(channels: int, factor: Any) -> Any:
    """``int(channels * factor)``, and at least one channel."""
    if is_array(factor):
        import numpy as np

        return np.maximum(np.floor(channels * factor).astype(np.int64), 1)
    return max(int(channels * factor), 1)
