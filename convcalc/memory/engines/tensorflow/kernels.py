"""What TensorFlow's CPU kernels need while they run, and how long they take.

Sizes are read in TensorFlow's `core/kernels/conv_grad_filter_ops.cc`, `conv_grad_input_ops.cc`,
`conv_grad_ops_3d.cc` and `maxpooling_op.cc`.  A GPU's kernels have none of this scratch.  Times
decide only which of two workers is free first; their unit is a nanosecond.  They were measured one
kernel at a time (TensorFlow 2.21, oneDNN off, two cores, the least of many runs).
"""

from __future__ import annotations

from convcalc.arithmetic import ceil_div, product

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

#: Nanoseconds from an operation's becoming ready to its being taken by a worker that had gone to
#: sleep (traces: 250 to 290 us).  Counted at inference only: in training, where queues are seldom
#: empty, predictions were no better with it.
WAKE_NS = 250_000.0


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


#: What starting any kernel takes.
START_NS = 4000.0

#: Bytes of its largest operand, weights aside, that a kernel passes over in a nanosecond.
BYTES_PER_NS = 9.0
SPEED = {
    "AvgPoolGrad": 6.0,
    "BatchToSpaceND": 6.0,
    "Erfc": 6.5,
    "Exp": 7.0,
    "Random": 0.57,
    "Select": 4.5,
    "Sigmoid": 4.8,
    "Softmax": 2.2,
    "SoftmaxCrossEntropy": 0.7,
    "SpaceToBatchND": 6.0,
    "SquaredDifference": 5.5,
    "Transpose": 5.0,
}

#: Nanoseconds for each element that a sliding window looks at.  The gradient of a maximum looks for
#: it again, and writes one element at a time.
LOOKED_AT = {
    "MaxPool": 0.13,
    "MaxPoolGrad": 7.0,
    "AvgPool": 0.27,
    "DepthwiseConv": 0.19,
    "DepthwiseBackpropFilter": 0.22,
    "DepthwiseBackpropInput": 0.22,
}

#: Nanoseconds for an element of a dense layer's kernel, which is read once however small the batch.
#: The input's gradient packs it turned; where its rows are a multiple of 2 KiB long, what stands
#: one above the other falls on the same few lines of the cache (2,000 x 2,000: 2.3, 2,048 x 2,048:
#: 5 to 10).  A single sample is a vector, and takes another way.
READ_KERNEL = 0.3
TURN_KERNEL = 1.5
TURN_ALIASED = 8.0
ALIASED_ROW = 512


def passing(primitive: str, largest: int, looked_at: int = 0) -> float:
    """Nanoseconds for an operation.

    Args:
        largest: bytes of its largest operand.
        looked_at: elements that its window looks at, all samples together.
    """
    spent = START_NS + largest / SPEED.get(primitive, BYTES_PER_NS)
    return spent + looked_at * LOOKED_AT.get(primitive, 0.0)


def reading(primitive: str, kernel: tuple[int, ...], batch: int) -> float:
    """Nanoseconds that a dense layer's kernel, inputs x units, takes to be read or written."""
    elements: int = product(kernel)
    if primitive != "MatMulTransposed" or batch == 1:
        return elements * READ_KERNEL
    return elements * (TURN_KERNEL if kernel[-1] % ALIASED_ROW else TURN_ALIASED)


def multiplying(primitive: str, products: int, unfolded: int, kernel: int) -> float:
    """Nanoseconds that the multiply-accumulates of one sample take on two cores.

    Args:
        products: multiply-accumulates.
        unfolded: bytes of the unfolded image, which the filter's gradient first writes.
        kernel: bytes of the kernel, which the input's gradient packs anew for each image.
    """
    if primitive == "Conv2DBackpropFilter":
        return products * 0.034 + unfolded * 0.2
    if primitive == "Conv2DBackpropInput":
        return products * 0.026 + unfolded * 0.05 + kernel * 0.4
    return products * (0.02 if primitive.startswith("MatMul") else 0.026) + unfolded * 0.05
