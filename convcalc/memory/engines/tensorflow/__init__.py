"""Keras with ``jit_compile=False``: TensorFlow's graph executor and its BFC allocator.

`rules` says what each operator becomes, `updates` what the optimizers add, `executor` in which
order it all runs, `walk` what is alive meanwhile, `bfc` what the allocator hands out for it.
"""

from __future__ import annotations

from typing import Any

from convcalc.memory.engines import Plan
from convcalc.memory.engines.tensorflow import kernels
from convcalc.memory.engines.tensorflow.bfc import ROUND
from convcalc.memory.engines.tensorflow.executor import execute
from convcalc.memory.engines.tensorflow.replay import History
from convcalc.memory.engines.tensorflow.rules import TensorFlow
from convcalc.memory.engines.tensorflow.walk import Steps
from convcalc.memory.job import Job
from convcalc.memory.keras_graph import as_keras
from convcalc.memory.lowering import Lowering
from convcalc.memory.program import Node
from convcalc.network import Network


def regime(batch: int) -> int:
    """The batch whose order of execution serves `batch`: the power of two below."""
    return 1 << (batch.bit_length() - 1)


def windows(net: Network, batch: int) -> dict[str, int]:
    """Elements that the windows of pools and depthwise convolutions look at, by layer."""
    found: dict[str, int] = {}
    for op in net.ops:
        operator: Any = op.operator
        ins, outs = net.specs(op)
        if operator.type == "depthwise_conv":
            found[op.layer] = operator.macs(ins, outs) * batch
        elif operator.type in ("max_pool", "average_pool"):
            found[op.layer] = operator.elementwise(ins, outs) * batch
    return found


def make(net: Network, job: Job, batch: int) -> Plan:
    """The plan of a network on TensorFlow's graph executor.

    Raises:
        ModelError: a shape is unknown, or there is nothing to train.
    """
    lowering = Lowering(net.once(as_keras), job, TensorFlow(job, batch))
    history = run(lowering, batch, job.threads or kernels.WORKERS)
    return Plan(history.timeline, history.peak, assumed=frozenset(lowering.program.assumed))


def run(lowering: Lowering, batch: int, workers: int) -> History:
    """One step, in the order in which its operations run at a batch size."""
    program = lowering.run()
    rules = lowering.rules
    assert isinstance(rules, TensorFlow)
    walk = Steps(program, ROUND)

    looked_at = windows(lowering.net, batch)

    def duration(node: Node) -> float:
        operands, primitive = node.outputs + node.inputs, node.primitive
        spent = rules.products.get(node, 0) * batch
        largest = max(
            [value.size.at(batch) for value in operands if value.kind != "weights"], default=0
        )
        if primitive.startswith("MatMul"):
            for value in operands:
                if value.spec.batch_axis is None:
                    spent += kernels.reading(primitive, value.spec.dims, batch)
        return spent + kernels.passing(primitive, largest, looked_at.get(node.layer, 0))

    wake = 0.0 if lowering.job.training else kernels.WAKE_NS
    execute(program, walk, workers, duration, wake)
    return walk.history()
