"""What a convolutional network costs, known before it is run, and proved by running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convcalc.analysis.comparison import Comparison
    from convcalc.network import Network
    from convcalc.planning.sweep import Sweep
    from convcalc.readers.sizes import Input
    from convcalc.report import Advice, Device, FitReport, Report

from convcalc.errors import ConvcalcError, MissingExtra, ModelError, ShapeError, UsageError
from convcalc.readers import load
from convcalc.readers.custom import register_layer

__version__ = "0.1.0"

__all__ = [
    "ConvcalcError",
    "MissingExtra",
    "ModelError",
    "ShapeError",
    "UsageError",
    "__version__",
    "advise",
    "analyze",
    "compare",
    "devices",
    "fit",
    "load",
    "load_source",
    "network_schema",
    "register_layer",
    "sweep",
]


def analyze(network: Any, *, input: Input = None, **settings: Any) -> Report:
    """What a network costs; `network` is anything that `load` takes.

    Settings: batch, dtype, optimizer, remat, engine, device, convention; see
    `convcalc.analysis.costs.analyze`.

    Raises:
        ConvcalcError: the network cannot be read, or a setting makes no sense.
    """
    from convcalc.analysis.costs import analyze as run

    return run(load(network, input=input), **settings)


def advise(network: Any, *, input: Input = None, **settings: Any) -> Advice:
    """What to change so that a network needs less memory; `network` is anything that `load` takes.

    Settings: memory, device, devices_file, mode, batch, engine, dtype, optimizer; see
    `convcalc.planning.advise.advise`.

    Raises:
        ConvcalcError: the network cannot be read, or a setting makes no sense.
    """
    from convcalc.planning.advise import advise as run

    return run(load(network, input=input), **settings)


def compare(
    left: Any,
    right: Any = None,
    *,
    input: Input = None,
    other: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Comparison:
    """Two networks, or one under two settings, side by side.

    Settings are those of `analyze`, for both sides; `other` says what differs on the right
    (``compare("resnet50", other={"dtype": "mixed_float16"})``), `input` included.

    Raises:
        ConvcalcError: a network cannot be read, or a setting makes no sense.
    """
    from convcalc.analysis.comparison import compare as run

    changed = {"input": input, **settings, **(other or {})}
    return run(
        analyze(left, input=input, **settings),
        analyze(left if right is None else right, **changed),
    )


def devices(file: str | None = None) -> dict[str, Device]:
    """The device catalogue by name, with the devices of a TOML file of yours.

    Raises:
        UsageError: the file cannot be read, or an entry is wrong.
    """
    from convcalc.planning.devices import devices as known

    return known(file)


def fit(network: Any, *, input: Input = None, **settings: Any) -> FitReport:
    """The largest batch, or the largest input, that fits; `network` is anything that `load` takes.

    Settings: memory, device, devices_file, mode, engine, dtype, optimizer, remat, largest, batch,
    step; see `convcalc.planning.fit.fit`.

    Raises:
        ConvcalcError: the network cannot be read, or a setting makes no sense.
    """
    from convcalc.planning.fit import fit as run

    return run(load(network, input=input), **settings)


def load_source(
    text: str, *, input: tuple[int, ...] | None = None, name: str = "source"
) -> Network:
    """The network that pasted Keras or PyTorch code builds; the code is read, never run.

    `input` is height, width, channels; PyTorch code needs it.

    Raises:
        ModelError: the code cannot be read; the message says where and why.
    """
    from convcalc.readers.source import load_source as read

    return read(text, input=input, name=name)


def network_schema() -> dict[str, Any]:
    """The JSON schema of network specs."""
    from convcalc.readers.spec import json_schema

    return json_schema()


def sweep(network: Any, **axes: Any) -> Sweep:
    """A table of what many configurations of a network cost, computed where it is looked at.

    Axes, each a value or a list: batch, input, dtype, optimizer, engine, width, and
    fields={"layer.attribute": values}; where="macs < 1e9 and training_peak < 8GiB" filters, device
    is gpu or cpu, and exact=True replays the allocator for each row; see `convcalc.planning.sweep`.

    Raises:
        ConvcalcError: the network cannot be read, or an axis or the filter makes no sense.
    """
    from convcalc.planning.sweep import sweep as run

    return run(load(network), **axes)
