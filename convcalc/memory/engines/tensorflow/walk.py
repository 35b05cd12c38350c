"""The liveness walk with TensorFlow's way of writing to a variable that is still being read."""

from __future__ import annotations

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
        self.replaced: set[Value] = set()
        for value in program.resting:
            self.block[value].readers = sum(user.primitive != "Assign" for user in value.users)

    def start(self, node: Node) -> None:
        super().start(node)
        if node.primitive != "Assign":
            return
        variable = node.inputs[0]
        block = self.block[variable]
        if block.readers > 0 and variable not in self.replaced:
            self.replaced.add(variable)
            block.stays = False
            step = self.step[node]
            self.take(step, variable.size, variable.kind, variable.name, variable.layer, stays=True)

    def finish(self, node: Node) -> None:
        if node.primitive == "Assign":
            # It holds the variable, not the variable's old buffer.
            step = self.step[node]
            for block in self.scratch.pop(node):
                self.drop(step, block)
            for value in node.inputs[1:]:
                self.drop(step, self.block[value])
            return
        super().finish(node)
