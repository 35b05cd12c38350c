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
    emit = Emit(lowering, variable, layer)
    kept = emit.op("Mul", [])
    assert kept.node is not None
    assert gradient.node is not None
    kept.node.after = (gradient.node,)
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
    assert square.node is not None
    kept = emit.op("Mul", [], after=[square.node])
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
    assert gradient.node is not None
    ready = [gradient.node]
    kept, moved = emit.op("Mul", [], after=ready), emit.op("Mul", [], after=ready)
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


UPDATES: dict[str, Callable[[Lowering, Value, Value, str], None]] = {
    "none": nothing,
    "sgd": sgd,
    "momentum": momentum,
    "lion": lion,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "nadam": nadam,
    "adamax": adam,
    "ftrl": adam,
    "adadelta": adam,
    "lamb": adam,
    "adamw": decayed,
}
