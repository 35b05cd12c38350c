"""Rules of ONNX operators that have weights or windows: convolutions, products, pools, norms."""

from __future__ import annotations

from typing import Any

from convcalc.errors import ShapeError
from convcalc.ops.activation import Cast
from convcalc.ops.convolution import Conv, ConvTranspose
from convcalc.ops.linear import Dense, MatMul
from convcalc.ops.merge import Add, Multiply
from convcalc.ops.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm, UnitNorm
from convcalc.ops.pooling import AveragePool, GlobalPool, LpPool, MaxPool
from convcalc.ops.shape import ExpandDims, Permute, Reshape, Squeeze
from convcalc.readers.onnx_ops import Edge, NotStatic, Use, rule

#: The inputs that are weights, by operator: a graph input that goes nowhere else is one as well.
WEIGHT_SLOTS = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvInteger": (1,),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "GRU": (1, 2, 3),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}


def padding(use: Use, rank: int) -> Any:
    """`auto_pad` or `pads` as our padding of `rank` axes.

    Raises:
        ShapeError: there is no such `auto_pad`, or the pads do not fit.
    """
    named = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
    auto = use.text("auto_pad") or "NOTSET"
    if auto != "NOTSET":
        if auto not in named:
            raise ShapeError(f"auto_pad '{auto:.40}' is none of NOTSET, {', '.join(named)}")
        return named[auto]
    pads = use.ints("pads")
    if not pads:
        return "valid"
    if len(pads) != 2 * rank:
        raise ShapeError(f"{len(pads)} pads do not fit {rank} axes")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def window(use: Use, rank: int) -> dict[str, Any]:
    """What convolutions and pools have in common."""
    return {
        "stride": use.ints("strides") or 1,
        "dilation": use.ints("dilations") or 1,
        "padding": padding(use, rank),
        "channels_first": True,
    }


def kernel_of(x: Edge, weight: Edge) -> tuple[int, ...]:
    """The sizes of a convolution's weight.

    Raises:
        ShapeError: the weight has another rank than the input.
    """
    if weight.rank != x.rank or x.rank < 3:
        raise ShapeError(f"weights of {weight.spec} do not fit an input of {x.spec}")
    return weight.dims


def convolved(
    use: Use, operator: Conv | ConvTranspose, x: Edge, weight: Edge, bias: Edge | None
) -> Edge:
    """A convolution that stores its kernel and bias, or is given them.

    It is given them if they are computed while the network runs, or if other nodes use the one
    without the other: then they are variables of their own, so that each counts once.
    """
    filters = operator.filters
    if bias is not None and bias.dims not in ((filters,), (1, filters)):
        raise ShapeError(f"a bias of {bias.spec} does not fit {filters} filters")
    weights = [weight] if bias is None else [weight, bias]
    own = all(edge.constant for edge in weights) and not use.builder.torn(weights, operator.type)
    return use.emit(operator, x, weights=weights) if own else use.emit(operator, x, *weights)


@rule("Conv", "ConvInteger", "QLinearConv")
def convolution(use: Use) -> Edge:
    at, bias_at = {"Conv": (1, 2), "ConvInteger": (1, 9), "QLinearConv": (3, 8)}[use.op_type]
    x, weight, bias = use.edge(0), use.edge(at), use.maybe(bias_at)
    filters, seen, *kernel = kernel_of(x, weight)
    groups = use.integer("group", 1)
    if seen * groups != x.dims[1]:
        raise ShapeError(
            f"its weights are for {seen * groups} channels, its input {x.spec} has {x.dims[1]}"
        )
    has = bias is not None
    operator = Conv(filters, tuple(kernel), groups=groups, bias=has, **window(use, len(kernel)))
    y = convolved(use, operator, x, weight, bias)
    return use.emit(Cast("int32"), y) if use.op_type == "ConvInteger" else y


@rule("ConvTranspose")
def transposed_convolution(use: Use) -> Edge:
    x, weight, bias = use.edge(0), use.edge(1), use.maybe(2)
    channels, made, *kernel = kernel_of(x, weight)
    rank = len(kernel)
    groups = use.integer("group", 1)
    if channels != x.dims[1]:
        raise ShapeError(f"its weights are for {channels} channels, its input is {x.spec}")
    config = window(use, rank)
    config["output_padding"] = use.ints("output_padding") or None
    sizes = use.ints("output_shape")
    if sizes:
        # Some writers give all axes, batch and channels included.
        config["output_shape"] = sizes[2:] if len(sizes) == rank + 2 else sizes
        # Without auto_pad the odd position is cropped in front.
        if config["padding"] != "same":
            config["padding"] = "same_lower"
    elif config["padding"] == "valid":
        # Ours makes room for the strides of a kernel smaller than its stride; ONNX does not.
        config["padding"] = ((0, 0),) * rank
    elif isinstance(config["padding"], str):
        config["output_padding"] = None
    has = bias is not None
    operator = ConvTranspose(made * groups, tuple(kernel), groups=groups, bias=has, **config)
    return convolved(use, operator, x, weight, bias)


@rule("Gemm")
def gemm(use: Use) -> Edge:
    a, b, c = use.edge(0), use.edge(1), use.maybe(2)
    if a.rank != 2 or b.rank != 2:
        raise ShapeError(f"it multiplies matrices, not {a.spec} and {b.spec}")
    if use.integer("transA"):
        a = use.emit(Permute((1, 0)), a)
    if not b.constant or use.builder.torn([b], "dense"):
        y = use.emit(MatMul(transpose_b=bool(use.integer("transB"))), a, b)
        return y if c is None else use.emit(Add(), y, c)
    units, inner = b.dims if use.integer("transB") else b.dims[::-1]
    fits(a, inner)
    bias = c is not None and c.constant and c.dims in ((units,), (1, units))
    if c is not None and bias and not use.builder.torn([b, c], "dense"):
        return use.emit(Dense(units), a, weights=[b, c])
    y = use.emit(Dense(units, bias=False), a, weights=[b])
    return y if c is None else use.emit(Add(), y, c)


def fits(x: Edge, inner: int) -> None:
    """Refuse a product whose inner sizes differ.

    Raises:
        ShapeError: they do.
    """
    if x.dims[-1] != inner:
        raise ShapeError(f"its weights are for {inner} features, its input is {x.spec}")


@rule("MatMul", "MatMulInteger", "QLinearMatMul")
def matrix_product(use: Use) -> Edge:
    a, b = use.edge(0), use.edge(3 if use.op_type == "QLinearMatMul" else 1)
    y = product(use, a, b)
    return use.emit(Cast("int32"), y) if use.op_type == "MatMulInteger" else y


def product(use: Use, a: Edge, b: Edge) -> Edge:
    """``a @ b`` as NumPy has it: a vector is a matrix of one row or one column."""
    if not a.rank or not b.rank:
        raise ShapeError(f"it multiplies matrices, not {a.spec} and {b.spec}")
    dense = b.constant and b.rank == 2 and a.rank > 1 and not a.constant
    if dense and not use.builder.torn([b], "dense"):
        fits(a, b.dims[0])
        return use.emit(Dense(b.dims[1], bias=False), a, weights=[b])
    row, column = a.rank == 1, b.rank == 1
    if row:
        a = use.emit(ExpandDims(0), a)
    if column:
        b = use.emit(ExpandDims(1), b)
    y = use.emit(MatMul(), a, b)
    gone = ((-2,) if row else ()) + ((-1,) if column else ())
    return use.emit(Squeeze(gone), y) if gone else y


@rule("MaxPool", "AveragePool", "LpPool")
def pool(use: Use) -> list[Edge]:
    x = use.edge(0)
    kernel = use.ints("kernel_shape")
    if not kernel:
        raise ShapeError("it has no kernel_shape")
    config = {
        "kernel": kernel,
        "ceil_mode": bool(use.integer("ceil_mode")),
        **window(use, len(kernel)),
    }
    operator: MaxPool | AveragePool | LpPool
    if use.op_type == "MaxPool":
        operator = MaxPool(**config)
    elif use.op_type == "LpPool":
        operator = LpPool(p=use.integer("p", 2), **config)
    else:
        operator = AveragePool(count_include_pad=bool(use.integer("count_include_pad")), **config)
    y = use.emit(operator, x)
    return [y, use.emit(Cast("int64"), y)] if use.outputs > 1 else [y]


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(use: Use) -> Edge:
    kind = {"GlobalAveragePool": "average", "GlobalMaxPool": "max", "GlobalLpPool": "lp"}
    operator = GlobalPool(kind[use.op_type], keepdims=True, channels_first=True)
    return use.emit(operator, use.edge(0))


def for_channels(x: Edge, *params: Edge) -> None:
    """Refuse parameters that are not one number for each channel, and those made at run time.

    Raises:
        NotStatic: they are made while the network runs.
        ShapeError: they are too few or too many.
    """
    for param in params:
        if not param.constant:
            raise NotStatic
        if x.rank < 2 or param.dims != (x.dims[1],):
            raise ShapeError(f"its parameters of {param.spec} do not fit an input of {x.spec}")


@rule("BatchNormalization")
def batch_norm(use: Use) -> list[Edge]:
    x, *params = (use.edge(i) for i in range(5))
    for_channels(x, *params)
    y = use.emit(BatchNorm(axis=1), x, weights=params)
    # In training it gives the statistics as well.
    more = [use.builder.literal((x.dims[1],), "float") for _ in range(use.outputs - 1)]
    return [y, *more]


@rule("InstanceNormalization", "GroupNormalization")
def group_norm(use: Use) -> Edge:
    x, scale, shift = (use.edge(i) for i in range(3))
    groups = use.integer("num_groups") if use.op_type == "GroupNormalization" else -1
    given = [param for param in (scale, shift) if not literal(param)]
    if given and given[0].dims == (groups,) != (x.dims[1],):
        # Version 18 scales groups, not channels.
        y = use.emit(GroupNorm(groups, axis=1, scale=False, center=False), x)
        sides = [use.emit(Reshape((groups, *(1,) * (x.rank - 1)), whole=True), p) for p in given]
        parts = (1, groups, x.dims[1] // groups, *x.dims[2:])
        grouped = use.emit(Reshape(parts, whole=True), y)
        for operator, side in zip((Multiply(), Add()), sides, strict=False):
            grouped = use.emit(operator, grouped, side)
        return use.emit(Reshape(x.dims, whole=True), grouped)
    for_channels(x, *given)
    own = GroupNorm(groups, 1, scale=not literal(scale), center=not literal(shift))
    return use.emit(own, x, weights=given)


def literal(param: Edge) -> bool:
    """Whether a parameter is a plain one or zero that an exporter filled in."""
    return param.constant and not param.stored and param.value is not None


@rule("LayerNormalization")
def layer_norm(use: Use) -> list[Edge]:
    x, scale, shift = use.edge(0), use.maybe(1), use.maybe(2)
    axes = tuple(range(use.axis(-1, x.rank), x.rank))
    given = [param for param in (scale, shift) if param is not None and not literal(param)]
    for param in given:
        if not param.constant:
            raise NotStatic
    fitting = all(param.dims == tuple(x.dims[i] for i in axes) for param in given)
    if not fitting:
        y = use.emit(LayerNorm(axes, scale=False, center=False), x)
        for operator, side in zip((Multiply(), Add()), given, strict=False):
            y = use.emit(operator, y, side)
    else:
        has = [param is not None and not literal(param) for param in (scale, shift)]
        y = use.emit(LayerNorm(axes, scale=has[0], center=has[1]), x, weights=given)
    kept = tuple(1 if i in axes else size for i, size in enumerate(x.dims))
    return [y, *(use.builder.literal(kept, "float") for _ in range(use.outputs - 1))]


@rule("RMSNormalization")
def rms_norm(use: Use) -> Edge:
    x, scale = use.edge(0), use.edge(1)
    axes = tuple(range(use.axis(-1, x.rank), x.rank))
    if scale.constant and scale.dims == tuple(x.dims[i] for i in axes):
        return use.emit(RMSNorm(axes, scale=True), x, weights=[scale])
    return use.emit(Multiply(), use.emit(RMSNorm(axes, scale=False), x), scale)


@rule("LpNormalization")
def lp_norm(use: Use) -> Edge:
    x = use.edge(0)
    return use.emit(UnitNorm(use.axis(-1, x.rank)), x)


@rule("MeanVarianceNormalization")
def mean_variance_norm(use: Use) -> Edge:
    axes = use.ints("axes") or (0, 2, 3)
    return use.emit(LayerNorm(axes, scale=False, center=False), use.edge(0))
