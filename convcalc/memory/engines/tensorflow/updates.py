"""What Keras' optimizers emit for one variable as soon as its gradient is there.

`keras/src/optimizers/*.py` (Keras 3.15), as TensorFlow's graph has it: a slot that is assigned
takes over the new tensor, ``assign_add`` and ``assign_sub`` work in place (see `walk.Steps` for
the variable that is still being read).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Node, Value

#: Variables below so many bytes are updated without a trace: nine of ten variables are biases and
#: scales, together a thousandth of the memory.
SMALL = 1 << 16


class Emit:
    """The operations of one variable's update."""

    def __init__(self, lowering: Lowering, variable: Value, layer: str) -> None:
        self.program = lowering.program
        self.variable = variable
        self.layer = layer
        self.phase = lowering.phase
        self.width = lowering.job.variable_width
        self.slots = lowering.slots[variable]

    def op(
        self,
        primitive: str,
        inputs: Sequence[Value],
        inplace: Sequence[int] = (),
        after: Sequence[Node] = (),
    ) -> Value:
        """An operation that makes a tensor of the variable's size."""
        made = Value(self.variable.spec, self.width, "workspace")
        self.program.add(
            primitive, inputs, [made], layer=self.layer, phase=self.phase, inplace=inplace,
            after=after,
        )  # fmt: skip
        return made

    def assign(self, value: Value, slot: int) -> Node:
        """A slot takes a tensor over, or has it added."""
        read = [self.slots[slot], value]
        return self.program.add("AssignSlot", read, [], layer=self.layer, phase=self.phase)

    def variable_takes(self, value: Value) -> None:
        """``assign_sub`` on the variable itself."""
        read = [self.variable, value]
        self.program.add("Assign", read, [], layer=self.layer, phase=self.phase)


def nothing(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """Gradients are computed and dropped."""


def sgd(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    emit = Emit(lowering, variable, layer)
    emit.variable_takes(emit.op("Mul", [gradient], (0,)))


def momentum(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """The decayed slot waits for no gradient: it is made before the forward pass, and stays."""
    emit = Emit(lowering, variable, layer)
    kept = emit.op("Mul", [])
    step = emit.op("Sub", [kept, emit.op("Mul", [gradient], (0,))], (0, 1))
    emit.variable_takes(step)


def adam(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """Both moments in turn, then their quotient: at most two tensors beside the gradient."""
    emit = Emit(lowering, variable, layer)
    first = emit.op("Sub", [gradient], (0,))
    second = emit.op("Square", [gradient], (0,))
    mean = emit.assign(emit.op("Mul", [first], (0,)), 0)
    square = emit.assign(emit.op("Mul", [emit.op("Sub", [second], (0,))], (0,)), 1)
    root = emit.op("Sqrt", [], after=[square])
    step = emit.op("Mul", [], after=[mean])
    root = emit.op("AddV2", [root], (0,))
    emit.variable_takes(emit.op("RealDiv", [step, root], (0, 1)))


def decayed(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """AdamW: the variable is first made smaller, by an operation that waits for no gradient."""
    emit = Emit(lowering, variable, layer)
    emit.variable_takes(emit.op("Mul", []))
    adam(lowering, variable, gradient, layer)


def rmsprop(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    emit = Emit(lowering, variable, layer)
    step = emit.op("Mul", [gradient], (0,))
    square = emit.op("Square", [gradient], (0,))
    kept = emit.op("Mul", [])
    velocity = emit.assign(emit.op("AddV2", [kept, square], (0, 1)), 0)
    root = emit.op("AddV2", [], after=[velocity])
    emit.variable_takes(emit.op("Mul", [step, emit.op("Rsqrt", [root], (0,))], (0, 1)))


def adagrad(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    emit = Emit(lowering, variable, layer)
    step = emit.op("Mul", [gradient], (0,))
    kept = emit.assign(emit.op("Square", [gradient], (0,)), 0)
    root = emit.op("Sqrt", [], after=[kept])
    emit.variable_takes(emit.op("RealDiv", [step, root], (0, 1)))


def lion(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """Two weighed means of moment and gradient: one to step by, one to keep."""
    emit = Emit(lowering, variable, layer)
    kept, moved = emit.op("Mul", []), emit.op("Mul", [])
    weighed = emit.op("Mul", [gradient], (0,))
    step = emit.op("Sign", [emit.op("AddV2", [moved, weighed], (0, 1))], (0,))
    emit.assign(emit.op("AddV2", [kept, emit.op("Mul", [gradient], (0,))], (0, 1)), 0)
    emit.variable_takes(step)


def nadam(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """Adam, with the gradient itself in the step."""
    emit = Emit(lowering, variable, layer)
    adam(lowering, variable, gradient, layer)
    weighed = emit.op("Mul", [gradient])
    last = lowering.program.nodes[-2]
    lowering.program.add("AddV2", [weighed], [], layer=layer, phase=lowering.phase, after=[last])


def adamax(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """Adam with a decayed maximum in place of the second moment."""
    emit = Emit(lowering, variable, layer)
    kept = emit.op("Mul", [])
    first = emit.op("Sub", [gradient], (0,))
    size = emit.op("Abs", [gradient], (0,))
    mean = emit.assign(emit.op("Mul", [first], (0,)), 0)
    largest = emit.assign(emit.op("Maximum", [kept, size], (0, 1)), 1)
    step = emit.op("Mul", [], after=[mean])
    root = emit.op("AddV2", [], after=[largest])
    emit.variable_takes(emit.op("RealDiv", [step, emit.op("Mul", [root], (0,))], (0, 1)))


def adadelta(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """Both decayed slots and the root of the second are made before the forward pass."""
    emit = Emit(lowering, variable, layer)
    kept, moved = emit.op("Mul", []), emit.op("Mul", [])
    root = emit.op("Sqrt", [emit.op("AddV2", [])], (0,))
    step = emit.op("Mul", [root, gradient], (0, 1))
    weighed = emit.op("Mul", [emit.op("Square", [gradient], (0,))], (0,))
    square = emit.assign(emit.op("AddV2", [kept, weighed], (0, 1)), 0)
    size = emit.op("Sqrt", [emit.op("AddV2", [], after=[square])], (0,))
    delta = emit.op("Neg", [emit.op("RealDiv", [step, size], (0, 1))], (0,))
    emit.variable_takes(emit.op("Mul", [delta], (0,)))
    weighed = emit.op("Mul", [emit.op("Square", [delta], (0,))], (0,))
    emit.assign(emit.op("AddV2", [moved, weighed], (0, 1)), 1)


def ftrl(lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
    """The variable times the shrinkage, though that is zero, and the slot's root wait for no
    gradient either."""
    emit = Emit(lowering, variable, layer)
    shrunk, before = emit.op("Mul", []), emit.op("Sqrt", [])
    whole = emit.op("AddV2", [gradient, shrunk], (0, 1))
    square = emit.op("AddV2", [emit.op("Square", [gradient], (0,))], (0,))
    root = emit.op("Sqrt", [square])
    emit.assign(square, 0)
    grown = emit.op("RealDiv", [emit.op("Sub", [root, before], (0, 1))], (0,))
    weighed = emit.op("Mul", [grown], (0,))
    linear = emit.assign(emit.op("Sub", [whole, weighed], (0, 1)), 1)
    quadratic = emit.op("AddV2", [emit.op("RealDiv", [root], (0,))], (0,))
    clipped = emit.op("Minimum", [], after=[linear])
    rest = emit.op("Sub", [emit.op("Maximum", [clipped], (0,))], (0,))
    emit.variable_takes(emit.op("RealDiv", [rest, quadratic], (0, 1)))


UPDATES: dict[str, Callable[[Lowering, Value, Value, str], None]] = {
    "none": nothing,
    "sgd": sgd,
    "momentum": momentum,
    "lion": lion,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "nadam": nadam,
    "adamax": adamax,
    "ftrl": ftrl,
    "adadelta": adadelta,
    "lamb": adam,
    "adamw": decayed,
}
