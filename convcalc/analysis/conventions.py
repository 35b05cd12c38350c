"""How other tools count the same network.

Every tool has a rule for each operator: multiply-accumulates or operations, biases or none, batch
normalization twice or not at all.  A rule here is built from what our own operators say
(`macs`, `elementwise`, elements, parameters), so no formula is repeated; what it reproduces was
measured with the tool itself (`tests/data/conventions.json`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from convcalc.arithmetic import product
from convcalc.network import Network, Op
from convcalc.ops import Param
from convcalc.settings import choose
from convcalc.tensors import TensorSpec


class Case(NamedTuple):
    """One op with all that a rule may look at."""

    op: Op
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    params: tuple[Param, ...]

    @property
    def macs(self) -> int:
        return int(self.op.operator.macs(self.inputs, self.outputs))

    @property
    def elementwise(self) -> int:
        return int(self.op.operator.elementwise(self.inputs, self.outputs))

    @property
    def read(self) -> int:
        """Elements of the first input."""
        return int(self.inputs[0].elements)

    @property
    def made(self) -> int:
        """Elements of the first output."""
        return int(self.outputs[0].elements)

    @property
    def stored(self) -> int:
        """Trainable parameters."""
        return int(sum(product(param.shape) for param in self.params if param.trainable))


class Rule(NamedTuple):
    """A formula and its words."""

    formula: Callable[[Case], int]
    says: str


ZERO = Rule(lambda case: 0, "not counted")
MACS = Rule(lambda case: case.macs, "multiply-accumulates, bias excluded")
TWICE = Rule(lambda case: 2 * case.macs, "two operations a multiply-accumulate, bias excluded")


@dataclass(frozen=True)
class Convention:
    """The rules of one tool; an operator that `rules` does not name follows `otherwise`."""

    title: str
    otherwise: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def rule(self, operator_type: str) -> Rule:
        """What it does with an operator."""
        return self.rules.get(operator_type, self.otherwise)


CONVENTIONS: dict[str, Convention] = {
    "macs": Convention("multiply-accumulates of convolutions and matrix products", MACS),
    "flops": Convention("twice the multiply-accumulates", TWICE),
}


class Difference(NamedTuple):
    """What two conventions make of all operators of one type."""

    type: str
    a: int
    b: int
    reason: str


def count(net: Network, convention: str) -> tuple[dict[str, int], int]:
    """The count of each layer, and the total; what is unknown of an op is left out.

    Raises:
        UsageError: no such convention.
    """
    rules = CONVENTIONS[choose(convention, CONVENTIONS, "convention")]
    layers: dict[str, int] = {}
    for op in net.ops:
        layers[op.layer] = layers.get(op.layer, 0) + counted(net, op, rules)
    return layers, sum(layers.values())


def counted(net: Network, op: Op, convention: Convention) -> int:
    """One op under a convention; 0 where its arithmetic is not known."""
    if not net.tensors[op.name].known or "arithmetic" in op.operator.missing():
        return 0
    inputs, outputs = net.specs(op)
    case = Case(op, inputs, outputs, net.params.get(op.weights, ()))
    return convention.rule(op.operator.type).formula(case)


def explain(net: Network, a: str, b: str) -> list[Difference]:
    """Why two conventions differ on a network: a row for each type of operator, largest gap first.

    Raises:
        UsageError: no such convention.
    """
    one = CONVENTIONS[choose(a, CONVENTIONS, "convention")]
    two = CONVENTIONS[choose(b, CONVENTIONS, "convention")]
    found: dict[str, list[int]] = {}
    for op in net.ops:
        sums = found.setdefault(op.operator.type, [0, 0])
        sums[0] += counted(net, op, one)
        sums[1] += counted(net, op, two)
    rows = []
    for kind, (left, right) in found.items():
        says, other = one.rule(kind).says, two.rule(kind).says
        reason = says if says == other else f"{a}: {says}; {b}: {other}"
        rows.append(Difference(kind, left, right, reason))
    return sorted(rows, key=lambda row: -abs(row.a - row.b))
