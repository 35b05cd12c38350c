"""What an analysis is asked for: batch, element type, optimizer, engine; and sizes in text."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal

from convcalc.arithmetic import INT64_MAX
from convcalc.errors import UsageError
from convcalc.ops.base import suggestion

#: Bytes of an activation under each dtype or policy; mixed policies keep float32 variables.
DTYPES = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float64": 8,
    "mixed_float16": 2,
    "mixed_bfloat16": 2,
}

#: Optimizers by Keras' names.
OPTIMIZERS = (
    *("none", "sgd", "momentum", "rmsprop", "adagrad", "lion", "adam", "adamw", "nadam", "lamb"),
    *("adadelta", "adamax", "ftrl"),
)

#: Gradient checkpointing: nothing, every block, about the square root of all layers.
REMATS = ("none", "block", "sqrt")

ENGINES = ("textbook", "tensorflow", "tensorflow-xla", "torch", "jax")
DEVICES = ("gpu", "cpu")

UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def check_batch(batch: int) -> int:
    """`batch` if it is a number of samples.

    Raises:
        UsageError: it is not.
    """
    if type(batch) is not int or not 1 <= batch <= INT64_MAX:
        raise UsageError(f"batch must be a positive integer, got {batch!r}")
    return batch


def choose(value: str, known: Collection[str], what: str) -> str:
    """`value` if it is one of `known`.

    Raises:
        UsageError: it is not; a similar one is proposed.
    """
    if value not in known:
        hint = suggestion(value, known) or f"; known: {', '.join(known)}"
        raise UsageError(f"unknown {what} '{value}'{hint}")
    return value


def engine_device(name: str) -> str:
    """What engines tell apart, "gpu" or "cpu", for one of these or a name of the catalogue.

    Raises:
        UsageError: it is neither.
    """
    if name in DEVICES:
        return name
    from convcalc.planning.devices import find

    find(name)
    return "gpu"


def older_gpu(name: str) -> int | None:
    """The major compute capability of a device's GPU where XLA serves it otherwise than a Hopper.

    Raises:
        UsageError: there is no such device.
    """
    if name in DEVICES:
        return None
    from convcalc.planning.devices import find

    return before_hopper(find(name).capability)


def before_hopper(capability: str | None) -> int | None:
    """7 or 8 for a GPU's compute capability below 9.0 ("7.5"), else None; Pascal counts as 7."""
    if capability is None:
        return None
    major = int(capability.split(".")[0])
    return max(major, 7) if major < 9 else None


def parse_bytes(text: str) -> int:
    """Bytes of "8GiB", "500 MB" or "12000000".

    Raises:
        UsageError: it is no size.
    """
    return _parse(text, UNITS, "a size such as 8GiB or 500MB")


def parse_count(text: str) -> int:
    """A count such as "25M", "4.1G" or "1e9".

    Raises:
        UsageError: it is no count.
    """
    return _parse(text, COUNTS, "a count such as 25M or 4.1G")


def _parse(text: str, units: dict[str, int], what: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\d{1,2})?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].lower() not in units:
        raise UsageError(f"'{text}' is not {what}")
    return int(Decimal(match[1]) * units[match[2].lower()])


def format_bytes(value: float) -> str:
    """Bytes for people: 12 MB is 12,000,000 bytes."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def format_count(value: float) -> str:
    """A count for people: 4.09 G."""
    return _scaled(value, ("", "k", "M", "G", "T", "P", "E")).strip()


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while step < len(units) - 1 and abs(value) >= 999.5:
        value /= 1000
        step += 1
    digits = f"{value:.0f}" if step == 0 or value >= 100 else f"{value:.3g}"
    return f"{digits} {units[step]}"
