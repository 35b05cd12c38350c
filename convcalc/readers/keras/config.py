"""What stands in a configuration: layers, models, inputs, without what each layer does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convcalc.errors import ModelError
from convcalc.readers.keras.arguments import leaves
from convcalc.readers.keras.text import MAX_DEPTH, short
from convcalc.readers.sizes import Size, laid_out
from convcalc.tensors import DTYPE_BYTES, TensorSpec

MODELS = frozenset({"Sequential", "Functional", "Model"})

#: Where Keras' own classes are from, as modules and as packages of registered classes.
KERAS_MODULES = frozenset({"keras", "tf_keras", "tensorflow"})
KERAS_PACKAGES = frozenset({"", "keras", "Addons"})


@dataclass(slots=True)
class Layer:
    """One entry of a configuration."""

    type: str
    config: Mapping[str, Any]
    name: str
    nodes: Sequence[Any] = ()
    build: Any = None
    registered: str = ""
    """A custom class under the name that it is registered by; empty for Keras' own."""
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
    registered = registered_name(entry, kind)
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
    shape = build.get("input_shape") if isinstance(build, dict) else None
    return Layer(kind, config, name, nodes, shape, registered)


def registered_name(entry: Mapping[str, Any], kind: str) -> str:
    """What a custom class is registered as; empty for a class of Keras.

    Classes of others often have the names of Keras' (Attention, LayerScale).
    """
    name, module = entry.get("registered_name"), entry.get("module")
    if isinstance(name, str) and "module" in entry:
        root = module.partition(".")[0] if isinstance(module, str) else ""
        return "" if root in KERAS_MODULES else name
    return "" if kind.rpartition(">")[0] in KERAS_PACKAGES else kind


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
