"""PyTorch code: modules, and tensors that record which operators they went through.

`forward` is followed with a symbolic tensor of one sample in PyTorch's order (batch, channels,
space); each call of a module, function or method adds the operators that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.ops import activation as act
from convcalc.ops import linear, merge, opaque
from convcalc.ops import normalization as norm
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator, suggestion
from convcalc.readers.source import plain
from convcalc.readers.source import torch_names as names
from convcalc.readers.source.interpreter import Run
from convcalc.readers.source.torch_methods import TENSOR_METHODS
from convcalc.readers.source.torch_rules import RULES, Call, padded, settings_of
from convcalc.readers.source.torch_values import (
    Container,
    Module,
    Parameter,
    Tensor,
    TorchBase,
    Trace,
    children,
    is_module,
    members_of,
    walk,
)
from convcalc.readers.source.values import (
    Base,
    Ignored,
    Instance,
    Method,
    Thing,
)
from convcalc.tensors import TensorSpec

ROOTS = frozenset(
    {
        "collections", "lightning", "pytorch_lightning", "torch", "torchinfo", "torchsummary",
        "torchvision",
    }
)  # fmt: skip

#: What the text's own modules inherit from; lists and mappings of modules hold them by name.
CLASSES = ("Module", "LightningModule", "ModuleDict", "ModuleList")

#: Operators of Python -> what PyTorch calls them.
OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "**": "pow", "@": "matmul"}


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
                return RULES[type_](Call(self, type_, settings, self.tensor(x), [x], name))
            finally:
                self.label = outer
        if name == "pad":
            given = plain.bound_names(rest, kwargs, "pad mode value")
            return padded(Call(self, name, {}, self.tensor(x), [x]), given["pad"])
        if name == "normalize":
            given = plain.bound_names(rest, kwargs, "p dim eps")
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
            given = plain.bound_names(args, kwargs, "tensors dim")
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
