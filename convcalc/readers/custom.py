"""Layers and operators that a user describes from Python, for every reader.

A description says in the words of our spec what a layer is made of, so that it needs to know no
class of this package; `docs/readers.md` has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convcalc.errors import ConvcalcError, ModelError
from convcalc.network import Op
from convcalc.tensors import TensorSpec

#: Takes the layer's configuration (Keras' config, ONNX' attributes, the arguments of a PyTorch
#: operator that are no tensors) and its inputs' shapes without
#: the batch (None where unknown); gives a layer of our spec, or a list of them.
Describe = Callable[[Mapping[str, Any], tuple[tuple[int, ...] | None, ...]], Any]

DESCRIBED: dict[str, Describe] = {}


def register_layer(name: str, describe: Describe | None) -> None:
    """Describe the layers of a class that convcalc does not know, from now on.

    `name` is what the source calls it: a Keras class ("MyLayer", or "package>MyLayer" for one
    that is registered in Keras), an ONNX operator ("Op", or "domain>Op"), a PyTorch operator ("op",
    or "library::op"; PyTorch modules need no description, they are traced through).  It comes
    before a rule of convcalc of the same name, and replaces an earlier description; None takes it
    back.

    `describe(config, shapes)` returns a layer as in a spec (``"batch_norm"``, ``{"conv":
    {"filters": 8, "kernel": 3}}``), or a list of such layers.  The first one reads the layer's
    inputs, the others the one before, unless ``from`` names them: ``"input"`` is the layer's input,
    ``"input:1"`` its second one.  The last one's output is the layer's.
    """
    if describe is None:
        DESCRIBED.pop(name, None)
    else:
        DESCRIBED[name] = describe


def find(*names: str) -> Describe | None:
    """The description under the first of the names that has one."""
    return next((DESCRIBED[name] for name in names if name in DESCRIBED), None)


def described(
    describe: Describe,
    config: Mapping[str, Any],
    op: Op,
    specs: Sequence[TensorSpec],
) -> list[Op]:
    """The ops in place of the opaque `op`, whose inputs are `specs`; the last one has its name.

    Raises:
        ModelError: the description fails, or describes no layers.
    """
    from convcalc.readers.spec import Names, read_layer

    where = f"the description of '{op.name}' ({op.layer_type})"
    shapes = tuple(
        spec.shape[1:] if spec.shape and spec.batch_axis == 0 else spec.shape for spec in specs
    )
    try:
        layers = describe(config, shapes)
    except ConvcalcError:
        raise
    except Exception as error:
        raise ModelError(f"{where} failed: {type(error).__name__}: {error}") from error
    layers = layers if isinstance(layers, list) else [layers]
    if not layers:
        raise ModelError(f"{where} holds no layer")
    inputs = {f"input:{i}" if i else "input": name for i, name in enumerate(op.inputs)}
    taken = Names(inputs)
    parts: list[Op] = []
    try:
        for number, entry in enumerate(layers, 1):
            made = read_layer(entry, number, parts[-1].name if parts else "input", taken)
            if not parts and made[0].inputs == ("input",):
                # Without `from` the first one reads everything, as the layer does.
                made[0] = replace(made[0], inputs=tuple(inputs))
            parts.extend(made)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    last = parts[-1].name
    names = inputs | {part.name: f"{op.name}/{part.name}" for part in parts} | {last: op.name}

    def placed(name: str) -> str:
        base, separator, index = name.rpartition(":")
        if name in names:
            return names[name]
        return f"{names.get(base, base)}{separator}{index}" if separator else name

    return [
        replace(
            part,
            name=names[part.name],
            inputs=tuple(map(placed, part.inputs)),
            layer=op.layer,
            layer_type=op.layer_type,
            weights=f"{op.weights}/{part.weights}",
            trainable=op.trainable and part.trainable,
        )
        for part in parts
    ]
