"""What each ATen operator means in operators of ours.

A rule takes a `Call` and gives the tensor, or the list of tensors, that the operator makes.  It
raises `Unsupported` for a use that ours have no form for.  An operator that stands in no table
here becomes opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convcalc.ops import activation as act
from convcalc.ops import convolution as conv
from convcalc.ops import linear, merge, pooling, recurrent
from convcalc.ops import normalization as norm
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator, axis_of
from convcalc.readers.torch_graph import Call, Folded, Ref, Unsupported, Weight, drops_samples
from convcalc.readers.torch_moves import MOVES, listed_sizes

Rule = Callable[[Call], Any]

RULES: dict[str, Rule] = dict(MOVES)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operators.

    Raises:
        ValueError: one of them has a rule already.
    """

    def decorate(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"'{name}' has a rule already")
            RULES[name] = function
        return function

    return decorate


def sides(values: Sequence[Any], rank: int) -> tuple[Any, ...]:
    """One value for each axis, where PyTorch may give one for all."""
    return listed_sizes(values, rank)


def weighted(c: Call, operator: Callable[[bool], Operator], x: Ref, values: Sequence[Any]) -> Ref:
    """A convolution that owns kernel and bias, or reads what makes them."""
    kernel, bias = values
    claim = c.claim(kernel, bias)
    if claim is not None:
        return c.emit(operator(bias is not None), [x], *claim)
    inputs = [x, *(c.builder.tensor(value, c) for value in values if value is not None)]
    return c.emit(operator(bias is not None), inputs)


def shape_of(c: Call, value: Any) -> tuple[int, ...]:
    """The shape of an argument that need not become a tensor of the network."""
    return c.dims(value) if isinstance(value, Ref) else tuple(value.shape)


# Convolutions


@rule("conv1d", "conv2d", "conv3d", "convolution")
def convolution(c: Call) -> Ref:
    if c.get("transposed"):
        raise Unsupported
    x = c.x
    kernel = shape_of(c, c["weight"])
    rank = len(kernel) - 2
    if len(c.dims(x)) != rank + 2:
        raise Unsupported
    padding = c["padding"]
    return weighted(
        c,
        lambda bias: conv.Conv(
            filters=kernel[0],
            kernel=kernel[2:],
            stride=sides(c["stride"], rank),
            padding=padding if isinstance(padding, str) else sides(padding, rank),
            dilation=sides(c["dilation"], rank),
            groups=c["groups"],
            bias=bias,
            channels_first=True,
        ),
        x,
        (c["weight"], c["bias"]),
    )


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(c: Call) -> Ref:
    x = c.x
    kernel = shape_of(c, c["weight"])
    rank = len(kernel) - 2
    if len(c.dims(x)) != rank + 2:
        raise Unsupported
    return weighted(
        c,
        lambda bias: conv.ConvTranspose(
            filters=kernel[1] * c["groups"],
            kernel=kernel[2:],
            stride=sides(c["stride"], rank),
            padding=sides(c["padding"], rank),
            dilation=sides(c["dilation"], rank),
            groups=c["groups"],
            bias=bias,
            output_padding=sides(c["output_padding"], rank),
            channels_first=True,
        ),
        x,
        (c["weight"], c["bias"]),
    )


# Products


@rule("linear")
def dense(c: Call) -> Ref:
    x = c.x
    claim = None if len(c.dims(x)) < 2 else c.claim(c["weight"], c["bias"])
    if claim is not None:
        units = shape_of(c, c["weight"])[0]
        return c.emit(linear.Dense(units, c["bias"] is not None), [x], *claim)
    made = c.emit(linear.MatMul(transpose_b=True), [x, c.ref("weight")])
    return made if c["bias"] is None else c.emit(merge.Add(), [made, c.ref("bias")])


@rule("matmul", "mm", "bmm")
def matmul(c: Call) -> Ref:
    second = "other" if "other" in c.args else "mat2"
    return c.emit(linear.MatMul(), [c.x, c.ref(second)])


@rule("addmm", "baddbmm")
def matmul_add(c: Call) -> Ref:
    first, second = ("mat1", "mat2") if "mat1" in c.args else ("batch1", "batch2")
    made = c.emit(linear.MatMul(), [c.ref(first), c.ref(second)])
    return made if c.get("beta") == 0 else c.emit(merge.Add(), [c.x, made])


@rule("mv", "dot", "vdot")
def vector_product(c: Call) -> Ref:
    """A product with a vector is one with a matrix of one column."""
    x, y = (c.ref(key) for key in c.args)
    if c.base != "mv":
        x = c.emit(shapes.ExpandDims(0), [x])
    made = c.emit(linear.MatMul(), [x, c.emit(shapes.ExpandDims(-1), [y])])
    return c.emit(shapes.Squeeze((-1,) if c.base == "mv" else (-2, -1)), [made])


@rule("scaled_dot_product_attention")
def attention(c: Call) -> Ref:
    inputs = [c.ref(key) for key in ("query", "key", "value")]
    if c["attn_mask"] is not None:
        inputs.append(c.ref("attn_mask"))
    return c.emit(linear.ScaledDotProduct(float(c["dropout_p"])), inputs)


@rule("einsum")
def einsum(c: Call) -> Ref:
    """Two operands as PyTorch does it: permuted and reshaped into one batched product."""
    tensors = c.refs("tensors")
    equation = c["equation"].replace(" ", "")
    left, arrow, out = equation.partition("->")
    labels = left.split(",")
    if len(tensors) != 2 or not arrow or "." in equation:
        raise Unsupported
    (a, b), (x, y) = labels, tensors
    if any(len(set(word)) != len(word) for word in (a, b, out)):
        raise Unsupported
    sizes = dict(zip(a + b, c.dims(x) + c.dims(y), strict=True))
    summed = [label for label in a if label in b and label not in out]
    if any(label not in out and label not in summed for label in a + b):
        raise Unsupported
    shared = [label for label in a if label in b and label in out]
    rows = [label for label in a if label not in b]
    columns = [label for label in b if label not in a]

    def together(ref: Ref, word: str, groups: Sequence[Sequence[str]]) -> Ref:
        order = tuple(word.index(label) for group in groups for label in group)
        return reshaped(c, permuted(c, ref, order), [count(group, sizes) for group in groups])

    if not summed:
        places = [*shared, *rows, *columns]
        wide = []
        for ref, word in ((x, a), (y, b)):
            kept = [label for label in places if label in word]
            moved = permuted(c, ref, tuple(word.index(label) for label in kept))
            wide.append(reshaped(c, moved, [sizes[p] if p in word else 1 for p in places]))
        made = c.emit(merge.Multiply(), wide)
    else:
        first = together(x, a, (shared, rows, summed))
        second = together(y, b, (shared, summed, columns))
        made = c.emit(linear.MatMul(), [first, second])
        made = reshaped(c, made, [sizes[label] for label in (*shared, *rows, *columns)])
    done = [*shared, *rows, *columns]
    return permuted(c, made, tuple(done.index(label) for label in out))


def count(labels: Sequence[str], sizes: dict[str, int]) -> int:
    """Elements of several axes together."""
    total = 1
    for label in labels:
        total *= sizes[label]
    return total


def permuted(c: Call, ref: Ref, order: tuple[int, ...]) -> Ref:
    """Axes in another order, if it is another."""
    return ref if list(order) == list(range(len(order))) else c.emit(shapes.Permute(order), [ref])


def reshaped(c: Call, ref: Ref, shape: Sequence[int]) -> Ref:
    """The elements in another shape, if it is another."""
    if c.dims(ref) == tuple(shape):
        return ref
    return c.emit(shapes.Reshape(tuple(shape), whole=True), [ref])


@rule("embedding")
def embedding(c: Call) -> Ref:
    rows, width = shape_of(c, c["weight"])
    claim = c.claim(c["weight"])
    if claim is None:
        return c.gather([c.ref("indices"), c.ref("weight")], c.shape)
    return c.emit(linear.Embedding(rows, width), [c.ref("indices")], *claim)


# Normalizations


def affine(c: Call, made: Ref, axis: int) -> Ref:
    """Scale and shift by variables that are no normalization's own."""
    for key, operator in (("weight", merge.Multiply()), ("bias", merge.Add())):
        if c[key] is not None:
            ref = c.ref(key)
            tail = len(c.dims(made)) - 1 - axis
            if len(c.dims(ref)) == 1 and tail:
                ref = reshaped(c, ref, [*c.dims(ref), *(1,) * tail])
            made = c.emit(operator, [made, ref])
    return made


@rule("batch_norm", "instance_norm")
def batch_norm(c: Call) -> Ref:
    x = c.x
    values = [c[key] for key in ("weight", "bias", "running_mean", "running_var")]
    scale, center, mean, variance = (value is not None for value in values)
    statistics = mean and variance

    def operator(scale: bool, center: bool) -> Operator:
        if c.base == "instance_norm" and not statistics:
            return norm.GroupNorm(groups=-1, axis=1, scale=scale, center=center)
        return norm.BatchNorm(axis=1, scale=scale, center=center, statistics=statistics)

    claim = c.claim(*values)
    if claim is not None:
        return c.emit(operator(scale, center), [x], *claim)
    moving = c.claim(*values[2:]) if statistics else None
    if statistics and moving is None:
        raise Unsupported
    made = c.emit(operator(False, False), [x], *(moving or ()))
    return affine(c, made, 1)


@rule("layer_norm")
def layer_norm(c: Call) -> Ref:
    axes = tuple(range(-len(c["normalized_shape"]), 0))
    return normalized(c, lambda s, b: norm.LayerNorm(axes, s, b), len(c.dims(c.x)) - 1)


@rule("group_norm")
def group_norm(c: Call) -> Ref:
    return normalized(c, lambda s, b: norm.GroupNorm(c["num_groups"], 1, s, b), 1)


@rule("rms_norm")
def rms_norm(c: Call) -> Ref:
    axes = tuple(range(-len(c["normalized_shape"]), 0))
    c.args["bias"] = None
    last = len(c.dims(c.x)) - 1
    return normalized(c, lambda s, _: norm.RMSNorm(axes, s), last)


def normalized(c: Call, operator: Callable[[bool, bool], Operator], axis: int) -> Ref:
    """A normalization that owns its scale and shift, or is followed by theirs."""
    x = c.x
    values = [c["weight"], c["bias"]]
    scale, center = (value is not None for value in values)
    claim = c.claim(*values)
    if claim is not None:
        return c.emit(operator(scale, center), [x], *claim)
    return affine(c, c.emit(operator(False, False), [x]), axis)


# Pools


def pool(c: Call, operator: type[Any], **more: Any) -> Ref:
    x = c.x
    rank = int(c.base.removesuffix("_with_indices")[-2])
    if len(c.dims(x)) != rank + 2:
        raise Unsupported
    kernel = sides(c["kernel_size"], rank)
    return c.emit(
        operator(
            kernel=kernel,
            stride=sides(c["stride"], rank) if c["stride"] else kernel,
            padding=sides(c["padding"], rank),
            ceil_mode=c["ceil_mode"],
            channels_first=True,
            **more,
        ),
        [x],
    )


@rule(*(f"max_pool{n}d{suffix}" for n in (1, 2, 3) for suffix in ("", "_with_indices")))
def max_pool(c: Call) -> Any:
    rank = int(c.base[len("max_pool")])
    made = pool(c, pooling.MaxPool, dilation=sides(c["dilation"], rank))
    return with_indices(c, made)


def with_indices(c: Call, made: Ref) -> Any:
    """A result, and where PyTorch gives it too, the places it came from."""
    if len(c.shapes) == 1:
        return made
    return [made, c.gather([made], c.shapes[1], "int64")]


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(c: Call) -> Ref:
    return pool(c, pooling.AveragePool, count_include_pad=c["count_include_pad"])


@rule(*(f"adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2, 3)))
def adaptive_pool(c: Call) -> Any:
    x = c.x
    rank = int(c.base[-2])
    kind = "max" if "max" in c.base else "average"
    if len(c.dims(x)) != rank + 2:
        raise Unsupported
    output = sides(c["output_size"], rank)
    return with_indices(c, c.emit(pooling.AdaptivePool(output, kind, channels_first=True), [x]))


# Recurrent layers


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def rnn(c: Call) -> Any:
    """Each layer and direction is one op; its initial state is zero or does not matter."""
    cell = c.base if c.base in ("lstm", "gru") else "simple"
    if "batch_sizes" in c.args:
        raise Unsupported
    weights = list(c["params"])
    each = 4 if c["has_biases"] else 2
    directions = 2 if c["bidirectional"] else 1
    # Projected states have one matrix more.
    if len(weights) != each * directions * c["num_layers"]:
        raise Unsupported
    x = c.x
    if not c["batch_first"]:
        x = c.emit(shapes.Permute((1, 0, 2)), [x])
    steps = c.dims(x)[1]
    for layer in range(c["num_layers"]):
        found = []
        for direction in range(directions):
            at = each * (directions * layer + direction)
            own = weights[at : at + each]
            claim = c.claim(*own)
            if claim is None:
                raise Unsupported
            backward = shapes.Slice(1, steps, steps - 1, -1)
            source = c.emit(backward, [x]) if direction else x
            units = own[1].shape[-1]
            operator = recurrent.Recurrent(
                cell, units, sequences=True, bias=each == 4, second_bias=each == 4
            )
            made = c.emit(operator, [source], *claim)
            found.append(c.emit(backward, [made]) if direction else made)
        x = c.emit(merge.Concat(-1), found) if len(found) > 1 else found[0]
        if c["dropout"] and layer < c["num_layers"] - 1:
            x = c.emit(act.Dropout(c["dropout"]), [x])
    read = any(user.args[1] and user.users for user in c.node.users)
    # (layers and directions, batch, units)
    states = [c.emit(shapes.Gather(s, 1), [x]) if read else None for s in c.shapes[1:]]
    return [x if c["batch_first"] else c.emit(shapes.Permute((1, 0, 2)), [x]), *states]


# Element by element

#: ATen's names of the activations that have another with us.
ACTIVATIONS = {
    **{name: name for name in ("relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "elu", "selu")},
    **{name: name for name in ("celu", "mish", "softplus", "softmax", "log_softmax", "leaky_relu")},
    "threshold": "threshold",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "special_expit": "sigmoid",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "hardshrink": "hard_shrink",
    "softshrink": "soft_shrink",
    "log_sigmoid": "log_sigmoid",
    "rrelu": "leaky_relu",
}


@rule(*ACTIVATIONS)
def activation(c: Call) -> Ref:
    return c.emit(act.Activation(ACTIVATIONS[c.base]), [c.x])


@rule("hardtanh")
def hardtanh(c: Call) -> Ref:
    relu6 = (c["min_val"], c["max_val"]) == (0, 6)
    return c.emit(act.Activation("relu6" if relu6 else "hard_tanh"), [c.x])


@rule("prelu")
def prelu(c: Call) -> Ref:
    claim = c.claim(c["weight"])
    if claim is None:
        raise Unsupported
    slopes = shape_of(c, c["weight"])
    return c.emit(act.PRelu(slopes=slopes), [c.x], *claim)


@rule("glu")
def glu(c: Call) -> Ref:
    x = c.x
    axis = axis_of(c["dim"], len(c.dims(x)))
    half = c.dims(x)[axis] // 2
    first = c.emit(shapes.Split((half, half), axis), [x])
    gate = c.emit(act.Activation("sigmoid"), [Ref(f"{first}:1")])
    return c.emit(merge.Multiply(), [first, gate])


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
def dropout(c: Call) -> Any:
    x = c.x
    rest = len(c.dims(x)) - 1
    if drops_samples(c):
        noise: Any = (None, *(1,) * rest)
    elif c.base.startswith("feature"):
        noise = (None, None, *(1,) * (rest - 1))
    else:
        noise = None
    made = c.emit(act.Dropout(float(c["p"]), noise), [x])
    return [made, c.gather([made], c.shapes[1])] if len(c.shapes) > 1 else made


#: Functions of one element (and numbers), and reductions along an axis that keep the shape.
FUNCTIONS = (
    *("abs", "neg", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "erf", "erfc", "reciprocal"),
    *("square", "floor", "ceil", "round", "trunc", "frac", "sign", "clamp", "clip", "clamp_min"),
    *("clamp_max", "nan_to_num", "logical_not", "bitwise_not", "isnan", "isinf", "isfinite"),
    *("cumsum", "cumprod", "logit", "sinc", "normal", "uniform", "bernoulli", "zero", "fill"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "sgn"),
    *("tril", "triu", "exponential"),
)


@rule(*FUNCTIONS)
def function(c: Call) -> Ref:
    return typed(c, c.emit(act.Function(c.base), [c.x]))


def typed(c: Call, made: Ref) -> Ref:
    """A result in the element type that PyTorch gives it."""
    return made if c.spec(made).dtype == c.dtype else c.emit(act.Cast(c.dtype), [made])


MERGES: dict[str, Operator] = {
    "add": merge.Add(),
    "sub": merge.Subtract(),
    "subtract": merge.Subtract(),
    "rsub": merge.Subtract(),
    "mul": merge.Multiply(),
    "multiply": merge.Multiply(),
    "div": merge.Divide(),
    "divide": merge.Divide(),
    "true_divide": merge.Divide(),
    "maximum": merge.Maximum(),
    "minimum": merge.Minimum(),
    "pow": merge.Power(),
}
#: Any other function of elements that meet.
COMBINED = (
    *("eq", "ne", "lt", "le", "gt", "ge", "less", "greater", "logical_and", "logical_or"),
    *("logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "remainder", "fmod", "atan2"),
    *("floor_divide", "where", "lerp", "addcmul", "addcdiv", "masked_fill", "isclose", "heaviside"),
    *(
        "_weight_norm_interface",
        "_weight_norm",
        "copysign",
        "hypot",
        "copy",
        "xlogy",
        "__and",
        "__or",
        "__xor",
    ),
)


@rule(*MERGES, *COMBINED)
def combine(c: Call) -> Ref:
    """Of tensors an operator of ours; with a number it is a function of the one tensor."""
    inputs = [
        c.builder.tensor(value, c)
        for value in c.args.values()
        if isinstance(value, (Ref, Weight, Folded))
        and not (isinstance(value, Folded) and value.shape == ())
    ]
    if len(inputs) == 1 and c.dims(inputs[0]) == c.shape:
        return typed(c, c.emit(act.Function(c.base), inputs))
    merged = MERGES.get(c.base)
    if merged is not None and len(inputs) == 2:
        return typed(c, c.emit(merged, inputs))
    return c.emit(merge.Combine(c.base, c.dtype), inputs)


# Reductions

#: ATen's reductions by our names; those that give indices as well come after a colon.
REDUCTIONS = {
    **{name: name for name in ("mean", "sum", "prod", "amax", "amin", "argmax", "argmin", "any")},
    **{name: name for name in ("var", "std", "logsumexp", "all", "nansum", "count_nonzero")},
    **{name: name for name in ("max", "min", "median", "var_mean", "std_mean", "aminmax")},
    "linalg_vector_norm": "norm",
    "norm": "norm",
    "frobenius_norm": "norm",
}


@rule(*REDUCTIONS)
def reduction(c: Call) -> Any:
    if "other" in c.args:
        both = merge.Maximum() if c.base == "max" else merge.Minimum()
        return c.emit(both, [c.x, c.ref("other")])
    x = c.x
    rank = len(c.dims(x))
    axes = c.get("dim")
    if axes is None or axes == []:
        axes = tuple(range(rank))
    elif isinstance(axes, int):
        axes = (axes,)
    made = c.emit(shapes.Reduce(REDUCTIONS[c.base], tuple(axes), bool(c.get("keepdim"))), [x])
    return [typed(c, made), *(c.gather([made], shape) for shape in c.shapes[1:])]
