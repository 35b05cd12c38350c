"""What each operator does: output shape, parameters, arithmetic.  One family a file."""

from convcalc.ops import (
    activation,
    convolution,
    linear,
    merge,
    normalization,
    opaque,
    pooling,
    recurrent,
    shape,
)
from convcalc.ops.base import REGISTRY, Operator, Param, View, attributes, create

__all__ = [
    "REGISTRY",
    "Operator",
    "Param",
    "View",
    "activation",
    "attributes",
    "convolution",
    "create",
    "linear",
    "merge",
    "normalization",
    "opaque",
    "pooling",
    "recurrent",
    "shape",
]
