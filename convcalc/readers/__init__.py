"""From whatever people have a network in to a `Network`.

Files are only read; the one thing that is ever run is a function that the caller names.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers.sizes import Input, by_name, laid_out

#: Modules of this package, in the order in which they are asked.  Each says with
#: ``match(start: bytes, name: str)`` whether a file is theirs, from its first bytes before its
#: name, and gives the network with ``read(path: Path, input: Input)``.
FORMATS = ("archive", "hdf5", "foreign", "configuration", "onnx")

#: How much of a file `match` gets to see.
START_BYTES = 1024


def load(source: Any, *, input: Input = None) -> Network:
    """The network that `source` names or holds.

    `source` is a `Network`, a zoo name, the path of a model file (.keras, .h5, .onnx), of a Keras
    configuration (.json) or of a spec of ours (.yaml, .json), such a configuration as a dict, a
    live Keras model or PyTorch module, or ``file.py:function``, whose function is called and
    gives one of these.

    `input` (height, width, channels) replaces the size of its one input; a mapping gives sizes by
    the inputs' names: height, width, channels for Keras and our specs, the whole shape with the
    batch for ONNX and PyTorch, in their own order.

    Raises:
        ModelError: it cannot be read, or does not fit together.
        MissingExtra: reading it needs a package that is not installed.
    """
    if isinstance(source, Network):
        return resized(source, input)
    if isinstance(source, Mapping):
        from convcalc.readers import configuration

        return configuration.read_mapping(source, "the configuration", input)
    if isinstance(source, (str, Path)):
        return named(str(source), input)
    from convcalc.readers import live

    return live.read(source, input)


def named(name: str, input: Input) -> Network:
    """The network of the zoo, in a file, or made by a function."""
    from convcalc import zoo

    if name in zoo.index():
        return resized(zoo.load(name), input)
    path, separator, function = name.rpartition(":")
    if separator and path.endswith(".py"):
        from convcalc.readers import python

        return load(python.call(Path(path), function), input=input)
    return read_file(Path(name), input)


def resized(net: Network, input: Input) -> Network:
    """The same operators on inputs of other sizes, given without the batch.

    Raises:
        ModelError: `input` does not fit the network's inputs, or an operator cannot take it.
    """
    if input is None:
        return net
    inputs = dict(net.inputs)
    for name, size in by_name(input, list(inputs), net.name).items():
        spec = inputs[name]
        if len(size) != len(spec.dims) - 1:
            raise ModelError(
                f"input '{name}' of '{net.name}' takes {len(spec.dims) - 1} sizes, not {len(size)}"
            )
        inputs[name] = spec._replace(shape=(1, *laid_out(size, net.channels_first)))
    return net.with_inputs(inputs)


def read_file(path: Path, input: Input) -> Network:
    """The network in a file; what it is says its beginning, and its name only after that."""
    if path.is_dir():
        from convcalc.readers import foreign

        foreign.refuse_directory(path)
    if not path.exists():
        from convcalc import zoo
        from convcalc.ops.base import suggestion

        hint = suggestion(str(path), zoo.index()) or "; `convcalc zoo` lists the names"
        raise ModelError(f"'{path}' is neither a file nor a network of the zoo{hint}")
    if not path.is_file():
        raise ModelError(f"'{path}' is no regular file")
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror}") from None
    for format in FORMATS:
        module = import_module(f"convcalc.readers.{format}")
        if module.match(start, path.name):
            found: Network = module.read(path, input)
            return found
    raise ModelError(
        f"'{path}' is in no format that is read: .keras, .h5, .onnx, a Keras configuration (.json) "
        "or a spec of convcalc (.yaml, .json)"
    )
