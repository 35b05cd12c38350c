"""Dense layers, attention, matrix products, embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from convcalc.errors import ModelError
from convcalc.ops import activation as act
from convcalc.ops import linear, merge, opaque
from convcalc.ops import shape as shapes
from convcalc.readers.keras.arguments import Ref, tensors_in
from convcalc.readers.keras.build import Call, Rule
from convcalc.readers.keras.text import short


def dense(c: Call) -> list[Ref]:
    return c.activated(c.emit(linear.Dense(c.whole("units"), c.get("use_bias", True))))


def einsum_dense(c: Call) -> list[Ref]:
    """``abc,cde->abde``: the input's last axes are summed away, the kernel's new ones follow."""
    equation, dims = c.need("equation"), c.dims()
    try:
        (source, kernel), target = equation.split("->")[0].split(","), equation.split("->")[1]
    except (AttributeError, ValueError, IndexError):
        raise ModelError(f"'{c.path}' (EinsumDense): equation {short(equation)}") from None
    source, kernel, target = (
        t.replace("...", "").replace(" ", "") for t in (source, kernel, target)
    )
    summed = [letter for letter in kernel if letter in source]
    new = [letter for letter in kernel if letter not in source]
    count = len(summed)
    simple = (
        dims is not None
        and count > 0
        and new
        and kernel == "".join(summed + new)
        and source[-count:] == "".join(summed)
        and target == source[:-count] + "".join(new)
    )
    bias = c.get("bias_axes")
    if not simple or dims is None or (bias is not None and sorted(bias) != sorted(new)):
        return c.unknown()
    out = c.need("output_shape")
    sizes = (out if isinstance(out, tuple) else (out,))[-len(new) :]
    if any(type(n) is not int for n in sizes) or len(dims) <= count:
        return c.unknown()
    tensor = c.inputs[0]
    if count > 1:
        tensor = c.emit(shapes.Reshape((*dims[1:-count], -1)), suffix="flatten")
    units = 1
    for n in sizes:
        units *= n
    tensor = c.emit(linear.Dense(units, bias is not None), [tensor])
    if len(new) > 1:
        tensor = c.emit(shapes.Reshape((*dims[1:-count], *sizes)), [tensor], "reshape")
    return c.activated(tensor)


def ordered_inputs(c: Call, names: Sequence[str]) -> list[Ref]:
    """Tensors given by position, then by name in the order of the layer's signature."""
    found = [ref for ref in tensors_in(list(c.args)) if isinstance(ref, Ref)]
    by_name = (c.kwargs.get(name) for name in names[len(found) :])
    found.extend(ref for ref in by_name if isinstance(ref, Ref))
    return list(found or c.inputs)[: len(names)]


def multi_head(c: Call) -> list[Ref]:
    axes, dims, shape = c.get("attention_axes"), c.dims(), c.get("output_shape")
    if isinstance(shape, tuple):
        shape = shape[0] if len(shape) == 1 else None
    count = 0 if dims is None else len(dims)
    every = set(range(1, count - 1))
    chosen = axes if isinstance(axes, tuple) else (axes,)
    partial = axes is not None and count and {a % count for a in chosen if type(a) is int} != every
    if partial or c.get("use_gate", False):
        return c.unknown()
    inputs = ordered_inputs(c, ("query", "value", "key"))
    grouped = c.type in ("GroupQueryAttention", "GroupedQueryAttention")
    operator = linear.Attention(
        heads=c.whole("num_query_heads" if grouped else "num_heads"),
        key_dim=c.whole("head_dim" if grouped else "key_dim"),
        value_dim=None if grouped else c.get("value_dim"),
        kv_heads=c.whole("num_key_value_heads") if grouped else None,
        output_dim=shape,
        bias=c.get("use_bias", True),
    )
    found = c.emit(operator, inputs)
    if not c.kwargs.get("return_attention_scores"):
        return [found]
    return [
        found,
        c.emit(opaque.Opaque("attention_scores", c.recorded[1:2] or (None,)), inputs, "scores"),
    ]


def dot_attention(c: Call) -> list[Ref]:
    """Keras' Attention: softmax(q k^T) v, without projections."""
    if c.get("score_mode", "dot") != "dot":
        return c.unknown()
    inputs = ordered_inputs(c, ("query", "value", "key"))
    if len(inputs) < 2:
        raise ModelError(f"'{c.path}' (Attention) takes a query and a value")
    query, val, key = inputs[0], inputs[1], inputs[-1]
    scores = c.emit(linear.MatMul(transpose_b=True), [query, key], "scores")
    if c.get("use_scale", False):
        scale = c.emit(opaque.Constant((), stored=True, trainable=True), [], "scale")
        scores = c.emit(merge.Multiply(), [scores, scale], "scaled")
    weights = c.emit(act.Activation("softmax"), [scores], "softmax")
    return [c.emit(linear.MatMul(), [weights, val])]


def embedding(c: Call) -> list[Ref]:
    return [c.emit(linear.Embedding(c.whole("input_dim"), c.whole("output_dim")))]


def dot(c: Call) -> list[Ref]:
    return [c.emit(linear.Dot(c.need("axes")))]


def matmul(c: Call) -> list[Ref]:
    return [c.emit(linear.MatMul())] if len(c.inputs) == 2 else c.unknown()


RULES: dict[str, Rule] = {
    "Dense": dense,
    "EinsumDense": einsum_dense,
    "MultiHeadAttention": multi_head,
    "GroupQueryAttention": multi_head,
    "GroupedQueryAttention": multi_head,
    "Attention": dot_attention,
    "Embedding": embedding,
    "Dot": dot,
    "Matmul": matmul,
}  # fmt: skip
