"""What methods of PyTorch's tensors stand for, in operators of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convcalc.errors import ModelError
from convcalc.ops import merge
from convcalc.ops import shape as shapes
from convcalc.readers.source import plain
from convcalc.readers.source.torch_values import Parameter, Tensor
from convcalc.readers.source.values import Ignored

if TYPE_CHECKING:
    from convcalc.readers.source.torch_code import TorchWorld


def flat(world: TorchWorld, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    dims = x.shape
    start, end = start_dim % len(dims), end_dim % len(dims)
    if start == 1 and end == len(dims) - 1:
        return world.emit(shapes.Flatten(), [x], "flatten")
    target = (*dims[:start], math.prod(dims[start : end + 1]), *dims[end + 1 :])
    return world.emit(shapes.Reshape(target, whole=True), [x], "flatten")


def sizes_of(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sizes in ``view(1, -1)`` or ``view((1, -1))``."""
    found = tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    if not all(type(n) is int for n in found):
        raise ModelError(f"the sizes {plain.shown(found)} are not all known numbers")
    return found


def view(world: TorchWorld, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    sizes = sizes_of(args or (kwargs["shape"],))
    return world.emit(shapes.Reshape(sizes, whole=True), [x], "view")


def size(world: TorchWorld, x: Tensor, dim: Any = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


def permute(world: TorchWorld, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    order = sizes_of(args or (kwargs["dims"],))
    return world.emit(shapes.Permute(tuple(a % len(x.shape) for a in order)), [x], "permute")


def transpose(world: TorchWorld, x: Tensor, dim0: int, dim1: int) -> Tensor:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return world.emit(shapes.Permute(tuple(order)), [x], "transpose")


def reduction(kind: str) -> Callable[..., Any]:
    def call(
        world: TorchWorld, x: Tensor, dim: Any = None, keepdim: Any = False, **kwargs: Any
    ) -> Any:
        if isinstance(dim, (Tensor, Parameter)):
            both = {"max": merge.Maximum(), "min": merge.Minimum()}
            return world.emit(both[kind], [x, dim], kind)
        dim = kwargs.get("axis", dim)
        axes = tuple(dim) if isinstance(dim, (list, tuple)) else dim
        keep = bool(kwargs.get("keepdims", keepdim))
        found = world.emit(
            shapes.Reduce({"amax": "max", "amin": "min"}.get(kind, kind), axes, keep), [x], kind
        )
        if kind in ("max", "min") and dim is not None:
            return (found, Ignored("indices"))
        return found

    return call


def squeeze(world: TorchWorld, x: Tensor, dim: Any = None) -> Tensor:
    if type(dim) is int and x.shape[dim] != 1:
        return x
    return world.emit(shapes.Squeeze(dim), [x], "squeeze")


def unsqueeze(world: TorchWorld, x: Tensor, dim: int) -> Tensor:
    return world.emit(shapes.ExpandDims(dim), [x], "unsqueeze")


def chunk(world: TorchWorld, x: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    return split(world, x, -(-x.shape[dim] // chunks), dim)


def split(world: TorchWorld, x: Tensor, split_size: Any, dim: int = 0) -> list[Tensor]:
    total = x.shape[dim]
    if type(split_size) is int:
        if split_size < 1 or total // split_size > plain.MAX_LENGTH:
            raise ModelError(f"a split into pieces of {split_size}")
        split_size = [min(split_size, total - i) for i in range(0, total, split_size)]
    return world.emit_all(shapes.Split(tuple(split_size), dim), [x], "split")


def expand(world: TorchWorld, x: Tensor, *args: Any) -> Tensor:
    """Axes of size 1 made longer: each position is the same one."""
    wanted = sizes_of(args)
    dims = x.shape
    if len(wanted) != len(dims):
        raise ModelError("expand() to more axes is not supported")
    target = tuple(n if m == -1 else m for n, m in zip(dims, wanted, strict=True))
    return repeated(world, x, tuple(m // n for n, m in zip(dims, target, strict=True)), "expand")


def repeat(world: TorchWorld, x: Tensor, *args: Any) -> Tensor:
    times = sizes_of(args)
    if len(times) != len(x.shape):
        raise ModelError("repeat() to more axes is not supported")
    return repeated(world, x, times, "repeat")


def repeated(world: TorchWorld, x: Tensor, times: tuple[int, ...], label: str) -> Tensor:
    if all(n == 1 for n in times):
        return x
    if len(times) > 2 and times[:2] == (1, 1):
        return world.emit(shapes.Upsample(times[2:], "nearest", True), [x], label)
    if len(times) > 2 and times[0] == times[-1] == 1:
        return world.emit(shapes.Upsample(times[1:-1], "nearest", False), [x], label)
    raise ModelError(f"{label}() of the batch or of the last axis is not supported")


def movable(world: TorchWorld, x: Tensor) -> Tensor:
    return transpose(world, x, 0, 1)


TENSOR_METHODS: dict[str, Callable[..., Any]] = {
    "view": view,
    "reshape": view,
    "size": size,
    "dim": lambda world, x: len(x.shape),
    "numel": lambda world, x: math.prod(x.shape),
    "permute": permute,
    "transpose": transpose,
    "swapaxes": transpose,
    "t": movable,
    **{kind: reduction(kind) for kind in ("mean", "sum", "max", "min", "amax", "amin", "prod")},
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "flatten": flat,
    "chunk": chunk,
    "split": split,
    "expand": expand,
    "repeat": repeat,
    "expand_as": lambda world, x, other: expand(world, x, *other.shape),
    "view_as": lambda world, x, other: view(world, x, *other.shape),
    "reshape_as": lambda world, x, other: view(world, x, *other.shape),
}
