"""What an optimizer's update makes before any gradient is there, against Keras' own graphs."""

import numpy as np
import pytest

from convcalc.memory.engines.tensorflow.rules import TensorFlow
from convcalc.memory.job import SLOTS, Job
from convcalc.memory.lowering import Lowering
from convcalc.readers.spec import read_spec

SHAPE = (192, 160)
KERAS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "rmsprop": ("RMSprop", {}),
    "adamw": ("AdamW", {}),
}


def early_in_keras(optimizer: str) -> int:
    """Tensors of the variable's size that wait for neither a gradient nor an assignment, and are
    read by something that does."""
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    variable = keras.Variable(np.ones(SHAPE, np.float32), name="kernel")
    name, settings = KERAS.get(optimizer, (optimizer.capitalize(), {}))
    made = getattr(keras.optimizers, name)(**settings)
    made.build([variable])
    step = tf.function(lambda gradient: made.apply([gradient], [variable]))
    graph = step.get_concrete_function(tf.TensorSpec(SHAPE)).graph
    assigned: set[str] = set()
    waits: set[str] = set()
    for op in graph.get_operations():
        read = [tensor.op.name for tensor in op.inputs] + [op.name for op in op.control_inputs]
        # A read after an assignment waits for it.
        after = op.type == "ReadVariableOp" and op.inputs[0].name in assigned
        if op.name == "gradient" or after or any(name in waits for name in read):
            waits.add(op.name)
        if op.type.startswith("Assign"):
            assigned.add(op.inputs[0].name)
    return sum(
        op.name not in waits
        and op.type not in ("ReadVariableOp", "Placeholder", "Identity", "Const", "Cast")
        and any(tuple(out.shape) == SHAPE for out in op.outputs)
        and any(
            reader.name in waits or reader.type.startswith("Assign")
            for out in op.outputs
            for reader in out.consumers()
        )
        for op in graph.get_operations()
    )


def early_in_ours(optimizer: str) -> int:
    layers = [{"dense": {"units": SHAPE[1], "bias": False}}]
    net = read_spec({"input": [SHAPE[0]], "layers": layers})
    job = Job("training", optimizer=optimizer, device="cpu")
    program = Lowering(net, job, TensorFlow(job, 2)).run()
    early: set[int] = set()
    for node in program.nodes:
        waits = [value.node.index for value in node.inputs if value.node is not None]
        waits += [before.index for before in node.after]
        if all(index in early for index in waits) and any(
            value.spec.dims == SHAPE for value in node.outputs
        ):
            early.add(node.index)
    return sum(
        node.index in early
        and any(user.index not in early for value in node.outputs for user in value.users)
        for node in program.nodes
    )


@pytest.mark.parametrize("optimizer", sorted(set(SLOTS) - {"none"}))
def test_what_waits_for_no_gradient_is_made_before_the_forward_pass(optimizer):
    assert early_in_ours(optimizer) == early_in_keras(optimizer)
