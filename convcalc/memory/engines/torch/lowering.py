"""Autograd's order: back in the reverse order of creation, gradients summed as they arrive.

A backward node takes memory for its results while its incoming gradient and what it saved are
there, then lets go of both, then hands its results on: a second gradient for the same tensor is
added to the first at once, out of place.  A gradient of a variable stays until `zero_grad`.
(torch/csrc/autograd: engine.cpp, input_buffer.cpp, functions/accumulate_grad.cpp.)
"""

from __future__ import annotations

from collections.abc import Sequence

from convcalc.memory.engines.torch import optimizers
from convcalc.memory.engines.torch.autocast import WIDE, EagerCall
from convcalc.memory.engines.torch.layout import Layout
from convcalc.memory.job import CROSS_ENTROPY, Job
from convcalc.memory.lowering import Call, Lowering, Rules, Tape
from convcalc.memory.program import BACKWARD, Node, Program, Value
from convcalc.network import Network, Op
from convcalc.tensors import TensorSpec

SCALAR = TensorSpec((), "float", None)
#: What a batch normalization with statistics counts its batches in.
COUNTER = TensorSpec((), "int64", None)


class EagerLowering(Lowering):
    """One network on its way to what eager PyTorch does."""

    def __init__(self, net: Network, job: Job, rules: Rules, *, foreach: bool) -> None:
        super().__init__(net, job, rules)
        self.foreach = foreach
        self.layout = net.once(Layout)
        self.gpu = job.device != "cpu"
        self.strided: dict[str, bool] = {}
        """Tensors whose memory is not in the order of their axes: a reshape would copy them."""
        self.grads: dict[Value, Value] = {}
        self.resting_grads: dict[Value, Value] = {}
        """The gradients that steps before have left, where they are added up."""
        self.copies: dict[Value, Value] = {}
        """Under mixed precision, the variables' copies in 16 bits."""
        self.root: Value | None = None
        """The gradient of the loss by itself, which the call of `backward` holds to its end."""

    def run(self) -> Program:
        program = super().run()
        if not self.job.training:
            self.leave_autocast()
        if self.root is not None:
            self.end_backward(self.root)
        return program

    def end_backward(self, root: Value) -> None:
        """Keep the root gradient to the end of the backward pass."""
        last = next(n for n in reversed(self.program.nodes) if n.phase == BACKWARD)
        if last not in root.users:
            last.inputs = (*last.inputs, root)
            root.users.append(last)

    def forward(self, part: Sequence[Op]) -> tuple[list[Node], dict[str, Value], Tape]:
        """Made again, a stretch has an autocast of its own, which casts variables anew."""
        if self.phase != BACKWARD:
            return super().forward(part)
        self.copies.clear()
        found = super().forward(part)
        self.leave_autocast()
        self.copies.clear()
        return found

    def again(self, part: Sequence[Op], kept: dict[str, Value]) -> list[Node]:
        """A checkpoint holds all that went into it until its last saved tensor has been read."""
        first = len(self.program.nodes)
        made = super().again(part, kept)
        after = self.program.nodes[first:]
        saved = {value for node in made for value in (*node.outputs, *node.inputs)}
        last = next(
            (n for n in reversed(after) if n not in made and saved.intersection(n.inputs)), None
        )
        if last is not None:
            for value in dict.fromkeys(kept.values()):
                if last not in value.users:
                    last.inputs = (*last.inputs, value)
                    value.users.append(last)
        return made

    def call(self, op: Op) -> EagerCall:
        return EagerCall(self, op)

    def leave_autocast(self) -> None:
        """The copies of the variables are let go of by autocast; backward nodes may keep theirs."""
        if self.copies:
            self.loss_node("autocast exit", list(self.copies.values()), [])

    def make_resting(self) -> None:
        """As any engine's; counters, class numbers, an optimizer's scalars and the last loss."""
        super().make_resting()
        resting = self.program.resting
        width = self.job.variable_width
        if self.job.mixed:
            self.widen()
        seen: set[str] = set()
        for op in self.net.ops:
            if op.operator.type != "batch_norm" or op.weights in seen:
                continue
            seen.add(op.weights)
            if op.operator.statistics:  # type: ignore[attr-defined]
                name = f"{op.weights}/num_batches_tracked"
                resting.append(Value(COUNTER, width, "weights", name, op.layer))
        if not self.job.training:
            return
        if self.job.accumulate:
            for variable, slots in self.slots.items():
                self.resting_grads[variable] = slots[-1]
                slots[-1].kind = "gradients"
        for name, label in list(self.labels.items()):
            if self.losses[name] == CROSS_ENTROPY:
                spec = self.classes(name)
                numbers = Value(spec, width, "inputs", label.name, label.layer)
                resting[resting.index(label)] = self.labels[name] = numbers
        if not self.gpu:
            # The count of steps; with a GPU it stays on the host.
            for variable in self.trainable_in_order():
                for index in range(optimizers.SCALARS.get(self.job.optimizer, 0)):
                    name = f"{variable.name}/scalar {index + 1}"
                    value = Value(TensorSpec((), "float32", None), 4, "optimizer", name)
                    resting.append(value)
        resting.append(Value(SCALAR, self.loss_width, "activations", "loss", "loss"))

    def widen(self) -> None:
        """Inputs and labels come in float32; autocast makes its own copies."""
        resting = self.program.resting
        for held in (self.values, self.labels):
            for name, value in held.items():
                if value.spec.dtype == "float":
                    spec = value.spec._replace(dtype=WIDE)
                    wide = Value(spec, 4, value.kind, value.name, value.layer)
                    resting[resting.index(value)] = held[name] = wide

    @property
    def loss_width(self) -> int:
        """Bytes of the loss: autocast computes it in float32."""
        return self.job.variable_width

    def classes(self, name: str) -> TensorSpec:
        """Labels for cross-entropy: the number of a class for each prediction."""
        spec = self.net.tensors[name]
        axis = 1 if self.net.channels_first and len(spec.dims) > 2 else len(spec.dims) - 1
        dims = (*spec.dims[:axis], *spec.dims[axis + 1 :])
        batch = spec.batch_axis
        if batch is not None and batch > axis:
            batch -= 1
        return TensorSpec(dims, "int64", batch)

    def trainable_in_order(self) -> list[Value]:
        """The variables that the optimizer updates, as `module.parameters()` lists them."""
        return [
            variable
            for made in self.variables.values()
            for variable in made.values()
            if variable in self.trainable
        ]

    def loss_node(self, primitive: str, inputs: list[Value], outputs: list[Value]) -> Node:
        """An operation of the loss."""
        return self.program.add(primitive, inputs, outputs, layer="loss", phase=self.phase)

    def gradient_arrived(self, name: str, gradient: Value) -> None:
        """Add to what has arrived before, at once."""
        before = self.arrived.get(name)
        if before:
            self.arrived[name] = [self.rules.accumulate(self, name, [before[0], gradient])]
        else:
            self.arrived[name] = [gradient]

    def weight_arrived(self, call: Call, name: str, gradient: Value) -> None:
        """Uses of one variable are summed before its gradient is stored."""
        variable = call.variable(name) if isinstance(call, EagerCall) else call.w[name]
        before = self.grads.get(variable)
        if before is not None and variable not in self.resting_grads:
            spec = variable.spec
            total = Value(spec, self.job.variable_width, "gradients", before.name, before.layer)
            self.program.add("add", [before, gradient], [total], layer=call.layer, phase=self.phase)
            gradient = total
        rests = self.resting_grads.get(variable)
        if rests is not None:
            self.program.add("add_", [rests, gradient], [], layer=call.layer, phase=self.phase)
            gradient = rests
        self.grads[variable] = gradient
