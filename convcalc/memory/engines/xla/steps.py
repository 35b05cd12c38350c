"""What an optimizer's step makes on a CPU, beside the variables and slots that it writes.

Read off `keras/src/optimizers/*.py` and the programs that XLA makes of them: what several results
are made of, and is dear to compute, is stored; a slot whose old value is still read after its new
one is written is copied at the beginning, like a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from convcalc.memory.engines.xla.fusion import Kind
from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Node, Size, Value
from convcalc.tensors import TensorSpec

if TYPE_CHECKING:
    from convcalc.memory.engines.xla.cpu import CpuRules


class Step:
    """The step of one variable."""

    def __init__(
        self,
        rules: CpuRules,
        lowering: Lowering,
        variable: Value,
        gradient: Sequence[Value],
        layer: str,
    ) -> None:
        self.rules = rules
        self.lowering = lowering
        self.target = variable
        self.gradient = gradient
        self.layer = layer
        self.slots = lowering.slots[variable]
        self.old = rules.copies.get(variable, variable)
        """The variable's value before it is written."""

    def emit(self, kind: Kind, primitive: str, inputs: Iterable[Value], size: Size) -> Value:
        """An operation on tensors of the variable's shape."""
        return self.rules.emit(
            self.lowering, self.layer, kind, primitive, inputs, self.target.spec, size=size
        )

    def stored(self, primitive: str, inputs: Iterable[Value]) -> Value:
        """What is not computed twice."""
        return self.emit(Kind.EXPENSIVE, primitive, inputs, self.target.size)

    def copied(self, slot: Value) -> Value:
        """A slot's old value."""
        copy = self.emit(Kind.CALL, "copy", [slot], self.target.size)
        self.rules.copies[slot] = copy
        return copy

    def norm(self, value: Value) -> Value:
        """The sum of squares."""
        square = self.emit(Kind.ELEMENTWISE, "square", [value], self.target.size)
        scalar = TensorSpec((), "float", None)
        return self.rules.emit(self.lowering, self.layer, Kind.CALL, "norm", [square], scalar)

    def moments(self) -> Value:
        """Slots that are made of themselves and the gradient alone."""
        return self.emit(Kind.UPDATE, "moments", self.gradient, Size(0))

    def write(self, target: Value, inputs: Iterable[Value]) -> Value:
        """The new value of a variable or a slot."""
        name = "update" if target is self.target else "slot"
        made = self.emit(Kind.UPDATE, name, inputs, Size(0))
        assert made.node is not None
        self.rules.written(self.lowering, target, made.node)
        return made

    def variable(self, inputs: Sequence[Value]) -> None:
        """The new variable, which may take the place of something of its shape."""
        node: Node | None = self.write(self.target, inputs).node
        assert node is not None
        for value in inputs:
            if value.node is not None and value not in self.rules.turned:
                self.rules.written_over[value.node] = node


def plain(step: Step) -> None:
    """From the slots, or from the gradient where there are none."""
    step.variable([*([step.moments()] if step.slots else step.gradient), step.old])


def again(step: Step) -> None:
    """From the slots and the gradient, which so lives until the end."""
    step.variable([step.moments(), *step.gradient, step.old])


def lion(step: Step) -> None:
    """From the old moment, and so is the new one."""
    moment = step.copied(step.slots[0])
    step.write(step.slots[0], [*step.gradient, moment])
    step.variable([*step.gradient, moment, step.old])


def adadelta(step: Step) -> None:
    """The gradient times a root of the second slot over one of the first."""
    above = step.stored("root", [step.slots[1]])
    below = step.stored("inverse root", [step.moments()])
    read = [below, above, *step.gradient]
    step.variable([*read, step.old])
    step.write(step.slots[1], read)


def ftrl(step: Step) -> None:
    """The second slot from the variable and both values of the first, the variable from both."""
    kept = step.copied(step.slots[0])
    power = step.stored("power", [step.write(step.slots[0], [kept, *step.gradient])])
    linear = step.write(step.slots[1], [step.old, power, kept, *step.gradient])
    step.variable([power, linear])


def lamb(step: Step) -> None:
    """Adam's quotient, scaled by its norm and the variable's."""
    quotient = step.stored("quotient", [step.moments()])
    step.variable([quotient, step.norm(step.old), step.norm(quotient), step.old])


STEPS: dict[str, Callable[[Step], None]] = {
    "rmsprop": again,
    "adagrad": again,
    "nadam": again,
    "lion": lion,
    "adadelta": adadelta,
    "ftrl": ftrl,
    "lamb": lamb,
}
#: Optimizers whose step is made of the gradient itself beside the slots.
READ_AGAIN = {name for name, step in STEPS.items() if step in (again, lion, adadelta)}
