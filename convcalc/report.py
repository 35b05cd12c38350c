"""The report: the one schema that Python, the terminal, the API and the page share."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, Self, TypeVar, dataclass_transform

SCHEMA_VERSION = 1

C = TypeVar("C")


@dataclass_transform(kw_only_default=True)
def schema(cls: type[C]) -> type[C]:
    """Make a class part of the schema."""
    return dataclasses.dataclass(kw_only=True, slots=True)(cls)


class Model:
    """A plain dataclass with pydantic's methods.

    pydantic checks what comes from outside; what we made ourselves needs no check, and importing
    pydantic's models alone takes as long as a whole `convcalc conv`.
    """

    __slots__ = ()

    def model_dump(self) -> dict[str, Any]:
        """The report as plain data."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def model_dump_json(self, *, indent: int | None = None) -> str:
        """The report as JSON."""
        return json.dumps(self.model_dump(), indent=indent)

    @classmethod
    def model_validate(cls, data: Any) -> Self:
        """A report from plain data.

        Raises:
            pydantic.ValidationError: it is none.
        """
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(data)

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """The JSON schema of such reports."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).json_schema()


@schema
class Settings(Model):
    """What was asked for."""

    batch: int
    dtype: str
    optimizer: str
    remat: str
    """Gradient checkpointing in training: "none", "block" or "sqrt"."""
    engine: str
    device: str
    convention: str


@schema
class Input(Model):
    """One input of the network."""

    name: str
    shape: list[int]
    dtype: str


@schema
class ReceptiveField(Model):
    """What one neuron of a layer sees of the input's spatial axes (unclipped by its border)."""

    size: list[int | None]
    """Positions on each axis; null: the whole axis."""
    stride: list[int | float | None]
    """Input positions from one neuron to the next."""
    padding: list[int | float | None]
    """Positions that neuron 0 sees before the input."""
    aligned: bool
    """False where branches of different stride or centre meet."""


@schema
class Layer(Model):
    """One layer: the sum of its ops.  Arithmetic is that of one sample, bytes are the batch's."""

    name: str
    type: str
    output_shape: list[int] | None
    """Batch included; null if unknown."""
    params: int | None
    """Stored variables; shared ones count at first use."""
    trainable_params: int | None
    macs: int | None
    """Multiply-accumulates of one sample, bias excluded."""
    flops: int | None
    """2 x macs, or what `convention` counts."""
    output_bytes: int | None
    receptive_field: ReceptiveField | None = None


@schema
class Totals(Model):
    """Sums over the layers; where the status is partial they are lower bounds."""

    params: int
    trainable_params: int
    macs: int
    flops: int
    output_bytes: int


@schema
class Textbook(Model):
    """The book's two rules, for the whole batch."""

    inference_bytes: int
    """The two consecutive layers with the largest sum."""
    training_bytes: int
    """The outputs of all layers."""
    inference_layers: list[str]
    """Those two layers."""


@schema
class Prediction(Model):
    """What an engine will allocate."""

    peak_bytes: int
    """What the framework's allocator will report."""
    floor_bytes: int
    """The live tensors alone: the least it can run in."""
    process_bytes: int | None
    """What the device shows for the whole process; null where that makes no sense."""
    process_interval: tuple[int, int] | None = None
    interval: tuple[int, int]
    """Holds the measured peak nine times in ten."""
    at: str
    """The op of the peak."""
    breakdown: dict[str, int]
    """Bytes at the peak by kind."""


@schema
class Memory(Model):
    """Every rung that was asked for; `inference` and `training` are null for the textbook."""

    textbook: Textbook
    inference: Prediction | None = None
    training: Prediction | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    """Why a prediction is missing, or what it had to assume."""


@schema
class MemoryStep(Model):
    """One primitive operation of a step; the first entry is what rests before it."""

    primitive: str
    layer: str
    phase: str


@schema
class Alive(Model):
    """One buffer at the peak."""

    name: str
    kind: str
    bytes: int
    start: int
    """Index of the step that takes it (0: it is there before)."""
    end: int
    """Index of the last step that needs it."""


@schema
class LayerMemory(Model):
    """What is alive at the peak of one layer."""

    layer: str
    bytes: int
    kinds: dict[str, int]


@schema
class MemoryProfile(Model):
    """Where the memory of one step goes and when, for one engine."""

    network: str
    engine: str
    device: str
    mode: str
    batch: int
    dtype: str
    optimizer: str
    remat: str
    """Gradient checkpointing in training: "none", "block" or "sqrt"."""
    prediction: Prediction
    steps: list[MemoryStep]
    bytes: dict[str, list[int]]
    """Bytes by kind, the most during each of `steps`."""
    peak_step: int
    """Index of the step of the peak."""
    fixed_bytes: int
    """At the peak's step, whatever the batch."""
    bytes_per_sample: int
    """At the peak's step, for each sample of the batch."""
    alive: list[Alive]
    """What is there at the peak, largest first."""
    layers: list[LayerMemory]
    """The same by layer, largest first."""
    assumed: list[str]
    """Operators that the engine has no rule for."""
    notes: list[str]
    """What the prediction rests on that was not measured."""


@schema
class Uncounted(Model):
    """What is not in the figures."""

    op: str
    layers: list[str]
    missing: list[str]


@schema
class Report(Model):
    """Everything that one analysis says."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["complete", "partial"]
    network: str
    settings: Settings
    inputs: list[Input]
    layers: list[Layer]
    totals: Totals
    memory: Memory
    uncounted: list[Uncounted]


@schema
class Device(Model):
    """An accelerator of the catalogue."""

    name: str
    title: str
    kind: Literal["gpu", "tpu", "jetson"]
    memory_bytes: int
    """As it is sold."""
    usable_bytes: int
    """What the driver shows; a framework takes its reserve from that."""
    capability: str | None
    """NVIDIA's compute capability."""
    bandwidth_gbs: float | None
    """10^9 bytes a second."""
    peak_tflops: dict[str, float]
    """10^12 operations a second by dtype, dense."""
    source: str


@schema
class Candidate(Model):
    """One batch of inputs of one size, and what it needs."""

    batch: int
    inputs: dict[str, list[int]]
    """Height, width, channels of each input."""
    peak_bytes: int
    """What the allocator will report, predicted."""
    interval: tuple[int, int]
    """Holds the measured peak nine times in ten."""
    process_interval: tuple[int, int] | None
    """What the device will show; null where that makes no sense."""


@schema
class Fitted(Model):
    """What fits one budget in one mode; null where not even the smallest does."""

    device: str | None
    title: str
    mode: str
    memory_bytes: int
    """The device's memory, or the budget."""
    usable_bytes: int
    """What is left for the allocator; on PyTorch for the whole process."""
    safe: Candidate | None
    """The largest whose upper bound fits."""
    likely: Candidate | None
    """The largest whose prediction fits."""
    hopeful: Candidate | None
    """The largest whose lower bound fits."""
    note: str = ""


@schema
class FitReport(Model):
    """The largest batch, or the largest input at a batch, for each budget."""

    network: str
    engine: str
    dtype: str
    optimizer: str
    remat: str
    """Gradient checkpointing in training: "none", "block" or "sqrt"."""
    largest: Literal["batch", "input"]
    fits: list[Fitted]
    notes: list[str]

    @property
    def nothing_fits(self) -> bool:
        """Whether no budget is large enough for anything."""
        return all(row.likely is None for row in self.fits)


@schema
class Setting(Model):
    """What a remedy may change, as it is after it."""

    engine: str
    dtype: str
    optimizer: str
    batch: int
    """Samples of one step on one device."""
    accumulate: int
    """Steps whose gradients are added up for one update."""
    devices: int
    checkpointed: bool
    inputs: dict[str, list[int]]
    macs: int
    """Multiply-accumulates of one sample, forward."""
    params: int
    trainable_params: int


@schema
class Remedy(Model):
    """One change, or a plan of several, with what it saves and what it costs."""

    name: str
    change: str
    rung: Literal["predicted", "textbook"]
    """What the figure rests on: the engine's prediction, or the textbook's estimate on top."""
    effort: Literal["nothing", "time", "tuning", "devices", "accuracy"]
    """What it costs beyond memory."""
    peak_bytes: int
    interval: tuple[int, int]
    saving_bytes: int
    fits: Literal["safe", "likely", "hopeful", "no"] | None
    """By which bound it fits the budget; null without one."""
    price: list[str]
    after: Setting


@schema
class Refused(Model):
    """A remedy that has no use here."""

    name: str
    reason: str


@schema
class Finding(Model):
    """Something in the network that looks like a mistake or a waste."""

    code: str
    layers: list[str]
    message: str


@schema
class Advice(Model):
    """What can be changed so that less memory is needed."""

    network: str
    mode: str
    device: str | None
    memory_bytes: int | None
    usable_bytes: int | None
    now: Setting
    peak_bytes: int
    interval: tuple[int, int]
    fits: Literal["safe", "likely", "hopeful", "no"] | None
    remedies: list[Remedy]
    """The best first: those that fit, of those the cheapest, of those what saves most."""
    plan: Remedy | None
    """The cheapest combination that fits; null without a budget, if it fits anyway, or if none."""
    refused: list[Refused]
    lint: list[Finding]
