"""Recurrent layers and the wrappers around layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convcalc.errors import ModelError
from convcalc.ops import merge, recurrent
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call, Rule
from convcalc.readers.keras.config import layer_like
from convcalc.readers.keras.text import short

CELLS = {
    "LSTM": "lstm",
    "GRU": "gru",
    "SimpleRNN": "simple",
    "CuDNNLSTM": "lstm",
    "CuDNNGRU": "gru",
}


def cell(c: Call, kind: str, config: Mapping[str, Any], suffix: str = "") -> Ref:
    """One recurrent layer."""
    units = config.get("units")
    if type(units) is not int:
        raise ModelError(f"'{c.path}' ({c.type}): units must be an integer, got {short(units)}")
    operator = recurrent.Recurrent(
        CELLS[kind],
        units,
        bool(config.get("return_sequences", False)),
        bool(config.get("use_bias", True)),
        bool(config.get("reset_after", kind == "GRU")),
    )
    return c.emit(operator, c.inputs[:1], suffix)


def recurrence(c: Call) -> list[Ref]:
    if c.get("return_state", False):
        return c.unknown()
    return [cell(c, c.type, c.config)]


def bidirectional(c: Call) -> list[Ref]:
    """The same sequence forwards and backwards, the results merged."""
    tensors = []
    for key in ("layer", "backward_layer"):
        entry = c.config.get(key) or c.config.get("layer")
        inner = layer_like(entry, f"'{c.path}'")
        if inner is None or inner.type not in CELLS or inner.config.get("return_state"):
            return c.unknown()
        suffix = "backward" if key == "backward_layer" else "forward"
        tensors.append(cell(c, inner.type, inner.config, suffix))
    mode = c.config.get("merge_mode", "concat")
    if mode is None:
        return tensors
    merges: dict[Any, Operator] = {
        "concat": merge.Concat(-1),
        "sum": merge.Add(),
        "mul": merge.Multiply(),
        "ave": merge.Average(),
    }
    if not isinstance(mode, str) or mode not in merges:
        raise ModelError(f"'{c.path}' (Bidirectional): merge_mode {short(mode)}")
    return [c.emit(merges[mode], tensors)]


def time_distributed(c: Call) -> list[Ref]:
    """A layer on each step: the steps are taken into the batch and back out of it."""
    inner = layer_like(c.config.get("layer"), f"'{c.path}'")
    dims = c.dims()
    if inner is None or dims is None or len(dims) < 3 or dims[0] != 1:
        return c.unknown()
    folded = c.emit(shapes.Reshape((dims[0] * dims[1], *dims[2:]), whole=True), suffix="fold")
    outputs = c.builder.call(
        inner, [folded], (), {}, f"{c.path}/", c.trainable, (None,), c.depth + 1
    )
    results = []
    for tensor in outputs:
        made = c.builder.spec(tensor).shape
        if made is None:
            return c.unknown(inputs=outputs)
        results.append(c.emit(shapes.Reshape((dims[0], dims[1], *made[1:]), whole=True), [tensor]))
    return results


RULES: dict[str, Rule] = {
    **dict.fromkeys(CELLS, recurrence),
    "Bidirectional": bidirectional,
    "TimeDistributed": time_distributed,
}  # fmt: skip
