"""`Budget`: how much memory there is, and what has to fit in it: tensors, or a whole process."""

from __future__ import annotations

from dataclasses import dataclass

from convcalc.errors import UsageError
from convcalc.planning.devices import available, devices, find
from convcalc.report import Candidate, Device
from convcalc.settings import DEVICES, before_hopper, format_bytes, parse_bytes

#: An exbibyte: more than any device has, and far from where 64 bits end.
MOST = 2**60

#: Engines that run on TPUs.
TPU_ENGINES = ("jax", "tensorflow-xla")

SAFE, LIKELY, HOPEFUL = "safe", "likely", "hopeful"
BOUNDS = (SAFE, LIKELY, HOPEFUL)


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory that something has to fit in."""

    memory: int
    usable: int
    """For the allocator, or with `whole` for the process."""
    whole: bool = False
    device: Device | None = None

    @property
    def title(self) -> str:
        """For people."""
        return self.device.title if self.device else f"a budget of {format_bytes(self.memory)}"

    @property
    def capability(self) -> int | None:
        """See `Job.capability`."""
        return before_hopper(self.device.capability) if self.device else None

    @property
    def note(self) -> str:
        """What stands against the figures of this device."""
        kind = self.device.kind if self.device else "gpu"
        return {
            "gpu": "",
            "tpu": "as on a GPU; a TPU pads channels to 128",
            "jetson": "its memory is shared with the system",
        }[kind]

    def needs(self, found: Candidate, bound: str) -> int:
        """Bytes of the budget that a candidate takes: most, as predicted, least."""
        low, high = found.interval
        peak = found.peak_bytes
        if not self.whole or found.process_interval is None:
            return {SAFE: high, LIKELY: peak, HOPEFUL: low}[bound]
        least, most = found.process_interval
        return {
            SAFE: most + high - peak,
            LIKELY: (least + most) // 2,
            HOPEFUL: least - (peak - low),
        }[bound]


def budgets(
    memory: int | str | None, device: str | None, engine: str, file: str | None = None
) -> list[Budget]:
    """The budget that is asked for; without any, one for each device of the catalogue.

    Raises:
        UsageError: a size that is none, an unknown device, both or neither, or a device that
            cannot run the engine.
    """
    if memory is not None:
        if device is not None and device not in DEVICES:
            raise UsageError("give a device of the catalogue or memory, not both")
        size = checked(memory)
        return [Budget(size, size)]
    if device in DEVICES:
        raise UsageError(f"how much memory does the {device} have? Give memory, such as 8GiB")
    if device is not None:
        found = find(device, file)
        if not runs(found, engine):
            raise UsageError(
                f"engine '{engine}' does not run on a TPU; {' and '.join(TPU_ENGINES)} do"
            )
        return [of(found, engine)]
    return [of(found, engine) for found in devices(file).values() if runs(found, engine)]


def runs(device: Device, engine: str) -> bool:
    """Whether a device can run an engine."""
    return device.kind != "tpu" or engine in TPU_ENGINES


def of(device: Device, engine: str) -> Budget:
    """The budget that a device is."""
    return Budget(device.memory_bytes, available(device, engine), engine == "torch", device)


def checked(memory: int | str) -> int:
    """A budget in bytes.

    Raises:
        UsageError: it is no size, zero, or more than any device has.
    """
    size = parse_bytes(memory) if isinstance(memory, str) else memory
    if type(size) is not int or not 1 <= size <= MOST:
        raise UsageError(f"a budget must be between one byte and {MOST >> 60} EiB, not {memory!r}")
    return size
