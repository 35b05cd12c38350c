"""In which order a product's gradients run: the order in which grappler leaves a graph.

Kernel's, bias' and input's are ready as soon as the gradient of the product's output is, and which
goes first decides how long that gradient lives.  TensorFlow runs the one first that stands last in
the optimized graph, and where it stands has nothing to do with the order in which it was made.
The last of grappler's rounds (`core/grappler/optimizers/meta_optimizer.cc`) sorts the graph four
times, by functions of its edges alone:

1. `model_pruner.cc` walks back from all operations with a state (reads, assignments) and from the
   result, sorted by *name*, depth first, the last name first, and reverses what it met;
2. `common_subgraph_elimination.cc` sorts by Kahn's algorithm;
3. `remapper.cc` in reversed post-order from the operations without inputs, the last one first;
4. `dependency_optimizer.cc` by Kahn's algorithm again.

So names of models, layers and optimizers decide: a dense layer of a model called `vgg16` does not
do what the same layer of a model called `functional` does.  Checked against the graphs that
TensorFlow 2.21 leaves after each pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Value
from convcalc.network import Network, Op
from convcalc.ops.base import per_axis
from convcalc.ops.convolution import split

#: The operation that gives the step's result.
RESULT = "identity_RetVal"

READ = "ReadVariableOp"
SET, ADD, SUB = "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"

#: What Keras' train step reads and assigns before the optimizer does: the loss's mean.
STEP = ("Add", "Add_1", "Add_2", "Cast_2", "div_no_nan")
STEP_SETS = 3

#: What an optimizer reads to count its steps, once or twice for each variable.
COUNT = "Add"

#: Those that only the result needs, and so the second round of the dependency optimizer removes.
LATE = frozenset({f"Cast_2/{READ}", f"div_no_nan/{READ}"})


@dataclass(frozen=True, slots=True)
class Family:
    """Operations of an optimizer that share a name, numbered through."""

    name: str
    count: int = 1
    """How many for each variable."""
    last: bool = False
    """Whether the last of them is the variable's last assignment, which waits for all others."""


#: Each optimizer's scope, and its assignments (`keras/src/optimizers/*.py`).
OPTIMIZERS = {
    "sgd": ("sgd_1", (Family(SUB, last=True),)),
    "momentum": ("sgd", (Family(SET), Family(ADD, last=True))),
    "rmsprop": ("rm_sprop", (Family(SET), Family(SUB, last=True))),
    "adagrad": ("adagrad", (Family(COUNT), Family(ADD), Family(SUB, last=True))),
    "lion": ("lion", (Family(SET), Family(SUB, last=True))),
    "adam": ("adam", (Family(COUNT), Family(ADD, 2), Family(SUB, last=True))),
    "adamw": ("adam_w", (Family(COUNT), Family(ADD, 2), Family(SUB, 2, last=True))),
    "nadam": ("nadam", (Family(COUNT, 2), Family(ADD, 2), Family(SUB, last=True))),
    "lamb": ("lamb", (Family(COUNT), Family(ADD, 2), Family(SUB, last=True))),
    "adadelta": ("adadelta", (Family(COUNT, 2), Family(ADD, last=True), Family(SET, 2, last=True))),
    "adamax": ("adamax", (Family(COUNT, 2), Family(ADD), Family(SET), Family(SUB, last=True))),
    "ftrl": ("ftrl", (Family(COUNT), Family(ADD, last=True), Family(SET, 2, last=True))),
}

#: How the reads of a layer's variables are called, in the variables' order.
READS = {
    "conv": ("convolution", "Reshape"),
    "depthwise_conv": ("depthwise", "Reshape"),
    "conv_transpose": ("conv_transpose", "Reshape"),
    "dense": ("Cast", "BiasAdd"),
    "batch_norm": ("Cast_2", "Cast_3", "Cast", "Cast_1"),
    "layer_norm": ("Reshape", "Reshape_1"),
}

#: A separable convolution reads both its kernels within one operation.
KERNELS = ("depthwise", "convolution")
SEPARABLE = "separable_conv2d"

#: Activations whose gradient reads their output, and operators whose gradient reads no tensor of
#: the forward pass; all others read their inputs.
KEEPS_OUTPUT = frozenset({"relu", "sigmoid", "tanh", "softmax", "elu", "selu"})
KEEPS_NOTHING = frozenset(
    {"add", "average", "concat", "dropout", "flatten", "reshape", "average_pool", "pad", "crop"}
)
CONVOLUTIONS = frozenset({"conv", "depthwise_conv"})


def turned(op: Op, net: Network) -> bool:
    """Whether a convolution's images get another shape first.

    A row becomes an image, those of a dilated convolution a batch of smaller ones.
    """
    kind: Any = op.operator
    sizes, _ = split(net.specs(op)[0][0], kind.channels_first, "")
    return len(sizes) < 2 or max(per_axis(kind.dilation, len(sizes), "dilation")) > 1


def numbered(name: str, number: int) -> str:
    """TensorFlow's name for the next operation of a kind."""
    return f"{name}_{number}" if number else name


class Scopes:
    """Names that are in use.  Each of Keras' layers opens its scope twice; the second counts."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """The name, or with the first number at which it is free."""
        number = self.used.get(name, 0)
        self.used[name] = number + 1
        found = name
        while number and found in self.used:
            found = f"{name}_{number}"
            number += 1
        if found != name:
            self.used[found] = 1
        return found

    def open(self, name: str) -> str:
        """The scope in which a layer's operations are."""
        self.unique(name)
        return self.unique(name)


class Graph:
    """Operations as numbers: which tensors each reads, in order, and what it only waits for."""

    def __init__(self) -> None:
        self.inputs: list[tuple[int, ...]] = []
        self.controls: list[tuple[int, ...]] = []

    def add(self, inputs: Iterable[int] = (), controls: Iterable[int] = ()) -> int:
        self.inputs.append(tuple(inputs))
        self.controls.append(tuple(controls))
        return len(self.inputs) - 1

    def pruned(self, roots: Sequence[int]) -> list[int]:
        """`transitive_fanin.cc`: depth first from the last root, reversed."""
        stack, seen, found = list(roots), set(), []
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                found.append(node)
                stack += self.inputs[node]
                stack += self.controls[node]
        return found[::-1]

    def users(self, order: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
        """Who reads each operation, and who waits for it, in this order."""
        reading: list[list[int]] = [[] for _ in self.inputs]
        waiting: list[list[int]] = [[] for _ in self.inputs]
        for node in order:
            for source in self.inputs[node]:
                reading[source].append(node)
            for source in self.controls[node]:
                waiting[source].append(node)
        return reading, waiting

    def by_kahn(self, order: Sequence[int]) -> list[int]:
        """`topological_sort.cc`: first come, first served."""
        users: list[list[int]] = [[] for _ in self.inputs]
        missing = [0] * len(self.inputs)
        for node in order:
            sources = {*self.inputs[node], *self.controls[node]}
            missing[node] = len(sources)
            for source in sources:
                users[source].append(node)
        found = [node for node in order if not missing[node]]
        for node in found:
            for user in users[node]:
                missing[user] -= 1
                if not missing[user]:
                    found.append(user)
        return found

    def by_post_order(self, order: Sequence[int]) -> list[int]:
        """`graph_view.cc`, ``SortTopologically``: reversed post-order, the last source first."""
        reading, waiting = self.users(order)
        state = [0] * len(self.inputs)
        found = []
        for source in reversed(order):
            if self.inputs[source] or self.controls[source]:
                continue
            stack = [source]
            while stack:
                node = stack[-1]
                if state[node]:
                    stack.pop()
                    if state[node] == 1:
                        state[node] = 2
                        found.append(node)
                    continue
                state[node] = 1
                stack += [user for user in reading[node] if not state[user]]
                stack += [user for user in waiting[node] if not state[user]]
        return found[::-1]

    def optimized(self, roots: Sequence[int]) -> list[int]:
        """The order after grappler's last round."""
        return self.by_kahn(self.by_post_order(self.by_kahn(self.pruned(roots))))


@dataclass(frozen=True, slots=True)
class Order:
    """Where things stand in the optimized graph: of what becomes ready at once, the last runs
    first."""

    forward: dict[str, int]
    """Operators by name."""
    backward: dict[str, int]
    """The first of the gradients of each."""
    products: dict[str, list[str]]
    """For each product "kernel", "bias" and "input", and where it gives its images another shape
    also "images"."""
    norms: dict[str, list[int]]
    """For each batch norm what reads the gradient of its output: its products with the factor and
    with the input, and its sum."""


def order(lowering: Lowering) -> Order:
    """The order of a network's operations and gradients."""
    return Step(lowering).order()


@dataclass(frozen=True, slots=True)
class Norm:
    """What the gradients of a batch norm read."""

    x: int
    mean: int
    reshaped: int
    inverse: int
    factor: int
    gamma: int | None


class Step:
    """A train step, an operation or two for each operator and each gradient."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self.net = lowering.net
        self.graph = Graph()
        self.kinds: dict[str, set[str]] = {}
        """Layer -> its operators."""
        for op in self.net.ops:
            self.kinds.setdefault(op.layer, set()).add(op.operator.type)
        self.variables: dict[Value, int] = {}
        self.values: dict[str, int] = {}
        self.gradients: dict[str, list[int]] = {}
        self.of_variable: dict[Value, list[int]] = {}
        self.products: dict[str, dict[str, int]] = {}
        """Op -> its gradients by what they are of."""
        self.given: dict[str, list[int]] = {}
        """Op -> all its gradients."""
        self.states: dict[str, int | None] = {}
        """What grappler begins with, by name; None where the graph here does not have it."""
        self.norms: dict[str, Norm] = {}
        """What the gradients of a batch norm read, by operator."""
        self.sums: dict[int, int] = {}
        """Gradient -> its sum over all but the channels."""
        self.first: dict[str, list[int]] = {}
        """Batch norm -> what reads the gradient of its output."""
        self.kept: set[str] = set()
        """Those that nobody but the step's end waits for."""

    def order(self) -> Order:
        graph = self.graph
        self.forward()
        outputs = dict.fromkeys(self.net.outputs)
        if self.lowering.job.training:
            results = [self.loss(name) for name in outputs]
            for op in reversed(self.net.ops):
                self.backward(op)
            self.update()
            self.keras()
        else:
            results = [self.values[name] for name in outputs]
        self.states[RESULT] = graph.add(results, self.ends())
        roots = [node for _, node in sorted(self.states.items()) if node is not None]
        # What nobody asks for, such as a softmax whose logits the loss takes, keeps its place.
        place = list(range(len(graph.inputs), 2 * len(graph.inputs)))
        for number, node in enumerate(graph.optimized(roots)):
            place[node] = number
        return Order(
            {op.name: place[self.values[op.name]] for op in self.net.ops},
            {name: min(place[node] for node in nodes) for name, nodes in self.given.items()},
            {
                name: sorted(parts, key=lambda part: place[parts[part]])
                for name, parts in self.products.items()
            },
            {name: [place[node] for node in nodes] for name, nodes in self.first.items()},
        )

    def forward(self) -> None:
        """Operators and the reads of their variables."""
        add, scopes = self.graph.add, Scopes()
        outer = scopes.open(self.net.name or "functional")
        scope_of: dict[str, str] = {}
        for name in self.net.inputs:
            self.values[name] = add()
        for op in self.net.ops:
            if op.layer not in scope_of:
                scope_of[op.layer] = scopes.open(f"{outer}/{op.layer}")
            reads = self.reads(op, scope_of[op.layer])
            if self.composed(op):
                made = self.normalized(op, reads)
            else:
                made = add([*(self.values[name] for name in op.inputs), *reads])
            for place in range(len(self.net.results[op.name])):
                self.values[op.output(place)] = made

    def reads(self, op: Op, scope: str) -> list[int]:
        """The variables of an operator, and what else in its layer has a state."""
        kind = op.operator.type
        found = []
        names = iter(READS.get(kind, ()))
        for variable in self.lowering.variables.get(op.weights, {}).values():
            if variable not in self.variables:
                self.variables[variable] = self.graph.add()
            found.append(self.variables[variable])
            path = [scope, next(names, ""), READ]
            if path[1] in KERNELS and self.kinds[op.layer] >= CONVOLUTIONS:
                path[1:] = [SEPARABLE, numbered(READ, KERNELS.index(path[1]))]
            self.states["/".join(filter(None, path))] = found[-1]
        if kind == "batch_norm" and op.trainable:
            x = self.values[op.inputs[0]]
            for number, moving in enumerate(found[-2:]):
                name = f"{scope}/{numbered(SET, number)}"
                self.states[name] = self.graph.add([moving, x])
                self.kept.add(name)
        if kind == "dropout" and getattr(op.operator, "rate", False):
            self.states |= {f"{scope}/Add/{READ}": None, f"{scope}/{READ}": None}
            self.states[f"{scope}/{SET}"] = None
            self.kept.add(f"{scope}/{SET}")
        return found

    def composed(self, op: Op) -> bool:
        """Whether it is a batch norm with the batch's own statistics."""
        trains = self.lowering.job.training and op.trainable
        return op.operator.type == "batch_norm" and trains

    def normalized(self, op: Op, reads: list[int]) -> int:
        """A batch norm's statistics and what they make of its input."""
        add, x = self.graph.add, self.values[op.inputs[0]]
        own = dict(zip(self.lowering.variables.get(op.weights, {}), reads, strict=True))
        mean = add([x])
        squeezed = add([mean])
        deviation = add([add([add([mean, x])])])
        reshaped = add([squeezed])
        inverse = add([add([add([deviation])])])
        factor = add([add([own["gamma"]]), inverse]) if "gamma" in own else inverse
        shift = add([reshaped, factor])
        if "beta" in own:
            shift = add([add([own["beta"]]), shift])
        self.norms[op.name] = Norm(x, mean, reshaped, inverse, factor, own.get("gamma"))
        return add([add([factor, x]), shift])

    def normalized_back(self, op: Op, dy: int) -> None:
        """A batch norm's gradients; grappler makes the sum of one gradient but once."""
        add, lowering, norm = self.graph.add, self.lowering, self.norms[op.name]
        direct = add([dy, norm.factor])
        weighed = add([dy, norm.x])
        if dy not in self.sums:
            self.sums[dy] = add([dy])
        minus = add([self.sums[dy]])
        both = add([add([weighed]), add([minus, norm.reshaped])])
        tile = add([add([minus, norm.factor])])
        root = add([both, norm.gamma]) if norm.gamma is not None else both
        second = add([add([add([norm.inverse, root])])])
        inner = add([add([second]), add([norm.x, norm.mean], [second])])
        self.given[op.name] = self.first[op.name] = [direct, weighed, self.sums[dy]]
        for name, variable in lowering.variables[op.weights].items():
            if variable in lowering.trainable:
                part = self.sums[dy] if name == "beta" else add([both, norm.inverse])
                self.of_variable.setdefault(variable, []).append(add([part]))
        for name in op.inputs:
            if name in lowering.wanted:
                made = add([direct, inner, add([tile])])
                self.gradients.setdefault(name, []).append(made)

    def loss(self, name: str) -> int:
        """The loss of an output, and its gradient, which reads the logits if the loss does."""
        add = self.graph.add
        made = {op.output(0): op for op in self.net.ops}
        op = made.get(name)
        if op is not None and self.lowering.takes_logits(op):
            name = op.inputs[0]
        labels, output = add(), self.values[name]
        if name in self.lowering.wanted:
            self.gradients.setdefault(name, []).append(add([output, labels]))
        return add([output, labels])

    def gathered(self, op: Op) -> int | None:
        """The gradient of an operator's output; None if it has none."""
        count = len(self.net.results[op.name])
        parts = [g for i in range(count) for g in self.gradients.pop(op.output(i), [])]
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else self.graph.add(parts)

    def backward(self, op: Op) -> None:
        """An operator's gradients."""
        dy = self.gathered(op)
        if dy is None:
            return
        if self.composed(op):
            self.normalized_back(op, dy)
            return
        kind, lowering = op.operator.type, self.lowering
        owned = lowering.variables.get(op.weights, {})
        if kind in CONVOLUTIONS or kind in ("conv_transpose", "dense"):
            self.product(op, dy, owned.get("kernel"))
        else:
            needed = [name for name in op.inputs if name in lowering.wanted]
            for name in needed:
                given = dy if kind == "add" else self.plain(op, dy)
                self.given.setdefault(op.name, []).append(given)
                self.gradients.setdefault(name, []).append(given)
        for name, variable in owned.items():
            if variable in lowering.trainable and name != "kernel":
                x = [] if name in ("bias", "beta") else [self.values[op.inputs[0]]]
                given = self.graph.add([dy, *x])
                self.given.setdefault(op.name, []).append(given)
                self.of_variable.setdefault(variable, []).append(given)
                if name == "bias" and op.name in self.products:
                    self.products[op.name]["bias"] = given

    def plain(self, op: Op, dy: int) -> int:
        """The gradient of an operator's input, made of the output's and of what it keeps."""
        function = getattr(op.operator, "function", op.operator.type)
        if function in KEEPS_OUTPUT:
            return self.graph.add([dy, self.values[op.name]])
        kept = [self.values[name] for name in op.inputs]
        if op.operator.type == "max_pool":
            return self.graph.add([*kept, self.values[op.name], dy])
        return self.graph.add([dy] if op.operator.type in KEEPS_NOTHING else [dy, *kept])

    def product(self, op: Op, dy: int, kernel: Value | None) -> None:
        """Kernel's and input's gradient; a convolution's read shapes, constants that wait for the
        tensors whose shapes they are."""
        if kernel is None:
            return
        add, x, read = self.graph.add, self.values[op.inputs[0]], self.variables[kernel]
        kind, parts = op.operator.type, self.products.setdefault(op.name, {})
        if kind in CONVOLUTIONS and turned(op, self.net):
            dy = parts["images"] = add([dy])
        if op.inputs[0] in self.lowering.wanted:
            if kind in CONVOLUTIONS:
                shape = add((), [x, read] if kind == "conv" else [x])
                parts["input"] = add([shape, read, dy])
            else:
                parts["input"] = add([dy, read])
            self.gradients.setdefault(op.inputs[0], []).append(parts["input"])
        if kernel in self.lowering.trainable:
            if kind == "dense":
                parts["kernel"] = add([x, dy])
            elif kind == "conv_transpose":
                parts["kernel"] = add([dy, add((), [read]), x])
            else:
                shape = add((), [x, read] if kind == "conv" else [read])
                parts["kernel"] = add([x, shape, dy])
            self.of_variable.setdefault(kernel, []).append(parts["kernel"])
        self.given.setdefault(op.name, []).extend(parts.values())

    def update(self) -> None:
        """The optimizer's assignments, numbered in the order of the trained variables."""
        scope, families = OPTIMIZERS.get(self.lowering.job.optimizer, ("", ()))
        trained = [v for v in self.variables if v in self.lowering.trainable]
        for number, variable in enumerate(trained):
            parts = self.of_variable.get(variable, [])
            last = self.graph.add([self.variables[variable], *parts])
            for family in families:
                for place in range(family.count):
                    name = f"{scope}/{numbered(family.name, number * family.count + place)}"
                    if family.name == COUNT:
                        name = f"{name}/{READ}"
                    ends = family.last and place == family.count - 1
                    self.states[name] = last if ends else None
                    if ends:
                        self.kept.add(name)

    def keras(self) -> None:
        """What the train step itself reads and assigns."""
        for name in STEP:
            self.states[f"{name}/{READ}"] = None
        for number in range(STEP_SETS):
            self.states[numbered(SET, number)] = None
        self.kept.add(numbered(SET, STEP_SETS - 1))

    def ends(self) -> Iterator[int]:
        """What the step's result waits for, in the order in which grappler leaves it.

        It begins with all states, sorted.  The dependency optimizer removes those that others wait
        for too, from the last to the first, each time putting the list's last into the gap.
        """
        names = sorted(self.states)
        left = without(names, set(names) - self.kept - LATE)
        # The operation that waited for all this was one of the result's own inputs.
        left = without(left[-1:] + left[:-1], LATE)
        for name in left:
            node = self.states[name]
            if node is not None:
                yield node


def without(names: Sequence[str], gone: set[str] | frozenset[str]) -> list[str]:
    """A list from which some are removed, the last put into each gap."""
    left = list(names)
    for place in range(len(left) - 1, -1, -1):
        if left[place] in gone:
            left[place] = left[-1]
            left.pop()
    return left
