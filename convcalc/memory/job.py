"""`Job`: what a network is asked to do, apart from the size of the batch."""

from __future__ import annotations

from dataclasses import dataclass

from convcalc.settings import DTYPES, REMATS

#: Slots that an optimizer keeps for each trainable variable, as Keras' and PyTorch's source make
#: them (momentum is SGD with momentum; `none` updates nothing and keeps nothing).
SLOTS = {
    "none": 0,
    "sgd": 0,
    "momentum": 1,
    "rmsprop": 1,
    "adagrad": 1,
    "lion": 1,
    "adam": 2,
    "adamw": 2,
    "nadam": 2,
    "lamb": 2,
    "adadelta": 2,
    "adamax": 2,
    "ftrl": 2,
}

NONE, BLOCK, SQRT = REMATS
INFERENCE, TRAINING = "inference", "training"
CROSS_ENTROPY, SQUARED_ERROR = "cross_entropy", "mean_squared_error"
MODES = (INFERENCE, TRAINING)
LOSSES = (CROSS_ENTROPY, SQUARED_ERROR)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides a program but the batch."""

    mode: str = TRAINING
    dtype: str = "float32"
    optimizer: str = "sgd"
    device: str = "gpu"
    loss: str | None = None
    """None: cross-entropy where the output is a softmax, else mean squared error."""
    threads: int | None = None
    """Operations that a CPU runs at once; None: the framework's default."""
    remat: str = NONE
    """Which activations are made again in the backward pass, see `segments`."""
    accumulate: bool = False
    """Whether gradients of several steps are added up before an update."""
    ema: bool = False
    """Whether a moving average of each trainable variable is kept."""
    capability: int | None = None
    """A GPU's major compute capability where it is 7 or 8, which XLA serves otherwise than later
    ones; None: later, or no GPU."""

    @property
    def training(self) -> bool:
        return self.mode == TRAINING

    @property
    def decides(self) -> bool:
        """Whether Keras decides at each step if it updates, when all gradients have come.

        It does where they are added up, and under a loss scale, which a step may have exceeded.
        """
        return self.training and (self.accumulate or self.dtype == "mixed_float16")

    @property
    def width(self) -> int:
        """Bytes of an activation's element."""
        return DTYPES[self.dtype]

    @property
    def mixed(self) -> bool:
        """Whether variables stay float32 while activations have 16 bits."""
        return self.dtype.startswith("mixed_")

    @property
    def variable_width(self) -> int:
        """Bytes of a variable's element."""
        return 4 if self.mixed else self.width

    @property
    def slots(self) -> int:
        """Variables that an update reads and writes beside each trainable one.

        Keras' `use_ema` and `gradient_accumulation_steps` add one each; PyTorch's `AveragedModel`
        and the `.grad` that stays are as large.
        """
        return SLOTS[self.optimizer] + self.accumulate + self.ema if self.training else 0
