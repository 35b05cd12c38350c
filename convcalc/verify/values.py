"""Whether a framework's convolution computes what the textbook's formula does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.errors import UsageError
from convcalc.network import Network
from convcalc.ops.convolution import Conv, DepthwiseConv

#: Largest difference allowed, over the reference's largest value.  A float32 sum of n products is
#: off by at most about n x 6e-8; the frameworks' blocked sums stay far below that.  Half precision
#: rounds the result alone to 5e-4 (float16) or 4e-3 (bfloat16).
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}


def tolerance(dtype: str) -> float:
    """The largest difference that counts as equal under a dtype or policy."""
    return TOLERANCE[dtype.removeprefix("mixed_")]


def difference(net: Network, x: Any, weights: Sequence[Any], output: Any) -> float:
    """The largest difference of a convolution's output to the reference, relative to its largest.

    `x`, `output` and the kernel have their channels last, as Keras lays them out, whatever the
    network's layout.

    Raises:
        UsageError: the network is no single convolution.
    """
    import numpy as np

    from convcalc.reference import convolve

    kind = net.ops[0].operator
    if len(net.ops) != 1 or not isinstance(kind, (Conv, DepthwiseConv)):
        raise UsageError("values are compared for one convolution, plain, grouped or depthwise")
    kernel, *bias = (np.asarray(weight, np.float64) for weight in weights)
    groups = x.shape[-1] if isinstance(kind, DepthwiseConv) else kind.groups
    if isinstance(kind, DepthwiseConv):
        kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    wanted = convolve(
        np.asarray(x, np.float64),
        kernel,
        bias[0] if bias else None,
        stride=kind.stride,
        padding=kind.padding,
        dilation=kind.dilation,
        groups=groups,
    )
    found = np.asarray(output, np.float64)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
