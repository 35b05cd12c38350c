"""Keras code: layers, models and tensors, as configurations for the Keras reader.

Each layer becomes the entry that Keras itself would write into `model.to_json()`; what the entry
costs is said in `readers.keras` alone.  Layers that are called are handed to that reader at once as
well, so that code can ask for shapes and an error stands where its line is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.ops.base import suggestion
from convcalc.readers import keras
from convcalc.readers.source import keras_names as names
from convcalc.readers.source import plain
from convcalc.readers.source.interpreter import Run
from convcalc.readers.source.values import (
    Base,
    Bound,
    External,
    Function,
    Ignored,
    Instance,
    Method,
    Thing,
)
from convcalc.tensors import TensorSpec

ROOTS = ("keras", "tensorflow", "tf_keras", "tensorflow_addons")
MODEL_CLASSES = ("Model", "Functional")
#: Parameters of `call` that are no tensors of the network.
MODES = ("training", "mask")


def snake(name: str) -> str:
    """ "Conv2D" as Keras names layers: "conv2d"."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Node:
    """One call of a layer."""

    def __init__(self, serial: int, layer: Layer, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.serial = serial
        self.layer = layer
        self.args = args
        self.kwargs = kwargs
        self.index = len(layer.nodes)
        self.outputs: list[Tensor] = []
        layer.nodes.append(self)

    def sources(self) -> list[Tensor]:
        return list(tensors_in([self.args, self.kwargs]))


class Tensor(Thing):
    """A symbolic tensor: one output of one call."""

    what = "a Keras tensor"

    def __init__(self, world: KerasWorld, node: Node, number: int, ref: keras.Ref) -> None:
        self.world = world
        self.node = node
        self.number = number
        self.ref = ref
        self.spec: TensorSpec = world.scratch.spec(ref)

    @property
    def shape(self) -> tuple[Any, ...]:
        if not self.spec.known:
            raise ModelError(f"the shape of what '{self.node.layer.name}' gives is not known")
        return (None, *self.spec.dims[1:])

    def attribute(self, name: str, run: Run) -> Any:
        if name in ("shape", "_keras_shape"):
            return self.shape
        if name in ("get_shape", "_shape_as_list"):
            return Method(name, lambda: self.shape)
        if name == "ndim":
            return len(self.shape)
        if name in ("dtype", "name", "device"):
            return Ignored(name)
        return super().attribute(name, run)

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        if symbol not in names.OPERATORS:
            return super().binary(symbol, other, swapped, run)
        pair = [other, self] if swapped else [self, other]
        return Layer(self.world, names.OPERATORS[symbol], {}).call(pair, {}, run)

    def unary(self, symbol: str, run: Run) -> Any:
        if symbol != "-":
            return super().unary(symbol, run)
        return Layer(self.world, "Negative", {}).call([self], {}, run)

    def item(self, key: Any, run: Run) -> Any:
        keys = list(key) if isinstance(key, tuple) else [key]
        if ... in keys:
            at, missing = keys.index(...), len(self.shape) - len(keys) + 1
            keys[at : at + 1] = [slice(None)] * missing
        coded = [
            {
                "class_name": "__slice__",
                "config": {"start": part.start, "stop": part.stop, "step": part.step},
            }
            if isinstance(part, slice)
            else part
            for part in keys
        ]
        return Layer(self.world, "GetItem", {}).call([self, coded], {}, run)


def tensors_in(item: Any) -> Iterator[Tensor]:
    """The tensors among arguments."""
    return plain.walk(item, Tensor)


def mapped(item: Any, change: Any, depth: int = 0) -> Any:
    """Arguments with their tensors replaced."""
    if isinstance(item, Tensor):
        return change(item)
    if depth < 4 and isinstance(item, (list, tuple)):
        return [mapped(part, change, depth + 1) for part in item]
    if depth < 4 and isinstance(item, dict):
        return {str(key): mapped(part, change, depth + 1) for key, part in item.items()}
    if isinstance(item, (Thing, list, tuple, dict)):
        raise ModelError(f"{as_what(item)} is no tensor of the network")
    return item


class Layer(Thing):
    """A layer with its configuration, not yet called."""

    def __init__(
        self, world: KerasWorld, type_: str, config: dict[str, Any], name: Any = None
    ) -> None:
        self.world = world
        self.type = type_
        self.config = config
        self.named = name is not None
        self.name = world.name_for(snake(type_)) if name is None else plain.as_text(name)
        self.nodes: list[Node] = []
        self.used = False
        self.scratch_name = world.scratch_name(self)
        world.layers.append(self)

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"the layer '{self.name}' ({self.type})"

    def attribute(self, name: str, run: Run) -> Any:
        if name == "name":
            return self.name
        if name in ("output", "input", "output_shape", "input_shape"):
            if not self.nodes:
                raise ModelError(f"{self.what} has not been called")
            node = self.nodes[0]
            tensor = node.outputs[0] if "output" in name else node.sources()[0]
            return tensor.shape if "shape" in name else tensor
        if name in self.config:
            return self.config[name]
        # get_weights, trainable_variables, ...: nothing that a network is made of.
        return Ignored(name)

    def assign(self, name: str, value: Any) -> None:
        if name == "trainable":
            self.config["trainable"] = bool(value) if not isinstance(value, Thing) else True
        elif name in ("name", "_name"):
            self.name = plain.as_text(value)

    @property
    def size(self) -> int:
        """Layers in it, those in its layers included."""
        return 1

    def entry_config(self) -> dict[str, Any]:
        return {**self.config, "name": self.name}

    def kind(self) -> str:
        return self.type

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        kwargs = {key: value for key, value in kwargs.items() if key not in MODES}
        found = list(tensors_in([args, kwargs]))
        run.step(len(found) + 20 * self.size)
        if not found:
            if any(isinstance(value, Thing) for value in [*args, *kwargs.values()]):
                return Ignored(self.name)
            raise ModelError(f"{self.what} is called on no tensor")
        for mode in ("initial_state", "constants"):
            kwargs.pop(mode, None)
        self.used = True
        node = Node(self.world.next_serial(), self, args, kwargs)
        entry = keras.layer_like(
            {
                "class_name": self.kind(),
                "config": {**self.entry_config(), "name": self.scratch_name},
                "name": self.scratch_name,
            },
            self.what,
        )
        assert entry is not None
        refs = self.world.scratch.call(
            entry,
            None,
            mapped(args, lambda tensor: tensor.ref),
            mapped(kwargs, lambda tensor: tensor.ref),
            "",
            True,
            (None,),
            0,
        )
        node.outputs = [Tensor(self.world, node, i, ref) for i, ref in enumerate(refs)]
        return node.outputs[0] if len(refs) == 1 else list(node.outputs)


class Model(Layer):
    """A functional model."""

    def __init__(self, world: KerasWorld, inputs: Any, outputs: Any, name: Any, run: Run) -> None:
        super().__init__(world, "Functional", {}, name)
        self.inputs = list(tensors_in(inputs))
        self.outputs = list(tensors_in(outputs))
        self.single = isinstance(outputs, Tensor)
        if not self.inputs or not self.outputs:
            raise ModelError("Model() needs inputs and outputs that are tensors of the network")
        self.graph = self.reach(run)
        self.total = sum(node.layer.size for node in self.graph)
        for layer in self.parts():
            layer.used = True
        world.models.append(self)

    def reach(self, run: Run) -> list[Node]:
        """The calls between inputs and outputs, in the order in which they were made."""
        starts = {id(tensor.node) for tensor in self.inputs}
        found: dict[int, Node] = {}
        stack = [tensor.node for tensor in (*self.outputs, *self.inputs)]
        while stack:
            node = stack.pop()
            run.step()
            if node.serial in found:
                continue
            found[node.serial] = node
            if id(node) in starts:
                continue
            if node.layer.type == "InputLayer":
                raise ModelError(f"the outputs depend on '{node.layer.name}', which is no input")
            stack.extend(tensor.node for tensor in node.sources())
        return [found[serial] for serial in sorted(found)]

    @property
    def size(self) -> int:
        return self.total

    def parts(self) -> list[Layer]:
        return list(dict.fromkeys(node.layer for node in self.graph))

    def attribute(self, name: str, run: Run) -> Any:
        if name in ("input", "output"):
            found = self.inputs if name == "input" else self.outputs
            return found[0] if len(found) == 1 else list(found)
        if name in ("inputs", "outputs"):
            return list(self.inputs if name == "inputs" else self.outputs)
        if name in ("input_shape", "output_shape"):
            return (self.inputs if name == "input_shape" else self.outputs)[0].shape
        if name == "layers":
            return self.parts()
        if name == "get_layer":
            return Method(name, self.get_layer)
        return super().attribute(name, run)

    def get_layer(self, name: Any = None, index: Any = None) -> Layer:
        parts = self.parts()
        if type(index) is int:
            return parts[index]
        found = next((layer for layer in parts if layer.name == name), None)
        if found is None:
            raise ModelError(f"'{self.name}' has no layer {plain.shown(name)}")
        return found

    def entry_config(self) -> dict[str, Any]:
        starts = {id(tensor.node) for tensor in self.inputs}
        entries: dict[int, dict[str, Any]] = {}
        index: dict[int, int] = {}
        layer_names: set[str] = set()

        def history(tensor: Tensor, shift: int = 0) -> list[Any]:
            node = tensor.node
            name = entries[id(node.layer)]["name"]
            return [name, index[node.serial] + shift, tensor.number]

        def coded(tensor: Tensor) -> dict[str, Any]:
            return {
                "class_name": "__keras_tensor__",
                "config": {"keras_history": history(tensor)},
            }

        for node in self.graph:
            layer = node.layer
            start = id(node) in starts
            entry = entries.get(id(layer))
            if entry is None:
                if layer.name in layer_names:
                    raise ModelError(
                        f"two layers of the model are called '{layer.name}'; names must differ"
                    )
                layer_names.add(layer.name)
                entry = entries[id(layer)] = {
                    "class_name": "InputLayer" if start else layer.kind(),
                    "config": input_config(node) if start else layer.entry_config(),
                    "name": layer.name,
                    "inbound_nodes": [],
                }
            calls = entry["inbound_nodes"]
            index[node.serial] = len(calls)
            if start:
                index[node.serial] = 0
                continue
            calls.append({"args": mapped(node.args, coded), "kwargs": mapped(node.kwargs, coded)})
        # Keras counts a nested functional model's own call in its output_layers.
        ends = [history(t, int(t.node.layer.kind() == "Functional")) for t in self.outputs]
        return {
            **self.config,
            "name": self.name,
            "layers": list(entries.values()),
            "input_layers": [history(tensor) for tensor in self.inputs],
            "output_layers": ends,
        }


def input_config(node: Node) -> dict[str, Any]:
    """The InputLayer that a model begins with."""
    (tensor,) = node.outputs
    dtype = None if tensor.spec.dtype == "float" else tensor.spec.dtype
    return {"batch_shape": [None, *tensor.spec.dims[1:]], "dtype": dtype, "name": node.layer.name}


class Sequential(Layer):
    """A Sequential model."""

    def __init__(self, world: KerasWorld, layers: Sequence[Any], name: Any) -> None:
        super().__init__(world, "Sequential", {}, name)
        self.members: list[Any] = []
        for layer in layers:
            self.add(layer)
        world.models.append(self)

    def add(self, layer: Any) -> None:
        if isinstance(layer, Tensor):
            layer = layer.node.layer
        if not isinstance(layer, (Layer, Instance)):
            if isinstance(layer, Application):
                raise ModelError(UNCUT.format(layer.what))
            raise ModelError(f"{as_what(layer)} is no layer")
        if isinstance(layer, Layer):
            if any(isinstance(m, Layer) and m.name == layer.name for m in self.members):
                raise ModelError(f"two layers of the model are called '{layer.name}'")
            layer.used = True
        self.members.append(layer)

    @property
    def size(self) -> int:
        return sum(member.size for member in self.parts()) + 1

    def parts(self) -> list[Layer]:
        return [member for member in self.members if isinstance(member, Layer)]

    def attribute(self, name: str, run: Run) -> Any:
        if name == "add":
            return Method(name, lambda layer, **kwargs: self.add(layer))
        if name == "pop":
            return Method(name, lambda **kwargs: self.members.pop() and None)
        if name == "layers":
            return list(self.members)
        if name == "get_layer":
            return Method(name, self.get_layer)
        if name in ("output", "input", "inputs", "outputs", "output_shape", "input_shape"):
            model = self.functional(None, run)
            return model.attribute(name, run)
        return super().attribute(name, run)

    def get_layer(self, name: Any = None, index: Any = None) -> Any:
        if type(index) is int:
            return self.members[index]
        return next(m for m in self.members if isinstance(m, Layer) and m.name == name)

    @property
    def whole(self) -> bool:
        """Whether all its layers are Keras' own."""
        return all(isinstance(m, Layer) and (not isinstance(m, Sequential) or m.whole)
                   for m in self.members)  # fmt: skip

    def entry_config(self) -> dict[str, Any]:
        entries = [
            {
                "class_name": layer.kind(),
                "config": layer.entry_config(),
                "name": layer.name,
            }
            for layer in self.parts()
        ]
        return {**self.config, "name": self.name, "layers": entries}

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        run.step(len(self.members))
        if self.whole or not list(tensors_in(args)):
            return super().call(args, kwargs, run)
        self.used = True
        value = args[0]
        for member in self.members:
            value = member.call([value], {}, run)
        return value

    def functional(self, size: tuple[int, ...] | None, run: Run) -> Model:
        """The same layers on an input of their own."""
        shape: Any = size
        head = self.members[0] if self.members else None
        while isinstance(head, Sequential) and head.members:
            head = head.members[0]
        if shape is None and isinstance(head, Layer):
            given = head.config.get("batch_shape")
            shape = None if given is None else tuple(given[1:])
        if shape is None:
            raise ModelError(NEEDS_SIZE.format(self.name))
        start = value = self.world.input(shape, None, None)
        for member in self.members:
            if not (isinstance(member, Layer) and member.type == "InputLayer"):
                value = member.call([value], {}, run)
        model = Model(self.world, start, value, None, run)
        self.world.models.remove(model)
        return model


NEEDS_SIZE = "'{}' has no input size; give --input HxWxC (input= in Python)"


def as_what(value: Any) -> str:
    return value.what if isinstance(value, Thing) else plain.shown(value)


class KerasBase(Base):
    """keras.Model and keras.layers.Layer, from which the text's classes inherit."""

    what = "a Keras class"

    def get(self, instance: Instance, name: str, run: Run) -> Any:
        if name in ("add_weight", "add_variable"):
            raise ModelError(
                f"class '{instance.cls.name}' makes variables with {name}(), which is not "
                "supported; use Keras' own layers"
            )
        if name == "name":
            return snake(instance.cls.name)
        return Ignored(name)

    def run(self, instance: Instance, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        found = instance.cls.lookup("call")
        tensors = list(tensors_in([args, kwargs]))
        if not tensors:
            return Ignored(instance.cls.name)
        if found is None or not isinstance(found[0], Function):
            raise ModelError(f"class '{instance.cls.name}' has no 'call' method")
        build = instance.cls.lookup("build")
        if build is not None and "built" not in instance.attrs:
            instance.attrs["built"] = True
            Bound(build[0], instance, build[1]).call([tensors[0].shape], {}, run)
        instance.attrs["called"] = True
        method: Function = found[0]
        spec = method.arguments
        known = {p.arg for p in (*spec.args, *spec.kwonlyargs)}
        kwargs = {k: v for k, v in kwargs.items() if k in known or k not in MODES}
        for mode in MODES:
            if mode in method.required and mode not in kwargs and len(args) < 2:
                kwargs[mode] = False if mode == "training" else None
        return Bound(method, instance, found[1]).call(args, kwargs, run)


class KerasWorld:
    """Everything of Keras that one text has built."""

    def __init__(self, size: tuple[int, ...] | None, place: int) -> None:
        self.size = size
        self.place = place
        """Which Input, in the order of their making, has the size that was asked for."""
        self.scratch = keras.Builder()
        self.layers: list[Layer] = []
        self.models: list[Any] = []
        self.inputs: list[Tensor] = []
        self.counters: dict[str, int] = {}
        self.scratch_names: dict[str, int] = {}
        self.serial = 0
        self.base_class = KerasBase()

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    def name_for(self, stem: str) -> str:
        """The name that Keras gives a layer without one."""
        number = self.counters.get(stem, 0)
        self.counters[stem] = number + 1
        return f"{stem}_{number}" if number else stem

    def scratch_name(self, layer: Layer) -> str:
        number = self.scratch_names.get(layer.name, 0)
        self.scratch_names[layer.name] = number + 1
        return f"{layer.name}#{number}" if number else layer.name

    # What the interpreter asks

    def owns(self, path: str) -> bool:
        return path.partition(".")[0] in ROOTS

    def constant(self, path: str) -> Any:
        return NotImplemented

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def follows(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def base(self, path: str) -> Base | None:
        last = path.rpartition(".")[2]
        known = last in (*MODEL_CLASSES, "Layer", "Sequential") or self.is_layer(path)
        return self.base_class if known else None

    def is_layer(self, path: str) -> bool:
        *parents, last = path.split(".")
        capital = last[:1].isupper()
        return capital and ("layers" in parents or (last in keras.LAYERS and "keras" in parents))

    def call(self, path: str, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        *parents, last = path.split(".")
        if last == "Sequential" and "keras" in parents[:2]:
            return self.sequential(*args, **kwargs)
        if last in MODEL_CLASSES and "keras" in parents[:2]:
            return self.model(run, *args, **kwargs)
        if last == "Input" and "keras" in parents[:2]:
            return self.input(**plain.bound_names(args, kwargs, "shape batch_size dtype"))
        if "applications" in parents:
            return self.application(last, args, kwargs)
        if self.is_layer(path):
            return self.layer(last, args, kwargs)
        tensors = [a for a in [*args, *kwargs.values()] if run.is_tensor(a)]
        if "layers" in parents and last in names.MERGES:
            inputs, *rest = args or [kwargs.pop("inputs", None)]
            return self.layer(names.MERGES[last], rest, kwargs).call([inputs], {}, run)
        if last == "image_data_format":
            return "channels_last"
        if last in ("int_shape", "shape") and tensors and isinstance(tensors[0], Tensor):
            return tensors[0].shape
        if not tensors:
            return Ignored(path)
        if path.endswith("image.resize"):
            size = kwargs.get("size", args[1] if len(args) > 1 else None)
            layer = self.layer("Resize", [], {"size": size})
            return layer.call([tensors[0]], {}, run)
        if last in names.OPS:
            return self.function(last, args, kwargs, run)
        raise ModelError(
            f"'{path}' of a tensor is not known to this reader{suggestion(last, names.OPS)}"
        )

    # What the text builds

    def sequential(self, layers: Any = None, trainable: Any = True, name: Any = None) -> Sequential:
        if isinstance(layers, str):
            layers, name = None, layers
        if layers is not None and not isinstance(layers, (list, tuple)):
            raise ModelError("Sequential() takes a list of layers")
        return Sequential(self, layers or (), name)

    def model(self, run: Run, *args: Any, **kwargs: Any) -> Any:
        given = plain.bound_names(list(args), kwargs, "inputs outputs")
        inputs = given.pop("inputs", given.pop("input", None))
        outputs = given.pop("outputs", given.pop("output", None))
        return Model(self, inputs, outputs, given.get("name"), run)

    def input(
        self,
        shape: Any = None,
        batch_size: Any = None,
        dtype: Any = None,
        name: Any = None,
        batch_shape: Any = None,
        **ignored: Any,
    ) -> Tensor:
        if batch_shape is not None and isinstance(batch_shape, (list, tuple)):
            shape = tuple(batch_shape)[1:]
        if type(shape) is int:
            shape = (shape,)
        if isinstance(shape, Ignored):
            shape = None
        layer = Layer(self, "InputLayer", {}, name)
        if self.size is not None and len(self.inputs) == self.place:
            shape = self.size
        if (
            shape is None
            or not isinstance(shape, (list, tuple))
            or any(type(n) is not int for n in shape)
        ):
            raise ModelError(f"input '{layer.name}' leaves its size open; give --input HxWxC "
                             "(input= in Python)")  # fmt: skip
        layer.config = {"batch_shape": [None, *shape]}
        label = keras.Ref(self.scratch.unique(f"input:{len(self.inputs)}"))
        kind = dtype if isinstance(dtype, str) and "int" in dtype else "float"
        spec = keras.shape_spec([None, *shape], kind, layer.name, None, False)
        self.scratch.known[label] = spec
        node = Node(self.next_serial(), layer, [], {})
        node.outputs = [Tensor(self, node, 0, label)]
        self.inputs.append(node.outputs[0])
        return node.outputs[0]

    def layer(self, type_: str, args: list[Any], kwargs: dict[str, Any]) -> Layer:
        """A layer from its arguments."""
        type_ = names.canonical(type_)
        if type_ == "InputLayer":
            given = plain.bound_names(args, kwargs, "shape batch_size dtype")
            shape = given.get("shape", given.get("input_shape"))
            whole = given.get("batch_shape", given.get("batch_input_shape"))
            made = Layer(self, type_, {}, given.get("name"))
            self.declare(made, tuple(whole)[1:] if isinstance(whole, (list, tuple)) else shape)
            return made
        signature = names.SIGNATURES.get(type_)
        if signature is None and args:
            raise ModelError(f"'{type_}' takes its arguments by name only in this reader")
        given = plain.bound_names(args, kwargs, signature or "")
        name = given.pop("name", None)
        config: dict[str, Any] = dict(names.DEFAULTS.get(type_, {}))
        known = {*(signature or "").split(), *names.COMMON}
        shape = None
        for key, value in given.items():
            key = names.RENAMED.get((type_, key), key)
            if key.endswith(names.IRRELEVANT) or key in names.DROPPED:
                continue
            if key not in known and signature is not None:
                raise ModelError(f"{type_} has no argument '{key}'{suggestion(key, known)}")
            if key == "input_shape":
                shape = value
            elif key == "batch_input_shape":
                shape = tuple(value)[1:] if isinstance(value, (list, tuple)) else value
            elif key == "input_dim" and type_ != "Embedding":
                shape = (value,)
            else:
                config[key] = setting(value, f"{key} of {type_}")
        made = Layer(self, type_, config, None if isinstance(name, Thing) else name)
        if shape is not None:
            self.declare(made, shape)
        return made

    def declare(self, layer: Layer, shape: Any) -> None:
        """The input size that a layer names."""
        if isinstance(shape, int):
            shape = (shape,)
        if not isinstance(shape, (list, tuple)):
            return
        dims = [n if type(n) is int else None for n in shape]
        layer.config["batch_shape"] = [None, *dims]

    def function(self, name: str, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        """A function on tensors, as the layer that does the same."""
        type_, extra = names.OPS[name]
        kwargs = {key: value for key, value in kwargs.items() if key not in ("name", "dtype")}
        taken = [key for key in ("x", "inputs", "values", "input_tensor", "tensor", "a", "b")
                 if key in kwargs]  # fmt: skip
        args = [*args, *(kwargs.pop(key) for key in taken)]
        count = 2 if type_ in ("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum",
                               "Matmul") else 1  # fmt: skip
        settings = dict(zip(extra.split(), args[count:], strict=False)) if extra else {}
        for key, value in kwargs.items():
            key = {"perm": "axes", "pattern": "axes", "shape": "newshape", "dim": "axis",
                   "num_or_size_splits": "indices_or_sections"}.get(key, key)  # fmt: skip
            if key in extra.split():
                settings[key] = value
        if type_ == "Concatenate":
            settings.setdefault("axis", -1 if name == "concatenate" else 0)
        if type_ in ("Softmax", "LogSoftmax"):
            settings = {}
        if type_ == "Reshape":
            sizes = settings.get("newshape", ())
            # None or -1 in front stands for the batch, which the reader keeps as one sample.
            settings["newshape"] = [-1 if n is None else n for n in sizes]
        config = {key: setting(value, f"{key} of {name}") for key, value in settings.items()}
        return Layer(self, type_, config).call(args[:count], {}, run)

    def application(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if not name[:1].isupper():
            return Ignored(name)
        return Application(self, name, plain.bound_names(args, kwargs, "include_top weights"))

    # What comes out

    def network(self, model: Any, name: str, run: Run) -> Network:
        """The network of the model that was chosen."""
        if isinstance(model, Application):
            return model.network()
        if isinstance(model, Instance):
            model = self.instantiated(model, run)
        if isinstance(model, Sequential):
            if model.whole:
                top = {"class_name": "Sequential", "config": model.entry_config()}
                return keras.read_config(top, name, self.size)
            model = model.functional(self.size, run)
        config = {"class_name": "Functional", "config": model.entry_config()}
        return keras.read_config(config, name)

    def instantiated(self, instance: Instance, run: Run) -> Model:
        """An object of the text's own Model class, called on an input."""
        if self.size is None:
            raise ModelError(NEEDS_SIZE.format(instance.cls.name))
        start = self.input(self.size)
        model = Model(self, start, instance.call([start], {}, run), None, run)
        self.models.remove(model)
        return model

    def wanted_place(self, model: Any) -> int | None:
        """Which Input the chosen model begins with; None if its size is not one Input's."""
        if isinstance(model, Model) and len(model.inputs) == 1:
            places = [i for i, tensor in enumerate(self.inputs) if tensor is model.inputs[0]]
            return places[0] if places else None
        return None

    def leftover(self, run: Run) -> Any:
        """What a fragment without a model builds: its last tensor, or its layers in a row."""
        read = {id(t) for layer in self.layers for node in layer.nodes for t in node.sources()}
        ends = [
            tensor
            for layer in self.layers
            for node in layer.nodes
            for tensor in node.outputs
            if id(tensor) not in read and layer.type != "InputLayer"
        ]
        if ends and self.inputs:
            return Model(self, self.inputs, ends, None, run)
        rest = [layer for layer in self.layers if not layer.used and layer.type != "InputLayer"]
        return Sequential(self, rest, None) if rest else None


class Application(Thing):
    """A network of keras.applications."""

    def __init__(self, world: KerasWorld, name: str, settings: dict[str, Any]) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.used = False
        world.models.append(self)

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"keras.applications.{self.name}"

    def parts(self) -> list[Layer]:
        return []

    def attribute(self, name: str, run: Run) -> Any:
        if name in ("input", "output", "inputs", "outputs", "get_layer"):
            raise ModelError(UNCUT.format(self.what))
        return () if name == "layers" else Ignored(name)

    def assign(self, name: str, value: Any) -> None:
        """Freezing changes no size."""

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        if run.is_tensor(args):
            raise ModelError(UNCUT.format(self.what))
        return Ignored(self.name)

    def network(self) -> Network:
        from convcalc import zoo
        from convcalc.readers import load

        name = self.name.lower()
        whole = self.settings.get("include_top", True) is True
        if name not in zoo.index() or not whole or self.settings.get("classes", 1000) != 1000:
            raise ModelError(UNCUT.format(self.what))
        size = self.world.size
        shape = self.settings.get("input_shape")
        if size is None and isinstance(shape, (list, tuple)):
            size = tuple(shape)
        return load(name, input=size)


UNCUT = (
    "{} is known as a whole only, with its 1,000 classes (`convcalc zoo`); for a model made of its "
    "parts, save the model's configuration (model.to_json()) and read that"
)


def setting(value: Any, what: str, depth: int = 0) -> Any:
    """A layer's setting as a configuration has it.

    Raises:
        ModelError: it is not known, or no setting.
    """
    if isinstance(value, (list, tuple)):
        if depth > 1 or len(value) > (1000, 64)[depth]:
            raise ModelError(f"{what} is nested too deeply or too long")
        return [setting(item, what, depth + 1) for item in value]
    if isinstance(value, Layer):
        value.used = True
        return {"class_name": value.kind(), "config": value.entry_config()}
    if isinstance(value, External):
        return value.path.rpartition(".")[2]
    if isinstance(value, Function):
        return value.name
    if isinstance(value, Ignored):
        raise ModelError(
            f"{what} depends on {value.what}, which is not run; write the number itself"
        )
    if not plain.scalar(value) or value is ...:
        raise ModelError(f"{what} cannot be {as_what(value)}")
    return value
