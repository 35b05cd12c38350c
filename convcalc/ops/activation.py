"""Operators that work element by element: activations, dropout, noise, casts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import holds_everywhere, product
from convcalc.errors import ShapeError
from convcalc.ops.base import Operator, Param, axis_of, operator, suggestion
from convcalc.tensors import DTYPE_BYTES, TensorSpec

#: Activations by Keras' names, with the operations that one element costs.
ACTIVATIONS = {
    "celu": 3,
    "elu": 3,
    "exponential": 1,
    "gelu": 5,
    "glu": 2,
    "hard_shrink": 1,
    "hard_sigmoid": 3,
    "hard_silu": 4,
    "hard_swish": 4,
    "hard_tanh": 2,
    "leaky_relu": 1,
    "linear": 0,
    "log_sigmoid": 3,
    "log_softmax": 4,
    "mish": 4,
    "relu": 1,
    "relu6": 2,
    "selu": 3,
    "sigmoid": 3,
    "silu": 4,
    "soft_shrink": 2,
    "softmax": 3,
    "softplus": 2,
    "softsign": 2,
    "sparse_plus": 2,
    "sparse_sigmoid": 2,
    "sparsemax": 4,
    "squareplus": 4,
    "swish": 4,
    "tanh": 2,
    "tanh_shrink": 3,
    "threshold": 1,
}


class Elementwise(Operator):
    """One output element for each input element."""

    __slots__ = ()

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        return (inputs[0],)


@operator("activation")
class Activation(Elementwise):
    """A function of one element (softmax: of one axis, element by element in cost)."""

    function: str

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        if self.function not in ACTIVATIONS:
            hint = suggestion(self.function, ACTIVATIONS)
            raise ShapeError(f"unknown activation '{self.function}'{hint}")
        if self.function == "glu":
            *lead, last = inputs[0].dims
            if not holds_everywhere(last % 2 == 0):
                raise ShapeError(f"glu halves the last axis, which has {last}")
            return (inputs[0]._replace(shape=(*lead, last // 2)),)
        return (inputs[0],)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((ACTIVATIONS[self.function], inputs[0].elements))


@operator("prelu")
class PRelu(Elementwise):
    """A leaky ReLU with trained slopes; `shared_axes` have one slope together.

    `slopes` (PyTorch, ONNX) gives their shape directly.
    """

    shared_axes: Any = ()
    slopes: Any = None

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        if self.slopes is not None:
            return (Param("alpha", self.slopes),)
        dims = inputs[0].dims
        shared = {axis_of(axis, len(dims)) for axis in self.shared_axes}
        return (Param("alpha", tuple(1 if i in shared else dims[i] for i in range(1, len(dims)))),)

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return inputs[0].elements


@operator("dropout")
class Dropout(Elementwise):
    """Dropout of any kind and stochastic depth; costs nothing at inference."""

    rate: float = 0.5
    noise_shape: Any = None


@operator("noise")
class Noise(Elementwise):
    """Noise added in training only."""


@operator("identity")
class Identity(Elementwise):
    """Gives its input on: ignored on purpose."""


@operator("cast")
class Cast(Elementwise):
    """Another element type."""

    dtype: str

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        if self.dtype != "float" and self.dtype not in DTYPE_BYTES:
            raise ShapeError(f"unknown dtype '{self.dtype}'{suggestion(self.dtype, DTYPE_BYTES)}")
        return (inputs[0]._replace(dtype=self.dtype),)


@operator("function")
class Function(Elementwise):
    """Any other function of one element by its name (exp, sqrt, clip, x + 3); shape is kept."""

    name: str

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return inputs[0].elements
