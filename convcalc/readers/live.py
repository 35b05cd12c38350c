"""Objects of frameworks, recognised by the modules of their classes: nothing is imported for it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers.sizes import Input


def read(source: Any, input: Input = None) -> Network:
    """The network in a live Keras model or PyTorch module, which is not changed.

    Raises:
        ModelError: it is neither, or cannot be read.
    """
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(source).__mro__}
    if ("torch", "Module") in bases:
        torch = import_module("convcalc.readers.torch")
        found: Network = torch.read_module(source, input=input, name=type(source).__name__)
        return found
    raise ModelError(f"cannot read a network from {type(source).__name__}")
