"""Keras configurations (`model.to_json()` or `get_config()`), of Keras 3 and of Keras 2 / tf.keras.

Nothing of Keras is imported.  `LAYERS` maps a class name to a small function that says which
operators the layer is made of.  A class that is not in it becomes an opaque operator: it keeps its
name, and its shape where the configuration recorded one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import MAX_OPS, Network, Op, infer
from convcalc.ops import activation as act
from convcalc.ops import convolution as conv
from convcalc.ops import linear, merge, opaque, pooling, recurrent
from convcalc.ops import normalization as norm
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator, frozen
from convcalc.readers.sizes import Input, Size, by_name, laid_out
from convcalc.tensors import DTYPE_BYTES, TensorSpec

MODELS = frozenset({"Sequential", "Functional", "Model"})

#: Models within models; Keras' own networks have two levels.
MAX_DEPTH = 100

#: Layer, call of that layer, output of that call: where a tensor comes from.
History = tuple[str, int, int]


class Ref(str):
    """The name of a tensor, where a call's other arguments are plain values."""

    __slots__ = ()


def read_config(
    config: Mapping[str, Any] | str,
    name: str | None = None,
    input: Input = None,
) -> Network:
    """The network that a Keras configuration describes.

    `config` is what `model.to_json()` gives, as text or parsed, or the configuration of one layer.
    `input` (height, width, channels, or such sizes by the inputs' names) replaces the inputs'
    sizes; a single layer, a Sequential model without an input, and sizes left open need it.

    Raises:
        ModelError: it is no Keras configuration, or does not fit together.
    """
    try:
        if isinstance(config, str):
            config = json.loads(config)
        if isinstance(config, Mapping):
            config = dict(config)
        found = layer_like(config, "the configuration")
        if found is None:
            raise ModelError("the configuration has no 'class_name' and no 'layers'")
        return Builder().read(found, name, input)
    except RecursionError:
        raise ModelError("the configuration is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ModelError(
            f"the configuration is not valid JSON: {error.msg} "
            f"(line {error.lineno}, column {error.colno})"
        ) from None


@dataclass(slots=True)
class Layer:
    """One entry of a configuration."""

    type: str
    config: Mapping[str, Any]
    name: str
    nodes: Sequence[Any] = ()
    build: Any = None
    entries: list[Layer] | None = None
    """A model's layers, once they have been read."""


def layer_like(entry: Any, where: str) -> Layer | None:
    """An entry as a layer; None if it has no class.

    Raises:
        ModelError: a part of it has the wrong type.
    """
    if not isinstance(entry, dict):
        raise ModelError(f"{where} is a {type(entry).__name__}, not a mapping")
    kind, config = entry.get("class_name"), entry.get("config", {})
    if kind is None:
        # What `get_config()` gives: the model's configuration without its wrapping.
        body = entry if "layers" in entry else config
        if not isinstance(body, dict) or "layers" not in body:
            return None
        kind, config = "Functional" if "output_layers" in body else "Sequential", body
    if not isinstance(kind, str) or not kind:
        raise ModelError(f"{where}: class_name {short(kind)} is not a name")
    kind = kind.rpartition(">")[2]
    if isinstance(config, list) and kind == "Sequential":
        config = {"layers": config}
    if not isinstance(config, dict):
        raise ModelError(f"{where} ({kind}): config is a {type(config).__name__}, not a mapping")
    name = entry.get("name") or config.get("name") or kind.lower()
    if not isinstance(name, str):
        raise ModelError(f"{where} ({kind}): name {short(name)} is not a text")
    nodes = entry.get("inbound_nodes") or ()
    if not isinstance(nodes, (list, tuple)):
        raise ModelError(f"'{name}': inbound_nodes is a {type(nodes).__name__}, not a list")
    build = entry.get("build_config")
    return Layer(
        kind, config, name, nodes, build.get("input_shape") if isinstance(build, dict) else None
    )


def short(value: Any) -> str:
    """A value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


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
                tuple(self.inputs if inputs is None else inputs),
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


class Builder:
    """Collects the ops of a model and of those nested in it."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.names: set[str] = set()
        self.inputs: dict[str, TensorSpec] = {}
        self.calls: dict[str, int] = {}
        self.known: dict[str, TensorSpec] = {}
        self.seen = 0
        self.resized = False

    def unique(self, name: str) -> str:
        """`name`, or with a number if it is taken."""
        if name in self.names:
            number = 2
            while f"{name}#{number}" in self.names:
                number += 1
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
            name or top.name, tuple(self.ops), self.inputs, tuple(dict.fromkeys(outputs)), layout
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
        rule = LAYERS.get(layer.type)
        if rule is None:
            return call.unknown()
        try:
            return rule(call)
        except ModelError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            problem = f"a setting has a value that it cannot have ({error})"
            raise ModelError(f"'{path}' ({layer.type}): {problem}") from None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor among a call's arguments, not yet named."""

    history: History


def is_model(layer: Layer) -> bool:
    """Whether it is made of layers: Keras' own classes, and others written down as they are."""
    config = layer.config
    return "layers" in config and (layer.type in MODELS or "output_layers" in config)


def layer_entries(layer: Layer) -> list[Layer]:
    """The layers of a model's configuration."""
    if layer.entries is not None:
        return layer.entries
    entries = layer.config.get("layers")
    if not isinstance(entries, (list, tuple)):
        raise ModelError(f"model '{layer.name}': layers is a {type(entries).__name__}, not a list")
    found = layer.entries = []
    for number, entry in enumerate(entries):
        made = layer_like(entry, f"a layer of model '{layer.name}'")
        if made is None:
            raise ModelError(f"layer {number} of model '{layer.name}' has no class_name")
        found.append(made)
    return found


def data_formats(layer: Layer) -> list[str]:
    """The first data_format that says where the channels are, as a list of at most one."""
    queue: list[Any] = [layer.config]
    position = 0
    # A mapping made in Python can contain itself.
    met: set[int] = set()
    while position < len(queue):
        config = queue[position]
        position += 1
        if not isinstance(config, dict) or id(config) in met:
            continue
        met.add(id(config))
        if isinstance(value := config.get("data_format"), str):
            return [value]
        inner = config.get("layers")
        entries = inner if isinstance(inner, (list, tuple)) else ()
        queue.extend(e.get("config") for e in entries if isinstance(e, dict))
        if isinstance(wrapped := config.get("layer"), dict):
            queue.append(wrapped.get("config"))
    return []


def model_inputs(model: Layer, depth: int = 0) -> Iterator[tuple[str, Any, Any]]:
    """(name, shape with batch, dtype) of each input of the outermost model."""
    if depth > MAX_DEPTH:
        raise ModelError(f"models are nested more than {MAX_DEPTH} levels deep at '{model.name}'")
    entries = layer_entries(model)
    if "input_layers" in model.config:
        layers = {layer.name: layer for layer in entries}
        for name, *_ in leaves(model.config["input_layers"], f"model '{model.name}'"):
            if name not in layers:
                raise ModelError(f"model '{model.name}' has no input layer '{name}'")
            config = layers[name].config
            yield name, given_shape(config), config.get("dtype")
        return
    if not entries:
        raise ModelError(f"model '{model.name}' has no layers")
    head = entries[0]
    shape = given_shape(head.config)
    if shape is None and is_model(head):
        yield from model_inputs(head, depth + 1)
        return
    if shape is None:
        shape = model.config.get("build_input_shape") or model.build or head.build
    yield head.name if head.type == "InputLayer" else "input", shape, head.config.get("dtype")


def given_shape(config: Mapping[str, Any]) -> Any:
    """The shape with batch in Keras 3's spelling or Keras 2's."""
    return config.get("batch_shape") or config.get("batch_input_shape")


def shape_spec(shape: Any, dtype: Any, name: str, size: Size | None, first: bool) -> TensorSpec:
    """The spec of an input of that shape, or of `size`.

    Raises:
        ModelError: it is no shape, or sizes are open.
    """
    if shape is None and size is not None:
        shape = (None,) * (len(size) + 1)
    if shape is None:
        raise ModelError(f"input '{name}' has no shape; pass input=, e.g. (224, 224, 3)")
    if not isinstance(shape, (list, tuple)) or not shape:
        raise ModelError(f"input '{name}': {short(shape)} is no shape")
    for number in shape:
        if number is not None and type(number) is not int:
            raise ModelError(f"input '{name}': shape {short(shape)} holds {short(number)}")
    dims = tuple(shape[1:])
    if size is not None:
        if len(size) != len(dims):
            raise ModelError(f"input '{name}' takes {len(dims)} sizes, got {len(size)}")
        dims = laid_out(size, first)
    if None in dims:
        text = "x".join("?" if n is None else str(n) for n in dims)
        raise ModelError(
            f"input '{name}' leaves sizes open ({text}); pass input= as height, width, channels"
        )
    if isinstance(dtype, dict):
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, dict) else None
    whole = isinstance(dtype, str) and dtype in DTYPE_BYTES and "float" not in dtype
    return TensorSpec((1, *dims), str(dtype) if whole else "float")


def leaves(value: Any, where: str) -> Iterator[History]:
    """The (layer, call, output) triples in a list, a list of lists, or a mapping."""
    stack = [value]
    while stack:
        if len(stack) > MAX_OPS:
            raise ModelError(f"{where}: it names more than {MAX_OPS:,} tensors")
        item = stack.pop()
        if item is None:
            continue
        if isinstance(item, dict):
            stack.extend(item[key] for key in sorted(item, key=str, reverse=True))
        elif is_history(item):
            yield item[0], item[1], item[2]
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        else:
            raise ModelError(f"{where}: {short(item)} does not name a layer's output")


def is_history(item: Any) -> bool:
    return (
        isinstance(item, (list, tuple))
        and len(item) in (3, 4)
        and isinstance(item[0], str)
        and type(item[1]) is int
        and type(item[2]) is int
    )


def arguments(
    node: Any, where: str, seen: dict[History, tuple[int, ...] | None]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of one call, in Keras 3's mapping or Keras 2's list.

    Raises:
        ModelError: it is neither.
    """
    if isinstance(node, dict):
        args, kwargs = node.get("args", ()), node.get("kwargs", {})
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise ModelError(f"{where}: an inbound node has malformed args or kwargs")
        return (
            [value(arg, where, seen, 0) for arg in args],
            {
                str(key): value(arg, where, seen, 0)
                for key, arg in kwargs.items()
                if key not in ("mask", "training")
            },
        )
    if isinstance(node, (list, tuple)):
        positional: list[Any] = []
        named: dict[str, Any] = {}
        stack = [node]
        while stack:
            item = stack.pop()
            if not isinstance(item, (list, tuple)):
                raise ModelError(f"{where}: {short(item)} is no inbound tensor")
            if len(item) == 4 and item[0] == "_CONSTANT_VALUE":
                positional.append(item[2])
            elif is_history(item):
                positional.append(Tensor((item[0], item[1], item[2])))
            else:
                stack.extend(reversed(item))
                continue
            extra = item[3] if len(item) == 4 else None
            if isinstance(extra, dict):
                for key, arg in extra.items():
                    if key not in ("mask", "training", "name"):
                        tensor = is_history(arg)
                        named[str(key)] = Tensor((arg[0], arg[1], arg[2])) if tensor else arg
        return positional, named
    raise ModelError(f"{where}: an inbound node is a {type(node).__name__}")


def value(item: Any, where: str, seen: dict[History, tuple[int, ...] | None], depth: int) -> Any:
    """An argument with its tensors found, in the forms that Keras 3 writes."""
    if depth > MAX_DEPTH:
        raise ModelError(f"{where}: an argument is nested too deeply")
    if isinstance(item, (list, tuple)):
        return [value(part, where, seen, depth + 1) for part in item]
    if not isinstance(item, dict):
        return item
    kind, config = item.get("class_name"), item.get("config")
    if kind == "__keras_tensor__":
        history = config.get("keras_history") if isinstance(config, dict) else None
        if not is_history(history):
            raise ModelError(f"{where}: {short(history)} does not name a layer's output")
        assert isinstance(config, dict)
        assert isinstance(history, (list, tuple))
        key = (history[0], history[1], history[2])
        shape = config.get("shape")
        fits = isinstance(shape, (list, tuple)) and all(type(n) is int for n in shape[1:])
        seen[key] = tuple(shape[1:]) if fits and shape is not None else None
        return Tensor(key)
    if kind == "__tuple__" and isinstance(config, dict):
        return value(config.get("items", []), where, seen, depth + 1)
    if kind is None:
        return {key: value(part, where, seen, depth + 1) for key, part in item.items()}
    return item


def tensors_in(item: Any) -> Iterator[Tensor | Ref]:
    """The tensors among arguments, in order."""
    stack = [item]
    while stack:
        part = stack.pop()
        kind = type(part)
        if kind is Tensor or kind is Ref:
            yield part
        elif kind is list or kind is tuple:
            stack.extend(part[::-1])
        elif kind is dict:
            # In the order in which Keras flattens mappings.
            stack.extend(part[key] for key in sorted(part, key=str, reverse=True))


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


def resolved(
    item: Any, made: Mapping[History, Ref], name: str, shift: Mapping[tuple[str, bool], int]
) -> Any:
    """Arguments with the tensors' names filled in.

    Raises:
        ModelError: a call has no such output.
    """
    if isinstance(item, Tensor):
        layer, call, output = item.history
        history = (layer, call - shift.get((layer, False), 0), output)
        if history not in made:
            raise ModelError(f"'{name}' reads output {output} of '{layer}', which has fewer")
        return made[history]
    if isinstance(item, list):
        return [resolved(part, made, name, shift) for part in item]
    if isinstance(item, dict):
        return {key: resolved(part, made, name, shift) for key, part in item.items()}
    return item


# What each layer is made of.

Rule = Callable[[Call], list[Ref]]


def activate(c: Call, value: Any, tensor: Ref | None = None) -> Ref:
    """An activation given by name, or as the configuration of a layer or function."""
    inputs = c.inputs if tensor is None else [tensor]
    if isinstance(value, dict):
        kind, inner = value.get("class_name"), value.get("config")
        if isinstance(kind, str) and kind in LAYERS and isinstance(inner, dict):
            suffix = "" if tensor is None else kind.lower()
            called = Call(
                c.builder, c.type, c.path, inner, inputs, [inputs], {}, c.trainable,
                f"{c.label}/{suffix}" if suffix else c.label, depth=c.depth,
            )  # fmt: skip
            if c.depth > MAX_DEPTH:
                raise ModelError(f"'{c.path}': its activation is nested too deeply")
            return LAYERS[kind](called)[0]
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


def named(function: str) -> Rule:
    """A layer that is one activation function."""
    return lambda c: [c.emit(act.Activation(function))]


def plain(operator: Operator) -> Rule:
    """A layer without settings."""
    return lambda c: [c.emit(operator)]


def convolution(c: Call) -> list[Ref]:
    return c.activated(
        c.emit(
            conv.Conv(
                filters=c.whole("filters"),
                kernel=c.need("kernel_size"),
                stride=c.get("strides", 1),
                padding=c.padding,
                dilation=c.get("dilation_rate", 1),
                groups=c.get("groups", 1),
                bias=c.get("use_bias", True),
                channels_first=c.first,
            )
        )
    )


def depthwise(c: Call) -> list[Ref]:
    return c.activated(c.emit(depthwise_operator(c, c.get("use_bias", True))))


def depthwise_operator(c: Call, bias: bool) -> conv.DepthwiseConv:
    return conv.DepthwiseConv(
        kernel=c.need("kernel_size"),
        multiplier=c.get("depth_multiplier", 1),
        stride=c.get("strides", 1),
        padding=c.padding,
        dilation=c.get("dilation_rate", 1),
        bias=bias,
        channels_first=c.first,
    )


def separable(c: Call) -> list[Ref]:
    """Each channel on its own, then a 1x1 convolution that mixes them."""
    middle = c.emit(depthwise_operator(c, False), suffix="depthwise")
    mixing = conv.Conv(
        filters=c.whole("filters"), kernel=1, bias=c.get("use_bias", True), channels_first=c.first
    )
    return c.activated(c.emit(mixing, [middle]))


def transposed(c: Call) -> list[Ref]:
    return c.activated(
        c.emit(
            conv.ConvTranspose(
                filters=c.whole("filters"),
                kernel=c.need("kernel_size"),
                stride=c.get("strides", 1),
                padding=c.padding,
                dilation=c.get("dilation_rate", 1),
                groups=c.get("groups", 1),
                bias=c.get("use_bias", True),
                output_padding=c.get("output_padding"),
                channels_first=c.first,
            )
        )
    )


def pool(cls: Callable[..., Operator]) -> Rule:
    return lambda c: [
        c.emit(
            cls(
                kernel=c.get("pool_size", 2),
                stride=c.get("strides"),
                padding=c.padding,
                channels_first=c.first,
            )
        )
    ]


def global_pool(kind: str) -> Rule:
    return lambda c: [
        c.emit(
            pooling.GlobalPool(kind=kind, keepdims=c.get("keepdims", False), channels_first=c.first)
        )
    ]


def adaptive_pool(kind: str) -> Rule:
    return lambda c: [
        c.emit(
            pooling.AdaptivePool(output=c.need("output_size"), kind=kind, channels_first=c.first)
        )
    ]


def dense(c: Call) -> list[Ref]:
    return c.activated(c.emit(linear.Dense(c.whole("units"), c.get("use_bias", True))))


def einsum_dense(c: Call) -> list[Ref]:
    """``abc,cde->abde``: the input's last axes are summed away, the kernel's new ones follow."""
    equation, dims = c.need("equation"), c.dims()
    try:
        (source, kernel), target = equation.split("->")[0].split(","), equation.split("->")[1]
    except (AttributeError, ValueError, IndexError):
        raise ModelError(f"'{c.path}' (EinsumDense): equation {short(equation)}") from None
    source, kernel, target = (
        t.replace("...", "").replace(" ", "") for t in (source, kernel, target)
    )
    summed = [letter for letter in kernel if letter in source]
    new = [letter for letter in kernel if letter not in source]
    count = len(summed)
    simple = (
        dims is not None
        and count > 0
        and new
        and kernel == "".join(summed + new)
        and source[-count:] == "".join(summed)
        and target == source[:-count] + "".join(new)
    )
    bias = c.get("bias_axes")
    if not simple or dims is None or (bias is not None and sorted(bias) != sorted(new)):
        return c.unknown()
    out = c.need("output_shape")
    sizes = (out if isinstance(out, tuple) else (out,))[-len(new) :]
    if any(type(n) is not int for n in sizes) or len(dims) <= count:
        return c.unknown()
    tensor = c.inputs[0]
    if count > 1:
        tensor = c.emit(shapes.Reshape((*dims[1:-count], -1)), suffix="flatten")
    units = 1
    for n in sizes:
        units *= n
    tensor = c.emit(linear.Dense(units, bias is not None), [tensor])
    if len(new) > 1:
        tensor = c.emit(shapes.Reshape((*dims[1:-count], *sizes)), [tensor], "reshape")
    return c.activated(tensor)


def ordered_inputs(c: Call, names: Sequence[str]) -> list[Ref]:
    """Tensors given by position, then by name in the order of the layer's signature."""
    found = [ref for ref in tensors_in(list(c.args)) if isinstance(ref, Ref)]
    by_name = (c.kwargs.get(name) for name in names[len(found) :])
    found.extend(ref for ref in by_name if isinstance(ref, Ref))
    return list(found or c.inputs)[: len(names)]


def multi_head(c: Call) -> list[Ref]:
    axes, dims, shape = c.get("attention_axes"), c.dims(), c.get("output_shape")
    if isinstance(shape, tuple):
        shape = shape[0] if len(shape) == 1 else None
    count = 0 if dims is None else len(dims)
    every = set(range(1, count - 1))
    chosen = axes if isinstance(axes, tuple) else (axes,)
    partial = axes is not None and count and {a % count for a in chosen if type(a) is int} != every
    if partial or c.get("use_gate", False):
        return c.unknown()
    inputs = ordered_inputs(c, ("query", "value", "key"))
    grouped = c.type in ("GroupQueryAttention", "GroupedQueryAttention")
    operator = linear.Attention(
        heads=c.whole("num_query_heads" if grouped else "num_heads"),
        key_dim=c.whole("head_dim" if grouped else "key_dim"),
        value_dim=None if grouped else c.get("value_dim"),
        kv_heads=c.whole("num_key_value_heads") if grouped else None,
        output_dim=shape,
        bias=c.get("use_bias", True),
    )
    found = c.emit(operator, inputs)
    if not c.kwargs.get("return_attention_scores"):
        return [found]
    return [
        found,
        c.emit(opaque.Opaque("attention_scores", c.recorded[1:2] or (None,)), inputs, "scores"),
    ]


def dot_attention(c: Call) -> list[Ref]:
    """Keras' Attention: softmax(q k^T) v, without projections."""
    if c.get("score_mode", "dot") != "dot":
        return c.unknown()
    inputs = ordered_inputs(c, ("query", "value", "key"))
    if len(inputs) < 2:
        raise ModelError(f"'{c.path}' (Attention) takes a query and a value")
    query, val, key = inputs[0], inputs[1], inputs[-1]
    scores = c.emit(linear.MatMul(transpose_b=True), [query, key], "scores")
    if c.get("use_scale", False):
        scale = c.emit(opaque.Constant((), stored=True, trainable=True), [], "scale")
        scores = c.emit(merge.Multiply(), [scores, scale], "scaled")
    weights = c.emit(act.Activation("softmax"), [scores], "softmax")
    return [c.emit(linear.MatMul(), [weights, val])]


def embedding(c: Call) -> list[Ref]:
    return [c.emit(linear.Embedding(c.whole("input_dim"), c.whole("output_dim")))]


def one(value: Any) -> Any:
    """The number in a list of one (Keras 2 writes axis as [3])."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def batch_norm(c: Call) -> list[Ref]:
    if c.get("renorm", False):
        return c.unknown()
    axis = one(c.get("axis", -1))
    return [c.emit(norm.BatchNorm(axis, c.get("scale", True), c.get("center", True)))]


def layer_norm(c: Call) -> list[Ref]:
    axes = c.get("axis", -1)
    if c.get("rms_scaling", False):
        return [c.emit(norm.RMSNorm(axes))]
    return [c.emit(norm.LayerNorm(axes, c.get("scale", True), c.get("center", True)))]


def group_norm(c: Call) -> list[Ref]:
    axis = one(c.get("axis", -1))
    operator = norm.GroupNorm(
        c.get("groups", 32), axis, c.get("scale", True), c.get("center", True)
    )
    return [c.emit(operator)]


def standardize(c: Call) -> list[Ref]:
    # -1 is Keras' default; an explicit null means one mean for everything.
    axis = c.get("axis") if "axis" in c.config else -1
    return [c.emit(norm.Standardize(axis, c.get("mean") is None))]


def prelu(c: Call) -> list[Ref]:
    shared = c.get("shared_axes", ())
    return [c.emit(act.PRelu(shared if isinstance(shared, tuple) else (shared,)))]


def dropout(c: Call) -> list[Ref]:
    rate = c.get("rate", c.get("drop_path_rate", 0.5))
    return [c.emit(act.Dropout(rate, c.get("noise_shape")))]


def spatial_dropout(c: Call) -> list[Ref]:
    return [c.emit(act.Dropout(c.get("rate", 0.5)))]


def merging(operator: Operator) -> Rule:
    """Branches that meet; numbers and arrays among the arguments are no tensors of the network."""

    def rule(c: Call) -> list[Ref]:
        inputs: list[str] = list(c.inputs)
        numbers = False
        for arg in (*c.args, *c.kwargs.values()):
            if isinstance(arg, dict) and arg.get("class_name") in ("__tensor__", "__numpy__"):
                inputs.append(c.emit(opaque.Constant(extents(arg)), [], "constant"))
            elif isinstance(arg, (int, float)):
                numbers = True
        if len(inputs) == 1 and numbers:
            return [c.emit(act.Function(operator.type))]
        return [c.emit(operator, inputs)]

    return rule


def extents(constant: Mapping[str, Any]) -> tuple[int, ...]:
    """The sizes of a constant written as nested lists."""
    config = constant.get("config")
    inner = config.get("value") if isinstance(config, dict) else None
    found: list[int] = []
    while isinstance(inner, list) and inner and len(found) < MAX_DEPTH:
        found.append(len(inner))
        inner = inner[0]
    return tuple(found)


def concatenate(c: Call) -> list[Ref]:
    return [c.emit(merge.Concat(c.get("axis", -1)))]


def dot(c: Call) -> list[Ref]:
    return [c.emit(linear.Dot(c.need("axes")))]


def matmul(c: Call) -> list[Ref]:
    return [c.emit(linear.MatMul())] if len(c.inputs) == 2 else c.unknown()


def reshape(c: Call) -> list[Ref]:
    if "target_shape" in c.config:
        return [c.emit(shapes.Reshape(c.need("target_shape")))]
    target = c.get("newshape", c.kwargs.get("newshape"))
    if not isinstance(target, (tuple, list)):
        return c.unknown()
    sizes = tuple(-1 if n is None else n for n in target)
    # The batch of one stands in front; the -1 is its place where it is the only one.
    return [c.emit(shapes.Reshape(sizes, whole=True))]


def permute(c: Call) -> list[Ref]:
    order = c.need("dims")
    return [c.emit(shapes.Permute((0, *order) if isinstance(order, tuple) else order))]


def transpose(c: Call) -> list[Ref]:
    axes, dims = c.get("axes"), c.dims()
    if dims is None:
        return c.unknown()
    order = tuple(range(len(dims)))[::-1] if axes is None else tuple(a % len(dims) for a in axes)
    return [c.emit(shapes.Permute(order))]


def squeeze(c: Call) -> list[Ref]:
    return [c.emit(shapes.Squeeze(c.get("axis")))]


def expand_dims(c: Call) -> list[Ref]:
    axis = one(c.get("axis", -1))
    return [c.emit(shapes.ExpandDims(axis))]


def split(c: Call) -> list[Ref]:
    dims, axis, parts = c.dims(), c.get("axis", 0), c.get("indices_or_sections")
    if dims is None or type(axis) is not int or not -len(dims) <= axis < len(dims):
        return c.unknown()
    total = dims[axis]
    if type(parts) is int and parts > 0:
        sizes = (total // parts,) * parts
    elif isinstance(parts, tuple):
        marks = (0, *parts, total)
        sizes = tuple(b - a for a, b in pairwise(marks))
    else:
        return c.unknown()
    found = c.emit(shapes.Split(sizes, axis))
    return [found, *(Ref(f"{found}:{i}") for i in range(1, len(sizes)))]


def reduction(kind: str) -> Rule:
    return lambda c: (
        [c.emit(shapes.Reduce(kind, c.get("axis"), c.get("keepdims", False)))]
        if c.get("axis") is not None
        else c.unknown()
    )


def get_item(c: Call) -> list[Ref]:
    """``x[key]`` with whole numbers and slices; the batch is left alone."""
    dims = c.dims()
    key = c.args[1] if len(c.args) > 1 else c.kwargs.get("key")
    keys = list(key) if isinstance(key, (list, tuple)) else [key]
    if dims is None or len(keys) > len(dims):
        return c.unknown()
    steps: list[tuple[int, int, int, int]] = []
    gone: list[int] = []
    for axis, part in enumerate(keys):
        size = dims[axis]
        if isinstance(part, dict) and part.get("class_name") == "__slice__":
            limits = part.get("config")
            if not isinstance(limits, dict):
                return c.unknown()
            ends = [limits.get(name) for name in ("start", "stop", "step")]
            if any(end is not None and type(end) is not int for end in ends) or ends[2] == 0:
                return c.unknown()
            if axis == 0 and ends != [None, None, None]:
                return c.unknown()
            span = range(*slice(*ends).indices(size))
        elif type(part) is int and axis and -size <= part < size:
            span = range(part % size, part % size + 1)
            gone.append(axis)
        else:
            return c.unknown()
        if span != range(size):
            steps.append((axis, len(span), span.start, span.step))
    tensor = c.inputs[0]
    for number, (axis, length, start, step) in enumerate(steps):
        suffix = f"axis{axis}" if gone or number + 1 < len(steps) else ""
        tensor = c.emit(shapes.Slice(axis, length, start, step), [tensor], suffix)
    if gone:
        return [c.emit(shapes.Squeeze(tuple(gone)), [tensor])]
    return [tensor if steps else c.emit(act.Identity())]


def sided(cls: Callable[..., Operator], key: str) -> Rule:
    """Padding and cropping, which in 1D write one pair instead of a list of pairs."""

    def rule(c: Call) -> list[Ref]:
        amount = c.need(key)
        if c.type.endswith("1D") and isinstance(amount, tuple) and len(amount) == 2:
            amount = (amount,)
        return [c.emit(cls(amount, c.first))]

    return rule


def up_sampling(c: Call) -> list[Ref]:
    size, method = c.get("size", 2), c.get("interpolation", "nearest")
    return [c.emit(shapes.Upsample(size, method, c.first))]


def resizing(c: Call) -> list[Ref]:
    size = c.get("size") or (c.whole("height"), c.whole("width"))
    return [c.emit(shapes.Resize(size, c.get("interpolation", "bilinear"), c.first))]


CELLS = {
    "LSTM": "lstm",
    "GRU": "gru",
    "SimpleRNN": "simple",
    "CuDNNLSTM": "lstm",
    "CuDNNGRU": "gru",
}


def cell(c: Call, kind: str, config: Mapping[str, Any], suffix: str = "") -> Ref:
    """One recurrent layer."""
    units = config.get("units")
    if type(units) is not int:
        raise ModelError(f"'{c.path}' ({c.type}): units must be an integer, got {short(units)}")
    operator = recurrent.Recurrent(
        CELLS[kind],
        units,
        bool(config.get("return_sequences", False)),
        bool(config.get("use_bias", True)),
        bool(config.get("reset_after", kind == "GRU")),
    )
    return c.emit(operator, c.inputs[:1], suffix)


def recurrence(c: Call) -> list[Ref]:
    if c.get("return_state", False):
        return c.unknown()
    return [cell(c, c.type, c.config)]


def bidirectional(c: Call) -> list[Ref]:
    """The same sequence forwards and backwards, the results merged."""
    tensors = []
    for key in ("layer", "backward_layer"):
        entry = c.config.get(key) or c.config.get("layer")
        inner = layer_like(entry, f"'{c.path}'")
        if inner is None or inner.type not in CELLS or inner.config.get("return_state"):
            return c.unknown()
        suffix = "backward" if key == "backward_layer" else "forward"
        tensors.append(cell(c, inner.type, inner.config, suffix))
    mode = c.config.get("merge_mode", "concat")
    if mode is None:
        return tensors
    merges: dict[Any, Operator] = {
        "concat": merge.Concat(-1),
        "sum": merge.Add(),
        "mul": merge.Multiply(),
        "ave": merge.Average(),
    }
    if not isinstance(mode, str) or mode not in merges:
        raise ModelError(f"'{c.path}' (Bidirectional): merge_mode {short(mode)}")
    return [c.emit(merges[mode], tensors)]


def time_distributed(c: Call) -> list[Ref]:
    """A layer on each step: the steps are taken into the batch and back out of it."""
    inner = layer_like(c.config.get("layer"), f"'{c.path}'")
    dims = c.dims()
    if inner is None or dims is None or len(dims) < 3 or dims[0] != 1:
        return c.unknown()
    folded = c.emit(shapes.Reshape((dims[0] * dims[1], *dims[2:]), whole=True), suffix="fold")
    outputs = c.builder.call(
        inner, [folded], (), {}, f"{c.path}/", c.trainable, (None,), c.depth + 1
    )
    results = []
    for tensor in outputs:
        made = c.builder.spec(tensor).shape
        if made is None:
            return c.unknown(inputs=outputs)
        results.append(c.emit(shapes.Reshape((dims[0], dims[1], *made[1:]), whole=True), [tensor]))
    return results


#: Functions that tf.keras wraps in a TFOpLambda -> the class that does the same in Keras 3.
TF_FUNCTIONS = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract",
    "math.multiply": "Multiply", "math.truediv": "Divide", "math.divide": "Divide",
    "math.maximum": "Maximum", "math.minimum": "Minimum", "linalg.matmul": "Matmul",
    "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.silu": "Silu", "nn.gelu": "Gelu",
    "nn.softmax": "Softmax", "math.sigmoid": "Sigmoid", "math.tanh": "Tanh", "math.exp": "Exp",
    "math.sqrt": "Sqrt", "math.square": "Square", "math.abs": "Abs", "math.negative": "Negative",
    "clip_by_value": "Clip", "identity": "Identity",
}  # fmt: skip


def tf_function(c: Call) -> list[Ref]:
    """A function of TensorFlow in a model of tf.keras."""
    function = c.get("function")
    kind = TF_FUNCTIONS.get(function) if isinstance(function, str) else None
    return c.unknown(str(function)) if kind is None else LAYERS[kind](c)


LAYERS: dict[str, Rule] = {
    **{f"Conv{rank}D": convolution for rank in (1, 2, 3)},
    **{f"Convolution{rank}D": convolution for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": separable for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": transposed for rank in (1, 2, 3)},
    **{f"MaxPooling{rank}D": pool(pooling.MaxPool) for rank in (1, 2, 3)},
    **{f"AveragePooling{rank}D": pool(pooling.AveragePool) for rank in (1, 2, 3)},
    **{f"GlobalAveragePooling{rank}D": global_pool("average") for rank in (1, 2, 3)},
    **{f"GlobalMaxPooling{rank}D": global_pool("max") for rank in (1, 2, 3)},
    **{f"AdaptiveAveragePooling{rank}D": adaptive_pool("average") for rank in (1, 2, 3)},
    **{f"AdaptiveMaxPooling{rank}D": adaptive_pool("max") for rank in (1, 2, 3)},
    "Dense": dense,
    "EinsumDense": einsum_dense,
    "MultiHeadAttention": multi_head,
    "GroupQueryAttention": multi_head,
    "GroupedQueryAttention": multi_head,
    "Attention": dot_attention,
    "Embedding": embedding,
    "BatchNormalization": batch_norm,
    "BatchNormalizationV1": batch_norm,
    "SyncBatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "RMSNormalization": lambda c: [c.emit(norm.RMSNorm(c.get("axis", -1)))],
    "UnitNormalization": lambda c: [c.emit(norm.UnitNorm(c.get("axis", -1)))],
    "Rescaling": plain(norm.Rescale()),
    "Normalization": standardize,
    "LayerScale": plain(norm.Scale()),
    "Activation": lambda c: [activate(c, c.get("activation", "linear"))],
    "ReLU": named("relu"),
    "LeakyReLU": named("leaky_relu"),
    "ThresholdedReLU": named("threshold"),
    "ELU": named("elu"),
    "Softmax": named("softmax"),
    "PReLU": prelu,
    **dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "StochasticDepth"), dropout),
    **{f"SpatialDropout{rank}D": spatial_dropout for rank in (1, 2, 3)},
    "GaussianNoise": plain(act.Noise()),
    **{
        kind: plain(act.Identity())
        for kind in (
            "ActivityRegularization", "Identity", "Masking", "RandomBrightness",
            "RandomContrast", "RandomFlip", "RandomHue", "RandomRotation", "RandomSaturation",
            "RandomTranslation", "RandomZoom",
        )
    },
    "Add": merging(merge.Add()),
    # Inception-ResNet's residual sum, one branch scaled by a constant.
    "CustomScaleLayer": plain(merge.Add()),
    "Subtract": merging(merge.Subtract()),
    "Multiply": merging(merge.Multiply()),
    "Divide": merging(merge.Divide()),
    "TrueDivide": merging(merge.Divide()),
    "Power": merging(merge.Power()),
    "Maximum": merging(merge.Maximum()),
    "Minimum": merging(merge.Minimum()),
    "Average": merging(merge.Average()),
    "Concatenate": concatenate,
    "Dot": dot,
    "Matmul": matmul,
    "Reshape": reshape,
    "Flatten": plain(shapes.Flatten()),
    "Permute": permute,
    "Transpose": transpose,
    "RepeatVector": lambda c: [c.emit(shapes.Repeat(c.whole("n")))],
    "Squeeze": squeeze,
    "ExpandDims": expand_dims,
    "Split": split,
    "GetItem": get_item,
    **{f"ZeroPadding{rank}D": sided(shapes.Pad, "padding") for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": sided(shapes.Crop, "cropping") for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": up_sampling for rank in (1, 2, 3)},
    "Resizing": resizing,
    "CenterCrop": resizing,
    "Resize": resizing,
    **dict.fromkeys(CELLS, recurrence),
    "Bidirectional": bidirectional,
    "TimeDistributed": time_distributed,
    "TFOpLambda": tf_function,
    **{
        kind: reduction(kind.lower())
        for kind in ("Mean", "Sum", "Max", "Min", "Prod", "Argmax", "Argmin")
    },
    **{
        kind: named(function)
        for kind, function in {
            "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh",
            "Silu": "silu", "Gelu": "gelu", "Elu": "elu", "Selu": "selu", "LeakyRelu": "leaky_relu",
            "Softplus": "softplus", "Softsign": "softsign", "HardSigmoid": "hard_sigmoid",
            "HardSilu": "hard_silu", "LogSoftmax": "log_softmax", "LogSigmoid": "log_sigmoid",
        }.items()
    },
    **{
        kind: plain(act.Function(kind.lower()))
        for kind in (
            "Abs", "Absolute", "Ceil", "Clip", "Cos", "Exp", "Floor", "Log", "Negative", "Round",
            "Rsqrt", "Sin", "Sqrt", "Square",
        )
    },
}  # fmt: skip
