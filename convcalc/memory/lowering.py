"""From a network to a program: each operator through its engine's rule, and back by the chain rule.

An engine contributes `Rules`: for each operator a function that emits the primitive operations of
its forward pass and leaves behind a function for its gradient.  This module knows the chain rule
and nothing of any engine: which tensors need a gradient, where gradients meet, when all the uses of
a variable have been differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from convcalc.errors import ModelError
from convcalc.memory.job import CROSS_ENTROPY, NONE, SQUARED_ERROR, Job
from convcalc.memory.program import (
    BACKWARD,
    FORWARD,
    UPDATE,
    Node,
    Program,
    Size,
    Value,
)
from convcalc.memory.segments import made_by, read_by, stretches
from convcalc.network import Network, Op
from convcalc.tensors import TensorSpec

Rule = Callable[["Call"], None]
Gradient = Callable[..., None]
Tape = list[tuple["Call", Gradient]]


class Rules:
    """What one engine does for each operator.  Engines subclass it.

    ``@MyRules.rule("conv")`` registers the rule of one or more operators.
    """

    table: dict[str, Rule]

    def __init_subclass__(cls) -> None:
        cls.table = dict(getattr(cls, "table", {}))

    @classmethod
    def rule(cls, *types: str) -> Callable[[Rule], Rule]:
        """Register the rule of the operators that specs call `types`."""

        def register(function: Rule) -> Rule:
            for name in types:
                if name in cls.table:
                    raise ValueError(f"{cls.__name__} has a rule for '{name}' already")
                cls.table[name] = function
            return function

        return register

    def default(self, call: Call) -> None:
        """An operator without a rule: outputs are made from inputs, both are kept for backward."""
        call.lowering.program.assumed.add(call.op.operator.type)
        made = [call.value(spec) for spec in call.outs]
        call.node(call.op.operator.type, call.x, made)
        call.result(*made)

        @call.backward
        def gradient(*dys: Value | None) -> None:
            known = [dy for dy in dys if dy is not None]
            for place, spec in enumerate(call.ins):
                if call.needs(place):
                    dx = call.emit(f"{call.op.operator.type}Grad", [*known, *call.x, *made], spec)
                    call.give(place, dx)
            for name in call.w:
                if call.trains(name):
                    call.give_weight(name, call.weight_gradient(name, [*known, *call.x]))

    def loss(self, lowering: Lowering, name: str, output: Value) -> Value | None:
        """Emit the loss of one output; its gradient (by the logits, if the loss takes these)."""
        raise NotImplementedError

    def accumulate(self, lowering: Lowering, name: str, parts: Sequence[Value]) -> Value:
        """The sum of the gradients that arrive at a tensor, two or more, in order of arrival."""
        raise NotImplementedError

    def update(self, lowering: Lowering, variable: Value, gradient: Value, layer: str) -> None:
        """A variable's gradient is complete: emit its update now, or remember it for `finish`."""
        raise NotImplementedError

    def finish(self, lowering: Lowering) -> None:
        """All gradients are there."""

    def narrowed(self, lowering: Lowering, value: Value) -> Value:
        """An input of 32 bits as the first layer of a mixed policy reads it."""
        return value

    def again(self, lowering: Lowering, kept: dict[str, Value]) -> dict[str, Value]:
        """What a checkpointed stretch is made from the second time, its gradients having come."""
        return kept

    def forwards(self, lowering: Lowering, part: Sequence[Op]) -> Sequence[Op]:
        """The order in which a stretch's operators are emitted."""
        return part

    def backwards(self, lowering: Lowering, tape: Tape) -> Tape:
        """The order in which the gradients of a stretch are emitted."""
        return tape[::-1]


class Call:
    """One op while its rule lowers it."""

    __slots__ = ("_outputs", "ins", "lowering", "op", "outs", "w", "x")

    def __init__(self, lowering: Lowering, op: Op) -> None:
        self.lowering = lowering
        self.op = op
        self.ins, outs = lowering.net.specs(op)
        self.outs = list(outs)
        self.x = [lowering.values[name] for name in op.inputs]
        self.w = lowering.variables.get(op.weights, {})
        """The op's variables by name: "kernel", "bias", "gamma", ..."""
        self._outputs: tuple[Value, ...] = ()

    @property
    def operator(self) -> Any:
        """The operator, with its attributes."""
        return self.op.operator

    @property
    def training(self) -> bool:
        return self.lowering.job.training

    def needs(self, place: int) -> bool:
        """Whether a gradient of this input is asked for."""
        return self.op.inputs[place] in self.lowering.wanted

    def trains(self, name: str) -> bool:
        """Whether a gradient of this variable is asked for."""
        return self.w[name] in self.lowering.trainable

    @property
    def layer(self) -> str:
        return self.op.layer

    def value(self, spec: TensorSpec, kind: str = "activations", name: str = "") -> Value:
        """A tensor of floats as wide as the policy computes with (fixed dtypes keep theirs)."""
        return Value(spec, self.lowering.job.width, kind, name)

    def node(
        self,
        primitive: str,
        inputs: Iterable[Value | None],
        outputs: Sequence[Value],
        **how: Any,
    ) -> Node:
        """Append a primitive operation of this op; `how` as in `Program.add`."""
        low = self.lowering
        return low.program.add(
            primitive, inputs, outputs, layer=self.op.layer, phase=low.phase, **how
        )

    def emit(
        self,
        primitive: str,
        inputs: Iterable[Value | None],
        spec: TensorSpec,
        *,
        kind: str = "activations",
        inplace: Sequence[int] = (),
        scratch: Sequence[Size] = (),
        after: Sequence[Node] = (),
        alias: bool = False,
    ) -> Value:
        """Append an operation with one output and give that back."""
        made = self.value(spec, kind)
        self.node(
            primitive, inputs, [made], inplace=inplace, scratch=scratch, after=after, alias=alias
        )
        return made

    def weight_gradient(self, name: str, inputs: Iterable[Value | None], **how: Any) -> Value:
        """Append the operation that makes the gradient of a variable."""
        spec = self.w[name].spec
        made = Value(spec, self.lowering.job.width, "gradients", f"{self.op.layer}/{name}")
        self.node(f"Grad({name})", inputs, [made], **how)
        return made

    def result(self, *values: Value) -> None:
        """What the op gives to those that read it."""
        self._outputs = values
        for place, value in enumerate(values):
            self.lowering.values[self.op.output(place)] = value

    def backward(self, gradient: Gradient) -> Gradient:
        """Register the op's gradient: called with the gradient of each result (None: none)."""
        self.lowering.tape.append((self, gradient))
        return gradient

    def give(self, place: int, gradient: Value) -> None:
        """Hand an input its gradient; ignored where none is asked for."""
        name = self.op.inputs[place]
        if name in self.lowering.wanted:
            self.lowering.gradient_arrived(name, gradient)

    def give_weight(self, name: str, gradient: Value) -> None:
        """Hand a variable its gradient; the last of its uses completes it."""
        self.lowering.weight_arrived(self, name, gradient)


class Lowering:
    """One network on its way to a program."""

    def __init__(self, net: Network, job: Job, rules: Rules) -> None:
        self.net = net
        self.job = job
        self.rules = rules
        self.program = Program()
        self.phase = FORWARD
        self.values: dict[str, Value] = {}
        self.variables: dict[str, dict[str, Value]] = {}
        self.trainable: set[Value] = set()
        self.slots: dict[Value, list[Value]] = {}
        self.labels: dict[str, Value] = {}
        self.tape: Tape = []
        self.arrived: dict[str, list[Value]] = {}
        self.wanted: set[str] = set()
        """Tensors on the way from a trainable variable to an output."""
        self.partial: dict[Value, list[Value]] = {}
        self.uses: dict[str, int] = {}
        self.losses = self.choose_losses()

    def run(self) -> Program:
        """Lower everything.

        Raises:
            ModelError: a shape is unknown, or there is nothing to train.
        """
        self.make_resting()
        self.find_wanted()
        for name, spec in self.net.inputs.items():
            if self.job.mixed and spec.dtype == "float":
                self.values[name] = self.rules.narrowed(self, self.values[name])
        parts = stretches(self.net, self.job.remat if self.job.training else NONE)
        passed = [self.forward(part) for part in parts]
        outputs = list(dict.fromkeys(self.values[name] for name in self.net.outputs))
        if not self.job.training:
            self.program.held.extend(outputs)
            return self.program
        if not self.wanted & set(self.net.outputs):
            raise ModelError(f"'{self.net.name}' has no trainable variable before its outputs")
        self.phase = BACKWARD
        for name in dict.fromkeys(self.net.outputs):
            if name in self.wanted:
                gradient = self.rules.loss(self, name, self.values[name])
                if gradient is not None:
                    self.arrived.setdefault(name, []).insert(0, gradient)
        made_twice: list[Node] = []
        for part, (nodes, kept, tape) in zip(reversed(parts), reversed(passed), strict=True):
            if part is parts[-1]:
                self.backward(tape)
            else:
                made_twice += [*nodes, *self.again(part, kept)]
        if made_twice:
            self.program.drop_unread(made_twice)
        self.phase = UPDATE
        self.rules.finish(self)
        return self.program

    def forward(self, part: Sequence[Op]) -> tuple[list[Node], dict[str, Value], Tape]:
        """Lower a stretch of operators: what they became, what they began with, their gradients."""
        kept = {name: self.values[name] for name in read_by(self.net, part)}
        first, self.tape = len(self.program.nodes), []
        for op in self.rules.forwards(self, part):
            self.lower(op)
        return self.program.nodes[first:], kept, self.tape

    def backward(self, tape: Tape) -> None:
        """The gradients of a stretch, the last operator's first."""
        for call, gradient_of in self.rules.backwards(self, tape):
            names = [call.op.output(place) for place in range(len(call._outputs))]
            gradients = [self.gathered(name) for name in names]
            if any(gradient is not None for gradient in gradients):
                gradient_of(*gradients)

    def again(self, part: Sequence[Op], kept: dict[str, Value]) -> list[Node]:
        """Lower a stretch a second time, and then its gradients: what its operators became.

        They run when a gradient first asks for one of their results.
        """
        if not any(name in self.arrived for name in made_by(self.net, part)):
            return []
        nodes = self.program.nodes
        first = len(nodes)
        self.values.update(self.rules.again(self, kept))
        _, _, tape = self.forward(part)
        made, last = nodes[first:], len(nodes)
        self.backward(tape)
        results = {value for node in made for value in node.outputs}
        asks = next(
            (i for i in range(last, len(nodes)) if results.intersection(nodes[i].inputs)), last
        )
        nodes[first:asks] = [*nodes[last:asks], *made]
        return made

    def choose_losses(self) -> dict[str, str]:
        """The loss of each output: cross-entropy where it is a softmax, unless told."""
        made = {op.name: op.operator for op in self.net.ops}
        found = {}
        for name in self.net.outputs:
            softmax = getattr(made.get(name), "function", None) == "softmax"
            found[name] = self.job.loss or (CROSS_ENTROPY if softmax else SQUARED_ERROR)
        return found

    def takes_logits(self, op: Op) -> bool:
        """Whether this op is a softmax that the loss computes by itself, from its input."""
        return (
            self.job.training
            and getattr(op.operator, "function", None) == "softmax"
            and self.losses.get(op.name) == CROSS_ENTROPY
        )

    def make_resting(self) -> None:
        """Variables, optimizer slots, inputs and labels."""
        job, resting = self.job, self.program.resting
        width, count = job.variable_width, job.slots
        frozen = {op.weights for op in self.net.ops if not op.trainable}
        owner = {op.weights: op.layer for op in reversed(self.net.ops)}
        for key, params in self.net.params.items():
            made = self.variables[key] = {}
            trained = job.training and key not in frozen
            for param in params:
                spec = TensorSpec(param.shape, param.dtype, None)
                value = Value(spec, width, "weights", f"{key}/{param.name}", owner[key])
                made[param.name] = value
                resting.append(value)
                if trained and param.trainable:
                    self.trainable.add(value)
                    self.slots[value] = [
                        Value(spec, width, "optimizer", f"{value.name}/slot {slot}", value.layer)
                        for slot in range(1, count + 1)
                    ]
        for slots in self.slots.values():
            resting.extend(slots)
        for name, spec in self.net.inputs.items():
            # Under a mixed policy data come in float32, and labels stay so.
            self.values[name] = Value(spec, width, "inputs", name, name)
            resting.append(self.values[name])
        if job.training:
            for name in dict.fromkeys(self.net.outputs):
                spec = self.net.tensors[name]
                label = Value(spec, width, "inputs", f"labels of {name}", "labels")
                self.labels[name] = label
                resting.append(label)

    def find_wanted(self) -> None:
        """Which tensors need a gradient, and how many uses each set of variables has."""
        makes = {
            op.name: [op.output(place) for place in range(len(self.net.results[op.name]))]
            for op in self.net.ops
        }
        needed = set(self.net.outputs)
        reaching = set()
        for op in reversed(self.net.ops):
            if not needed.isdisjoint(makes[op.name]):
                reaching.add(op.name)
                needed.update(op.inputs)
        trained = {
            key
            for key, made in self.variables.items()
            if not self.trainable.isdisjoint(made.values())
        }
        for op in self.net.ops:
            if op.name not in reaching:
                continue
            own = op.weights in trained
            if own:
                self.uses[op.weights] = self.uses.get(op.weights, 0) + 1
            if own or not self.wanted.isdisjoint(op.inputs):
                self.wanted.update(makes[op.name])

    def lower(self, op: Op) -> None:
        """One op through its rule.

        Raises:
            ModelError: its shape is unknown.
        """
        if not all(spec.known for spec in self.net.results[op.name]):
            raise ModelError(
                f"the shape after '{op.name}' ({op.layer_type}) is unknown, and so is the memory "
                "of whatever follows"
            )
        rule = self.rules.table.get(op.operator.type)
        call = self.call(op)
        if rule is None:
            self.rules.default(call)
        else:
            rule(call)

    def call(self, op: Op) -> Call:
        """An op as its rule sees it; engines that add to it override this."""
        return Call(self, op)

    def gradient_arrived(self, name: str, gradient: Value) -> None:
        """A tensor has one more gradient; they are summed when the last has arrived."""
        self.arrived.setdefault(name, []).append(gradient)

    def gathered(self, name: str) -> Value | None:
        """The complete gradient of a tensor; None if none arrived."""
        parts = self.arrived.pop(name, [])
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else self.rules.accumulate(self, name, parts)

    def weight_arrived(self, call: Call, name: str, gradient: Value) -> None:
        """Count the uses of a variable; its gradient is complete when all have been seen."""
        variable = call.w[name]
        parts = self.partial.setdefault(variable, [])
        parts.append(gradient)
        if len(parts) == self.uses[call.op.weights]:
            del self.partial[variable]
            whole = (
                parts[0]
                if len(parts) == 1
                else self.rules.accumulate(self, f"{call.op.weights}/{name}", parts)
            )
            self.rules.update(self, variable, whole, call.op.layer)
