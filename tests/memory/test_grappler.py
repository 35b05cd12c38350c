"""The order of gradients against the graphs that TensorFlow itself optimizes."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcalc
from convcalc.memory.engines.tensorflow.grappler import Graph, Scopes, Step, order, without
from convcalc.memory.engines.tensorflow.rules import TensorFlow
from convcalc.memory.job import Job
from convcalc.memory.lowering import Lowering
from convcalc.readers.spec import read_spec


def chain(keras, name):
    """Eight convolutions and two dense layers."""
    layers = keras.layers
    x = first = keras.Input((16, 16, 3))
    for filters in range(4, 12):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return keras.Model(first, layers.Dense(10, activation="softmax")(x), name=name)


def residual(keras, name):
    """Batch norms, and a branch with a convolution of its own."""
    layers = keras.layers
    x = first = keras.Input((16, 16, 3))
    for stride in (1, 2, 1):
        y = layers.Conv2D(8, 3, strides=stride, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(y))
        if x.shape != y.shape:
            x = layers.Conv2D(8, 1, strides=stride, use_bias=False)(x)
            x = layers.BatchNormalization()(x)
        x = layers.ReLU()(layers.Add()([y, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(first, layers.Dense(10, activation="softmax")(x), name=name)


def row(keras, name):
    """In one dimension, with dilation."""
    layers = keras.layers
    x = first = keras.Input((64, 3))
    for rate in (1, 1, 2, 4, 1):
        x = layers.Conv1D(8, 3, padding="same", dilation_rate=rate, activation="relu")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(first, layers.Dense(10, activation="softmax")(x), name=name)


def optimized(keras, model, optimizer) -> dict[str, list[str]]:
    """By layer's scope: kernel and input as their gradients stand in TensorFlow's graph."""
    from tensorflow.python.eager import context

    model.compile(optimizer=optimizer, loss="categorical_crossentropy", jit_compile=False)
    x = np.zeros((2, *model.input_shape[1:]), np.float32)
    y = np.zeros((2, *model.output_shape[1:]), np.float32)
    context.enable_run_metadata()
    try:
        model.train_on_batch(x, y)
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    graph = max((g.post_optimization_graph for g in graphs), key=lambda g: len(g.node))
    found: dict[str, list[str]] = {}
    for node in graph.node:
        scope = re.match(r"gradient_tape/[^/]*/([^/]*)/", node.name)
        if scope and node.op in ("Conv2DBackpropFilter", "Conv2DBackpropInput", "MatMul"):
            of_kernel = node.op.endswith("Filter") or node.name.endswith("MatMul_1")
            found.setdefault(scope[1], []).append("kernel" if of_kernel else "input")
    return found


@pytest.mark.parametrize(
    ("build", "name", "optimizer"),
    [
        (chain, "functional", "adam"),
        (chain, "functional", "sgd"),
        (chain, "functional", "rmsprop"),
        # Later in the alphabet than the result's own name, and so another order.
        (chain, "vgg", "adam"),
        (residual, "functional", "adam"),
        (residual, "vgg", "sgd"),
        (row, "functional", "adam"),
        (row, "vgg", "sgd"),
    ],
)
def test_gradients_stand_as_in_the_graph_that_tensorflow_optimizes(build, name, optimizer):
    keras = pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    keras.utils.clear_session()
    model = build(keras, name)
    expected = optimized(keras, model, optimizer)
    net, job = convcalc.load(model), Job(optimizer=optimizer, device="cpu")
    lowering = Lowering(net, job, TensorFlow(job, 2))
    lowering.make_resting()
    lowering.find_wanted()
    products = order(lowering).products
    scopes = Scopes()
    opened = {layer: scopes.open(layer) for layer in dict.fromkeys(op.layer for op in net.ops)}
    found = {
        opened[op.layer]: [part for part in products[op.name] if part in ("kernel", "input")]
        for op in net.ops
        if op.name in products
    }
    assert found == expected
    assert {tuple(parts) for parts in expected.values() if len(parts) > 1} >= {("kernel", "input")}


def test_a_separable_convolution_reads_both_kernels_in_one_operation():
    layer = {"separable_conv": {"filters": 8, "kernel": 3}, "name": "sep"}
    net = read_spec({"name": "net", "input": [8, 8, 4], "layers": [layer]})
    job = Job(optimizer="sgd", device="cpu")
    step = Step(Lowering(net, job, TensorFlow(job, 2)))
    step.lowering.make_resting()
    step.forward()
    kernels = {f"net_1/sep_1/separable_conv2d/ReadVariableOp{end}" for end in ("", "_1")}
    assert step.states.keys() >= kernels


def test_keras_opens_a_scope_twice():
    scopes = Scopes()
    assert [scopes.open(name) for name in ("conv2d", "conv2d_1", "conv2d_2")] == [
        "conv2d_1",
        "conv2d_1_2",
        "conv2d_2_1",
    ]


def test_the_last_fills_the_gap():
    assert without(["a", "b", "c", "d", "e"], {"b"}) == ["a", "e", "c", "d"]
    assert without(["a", "b", "c", "d", "e"], {"b", "c"}) == ["a", "d", "e"]


def test_sorts_keep_the_order_of_edges():
    graph = Graph()
    source = graph.add()
    left, right = graph.add([source]), graph.add([source])
    end = graph.add([left, right])
    # Depth first, the last input first, and reversed: what was met again stays where it was.
    assert graph.pruned([end]) == [left, source, right, end]
    assert graph.by_kahn([source, right, left, end]) == [source, right, left, end]
    assert graph.by_post_order([source, right, left, end]) == [source, right, left, end]
