"""`Network`: a directed acyclic graph of operators, which readers make and analyses take.

A network is immutable and has been checked: its operators stand in an order in which each comes
after those it reads, and the spec of every tensor is known or known to be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from convcalc.arithmetic import INT64_MAX, holds_everywhere, is_array
from convcalc.errors import ModelError, ShapeError
from convcalc.ops import Operator, Param
from convcalc.tensors import TensorSpec

T = TypeVar("T")

LAYOUTS = ("channels_last", "channels_first")

#: More than any network has, fewer than would exhaust the machine.
MAX_OPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Op:
    """One use of an operator.

    Its first output is the tensor `name`; further ones are `name:1`, `name:2`, ...
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    layer: str = ""
    """The layer that it came from, with the path of nested models: "encoder/conv1"."""
    layer_type: str = ""
    """What the source calls that layer: "Conv2D"."""
    weights: str = ""
    """Ops with the same key share their variables, which are counted once."""
    trainable: bool = True
    """False freezes the op's variables."""
    dtypes: tuple[str, ...] = ()
    """Element types of its variables, in their order, where they are not the network's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", self.layer or self.name)
        object.__setattr__(self, "layer_type", self.layer_type or self.operator.type)
        object.__setattr__(self, "weights", self.weights or self.name)

    def output(self, index: int) -> str:
        """The name of the tensor that comes out at `index`."""
        return f"{self.name}:{index}" if index else self.name


@dataclass(frozen=True, slots=True)
class Network:
    """Operators, inputs and outputs; `tensors` and `params` follow from them.

    Raises:
        ModelError: a name is missing or used twice, there is a cycle, or an operator cannot take
            its inputs; the message names the op and what was expected.
    """

    name: str
    ops: tuple[Op, ...]
    inputs: Mapping[str, TensorSpec]
    outputs: tuple[str, ...]
    layout: str = "channels_last"
    """Where images have their channels; sizes are given as height, width, channels regardless."""
    tensors: Mapping[str, TensorSpec] = field(init=False, repr=False, compare=False)
    params: Mapping[str, tuple[Param, ...]] = field(init=False, repr=False, compare=False)
    """The variables behind each weights key."""
    results: Mapping[str, tuple[TensorSpec, ...]] = field(init=False, repr=False, compare=False)
    """All outputs of each op, by the op's name."""
    memo: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """What `once` has computed: a network never changes, so neither does what follows from it."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ModelError(f"layout '{self.layout}' is none of {', '.join(LAYOUTS)}")
        if not self.inputs:
            raise ModelError(f"network '{self.name}' has no input")
        if len(self.ops) > MAX_OPS:
            raise ModelError(f"network '{self.name}' has more than {MAX_OPS:,} ops")
        ops = in_order(self.ops, self.inputs)
        tensors, results, params = infer(ops, self.inputs)
        for name in self.outputs:
            if name not in tensors:
                raise ModelError(f"output '{name}' is made by no op")
        object.__setattr__(self, "ops", ops)
        object.__setattr__(self, "inputs", MappingProxyType(dict(self.inputs)))
        object.__setattr__(self, "tensors", MappingProxyType(tensors))
        object.__setattr__(self, "params", MappingProxyType(params))
        object.__setattr__(self, "results", MappingProxyType(results))

    @property
    def channels_first(self) -> bool:
        return self.layout == "channels_first"

    def with_inputs(self, inputs: Mapping[str, TensorSpec]) -> Network:
        """The same network on inputs of other sizes."""
        return Network(self.name, self.ops, inputs, self.outputs, self.layout)

    def specs(self, op: Op) -> tuple[list[TensorSpec], tuple[TensorSpec, ...]]:
        """What goes into an op and what comes out."""
        return [self.tensors[name] for name in op.inputs], self.results[op.name]

    def once(self, compute: Callable[[Network], T]) -> T:
        """``compute(self)``, computed at the first call only."""
        key = compute.__qualname__
        if key not in self.memo:
            self.memo[key] = compute(self)
        found: T = self.memo[key]
        return found


def in_order(ops: Sequence[Op], inputs: Iterable[str]) -> tuple[Op, ...]:
    """The ops so that each comes after those it reads; those in order already keep their order.

    Raises:
        ModelError: a name is used twice or unknown, or there is a cycle.
    """
    made: set[str] = set(inputs)
    names: set[str] = set(made)
    for op in ops:
        if op.name in names:
            raise ModelError(f"the name '{op.name}' is used twice")
        names.add(op.name)
    waiting: dict[str, list[int]] = {}
    missing = [0] * len(ops)
    ready: list[int] = []
    for index, op in enumerate(ops):
        sources = {name if name in names else name.rpartition(":")[0] for name in op.inputs}
        for source in sources:
            if source not in names:
                wanted = next(n for n in op.inputs if n not in names)
                raise ModelError(f"'{op.name}' reads '{wanted}', which nothing makes")
            if source not in made:
                waiting.setdefault(source, []).append(index)
                missing[index] += 1
        if not missing[index]:
            ready.append(index)
            made.add(op.name)
            # Whatever came before its source in the list is released here.
            ready.extend(release(op.name, waiting, missing, ops, made))
    if len(ready) != len(ops):
        stuck = next(op for index, op in enumerate(ops) if missing[index])
        raise ModelError(f"'{stuck.name}' is part of a cycle, or reads from one")
    return tuple(ops[index] for index in ready)


def release(
    name: str,
    waiting: dict[str, list[int]],
    missing: list[int],
    ops: Sequence[Op],
    made: set[str],
) -> list[int]:
    """The ops that can run once `name` is there, and those that then can."""
    freed: list[int] = []
    queue = [name]
    while queue:
        for index in waiting.pop(queue.pop(), ()):
            missing[index] -= 1
            if not missing[index]:
                freed.append(index)
                made.add(ops[index].name)
                queue.append(ops[index].name)
    return freed


def infer(
    ops: Iterable[Op], inputs: Mapping[str, TensorSpec]
) -> tuple[dict[str, TensorSpec], dict[str, tuple[TensorSpec, ...]], dict[str, tuple[Param, ...]]]:
    """Specs of all tensors, each op's outputs, variables of all weights; ops must be in order.

    Raises:
        ModelError: an operator cannot take its inputs.
    """
    tensors: dict[str, TensorSpec] = {}
    for name, spec in inputs.items():
        check_size(spec.shape, f"input '{name}'")
        tensors[name] = spec
    results: dict[str, tuple[TensorSpec, ...]] = {}
    params: dict[str, tuple[Param, ...]] = {}
    for op in ops:
        kind = op.operator
        try:
            specs = [tensors[name] for name in op.inputs]
        except KeyError as error:
            raise ModelError(f"'{op.name}' reads {error}, which nothing makes") from None
        least, most = kind.arity
        if len(specs) < least or (most is not None and len(specs) > most):
            wanted = f"{least}" if most == least else f"{least} or more"
            raise ModelError(f"'{op.name}' ({kind.type}) takes {wanted} inputs, not {len(specs)}")
        if not all(spec.known for spec in specs) and kind.type != "opaque":
            tensors[op.name] = TensorSpec(None)
            results[op.name] = (tensors[op.name],)
            continue
        try:
            outputs = kind.outputs(*specs)
            variables = kind.params(*specs)
            if op.dtypes:
                variables = retyped(variables, op.dtypes)
            for spec in outputs:
                check_size(spec.shape, "the output")
            for param in variables:
                check_size(param.shape, "its", param.name)
            known = params.setdefault(op.weights, variables)
            if known is not variables and not same(known, variables):
                raise ShapeError(f"it shares the weights of '{op.weights}', which differ in shape")
        except (ShapeError, OverflowError) as error:
            shapes = " and ".join(map(str, specs)) or "no input"
            raise ModelError(f"'{op.name}' ({op.layer_type}) on {shapes}: {error}") from None
        except (TypeError, AttributeError, IndexError, ZeroDivisionError, ValueError) as error:
            if any(map(has_arrays, specs)):
                raise
            raise ModelError(
                f"'{op.name}' ({op.layer_type}): an attribute has a value that it cannot have "
                f"({error})"
            ) from None
        results[op.name] = outputs
        for index, spec in enumerate(outputs):
            tensors[op.output(index)] = spec
    return tensors, results, params


def retyped(variables: Sequence[Param], dtypes: Sequence[str]) -> tuple[Param, ...]:
    """Variables with element types of their own.

    Raises:
        ShapeError: they are not as many.
    """
    if len(variables) != len(dtypes):
        raise ShapeError(f"{len(dtypes)} dtypes do not fit its {len(variables)} variables")
    pairs = zip(variables, dtypes, strict=True)
    return tuple(param._replace(dtype=dtype) for param, dtype in pairs)


def same(a: Sequence[Param], b: Sequence[Param]) -> bool:
    """Whether two ops' variables agree, in every configuration."""
    return len(a) == len(b) and all(
        p._replace(shape=()) == q._replace(shape=())
        and len(p.shape) == len(q.shape)
        and all(holds_everywhere(m == n) for m, n in zip(p.shape, q.shape, strict=True))
        for p, q in zip(a, b, strict=True)
    )


def has_arrays(spec: TensorSpec) -> bool:
    """Whether a spec stands for many configurations at once."""
    return spec.known and any(map(is_array, spec.dims))


def check_size(shape: tuple[Any, ...] | None, *what: str) -> None:
    """Refuse sizes that are no sizes, and tensors whose elements do not fit an int64.

    Raises:
        ModelError: a size is below 1 or no integer, or the tensor is too large.
    """
    if shape is None:
        return
    total = 1
    for size in shape:
        if type(size) is int and size >= 0:
            total *= size
        elif not is_array(size):
            raise ShapeError(f"{' '.join(what)} has the size {size!r}; sizes are positive integers")
    if 0 < total <= INT64_MAX:
        return
    if total:
        raise ShapeError(f"{' '.join(what)} has more than 2^63 - 1 elements")
    raise ShapeError(f"{' '.join(what)} {TensorSpec(shape)} is empty; sizes are positive integers")
