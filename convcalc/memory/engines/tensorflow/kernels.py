"""What TensorFlow's CPU kernels need while they run, and how long they take.

Sizes are read in TensorFlow's `core/kernels/conv_grad_filter_ops.cc`, `conv_grad_input_ops.cc`,
`conv_grad_ops_3d.cc` and `maxpooling_op.cc`.  A GPU's kernels have none of this scratch.  Times
decide only which of two workers is free first; their unit is a nanosecond, and they are rough on
purpose.
"""

from __future__ import annotations

from convcalc.arithmetic import ceil_div

#: Bytes that a convolution's gradient unfolds of its images at once: the third-level cache, by
#: which the kernels of two dimensions split a batch.
WORKING_SET = 30 * 2**20

#: The same for three dimensions, whose kernels ask the processor: what a server's says of all its
#: third-level caches together.  A notebook says 8 to 32 MiB, and unfolds that many fewer images.
PROCESSOR_CACHE = 256 * 2**20

#: `conv_grad_ops_3d.cc`: nothing is unfolded where that would take more than so many times the
#: elements of input, kernel and output.
MOST_UNFOLDED = 25

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


def unfolded_in_3d(
    positions: int, window: int, filters: int, width: int, tensors: int, one_image: bool
) -> int:
    """Bytes in which a gradient in three dimensions unfolds images.

    Args:
        tensors: elements of input, kernel and output of the whole batch.
        one_image: whether it is the gradient of a single image's input, made in parallel.
    """
    work = positions * window + positions * filters + window * filters
    images: int = 1 if one_image else ceil_div(PROCESSOR_CACHE // width, work)
    elements = images * positions * window
    return 0 if elements // tensors > MOST_UNFOLDED else elements * width


#: Bytes that a plain kernel's largest operand is passed over with in a nanosecond, and what
#: starting any kernel takes.
BYTES_PER_NS = 4.0
START_NS = 4000.0

#: Bytes of other kernels.
SPEED = {
    "Tile": 8.0,
    "MaxPool": 2.0,
    "MaxPoolGrad": 0.6,
    "Random": 1.0,
    "Erfc": 1.0,
    "Sigmoid": 2.0,
    "SoftmaxCrossEntropy": 0.2,
    "DepthwiseConv": 2.0,
    "DepthwiseBackpropFilter": 1.0,
    "DepthwiseBackpropInput": 0.7,
}


def passing(primitive: str, largest: int) -> float:
    """Nanoseconds for an operation whose largest operand has so many bytes."""
    return START_NS + largest / SPEED.get(primitive, BYTES_PER_NS)


def multiplying(primitive: str, products: int, unfolded: int, kernel: int) -> float:
    """Nanoseconds that the multiply-accumulates of one sample take on two cores.

    The filter's gradient first writes all its unfolded images, the input's gradient packs the
    kernel anew for each image; a product with a transposed kernel is slow (a dense layer's input
    gradient: 2 ns measured, where the kernel's takes 0.2 and its update, done meanwhile, has to
    copy the kernel).
    """
    if primitive == "MatMulTransposed":
        return products * 2.0
    if primitive == "Conv2DBackpropFilter":
        return products * 0.02 + unfolded * 0.4
    if primitive == "Conv2DBackpropInput":
        return products * 0.024 + unfolded * 0.05 + kernel * 0.6
    return products * (0.033 if primitive == "MatMul" else 0.025)
