"""Matrix products: dense layers, matmul, attention, embedding look-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convcalc.arithmetic import holds_everywhere, maximum, product, total
from convcalc.errors import ShapeError
from convcalc.ops.base import Operator, Param, View, Views, axis_of, operator, positive, with_rank
from convcalc.tensors import TensorSpec


@operator("dense")
class Dense(Operator):
    """``x W + b`` on the last axis: (n + 1) * units parameters, n * units products a vector."""

    units: int
    bias: bool = True

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        dims = with_rank(inputs[0], 2, "a dense layer")
        positive(self.units, "units")
        return (inputs[0]._replace(shape=(*dims[:-1], self.units)),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        kernel = Param("kernel", (inputs[0].dims[-1], self.units))
        return (kernel, Param("bias", (self.units,))) if self.bias else (kernel,)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((inputs[0].dims[-1], outputs[0].elements))

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return outputs[0].elements if self.bias else 0

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [(*map(View, range(len(inputs[0].dims) - 1)), None)]


@operator("matmul", inputs=(2, 2))
class MatMul(Operator):
    """A (batched) matrix product of two tensors; leading axes broadcast as in NumPy."""

    transpose_a: bool = False
    transpose_b: bool = False

    def matrices(self, a: TensorSpec, b: TensorSpec) -> tuple[Any, Any, Any]:
        """(rows, inner size, columns)."""
        rows, inner = a.dims[-2:][:: -1 if self.transpose_a else 1]
        inner_b, columns = b.dims[-2:][:: -1 if self.transpose_b else 1]
        if not holds_everywhere(inner == inner_b):
            raise ShapeError(f"cannot multiply {a} by {b}: {inner} is not {inner_b}")
        return rows, inner, columns

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        a, b = inputs
        with_rank(a, 2, "matmul")
        with_rank(b, 2, "matmul")
        rows, _, columns = self.matrices(a, b)
        lead = broadcast(a.dims[:-2], b.dims[:-2])
        source = a if a.batch_axis is not None else b
        batch_axis = source.batch_axis
        if batch_axis is not None:
            batch_axis += len(lead) + 2 - len(source.dims)
        return (TensorSpec((*lead, rows, columns), a.dtype, batch_axis),)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        return product((self.matrices(*inputs)[1], outputs[0].elements))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rank = len(outputs[0].dims)
        return [
            tuple(
                View(axis - (rank - len(spec.dims)))
                if rank - len(spec.dims) <= axis < rank - 2
                else None
                for axis in range(rank)
            )
            for spec in inputs
        ]


def broadcast(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """NumPy's broadcasting of two shapes.

    Raises:
        ShapeError: they do not go together.
    """
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    result = []
    for m, n in zip(a, b, strict=True):
        # `|` and not `or`: arrays may agree in one configuration and broadcast in the next.
        if holds_everywhere((m == n) | (m == 1) | (n == 1)):
            result.append(maximum(m, n))
        else:
            left, right = "x".join(map(str, a)), "x".join(map(str, b))
            raise ShapeError(f"shapes {left} and {right} do not go together")
    return tuple(result)


@operator("attention", inputs=(1, 3))
class Attention(Operator):
    """Multi-head attention: query, value and key projected, compared, weighed, projected back.

    Inputs: query (n, T, d), value (n, S, e) and key (n, S, f); a missing one is the one before.
    `kv_heads` below `heads` is grouped-query attention.
    """

    heads: int
    key_dim: int
    value_dim: int | None = None
    kv_heads: int | None = None
    output_dim: int | None = None
    bias: bool = True

    def sizes(self, inputs: Sequence[TensorSpec]) -> tuple[Any, ...]:
        """(T, S, query width, value width, key width, value_dim, kv_heads, output width)."""
        query = inputs[0]
        value = inputs[1] if len(inputs) > 1 else query
        key = inputs[2] if len(inputs) > 2 else value
        target, source = product(query.dims[1:-1]), product(key.dims[1:-1])
        if not holds_everywhere(product(value.dims[1:-1]) == source):
            raise ShapeError(f"key {key} and value {value} have different lengths")
        return (
            target,
            source,
            query.dims[-1],
            value.dims[-1],
            key.dims[-1],
            self.value_dim or self.key_dim,
            self.kv_heads or self.heads,
            self.output_dim or query.dims[-1],
        )

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        dims = with_rank(inputs[0], 3, "attention")
        positive(self.heads, "heads")
        positive(self.key_dim, "key_dim")
        for what in ("value_dim", "kv_heads", "output_dim"):
            if (number := getattr(self, what)) is not None:
                positive(number, what)
        return (inputs[0]._replace(shape=(*dims[:-1], self.sizes(inputs)[-1])),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        _, _, q, v, k, value_dim, kv, out = self.sizes(inputs)
        kernels = {
            "query": (q, self.heads, self.key_dim),
            "key": (k, kv, self.key_dim),
            "value": (v, kv, value_dim),
            "output": (self.heads, value_dim, out),
        }
        found = []
        for name, shape in kernels.items():
            found.append(Param(f"{name}/kernel", shape))
            if self.bias:
                found.append(Param(f"{name}/bias", (out,) if name == "output" else shape[1:]))
        return tuple(found)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        t, s, q, v, k, value_dim, kv, out = self.sizes(inputs)
        return total(
            (
                product((t, q, self.heads, self.key_dim)),
                product((s, k, kv, self.key_dim)),
                product((s, v, kv, value_dim)),
                product((t, s, self.heads, self.key_dim + value_dim)),
                product((t, self.heads, value_dim, out)),
            )
        )

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """The softmax: three operations a score."""
        t, s, *_ = self.sizes(inputs)
        return product((3, self.heads, t, s))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rest = (None,) * (len(outputs[0].dims) - 1)
        return [(View(0), *rest) for _ in inputs]


@operator("scaled_dot_product", inputs=(3, 4))
class ScaledDotProduct(Operator):
    """``softmax(Q K^T) V`` alone, as one kernel that keeps no scores; the projections are apart.

    Inputs: query (..., T, d), key (..., S, d), value (..., S, e) and perhaps a mask.  Fewer heads
    of key and value than of query (axis -3) are shared among them.
    """

    dropout: float = 0.0

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        query, key, value = inputs[:3]
        for spec in (query, key, value):
            with_rank(spec, 3, "attention")
        if not holds_everywhere(query.dims[-1] == key.dims[-1]):
            raise ShapeError(f"query {query} and key {key} have different widths")
        if not holds_everywhere(key.dims[-2] == value.dims[-2]):
            raise ShapeError(f"key {key} and value {value} have different lengths")
        return (query._replace(shape=(*query.dims[:-1], value.dims[-1])),)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """Each of T queries meets each of S keys, then each of S values."""
        query, key, value = inputs[:3]
        return product((*query.dims[:-1], key.dims[-2], query.dims[-1] + value.dims[-1]))

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """The softmax: three operations a score."""
        return product((3, *inputs[0].dims[:-1], inputs[1].dims[-2]))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        """Batch and heads stay where they are, where they are as many."""
        lead = len(outputs[0].dims) - 2
        return [
            tuple(
                View(axis)
                if axis < lead
                and len(spec.dims) == lead + 2
                and holds_everywhere(spec.dims[axis] == outputs[0].dims[axis])
                else None
                for axis in range(lead + 2)
            )
            for spec in inputs
        ]


@operator("embedding")
class Embedding(Operator):
    """A table of `rows` vectors of `width`, looked up by integers."""

    rows: int
    width: int

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        positive(self.rows, "rows")
        positive(self.width, "width")
        return (TensorSpec((*inputs[0].dims, self.width), batch_axis=inputs[0].batch_axis),)

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        return (Param("embeddings", (self.rows, self.width)),)

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        return [(*map(View, range(len(inputs[0].dims))), None)]


@operator("dot", inputs=(2, 2))
class Dot(Operator):
    """Keras' Dot: a batched product that sums over one axis of each input."""

    axes: Any

    def pair(self, a: TensorSpec, b: TensorSpec) -> tuple[int, int]:
        """The summed axes as positions."""
        axes = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        if len(axes) != 2:
            raise ShapeError(f"axes {self.axes!r} must name one axis of each input")
        left, right = axis_of(axes[0], len(a.dims)), axis_of(axes[1], len(b.dims))
        if not holds_everywhere(a.dims[left] == b.dims[right]):
            raise ShapeError(f"cannot sum axis {left} of {a} with axis {right} of {b}")
        return left, right

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        a, b = inputs
        left, right = self.pair(a, b)
        rest_a = [n for i, n in enumerate(a.dims) if i != left]
        rest_b = [n for i, n in enumerate(b.dims) if i not in (0, right)]
        shape = (*rest_a, *rest_b)
        return (a._replace(shape=shape if len(shape) > 1 else (*shape, 1)),)

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        left, _ = self.pair(inputs[0], inputs[1])
        return product((inputs[0].dims[left], outputs[0].elements))

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        rest = (None,) * (len(outputs[0].dims) - 1)
        return [(View(0), *rest) for _ in inputs]
