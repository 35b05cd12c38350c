"""Devices that XLA can compile for without having them: their published figures, as data.

A GPU's figures steer XLA's choices (what is fused, what is recomputed when memory is short), so a
target is a whole card.  TPUs are described by libtpu itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from convcalc.settings import before_hopper, choose


@dataclass(frozen=True, slots=True)
class Target:
    """One device to compile for."""

    name: str
    title: str
    platform: str
    """"cpu", "cuda" or "tpu", as JAX calls them."""
    source: str
    memory: int | None = None
    """Bytes of the device; None: the machine's."""
    topology: str = ""
    """A TPU's name and arrangement of chips."""
    figures: tuple[tuple[str, Any], ...] = ()
    """A GPU's figures, see `config`."""

    @property
    def extra(self) -> str:
        """The extra that brings the compiler."""
        return {"cpu": "jax", "cuda": "xla-gpu", "tpu": "xla-tpu"}[self.platform]

    @property
    def older(self) -> int | None:
        """The major compute capability of a GPU that XLA serves otherwise than a Hopper."""
        return before_hopper(dict(self.figures).get("capability"))

    def config(self, memory: int | None = None) -> str:
        """A GPU as the text of XLA's GpuTargetConfig; `memory` takes the place of its own.

        Limits that all of NVIDIA's GPUs since Volta share are written here: 1024 threads a block,
        warps of 32, 64 K registers, 48 KiB of shared memory a block without asking for more.
        """
        own = dict(self.figures)
        major, minor = own["capability"].split(".")
        extension = " feature_extension: ACCELERATED_FEATURES" if own.get("accelerated") else ""
        return f"""gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {own["shared"]}
  shared_memory_per_block_optin: {own["shared_optin"]}
  threads_per_core_limit: {own["threads"]}
  core_count: {own["cores"]}
  fpus_per_core: {own["fpus"]}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {own["bandwidth"]}
  l2_cache_size: {own["l2"]}
  clock_rate_ghz: {own["clock_ghz"]}
  device_memory_size: {memory or self.memory}
  cuda_compute_capability {{ major: {major} minor: {minor}{extension} }}
  device_vendor: "NVIDIA Corporation"
  device_address_bits: 64
  name: "{self.title}"
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.23.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 23 patch: 0 }}
device_description_str: "{self.title}"
"""


@cache
def targets() -> dict[str, Target]:
    """Every target by its name."""
    text = resources.files(__name__).joinpath("devices.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    found = {"cpu": Target("cpu", "this machine's CPU", "cpu", "XLA's own description")}
    for name, entry in data["gpus"].items():
        figures = {**entry, **data["architectures"][entry["capability"]]}
        source = f"{entry['source']}; {data['architectures_source']}"
        found[name] = Target(
            name, entry["title"], "cuda", source, entry["memory"], figures=tuple(figures.items())
        )
    for name, entry in data["tpus"].items():
        found[name] = Target(
            name, entry["title"], "tpu", entry["source"], entry["memory"], entry["topology"]
        )
    return found


def find(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none.
    """
    return targets()[choose(name, targets(), "compile target")]
