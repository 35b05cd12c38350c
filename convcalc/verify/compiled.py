"""XLA's own figure for a device that need not be there.

XLA compiles for a GPU or a TPU on any Linux machine, and its buffer assignment says what the
result will need: arguments, outputs and one block of temporaries, with what is donated counted
once.  Nothing is run and nothing is allocated.

What is not in it: cuDNN's workspace (convolutions are compiled as calls with an empty one, there
being no device to try algorithms on), the CUDA context, and the allocator's rounding.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convcalc.errors import MissingExtra, ModelError
from convcalc.verify import assignment, targets
from convcalc.verify.jax import Step, prepare, total
from convcalc.verify.request import Measurement, Request
from convcalc.verify.targets import Target

#: Packages whose versions decide what is compiled; a target needs those of its platform.
PACKAGES = {
    "cpu": ("jax", "jaxlib", "keras"),
    "cuda": ("jax", "jaxlib", "keras", "jax-cuda12-plugin", "jax-cuda12-pjrt"),
    "tpu": ("jax", "jaxlib", "keras", "libtpu"),
}

#: Raise it when the step or what is kept of it changes: older answers are then not found.
CACHE_VERSION = 1

#: Machine code is never run, so it need not be good; buffers are assigned before it is made.
FLAGS = "--xla_backend_optimization_level=0"

#: What XLA writes for a timeline.
DUMP = "--xla_dump_to={} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_(train|infer)"

#: Fields of a request that do not change what is compiled.
IRRELEVANT = ("framework", "method", "jit", "repeats", "threads", "values", "flops", "timeout")

WORKSPACE = "cuDNN's workspace is not in it: it is chosen on the device"
REMATERIALISED = (
    "XLA recomputes {} values to fit the device's memory; --memory with a larger size gives the "
    "figure without"
)


def environment(request: Request) -> dict[str, str]:
    """The variables of the child process: JAX itself sees a CPU only."""
    return {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip(),
        # libtpu asks a cloud machine's metadata service for these, and waits for it.
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }


def run(request: Request) -> Measurement:
    """The compiled step's memory, from the cache where the same was asked for before.

    Raises:
        MissingExtra: JAX or the target's compiler is not installed.
        UsageError: there is no such target.
        ModelError: Keras cannot build the network.
    """
    target = targets.find(request.device)
    path = cache_path(request, target)
    if path.exists():
        return Measurement.from_json(json.loads(path.read_text(encoding="utf-8")))
    found = compiled(request, target)
    keep(path, found)
    return found


def cache_path(request: Request, target: Target) -> Path:
    """Where the answer to a request is kept; another version of XLA is another answer.

    Raises:
        MissingExtra: a package of the target's platform is not installed.
    """
    try:
        versions = {name: version(name) for name in PACKAGES[target.platform]}
    except PackageNotFoundError:
        raise MissingExtra(target.extra) from None
    data = request.to_json()
    asked = {name: data[name] for name in sorted(data) if name not in IRRELEVANT}
    text = target.config() if target.platform == "cuda" else target.topology
    key = json.dumps([CACHE_VERSION, versions, text, asked], sort_keys=True)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "convcalc", "compiled", f"{hashlib.sha256(key.encode()).hexdigest()}.json")


def keep(path: Path, found: Measurement) -> None:
    """Write an answer where it is found again; a cache that cannot be written is done without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(found.to_json()), encoding="utf-8")
        draft.replace(path)
    except OSError:
        return


def rematerialised(text: str) -> int:
    """Instructions of an HLO module that recompute what was freed to save memory."""
    return len(set(re.findall(r"^\s*(?:ROOT )?(%[\w.-]*\.remat[\w.]*) =", text, re.MULTILINE)))


def checked(platforms: set[str], target: Target) -> None:
    """Refuse what was compiled for another kind of device: a CPU's figure is no GPU's.

    Raises:
        ModelError: the executable's devices are not the target's.
    """
    wanted = {"cuda": "gpu"}.get(target.platform, target.platform)
    if platforms != {wanted}:
        found = ", ".join(sorted(platforms)) or "no device"
        raise ModelError(
            f"XLA compiled for {found} where {target.title} was asked for; this figure would be "
            "another device's"
        )


def notes_on(target: Target, peak: int, memory: int | None, recomputed: int) -> list[str]:
    """What a reader of the figure must know."""
    found = []
    if target.platform == "cuda":
        found.append(WORKSPACE)
    if target.platform == "tpu":
        found.append("a TPU's layouts pad the last two axes: tensors take more than their elements")
    if recomputed:
        found.append(REMATERIALISED.format(recomputed))
    if memory is not None and peak > memory:
        found.append(f"more than the {memory:,} B of {target.title}: it would run out of memory")
    return found


# What follows runs in the child process, where no coverage is measured.
def compiled(request: Request, target: Target) -> Measurement:  # pragma: no cover
    """Compile the step for the target and read its buffer assignment."""
    with tempfile.TemporaryDirectory(prefix="convcalc-") as folder:
        if request.timeline:
            # Read when jax is imported, which this process has not done yet.
            os.environ["XLA_FLAGS"] += f" {DUMP.format(folder)}"
        step = prepare(request)
        found = answer(request, target, step)
        if request.timeline:
            found.timeline = assignment.read(Path(folder), names(step))
    return found


def names(step: Step) -> dict[str, str]:  # pragma: no cover
    """Paths of the variables behind a step's first arguments, as JAX numbers these."""
    groups = {"weights": step.model.trainable_variables, "rest": step.model.non_trainable_variables}
    return {
        f"{group}[{number}]": variable.path
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def answer(request: Request, target: Target, step: Step) -> Measurement:  # pragma: no cover
    """What XLA says of a step."""
    import jax

    from convcalc.verify.build_keras import output_shapes

    place = jax.sharding.SingleDeviceSharding(device_of(jax, target, request.memory_limit))
    arguments = jax.tree.map(
        lambda part: jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=place), step.arguments
    )
    lowered = jax.jit(step.function, donate_argnums=step.donated).lower(*arguments)
    made = lowered.compile()
    shardings = jax.tree.leaves(made.input_shardings)
    checked({device.platform for s in shardings for device in s.device_set}, target)
    analysis = made.memory_analysis()
    peak = total(analysis)
    memory = request.memory_limit or target.memory
    settings = {
        "loss": step.losses or None,
        "argument_bytes": int(analysis.argument_size_in_bytes),
        "output_bytes": int(analysis.output_size_in_bytes),
        "temp_bytes": int(analysis.temp_size_in_bytes),
        "alias_bytes": int(analysis.alias_size_in_bytes),
        "target": target.title,
        "device_memory": memory,
    }
    recomputed = 0 if target.platform == "cpu" else rematerialised(made.as_text())
    return Measurement(
        framework="jax",
        version=step.version,
        method="compiled",
        device=target.name,
        params=step.model.count_params(),
        output_shape=[request.batch, *output_shapes(step.net, step.model)[0][1:]],
        peaks=[peak],
        peak_bytes=peak,
        resting_bytes=int(analysis.argument_size_in_bytes),
        settings=settings,
        notes=notes_on(target, peak, memory, recomputed),
    )


def device_of(jax: Any, target: Target, memory: int | None) -> Any:  # pragma: no cover
    """The target as JAX's device: this CPU, or one of a topology that nobody has.

    Raises:
        MissingExtra: its compiler is not installed.
    """
    from jax.experimental import topologies

    if target.platform == "cpu":
        return jax.devices("cpu")[0]
    try:
        if target.platform == "tpu":
            return topologies.get_topology_desc(
                target.topology, platform="tpu", chips_per_host_bounds=[1, 1, 1]
            ).devices[0]
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name=target.name,
            topology="1x1x1",
            target_config=target.config(memory),
        ).devices[0]
    except (RuntimeError, NotImplementedError) as error:
        if "not registered" in str(error) or "not found" in str(error):
            raise MissingExtra(target.extra) from None
        raise
