"""Einstein sums of two tensors, as a batched matrix product between rearrangements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from convcalc.ops import linear, merge, opaque
from convcalc.ops import shape as shapes
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call

#: Letters for the axes that an ellipsis stands for; nobody writes these.
ELIDED = "αβγδεζηθ"


def terms(equation: Any) -> tuple[str, str, str] | None:
    """The letters of both tensors and of the result; None if it is no such equation."""
    if not isinstance(equation, str):
        return None
    left, arrow, target = equation.replace(" ", "").partition("->")
    source, comma, other = left.partition(",")
    for term in (source, other, target):
        letters = term.replace("...", "")
        if not letters.isalpha() or len(set(letters)) != len(letters):
            return None
    return (source, other, target) if arrow and comma else None


def product(
    c: Call, a: tuple[Ref, str], b: tuple[Ref, str], target: str, sizes: Mapping[str, Any]
) -> Ref | None:
    """``a,b->target``; None where a letter stands in one tensor alone and is summed there."""
    both = [n for n in a[1] if n in b[1] and n in target]
    summed = [n for n in a[1] if n in b[1] and n not in target]
    rows = [n for n in a[1] if n not in b[1]]
    columns = [n for n in b[1] if n not in a[1]]
    if set(target) != {*both, *rows, *columns}:
        return None

    def matrices(tensor: tuple[Ref, str], first: list[str], last: list[str], suffix: str) -> Ref:
        ref, letters = tensor
        order = [*both, *first, *last]
        if order != list(letters):
            permute = shapes.Permute(tuple(map(letters.index, order)))
            ref = c.emit(permute, [ref], f"{suffix}_order")
        if len(first) != 1 or len(last) != 1:
            shape = (*of(both), prod(of(first)), prod(of(last)))
            ref = c.emit(shapes.Reshape(shape, whole=True), [ref], f"{suffix}_matrix")
        return ref

    def of(letters: Sequence[str]) -> list[Any]:
        return [sizes[n] for n in letters]

    factors = [matrices(a, rows, summed, "left"), matrices(b, summed, columns, "right")]
    found = c.emit(linear.MatMul(), factors, "product")
    made = [*both, *rows, *columns]
    if len(rows) != 1 or len(columns) != 1:
        found = c.emit(shapes.Reshape(tuple(of(made)), whole=True), [found], "unfold")
    if made != list(target):
        found = c.emit(shapes.Permute(tuple(map(made.index, target))), [found], "order")
    return found


def general_dense(c: Call) -> list[Ref]:
    """EinsumDense of any equation: the kernel is a stored tensor."""
    parts, dims, out = terms(c.need("equation")), c.dims(), c.need("output_shape")
    if parts is None or dims is None:
        return c.unknown()
    source, kernel, target = parts
    out = out if isinstance(out, tuple) else (out,)
    count = len(dims) - len(source.replace("...", ""))
    if count < 0 or (count > 0) != ("..." in source) or count > len(ELIDED) or "..." in kernel:
        return c.unknown()
    given = dict(zip(target.replace("...", "")[-len(out) :], out, strict=False))
    source, target = (term.replace("...", ELIDED[:count]) for term in (source, target))
    sizes = {n: size for n, size in given.items() if type(size) is int}
    sizes |= zip(source, dims, strict=True)
    if not set(kernel) | set(target) <= sizes.keys():
        return c.unknown()
    shape = tuple(sizes[n] for n in kernel)
    weight = c.emit(opaque.Constant(shape, stored=True, trainable=True), [], "kernel")
    found = product(c, (c.inputs[0], source), (weight, kernel), target, sizes)
    bias = c.get("bias_axes")
    if found is None or (bias is not None and not set(bias) <= set(target)):
        return c.unknown()
    if bias is not None:
        letters = target[min(map(target.index, bias)) :]
        shape = tuple(sizes[n] if n in bias else 1 for n in letters)
        added = c.emit(opaque.Constant(shape, stored=True, trainable=True), [], "bias")
        found = c.emit(merge.Add(), [found, added], "add")
    return c.activated(found)


def einsum(c: Call) -> list[Ref]:
    """`keras.ops.einsum` of two tensors without an ellipsis."""
    parts = terms(c.get("subscripts"))
    if parts is None or len(c.inputs) != 2 or any("..." in term for term in parts):
        return c.unknown()
    shapes_ = [c.dims(0), c.dims(1)]
    sizes: dict[str, Any] = {}
    for letters, dims in zip(parts[:2], shapes_, strict=True):
        if dims is None or len(dims) != len(letters):
            return c.unknown()
        sizes |= zip(letters, dims, strict=True)
    found = product(c, (c.inputs[0], parts[0]), (c.inputs[1], parts[1]), parts[2], sizes)
    return c.unknown() if found is None else [found]
