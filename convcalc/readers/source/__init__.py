"""Pasted Keras or PyTorch code, read from its syntax tree: nothing of it is run or imported."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers import keras
from convcalc.readers.source import plain, torch_names
from convcalc.readers.source.interpreter import Located, Run, parse
from convcalc.readers.source.keras_code import KerasBase, KerasWorld
from convcalc.readers.source.keras_code import Model as KerasModel
from convcalc.readers.source.keras_names import SIGNATURES
from convcalc.readers.source.torch_code import TorchWorld
from convcalc.readers.source.torch_values import TorchBase
from convcalc.readers.source.values import Function, Ignored, Instance, UserClass

#: The parser alone takes seconds and hundreds of MB for a few MB of text.
MAX_BYTES = 64 * 1024

#: Names that pasted pieces use without importing them.
KNOWN = {
    **{name: f"torch.nn.{name}" for name in torch_names.MODULES},
    **{name: f"keras.layers.{name}" for name in (*keras.LAYERS, *SIGNATURES, "InputLayer")},
    **{name: f"keras.{name}" for name in ("layers", "models", "Sequential", "Model", "Input")},
    "keras": "keras",
    "tf": "tensorflow",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "np": "numpy",
    "math": "math",
    "ModuleList": "torch.nn.ModuleList",
}

#: Parameters of a function of the text that ask for what `input` gives.
SIZES = ("input_shape", "input_size", "img_shape", "image_shape", "shape")


def load_source(
    text: str, *, input: tuple[int, ...] | None = None, name: str = "source"
) -> Network:
    """The network that pasted Keras or PyTorch code builds.

    `input` is height, width, channels whatever the framework's order; it replaces the size that the
    code gives, and PyTorch code needs it.  The network is the last model that is built: the
    outermost one, or the one called `model` where there are several; where code only defines
    functions or classes, the last one that needs no arguments is called.

    Raises:
        ModelError: the code cannot be read; the message says where, why and what to do.
    """
    tree = parse(cleaned(text))
    place = 0
    try:
        for _ in range(2):
            reading = Reading(input, place)
            reading.run.program(tree.body)
            model = reading.choice()
            wanted = reading.keras.wanted_place(model)
            if input is None or wanted is None or wanted == place:
                break
            place = wanted
        return reading.network(model, name)
    except Located:
        raise
    except RecursionError:
        raise ModelError("the source is nested too deeply") from None


def cleaned(text: str) -> str:
    """Text as Python's parser takes it: without prompts, notebook commands and fences.

    Raises:
        ModelError: it is too long, or empty.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ModelError(
            f"the source is longer than {MAX_BYTES >> 10} KiB; paste only what builds the network"
        )
    if not text.strip():
        raise ModelError("the source is empty")
    lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    if any(line.startswith(">>> ") for line in lines):
        lines = [line[4:] if line.startswith((">>> ", "... ")) else "" for line in lines]
    lines = ["" if re.match(r"\s*(```|[%!])", line) else line for line in lines]
    return textwrap.dedent("\n".join(lines))


class Reading:
    """One reading of a text, with what it has built."""

    def __init__(self, size: tuple[int, ...] | None, place: int) -> None:
        self.size = size
        self.keras = KerasWorld(size, place)
        self.torch = TorchWorld()
        self.run = Run([self.keras, self.torch], KNOWN)

    def network(self, model: Any, name: str) -> Network:
        try:
            if self.torch_model(model):
                return self.torch.network(model, name, self.size, self.run)
            return self.keras.network(model, name, self.run)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"the model cannot be read: {error}") from None

    def torch_model(self, model: Any) -> bool:
        if isinstance(model, Instance):
            return isinstance(model.cls.framework, TorchBase)
        return getattr(model, "world", None) is self.torch

    def choice(self) -> Any:
        """The model that is meant.

        Raises:
            ModelError: there is none.
        """
        found = self.candidates()
        if not found:
            single = self.keras.leftover(self.run) or self.single_modules()
            if single is not None:
                return single
            found = self.defined()
        if not found:
            raise ModelError(self.nothing())
        for key in ("model", "net"):
            bound = self.run.top.names.get(key)
            if len(found) > 1 and any(bound is model for model in found):
                return bound
        return found[-1]

    def candidates(self) -> list[Any]:
        """Models that are part of no other, in the order of their making."""
        keras_models = [m for m in self.keras.models if not m.used]
        layers = [set(map(id, m.parts())) if isinstance(m, KerasModel) else set()
                  for m in keras_models]  # fmt: skip
        outer = [
            model
            for model, own in zip(keras_models, layers, strict=True)
            if not own or not any(own < other for other in layers)
        ]
        instances = [
            i
            for i in self.run.instances
            if isinstance(i.cls.framework, KerasBase) and "called" not in i.attrs
        ]
        held = {id(part) for i in instances for part in plain.walk(i.attrs, Instance)}
        roots, _ = self.torch.roots(self.run.instances)
        return [
            *outer,
            *(i for i in instances if id(i) not in held and i.cls.lookup("call")),
            *roots,
        ]

    def single_modules(self) -> Any:
        """PyTorch modules that stand alone, in a row."""
        _, leaves = self.torch.roots(self.run.instances)
        if not leaves:
            return None
        if len(leaves) == 1:
            return leaves[0]
        return self.torch.module("Sequential", leaves, {}, self.run)

    def defined(self) -> list[Any]:
        """Models that a function or class of the text makes without arguments."""
        for value in reversed(list(self.run.top.names.values())):
            kwargs: dict[str, Any] = {}
            if isinstance(value, Function):
                required = value.required
            elif isinstance(value, UserClass) and value.framework is not None:
                if value.lookup("forward") is None and value.lookup("call") is None:
                    continue
                start = value.lookup("__init__")
                required = start[0].required[1:] if start else []
            else:
                continue
            for key in required:
                if key in SIZES and self.size is not None:
                    kwargs[key] = self.size
            if len(kwargs) == len(required):
                value.call([], kwargs, self.run)
                if found := self.candidates():
                    return found
        return []

    def nothing(self) -> str:
        """Why there is no network."""
        for key in ("model", "net"):
            bound = self.run.top.names.get(key)
            if isinstance(bound, Ignored):
                return (
                    f"'{key}' comes from {bound.what}, which this reader does not know; "
                    "`convcalc zoo` lists networks by name"
                )
        waiting = [
            v
            for v in self.run.top.names.values()
            if isinstance(v, (Function, UserClass)) and getattr(v, "framework", True) is not None
        ]
        if waiting:
            return (
                f"the source builds no network; {waiting[-1].what} needs arguments: "
                "add the line that calls it"
            )
        return "the source builds no network: no Keras model or layer, no PyTorch module"
