"""Mixed precision: float32 variables, and copies in 16 bits where an operator wants these.

`torch.autocast` casts by operator (ATen/autocast_mode.h): convolutions and matrix products take 16
bits, some normalizations, losses and functions float32, the rest what comes, the wider of two.  The
copy of a variable is made once and lives until the context is left, behind the loss; the copy of a
tensor lives as long as it is kept for its gradient.  What a CPU wants in float32 is less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convcalc.memory.lowering import Call
from convcalc.memory.program import Value
from convcalc.network import Op
from convcalc.tensors import TensorSpec

if TYPE_CHECKING:
    from convcalc.memory.engines.torch.lowering import EagerLowering

#: Operators that are computed in 16 bits.
LOWER = (
    *("conv", "depthwise_conv", "conv_transpose", "dense", "matmul", "dot", "attention"),
    *("scaled_dot_product", "prelu"),
)
#: Operators that a GPU computes in float32.
UPPER = ("layer_norm", "group_norm", "rms_norm", "resize", "upsample")
#: And functions; of these a softmax writes float32 without a copy of what it reads.
UPPER_FUNCTIONS = ("softplus", "exponential", "exp", "expm1", "log", "log1p", "reciprocal", "rsqrt")
WRITES_WIDE = ("softmax", "log_softmax")

WIDE = "float32"


class EagerCall(Call):
    """An op whose inputs and variables may have been cast."""

    __slots__ = ("cast", "stored")

    def __init__(self, lowering: EagerLowering, op: Op) -> None:
        super().__init__(lowering, op)
        self.cast: dict[int, TensorSpec] = {}
        """What the inputs were before they were cast, by place."""
        self.stored: dict[str, Value] = {}
        """The variables behind the copies in `w`."""
        if lowering.job.mixed:
            self.prepare(lowering)

    def prepare(self, lowering: EagerLowering) -> None:
        """Cast what autocast casts, and say what comes out."""
        self.ins = [
            spec._replace(dtype=value.spec.dtype) if spec.dtype == "float" else spec
            for spec, value in zip(self.ins, self.x, strict=True)
        ]
        kind = self.op.operator.type
        name = getattr(self.op.operator, "function", getattr(self.op.operator, "name", ""))
        if kind in LOWER:
            self.cast_inputs("float")
            self.stored, self.w = self.w, {k: self.copy(lowering, v) for k, v in self.w.items()}
            return
        upper = kind in UPPER or name in UPPER_FUNCTIONS
        if lowering.gpu and upper:
            self.cast_inputs(WIDE)
        widened = kind == "scale" or (lowering.gpu and (upper or name in WRITES_WIDE))
        if widened or any(spec.dtype == WIDE for spec in self.ins):
            self.outs = [
                spec._replace(dtype=WIDE) if spec.dtype == "float" else spec for spec in self.outs
            ]

    def cast_inputs(self, dtype: str) -> None:
        """Copies of the inputs of another width."""
        self.x = list(self.x)
        for place, spec in enumerate(self.ins):
            if spec.dtype in ("float", WIDE) and spec.dtype != dtype:
                self.cast[place] = spec
                self.ins[place] = spec._replace(dtype=dtype)
                self.x[place] = self.emit("to", [self.x[place]], self.ins[place])

    def copy(self, lowering: EagerLowering, variable: Value) -> Value:
        """The copy of a variable in 16 bits, made at its first use."""
        if variable.spec.dtype != "float":
            return variable
        if variable not in lowering.copies:
            made = self.value(variable.spec, "workspace", f"{variable.name} in 16 bits")
            self.node("to", [variable], [made])
            lowering.copies[variable] = made
        return lowering.copies[variable]

    def variable(self, name: str) -> Value:
        """The stored variable, not its copy."""
        return self.stored.get(name, self.w[name])

    def trains(self, name: str) -> bool:
        return self.variable(name) in self.lowering.trainable

    def give(self, place: int, gradient: Value) -> None:
        if place in self.cast and self.needs(place):
            gradient = self.emit("to", [gradient], self.cast[place])
        super().give(place, gradient)

    def give_weight(self, name: str, gradient: Value) -> None:
        if name in self.stored and self.w[name] is not self.stored[name]:
            own = self.stored[name]
            width = self.lowering.job.variable_width
            whole = Value(own.spec, width, "gradients", own.name, self.layer)
            self.node("to", [gradient], [whole])
            gradient = whole
        super().give_weight(name, gradient)
