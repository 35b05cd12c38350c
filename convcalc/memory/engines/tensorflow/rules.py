"""What Keras' operators become in TensorFlow's graph, after grappler, forwards and backwards.

Each rule was read off the optimized graph of a training step and its allocations (`tf.profiler`,
host level 3; TensorFlow 2.21, Keras 3.15, oneDNN off).  Tensors of one element a channel are kept
as stepping stones; constants, shapes and counters, a few bytes each, are left out.

The order of emission is the order of the edges that leave a tensor, which decides the order of
execution (see `executor`): of the operations that one tensor makes ready, the last emitted runs
first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convcalc.arithmetic import ceil_div, product
from convcalc.memory.engines.tensorflow import kernels
from convcalc.memory.engines.tensorflow.grappler import Order, order
from convcalc.memory.engines.tensorflow.updates import SMALL, UPDATES
from convcalc.memory.job import CROSS_ENTROPY, Job
from convcalc.memory.lowering import Call, Lowering, Rules, Tape
from convcalc.memory.program import Node, Size, Value
from convcalc.network import Op
from convcalc.ops.base import axis_of, per_axis
from convcalc.ops.convolution import split
from convcalc.tensors import TensorSpec

Dy = Value | None


class TensorFlow(Rules):
    """Keras on TensorFlow's graph executor."""

    def __init__(self, job: Job, batch: int) -> None:
        self.scratch = job.device == "cpu"
        self.batch = batch
        """Decides how kernels share out a batch."""
        self.products: dict[Node, float] = {}
        """Nanoseconds that the products of an operation take for one sample."""
        self.made: dict[tuple[Any, ...], Value] = {}
        """What operations that grappler merges have made, see `once`."""
        self.readers: dict[Value, dict[Node, int]] = {}
        """Gradient -> what batch norms make of it, and where that stands in grappler's graph."""
        self.optimized: Order | None = None

    def order(self, lowering: Lowering) -> Order:
        """In which order grappler leaves operators and gradients."""
        if self.optimized is None:
            self.optimized = order(lowering)
        return self.optimized

    def forwards(self, lowering: Lowering, part: Sequence[Op]) -> Sequence[Op]:
        places = self.order(lowering).forward
        return sorted(part, key=lambda op: places[op.name])

    def backwards(self, lowering: Lowering, tape: Tape) -> Tape:
        places = self.order(lowering).backward
        last_first = tape[::-1]
        return sorted(last_first, key=lambda entry: places.get(entry[0].op.name, 0))

    def loss(self, lowering: Lowering, name: str, output: Value) -> Value | None:
        """Cross-entropy from logits takes their place; a squared error holds four more tensors.

        ``Tile``, the gradient of the mean, reads shapes only: it runs before the forward pass.
        """
        if lowering.job.mixed:
            wide = self.emit(lowering, "Cast", [output], output.spec)
            found = self.by_loss(lowering, name, wide)
            narrow = Value(output.spec, lowering.job.width, "activations")
            lowering.program.add("Cast", [found], [narrow], layer="loss", phase=lowering.phase)
            return narrow
        return self.by_loss(lowering, name, output)

    def by_loss(self, lowering: Lowering, name: str, output: Value) -> Value:
        """The gradient of a loss, as wide as labels are."""
        spec, labels = output.spec, lowering.labels[name]
        if lowering.losses[name] == CROSS_ENTROPY:
            found = self.emit(lowering, "SoftmaxCrossEntropy", [output, labels], spec, (0,))
            return self.emit(lowering, "Mul", [found], spec, (0,))
        tile = self.emit(lowering, "Tile", [], spec)
        difference = self.emit(lowering, "Sub", [output, labels], spec, (0,))
        square = self.emit(lowering, "Square", [difference], spec, (0,))
        doubled = self.emit(lowering, "Mul", [difference], spec, (0,))
        self.emit(lowering, "Mean", [square], TensorSpec((), "float", None))
        return self.emit(lowering, "Mul", [doubled, tile], spec, (0, 1))

    def emit(
        self,
        lowering: Lowering,
        primitive: str,
        inputs: Sequence[Value],
        spec: TensorSpec,
        inplace: Sequence[int] = (),
    ) -> Value:
        """An operation of the loss."""
        made = Value(spec, lowering.job.variable_width, "activations")
        phase = lowering.phase
        lowering.program.add(primitive, inputs, [made], layer="loss", phase=phase, inplace=inplace)
        return made

    def narrowed(self, lowering: Lowering, value: Value) -> Value:
        """A cast, which all layers that read the input share."""
        made = Value(value.spec, lowering.job.width, "activations", layer=value.layer)
        lowering.program.add("Cast", [value], [made], layer=value.layer, phase=lowering.phase)
        return made

    def accumulate(self, lowering: Lowering, name: str, parts: Sequence[Value]) -> Value:
        """``AddN`` into the first operand that nobody else reads."""
        made = Value(parts[0].spec, lowering.job.width, parts[0].kind)
        places = tuple(range(len(parts)))
        lowering.program.add(
            "AddN", parts, [made], layer=name, phase=lowering.phase, inplace=places
        )
        return made

    def again(self, lowering: Lowering, kept: dict[str, Value]) -> dict[str, Value]:
        """``tf.recompute_grad`` waits for the gradient by adding its first element, times nothing,
        to what was kept: a copy of it where somebody else still reads it."""
        ready = [parts[-1].node for parts in lowering.arrived.values() if parts[-1].node]
        found = {}
        for name, value in kept.items():
            made = Value(value.spec, lowering.job.width, "activations")
            lowering.program.add(
                "AddV2", [value], [made], layer=value.layer, phase=lowering.phase, inplace=(0,),
                after=ready,
            )  # fmt: skip
            found[name] = made
        return found

    def update(self, lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
        """The optimizer's operations run as soon as a gradient is there; nothing waits for all."""
        if variable.size.fixed < SMALL:
            return
        if lowering.job.mixed:
            wide = Value(variable.spec, lowering.job.variable_width, "gradients")
            lowering.program.add("Cast", [gradient], [wide], layer=layer, phase=lowering.phase)
            gradient = wide
        UPDATES[lowering.job.optimizer](lowering, variable, gradient, layer)


rule = TensorFlow.rule


def weight(call: Call, name: str) -> Value | None:
    """A variable as the operation reads it: under a mixed policy a copy of 16 bits.

    All copies are made at the step's start, since they wait for nothing but a variable.
    """
    if name not in call.w:
        return None
    value: Value = call.w[name]
    if call.lowering.job.mixed:
        return call.emit("Cast", [], value.spec, kind="workspace")
    return value


def channels(call: Call, count: Any) -> TensorSpec:
    """One element a channel."""
    return TensorSpec((count,), "float", None)


def per_sample(spec: TensorSpec, kept: int) -> TensorSpec:
    """`kept` elements for each sample."""
    return TensorSpec((spec.dims[spec.batch_axis or 0], kept), "float", spec.batch_axis)


def scratch(call: Call, *sizes: Size) -> tuple[Size, ...]:
    """Scratch of a CPU's kernel."""
    return sizes if tensorflow(call).scratch else ()


def unfolding(call: Call, size: int) -> tuple[Size, ...]:
    """The scratch of a gradient that unfolds images, if it does."""
    return scratch(call, Size(size)) if size else ()


def timed(call: Call, value: Value, macs: int, unfolded: int = 0) -> Value:
    """Note how long the multiply-accumulates of an operation take."""
    assert value.node is not None
    kernel = call.w["kernel"].size.fixed if "kernel" in call.w else 0
    spent = kernels.multiplying(value.node.primitive, macs, unfolded, kernel)
    tensorflow(call).products[value.node] = spent
    return value


def once(call: Call, primitive: str, spec: TensorSpec, inplace: Sequence[int] = ()) -> Value:
    """An operation without variables on the first input; the one made before if it is the same.

    Grappler merges identical operations (`common_subgraph_elimination.cc`): NASNet's cells apply a
    ReLU to the same tensor again and again.
    """
    made = tensorflow(call).made
    key = (primitive, call.x[0], call.operator)
    if key not in made:
        made[key] = call.emit(primitive, call.x[:1], spec, inplace=inplace)
    return made[key]


def total(call: Call, dy: Value, count: TensorSpec) -> Value:
    """A gradient summed over all but the channels.

    Batch norms whose outputs are added have one gradient, and grappler merges their sums: both go
    on as soon as it is there.
    """
    made, key = tensorflow(call).made, ("Sum", dy)
    if key not in made:
        made[key] = call.emit("Sum", [dy], count)
    return made[key]


def as_optimized(call: Call, dy: Value, made: Sequence[Value]) -> None:
    """Put what batch norms make of their output's gradient in grappler's order."""
    rules = tensorflow(call)
    places = rules.order(call.lowering).norms.get(call.op.name)
    if places is None:
        return
    readers = rules.readers.setdefault(dy, {})
    for value, place in zip(made, places, strict=True):
        assert value.node is not None
        readers[value.node] = place
    nodes = call.lowering.program.nodes
    first = min(node.index for node in readers)
    nodes[first:] = [
        *(node for node in nodes[first:] if node not in readers),
        *sorted(readers, key=readers.__getitem__),
    ]
    for index in range(first, len(nodes)):
        nodes[index].index = index


def give_bias(call: Call, dy: Value) -> None:
    """``BiasAddGrad``."""
    if "bias" in call.w and call.trains("bias"):
        call.give_weight("bias", call.weight_gradient("bias", [dy]))


def named(value: Value, primitive: str) -> None:
    """Call the operation that makes a tensor by TensorFlow's name."""
    assert value.node is not None
    value.node.primitive = primitive


def tensorflow(call: Call) -> TensorFlow:
    """The engine's rules behind a call."""
    rules = call.lowering.rules
    assert isinstance(rules, TensorFlow)
    return rules


def in_order(call: Call, **steps: Callable[[], None]) -> None:
    """Emit the gradients of a product by kernel, bias and input; what is emitted last runs first.

    Where the input's runs first, all that follows from it does too: with one worker the kernels'
    gradients of the whole network wait, and their operands with them.
    """
    found = tensorflow(call).order(call.lowering).products.get(call.op.name)
    if call.operator.type == "dense" and len(call.ins[0].dims) > 2:
        # ``Tensordot``, between whose reshapes grappler keeps no order.
        found = None
    for name in found or ("images", "kernel", "bias", "input"):
        if name in steps:
            steps[name]()


# --- products ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """How a convolution's kernel sees its images."""

    positions: int
    """Places of the window in one image."""
    window: int
    """Elements that it covers."""
    filters: int
    inner: TensorSpec
    """Its input: of a dilated convolution that of `dilated`."""
    outer: TensorSpec
    folded: bool
    """Whether a dilated convolution's images have become a batch of smaller ones."""
    planes: int
    """Spatial axes."""

    def tensors(self, batch: int) -> int:
        """Elements of input, kernel and output."""
        images: int = self.inner.elements + self.outer.elements
        return batch * images + self.window * self.filters

    def of_filter(self, batch: int, width: int) -> int:
        """Bytes that the filter's gradient unfolds images to."""
        sizes = self.positions, self.window, self.filters, width
        if self.planes > 2:
            return kernels.unfolded_in_3d(*sizes, self.tensors(batch), False)
        return kernels.unfolded_for_filter(*sizes)

    def of_input(self, batch: int, width: int) -> int:
        """Bytes in which the input's gradient is made."""
        sizes = self.positions, self.window, self.filters, width
        one_image = batch == 1 and not self.folded
        if self.planes > 2:
            return kernels.unfolded_in_3d(*sizes, self.tensors(batch), one_image)
        return kernels.unfolded_for_input(*sizes, one_image)


def way(call: Call) -> Way:
    """A plain convolution's own sizes; those in the blocks of a dilated one.

    ``tf.nn.convolution`` makes every d-th position of an image, padded and rounded up to a multiple
    of d, an image of its own (``SpaceToBatchND``), convolves these, and puts the results together.
    """
    op, (x, *_), (y, *_) = call.operator, call.ins, call.outs
    sizes, deep = split(x, op.channels_first, "")
    spatial, filters = split(y, op.channels_first, "")
    window = product(call.w["kernel"].spec.dims) // filters if "kernel" in call.w else 1
    rates = per_axis(op.dilation, len(sizes), "dilation")
    if max(rates) == 1:
        return Way(product(spatial), window, filters, x, y, False, len(sizes))
    padded = [ceil_div(s.size + s.before + s.after, s.dilation) for s in op.slides(x)]
    places = [n - s.kernel + 1 for n, s in zip(padded, op.slides(x), strict=True)]
    blocks = product(rates)
    inner = x._replace(shape=(x.dims[0] * blocks, *padded, deep))
    outer = y._replace(shape=(y.dims[0] * blocks, *places, filters))
    return Way(product(places), window, filters, inner, outer, True, len(sizes))


@rule("conv", "depthwise_conv")
def conv(call: Call) -> None:
    """A bias, and a ReLU of the layer, are added in the output's place (``_FusedConv2D``)."""
    op, x, rules = call.operator, call.x[0], tensorflow(call)
    depthwise = op.type == "depthwise_conv"
    if not depthwise and op.groups > 1:
        grouped(call)
        return
    kernel, seen, width = weight(call, "kernel"), way(call), call.lowering.job.width
    macs = op.macs(call.ins, call.outs)
    if seen.folded:
        x = call.emit("SpaceToBatchND", [x], seen.inner)
    name = "DepthwiseConv" if depthwise else "Conv"
    y = call.emit(name, [x, kernel, call.w.get("bias")], seen.outer)
    unfolded = seen.outer.elements // seen.filters * seen.window * width
    if not depthwise:
        timed(call, y, macs)
    if seen.folded:
        y = call.emit("BatchToSpaceND", [y], call.outs[0])
    call.result(y)

    def filter_scratch() -> Sequence[Size]:
        if depthwise:
            return scratch(call, Size(0, call.w["kernel"].spec.elements * width))
        return unfolding(call, seen.of_filter(rules.batch, width))

    def input_scratch() -> Sequence[Size]:
        return () if depthwise else unfolding(call, seen.of_input(rules.batch, width))

    @call.backward
    def gradient(dy: Value) -> None:
        inner = dy

        def to_images() -> None:
            nonlocal inner
            if seen.folded:
                inner = call.emit("SpaceToBatchND", [dy], seen.outer)
            elif seen.planes < 2:
                inner = call.emit("Reshape", [dy], seen.outer, alias=True)

        def to_filter() -> None:
            if call.trains("kernel"):
                dw = call.weight_gradient("kernel", [x, inner], scratch=filter_scratch())
                named(dw, "DepthwiseBackpropFilter" if depthwise else "Conv2DBackpropFilter")
                if not depthwise:
                    timed(call, dw, macs, unfolded)
                call.give_weight("kernel", dw)

        def to_input() -> None:
            if not call.needs(0):
                return
            name = "DepthwiseBackpropInput" if depthwise else "Conv2DBackpropInput"
            dx = call.emit(name, [kernel, inner], seen.inner, scratch=input_scratch())
            if not depthwise:
                timed(call, dx, macs, unfolded)
            call.give(0, call.emit("BatchToSpaceND", [dx], call.ins[0]) if seen.folded else dx)

        in_order(
            call,
            images=to_images,
            kernel=to_filter,
            bias=lambda: give_bias(call, dy),
            input=to_input,
        )


def grouped(call: Call) -> None:
    """Keras calls XLA for a convolution in groups, forwards and backwards.

    In training it copies the input, and hands the kernel on to the gradient in a buffer of its own.
    Backwards XLA holds the kernel that it convolves with, and beside it the incoming gradient's
    copy or, if that is larger, a dense kernel's gradient: a kernel of one channel a group is first
    made a dense one.
    """
    op, x, kernel, width = call.operator, call.x[0], weight(call, "kernel"), call.lowering.job.width
    macs = op.macs(call.ins, call.outs)
    kept = call.w["kernel"].spec
    copy = (Size(0, x.spec.elements * width),) if call.training else ()
    y, handed = call.value(call.outs[0]), call.value(kept)
    made = [y, handed] if call.training else [y]
    call.node("XlaRun", [x, kernel], made, scratch=copy)
    bias = call.w.get("bias")
    if bias is not None:
        y = call.emit("BiasAdd", [y, bias], call.outs[0], inplace=(0,))
    call.result(timed(call, y, macs))
    dense = kept.elements * (op.groups if kept.dims[-2] == 1 else 1) * width
    batch = tensorflow(call).batch

    @call.backward
    def gradient(dy: Value) -> None:
        dw = Value(kept, width, "gradients", f"{call.layer}/kernel")
        dx = call.value(call.ins[0])
        given = dy.spec.elements * width
        second = kept.dims[-2] == 1 and dense > given * batch
        copies = Size(2 * dense) if second else Size(dense, given)
        call.node("XlaRun", [x, handed, dy], [dx, dw], scratch=[copies])
        timed(call, dw, 2 * macs)
        call.give(0, dx)
        if call.trains("kernel"):
            call.give_weight("kernel", dw)
        give_bias(call, dy)


@rule("conv_transpose")
def conv_transpose(call: Call) -> None:
    """The gradient of a convolution, run forwards; its own gradients are a convolution and the
    filter's gradient with input and output exchanged."""
    op, x, kernel = call.operator, call.x[0], weight(call, "kernel")
    sizes, deep = split(call.ins[0], op.channels_first, "")
    positions, width = product(sizes), call.lowering.job.width
    window = product(call.w["kernel"].spec.dims) // deep if "kernel" in call.w else 1
    batch = tensorflow(call).batch
    macs = op.macs(call.ins, call.outs)
    seen = Way(positions, window, deep, call.outs[0], call.ins[0], False, len(sizes))
    made, unfolded = [kernel, x, call.w.get("bias")], unfolding(call, seen.of_input(batch, width))
    y = call.emit("Conv2DBackpropInput", made, call.outs[0], scratch=unfolded)
    call.result(timed(call, y, macs))

    @call.backward
    def gradient(dy: Value) -> None:
        def to_kernel() -> None:
            if "kernel" in call.w and call.trains("kernel"):
                unfolded = unfolding(call, seen.of_filter(batch, width))
                dw = call.weight_gradient("kernel", [dy, x], scratch=unfolded)
                named(dw, "Conv2DBackpropFilter")
                call.give_weight("kernel", timed(call, dw, macs))

        def to_input() -> None:
            if call.needs(0):
                call.give(0, timed(call, call.emit("Conv", [dy, kernel], call.ins[0]), macs))

        in_order(call, kernel=to_kernel, bias=lambda: give_bias(call, dy), input=to_input)


@rule("dense")
def dense(call: Call) -> None:
    """A matrix product with the bias added in place."""
    x, kernel = call.x[0], weight(call, "kernel")
    macs = call.operator.macs(call.ins, call.outs)
    y = call.emit("MatMul", [x, kernel, call.w.get("bias")], call.outs[0])
    call.result(timed(call, y, macs))

    @call.backward
    def gradient(dy: Value) -> None:
        def to_kernel() -> None:
            if call.trains("kernel"):
                dw = call.weight_gradient("kernel", [x, dy])
                named(dw, "MatMul")
                call.give_weight("kernel", timed(call, dw, macs))

        def to_input() -> None:
            if call.needs(0):
                dx = call.emit("MatMulTransposed", [dy, kernel], call.ins[0])
                call.give(0, timed(call, dx, macs))

        in_order(call, kernel=to_kernel, bias=lambda: give_bias(call, dy), input=to_input)


@rule("matmul")
def matmul(call: Call) -> None:
    """A product of two tensors keeps both."""
    a, b = call.x
    y = call.emit("MatMul", [a, b], call.outs[0])
    call.result(timed(call, y, call.operator.macs(call.ins, call.outs)))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("MatMul", [dy, b], call.ins[0]))
        call.give(1, call.emit("MatMul", [a, dy], call.ins[1]))


# --- normalization ----------------------------------------------------------------------------


@rule("batch_norm")
def batch_norm(call: Call) -> None:
    """Keras composes it: ``x * inv + shift``, with the statistics from a tensor of squares.

    Backwards four tensors of the input's size: a tile from beta's sum, one from the variance, the
    input minus its mean (in the input's place if that is free) and the gradient itself.  At
    inference, and where it is frozen, the moving statistics are used.
    """
    op, x, spec = call.operator, call.x[0], call.outs[0]
    count = channels(call, spec.dims[axis_of(op.axis, len(spec.dims))])
    reads = [call.w[name] for name in call.w]
    if not call.training or not call.op.trainable:
        if call.lowering.job.width == 2:
            scaled_wide = Value(spec, 4, "activations")
            call.node("Mul", [widened(call, x), *reads], [scaled_wide], inplace=(0,))
            y = call.emit("Cast", [scaled_wide], spec)
        else:
            y = call.emit("Mul", [x, *reads], spec, inplace=(0,))
        call.result(y)

        @call.backward
        def scaled(dy: Value) -> None:
            call.give(0, call.emit("Mul", [dy], spec, inplace=(0,)))

        return
    wide = x
    if call.lowering.job.width == 2:
        wide = widened(call, x)

    def whole(
        primitive: str, inputs: Sequence[Value], inplace: Sequence[int] = (), **how: Any
    ) -> Value:
        made = call.emit(primitive, inputs, spec, inplace=inplace, **how)
        made.size = wide.size
        return made

    mean = call.emit("Mean", [wide], count)
    inv = call.emit("Mean", [whole("SquaredDifference", [mean, wide]), *reads], count)
    y = whole("Mul", [inv, wide], (1,))
    call.result(y if wide is x else call.emit("Cast", [y], spec))

    @call.backward
    def gradient(dy: Value) -> None:
        if wide is not x:
            dy = widened(call, dy)
        direct = whole("Mul", [dy, inv], (0,))
        weighed = whole("Mul", [wide, dy], (0, 1))
        beta = total(call, dy, count)
        as_optimized(call, dy, (direct, weighed, beta))
        if "beta" in call.w:
            call.give_weight("beta", beta)
        gamma = call.emit("Sum", [weighed], count)
        if "gamma" in call.w:
            call.give_weight("gamma", gamma)
        second = whole("Tile", [gamma, inv, beta])
        # Where both tiles become ready at once, the one from beta's sum runs first.
        first = whole("Tile", [beta, inv])
        assert second.node is not None
        centred = whole("Sub", [wide, mean], (0,), after=[second.node])
        inner = whole("Mul", [second, centred], (0, 1))
        dx = whole("AddN", [direct, inner, first], (0, 1, 2))
        call.give(0, dx if wide is x else call.emit("Cast", [dx], spec))


def widened(call: Call, x: Value) -> Value:
    """A copy in float32: statistics are never taken in 16 bits."""
    made = Value(x.spec, 4, "activations")
    call.node("Cast", [x], [made])
    return made


@rule("layer_norm", "group_norm", "rms_norm")
def layer_norm(call: Call) -> None:
    """Composed: gamma times the inverse deviation is made at full size, and kept."""
    x, spec = call.x[0], call.outs[0]
    few = per_sample(spec, groups_of(call))
    reads = [call.w[name] for name in call.w]
    mean = call.emit("Mean", [x], few)
    square = call.emit("SquaredDifference", [x, mean], spec)
    variance = call.emit("Rsqrt", [call.emit("Mean", [square], few)], few)
    inv = call.emit("Mul", [variance, *reads], spec) if reads else variance
    shift = call.emit("Mul", [inv, mean], spec, inplace=())
    y = call.emit("AddV2", [call.emit("Mul", [x, inv], spec), shift], spec, inplace=(0, 1))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        weighed = call.emit("Mul", [x, dy], spec, inplace=(0,))
        meant = call.emit("Mul", [mean, dy], spec)
        both = call.emit("AddN", [weighed, meant], spec, inplace=(0, 1))
        first = call.emit("Sum", [call.emit("Mul", [both, *reads], spec)], few)
        if "gamma" in call.w:
            scaled = call.emit("Mul", [both, variance], spec, inplace=(0,))
            call.give_weight("gamma", call.weight_gradient("gamma", [scaled]))
        if "beta" in call.w:
            call.give_weight("beta", call.weight_gradient("beta", [dy]))
        direct = call.emit("Mul", [dy, inv], spec, inplace=(0, 1))
        tile = call.emit("Tile", [first], spec)
        second = call.emit("Tile", [first], spec)
        assert second.node is not None
        centred = call.emit("Sub", [x, mean], spec, inplace=(0,), after=[second.node])
        inner = call.emit("Mul", [second, centred], spec, inplace=(0, 1))
        call.give(0, call.emit("AddN", [direct, inner, tile], spec, inplace=(0, 1, 2)))


def groups_of(call: Call) -> int:
    """Statistics a sample: its positions, or its groups."""
    op, spec = call.operator, call.ins[0]
    if op.type == "group_norm":
        last = spec.dims[axis_of(op.axis, len(spec.dims))]
        return int(last if op.groups == -1 else op.groups)
    axes = op.axes if isinstance(op.axes, tuple) else (op.axes,)
    inner = product(spec.dims[axis_of(axis, len(spec.dims))] for axis in axes)
    return int(spec.elements // inner)


@rule("rescale", "standardize")
def rescale(call: Call) -> None:
    """A product and a sum with constants, the second in place."""
    y = call.emit("Mul", [call.x[0], *call.w.values()], call.outs[0], inplace=(0,))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("Mul", [dy], call.ins[0], inplace=(0,)))


@rule("scale")
def scale(call: Call) -> None:
    """A trained factor a channel keeps its input for that factor's gradient."""
    x, spec, gamma = call.x[0], call.outs[0], weight(call, "gamma")
    call.result(call.emit("Mul", [x, gamma], spec, inplace=(0,)))

    @call.backward
    def gradient(dy: Value) -> None:
        if call.trains("gamma"):
            weighed = call.emit("Mul", [x, dy], spec, inplace=(0,))
            call.give_weight("gamma", call.weight_gradient("gamma", [weighed]))
        call.give(0, call.emit("Mul", [dy, gamma], spec, inplace=(0,)))


# --- element by element -----------------------------------------------------------------------

#: Activations whose gradient reads their output, and is written over the incoming one.
FROM_OUTPUT = ("relu", "relu6", "elu", "selu", "tanh", "sigmoid", "exponential")
#: Those whose gradient reads their input.
FROM_INPUT = ("leaky_relu", "softplus", "softsign", "celu", "log_sigmoid", "hard_tanh")


@rule("activation")
def activation(call: Call) -> None:
    function = call.operator.function
    x, spec = call.x[0], call.outs[0]
    if call.lowering.takes_logits(call.op):
        call.result(x)

        @call.backward
        def given(dy: Value) -> None:
            call.give(0, dy)

        return
    {
        "linear": alias,
        "softmax": softmax,
        "silu": silu,
        "swish": silu,
        "gelu": gelu,
        "hard_sigmoid": hard_sigmoid,
        "hard_silu": hard_silu,
        "hard_swish": hard_silu,
    }.get(function, from_output if function in FROM_OUTPUT else from_input)(call, x, spec)


def alias(call: Call, x: Value, spec: TensorSpec) -> None:
    """The same memory under another name or shape."""
    call.result(call.emit("Reshape", [x], spec, alias=True))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("Reshape", [dy], call.ins[0], alias=True))


def from_output(call: Call, x: Value, spec: TensorSpec) -> None:
    y = once(call, "Relu", spec, (0,))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("ReluGrad", [dy, y], spec, inplace=(0, 1)))


def from_input(call: Call, x: Value, spec: TensorSpec) -> None:
    call.result(once(call, "LeakyRelu", spec, (0,)))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("LeakyReluGrad", [dy, x], spec, inplace=(0, 1)))


def softmax(call: Call, x: Value, spec: TensorSpec) -> None:
    y = call.emit("Softmax", [x], spec, inplace=(0,))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        weighed = call.emit("Mul", [dy, y], spec)
        total = call.emit("Sum", [weighed], per_sample(spec, spec.elements // spec.dims[-1]))
        less = call.emit("Sub", [dy, total], spec, inplace=(0,))
        call.give(0, call.emit("Mul", [less, y], spec, inplace=(0, 1)))


def silu(call: Call, x: Value, spec: TensorSpec) -> None:
    """``tf.nn.silu`` keeps its input alone: the gradient computes the sigmoid again."""
    gate = call.emit("Sigmoid", [x], spec, inplace=(0,))
    call.result(call.emit("Mul", [x, gate], spec, inplace=(0, 1)))

    @call.backward
    def gradient(dy: Value) -> None:
        assert dy.node is not None
        again = call.emit("Sigmoid", [x], spec, inplace=(0,), after=[dy.node])
        rest = call.emit("Sub", [again], spec, inplace=(0,))
        inner = call.emit("Mul", [x, rest], spec, inplace=(0, 1))
        slope = call.emit("Mul", [again, inner], spec, inplace=(0, 1))
        call.give(0, call.emit("Mul", [dy, slope], spec, inplace=(0, 1)))


def gelu(call: Call, x: Value, spec: TensorSpec) -> None:
    """``x / 2 * erfc(-x / sqrt 2)``; the square in the gradient reads forward values alone, so it
    is made during the forward pass and stays."""
    half = call.emit("Mul", [x], spec, inplace=(0,))
    minus = call.emit("Mul", [x], spec, inplace=(0,))
    tail = call.emit("Erfc", [minus], spec, inplace=(0,))
    square = call.emit("Exp", [minus], spec, inplace=(0,)) if call.training else None
    call.result(call.emit("Mul", [half, tail], spec, inplace=(0, 1)))

    @call.backward
    def gradient(dy: Value) -> None:
        assert square is not None
        first = call.emit("Mul", [dy, tail], spec, inplace=(1,))
        second = call.emit("Mul", [dy, half], spec, inplace=(0, 1))
        inner = call.emit("Mul", [second, square], spec, inplace=(0, 1))
        call.give(0, call.emit("AddN", [first, inner], spec, inplace=(0, 1)))


def hard_sigmoid(call: Call, x: Value, spec: TensorSpec) -> None:
    """``relu6(x + 3) / 6``."""
    clipped = call.emit("Relu", [call.emit("AddV2", [x], spec, inplace=(0,))], spec, inplace=(0,))
    call.result(call.emit("Mul", [clipped], spec, inplace=(0,)))

    @call.backward
    def gradient(dy: Value) -> None:
        sixth = call.emit("Mul", [dy], spec, inplace=(0,))
        call.give(0, call.emit("ReluGrad", [sixth, clipped], spec, inplace=(0, 1)))


def hard_silu(call: Call, x: Value, spec: TensorSpec) -> None:
    """``x * relu6(x + 3) / 6`` keeps the input, the clipped sum and the gate."""
    clipped = call.emit("Relu", [call.emit("AddV2", [x], spec, inplace=(0,))], spec, inplace=(0,))
    gate = call.emit("Mul", [clipped], spec, inplace=(0,))
    call.result(call.emit("Mul", [x, gate], spec, inplace=(0, 1)))

    @call.backward
    def gradient(dy: Value) -> None:
        direct = call.emit("Mul", [dy, gate], spec, inplace=(0, 1))
        inner = call.emit("Mul", [dy, x], spec, inplace=(0, 1))
        inner = call.emit("Mul", [inner], spec, inplace=(0,))
        inner = call.emit("ReluGrad", [inner, clipped], spec, inplace=(0, 1))
        call.give(0, call.emit("AddN", [direct, inner], spec, inplace=(0, 1)))


@rule("prelu")
def prelu(call: Call) -> None:
    """``relu(x) - alpha * relu(-x)``."""
    x, spec, alpha = call.x[0], call.outs[0], weight(call, "alpha")
    positive = call.emit("Relu", [x], spec)
    negative = call.emit("Relu", [call.emit("Neg", [x], spec, inplace=(0,))], spec, inplace=(0,))
    scaled = call.emit("Mul", [negative, alpha], spec, inplace=(0,))
    call.result(call.emit("AddV2", [positive, scaled], spec, inplace=(0, 1)))

    @call.backward
    def gradient(dy: Value) -> None:
        first = call.emit("ReluGrad", [dy, positive], spec, inplace=(1,))
        weighed = call.emit("Mul", [dy, negative], spec)
        if call.trains("alpha"):
            call.give_weight("alpha", call.weight_gradient("alpha", [weighed]))
        second = call.emit("Mul", [dy, alpha], spec, inplace=(0,))
        second = call.emit("ReluGrad", [second, negative], spec, inplace=(0, 1))
        call.give(0, call.emit("AddN", [first, second], spec, inplace=(0, 1)))


@rule("function")
def function(call: Call) -> None:
    from_input(call, call.x[0], call.outs[0])


@rule("dropout")
def dropout(call: Call) -> None:
    """The mask depends on no tensor: it is made at the step's start, a byte an element."""
    x, spec = call.x[0], call.outs[0]
    if not call.training or not call.operator.rate:
        alias(call, x, spec)
        return
    drawn = spec
    if call.operator.noise_shape is not None:
        shape = call.operator.noise_shape
        kept = [n if m is None else m for n, m in zip(spec.dims, shape, strict=True)]
        drawn = spec._replace(shape=tuple(kept))
    random = call.emit("Random", [], drawn)
    mask = call.emit("GreaterEqual", [random], drawn._replace(dtype="bool"))
    scaled = call.emit("Mul", [x], spec, inplace=(0,))
    call.result(call.emit("Select", [mask, scaled], spec, inplace=(1,)))

    @call.backward
    def gradient(dy: Value) -> None:
        chosen = call.emit("Select", [mask, dy], spec, inplace=(1,))
        call.give(0, call.emit("Mul", [chosen], spec, inplace=(0,)))


@rule("noise")
def noise(call: Call) -> None:
    """Noise is drawn at the step's start and added in place."""
    if not call.training:
        alias(call, call.x[0], call.outs[0])
        return
    spec = call.outs[0]
    drawn = call.emit("Random", [], spec)
    call.result(call.emit("AddV2", [call.x[0], drawn], spec, inplace=(0, 1)))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, dy)


@rule("cast")
def cast(call: Call) -> None:
    call.result(call.emit("Cast", call.x, call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("Cast", [dy], call.ins[0]))


@rule("identity", "spectral_norm", "flatten", "reshape", "expand_dims", "squeeze")
def view(call: Call) -> None:
    alias(call, call.x[0], call.outs[0])


# --- branches ---------------------------------------------------------------------------------


def summed(call: Call, place: int, dy: Value) -> Value:
    """A gradient brought back to the shape of an operand that was broadcast."""
    if call.ins[place].elements == call.outs[0].elements:
        return dy
    return call.emit("Sum", [dy], call.ins[place])


@rule("add")
def add(call: Call) -> None:
    places = tuple(range(len(call.x)))
    call.result(call.emit("AddN", call.x, call.outs[0], inplace=places))

    @call.backward
    def gradient(dy: Value) -> None:
        for place in places:
            call.give(place, summed(call, place, dy))


@rule("average")
def average(call: Call) -> None:
    places = tuple(range(len(call.x)))
    whole = call.emit("AddN", call.x, call.outs[0], inplace=places)
    call.result(call.emit("Mul", [whole], call.outs[0], inplace=(0,)))

    @call.backward
    def gradient(dy: Value) -> None:
        part = call.emit("Mul", [dy], call.outs[0], inplace=(0,))
        for place in places:
            call.give(place, summed(call, place, part))


@rule("subtract")
def subtract(call: Call) -> None:
    call.result(call.emit("Sub", call.x, call.outs[0], inplace=(0, 1)))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, summed(call, 0, dy))
        if call.needs(1):
            call.give(1, summed(call, 1, call.emit("Neg", [dy], call.outs[0], inplace=(0,))))


@rule("multiply", "divide", "power")
def multiply(call: Call) -> None:
    """A product keeps all factors; a squeeze-and-excitation gate's gradient is summed."""
    spec = call.outs[0]
    y = call.x[0]
    steps = []
    for place, factor in enumerate(call.x[1:], 1):
        steps.append((y, factor, place))
        y = call.emit("Mul", [y, factor], spec, inplace=(0, 1))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        for left, right, place in reversed(steps):
            if call.needs(place):
                other = call.emit("Mul", [dy, left], spec, inplace=(0, 1))
                call.give(place, summed(call, place, other))
            dy = call.emit("Mul", [dy, right], spec, inplace=(0, 1))
        call.give(0, summed(call, 0, dy))


@rule("maximum", "minimum")
def maximum(call: Call) -> None:
    """The gradient goes to the larger, chosen by a mask of a byte an element."""
    spec = call.outs[0]
    y = call.x[0]
    steps = []
    for place, other in enumerate(call.x[1:], 1):
        steps.append((y, other, place))
        y = call.emit("Maximum", [y, other], spec, inplace=(0, 1))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        for left, right, place in reversed(steps):
            mask = call.emit("GreaterEqual", [left, right], spec._replace(dtype="bool"))
            call.give(place, summed(call, place, call.emit("Select", [mask, dy], spec)))
            dy = call.emit("Select", [mask, dy], spec, inplace=(1,))
        call.give(0, summed(call, 0, dy))


@rule("concat")
def concat(call: Call) -> None:
    call.result(call.emit("Concat", call.x, call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            if call.needs(place):
                call.give(place, call.emit("Slice", [dy], spec))


# --- pools and shapes -------------------------------------------------------------------------


@rule("max_pool", "lp_pool")
def max_pool(call: Call) -> None:
    """The gradient keeps input and output; its kernel takes the output's place for a copy, and
    eight bytes an output element for the places of the maxima."""
    x, out = call.x[0], call.outs[0]
    y = once(call, "MaxPool", out)
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        if not tensorflow(call).scratch or len(out.dims) > 4:
            call.give(0, call.emit("MaxPoolGrad", [x, y, dy], call.ins[0]))
            return
        assert dy.node is not None
        copy = call.emit("Copy", [y], out, kind="workspace", inplace=(0,), after=[dy.node])
        places = Size(0, 8 * out.elements)
        dx = call.emit("MaxPoolGrad", [x, copy, dy], call.ins[0], scratch=[places])
        call.give(0, dx)


@rule("average_pool", "adaptive_pool")
def average_pool(call: Call) -> None:
    call.result(once(call, "AvgPool", call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("AvgPoolGrad", [dy], call.ins[0]))


@rule("global_pool")
def global_pool(call: Call) -> None:
    """A mean; its gradient is a tile, divided in place.  A maximum's divides by a mask's sum."""
    reduction(call, call.operator.kind)


@rule("reduce")
def reduce(call: Call) -> None:
    reduction(call, call.operator.kind)


def reduction(call: Call, kind: str) -> None:
    x, spec = call.x[0], call.ins[0]
    y = call.emit("Mean", [x], call.outs[0])
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        if kind in ("average", "mean", "sum"):
            call.give(0, call.emit("Tile", [dy], spec))
            return
        same = call.emit("Equal", [x, y], spec._replace(dtype="bool"))
        mask = call.emit("Cast", [same], spec)
        count = call.emit("Sum", [mask], call.outs[0])
        share = call.emit("Div", [mask, count], spec, inplace=(0,))
        call.give(0, call.emit("Mul", [share, dy], spec, inplace=(0,)))


@rule("pad", "crop", "slice")
def pad(call: Call) -> None:
    call.result(once(call, "Pad", call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("Slice", [dy], call.ins[0]))


@rule("split")
def split_(call: Call) -> None:
    made = [call.value(spec) for spec in call.outs]
    call.node("Split", call.x, made)
    call.result(*made)

    @call.backward
    def gradient(*dys: Dy) -> None:
        known = [dy for dy in dys if dy is not None]
        call.give(0, call.emit("Concat", known, call.ins[0]))


@rule("permute", "space_to_depth", "depth_to_space", "channel_shuffle")
def moved(call: Call) -> None:
    """Elements in another order need a tensor of their own, both ways."""
    call.result(call.emit("Transpose", call.x, call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("Transpose", [dy], call.ins[0]))


@rule("repeat")
def repeat(call: Call) -> None:
    call.result(call.emit("Tile", call.x, call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("Sum", [dy], call.ins[0]))


@rule("upsample", "resize")
def upsample(call: Call) -> None:
    """Keras repeats along one axis after the other; interpolation resizes at once."""
    op, x = call.operator, call.x[0]
    steps = [call.ins[0], call.outs[0]]
    if op.type == "upsample" and op.interpolation == "nearest":
        axis = 0 if not op.channels_first else 1
        dims = list(call.ins[0].dims)
        steps = [call.ins[0]]
        for at in range(1 + axis, len(dims) - 1 + axis):
            dims[at] = call.outs[0].dims[at]
            steps.append(call.ins[0]._replace(shape=tuple(dims)))
    for spec in steps[1:]:
        x = call.emit("Tile", [x], spec)
    call.result(x)

    @call.backward
    def gradient(dy: Value) -> None:
        for spec in reversed(steps[:-1]):
            dy = call.emit("Sum", [dy], spec)
        call.give(0, dy)


@rule("embedding")
def embedding(call: Call) -> None:
    call.result(call.emit("Gather", [call.x[0], weight(call, "embeddings")], call.outs[0]))

    @call.backward
    def gradient(dy: Value) -> None:
        if call.trains("embeddings"):
            call.give_weight("embeddings", call.weight_gradient("embeddings", [dy]))


@rule("constant")
def constant(call: Call) -> None:
    if "value" in call.w:
        call.result(call.w["value"])

        @call.backward
        def gradient(dy: Value) -> None:
            if call.trains("value"):
                call.give_weight("value", dy)

        return
    call.result(call.emit("Const", [], call.outs[0]))
