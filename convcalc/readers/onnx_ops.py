"""From ONNX nodes to operators of ours: what a rule sees and makes, and the element-wise rules.

A rule turns one node into edges.  It says `use.emit(operator, edges)`; whether that becomes an op
of the network or, where all inputs are constants, stays a constant to be made when it is needed,
is the builder's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from convcalc.errors import ShapeError
from convcalc.ops import Operator
from convcalc.ops.activation import Activation, Cast, Dropout, Function, PRelu
from convcalc.ops.merge import (
    Add,
    Average,
    Combine,
    Divide,
    Maximum,
    Minimum,
    Multiply,
    Power,
    Subtract,
)
from convcalc.ops.shape import Gather, Reduce, Reshape
from convcalc.readers.onnx_wire import DATA_TYPES, Node, Tensor
from convcalc.tensors import TensorSpec


class NotStatic(Exception):
    """What decides about a node's shape is known at run time only."""


@dataclass(slots=True, eq=False)
class Edge:
    """A tensor on its way: one of the network (`name`), or a constant that may become one."""

    spec: TensorSpec
    name: str = ""
    constant: bool = False
    value: Any = None
    """Of a small constant: its numbers, a NumPy array."""
    stored: bool = False
    """A constant that is, or is made of, variables of the model."""
    root: str = ""
    """The name under which the file stores it."""
    made: Made | None = None
    index: int = 0
    """Which of the outputs that `made` makes."""

    @property
    def dims(self) -> tuple[int, ...]:
        return self.spec.dims

    @property
    def rank(self) -> int:
        return len(self.spec.dims)

    @property
    def single(self) -> bool:
        """Whether it is one number that the model does not learn."""
        return self.constant and not self.stored and all(size == 1 for size in self.dims)


@dataclass(slots=True, eq=False)
class Made:
    """How a constant follows from other constants."""

    operator: Operator
    inputs: tuple[Edge, ...]
    names: tuple[str, ...] = ()
    """The network's tensors, once it has been made."""


class Builder(Protocol):
    """What rules need of the builder."""

    batch: int

    @property
    def initializers(self) -> Mapping[str, Tensor]: ...

    def emit(
        self, operator: Operator, inputs: Sequence[Edge], weights: Sequence[Edge]
    ) -> list[Edge]: ...

    def literal(self, shape: tuple[int, ...], dtype: str) -> Edge: ...

    def torn(self, weights: Sequence[Edge], kind: str) -> bool: ...

    def shared(self, weights: Sequence[Edge]) -> bool: ...


class Use:
    """A node as its rule sees it."""

    def __init__(self, builder: Builder, node: Node, edges: Sequence[Edge | None]) -> None:
        self.builder = builder
        self.node = node
        self.edges = edges
        self.op_type = node.op_type
        self.opset = node.opset
        self.outputs = len(node.outputs)

    def emit(self, operator: Operator, *inputs: Edge, weights: Sequence[Edge] = ()) -> Edge:
        """The first output of an operator on `inputs`; `weights` are the constants it stores."""
        return self.builder.emit(operator, inputs, weights)[0]

    def __len__(self) -> int:
        return len(self.edges)

    def maybe(self, index: int) -> Edge | None:
        """The input at `index`, None if it is left out."""
        return self.edges[index] if index < len(self.edges) else None

    def edge(self, index: int) -> Edge:
        """The input at `index`.

        Raises:
            ShapeError: it is left out.
        """
        found = self.maybe(index)
        if found is None:
            raise ShapeError(f"its input {index} is left out")
        return found

    def attribute(self, name: str, kind: type, default: Any) -> Any:
        """An attribute's value.

        Raises:
            ShapeError: it is of another kind.
        """
        found = self.node.attributes.get(name)
        if found is None:
            return default
        if not isinstance(found.value, kind):
            raise ShapeError(f"its attribute '{name:.40}' cannot be read")
        return found.value

    def integer(self, name: str, default: int = 0) -> int:
        found: int = self.attribute(name, int, default)
        return found

    def text(self, name: str, default: str = "") -> str:
        found: str = self.attribute(name, str, default)
        return found

    def number(self, name: str, default: float = 0.0) -> float:
        found: float = self.attribute(name, float, default)
        return found

    def ints(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, None if it is not given."""
        found: tuple[int, ...] | None = self.attribute(name, tuple, None)
        if found is not None and not all(type(item) is int for item in found):
            raise ShapeError(f"its attribute '{name:.40}' cannot be read")
        return found

    def values(self, index: int) -> list[Any] | None:
        """The numbers that a constant input holds, None if it is left out.

        Raises:
            NotStatic: they are known at run time only.
        """
        found = self.maybe(index)
        if found is None:
            return None
        if found.value is None:
            raise NotStatic
        numbers: list[Any] = found.value.ravel().tolist()
        return numbers

    def listed(self, index: int, name: str) -> tuple[Any, ...] | None:
        """What newer versions have as an input and older ones as an attribute."""
        if self.maybe(index) is not None:
            return tuple(self.values(index) or ())
        return self.attribute(name, tuple, None)  # type: ignore[no-any-return]

    def axis(self, default: Any, rank: int) -> Any:
        """The attribute `axis` as a position.

        Raises:
            ShapeError: there is no such axis.
        """
        return position(self.integer("axis", default), rank)


def position(axis: Any, rank: int) -> int:
    """A possibly negative axis as a position.

    Raises:
        ShapeError: there is no such axis.
    """
    if type(axis) is not int or not -rank <= axis < rank:
        raise ShapeError(f"axis {axis!r} is outside the {rank} axes of the input")
    return axis % rank


Rule = Callable[[Use], "Edge | list[Edge]"]

#: The rule of each ONNX operator that we have something for.
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of the operators called `names`."""

    def decorate(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"there is a rule for '{name}' already")
            RULES[name] = function
        return function

    return decorate


ACTIVATIONS = {
    "Celu": "celu",
    "Elu": "elu",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "Hardmax": "softmax",
    "LeakyRelu": "leaky_relu",
    "LogSoftmax": "log_softmax",
    "Mish": "mish",
    "Relu": "relu",
    "Selu": "selu",
    "Shrink": "soft_shrink",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Swish": "swish",
    "Tanh": "tanh",
    "ThresholdedRelu": "threshold",
}


@rule(*ACTIVATIONS)
def activation(use: Use) -> Edge:
    return use.emit(Activation(ACTIVATIONS[use.op_type]), use.edge(0))


#: Functions of one tensor that keep its shape and are called as ONNX calls them.
FUNCTIONS = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf"),
    *("Exp", "Floor", "Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan"),
    *("BitwiseNot", "CumSum", "LRN", "Not", "Trilu", "Bernoulli", "RandomNormalLike"),
    *("RandomUniformLike", "CumProd"),
)


@rule(*FUNCTIONS)
def function(use: Use) -> Edge:
    return use.emit(Function(use.op_type.lower()), use.edge(0))


@rule("IsInf", "IsNaN")
def predicate(use: Use) -> Edge:
    return use.emit(Cast("bool"), use.emit(Function(use.op_type.lower()), use.edge(0)))


@rule("Clip")
def clip(use: Use) -> Edge:
    limits = [
        bound.value.item()
        if bound is not None and bound.value is not None and bound.value.size == 1
        else use.number(name, 0.0)
        if name in use.node.attributes
        else None
        for name, bound in (("min", use.maybe(1)), ("max", use.maybe(2)))
    ]
    if limits == [0, 6]:
        return use.emit(Activation("relu6"), use.edge(0))
    return use.emit(Function("clip"), use.edge(0))


@rule("PRelu")
def prelu(use: Use) -> Edge:
    x, slopes = use.edge(0), use.edge(1)
    if not slopes.constant:
        return use.emit(Multiply(), x, slopes)
    return use.emit(PRelu(slopes=slopes.dims), x, weights=[slopes])


@rule("Identity", "StopGradient")
def identity(use: Use) -> Edge:
    """The same tensor; but a variable with two names is two: exporters store equal ones once."""
    x = use.edge(0)
    return replace(x, root=next(iter(use.node.outputs), "")) if x.stored and not x.name else x


@rule("Dropout")
def dropout(use: Use) -> list[Edge]:
    rate = use.maybe(1)
    known = rate is not None and rate.value is not None and rate.value.size == 1
    share = float(rate.value.item()) if known and rate is not None else use.number("ratio", 0.5)
    y = use.emit(Dropout(rate=share), use.edge(0))
    return [y, use.emit(Cast("bool"), y)] if use.outputs > 1 else [y]


def dtype_of(data_type: int) -> str:
    """Our name of an ONNX element type.

    Raises:
        ShapeError: there is no such type, or it is text.
    """
    if data_type not in DATA_TYPES:
        raise ShapeError(f"the element type {data_type} is not one of numbers")
    return DATA_TYPES[data_type][0]


def moved(
    use: Use, shape: tuple[int, ...], *edges: Edge, batch: int | None = 0, dtype: str = ""
) -> Edge:
    """Elements of the first tensor at other places; `batch` is where its samples then are."""
    lost = batch is not None and not 0 <= batch < len(shape)
    operator = Gather(shape, None if lost else batch, dtype or edges[0].spec.dtype)
    return use.emit(operator, *edges)


@rule("Cast")
def cast(use: Use) -> Edge:
    return use.emit(Cast(dtype_of(use.integer("to", 1))), use.edge(0))


@rule("CastLike")
def cast_like(use: Use) -> Edge:
    return use.emit(Cast(use.edge(1).spec.dtype), use.edge(0))


@rule("DequantizeLinear")
def dequantize(use: Use) -> Edge:
    return use.emit(Cast("float"), use.edge(0))


@rule("QuantizeLinear")
def quantize(use: Use) -> Edge:
    zero = use.maybe(2)
    named = dtype_of(use.integer("output_dtype") or 2)
    return use.emit(Cast(named if zero is None else zero.spec.dtype), use.edge(0))


@rule("DynamicQuantizeLinear")
def quantize_dynamically(use: Use) -> list[Edge]:
    x = use.edge(0)
    scale = use.emit(Reduce("max", tuple(range(x.rank))), x)
    return [use.emit(Cast("uint8"), x), scale, use.emit(Cast("uint8"), scale)]


BINARY: dict[str, Operator] = {
    "Add": Add(),
    "Div": Divide(),
    "Max": Maximum(),
    "Mean": Average(),
    "Min": Minimum(),
    "Mul": Multiply(),
    "Pow": Power(),
    "Sub": Subtract(),
    "Sum": Add(),
}
TRUTHS = ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or", "Xor")
OTHERS = ("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mod")


@rule(*BINARY, *TRUTHS, *OTHERS)
def binary(use: Use) -> Edge:
    edges = [use.edge(i) for i in range(len(use))]
    name = use.op_type.lower()
    if len(edges) == 1:
        return edges[0]
    if len(edges) == 2:
        edges[1] = aligned(use, *edges)
    if use.op_type in TRUTHS:
        return use.emit(Combine(name, "bool"), *edges)
    if len(edges) == 2:
        for x, number in (edges, edges[::-1]):
            if number.single and not x.constant and number.rank <= x.rank:
                return use.emit(Function(name), x)
    return use.emit(BINARY.get(use.op_type) or Combine(name, edges[0].spec.dtype), *edges)


def aligned(use: Use, a: Edge, b: Edge) -> Edge:
    """The second operand; before version 7 it may start at another axis than the last ones."""
    if use.opset >= 7 or not use.integer("broadcast"):
        return b
    axis = use.integer("axis", a.rank - b.rank)
    behind = a.rank - position(axis, a.rank + 1) - b.rank
    return use.emit(Reshape((*b.dims, *(1,) * behind), whole=True), b) if behind > 0 else b


@rule("Where")
def where(use: Use) -> Edge:
    condition, x, y = (use.edge(i) for i in range(3))
    return use.emit(Combine("where", x.spec.dtype), condition, x, y)
