"""What each route takes, under the names of the command line's options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import core_schema

from convcalc import zoo
from convcalc.analysis.conventions import CONVENTIONS
from convcalc.imaging import FILTERS, SAMPLES
from convcalc.memory.job import LOSSES, MODES
from convcalc.planning.devices import builtin
from convcalc.settings import DEVICES, DTYPES, ENGINES, OPTIMIZERS, REMATS

#: Integers of requests fit JavaScript's numbers.
SAFE = 2**53 - 1

Count = Annotated[int, Field(ge=1, le=SAFE)]
Sizes = Annotated[list[Count], Field(min_length=1, max_length=8)]
Weight = Annotated[float, Field(allow_inf_nan=False, strict=False, ge=-1e6, le=1e6)]


class OneOf:
    """Marks text that is one of some names, which are known when the program runs."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.literal_schema(self.names)


Name = Annotated[str, OneOf(*zoo.index())]
Dtype = Annotated[str, OneOf(*DTYPES)]
Optimizer = Annotated[str, OneOf(*OPTIMIZERS)]
Remat = Annotated[str, OneOf(*REMATS), Field(description="Gradient checkpointing in training.")]
Engine = Annotated[str, OneOf(*ENGINES)]
Predicting = Annotated[str, OneOf(*(name for name in ENGINES if name != "textbook"))]
Device = Annotated[str, OneOf(*DEVICES, *builtin())]
Convention = Annotated[str, OneOf(*CONVENTIONS)]
Mode = Annotated[str, OneOf(*MODES)]
Loss = Annotated[str, OneOf(*LOSSES)]
Sample = Annotated[str, OneOf(*SAMPLES)]
FilterName = Annotated[str, OneOf(*FILTERS)]

Network = Annotated[
    Name | dict[str, Any],
    Field(
        description="A name of GET /v1/zoo, a spec of convcalc (as POST /v1/read gives), or a "
        "Keras configuration (the JSON of `model.to_json()`)."
    ),
]
Input = Annotated[
    Sizes | Annotated[dict[str, Sizes], Field(max_length=64)] | None,
    Field(description="Height, width, channels in place of the network's; or sizes by name."),
]


Budget = Annotated[
    Count | Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)? ?[A-Za-z]*$")] | None,
    Field(description='What the allocator may hand out: bytes, or "8GiB".'),
]


class Question(BaseModel):
    """JSON with the fields that are listed, of the types that are listed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ConvQuestion(Question):
    """One convolution."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "input": [150, 100, 3],
                    "filters": 200,
                    "kernel": 5,
                    "stride": 1,
                    "padding": "same",
                }
            ]
        }
    )

    input: list[Count] = Field(
        min_length=2, max_length=4, description="LxC, HxWxC or DxHxWxC: channels last."
    )
    filters: Count | None = Field(None, description="Maps that come out.")
    kernel: Count | Sizes = 3
    stride: Count | Sizes = Field(1, description="One number, one an axis, or TensorFlow's four.")
    padding: (
        Literal["same", "valid", "causal", "same_lower"]
        | Annotated[int, Field(ge=0, le=SAFE)]
        | Annotated[list[Annotated[int, Field(ge=0, le=SAFE)]], Field(min_length=2, max_length=6)]
    ) = Field("valid", description="A name, one number, or top, bottom, left, right.")
    dilation: Count | Sizes = 1
    groups: Count = 1
    depthwise: bool = False
    transposed: bool = False
    bias: bool = True
    layout: Literal["nhwc", "nchw"] = "nhwc"
    batch: Count = 1
    dtype: Dtype = "float32"
    neuron: list[Annotated[int, Field(ge=0, le=SAFE)]] | None = Field(
        None, min_length=1, max_length=3, description="Which inputs this neuron sees."
    )
    explain: bool = Field(False, description="How each number comes about.")


class AnalyzeQuestion(Question):
    """A network and how it is used."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"network": "resnet50", "batch": 32, "optimizer": "adam"}]}
    )

    network: Network
    input: Input = None
    batch: Count = 1
    dtype: Dtype = "float32"
    optimizer: Optimizer = "none"
    remat: Remat = "none"
    engine: Engine = "textbook"
    device: Device = "gpu"
    convention: Convention = "macs"


class CompareQuestion(Question):
    """Two networks, or one under two settings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"left": "vgg16", "right": "vgg19", "batch": 8}]}
    )

    left: Network
    right: Network | None = Field(None, description="Left out: the same one again.")
    input: Input = None
    batch: Count = 1
    dtype: Dtype = "float32"
    optimizer: Optimizer = "none"
    engine: Engine = "textbook"
    device: Device = "gpu"
    right_input: Input = None
    right_batch: Count | None = None
    right_dtype: Dtype | None = None
    right_optimizer: Optimizer | None = None
    right_engine: Engine | None = None
    right_device: Device | None = None


class MemoryQuestion(Question):
    """A network, an engine and one step of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"network": "lenet5", "batch": 64, "engine": "torch"}]}
    )

    network: Network
    input: Input = None
    batch: Count = 1
    dtype: Dtype = "float32"
    optimizer: Optimizer = "adam"
    engine: Predicting = "tensorflow-xla"
    device: Device = "gpu"
    mode: Mode = "training"
    loss: Loss | None = None
    remat: Remat = "none"
    accumulate: bool = Field(False, description="Gradients of several steps are added up.")
    ema: bool = Field(False, description="A moving average of each variable is kept.")


class FitQuestion(Question):
    """A network and what it has to fit."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"network": "resnet50", "memory": "8GiB"}]}
    )

    network: Network
    input: Input = None
    memory: Budget = None
    device: Device | None = Field(None, description="With neither: every known device.")
    mode: Mode | None = Field(None, description="Both if left out.")
    largest_input: bool = Field(
        False, description="The largest height and width for `batch`, not the largest batch."
    )
    batch: Count = Field(1, description="For `largest_input`.")
    step: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None, description="Sides are multiples of this, for `largest_input`."
    )
    dtype: Dtype = "float32"
    optimizer: Optimizer = "adam"
    remat: Remat = "none"
    engine: Predicting = "tensorflow-xla"


class AdviseQuestion(Question):
    """A network that needs too much."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"network": "lenet5", "batch": 4096, "memory": "64MiB"}]}
    )

    network: Network
    input: Input = None
    memory: Budget = None
    device: Device | None = None
    mode: Mode = "training"
    batch: Count = 32
    dtype: Dtype = "float32"
    optimizer: Optimizer = "adam"
    engine: Predicting = "tensorflow-xla"


class SweepQuestion(Question):
    """A network, and what is varied: every combination is a row."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"network": "lenet5", "batch": "1:64", "dtype": ["float32"], "where": "macs < 1e9"}
            ]
        }
    )

    network: Network
    batch: (
        Count
        | Annotated[list[Count], Field(min_length=1, max_length=4096)]
        | Annotated[str, Field(pattern=r"^[0-9]{1,9}(:[0-9]{1,9}){1,2}$")]
    ) = Field(1, description='A number, a list, or a range: "1:256", "8:64:8".')
    input: Annotated[list[Sizes], Field(min_length=1, max_length=256)] | None = Field(
        None, description="Sizes of the one input."
    )
    dtype: Dtype | Annotated[list[Dtype], Field(min_length=1, max_length=8)] = "float32"
    optimizer: Optimizer | Annotated[list[Optimizer], Field(min_length=1, max_length=16)] = "none"
    engine: Engine | Annotated[list[Engine], Field(min_length=1, max_length=8)] = "textbook"
    width: (
        Annotated[
            list[Annotated[float, Field(gt=0, le=64, strict=False)]],
            Field(min_length=1, max_length=64),
        ]
        | None
    ) = Field(None, description="Width multipliers.")
    set: Annotated[
        dict[str, Annotated[list[int | str | bool], Field(min_length=1, max_length=1024)]],
        Field(max_length=8),
    ] = Field({}, description='Values by "LAYER.ATTRIBUTE": {"conv1.filters": [16, 32]}.')
    where: str | None = Field(None, max_length=1000, description="macs < 1e9 and dtype = float32")
    pareto: Annotated[list[str], Field(min_length=1, max_length=8)] | None = Field(
        None, description="Only what nothing beats in all of these columns."
    )
    device: Device = "gpu"
    exact: bool = Field(False, description="Replay the allocator for each row.")
    limit_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000


class FilterQuestion(Question):
    """A picture and a filter."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"sample": "bundled", "kernel": "vertical"}]}
    )

    image: str | None = Field(
        None, description="PNG, JPEG, ... as base64.", json_schema_extra={"format": "byte"}
    )
    sample: Sample | None = Field(None, description="Instead of a picture.")
    kernel: (
        FilterName
        | Annotated[
            list[Annotated[list[Weight], Field(min_length=1, max_length=64)]],
            Field(min_length=1, max_length=64),
        ]
    ) = "vertical"
    stride: Count | Sizes = 1
    padding: (
        Literal["same", "valid"]
        | Annotated[int, Field(ge=0, le=10_000)]
        | Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], Field(min_length=4, max_length=4)]
    ) = "same"
    feature: int = Field(0, ge=0, le=SAFE, description="Which map, if the filter makes several.")


class VerifyQuestion(Question):
    """A network to run, here, with a framework."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"network": "lenet5", "batch": 8}]})

    network: Network
    input: Input = None
    framework: Literal["tensorflow", "torch", "jax"] = "tensorflow"
    mode: Literal["inference", "training", "both"] = "both"
    batch: Count = 1
    dtype: Dtype = "float32"
    optimizer: Optimizer = "sgd"
    device: Literal["cpu", "gpu"] = "cpu"
    timeout: Annotated[int, Field(ge=1, le=3600)] = 600
