"""When variables are written: each with its gradient, or all once every gradient has come."""

from __future__ import annotations

from collections.abc import Sequence

from convcalc.memory.lowering import Lowering, Rules
from convcalc.memory.program import Value


class Updates(Rules):
    """What the engines of XLA share.

    Where Keras decides at each step whether it updates (`Job.decides`), a conditional reads all
    gradients, and its branch writes the variables.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Value, Value, str]] = []
        """Gradients that are there until it is decided whether variables are updated."""

    def update(self, lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
        """Write a variable and its slots, now or at the end."""
        if lowering.job.decides:
            self.waiting.append((variable, gradient, layer))
        else:
            self.write(lowering, variable, [gradient], layer)

    def finish(self, lowering: Lowering) -> None:
        """Decide, and write what waits."""
        if self.waiting:
            decided = self.decide(lowering, [gradient for _, gradient, _ in self.waiting])
            for variable, gradient, layer in self.waiting:
                self.write(lowering, variable, [gradient, decided], layer)

    def decide(self, lowering: Lowering, gradients: Sequence[Value]) -> Value:
        """The conditional's scalar."""
        raise NotImplementedError

    def write(self, lowering: Lowering, variable: Value, gradient: list[Value], layer: str) -> None:
        """A variable and its slots."""
        raise NotImplementedError
