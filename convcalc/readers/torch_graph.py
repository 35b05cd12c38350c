"""An exported PyTorch graph as a `Network`: names, variables, constants, what flows where.

What each ATen operator means stands in `torch_aten`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convcalc.errors import ModelError, ShapeError
from convcalc.network import Network, Op, infer
from convcalc.ops.base import Operator
from convcalc.ops.opaque import Constant, Opaque
from convcalc.ops.shape import Gather, Reshape
from convcalc.readers import custom
from convcalc.readers.torch import STOCHASTIC_DEPTH
from convcalc.tensors import DTYPE_BYTES, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node


class Unsupported(Exception):
    """A use of an ATen operator that ours have no form for: it becomes opaque."""


class Ref(str):
    """The name of a tensor that an op of ours makes."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer, until it is known whose it is."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    stored: bool
    """Whether it is a floating variable of the model's state."""
    trainable: bool
    parameter: bool


@dataclass(frozen=True, slots=True)
class Folded:
    """A tensor that follows from the code alone (a mask, a grid): a constant once it is read."""

    shape: tuple[int, ...]
    dtype: str
    name: str


@dataclass(slots=True)
class Call:
    """One node of the graph: what its rule sees."""

    builder: Builder
    node: Node
    base: str
    """The operator without overload and in-place mark: "conv2d"."""
    layer: str
    layer_type: str
    args: dict[str, Any]
    """Arguments by the names of the operator's schema; tensors as `Ref`, `Weight` or `Folded`."""
    made: list[Op] = field(default_factory=list)

    def __getitem__(self, key: str) -> Any:
        return self.args[key]

    def get(self, key: str, default: Any = None) -> Any:
        value = self.args.get(key)
        return default if value is None else value

    @property
    def x(self) -> Ref:
        """The first argument, whatever the operator calls it."""
        return self.ref(next(iter(self.args)))

    def ref(self, key: str) -> Ref:
        """An argument as a tensor that an op makes."""
        return self.builder.tensor(self.args[key], self)

    def refs(self, key: str) -> list[Ref]:
        return [self.builder.tensor(value, self) for value in self.args[key]]

    def spec(self, ref: Ref) -> TensorSpec:
        return self.builder.specs[ref]

    def dims(self, ref: Ref) -> tuple[int, ...]:
        return self.builder.specs[ref].dims

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes that PyTorch says come out."""
        return [shape for shape, _ in described(self.node, self.builder.floating)]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[0]

    @property
    def dtype(self) -> str:
        return described(self.node, self.builder.floating)[0][1]

    def emit(
        self,
        operator: Operator,
        inputs: Sequence[Ref],
        weights: str = "",
        trainable: bool = True,
    ) -> Ref:
        """Add an op; the name of its first output.

        Raises:
            ShapeError: it cannot take its inputs.
        """
        return self.builder.emit(
            operator, inputs, self.layer, self.layer_type, weights, trainable, self.made
        )

    def claim(self, *values: Any) -> tuple[str, bool] | None:
        """Make these variables an op's own: its weights key and whether they are trained.

        None if they cannot be: computed, used by an op of another kind, frozen only in part.
        """
        return self.builder.claim([value for value in values if value is not None])

    def gather(self, inputs: Sequence[Ref], shape: Sequence[int], dtype: str | None = None) -> Ref:
        """Elements of the inputs at other places."""
        source = next((s for s in map(self.spec, inputs) if s.batch_axis is not None), None)
        axis = None if source is None else batch_axis(source, shape)
        return self.emit(Gather(tuple(shape), axis, dtype or self.dtype), inputs)


class Builder:
    """Walks an exported program and collects ops."""

    def __init__(
        self,
        module: torch.nn.Module,
        program: torch.export.ExportedProgram,
        inputs: dict[str, TensorSpec],
        label: str,
    ) -> None:
        self.program = program
        self.label = label
        self.inputs = inputs
        self.ops: list[Op] = []
        self.names: set[str] = set(inputs)
        self.specs: dict[str, TensorSpec] = dict(inputs)
        self.claimed: dict[str, str] = {}
        self.constants: dict[Any, Ref] = {}
        self.views: dict[Node, Node] = {}
        self.classes = {path: type(part).__name__ for path, part in module.named_modules()}
        variables = [*module.named_parameters(), *module.named_buffers()]
        dtypes = [tensor.dtype for _, tensor in variables if tensor.is_floating_point()]
        self.floating = str(dtypes[0]).removeprefix("torch.") if dtypes else "float32"
        kept = {key for path, part in module.named_modules() for key in persistent(path, part)}
        self.variables = {key: self.weight(key, tensor, key in kept) for key, tensor in variables}
        #: Variables that have several names go by the first.
        first = {id(tensor): key for key, tensor in variables}
        self.known_as = {
            key: first[id(tensor)]
            for key, tensor in (
                *module.named_parameters(remove_duplicate=False),
                *module.named_buffers(remove_duplicate=False),
            )
        }
        #: Modules in which other modules are called; what they do themselves is a layer each.
        self.containers: set[str] = set()
        for node in nodes(program.graph_module):
            self.containers.update(path for path, _ in stack(node)[:-1])

    def network(self) -> Network:
        """The network of the whole program.

        Raises:
            ModelError: no tensor comes out.
        """
        from torch.export.graph_signature import InputKind

        signature = self.program.graph_signature
        users = iter(self.inputs)
        sources: list[Any] = []
        found = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        for node, entry in zip(found, signature.input_specs, strict=True):
            if entry.kind == InputKind.USER_INPUT:
                name = next(users, None)
                sources.append(None if name is None else Ref(name))
            elif entry.target in self.known_as:
                sources.append(self.variables[self.known_as[entry.target]])
            else:
                shape, dtype = described(node, self.floating)[0]
                sources.append(Folded(shape, dtype, str(entry.target)))
        results = self.walk(self.program.graph_module, sources)
        outputs: list[Ref] = []
        for entry, value in zip(signature.output_specs, results, strict=True):
            if entry.kind.name == "USER_OUTPUT" and isinstance(value, (Ref, Weight, Folded)):
                outputs.append(self.tensor(value))
        if not outputs:
            raise ModelError(f"'{self.label}' gives no tensor")
        self.leftovers()
        return Network(
            self.label,
            tuple(self.ops),
            self.inputs,
            tuple(dict.fromkeys(outputs)),
            layout="channels_first",
        )

    def weight(self, key: str, tensor: torch.Tensor, kept: bool) -> Weight:
        """A variable; integers (batch norm's count of batches) are no floating state."""
        from torch.nn import Parameter

        parameter = isinstance(tensor, Parameter)
        return Weight(
            key,
            tuple(tensor.shape),
            element_type(tensor.dtype, self.floating),
            (parameter or kept) and (tensor.is_floating_point() or tensor.is_complex()),
            tensor.requires_grad,
            parameter,
        )

    def walk(self, module: GraphModule, sources: Sequence[Any]) -> list[Any]:
        """Add the ops of a graph called on `sources`; its outputs."""
        env: dict[Node, Any] = {}
        given = iter(sources)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(given, None)
            elif node.op == "get_attr":
                env[node] = self.attribute(module, node)
            elif node.op == "call_function":
                env[node] = self.call(node, env)
        (result,) = (node.args[0] for node in module.graph.nodes if node.op == "output")
        found = lookup(result, env)
        return found if isinstance(found, list) else [found]

    def attribute(self, module: GraphModule, node: Node) -> Any:
        """A module to be called, or a tensor kept in the graph."""
        import torch

        found = module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        if isinstance(found, torch.Tensor):
            dtype = element_type(found.dtype, self.floating)
            return Folded(tuple(found.shape), dtype, str(node.target))
        return found

    def call(self, node: Node, env: dict[Node, Any]) -> Any:
        """What a call makes: one value, or a list of them."""
        from convcalc.readers.torch_aten import RULES

        if node.target.__class__.__name__ == "builtin_function_or_method":
            value, index = lookup(node.args, env)
            source = node.args[0]
            if source in self.views:
                self.views[node] = self.views[source]
            return value[index] if isinstance(value, (list, tuple)) else None
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return self.inline(node, env)
        base, layer, layer_type = self.place(node)
        call = Call(self, node, base, layer, layer_type, arguments(node, schema, env))
        tensors = list(flat(call.args.values()))
        results = described(node, self.floating)
        if not results:
            return None
        first = tensors[0] if tensors else None
        if first is None or base.startswith("new_") or all(isinstance(t, Folded) for t in tensors):
            found: Any = [Folded(shape, dtype, node.name) for shape, dtype in results]
            made = found if listed(node) else found[0]
        elif describe := custom.find(schema.name, base):
            made = self.described(call, describe, results)
        else:
            made = self.apply(call, RULES.get(base), results)
        self.follow(node, schema, made, env)
        return made

    def apply(self, call: Call, rule: Any, results: Sequence[tuple[tuple[int, ...], str]]) -> Any:
        """What the rule makes, if it agrees with what PyTorch says; an opaque op otherwise."""
        marks = len(self.ops), set(self.names), dict(self.claimed), dict(self.constants)
        try:
            if rule is None:
                raise Unsupported
            made = rule(call)
            found = list(made) if isinstance(made, (list, tuple)) else [made]
            for value, (shape, _) in zip(found, results, strict=False):
                if isinstance(value, Ref) and self.specs[value].shape != shape:
                    raise Unsupported
            return made if listed(call.node) or not isinstance(made, (list, tuple)) else made[0]
        except (Unsupported, ShapeError, LookupError, TypeError, ValueError, AttributeError):
            # Arguments come and go with PyTorch's versions: an op not understood is opaque.
            del self.ops[marks[0] :]
            _, self.names, self.claimed, self.constants = marks
            return self.unknown(call, results)

    def described(
        self,
        call: Call,
        describe: custom.Describe,
        results: Sequence[tuple[tuple[int, ...], str]],
    ) -> Any:
        """What the user says an operator is made of; its variables are the description's.

        Raises:
            ModelError: the description fails, or makes other shapes than PyTorch does.
        """
        values = list(flat(call.args.values()))
        for value in values:
            if isinstance(value, Weight):
                self.claimed.setdefault(value.key, call.layer)
        sources = [self.tensor(v, call) for v in values if not isinstance(v, Weight)]
        name = self.unique(call.layer)
        whole = Op(name, Opaque(call.base), tuple(sources), call.layer, call.layer_type)
        config = {key: value for key, value in call.args.items() if not list(flat([value]))}
        ops = custom.described(describe, config, whole, [self.specs[ref] for ref in sources])
        tensors, made, _ = infer(ops, {ref: self.specs[ref] for ref in sources})
        for spec, (shape, _) in zip(made[name], results, strict=False):
            if spec.shape != shape:
                wanted = "x".join(map(str, shape))
                raise ModelError(
                    f"the description of '{call.layer}' ({call.base}) makes {spec}, where PyTorch "
                    f"makes {wanted}; channels come second there: channels_first: true"
                )
        self.ops.extend(ops)
        self.specs.update(tensors)
        self.names.update(op.name for op in ops)
        outputs = [Ref(whole.output(i)) for i in range(len(made[name]))]
        return outputs if listed(call.node) else outputs[0]

    def unknown(self, call: Call, results: Sequence[tuple[tuple[int, ...], str]]) -> Any:
        """An op without a rule; its variables become constants, so that they are counted."""
        values = list(flat(call.args.values()))
        inputs = [self.tensor(value, call) for value in values]
        inputs.sort(key=lambda ref: self.specs[ref].batch_axis != 0)
        lead = self.specs[inputs[0]].dims[:1]
        target = str(call.node.target).removesuffix(".default")
        if lead and all(shape[:1] == lead for shape, _ in results):
            operator = Opaque(target, tuple(shape[1:] for shape, _ in results))
        else:
            operator = Opaque(target, tuple(shape for shape, _ in results), whole=True)
        first = call.emit(operator, inputs)
        outputs = [first, *(Ref(f"{first}:{i}") for i in range(1, len(results)))]
        return outputs if listed(call.node) else first

    def inline(self, node: Node, env: dict[Node, Any]) -> Any:
        """A block under `no_grad` or autocast, which export keeps as a graph of its own."""
        import torch

        values = lookup(node.args, env)
        for position, value in enumerate(values):
            if isinstance(value, torch.fx.GraphModule):
                return self.walk(value, values[position + 1 :])
        raise ModelError(f"'{self.label}' uses {node.target}, which cannot be read")

    def follow(self, node: Node, schema: Any, made: Any, env: dict[Node, Any]) -> None:
        """Keep track of views: what is written into one is written into what it looks at."""
        alias = next((a.alias_info for a in schema.arguments[:1] if a.alias_info), None)
        source = node.args[0] if node.args else None
        if alias is None or not hasattr(source, "meta"):
            return
        if not alias.is_write:
            self.views[node] = self.views.get(source, source)
            return
        root = self.views.get(source)
        if root is None or isinstance(made, (Folded, list, tuple)) or made is None:
            return
        self.views[node] = root
        _, layer, layer_type = self.place(node)
        shape, dtype = described(root, self.floating)[0]
        before = self.tensor(env[root])
        spec = self.specs[before]
        axis = spec.batch_axis if spec.batch_axis is not None else self.specs[made].batch_axis
        operator = Gather(shape, axis, dtype)
        env[root] = self.emit(operator, [before, made], layer, layer_type)

    def emit(
        self,
        operator: Operator,
        inputs: Sequence[Ref],
        layer: str,
        layer_type: str,
        weights: str = "",
        trainable: bool = True,
        made: list[Op] | None = None,
    ) -> Ref:
        """Add an op of a layer; the name of its first output."""
        name = self.unique(layer)
        op = Op(name, operator, tuple(inputs), layer, layer_type, weights, trainable)
        outputs = operator.outputs(*(self.specs[ref] for ref in inputs))
        for index, spec in enumerate(outputs):
            self.specs[op.output(index)] = spec
        self.ops.append(op)
        if made is not None:
            made.append(op)
        return Ref(name)

    def unique(self, name: str) -> str:
        """`name`, or with a number if it is taken."""
        found, number = name, 2
        while found in self.names:
            found, number = f"{name}#{number}", number + 1
        self.names.add(found)
        return found

    def place(self, node: Node) -> tuple[str, str, str]:
        """(operator, layer, type of the layer) of a node.

        A module that calls no other is a layer; what a container computes itself is one each.
        """
        target = getattr(node.target, "_schema", None)
        base = str(target.name if target else node.name).rpartition("::")[2].rstrip("_")
        path, kind = (stack(node) or [("", "")])[-1]
        if path not in self.containers and (path or kind):
            return base, path or kind.lower(), self.classes.get(path, kind)
        name = f"{path}.{base}" if path else base
        # Each functional call is a layer: only names that no op has can be its own.
        return base, self.fresh(name), base

    def fresh(self, name: str) -> str:
        found, number = name, 2
        while found in self.names:
            found, number = f"{name}#{number}", number + 1
        return found

    def tensor(self, value: Any, call: Call | None = None) -> Ref:
        """A value as a tensor that an op makes: constants and variables get one when first read.

        Raises:
            Unsupported: it is no tensor.
        """
        if isinstance(value, Ref):
            return value
        if isinstance(value, Folded):
            if value not in self.constants:
                layer = call.layer if call else value.name
                kind = call.layer_type if call else "constant"
                constant = Constant(value.shape, dtype=value.dtype)
                self.constants[value] = self.emit(constant, [], layer, kind)
            return self.constants[value]
        if isinstance(value, Weight):
            if value.key not in self.constants:
                self.constants[value.key] = self.variable(value, call)
            return self.constants[value.key]
        raise Unsupported

    def variable(self, value: Weight, call: Call | None) -> Ref:
        """A parameter or buffer that is read as data; counted here if no op owns it."""
        stored = value.stored and value.key not in self.claimed
        if stored:
            self.claimed[value.key] = value.key
        operator = Constant(value.shape, stored, value.trainable, value.dtype)
        owner = value.key.rpartition(".")[0]
        if call is not None and owner == call.layer:
            return self.emit(operator, [], owner, call.layer_type, value.key + "/value")
        return self.emit(operator, [], value.key, "Parameter", value.key + "/value")

    def claim(self, values: Sequence[Any]) -> tuple[str, bool] | None:
        """See `Call.claim`."""
        if not values or not all(isinstance(v, Weight) and v.stored for v in values):
            return None
        key = values[0].key
        owners = {self.claimed.get(v.key) for v in values}
        if owners not in ({None}, {key}) or any(v.key in self.constants for v in values):
            return None
        if owners == {key} and [k for k, o in self.claimed.items() if o == key] != [
            v.key for v in values
        ]:
            return None
        trained = {v.trainable for v in values if v.parameter}
        if len(trained) == 2:
            return None
        for value in values:
            self.claimed[value.key] = key
        return key, trained == {True}

    def leftovers(self) -> None:
        """Variables that nothing reads, each a layer: they are stored, so they count."""
        for key, value in self.variables.items():
            if value.stored and key not in self.claimed:
                self.claimed[key] = key
                operator = Constant(value.shape, True, value.trainable, value.dtype)
                self.emit(operator, [], key, "Unused", key + "/value")


def persistent(path: str, part: torch.nn.Module) -> Iterator[str]:
    """The buffers of a module that belong to its state."""
    for key in part._buffers:
        if key not in part._non_persistent_buffers_set:
            yield f"{path}.{key}" if path else key


def nodes(module: GraphModule) -> Iterator[Node]:
    """All nodes, those of blocks within blocks too."""
    import torch

    yield from module.graph.nodes
    for child in module.children():
        if isinstance(child, torch.fx.GraphModule):
            yield from nodes(child)


def stack(node: Node) -> list[tuple[str, str]]:
    """(path, class) of the modules in whose calls a node was made, outermost first."""
    found = []
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        name = kind if isinstance(kind, str) else kind.__qualname__
        found.append((path, name.rpartition(".")[2]))
    return found


def element_type(dtype: torch.dtype, floating: str) -> str:
    """A PyTorch element type by our names; the model's own floating type is "float"."""
    name = str(dtype).removeprefix("torch.")
    if name == floating:
        return "float"
    return name if name in DTYPE_BYTES else "float"


def described(node: Node, floating: str) -> list[tuple[tuple[int, ...], str]]:
    """(shape, element type) of each tensor that a node makes.

    Raises:
        ModelError: a size is known only when the network runs.
    """
    value = node.meta.get("val")
    found = []
    for v in value if isinstance(value, (list, tuple)) else [value]:
        if hasattr(v, "shape"):
            shape = tuple(v.shape)
            if not all(isinstance(n, int) for n in shape):
                raise ModelError(f"{node.target} makes a tensor whose size depends on the data")
            found.append((shape, element_type(v.dtype, floating)))
    return found


def listed(node: Node) -> bool:
    """Whether a node makes a list of tensors."""
    return isinstance(node.meta.get("val"), (list, tuple))


def lookup(value: Any, env: dict[Node, Any]) -> Any:
    """Arguments with their nodes replaced by what these made."""
    if isinstance(value, (list, tuple)):
        return [lookup(item, env) for item in value]
    return env[value] if hasattr(value, "meta") and hasattr(value, "op") else value


def arguments(node: Node, schema: Any, env: dict[Node, Any]) -> dict[str, Any]:
    """A call's arguments by their names, defaults included."""
    found: dict[str, Any] = {}
    for position, argument in enumerate(schema.arguments):
        if position < len(node.args):
            value = node.args[position]
        elif argument.name in node.kwargs:
            value = node.kwargs[argument.name]
        else:
            value = argument.default_value
        found[argument.name] = lookup(value, env)
    return found


def flat(values: Any) -> Iterator[Any]:
    """The tensors among values and lists of values."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flat(value)
        elif isinstance(value, (Ref, Weight, Folded)):
            yield value


def batch_axis(source: TensorSpec, shape: Sequence[int]) -> int | None:
    """Where the batch of a rearranged tensor is: where it was, or where as much is in front."""
    axis = source.batch_axis
    if not shape or axis is None:
        return None
    if len(shape) == len(source.dims):
        return axis
    found = Reshape.batch_axis(source, list(shape))
    return found if found is not None and found < len(shape) else 0


def drops_samples(call: Call) -> bool:
    """Whether a dropout stands for stochastic depth."""
    return call.layer_type in STOCHASTIC_DEPTH
