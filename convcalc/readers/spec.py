"""Our own network spec: YAML or JSON that people write by hand and that every network exports to.

    name: lenet5
    input: [28, 28, 1]
    layers:
      - conv: {filters: 6, kernel: 5, padding: same, activation: tanh}
      - average_pool: 2
      - flatten
      - dense: {units: 10, activation: softmax}

A layer is an operator's name with its attributes, or with its first one alone.  It reads the layer
before it unless `from` names others.  `name`, `layer`, `layer_type`, `weights`, `trainable` and
`dtypes` are the fields of `convcalc.network.Op`.  Sizes are height, width, channels, without the
batch; an input whose first axis is not the batch says so: {shape: [7, 1, 64], batch_axis: 1}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.ops import Operator, attributes, create, find, operators
from convcalc.ops.base import suggestion
from convcalc.readers.sizes import Input, by_name, laid_out
from convcalc.tensors import DTYPE_BYTES, TensorSpec

FORMAT = 1
MAX_LAYERS = 100_000
NETWORK_KEYS = ("convcalc", "name", "layout", "input", "inputs", "layers", "outputs")
#: A tuple: what a file gives may be a list, which no mapping can look up.
DTYPES = ("float", *DTYPE_BYTES)
INPUT_KEYS = ("shape", "dtype", "batch_axis")
LAYER_KEYS = ("name", "from", "layer", "layer_type", "weights", "trainable", "dtypes")


def matches(config: Mapping[str, Any]) -> bool:
    """Whether a mapping looks like one of our specs (and not like a Keras configuration)."""
    return "layers" in config and "class_name" not in config


def read_spec(config: Mapping[str, Any], *, input: Input = None) -> Network:
    """The network that a spec describes; `input` (without the batch) overrides its inputs' sizes.

    Raises:
        ModelError: the spec says something that cannot be; the message names the layer.
    """
    check_keys(config, NETWORK_KEYS, "a network")
    name = text(config.get("name", "network"), "name")
    layout = text(config.get("layout", "channels_last"), "layout")
    layers = config.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ModelError("'layers' must be a list of at least one layer")
    if len(layers) > MAX_LAYERS:
        raise ModelError(f"a network has at most {MAX_LAYERS:,} layers")
    inputs = read_inputs(config, name, layout == "channels_first", input)
    ops: list[Op] = []
    taken = Names(inputs)
    previous = next(iter(inputs))
    for number, entry in enumerate(layers, 1):
        made = read_layer(entry, number, previous, taken)
        ops.extend(made)
        previous = made[-1].name
    outputs = config.get("outputs", [previous])
    if isinstance(outputs, str):
        outputs = [outputs]
    if not isinstance(outputs, list) or not all(isinstance(item, str) for item in outputs):
        raise ModelError("'outputs' must be a list of layer names")
    return Network(name, tuple(ops), inputs, tuple(outputs), layout)


def read_inputs(
    config: Mapping[str, Any], network: str, channels_first: bool, given: Input
) -> dict[str, TensorSpec]:
    """The inputs by name, from `input` (one) or `inputs` (several)."""
    raw = config.get("inputs", {"input": config.get("input")})
    if not isinstance(raw, Mapping) or not raw:
        raise ModelError("'inputs' must map names to sizes, as in {image: [224, 224, 3]}")
    raw = {str(name): value for name, value in raw.items()}
    for name, size in by_name(given, list(raw), network).items():
        sizes, first = laid_out(size, channels_first), raw[name]
        raw[name] = {**first, "shape": sizes} if isinstance(first, dict) else sizes
    found = {}
    for name, value in raw.items():
        entry = value if isinstance(value, Mapping) else {"shape": value}
        check_keys(entry, INPUT_KEYS, f"input '{name}'")
        shape, dtype = entry.get("shape"), entry.get("dtype", "float")
        if not isinstance(shape, (list, tuple)):
            raise ModelError(f"input '{name}' has no sizes; write input: [height, width, channels]")
        if dtype not in DTYPES:
            raise ModelError(f"input '{name}' has the unknown dtype {dtype!r}")
        if "batch_axis" not in entry:
            found[name] = TensorSpec((1, *shape), dtype)
            continue
        axis = entry["batch_axis"]
        if axis is not None and (type(axis) is not int or not 0 <= axis < len(shape)):
            raise ModelError(f"input '{name}' has no axis {axis!r} for the batch")
        found[name] = TensorSpec(tuple(shape), dtype, axis)
    return found


def write_input(tensor: TensorSpec) -> Any:
    """An input as a spec has it: its sizes without the batch, where that is all there is to say."""
    if tensor.batch_axis == 0 and tensor.dims[0] == 1:
        sizes = list(tensor.dims[1:])
        return sizes if tensor.dtype == "float" else {"shape": sizes, "dtype": tensor.dtype}
    found: dict[str, Any] = {"shape": list(tensor.dims), "batch_axis": tensor.batch_axis}
    return found if tensor.dtype == "float" else {**found, "dtype": tensor.dtype}


class Names(set[str]):
    """The names in use, and fresh ones for layers that have none: conv_1, conv_2, ..."""

    def __init__(self, taken: Iterable[str]) -> None:
        super().__init__(taken)
        self.last: dict[str, int] = {}

    def fresh(self, kind: str) -> str:
        """A name that is not in use."""
        number = self.last.get(kind, 0) + 1
        while f"{kind}_{number}" in self:
            number += 1
        self.last[kind] = number
        return f"{kind}_{number}"


def read_layer(entry: Any, number: int, previous: str, taken: Names) -> list[Op]:
    """The ops of one entry of `layers`; the last one carries the layer's name."""
    where = f"layer {number}"
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping):
        raise ModelError(f"{where} must be a name or a mapping, not {kind_of(entry)}")
    kinds = [key for key in entry if key not in LAYER_KEYS]
    if len(kinds) != 1:
        raise ModelError(f"{where} must name one operator, not {len(kinds)}: {kinds[:5]}")
    kind = str(kinds[0])
    name = text(entry.get("name") or taken.fresh(kind), f"{where}: name")
    if name in taken:
        raise ModelError(f"{where}: the name '{name}' is used twice")
    taken.add(name)
    sources = entry.get("from", previous)
    sources = sources if isinstance(sources, list) else [sources]
    if not all(isinstance(source, str) for source in sources):
        raise ModelError(f"{where} ('{name}'): 'from' must be a layer's name or a list of them")
    trainable = entry.get("trainable", True)
    if not isinstance(trainable, bool):
        raise ModelError(f"{where} ('{name}'): 'trainable' must be true or false")
    dtypes = entry.get("dtypes", [])
    if not isinstance(dtypes, list) or not all(d in DTYPES for d in dtypes):
        raise ModelError(f"{where} ('{name}'): 'dtypes' must be a list of element types")
    try:
        steps = expand(kind, entry[kinds[0]])
    except ModelError as error:
        raise ModelError(f"{where} ('{name}'): {error}") from None
    if kind == "constant":
        sources = []
    layer = text(entry.get("layer", name), f"{where}: layer")
    layer_type = text(entry.get("layer_type", kind), f"{where}: layer_type")
    weights = text(entry.get("weights", ""), f"{where}: weights")
    ops: list[Op] = []
    for index, (suffix, operator) in enumerate(steps):
        last = index == len(steps) - 1
        own = name if last else f"{name}/{suffix}"
        shared = f"{weights}/{suffix}" if weights and not last else weights
        # Shorthands are written by hand, and dtypes for what has one operator.
        own_types = tuple(dtypes) if len(steps) == 1 else ()
        made = Op(own, operator, tuple(sources), layer, layer_type, shared, trainable, own_types)
        ops.append(made)
        sources = [own]
    return ops


def expand(kind: str, value: Any) -> list[tuple[str, Operator]]:
    """The operators of a layer: its own, before it those of a shorthand, behind it `activation`."""
    given = arguments(kind, value)
    function = given.pop("activation", None)
    steps: list[tuple[str, Operator]] = []
    if kind == "separable_conv":
        depthwise = {key: given[key] for key in given if key not in ("filters", "bias")}
        pointwise = {key: given[key] for key in given if key in ("filters", "bias")}
        if "channels_first" in given:
            pointwise["channels_first"] = given["channels_first"]
        steps.append(("depthwise", create("depthwise_conv", {**depthwise, "bias": False})))
        steps.append(("pointwise", create("conv", {**pointwise, "kernel": 1})))
    else:
        steps.append((kind, create(kind, given)))
    if function is not None:
        steps.append(("activation", create("activation", {"function": function})))
    return steps


def arguments(kind: str, value: Any) -> dict[str, Any]:
    """Attributes as a mapping; a single value is the operator's first attribute."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    cls = find(kind)
    if cls is None:
        raise ModelError(f"unknown operator '{kind}'{suggestion(kind, operators())}")
    fields = dataclasses.fields(cls)
    if not fields:
        raise ModelError(f"'{kind}' takes no attributes")
    return {fields[0].name: value}


def write_spec(net: Network) -> dict[str, Any]:
    """The spec of a network, as plain data for JSON or YAML; `read_spec` gives the network back."""
    layers: list[dict[str, Any]] = []
    previous = next(iter(net.inputs))
    for op in net.ops:
        entry: dict[str, Any] = {op.operator.type: attributes(op.operator), "name": op.name}
        if op.inputs != (previous,) and op.operator.type != "constant":
            entry["from"] = op.inputs[0] if len(op.inputs) == 1 else list(op.inputs)
        if op.layer != op.name:
            entry["layer"] = op.layer
        if op.layer_type != op.operator.type:
            entry["layer_type"] = op.layer_type
        if op.weights != op.name:
            entry["weights"] = op.weights
        if not op.trainable:
            entry["trainable"] = False
        if op.dtypes:
            entry["dtypes"] = list(op.dtypes)
        layers.append(entry)
        previous = op.name
    spec: dict[str, Any] = {"convcalc": FORMAT, "name": net.name}
    if net.channels_first:
        spec["layout"] = net.layout
    spec["inputs"] = {name: write_input(tensor) for name, tensor in net.inputs.items()}
    spec["layers"] = layers
    if net.outputs != (previous,):
        spec["outputs"] = list(net.outputs)
    return spec


def text(value: Any, what: str) -> str:
    """`value` if it is text."""
    if not isinstance(value, str):
        raise ModelError(f"{what} must be text, not {kind_of(value)}")
    return value


def check_keys(config: Mapping[Any, Any], known: tuple[str, ...], what: str) -> None:
    """Refuse keys that nothing reads: a typing mistake must not be lost."""
    for key in config:
        if key not in known:
            raise ModelError(f"{what} has no '{key}'{suggestion(str(key), known)}")


def kind_of(value: Any) -> str:
    """What a value is, in a word."""
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(
        type(value), f"{value!r:.40}"
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema of specs, made from the operators' own fields."""
    sizes = {"type": "array", "items": {"type": "integer", "minimum": 1}}
    kinds = {}
    for name, cls in sorted(operators().items()):
        fields = dataclasses.fields(cls)
        properties: dict[str, Any] = {field.name: {} for field in fields}
        properties["activation"] = {"type": "string"}
        for field in fields:
            plain = {"int": "integer", "bool": "boolean", "str": "string", "float": "number"}
            if str(field.type) in plain:
                properties[field.name] = {"type": plain[str(field.type)]}
        kinds[name] = {
            "description": " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
            "anyOf": [
                {"type": "object", "properties": properties, "additionalProperties": False},
                {"not": {"type": "object"}},
            ],
        }
    kinds["separable_conv"] = {
        "description": "A depthwise convolution, then one of size 1 that mixes the channels."
    }
    layer_fields: dict[str, Any] = {key: {"type": "string"} for key in LAYER_KEYS}
    layer_fields["trainable"] = {"type": "boolean"}
    layer_fields["dtypes"] = {"type": "array", "items": {"enum": list(DTYPES)}}
    layer_fields["from"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "convcalc network",
        "type": "object",
        "required": ["layers"],
        "additionalProperties": False,
        "properties": {
            "convcalc": {"const": FORMAT},
            "name": {"type": "string"},
            "layout": {"enum": ["channels_last", "channels_first"]},
            "input": sizes,
            "inputs": {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        sizes,
                        {
                            "type": "object",
                            "required": ["shape"],
                            "properties": {
                                "shape": sizes,
                                "dtype": {"type": "string"},
                                "batch_axis": {"type": ["integer", "null"]},
                            },
                            "additionalProperties": False,
                        },
                    ]
                },
            },
            "layers": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "anyOf": [
                        {"enum": sorted(kinds)},
                        {
                            "type": "object",
                            "properties": {**kinds, **layer_fields},
                            "additionalProperties": False,
                        },
                    ]
                },
            },
            "outputs": {"type": "array", "items": {"type": "string"}},
        },
    }
