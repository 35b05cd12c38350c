"""Networks that differ from another in one thing: an earlier stride, a layer less, a frozen part.

Each gives a new, checked `Network`, so that what the change does to all that follows is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.ops import Operator
from convcalc.planning.sweep_widen import last, widen

#: What may stand behind a convolution and goes with it.
FOLLOWERS = ("batch_norm", "layer_norm", "group_norm", "activation", "prelu", "dropout")

#: Operators that can take one sample's picture to one of the same size.
DROPPABLE = ("conv", "depthwise_conv")


def rebuilt(net: Network, ops: Iterable[Op], name: str | None = None) -> Network:
    """The network of these ops, without those that no output needs.

    Raises:
        ModelError: they do not fit together, or the outputs come in another shape.
    """
    kept = tuple(ops)
    makers = {op.output(i): op for op in kept for i in range(len(net.results[op.name]))}
    needed: set[str] = set()
    waiting = list(net.outputs)
    while waiting:
        op = makers.get(waiting.pop())
        if op is not None and op.name not in needed:
            needed.add(op.name)
            waiting += op.inputs
    made = Network(
        name or net.name,
        tuple(op for op in kept if op.name in needed),
        net.inputs,
        net.outputs,
        net.layout,
    )
    for output in net.outputs:
        if made.tensors[output] != net.tensors[output]:
            raise ModelError(
                f"the output '{output}' would be {made.tensors[output]}, not {net.tensors[output]}"
            )
    return made


def with_operators(net: Network, changed: Mapping[str, Operator]) -> Network:
    """The network with other operators in some places."""
    return rebuilt(
        net,
        (
            dataclasses.replace(op, operator=changed[op.name]) if op.name in changed else op
            for op in net.ops
        ),
    )


def strided(net: Network) -> tuple[Network, str]:
    """The first convolution with twice the stride, and the name of its layer.

    Raises:
        ModelError: there is none, what follows cannot take smaller maps, or the outputs shrink.
    """
    for op in net.ops:
        if op.operator.type in ("conv", "depthwise_conv") and len(net.tensors[op.name].dims) > 2:
            stride = op.operator.stride  # type: ignore[attr-defined]
            doubled = tuple(2 * s for s in stride) if isinstance(stride, tuple) else 2 * stride
            changed = dataclasses.replace(op.operator, stride=doubled)  # type: ignore[call-arg]
            return with_operators(net, {op.name: changed}), op.layer
    raise ModelError(f"'{net.name}' has no convolution over a picture")


def thinner(net: Network, factor: float) -> Network:
    """Every layer but the last with `factor` times the channels.

    Raises:
        ModelError: the layers would not fit together.
    """
    return rebuilt(net, widen(net, factor))


def frozen(net: Network) -> tuple[Network, int]:
    """All but the layers behind the outputs frozen, and how many layers that freezes.

    Raises:
        ModelError: nothing is left to freeze.
    """
    head = {op.weights for op in net.ops if op.name in last(net)}
    before = {
        op.layer
        for op in net.ops
        if op.trainable and op.weights not in head and net.params.get(op.weights)
    }
    if not before:
        raise ModelError("there is nothing before the last layer to freeze")
    ops = [op if op.weights in head else dataclasses.replace(op, trainable=False) for op in net.ops]
    return Network(net.name, tuple(ops), net.inputs, net.outputs, net.layout), len(before)


def shortened(net: Network) -> tuple[Network, list[str]]:
    """The network without the layers whose outputs are the largest, and their names.

    A residual branch whose shortcut changes nothing goes as a whole; elsewhere a convolution whose
    output has the shape of its input, with the normalization and activation behind it.

    Raises:
        ModelError: no layer can be left out.
    """
    users: dict[str, list[Op]] = {}
    for op in net.ops:
        for name in op.inputs:
            users.setdefault(name, []).append(op)
    best: tuple[int, Op, str, list[str]] | None = None
    position = {op.name: place for place, op in enumerate(net.ops)}
    for op in net.ops:
        if op.operator.type == "add" and len(op.inputs) == 2:
            found = branch(net, op, position)
        elif op.operator.type in DROPPABLE and len(op.inputs) == 1:
            found = chain(net, op, users)
        else:
            continue
        if found is None:
            continue
        end, source, gone = found
        size = sum(net.tensors[each.name].elements for each in gone)
        if best is None or size > best[0]:
            gone = sorted(gone, key=lambda each: position[each.name])
            best = (size, end, source, list(dict.fromkeys(each.layer for each in gone)))
    if best is None:
        raise ModelError("no layer's output has the shape of its input")
    _, end, source, layers = best
    ops = [
        dataclasses.replace(
            op, inputs=tuple(source if name == end.name else name for name in op.inputs)
        )
        for op in net.ops
        if op is not end
    ]
    return rebuilt(net, ops), layers


def branch(net: Network, add: Op, position: Mapping[str, int]) -> tuple[Op, str, list[Op]] | None:
    """A residual branch: its addition, the shortcut's tensor, all ops that go."""
    first, second = add.inputs
    if position.get(first, -1) > position.get(second, -1):
        first, second = second, first
    # `first` is the shortcut if the other side is made from it and nothing else.
    gone: dict[str, Op] = {}
    makers = {op.name: op for op in net.ops}
    waiting = [second]
    while waiting:
        name = waiting.pop()
        op = makers.get(name)
        if name == first or name in gone:
            continue
        if op is None or position[name] <= position.get(first, -1):
            return None  # it reaches back behind the shortcut: two branches meet
        gone[name] = op
        waiting += op.inputs
    if not gone or net.tensors[first] != net.tensors[add.name] or add.name in net.outputs:
        return None
    outside = (op for op in net.ops if op.name not in gone and op is not add)
    if any(name in gone for op in outside for name in op.inputs) or set(gone) & set(net.outputs):
        return None
    return add, first, [*gone.values(), add]


def chain(
    net: Network, convolution: Op, users: Mapping[str, list[Op]]
) -> tuple[Op, str, list[Op]] | None:
    """A convolution that changes no shape: the last op behind it that goes with it, its input."""
    source = convolution.inputs[0]
    if net.tensors[source] != net.tensors[convolution.name]:
        return None
    gone, end = [convolution], convolution
    while len(users.get(end.name, ())) == 1:
        (follower,) = users[end.name]
        if follower.operator.type not in FOLLOWERS or len(follower.inputs) != 1:
            break
        gone.append(follower)
        end = follower
    return None if end.name in net.outputs else (end, source, gone)
