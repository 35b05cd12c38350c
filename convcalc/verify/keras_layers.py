"""Which Keras layer each operator is: one small function an operator.

A rule takes the step and its operator and gives what comes out: one `Held`, or a list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, reduce
from math import prod
from typing import Any

from convcalc.ops import activation as act
from convcalc.ops import convolution as conv
from convcalc.ops import linear, opaque, pooling, recurrent
from convcalc.ops import normalization as norm
from convcalc.ops import shape as shapes
from convcalc.ops.base import axis_of, per_axis
from convcalc.ops.window import Sides, Slide, filled, same_sides
from convcalc.verify.build_keras import Held, Step

Rule = Callable[[Step, Any], "Held | list[Held]"]

#: Activations that Keras calls by another name.
ACTIVATIONS = {"swish": "silu", "hard_swish": "hard_silu"}


@cache
def own() -> Any:
    """Layers that Keras keeps inside its applications, or lacks."""
    import types

    import keras

    class Scale(keras.layers.Layer):  # type: ignore[misc]
        """A trainable factor along one axis."""

        def __init__(self, axis: int, **settings: Any) -> None:
            super().__init__(**settings)
            self.axis = axis

        def build(self, shape: Any) -> None:
            self.gamma = self.add_weight((shape[self.axis],), "ones", name="gamma")

        def call(self, x: Any) -> Any:
            rest = len(x.shape) - 1 - self.axis
            return x * (keras.ops.reshape(self.gamma, (-1, *(1,) * rest)) if rest else self.gamma)

    class Variable(keras.layers.Layer):  # type: ignore[misc]
        """A tensor of the model's own; it stands beside what it is called on."""

        def __init__(self, shape: tuple[int, ...], kind: str | None, **settings: Any) -> None:
            super().__init__(**settings)
            self.sizes, self.kind = shape, kind

        def build(self, shape: Any) -> None:
            self.value = self.add_weight(self.sizes, "ones", self.kind, name="value")

        def call(self, x: Any) -> Any:
            return keras.ops.convert_to_tensor(self.value)

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(self.sizes, dtype=self.kind or self.compute_dtype)

    class ScaledAdd(keras.layers.Layer):  # type: ignore[misc]
        """Inception-ResNet's sum: the second branch is scaled by a constant."""

        def call(self, tensors: Any) -> Any:
            return tensors[0] + tensors[1] * 0.17

    class Again(keras.layers.Layer):  # type: ignore[misc]
        """A model that keeps what it is called on alone, and is called again backwards.

        `keras.RematScope` wraps layers one by one, and no model whose layers have state.
        """

        def __init__(self, part: Any) -> None:
            super().__init__()
            self.part = part

        def compute_output_spec(self, *inputs: Any, **settings: Any) -> Any:
            return self.part.compute_output_spec(list(inputs))

        def call(self, *inputs: Any, training: bool = False) -> Any:
            if not training:
                return self.part(list(inputs))
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                return tf.recompute_grad(lambda *x: self.part(list(x), training=True))(*inputs)
            import jax

            def called(weights: Any, rest: Any, inputs: Any) -> Any:
                return self.part.stateless_call(weights, rest, inputs, training=True)

            rest = self.part.non_trainable_variables
            state = [[v.value for v in self.part.trainable_variables], [v.value for v in rest]]
            outputs, changed = jax.checkpoint(called)(*state, list(inputs))
            for variable, value in zip(rest, changed, strict=True):
                variable.assign(value)
            return outputs

    kinds = (Again, Scale, Variable, ScaledAdd)
    return types.SimpleNamespace(**{kind.__name__: kind for kind in kinds})


def function_name(step: Step, name: str) -> str:
    """An activation by Keras' name.

    Raises:
        ModelError: Keras has none of that name.
    """
    found = ACTIVATIONS.get(name, name)
    if not hasattr(step.keras.activations, found):
        raise step.refusal(f"it has no activation '{name}'")
    return found


def applied(step: Step) -> dict[str, Any]:
    """The setting that names the fused activation."""
    return {} if step.activation is None else {"activation": function_name(step, step.activation)}


# Windows.


def padded(step: Step, image: Any, slides: Sequence[Slide], padding: Any) -> tuple[Any, str]:
    """(image, Keras' padding): zeros are added in front where no name of Keras says the same."""
    if padding in ("valid", "same"):
        return image, padding
    if padding == "causal" and len(slides) == 1 and step.op.operator.type == "conv":
        return image, "causal"
    sides = filled(slides)
    if not any(map(any, sides)):
        return image, "valid"
    if same_sides(slides) == sides:
        return image, "same"
    return zeros(step, image, sides), "valid"


def zeros(step: Step, image: Any, sides: Sides) -> Any:
    """An image with zeros around it."""
    rank = len(sides)
    amount = sides if rank > 1 else sides[0]
    return step.layer(f"ZeroPadding{rank}D", amount, suffix="_pad")(image)


def convolution(step: Step, kind: conv.Conv) -> Held:
    slides = kind.slides(step.inputs[0])
    image, padding = padded(step, step.image(), slides, kind.padding)
    layer = step.layer(
        f"Conv{len(slides)}D",
        kind.filters,
        tuple(s.kernel for s in slides),
        strides=tuple(s.stride for s in slides),
        padding=padding,
        dilation_rate=tuple(s.dilation for s in slides),
        groups=kind.groups,
        use_bias=kind.bias,
        data_format="channels_last",
        **applied(step),
    )
    return step.made(layer(image))


def depthwise(step: Step, kind: conv.DepthwiseConv) -> Held:
    slides = kind.slides(step.inputs[0])
    strides = {s.stride for s in slides}
    if len(slides) > 2 or len(strides) > 1:
        # Keras' own has two axes and one stride.
        return convolution(step, kind.plain(step.inputs[0]))
    image, padding = padded(step, step.image(), slides, kind.padding)
    settings: dict[str, Any] = {
        "strides": strides.pop(),
        "padding": padding,
        "dilation_rate": tuple(s.dilation for s in slides),
        "depth_multiplier": kind.multiplier,
        "data_format": "channels_last",
        **applied(step),
    }
    kernel = tuple(s.kernel for s in slides)
    mixing = step.mixing
    if mixing is None:
        name = f"DepthwiseConv{len(slides)}D"
        return step.made(step.layer(name, kernel, use_bias=kind.bias, **settings)(image))
    name = f"SeparableConv{len(slides)}D"
    layer = step.layer(name, mixing.filters, kernel, use_bias=mixing.bias, **settings)
    return step.made(layer(image))


def transposed(step: Step, kind: conv.ConvTranspose) -> Held:
    x = step.inputs[0]
    sizes, _ = conv.split(x, kind.channels_first, "a transposed convolution")
    rank = len(sizes)
    kernel = per_axis(kind.kernel, rank, "kernel")
    stride = per_axis(kind.stride, rank, "stride")
    dilation = per_axis(kind.dilation, rank, "dilation")
    if kind.groups != 1:
        raise step.refusal("it has no transposed convolution in groups")
    # "valid" makes all positions; what the network crops is cut off, what it adds is zeros.
    valid = conv.ConvTranspose(
        kind.filters, kernel, stride, "valid", dilation, channels_first=kind.channels_first
    )
    same = conv.ConvTranspose(
        kind.filters, kernel, stride, "same", dilation, channels_first=kind.channels_first
    )
    wanted = kind.sizes(x)
    named = isinstance(kind.padding, str) and kind.output_padding is not None
    padding = "same" if wanted == same.sizes(x) else "valid"
    cut = [
        (crop, whole - size - crop)
        for (size, crop), (whole, _) in zip(wanted, valid.sizes(x), strict=True)
    ]
    fits = named or padding == "same" or not any(map(any, cut))
    settings = applied(step)
    layer = step.layer(
        f"Conv{rank}DTranspose",
        kind.filters,
        kernel,
        strides=stride,
        padding=kind.padding if named else padding,
        output_padding=kind.output_padding if named else None,
        dilation_rate=dilation,
        use_bias=kind.bias,
        data_format="channels_last",
        **(settings if fits else {}),
    )
    image = layer(step.image())
    if fits:
        return step.made(image)
    if any(n > 0 for pair in cut for n in pair):
        amount = tuple((max(a, 0), max(b, 0)) for a, b in cut)
        crop = step.layer(f"Cropping{rank}D", amount if rank > 1 else amount[0], suffix="_crop")
        image = crop(image)
    if any(n < 0 for pair in cut for n in pair):
        image = zeros(step, image, tuple((max(-a, 0), max(-b, 0)) for a, b in cut))
    if settings:
        image = step.layer("Activation", *settings.values(), suffix="_activation")(image)
    return step.made(image)


def pool(step: Step, kind: Any) -> Held:
    slides = kind.way(step.inputs[0])
    if any(s.dilation != 1 for s in slides):
        raise step.refusal("it has no dilated pools")
    image, largest = step.image(), kind.type == "max_pool"
    sides = filled(slides)
    if kind.padding in ("valid", "same") and not kind.ceil_mode:
        padding = kind.padding
    elif not any(map(any, sides)):
        padding = "valid"
    elif sides == same_sides(slides) and (largest or not kind.count_include_pad):
        padding = "same"
    else:
        padding = "valid"
        if largest:
            around = ((0, 0), *sides, (0, 0))
            image = step.keras.ops.pad(image, around, constant_values=float("-inf"))
        else:
            image = zeros(step, image, sides)
    layer = step.layer(
        f"{'Max' if largest else 'Average'}Pooling{len(slides)}D",
        tuple(s.kernel for s in slides),
        strides=tuple(s.stride for s in slides),
        padding=padding,
        data_format="channels_last",
    )
    pooled = layer(image)
    if padding == "valid" and not largest:
        factor = uncounted(slides, kind.count_include_pad)
        pooled = pooled * factor if (factor != 1).any() else pooled
    return step.made(pooled)


def uncounted(slides: Sequence[Slide], padding_counts: bool) -> Any:
    """Factors that take out of the means of zero-padded windows what does not count as an element:
    the padding, or only what rounding up has added to it."""
    import numpy as np

    factor = np.ones((1,) * (len(slides) + 2), np.float32)
    for axis, s in enumerate(slides, 1):
        low, high = (-s.before, s.size + s.after) if padding_counts else (0, s.size)
        first = np.arange(s.output) * s.stride - s.before
        counted = np.minimum(first + s.kernel, high) - np.maximum(first, low)
        shape = [1] * factor.ndim
        shape[axis] = s.output
        factor = factor * (s.kernel / counted).astype(np.float32).reshape(shape)
    return factor


def global_pool(step: Step, kind: pooling.GlobalPool) -> Held:
    names = {"average": "Average", "max": "Max"}
    if kind.kind not in names:
        raise step.refusal(f"it has no global {kind.kind} pool")
    image = step.image()
    layer = step.layer(
        f"Global{names[kind.kind]}Pooling{len(image.shape) - 2}D",
        keepdims=kind.keepdims,
        data_format="channels_last",
    )
    return step.made(layer(image))


def adaptive_pool(step: Step, kind: pooling.AdaptivePool) -> Held:
    image = step.image()
    sizes = image.shape[1:-1]
    places, _ = conv.split(step.builder.network.results[step.op.name][0], kind.channels_first, "")
    name = {"average": "Average", "max": "Max"}[kind.kind]
    if all(n % m == 0 for n, m in zip(sizes, places, strict=True)):
        window = tuple(n // m for n, m in zip(sizes, places, strict=True))
        layer = step.layer(f"{name}Pooling{len(sizes)}D", window, data_format="channels_last")
    else:
        layer = step.layer(
            f"Adaptive{name}Pooling{len(sizes)}D", places, data_format="channels_last"
        )
    return step.made(layer(image))


# Element by element.


def activation(step: Step, kind: act.Activation) -> Held:
    tensor, moved = step.held[0]
    return Held(step.layer("Activation", function_name(step, kind.function))(tensor), moved)


def prelu(step: Step, kind: act.PRelu) -> Held:
    tensor, moved = step.held[0]
    (alpha,) = kind.params(step.inputs[0])
    count, rank = 1, len(tensor.shape)
    for n in alpha.shape:
        count *= n
    if kind.slopes is None:
        shared = [step.axis(axis) for axis in kind.shared_axes]
    elif count == 1:
        shared = list(range(1, rank))
    elif count == tensor.shape[-1]:
        shared = list(range(1, rank - 1))
    else:
        shared = []
    return Held(step.layer("PReLU", shared_axes=tuple(shared) or None)(tensor), moved)


def dropout(step: Step, kind: act.Dropout) -> Held:
    tensor, moved = step.held[0]
    noise = kind.noise_shape
    if noise is not None:
        noise = tuple(None if n in (None, -1) else n for n in noise)
    return Held(step.layer("Dropout", kind.rate, noise_shape=noise)(tensor), moved)


#: Functions by the name that reading leaves them, with the constant that the name does not hold.
FUNCTIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "absolute": ("abs", ()),
    "clip": ("clip", (0.0, 6.0)),
    "add": ("add", (3.0,)),
    "subtract": ("subtract", (1.0,)),
    "multiply": ("multiply", (1 / 6,)),
    "divide": ("divide", (6.0,)),
    "maximum": ("maximum", (0.0,)),
    "minimum": ("minimum", (6.0,)),
    "power": ("power", (2.0,)),
    "average": ("multiply", (0.5,)),
}
PLAIN_FUNCTIONS = (
    *(
        "abs",
        "ceil",
        "cos",
        "erf",
        "exp",
        "expm1",
        "floor",
        "log",
        "log1p",
        "negative",
        "reciprocal",
    ),
    *("round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "tanh"),
)


def function(step: Step, kind: act.Function) -> Held:
    tensor, moved = step.held[0]
    if kind.name == "lrn":
        return response_norm(step)
    if kind.name in FUNCTIONS:
        name, constants = FUNCTIONS[kind.name]
    elif kind.name in PLAIN_FUNCTIONS:
        name, constants = kind.name, ()
    else:
        raise step.refusal(f"it has no function '{kind.name}'")
    return Held(getattr(step.keras.ops, name)(tensor, *constants), moved)


def response_norm(step: Step) -> Held:
    """AlexNet's local response normalization, over five channels."""
    image, ops = step.held[0].tensor, step.keras.ops
    if step.builder.network.channels_first and not step.held[0].moved:
        raise step.refusal("it normalizes over the channels of an image")
    *space, channels = image.shape[1:]
    squares = ops.reshape(ops.square(image), (-1, prod(space), channels, 1))
    means = ops.average_pool(squares, (1, 5), 1, "same", data_format="channels_last")
    around = ops.reshape(means, (-1, *space, channels))
    return Held(image / ops.power(1.0 + 1e-4 * around, 0.75), step.held[0].moved)


def cast(step: Step, kind: act.Cast) -> Held:
    tensor, moved = step.held[0]
    dtype = step.keras.config.floatx() if kind.dtype == "float" else kind.dtype
    return Held(step.keras.ops.cast(tensor, dtype), moved)


def simple(name: str, *args: Any) -> Rule:
    """A layer that takes the tensor as it is and gives its shape back."""
    return lambda step, kind: Held(step.layer(name, *args)(step.held[0].tensor), step.held[0].moved)


# Branches.


def together(step: Step) -> tuple[list[Any], bool]:
    """The inputs in one order of axes, and whether that has the channels moved.

    What does not grow with the batch is turned to meet an image, anything else the other way.
    """
    held = step.held
    if len({one.moved for one in held}) == 1:
        return [one.tensor for one in held], held[0].moved
    fixed = [spec.batch_axis is None for spec in step.inputs]
    rank = max(len(one.tensor.shape) for one in held if one.moved)
    if all(
        one.moved or (constant and len(one.tensor.shape) <= rank)
        for one, constant in zip(held, fixed, strict=True)
    ):
        return [one.tensor if one.moved else turned(step, one.tensor, rank) for one in held], True
    return [step.in_order(index) for index in range(len(held))], False


def turned(step: Step, tensor: Any, rank: int) -> Any:
    """A tensor in the network's order, of `rank` axes with the channels last."""
    ops = step.keras.ops
    shape = (1,) * (rank - len(tensor.shape)) + tuple(tensor.shape)
    if sum(size != 1 for size in shape) <= 1:
        return ops.reshape(tensor, (shape[0], *shape[2:], shape[1]))
    return ops.transpose(ops.reshape(tensor, shape), (0, *range(2, rank), 1))


def merging(layer: str, op: str = "") -> Rule:
    """Keras' merging layer, or its op where it has none or constants take part."""

    def rule(step: Step, kind: Any) -> Held:
        tensors, moved = together(step)
        if len(tensors) == 1:
            return Held(step.layer("Identity")(tensors[0]), moved)
        if step.op.layer_type == "CustomScaleLayer":
            return Held(step.layer(own().ScaledAdd)(tensors), moved)
        symbolic = all(map(step.keras.backend.is_keras_tensor, tensors))
        if layer and symbolic and all(None in t.shape[:1] for t in tensors):
            return Held(step.layer(layer)(tensors), moved)
        if not op:
            raise step.refusal("its layer takes no constants")
        return Held(reduce(getattr(step.keras.ops, op), tensors), moved)

    return rule


def concat(step: Step, kind: Any) -> Held:
    tensors, moved = together(step)
    if len(tensors) == 1:
        return Held(step.layer("Identity")(tensors[0]), moved)
    rank = len(step.inputs[0].dims)
    axis = step.axis(kind.axis) if moved else axis_of(kind.axis, rank)
    return Held(step.layer("Concatenate", axis=axis)(tensors), moved)


# Matrix products.


def dense(step: Step, kind: linear.Dense) -> Held:
    layer = step.layer("Dense", kind.units, use_bias=kind.bias, **applied(step))
    return Held(layer(step.in_order()))


def matmul(step: Step, kind: linear.MatMul) -> Held:
    pair = []
    for index, flip in enumerate((kind.transpose_a, kind.transpose_b)):
        tensor = step.in_order(index)
        pair.append(step.keras.ops.swapaxes(tensor, -1, -2) if flip else tensor)
    return Held(step.keras.ops.matmul(*pair))


def attention(step: Step, kind: linear.Attention) -> Held:
    shape = None if kind.output_dim is None else (kind.output_dim,)
    if kind.kv_heads in (None, kind.heads):
        layer = step.layer(
            "MultiHeadAttention",
            kind.heads,
            kind.key_dim,
            value_dim=kind.value_dim,
            output_shape=shape,
            use_bias=kind.bias,
        )
    elif shape is None and kind.value_dim in (None, kind.key_dim):
        layer = step.layer(
            "GroupQueryAttention", kind.key_dim, kind.heads, kind.kv_heads, use_bias=kind.bias
        )
    else:
        raise step.refusal("its grouped attention has no widths of its own")
    found = [step.in_order(index) for index in range(len(step.held))]
    return Held(layer(found[0], found[1] if len(found) > 1 else found[0], *found[2:]))


def embedding(step: Step, kind: linear.Embedding) -> Held:
    return Held(step.layer("Embedding", kind.rows, kind.width)(step.in_order()))


def dot(step: Step, kind: linear.Dot) -> Held:
    return Held(step.layer("Dot", kind.axes)([step.in_order(0), step.in_order(1)]))


def recurrence(step: Step, kind: recurrent.Recurrent) -> Held:
    name = {"lstm": "LSTM", "gru": "GRU", "simple": "SimpleRNN"}[kind.cell]
    extra: dict[str, Any] = {"reset_after": kind.reset_after} if kind.cell == "gru" else {}
    layer = step.layer(
        name, kind.units, return_sequences=kind.sequences, use_bias=kind.bias, **extra
    )
    return Held(layer(step.in_order()))


# Normalizations.


def batch_norm(step: Step, kind: norm.BatchNorm) -> Held:
    if not kind.statistics:
        raise step.refusal("its batch normalization always keeps statistics")
    tensor, moved = step.held[0]
    layer = step.layer(
        "BatchNormalization", axis=step.axis(kind.axis), scale=kind.scale, center=kind.center
    )
    return Held(layer(tensor), moved)


def layer_norm(step: Step, kind: norm.LayerNorm) -> Held:
    tensor, moved = step.held[0]
    axes = step.axes(kind.axes)
    if moved and len(axes) > 1:
        # Variables over several axes keep the network's order.
        tensor, moved = step.in_order(), False
        axes = [axis_of(axis, len(tensor.shape)) for axis in kind.axes]
    layer = step.layer("LayerNormalization", axis=tuple(axes), scale=kind.scale, center=kind.center)
    return Held(layer(tensor), moved)


def group_norm(step: Step, kind: norm.GroupNorm) -> Held:
    tensor, moved = step.held[0]
    layer = step.layer(
        "GroupNormalization",
        kind.groups,
        axis=step.axis(kind.axis),
        scale=kind.scale,
        center=kind.center,
    )
    return Held(layer(tensor), moved)


def rms_norm(step: Step, kind: norm.RMSNorm) -> Held:
    if not kind.scale:
        raise step.refusal("its RMS normalization always scales")
    tensor, moved = step.held[0]
    axes = step.axes(kind.axes)
    return Held(step.layer("RMSNormalization", axis=tuple(axes))(tensor), moved)


def unit_norm(step: Step, kind: norm.UnitNorm) -> Held:
    tensor, moved = step.held[0]
    return Held(step.layer("UnitNormalization", axis=tuple(step.axes(kind.axis)))(tensor), moved)


def standardize(step: Step, kind: norm.Standardize) -> Held:
    tensor, moved = step.held[0]
    axis = None if kind.axis is None else tuple(step.axes(kind.axis))
    fixed: dict[str, Any] = {} if kind.stored else {"mean": 0.0, "variance": 1.0}
    return Held(step.layer("Normalization", axis=axis, **fixed)(tensor), moved)


def scale(step: Step, kind: norm.Scale) -> Held:
    tensor, moved = step.held[0]
    return Held(step.layer(own().Scale, step.axis(kind.axis))(tensor), moved)


# Shapes.


def flatten(step: Step, kind: shapes.Flatten) -> Held:
    """Moved images are flattened as they stand: which weight meets which pixel is a matter of order
    that costs nothing."""
    return Held(step.layer("Flatten")(step.held[0].tensor))


def reshape(step: Step, kind: shapes.Reshape) -> Held:
    tensor = step.in_order()
    if not kind.whole:
        return Held(step.layer("Reshape", step.shape[1:])(tensor))
    spec = step.builder.network.results[step.op.name][0]
    target = tuple(-1 if axis == spec.batch_axis else n for axis, n in enumerate(spec.dims))
    return Held(step.keras.ops.reshape(tensor, target))


def permute(step: Step, kind: shapes.Permute) -> Held:
    tensor = step.in_order()
    if kind.order[0] == 0:
        return Held(step.layer("Permute", tuple(kind.order[1:]))(tensor))
    return Held(step.keras.ops.transpose(tensor, kind.order))


def repeat(step: Step, kind: shapes.Repeat) -> Held:
    if len(step.inputs[0].dims) == 2:
        return Held(step.layer("RepeatVector", kind.times)(step.in_order()))
    tensor = step.keras.ops.expand_dims(step.in_order(), 1)
    return Held(step.keras.ops.repeat(tensor, kind.times, axis=1))


def expand_dims(step: Step, kind: shapes.ExpandDims) -> Held:
    return Held(step.keras.ops.expand_dims(step.in_order(), kind.axis))


def squeeze(step: Step, kind: shapes.Squeeze) -> Held:
    rank = len(step.inputs[0].dims)
    gone = tuple(sorted(set(range(rank)) - set(kind.kept(step.inputs[0]))))
    tensor = step.in_order()
    return Held(step.keras.ops.squeeze(tensor, axis=gone) if gone else tensor)


def cut(step: Step, kind: shapes.Slice) -> Held:
    tensor, moved = step.held[0]
    axis = step.axis(kind.axis)
    stop = kind.start + kind.size * kind.step
    part = slice(kind.start, stop if stop >= 0 else None, kind.step)
    return Held(tensor[(*(slice(None),) * axis, part)], moved)


def split(step: Step, kind: shapes.Split) -> list[Held]:
    tensor, moved = step.held[0]
    axis, marks, at = step.axis(kind.axis), [], 0
    for size in kind.sizes[:-1]:
        at += size
        marks.append(at)
    return [Held(part, moved) for part in step.keras.ops.split(tensor, marks, axis=axis)]


def sided(layer: str, key: str) -> Rule:
    """Padding and cropping."""

    def rule(step: Step, kind: Any) -> Held:
        image = step.image()
        rank = len(image.shape) - 2
        pairs = shapes.sides(getattr(kind, key), rank, key)
        return step.made(step.layer(f"{layer}{rank}D", pairs if rank > 1 else pairs[0])(image))

    return rule


def upsample(step: Step, kind: shapes.Upsample) -> Held:
    image = step.image()
    rank = len(image.shape) - 2
    factor = per_axis(kind.factor, rank, "factor")
    if rank == 2:
        layer = step.layer("UpSampling2D", factor, interpolation=kind.interpolation)
        return step.made(layer(image))
    if kind.interpolation != "nearest":
        raise step.refusal(f"it interpolates two axes, not {rank}")
    return step.made(step.layer(f"UpSampling{rank}D", factor if rank > 1 else factor[0])(image))


def resize(step: Step, kind: shapes.Resize) -> Held:
    image = step.image()
    size = per_axis(kind.size, len(image.shape) - 2, "size")
    return step.made(step.keras.ops.image.resize(image, size, interpolation=kind.interpolation))


def blocks(step: Step, kind: Any) -> Held:
    """Blocks of pixels to channels, or back, as a reshape, a transposition and a reshape."""
    image, ops, b = step.image(), step.keras.ops, kind.block
    *sizes, channels = image.shape[1:]
    rank = len(sizes)
    if kind.type == "space_to_depth":
        inner = [n for size in sizes for n in (size // b, b)]
        spread = ops.reshape(image, (-1, *inner, channels))
        order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
        target = (*(size // b for size in sizes), channels * b**rank)
    else:
        spread = ops.reshape(image, (-1, *sizes, *(b,) * rank, channels // b**rank))
        pairs = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
        order = (0, *pairs, 2 * rank + 1)
        target = (*(size * b for size in sizes), channels // b**rank)
    return step.made(ops.reshape(ops.transpose(spread, order), (-1, *target)))


def shuffle(step: Step, kind: shapes.ChannelShuffle) -> Held:
    image, ops = step.image(), step.keras.ops
    *sizes, channels = image.shape[1:]
    spread = ops.reshape(image, (-1, *sizes, kind.groups, channels // kind.groups))
    return step.made(ops.reshape(ops.swapaxes(spread, -1, -2), (-1, *sizes, channels)))


def reducing(step: Step, kind: shapes.Reduce) -> Held:
    names = {"mean", "sum", "max", "min", "prod", "argmax", "argmin"}
    if kind.kind not in names:
        raise step.refusal(f"it has no reduction '{kind.kind}'")
    axes = tuple(sorted(kind.reduced(step.inputs[0])))
    axis: Any = axes
    if kind.kind.startswith("arg"):
        if len(axes) != 1:
            raise step.refusal(f"{kind.kind} goes along one axis")
        (axis,) = axes
    function = getattr(step.keras.ops, kind.kind)
    return Held(function(step.in_order(), axis=axis, keepdims=kind.keepdims))


def constant(step: Step, kind: opaque.Constant) -> Held:
    dtype = None if kind.dtype == "float" else kind.dtype
    if not kind.stored:
        return Held(step.keras.ops.ones(kind.shape, dtype))
    builder = step.builder
    first = builder.tensors[next(iter(builder.network.inputs))].tensor
    layer = step.layer(own().Variable, kind.shape, dtype)
    layer.trainable = step.op.trainable and kind.trainable
    return Held(layer(first))


RULES: dict[str, Rule] = {
    "activation": activation,
    "prelu": prelu,
    "dropout": dropout,
    "noise": simple("GaussianNoise", 0.1),
    "identity": simple("Identity"),
    "cast": cast,
    "function": function,
    "conv": convolution,
    "depthwise_conv": depthwise,
    "conv_transpose": transposed,
    "dense": dense,
    "matmul": matmul,
    "attention": attention,
    "embedding": embedding,
    "dot": dot,
    "add": merging("Add", "add"),
    "subtract": merging("Subtract", "subtract"),
    "multiply": merging("Multiply", "multiply"),
    "divide": merging("", "divide"),
    "maximum": merging("Maximum", "maximum"),
    "minimum": merging("Minimum", "minimum"),
    "average": merging("Average"),
    "power": merging("", "power"),
    "concat": concat,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "rms_norm": rms_norm,
    "unit_norm": unit_norm,
    "rescale": simple("Rescaling", 1 / 255),
    "standardize": standardize,
    "scale": scale,
    "constant": constant,
    "max_pool": pool,
    "average_pool": pool,
    "global_pool": global_pool,
    "adaptive_pool": adaptive_pool,
    "recurrent": recurrence,
    "flatten": flatten,
    "reshape": reshape,
    "permute": permute,
    "repeat": repeat,
    "expand_dims": expand_dims,
    "squeeze": squeeze,
    "slice": cut,
    "split": split,
    "pad": sided("ZeroPadding", "padding"),
    "crop": sided("Cropping", "cropping"),
    "upsample": upsample,
    "resize": resize,
    "space_to_depth": blocks,
    "depth_to_space": blocks,
    "channel_shuffle": shuffle,
    "reduce": reducing,
}
