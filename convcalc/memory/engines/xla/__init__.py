"""XLA: what Keras takes on a GPU by itself, and JAX everywhere.

A step is one program whose temporaries lie in one block of memory that is reserved before it runs:
the peak is what rests, plus that block.  Which operations are fused, and in which order they run,
depends on the sizes and so on the batch; a plan holds near the batch that it is made for.
"""

from __future__ import annotations

from dataclasses import replace

from convcalc.memory.engines import Plan
from convcalc.memory.engines.xla.gpu import GpuRules
from convcalc.memory.engines.xla.heap import Interval, into_donated, packed
from convcalc.memory.engines.xla.schedule import list_schedule, most_alive, post_order
from convcalc.memory.job import Job
from convcalc.memory.liveness import walk
from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Node, Program, Size
from convcalc.memory.timeline import Timeline
from convcalc.network import Network

#: Primitives that are library calls, whose results are elements of tuples.
CALLS = frozenset({"conv", "Grad(kernel)"})


def regime(batch: int) -> int:
    """The batch whose plan serves `batch`: the power of two below, where sizes are alike."""
    return 1 << (batch.bit_length() - 1)


def make(net: Network, job: Job, batch: int) -> Plan:
    """The plan for batches near `batch`."""
    rules = GpuRules(batch)
    lowering = Lowering(net, job, rules)
    rules.prepare(lowering)
    program = lowering.run()
    order = chosen(program, rules, batch)
    timeline = walk(program, order)
    timeline, block = in_one_block(timeline, rules, order, batch)
    resting = Size(
        sum(buffer.size.fixed for buffer in timeline.buffers if buffer.start < 0),
        sum(buffer.size.per_sample for buffer in timeline.buffers if buffer.start < 0),
    )
    alive = timeline.peak(batch) - resting.at(batch)
    gaps = block / alive if alive else 1.0

    def allocate(size: int) -> int:
        rests = resting.at(size)
        return rests + round((timeline.peak(size) - rests) * gaps)

    return Plan(timeline, allocate, assumed=frozenset(program.assumed))


def chosen(program: Program, rules: GpuRules, batch: int) -> list[Node]:
    """The order that XLA would take."""
    updates, copies = rules.updates, rules.copies
    orders = [
        list_schedule(program, batch, CALLS),
        post_order(program, [*updates, *copies]),
        post_order(program, [*updates[::-1], *copies]),
    ]
    return min(orders, key=lambda order: most_alive(order, batch))


def in_one_block(
    timeline: Timeline, rules: GpuRules, order: list[Node], batch: int
) -> tuple[Timeline, int]:
    """The timeline without what finds room in donated variables, and the height of the rest."""
    step = {node: place for place, node in enumerate(order)}
    donated = [
        Interval(size.at(batch), step[start] + 1, step[end] - 1)
        for size, start, end in rules.donated
    ]
    temporary = [i for i, buffer in enumerate(timeline.buffers) if buffer.start >= 0]
    intervals = [
        Interval(timeline.buffers[i].size.at(batch), *timeline.buffers[i][-2:]) for i in temporary
    ]
    inside, rest = into_donated(intervals, donated)
    hidden = {temporary[i] for i in inside}
    events = [
        (step, coded)
        for step, coded in timeline.events
        if (~coded if coded < 0 else coded) not in hidden
    ]
    shown = replace(timeline, events=events)
    return shown, packed([intervals[i] for i in rest])
