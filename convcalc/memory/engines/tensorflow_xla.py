"""Keras with ``jit_compile=True``: XLA's program, in memory that TensorFlow's allocator hands out.

XLA asks for the whole block of a step's temporaries at once, and the allocator's best fit is often
a chunk that is larger, but not large enough to be split.  Which chunks there are follows from what
came before, so this module replays it: the variables' initializers, a batch, the first step.
"""

from __future__ import annotations

from convcalc.memory.engines import Plan, xla
from convcalc.memory.engines.tensorflow.bfc import BFC, ROUND
from convcalc.memory.job import Job
from convcalc.network import Network
from convcalc.tensors import DTYPE_BYTES

regime = xla.regime


def make(net: Network, job: Job, batch: int) -> Plan:
    """The plan for batches near `batch`."""
    made = xla.compiled(net, job, batch, tensorflow=True)

    def allocate(size: int) -> int:
        return handed_out(net, job, size, made.temporary(size))

    return Plan(made.timeline, allocate, assumed=made.assumed)


def handed_out(net: Network, job: Job, batch: int, temporary: int) -> int:
    """The allocator's peak during a step whose temporaries take `temporary` bytes.

    Seen in the allocator's log: an initializer draws, scales and shifts, and leaves two holes; the
    slots begin as one constant of zeros for each size, and get memory of their own behind the block
    of the first step, which so leaves a hole together with those constants.
    """
    bfc = BFC()
    width = job.variable_width
    trained: list[int] = []
    frozen = {op.weights for op in net.ops if not op.trainable}
    for key, params in net.params.items():
        for param in params:
            each = width if param.dtype == "float" else DTYPE_BYTES[param.dtype]
            size = each
            for length in param.shape:
                size *= length
            place(bfc, rounded(size), random=param.trainable and len(param.shape) > 1)
            if param.trainable and key not in frozen:
                trained.append(rounded(size))
    for spec in net.inputs.values():
        place(bfc, rounded(spec.bytes_at(batch, job.width)), random=spec.dtype == "float")
    if job.training:
        for name in net.outputs:
            bfc.take(rounded(net.tensors[name].bytes_at(batch, job.width)))
    block = rounded(temporary)
    zeros = [bfc.take(size) for size in dict.fromkeys(trained)] if job.slots else []
    first = bfc.take(block)
    for size in trained:
        for _ in range(job.slots):
            bfc.take(size)
    bfc.give(first)
    for address in zeros:
        bfc.give(address)
    bfc.peak = bfc.used
    bfc.take(block)
    if not job.training:
        # What a program gives back is no part of its block of temporaries.
        for name in dict.fromkeys(net.outputs):
            bfc.take(rounded(net.tensors[name].bytes_at(batch, job.width)))
    # The executor's argument and result tables.
    return bfc.peak + 2 * ROUND


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
