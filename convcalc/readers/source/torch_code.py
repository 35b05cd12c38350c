"""PyTorch code: modules, and tensors that record which operators they went through.

`forward` is followed with a symbolic tensor of one sample in PyTorch's order (batch, channels,
space); each call of a module, function or method adds the operators that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network, Op, infer
from convcalc.ops import activation as act
from convcalc.ops import convolution as conv
from convcalc.ops import linear, merge, opaque, pooling, recurrent
from convcalc.ops import normalization as norm
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator, suggestion
from convcalc.readers.source import plain
from convcalc.readers.source import torch_names as names
from convcalc.readers.source.interpreter import Run
from convcalc.readers.source.keras_code import bound_names
from convcalc.readers.source.values import (
    Base,
    Bound,
    Function,
    Ignored,
    Instance,
    Method,
    Thing,
)
from convcalc.tensors import TensorSpec


class Trace:
    """The operators that tensors went through, with their shapes."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.names: set[str] = set()
        self.counts: dict[str, int] = {}
        self.known: dict[str, TensorSpec] = {}
        self.constants: dict[int, Tensor] = {}
        """Parameters and foreign tensors by their id, and `kept`, so that the ids stay theirs."""
        self.kept: list[Any] = []

    def unique(self, name: str) -> str:
        number = self.counts.get(name, 0) + 1
        self.counts[name] = number
        found = f"{name}#{number}" if number > 1 else name
        while found in self.names:
            found += "'"
        self.names.add(found)
        return found

    def add(self, operator: Operator, inputs: Sequence[str], op: Op) -> list[TensorSpec]:
        """Add an op; the specs of its outputs."""
        results = infer([op], {name: self.known[name] for name in inputs})[1][op.name]
        self.ops.append(op)
        for index, spec in enumerate(results):
            self.known[op.output(index)] = spec
        return list(results)


class Tensor(Thing):
    """A symbolic tensor."""

    what = "a tensor"

    def __init__(self, world: TorchWorld, trace: Trace, name: str) -> None:
        self.world = world
        self.trace = trace
        self.name = name

    @property
    def spec(self) -> TensorSpec:
        return self.trace.known[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.spec.known:
            raise ModelError(f"the shape of what '{self.name}' gives is not known")
        return self.spec.dims

    def attribute(self, name: str, run: Run) -> Any:
        if name == "shape":
            return self.shape
        if name == "ndim":
            return len(self.shape)
        if name == "T":
            return self.world.method(self, "t", run).call([], {}, run)
        if name in ("device", "dtype", "data", "is_cuda", "grad", "backward", "requires_grad"):
            return self if name == "data" else Ignored(name)
        return self.world.method(self, name, run)

    def assign(self, name: str, value: Any) -> None:
        """requires_grad: nothing of the network."""

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        pair = (other, self) if swapped else (self, other)
        return self.world.binary(symbol, *pair)

    def unary(self, symbol: str, run: Run) -> Any:
        if symbol != "-":
            return super().unary(symbol, run)
        return self.world.emit(act.Function("negative"), [self], "neg")

    def item(self, key: Any, run: Run) -> Any:
        return self.world.sliced(self, key)

    def values(self, run: Run) -> Sequence[Any]:
        raise ModelError("looping over a tensor is not supported")

    def truth(self) -> bool:
        raise ModelError("a condition depends on a tensor's values")


class Parameter(Thing):
    """An nn.Parameter or buffer of a module of the text."""

    what = "a parameter"

    def __init__(self, world: TorchWorld, shape: tuple[int, ...], trainable: bool) -> None:
        self.world = world
        self.shape = shape
        self.trainable = trainable

    def tensor(self) -> Tensor:
        return self.world.constant_tensor(self)

    def attribute(self, name: str, run: Run) -> Any:
        if name in ("data", "requires_grad"):
            return Ignored(name)
        if self.world.trace is None and name not in ("shape", "size", "ndim"):
            return Ignored(name)
        return self.tensor().attribute(name, run)

    def assign(self, name: str, value: Any) -> None:
        if name == "requires_grad":
            self.trainable = bool(value)

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        return self.tensor().binary(symbol, other, swapped, run)

    def unary(self, symbol: str, run: Run) -> Any:
        return self.tensor().unary(symbol, run)

    def item(self, key: Any, run: Run) -> Any:
        return self.tensor().item(key, run)


class Module(Thing):
    """A module of PyTorch's own."""

    def __init__(self, world: TorchWorld, type_: str, settings: dict[str, Any]) -> None:
        self.world = world
        self.type = type_
        self.settings = settings
        self.trainable = True
        self.called = False
        world.modules.append(self)

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"nn.{self.type}"

    def attribute(self, name: str, run: Run) -> Any:
        if name in self.settings:
            return self.settings[name]
        return module_attribute(self, name, run)

    def assign(self, name: str, value: Any) -> None:
        """Weights that are set are as many as before."""

    def children(self) -> Iterator[tuple[str, Any]]:
        yield from ()

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        return self.world.called(self, args, kwargs, run)

    def apply(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        layers = self.settings.get("num_layers")
        if type(layers) is int:
            run.step(20 * max(layers, 0))  # each is as much work as a module
        return self.world.leaf(self, args)


class Container(Module):
    """nn.Sequential, nn.ModuleList and nn.ModuleDict."""

    def __init__(self, world: TorchWorld, type_: str, members: dict[str, Any]) -> None:
        super().__init__(world, type_, {})
        self.members: dict[str, Any] = {}
        for name, member in members.items():
            self.put(name, member)

    def put(self, name: str, member: Any) -> None:
        if not is_module(member):
            if isinstance(member, Ignored):
                raise ModelError(f"{self.what} holds {member.what}, which this reader cannot read")
            raise ModelError(f"{self.what} takes modules, not {plain.shown(member)}")
        self.members[name] = member

    def children(self) -> Iterator[tuple[str, Any]]:
        yield from self.members.items()

    def attribute(self, name: str, run: Run) -> Any:
        if name in self.members:
            return self.members[name]
        if name == "append":
            return Method(name, lambda member: self.extend([member]))
        if name == "extend":
            return Method(name, lambda members: self.extend(run.values(members)))
        if name == "insert" and self.type == "ModuleList":
            return Method(name, self.insert)
        if name == "add_module":
            return Method(name, self.put)
        if self.type == "ModuleDict" and name in ("keys", "values", "items"):
            found = {"keys": list(self.members), "values": list(self.members.values()),
                     "items": list(self.members.items())}[name]  # fmt: skip
            return Method(name, lambda: found)
        return module_attribute(self, name, run)

    def extend(self, members: Sequence[Any]) -> Container:
        for member in members:
            self.put(str(len(self.members)), member)
        return self

    def insert(self, place: int, member: Any) -> None:
        rest = list(self.members.values())
        rest.insert(place, member)
        self.members = {str(i): m for i, m in enumerate(rest)}

    def assign(self, name: str, value: Any) -> None:
        if is_module(value):
            self.put(name, value)

    def item(self, key: Any, run: Run) -> Any:
        if isinstance(key, str):
            return self.members[key]
        found = list(self.members.values())[key]
        if isinstance(found, list):
            return Container(self.world, self.type, {str(i): m for i, m in enumerate(found)})
        return found

    def values(self, run: Run) -> Sequence[Any]:
        return list(self.members) if self.type == "ModuleDict" else list(self.members.values())

    def apply(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        if self.type != "Sequential":
            raise ModelError(f"{self.what} cannot be called; call its members")
        return in_a_row(self.members.values(), args, run)


def in_a_row(members: Any, args: list[Any], run: Run) -> Any:
    if len(args) != 1:
        raise ModelError(f"nn.Sequential takes one input, not {len(args)}")
    (value,) = args
    for member in list(members):
        run.step()
        value = member.call([value], {}, run)
    return value


class TorchBase(Base):
    """nn.Module and nn.Sequential, from which the text's classes inherit."""

    what = "nn.Module"

    def __init__(self, world: TorchWorld, sequential: bool) -> None:
        self.world = world
        self.sequential = sequential

    def start(self, instance: Instance, args: list[Any], kwargs: dict[str, Any], run: Run) -> None:
        if self.sequential:
            instance.attrs.update(members_of(args, run))

    def get(self, instance: Instance, name: str, run: Run) -> Any:
        if name == "training":
            return False
        if name == "add_module" or name == "register_module":
            return Method(name, instance.assign)
        if name in ("register_buffer", "register_parameter"):
            return Method(name, lambda key, value=None, **kwargs: self.buffer(
                instance, key, value, name == "register_parameter"))  # fmt: skip
        if name == "forward" and self.sequential:
            return Method(name, lambda x: in_a_row(modules_of(instance), [x], run))
        if name == "append" and self.sequential:
            return Method(name, lambda module: self.append(instance, module))
        if name in ("items", "keys", "values"):
            pairs = list(children(instance))
            found: dict[str, Any] = {
                "items": pairs,
                "keys": list(dict(pairs)),
                "values": list(dict(pairs).values()),
            }
            return Method(name, lambda: found[name])
        return module_attribute(instance, name, run)

    def append(self, instance: Instance, module: Any) -> Instance:
        instance.assign(str(len(list(modules_of(instance)))), module)
        return instance

    def buffer(self, instance: Instance, key: str, value: Any, trainable: bool) -> None:
        if isinstance(value, Tensor):
            value = Parameter(self.world, value.shape, trainable)
        instance.attrs[key] = value

    def run(self, instance: Instance, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        return self.world.called(instance, args, kwargs, run)

    def forward(self, instance: Instance, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        found = instance.cls.lookup("forward")
        if found is None:
            if self.sequential:
                return in_a_row(modules_of(instance), args, run)
            raise ModelError(f"class '{instance.cls.name}' has no 'forward' method")
        if not isinstance(found[0], Function):
            raise ModelError(f"'forward' of class '{instance.cls.name}' is no function")
        return Bound(found[0], instance, found[1]).call(args, kwargs, run)


def members_of(args: list[Any], run: Run) -> dict[str, Any]:
    """Members of an nn.Sequential by name, from modules or from one OrderedDict."""
    if len(args) == 1 and isinstance(args[0], dict):
        return {plain.as_text(key): value for key, value in args[0].items()}
    return {str(i): member for i, member in enumerate(args)}


def is_module(value: Any) -> bool:
    return isinstance(value, Module) or (
        isinstance(value, Instance) and isinstance(value.cls.framework, TorchBase)
    )


def modules_of(instance: Instance) -> Iterator[Any]:
    return (value for value in instance.attrs.values() if is_module(value))


def children(module: Any) -> Iterator[tuple[str, Any]]:
    """A module's own modules by name, in the order of their registration."""
    if isinstance(module, Module):
        yield from module.children()
    else:
        yield from ((n, v) for n, v in module.attrs.items() if is_module(v))


def walk(root: Any) -> Iterator[tuple[str, Any]]:
    """All modules under `root` with their paths, each once, as `named_modules()` gives them."""
    met: set[int] = set()
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        path, module = stack.pop()
        if id(module) in met:
            continue
        met.add(id(module))
        yield path, module
        below = [(f"{path}.{name}" if path else name, child) for name, child in children(module)]
        stack.extend(reversed(below))


class Weights(Thing):
    """What `parameters()` gives of one module: something that can be frozen."""

    what = "a parameter"

    def __init__(self, module: Any) -> None:
        self.module = module

    def attribute(self, name: str, run: Run) -> Any:
        return Ignored(name)

    def assign(self, name: str, value: Any) -> None:
        if name == "requires_grad" and type(value) is bool:
            self.module.trainable = value


def module_attribute(module: Any, name: str, run: Run) -> Any:
    """What every nn.Module has."""
    if name in ("to", "cuda", "cpu", "train", "eval", "float", "half", "double", "apply"):
        return Method(name, lambda *args, **kwargs: module)
    if name in ("children", "named_children"):
        pairs = list(children(module))
        found: list[Any] = pairs if name == "named_children" else [child for _, child in pairs]
        return Method(name, lambda: found)
    if name in ("parameters", "named_parameters"):
        leaves = [(p, m) for p, m in walk(module) if isinstance(m, Module)]
        run.step(len(leaves))
        handles: list[Any] = [
            (path, Weights(m)) if name == "named_parameters" else Weights(m) for path, m in leaves
        ]
        return Method(name, lambda *args, **kwargs: handles)
    if name == "forward" and isinstance(module, Module):
        return Method(name, lambda *args, **kwargs: module.call(list(args), kwargs, run))
    if name in METHODS_IGNORED or isinstance(module, Module):
        return Ignored(name)
    raise ModelError(f"{module.what} has no '{name}'")


ROOTS = (
    *("torch", "torchvision", "torchsummary", "torchinfo", "collections", "pytorch_lightning"),
    "lightning",
)

#: What the text's own modules inherit from; lists and mappings of modules hold them by name.
CLASSES = ("Module", "LightningModule", "ModuleDict", "ModuleList")

METHODS_IGNORED = frozenset(
    {
        "modules", "named_modules", "state_dict", "load_state_dict", "zero_grad", "buffers",
        "register_forward_hook", "requires_grad_", "share_memory", "_modules", "device", "dtype",
        "init_weights", "_init_weights", "initialize_weights", "reset_parameters", "log",
        "save_hyperparameters", "weight", "bias", "compile", "__name__",
    }
)  # fmt: skip


class TorchWorld:
    """Everything of PyTorch that one text has built."""

    def __init__(self) -> None:
        self.modules: list[Module] = []
        self.trace: Trace | None = None
        self.depth = 0
        self.paths: dict[int, str] = {}
        self.stack: list[str] = []
        self.label: tuple[str, str, bool] | None = None
        self.hints: list[tuple[Any, tuple[int, ...]]] = []
        self.results: dict[tuple[int, tuple[int, ...]], Any] = {}
        self.spare: set[str] = set()
        """Ops that are dropped again if nothing reads them."""
        self.plain_base = TorchBase(self, False)
        self.sequential_base = TorchBase(self, True)

    # What the interpreter asks

    def owns(self, path: str) -> bool:
        return path.partition(".")[0] in ROOTS

    def constant(self, path: str) -> Any:
        return NotImplemented

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, (Tensor, Parameter))

    def follows(self, value: Any) -> bool:
        # Outside of a module, tensors are trial inputs and losses.
        return self.depth > 0 and isinstance(value, (Tensor, Parameter))

    def base(self, path: str) -> Base | None:
        last = path.rpartition(".")[2]
        if last == "Sequential":
            return self.sequential_base
        return self.plain_base if last in CLASSES else None

    def call(self, path: str, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        parents, _, last = path.rpartition(".")
        if parents == "collections":
            return dict(run.values(args[0])) if args and last == "OrderedDict" else {}
        if last == "is_available":
            return False
        if last == "summary":
            return self.summary(args, kwargs)
        if last == "Parameter":
            return self.parameter(args, kwargs)
        in_nn = parents == "torch.nn" or parents.startswith("torch.nn.modules")
        if in_nn and last[:1].isupper():
            return self.module(last, args, kwargs, run)
        if parents == "torch" and last in names.MAKERS:
            return self.sample(args, kwargs)
        tensors = [a for a in [*args, *kwargs.values()] if run.is_tensor(a)]
        if not tensors:
            return Ignored(path)
        if parents == "torch.nn.functional" or (parents == "torch" and last in names.FUNCTIONAL):
            return self.functional(last, args, kwargs)
        if parents in ("torch", "torch.linalg", "torch.special"):
            return self.function(last, args, kwargs, run)
        if "loss" in last or parents.startswith("torch.optim"):
            return Ignored(path)
        raise ModelError(f"'{path}' of a tensor is not known to this reader")

    # Making modules

    def module(self, type_: str, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        if type_.endswith(names.LOSSES):
            return Ignored(f"nn.{type_}")
        if type_ == "Sequential":
            return Container(self, type_, members_of(args, run))
        if type_ in ("ModuleList", "ModuleDict"):
            given = args[0] if args else kwargs.get("modules", ())
            if isinstance(given, dict):
                return Container(self, type_, members_of([given], run))
            return Container(self, type_, {str(i): m for i, m in enumerate(run.values(given))})
        if type_ == "Identity":
            return Module(self, type_, {})
        signature = names.MODULES.get(type_)
        if signature is None:
            hint = suggestion(type_, names.MODULES)
            if hint:
                raise ModelError(f"nn.{type_} is not known to this reader{hint}")
            return Module(self, type_, {})
        return Module(self, type_, settings_of(type_, signature, args, kwargs))

    def parameter(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        value = args[0] if args else kwargs.get("data")
        trainable = kwargs.get("requires_grad", True) is not False
        if isinstance(value, (Tensor, Parameter)):
            return Parameter(self, value.shape, trainable)
        raise ModelError("nn.Parameter takes a tensor of a known size (torch.zeros(...))")

    def sample(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A tensor that the text makes itself: a trial input or a constant."""
        size = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        size = kwargs.get("size", size)
        if not size or not all(type(n) is int and n > 0 for n in size):
            return Ignored("torch.randn")
        trace = Trace()
        trace.known["sample"] = TensorSpec(tuple(size))
        trace.names.add("sample")
        return Tensor(self, trace, "sample")

    def summary(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """torchsummary's and torchinfo's summary(model, size) says what goes in."""
        size = kwargs.get("input_size", args[1] if len(args) > 1 else None)
        if args and is_module(args[0]) and isinstance(size, (tuple, list)):
            dims = tuple(n for n in size if type(n) is int)
            # torchinfo's sizes have the batch in front; pictures have three without.
            dims = dims[1:] if len(dims) in (2, 4, 5) else dims
            self.hints.append((args[0], dims))

    # Calling

    def called(self, module: Any, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        """A call of a module, from the text or from another module."""
        tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, Tensor)]
        everything = [*args, *kwargs.values()]
        followed = any(map(run.is_tensor, everything))
        if not followed and any(isinstance(value, Ignored) for value in everything):
            return Ignored("a model's output")
        if self.depth or self.trace is not None:
            return self.inner(module, args, kwargs, run)
        if not tensors:
            return Ignored("a model's output")
        first = tensors[0]
        if first.name == "sample":
            self.hints.append((module, first.shape[1:]))
        key = (id(module), first.shape)
        if len(everything) == 1 and key in self.results:
            return self.results[key]
        self.trace = first.trace
        try:
            found = self.inner(module, args, kwargs, run)
        finally:
            self.trace = None
        if len(everything) == 1:
            self.results[key] = found
        return found

    def inner(self, module: Any, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        if isinstance(module, Module):
            module.called = True
        run.step(20)  # as much work as so many expressions
        self.stack.append(self.paths.get(id(module), ""))
        self.depth += 1
        try:
            if isinstance(module, Module):
                return module.apply(args, kwargs, run)
            base = module.cls.framework
            assert isinstance(base, TorchBase)
            return base.forward(module, args, kwargs, run)
        finally:
            self.depth -= 1
            self.stack.pop()

    def emit(
        self, operator: Operator, inputs: Sequence[Any], label: str, suffix: str = ""
    ) -> Tensor:
        """Add an op; the tensor of its first output."""
        return self.emit_all(operator, inputs, label, suffix)[0]

    def emit_all(
        self, operator: Operator, inputs: Sequence[Any], label: str, suffix: str = ""
    ) -> list[Tensor]:
        trace = self.trace or next(t.trace for t in inputs if isinstance(t, Tensor))
        sources = [self.within(value, trace).name for value in inputs]
        if self.label is not None:
            layer, type_, trainable = self.label
        else:
            path = self.stack[-1] if self.stack else ""
            layer, type_, trainable = (f"{path}.{label}" if path else label), label, True
        name = trace.unique(f"{layer}/{suffix}" if suffix else layer)
        shared = self.label is not None
        weights = (f"{layer}/{suffix}" if suffix else layer) if shared else name
        op = Op(
            name, operator, tuple(sources), layer if shared else name, type_, weights, trainable
        )
        count = len(trace.add(operator, sources, op))
        return [Tensor(self, trace, op.output(i)) for i in range(count)]

    def within(self, value: Any, trace: Trace) -> Tensor:
        """A tensor in a trace; parameters and tensors from elsewhere become constants there."""
        if isinstance(value, Tensor) and value.trace is trace:
            return value
        if not isinstance(value, (Tensor, Parameter)):
            raise ModelError(f"{value.what if isinstance(value, Thing) else plain.shown(value)} "
                             "is no tensor of the network")  # fmt: skip
        if id(value) not in trace.constants:
            stored = isinstance(value, Parameter)
            path = self.paths.get(id(value), "") or ("parameter" if stored else "constant")
            name = trace.unique(path)
            trainable = isinstance(value, Parameter) and value.trainable
            operator = opaque.Constant(tuple(value.shape), stored=stored, trainable=trainable)
            op = Op(
                name, operator, (), name, "Parameter" if stored else "constant", name, trainable
            )
            trace.add(operator, (), op)
            trace.constants[id(value)] = Tensor(self, trace, name)
            trace.kept.append(value)
        return trace.constants[id(value)]

    def constant_tensor(self, parameter: Parameter) -> Tensor:
        return self.within(parameter, self.trace or Trace())

    def leaf(self, module: Module, args: list[Any]) -> Any:
        """A call of one of PyTorch's own modules."""
        path = self.paths.get(id(module)) or module.type.lower()
        # PyTorch's lazy modules become the plain ones with their first input.
        outer, self.label = self.label, (path, module.type.removeprefix("Lazy"), module.trainable)
        try:
            return self.apply(module.type, module.settings, args)
        finally:
            self.label = outer

    def apply(self, type_: str, settings: dict[str, Any], args: list[Any]) -> Any:
        if not args:
            raise ModelError(f"{type_} is called on nothing")
        if not isinstance(args[0], Tensor):
            x = self.within(args[0], self.trace or Trace())
        else:
            x = args[0]
        rule = RULES.get(type_)
        if rule is None:
            return self.emit(opaque.Opaque(type_), [x], type_.lower())
        return rule(Call(self, type_, settings, x, args))

    def functional(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function of torch.nn.functional."""
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        x = args[0] if args else kwargs.pop("input", None)
        rest = args[1:]
        if name in names.FUNCTIONAL:
            type_ = names.FUNCTIONAL[name]
            if name.startswith("dropout"):
                rest, kwargs = rest[:1], {}
            if name in ("softmax", "log_softmax"):
                kwargs = {}
            if name in ("relu", "leaky_relu", "gelu"):
                rest = rest[:1]
            if name == "interpolate":
                kwargs = {k: v for k, v in kwargs.items() if k in ("size", "scale_factor", "mode")}
            settings = settings_of(type_, names.MODULES[type_], rest, kwargs)
            outer, self.label = self.label, None
            try:
                return Functional(self, name).run(type_, settings, x)
            finally:
                self.label = outer
        if name == "pad":
            given = bound_names(rest, kwargs, "pad mode value")
            return padded(Call(self, name, {}, self.tensor(x), [x]), given["pad"])
        if name == "normalize":
            given = bound_names(rest, kwargs, "p dim eps")
            return self.emit(norm.UnitNorm(given.get("dim", 1)), [self.tensor(x)], name)
        if name == "scaled_dot_product_attention":
            q, k, v = args[:3]
            scores = self.emit(linear.MatMul(transpose_b=True), [q, k], name, "scores")
            soft = self.emit(act.Activation("softmax"), [scores], name, "softmax")
            return self.emit(linear.MatMul(), [soft, v], name)
        if "loss" in name or name in ("cross_entropy", "mse_loss", "one_hot"):
            return Ignored(name)
        raise ModelError(
            f"F.{name} is not known to this reader{suggestion(name, names.FUNCTIONAL)}"
        )

    def tensor(self, value: Any) -> Tensor:
        if isinstance(value, Parameter):
            return value.tensor()
        if not isinstance(value, Tensor):
            raise ModelError(f"{plain.shown(value)} is no tensor of the network")
        return value

    def function(self, name: str, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        """A function of torch."""
        if name in ("cat", "concat", "concatenate", "stack", "hstack"):
            given = bound_names(args, kwargs, "tensors dim")
            axis = given.get("dim", given.get("axis", 0 if name != "hstack" else 1))
            tensors = list(run.values(given["tensors"]))
            if name == "stack":
                tensors = [self.emit(shapes.ExpandDims(axis), [t], "unsqueeze") for t in tensors]
            return self.emit(merge.Concat(axis), tensors, "cat" if name != "stack" else name)
        if not args and "input" in kwargs:
            args = [kwargs.pop("input")]
        if not args or not isinstance(args[0], (Tensor, Parameter)):
            raise ModelError(f"torch.{name} is called on no tensor")
        return self.method(self.tensor(args[0]), name, run).call(args[1:], kwargs, run)

    def method(self, x: Tensor, name: str, run: Run) -> Thing:
        """A method of a tensor."""
        if name in names.SAME:
            return Method(name, lambda *args, **kwargs: x)
        base = name.rstrip("_")
        if base in names.MERGES:
            return Method(name, lambda other, **kwargs: self.binary(names.MERGES[base], x, other))
        if base in names.ELEMENTWISE:
            return Method(name, lambda *a, **k: self.emit(act.Function(base), [x], base))
        if base in names.FUNCTIONAL:
            return Method(name, lambda *a, **k: self.functional(base, [x, *a], k))
        if base in TENSOR_METHODS:
            rule = TENSOR_METHODS[base]
            return Method(name, lambda *a, **k: rule(self, x, *a, **k))
        if base in ("item", "numpy", "tolist", "backward", "size_average", "argmax", "data_ptr"):
            return Ignored(name)
        raise ModelError(
            f"'{name}' of a tensor is not known to this reader{suggestion(name, TENSOR_METHODS)}"
        )

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        label = OPERATORS.get(symbol)
        if label is None:
            raise ModelError(f"'{symbol}' of tensors is not supported")
        if isinstance(left, Ignored) or isinstance(right, Ignored):
            other = left if isinstance(left, Ignored) else right
            if self.depth == 0:
                return other
            raise ModelError(f"'{symbol}' with {other.what}, which this reader does not follow")
        operators: dict[str, Operator] = {
            "+": merge.Add(),
            "-": merge.Subtract(),
            "*": merge.Multiply(),
            "/": merge.Divide(),
            "**": merge.Power(),
            "@": linear.MatMul(),
        }
        tensors = [t for t in (left, right) if isinstance(t, (Tensor, Parameter))]
        trace = next((t.trace for t in tensors if isinstance(t, Tensor)), None) or self.trace
        if trace is None:
            return Ignored("parameters")
        if len(tensors) == 1:
            return self.emit(act.Function(label), tensors, label)
        return self.emit(operators[symbol], tensors, label)

    def sliced(self, x: Tensor, key: Any) -> Any:
        """``x[...]`` with whole numbers, slices, None and ``...``."""
        keys = list(key) if isinstance(key, tuple) else [key]
        dims = x.shape
        real = sum(1 for part in keys if part is not None and part is not ...)
        if ... in keys:
            at = keys.index(...)
            keys[at : at + 1] = [slice(None)] * (len(dims) - real)
        axis = 0
        gone: list[int] = []
        added: list[int] = []
        for part in keys:
            if part is None:
                added.append(axis - len(gone) + len(added))
                continue
            if axis >= len(dims):
                raise ModelError(f"{len(keys)} indices for a tensor of {len(dims)} axes")
            if isinstance(part, slice):
                span = range(*part.indices(dims[axis]))
            elif type(part) is int and -dims[axis] <= part < dims[axis]:
                span = range(part % dims[axis], part % dims[axis] + 1)
                gone.append(axis)
            else:
                raise ModelError(f"the index {plain.shown(part)} is not supported")
            if span != range(dims[axis]):
                operator = shapes.Slice(axis, len(span), span.start, span.step)
                x = self.emit(operator, [x], "getitem")
            axis += 1
        if gone:
            x = self.emit(shapes.Squeeze(tuple(gone)), [x], "getitem")
        for place in added:
            x = self.emit(shapes.ExpandDims(place), [x], "unsqueeze")
        return x

    # What comes out

    def network(self, root: Any, name: str, size: tuple[int, ...] | None, run: Run) -> Network:
        """The network of the module that was chosen."""
        dims = self.input_size(root, size)
        self.paths = {id(module): path for path, module in walk(root)}
        for path, module in list(walk(root)):
            if isinstance(module, Instance):
                self.paths |= {
                    id(value): f"{path}.{key}" if path else key
                    for key, value in module.attrs.items()
                    if isinstance(value, Parameter)
                }
        trace = self.trace = Trace()
        trace.known["input"] = spec = TensorSpec((1, *dims))
        trace.names.add("input")
        try:
            found = root.call([Tensor(self, trace, "input")], {}, run)
        finally:
            self.trace = None
        outputs = list(dict.fromkeys(tensor.name for tensor in tensors_in(found)))
        if not outputs:
            raise ModelError("the model's forward gives no tensor of the network")
        if not trace.ops:
            raise ModelError("the model has no layers")
        read = {source for op in trace.ops for source in op.inputs} | set(outputs)
        ops = tuple(op for op in trace.ops if op.name in read or op.name not in self.spare)
        return Network(name, ops, {"input": spec}, tuple(outputs), "channels_first")

    def input_size(self, root: Any, size: tuple[int, ...] | None) -> tuple[int, ...]:
        """Channels, then space, of the model's input."""
        if size is not None:
            return (size[-1], *size[:-1])
        hints = [dims for module, dims in self.hints if module is root]
        if not hints:
            raise ModelError(
                "PyTorch code does not say how large the input is; give --input HxWxC "
                "(input= in Python), e.g. 224x224x3"
            )
        return hints[-1]

    def roots(self, instances: Sequence[Instance]) -> tuple[list[Any], list[Any]]:
        """Modules that are part of no other: models, and single modules of PyTorch's own."""
        made = [*self.modules] + [i for i in instances if is_module(i)]
        inner = {id(child) for module in made for _, child in children(module)}
        held = {
            id(value)
            for module in instances
            for attr in module.attrs.values()
            if isinstance(attr, (list, tuple))
            for value in attr
        }
        free = [m for m in made if id(m) not in inner and id(m) not in held]
        whole = [m for m in free if isinstance(m, (Instance, Container))]
        return whole, [m for m in free if not isinstance(m, (Instance, Container))]


def tensors_in(found: Any) -> Iterator[Tensor]:
    return plain.walk(found, Tensor)


def settings_of(
    type_: str, signature: str, args: list[Any], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """A module's settings by name.

    Raises:
        ModelError: one is unknown, missing, or not known.
    """
    positions, defaults = names.parameters(signature)
    kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "dtype")}
    given = bound_names(args, kwargs, " ".join(positions))
    for key, value in given.items():
        if key not in positions:
            raise ModelError(f"{type_} has no argument '{key}'{suggestion(key, positions)}")
        if isinstance(value, Thing):
            raise ModelError(
                f"{key} of {type_} depends on {value.what}, which is not run; "
                "write the number itself"
            )
    settings = {**defaults, **given}
    missing = [name for name in positions if name not in settings]
    if missing:
        raise ModelError(f"{type_} needs '{missing[0]}'")
    return settings


class Functional:
    """A call of a function that does what a module does."""

    def __init__(self, world: TorchWorld, name: str) -> None:
        self.world = world
        self.name = name

    def run(self, type_: str, settings: dict[str, Any], x: Any) -> Any:
        return RULES[type_](Call(self.world, type_, settings, self.world.tensor(x), [x], self.name))


class Call:
    """One call of a module: what its rule sees."""

    def __init__(
        self,
        world: TorchWorld,
        type_: str,
        settings: dict[str, Any],
        x: Tensor,
        args: list[Any],
        label: str = "",
    ) -> None:
        self.world = world
        self.type = type_
        self.settings = settings
        self.x = x
        self.args = args
        self.label = label or type_.lower()

    def get(self, name: str) -> Any:
        value = self.settings[name]
        return tuple(value) if isinstance(value, list) else value

    def emit(self, operator: Operator, inputs: Sequence[Any] = (), suffix: str = "") -> Tensor:
        return self.world.emit(operator, inputs or [self.x], self.label, suffix)

    def expect(self, name: str, axis: int) -> None:
        """Compare the size that the module was made for with the input's."""
        wanted = self.settings.get(name)
        if wanted is None or not self.x.spec.known:
            return
        dims = self.x.shape
        if len(dims) < 2 or dims[axis] != wanted:
            got = dims[axis] if len(dims) >= 2 else "no such axis"
            raise ModelError(
                f"{self.type} has {name}={wanted}, but its input {self.x.spec} has {got}"
            )

    def rank(self) -> int:
        """Spatial axes, by the module's name; the input must have as many.

        Raises:
            ModelError: it has another number of axes.
        """
        rank = int(self.type[-2])
        if self.x.spec.known and len(self.x.shape) != rank + 2:
            raise ModelError(
                f"{self.type} takes inputs of {rank + 2} axes (batch, channels and {rank} more), "
                f"not {self.x.spec}"
            )
        return rank


Rule = Callable[[Call], Any]


def convolution(c: Call) -> Any:
    c.rank()
    c.expect("in_channels", 1)
    return c.emit(
        conv.Conv(
            filters=c.get("out_channels"),
            kernel=c.get("kernel_size"),
            stride=c.get("stride"),
            padding=c.get("padding"),
            dilation=c.get("dilation"),
            groups=c.get("groups"),
            bias=c.get("bias"),
            channels_first=True,
        )
    )


def transposed(c: Call) -> Any:
    c.rank()
    c.expect("in_channels", 1)
    return c.emit(
        conv.ConvTranspose(
            filters=c.get("out_channels"),
            kernel=c.get("kernel_size"),
            stride=c.get("stride"),
            padding=c.get("padding"),
            dilation=c.get("dilation"),
            groups=c.get("groups"),
            bias=c.get("bias"),
            output_padding=c.get("output_padding"),
            channels_first=True,
        )
    )


def dense(c: Call) -> Any:
    c.expect("in_features", -1)
    return c.emit(linear.Dense(c.get("out_features"), c.get("bias")))


def batch_norm(c: Call) -> Any:
    c.expect("num_features", 1)
    affine = c.get("affine")
    return c.emit(norm.BatchNorm(1, affine, affine, c.get("track_running_stats")))


def instance_norm(c: Call) -> Any:
    c.expect("num_features", 1)
    return c.emit(norm.GroupNorm(-1, 1, c.get("affine"), c.get("affine")))


def group_norm(c: Call) -> Any:
    c.expect("num_channels", 1)
    return c.emit(norm.GroupNorm(c.get("num_groups"), 1, c.get("affine"), c.get("affine")))


def layer_norm(c: Call) -> Any:
    shape = c.get("normalized_shape")
    shape = shape if isinstance(shape, tuple) else (shape,)
    if c.x.shape[-len(shape) :] != shape:
        raise ModelError(f"{c.type} is made for {shape}, but its input is {c.x.spec}")
    axes = tuple(range(-len(shape), 0))
    scale = c.get("elementwise_affine")
    if c.type == "RMSNorm":
        return c.emit(norm.RMSNorm(axes, scale))
    return c.emit(norm.LayerNorm(axes, scale, scale and c.get("bias")))


def max_pool(c: Call) -> Any:
    c.rank()
    if c.get("return_indices"):
        raise ModelError(f"{c.type} with return_indices=True is not supported")
    return c.emit(
        pooling.MaxPool(
            kernel=c.get("kernel_size"),
            stride=c.get("stride"),
            padding=c.get("padding"),
            dilation=c.get("dilation"),
            ceil_mode=c.get("ceil_mode"),
            channels_first=True,
        )
    )


def average_pool(c: Call) -> Any:
    c.rank()
    return c.emit(
        pooling.AveragePool(
            kernel=c.get("kernel_size"),
            stride=c.get("stride"),
            padding=c.get("padding"),
            ceil_mode=c.get("ceil_mode"),
            count_include_pad=c.get("count_include_pad"),
            channels_first=True,
        )
    )


def lp_pool(c: Call) -> Any:
    c.rank()
    return c.emit(
        pooling.LpPool(
            kernel=c.get("kernel_size"),
            stride=c.get("stride"),
            p=c.get("norm_type"),
            ceil_mode=c.get("ceil_mode"),
            channels_first=True,
        )
    )


def adaptive_pool(kind: str) -> Rule:
    def rule(c: Call) -> Any:
        c.rank()
        return c.emit(pooling.AdaptivePool(c.get("output_size"), kind, True))

    return rule


def activation(c: Call) -> Any:
    return c.emit(act.Activation(names.ACTIVATIONS[c.type]))


def prelu(c: Call) -> Any:
    return c.emit(act.PRelu(slopes=(c.get("num_parameters"),)))


def glu(c: Call) -> Any:
    """The first half of an axis, gated by the second."""
    axis, dims = c.get("dim"), c.x.shape
    if dims[axis] % 2:
        raise ModelError(f"GLU halves axis {axis}, which has {dims[axis]}")
    halves = shapes.Split((dims[axis] // 2,) * 2, axis)
    a, b = c.world.emit_all(halves, [c.x], c.label, "split")
    return c.emit(merge.Multiply(), [a, c.emit(act.Activation("sigmoid"), [b], "sigmoid")])


def dropout(c: Call) -> Any:
    return c.emit(act.Dropout(c.get("p")))


def flatten(c: Call) -> Any:
    return flat(c.world, c.x, c.get("start_dim"), c.get("end_dim"))


def flat(world: TorchWorld, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    dims = x.shape
    start, end = start_dim % len(dims), end_dim % len(dims)
    if start == 1 and end == len(dims) - 1:
        return world.emit(shapes.Flatten(), [x], "flatten")
    target = (*dims[:start], math.prod(dims[start : end + 1]), *dims[end + 1 :])
    return world.emit(shapes.Reshape(target, whole=True), [x], "flatten")


def unflatten(c: Call) -> Any:
    dims, axis, sizes = c.x.shape, c.get("dim"), c.get("unflattened_size")
    axis %= len(dims)
    return c.emit(shapes.Reshape((*dims[:axis], *sizes, *dims[axis + 1 :]), whole=True))


def upsample(c: Call) -> Any:
    size, factor = c.get("size"), c.get("scale_factor")
    fixed = {"UpsamplingBilinear2d": "bilinear", "UpsamplingNearest2d": "nearest"}
    mode: str = fixed[c.type] if c.type in fixed else c.get("mode")
    rank = len(c.x.shape) - 2
    if size is not None:
        return c.emit(shapes.Resize(size, mode, True))
    factors = factor if isinstance(factor, tuple) else (factor,) * rank
    if not all(type(f) in (int, float) for f in factors):
        raise ModelError(f"{c.type} needs a size or a scale_factor")
    if all(f == int(f) and f >= 1 for f in factors):
        return c.emit(shapes.Upsample(tuple(int(f) for f in factors), mode, True))
    sizes = tuple(math.floor(n * f) for n, f in zip(c.x.shape[2:], factors, strict=True))
    return c.emit(shapes.Resize(sizes, mode, True))


def padding(c: Call) -> Any:
    rank, amount = c.rank(), c.get("padding")
    return padded(c, amount if isinstance(amount, tuple) else (amount,) * (2 * rank))


def padded(c: Call, amount: Any) -> Any:
    """Pads given in pairs from the last axis backwards, as torch.nn.functional.pad takes them."""
    numbers = list(amount)
    dims = c.x.shape
    if len(numbers) % 2 or len(numbers) > 2 * len(dims) or any(type(n) is not int for n in numbers):
        raise ModelError(f"the padding {plain.shown(amount)} is not supported")
    pairs = [(0, 0)] * len(dims)
    for i in range(len(numbers) // 2):
        pairs[-1 - i] = (numbers[2 * i], numbers[2 * i + 1])
    if pairs[0] != (0, 0) or any(n < 0 for pair in pairs for n in pair):
        raise ModelError(f"the padding {plain.shown(amount)} is not supported")
    if pairs[1] == (0, 0):
        return c.emit(shapes.Pad(tuple(pairs[2:]), True))
    if pairs[-1] != (0, 0):
        raise ModelError("padding of channels and of the last axis at once is not supported")
    # Padding has no channels of its own: the axes between the first and the last are padded.
    return c.emit(shapes.Pad(tuple(pairs[1:-1]), False))


def embedding(c: Call) -> Any:
    return c.emit(linear.Embedding(c.get("num_embeddings"), c.get("embedding_dim")))


def attention(c: Call) -> Any:
    heads, width = c.get("num_heads"), c.get("embed_dim")
    if not c.get("batch_first") or width % heads or len(c.x.shape) != 3:
        return (c.emit(opaque.Opaque(c.type, (c.x.shape[1:],))), Ignored("attention weights"))
    query, key, value = (*c.args, c.args[0], c.args[0])[:3]
    operator = linear.Attention(heads, width // heads, bias=c.get("bias"), output_dim=width)
    return (c.emit(operator, [query, value, key]), Ignored("attention weights"))


def recurrence(c: Call) -> Any:
    """One op for each layer and direction; first states are zero or do not matter."""
    cell = {"LSTM": "lstm", "GRU": "gru", "RNN": "simple"}[c.type]
    units, layers, bias = c.get("hidden_size"), c.get("num_layers"), c.get("bias")
    directions = ("", "_reverse") if c.get("bidirectional") else ("",)
    if type(layers) is not int or layers < 1:
        raise ModelError(f"num_layers of {c.type} is a positive integer, not {plain.shown(layers)}")
    if len(c.x.shape) != 3:
        raise ModelError(f"{c.type} takes inputs of 3 axes (batch, time, features), not {c.x.spec}")
    c.expect("input_size", 2)
    if c.settings.get("proj_size"):
        raise ModelError(f"{c.type} with proj_size is not supported")
    x = c.x if c.get("batch_first") else c.emit(shapes.Permute((1, 0, 2)), [c.x], "permute")
    batch, steps, _ = x.shape
    backward = shapes.Slice(1, steps, steps - 1, -1)
    for layer in range(layers):
        found = []
        for direction in directions:
            suffix = f"l{layer}{direction}"
            source = c.emit(backward, [x], f"{suffix}/turn") if direction else x
            operator = recurrent.Recurrent(cell, units, sequences=True, bias=bias, second_bias=bias)
            made = c.emit(operator, [source], suffix)
            found.append(c.emit(backward, [made], f"{suffix}/back") if direction else made)
        x = c.emit(merge.Concat(-1), found, f"l{layer}/concat") if len(found) > 1 else made
        if c.get("dropout") and layer < layers - 1:
            x = c.emit(act.Dropout(c.get("dropout")), [x], f"l{layer}/dropout")
    # (layers and directions, batch, units); dropped again if nothing reads them.
    last = shapes.Gather((layers * len(directions), batch, units), 1)
    states = tuple(c.emit(last, [x], f"state_{i}") for i in range(recurrent.STATES[cell]))
    c.world.spare.update(state.name for state in states)
    if not c.get("batch_first"):
        x = c.emit(shapes.Permute((1, 0, 2)), [x], "permute_back")
    return (x, states if cell == "lstm" else states[0])


RULES: dict[str, Rule] = {
    **{f"{lazy}Conv{r}d": convolution for lazy in ("", "Lazy") for r in (1, 2, 3)},
    **{f"{lazy}ConvTranspose{r}d": transposed for lazy in ("", "Lazy") for r in (1, 2, 3)},
    "Linear": dense,
    "LazyLinear": dense,
    **{f"{lazy}BatchNorm{r}d": batch_norm for lazy in ("", "Lazy") for r in (1, 2, 3)},
    "SyncBatchNorm": batch_norm,
    **{f"InstanceNorm{r}d": instance_norm for r in (1, 2, 3)},
    "GroupNorm": group_norm,
    "LayerNorm": layer_norm,
    "RMSNorm": layer_norm,
    "LocalResponseNorm": lambda c: c.emit(act.Function("local_response_norm")),
    **{f"MaxPool{r}d": max_pool for r in (1, 2, 3)},
    **{f"AvgPool{r}d": average_pool for r in (1, 2, 3)},
    **{f"LPPool{r}d": lp_pool for r in (1, 2, 3)},
    **{f"AdaptiveAvgPool{r}d": adaptive_pool("average") for r in (1, 2, 3)},
    **{f"AdaptiveMaxPool{r}d": adaptive_pool("max") for r in (1, 2, 3)},
    **dict.fromkeys(names.ACTIVATIONS, activation),
    "PReLU": prelu,
    "GLU": glu,
    **{f"Dropout{r}": dropout for r in ("", "1d", "2d", "3d")},
    "AlphaDropout": dropout,
    "Identity": lambda c: c.emit(act.Identity()),
    "Flatten": flatten,
    "Unflatten": unflatten,
    "Upsample": upsample,
    "UpsamplingNearest2d": upsample,
    "UpsamplingBilinear2d": upsample,
    "PixelShuffle": lambda c: c.emit(shapes.DepthToSpace(c.get("upscale_factor"), True)),
    "PixelUnshuffle": lambda c: c.emit(shapes.SpaceToDepth(c.get("downscale_factor"), True)),
    "ChannelShuffle": lambda c: c.emit(shapes.ChannelShuffle(c.get("groups"), True)),
    **{
        f"{kind}Pad{r}d": padding
        for kind in ("Zero", "Reflection", "Replication", "Constant")
        for r in (1, 2, 3)
    },
    "Embedding": embedding,
    "MultiheadAttention": attention,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrence),
}


# Methods of tensors


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

#: Operators of Python -> what PyTorch calls them.
OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "**": "pow", "@": "matmul"}
