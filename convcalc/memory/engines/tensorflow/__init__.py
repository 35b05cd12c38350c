"""Keras with ``jit_compile=False``: TensorFlow's graph executor and its BFC allocator.

`rules` says what each operator becomes, `updates` what the optimizers add, `executor` in which
order it all runs, `walk` what is alive meanwhile, `bfc` what the allocator hands out for it.
"""

from __future__ import annotations

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

    def duration(node: Node) -> float:
        largest = 0
        for value in (*node.outputs, *node.inputs):
            fixed, per_sample = value.size
            size = fixed + batch * per_sample
            if size > largest and value.kind != "weights":
                largest = size
        return kernels.passing(node.primitive, largest) + rules.products.get(node, 0) * batch

    execute(program, walk, workers if lowering.job.training else 1, duration)
    return walk.history()
