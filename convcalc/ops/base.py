"""What an operator is, and the registry through which it is found.

An operator is a small frozen dataclass: its fields are its attributes, its methods are its
formulas.  It knows nothing of the graph it stands in, of layers or of frameworks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

from convcalc.arithmetic import holds_everywhere, is_array
from convcalc.errors import ModelError, ShapeError
from convcalc.tensors import TensorSpec


class Param(NamedTuple):
    """One stored variable of an operator."""

    name: str
    shape: tuple[Any, ...]
    trainable: bool = True
    dtype: str = "float"


class View(NamedTuple):
    """How the positions of one output axis look at one input axis.

    Output position o sees the input positions i for which ``i * upsample`` lies in
    ``o * stride - before ... o * stride - before + kernel - 1``.  A convolution has upsample 1;
    a transposed convolution of stride s has stride 1 and upsample s.
    """

    axis: int
    kernel: Any = 1
    """Extent of the window, dilation included."""
    stride: Any = 1
    before: Any = 0
    upsample: Any = 1


#: One entry for each output axis; None where every position sees the whole input.
Views = tuple[View | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """Base of all operators.  All counts are those of one sample."""

    type: ClassVar[str] = ""
    #: How many inputs it takes: (least, most); most None: any number.
    arity: ClassVar[tuple[int, int | None]] = (1, 1)

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Specs of the outputs.

        Raises:
            ShapeError: the inputs do not fit the operator.
        """
        raise NotImplementedError

    def params(self, *inputs: TensorSpec) -> tuple[Param, ...]:
        """The variables that it stores."""
        return ()

    def macs(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """Multiply-accumulates of convolutions and matrix products, bias excluded."""
        return 0

    def elementwise(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """Arithmetic operations that are not part of `macs`: additions, comparisons, exp, ..."""
        return 0

    def views(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Views]:
        """For each input, how the first output's axes look at it."""
        return [aligned(spec, outputs[0]) for spec in inputs]

    def missing(self) -> tuple[str, ...]:
        """What is unknown of it: "shape", "arithmetic", "memory"."""
        return ()


def aligned(source: TensorSpec, target: TensorSpec) -> Views:
    """Views of an operator that works element by element, with NumPy's broadcasting."""
    shift = len(target.dims) - len(source.dims)
    return tuple(
        View(axis - shift)
        if axis >= shift and holds_everywhere(source.dims[axis - shift] == size)
        else None
        for axis, size in enumerate(target.dims)
    )


REGISTRY: dict[str, type[Operator]] = {}

#: Which module defines which operators.  A family is imported when one of them is asked for: fifty
#: dataclasses take longer to make than a whole network takes to analyse.
FAMILIES = {
    "activation": ("activation", "prelu", "dropout", "noise", "identity", "cast", "function"),
    "convolution": ("conv", "depthwise_conv", "conv_transpose"),
    "linear": ("dense", "matmul", "attention", "scaled_dot_product", "embedding", "dot"),
    "merge": (
        *("add", "subtract", "multiply", "divide", "maximum", "minimum", "average", "power"),
        *("combine", "concat"),
    ),
    "normalization": (
        *("batch_norm", "layer_norm", "group_norm", "rms_norm", "unit_norm", "rescale"),
        *("standardize", "scale", "spectral_norm"),
    ),
    "opaque": ("opaque", "constant"),
    "pooling": ("max_pool", "average_pool", "lp_pool", "global_pool", "adaptive_pool"),
    "recurrent": ("recurrent", "conv_recurrent"),
    "shape": (
        *("flatten", "reshape", "permute", "repeat", "expand_dims", "squeeze", "slice", "split"),
        *("pad", "crop", "upsample", "resize", "space_to_depth", "depth_to_space"),
        *("channel_shuffle", "reduce", "gather"),
    ),
}

C = TypeVar("C", bound=Operator)


@dataclass_transform(frozen_default=True)
def operator(name: str, *, inputs: tuple[int, int | None] = (1, 1)) -> Callable[[type[C]], type[C]]:
    """Make a class an operator that specs call `name`.

    Raises:
        ValueError: another operator has that name already.
    """

    def decorate(cls: type[C]) -> type[C]:
        if name in REGISTRY:
            raise ValueError(f"an operator '{name}' is registered already")
        made = dataclasses.dataclass(frozen=True, slots=True)(cls)
        made.type = name
        made.arity = inputs
        REGISTRY[name] = made
        return made

    return decorate


def find(type_name: str) -> type[Operator] | None:
    """The operator that specs call `type_name`, if there is one."""
    if type_name not in REGISTRY:
        for family, names in FAMILIES.items():
            if type_name in names:
                import_module(f"convcalc.ops.{family}")
    return REGISTRY.get(type_name)


def operators() -> dict[str, type[Operator]]:
    """Every operator by its name."""
    for family in FAMILIES:
        import_module(f"convcalc.ops.{family}")
    return REGISTRY


def create(type_name: str, attributes: dict[str, Any]) -> Operator:
    """The operator of that name with those attributes.

    Raises:
        ModelError: no such operator, or an attribute it does not have.
    """
    cls = find(type_name)
    if cls is None:
        raise ModelError(f"unknown operator '{type_name}'{suggestion(type_name, operators())}")
    known, needed = names_of(type_name)
    for key in attributes:
        if key not in known:
            raise ModelError(f"'{type_name}' has no attribute '{key}'{suggestion(key, known)}")
    for name in needed:
        if name not in attributes:
            raise ModelError(f"'{type_name}' needs '{name}'")
    return cls(**{key: frozen(value) for key, value in attributes.items()})


@cache
def names_of(type_name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """An operator's attributes, and those of them without a default."""
    fields = dataclasses.fields(REGISTRY[type_name])
    needed = (
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    return tuple(field.name for field in fields), tuple(needed)


def attributes(op: Operator) -> dict[str, Any]:
    """The attributes that differ from their defaults, as plain data."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            found[field.name] = thawed(value)
    return found


def suggestion(word: str, known: Any) -> str:
    """``; did you mean 'conv'?`` where something similar is known, else nothing."""
    import difflib

    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def frozen(value: Any, depth: int = 0) -> Any:
    """Lists become tuples, so that operators stay hashable.

    Raises:
        ModelError: lists within lists deeper than any attribute has them.
    """
    if not isinstance(value, (list, tuple)):
        return value
    # YAML's aliases can make a short file hold lists of lists without end.
    if depth > 1 or len(value) > (10_000, 64)[depth]:
        raise ModelError("an attribute's list is nested too deeply or too long")
    return tuple(frozen(item, depth + 1) for item in value)


def thawed(value: Any) -> Any:
    """Tuples become lists, as JSON has them."""
    return [thawed(item) for item in value] if isinstance(value, tuple) else value


def per_axis(value: Any, rank: int, what: str) -> tuple[Any, ...]:
    """`value` for each of `rank` axes: one number for all, or one for each.

    Raises:
        ShapeError: another number of values, or one that is not a positive integer.
    """
    if type(value) is int and value >= 1:
        return (value,) * rank
    if not isinstance(value, tuple):
        return (positive(value, what),) * rank
    values = value
    if len(values) != rank:
        raise ShapeError(f"{what} has {len(values)} values for {rank} axes")
    for number in values:
        positive(number, what)
    return values


def positive(number: Any, what: str) -> Any:
    """`number` if it is an integer of at least 1.

    Raises:
        ShapeError: it is not.
    """
    if type(number) is int and number >= 1:
        return number
    if not is_array(number) or not holds_everywhere(number >= 1):
        raise ShapeError(f"{what} must be a positive integer, got {number!r}")
    return number


def listed(value: Any, what: str) -> tuple[Any, ...]:
    """`value` if it is a list.

    Raises:
        ShapeError: it is not.
    """
    if not isinstance(value, tuple):
        raise ShapeError(f"{what} must be a list, got {value!r}")
    return value


def with_rank(spec: TensorSpec, least: int, what: str) -> tuple[Any, ...]:
    """The sizes of a tensor that must have at least `least` axes."""
    dims = spec.dims
    if len(dims) < least:
        raise ShapeError(f"{what} needs an input of at least {least} axes, got {spec}")
    return dims


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as a position.

    Raises:
        ShapeError: there is no such axis.
    """
    if type(axis) is not int or not -rank <= axis < rank:
        raise ShapeError(f"axis {axis!r} is outside the {rank} axes of the input")
    return axis % rank


def channel_axis(rank: int, channels_first: bool) -> int:
    """The position of the channels."""
    return 1 if channels_first else rank - 1


def spatial_axes(rank: int, channels_first: bool) -> range:
    """The positions between batch and channels."""
    return range(2, rank) if channels_first else range(1, rank - 1)


def assemble(
    batch: Any, spatial: Sequence[Any], channels: Any, channels_first: bool
) -> tuple[Any, ...]:
    """A shape from its parts."""
    return (batch, channels, *spatial) if channels_first else (batch, *spatial, channels)
