"""The one walk that turns a program and its order of execution into a timeline.

A value's memory is taken when its operation starts and given back after its last reader: counted by
references, as every framework's allocator sees it.  Views share memory; an operation that may work
in place takes over the memory of a dying input of equal size.
"""

from __future__ import annotations

from collections.abc import Iterable

from convcalc.memory.program import Node, Program, Size, Value
from convcalc.memory.timeline import Buffer, Step, Timeline

#: The end of a buffer that nothing has given back yet.
OPEN = -1
#: The readers of what is there before and after the step: more than can finish.
ALWAYS = 1 << 62


class Walk:
    """Takes and gives back memory while operations start and finish; buffers go by numbers."""

    def __init__(self, program: Program, round_to: int = 1) -> None:
        self.program = program
        self.round_to = round_to
        self.steps: list[Step] = []
        self.events: list[tuple[int, int]] = []
        self.buffers: list[Buffer] = []
        self.readers: list[int] = []
        """How many each buffer still has."""
        self.buffer: dict[Value, int] = {}
        self.scratch: dict[Node, list[int]] = {}
        self.step: dict[Node, int] = {}
        self.held = set(program.held)
        for value in program.resting:
            self.buffer[value] = self.take(
                -1, value.size, value.kind, value.name, value.layer, ALWAYS
            )

    def take(
        self, step: int, size: Size, kind: str, name: str, layer: str, readers: int = 1
    ) -> int:
        """Memory for `size` bytes."""
        index = len(self.buffers)
        self.buffers.append(Buffer(size, kind, name, layer, step, OPEN))
        self.readers.append(readers)
        self.events.append((step, index))
        return index

    def drop(self, step: int, index: int) -> None:
        """A reader of a buffer is done; the last gives it back."""
        self.readers[index] -= 1
        if not self.readers[index]:
            self.buffers[index].end = step
            self.events.append((step, ~index))

    def start(self, node: Node) -> None:
        """Take memory for the outputs and the scratch of an operation."""
        step = self.step[node] = len(self.steps)
        layer = node.layer
        self.steps.append(Step(node.primitive, layer, node.phase))
        name = f"{layer}:{node.primitive}"
        for place, value in enumerate(node.outputs):
            # The operation itself holds its outputs until it has finished.
            readers = len(value.users) + (value in self.held) + 1
            index = None if place else self.reusable(node, value)
            if index is None:
                index = self.take(step, value.size, value.kind, value.name or name, layer, readers)
            else:
                self.readers[index] += readers
            self.buffer[value] = index
        if node.scratch:
            self.scratch[node] = [
                self.take(step, size, "workspace", name, layer) for size in node.scratch
            ]

    def reusable(self, node: Node, value: Value) -> int | None:
        """An input's memory that the first output can have."""
        if node.alias:
            return self.buffer[node.inputs[0]]
        for place in node.inplace:
            index = self.buffer[node.inputs[place]]
            # Whatever else reads it has finished: only this operation's own reference is left.
            if self.readers[index] == 1 and self.buffers[index].size == value.size:
                return index
        return None

    def finish(self, node: Node) -> None:
        """Give back the scratch, the inputs that nobody reads any more, and unread outputs."""
        step = self.step[node]
        for index in self.scratch.pop(node, ()):
            self.drop(step, index)
        for value in dict.fromkeys(node.inputs):
            self.drop(step, self.buffer[value])
        for value in node.outputs:
            self.drop(step, self.buffer[value])

    def timeline(self) -> Timeline:
        """What has happened."""
        for buffer in self.buffers:
            if buffer.end == OPEN:
                buffer.end = len(self.steps)
        return Timeline(self.steps, self.buffers, self.events, self.round_to)


def walk(program: Program, order: Iterable[Node] | None = None, round_to: int = 1) -> Timeline:
    """The timeline of a program whose operations run one after the other in `order`."""
    walking = Walk(program, round_to)
    for node in program.nodes if order is None else order:
        walking.start(node)
        walking.finish(node)
    return walking.timeline()
