"""The device catalogue: accelerators that can be named, and what frameworks leave of them.

`devices.toml` comes along; a file of the user's own adds entries or replaces them.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from convcalc.errors import UsageError
from convcalc.memory.engines.torch.allocator import CONTEXT
from convcalc.ops.base import suggestion
from convcalc.report import Device
from convcalc.settings import DEVICES, DTYPES, parse_bytes

MIB = 2**20

#: Names a file with devices of the user's own.
VARIABLE = "CONVCALC_DEVICES"

KINDS = ("gpu", "tpu", "jetson")
KEYS = ("title", "kind", "memory", "usable", "capability", "bandwidth", "peak", "source")
PEAKS = ("tf32", *(name for name in DTYPES if not name.startswith("mixed_")))

#: What TensorFlow leaves to libraries, by the major compute capability that a card is below
#: (tensorflow/core/common_runtime/gpu/gpu_device.cc, MinSystemMemory).
SMALL_CARD = (2**31, 225 * MIB)
TENSORFLOW_RESERVE = ((7, 500 * MIB), (8, 1050 * MIB), (9, 1536 * MIB), (99, 1800 * MIB))

#: The share of the free memory that JAX takes when it starts, as its documentation says.
JAX_SHARE = 0.75

#: What a Jetson's system keeps of the memory that it shares with its GPU; without a desktop.
JETSON_SYSTEM = 2**30


def devices(file: str | None = None) -> dict[str, Device]:
    """Every device by its name; `file`, or the one that CONVCALC_DEVICES names, adds its own.

    Raises:
        UsageError: the file cannot be read, or an entry is wrong; the message names it.
    """
    path = file or os.environ.get(VARIABLE)
    return {**builtin(), **own(path)} if path else dict(builtin())


@cache
def builtin() -> dict[str, Device]:
    """The devices that come along."""
    text = resources.files(__package__).joinpath("devices.toml").read_text(encoding="utf-8")
    return read(text, "devices.toml")


def own(path: str) -> dict[str, Device]:
    """The devices of the user's file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read the devices file '{path}': {reason}") from None
    return read(text, f"'{path}'")


def find(name: str, file: str | None = None) -> Device:
    """The device of that name.

    Raises:
        UsageError: there is none; a similar one is proposed.
    """
    known = devices(file)
    if name not in known:
        hint = suggestion(name, [*known, *DEVICES]) or "; `convcalc devices` lists the names"
        raise UsageError(f"unknown device '{name}'{hint}")
    return known[name]


def read(text: str, what: str) -> dict[str, Device]:
    """The devices in TOML.

    Raises:
        UsageError: it is no TOML, or an entry is wrong.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{what} is not valid TOML: {error}") from None
    return {name: entry(name, value, what) for name, value in data.items()}


def entry(name: str, value: Any, what: str) -> Device:
    """One entry, checked.

    Raises:
        UsageError: it lacks something, or says something that cannot be.
    """
    where = f"{what}: device '{name}'"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or name in DEVICES:
        raise UsageError(
            f"{where}: a name has small letters, digits, '-' and '.', and is neither "
            f"{' nor '.join(DEVICES)}"
        )
    if not isinstance(value, Mapping):
        raise UsageError(f'{where} must be a table: [{name}] and below it memory = "8GiB"')
    for key in value:
        if key not in KEYS:
            raise UsageError(f"{where} has no '{key}'{suggestion(key, KEYS)}")
    if "memory" not in value:
        raise UsageError(f'{where} does not say its memory: memory = "8GiB"')
    memory = size(value["memory"], f"{where}: memory")
    usable = size(value["usable"], f"{where}: usable") if "usable" in value else memory
    if usable > memory:
        raise UsageError(f"{where}: usable memory is more than memory")
    kind = value.get("kind", "gpu")
    if kind not in KINDS:
        raise UsageError(f"{where}: kind must be one of {', '.join(KINDS)}, not {kind!r}")
    capability = value.get("capability")
    if capability is not None and not re.fullmatch(r"\d{1,2}\.\d", str(capability)):
        raise UsageError(f'{where}: capability must be like "8.9", not {capability!r}')
    peaks = value.get("peak", {})
    if not isinstance(peaks, Mapping) or not set(peaks) <= set(PEAKS):
        raise UsageError(f"{where}: peak must map some of {', '.join(PEAKS)} to numbers")
    return Device(
        name=name,
        title=str(value.get("title", name)),
        kind=kind,
        memory_bytes=memory,
        usable_bytes=usable,
        capability=None if capability is None else str(capability),
        bandwidth_gbs=rate(value["bandwidth"], f"{where}: bandwidth")
        if "bandwidth" in value
        else None,
        peak_tflops={key: rate(number, f"{where}: peak {key}") for key, number in peaks.items()},
        source=str(value.get("source", what)),
    )


def size(value: Any, where: str) -> int:
    """Bytes of "8GiB" or of a number.

    Raises:
        UsageError: it is no positive size.
    """
    try:
        found = parse_bytes(str(value)) if type(value) in (str, int) else 0
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if found < 1:
        raise UsageError(f"{where} must be a size such as 8GiB, not {value!r}")
    return found


def rate(value: Any, where: str) -> float:
    """A positive number.

    Raises:
        UsageError: it is none.
    """
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise UsageError(f"{where} must be a positive number, not {value!r}")
    return float(value)


def available(device: Device, engine: str) -> int:
    """Bytes that an engine's allocator may hand out on a device; 0 if there is nothing left.

    PyTorch reserves nothing: its process is compared with the whole device.
    """
    free = device.usable_bytes
    if device.kind == "tpu":
        return free
    if device.kind == "jetson":
        free -= JETSON_SYSTEM
    if engine == "torch":
        return max(free, 0)
    free -= CONTEXT[1]
    if engine == "jax":
        return max(int(free * JAX_SHARE), 0)
    return max(free - tensorflow_reserve(free, device.capability), 0)


def tensorflow_reserve(free: int, capability: str | None) -> int:
    """What TensorFlow leaves of the free memory to libraries; AMD's cards as the newest."""
    if free < SMALL_CARD[0]:
        return SMALL_CARD[1]
    major = 98 if capability is None else int(capability.split(".")[0])
    return next(size for below, size in TENSORFLOW_RESERVE if major < below)
