"""Recurrent layers over (batch, time, features)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import product
from convcalc.errors import ShapeError
from convcalc.ops.base import Operator, Param, View, Views, operator, positive, with_rank
from convcalc.ops.convolution import Conv
from convcalc.tensors import TensorSpec

#: Matrices of one cell, each of (inputs + units) x units.
GATES = {"simple": 1, "gru": 3, "lstm": 4}
#: States that a cell hands on from step to step.
STATES = {"simple": 1, "gru": 1, "lstm": 2}


@operator("recurrent", inputs=(1, None))
class Recurrent(Operator):
    """An LSTM, GRU or simple RNN: gates * ((inputs + units) * units + biases) parameters.

    `reset_after` gives a GRU its second bias (Keras' default, cuDNN's form), `second_bias` any cell
    (PyTorch).  `state` gives the last states as further outputs: one, an LSTM's cell state too.
    Further inputs are the first states.
    """

    cell: str
    units: int
    sequences: bool = False
    bias: bool = True
    reset_after: bool = True
    second_bias: bool = False
    state: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        dims = with_rank(inputs[0], 3, "a recurrent layer")
        if self.cell not in GATES:
            raise ShapeError(f"cell '{self.cell}' is none of {', '.join(GATES)}")
        positive(self.units, "units")
        kept = dims[:2] if self.sequences else dims[:1]
        found = inputs[0]._replace(shape=(*kept, self.units))
        last = found._replace(shape=(dims[0], self.units))
        return (found, *(last,) * (STATES[self.cell] if self.state else 0))

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
        return [(View(0), *(None,) * (len(outputs[0].dims) - 1)) for _ in inputs]


@operator("conv_recurrent", inputs=(1, None))
class ConvRecurrent(Operator):
    """A convolutional LSTM over (batch, time, height, width, channels) of any rank.

    Each step convolves its input and, with stride 1, its last state into the four gates:
    4 * filters * (k1 * k2 * (channels + filters) + 1) parameters (Shi et al. 2015, without
    peepholes, as in Keras).
    """

    filters: int
    kernel: Any
    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    bias: bool = True
    sequences: bool = False
    channels_first: bool = False
    state: bool = False

    def gates(self, x: TensorSpec) -> tuple[Conv, TensorSpec, TensorSpec]:
        """The convolution of one step's input, that input, and the state that follows."""
        dims = with_rank(x, 4, "a convolutional recurrent layer")
        positive(self.filters, "filters")
        step = x._replace(shape=(dims[0], *dims[2:]))
        settings = (self.kernel, self.stride, self.padding, self.dilation, 1, self.bias)
        (state,) = Conv(self.filters, *settings, self.channels_first).outputs(step)
        return Conv(4 * self.filters, *settings, self.channels_first), step, state

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        _, _, state = self.gates(inputs[0])
        batch, *rest = state.dims
        every = state._replace(shape=(batch, inputs[0].dims[1], *rest))
        return (every if self.sequences else state, *(state,) * (2 if self.state else 0))

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        conv, step, _ = self.gates(inputs[0])
        kernel, *bias = conv.params(step)
        recurrent = (*kernel.shape[:-2], self.filters, kernel.shape[-1])
        return (kernel, Param("recurrent_kernel", recurrent), *bias)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        conv, step, state = self.gates(inputs[0])
        *window, seen, _ = conv.kernel_shape(step)
        return product((inputs[0].dims[1], *window, seen + self.filters, 4, state.elements))

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((inputs[0].dims[1], 2 * 4, self.gates(inputs[0])[2].elements))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [(View(0), *(None,) * (len(outputs[0].dims) - 1)) for _ in inputs]
