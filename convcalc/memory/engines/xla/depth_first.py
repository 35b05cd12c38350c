"""XLA's depth-first order: of an operation's operands the one with the most behind it comes first.

`DFSMemorySchedule` in xla/service/hlo_memory_scheduler.cc.  What is behind an operand is counted
without care for what several paths share, so two caps keep the numbers small: there are no more
further users than instructions, and no more bytes than what a post-order walk has made so far.
"""

from __future__ import annotations

from collections.abc import Sequence

from convcalc.memory.engines.xla.schedule import operands
from convcalc.memory.program import Node, Program


def depth_first(
    program: Program, results: Sequence[Node], walked: Sequence[Node], batch: int
) -> list[Node]:
    """The order for what a program gives back, `results`, in their order.

    `walked` is the post-order walk from these.
    """
    further: dict[Node, int] = {}
    behind: dict[Node, int] = {}
    first: dict[Node, tuple[int, int]] = {}
    """By what operands are sorted."""
    most, made = len(walked), 0
    for node in walked:
        own = sum(value.size.at(batch) for value in node.outputs)
        made += own
        users = max(len(node.outputs) - 1, 0)
        for value in node.inputs:
            if value.node is not None:
                # An element of a tuple is an instruction with users of its own.
                users += further[value.node] + max(len(value.users) - 1, 0)
                own += behind[value.node]
        further[node] = min(users, most)
        behind[node] = min(own, made)
        first[node] = -further[node], -behind[node]
    placed: set[Node] = set()
    order: list[Node] = []
    for root in (*sorted(results, key=first.__getitem__), *program.nodes):
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in placed:
                continue
            if ready:
                placed.add(node)
                order.append(node)
                continue
            stack.append((node, True))
            before = sorted(operands(node), key=first.__getitem__)
            stack += [(each, False) for each in reversed(before) if each not in placed]
    return order
