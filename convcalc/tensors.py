"""`TensorSpec`: what is known of a tensor without having it."""

from __future__ import annotations

from typing import Any, NamedTuple

from convcalc.arithmetic import product

#: Bytes of one element.  "float" stands for the floating type that the analysis is asked for.
DTYPE_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}


class TensorSpec(NamedTuple):
    """Shape and element type of one tensor, for a batch of one.

    The batch axis is part of `shape` and has the size that one sample takes there: 1, or 64 where
    an operator has folded 64 windows of a picture into it.  A batch of n makes it n times as long.
    Sizes are integers, or int64 arrays of as many configurations.
    """

    shape: tuple[Any, ...] | None
    """Sizes, batch axis included; None if an opaque operator made it."""
    dtype: str = "float"
    """A key of `DTYPE_BYTES`, or "float": the network's floating type."""
    batch_axis: int | None = 0
    """Which axis grows with the batch; None for a tensor that does not (a constant)."""

    @property
    def known(self) -> bool:
        return self.shape is not None

    @property
    def dims(self) -> tuple[Any, ...]:
        """The sizes of a tensor that is known to have some."""
        assert self.shape is not None
        return self.shape

    @property
    def elements(self) -> Any:
        """Elements of one sample."""
        return product(self.dims)

    def shape_at(self, batch: int) -> tuple[Any, ...] | None:
        """The shape for a batch of `batch` samples."""
        if self.shape is None or self.batch_axis is None:
            return self.shape
        axis = self.batch_axis
        return (*self.shape[:axis], self.shape[axis] * batch, *self.shape[axis + 1 :])

    def bytes_at(self, batch: Any, float_bytes: int) -> Any:
        """Bytes for a batch of `batch` samples, with floats of `float_bytes`."""
        each = float_bytes if self.dtype == "float" else DTYPE_BYTES[self.dtype]
        samples = 1 if self.batch_axis is None else batch
        return product((self.elements, samples, each))

    def __str__(self) -> str:
        return "unknown" if self.shape is None else "x".join(map(str, self.shape))
