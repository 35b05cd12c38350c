"""TensorFlow's own allocator against what must come out; each run is a fresh process."""

from __future__ import annotations

import os

import pytest

import convcalc
from convcalc.readers.spec import write_spec
from convcalc.verify.child import measure
from convcalc.verify.request import Request
from convcalc.verify.tensorflow import environment

SEED = write_spec(convcalc.load("seed_layer"))


def test_the_textbook_layer_at_inference() -> None:
    pytest.importorskip("tensorflow")
    found = measure(Request(SEED, mode="inference", values=True, timeline=True, flops=True))
    # Output, input, weights and bias; each a multiple of the allocator's 256 bytes but for 512.
    resting = 150 * 100 * 3 * 4 + 5 * 5 * 3 * 200 * 4 + 200 * 4
    assert found.peaks == [found.peak_bytes] * 3
    assert found.resting_bytes is not None
    assert found.peak_bytes == found.resting_bytes + 12_000_000
    assert 0 <= found.resting_bytes - resting < 2_048
    assert (found.params, found.output_shape) == (15_200, [1, 150, 100, 200])
    assert found.values_error is not None
    assert found.values_error < 1e-5
    # TensorFlow counts the multiplications and additions, and one addition for each bias.
    assert found.flops == 2 * 225_000_000 + 150 * 100 * 200
    assert 12_000_000 in [event.delta for event in found.timeline]
    assert max(event.bytes for event in found.timeline) == found.peak_bytes


def test_xla_repeats_to_the_byte_and_a_cap_is_an_answer() -> None:
    pytest.importorskip("tensorflow")
    spec = write_spec(convcalc.load("lenet5"))
    found = measure(Request(spec, batch=2, optimizer="momentum", jit=True))
    assert len(set(found.peaks)) == 1
    # 61,706 weights, as many momenta.
    assert found.resting_bytes is not None
    assert found.resting_bytes > 2 * 4 * 61_706
    capped = measure(Request(SEED, batch=4, memory_limit=32 * 2**20))
    assert capped.out_of_memory
    assert capped.peak_bytes is None


def test_the_environment_of_a_cpu_and_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = environment(Request(SEED, threads=1, memory_limit=2**30))
    assert cpu["TF_CPU_ALLOCATOR_USE_BFC"] == "1"
    assert cpu["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert cpu["TF_NUM_INTEROP_THREADS"] == "1"
    assert cpu["TF_CPU_BFC_MEM_LIMIT_IN_MB"] == "1024"
    whole = environment(Request(SEED))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert whole["TF_CPU_BFC_MEM_LIMIT_IN_MB"] == str(memory // 2**20)
    assert "TF_NUM_INTEROP_THREADS" not in whole
    gpu = environment(Request(SEED, device="gpu"))
    assert not any(key.startswith(("TF_CPU", "CUDA", "TF_ENABLE")) for key in gpu)
