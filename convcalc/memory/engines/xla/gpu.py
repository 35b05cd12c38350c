"""What XLA's GPU compiler keeps and makes for each operator, as its dumps show it.

Convolutions and matrix products are library calls whose operands and results are buffers.
Everything between them is fused: a normalization, an activation or a residual sum is computed anew
in each fusion that reads it, unless a library call reads it, which needs a buffer.  What differs
where convolutions run with channels first is in `planar`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from convcalc.memory.engines.xla.lazy import Emitter, Lazy, emitter, reads
from convcalc.memory.engines.xla.planar import WORKSPACE, Layout
from convcalc.memory.engines.xla.updates import Updates
from convcalc.memory.job import SQUARED_ERROR
from convcalc.memory.lowering import Call, Lowering
from convcalc.memory.program import UPDATE, Node, Size, Value
from convcalc.network import Op
from convcalc.ops.base import assemble, channel_axis, per_axis, spatial_axes
from convcalc.ops.window import extent
from convcalc.tensors import TensorSpec

#: Operators that become library calls.
CALLS = {"conv", "depthwise_conv", "conv_transpose", "dense", "matmul", "attention", "recurrent"}
#: Operators through which a tensor passes unchanged.
VIEWS = {"flatten", "reshape", "identity", "expand_dims", "squeeze"}
#: Activations that need more than comparisons: their result is worth storing.
EXPENSIVE = {
    *("swish", "silu", "sigmoid", "tanh", "gelu", "elu", "selu", "softplus", "softmax"),
    *("hard_silu", "hard_swish", "hard_sigmoid", "mish", "exponential", "log_softmax"),
}
#: Those whose gradient is computed from their result (jax.lax's rules of tanh, logistic, exp).
BY_RESULT = {"tanh", "sigmoid", "exponential", "softmax"}
RELUS = {"relu", "relu6"}
#: Those that cuDNN's convolutions apply by themselves.
LIBRARY = {"relu"}

#: Rows (batch x height x width) from which the ReLU after a normalization leaves a mask behind.
MASK_ROWS = 16_384
#: Rows up to which a normalization also keeps its input minus the mean ...
CENTERED_ROWS = 4_096
#: ... if there are at least this many elements.
CENTERED_ELEMENTS = 1 << 14
#: Blocks of threads from which the sums over each image compute an expensive activation anew: an
#: H100's 132 multiprocessors are busy.  Seen in dumps: 192 are too few.
RECOMPUTED_BLOCKS = 256
#: Channels that one block sums.
BLOCK_CHANNELS = 32
#: Pieces of a concatenation up to which a max-pool reads them where they are.
PIECES = 2


class GpuRules(Updates):
    """XLA for one GPU, at one size of batch (its fusion decides by sizes)."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.elementwise: set[Node] = set()
        self.zeros: dict[tuple[Any, ...], Value] = {}
        """Zeros that a max-pool's gradient is scattered into, by shape."""
        self.padded: dict[tuple[Any, ...], Value] = {}
        self.shared_zeros: set[tuple[Any, ...]] = set()
        self.scatters: dict[Value, tuple[Value, tuple[Value, ...], Value | None]] = {}
        self.kernels: dict[Value, Value] = {}
        """The transposed copy of each convolution's kernel."""
        self.updates: list[Node] = []
        self.copies: list[Node] = []
        self.donated: list[tuple[Size, Node, Node]] = []
        """A variable's memory is free between two operations: (size, from, to)."""
        self.readers: dict[str, list[Op]] = {}
        self.dims: dict[str, tuple[Any, ...]] = {}
        """The shape of each tensor."""
        self.forward: set[str] = set()
        """Tensors that forward convolutions make."""
        self.channels_first = False
        self.layout = Layout()
        self.planes: dict[Value, Value] = {}
        """The network's inputs with channels first."""
        self.convs: set[Value] = set()
        """What a forward convolution will make when it knows which tensor it adds."""
        self.sides: set[Value] = set()
        """Sums that a convolution has made."""

    def default(self, call: Call) -> None:
        """An operator without a rule reads and writes buffers."""
        make = emitter(call)
        call.x = [make.store(x) for x in call.x]
        super().default(call)
        tape = call.lowering.tape
        _, gradient = tape.pop()

        @call.backward
        def of_buffers(*dys: Value | None) -> None:
            gradient(*(dy if dy is None else make.store(dy) for dy in dys))

    def prepare(self, lowering: Lowering) -> None:
        """Look at the whole network before it is lowered."""
        self.channels_first = lowering.net.channels_first
        self.dims = {name: spec.dims for name, spec in lowering.net.tensors.items()}
        self.forward = {op.name for op in lowering.net.ops if op.operator.type == "conv"}
        self.layout = Layout.of(lowering.net, lowering.job, self.batch)
        made = {op.name: op for op in lowering.net.ops}
        for op in lowering.net.ops:
            for name in op.inputs:
                self.readers.setdefault(name, []).append(op)
        if not lowering.job.training:
            return
        pooled = {
            lowering.net.tensors[op.inputs[0]].dims
            for op in lowering.net.ops
            if op.operator.type == "max_pool" and len(self.readers[op.inputs[0]]) == 1
        }
        relus = {lowering.net.results[op.name][0].dims for op in made.values() if is_relu(op)}
        self.shared_zeros = pooled & relus

    def consumers(self, name: str) -> list[Op]:
        """Who reads a tensor, views looked through."""
        found: list[Op] = []
        for op in self.readers.get(name, ()):
            through = op.operator.type in VIEWS or (op.operator.type == "dropout" and spatial(op))
            found.extend(self.consumers(op.name) if through else [op])
        return found

    def adds(self, conv: Op) -> bool:
        """Whether a convolution makes a sum with another tensor, see `plus`."""
        readers = self.readers.get(conv.name, ())
        if len(readers) != 1 or readers[0].operator.type != "add" or len(readers[0].inputs) != 2:
            return False
        left, right = readers[0].inputs
        if left == right or self.dims[left] != self.dims[right]:
            return False
        return conv.name == left or not self.summable(left)

    def summable(self, name: str) -> bool:
        """Whether a tensor is a forward convolution's, which nothing else reads."""
        return name in self.forward and len(self.readers[name]) == 1

    def rows(self, spec: TensorSpec) -> int:
        """Elements of a channel: batch x height x width."""
        channels = spec.dims[channel_axis(len(spec.dims), self.channels_first)]
        return self.batch * int(spec.elements) // max(int(channels), 1)

    def busy(self, channels: int) -> bool:
        """Whether sums over each image of a batch give all multiprocessors enough to do."""
        return self.batch * -(-channels // BLOCK_CHANNELS) >= RECOMPUTED_BLOCKS

    def zero(self, emit: Emitter, spec: TensorSpec) -> Value:
        """The zeros of a shape, made once."""
        if spec.dims not in self.zeros:
            self.zeros[spec.dims] = emit.one("zeros", [], spec)
        return self.zeros[spec.dims]

    def turned(self, emit: Emitter, kernel: Value, shape: TensorSpec) -> Value:
        """A kernel in cuDNN's order of axes, made once: where a layer runs again it is there."""
        if kernel not in self.kernels:
            self.kernels[kernel] = emit.one("transpose", [kernel], shape, kind="weights")
        return self.kernels[kernel]

    def own_zeros(self, emit: Emitter, spec: TensorSpec) -> Value:
        """Zeros to write into: one operation makes them and those that a ReLU reads."""
        if spec.dims in self.zeros:
            return emit.one("copy", [self.zeros[spec.dims]], spec, elementwise=True)
        shared, own = emit.value(spec), emit.value(spec)
        self.zeros[spec.dims] = shared
        emit.run("zeros", [], [shared, own], elementwise=True)
        return own

    def loss(self, lowering: Lowering, name: str, output: Value) -> Value:
        """Softmax and cross-entropy in one; a squared error is recomputed where it is read."""
        emit = Emitter(lowering, "loss")
        scalar = TensorSpec((), "float", None)
        if lowering.losses[name] == SQUARED_ERROR and output.size.at(self.batch) >= 320e6:
            # Large ones are stored: the difference, and its gradient.
            delta, square = emit.value(output.spec), emit.value(output.spec)
            emit.run("squared error", [output], [delta, square])
            emit.one("loss", [square], scalar)
            return emit.kept(output.spec, delta)
        total = emit.one("loss", [output], scalar)
        return emit.lazy(output.spec, output, total)

    def accumulate(self, lowering: Lowering, name: str, parts: Sequence[Value]) -> Value:
        """A sum, one after the other as they arrive; max-pools' gradients are scattered into it."""
        emit = Emitter(lowering, name)
        pooled = [part for part in parts if part in self.scatters]
        rest = [part for part in parts if part not in pooled]
        if not rest:
            rest = [self.scatter(emit, pooled.pop(0), ())]
        total = rest[0]
        for part in rest[1:]:
            total = self.plus(emit, total, part)
        total = self.convolved(emit, total)
        for part in pooled:
            total = self.scatter(emit, part, [total])
        return total

    def plus(self, emit: Emitter, left: Value, right: Value) -> Value:
        """Two gradients: a forward convolution adds the other to its result by itself.

        `CudnnFusedConvRewriter` makes it a side input.  A sum that is a convolution's takes no
        second one, and then the right one is not looked at.
        """
        if left in self.convs:
            conv, side = left, self.convolved(emit, right)
        elif right in self.convs and left not in self.sides:
            conv, side = right, left
        else:
            return emit.lazy(left.spec, left, self.convolved(emit, right))
        self.convs.remove(conv)
        made = emit.one("conv", [*reads(conv), emit.store(side, "sum")], conv.spec)
        total = emit.kept(conv.spec, made)
        self.sides.add(total)
        return total

    def convolved(self, emit: Emitter, part: Value) -> Value:
        """A gradient whose convolution has nothing to add."""
        if part not in self.convs:
            return part
        self.convs.remove(part)
        return emit.kept(part.spec, emit.one("conv", reads(part), part.spec))

    def narrowed(self, lowering: Lowering, value: Value) -> Value:
        """A conversion, stored where a library call reads it."""
        return Emitter(lowering, value.layer).lazy(value.spec, value)

    def again(self, lowering: Lowering, kept: dict[str, Value]) -> dict[str, Value]:
        """What was kept and the gradients that have come are buffers, and pass a barrier."""
        self.padded.clear()
        ready = []
        for name in list(lowering.arrived):
            parts = lowering.arrived[name]
            emit = Emitter(lowering, name)
            whole = parts[0]
            if len(parts) > 1 or whole in self.scatters:
                whole = self.accumulate(lowering, name, parts)
            whole = self.convolved(emit, whole)
            stored = emit.store(whole, "dY")
            ready.append(stored)
            lowering.arrived[name] = [emit.kept(whole.spec, stored)]
        found: dict[str, Value] = {}
        for name, value in kept.items():
            emit = Emitter(lowering, name)
            stored = emit.store(value)
            made = emit.value(value.spec)
            lowering.program.add(
                "barrier", [stored, *ready], [made], layer=name, phase=lowering.phase,
                alias=stored.node is not None,
            )  # fmt: skip
            found[name] = emit.kept(value.spec, made)
        return found

    def summed(self, dy: Value) -> bool:
        """Whether a gradient is a sum of buffers as large: reading it again reads them all."""
        least = dy.size.at(self.batch)
        return sum(value.size.at(self.batch) >= least for value in reads(dy)) > 1

    def scatter(self, emit: Emitter, part: Value, others: Sequence[Value]) -> Value:
        """The gradient of a max-pool's input: each value goes where the maximum was."""
        dy, indices, zeros = self.scatters[part]
        if others:
            total = others[0] if len(others) == 1 else emit.lazy(part.spec, *others)
            target = emit.store(total, "sum")
        elif zeros is not None:
            target = zeros
        else:
            target = emit.one("zeros", [], part.spec, elementwise=True)
        return emit.kept(part.spec, self.placed(emit, [dy, *indices, target], part.spec))

    def placed(self, emit: Emitter, operands: Sequence[Value], spec: TensorSpec) -> Value:
        """The scatter itself.  A depth-first walk makes the gradient before the places."""
        made = emit.one("scatter", operands, spec, elementwise=True)
        node = made.node
        assert node is not None
        node.inputs = tuple(operands)
        node.inplace = tuple(
            place for place, value in enumerate(operands) if value.node in self.elementwise
        )
        return made

    def decide(self, lowering: Lowering, gradients: Sequence[Value]) -> Value:
        """A conditional that reads all of them."""
        scalar = TensorSpec((), "float", None)
        return Emitter(lowering, "optimizer").one("conditional", gradients, scalar)

    def write(self, lowering: Lowering, variable: Value, gradient: list[Value], layer: str) -> None:
        """A variable and its slots."""
        emit = Emitter(lowering, layer)
        width = lowering.job.variable_width
        transposed = self.kernels.get(variable)
        slots = lowering.slots[variable]
        if transposed is None:
            self.updates.append(emit.run("update", gradient, [], phase=UPDATE))
            return
        # A convolution's moments go through temporaries and are copied back in place.
        made = [Value(variable.spec, width, "optimizer") for _ in slots]
        node = emit.run("update", [*gradient, transposed], made, phase=UPDATE)
        self.updates.append(node)
        for value in made:
            copied = emit.run("copy", [value], [], phase=UPDATE)
            self.copies.append(copied)
            self.donated.append((variable.size, node, copied))
        assert transposed.node is not None
        self.donated.append((variable.size, transposed.node, node))


def is_relu(op: Op) -> bool:
    """Whether an op is a plain ReLU."""
    return op.operator.type == "activation" and op.operator.function == "relu"  # type: ignore[attr-defined]


def spatial(op: Op) -> bool:
    """Whether a dropout drops whole maps: its mask is small."""
    shape = getattr(op.operator, "noise_shape", None)
    return shape is not None and any(size == 1 for size in shape[1:])


def rules(call: Call) -> GpuRules:
    """The rules object of a call."""
    found = call.lowering.rules
    assert isinstance(found, GpuRules)
    return found


def channels_first(call: Call) -> bool:
    """Where an op's images have their channels."""
    return bool(getattr(call.operator, "channels_first", call.lowering.net.channels_first))


def vector(call: Call, spec: TensorSpec) -> TensorSpec:
    """One number for each channel."""
    axis = channel_axis(len(spec.dims), channels_first(call))
    return TensorSpec((spec.dims[axis],), "float", None)


def resized(call: Call, spec: TensorSpec, sizes: Iterable[Any]) -> TensorSpec:
    """The same images with other spatial sizes."""
    first = channels_first(call)
    channels = spec.dims[channel_axis(len(spec.dims), first)]
    return spec._replace(shape=assemble(spec.dims[0], tuple(sizes), channels, first))


def space(call: Call, spec: TensorSpec) -> tuple[Any, ...]:
    """The spatial sizes of images."""
    axes = spatial_axes(len(spec.dims), channels_first(call))
    return spec.dims[axes.start : axes.stop]


def kernel_of(call: Call) -> tuple[Value, TensorSpec]:
    """The kernel and its shape: a variable, or computed by other ops."""
    kernel = call.w.get("kernel")
    if kernel is None:
        return call.x[1], call.ins[1]
    return kernel, kernel.spec


def kernel_gradient(call: Call, inputs: Iterable[Value]) -> None:
    """Emit the gradient of the kernel, if one is asked for."""
    if "kernel" not in call.w:
        if call.needs(1):
            emit = emitter(call)
            call.give(1, emit.kept(call.ins[1], emit.one("Grad(kernel)", inputs, call.ins[1])))
    elif call.trains("kernel"):
        call.give_weight("kernel", call.weight_gradient("kernel", inputs))


def plane(call: Call, spec: TensorSpec) -> tuple[int, int]:
    """Channels, and elements of one of them."""
    channels = int(vector(call, spec).dims[0])
    return channels, int(spec.elements) // max(channels, 1)


def images(spec: TensorSpec) -> bool:
    """Whether channels first and channels last are two orders of the elements."""
    dims = spec.dims[1:]
    return len(dims) > 1 and dims[-1] != 1 and any(size != 1 for size in dims[:-1])


def settle(call: Call, y: Lazy) -> Lazy:
    """Decide whether an op's result becomes a buffer: by who reads it.

    A library call needs one.  A sum or an average that several read, or a normalization, is stored
    (fusion goes into all readers or into none); so is the ReLU before a normalization, or behind
    one with several readers, and an expensive activation of small maps with several readers.
    """
    known = rules(call)
    readers = known.consumers(call.op.name)
    types = [op.operator.type for op in readers]
    several = len(readers) > 1
    # In training two reductions read a max-pool's input, the values and the places.
    pooled = call.training and "max_pool" in types
    normalized = "batch_norm" in types or "layer_norm" in types or "group_norm" in types
    again = known.layout.planar and known.layout.recomputed(*plane(call, y.spec))
    wanted = (
        any(kind in CALLS for kind in types)
        or (y.origin == "act" and (normalized or (several and y.mask_after_norm)) and not again)
        or (
            y.origin == "exp"
            and several
            and not (again if known.layout.planar else known.busy(plane(call, y.spec)[0]))
        )
        or (y.origin in ("add", "average") and (several or normalized))
        or (
            y.origin == "act"
            and y.relu
            and y.mask_after_norm
            and pooled
            and not known.layout.planar
        )
        or (y.origin == "cat" and len(y.sources) > PIECES and "max_pool" in types)
        or (y.origin == "cat" and normalized and known.layout.planar)
    )
    if y.stored is not None or not y.sources or not wanted:
        return y
    emit = emitter(call)
    zero_shared = call.training and y.relu and y.spec.dims in known.shared_zeros
    outputs = [emit.value(y.spec)]
    inputs: list[Value] = list(y.sources)
    if zero_shared and y.spec.dims in known.zeros:
        # XLA merges the ReLU's zeros with those of a later max-pool's gradient.
        inputs.append(known.zeros[y.spec.dims])
    elif zero_shared:
        outputs.append(emit.value(y.spec))
        known.zeros[y.spec.dims] = outputs[1]
    elif y.masked and any(kind in CALLS for kind in types):
        outputs.append(emit.value(y.spec._replace(dtype="bool")))
        y.mask = outputs[1]
    emit.run("fusion", inputs, outputs, elementwise=len(outputs) == 1)
    y.stored = outputs[0]
    return y


def finish(call: Call, y: Lazy) -> Lazy:
    """Give the op's result on; what a program gives back has its channels where they were."""
    net, layout = call.lowering.net, rules(call).layout
    settle(call, y)
    given = not call.training and call.op.name in net.outputs
    if given and layout.turns and y.stored is not None and images(y.spec):
        y = emitter(call).kept(y.spec, emitter(call).one("transpose", [y], y.spec), y.origin)
    call.result(y)
    return y


@GpuRules.rule("conv", "depthwise_conv")
def conv(call: Call) -> None:
    """A cuDNN call.  Kept: the input as a buffer, the output before the activation."""
    emit, known = emitter(call), rules(call)
    x, spec = symmetric(call, emit, in_planes(call, emit.store(call.x[0])))
    kernel, shape = kernel_of(call)
    slides = call.operator.slides(call.ins[0])
    transposed = known.turned(emit, kernel, shape)
    needed = call.needs(0) and call.training
    copied = None
    pointwise = all(slide.kernel == 1 for slide in slides)
    if needed and pointwise and not known.layout.planar:
        # A 1x1 kernel has its bytes in the right order for the input's gradient: one more copy.
        copied = emit.one("copy", [kernel], shape, kind="weights")
    if known.adds(call.op):
        call.result(emit.lazy(call.outs[0], x, transposed, origin="conv"))
        known.convs.add(call.lowering.values[call.op.name])
    else:
        z = emit.one("conv", [x, transposed], call.outs[0])
        finish(call, emit.kept(call.outs[0], z, "conv"))
    strided = any(slide.stride > 1 for slide in slides)

    @call.backward
    def gradient(dy: Value) -> None:
        d = emit.store(dy, "dY")
        kernel_gradient(call, [x, d])
        bias_gradient(call, dy)
        if not needed:
            return
        if strided and call.operator.type == "depthwise_conv":
            wide = resized(call, call.outs[0], (size + 2 for size in space(call, call.outs[0])))
            d = emit.one("pad", [d], wide)
        operands = [d, transposed if copied is None else copied]
        if pointwise and not strided and len(known.readers[call.op.inputs[0]]) > 1:
            dx = emit.lazy(call.ins[0], *operands)
            known.convs.add(dx)
        else:
            dx = emit.kept(call.ins[0], emit.one("conv", operands, spec))
        call.give(0, dx)


def in_planes(call: Call, x: Value) -> Value:
    """The network's input as convolutions read it; what is computed is there as they need it."""
    known = rules(call)
    if not known.layout.turns or x.node is not None or not images(x.spec):
        return x
    if x not in known.planes:
        known.planes[x] = emitter(call).one("transpose", [x], x.spec)
    return known.planes[x]


def bias_gradient(call: Call, dy: Value) -> None:
    """The bias' gradient: one reduction, with the update (of a vector) inside it."""
    if "bias" in call.w and call.trains("bias"):
        call.weight_gradient("bias", reads(dy))


def symmetric(call: Call, emit: Emitter, x: Value) -> tuple[Value, TensorSpec]:
    """The input as cuDNN takes it, which pads both sides alike.

    Where "same" padding with a stride is longer behind, a padded copy stands in for the input; if
    the input was made by a fusion for this reader alone, that fusion writes the padded one.
    """
    spec, known = call.ins[0], rules(call)
    found = call.operator.slides(spec)
    if all(slide.before == slide.after for slide in found):
        return x, x.spec
    wide = resized(call, spec, (slide.size + slide.before + slide.after for slide in found))
    key = (call.op.inputs[0], wide.dims)
    if key not in known.padded:
        alone = len(known.consumers(call.op.inputs[0])) == 1
        if x.node in known.elementwise and alone and not x.users:
            x.size = Value(wide, call.lowering.job.width, "activations").size
            known.padded[key] = x
        else:
            known.padded[key] = emit.one("pad", [x], wide)
    return known.padded[key], wide


@GpuRules.rule("conv_transpose")
def conv_transpose(call: Call) -> None:
    """The input's gradient of a convolution, and so a cuDNN call.

    Its kernel's gradient transposes both operands, the input with zeros in between for a stride.
    cuDNN crops both sides alike only: otherwise the output is whole and a fusion cuts it, and the
    gradient is padded to that size, as it is and transposed, by one fusion.  A ReLU's selection
    goes into that fusion, and the mask by which it selects is made with the bias' gradient.
    """
    emit, known = emitter(call), rules(call)
    (spec, *_), (out,) = call.ins, call.outs
    x = emit.store(call.x[0])
    rank = len(space(call, spec))
    kernel, shape = kernel_of(call)
    windows = per_axis(call.operator.kernel, rank, "kernel")
    strides = per_axis(call.operator.stride, rank, "stride")
    dilations = per_axis(call.operator.dilation, rank, "dilation")
    whole = [
        (n - 1) * s + extent(k, d)
        for n, k, s, d in zip(space(call, spec), windows, strides, dilations, strict=True)
    ]
    odd = any((full - size) % 2 for full, size in zip(whole, space(call, out), strict=True))
    wide = resized(call, out, whole) if odd else out
    turned = x
    if call.training:
        between = ((n - 1) * s + 1 for n, s in zip(space(call, spec), strides, strict=True))
        turned = emit.one("transpose", [x], resized(call, spec, between))
    transposed = known.turned(emit, kernel, shape)
    made = emit.one("conv", [x, transposed], wide)
    finish(call, emit.kept(out, made, "transposed"))

    @call.backward
    def gradient(dy: Value) -> None:
        other = emit.value(wide)
        if odd:
            gated = dy.gated if isinstance(dy, Lazy) and dy.stored is None else None
            if gated is not None and "bias" in call.w:
                mask = emit.one("mask", reads(dy), out._replace(dtype="bool"))
                sources = reads(gated, mask)
            else:
                sources = (emit.store(dy, "dY"),)
            d = emit.value(wide)
            emit.run("pad", sources, [d, other])
        else:
            d = emit.store(dy, "dY")
            emit.run("transpose", [d], [other])
        kernel_gradient(call, [turned, other])
        bias_gradient(call, dy)
        if call.needs(0):
            call.give(0, emit.kept(spec, emit.one("conv", [d, transposed], spec)))


@GpuRules.rule("dense")
def dense(call: Call) -> None:
    """A matrix product: no copies of the kernel, but in 16 bits under a mixed policy."""
    emit = emitter(call)
    x = emit.store(call.x[0])
    kernel = call.w["kernel"]
    if call.lowering.job.mixed:
        kernel = emit.one("convert", [kernel], kernel.spec, kind="weights")
    made = product(call, [x, kernel], emit.value(call.outs[0]))
    finish(call, emit.kept(call.outs[0], made, "dot"))

    @call.backward
    def gradient(dy: Value) -> None:
        d = emit.store(dy, "dY")
        if call.trains("kernel"):
            made = Value(kernel.spec, call.lowering.job.width, "gradients", f"{call.layer}/kernel")
            call.give_weight("kernel", product(call, [x, d], made))
        bias_gradient(call, dy)
        if call.needs(0):
            dx = product(call, [d, kernel], emit.value(call.ins[0]))
            call.give(0, emit.kept(call.ins[0], dx))


def product(call: Call, factors: Sequence[Value], result: Value) -> Value:
    """A matrix product, with its workspace if it is cuBLAS'."""
    emit = emitter(call)
    beside = [emit.value(WORKSPACE)] if rules(call).layout.cublas else []
    emit.run("dot", factors, [result, *beside])
    return result


@GpuRules.rule("activation", "prelu")
def activation(call: Call) -> None:
    """Computed wherever it is read; its gradient recomputes the input from what is stored."""
    emit, known = emitter(call), rules(call)
    function = getattr(call.operator, "function", "leaky_relu")
    (x,) = call.x
    if function == "linear" or call.lowering.takes_logits(call.op):
        call.result(x)
        call.backward(lambda dy: call.give(0, dy))
        return
    origin = getattr(x, "origin", "")
    alone = len(known.readers[call.op.inputs[0]]) == 1
    if not call.training and function in LIBRARY and origin == "conv" and alone:
        # The library call applies it (CudnnFusedConvRewriter); in training the gradient needs both.
        finish(call, emit.kept(call.outs[0], emit.store(x), "conv"))
        return
    before = reads(x)
    y = emit.lazy(call.outs[0], x, origin="exp" if function in EXPENSIVE else "act")
    y.relu = function == "relu"
    y.mask_after_norm = origin in ("bn", "add")
    if function == "gelu" and call.training:
        before = (*before, emit.one("erf", before, call.outs[0]))
    readers = known.consumers(call.op.name)
    last = any(op.operator.type == "global_pool" for op in readers)
    many = known.rows(call.outs[0]) >= MASK_ROWS
    after_norm = origin == "bn" and getattr(x, "normalized", "") not in ("add", "cat")
    layout, place = known.layout, plane(call, call.outs[0])
    y.masked = (
        call.training
        and function == "relu"
        and (layout.masked(*place, last) if layout.planar else many)
        and (after_norm or (origin == "add" and last))
        and call.lowering.job.width > 2
    )
    if y.masked and last:
        y.mask = emit.one("mask", before, call.outs[0]._replace(dtype="bool"))
    finish(call, y)
    if function in EXPENSIVE:

        @call.backward
        def gradient(dy: Value) -> None:
            dx = emit.lazy(call.ins[0], dy, *(reads(y) if function in BY_RESULT else before))
            if not layout.planar or known.summed(dy) or not layout.recomputed(*place):
                emit.store(dx, "activation gradient")
            call.give(0, dx)

        return

    @call.backward
    def select(dy: Value) -> None:
        if y.mask is not None:
            call.give(0, emit.lazy(call.ins[0], dy, y.mask))
            return
        shared = y.relu and y.spec.dims in known.shared_zeros
        zero = known.zero(emit, y.spec) if shared else None
        dx = emit.lazy(call.ins[0], dy, *before, zero)
        dx.gated = dy
        from_pool = getattr(dy, "origin", "") == "spread"
        normalized = getattr(x, "normalized", "")
        if layout.planar:
            if origin in ("bn", "add") and (known.summed(dy) or not layout.recomputed(*place)):
                emit.store(dx, "select")
        elif origin == "bn" and function == "relu6" and many:
            small = emit.one("mask", [dy, *before], call.outs[0]._replace(dtype="bool"))
            dx = emit.lazy(call.ins[0], dy, small)
        elif (
            origin in ("bn", "add")
            and function in RELUS
            and not (from_pool and origin == "bn")
            and not (origin == "bn" and normalized == "cat")
        ):
            emit.store(dx, "select")
        call.give(0, dx)


@GpuRules.rule("batch_norm", "layer_norm", "group_norm", "rms_norm")
def normalization(call: Call) -> None:
    """Statistics are small buffers; the result is never stored for itself."""
    emit, known = emitter(call), rules(call)
    (x,), spec = call.x, call.outs[0]
    origin = getattr(x, "origin", "")
    if origin == "exp" and isinstance(x, Lazy) and x.stored is None:
        emit.store(x)
    if call.operator.type == "batch_norm" and not call.training:
        y = emit.lazy(spec, x, origin="bn")
        y.normalized = origin
        finish(call, y)
        return
    small = vector(call, spec) if call.operator.type == "batch_norm" else per_position(call)
    mean = emit.one("mean", [x], small)
    centered: Value = x
    few = known.rows(spec) <= CENTERED_ROWS and not known.layout.planar
    if few and known.batch * spec.elements >= CENTERED_ELEMENTS:
        made = emit.one("centered", [x, mean], spec, elementwise=True)
        centered = emit.kept(spec, made)
    variance = emit.one("variance", [centered, mean], small)
    y = emit.lazy(spec, x, mean, variance, origin="bn")
    y.normalized = origin
    finish(call, y)

    @call.backward
    def gradient(dy: Value) -> None:
        first = emit.one("sums", [dy, x, mean], small)
        second = emit.one("sums", [centered, first], small)
        if call.needs(0):
            call.give(0, emit.lazy(call.ins[0], dy, centered, second))


def per_position(call: Call) -> TensorSpec:
    """The statistics of a normalization of each sample."""
    spec = call.outs[0]
    if call.operator.type == "group_norm":
        groups = call.operator.groups
        return spec._replace(shape=(spec.dims[0], spec.dims[-1] if groups == -1 else groups))
    return spec._replace(shape=spec.dims[:-1])


@GpuRules.rule("add", "average", "subtract", "maximum", "minimum")
def add(call: Call) -> None:
    """A sum inside a fusion; its gradient goes to each summand as it is."""
    emit, known = emitter(call), rules(call)
    if any(value in known.convs for value in call.x):
        total = known.plus(emit, *call.x)
        finish(call, emit.kept(call.outs[0], reads(total)[0], "conv"))
    else:
        finish(call, emit.lazy(call.outs[0], *call.x, origin="add"))

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            if call.needs(place):
                call.give(place, fitted(emit, dy, spec, call.outs[0]))


def fitted(emit: Emitter, dy: Value, spec: TensorSpec, whole: TensorSpec) -> Value:
    """A gradient summed over the axes along which its input was repeated."""
    if spec.elements == whole.elements:
        return dy
    return emit.kept(spec, emit.one("sum", [dy], spec))


@GpuRules.rule("multiply")
def multiply(call: Call) -> None:
    """A product inside a fusion; the gradient of a broadcast gate needs it stored."""
    emit, known = emitter(call), rules(call)
    finish(call, emit.lazy(call.outs[0], *call.x, origin="multiply"))

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            if not call.needs(place):
                continue
            others = [value for other, value in enumerate(call.x) if other != place]
            product = emit.lazy(call.outs[0], dy, *others)
            if spec.elements < call.outs[0].elements:
                if not known.layout.planar:
                    emit.store(product, "product")
                call.give(place, emit.kept(spec, emit.one("sum", [product], spec)))
            else:
                call.give(place, product)


@GpuRules.rule("concat")
def concat(call: Call) -> None:
    """Taken apart into its pieces; a buffer only where a library call reads it."""
    emit = emitter(call)
    pieces = [
        piece for value in call.x for piece in (getattr(value, "pieces", None) or reads(value))
    ]
    y = emit.lazy(call.outs[0], *pieces, origin="cat")
    y.pieces = y.sources
    finish(call, y)

    @call.backward
    def gradient(dy: Value) -> None:
        for place, spec in enumerate(call.ins):
            call.give(place, emit.lazy(spec, dy))


@GpuRules.rule("max_pool")
def max_pool(call: Call) -> None:
    """With int32 indices of the output's size for each axis; the gradient is a scatter."""
    emit, known = emitter(call), rules(call)
    (x,), spec = call.x, call.ins[0]
    way = call.operator.way(spec)
    if all(slide.kernel == 1 for slide in way):
        finish(call, emit.lazy(call.outs[0], x, origin="pool"))
        call.backward(lambda dy: call.give(0, emit.lazy(spec, dy)))
        return
    alone = len(known.readers[call.op.inputs[0]]) == 1
    padded = any(slide.before for slide in way)
    shares = call.training and spec.dims in known.shared_zeros and alone and not padded
    relu = isinstance(x, Lazy) and x.relu and x.stored is None
    trained = call.training and call.needs(0)
    # Zeros that a ReLU reads as well live from the forward pass on: the gradient has its own.
    target = known.own_zeros(emit, spec) if shares and trained else None
    zeros = [known.zero(emit, spec)] if shares and relu else []
    made = emit.one("pool", [x, *zeros], call.outs[0])
    finish(call, emit.kept(call.outs[0], made, "pool"))
    if not trained:
        return
    integers = call.outs[0]._replace(dtype="int32")
    indices = [emit.value(integers) for _ in call.outs[0].dims]
    dead = emit.value(call.outs[0])
    emit.run("argmax", [x, *zeros], [*indices, dead])

    @call.backward
    def gradient(dy: Value) -> None:
        computed = isinstance(dy, Lazy) and dy.stored is None
        d = emit.store(dy, "dY")
        if known.layout.turns and not computed and images(dy.spec):
            d = emit.one("transpose", [d], dy.spec)
        if padded:
            # Into zeros as large as the padded input, of which the middle is read.
            sizes = (slide.size + slide.before + slide.after for slide in way)
            wide = resized(call, spec, sizes)
            zeros = emit.one("zeros", [], wide, elementwise=True)
            whole = known.placed(emit, [d, *indices, zeros], wide)
            call.give(0, emit.lazy(spec, whole))
            return
        part = emit.lazy(spec)
        known.scatters[part] = (d, tuple(indices), target)
        call.give(0, known.scatter(emit, part, ()) if alone else part)


@GpuRules.rule("average_pool")
def average_pool(call: Call) -> None:
    """A windowed sum inside a fusion."""
    emit = emitter(call)
    finish(call, emit.lazy(call.outs[0], *call.x, origin="average"))
    call.backward(lambda dy: call.give(0, emit.lazy(call.ins[0], dy)))


@GpuRules.rule("global_pool", "reduce", "adaptive_pool")
def global_pool(call: Call) -> None:
    """A reduction into a small buffer; its gradient is a broadcast inside a fusion."""
    emit = emitter(call)
    finish(call, emit.kept(call.outs[0], emit.one("reduce", call.x, call.outs[0]), "reduce"))
    call.backward(lambda dy: call.give(0, emit.lazy(call.ins[0], dy, origin="spread")))


@GpuRules.rule("pad")
def pad(call: Call) -> None:
    """Part of a convolution's or a pool's window if both sides are alike, else in a fusion."""
    emit, known = emitter(call), rules(call)
    readers = known.consumers(call.op.name)
    before, after = space(call, call.ins[0]), space(call, call.outs[0])
    alike = all((new - old) % 2 == 0 for new, old in zip(after, before, strict=True))
    if alike and readers and all(op.operator.type in CALLS for op in readers):
        emit.store(call.x[0])
        y = emit.lazy(call.ins[0], call.x[0], origin="pad")
        y.stored = call.x[0].stored if isinstance(call.x[0], Lazy) else call.x[0]
    else:
        y = emit.lazy(call.outs[0], call.x[0], origin="pad")
    finish(call, y)
    call.backward(lambda dy: call.give(0, emit.lazy(call.ins[0], dy)))


@GpuRules.rule("crop", "slice", "upsample", "permute", "channel_shuffle", "repeat", "resize")
def moved(call: Call) -> None:
    """Another arrangement, computed inside whatever reads it."""
    emit = emitter(call)
    finish(call, emit.lazy(call.outs[0], *call.x, origin="moved"))
    call.backward(lambda dy: call.give(0, emit.lazy(call.ins[0], dy)))


@GpuRules.rule("dropout")
def dropout(call: Call) -> None:
    """In training a byte for each random number; the result is computed where it is read."""
    emit = emitter(call)
    (x,) = call.x
    if not call.training or not call.operator.rate:
        call.result(x)
        call.backward(lambda dy: call.give(0, dy))
        return
    shape = call.outs[0].dims
    if spatial(call.op):
        shape = tuple(
            size if kept is None else kept
            for size, kept in zip(shape, call.operator.noise_shape, strict=True)
        )
    random = emit.one("random", [], TensorSpec(shape, "bool", 0))
    finish(call, emit.lazy(call.outs[0], x, random, origin="dropout"))
    call.backward(lambda dy: call.give(0, emit.lazy(call.ins[0], dy, random)))


@GpuRules.rule("reshape", "flatten", "identity", "expand_dims", "squeeze")
def view(call: Call) -> None:
    """The same bytes under another shape."""
    emit = emitter(call)
    (x,) = call.x
    y = emit.lazy(call.outs[0], x, origin=getattr(x, "origin", ""))
    moves = rules(call).layout.turns and images(call.ins[0]) != images(call.outs[0])
    if isinstance(x, Lazy) and not moves:
        y.stored, y.relu = x.stored, x.relu
        y.pieces = x.pieces
    finish(call, y)

    @call.backward
    def gradient(dy: Value) -> None:
        dx = emit.lazy(call.ins[0], dy)
        if not moves:
            dx.stored = dy.stored if isinstance(dy, Lazy) else dy
        call.give(0, dx)


@GpuRules.rule("function", "rescale", "standardize", "scale", "noise", "cast", "unit_norm")
def elementwise(call: Call) -> None:
    """Any other function of one element, with its variables' gradients as reductions."""
    emit = emitter(call)
    (x,) = call.x
    finish(call, emit.lazy(call.outs[0], x, origin="elementwise"))

    @call.backward
    def gradient(dy: Value) -> None:
        for name in call.w:
            if call.trains(name):
                call.weight_gradient(name, reads(dy, x))
        call.give(0, emit.lazy(call.ins[0], dy))
