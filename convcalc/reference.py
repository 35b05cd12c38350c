"""The convolution itself, as the textbook writes it: slow, plain and independent of any framework.

The rest of convcalc counts what a convolution costs; this module says what it computes.  The tests
hold it against TensorFlow, PyTorch and ONNX's reference evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcalc.errors import ShapeError, UsageError
from convcalc.ops.window import Slide, slides

PerAxis = int | Sequence[int]
"""One integer for every spatial axis, or one for each."""

Padding = str | int | Sequence[int | tuple[int, int]]
"""A rule's name, so many zeros on all sides, or for each axis a number or (before, after)."""


def convolve(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "same",
    dilation: PerAxis = 1,
    groups: int = 1,
) -> NDArray[np.floating[Any]]:
    """Convolve a batch in one, two or three dimensions, channels last.

    In two dimensions, the output of the neuron in row i and column j of feature map k is

        z[i, j, k] = b[k] + sum over u < f_h, v < f_w, k' < C of x[i', j', k'] * w[u, v, k', k]

        with  i' = i * s_h + u * d_h - p_top
              j' = j * s_w + v * d_w - p_left

    where f_h x f_w is the kernel's size, s the stride, d the dilation (1: the kernel's cells are
    neighbours), p the rows and columns of zeros put before the input, and x is 0 outside of it.
    One dimension has no j and v; three have one pair more.  As in every deep-learning framework the
    kernel is not flipped: mathematics calls this a cross-correlation.

    With g groups, the C channels and the K feature maps are cut into g runs of equal length, and a
    feature map sees only the channels of its own run: k' counts from the run's first.  A depthwise
    convolution is ``groups=C``; TensorFlow's depthwise kernel (f_h, f_w, C, multiplier) then is
    ``kernel.reshape(f_h, f_w, 1, C * multiplier)``.

    Args:
        x: the input, (N, length, C), (N, height, width, C) or (N, depth, height, width, C).
        kernel: the weights w, (f, C / groups, K), (f_h, f_w, C / groups, K) or
            (f_d, f_h, f_w, C / groups, K).
        bias: one number for each feature map, (K,); None: 0.
        stride: from one neuron's window to the next one's, in input cells.
        padding: ``"same"``, TensorFlow's rule: as many zeros as give ceil(size / stride) outputs,
            the odd one after the input (``"same_lower"``: before it); ``"valid"``: none;
            ``"causal"``: all of them before the input, so that no output depends on a later input;
            an integer: so many on all sides; or a number or a pair (before, after) for each axis.
        dilation: from one of the kernel's cells to the next, in input cells.
        groups: the number of groups; it divides C and K.

    Returns:
        The feature maps z, (N, ..., K).  Summed up in float64, then rounded to the floating-point
        type that NumPy gives x and kernel together; float64 if both hold integers.

    Raises:
        UsageError: shapes that do not fit together, a stride or dilation below 1, negative padding,
            a kernel larger than the padded input, values that are not real numbers.

    >>> convolve([[[1.0], [2.0], [3.0]]], [[[1.0]], [[10.0]]], padding="valid")[0, :, 0].tolist()
    [21.0, 32.0]
    """
    x = _real("the input", x)
    kernel = _real("the kernel", kernel)
    _check_shapes(x.shape, kernel.shape, groups)
    window, channels, maps = kernel.shape[:-2], x.shape[-1], kernel.shape[-1]
    axes = geometry(x.shape[1:-1], window, stride=stride, dilation=dilation, padding=padding)

    padded = np.pad(x, [(0, 0), *((axis.before, axis.after) for axis in axes), (0, 0)])
    z = np.zeros((x.shape[0], *(axis.output for axis in axes), maps))
    for group in range(groups):
        # This group's input channels k' and feature maps k.
        sees = slice(group * channels // groups, (group + 1) * channels // groups)
        makes = slice(group * maps // groups, (group + 1) * maps // groups)
        for cell in product(*map(range, window)):  # (u, v)
            # x[i', j', k'] for every neuron (i, j) at once; the product is the sum over k'.
            seen = padded[(slice(None), *map(_positions, cell, axes), sees)]
            z[..., makes] += seen @ kernel[cell][:, makes].astype(np.float64)
    if bias is not None:
        b = _real("the bias", bias)
        if b.shape != (maps,):
            raise UsageError(f"the bias has shape {b.shape}: {maps} feature maps need ({maps},)")
        z += b
    dtype = np.result_type(x, kernel)
    return z.astype(dtype if np.issubdtype(dtype, np.floating) else np.float64)


def geometry(
    size: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "same",
    dilation: PerAxis = 1,
) -> tuple[Slide, ...]:
    """How a kernel of `window` cells moves over `size` cells, along each spatial axis.

    `stride`, `padding` and `dilation` are what `convolve` takes.

    Raises:
        UsageError: one of them makes no sense, or the kernel is larger than the padded input.
    """
    try:
        return slides(
            tuple(size), tuple(window), _frozen(stride), _frozen(dilation), _frozen(padding)
        )
    except ShapeError as error:
        raise UsageError(str(error)) from None


def _positions(cell: int, axis: Slide) -> slice:
    """Where the kernel's `cell` stands in the padded input, for each output along `axis`."""
    first = cell * axis.dilation
    return slice(first, first + (axis.output - 1) * axis.stride + 1, axis.stride)


def _frozen(value: Any) -> Any:
    """Lists and arrays as tuples of Python numbers, the rest as it is."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _real(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise UsageError(f"{name} is ragged: its rows differ in length") from None
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{name} must hold real numbers, not {array.dtype}")
    return array


def _check_shapes(x: tuple[int, ...], kernel: tuple[int, ...], groups: int) -> None:
    if len(x) not in (3, 4, 5):
        raise UsageError(
            f"the input has shape {x}: expected (N, length, C), (N, height, width, C) or "
            "(N, depth, height, width, C)"
        )
    if len(kernel) != len(x):
        raise UsageError(
            f"the kernel has shape {kernel}: for an input of shape {x} it needs {len(x)} axes, "
            "the spatial ones, then channels / groups, then feature maps"
        )
    if 0 in x[1:] + kernel:
        raise UsageError(f"no axis of input {x} and kernel {kernel} may be empty, but the batch")
    channels, maps = x[-1], kernel[-1]
    if groups < 1 or channels % groups or maps % groups:
        raise UsageError(
            f"{groups} groups do not divide {channels} input channels and {maps} feature maps"
        )
    if kernel[-2] * groups != channels:
        raise UsageError(
            f"the kernel takes {kernel[-2]} channels in each of {groups} groups, "
            f"the input has {channels}: expected {channels // groups}"
        )
