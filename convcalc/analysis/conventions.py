"""How other tools count the same network.

Every tool has a rule for each operator: multiply-accumulates or operations, biases or none, batch
normalization twice or not at all.  A rule here is built from what our own operators say
(`macs`, `elementwise`, elements, parameters), so no formula is repeated; what it reproduces was
measured with the tool itself (`tests/data/conventions.json`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from convcalc.arithmetic import product
from convcalc.network import Network, Op
from convcalc.ops import Param
from convcalc.ops.base import per_axis
from convcalc.settings import choose
from convcalc.tensors import TensorSpec

#: Operators that all tools but tf.profiler were measured on.
MEASURED = frozenset(
    (
        "activation",
        "adaptive_pool",
        "add",
        "average_pool",
        "batch_norm",
        "concat",
        "conv",
        "conv_transpose",
        "dense",
        "depth_to_space",
        "depthwise_conv",
        "divide",
        "dropout",
        "flatten",
        "global_pool",
        "group_norm",
        "layer_norm",
        "lp_pool",
        "matmul",
        "max_pool",
        "maximum",
        "multiply",
        "pad",
        "prelu",
        "resize",
        "subtract",
        "upsample",
    )
)
#: What tf.profiler, that has rules for most of what it was measured on, was seen to leave out.
UNSEEN = frozenset(("concat", "dropout", "flatten", "pad"))

CONVOLUTIONS = ("conv", "depthwise_conv", "conv_transpose")


class Case(NamedTuple):
    """One op with all that a rule may look at."""

    op: Op
    inputs: list[TensorSpec]
    outputs: tuple[TensorSpec, ...]
    params: tuple[Param, ...]
    source: Op | None
    """The op that makes the first input."""

    def get(self, attribute: str) -> Any:
        """An attribute of the operator; None where it has no such."""
        return getattr(self.op.operator, attribute, None)

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
    def rows(self) -> int:
        """Vectors along the last axis."""
        return self.read // int(self.inputs[0].dims[-1])

    @property
    def trained(self) -> int:
        """Trainable parameters."""
        return int(sum(product(param.shape) for param in self.params if param.trainable))

    @property
    def kernel(self) -> int:
        """Weights of a convolution, its bias apart."""
        return int(sum(product(param.shape) for param in self.params if param.name == "kernel"))

    @property
    def channels(self) -> int:
        """Channels of a convolution's output."""
        axis = 1 if self.get("channels_first") else -1
        return int(self.outputs[0].dims[axis])

    @property
    def places(self) -> int:
        """Positions of a convolution's output, channels apart."""
        return self.made // self.channels

    @property
    def affine(self) -> bool:
        """Whether a normalization has a scale or shift."""
        return self.trained > 0

    @property
    def images(self) -> bool:
        """Whether the input has height and width."""
        return len(self.inputs[0].dims) == 4


class Rule(NamedTuple):
    """A formula and its words."""

    formula: Callable[[Case], int]
    says: str


ZERO = Rule(lambda case: 0, "not counted")
MACS = Rule(lambda case: case.macs, "multiply-accumulates, bias excluded")
TWICE = Rule(lambda case: 2 * case.macs, "two operations a multiply-accumulate, bias excluded")
BIASED = Rule(lambda case: case.macs + case.elementwise, "multiply-accumulates and bias additions")


def by_input(factor: int) -> Rule:
    """`factor` for each input element."""
    return Rule(lambda case: factor * case.read, f"{factor} an input element")


def by_output(factor: int) -> Rule:
    """`factor` for each output element."""
    return Rule(lambda case: factor * case.made, f"{factor} an output element")


def by_affine(affine: int, plain: int) -> Rule:
    """For each element, more where there is a scale."""
    return Rule(
        lambda case: (affine if case.affine else plain) * case.read,
        f"{affine} an element, {plain} without scale and shift",
    )


def by_attribute(attribute: str, factors: Mapping[str, int], what: str = "output") -> Rule:
    """For each element by the value of an attribute; other values are not counted."""

    def formula(case: Case) -> int:
        elements = case.made if what == "output" else case.read
        return factors.get(case.get(attribute), 0) * elements

    listed = ", ".join(f"{name} {factor}" for name, factor in factors.items())
    return Rule(formula, f"for each {what} element by {attribute}: {listed}; others 0")


def on_images(rule: Rule) -> Rule:
    """A rule that the tool has for two spatial axes only."""
    return Rule(lambda case: rule.formula(case) if case.images else 0, f"{rule.says}; images only")


@dataclass(frozen=True)
class Convention:
    """The rules of one tool; an operator that `rules` does not name follows `otherwise`."""

    title: str
    """What it counts, and in which version of the tool that was measured."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    otherwise: Rule = ZERO

    measured: frozenset[str] | None = MEASURED
    """Operators without a rule that the tool was measured on; None: a definition, not a tool."""

    def rule(self, operator_type: str) -> Rule:
        """What it does with an operator; the words say where that was not measured."""
        if operator_type in self.rules:
            return self.rules[operator_type]
        known = self.measured is None or operator_type in self.measured
        says = self.otherwise.says
        return Rule(self.otherwise.formula, says if known else f"{says} (assumed, not measured)")


# fvcore 0.1.5.post20221221.  A MAC is called a flop.  Normalizations in evaluation: 2 an element of
# batch norm, 5 of the others ("just a rough estimate", its source says), one less without affine.
# Of the pools only the adaptive average has a rule, of the interpolations nearest and bilinear, and
# these in two dimensions only.
FVCORE = Convention(
    "fvcore 0.1.5: multiply-accumulates, plus normalizations, adaptive pools and upsampling",
    {
        "batch_norm": by_affine(2, 1),
        "layer_norm": by_affine(5, 4),
        "group_norm": by_affine(5, 4),
        "global_pool": on_images(by_attribute("kind", {"average": 1}, "input")),
        "adaptive_pool": on_images(by_attribute("kind", {"average": 1}, "input")),
        "upsample": on_images(by_attribute("interpolation", {"nearest": 1, "bilinear": 4})),
        "resize": on_images(by_attribute("interpolation", {"nearest": 1, "bilinear": 4})),
    },
    MACS,
)

# ptflops 0.7.5 with its default backend.  It hooks modules and patches functions; a module that
# calls a patched function is counted by both: ReLU, GELU and the pools come out twice.  `a + b`
# and `a @ b` in a forward method are patched nowhere.
PTFLOPS = Convention(
    "ptflops 0.7.5 (backend pytorch): multiply-accumulates with bias, most element-wise layers",
    {
        **dict.fromkeys((*CONVOLUTIONS, "dense"), BIASED),
        "batch_norm": by_affine(2, 1),
        "group_norm": by_affine(2, 1),
        "layer_norm": by_input(1),
        **dict.fromkeys(("max_pool", "average_pool", "global_pool", "adaptive_pool"), by_input(2)),
        "lp_pool": Rule(
            lambda case: case.read + 2 * case.made, "one an input and two an output element"
        ),
        **dict.fromkeys(("upsample", "resize"), by_output(2)),
        "activation": by_attribute(
            "function",
            {
                "relu": 2,
                "relu6": 1,
                "leaky_relu": 1,
                "elu": 2,
                "gelu": 2,
                "silu": 1,
                "softmax": 1,
            },
        ),
        "prelu": by_input(2),
    },
)

# ptflops 0.7.5 with the aten backend: convolutions and linear layers only.
PTFLOPS_ATEN = Convention(
    "ptflops 0.7.5 (backend aten): multiply-accumulates with bias",
    dict.fromkeys((*CONVOLUTIONS, "dense"), BIASED),
    MACS,
)

# torchinfo 1.8.0 multiplies parameters: those of a convolution by the positions of its *output*,
# the transposed one too, where the input's would be right; those of any other layer count once,
# whatever they are applied to (a linear layer on 196 tokens counts as on one).
TORCHINFO = Convention(
    "torchinfo 1.8.0: parameters, those of convolutions times output positions",
    dict.fromkeys(
        CONVOLUTIONS,
        Rule(lambda case: case.trained * case.places, "parameters times output positions"),
    ),
    Rule(lambda case: case.trained, "trainable parameters, once"),
)

# thop 0.1.1: bias never, batch norm 4 an element, and every convolution by its output's positions,
# the transposed one too.
THOP = Convention(
    "thop 0.1.1: multiply-accumulates, normalizations 4 an element",
    {
        "conv": MACS,
        "depthwise_conv": MACS,
        "dense": MACS,
        "conv_transpose": Rule(
            lambda case: case.kernel * case.places, "weights times output positions"
        ),
        "batch_norm": by_affine(4, 2),
        "layer_norm": by_affine(4, 2),
        "group_norm": Rule(
            lambda case: (4 if case.affine else 2) * case.read if case.get("groups") == -1 else 0,
            "instance norm 4 an element, group norm not counted",
        ),
        "average_pool": by_output(1),
        **dict.fromkeys(
            ("global_pool", "adaptive_pool"),
            Rule(
                lambda case: case.read + case.made if case.get("kind") == "average" else 0,
                "average: one an input and one an output element",
            ),
        ),
        **dict.fromkeys(
            ("upsample", "resize"),
            by_attribute(
                "interpolation", {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}
            ),
        ),
        "activation": Rule(
            lambda case: 3 * case.read - case.rows if case.get("function") == "softmax" else 0,
            "softmax: n exponentials, n - 1 additions, n divisions a vector; others 0",
        ),
        "prelu": by_input(1),
    },
)


def folded(case: Case) -> int:
    """What batch norm adds in an ONNX export: PyTorch folds it into a convolution before it."""
    if case.source is not None and case.source.operator.type in ("conv", "depthwise_conv"):
        return 0 if getattr(case.source.operator, "bias", False) else case.made
    return 31 * case.read


# onnx-tool 1.0.1 on PyTorch's export (opset 17): weighs instructions, exp 32, division 4, ...
# A transposed convolution is taken for out x window x filters, whatever the input's channels.
ONNX_TOOL = Convention(
    "onnx-tool 1.0.1 on PyTorch's export: multiply-accumulates with bias, weighted instructions",
    {
        **dict.fromkeys(("conv", "depthwise_conv", "dense"), BIASED),
        "conv_transpose": Rule(
            lambda case: (
                case.kernel // int(case.params[0].shape[-1]) * case.made + case.elementwise
            ),
            "outputs times window times filters of a group, and bias additions",
        ),
        "matmul": MACS,
        "batch_norm": Rule(folded, "31 an element; folded into a convolution before it"),
        "group_norm": Rule(
            lambda case: (7 if case.get("groups") == -1 else 9) * case.read,
            "9 an element, instance norm 7",
        ),
        "layer_norm": Rule(
            lambda case: 7 * case.read + 29 * case.rows, "7 an element and 29 a vector"
        ),
        **dict.fromkeys(
            ("max_pool", "average_pool"),
            Rule(lambda case: case.elementwise, "the window for each output element"),
        ),
        "global_pool": Rule(
            lambda case: case.read + (4 * case.made if case.get("kind") == "average" else 0),
            "one an input element, and a division of 4 for each average",
        ),
        "adaptive_pool": by_input(1),
        **dict.fromkeys(
            ("upsample", "resize"),
            by_attribute("interpolation", {"linear": 4, "bilinear": 4, "bicubic": 8}),
        ),
        "activation": by_attribute(
            "function",
            {
                "relu": 1,
                "relu6": 2,
                "leaky_relu": 2,
                "elu": 35,
                "gelu": 7,
                "silu": 33,
                "sigmoid": 32,
                "tanh": 76,
                "softplus": 76,
                "hard_swish": 5,
                "hard_sigmoid": 4,
                "softmax": 36,
            },
        ),
        "prelu": by_input(2),
        **dict.fromkeys(("add", "multiply", "subtract", "maximum"), by_output(1)),
        "divide": by_output(4),
    },
)


def profiled_transpose(case: Case) -> int:
    """tf.profiler's transposed convolution: twice weights times *output* positions over strides.

    That is twice the multiply-accumulates where the output is n * stride; with "valid" it is more.
    """
    strides = product(per_axis(case.get("stride"), len(case.inputs[0].dims) - 2, "stride"))
    return 2 * case.kernel * case.places // int(strides) + case.elementwise


BOTH = Rule(
    lambda case: 2 * case.macs + case.elementwise,
    "two operations a multiply-accumulate, and bias additions",
)

# tf.profiler's float operations of TensorFlow 2.21 for a frozen forward pass of Keras 3.15.
# ReLU, sigmoid, tanh and their kin have no rule there.  Keras wraps a grouped convolution in a
# compiled function, which hides it: only its bias is seen.
KERAS = Convention(
    "tf.profiler 2.21 on Keras 3.15: float operations of the forward pass",
    {
        "conv": Rule(
            lambda case: BOTH.formula(case) if case.get("groups") == 1 else case.elementwise,
            f"{BOTH.says}; of a grouped convolution the bias only",
        ),
        "depthwise_conv": BOTH,
        "dense": BOTH,
        "conv_transpose": Rule(
            profiled_transpose, "twice weights times output positions over strides, and bias"
        ),
        "batch_norm": Rule(
            lambda case: (
                2 * case.read
                + (6 if case.get("scale") else 5) * int(product(case.params[-1].shape))
            ),
            "2 an element, and 5 a channel, 6 with scale",
        ),
        "layer_norm": Rule(lambda case: 9 * case.read + 4 * case.rows, "9 an element, 4 a vector"),
        **dict.fromkeys(
            ("max_pool", "average_pool"),
            Rule(lambda case: case.elementwise, "the window for each output element"),
        ),
        "global_pool": by_attribute("kind", {"average": 1}, "input"),
        "activation": by_attribute(
            "function", {"gelu": 4, "silu": 2, "swish": 2, "hard_silu": 3, "softmax": 5}
        ),
        "prelu": by_input(4),
        **dict.fromkeys(
            ("add", "multiply", "maximum", "minimum", "subtract"),
            Rule(lambda case: case.elementwise, "one an output element for each further input"),
        ),
        "average": Rule(
            lambda case: len(case.inputs) * case.made, "one an output element for each input"
        ),
    },
    TWICE,
    UNSEEN,
)

CONVENTIONS: dict[str, Convention] = {
    "macs": Convention("multiply-accumulates, bias excluded", otherwise=MACS, measured=None),
    "flops": Convention(
        "twice the multiply-accumulates, bias excluded", otherwise=TWICE, measured=None
    ),
    "fvcore": FVCORE,
    "ptflops": PTFLOPS,
    "ptflops-aten": PTFLOPS_ATEN,
    "torchinfo": TORCHINFO,
    "keras": KERAS,
    "onnx-tool": ONNX_TOOL,
    "thop": THOP,
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
    made = {op.name: op for op in net.ops}
    for op in net.ops:
        layers[op.layer] = layers.get(op.layer, 0) + counted(net, op, rules, made)
    return layers, sum(layers.values())


def counted(net: Network, op: Op, convention: Convention, made: Mapping[str, Op]) -> int:
    """One op under a convention; 0 where its arithmetic is not known."""
    if not net.tensors[op.name].known or "arithmetic" in op.operator.missing():
        return 0
    inputs, outputs = net.specs(op)
    source = made.get(op.inputs[0]) if op.inputs else None
    case = Case(op, inputs, outputs, net.params.get(op.weights, ()), source)
    return convention.rule(op.operator.type).formula(case)


def words(rule: Rule, counted: int) -> str:
    """The rule's words; multiply-accumulates of an operator that has none are not counted."""
    return rule.says if counted or rule.says not in (MACS.says, TWICE.says) else ZERO.says


def explain(net: Network, a: str, b: str) -> list[Difference]:
    """Why two conventions differ on a network: a row for each type of operator, largest gap first.

    Raises:
        UsageError: no such convention.
    """
    one = CONVENTIONS[choose(a, CONVENTIONS, "convention")]
    two = CONVENTIONS[choose(b, CONVENTIONS, "convention")]
    made = {op.name: op for op in net.ops}
    found: dict[str, list[int]] = {}
    for op in net.ops:
        sums = found.setdefault(op.operator.type, [0, 0])
        sums[0] += counted(net, op, one, made)
        sums[1] += counted(net, op, two, made)
    rows = []
    for kind, (left, right) in found.items():
        says, other = words(one.rule(kind), left), words(two.rule(kind), right)
        reason = says if says == other else f"{a}: {says}; {b}: {other}"
        rows.append(Difference(kind, left, right, reason))
    return sorted(rows, key=lambda row: -abs(row.a - row.b))
