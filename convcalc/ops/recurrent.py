"""Recurrent layers over (batch, time, features)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import product
from convcalc.errors import ShapeError
from convcalc.ops.base import Operator, Param, View, Views, operator, positive, with_rank
from convcalc.tensors import TensorSpec

#: Matrices of one cell, each of (inputs + units) x units.
GATES = {"simple": 1, "gru": 3, "lstm": 4}


@operator("recurrent")
class Recurrent(Operator):
    """An LSTM, GRU or simple RNN: gates * ((inputs + units) * units + biases) parameters.

    `reset_after` gives a GRU its second bias (Keras' default, cuDNN's form), `second_bias` any cell
    (PyTorch).
    """

    cell: str
    units: int
    sequences: bool = False
    bias: bool = True
    reset_after: bool = True
    second_bias: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        dims = with_rank(inputs[0], 3, "a recurrent layer")
        if self.cell not in GATES:
            raise ShapeError(f"cell '{self.cell}' is none of {', '.join(GATES)}")
        positive(self.units, "units")
        kept = dims[:2] if self.sequences else dims[:1]
        return (inputs[0]._replace(shape=(*kept, self.units)),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        width = GATES[self.cell] * self.units
        found = [
            Param("kernel", (inputs[0].dims[-1], width)),
            Param("recurrent_kernel", (self.units, width)),
        ]
        if self.bias:
            twice = self.second_bias or (self.cell == "gru" and self.reset_after)
            found.append(Param("bias", (2, width) if twice else (width,)))
        return tuple(found)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        # Samples may have been folded into the batch axis: the rows of a picture, one by one.
        rows, steps, features = inputs[0].dims
        return product((rows, steps, GATES[self.cell] * self.units, features + self.units))

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((*inputs[0].dims[:2], 2 * GATES[self.cell], self.units))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [(View(0), *(None,) * (len(outputs[0].dims) - 1))]
