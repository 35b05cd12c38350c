"""XLA's orders of execution for one device, and its choice: the one that needs the least memory.

`xla/hlo/analysis` and `xla/service/hlo_memory_scheduler.cc`: a list scheduler, a depth-first and a
post-order walk are tried, and the least peak without fragmentation wins; the first in case of ties.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence

from convcalc.memory.program import Node, Program, Value

#: XLA counts a pointer for each element of a tuple, which library calls return.
POINTERS = 16


def operands(program: Program) -> dict[Node, list[Node]]:
    """Which operations each one waits for, without repetition."""
    return {
        node: list(dict.fromkeys(v.node for v in node.inputs if v.node is not None))
        for node in program.nodes
    }


def post_order(program: Program, roots: Iterable[Node], *, all_nodes: bool = True) -> list[Node]:
    """Each operation after its operands, starting from `roots`; what no root needs comes last."""
    before = operands(program)
    seen: set[Node] = set()
    order: list[Node] = []
    for root in (*roots, *(program.nodes if all_nodes else ())):
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((o, False) for o in reversed(before[node]) if o not in seen)
    return order


def list_schedule(program: Program, batch: int, calls: frozenset[str]) -> list[Node]:
    """ListScheduler: of the ready operations the one that frees most bytes, then with most users.

    Among equals the one that became ready last.  `calls` name the primitives that return tuples.
    """
    nodes = program.nodes
    before = operands(program)
    waits = {node: len(found) for node, found in before.items()}
    made = [value for node in nodes for value in node.outputs]
    size = {value: value.size.at(batch) for value in made}
    left = {value: len(value.users) for value in made}
    after: dict[Node, list[Node]] = {
        node: list(dict.fromkeys(u for value in node.outputs for u in value.users))
        for node in nodes
    }
    taken = {
        node: sum(size[v] for v in node.outputs)
        + POINTERS * (node.primitive in calls or len(node.outputs) > 1)
        for node in nodes
    }
    reads: dict[Node, list[Value]] = {
        node: [v for v in dict.fromkeys(node.inputs) if v.node is not None] for node in nodes
    }

    Entry = tuple[int, int, int, int]
    ready: list[Entry] = []
    current: dict[Node, Entry] = {}
    pushed = 0

    def push(node: Node) -> None:
        nonlocal pushed
        pushed += 1
        freed = sum(size[v] for v in reads[node] if left[v] == 1) - taken[node]
        entry = (freed, len(after[node]), pushed, node.index)
        insort(ready, entry)
        current[node] = entry

    for node in nodes:
        if not waits[node]:
            push(node)
    order = []
    while ready:
        node = nodes[ready.pop()[3]]
        del current[node]
        order.append(node)
        changed = []
        for value in reads[node]:
            left[value] -= 1
            if left[value] == 1:
                changed.append(value)
        for user in after[node]:
            waits[user] -= 1
            if not waits[user]:
                push(user)
        for value in changed:
            # Its last reader has become worth more.
            for user in value.users:
                if user in current:
                    entry = current[user]
                    freed = sum(size[v] for v in reads[user] if left[v] == 1) - taken[user]
                    if freed != entry[0]:
                        ready.remove(entry)
                        push(user)
    return order


def most_alive(order: Sequence[Node], batch: int) -> int:
    """The peak of an order, nothing in place, no fragmentation: what XLA compares."""
    place = {node: i for i, node in enumerate(order)}
    change = [0] * (len(order) + 1)
    for i, node in enumerate(order):
        for value in node.outputs:
            size = value.size.at(batch)
            change[i] += size
            last = max((place[user] for user in value.users), default=i)
            change[last + 1] -= size
    alive = peak = 0
    for step in change:
        alive += step
        peak = max(peak, alive)
    return peak


def breadth_first(program: Program, users: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """Operations as they become ready, first in, first out: XLA's order on a CPU.

    `BFSMemoryScheduler` in xla/service/hlo_memory_scheduler.cc: it starts with what reads nothing,
    parameters included, in the order in which these were made; so what reads only parameters comes
    after the sources, by the last parameter that it waits for.  The order of each one's `users`
    matters.
    """
    rests = {value: place for place, value in enumerate(program.resting)}
    waits = {
        node: len({v.node for v in node.inputs if v.node is not None}) for node in program.nodes
    }
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
