"""What each operator takes, keeps for its gradient, and takes on the way back.

From derivatives.yaml and the functions that it names (PyTorch 2.13), and from the tracker's own
events on networks of one operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from convcalc.arithmetic import product
from convcalc.memory.engines.torch import optimizers
from convcalc.memory.engines.torch.autocast import WIDE
from convcalc.memory.engines.torch.layout import (
    apart,
    pool_mode,
    transposed_directly,
)
from convcalc.memory.engines.torch.lowering import SCALAR, EagerLowering
from convcalc.memory.job import CROSS_ENTROPY
from convcalc.memory.lowering import Call, Lowering, Rules
from convcalc.memory.program import Size, Value
from convcalc.ops.base import axis_of, per_axis
from convcalc.tensors import TensorSpec


class Eager(Rules):
    """Eager PyTorch's rules."""

    def loss(self, lowering: Lowering, name: str, output: Value) -> Value | None:
        """Forward and backward of one output's loss; the new loss takes the last one's place."""
        low = cast(EagerLowering, lowering)
        labels, width = low.labels[name], low.loss_width
        new_loss = [Size(width)]
        program, phase = low.program, low.phase

        def value(spec: TensorSpec) -> Value:
            return Value(spec, low.job.width, "activations", "", "loss")

        def node(primitive: str, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
            program.add(primitive, inputs, outputs, layer="loss", phase=phase, scratch=new_loss)

        spec = output.spec
        root = low.root
        if root is None:
            root = low.root = Value(SCALAR, width, "gradients", "loss gradient", "loss")
        entropy = low.losses[name] == CROSS_ENTROPY
        wide = spec._replace(dtype=WIDE) if low.job.mixed and spec.dtype == "float" else spec
        read = output
        if wide != spec and not (entropy and low.gpu):
            # Under autocast a loss reads float32; CUDA's log-softmax writes it without a copy.
            read = value(wide)
            low.loss_node("to", [output], [read])
        if entropy:
            # The logits are the caller's until both have run.
            kept, weight = value(wide), Value(SCALAR, width, "activations", "total weight", "loss")
            low.loss_node("_log_softmax", [read, output], [kept])
            node("nll_loss_forward", [kept, labels, output, read], [weight])
        else:
            node("mse_loss", [read, labels, output], [])
        low.leave_autocast()
        if root.node is None:
            low.loss_node("ones_like", [], [root])
        if entropy:
            by_log, gradient = value(wide), value(spec if read is output else wide)
            low.loss_node("nll_loss_backward", [root, kept, labels, weight], [by_log])
            low.loss_node("_log_softmax_backward_data", [by_log, kept], [gradient])
        else:
            gradient = value(wide)
            low.loss_node("mse_loss_backward", [root, read, labels], [gradient])
        if read is not output:
            narrow = value(spec)
            low.loss_node("to", [gradient], [narrow])
            gradient = narrow
        return gradient

    def accumulate(self, lowering: Lowering, name: str, parts: Sequence[Value]) -> Value:
        """Two gradients become a new tensor."""
        spec = lowering.net.tensors[name]._replace(dtype=parts[0].spec.dtype)
        total = Value(spec, lowering.job.width, "activations", f"gradient of {name}", name)
        lowering.program.add("add", parts, [total], layer=name, phase=lowering.phase)
        return total

    def finish(self, lowering: Lowering) -> None:
        """The optimizer's step."""
        optimizers.step(cast(EagerLowering, lowering))


def low_of(call: Call) -> EagerLowering:
    """The lowering, as what it is here."""
    return cast(EagerLowering, call.lowering)


def moved(call: Call) -> bool:
    """Whether the op reads channels first what the network has channels last."""
    return low_of(call).layout.wanted[call.op.name]


def strided(call: Call) -> bool:
    """Whether the first input, as the op reads it, lies in memory in another order than its axes.

    `strided` of a tensor says that of the order in which it is held.
    """
    low = low_of(call)
    name = call.op.inputs[0]
    turned = len(call.ins[0].dims) > 2 and (name in low.layout.moved) != moved(call)
    return low.strided.get(name, False) != turned


def result(call: Call, *values: Value, strides: bool = False) -> None:
    """The op's results; `strides` as `strided` has it."""
    call.result(*values)
    for place in range(len(values)):
        low_of(call).strided[call.op.output(place)] = strides


def stats(call: Call, elements: int, per_sample: bool = False) -> Value:
    """Statistics, which are float32 whatever the activations are (float64 stays)."""
    batch = 0 if per_sample else None
    dtype = "float64" if call.lowering.job.width == 8 else "float32"
    return call.value(TensorSpec((elements,), dtype, batch))


def small(call: Call, shape: Sequence[int], dtype: str = "float", batch: int | None = 0) -> Value:
    """A temporary of another shape than the op's tensors."""
    return call.value(TensorSpec(tuple(shape), dtype, batch))


def same_back(call: Call, name: str, keep: Sequence[Value]) -> None:
    """The gradient of a one-input op: one new tensor, made from what was kept."""

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None and call.needs(0):
            call.give(0, call.emit(name, [dy, *keep], call.ins[0]))


def pass_on(call: Call) -> None:
    """Nothing happens to the memory, there and back."""
    made = call.x[0]
    out = call.outs[0]
    if made.spec != out:
        made = call.emit("view", [made], out, alias=True)
    result(call, made, strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None and call.needs(0):
            call.give(0, dy)


@Eager.rule("conv", "depthwise_conv")
def conv(call: Call) -> None:
    """The input is kept, by padding's sides that differ the padded one."""
    kind, x, spec = call.operator, call.x[0], call.ins[0]
    if call.op.operator.type == "depthwise_conv":
        kind = kind.plain(spec)
    if len(call.x) > 1:
        Eager.default(Eager(), call)
        return
    slides = kind.slides(spec)
    _, extra = apart(slides)
    padded = spec
    if extra is not None:
        padded = grown(spec, [s.before + s.after for s in slides], kind.channels_first)
        x = call.emit("constant_pad_nd", [x], padded)
    y = call.emit("convolution", [x, *call.w.values()], call.outs[0])
    result(call, y, strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        dx = convolution_backward(call, dy, x, padded)
        if dx is not None and extra is not None:
            dx = call.emit("constant_pad_nd", [dx], spec)
        if dx is not None:
            call.give(0, dx)


def grown(spec: TensorSpec, more: Sequence[int], channels_first: bool) -> TensorSpec:
    """An image with more positions along its spatial axes."""
    start = 2 if channels_first else 1
    dims = list(spec.dims)
    for axis, extra in enumerate(more, start):
        dims[axis] += extra
    return spec._replace(shape=tuple(dims))


def convolution_backward(call: Call, dy: Value | None, x: Value, spec: TensorSpec) -> Value | None:
    """One node makes the gradients of input, kernel and bias; back comes the input's."""
    if dy is None:
        return None
    dx = call.value(spec) if call.needs(0) else None
    weights = weight_gradients(call)
    outputs = [*([dx] if dx is not None else []), *weights.values()]
    if outputs:
        call.node("convolution_backward", [dy, x, call.w["kernel"]], outputs)
    for name, value in weights.items():
        call.give_weight(name, in_variables_order(call, value) if name == "kernel" else value)
    return dx


def in_variables_order(call: Call, gradient: Value) -> Value:
    """A kernel's gradient with the strides of the kernel, which `.grad` must have: perhaps a copy.

    Of an image that lies channels last in memory the kernel's gradient does, too.
    """
    *window, seen, _ = gradient.spec.dims
    if not strided(call) or len(window) < 2 or seen == 1 or product(window) == 1:
        return gradient
    width = call.lowering.job.variable_width
    copy = Value(gradient.spec, width, "gradients", gradient.name, call.layer)
    call.node("new_empty_strided", [gradient], [copy])
    return copy


def weight_gradients(call: Call) -> dict[str, Value]:
    """New tensors for the gradients of the op's variables."""
    job = call.lowering.job
    # The gradient of a copy in 16 bits has 16 bits.
    width = job.width if getattr(call, "stored", None) else job.variable_width
    return {
        name: Value(variable.spec, width, "gradients", variable.name, call.layer)
        for name, variable in call.w.items()
        if call.trains(name)
    }


@Eager.rule("conv_transpose")
def conv_transpose(call: Call) -> None:
    """As a convolution; where it cannot crop by itself, a larger result and a view of it."""
    kind, x, spec = call.operator, call.x[0], call.ins[0]
    first = kind.channels_first
    sizes = spec.dims[2:] if first else spec.dims[1:-1]
    rank = len(sizes)
    kernel = per_axis(kind.kernel, rank, "kernel")
    stride = per_axis(kind.stride, rank, "stride")
    dilation = per_axis(kind.dilation, rank, "dilation")
    found = kind.sizes(spec)
    direct = transposed_directly(sizes, kernel, stride, dilation, found) is not None
    out = call.outs[0]
    whole = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(sizes, stride, dilation, kernel, strict=True)
    ]
    full = out if direct else with_sizes(out, whole, first)
    y = call.emit("convolution", [x, *call.w.values()], full)
    if direct:
        result(call, y, strides=strided(call))
    else:
        result(call, call.emit("slice", [y], out, alias=True), strides=True)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None and not direct:
            dy = uncropped(call, dy, full, out, first)
        dx = convolution_backward(call, dy, x, spec)
        if dx is not None:
            call.give(0, dx)


def with_sizes(spec: TensorSpec, sizes: Sequence[int], channels_first: bool) -> TensorSpec:
    """An image of other spatial sizes."""
    dims = spec.dims
    shape = (*dims[:2], *sizes) if channels_first else (dims[0], *sizes, dims[-1])
    return spec._replace(shape=tuple(shape))


def uncropped(
    call: Call, dy: Value, full: TensorSpec, out: TensorSpec, channels_first: bool
) -> Value:
    """The gradient of a slice along each axis that was cut, the last axis first: zeros around."""
    start = 2 if channels_first else 1
    dims = list(out.dims)
    for axis in reversed(range(start, start + len(dims) - 2)):
        if dims[axis] != full.dims[axis]:
            dims[axis] = full.dims[axis]
            dy = call.emit("slice_backward", [dy], out._replace(shape=tuple(dims)))
    return dy


@Eager.rule("crop")
def crop(call: Call) -> None:
    """A view."""
    spec, out = call.ins[0], call.outs[0]
    result(call, call.emit("slice", [call.x[0]], out, alias=True), strides=True)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None and call.needs(0):
            call.give(0, uncropped(call, dy, spec, out, call.operator.channels_first))


@Eager.rule("dense")
def dense(call: Call) -> None:
    """The input is kept; of an image it is a matrix of rows, copied where it is a permuted view."""
    x, spec, out = call.x[0], call.ins[0], call.outs[0]
    if strided(call) and len(spec.dims) > 2:
        x = call.emit("clone", [x], spec)
        y = call.emit("mm", [x, call.w["kernel"], call.x[0]], out)
        if "bias" in call.w:
            y = call.emit("add", [y, call.w["bias"], call.x[0]], out)
        result(call, y)
        rows_back(call, x)
        return
    y = call.emit("addmm" if "bias" in call.w else "mm", [x, *call.w.values()], out)
    result(call, y)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        made = weight_gradients(call)
        dx = call.emit("mm", [dy, call.w["kernel"]], spec) if call.needs(0) else None
        # One node: what it reads is there until all three have been made.
        if "kernel" in made:
            call.node("mm", [dy, x], [made["kernel"]])
        if "bias" in made:
            call.node("sum", [dy, x], [made["bias"]])
        if dx is not None:
            call.give(0, dx)
        for name, value in made.items():
            call.give_weight(name, value)


def rows_back(call: Call, x: Value) -> None:
    """The gradient of a product of rows with the sum behind it: two nodes, the sum's first."""

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        made = weight_gradients(call)
        if "bias" in made:
            call.node("sum", [dy], [made["bias"]])
        if "kernel" in made:
            call.node("mm", [dy, x], [made["kernel"]])
        if call.needs(0):
            call.give(0, call.emit("mm", [dy, call.w["kernel"], x], call.ins[0]))
        for name, value in made.items():
            call.give_weight(name, value)


@Eager.rule("batch_norm")
def batch_norm(call: Call) -> None:
    """The input is kept, with mean and inverse deviation of the batch."""
    x, spec = call.x[0], call.ins[0]
    channels = spec.dims[axis_of(call.operator.axis, len(spec.dims))]
    y = call.value(spec)
    kept: list[Value] = []
    if call.training or low_of(call).gpu:  # on a CPU they are empty at inference
        kept = [stats(call, channels), stats(call, channels)]
    call.node("native_batch_norm", [x, *call.w.values()], [y, *kept])
    result(call, y, strides=strided(call))
    normalized_back(call, "native_batch_norm_backward", [x, *kept])


def normalized_back(call: Call, name: str, kept: Sequence[Value]) -> None:
    """One node makes the gradients of input, scale and shift."""

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        made = weight_gradients(call)
        # It makes the input's whether or not anybody asks for it.
        dx = call.value(call.ins[0])
        call.node(name, [dy, *kept], [dx, *made.values()])
        call.give(0, dx)
        for key, value in made.items():
            call.give_weight(key, value)


@Eager.rule("layer_norm")
def layer_norm(call: Call) -> None:
    """The input is kept, with mean and inverse deviation of each row."""
    x, spec = call.x[0], call.ins[0]
    rank = len(spec.dims)
    axes = call.operator.axes if isinstance(call.operator.axes, tuple) else (call.operator.axes,)
    gone = {axis_of(axis, rank) for axis in axes}
    rows = product(n for i, n in enumerate(spec.dims) if i not in gone)
    y, kept = call.value(spec), [stats(call, rows, True), stats(call, rows, True)]
    call.node("native_layer_norm", [x, *call.w.values()], [y, *kept])
    result(call, y)
    normalized_back(call, "native_layer_norm_backward", [x, *kept])


@Eager.rule("group_norm")
def group_norm(call: Call) -> None:
    """The input is kept, with mean and inverse deviation of each sample's groups."""
    x, spec = call.x[0], call.ins[0]
    channels = spec.dims[axis_of(call.operator.axis, len(spec.dims))]
    groups = channels if call.operator.groups == -1 else call.operator.groups
    y, kept = call.value(spec), [stats(call, groups, True), stats(call, groups, True)]
    call.node("native_group_norm", [x, *call.w.values()], [y, *kept])
    result(call, y)
    normalized_back(call, "native_group_norm_backward", [x, *kept])


@Eager.rule("rms_norm")
def rms_norm(call: Call) -> None:
    """On a GPU one kernel that keeps its input and an inverse root for each row."""
    axes = call.operator.axes if isinstance(call.operator.axes, tuple) else (call.operator.axes,)
    rows = with_ones(call.ins[0], axes)
    if not low_of(call).gpu:
        composed_rms_norm(call, rows)
        return
    y, root = call.value(call.ins[0]), stats(call, product(rows.dims), True)
    call.node("_fused_rms_norm", [call.x[0], *call.w.values()], [y, root])
    result(call, y)
    normalized_back(call, "_fused_rms_norm_backward", [call.x[0], root])


def with_ones(spec: TensorSpec, axes: Sequence[int]) -> TensorSpec:
    """What is left of a tensor after a reduction that keeps the axes."""
    gone = {axis_of(axis, len(spec.dims)) for axis in axes}
    return spec._replace(shape=tuple(1 if i in gone else n for i, n in enumerate(spec.dims)))


def composed_rms_norm(call: Call, rows: TensorSpec) -> None:
    """The square's mean, its inverse root, and two products, each with its gradient."""
    x, spec = call.x[0], call.ins[0]
    square = call.emit("pow", [x], spec)
    root = call.emit("rsqrt", [call.emit("mean", [square], rows), square], rows)
    scaled = call.emit("mul", [x, root], spec)
    gamma = call.w.get("gamma")
    y = scaled if gamma is None else call.emit("mul", [scaled, gamma, x], spec)
    if strided(call):
        y = call.emit("clone", [y, x], spec)
    result(call, y)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        if gamma is not None:
            inner = call.emit("mul", [dy, gamma], spec)
            if call.trains("gamma"):
                whole = call.emit("mul", [dy, scaled], spec)
                call.give_weight("gamma", call.weight_gradient("gamma", [whole, dy, scaled]))
            dy = inner
        direct = call.emit("mul", [dy, root], spec)
        whole = call.emit("mul", [dy, x], spec)
        back = call.emit("sum", [whole, dy, x, root], rows)
        call.give(0, direct)
        power = call.emit("pow", [root], rows)
        half = call.emit("mul", [back], rows)
        back = call.emit("mul", [half, power, back, root], rows)
        spread = call.emit("div", [back], spec)
        power = call.emit("pow", [x], spec)
        twice = call.emit("mul", [power], spec)
        call.give(0, call.emit("mul", [spread, twice, power, x], spec))


@Eager.rule("unit_norm")
def unit_norm(call: Call) -> None:
    """F.normalize: a norm, its lower bound, and a quotient."""
    x, spec = call.x[0], call.ins[0]
    axes = call.operator.axis if isinstance(call.operator.axis, tuple) else (call.operator.axis,)
    rows = with_ones(spec, axes)
    norm = call.emit("linalg_vector_norm", [x], rows)
    bound = call.emit("clamp_min", [norm], rows)
    result(call, call.emit("div", [x, bound], spec), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        direct, back = quotient_back(call, dy, x, bound)
        if direct is not None:
            call.give(0, direct)
        assert back is not None
        back = call.emit("where", [call.emit("sum", [back], rows), norm], rows)
        share = call.emit("div", [x, back], spec)
        call.give(0, call.emit("mul", [share, back, norm, x], spec))


@Eager.rule("scale")
def scale(call: Call) -> None:
    """A product with a variable: the input is kept."""
    x, gamma = call.x[0], call.w["gamma"]
    result(call, call.emit("mul", [x, gamma], call.outs[0]), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        dx = call.emit("mul", [dy, gamma], call.ins[0]) if call.needs(0) else None
        if call.trains("gamma"):
            whole = call.emit("mul", [dy, x], call.ins[0])
            call.give_weight("gamma", call.weight_gradient("gamma", [whole, dy, x]))
        if dx is not None:
            call.give(0, dx)


@Eager.rule("prelu")
def prelu(call: Call) -> None:
    """The input is kept; the slopes' gradient is first as large as the input."""
    x, alpha, spec = call.x[0], call.w["alpha"], call.ins[0]
    channels = spec.dims[-1] if moved(call) or len(spec.dims) < 3 else spec.dims[1]
    if [n for n in alpha.spec.dims if n != 1] not in ([], [channels]):
        prelu_everywhere(call)
        return
    result(call, call.emit("_prelu_kernel", [x, alpha], call.outs[0]), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        dx, whole = call.value(spec), call.value(spec)
        call.node("_prelu_kernel_backward", [dy, x, alpha], [dx, whole])
        if call.trains("alpha"):
            call.give_weight("alpha", call.weight_gradient("alpha", [whole, dy, x]))
        call.give(0, dx)


def prelu_everywhere(call: Call) -> None:
    """Slopes of their own at each place: relu(x) - slope * relu(-x)."""
    x, alpha, spec = call.x[0], call.w["alpha"], call.outs[0]
    above = call.emit("relu", [x], spec)
    below = call.emit("relu", [call.emit("neg", [x], spec)], spec)
    part = call.emit("mul", [below, alpha], spec)
    result(call, call.emit("sub", [above, part, x], spec), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        negative = call.emit("neg", [dy], spec)
        inner = call.emit("mul", [negative, alpha], spec)
        whole = call.emit("mul", [negative, below], spec)
        if call.trains("alpha"):
            call.give_weight("alpha", call.weight_gradient("alpha", [whole, negative, below]))
        back = call.emit("threshold_backward", [inner, below], spec)
        call.give(0, call.emit("neg", [back], spec))
        call.give(0, call.emit("threshold_backward", [dy, above], spec))


#: Functions whose gradient is made from their result, and those where it is from their input.
FROM_RESULT = {
    "relu": ("relu", "threshold_backward"),
    "sigmoid": ("sigmoid", "sigmoid_backward"),
    "tanh": ("tanh", "tanh_backward"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "log_softmax": ("_log_softmax", "_log_softmax_backward_data"),
    "exponential": ("exp", "mul"),
}
FROM_INPUT = {
    "celu": ("elu", "elu_backward"),
    "elu": ("elu", "elu_backward"),
    "gelu": ("gelu", "gelu_backward"),
    "glu": ("glu", "glu_backward"),
    "hard_shrink": ("hardshrink", "hardshrink_backward"),
    "hard_sigmoid": ("hardsigmoid", "hardsigmoid_backward"),
    "hard_silu": ("hardswish", "hardswish_backward"),
    "hard_swish": ("hardswish", "hardswish_backward"),
    "hard_tanh": ("hardtanh", "hardtanh_backward"),
    "leaky_relu": ("leaky_relu", "leaky_relu_backward"),
    "mish": ("mish", "mish_backward"),
    "relu6": ("hardtanh", "hardtanh_backward"),
    "selu": ("elu", "elu_backward"),
    "silu": ("silu", "silu_backward"),
    "soft_shrink": ("softshrink", "softshrink_backward"),
    "softplus": ("softplus", "softplus_backward"),
    "swish": ("silu", "silu_backward"),
    "threshold": ("threshold", "threshold_backward"),
}


@Eager.rule("activation")
def activation(call: Call) -> None:
    """One new tensor there and one back; the input or the result is kept."""
    name = call.operator.function
    if name == "linear" or low_of(call).takes_logits(call.op):
        pass_on(call)
        return
    if name in ("softsign", "tanh_shrink", "squareplus"):
        composed(call, name)
        return
    if name == "log_sigmoid":
        log_sigmoid(call)
        return
    if name not in FROM_RESULT and name not in FROM_INPUT:
        Eager.default(Eager(), call)
        return
    forward, backward = (FROM_RESULT if name in FROM_RESULT else FROM_INPUT)[name]
    y = call.emit(forward, [call.x[0]], call.outs[0])
    result(call, y, strides=strided(call))
    same_back(call, backward, [y if name in FROM_RESULT else call.x[0]])


def log_sigmoid(call: Call) -> None:
    """The input is kept, and on a CPU a buffer."""
    made = [call.value(call.outs[0])]
    if not low_of(call).gpu:
        made.append(call.value(call.outs[0]))
    call.node("log_sigmoid_forward", [call.x[0]], made)
    result(call, made[0], strides=strided(call))
    same_back(call, "log_sigmoid_backward", [call.x[0], *made[1:]])


def composed(call: Call, name: str) -> None:
    """Activations that PyTorch makes of several operations."""
    {"softsign": softsign, "tanh_shrink": tanh_shrink, "squareplus": squareplus}[name](call)


def softsign(call: Call) -> None:
    """x / (1 + |x|)"""
    x, spec = call.x[0], call.outs[0]
    divisor = call.emit("add", [call.emit("abs", [x], spec)], spec)
    result(call, call.emit("div", [x, divisor], spec), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        up, down = quotient_back(call, dy, x, divisor)
        assert up is not None
        assert down is not None
        call.give(0, up)
        sign = call.emit("sgn", [x], spec)
        call.give(0, call.emit("mul", [down, sign], spec))


def tanh_shrink(call: Call) -> None:
    """x - tanh(x)"""
    x, spec = call.x[0], call.outs[0]
    inner = call.emit("tanh", [x], spec)
    result(call, call.emit("sub", [x, inner], spec), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        call.give(0, dy)
        negative = call.emit("neg", [dy], spec)
        call.give(0, call.emit("tanh_backward", [negative, inner], spec))


def squareplus(call: Call) -> None:
    """(x + sqrt(x x + 4)) / 2"""
    x, spec = call.x[0], call.outs[0]
    square = call.emit("mul", [x], spec)
    root = call.emit("sqrt", [call.emit("add", [square], spec)], spec)
    twice = call.emit("add", [x, root], spec)
    result(call, call.emit("div", [twice, x], spec), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        half = call.emit("div", [dy], spec)
        call.give(0, half)
        double = call.emit("mul", [root], spec)
        back = call.emit("div", [half, double, root], spec)
        left, right = call.emit("mul", [back, x], spec), call.emit("mul", [back, x], spec)
        call.give(0, left)
        call.give(0, right)


#: Functions of an element: whether the gradient is made from the result or from the input, and the
#: tensors that are made on the way, each there until the gradient is.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "abs": ("input", ("sgn",)),
    "cos": ("input", ("sin", "neg")),
    "exp": ("result", ()),
    "expm1": ("result", ("add",)),
    "log": ("input", ()),
    "log1p": ("input", ("add",)),
    "pow": ("input", ("pow", "mul")),
    "power": ("input", ("pow", "mul")),
    "reciprocal": ("result", ("mul", "neg")),
    "rsqrt": ("result", ("pow", "mul")),
    "sigmoid": ("result", ()),
    "sin": ("input", ("cos",)),
    "sqrt": ("result", ("mul",)),
    "square": ("input", ("pow", "mul")),
    "tanh": ("result", ()),
    **dict.fromkeys(("multiply", "divide", "true_divide", "neg", "negative"), ("", ())),
    **dict.fromkeys(("sign", "round", "floor", "ceil"), ("", ())),
}


@Eager.rule("function")
def function(call: Call) -> None:
    """A function of each element, perhaps with a constant."""
    name, x, spec = call.operator.name, call.x[0], call.outs[0]
    y = call.emit(name, [x], spec)
    result(call, y, strides=strided(call))
    source, steps = FUNCTIONS.get(name, ("input", ()))
    kept = {"result": [y], "input": [x]}.get(source, [])

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        if name in ("add", "subtract"):
            call.give(0, dy)
            return
        made: list[Value] = []
        for step in steps:
            made.append(call.emit(step, [*kept, *made], spec))
        call.give(0, call.emit("mul", [dy, *kept, *made], spec))


@Eager.rule("rescale")
def rescale(call: Call) -> None:
    """A product and a sum with constants."""
    spec = call.outs[0]
    inner = call.emit("mul", [call.x[0]], spec)
    result(call, call.emit("add", [inner, call.x[0]], spec), strides=strided(call))
    same_back(call, "mul", [])


@Eager.rule("standardize")
def standardize(call: Call) -> None:
    """The difference to the mean over the deviation."""
    spec = call.outs[0]
    inner = call.emit("sub", [call.x[0], *call.w.values()], spec)
    root = []
    if "variance" in call.w:
        root = [call.emit("sqrt", [call.w["variance"]], call.w["variance"].spec)]
    result(call, call.emit("div", [inner, *root, call.x[0]], spec), strides=strided(call))
    same_back(call, "div", root)


@Eager.rule("dropout")
def dropout(call: Call) -> None:
    """A mask is kept: bytes on a GPU, floats on a CPU; with a noise shape, one of that shape."""
    if not call.training or not call.operator.rate:
        pass_on(call)
        return
    x, spec = call.x[0], call.outs[0]
    noise = call.operator.noise_shape
    if noise is not None:
        known = [n if m is None else m for n, m in zip(spec.dims, noise, strict=True)]
        mask = small(call, known, batch=spec.batch_axis)
        call.node("new_empty", [], [mask])
        y = call.emit("mul", [x, mask], spec)
        back = "mul"
    elif low_of(call).gpu:
        y, mask = call.value(spec), call.value(spec._replace(dtype="bool"))
        call.node("native_dropout", [x], [y, mask])
        back = "native_dropout_backward"
    else:
        mask = call.emit("empty_like", [], spec)
        y = call.emit("mul", [x, mask], spec)
        back = "mul"
    result(call, y, strides=strided(call))
    same_back(call, back, [mask])


@Eager.rule("noise")
def noise(call: Call) -> None:
    """A sum with a random tensor, in training."""
    if not call.training:
        pass_on(call)
        return
    spec = call.outs[0]
    random = call.emit("randn_like", [], spec)
    result(call, call.emit("add", [call.x[0], random], spec), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None:
            call.give(0, dy)


@Eager.rule("identity", "spectral_norm", "expand_dims", "squeeze")
def nothing(call: Call) -> None:
    """A view, or the tensor itself."""
    pass_on(call)


@Eager.rule("permute")
def permute(call: Call) -> None:
    """A view whose axes are no longer in the order of memory."""
    result(call, call.emit("permute", [call.x[0]], call.outs[0], alias=True), strides=True)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None:
            call.give(0, dy)


@Eager.rule("flatten", "reshape")
def reshape(call: Call) -> None:
    """A view, or a copy where axes are put together that do not follow each other in memory."""
    spec, out = call.ins[0], call.outs[0]
    dims = spec.dims
    copied = strided(call) and not viewable(dims[1:], channels_in_front(dims[1:]), out.dims[1:])
    if copied:
        y = call.emit("clone", [call.x[0]], out)
    else:
        y = call.emit("view", [call.x[0]], out, alias=True)
    result(call, y, strides=strided(call) and not copied)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None:
            call.give(0, dy)


def channels_in_front(sizes: Sequence[int]) -> list[int]:
    """Strides of a sample whose last axis stands in front of the others in memory."""
    strides, step = [], 1
    for size in reversed(sizes[:-1]):
        strides.append(step)
        step *= size
    return [*reversed(strides), step]


def viewable(sizes: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor of other sizes can share the memory (ATen/TensorUtils, computeStride)."""
    axes = [(n, step) for n, step in zip(sizes, strides, strict=True) if n > 1]
    wanted = [n for n in target if n > 1]
    while axes:
        # A run of axes that follow each other in memory is one axis to any view.
        size, step = axes.pop()
        while axes and axes[-1][1] == size * step:
            size *= axes.pop()[0]
        taken = 1
        while wanted and taken < size:
            taken *= wanted.pop()
        if taken != size:
            return False
    return True


@Eager.rule("slice")
def cut(call: Call) -> None:
    """A strided view; backwards, a copy."""
    forwards = call.operator.step > 0
    y = call.emit("slice", [call.x[0]], call.outs[0], alias=forwards)
    result(call, y, strides=forwards)
    if not forwards:
        same_back(call, "slice_backward", [])
        return

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None and call.needs(0):
            whole = call.ins[0].dims == call.outs[0].dims
            call.give(0, dy if whole else call.emit("slice_backward", [dy], call.ins[0]))


@Eager.rule("split")
def split(call: Call) -> None:
    """Views; their gradients are put together when all have arrived."""
    pieces = [call.emit("split", [call.x[0]], out, alias=True) for out in call.outs]
    result(call, *pieces, strides=True)

    @call.backward
    def gradient(*dys: Value | None) -> None:
        if not call.needs(0):
            return
        parts = [
            call.emit("zeros", [], out) if dy is None else dy
            for dy, out in zip(dys, call.outs, strict=True)
        ]
        call.give(0, call.emit("cat", parts, call.ins[0]))


@Eager.rule("pad")
def pad(call: Call) -> None:
    """A copy there and a copy back."""
    y = call.emit("constant_pad_nd", [call.x[0]], call.outs[0])
    result(call, y, strides=strided(call))
    same_back(call, "constant_pad_nd", [])


@Eager.rule("upsample", "resize", "space_to_depth", "depth_to_space", "cast")
def copied(call: Call) -> None:
    """A new tensor there and one back; nothing is kept."""
    y = call.emit(call.op.operator.type, [call.x[0]], call.outs[0])
    result(call, y, strides=strided(call))
    same_back(call, f"{call.op.operator.type}_backward", [])


@Eager.rule("channel_shuffle")
def channel_shuffle(call: Call) -> None:
    """A view with two axes exchanged, made a new tensor, there and back."""
    y = call.emit("clone", [call.x[0]], call.outs[0])
    result(call, y)
    same_back(call, "clone", [])


@Eager.rule("repeat")
def repeat(call: Call) -> None:
    """Copies; back, their sum."""
    result(call, call.emit("repeat", [call.x[0]], call.outs[0]))
    same_back(call, "sum", [])


@Eager.rule("max_pool")
def max_pool(call: Call) -> None:
    """The input is kept, with the place of each maximum as an int64."""
    slides = call.operator.way(call.ins[0])
    x, spec, more = call.x[0], call.ins[0], None
    if pool_mode(slides, False) is None:
        more = [s.before + s.after for s in slides]
        spec = grown(spec, more, call.operator.channels_first)
        x = call.emit("constant_pad_nd", [x], spec)
    out = call.outs[0]
    y, places = call.value(out), call.value(out._replace(dtype="int64"))
    rank = len(slides)
    call.node(f"max_pool{rank}d_with_indices", [x], [y, places])
    result(call, y, strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        dx = call.emit(f"max_pool{rank}d_with_indices_backward", [dy, x, places], spec)
        if more is not None:
            dx = call.emit("constant_pad_nd", [dx], call.ins[0])
        call.give(0, dx)


@Eager.rule("average_pool")
def average_pool(call: Call) -> None:
    """The input is kept."""
    kind = call.operator
    slides = kind.way(call.ins[0])
    x, spec, out = call.x[0], call.ins[0], call.outs[0]
    padded = spec
    inclusive = kind.count_include_pad
    counted: list[Value] = []
    more = None
    if pool_mode(slides, inclusive) is None:
        more = [s.before + s.after for s in slides]
        padded = grown(spec, more, kind.channels_first)
        first = kind.channels_first
        if not inclusive:
            # The sum over the padded window is divided by the count of real inputs.
            sizes = spec.dims[2:] if first else spec.dims[1:-1]
            real = small(call, sizes, batch=None)
            call.node("ones_like", [], [real])
            wide = [n + m for n, m in zip(sizes, more, strict=True)]
            border = small(call, wide, batch=None)
            call.node("constant_pad_nd", [real], [border])
        x = call.emit("constant_pad_nd", [x], padded)
        if not inclusive:
            y = call.emit("avg_pool", [x, call.x[0]], out)
            places = out.dims[2:] if first else out.dims[1:-1]
            count = small(call, places, batch=None)
            call.node("avg_pool", [border], [count])
            counted = [count]
            y = call.emit("div", [y, count, border, call.x[0]], out)
        else:
            y = call.emit("avg_pool", [x], out)
    else:
        y = call.emit("avg_pool", [x], out)
    result(call, y, strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        if counted:
            dy = call.emit("div", [dy, *counted], out)
        dx = call.emit("avg_pool_backward", [dy, x], padded)
        if more is not None:
            dx = call.emit("constant_pad_nd", [dx], spec)
        call.give(0, dx)


@Eager.rule("global_pool")
def global_pool(call: Call) -> None:
    """A reduction over the spatial axes."""
    reduction(call, {"average": "mean", "max": "max", "lp": "l2"}[call.operator.kind])


@Eager.rule("reduce")
def reduce(call: Call) -> None:
    """A reduction over any axes."""
    reduction(call, call.operator.kind)


def reduction(call: Call, kind: str) -> None:
    """A mean keeps nothing and takes a whole tensor back; a maximum keeps input and result."""
    x, spec, out = call.x[0], call.ins[0], call.outs[0]
    y = call.emit(kind, [x], out)
    result(call, y)

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        if kind == "sum":
            call.give(0, dy)
        elif kind in ("mean", "average"):
            call.give(0, call.emit("div", [dy], spec))
        elif kind in ("max", "min"):
            mask = call.emit("eq", [x, y], spec._replace(dtype="bool"))
            count = call.emit("sum", [mask], out._replace(dtype="int64"))
            share = call.emit("div", [dy, count], out)
            call.give(0, call.emit("mul", [share, count, mask, dy, x, y], spec))
        else:
            share = call.emit("div", [x, y], spec)
            zero = call.emit("eq", [y], out._replace(dtype="bool"))
            call.give(0, call.emit("mul", [dy, share, zero, x, y], spec))


@Eager.rule("adaptive_pool")
def adaptive_pool(call: Call) -> None:
    """To one place a mean; otherwise the input is kept."""
    out = call.outs[0]
    first = call.operator.channels_first
    places = out.dims[2:] if first else out.dims[1:-1]
    if call.operator.kind == "average" and product(places) == 1:
        reduction(call, "mean")
        return
    y, kept = call.value(out), [call.x[0]]
    made = [y]
    if call.operator.kind == "max":
        made.append(call.value(out._replace(dtype="int64")))
        kept.append(made[1])
    call.node("adaptive_pool", [call.x[0]], made)
    result(call, y, strides=strided(call))
    same_back(call, "adaptive_pool_backward", kept)


@Eager.rule("lp_pool")
def lp_pool(call: Call) -> None:
    """A power, an average pool, and a root."""
    x, spec, out = call.x[0], call.ins[0], call.outs[0]
    slides = call.operator.way(spec)
    more = [s.before + s.after for s in slides]
    wide = spec
    if any(more):
        wide = grown(spec, more, call.operator.channels_first)
        x = call.emit("constant_pad_nd", [x], wide)
    power = call.emit("pow", [x], wide)
    mean = call.emit("avg_pool", [power], out)
    sign, size = call.emit("sign", [mean], out), call.emit("abs", [mean], out)
    lifted = call.emit("relu", [size], out)
    signed = call.emit("mul", [sign, lifted], out)
    times = call.emit("mul", [signed], out)
    y = call.emit("pow", [times, call.x[0]], out)
    result(call, y, strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None or not call.needs(0):
            return
        back = call.emit("mul", [dy, times, sign, lifted, mean], out)
        whole = call.emit("avg_pool_backward", [back, power], wide)
        again = call.emit("pow", [x], wide)
        twice = call.emit("mul", [again], wide)
        dx = call.emit("mul", [whole, twice, again, x], wide)
        if any(more):
            dx = call.emit("constant_pad_nd", [dx], spec)
        call.give(0, dx)


def reduced_to(call: Call, place: int, value: Value, *kept: Value) -> Value:
    """A gradient summed over the axes along which the input was repeated.

    The sum belongs to the node that made the gradient: what that keeps is there until it is done.
    """
    spec, out = call.ins[place], call.outs[0]
    return value if spec.dims == out.dims else call.emit("sum", [value, *kept], spec)


@Eager.rule("add", "subtract", "average")
def add(call: Call) -> None:
    """Inputs one after the other; the gradient is handed to all of them as it is."""
    spec, kind = call.outs[0], call.op.operator.type
    y = call.x[0]
    if len(call.x) == 1:
        pass_on(call)
        return
    for x in call.x[1:]:
        y = call.emit("sub" if kind == "subtract" else "add", [y, x, *call.x], spec)
    if kind == "average":
        y = call.emit("div", [y, *call.x], spec)
    result(call, y, strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        if kind == "average":
            dy = call.emit("div", [dy], spec)
        last = len(call.x) - 1
        # The last sum first; the first one hands on to its left input, then to its right one.
        for place in (*range(last, 1, -1), 0, 1):
            if not call.needs(place):
                continue
            part = dy
            if kind == "subtract" and place == 1:
                part = call.emit("neg", [dy], spec)
            call.give(place, reduced_to(call, place, part))


@Eager.rule("multiply")
def multiply(call: Call) -> None:
    """Each factor is kept for the other's gradient, which is as large as the product at first."""
    spec = call.outs[0]
    if len(call.x) == 1:
        pass_on(call)
        return
    lefts = [call.x[0]]
    for x in call.x[1:]:
        lefts.append(call.emit("mul", [lefts[-1], x, *call.x], spec))
    result(call, lefts[-1], strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        for place in range(len(call.x) - 1, 0, -1):
            if dy is None:
                return
            left, right = lefts[place - 1], call.x[place]
            inner = place > 1 or call.needs(0)
            dleft = call.emit("mul", [dy, right], spec) if inner else None
            dright = call.emit("mul", [dy, left], spec) if call.needs(place) else None
            if place == 1 and dleft is not None:
                dleft = reduced_to(call, 0, dleft, dy, left, right)
            if dright is not None:
                dright = reduced_to(call, place, dright, dy, left, right)
            if place == 1 and dleft is not None:
                call.give(0, dleft)
            if dright is not None:
                call.give(place, dright)
            dy = dleft


def quotient_back(
    call: Call, dy: Value, a: Value, b: Value, left: bool = True, right: bool = True
) -> tuple[Value | None, Value | None]:
    """The gradients of a / b, the divisor's first: it goes through four tensors."""
    spec = call.outs[0]
    down = up = None
    if right:
        share = call.emit("div", [a, b], spec)
        again = call.emit("div", [share, b], spec)
        negative = call.emit("neg", [dy], spec)
        down = call.emit("mul", [negative, again, share], spec)
    if left:
        up = call.emit("div", [dy, b, a], spec)
    return up, down


@Eager.rule("divide")
def divide(call: Call) -> None:
    """Both are kept."""
    a, b = call.x
    result(call, call.emit("div", [a, b], call.outs[0]), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        up, down = quotient_back(call, dy, a, b, call.needs(0), call.needs(1))
        if up is not None:
            up = reduced_to(call, 0, up, dy, a, b)
        if down is not None:
            down = reduced_to(call, 1, down, dy, a, b)
        for place, part in ((0, up), (1, down)):
            if part is not None:
                call.give(place, part)


@Eager.rule("maximum", "minimum")
def maximum(call: Call) -> None:
    """Both are kept; each gradient is the result's where that input was chosen, halved in a tie."""
    spec = call.outs[0]
    if len(call.x) == 1:
        pass_on(call)
        return
    lefts = [call.x[0]]
    for x in call.x[1:]:
        lefts.append(call.emit(call.op.operator.type, [lefts[-1], x, *call.x], spec))
    result(call, lefts[-1], strides=strided(call))

    def chosen(dy: Value, left: Value, right: Value) -> Value:
        half = call.emit("div", [dy], spec)
        tie = call.emit("eq", [left, right], spec._replace(dtype="bool"))
        taken = call.emit("where", [tie, half, dy], spec)
        # Where the other one was chosen it is set to zero, in place.
        call.emit("lt", [left, right, tie, half, dy], spec._replace(dtype="bool"))
        return taken

    @call.backward
    def gradient(dy: Value | None) -> None:
        for place in range(len(call.x) - 1, 0, -1):
            if dy is None:
                return
            left, right = lefts[place - 1], call.x[place]
            dleft = chosen(dy, left, right) if place > 1 or call.needs(0) else None
            dright = chosen(dy, left, right) if call.needs(place) else None
            if dright is not None:
                call.give(place, reduced_to(call, place, dright))
            if place == 1 and dleft is not None:
                call.give(0, reduced_to(call, 0, dleft))
            dy = dleft


@Eager.rule("concat")
def concat(call: Call) -> None:
    """A new tensor; the gradients are views of its gradient."""
    result(call, call.emit("cat", call.x, call.outs[0]), strides=strided(call))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is not None:
            for place in range(len(call.x)):
                call.give(place, dy)


@Eager.rule("embedding")
def embedding(call: Call) -> None:
    """The numbers are kept; the table's gradient is as large as the table."""
    (table,) = call.w.values()
    result(call, call.emit("embedding", [call.x[0], table], call.outs[0]))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        for name, value in weight_gradients(call).items():
            call.node("embedding_dense_backward", [dy, call.x[0]], [value])
            call.give_weight(name, value)


@Eager.rule("matmul", "dot")
def matmul(call: Call) -> None:
    """Both are kept."""
    a, b = call.x
    result(call, call.emit("bmm", [a, b], call.outs[0]))

    @call.backward
    def gradient(dy: Value | None) -> None:
        if dy is None:
            return
        left = call.emit("bmm", [dy, b], call.ins[0]) if call.needs(0) else None
        right = call.emit("bmm", [dy, a], call.ins[1]) if call.needs(1) else None
        for place, part in enumerate((left, right)):
            if part is not None:
                call.give(place, part)


@Eager.rule("constant")
def constant(call: Call) -> None:
    """A variable, or ones."""
    if call.w:
        (value,) = call.w.values()
        result(call, value)

        @call.backward
        def gradient(dy: Value | None) -> None:
            for name in call.w:
                if dy is not None and call.trains(name):
                    call.give_weight(name, dy)

        return
    result(call, call.emit("ones", [], call.outs[0]))
