"""Compiled for devices that are not there: what is asked, kept and said."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from convcalc.errors import MissingExtra, ModelError, UsageError
from convcalc.readers.spec import read_spec, write_spec
from convcalc.verify import compiled, targets
from convcalc.verify.child import measure
from convcalc.verify.request import Measurement, Request

LAYER = {
    "input": [15, 10, 3],
    "layers": [{"conv": {"filters": 20, "kernel": 5, "padding": "same"}}],
}

#: Elements of the layer's variables, and of its input and output for one sample.
WEIGHTS, BIAS, INPUT, OUTPUT = 5 * 5 * 3 * 20, 20, 15 * 10 * 3, 15 * 10 * 20


def request(**settings: Any) -> Request:
    """A request for the small layer."""
    asked = Request(write_spec(read_spec(LAYER)), "jax", "compiled", optimizer="none")
    return dataclasses.replace(asked, mode="inference", **settings)


def has(*packages: str) -> bool:
    """Whether all of them are installed."""
    try:
        return all(map(version, packages))
    except PackageNotFoundError:
        return False


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convcalc" / "compiled"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Every package in some version, without any being there."""
    versions = dict.fromkeys({name for names in compiled.PACKAGES.values() for name in names}, "1")
    monkeypatch.setattr(compiled, "version", versions.__getitem__)
    return versions


@pytest.mark.skipif(not has("jax", "keras"), reason="needs jax and keras")
def test_a_layer_compiled_for_the_cpu_needs_at_least_its_tensors(cache: Path) -> None:
    found = measure(request(batch=4, timeline=True))
    arguments = 4 * (WEIGHTS + BIAS + 4 * INPUT)
    assert found.params == WEIGHTS + BIAS
    assert found.output_shape == [4, 15, 10, 20]
    assert found.resting_bytes == found.settings["argument_bytes"] == arguments
    assert found.settings["output_bytes"] == 4 * 4 * OUTPUT
    assert found.peak_bytes == arguments + 4 * 4 * OUTPUT + found.settings["temp_bytes"]
    # The output lives to the end; it is the convolution's, with the bias added.
    assert found.timeline
    assert found.timeline[0].bytes - found.timeline[0].delta == arguments
    assert arguments + 4 * 4 * OUTPUT <= max(e.bytes for e in found.timeline) <= found.peak_bytes
    assert found.timeline[-1].op.startswith("conv_1/")
    # What the child wrote is found by the next process.
    (kept,) = cache.glob("*.json")
    changed = {**json.loads(kept.read_text()), "version": "from the cache"}
    kept.write_text(json.dumps(changed))
    assert measure(request(batch=4, timeline=True, timeout=1e3)).version == "from the cache"


@pytest.mark.skipif(not has("jax", "keras", "jax-cuda12-pjrt"), reason="needs XLA for GPUs")
def test_a_layer_compiled_for_a_gpu_is_the_gpus() -> None:
    """On an H100 the bias is added within the convolution; on older cards images are turned."""
    size = 4 * (WEIGHTS + BIAS + INPUT + OUTPUT)
    h100, t4 = measure(request(device="h100")), measure(request(device="t4"))
    assert h100.peak_bytes is not None
    assert size <= h100.peak_bytes < size + 4 * OUTPUT
    assert t4.peak_bytes is not None
    assert t4.peak_bytes >= size + 4 * OUTPUT
    assert h100.settings["target"] == "NVIDIA H100 80GB HBM3"
    assert h100.notes == [compiled.WORKSPACE]


def test_the_same_is_compiled_once(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]
) -> None:
    asked: list[Request] = []

    def answer(request: Request, target: targets.Target) -> Measurement:
        asked.append(request)
        return Measurement("jax", "1", "compiled", target.name, peaks=[7], peak_bytes=7)

    monkeypatch.setattr(compiled, "compiled", answer)
    first = compiled.run(request(device="h100"))
    # What does not change the executable does not ask for another.
    assert compiled.run(request(device="h100", repeats=9, timeout=1.0)) == first
    assert len(asked) == 1
    others = [
        request(device="a100"),
        request(device="h100", batch=2),
        request(device="h100", dtype="bfloat16"),
        request(device="h100", memory_limit=2**40),
    ]
    for other in others:
        compiled.run(other)
    installed["jaxlib"] = "2"
    compiled.run(request(device="h100"))
    assert len(asked) == 1 + len(others) + 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = Measurement("jax", "1", "compiled", "cpu")
    compiled.keep(tmp_path / "file" / "answer.json", found)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_compiler_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(compiled, "version", absent)
    for device, extra in (("h100", "xla-gpu"), ("tpu-v5e", "xla-tpu"), ("cpu", "jax")):
        with pytest.raises(MissingExtra, match=f"convcalc\\[{extra}\\]"):
            compiled.run(request(device=device))


def test_an_unknown_target_is_refused_with_a_proposal() -> None:
    with pytest.raises(UsageError, match=r"'h10'.*did you mean 'h100'"):
        compiled.run(request(device="h10"))


def test_another_devices_figure_is_refused() -> None:
    h100 = targets.find("h100")
    compiled.checked({"gpu"}, h100)
    compiled.checked({"cpu"}, targets.find("cpu"))
    for platforms in ({"cpu"}, {"gpu", "cpu"}, set()):
        with pytest.raises(ModelError, match="where NVIDIA H100 80GB HBM3 was asked for"):
            compiled.checked(platforms, h100)


def test_the_child_sees_no_device_of_its_own() -> None:
    settings = compiled.environment(request())
    assert settings["JAX_PLATFORMS"] == "cpu"
    assert settings["KERAS_BACKEND"] == "jax"


HLO = """
%fused (p: f32[8]) -> f32[8] {
  %exp.3.remat2 = f32[8] exponential(%p)
  ROOT %mul.remat = f32[8] multiply(%exp.3.remat2, %exp.3.remat2)
}
ENTRY %main (p: f32[8]) -> f32[8] {
  %exp.3 = f32[8] exponential(%p)
  ROOT %add.1 = f32[8] add(%exp.3, %exp.3.remat2)
}
"""


def test_recomputed_values_are_counted_where_they_are_made() -> None:
    assert compiled.rematerialised(HLO) == 2
    assert compiled.rematerialised(HLO.replace(".remat", "")) == 0


def test_notes_say_what_a_figure_leaves_out() -> None:
    t4, tpu = targets.find("t4"), targets.find("tpu-v5e")
    assert compiled.notes_on(targets.find("cpu"), 10, None, 0) == []
    assert compiled.notes_on(t4, 10, t4.memory, 0) == [compiled.WORKSPACE]
    _, recomputed, beyond = compiled.notes_on(t4, 2**40, t4.memory, 3)
    assert "recomputes 3 values" in recomputed
    assert "--memory" in recomputed
    assert "15,655,829,504 B of Tesla T4" in beyond
    assert "layouts pad" in compiled.notes_on(tpu, 10, tpu.memory, 0)[0]


def test_every_target_has_a_source_and_a_memory() -> None:
    found = targets.targets()
    assert {"cpu", "h100", "a100", "t4", "tpu-v5e"} <= set(found)
    for name, target in found.items():
        assert target.name == name
        assert target.source
        assert (target.memory is None) == (name == "cpu")


def test_a_gpus_figures_are_written_as_xla_reads_them() -> None:
    text = targets.find("h100").config()
    assert text.count("{") == text.count("}") == 3
    capability = "{ major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }"
    assert f"cuda_compute_capability {capability}" in text
    for line in ("core_count: 132", "fpus_per_core: 128", "device_memory_size: 84942979072"):
        assert f"  {line}\n" in text
    assert "cuda_compute_capability { major: 7 minor: 5 }" in targets.find("t4").config()
    assert "device_memory_size: 1099511627776\n" in targets.find("t4").config(memory=2**40)
