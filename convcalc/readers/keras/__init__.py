"""Keras configurations (`model.to_json()` or `get_config()`), of Keras 3 and of Keras 2 / tf.keras.

Nothing of Keras is imported.  `rules.LAYERS` maps a class name to a small function that says which
operators the layer is made of.  A class that is not in it becomes an opaque operator: it keeps its
name, and its shape where the configuration recorded one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Builder
from convcalc.readers.keras.config import layer_like, shape_spec
from convcalc.readers.keras.rules import LAYERS
from convcalc.readers.sizes import Input

__all__ = ["LAYERS", "Builder", "Ref", "layer_like", "read_config", "shape_spec"]


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
