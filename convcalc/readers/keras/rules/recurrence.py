"""Recurrent layers and the wrappers around layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convcalc.errors import ModelError
from convcalc.ops import merge, recurrent
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call, Rule
from convcalc.readers.keras.config import Layer, layer_like
from convcalc.readers.keras.text import short

CELLS = {
    "LSTM": "lstm",
    "GRU": "gru",
    "SimpleRNN": "simple",
    "CuDNNLSTM": "lstm",
    "CuDNNGRU": "gru",
}
CONVOLUTIONAL = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def cell(c: Call, layer: Layer, suffix: str = "") -> list[Ref]:
    """One recurrent layer: its result, and its last states where it gives them."""
    config = layer.config
    sequences, state = (bool(config.get(key)) for key in ("return_sequences", "return_state"))
    bias = config.get("use_bias", True) is not False
    operator: Operator
    if layer.type in CELLS:
        units = config.get("units")
        if type(units) is not int:
            raise ModelError(f"'{c.path}' ({c.type}): units must be an integer, got {short(units)}")
        operator = recurrent.Recurrent(
            CELLS[layer.type], units, sequences, bias,
            reset_after=bool(config.get("reset_after", layer.type == "GRU")), state=state,
        )  # fmt: skip
        count = recurrent.STATES[operator.cell]
    else:
        # Its settings are read as those of the call are.
        own = replace(c, config=config)
        operator = recurrent.ConvRecurrent(
            own.whole("filters"), own.need("kernel_size"), own.get("strides", 1), own.padding,
            own.get("dilation_rate", 1), bias, sequences, own.first, state,
        )  # fmt: skip
        count = 2
    # In two directions each has its own half of the first states.
    found = c.emit(operator, c.inputs if not suffix else c.inputs[:1], suffix)
    return [found, *(Ref(f"{found}:{i + 1}") for i in range(count if state else 0))]


def recurrence(c: Call) -> list[Ref]:
    return cell(c, Layer(c.type, c.config, c.path))


def bidirectional(c: Call) -> list[Ref]:
    """The same sequence forwards and backwards, the results merged."""
    tensors: list[Ref] = []
    states: list[Ref] = []
    for key in ("layer", "backward_layer"):
        entry = c.config.get(key) or c.config.get("layer")
        inner = layer_like(entry, f"'{c.path}'")
        known = inner is not None and (inner.type in CELLS or inner.type in CONVOLUTIONAL)
        if inner is None or not known or inner.registered:
            return c.unknown()
        suffix = "backward" if key == "backward_layer" else "forward"
        result, *last = cell(c, inner, suffix)
        tensors.append(result)
        states.extend(last)
    mode = c.config.get("merge_mode", "concat")
    if mode is None:
        return [*tensors, *states]
    merges: dict[Any, Operator] = {
        "concat": merge.Concat(-1),
        "sum": merge.Add(),
        "mul": merge.Multiply(),
        "ave": merge.Average(),
    }
    if not isinstance(mode, str) or mode not in merges:
        raise ModelError(f"'{c.path}' (Bidirectional): merge_mode {short(mode)}")
    return [c.emit(merges[mode], tensors), *states]


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
    **dict.fromkeys((*CELLS, *CONVOLUTIONAL), recurrence),
    "Bidirectional": bidirectional,
    "TimeDistributed": time_distributed,
}  # fmt: skip
