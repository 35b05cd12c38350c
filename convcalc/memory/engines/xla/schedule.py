"""XLA's orders of execution for one device, and its choice: the one that needs the least memory.

`xla/hlo/analysis` and `xla/service/hlo_memory_scheduler.cc`: a list scheduler, a depth-first and a
post-order walk are tried, and the least peak without fragmentation wins; the first in case of ties.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from convcalc.memory.program import Node, Program, Value

#: XLA counts a pointer for each element of a tuple, which library calls return.
POINTERS = 16


def operands(node: Node) -> list[Node]:
    """Which operations one waits for, without repetition."""
    return list(dict.fromkeys([v.node for v in node.inputs if v.node is not None]))


def post_order(program: Program, roots: Iterable[Node], *, all_nodes: bool = True) -> list[Node]:
    """Each operation after its operands, starting from `roots`; what no root needs comes last."""
    seen: set[Node] = set()
    placed: set[Node] = set()
    order: list[Node] = []
    for root in (*roots, *(program.nodes if all_nodes else ())):
        stack = [root]
        while stack:
            node = stack[-1]
            if node not in seen:
                seen.add(node)
                stack.extend([o for o in reversed(operands(node)) if o not in seen])
                continue
            stack.pop()
            # What was put on the stack by several readers is met once more when it has its place.
            if node not in placed:
                placed.add(node)
                order.append(node)
    return order


def list_schedule(program: Program, batch: int, calls: frozenset[str]) -> list[Node]:
    """ListScheduler: of the ready operations the one that frees most bytes, then with most users.

    Among equals the one that became ready last.  `calls` name the primitives that return tuples.
    """
    nodes = program.nodes
    waits: dict[Node, int] = {}
    after: dict[Node, list[Node]] = {}
    reads: dict[Node, list[Value]] = {}
    size: dict[Value, int] = {}
    left: dict[Value, int] = {}
    frees: dict[Node, int] = {}
    """Bytes that running it gives back, less those that it takes."""
    for node in nodes:
        taken = POINTERS * (node.primitive in calls or len(node.outputs) > 1)
        for value in node.outputs:
            size[value] = value.size.at(batch)
            left[value] = len(value.users)
            taken += size[value]
        frees[node] = -taken
        after[node] = list(dict.fromkeys([u for value in node.outputs for u in value.users]))
        reads[node] = [v for v in dict.fromkeys(node.inputs) if v.node is not None]
        waits[node] = len({v.node for v in reads[node]})
    for value, readers in left.items():
        if readers == 1:
            frees[value.users[0]] += size[value]

    Entry = tuple[int, int, int, int]
    ready: list[Entry] = []
    current: dict[Node, Entry] = {}
    pushed = 0

    def push(node: Node) -> None:
        nonlocal pushed
        pushed += 1
        current[node] = entry = (frees[node], len(after[node]), pushed, node.index)
        insort(ready, entry)

    for node in nodes:
        if not waits[node]:
            push(node)
    order: list[Node] = []
    done: set[Node] = set()
    while ready:
        node = nodes[ready.pop()[3]]
        del current[node]
        order.append(node)
        done.add(node)
        dearer: list[Node] = []
        for value in reads[node]:
            left[value] -= 1
            if left[value] == 1:
                last = next(user for user in value.users if user not in done)
                frees[last] += size[value]
                dearer.append(last)
        for user in after[node]:
            waits[user] -= 1
            if not waits[user]:
                push(user)
        for user in dearer:
            if user in current and current[user][0] != frees[user]:
                del ready[bisect_left(ready, current[user])]
                push(user)
    return order


def most_alive(order: Sequence[Node], batch: int) -> int:
    """The peak of an order, nothing in place, no fragmentation: what XLA compares."""
    last = {value: step for step, node in enumerate(order) for value in node.inputs}
    change = [0] * (len(order) + 1)
    for step, node in enumerate(order):
        for value in node.outputs:
            size = value.size.at(batch)
            change[step] += size
            change[last.get(value, step) + 1] -= size
    return max(accumulate(change))


def breadth_first(program: Program, users: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Operations as they become ready, first in, first out: XLA's order on a CPU.

    `BFSMemoryScheduler` in xla/service/hlo_memory_scheduler.cc: it starts with what reads nothing,
    parameters included, in the order in which these were made; so what reads only parameters comes
    after the sources, by the last parameter that it waits for.  The order of each one's `users`
    matters.
    """
    rests = {value: place for place, value in enumerate(program.resting)}
    waits = {node: len(operands(node)) for node in program.nodes}
    first = [node for node in program.nodes if not waits[node]]
    order = sorted(
        first,
        key=lambda node: (max((rests[v] for v in node.inputs), default=-1), node.index),
    )
    for node in order:
        for user in users[node]:
            waits[user] -= 1
            if not waits[user]:
                order.append(user)
    return order
