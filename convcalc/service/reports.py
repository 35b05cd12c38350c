"""Answers that only the service gives."""

from __future__ import annotations

import dataclasses

from pydantic import BaseModel, ConfigDict, Field

from convcalc.analysis.derivation import Step
from convcalc.report import Report, schema


@schema
class ConvReport(Report):
    """The report of one convolution."""

    derivation: list[Step] = dataclasses.field(default_factory=list)
    """How each number comes about, if `explain` or `neuron` asked for it."""


class ZooEntry(BaseModel):
    """A network that can be named."""

    title: str
    source: str
    input: list[int] = Field(description="Height, width, channels.")
    params: int
    macs: int


class NetworkSpec(BaseModel):
    """A network in convcalc's own form; docs/network.schema.json says what its layers may be."""

    model_config = ConfigDict(extra="allow")

    convcalc: int = Field(description="Version of the form.")
    name: str
    inputs: dict[str, object]
    layers: list[dict[str, object]]
    layout: str = "channels_last"
    outputs: list[str] | None = None


class Health(BaseModel):
    """What a probe is told."""

    status: str
