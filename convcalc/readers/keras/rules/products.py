"""Dense layers, attention, matrix products, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from convcalc.errors import ModelError
from convcalc.ops import activation as act
from convcalc.ops import linear, merge, opaque
from convcalc.ops import shape as shapes
from convcalc.readers.keras.arguments import Ref, tensors_in
from convcalc.readers.keras.build import Call, Rule
from convcalc.readers.keras.rules import einsum
from convcalc.readers.keras.text import short


def dense(c: Call) -> list[Ref]:
    return c.activated(c.emit(linear.Dense(c.whole("units"), c.get("use_bias", True))))


def einsum_dense(c: Call) -> list[Ref]:
    """``abc,cde->abde``: the input's last axes are summed away, the kernel's new ones follow."""
    parts, dims = einsum.terms(c.need("equation")), c.dims()
    if parts is None:
        raise ModelError(f"'{c.path}' (EinsumDense): equation {short(c.get('equation'))}")
    source, kernel, target = (term.replace("...", "") for term in parts)
    summed = [letter for letter in kernel if letter in source]
    new = [letter for letter in kernel if letter not in source]
    count = len(summed)
    out = c.need("output_shape")
    sizes = (out if isinstance(out, tuple) else (out,))[-len(new) :]
    bias = c.get("bias_axes")
    # What a dense layer does, apart from the number of axes; anything else is a general product.
    simple = (
        dims is not None
        and 0 < count < len(dims)
        and new
        and all(type(n) is int for n in sizes)
        and kernel == "".join(summed + new)
        and source[-count:] == "".join(summed)
        and target == source[:-count] + "".join(new)
        and (bias is None or sorted(bias) == sorted(new))
        and not parts[0].endswith("...")
        and (parts[0].startswith("...") or len(dims) == len(source))
    )
    if not simple or dims is None:
        return einsum.general_dense(c)
    tensor = c.inputs[0]
    if count > 1:
        tensor = c.emit(shapes.Reshape((*dims[1:-count], -1)), suffix="flatten")
    tensor = c.emit(linear.Dense(prod(sizes), bias is not None), [tensor])
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
    """Keras' Attention without projections: softmax(q k^T) v, or additive scores."""
    mode = c.get("score_mode", "dot")
    if mode not in ("dot", "concat"):
        return c.unknown()
    query, value, key = three(c)
    if mode == "concat":
        # The scale stands before the tanh; one more number weighs the sum.
        scale = constant(c, (), "scale") if c.get("use_scale", False) else None
        scores = additive_scores(c, query, key, before=scale)
        scores = c.emit(merge.Multiply(), [scores, constant(c, (), "weight")], "weighed")
    else:
        scores = c.emit(linear.MatMul(transpose_b=True), [query, key], "scores")
        if c.get("use_scale", False):
            scores = c.emit(merge.Multiply(), [scores, constant(c, (), "scale")], "scaled")
    return weighed(c, scores, value)


def additive_attention(c: Call) -> list[Ref]:
    """Bahdanau's: the scores are sum(scale * tanh(q + k))."""
    query, value, key = three(c)
    dims = c.builder.spec(query).shape
    if dims is None:
        return c.unknown()
    scale = constant(c, dims[-1:], "scale") if c.get("use_scale", True) else None
    return weighed(c, additive_scores(c, query, key, after=scale), value)


def three(c: Call) -> tuple[Ref, Ref, Ref]:
    """Query, value and key, which is the value where it is not given."""
    inputs = ordered_inputs(c, ("query", "value", "key"))
    if len(inputs) < 2:
        raise ModelError(f"'{c.path}' ({c.type}) takes a query and a value")
    return inputs[0], inputs[1], inputs[-1]


def constant(c: Call, shape: tuple[Any, ...], suffix: str) -> Ref:
    """A trained tensor that is no kernel."""
    return c.emit(opaque.Constant(shape, stored=True, trainable=True), [], suffix)


def additive_scores(
    c: Call, query: Ref, key: Ref, before: Ref | None = None, after: Ref | None = None
) -> Ref:
    """sum(after * tanh(before * (q + k))) for each query and key."""
    rows = c.emit(shapes.ExpandDims(-2), [query], "rows")
    columns = c.emit(shapes.ExpandDims(-3), [key], "columns")
    found = c.emit(merge.Add(), [rows, columns], "sum")
    if before is not None:
        found = c.emit(merge.Multiply(), [found, before], "scaled")
    found = c.emit(act.Activation("tanh"), [found], "tanh")
    if after is not None:
        found = c.emit(merge.Multiply(), [found, after], "scaled")
    return c.emit(shapes.Reduce("sum", -1), [found], "scores")


def weighed(c: Call, scores: Ref, value: Ref) -> list[Ref]:
    """The values in the proportions of the scores; the proportions too if they are asked for."""
    weights = c.emit(act.Activation("softmax"), [scores], "softmax")
    found = c.emit(linear.MatMul(), [weights, value])
    return [found, weights] if c.kwargs.get("return_attention_scores") else [found]


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
    "AdditiveAttention": additive_attention,
    "Einsum": einsum.einsum,
    "Embedding": embedding,
    "Dot": dot,
    "Matmul": matmul,
}  # fmt: skip
