"""A `Network` as the PyTorch module that a user would have written.

Images stand channels first in the module, as PyTorch has them, whatever the network has: windows,
pools and normalizations along the channels read them there, a dense layer or a layer normalization
along the last axis reads a permuted view, and a flatten keeps the channels in front.  Padding that
is the same on both sides belongs to the convolution; other padding is an ``F.pad`` before it, or,
for a pool, what `ceil_mode` does.  No activation is in place, as is PyTorch's default.

The module's submodules carry the ops' names ("/" and "." become "_"); what branches meet in is a
function, as ``x + y`` is.  A tensor is let go of when its last reader has read it.  What a network
does not hold (epsilon, momentum, constants of a rescaling, slopes) gets PyTorch's default; none of
it changes a shape or a byte.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from convcalc.errors import MissingExtra, ModelError
from convcalc.memory.engines.torch.layout import Layout, apart, pool_mode, transposed_directly
from convcalc.memory.job import NONE
from convcalc.memory.segments import stretches
from convcalc.network import Network, Op
from convcalc.ops import Param
from convcalc.ops.base import axis_of
from convcalc.tensors import TensorSpec

ACTIVATIONS = {
    "celu": "CELU",
    "elu": "ELU",
    "gelu": "GELU",
    "hard_shrink": "Hardshrink",
    "hard_sigmoid": "Hardsigmoid",
    "hard_silu": "Hardswish",
    "hard_swish": "Hardswish",
    "hard_tanh": "Hardtanh",
    "leaky_relu": "LeakyReLU",
    "linear": "Identity",
    "log_sigmoid": "LogSigmoid",
    "mish": "Mish",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "soft_shrink": "Softshrink",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "swish": "SiLU",
    "tanh": "Tanh",
    "tanh_shrink": "Tanhshrink",
}
#: Activations that work along the channels.
ALONG_CHANNELS = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "glu": "GLU"}

#: Functions of an element and a constant, whose value the network does not hold.
WITH_CONSTANT = {
    "add": lambda x: x + 1.0,
    "subtract": lambda x: x - 1.0,
    "multiply": lambda x: x * 1.0,
    "divide": lambda x: x / 1.0,
    "true_divide": lambda x: x / 1.0,
    "power": lambda x: x**2.0,
    "pow": lambda x: x**2.0,
    "clip": lambda x: x.clamp(0.0, 6.0),
    "maximum": lambda x: x.clamp(min=0.0),
    "minimum": lambda x: x.clamp(max=6.0),
}
#: Functions that PyTorch has under the same name.
NAMED = (
    *("abs", "ceil", "cos", "erf", "exp", "expm1", "floor", "log", "log1p", "neg", "negative"),
    *("reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "tan", "tanh"),
)

MERGES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda torch, a, b: a + b,
    "subtract": lambda torch, a, b: a - b,
    "multiply": lambda torch, a, b: a * b,
    "divide": lambda torch, a, b: a / b,
    "maximum": lambda torch, a, b: torch.maximum(a, b),
    "minimum": lambda torch, a, b: torch.minimum(a, b),
    "average": lambda torch, a, b: a + b,
    "power": lambda torch, a, b: a**b,
}


def build(network: Network, *, logits: Collection[str] = (), remat: str = NONE) -> Any:
    """The module of a network, with fresh random weights, on the default device.

    `logits` names outputs whose softmax is left out: PyTorch's cross-entropy contains it.  Under
    `remat` all stretches but the last run in `torch.utils.checkpoint.checkpoint`.

    Raises:
        MissingExtra: PyTorch is not installed.
        ModelError: PyTorch has nothing for an operator; the message names op and layer.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch") from None
    return Builder(network, torch, logits, remat).build()


def input_shapes(model: Any, network: Network, batch: int) -> list[tuple[int, ...]]:
    """What each input must have for a batch of `batch`, as the module reads it."""
    found = []
    for name, spec in network.inputs.items():
        shape = spec.shape_at(batch)
        assert shape is not None
        found.append(channels_to_front(shape) if name in model.moved else shape)
    return found


def output_shape(model: Any, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an output in the network's own order of axes."""
    return (shape[0], *shape[2:], shape[1]) if name in model.moved else shape


def count_params(model: Any) -> int:
    """Elements of parameters and buffers, without PyTorch's own counters of batches."""
    counted = [tensor.numel() for tensor in model.parameters()]
    for name, tensor in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            counted.append(tensor.numel())
    return sum(counted)


def channels_to_front(shape: Sequence[Any]) -> tuple[Any, ...]:
    """A shape with its last axis behind the batch."""
    return (shape[0], shape[-1], *shape[1:-1])


@dataclass(slots=True)
class Step:
    """One call of a submodule: what it reads, how that must be turned before, what it writes."""

    module: str
    inputs: tuple[str, ...]
    turns: tuple[str | None, ...]
    """For each input: "front" moves the last axis behind the batch, "back" undoes that."""
    outputs: tuple[str, ...]
    done: tuple[str, ...] = ()
    """Tensors that nobody reads afterwards."""


@dataclass(slots=True)
class Part:
    """Steps that run in a checkpoint: the tensors that go in and that come out."""

    start: int
    end: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...]
    """Tensors that nobody reads afterwards."""


@dataclass(slots=True)
class Place:
    """An op whose inputs have been brought into the order in which it reads them."""

    builder: Builder
    op: Op
    inputs: list[TensorSpec]
    outputs: tuple[TensorSpec, ...]
    moved: bool
    """The tensors have their channels in front, the network has them last."""

    @property
    def torch(self) -> Any:
        return self.builder.torch

    @property
    def rank(self) -> int:
        return len(self.inputs[0].dims)

    def axis(self, axis: int) -> int:
        """An axis of the first input as a position in the tensor."""
        at = axis_of(axis, self.rank)
        if not self.moved or at == 0:
            return at
        return 1 if at == self.rank - 1 else at + 1

    def shape(self, spec: TensorSpec) -> tuple[Any, ...]:
        """A spec's sizes as the tensor has them."""
        return channels_to_front(spec.dims) if self.moved else spec.dims

    def kind(self, name: str) -> Any:
        """The class of torch.nn for this number of spatial axes: Conv2d for "Conv"."""
        found = getattr(self.torch.nn, f"{name}{self.rank - 2}d", None)
        if found is None:
            raise self.refusal(f"it has no {name.lower()} of {self.rank - 2} spatial axes")
        return found

    def call(self, function: Callable[..., Any], **params: Param) -> Any:
        """A module around a function; it holds `params` and hands them to the function."""
        return self.builder.own.Call(function, params)

    def param(self, name: str) -> Param | None:
        """The op's variable of that name."""
        found = self.builder.network.params[self.op.weights]
        return next((param for param in found if param.name == name), None)

    def refusal(self, why: str) -> ModelError:
        return ModelError(
            f"'{self.op.name}' ({self.op.operator.type}) of layer '{self.op.layer}' cannot be "
            f"built in PyTorch: {why}"
        )


class Own:
    """Modules that torch.nn lacks."""

    def __init__(self, torch: Any) -> None:
        nn = torch.nn

        def variable(module: Any, name: str, param: Param) -> None:
            """Give `module` a parameter, or a buffer if no optimizer updates it."""
            if param.dtype != "float":
                kind = {"dtype": getattr(torch, param.dtype)}
                module.register_buffer(name, torch.ones(param.shape, **kind))
            elif param.trainable:
                module.register_parameter(name, nn.Parameter(torch.ones(param.shape)))
            else:
                module.register_buffer(name, torch.ones(param.shape))

        class Call(nn.Module):  # type: ignore[misc, name-defined]
            """A function, with the variables that it is handed after its inputs."""

            def __init__(self, function: Callable[..., Any], params: dict[str, Param]) -> None:
                super().__init__()
                self.function = function
                self.held = list(params)
                for name, param in params.items():
                    variable(self, name, param)

            def forward(self, *inputs: Any) -> Any:
                return self.function(*inputs, *(getattr(self, name) for name in self.held))

        class BatchNorm(nn.modules.batchnorm._BatchNorm):  # type: ignore[misc, name-defined]
            """Batch normalization of any rank whose scale and shift are there one by one."""

            def __init__(self, size: int, scale: bool, center: bool, statistics: bool) -> None:
                super().__init__(size, affine=False, track_running_stats=statistics)
                if scale:
                    self.weight = nn.Parameter(torch.ones(size))
                if center:
                    self.bias = nn.Parameter(torch.zeros(size))

            def _check_input_dim(self, input: Any) -> None:
                pass

        class Translated(nn.Module):  # type: ignore[misc, name-defined]
            """The network: its steps in order."""

            def __init__(self, network: Network) -> None:
                super().__init__()
                self.sources = tuple(network.inputs)
                self.results = network.outputs
                self.steps: list[Step] = []
                self.parts: list[Part] = []
                self.functions: dict[str, Callable[..., Any]] = {}
                self.moved: set[str] = set()

            def forward(self, *inputs: Any) -> Any:
                tensors = dict(zip(self.sources, inputs, strict=True))
                del inputs
                for part in self.parts if self.training else ():
                    given = [tensors[name] for name in part.inputs]
                    checkpoint = torch.utils.checkpoint.checkpoint
                    made = checkpoint(self.again, part, *given, use_reentrant=False)
                    tensors.update(zip(part.outputs, made, strict=True))
                    del given, made
                    for name in part.done:
                        tensors.pop(name, None)
                at = self.parts[-1].end if self.parts and self.training else 0
                self.run(self.steps[at:], tensors)
                found = tuple(tensors[name] for name in self.results)
                return found if len(found) > 1 else found[0]

            def again(self, part: Part, *inputs: Any) -> tuple[Any, ...]:
                """One stretch, as a function of what it begins with."""
                tensors = dict(zip(part.inputs, inputs, strict=True))
                del inputs
                self.run(self.steps[part.start : part.end], tensors, part.outputs)
                return tuple(tensors[name] for name in part.outputs)

            def run(
                self, steps: Sequence[Step], tensors: dict[str, Any], kept: Sequence[str] = ()
            ) -> None:
                """Steps in order; what none of them reads again is let go of."""
                for step in steps:
                    module = self.functions.get(step.module) or getattr(self, step.module)
                    given = [tensors[name] for name in step.inputs]
                    made = module(*map(turned, given, step.turns))
                    made = made if isinstance(made, (list, tuple)) else (made,)
                    tensors.update(zip(step.outputs, made, strict=True))
                    del given, made
                    for name in step.done:
                        if name not in kept:
                            tensors.pop(name, None)

        self.Call = Call
        self.BatchNorm = BatchNorm
        self.Translated = Translated


def turned(tensor: Any, way: str | None) -> Any:
    """A view of `tensor` with its axes in another order."""
    if way is None:
        return tensor
    rank = tensor.dim()
    if way == "front":
        return tensor.permute(0, rank - 1, *range(1, rank - 1))
    return tensor.permute(0, *range(2, rank), 1)


@dataclass(slots=True)
class Builder:
    """Walks a network and keeps what has been made."""

    network: Network
    torch: Any
    logits: Collection[str] = ()
    remat: str = NONE
    own: Any = None
    names: set[str] = field(default_factory=set)
    shared: dict[str, tuple[str, Op, bool]] = field(default_factory=dict)
    """For each weights key: the submodule, the op it was made for, and its layout."""
    layout: Any = None

    def build(self) -> Any:
        network = self.network
        self.own = Own(self.torch)
        model = self.own.Translated(network)
        self.names.update(name for name in dir(model))
        for name, spec in network.inputs.items():
            if spec.batch_axis != 0:
                raise ModelError(f"input '{name}' ({spec}) does not have its batch in front")
        self.layout = Layout(network)
        model.moved = self.layout.moved
        ends = []
        for stretch in stretches(network, self.remat):
            for op in stretch:
                self.add(model, op)
            ends.append(len(model.steps))
        self.release(model)
        self.divide(model, ends[:-1])
        return model

    def divide(self, model: Any, ends: Sequence[int]) -> None:
        """Note the stretches that end behind these steps."""
        for start, end in zip([0, *ends], ends, strict=False):
            steps, behind = model.steps[start:end], model.steps[end:]
            later = {name for step in behind for name in step.inputs} | set(model.results)
            made = [name for step in steps for name in step.outputs]
            read = dict.fromkeys(name for step in steps for name in step.inputs)
            inputs = tuple(name for name in read if name not in set(made))
            outputs = tuple(name for name in made if name in later)
            done = tuple(name for name in inputs if name not in later)
            model.parts.append(Part(start, end, inputs, outputs, done))

    def add(self, model: Any, op: Op) -> None:
        """Append the steps of one op."""
        specs, results = self.network.specs(op)
        rule = RULES.get(op.operator.type)
        place = Place(self, op, specs, results, False)
        if rule is None or not all(spec.known for spec in (*specs, *results)):
            raise place.refusal("there is no rule for it")
        wanted = self.layout.wanted[op.name]
        place.moved = wanted
        turns = tuple(
            None
            if len(spec.dims) < 3 or (name in model.moved) == wanted
            else ("front" if wanted else "back")
            for name, spec in zip(op.inputs, specs, strict=True)
        )
        if op.name in self.logits and is_softmax(op):
            made = self.torch.nn.Identity()
        else:
            made = rule(place, op.operator)
        parts = made if isinstance(made, list) else [("", made)]
        inputs = op.inputs
        for index, (suffix, module) in enumerate(parts):
            name = self.attach(model, op, suffix, module, wanted)
            last = index == len(parts) - 1
            names = (
                tuple(op.output(i) for i in range(len(results)))
                if last
                else (f"{op.name}|{suffix}",)
            )
            model.steps.append(Step(name, inputs, turns, names))
            inputs, turns = names, (None,)

    def attach(self, model: Any, op: Op, suffix: str, module: Any, moved: bool) -> str:
        """The name under which a submodule stands: a new one, or that of the weights' first op."""
        own = not suffix and bool(self.network.params[op.weights])
        if own and op.weights in self.shared:
            name, first, layout = self.shared[op.weights]
            if first.operator != op.operator or layout != moved:
                raise ModelError(
                    f"'{op.name}' shares the weights of '{first.name}' under other settings, "
                    "which cannot be built in PyTorch"
                )
            return name
        name = self.unique(f"{op.name}_{suffix}" if suffix else op.name)
        if len(op.inputs) > 1 and not own:
            model.functions[name] = module.function
            return name
        model.add_module(name, module)
        if own:
            self.shared[op.weights] = (name, op, moved)
            if not op.trainable:
                module.requires_grad_(False)
        return name

    def release(self, model: Any) -> None:
        """Note which tensors each step reads last."""
        later = set(model.results)
        for step in reversed(model.steps):
            step.done = tuple(
                dict.fromkeys(n for n in (*step.inputs, *step.outputs) if n not in later)
            )
            later.update(step.inputs)

    def unique(self, name: str) -> str:
        """`name` as an attribute, numbered if it is taken."""
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        found, number = plain, 1
        while found in self.names:
            number += 1
            found = f"{plain}_{number}"
        self.names.add(found)
        return found


def is_softmax(op: Op) -> bool:
    """Whether an op is a softmax."""
    return getattr(op.operator, "function", None) == "softmax"


def padded(place: Place, extra: list[int], value: float = 0.0) -> tuple[str, Any]:
    """The step that pads the spatial axes."""
    pad = place.torch.nn.functional.pad
    return "pad", place.call(lambda x: pad(x, extra, value=value))


def conv(place: Place, kind: Any) -> Any:
    """nn.Conv, behind an F.pad where the padding's sides differ."""
    x = place.inputs[0]
    if len(place.inputs) > 1:
        raise place.refusal("its modules make their own kernels")
    if kind.type == "depthwise_conv":
        kind = kind.plain(x)
    slides = kind.slides(x)
    both, extra = apart(slides)
    module = place.kind("Conv")(
        place.shape(x)[1],
        kind.filters,
        tuple(slide.kernel for slide in slides),
        stride=tuple(slide.stride for slide in slides),
        padding=tuple(both),
        dilation=tuple(slide.dilation for slide in slides),
        groups=kind.groups,
        bias=kind.bias,
    )
    return module if extra is None else [padded(place, extra), ("", module)]


def conv_transpose(place: Place, kind: Any) -> Any:
    """nn.ConvTranspose; what it cannot crop by itself is cut off behind it."""
    x = place.inputs[0]
    spatial = place.shape(x)[2:]
    rank = len(spatial)
    kernel, stride, dilation = (each(v, rank) for v in (kind.kernel, kind.stride, kind.dilation))
    found = kind.sizes(x)
    whole = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(spatial, stride, dilation, kernel, strict=True)
    ]
    extra = transposed_directly(spatial, kernel, stride, dilation, found)
    settings: dict[str, Any] = {"padding": 0, "output_padding": 0}
    if extra is not None:
        settings = {"padding": tuple(c for _, c in found), "output_padding": extra}
    elif any(size + crop > full for (size, crop), full in zip(found, whole, strict=True)):
        raise place.refusal(f"its output cannot be {' x '.join(str(n) for n, _ in found)}")
    module = place.kind("ConvTranspose")(
        place.shape(x)[1],
        kind.filters,
        kernel,
        stride=stride,
        groups=kind.groups,
        bias=kind.bias,
        dilation=dilation,
        **settings,
    )
    if extra is not None:
        return module
    cut = (slice(None), slice(None), *(slice(crop, crop + size) for size, crop in found))
    return [("", module), ("crop", place.call(lambda y: y[cut]))]


def each(value: Any, rank: int) -> tuple[Any, ...]:
    """One number for all axes, or one for each."""
    return value if isinstance(value, tuple) else (value,) * rank


def max_pool(place: Place, kind: Any) -> Any:
    """nn.MaxPool, behind an F.pad where it cannot pad by itself."""
    return windowed(place, kind, "MaxPool", -math.inf)


def average_pool(place: Place, kind: Any) -> Any:
    """nn.AvgPool; where it cannot pad by itself, the padded sum over the count of real inputs."""
    return windowed(place, kind, "AvgPool", 0.0)


def windowed(place: Place, kind: Any, name: str, fill: float) -> Any:
    """A pool that slides a window."""
    slides = kind.way(place.inputs[0])
    average = name == "AvgPool"
    settings: dict[str, Any] = {
        "kernel_size": tuple(s.kernel for s in slides),
        "stride": tuple(s.stride for s in slides),
    }
    dilation = tuple(s.dilation for s in slides)
    if not average:
        settings["dilation"] = dilation
    elif any(d != 1 for d in dilation):
        raise place.refusal("its average pools have no dilation")
    inclusive = average and kind.count_include_pad
    mode = pool_mode(slides, inclusive)
    if mode is not None:
        settings["padding"], settings["ceil_mode"] = mode
        if average:
            settings["count_include_pad"] = inclusive
        return place.kind(name)(**settings)
    _, extra = apart([*slides])
    module = place.kind(name)(**settings)
    extra = extra or [n for s in reversed(slides) for n in (s.before, s.after)]
    if not average or inclusive:
        return [padded(place, extra, fill), ("", module)]
    torch, pad = place.torch, place.torch.nn.functional.pad

    def averaged(x: Any) -> Any:
        real = pad(torch.ones_like(x[:1, :1]), extra)
        return module(pad(x, extra)) / module(real)

    return place.call(averaged)


def lp_pool(place: Place, kind: Any) -> Any:
    """nn.LPPool, behind an F.pad."""
    slides = kind.way(place.inputs[0])
    if any(s.dilation != 1 for s in slides):
        raise place.refusal("its Lp pools have no dilation")
    module = place.kind("LPPool")(
        float(kind.p),
        tuple(s.kernel for s in slides),
        stride=tuple(s.stride for s in slides),
        ceil_mode=kind.ceil_mode,
    )
    extra = [n for s in reversed(slides) for n in (s.before, s.after)]
    return [padded(place, extra), ("", module)] if any(extra) else module


def global_pool(place: Place, kind: Any) -> Any:
    """The mean, maximum or 2-norm over the spatial axes."""
    torch, axes, keep = place.torch, tuple(range(2, place.rank)), kind.keepdims
    reductions = {
        "average": lambda x: x.mean(axes, keepdim=keep),
        "max": lambda x: torch.amax(x, axes, keepdim=keep),
        "lp": lambda x: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    }
    return place.call(reductions[kind.kind])


def adaptive_pool(place: Place, kind: Any) -> Any:
    """nn.AdaptiveAvgPool or nn.AdaptiveMaxPool."""
    names = {"average": "AdaptiveAvgPool", "max": "AdaptiveMaxPool"}
    if kind.kind not in names:
        raise place.refusal(f"it has no adaptive pool of the kind '{kind.kind}'")
    return place.kind(names[kind.kind])(each(kind.output, place.rank - 2))


def dense(place: Place, kind: Any) -> Any:
    """nn.Linear on the last axis."""
    return place.torch.nn.Linear(place.inputs[0].dims[-1], kind.units, bias=kind.bias)


def batch_norm(place: Place, kind: Any) -> Any:
    """nn.BatchNorm, with the scale, shift and statistics that the network has."""
    if place.axis(kind.axis) != 1:
        raise place.refusal(f"axis {kind.axis} is not where it has the channels")
    size = place.shape(place.inputs[0])[1]
    return place.builder.own.BatchNorm(size, kind.scale, kind.center, kind.statistics)


def layer_norm(place: Place, kind: Any) -> Any:
    """F.layer_norm over the last axes."""
    dims = place.inputs[0].dims
    axes = sorted(axis_of(axis, len(dims)) for axis in each(kind.axes, 1))
    if axes != list(range(len(dims) - len(axes), len(dims))):
        raise place.refusal("its layer normalizations work along the last axes")
    shape = [dims[axis] for axis in axes]
    functional = place.torch.nn.functional
    if kind.type == "rms_norm":
        return with_affine(place, lambda x, gamma, _: functional.rms_norm(x, shape, gamma))
    return with_affine(place, lambda x, gamma, beta: functional.layer_norm(x, shape, gamma, beta))


def group_norm(place: Place, kind: Any) -> Any:
    """F.group_norm along the channels."""
    if place.axis(kind.axis) != 1:
        raise place.refusal(f"axis {kind.axis} is not where it has the channels")
    groups = place.shape(place.inputs[0])[1] if kind.groups == -1 else kind.groups
    functional = place.torch.nn.functional
    return with_affine(place, lambda x, gamma, beta: functional.group_norm(x, groups, gamma, beta))


def with_affine(place: Place, function: Callable[[Any, Any, Any], Any]) -> Any:
    """A call that is handed gamma and beta, None where the op has none."""
    gamma, beta = place.param("gamma"), place.param("beta")
    held = {param.name: param for param in (gamma, beta) if param is not None}

    def call(x: Any, *given: Any) -> Any:
        values = dict(zip(held, given, strict=True))
        return function(x, values.get("gamma"), values.get("beta"))

    return place.call(call, **held)


def unit_norm(place: Place, kind: Any) -> Any:
    """F.normalize along one axis or several."""
    axes = tuple(place.axis(axis) for axis in each(kind.axis, 1))
    normalize = place.torch.nn.functional.normalize
    return place.call(lambda x: normalize(x, dim=axes[0] if len(axes) == 1 else axes))


def rescale(place: Place, kind: Any) -> Any:
    """A factor and an offset, which are constants."""
    return place.call(lambda x: x * 1.0 + 0.0)


def standardize(place: Place, kind: Any) -> Any:
    """(x - mean) / sqrt(variance) with stored statistics along `axis`."""
    if not kind.stored:
        return place.call(lambda x: (x - 0.0) / 1.0)
    held = {name: place.param(name) for name in ("mean", "variance", "count")}
    axes = () if kind.axis is None else each(kind.axis, 1)
    shape = [1] * place.rank
    for axis in axes:
        shape[place.axis(axis)] = place.inputs[0].dims[axis_of(axis, place.rank)]
    return place.call(
        lambda x, mean, variance, count: (x - mean.view(shape)) / variance.view(shape).sqrt(),
        **held,  # type: ignore[arg-type]
    )


def scale(place: Place, kind: Any) -> Any:
    """A trainable factor along one axis."""
    at = place.axis(kind.axis)
    shape = [-1 if axis == at else 1 for axis in range(place.rank)]
    return place.call(lambda x, gamma: x * gamma.view(shape), gamma=param_of(place, "gamma"))


def param_of(place: Place, name: str) -> Param:
    """A variable that the op must have."""
    found = place.param(name)
    assert found is not None
    return found


def spectral_norm(place: Place, kind: Any) -> Any:
    """The stored vector only; the wrapped layer is an op of its own."""
    return place.call(lambda x, vector: x, vector_u=param_of(place, "vector_u"))


def prelu(place: Place, kind: Any) -> Any:
    """F.prelu with one slope a channel, otherwise the formula."""
    alpha = param_of(place, "alpha")
    torch = place.torch
    sizes = [n for n in alpha.shape if n != 1]
    channels = place.shape(place.inputs[0])[1]
    if sizes in ([], [channels]):
        return place.call(
            lambda x, slope: torch.nn.functional.prelu(x, slope.reshape(-1)), alpha=alpha
        )
    moved = place.moved and len(alpha.shape) == place.rank - 1
    if moved:
        alpha = alpha._replace(shape=(alpha.shape[-1], *alpha.shape[:-1]))
    return place.call(lambda x, slope: torch.relu(x) - slope * torch.relu(-x), alpha=alpha)


def activation(place: Place, kind: Any) -> Any:
    """The module of torch.nn."""
    nn, name = place.torch.nn, kind.function
    if name in ALONG_CHANNELS:
        return getattr(nn, ALONG_CHANNELS[name])(dim=place.axis(-1))
    if name == "exponential":
        return place.call(place.torch.exp)
    if name == "threshold":
        return nn.Threshold(1.0, 0.0)
    if name == "squareplus":
        return place.call(lambda x: (x + (x * x + 4.0).sqrt()) / 2.0)
    if name not in ACTIVATIONS:
        raise place.refusal(f"it has no activation '{name}'")
    return getattr(nn, ACTIVATIONS[name])()


def function(place: Place, kind: Any) -> Any:
    """A function of each element by its name."""
    name = kind.name
    if name in WITH_CONSTANT:
        return place.call(WITH_CONSTANT[name])
    if name in NAMED:
        return place.call(getattr(place.torch, name))
    raise place.refusal(f"it has no function '{name}'")


def dropout(place: Place, kind: Any) -> Any:
    """nn.Dropout; with a noise shape, a mask of that shape, as stochastic depth has it."""
    rate = float(kind.rate)
    if kind.noise_shape is None:
        return place.torch.nn.Dropout(rate)
    shape = list(kind.noise_shape)
    if place.moved and len(shape) == place.rank:
        shape = list(channels_to_front(shape))

    def drop(module: Any, x: Any) -> Any:
        if not module.training:
            return x
        sizes = [n if known is None else known for n, known in zip(x.shape, shape, strict=True)]
        mask = x.new_empty(sizes).bernoulli_(1.0 - rate).div_(1.0 - rate)
        return x * mask

    found = place.call(lambda x: drop(found, x))
    return found


def noise(place: Place, kind: Any) -> Any:
    """Gaussian noise, in training only."""
    torch = place.torch
    found = place.call(lambda x: x + torch.randn_like(x) if found.training else x)
    return found


def cast(place: Place, kind: Any) -> Any:
    """Another element type."""
    target = kind.dtype
    if target == "float":
        return place.call(lambda x: x.to(place.torch.get_default_dtype()))
    return place.call(lambda x: x.to(getattr(place.torch, target)))


def flatten(place: Place, kind: Any) -> Any:
    """All axes but the batch as one, in the order in which they stand."""
    return place.torch.nn.Flatten()


def reshape(place: Place, kind: Any) -> Any:
    """A reshape of the axes in the network's order."""
    (spec,) = place.outputs
    shape = list(spec.dims)
    if spec.batch_axis is not None:
        shape[spec.batch_axis] = -1
    return place.call(lambda x: x.reshape(shape))


def permute(place: Place, kind: Any) -> Any:
    """A view with its axes in another order."""
    return place.call(lambda x: x.permute(kind.order))


def repeat(place: Place, kind: Any) -> Any:
    """Copies along a new axis behind the batch."""
    return place.call(lambda x: x.unsqueeze(1).repeat(1, kind.times, *[1] * (place.rank - 1)))


def expand_dims(place: Place, kind: Any) -> Any:
    """A view with one axis more."""
    return place.call(lambda x: x.unsqueeze(kind.axis))


def squeeze(place: Place, kind: Any) -> Any:
    """A view with fewer axes."""
    kept = kind.kept(place.inputs[0])
    gone = tuple(axis for axis in range(place.rank) if axis not in kept)
    return place.call(lambda x: x.squeeze(gone))


def cut(place: Place, kind: Any) -> Any:
    """A strided view along one axis; backwards, a copy."""
    at, last = place.axis(kind.axis), kind.start + (kind.size - 1) * kind.step
    low, high = min(kind.start, last), max(kind.start, last)
    index = (*[slice(None)] * at, slice(low, high + 1, abs(kind.step)))
    if kind.step > 0:
        return place.call(lambda x: x[index])
    return place.call(lambda x: x[index].flip(at))


def split(place: Place, kind: Any) -> Any:
    """Views of pieces of one axis."""
    at = place.axis(kind.axis)
    return place.call(lambda x: x.split(list(kind.sizes), dim=at))


def pad(place: Place, kind: Any) -> Any:
    """F.pad with zeros."""
    views = kind.axes(place.shape(place.inputs[0])[2:])
    sizes = place.shape(place.inputs[0])[2:]
    extra = [
        n
        for (size, view), old in reversed(list(zip(views, sizes, strict=True)))
        for n in (view.before, size - old - view.before)
    ]
    return padded(place, extra)[1]


def crop(place: Place, kind: Any) -> Any:
    """A view without the borders."""
    views = kind.axes(place.shape(place.inputs[0])[2:])
    index = (
        slice(None),
        slice(None),
        *(slice(-view.before, size - view.before) for size, view in views),
    )
    return place.call(lambda x: x[index])


def upsample(place: Place, kind: Any) -> Any:
    """nn.Upsample to the size that the network has."""
    rank = place.rank - 2
    modes = {
        "nearest": "nearest",
        "bilinear": ("linear", "bilinear", "trilinear")[rank - 1],
        "bicubic": "bicubic",
    }
    if kind.interpolation not in modes or (kind.interpolation == "bicubic" and rank != 2):
        raise place.refusal(f"it has no interpolation '{kind.interpolation}'")
    size = tuple(place.shape(place.outputs[0])[2:])
    return place.torch.nn.Upsample(size=size, mode=modes[kind.interpolation])


def space_to_depth(place: Place, kind: Any) -> Any:
    """F.pixel_unshuffle; channels in PyTorch's order."""
    return place.torch.nn.PixelUnshuffle(kind.block)


def depth_to_space(place: Place, kind: Any) -> Any:
    """F.pixel_shuffle; channels in PyTorch's order."""
    return place.torch.nn.PixelShuffle(kind.block)


def channel_shuffle(place: Place, kind: Any) -> Any:
    """Channels of several groups interleaved."""

    def shuffle(x: Any) -> Any:
        parts = x.reshape(x.shape[0], kind.groups, -1, *x.shape[2:])
        return parts.transpose(1, 2).reshape(x.shape)

    return place.call(shuffle)


def reduce(place: Place, kind: Any) -> Any:
    """A sum, mean, ... over some axes."""
    torch, keep = place.torch, kind.keepdims
    axes = tuple(sorted(place.axis(axis) for axis in kind.reduced(place.inputs[0])))
    found: dict[str, Callable[[Any], Any]] = {
        "sum": lambda x: x.sum(axes, keepdim=keep),
        "mean": lambda x: x.mean(axes, keepdim=keep),
        "average": lambda x: x.mean(axes, keepdim=keep),
        "max": lambda x: torch.amax(x, axes, keepdim=keep),
        "min": lambda x: torch.amin(x, axes, keepdim=keep),
        "var": lambda x: x.var(axes, keepdim=keep),
        "std": lambda x: x.std(axes, keepdim=keep),
        "l2": lambda x: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
        "logsumexp": lambda x: torch.logsumexp(x, axes, keepdim=keep),
    }
    if len(axes) == 1:
        (axis,) = axes
        found |= {
            "prod": lambda x: x.prod(axis, keepdim=keep),
            "argmax": lambda x: x.argmax(axis, keepdim=keep),
            "argmin": lambda x: x.argmin(axis, keepdim=keep),
        }
    if kind.kind not in found:
        raise place.refusal(f"it has no reduction '{kind.kind}' over {len(axes)} axes")
    return place.call(found[kind.kind])


def merge(place: Place, kind: Any) -> Any:
    """Two inputs after the other."""
    torch, join = place.torch, MERGES[kind.type]
    count = len(place.inputs)

    def merged(*tensors: Any) -> Any:
        result = tensors[0]
        for tensor in tensors[1:]:
            result = join(torch, result, tensor)
        return result / count if kind.type == "average" else result

    return place.call(merged)


def concat(place: Place, kind: Any) -> Any:
    """torch.cat."""
    at = place.axis(kind.axis)
    return place.call(lambda *tensors: place.torch.cat(tensors, dim=at))


def matmul(place: Place, kind: Any) -> Any:
    """torch.matmul of views."""

    def product_of(a: Any, b: Any) -> Any:
        return (a.mT if kind.transpose_a else a) @ (b.mT if kind.transpose_b else b)

    return place.call(product_of)


def dot(place: Place, kind: Any) -> Any:
    """A batched product that sums over one axis of each input."""
    a, b = place.inputs
    left, right = kind.pair(a, b)
    letters = "abcdefghijklm"
    first = letters[: len(a.dims)]
    second = list(letters[len(a.dims) : len(a.dims) + len(b.dims)])
    second[0], second[right] = first[0], first[left]
    rest = first.replace(first[left], "") + "".join(
        c for i, c in enumerate(second) if i not in (0, right)
    )
    text = f"{first},{''.join(second)}->{rest}"
    flat = len(rest) == 1

    def summed(x: Any, y: Any) -> Any:
        found = place.torch.einsum(text, x, y)
        return found.unsqueeze(1) if flat else found

    return place.call(summed)


def scaled_dot_product(place: Place, kind: Any) -> Any:
    """F.scaled_dot_product_attention."""
    attend = place.torch.nn.functional.scaled_dot_product_attention
    query, key = place.inputs[:2]
    grouped = len(query.dims) > 3 and query.dims[-3] != key.dims[-3]
    return place.call(lambda *tensors: attend(*tensors, enable_gqa=grouped))


def embedding(place: Place, kind: Any) -> Any:
    """nn.Embedding."""
    return place.torch.nn.Embedding(kind.rows, kind.width)


def attention(place: Place, kind: Any) -> Any:
    """Projections by F.linear around F.scaled_dot_product_attention."""
    functional = place.torch.nn.functional
    heads, groups = kind.heads, kind.kv_heads or kind.heads
    held = {
        param.name.replace("/", "_"): param
        for param in place.builder.network.params[place.op.weights]
    }

    def project(x: Any, kernel: Any, bias: Any) -> Any:
        flat = kernel.reshape(x.shape[-1], -1)
        return functional.linear(x, flat.t(), None if bias is None else bias.reshape(-1))

    def attend(*given: Any) -> Any:
        tensors, values = given[: -len(held)], dict(zip(held, given[-len(held) :], strict=True))
        query = tensors[0]
        value = tensors[1] if len(tensors) > 1 else query
        key = tensors[2] if len(tensors) > 2 else value
        parts = []
        for name, x, count in (
            ("query", query, heads),
            ("key", key, groups),
            ("value", value, groups),
        ):
            y = project(x, values[f"{name}_kernel"], values.get(f"{name}_bias"))
            parts.append(y.reshape(*y.shape[:-1], count, -1).transpose(-3, -2))
        mixed = functional.scaled_dot_product_attention(*parts, enable_gqa=groups != heads)
        joined = mixed.transpose(-3, -2).flatten(-2)
        return project(joined, values["output_kernel"].flatten(0, 1), values.get("output_bias"))

    return place.call(attend, **held)


def constant(place: Place, kind: Any) -> Any:
    """A variable of the model, or ones."""
    value = place.param("value")
    if value is not None:
        return place.call(lambda tensor: tensor, value=value)
    return place.call(lambda: place.torch.ones(kind.shape))


def identity(place: Place, kind: Any) -> Any:
    """Nothing."""
    return place.torch.nn.Identity()


RULES: dict[str, Callable[[Place, Any], Any]] = {
    "activation": activation,
    "adaptive_pool": adaptive_pool,
    "attention": attention,
    "average_pool": average_pool,
    "batch_norm": batch_norm,
    "cast": cast,
    "channel_shuffle": channel_shuffle,
    "concat": concat,
    "constant": constant,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "crop": crop,
    "dense": dense,
    "depth_to_space": depth_to_space,
    "depthwise_conv": conv,
    "dot": dot,
    "dropout": dropout,
    "embedding": embedding,
    "expand_dims": expand_dims,
    "flatten": flatten,
    "function": function,
    "global_pool": global_pool,
    "group_norm": group_norm,
    "identity": identity,
    "layer_norm": layer_norm,
    "lp_pool": lp_pool,
    "matmul": matmul,
    "max_pool": max_pool,
    "noise": noise,
    "pad": pad,
    "permute": permute,
    "prelu": prelu,
    "reduce": reduce,
    "repeat": repeat,
    "rescale": rescale,
    "reshape": reshape,
    "resize": upsample,
    "rms_norm": layer_norm,
    "scale": scale,
    "scaled_dot_product": scaled_dot_product,
    "slice": cut,
    "space_to_depth": space_to_depth,
    "spectral_norm": spectral_norm,
    "split": split,
    "squeeze": squeeze,
    "standardize": standardize,
    "unit_norm": unit_norm,
    "upsample": upsample,
    **dict.fromkeys(MERGES, merge),
}
