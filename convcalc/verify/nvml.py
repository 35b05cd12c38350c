"""What NVIDIA's driver shows of this process, if `nvidia-ml-py` is installed."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module


def process_bytes(device: int = 0) -> int | None:  # pragma: no cover - needs a GPU
    """Memory of the whole process on a GPU: context, libraries and the allocator's regions."""
    with contextlib.suppress(Exception):
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(device)
        for entry in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if entry.pid == os.getpid():
                return int(entry.usedGpuMemory)
    return None


def driver_version() -> str | None:  # pragma: no cover - needs a GPU
    """The driver's version."""
    with contextlib.suppress(Exception):
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        return str(nvml.nvmlSystemGetDriverVersion())
    return None
