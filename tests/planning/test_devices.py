"""The device catalogue: what comes along, what users add, what is wrong with their files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import convcalc
from convcalc.errors import UsageError
from convcalc.planning import devices
from convcalc.report import Device
from convcalc.settings import engine_device

MIB, GIB = 2**20, 2**30


def test_the_catalogue_holds_what_people_have() -> None:
    known = convcalc.devices()
    for name in ("gtx-1650", "rtx-3050-laptop", "rtx-4090", "t4", "l4", "a100-80gb", "h100-sxm"):
        assert known[name].kind == "gpu"
        assert known[name].capability
    assert {name for name, device in known.items() if device.kind == "tpu"} >= {
        *("tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e")
    }
    assert known["rtx-4090"].memory_bytes == 24 * GIB
    assert known["h100-sxm"].usable_bytes == 81559 * MIB


@pytest.mark.parametrize("device", convcalc.devices().values(), ids=lambda device: device.name)
def test_each_entry_says_where_it_is_from_and_can_be_believed(device: Device) -> None:
    assert len(device.source) > 10
    assert 0.9 * device.memory_bytes < device.usable_bytes <= device.memory_bytes
    assert device.bandwidth_gbs
    rates = device.peak_tflops
    if {"float32", "float16"} <= set(rates):
        assert rates["float16"] >= 2 * rates["float32"] * 0.99
    for engine in ("tensorflow", "tensorflow-xla", "torch", "jax"):
        assert 0 < devices.available(device, engine) <= device.usable_bytes


@pytest.mark.parametrize("device", convcalc.devices().values(), ids=lambda device: device.name)
def test_rates_are_two_operations_a_core_and_clock(device: Device) -> None:
    found = re.search(r"(\d+) cores at (?:up to )?(\d+) MHz", device.source)
    assert found or "cores" not in device.source
    if found:
        rate = 2 * int(found[1]) * int(found[2]) / 1e6
        assert device.peak_tflops["float32"] == pytest.approx(rate, rel=0.01)


def test_what_frameworks_leave() -> None:
    card = convcalc.devices()["rtx-3080"]
    context = 700 * MIB
    assert devices.available(card, "torch") == 10 * GIB
    assert devices.available(card, "tensorflow") == 10 * GIB - context - 1536 * MIB
    assert devices.available(card, "tensorflow-xla") == devices.available(card, "tensorflow")
    assert devices.available(card, "jax") == (10 * GIB - context) * 3 // 4
    assert devices.tensorflow_reserve(2**31 - 1, "8.6") == 225 * MIB
    reserves = [devices.tensorflow_reserve(2**33, cc) for cc in ("6.1", "7.5", "8.9", "9.0", None)]
    assert reserves == [500 * MIB, 1050 * MIB, 1536 * MIB, 1800 * MIB, 1800 * MIB]


def test_a_file_adds_and_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(
        '[our-card]\nmemory = "16GiB"\nusable = "15GiB"\n'
        "[t4]\nmemory = 1000000\npeak = {tf32 = 1}\n"
    )
    found = convcalc.devices(str(file))
    assert found["our-card"].usable_bytes == 15 * GIB
    assert found["our-card"].title == "our-card"
    assert found["t4"].memory_bytes == 1_000_000
    assert found["t4"].peak_tflops == {"tf32": 1.0}
    assert "our-card" not in convcalc.devices()
    monkeypatch.setenv("CONVCALC_DEVICES", str(file))
    assert engine_device("our-card") == "gpu"
    assert devices.find("our-card").kind == "gpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "not valid TOML"),
        ("a = 1", "device 'a' must be a table"),
        ("[a]\ntitle = 'A'", "does not say its memory"),
        ("[a]\nmemory = '8GiBs'", "'8GiBs' is not a size"),
        ("[a]\nmemory = 0", "must be a size"),
        ("[a]\nmemory = true", "must be a size"),
        ("[a]\nmemory = -5", "not a size"),
        ("[a]\nmemory = '8GiB'\nusable = '9GiB'", "usable memory is more than memory"),
        ("[a]\nmemory = '8GiB'\nmemmory = '8GiB'", "no 'memmory'; did you mean 'memory'?"),
        ("[a]\nmemory = '8GiB'\nkind = 'fpga'", "kind must be one of"),
        ("[a]\nmemory = '8GiB'\nkind = ['gpu']", "kind must be one of"),
        ("[a]\nmemory = '8GiB'\ncapability = 'sm_90'", "capability must be like"),
        ("[a]\nmemory = '8GiB'\nbandwidth = -1", "bandwidth must be a positive number"),
        ("[a]\nmemory = '8GiB'\nbandwidth = inf", "bandwidth must be a positive number"),
        ("[a]\nmemory = '8GiB'\npeak = {int4 = 1}", "peak must map"),
        ("[a]\nmemory = '8GiB'\npeak = {float32 = 'x'}", "peak float32 must be a positive"),
        ("['Big Card']\nmemory = '8GiB'", "a name has small letters"),
        ("[gpu]\nmemory = '8GiB'", "is neither gpu nor cpu"),
    ],
)
def test_broken_files(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"broken\.toml") as error:
        convcalc.devices(str(file))
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the devices file"):
        convcalc.devices(str(tmp_path / "none.toml"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not text"):
        convcalc.devices(str(tmp_path / "binary"))


def test_names_reach_the_other_commands() -> None:
    report = convcalc.analyze("lenet5", engine="torch", device="rtx-4090", optimizer="adam")
    same = convcalc.analyze("lenet5", engine="torch", device="gpu", optimizer="adam")
    assert report.settings.device == "rtx-4090"
    assert report.memory == same.memory
    with pytest.raises(UsageError, match="unknown device 'rtx-4091'; did you mean 'rtx-4090'"):
        convcalc.analyze("lenet5", device="rtx-4091")
    with pytest.raises(UsageError, match="`convcalc devices` lists"):
        convcalc.analyze("lenet5", device="???")
