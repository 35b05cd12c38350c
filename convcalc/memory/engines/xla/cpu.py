"""What XLA's CPU compiler makes of each operator, before fusion: see `fusion` for what is left.

The gradient of a convolution's kernel is again a convolution, whose operands it wants transposed:
so each input of a convolution is there twice.  Kernels are copied, since the step gives them back
updated and the input's gradient still reads the old ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any

from convcalc.arithmetic import ceil_div
from convcalc.memory.engines.xla.fusion import FUSIBLE, Kind
from convcalc.memory.engines.xla.steps import READ_AGAIN, STEPS, Step, plain
from convcalc.memory.engines.xla.updates import Updates
from convcalc.memory.job import SLOTS, SQUARED_ERROR
from convcalc.memory.lowering import Call, Lowering
from convcalc.memory.program import Node, Size, Value
from convcalc.tensors import TensorSpec

#: A reduction over more positions is split in two (TreeReductionRewriter).
REDUCED_AT_ONCE = 32
EXPENSIVE = {
    *("sigmoid", "tanh", "softplus", "exponential"),
    *("hard_sigmoid", "mish", "celu", "log_sigmoid", "softsign"),
}
#: What is kept in 32 bits under 16: results of calls, and their operands turned.
COMPUTED = (Kind.CALL, Kind.MOVE)
#: Positions along an axis from which one between them is interpolated (`image_resize_ops.cc`).
SPAN = 3
#: Random numbers are drawn as four bytes for each element.
RANDOM = "int32"


class CpuRules(Updates):
    """XLA for one CPU, at one size of batch."""

    def __init__(self, batch: int, tensorflow: bool) -> None:
        super().__init__()
        self.batch = batch
        self.tensorflow = tensorflow
        """TensorFlow asks for some operators in a way of its own."""
        # An operator without a rule is a call.
        self.kinds: dict[Node, Kind] = defaultdict(lambda: Kind.CALL)
        self.same: dict[tuple[Any, ...], Value] = {}
        """Fusible operations by what they compute: equal ones are one (HloCSE)."""
        self.transposed: dict[Value, Value] = {}
        self.sources: dict[tuple[Any, ...], list[Value]] = {}
        self.pools: dict[Value, tuple[Value, Value]] = {}
        """Gradients of max-pools that are not yet scattered: indices and gradient."""
        self.scattered: dict[Value, list[Value]] = {}
        """Further tensors of an embedding's gradient, for what an optimizer makes of it."""
        self.alone: dict[Value, Node] = {}
        """Zeros, with the first operation that writes into them."""
        self.flat: dict[Value, Value] = {}
        """Others with the same elements in another arrangement, which sums are made of."""
        self.padded: dict[Value, Value] = {}
        """What has been padded by what it was before."""
        self.roots: list[Node] = []
        self.order: dict[Value, int] = {}
        self.updates: list[tuple[int, int, Node]] = []
        """What writes variables, with their places in the order of all."""
        self.donated: list[tuple[Size, Node, Node]] = []
        self.turned: set[Value] = set()
        """Gradients in another order than their variable."""
        self.written_over: dict[Node, Node] = {}
        """What makes a tensor, with the operation that may write a variable in its place."""
        self.copies: dict[Value, Value] = {}

    def emit(
        self,
        low: Lowering,
        layer: str,
        kind: Kind,
        primitive: str,
        inputs: Iterable[Value],
        spec: TensorSpec,
        *,
        size: Size | None = None,
    ) -> Value:
        """Append an operation with one result; an equal fusible one is found again."""
        read = list(dict.fromkeys(inputs))
        key = (kind, primitive, spec, tuple(map(id, read)))
        if kind in FUSIBLE and key in self.same:
            return self.same[key]
        # A CPU has no arithmetic in 16 bits: what calls read and write is converted (measured on
        # one network; at inference nothing else is left).
        wide = low.job.width == 2 and (kind in COMPUTED or not low.job.training)
        made = Value(spec, 4 if wide else low.job.width, "activations")
        if size is not None:
            made.size = size
        inplace = range(len(read)) if kind in (Kind.ELEMENTWISE, Kind.EXPENSIVE) else ()
        node = low.program.add(
            primitive,
            read,
            [made],
            layer=layer,
            phase=low.phase,
            inplace=tuple(inplace),
            alias=kind is Kind.VIEW and read[0].node is not None,
        )
        self.kinds[node] = kind
        self.same[key] = made
        return made

    def ordered_roots(self) -> list[Node]:
        """What the step gives back: the loss, then the variables, the first layer's first."""
        return [*self.roots, *(node for _, _, node in sorted(self.updates))]

    def loss(self, lowering: Lowering, name: str, output: Value) -> Value:
        """Cross-entropy from the logits, or a squared error summed in pieces of 32."""
        spec, label = output.spec, lowering.labels[name]
        scalar = TensorSpec((), "float", None)

        def run(kind: Kind, primitive: str, inputs: Iterable[Value], spec: TensorSpec) -> Value:
            return self.emit(lowering, "loss", kind, primitive, inputs, spec)

        if lowering.losses[name] == SQUARED_ERROR:
            delta = run(Kind.ELEMENTWISE, "subtract", [label, output], spec)
            square = run(Kind.ELEMENTWISE, "square", [delta], spec)
            pieces = spec._replace(shape=(*spec.dims[:-1], ceil_div(spec.dims[-1], 32)))
            partial = run(Kind.CALL, "reduce", [square], pieces)
            total = run(Kind.CALL, "loss", [partial], scalar)
            gradient = run(Kind.ELEMENTWISE, "dloss", [delta], spec)
        else:
            largest, power, total_power = self.exponentials(lowering, "loss", output)
            soft = run(Kind.EXPENSIVE, "softmax", [power, total_power], spec)
            dlogits = run(Kind.ELEMENTWISE, "dlogits", [soft, label], spec)
            flat = run(Kind.ELEMENTWISE, "mean gradient", [dlogits], spec)
            gradient = flat
            if self.tensorflow and len(spec.dims) > 2:
                gradient = run(Kind.RESHAPE, "reshape gradient", [flat], spec)
                self.flat[gradient] = flat
            logarithm = run(Kind.CALL, "log", [total_power], largest.spec)
            terms = run(
                Kind.ELEMENTWISE, "cross entropy", [output, largest, logarithm, label], spec
            )
            total = run(Kind.CALL, "loss", [terms], scalar)
        assert total.node is not None
        self.roots.append(total.node)
        return gradient

    def exponentials(self, low: Lowering, layer: str, x: Value) -> tuple[Value, Value, Value]:
        """A softmax's largest value, exponentials of what is below it, and their sum."""
        each = x.spec._replace(shape=x.spec.dims[:-1])
        largest = self.emit(low, layer, Kind.CALL, "max", [x], each)
        power = self.emit(low, layer, Kind.EXPENSIVE, "exp", [x, largest], x.spec)
        return largest, power, self.emit(low, layer, Kind.CALL, "sum", [power], each)

    def accumulate(self, lowering: Lowering, name: str, parts: Sequence[Value]) -> Value:
        """A sum; max-pools' gradients are scattered into it."""
        plain = [part for part in parts if part not in self.pools]
        pools = [part for part in parts if part in self.pools]
        spec = parts[0].spec
        total = plain[0] if plain else None
        if len(plain) > 1:
            total = self.emit(lowering, name, Kind.ELEMENTWISE, "add", plain, spec)
        for part in pools:
            total = self.scatter(lowering, name, part, total)
        assert total is not None
        return total

    def narrowed(self, lowering: Lowering, value: Value) -> Value:
        """A conversion, fused into what reads it."""
        return self.emit(lowering, value.layer, Kind.ELEMENTWISE, "convert", [value], value.spec)

    def again(self, lowering: Lowering, kept: dict[str, Value]) -> dict[str, Value]:
        """``tf.recompute_grad`` adds a number made from the gradient to what was kept.

        `jax.checkpoint` lets both pass a barrier, which a CPU's compiler takes away before it
        orders operations: what is made again waits for nothing, and breadth-first it runs right
        behind the first time.
        """
        arrived = {name: self.whole(lowering, name) for name in list(lowering.arrived)}
        layer = next(iter(kept.values())).layer
        if self.tensorflow:
            scalar = TensorSpec((), "float", None)
            ready = self.emit(lowering, layer, Kind.CALL, "first", arrived.values(), scalar)
            return {
                name: self.emit(
                    lowering, layer, Kind.ELEMENTWISE, "after", [value, ready], value.spec
                )
                for name, value in kept.items()
            }
        return {
            name: self.emit(lowering, layer, Kind.VIEW, "barrier", [value], value.spec)
            for name, value in kept.items()
        }

    def whole(self, lowering: Lowering, name: str) -> Value:
        """The sum of the gradients that have arrived at a tensor."""
        parts = lowering.arrived[name]
        if len(parts) > 1 or parts[0] in self.pools:
            parts[:] = [self.accumulate(lowering, name, parts)]
        return parts[0]

    def scatter(self, low: Lowering, layer: str, part: Value, target: Value | None) -> Value:
        """The gradient of a max-pool's input, into another gradient or into zeros."""
        return self.added_to(low, layer, self.pools[part], part.spec, target)

    def added_to(
        self,
        low: Lowering,
        layer: str,
        parts: Iterable[Value],
        spec: TensorSpec,
        target: Value | None = None,
    ) -> Value:
        """Indices and what is added there to another tensor or to zeros.

        Equal zeros are one operation, which is copied at once for each that writes into it.
        """
        zeros = None
        if target is None:
            key = ("zeros", spec)
            if key not in self.sources:
                self.sources[key] = [self.emit(low, layer, Kind.SOURCE, "zeros", [], spec)]
            (zeros,) = self.sources[key]
            target = self.emit(low, layer, Kind.CALL, f"copy {len(zeros.users)}", [zeros], spec)
        made = self.emit(low, layer, Kind.CALL, "scatter", [target, *parts], spec)
        assert made.node is not None
        made.node.inplace = (0,)
        if zeros is not None and len(zeros.users) == 1:
            self.alone[zeros] = made.node
        return made

    def finish(self, lowering: Lowering) -> None:
        """Zeros that one operation alone writes into need no copy."""
        super().finish(lowering)
        for zeros, scatter in self.alone.items():
            if len(zeros.users) == 1:
                lowering.program.nodes.remove(zeros.users[0])
                scatter.inputs = (zeros, *scatter.inputs[1:])
                zeros.users = [scatter]

    def decide(self, lowering: Lowering, gradients: Sequence[Value]) -> Value:
        """A conditional that reads all of them."""
        scalar = TensorSpec((), "float", None)
        return self.emit(lowering, "optimizer", Kind.CALL, "conditional", gradients, scalar)

    def write(self, lowering: Lowering, variable: Value, gradient: list[Value], layer: str) -> None:
        """A variable and its slots."""
        parts = [*gradient, *self.scattered.get(gradient[0], ())]
        STEPS.get(lowering.job.optimizer, plain)(Step(self, lowering, variable, parts, layer))

    def written(self, lowering: Lowering, target: Value, node: Node) -> None:
        """An operation writes a variable or a slot: the program gives it back."""
        if not self.order:
            self.order.update((value, i) for i, value in enumerate(lowering.program.resting))
        self.updates.append((self.order[target], len(self.updates), node))
        if (copy := self.copies.get(target)) is not None:
            assert copy.node is not None
            self.donated.append((target.size, copy.node, node))


class Here:
    """Shorthand for the rule of one op."""

    def __init__(self, call: Call) -> None:
        rules = call.lowering.rules
        assert isinstance(rules, CpuRules)
        self.call = call
        self.rules = rules

    def run(self, kind: Kind, primitive: str, inputs: Iterable[Value], spec: TensorSpec) -> Value:
        """Append an operation of this op."""
        return self.rules.emit(self.call.lowering, self.call.layer, kind, primitive, inputs, spec)

    def ew(self, primitive: str, inputs: Iterable[Value], spec: TensorSpec) -> Value:
        """An operation element by element."""
        return self.run(Kind.ELEMENTWISE, primitive, inputs, spec)

    def small(self, primitive: str, inputs: Iterable[Value], spec: TensorSpec) -> Value:
        """A reduction, or something on its result: never fused."""
        return self.run(Kind.CALL, primitive, inputs, spec)

    def total(self, primitive: str, value: Value, spec: TensorSpec) -> Value:
        """A sum over all axes but the last, in whatever order."""
        return self.small(primitive, [self.rules.flat.get(value, value)], spec)

    def reduced(self, primitive: str, value: Value, spec: TensorSpec) -> Value:
        """A sum over all axes but the last: in two steps where one of them is long."""
        shape = value.spec.shape_at(self.rules.batch) or ()
        if max(shape[:-1], default=1) <= REDUCED_AT_ONCE:
            return self.run(Kind.REDUCE, primitive, [value], spec)
        pieces = tuple(ceil_div(size, REDUCED_AT_ONCE) for size in shape[:-1])
        partial = self.small(
            "partial sums", [value], TensorSpec((*pieces, shape[-1]), "float", None)
        )
        return self.small(primitive, [partial], spec)

    def variable(self, name: str, gradient: Value) -> None:
        """Hand a variable its gradient."""
        if name in self.call.w and self.call.trains(name):
            self.call.give_weight(name, gradient)

    def linear(self, backward: Callable[[Value], Value]) -> None:
        """Register the gradient of an operator with one input."""

        @self.call.backward
        def gradient(dy: Value) -> None:
            if self.call.needs(0):
                self.call.give(0, backward(dy))


def turned(spec: TensorSpec) -> TensorSpec:
    """The shape with its axes reversed."""
    axis = None if spec.batch_axis is None else len(spec.dims) - 1 - spec.batch_axis
    return TensorSpec(tuple(reversed(spec.dims)), spec.dtype, axis)


def channels(spec: TensorSpec) -> TensorSpec:
    """One number for each channel."""
    return TensorSpec((spec.dims[-1],), "float", None)


@CpuRules.rule("conv", "depthwise_conv", "conv_transpose", "dense")
def product(call: Call) -> None:
    """A convolution or a product, with its bias outside."""
    here = Here(call)
    kind, known = call.operator.type, here.rules
    (x,), (spec,), (out,) = call.x, call.ins, call.outs
    kernel = call.w["kernel"]
    needed = call.training and call.needs(0)
    window = kernel.spec.dims[:-2]
    # A 1x1 convolution is a product of matrices, between two views.
    dot = kind == "conv" and set(window) == {1} and spec.dims[1:-1] == out.dims[1:-1]
    copied = kernel
    if needed and kernel not in known.copies:
        copied = known.copies[kernel] = here.run(Kind.CALL, "copy", [kernel], kernel.spec)
    copied = known.copies.get(kernel, kernel)
    transposed = straight = copied
    dilated = batched(call) if known.tensorflow and kind == "conv" else None
    # A convolution of padded images pads them itself (AlgebraicSimplifier's FoldConvInputPad).
    plain = known.padded.get(x) if kind in ("conv", "depthwise_conv") else None
    if kind == "conv" and swapped(call, plain.spec if plain else spec, dilated):
        straight = here.run(Kind.MOVE, "flip kernel", [copied], kernel.spec)
    if needed and kind != "dense":
        transposed = here.run(Kind.MOVE, "transpose kernel", [copied], kernel.spec)
    # TensorFlow convolves sequences as images of height one; products are of two matrices.
    framed = known.tensorflow and kind != "dense" and len(spec.dims) == 3 and not dilated
    framed |= kind == "dense" and len(spec.dims) > 2
    frame = as_matrix if kind == "dense" else as_image
    dot = dot and plain is None
    made = out
    if framed:
        spec, made = frame(spec), frame(out)
        x = here.run(Kind.RESHAPE, "frame", [x], spec)
        if plain is not None:
            plain = here.run(Kind.RESHAPE, "frame", [plain], as_image(plain.spec))
    source = x if plain is None else plain
    if dot:
        source = here.run(Kind.VIEW, "bitcast", [x], spec)
    elif dilated:
        padded, spec, made = dilated
        x = here.run(Kind.PAD, "pad", [x], padded)
        x = here.run(Kind.MOVE, "interleave", [x], spec)
        source = x = here.run(Kind.MOVE, "space to batch", [x], spec)
    read = transposed if kind == "conv_transpose" else straight
    primitive = "dot" if dot or kind == "dense" else "conv"
    y = here.run(Kind.CALL if plain is None else Kind.FOLDED, primitive, [source, read], made)
    if dot:
        y = here.run(Kind.VIEW, "bitcast", [y], made)
    if framed:
        apart, y = y, here.run(Kind.RESHAPE, "unframe", [y], out)
        known.flat[y] = apart
    elif dilated:
        apart, y = y, here.run(Kind.MOVE, "batch to space", [y], out)
        if made.elements == out.elements:
            known.flat[y] = apart
    if "bias" in call.w:
        y = here.ew("bias", [y, call.w["bias"]], out)
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        # The order in which operations are made decides their order of execution.
        trained = call.trains("kernel")
        dw = None
        if needed:
            bias_gradient(here, dy)
        if dilated:
            dy = here.run(Kind.MOVE, "batch to space gradient", [dy], made)
        elif framed:
            dy = here.run(Kind.RESHAPE, "frame gradient", [dy], made)
        if trained and kind != "dense":
            dw = kernel_gradient(here, x, dy, spec, made)
        if needed:
            view = here.run(Kind.VIEW, "bitcast", [dy], made) if dot else dy
            read = copied if kind == "conv_transpose" else transposed
            dx = here.run(Kind.CALL, "input gradient", [view, read], spec)
            if dot:
                dx = here.run(Kind.VIEW, "bitcast", [dx], spec)
            if framed:
                dx = here.run(Kind.RESHAPE, "unframe gradient", [dx], call.ins[0])
            elif dilated:
                dx = here.run(Kind.MOVE, "space to batch gradient", [dx], call.ins[0])
            call.give(0, dx)
        if trained and dw is None:
            dw = here.run(Kind.CALL, "kernel gradient", [x, dy], kernel.spec)
        if not needed:
            bias_gradient(here, dy)
        if dw is not None:
            here.variable("kernel", dw)


def as_image(spec: TensorSpec) -> TensorSpec:
    """A sequence as an image of height one."""
    batch, length, count = spec.dims
    return spec._replace(shape=(batch, 1, length, count))


def as_matrix(spec: TensorSpec) -> TensorSpec:
    """The rows of a tensor as those of a matrix."""
    rows = 1
    for size in spec.dims[:-1]:
        rows *= size
    return spec._replace(shape=(rows, spec.dims[-1]))


def swapped(call: Call, image: TensorSpec, dilated: Batched | None) -> bool:
    """Whether image and kernel change places, so that the smaller one is the kernel.

    `conv_operand_swapper.cc`.  The kernel is then turned around by an operation of its own; the
    gradient of the input turns it anyway.
    """
    if call.operator.groups > 1:
        return False
    kernel = pixels = 1
    sizes = (dilated[1] if dilated else image).dims[1:-1]
    for slide, size in zip(call.operator.slides(call.ins[0]), sizes, strict=True):
        dense = bool(dilated) or slide.stride == slide.dilation == 1
        around = 0 if dilated else slide.size - size + slide.before + slide.after
        if dense and slide.kernel == size and not around:
            continue
        kernel *= slide.kernel
        full = dense and size == 1 and around == 2 * (slide.kernel - 1)
        pixels *= slide.kernel if full else size
    return kernel > pixels


def bias_gradient(here: Here, dy: Value) -> None:
    """One sum."""
    if "bias" in here.call.w and here.call.trains("bias"):
        here.variable("bias", here.total("bias gradient", dy, here.call.w["bias"].spec))


#: A dilated convolution as TensorFlow runs it: its padded input, its input and its output.
Batched = tuple[TensorSpec, TensorSpec, TensorSpec]


def batched(call: Call) -> Batched | None:
    """See `Batched`.

    None if it is not dilated.

    `nn_ops.convolution_internal`: the gradient of a dilated convolution exists on GPUs only, so the
    padded input is cut into d x d interleaved images, which are convolved without dilation.
    """
    slides = call.operator.slides(call.ins[0])
    if all(slide.dilation == 1 for slide in slides):
        return None
    batch, *_, count = call.ins[0].dims
    whole, inner, outer = [], [], []
    for slide in slides:
        padded = slide.size + slide.before + slide.after
        inner.append(ceil_div(padded, slide.dilation))
        whole.append(inner[-1] * slide.dilation)
        outer.append(inner[-1] - slide.kernel + 1)
        batch *= slide.dilation
    return (
        call.ins[0]._replace(shape=(call.ins[0].dims[0], *whole, count)),
        call.ins[0]._replace(shape=(batch, *inner, count)),
        call.outs[0]._replace(shape=(batch, *outer, call.outs[0].dims[-1])),
    )


def kernel_gradient(here: Here, x: Value, dy: Value, spec: TensorSpec, out: TensorSpec) -> Value:
    """A convolution of the transposed input with the transposed gradient.

    That of a depthwise kernel is computed for all pairs of channels, of which the diagonal is then
    cut out: both are full-size, k x k x C x C.
    """
    call, known = here.call, here.rules
    kernel = call.w["kernel"].spec
    if x not in known.transposed:
        known.transposed[x] = here.run(Kind.MOVE, "transpose input", [x], turned(spec))
    moved = out
    if len(out.dims) == 4:
        batch, height, width, count = out.dims
        moved = TensorSpec((height, width, batch, count), out.dtype, 2)
    turned_dy = here.run(Kind.MOVE, "transpose gradient", [dy], moved)
    operands = [known.transposed[x], turned_dy]
    per_channel = call.operator.type == "depthwise_conv" or (
        call.operator.type == "conv" and kernel.dims[-2] == 1 and spec.dims[-1] > 1
    )
    if not per_channel:
        made = here.run(Kind.CALL, "kernel gradient", operands, kernel)
        known.turned.add(made)
        return made
    pairs = TensorSpec((*kernel.dims[:-2], spec.dims[-1], out.dims[-1]), "float", None)
    dense = here.run(Kind.CALL, "kernel gradient of all pairs", operands, pairs)
    mask = here.run(Kind.MOVE, "diagonal", [dense], pairs)
    return here.run(Kind.CALL, "kernel gradient", [mask], kernel)


@CpuRules.rule("batch_norm")
def batch_norm(call: Call) -> None:
    """Mean and variance are reductions; the result is computed wherever it is read."""
    here = Here(call)
    (x,), (spec,) = call.x, call.ins
    per = channels(spec)
    weights = [call.w[name] for name in ("gamma", "beta") if name in call.w]
    if not call.training:
        moving = [call.w[n] for n in ("moving_mean", "moving_variance") if n in call.w]
        scale = here.small("scale", [*weights, *moving], per)
        call.result(here.ew("normalize", [x, scale], spec))
        return
    mean = here.total("mean", x, per)
    squared = here.ew("squared difference", [x, mean], spec)
    variance = here.reduced("variance", squared, per)
    root = here.small("rsqrt", [variance], per)
    inverse = here.small("inverse", [root, *weights[:1]], per)
    # Read twice, as in `tf.nn.batch_normalization`: that decides the order of its readers.
    shift = here.ew("shift", [mean, inverse], per)
    call.result(here.ew("normalize", [x, inverse, shift], spec))

    @call.backward
    def gradient(dy: Value) -> None:
        beta = here.total("beta gradient", dy, per)
        if here.rules.tensorflow:
            both = here.ew("dy * x", [dy, x], spec)
            gamma = here.reduced("gamma gradient", both, per)
        else:
            # YNNPACK multiplies while it sums, and so reads both from memory.
            gamma = here.small("gamma gradient", [dy, x], per)
        factor = here.small("factor", [gamma, beta, root, mean], per)
        here.variable("gamma", factor)
        here.variable("beta", beta)
        if call.needs(0):
            call.give(0, here.ew("normalize gradient", [dy, x, factor, inverse, mean], spec))


@CpuRules.rule("layer_norm", "group_norm", "rms_norm", "unit_norm")
def layer_norm(call: Call) -> None:
    """As a batch normalization, with statistics of each sample."""
    here = Here(call)
    (x,), (spec,) = call.x, call.ins
    per = spec._replace(shape=spec.dims[:-1])
    weights = [call.w[name] for name in ("gamma", "beta") if name in call.w]
    mean = here.small("mean", [x], per)
    squared = here.ew("squared difference", [x, mean], spec)
    if spec.dims[-1] <= REDUCED_AT_ONCE:
        variance = here.run(Kind.REDUCE, "variance", [squared], per)
    else:
        pieces = spec._replace(shape=(*spec.dims[:-1], ceil_div(spec.dims[-1], REDUCED_AT_ONCE)))
        variance = here.run(Kind.REDUCE, "variance", [here.small("parts", [squared], pieces)], per)
    root = here.run(Kind.EXPENSIVE, "rsqrt", [variance], per)
    call.result(here.ew("normalize", [x, mean, root, *weights], spec))

    @call.backward
    def gradient(dy: Value) -> None:
        if "gamma" in call.w:
            product = here.ew("gamma product", [dy, x, mean, root], spec)
            here.variable("gamma", here.reduced("gamma gradient", product, channels(spec)))
        if "beta" in call.w:
            here.variable("beta", here.reduced("beta gradient", dy, channels(spec)))
        first = here.small("sum", [here.ew("product", [dy, x, mean], spec)], per)
        scaled = here.ew("scaled gradient", [dy, *weights[:1]], spec)
        second = here.small("sum of scaled", [scaled], per)
        if call.needs(0):
            read = [dy, x, first, second, mean, root]
            call.give(0, here.ew("normalize gradient", read, spec))


@CpuRules.rule("activation", "prelu")
def activation(call: Call) -> None:
    """Element by element; what the gradient needs beside the result depends on the function."""
    here = Here(call)
    (x,), (spec,) = call.x, call.ins
    function = getattr(call.operator, "function", "leaky_relu")
    if function == "linear" or call.lowering.takes_logits(call.op):
        call.result(x)
        call.backward(lambda dy: call.give(0, dy))
        return
    if function == "gelu":
        power = here.run(Kind.EXPENSIVE, "exp", [x], spec)
        error = here.run(Kind.EXPENSIVE, "erfc", [power, x], spec)
        call.result(here.ew("gelu", [error, x], spec))
        here.linear(lambda dy: here.ew("gelu gradient", [dy, error, power, x], spec))
    elif function in ("softmax", "log_softmax"):
        largest, power, total = here.rules.exponentials(call.lowering, call.layer, x)
        read = [power, total] if function == "softmax" else [x, largest, total]
        y = here.run(Kind.EXPENSIVE, function, read, spec)
        call.result(y)

        def backward(dy: Value) -> Value:
            product = here.ew(f"{function} product", [dy, y], spec)
            mean = here.small(f"{function} sum", [product], largest.spec)
            return here.ew(f"{function} gradient", [dy, y, mean], spec)

        here.linear(backward)
    elif function in ("elu", "selu"):
        # Where all readers can choose for themselves, the exponential is stored and the result not.
        power = here.run(Kind.EXPENSIVE, "expm1", [x], spec)
        y = here.ew(function, [x, power], spec)
        call.result(y)

        def backward(dy: Value) -> Value:
            return here.ew(f"{function} gradient", [dy, here.ew("slope", [y], spec)], spec)

        here.linear(backward)
    elif function in ("silu", "swish", "hard_silu", "hard_swish"):
        gate = here.run(
            Kind.ELEMENTWISE if function.startswith("hard") else Kind.EXPENSIVE,
            "sigmoid",
            [x],
            spec,
        )
        call.result(here.ew("swish", [x, gate], spec))
        here.linear(lambda dy: here.ew("swish gradient", [dy, x, gate], spec))
    else:
        kind = Kind.EXPENSIVE if function in EXPENSIVE else Kind.ELEMENTWISE
        y = here.run(kind, function, [x], spec)
        call.result(y)
        here.linear(lambda dy: here.ew(f"{function} gradient", [dy, y], spec))


@CpuRules.rule("add", "subtract", "average", "maximum", "minimum")
def add(call: Call) -> None:
    """A sum; each summand gets the gradient as it is, summed where it was repeated."""
    here = Here(call)
    (out,) = call.outs
    call.result(here.ew(call.operator.type, call.x, out))

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            if not call.needs(place):
                continue
            if spec.elements == out.elements:
                call.give(place, dy)
            else:
                call.give(place, here.run(Kind.REDUCE, "sum", [dy], spec))


@CpuRules.rule("multiply", "divide")
def multiply(call: Call) -> None:
    """A product; the gradient of a repeated factor is a sum of products."""
    here = Here(call)
    (out,) = call.outs
    call.result(here.ew("multiply", call.x, out))

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            if not call.needs(place):
                continue
            others = [value for other, value in enumerate(call.x) if other != place]
            part = here.ew("product gradient", [dy, *others], out)
            if spec.elements < out.elements:
                wide = max(out.dims[1:-1], default=1) > REDUCED_AT_ONCE
                if wide:
                    part = here.small("partial sums", [part], spec)
                    part = here.small("sum", [part], spec)
                else:
                    part = here.run(Kind.REDUCE, "sum", [part], spec)
            call.give(place, part)


@CpuRules.rule("concat")
def concat(call: Call) -> None:
    """One buffer, or part of a fusion; the gradient is cut up."""
    here = Here(call)
    call.result(here.run(Kind.CONCAT, "concatenate", call.x, call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            if call.needs(place):
                call.give(place, here.run(Kind.MOVE, f"slice {place}", [dy], spec))


@CpuRules.rule("max_pool")
def max_pool(call: Call) -> None:
    """With an iota of the input's size for each axis, and as many indices of the output's size.

    The fifth reduction is never read: it is there since XLA removes no part of a tuple.
    """
    here = Here(call)
    (x,), (spec,), (out,) = call.x, call.ins, call.outs
    # What Keras pads for a pool has the least number around, with which the pool begins.
    own = call.op.inputs[0] == f"{call.op.name}/padding"
    plain = here.rules.padded[x] if own else x
    pooled = here.run(Kind.FOLDED if own else Kind.CALL, "max", [plain], out)
    call.result(pooled)
    if not call.training or not call.needs(0):
        return
    # TensorFlow pools sequences as images of height one.
    axes = max(len(spec.dims), 4) if here.rules.tensorflow else len(spec.dims)
    # Equal ones stay apart: `HloCSE` passes by what reads nothing.
    integers = spec._replace(dtype="int32")
    iotas = [here.run(Kind.SOURCE, f"iota {axis}", [], integers) for axis in range(axes)]
    chosen = [
        here.small(f"argmax {n}", [x, *iotas], out._replace(dtype="int32")) for n in range(axes + 1)
    ]
    wide = out._replace(shape=(*out.dims, axes), dtype="int32")
    # They are elements of one tuple, each taken out by an operation.
    elements = [here.run(Kind.VIEW, "element", [each], each.spec) for each in chosen[:-1]]
    indices = here.small("indices", elements, wide)
    assert chosen[-1].node is not None
    here.rules.roots.append(chosen[-1].node)

    @call.backward
    def gradient(dy: Value) -> None:
        moved = here.run(Kind.MOVE, "bitcast copy", [dy], out)
        part = Value(spec, call.lowering.job.width, "activations")
        here.rules.pools[part] = (indices, moved)
        alone = sum(name == call.op.inputs[0] for op in call.lowering.net.ops for name in op.inputs)
        if alone == 1:
            part = here.rules.scatter(call.lowering, call.layer, part, None)
        call.give(0, part)


@CpuRules.rule("average_pool")
def average_pool(call: Call) -> None:
    """A windowed sum, divided; the gradient a windowed sum of the spread gradient.

    Of what has been padded that is cut off (`xla/hlo/builder/lib/pooling.cc`, ``AvgPoolGrad``).
    """
    here = Here(call)
    (x,), (spec,), (out,) = call.x, call.ins, call.outs
    call.result(here.ew("divide", [here.small("window sum", [x], out)], out))
    batch, *sizes, count = spec.dims
    around = [slide.before + slide.after for slide in call.operator.way(spec)]
    padded = (size + more for size, more in zip(sizes, around, strict=True))
    whole = spec._replace(shape=(batch, *padded, count))

    def backward(dy: Value) -> Value:
        divided = here.ew("divide gradient", [dy], out)
        if not any(around):
            return here.small("window sum gradient", [divided], spec)
        spread = here.small("window sum gradient", [divided], whole)
        return here.run(Kind.MOVE, "slice", [spread], spec)

    here.linear(backward)


@CpuRules.rule("global_pool", "reduce", "adaptive_pool")
def global_pool(call: Call) -> None:
    """A sum, whose gradient is spread; the largest values share theirs."""
    here = Here(call)
    (x,), (spec,), (out,) = call.x, call.ins, call.outs
    y = here.small("reduce", [x], out)
    call.result(y)
    if getattr(call.operator, "kind", None) in ("max", "min"):

        def shared(dy: Value) -> Value:
            # `math_grad.py`, `_MinOrMaxGrad`.
            same = here.ew("equal", [x, y], spec)
            count = here.small("selected", [same], out)
            share = here.run(Kind.EXPENSIVE, "share", [same, count], spec)
            return here.ew("shared gradient", [share, dy], spec)

        here.linear(shared)
        return
    here.linear(lambda dy: here.run(Kind.BROADCAST, "spread", [dy], call.ins[0]))


@CpuRules.rule("upsample", "resize")
def interpolated(call: Call) -> None:
    """TensorFlow gathers all pixels that one of the result is made of, and multiplies by weights.

    `image_resize_ops.cc` (``GeneralCompile``, ``GeneralCompileGrad``): up to three by three for
    each, which the gradient makes anew and scatters.
    """
    here = Here(call)
    (x,), (spec,), (out,) = call.x, call.ins, call.outs
    known = here.rules
    if not known.tensorflow or call.operator.interpolation == "nearest" or len(spec.dims) != 4:
        moved(call)
        return
    count, height, width, channels = out.dims
    window = [min(SPAN, size) for size in spec.dims[1:-1]]
    windows = out._replace(shape=(height * width, *window, count, channels), batch_axis=3)
    key = ("resize", spec, out)
    if key not in known.sources:
        places = TensorSpec((height * width, 2), "int32", None)
        scales = TensorSpec((height * width, *window), "float", None)
        known.sources[key] = [
            here.run(Kind.SOURCE, "places", [], places),
            here.run(Kind.SOURCE, "scales", [], scales),
        ]
    at, weights = known.sources[key]
    gathered = here.run(Kind.MOVE, "gather", [x, at], windows)
    flat = TensorSpec((height * width, count, channels), "float", 1)
    dot = here.run(Kind.CALL, "interpolate", [weights, gathered], flat)
    call.result(here.run(Kind.MOVE, "transpose", [dot], out))

    def backward(dy: Value) -> Value:
        spread = here.ew("spread", [dy, weights], windows)
        part = here.run(Kind.MOVE, "transpose gradient", [spread], windows)
        return known.added_to(call.lowering, call.layer, [at, part], spec)

    here.linear(backward)


@CpuRules.rule("pad", "crop", "slice", "permute", "channel_shuffle", "repeat")
def moved(call: Call) -> None:
    """Another arrangement of the elements."""
    here = Here(call)
    name = call.operator.type
    kind = Kind.PAD if name == "pad" else Kind.MOVE
    y = here.run(kind, name, call.x, call.outs[0])
    if kind is Kind.PAD:
        here.rules.padded[y] = call.x[0]
    call.result(y)
    # Of what is cut out: zeros around.
    back = Kind.PAD if name in ("crop", "slice") else Kind.MOVE
    here.linear(lambda dy: here.run(back, f"{name} gradient", [dy], call.ins[0]))


def variables_before(call: Call) -> list[Value]:
    """Those of the layers before."""
    low = call.lowering
    before = takewhile(lambda op: op is not call.op, low.net.ops)
    return [value for op in before for value in low.variables.get(op.weights, {}).values()]


@CpuRules.rule("dropout")
def dropout(call: Call) -> None:
    """Random numbers of the mask's shape, kept until the gradient."""
    here = Here(call)
    (x,), (spec,) = call.x, call.ins
    if not call.training or not call.operator.rate:
        call.result(x)
        call.backward(lambda dy: call.give(0, dy))
        return
    shape = spec.dims
    if call.operator.noise_shape is not None:
        shape = tuple(
            size if kept is None else kept
            for size, kept in zip(shape, call.operator.noise_shape, strict=True)
        )
    # The generator's state is a variable behind those of the layers before.
    before = variables_before(call)[-1:] if here.rules.tensorflow else ()
    state = here.small(f"seed {call.op.name}", before, TensorSpec((2,), RANDOM, None))
    # Philox' key and counter, cut into halves that are multiplied.
    for name in ("key", "halves"):
        state = here.small(name, [state], TensorSpec((2,), RANDOM, None))
    random = here.small("random", [state], TensorSpec(shape, RANDOM, 0))
    call.result(here.ew("drop", [x, random], spec))
    here.linear(lambda dy: here.ew("drop gradient", [dy, random], spec))


@CpuRules.rule("flatten", "reshape", "expand_dims", "squeeze")
def reshape(call: Call) -> None:
    """The same bytes in another shape."""
    here = Here(call)
    call.result(here.run(Kind.RESHAPE, "reshape", call.x, call.outs[0]))
    here.linear(lambda dy: here.run(Kind.RESHAPE, "reshape gradient", [dy], call.ins[0]))


@CpuRules.rule("embedding")
def embedding(call: Call) -> None:
    """Rows of a table, whose gradient is rows again for TensorFlow.

    Keras makes a table of them for each slot that they change, and for the step that reads them
    again, since the one is made of their squares.
    """
    here = Here(call)
    (x,), (out,) = call.x, call.outs
    table = call.w["embeddings"]
    call.result(here.run(Kind.MOVE, "gather", [x, table], out))

    @call.backward
    def gradient(dy: Value) -> None:
        if not call.trains("embeddings"):
            return
        job = call.lowering.job
        count = 1
        if here.rules.tensorflow:
            count = max(SLOTS[job.optimizer], 1) + (job.optimizer in READ_AGAIN)
        made = [
            here.rules.added_to(call.lowering, call.layer, [x, rows], table.spec)
            for i in range(count)
            for rows in [here.run(Kind.MOVE, f"rows {i}", [dy], out)]
        ]
        here.rules.scattered[made[0]] = made[1:]
        call.give_weight("embeddings", made[0])


@CpuRules.rule("identity", "cast")
def view(call: Call) -> None:
    """The same bytes: no operation."""
    (x,) = call.x
    call.result(x)
    call.backward(lambda dy: call.give(0, dy))


@CpuRules.rule("scale")
def scale(call: Call) -> None:
    """A trained factor for each channel."""
    here = Here(call)
    (x,), (spec,) = call.x, call.ins
    gamma = call.w["gamma"]
    call.result(here.ew("scale", [x, gamma], spec))

    @call.backward
    def gradient(dy: Value) -> None:
        both = here.ew("scale product", [dy, x], spec)
        here.variable("gamma", here.reduced("scale gradient", both, gamma.spec))
        if call.needs(0):
            call.give(0, here.ew("scale input gradient", [dy, gamma], spec))


@CpuRules.rule("function", "rescale", "standardize", "noise")
def elementwise(call: Call) -> None:
    """Any other function of one element."""
    here = Here(call)
    name = getattr(call.operator, "name", call.operator.type)
    call.result(here.ew(name, call.x, call.outs[0]))
    here.linear(lambda dy: here.ew(f"{name} gradient", [dy], call.ins[0]))
