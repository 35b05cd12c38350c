"""What tf.profiler counts for small Keras networks: writes tests/data/conventions_keras.json.

The float operations of a forward pass (`training=False`, batch of one) with the variables frozen
into the graph, as the recipes that people use do.  Needs TensorFlow and Keras.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
)

layers = keras.layers
IMAGE = (10, 8, 6)
RECORDS: list[dict[str, Any]] = []


def float_operations(model: keras.Model) -> int:
    """tf.profiler's total."""
    specs = [tf.TensorSpec((1, *x.shape[1:]), tf.float32) for x in model.inputs]
    call = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x), training=False))
    _, frozen = convert_variables_to_constants_v2_as_graph(call.get_concrete_function(*specs))
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen, name="")
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        options["output"] = "none"
        found = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    return int(found.total_float_ops)


def one(layer: Any, shape: tuple[int, ...], kind: str, /, **attributes: Any) -> None:
    """Measure one layer, and say what it is in our ops."""
    x = keras.Input(shape)
    count = float_operations(keras.Model(x, layer(x)))
    ops = [{"name": "y", "type": kind, "inputs": ["x"], "attributes": attributes}]
    name = f"{type(layer).__name__} {attributes} on {'x'.join(map(str, shape))}"
    RECORDS.append({"name": name, "input": [1, *shape], "ops": ops, "counts": {"keras": count}})


def measure() -> None:
    """All networks."""
    c2, t2 = layers.Conv2D, layers.Conv2DTranspose
    one(c2(4, 3), IMAGE, "conv", filters=4, kernel=3)
    one(c2(4, 3, use_bias=False), IMAGE, "conv", filters=4, kernel=3, bias=False)
    one(
        c2(4, (3, 2), strides=2, padding="same"),
        IMAGE,
        "conv",
        filters=4,
        kernel=[3, 2],
        stride=2,
        padding="same",
    )
    one(c2(4, 3, dilation_rate=2), IMAGE, "conv", filters=4, kernel=3, dilation=2)
    one(c2(4, 3, groups=2), IMAGE, "conv", filters=4, kernel=3, groups=2)
    one(layers.Conv1D(4, 5), (20, 3), "conv", filters=4, kernel=5)
    one(layers.Conv3D(4, 3), (5, 6, 7, 2), "conv", filters=4, kernel=3)
    one(
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        IMAGE,
        "depthwise_conv",
        kernel=3,
        multiplier=2,
    )
    for kernel in (2, 3, 5):
        for stride in (1, 2, 3):
            for padding in ("same", "valid"):
                one(
                    t2(4, kernel, strides=stride, padding=padding),
                    IMAGE,
                    "conv_transpose",
                    filters=4,
                    kernel=kernel,
                    stride=stride,
                    padding=padding,
                )
    one(layers.Dense(5), (12,), "dense", units=5)
    one(layers.Dense(5, use_bias=False), (12,), "dense", units=5, bias=False)
    one(layers.Dense(5), (7, 12), "dense", units=5)
    for scale in (True, False):
        for center in (True, False):
            made = layers.BatchNormalization(scale=scale, center=center)
            one(made, IMAGE, "batch_norm", scale=scale, center=center)
    one(layers.BatchNormalization(), (7, 12), "batch_norm")
    one(layers.LayerNormalization(), (7, 12), "layer_norm")
    one(layers.LayerNormalization(), (5, 20), "layer_norm")
    one(layers.LayerNormalization(), IMAGE, "layer_norm")
    for kind, cls in (("max_pool", layers.MaxPooling2D), ("average_pool", layers.AveragePooling2D)):
        one(cls(2), IMAGE, kind, kernel=2)
        one(cls(3, 2, padding="same"), IMAGE, kind, kernel=3, stride=2, padding="same")
    one(layers.GlobalAveragePooling2D(), IMAGE, "global_pool")
    one(layers.GlobalMaxPooling2D(), IMAGE, "global_pool", kind="max")
    for function in [
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "softplus",
        "hard_silu",
        "softmax",
        "selu",
    ]:
        one(layers.Activation(function), IMAGE, "activation", function=function)
    one(layers.Activation("softmax"), (12,), "activation", function="softmax")
    one(layers.PReLU(), IMAGE, "prelu")
    one(layers.Flatten(), IMAGE, "flatten")
    one(layers.Dropout(0.5), IMAGE, "dropout")
    one(layers.ZeroPadding2D(1), IMAGE, "pad", padding=1)
    for kind in ("add", "multiply", "maximum", "minimum", "subtract", "average", "concat"):
        for inputs in (2,) if kind == "subtract" else (2, 3):
            cls = getattr(layers, "Concatenate" if kind == "concat" else kind.capitalize())
            xs = [keras.Input(IMAGE) for _ in range(inputs)]
            count = float_operations(keras.Model(xs, cls()(xs)))
            ops = [{"name": "y", "type": kind, "inputs": ["x"] * inputs, "attributes": {}}]
            name = f"{kind} of {inputs}"
            RECORDS.append(
                {"name": name, "input": [1, *IMAGE], "ops": ops, "counts": {"keras": count}}
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default="tests/data/conventions_keras.json")
    path = parser.parse_args().output
    measure()
    versions = {tool: importlib.metadata.version(tool) for tool in ("tensorflow", "keras")}
    lines = ",\n".join("  " + json.dumps(record) for record in RECORDS)
    path.write_text(f'{{"versions": {json.dumps(versions)},\n "networks": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
