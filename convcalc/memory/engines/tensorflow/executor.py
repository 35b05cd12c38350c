"""The order in which TensorFlow's executor runs operations, with one worker or several.

`core/common_runtime/executor.cc`, ``ScheduleReady``: when an operation has finished, those that it
made ready are looked at in the order of its outgoing edges.  The last expensive one goes on in the
same thread; the others are put in front of this thread's queue, so that the one put there last
comes first.  Cheap ones (views, constants) run inline at once.  A thread whose queue is empty takes
from the back of another's (`thread::ThreadPool`, Eigen's).  Until a kernel has run about ninety
times its cost estimate is too high for it to count as cheap, so cheapness is the kernel's kind.

With one worker the order is a pure function of the graph (checked on ResNet-50's 563 large
operations of a training step); with two it depends on how long kernels take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

from convcalc.memory.engines.tensorflow.kernels import INTRA_THREADS
from convcalc.memory.liveness import Walk
from convcalc.memory.program import Node, Program

#: Kernels that leave all of their work to the pool.
POOLED = ("Conv", "MatMul", "Depthwise", "MaxPool", "AvgPool")


class Graph:
    """The edges between operations: who waits for whom."""

    def __init__(self, program: Program) -> None:
        nodes = program.nodes
        self.next: list[list[Node]] = [[] for _ in nodes]
        self.waits = [0] * len(nodes)
        for node in nodes:
            sources = {value.node.index for value in node.inputs if value.node is not None}
            sources.update(before.index for before in node.after)
            self.waits[node.index] = len(sources)
            # Visited in the order of the nodes, so that edges leave a node in that order.
            for source in sources:
                self.next[source].append(node)

    def ready_after(self, node: Node) -> tuple[list[Node], list[Node]]:
        """The cheap and the expensive operations that the end of this one makes ready."""
        cheap: list[Node] = []
        expensive: list[Node] = []
        for follower in self.next[node.index]:
            self.waits[follower.index] -= 1
            if not self.waits[follower.index]:
                (cheap if follower.alias else expensive).append(follower)
        return cheap, expensive


class Worker:
    """One thread: what it runs, what it does next without asking, and its queue."""

    __slots__ = ("awake", "inline", "left", "node", "queue")

    def __init__(self) -> None:
        self.inline: deque[Node] = deque()
        self.queue: deque[Node] = deque()
        self.node: Node | None = None
        """What it runs; None while it sleeps."""
        self.left = 0.0
        """Nanoseconds that this takes yet, or until it wakes."""
        self.awake = True

    def next(self) -> Node | None:
        """What it runs now."""
        if self.inline:
            return self.inline.popleft()
        return self.queue.popleft() if self.queue else None

    @staticmethod
    def steal(workers: Sequence[Worker]) -> Node | None:
        """What has waited longest in another's queue."""
        for other in workers:
            if other.queue:
                return other.queue.pop()
        return None

    def add(self, cheap: list[Node], expensive: list[Node]) -> None:
        """Take on what has become ready (`ScheduleReady`)."""
        self.inline.extend(cheap)
        if expensive and not self.inline:
            self.inline.append(expensive.pop())
        self.queue.extendleft(expensive)


@cache
def speeds(pooled: tuple[bool | None, ...]) -> tuple[float, ...]:
    """How fast kernels are that run side by side, beside how fast each is alone.

    `pooled` tells which of them are `POOLED`; None is a worker that sleeps.

    All workers hand their kernels' parts to one pool with a thread for each core, and run a part of
    a plain kernel themselves; a product's worker only waits.  So a product beside a plain kernel
    loses a third of two cores, any other two halve them.
    """
    products, busy = pooled.count(True), len(pooled) - pooled.count(None)
    if busy < 2:
        return (1.0,) * len(pooled)
    threads = INTRA_THREADS + busy - products
    return tuple(
        1.0 if product is None else INTRA_THREADS / threads / products if product else 1 / busy
        for product in pooled
    )


def execute(
    program: Program,
    walk: Walk,
    workers: int,
    duration: Callable[[Node], float],
    wake: float = 0.0,
) -> None:
    """Run a program's operations on a walk, as so many threads would.

    Args:
        wake: nanoseconds until a worker that found nothing to do looks again.
    """
    graph = Graph(program)
    threads = [Worker() for _ in range(workers)]
    # The caller's thread puts the roots at the back of the queues; what reads a variable or an
    # input has to wait for these to be fetched.
    roots = [node for node in program.nodes if not graph.waits[node.index]]
    roots.sort(key=lambda node: bool(node.inputs))
    for number, node in enumerate(roots):
        threads[number % workers].queue.append(node)
    if workers == 1:
        only = threads[0]
        while (only_next := only.next()) is not None:
            walk.start(only_next)
            walk.finish(only_next)
            only.add(*graph.ready_after(only_next))
        return
    running: list[Worker] = []
    """In the order in which they began."""
    while True:
        for thread in threads:
            if thread in running:
                continue
            found = thread.next()
            if found is None and (thread.awake or not wake):
                found = thread.steal(threads)
            thread.node, thread.awake = found, found is not None
            if found is not None:
                walk.start(found)
                thread.left = duration(found)
                running.append(thread)
            elif any(other.queue for other in threads):
                thread.left = wake
                running.append(thread)
        if not running:
            return
        pooled = [one.node and one.node.primitive.startswith(POOLED) for one in running]
        speed = speeds(tuple(pooled))
        needed = [one.left / fast for one, fast in zip(running, speed, strict=True)]
        passed = min(needed)
        for one, fast in zip(running, speed, strict=True):
            one.left -= passed * fast
        first = running.pop(needed.index(passed))
        first.awake = True
        if first.node is not None:
            walk.finish(first.node)
            first.add(*graph.ready_after(first.node))
