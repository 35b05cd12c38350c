"""XLA: what Keras takes on a GPU by itself, and JAX everywhere.

A step is one program whose temporaries lie in one block of memory that is reserved before it runs:
the peak is what rests, plus that block.  Which operations are fused, and in which order they run,
depends on the sizes and so on the batch; a plan holds near the batch that it is made for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from convcalc.memory.engines import Plan
from convcalc.memory.engines.xla.cpu import CpuRules
from convcalc.memory.engines.xla.depth_first import depth_first
from convcalc.memory.engines.xla.fusion import Fusion, Kind
from convcalc.memory.engines.xla.gpu import GpuRules
from convcalc.memory.engines.xla.heap import Interval, into_donated, packed, packed_best
from convcalc.memory.engines.xla.lazy import Emitter
from convcalc.memory.engines.xla.schedule import (
    breadth_first,
    list_schedule,
    most_alive,
    post_order,
)
from convcalc.memory.job import Job
from convcalc.memory.keras_graph import as_keras
from convcalc.memory.liveness import Walk, walk
from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Node, Program, Size, Value
from convcalc.memory.timeline import Timeline
from convcalc.network import Network

#: Primitives that are library calls, whose results are elements of tuples.
CALLS = frozenset({"conv", "Grad(kernel)"})


def regime(batch: int) -> int:
    """The batch whose plan serves `batch`: the power of two below, where sizes are alike."""
    return 1 << (batch.bit_length() - 1)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A step after compilation."""

    timeline: Timeline
    resting: Size
    """Variables, slots, inputs, labels and results."""
    gaps: float
    """The block of temporaries over the most of them that are alive at once."""
    assumed: frozenset[str]

    def temporary(self, batch: int) -> int:
        """Bytes of the block of temporaries."""
        return round((self.timeline.peak(batch) - self.resting.at(batch)) * self.gaps)


def make(net: Network, job: Job, batch: int) -> Plan:
    """The plan for batches near `batch`: what the compiler says."""
    made = compiled(net, job, batch)

    def allocate(size: int) -> int:
        return made.resting.at(size) + made.temporary(size)

    return Plan(made.timeline, allocate, assumed=made.assumed)


def compiled(net: Network, job: Job, batch: int, *, tensorflow: bool = False) -> Compiled:
    """A step as XLA compiles it for batches near `batch`, asked by TensorFlow or by JAX."""
    net = net.once(as_keras)
    if job.device == "cpu":
        program, order, donated, over = for_cpu(net, job, batch, tensorflow)
        walked = Handing(program)
        for node in order:
            walked.start(node)
            walked.finish(node)
        cpu = OnCpu(program.nodes, over, walked.handed)
        timeline, block = in_one_block(walked.timeline(), donated, order, batch, cpu)
    else:
        program, order, donated = for_gpu(net, job, batch)
        timeline, block = in_one_block(walk(program, order), donated, order, batch)
    rests = [buffer.size for buffer in timeline.buffers if buffer.start < 0]
    resting = added([*rests, timeline.resting])
    alive = timeline.peak(batch) - resting.at(batch)
    gaps = block / alive if alive else 1.0
    return Compiled(timeline, resting, gaps, frozenset(program.assumed))


def added(sizes: Iterable[Size]) -> Size:
    """The sum of sizes."""
    fixed, per_sample = 0, 0
    for size in sizes:
        fixed += size.fixed
        per_sample += size.per_sample
    return Size(fixed, per_sample)


#: Variables whose memory is free between two operations: (size, from, to).
Donated = list[tuple[Size, Node, Node]]


def for_gpu(net: Network, job: Job, batch: int) -> tuple[Program, list[Node], Donated]:
    """The program after fusion, its order, and what it may reuse."""
    rules = GpuRules(batch)
    lowering = Lowering(net, job, rules)
    rules.prepare(lowering)
    program = lowering.run()
    emit = Emitter(lowering, "outputs")
    program.held[:] = [emit.store(value) for value in program.held]
    return program, chosen(program, rules, batch), rules.donated


def for_cpu(
    net: Network, job: Job, batch: int, tensorflow: bool
) -> tuple[Program, list[Node], Donated, dict[Node, Node]]:
    """The same for a CPU, whose compiler fuses by rules and runs breadth-first.

    And which operation may write a variable in place of its gradient.
    """
    rules = CpuRules(batch, tensorflow)
    program = Lowering(net, job, rules).run()
    if not job.training:
        rules.roots = [value.node for value in program.held if value.node is not None]
    left = set(program.nodes)
    roots = [node for node in rules.ordered_roots() if node in left]
    fusion = Fusion(program, rules.kinds, roots, batch)
    fusion.run()
    for node in program.nodes:
        kind = rules.kinds[node]
        if kind in (Kind.ELEMENTWISE, Kind.EXPENSIVE):
            node.inplace = fusion.places(node)
    order = breadth_first(program, fusion.users)
    return program, order, rules.donated, rules.written_over


#: How much lower the peak of another order must be before it is believed to be the lowest: the
#: buffers compared here are not XLA's to the byte.
CLEARLY = 0.99


def chosen(program: Program, rules: GpuRules, batch: int) -> list[Node]:
    """The order that XLA would take.

    A step gives back the variables in their order, the first layer's first, so that a post-order
    walk makes all of the backward pass before any other update.
    """
    given = [*reversed(rules.updates), *rules.copies]
    order = list_schedule(program, batch, CALLS)
    least = CLEARLY * most_alive(order, batch)
    walked = post_order(program, given)
    for other in (depth_first(program, given, walked, batch), walked):
        peak = most_alive(other, batch)
        if peak < least:
            order, least = other, peak
    return order


class Handing(Walk):
    """A walk that notes when a buffer is handed on to a result that takes its place."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.handed: dict[int, list[int]] = defaultdict(list)
        """The steps, by the buffers' numbers."""

    def reusable(self, node: Node, value: Value) -> int | None:
        """See `Walk.reusable`."""
        index = super().reusable(node, value)
        if index is not None and not node.alias:
            self.handed[index].append(self.step[node])
        return index


class OnCpu(NamedTuple):
    """What is known of a program on a CPU, whose lives are right to the step."""

    in_post_order: Sequence[Node]
    """Tells which of equal buffers comes first."""
    written_over: Mapping[Node, Node]
    """What makes a tensor, with the operation that may write a variable where that lies."""
    handed: Mapping[int, Sequence[int]]
    """When buffers are handed on."""


def in_one_block(
    timeline: Timeline,
    donated: Donated,
    order: list[Node],
    batch: int,
    cpu: OnCpu | None = None,
) -> tuple[Timeline, int]:
    """The timeline without what finds room in donated variables, and the height of the rest.

    What a step gives back, without writing over a variable, has memory of its own from the start.
    On a CPU the lower of two blocks is taken.
    """
    step = {node: place for place, node in enumerate(order)}
    rooms = [
        Interval(size.at(batch), step[start] + 1, step[end] - 1)
        for size, start, end in donated
        if start in step and end in step
    ]
    last = len(timeline.steps)
    made = [i for i, buffer in enumerate(timeline.buffers) if buffer.start >= 0]
    results = [i for i in made if timeline.buffers[i].end == last]
    temporary = [i for i in made if timeline.buffers[i].end < last]
    intervals = [
        Interval(b.size.at(batch), b.start, b.end)
        for b in map(timeline.buffers.__getitem__, temporary)
    ]
    if cpu is None:
        inside, rest = into_donated(intervals, rooms)
    else:
        place = {node: i for i, node in enumerate(cpu.in_post_order)}
        makers = [order[buffer.start] for buffer in intervals]
        places = [place[node] for node in makers]
        written = {node: step.get(over) for node, over in cpu.written_over.items()}
        until = [
            buffer._replace(end=buffer.end - (written.get(node) == buffer.end))
            for node, buffer in zip(makers, intervals, strict=True)
        ]
        inside, rest = into_donated(until, rooms, places)
    hidden = {*results, *(temporary[i] for i in inside)}
    events = [
        (step, coded)
        for step, coded in timeline.events
        if (~coded if coded < 0 else coded) not in hidden
    ]
    given = added(timeline.buffers[i].size for i in results)
    shown = replace(timeline, events=events, resting=given)
    left = [intervals[i] for i in rest]
    if cpu is None:
        return shown, packed(left)
    handed = [cpu.handed.get(temporary[i], ()) for i in rest]
    return shown, packed_best(left, handed, [places[i] for i in rest])
