"""The liveness walk with TensorFlow's way of writing to a variable that is still being read."""

from __future__ import annotations

from convcalc.memory.engines.tensorflow.replay import History
from convcalc.memory.liveness import Walk
from convcalc.memory.program import Node, Program, Value


class Steps(Walk):
    """An assignment works in place only if nobody else holds the variable's buffer.

    Otherwise the variable gets a new buffer and the old one lives until its last reader, say the
    input's gradient of the same convolution, has run (`core/kernels/training_op_helpers.h`,
    ``PrepareToUpdateVariable``).
    """

    def __init__(self, program: Program, round_to: int = 1) -> None:
        super().__init__(program, round_to)
        self.replaced: dict[Value, int] = {}
        self.written: dict[int, list[int]] = {}
        for value in program.resting:
            # The variable itself holds its buffer, too, until it has another.
            read = sum(user.primitive != "Assign" for user in value.users)
            self.readers[self.buffer[value]] = read + 1

    def start(self, node: Node) -> None:
        super().start(node)
        if node.primitive == "AssignSlot":
            slot = self.buffer[node.inputs[0]]
            self.written.setdefault(len(self.events) - 1, []).append(slot)
        elif node.primitive == "Assign":
            variable = node.inputs[0]
            index = self.buffer[variable]
            if self.readers[index] > 1 and variable not in self.replaced:
                self.readers[index] -= 1
                self.replaced[variable] = self.take(
                    self.step[node], variable.size, variable.kind, variable.name, variable.layer
                )

    def finish(self, node: Node) -> None:
        if node.primitive == "Assign":
            # It holds the variable, not the variable's old buffer.
            step = self.step[node]
            for value in node.inputs[1:]:
                self.drop(step, self.buffer[value])
            return
        super().finish(node)

    def history(self) -> History:
        """The step's events, ready to be replayed."""
        renewed = {self.buffer[value]: fresh for value, fresh in self.replaced.items()}
        shapes = [value.spec.dims for value in self.program.resting]
        return History(self.timeline(), renewed, self.written, shapes)
