"""From the layers of a configuration to the ops of a network, in the order of the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network, Op, infer
from convcalc.ops import activation as act
from convcalc.ops import opaque
from convcalc.ops.base import Operator, frozen
from convcalc.readers import custom
from convcalc.readers.keras.arguments import (
    History,
    Ref,
    Tensor,
    arguments,
    leaves,
    resolved,
    tensors_in,
)
from convcalc.readers.keras.config import (
    Layer,
    data_formats,
    is_model,
    layer_entries,
    model_inputs,
    shape_spec,
)
from convcalc.readers.keras.text import MAX_DEPTH, short
from convcalc.readers.sizes import Input, by_name
from convcalc.tensors import TensorSpec

#: Calls of layers, those of nested models at each call: Keras' own networks have a few thousand.
MAX_CALLS = 100_000


@dataclass(slots=True)
class Call:
    """One call of a layer: what its function sees."""

    builder: Builder
    type: str
    path: str
    config: Mapping[str, Any]
    inputs: list[Ref]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    trainable: bool = True
    label: str = ""
    """The path, with the number of the call from the second on."""
    recorded: tuple[tuple[int, ...] | None, ...] = (None,)
    """Output shapes without the batch that the configuration wrote down."""
    depth: int = 0

    def emit(
        self, operator: Operator, inputs: Sequence[str] | None = None, suffix: str = ""
    ) -> Ref:
        """Add an op; the name of its first output."""
        builder = self.builder
        end = f"/{suffix}" if suffix else ""
        name = builder.unique(self.label + end)
        builder.ops.append(
            Op(
                name,
                operator,
                tuple(map(str, self.inputs if inputs is None else inputs)),
                self.path,
                self.type,
                self.path + end,
                self.trainable,
            )
        )
        return Ref(name)

    def get(self, key: str, default: Any = None) -> Any:
        """A setting, lists as tuples; `default` where it is missing or null."""
        value = self.config.get(key)
        if value is None:
            return default
        return frozen(value) if isinstance(value, list) else value

    def need(self, key: str) -> Any:
        """A setting that the layer cannot do without.

        Raises:
            ModelError: it is missing.
        """
        value = self.get(key)
        if value is None:
            raise ModelError(f"'{self.path}' ({self.type}) has no '{key}'")
        return value

    def whole(self, key: str) -> int:
        """A setting that must be an integer."""
        value = self.need(key)
        if type(value) is not int:
            raise ModelError(
                f"'{self.path}' ({self.type}): {key} must be an integer, got {short(value)}"
            )
        return value

    @property
    def first(self) -> bool:
        """Whether the channels come first."""
        return bool(self.config.get("data_format") == "channels_first")

    @property
    def padding(self) -> Any:
        value = self.get("padding", "valid")
        return value.lower() if isinstance(value, str) else value

    def dims(self, index: int = 0) -> tuple[Any, ...] | None:
        """The shape of an input, if it is known."""
        if len(self.inputs) <= index:
            raise ModelError(f"'{self.path}' ({self.type}) has no input {index}")
        return self.builder.spec(self.inputs[index]).shape

    def activated(self, tensor: Ref) -> list[Ref]:
        """The activation that the layer applies to its own result, as a second op."""
        value = self.config.get("activation")
        return [tensor if value is None or value == "linear" else activate(self, value, tensor)]

    def unknown(self, what: str = "", inputs: Sequence[str] | None = None) -> list[Ref]:
        """An op without a rule."""
        found = self.emit(opaque.Opaque(what or self.type, self.recorded), inputs)
        rest = [Ref(f"{found}:{i}") for i in range(1, len(self.recorded))]
        return [found, *rest]

    def described(self, describe: custom.Describe) -> list[Ref]:
        """The ops of a custom layer that the user has described."""
        builder = self.builder
        whole = Op(
            builder.unique(self.label),
            opaque.Opaque(self.type),
            tuple(map(str, self.inputs)),
            self.path,
            self.type,
            self.path,
            self.trainable,
        )
        specs = [builder.spec(name) for name in self.inputs]
        builder.ops.extend(custom.described(describe, self.config, whole, specs))
        builder.spec(whole.name)
        found = [Ref(whole.name)]
        while (name := f"{whole.name}:{len(found)}") in builder.known:
            found.append(Ref(name))
        return found


#: What a layer is made of: adds the ops of a call, gives its outputs.
Rule = Callable[[Call], list[Ref]]


def activate(c: Call, value: Any, tensor: Ref | None = None) -> Ref:
    """An activation given by name, or as the configuration of a layer or function."""
    inputs = c.inputs if tensor is None else [tensor]
    if isinstance(value, dict):
        kind, inner = value.get("class_name"), value.get("config")
        if isinstance(kind, str) and kind in c.builder.rules and isinstance(inner, dict):
            suffix = "" if tensor is None else kind.lower()
            called = Call(
                c.builder, c.type, c.path, inner, inputs, [inputs], {}, c.trainable,
                f"{c.label}/{suffix}" if suffix else c.label, depth=c.depth,
            )  # fmt: skip
            if c.depth > MAX_DEPTH:
                raise ModelError(f"'{c.path}': its activation is nested too deeply")
            return c.builder.rules[kind](called)[0]
        value = inner if isinstance(inner, str) else kind
    if not isinstance(value, str):
        raise ModelError(f"'{c.path}' ({c.type}): {short(value)} is no activation")
    suffix = "" if tensor is None else value
    if value in act.ACTIVATIONS:
        return c.emit(act.Activation(value), inputs, suffix)
    # Keras lets an activation be any function; that it keeps the shape is its contract.
    spec = c.builder.spec(inputs[0]) if inputs else TensorSpec(None)
    kept = spec.dims[1:] if spec.known else None
    return c.emit(opaque.Opaque(value, (kept,)), inputs, suffix)


class Builder:
    """Collects the ops of a model and of those nested in it."""

    def __init__(self) -> None:
        # The rules are written for `Call`, so they are imported after it.
        from convcalc.readers.keras.rules import LAYERS

        self.rules: Mapping[str, Rule] = LAYERS
        self.ops: list[Op] = []
        self.names: set[str] = set()
        self.last: dict[str, int] = {}
        """The number that a name was last given to be different."""
        self.steps = 0
        self.inputs: dict[str, TensorSpec] = {}
        self.calls: dict[str, int] = {}
        self.known: dict[str, TensorSpec] = {}
        self.seen = 0
        self.resized = False

    def unique(self, name: str) -> str:
        """`name`, or with a number if it is taken."""
        if name in self.names:
            number = self.last.get(name, 1) + 1
            while f"{name}#{number}" in self.names:
                number += 1
            self.last[name] = number
            name = f"{name}#{number}"
        self.names.add(name)
        return name

    def spec(self, tensor: str) -> TensorSpec:
        """The spec of a tensor that an op needs to be described; most do not."""
        if self.seen < len(self.ops):
            pending = self.ops[self.seen :]
            sources = {n: self.known[n] for op in pending for n in op.inputs if n in self.known}
            self.known |= infer(pending, sources)[0]
            self.seen = len(self.ops)
        return self.known[tensor]

    def read(self, top: Layer, name: str | None, given: Input) -> Network:
        """The network of the outermost configuration."""
        first = "channels_first" in data_formats(top)
        self.resized = given is not None
        if not is_model(top):
            top = Layer(
                "Sequential", {"layers": [{"class_name": top.type, "config": top.config}]}, top.name
            )
        found = list(model_inputs(top))
        sizes = by_name(given, [label for label, *_ in found], top.name)
        sources = []
        for label, shape, dtype in found:
            spec = shape_spec(shape, dtype, label, sizes.get(label), first)
            label = self.unique(label)
            self.inputs[label] = self.known[label] = spec
            sources.append(Ref(label))
        outputs = self.model(top, sources, "", True, 0)
        layout = "channels_first" if first else "channels_last"
        return Network(
            name or top.name,
            tuple(self.ops),
            self.inputs,
            tuple(dict.fromkeys(map(str, outputs))),
            layout,
        )

    def model(
        self, layer: Layer, sources: list[Ref], prefix: str, trainable: bool, depth: int
    ) -> list[Ref]:
        """Add the ops of a model called on `sources`; its outputs."""
        if depth > MAX_DEPTH:
            raise ModelError(
                f"models are nested more than {MAX_DEPTH} levels deep at '{layer.name}'"
            )
        trainable = trainable and layer.config.get("trainable", True) is not False
        entries = layer_entries(layer)
        if "input_layers" not in layer.config and "output_layers" not in layer.config:
            return self.sequence(layer, entries, sources, prefix, trainable, depth)
        return self.graph(layer, entries, sources, prefix, trainable, depth)

    def sequence(
        self,
        model: Layer,
        entries: list[Layer],
        sources: list[Ref],
        prefix: str,
        trainable: bool,
        depth: int,
    ) -> list[Ref]:
        """A Sequential model: each layer takes what the one before gives."""
        tensors = sources
        for layer in entries:
            if layer.type != "InputLayer":
                tensors = self.call(layer, tensors, (), {}, prefix, trainable, (None,), depth)
        return tensors

    def graph(
        self,
        model: Layer,
        entries: list[Layer],
        sources: list[Ref],
        prefix: str,
        trainable: bool,
        depth: int,
    ) -> list[Ref]:
        """A functional model: each call of a layer is made as soon as what it reads is there."""
        where = f"model '{prefix}{model.name}'"
        layers: dict[str, Layer] = {}
        for layer in entries:
            if layer.name in layers:
                raise ModelError(f"{where} has two layers called '{layer.name}'")
            layers[layer.name] = layer
        starts = list(leaves(model.config.get("input_layers"), where))
        if len(starts) != len(sources):
            raise ModelError(f"{where} has {len(starts)} inputs and is called on {len(sources)}")
        made: dict[History, Ref] = dict(zip(starts, sources, strict=True))
        ends = list(leaves(model.config.get("output_layers"), where))
        if not ends:
            raise ModelError(f"{where} has no output_layers")
        started = {start[0] for start in starts}
        shapes_seen: dict[History, tuple[int, ...] | None] = {}
        todo: list[tuple[Layer, int, list[Any], dict[str, Any], list[History]]] = []
        for layer in entries:
            if layer.name in started:
                continue
            for index, node in enumerate(layer.nodes):
                args, kwargs = arguments(node, f"'{prefix}{layer.name}'", shapes_seen)
                reads = [h for h in tensors_in([args, kwargs]) if isinstance(h, Tensor)]
                todo.append((layer, index, args, kwargs, [h.history for h in reads]))
        shift = shifts(layers, [h for *_, reads in todo for h in reads], ends)
        ends = [(n, max(i - shift.get((n, True), 0), 0), out) for n, i, out in ends]
        if shift:
            todo = [
                (a, b, c, d, [(n, i - shift.get((n, False), 0), out) for n, i, out in reads])
                for a, b, c, d, reads in todo
            ]
        # Whatever waits for a call stands under it; what waits for nothing runs in its turn.
        calls = {(layer.name, index) for layer, index, *_ in todo} | {s[:2] for s in starts}
        waiting: dict[tuple[str, int], list[int]] = {}
        missing: list[int] = []
        done = {start[:2] for start in starts}
        for number, (layer, _, _, _, reads_) in enumerate(todo):
            needs = {history[:2] for history in reads_}
            for need in needs:
                if need not in calls:
                    problem = (
                        f"call {need[1]} of '{need[0]}', which is not there"
                        if need[0] in layers
                        else f"'{need[0]}', which is no layer of it"
                    )
                    raise ModelError(f"'{prefix}{layer.name}' in {where} reads {problem}")
                if need not in done:
                    waiting.setdefault(need, []).append(number)
            missing.append(len(needs - done))
        finished = 0
        for start in range(len(todo)):
            # -1 marks a call that has been made already, as another's follower.
            queue = [start] if missing[start] == 0 else []
            while queue:
                number = queue.pop()
                missing[number] = -1
                finished += 1
                layer, index, args, kwargs, _ = todo[number]
                recorded = self.recorded(layer.name, index, shapes_seen)
                outputs = self.call(
                    layer,
                    None,
                    resolved(args, made, layer.name, shift),
                    resolved(kwargs, made, layer.name, shift),
                    prefix,
                    trainable,
                    recorded,
                    depth,
                )
                made |= {(layer.name, index, i): tensor for i, tensor in enumerate(outputs)}
                for follower in waiting.pop((layer.name, index), ()):
                    missing[follower] -= 1
                    if missing[follower] == 0 and follower < start:
                        queue.append(follower)
        if finished != len(todo):
            stuck = next(entry for entry, left in zip(todo, missing, strict=True) if left > 0)
            raise ModelError(f"'{prefix}{stuck[0].name}' in {where} is part of a cycle")
        results = []
        for end in ends:
            if end not in made:
                raise ModelError(f"{where} has no output {end[2]} of call {end[1]} of '{end[0]}'")
            results.append(made[end])
        return results

    def recorded(
        self, name: str, index: int, seen: Mapping[History, tuple[int, ...] | None]
    ) -> tuple[tuple[int, ...] | None, ...]:
        """The shapes that the readers of a call wrote down; they hold for the model's own size."""
        if self.resized or (name, index, 0) not in seen:
            return (None,)
        found: list[tuple[int, ...] | None] = []
        while (name, index, len(found)) in seen:
            found.append(seen[name, index, len(found)])
        return tuple(found)

    def call(
        self,
        layer: Layer,
        inputs: list[Ref] | None,
        args: Any,
        kwargs: Any,
        prefix: str,
        trainable: bool,
        recorded: tuple[tuple[int, ...] | None, ...],
        depth: int,
    ) -> list[Ref]:
        """Add the ops of one call of a layer."""
        # Models within models can be called so often that a short file has no end.
        self.steps += 1
        if self.steps > MAX_CALLS:
            raise ModelError(f"the model calls more than {MAX_CALLS:,} layers")
        if inputs is None:
            inputs = [ref for ref in tensors_in([args, kwargs]) if isinstance(ref, Ref)]
        path = prefix + layer.name
        if is_model(layer):
            return self.model(layer, inputs, f"{path}/", trainable, depth + 1)
        number = self.calls[path] = self.calls.get(path, 0) + 1
        call = Call(
            self,
            layer.type,
            path,
            layer.config,
            inputs,
            args,
            kwargs,
            trainable and layer.config.get("trainable", True) is not False,
            path if number == 1 else f"{path}#{number}",
            recorded,
            depth,
        )
        describe = custom.find(layer.registered, layer.type)
        if describe is not None:
            return call.described(describe)
        # A class of somebody else may have the name of one of Keras'.
        rule = None if layer.registered else self.rules.get(layer.type)
        if rule is None:
            return call.unknown()
        try:
            return rule(call)
        except ModelError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            problem = f"a setting has a value that it cannot have ({error})"
            raise ModelError(f"'{path}' ({layer.type}): {problem}") from None


def shifts(
    layers: Mapping[str, Layer], reads: Sequence[History], ends: Sequence[History]
) -> dict[tuple[str, bool], int]:
    """What to take off a nested model's call numbers, where they are read or (True) are outputs.

    Keras gives functional models a call of their own, number 0, which it does not write down:
    Keras 3 counts it in `output_layers` only, Keras 2 everywhere.
    """
    found: dict[tuple[str, bool], int] = {}
    for name, layer in layers.items():
        if not layer.nodes or not is_model(layer):
            continue
        if isinstance(layer.nodes[0], dict):
            if layer.type != "Sequential":
                found[name, True] = 1
        elif any(read[0] == name and read[1] >= len(layer.nodes) for read in (*reads, *ends)):
            found[name, True] = found[name, False] = 1
    return found
