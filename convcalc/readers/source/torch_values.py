"""Values of PyTorch code: tensors that record what they went through, parameters, modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from convcalc.errors import ModelError
from convcalc.network import Op, infer
from convcalc.ops import activation as act
from convcalc.ops.base import Operator
from convcalc.readers.source import plain
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

if TYPE_CHECKING:
    from convcalc.readers.source.interpreter import Run
    from convcalc.readers.source.torch_code import TorchWorld

#: What every module has and nothing here depends on.
METHODS_IGNORED = frozenset(
    {
        "modules", "named_modules", "state_dict", "load_state_dict", "zero_grad", "buffers",
        "register_forward_hook", "requires_grad_", "share_memory", "_modules", "device", "dtype",
        "init_weights", "_init_weights", "initialize_weights", "reset_parameters", "log",
        "save_hyperparameters", "weight", "bias", "compile", "__name__",
    }
)  # fmt: skip


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

    def set_item(self, key: Any, value: Any) -> None:
        names = list(self.members)
        self.put(key if isinstance(key, str) else names[key], value)

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
