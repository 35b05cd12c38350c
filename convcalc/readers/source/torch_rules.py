"""What a call of each of PyTorch's modules stands for, in operators of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from convcalc.errors import ModelError
from convcalc.ops import activation as act
from convcalc.ops import convolution as conv
from convcalc.ops import linear, merge, opaque, pooling, recurrent
from convcalc.ops import normalization as norm
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator, suggestion
from convcalc.readers.source import plain
from convcalc.readers.source import torch_names as names
from convcalc.readers.source.torch_methods import flat
from convcalc.readers.source.torch_values import Tensor
from convcalc.readers.source.values import Ignored, Thing

if TYPE_CHECKING:
    from convcalc.readers.source.torch_code import TorchWorld


def settings_of(
    type_: str, signature: str, args: list[Any], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """A module's settings by name.

    Raises:
        ModelError: one is unknown, missing, or not known.
    """
    positions, defaults = names.parameters(signature)
    kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "dtype")}
    given = plain.bound_names(args, kwargs, " ".join(positions))
    for key, value in given.items():
        if key not in positions:
            raise ModelError(f"{type_} has no argument '{key}'{suggestion(key, positions)}")
        if isinstance(value, Thing):
            raise ModelError(
                f"{key} of {type_} depends on {value.what}, which is not run; "
                "write the number itself"
            )
    settings = {**defaults, **given}
    missing = [name for name in positions if name not in settings]
    if missing:
        raise ModelError(f"{type_} needs '{missing[0]}'")
    return settings


class Call:
    """One call of a module: what its rule sees."""

    def __init__(
        self,
        world: TorchWorld,
        type_: str,
        settings: dict[str, Any],
        x: Tensor,
        args: list[Any],
        label: str = "",
    ) -> None:
        self.world = world
        self.type = type_
        self.settings = settings
        self.x = x
        self.args = args
        self.label = label or type_.lower()

    def get(self, name: str) -> Any:
        value = self.settings[name]
        return tuple(value) if isinstance(value, list) else value

    def emit(self, operator: Operator, inputs: Sequence[Any] = (), suffix: str = "") -> Tensor:
        return self.world.emit(operator, inputs or [self.x], self.label, suffix)

    def expect(self, name: str, axis: int) -> None:
        """Compare the size that the module was made for with the input's."""
        wanted = self.settings.get(name)
        if wanted is None or not self.x.spec.known:
            return
        dims = self.x.shape
        if len(dims) < 2 or dims[axis] != wanted:
            got = dims[axis] if len(dims) >= 2 else "no such axis"
            raise ModelError(
                f"{self.type} has {name}={wanted}, but its input {self.x.spec} has {got}"
            )

    def rank(self) -> int:
        """Spatial axes, by the module's name; the input must have as many.

        Raises:
            ModelError: it has another number of axes.
        """
        rank = int(self.type[-2])
        if self.x.spec.known and len(self.x.shape) != rank + 2:
            raise ModelError(
                f"{self.type} takes inputs of {rank + 2} axes (batch, channels and {rank} more), "
                f"not {self.x.spec}"
            )
        return rank


Rule = Callable[[Call], Any]


def window(c: Call, *settings: str) -> dict[str, Any]:
    """A window's settings, and those that go by the same name with us."""
    given = {name: c.get(name) for name in ("stride", *settings)}
    return {"kernel": c.get("kernel_size"), "channels_first": True, **given}


def convolution(c: Call) -> Any:
    c.rank()
    c.expect("in_channels", 1)
    settings = window(c, "padding", "dilation", "groups", "bias")
    return c.emit(conv.Conv(c.get("out_channels"), **settings))


def transposed(c: Call) -> Any:
    c.rank()
    c.expect("in_channels", 1)
    settings = window(c, "padding", "dilation", "groups", "bias", "output_padding")
    return c.emit(conv.ConvTranspose(c.get("out_channels"), **settings))


def dense(c: Call) -> Any:
    c.expect("in_features", -1)
    return c.emit(linear.Dense(c.get("out_features"), c.get("bias")))


def batch_norm(c: Call) -> Any:
    c.expect("num_features", 1)
    affine = c.get("affine")
    return c.emit(norm.BatchNorm(1, affine, affine, c.get("track_running_stats")))


def instance_norm(c: Call) -> Any:
    c.expect("num_features", 1)
    return c.emit(norm.GroupNorm(-1, 1, c.get("affine"), c.get("affine")))


def group_norm(c: Call) -> Any:
    c.expect("num_channels", 1)
    return c.emit(norm.GroupNorm(c.get("num_groups"), 1, c.get("affine"), c.get("affine")))


def layer_norm(c: Call) -> Any:
    shape = c.get("normalized_shape")
    shape = shape if isinstance(shape, tuple) else (shape,)
    if c.x.shape[-len(shape) :] != shape:
        raise ModelError(f"{c.type} is made for {shape}, but its input is {c.x.spec}")
    axes = tuple(range(-len(shape), 0))
    scale = c.get("elementwise_affine")
    if c.type == "RMSNorm":
        return c.emit(norm.RMSNorm(axes, scale))
    return c.emit(norm.LayerNorm(axes, scale, scale and c.get("bias")))


def max_pool(c: Call) -> Any:
    c.rank()
    if c.get("return_indices"):
        raise ModelError(f"{c.type} with return_indices=True is not supported")
    return c.emit(pooling.MaxPool(**window(c, "padding", "dilation", "ceil_mode")))


def average_pool(c: Call) -> Any:
    c.rank()
    settings = window(c, "padding", "ceil_mode", "count_include_pad")
    return c.emit(pooling.AveragePool(**settings))


def lp_pool(c: Call) -> Any:
    c.rank()
    return c.emit(pooling.LpPool(p=c.get("norm_type"), **window(c, "ceil_mode")))


def adaptive_pool(kind: str) -> Rule:
    def rule(c: Call) -> Any:
        c.rank()
        return c.emit(pooling.AdaptivePool(c.get("output_size"), kind, True))

    return rule


def activation(c: Call) -> Any:
    return c.emit(act.Activation(names.ACTIVATIONS[c.type]))


def prelu(c: Call) -> Any:
    return c.emit(act.PRelu(slopes=(c.get("num_parameters"),)))


def glu(c: Call) -> Any:
    """The first half of an axis, gated by the second."""
    axis, dims = c.get("dim"), c.x.shape
    if dims[axis] % 2:
        raise ModelError(f"GLU halves axis {axis}, which has {dims[axis]}")
    halves = shapes.Split((dims[axis] // 2,) * 2, axis)
    a, b = c.world.emit_all(halves, [c.x], c.label, "split")
    return c.emit(merge.Multiply(), [a, c.emit(act.Activation("sigmoid"), [b], "sigmoid")])


def dropout(c: Call) -> Any:
    return c.emit(act.Dropout(c.get("p")))


def flatten(c: Call) -> Any:
    return flat(c.world, c.x, c.get("start_dim"), c.get("end_dim"))


def unflatten(c: Call) -> Any:
    dims, axis, sizes = c.x.shape, c.get("dim"), c.get("unflattened_size")
    axis %= len(dims)
    return c.emit(shapes.Reshape((*dims[:axis], *sizes, *dims[axis + 1 :]), whole=True))


def upsample(c: Call) -> Any:
    size, factor = c.get("size"), c.get("scale_factor")
    fixed = {"UpsamplingBilinear2d": "bilinear", "UpsamplingNearest2d": "nearest"}
    mode: str = fixed[c.type] if c.type in fixed else c.get("mode")
    rank = len(c.x.shape) - 2
    if size is not None:
        return c.emit(shapes.Resize(size, mode, True))
    factors = factor if isinstance(factor, tuple) else (factor,) * rank
    if not all(type(f) in (int, float) for f in factors):
        raise ModelError(f"{c.type} needs a size or a scale_factor")
    if all(f == int(f) and f >= 1 for f in factors):
        return c.emit(shapes.Upsample(tuple(int(f) for f in factors), mode, True))
    sizes = tuple(math.floor(n * f) for n, f in zip(c.x.shape[2:], factors, strict=True))
    return c.emit(shapes.Resize(sizes, mode, True))


def padding(c: Call) -> Any:
    rank, amount = c.rank(), c.get("padding")
    return padded(c, amount if isinstance(amount, tuple) else (amount,) * (2 * rank))


def padded(c: Call, amount: Any) -> Any:
    """Pads given in pairs from the last axis backwards, as torch.nn.functional.pad takes them."""
    numbers = list(amount)
    dims = c.x.shape
    if len(numbers) % 2 or len(numbers) > 2 * len(dims) or any(type(n) is not int for n in numbers):
        raise ModelError(f"the padding {plain.shown(amount)} is not supported")
    pairs = [(0, 0)] * len(dims)
    for i in range(len(numbers) // 2):
        pairs[-1 - i] = (numbers[2 * i], numbers[2 * i + 1])
    if pairs[0] != (0, 0) or any(n < 0 for pair in pairs for n in pair):
        raise ModelError(f"the padding {plain.shown(amount)} is not supported")
    if pairs[1] == (0, 0):
        return c.emit(shapes.Pad(tuple(pairs[2:]), True))
    if pairs[-1] != (0, 0):
        raise ModelError("padding of channels and of the last axis at once is not supported")
    # Padding has no channels of its own: the axes between the first and the last are padded.
    return c.emit(shapes.Pad(tuple(pairs[1:-1]), False))


def embedding(c: Call) -> Any:
    return c.emit(linear.Embedding(c.get("num_embeddings"), c.get("embedding_dim")))


def attention(c: Call) -> Any:
    heads, width = c.get("num_heads"), c.get("embed_dim")
    if not c.get("batch_first") or width % heads or len(c.x.shape) != 3:
        return (c.emit(opaque.Opaque(c.type, (c.x.shape[1:],))), Ignored("attention weights"))
    query, key, value = (*c.args, c.args[0], c.args[0])[:3]
    operator = linear.Attention(heads, width // heads, bias=c.get("bias"), output_dim=width)
    return (c.emit(operator, [query, value, key]), Ignored("attention weights"))


def recurrence(c: Call) -> Any:
    """One op for each layer and direction; first states are zero or do not matter."""
    cell = {"LSTM": "lstm", "GRU": "gru", "RNN": "simple"}[c.type]
    units, layers, bias = c.get("hidden_size"), c.get("num_layers"), c.get("bias")
    directions = ("", "_reverse") if c.get("bidirectional") else ("",)
    if type(layers) is not int or layers < 1:
        raise ModelError(f"num_layers of {c.type} is a positive integer, not {plain.shown(layers)}")
    if len(c.x.shape) != 3:
        raise ModelError(f"{c.type} takes inputs of 3 axes (batch, time, features), not {c.x.spec}")
    c.expect("input_size", 2)
    if c.settings.get("proj_size"):
        raise ModelError(f"{c.type} with proj_size is not supported")
    x = c.x if c.get("batch_first") else c.emit(shapes.Permute((1, 0, 2)), [c.x], "permute")
    batch, steps, _ = x.shape
    backward = shapes.Slice(1, steps, steps - 1, -1)
    for layer in range(layers):
        found = []
        for direction in directions:
            suffix = f"l{layer}{direction}"
            source = c.emit(backward, [x], f"{suffix}/turn") if direction else x
            operator = recurrent.Recurrent(cell, units, sequences=True, bias=bias, second_bias=bias)
            made = c.emit(operator, [source], suffix)
            found.append(c.emit(backward, [made], f"{suffix}/back") if direction else made)
        x = c.emit(merge.Concat(-1), found, f"l{layer}/concat") if len(found) > 1 else made
        if c.get("dropout") and layer < layers - 1:
            x = c.emit(act.Dropout(c.get("dropout")), [x], f"l{layer}/dropout")
    # (layers and directions, batch, units); dropped again if nothing reads them.
    last = shapes.Gather((layers * len(directions), batch, units), 1)
    states = tuple(c.emit(last, [x], f"state_{i}") for i in range(recurrent.STATES[cell]))
    c.world.spare.update(state.name for state in states)
    if not c.get("batch_first"):
        x = c.emit(shapes.Permute((1, 0, 2)), [x], "permute_back")
    return (x, states if cell == "lstm" else states[0])


RULES: dict[str, Rule] = {
    **{f"{lazy}Conv{r}d": convolution for lazy in ("", "Lazy") for r in (1, 2, 3)},
    **{f"{lazy}ConvTranspose{r}d": transposed for lazy in ("", "Lazy") for r in (1, 2, 3)},
    "Linear": dense,
    "LazyLinear": dense,
    **{f"{lazy}BatchNorm{r}d": batch_norm for lazy in ("", "Lazy") for r in (1, 2, 3)},
    "SyncBatchNorm": batch_norm,
    **{f"InstanceNorm{r}d": instance_norm for r in (1, 2, 3)},
    "GroupNorm": group_norm,
    "LayerNorm": layer_norm,
    "RMSNorm": layer_norm,
    "LocalResponseNorm": lambda c: c.emit(act.Function("local_response_norm")),
    **{f"MaxPool{r}d": max_pool for r in (1, 2, 3)},
    **{f"AvgPool{r}d": average_pool for r in (1, 2, 3)},
    **{f"LPPool{r}d": lp_pool for r in (1, 2, 3)},
    **{f"AdaptiveAvgPool{r}d": adaptive_pool("average") for r in (1, 2, 3)},
    **{f"AdaptiveMaxPool{r}d": adaptive_pool("max") for r in (1, 2, 3)},
    **dict.fromkeys(names.ACTIVATIONS, activation),
    "PReLU": prelu,
    "GLU": glu,
    **{f"Dropout{r}": dropout for r in ("", "1d", "2d", "3d")},
    "AlphaDropout": dropout,
    "Identity": lambda c: c.emit(act.Identity()),
    "Flatten": flatten,
    "Unflatten": unflatten,
    "Upsample": upsample,
    "UpsamplingNearest2d": upsample,
    "UpsamplingBilinear2d": upsample,
    "PixelShuffle": lambda c: c.emit(shapes.DepthToSpace(c.get("upscale_factor"), True)),
    "PixelUnshuffle": lambda c: c.emit(shapes.SpaceToDepth(c.get("downscale_factor"), True)),
    "ChannelShuffle": lambda c: c.emit(shapes.ChannelShuffle(c.get("groups"), True)),
    **{
        f"{kind}Pad{r}d": padding
        for kind in ("Zero", "Reflection", "Replication", "Constant")
        for r in (1, 2, 3)
    },
    "Embedding": embedding,
    "MultiheadAttention": attention,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrence),
}
