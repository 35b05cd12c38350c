"""What TensorFlow's CPU kernels need while they run, and how long they take.

Sizes are read in TensorFlow's `core/kernels/conv_grad_filter_ops.cc`, `conv_grad_input_ops.cc` and
`maxpooling_op.cc`.  A GPU's kernels have none of this scratch.  Times decide only which of two
workers is free first; their unit is a nanosecond, and they are rough on purpose.
"""

from __future__ import annotations

from convcalc.arithmetic import ceil_div

#: Bytes that a convolution's gradient unfolds of its images at once: the third-level cache, by
#: which the kernels split a batch (30 MiB, a server's; they ask the processor).
WORKING_SET = 30 * 2**20

#: `conv_grad_input_ops.cc`: above so many elements of work for each thread one image at a time is
#: unfolded, and the product itself runs in parallel.
PARALLEL_WORK = 64 * 1024

#: Threads within an operator, and operators that run side by side: TensorFlow takes the cores.
INTRA_THREADS = 2
WORKERS = 2


def unfolded_for_filter(positions: int, window: int, filters: int, width: int) -> int:
    """Bytes in which the filter's gradient unfolds images, whatever the batch.

    Each image becomes `positions` rows of `window` elements (kernel x input channels); as many
    images are unfolded at once as make their products fill the cache, even if there are fewer.
    """
    work = positions * window + positions * filters + window * filters
    images: int = ceil_div(WORKING_SET // width, work)
    return images * positions * window * width


def unfolded_for_input(
    positions: int, window: int, filters: int, width: int, one_image: bool
) -> int:
    """Bytes in which the input's gradient is made before it is folded back."""
    work = positions * window + positions * filters + window * filters
    if one_image or work // INTRA_THREADS >= PARALLEL_WORK:
        return positions * window * width
    images: int = ceil_div(WORKING_SET // width, work)
    return images * positions * window * width


#: Bytes that an element-wise kernel moves in a nanosecond, and what starting any kernel takes.
BYTES_PER_NS = 4.0
START_NS = 4000.0

#: Nanoseconds for a multiply-accumulate.
PRODUCT_NS = {
    "Conv": 0.025,
    "Conv2DBackpropFilter": 0.035,
    "Conv2DBackpropInput": 0.035,
    "DepthwiseConv": 0.5,
    "DepthwiseBackpropFilter": 1.0,
    "DepthwiseBackpropInput": 1.0,
    "MatMul": 0.035,
}

#: How much slower than a plain element-wise kernel some are.
SLOWNESS = {"MaxPoolGrad": 8.0, "MaxPool": 2.0, "Erfc": 4.0, "Sigmoid": 2.0, "Random": 4.0}


def duration(primitive: str, moved: int, products: int) -> float:
    """Nanoseconds for an operation that reads and writes `moved` bytes."""
    return (
        START_NS
        + moved / BYTES_PER_NS * SLOWNESS.get(primitive, 1.0)
        + products * PRODUCT_NS.get(primitive, 0.0)
    )
