"""Text files: Keras configurations in JSON, and specs of ours in YAML or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers.sizes import Input

#: Larger files are no structure of a network: NASNet's has 1.5 MB.  Parsed, they take up to thirty
#: times as much.
MAX_BYTES = 16 * 2**20

#: YAML takes ten seconds a megabyte.
MAX_YAML = 2**19

#: Bytes below a space that text has: tab, line feed, carriage return, form feed, escape.
CONTROLS = b"\t\n\r\f\x1b"


def match(start: bytes, name: str) -> bool:
    """Whether a file is text, whatever it is called."""
    return all(byte >= 32 or byte in CONTROLS for byte in start)


def read(path: Path, input: Input = None) -> Network:
    """The network in a JSON or YAML file.

    Raises:
        ModelError: it is neither, or describes no network.
    """
    if path.suffix == ".py":
        raise ModelError(
            f"'{path}' is Python code; name the function that builds the model, which will be run: "
            f"{path}:build_model, or have it read without running it: --source {path}"
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ModelError(f"'{path}' is larger than {MAX_BYTES >> 20} MiB")
    return read_mapping(parse(data, f"'{path}'"), f"'{path}'", input)


def read_mapping(config: Mapping[str, Any], what: str, input: Input) -> Network:
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

    if len(text) > MAX_YAML:
        raise ModelError(f"{what} is YAML of more than {MAX_YAML >> 10} KiB; write it as JSON")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ModelError(f"{what} is not valid YAML: {problem}{where}") from None
    except ValueError as error:
        raise ModelError(f"{what} is not valid YAML: {error}") from None
