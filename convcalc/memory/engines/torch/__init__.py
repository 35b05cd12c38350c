"""Eager PyTorch: what autograd keeps, in which order it runs back, what its allocator makes of it.

The figure is that of `torch.distributed._tools.mem_tracker.MemTracker` over the step that
`convcalc.verify.torch` describes, to the byte where an operator has a rule.  Scratch within kernels
is not in it.  On a GPU blocks are rounded to 512 bytes, dropout keeps a mask of bytes and the
optimizer works on lists of tensors (`foreach`); on a CPU none of that.

One thing the tracker does to what it tracks: while it watches, gradients that meet are summed out
of place, since autograd cannot know that nobody else reads them.  Without it they are summed in
place where nobody does, which takes up to 2 % off the peak of residual networks.
"""

from __future__ import annotations

from convcalc.memory.engines import Plan
from convcalc.memory.engines.torch.allocator import BLOCK, Process
from convcalc.memory.engines.torch.lowering import EagerLowering
from convcalc.memory.engines.torch.rules import Eager
from convcalc.memory.job import Job
from convcalc.memory.liveness import walk
from convcalc.network import Network


def make(net: Network, job: Job, batch: int = 1, *, foreach: bool | None = None) -> Plan:
    """The plan of one step, which serves any batch; `foreach` overrules the device's default.

    Raises:
        ModelError: a shape is unknown, or there is nothing to train.
    """
    gpu = job.device != "cpu"
    lowering = EagerLowering(net, job, Eager(), foreach=gpu if foreach is None else foreach)
    program = lowering.run()
    timeline = walk(program, round_to=BLOCK if gpu else 1)
    return Plan(
        timeline=timeline,
        allocate=timeline.peak,
        process=Process(timeline) if gpu else None,
        assumed=frozenset(program.assumed),
    )
