"""From whatever people have a network in to a `Network`.  Nothing that is read is ever run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network

#: Larger files are no structure of a network.
MAX_BYTES = 64 * 2**20


def load(source: Any, *, input: tuple[int, ...] | None = None) -> Network:
    """The network that `source` names or holds.

    `source` is a `Network`, a zoo name, the path of a Keras configuration (.json), of a Keras model
    (.keras) or of a spec of ours (.yaml, .json), or such a configuration as a dict.  `input`
    (height, width, channels) replaces the size of its one input.

    Raises:
        ModelError: it cannot be read, or does not fit together.
    """
    if isinstance(source, Network):
        return source if input is None else resized(source, input)
    if isinstance(source, Mapping):
        return read_mapping(source, "the configuration", input)
    if isinstance(source, (str, Path)):
        from convcalc import zoo

        name = str(source)
        if name in zoo.index():
            return zoo.load(name) if input is None else resized(zoo.load(name), input)
        return read_file(Path(source), input)
    raise ModelError(f"cannot read a network from {type(source).__name__}")


def resized(net: Network, size: tuple[int, ...]) -> Network:
    """The same operators on an input of height, width, channels `size`.

    Raises:
        ModelError: the network has several inputs, or an operator cannot take the new size.
    """
    if len(net.inputs) != 1:
        raise ModelError(f"'{net.name}' has {len(net.inputs)} inputs; one size does not say which")
    ((name, spec),) = net.inputs.items()
    if len(size) != len(spec.dims) - 1:
        raise ModelError(f"'{net.name}' takes {len(spec.dims) - 1} sizes, not {len(size)}")
    shape = (size[-1], *size[:-1]) if net.channels_first else size
    return net.with_inputs({name: spec._replace(shape=(1, *shape))})


def read_file(path: Path, input: tuple[int, ...] | None) -> Network:
    """The network in a file; what it is says its beginning, not its name."""
    from convcalc.readers import archive

    if path.is_dir():
        raise ModelError(f"'{path}' is a directory; give a model file or a name of `convcalc zoo`")
    if not path.exists():
        from convcalc import zoo
        from convcalc.ops.base import suggestion

        hint = suggestion(str(path), zoo.index()) or "; `convcalc zoo` lists the names"
        raise ModelError(f"'{path}' is neither a file nor a network of the zoo{hint}")
    try:
        with path.open("rb") as file:
            start = file.read(len(archive.MAGIC))
            zipped = start == archive.MAGIC
            data = b"" if zipped else start + file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror}") from None
    if zipped:
        data = archive.read_config_text(path, MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise ModelError(f"'{path}' is larger than {MAX_BYTES >> 20} MiB")
    return read_mapping(parse(data, str(path)), f"'{path}'", input)


def parse(data: bytes, what: str) -> Mapping[str, Any]:
    """The mapping in JSON or YAML text.

    Raises:
        ModelError: it is neither, or no mapping.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{what} is not text (byte {error.start})") from None
    if not text.strip():
        raise ModelError(f"{what} is empty")
    try:
        config = parse_json(text, what) if text.lstrip()[0] in "{[" else parse_yaml(text, what)
    except RecursionError:
        raise ModelError(f"{what} is nested too deeply") from None
    if not isinstance(config, Mapping):
        raise ModelError(f"{what} holds no mapping; a network starts with 'layers' or 'class_name'")
    return config


def parse_json(text: str, what: str) -> Any:
    """JSON, or YAML where a flow mapping only looks like it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip()[:2] not in ('{"', "[{", "{\n", "{ ", "{}"):
            return parse_yaml(text, what)
        raise ModelError(
            f"{what} is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except ValueError as error:
        raise ModelError(f"{what} is not valid JSON: {error}") from None


def parse_yaml(text: str, what: str) -> Any:
    """YAML without anything that makes objects."""
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ModelError(f"{what} is not valid YAML: {problem}{where}") from None
    except ValueError as error:
        raise ModelError(f"{what} is not valid YAML: {error}") from None


def read_mapping(config: Mapping[str, Any], what: str, input: tuple[int, ...] | None) -> Network:
    """The network that a configuration describes, by what it looks like."""
    from convcalc.readers import spec

    try:
        if spec.matches(config):
            return spec.read_spec(config, input=input)
        if "class_name" in config or "config" in config:
            from convcalc.readers import keras

            return keras.read_config(dict(config), input=input)
    except RecursionError:
        raise ModelError(f"{what} is nested too deeply") from None
    raise ModelError(f"{what} has neither 'layers' (our spec) nor 'class_name' (Keras)")
