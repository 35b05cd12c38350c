"""The one walk that turns a program and its order of execution into a timeline.

A value's memory is taken when its operation starts and given back after its last reader: counted by
references, as every framework's allocator sees it.  Views share memory; an operation that may work
in place takes over the memory of a dying input of equal size.
"""

from __future__ import annotations

from collections.abc import Iterable

from convcalc.memory.program import Node, Program, Size, Value
from convcalc.memory.timeline import Buffer, Step, Timeline


class Block:
    """One piece of memory, who has taken it, and how many readers it still has."""

    __slots__ = ("end", "index", "kind", "layer", "name", "readers", "size", "start", "stays")

    def __init__(
        self, index: int, size: Size, kind: str, name: str, layer: str, start: int, stays: bool
    ) -> None:
        self.index = index
        self.size = size
        self.kind = kind
        self.name = name
        self.layer = layer
        self.start = start
        self.end = -1
        """The step that has given it back; -1: none."""
        self.readers = 0
        self.stays = stays


class Walk:
    """Takes and gives back memory while operations start and finish."""

    def __init__(self, program: Program, round_to: int = 1) -> None:
        self.program = program
        self.round_to = round_to
        self.steps: list[Step] = []
        self.events: list[tuple[int, int]] = []
        self.blocks: list[Block] = []
        self.block: dict[Value, Block] = {}
        self.scratch: dict[Node, list[Block]] = {}
        self.step: dict[Node, int] = {}
        self.held = set(program.held)
        for value in program.resting:
            self.block[value] = self.take(
                -1, value.size, value.kind, value.name, value.layer, stays=True
            )

    def take(
        self, step: int, size: Size, kind: str, name: str, layer: str, stays: bool = False
    ) -> Block:
        """Memory for `size` bytes."""
        index = len(self.blocks)
        block = Block(index, size, kind, name, layer, step, stays)
        self.blocks.append(block)
        self.events.append((step, index))
        return block

    def drop(self, step: int, block: Block) -> None:
        """A reader of a block is done; the last gives it back."""
        block.readers -= 1
        if block.readers <= 0 and not block.stays:
            block.end = step
            self.events.append((step, ~block.index))

    def start(self, node: Node) -> None:
        """Take memory for the outputs and the scratch of an operation."""
        step = self.step[node] = len(self.steps)
        layer = node.layer
        self.steps.append(Step(node.primitive, layer, node.phase))
        name = f"{layer}:{node.primitive}"
        for place, value in enumerate(node.outputs):
            block = None if place else self.reusable(node, value)
            if block is None:
                block = self.take(step, value.size, value.kind, value.name or name, layer)
            # The operation itself holds its outputs until it has finished.
            block.readers += len(value.users) + (value in self.held) + 1
            self.block[value] = block
        self.scratch[node] = [
            self.take(step, size, "workspace", name, layer) for size in node.scratch
        ]

    def reusable(self, node: Node, value: Value) -> Block | None:
        """An input's memory that the first output can have."""
        if node.alias:
            return self.block[node.inputs[0]]
        for place in node.inplace:
            operand = node.inputs[place]
            block = self.block[operand]
            # Whatever else reads it has finished: only this operation's own reference is left.
            if block.readers == 1 and not block.stays and block.size == value.size:
                return block
        return None

    def finish(self, node: Node) -> None:
        """Give back the scratch, the inputs that nobody reads any more, and unread outputs."""
        step = self.step[node]
        for block in self.scratch.pop(node):
            self.drop(step, block)
        for value in dict.fromkeys(node.inputs):
            self.drop(step, self.block[value])
        for value in node.outputs:
            self.drop(step, self.block[value])

    def timeline(self) -> Timeline:
        """What has happened."""
        last = len(self.steps)
        buffers = [
            Buffer(b.size, b.kind, b.name, b.layer, b.start, last if b.end < 0 else b.end)
            for b in self.blocks
        ]
        return Timeline(self.steps, buffers, self.events, self.round_to)


def walk(program: Program, order: Iterable[Node] | None = None, round_to: int = 1) -> Timeline:
    """The timeline of a program whose operations run one after the other in `order`."""
    walking = Walk(program, round_to)
    for node in program.nodes if order is None else order:
        walking.start(node)
        walking.finish(node)
    return walking.timeline()
