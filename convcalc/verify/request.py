"""What a measurement is asked for and what it answers: plain data that crosses a process.

Each framework has a module here with two functions: ``environment(request) -> dict[str, str]``, the
variables that must be set before the framework is imported, and ``run(request) -> Measurement``,
which runs in the child process (`worker`).  Models come from `build_keras.build(network)`, under
the dtype policy that the runner has set globally, and `build_torch.build(network)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convcalc.memory.job import CROSS_ENTROPY, SQUARED_ERROR

if TYPE_CHECKING:
    from convcalc.network import Network

FRAMEWORKS = ("tensorflow", "torch", "jax")


@dataclass(frozen=True, slots=True)
class Request:
    """One network under one setting, to be run by one framework."""

    network: dict[str, Any]
    """Our spec, as `convcalc.readers.spec.write_spec` gives it."""
    framework: str = "tensorflow"
    method: str = "allocator"
    """How memory is read: "allocator" (TensorFlow, CUDA), "profiler" or "memtracker" (PyTorch),
    "compiled" (XLA's buffer assignment)."""
    device: str = "cpu"
    """"cpu", "gpu", or with the method "compiled" the name of a target."""
    mode: str = "training"
    batch: int = 1
    dtype: str = "float32"
    optimizer: str = "sgd"
    """By the names of `convcalc.settings.OPTIMIZERS`; "none" at inference."""
    jit: bool = False
    repeats: int = 3
    """Steps that are measured, after those that warm up."""
    threads: int | None = None
    """Threads between operators; None: the framework's default."""
    timeline: bool = False
    """Also list every allocation of one step."""
    loss: str | None = None
    """"cross_entropy" or "mean_squared_error"; None: by each output, see `loss_of`."""
    values: bool = False
    """Compare a single convolution's output with `convcalc.reference`."""
    flops: bool = False
    """Also ask the framework for the floating-point operations of an inference."""
    remat: str = "none"
    """Gradient checkpointing by the names of `convcalc.memory.job.REMATS`."""
    accumulate: bool = False
    """Add gradients up over several steps; the step that updates is measured."""
    ema: bool = False
    """Keep a moving average of each variable."""
    memory_limit: int | None = None
    """Bytes at which the allocator gives up, where it can be told."""
    timeout: float = 600.0
    """Seconds after which the process is ended."""

    def to_json(self) -> dict[str, Any]:
        """The request as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """The request that `to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Event:
    """One allocation or release."""

    time: int
    """Nanoseconds since the step began, or the event's number where there is no clock."""
    op: str
    """The op or the layer that asked for it, by the framework's name."""
    bytes: int
    """What is in use after it."""
    delta: int
    """What it added (negative: released), rounding included."""
    kind: str
    """The op's type, such as "Conv2DBackpropFilter"; for a release, that of the allocation."""


@dataclass(slots=True)
class Measurement:
    """What one run said.  Bytes are the allocator's, its rounding included."""

    framework: str
    version: str
    method: str
    device: str
    """What it ran on, or was compiled for: "cpu", a GPU's name."""
    params: int | None = None
    """Elements of all variables of the model, the optimizer's excluded."""
    output_shape: list[int] | None = None
    """The first output's, batch included."""
    peaks: list[int] = field(default_factory=list)
    """One a repeat."""
    peak_bytes: int | None = None
    """Their median; None if it ran out of memory."""
    resting_bytes: int | None = None
    """In use between two steps: variables, slots, inputs, labels."""
    flops: int | None = None
    """Floating-point operations of the whole batch, where the framework counts them."""
    timeline: list[Event] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """Threads, allocator settings, loss: whatever moves the figure."""
    notes: list[str] = field(default_factory=list)
    out_of_memory: bool = False
    values_error: float | None = None
    """Largest difference to the reference, over the reference's largest value."""

    def to_json(self) -> dict[str, Any]:
        """The measurement as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """The measurement that `to_json` wrote."""
        events = [Event(**event) for event in data["timeline"]]
        return cls(**{**data, "timeline": events})


def loss_of(net: Network, output: str | None = None) -> str:
    """The loss of an output (None: the first): cross-entropy where a softmax makes it."""
    name = output or net.outputs[0]
    last = next((op.operator for op in net.ops if op.name == name), None)
    return CROSS_ENTROPY if getattr(last, "function", None) == "softmax" else SQUARED_ERROR


def median(values: list[int]) -> int:
    """The middle value; of an even number the lower one, which is one that was seen."""
    return sorted(values)[(len(values) - 1) // 2]
