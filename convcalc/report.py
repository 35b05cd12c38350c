"""The report: the one schema that Python, the terminal, the API and the page share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Model(BaseModel):
    """Base: nothing unknown gets in, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(Model):
    """What was asked for."""

    batch: int
    dtype: str
    optimizer: str
    engine: str
    device: str
    convention: str


class Input(Model):
    """One input of the network."""

    name: str
    shape: list[int]
    dtype: str


class ReceptiveField(Model):
    """What one neuron of a layer sees of the input's spatial axes (unclipped by its border)."""

    size: list[int | None] = Field(description="Positions on each axis; null: the whole axis.")
    stride: list[int | float | None] = Field(
        description="Input positions from one neuron to the next."
    )
    padding: list[int | float | None] = Field(
        description="Positions that neuron 0 sees before the input."
    )
    aligned: bool = Field(description="False where branches of different stride or centre meet.")


class Layer(Model):
    """One layer: the sum of its ops.  Arithmetic is that of one sample, bytes are the batch's."""

    name: str
    type: str
    output_shape: list[int] | None = Field(description="Batch included; null if unknown.")
    params: int | None = Field(description="Stored variables; shared ones count at first use.")
    trainable_params: int | None
    macs: int | None = Field(description="Multiply-accumulates of one sample, bias excluded.")
    flops: int | None = Field(description="2 x macs, or what `convention` counts.")
    output_bytes: int | None
    receptive_field: ReceptiveField | None = None


class Totals(Model):
    """Sums over the layers; where the status is partial they are lower bounds."""

    params: int
    trainable_params: int
    macs: int
    flops: int
    output_bytes: int


class Textbook(Model):
    """The book's two rules, for the whole batch."""

    inference_bytes: int = Field(description="The two consecutive layers with the largest sum.")
    training_bytes: int = Field(description="The outputs of all layers.")
    inference_layers: list[str] = Field(description="Those two layers.")


class Prediction(Model):
    """What an engine will allocate."""

    peak_bytes: int
    floor_bytes: int
    process_bytes: int | None
    interval: tuple[int, int]
    at: str
    breakdown: dict[str, int]


class Memory(Model):
    """Every rung that was asked for; `inference` and `training` are null for the textbook."""

    textbook: Textbook
    inference: Prediction | None = None
    training: Prediction | None = None


class Uncounted(Model):
    """What is not in the figures."""

    op: str
    layers: list[str]
    missing: list[str]


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
