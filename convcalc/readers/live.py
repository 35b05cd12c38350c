"""Objects of frameworks, told by the modules of their classes: none is imported to find out."""

from __future__ import annotations

import json
from typing import Any

from convcalc.errors import ConvcalcError, ModelError
from convcalc.network import Network
from convcalc.readers.sizes import Input

#: The packages and the base class of models and layers of Keras 3 and of tf.keras.
KERAS = {("keras", "Layer"), ("tf_keras", "Layer"), ("tensorflow", "Layer")}


def read(source: Any, input: Input = None) -> Network:
    """The network in a live Keras model or layer, or in a PyTorch module, which is not changed.

    Raises:
        ModelError: it is neither, or cannot be read.
    """
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(source).__mro__}
    if bases & KERAS:
        return read_keras(source, input)
    if ("torch", "Module") in bases:
        from convcalc.readers import torch

        return torch.read_module(source, input=input, name=type(source).__name__)
    raise ModelError(
        f"cannot read a network from an object of type {type(source).__name__}; give a Keras "
        "model, a PyTorch module, a path, a name of the zoo, or a configuration as a dict"
    )


def read_keras(model: Any, input: Input) -> Network:
    """The network of a live Keras model or layer, through the configuration that it writes.

    Raises:
        ModelError: the model writes none that says how its layers are connected.
    """
    from convcalc.readers import keras

    kind = type(model).__name__
    try:
        if hasattr(model, "to_json"):
            config = json.loads(model.to_json())
        else:
            config = {"class_name": kind, "config": model.get_config(), "name": model.name}
    except ConvcalcError:
        raise
    # Custom layers' own `get_config` runs here and may raise whatever it likes.
    except Exception as error:
        said = " ".join(str(error).split())
        raise ModelError(
            f"'{model.name}' ({kind}) cannot write its configuration: {said:.200}"
        ) from error
    inner = config.get("config")
    # tf.keras' oldest Sequential models are a list of layers.
    known = isinstance(inner, list) or (isinstance(inner, dict) and "layers" in inner)
    if hasattr(model, "to_json") and not known:
        raise ModelError(
            f"'{model.name}' ({kind}) says in Python code how its layers are connected; give a "
            "functional model: x = keras.Input(...); keras.Model(x, model.call(x))"
        )
    return keras.read_config(config, input=input)
