"""The TensorFlow engine: mechanisms counted by hand, and recorded measurements."""

from __future__ import annotations

from convcalc.memory.engines.tensorflow import make
from convcalc.memory.job import Job
from convcalc.readers.spec import read_spec


def network(*layers: object, size: list[int] | None = None):
    return read_spec({"input": size or [8, 8, 4], "layers": list(layers)})


def conv(filters: int, **more: object) -> dict[str, object]:
    return {"conv": {"filters": filters, "kernel": 3, "padding": "same", **more}}


def test_inference_is_weights_input_and_two_layers():
    net = network(conv(16, activation="relu"), conv(32))
    weights = 4 * (3 * 3 * 4 * 16 + 16 + 3 * 3 * 16 * 32 + 32)
    timeline = make(net, Job("inference", device="cpu"), 2).timeline
    # The ReLU is done in the convolution's place.
    assert timeline.floor(2) == weights + 2 * 4 * 64 * (4 + 16 + 32)
    assert timeline.at(2).layer == "conv_2"
