"""Keras with ``jit_compile=True``: XLA's program, in memory that TensorFlow's allocator hands out.

XLA asks for the whole block of a step's temporaries at once, and the allocator's best fit is often
a chunk that is larger, but not large enough to be split.  Which chunks there are follows from what
came before, so this module replays it: the variables' initializers, a batch, the first step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from convcalc.memory.engines import Plan, xla
from convcalc.memory.engines.tensorflow.bfc import BFC, ROUND
from convcalc.memory.job import Job
from convcalc.memory.keras_graph import as_keras
from convcalc.network import Network
from convcalc.tensors import DTYPE_BYTES

#: Variables beside the network's own: the step's number, the learning rate, the loss's sum and
#: the number of samples in it.
OF_TRAINING = 4
#: Scalars that a step leaves to the next: the loss's sum and number.
RESULTS = 2
#: Bytes of an entry in the table of what a program gives back.
POINTER = 8

#: Constants of a training step's graph, each of which takes a chunk: those that every step has,
#: and those of operators beside (shapes and axes, most of them for gradients), counted in the
#: allocator's log by adding one operator at a time.
OF_A_STEP = 38
OF_A_BIAS = 3
OF_OPERATORS = {
    "batch_norm": 20,
    "layer_norm": 14,
    "concat": 5,
    "depthwise_conv": 2,
    "dropout": 2,
    "average_pool": 1,
    "pad": 1,
}

regime = xla.regime


#: A trained variable's shape and bytes.
Variable = tuple[tuple[int, ...], int]


class Begun(NamedTuple):
    """The allocator with a network's variables."""

    bfc: BFC
    trained: list[Variable]
    """Those that are trained."""
    zeros: list[Variable]
    """The constants that their slots begin with."""
    variables: int
    """How many there are, those that a step adds included, slots not."""
    constants: int
    """Of a training step's graph."""


def make(net: Network, job: Job, batch: int) -> Plan:
    """The plan for batches near `batch`."""
    made = xla.compiled(net, job, batch, tensorflow=True)

    start = begun(net, job)

    def allocate(size: int) -> int:
        return handed_out(net, job, size, made.temporary(size), start)

    return Plan(made.timeline, allocate, assumed=made.assumed)


def begun(net: Network, job: Job) -> Begun:
    """What is there before the first batch."""
    bfc = BFC()
    width = job.variable_width
    trained: list[Variable] = []
    named: dict[str, list[Variable]] = {}
    frozen = {op.weights for op in net.ops if not op.trainable}
    variables = OF_TRAINING if job.training else 0
    for key, params in net.params.items():
        for param in params:
            each = width if param.dtype == "float" else DTYPE_BYTES[param.dtype]
            size = each
            for length in param.shape:
                size *= length
            place(bfc, rounded(size), random=param.trainable and len(param.shape) > 1)
            bfc.take(ROUND)
            variables += 1
            if param.trainable and key not in frozen:
                trained.append((tuple(param.shape), rounded(size)))
                named.setdefault(key, []).append(trained[-1])
    by_layer = [each for key in layer_order(net) for each in named.pop(key, ())]
    zeros = constants(by_layer, job.slots)
    return Begun(bfc, trained, zeros, variables, graph_constants(net))


def layer_order(net: Network) -> list[str]:
    """The weights of Keras' layers in the order of `Model.layers`.

    `keras/src/models/functional.py`, `map_graph`: layers by their longest way to an output, those
    that are equally far as a walk from the outputs, depth first, meets them.
    """
    net = net.once(as_keras)
    # An activation that is part of a layer is no layer of its own; padding in numbers is.
    unit = {op.name: op.name if op.name.endswith("/padding") else op.layer for op in net.ops}
    maker = {op.output(i): op for op in net.ops for i in range(len(net.results[op.name]))}
    reads: dict[str, list[str]] = {}
    weights: dict[str, str] = {}
    depth = dict.fromkeys(unit.values(), 0)
    for op in net.ops:
        weights.setdefault(unit[op.name], op.weights)
        found = reads.setdefault(unit[op.name], [])
        found += [unit[maker[name].name] for name in op.inputs if name in maker]
    for op in reversed(net.ops):
        own = unit[op.name]
        for name in op.inputs:
            if name in maker and (other := unit[maker[name].name]) != own:
                depth[other] = max(depth[other], depth[own] + 1)
    met: dict[str, int] = {}
    stack = [unit[maker[name].name] for name in reversed(net.outputs) if name in maker]
    while stack:
        layer = stack.pop()
        if layer not in met:
            met[layer] = len(met)
            stack += reversed(reads[layer])
    order = sorted(weights, key=lambda layer: (-depth[layer], met.get(layer, len(met))))
    return list(dict.fromkeys([*map(weights.__getitem__, order), *net.params]))


def handed_out(
    net: Network, job: Job, batch: int, temporary: int, start: Begun | None = None
) -> int:
    """The allocator's peak during a step whose temporaries take `temporary` bytes.

    Seen in the allocator's log: an initializer draws, scales and shifts, and leaves two holes; each
    variable has a handle; the slots begin as one constant of zeros for each shape, and get memory
    of their own behind the block of the first step, which so leaves a hole together with those
    constants.  Zeros that one slot alone begins with are its memory from then on.
    """
    with_variables, trained, zero, variables, own = start or begun(net, job)
    bfc = BFC()
    bfc.resume(with_variables)
    for spec in net.inputs.values():
        bfc.take(rounded(spec.bytes_at(batch, job.width)))
    block = rounded(temporary)
    outputs = [net.tensors[name].bytes_at(batch, job.width) for name in dict.fromkeys(net.outputs)]
    if not job.training:
        # What a program gives back is no part of its block of temporaries.
        bfc.peak = bfc.used
        for size in [*outputs, temporary]:
            bfc.take(rounded(size))
        return bfc.peak
    for size in outputs:
        bfc.take(rounded(size))
    variables += job.slots * len(trained)
    bfc.keep(ROUND, OF_TRAINING + job.slots * len(trained) + own)
    uses = Counter(shape for shape, _ in trained for _ in range(job.slots))
    zeros = [(bfc.take(size), uses[shape] > 1) for shape, size in zero]
    # A step that makes slots is traced once more without that.
    bfc.keep(ROUND, own if job.slots else 0)
    table = rounded(POINTER * variables)
    # The table of what the program gives back, and one scalar more.
    lent = [bfc.take(size) for size in (table, ROUND, block)]
    results = [bfc.take(ROUND) for _ in range(RESULTS)]
    for size, run in groupby(size for shape, size in trained if uses[shape] > 1):
        bfc.keep(size, job.slots * len(list(run)))
    for address in (*lent, *(address for address, shared in zeros if shared)):
        bfc.give(address)
    bfc.peak = bfc.used
    for address in results:
        bfc.give(address)
    for size in (table, ROUND, block, *[ROUND] * RESULTS):
        bfc.take(size)
    return bfc.peak


def graph_constants(net: Network) -> int:
    """How many constants a training step's graph holds."""
    found = OF_A_STEP
    for op in net.once(as_keras).ops:
        kind = op.operator.type
        found += OF_OPERATORS.get(kind, 0)
        if kind in ("conv", "depthwise_conv", "conv_transpose"):
            found += OF_A_BIAS * any(p.name == "bias" for p in net.params.get(op.weights, ()))
    return found


def constants(trained: Sequence[Variable], slots: int) -> list[Variable]:
    """The zeros that slots begin with, in the order in which they are made.

    Grappler sorts equal constants by name, which ends with the slot's number, and keeps the last: 9
    comes behind 17 (seen in the allocator's log).
    """
    last: dict[tuple[int, ...], tuple[str, Variable]] = {}
    for i, (shape, size) in enumerate(trained):
        for number in range(slots * i, slots * (i + 1)):
            name = f"{number}", (shape, size)
            last[shape] = max(last.get(shape, name), name)
    return [zeros for _, zeros in sorted(last.values())]


def rounded(size: int) -> int:
    """What a request of `size` bytes takes at least."""
    return max(ROUND, -(-size // ROUND) * ROUND)


def place(bfc: BFC, size: int, random: bool) -> None:
    """A variable: made at once, or drawn, scaled and shifted, of which the last remains."""
    if not random:
        bfc.take(size)
        return
    drawn, scaled, _ = bfc.take(size), bfc.take(size), bfc.take(size)
    bfc.give(scaled)
    bfc.give(drawn)
