"""Files made to do harm: nothing runs, nothing else is opened, time and memory are bounded.

Each is read in one child process with a limit on memory, whose audit hook records what Python
opens, starts and imports.  One harmless file stands for each way in which Keras has been attacked.
"""

from __future__ import annotations

import base64
import json
import marshal
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from convcalc.readers.configuration import MAX_BYTES, MAX_YAML

MEMORY = 1_500 * 2**20
SECONDS = 60

CHILD = """
import json, sys, time
import convcalc, convcalc.readers.archive, convcalc.readers.onnx, convcalc.readers.keras, yaml
from convcalc.readers import spec
from convcalc import zoo
zoo.index()
paths = json.load(sys.stdin)
seen = []
WATCHED = ("os.", "subprocess.", "socket.", "pickle.", "ctypes.", "urllib.", "shutil.", "tempfile.")
def hook(event, args):
    if event == "open" and str(args[0]) not in paths and not str(args[0]).endswith((".pyc", ".py")):
        seen.append([event, str(args[0])])
    elif event.startswith(WATCHED) and event not in ("os.listdir", "os.scandir"):
        seen.append([event, str(args)[:80]])
sys.addaudithook(hook)
results = []
for path in paths:
    start = time.perf_counter()
    try:
        report = convcalc.analyze(path)
        said = [report.status, [gap.op for gap in report.uncounted]]
    except convcalc.ConvcalcError as error:
        said = [error.exit_code, str(error)]
    results.append([said, time.perf_counter() - start])
banned = {"keras", "tensorflow", "h5py", "torch", "onnx", "jax", "pickle"} & set(sys.modules)
print(json.dumps([results, seen, sorted(banned)]))
"""


def read_all(paths: list[Path]) -> list[Any]:
    """What a child with bounded memory says of each file; asserts that nothing else happened."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results, seen, banned = json.loads(done.stdout)
    assert seen == []
    assert banned == []
    for path, (said, seconds) in zip(paths, results, strict=True):
        assert seconds < SECONDS, (path, seconds)
        assert "\n" not in str(said[1])
    return [said for said, _ in results]


def zipped(path: Path, config: Any, **others: bytes) -> Path:
    text = config if isinstance(config, (bytes, str)) else json.dumps(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", '{"keras_version": "3.9.0"}')
        for name, content in others.items():
            file.writestr(name, content)
        file.writestr("config.json", text)
    return path


def model(*layers: Any) -> dict[str, Any]:
    source = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8], "name": "in"}}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "net", "layers": [source, *layers]},
    }


def layer(kind: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": kind.lower(), **config},
        "registered_name": None if module == "keras.layers" else kind,
    }


def attacks(marker: Path, secret: Path) -> dict[str, Any]:
    """One configuration for each way; all would make `marker` or read `secret`."""
    code = compile(f"__import__('os').mkdir({str(marker)!r})", "x", "exec")
    text = base64.b64encode(marshal.dumps(code)).decode()
    lambdas = {"class_name": "__lambda__", "config": {"code": text, "defaults": None}}
    command = f"mkdir {marker}"
    system = {"module": "os", "class_name": "function", "config": "system"}
    fetch = {"module": "keras.utils", "class_name": "function", "config": "get_file"}
    unsafe = {
        "module": "keras.config",
        "class_name": "function",
        "config": "enable_unsafe_deserialization",
    }
    return {
        # Code in a Lambda layer.
        "CVE-2024-3660": layer("Lambda", function=lambdas),
        # Any function of any module by its name, called with arguments from the file.
        "CVE-2025-1550": layer("Lambda", function=system, arguments={"command": command}),
        # Functions of Keras' own modules that fetch and unpack.
        "CVE-2025-8747": layer(
            "Lambda", function=fetch, arguments={"fname": "x", "origin": f"file://{secret}"}
        ),
        # Switching the safe mode off first.
        "CVE-2025-9906": layer("Lambda", function=unsafe, arguments={}),
        # A vocabulary that is the path of a file, or an address.
        "CVE-2025-12058": layer("StringLookup", vocabulary=str(secret)),
        "CVE-2025-12058-address": layer("IntegerLookup", vocabulary="http://127.0.0.1:9/x"),
        # A SavedModel beside the file that a layer loads.
        "CVE-2026-1462": layer("TFSMLayer", filepath=str(secret.parent)),
        # A class that is imported by its module's name.
        "import": layer("system", module="os", command=command),
        "activation": layer("Dense", units=3, activation=system),
        "custom-activation": layer("Dense", units=3, activation=lambdas),
        "torch": layer("TorchModuleWrapper", module=text),
    }


def test_what_keras_was_attacked_with(tmp_path: Path) -> None:
    marker, secret = tmp_path / "marker", tmp_path / "secret"
    secret.write_text("secret\n")
    found = attacks(marker, secret)
    files = [zipped(tmp_path / f"{name}.keras", model(entry)) for name, entry in found.items()]
    files += [tmp_path / f"{name}.json" for name in found]
    for path, entry in zip(files[len(found) :], found.values(), strict=True):
        path.write_text(json.dumps(model(entry)))
    # An object in an archive beside the configuration, and weights that claim to be huge.
    bomb = b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096
    weights = {"model.weights.h5": bomb, "assets/x.pkl": pickle.dumps(os.getcwd)}
    files.append(zipped(tmp_path / "CVE-2026-0897.keras", model(layer("ReLU")), **weights))
    said = read_all(files)
    assert not marker.exists()
    assert said[-1] == ["complete", []]
    for status, what in said[:-1]:
        assert status == "partial", what
        assert "secret" not in str(what)


def test_the_same_in_an_h5_file_is_only_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    marker, secret = tmp_path / "marker", tmp_path / "secret"
    path = tmp_path / "CVE-2025-9905.h5"
    with h5py.File(path, "w") as file:
        entry = attacks(marker, secret)["CVE-2024-3660"]
        file.attrs["model_config"] = json.dumps(model(entry))
        # CVE-2026-0897: a shape that no machine has room for.
        file.create_dataset("w", (2**40, 2**10), "f4", chunks=(1024, 1024), fillvalue=0)
        # CVE-2026-1669: values from another file.
        file.create_dataset("e", (7,), "u1", external=[(str(secret), 0, 7)])
    code = (
        f"import sys, convcalc; print(convcalc.analyze({str(path)!r}).status, "
        "sorted({'keras', 'tensorflow', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "partial []"
    assert not marker.exists()


def nested(depth: int) -> str:
    """Sequential models in each other, as text: Python's own writer does not go that deep."""
    start = '{"class_name": "Sequential", "config": {"name": "m", "layers": ['
    inner = json.dumps(model(layer("ReLU")))
    return start * depth + inner + "]}}" * depth


def chain(length: int, cyclic: bool = False) -> dict[str, Any]:
    """A functional model of layers in a row."""
    layers = [
        {
            "class_name": "ReLU",
            "config": {"name": f"l{i}"},
            "name": f"l{i}",
            "inbound_nodes": [[[f"l{(i or length) - 1}" if i or cyclic else "x", 0, 0, {}]]],
        }
        for i in range(length)
    ]
    source = {
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 8], "name": "x"},
        "name": "x",
        "inbound_nodes": [],
    }
    return {
        "class_name": "Functional",
        "config": {
            "name": "n",
            "layers": [*reversed(layers), source],
            "input_layers": [["x", 0, 0]],
            "output_layers": [[f"l{length - 1}", 0, 0]],
        },
    }


def test_shapes_of_graphs(tmp_path: Path) -> None:
    deep = model(layer("ReLU"))
    for key in ("TimeDistributed", "Bidirectional"):
        inner = layer("ReLU")
        for _ in range(300):
            inner = {"class_name": key, "config": {"name": "t", "layer": inner}}
        deep["config"]["layers"].append(inner)
    configs: dict[str, Any] = {
        "chain of 1,000, backwards": chain(1_000),
        "cycle of 1,000": chain(1_000, cyclic=True),
        "1,000 models in each other": nested(1_000),
        "99 models in each other": nested(99),
        "2^40 calls": doubling(40),
        "wrappers 300 deep": deep,
        "sizes beyond int64": model(layer("Dense", units=2**62), layer("Dense", units=2**62)),
        "a billion filters": model(layer("Dense", units=10**9)),
        "NaN": model(layer("Dense", units=float("nan"))),
        "lists in lists": model(layer("Reshape", target_shape=[[[[[1]]]]])),
    }
    files = []
    for number, config in enumerate(configs.values()):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(config if isinstance(config, str) else json.dumps(config))
    said = dict(zip(configs, read_all(files), strict=True))
    for name in ("chain of 1,000, backwards", "99 models in each other", "a billion filters"):
        assert said.pop(name)[0] == "complete"
    assert said.pop("wrappers 300 deep")[0] in (4, "partial")
    for name, (status, message) in said.items():
        assert status == 4, (name, message)
    assert "is part of a cycle" in said["cycle of 1,000"][1]
    assert "calls more than 100,000 layers" in said["2^40 calls"][1]


def doubling(depth: int) -> Any:
    """A functional model that calls a model twice, which does the same: 2^depth calls, short."""
    entry: Any = layer("ReLU")
    entry["inbound_nodes"] = [[["x", 0, 0, {}]]]
    entry["name"] = "relu"
    inner, last = entry, ["relu", 0, 0]
    for level in range(depth):
        body = {
            "name": f"m{level}",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "config": {"batch_shape": [None, 8], "name": "x"},
                    "name": "x",
                    "inbound_nodes": [],
                },
                inner,
            ],
            "input_layers": [["x", 0, 0]],
            "output_layers": [last],
        }
        inner = {
            "class_name": "Functional",
            "config": body,
            "name": f"m{level}",
            "inbound_nodes": [[["x", 0, 0, {}]], [[f"m{level}", 1, 0, {}]]],
        }
        last = [f"m{level}", 2, 0]
    return {"class_name": "Functional", "config": body}


def test_size_and_compression(tmp_path: Path) -> None:
    many = b'{"class_name": "Sequential", "config": {"layers": [' + b"{}," * 5_000_000
    relu = b'{"class_name":"ReLU"},'
    head = json.dumps(model())[:-4].encode()
    files = {
        "blanks": zipped(tmp_path / "a.keras", b" " * (MAX_BYTES + 1)),
        "10 million layers": zipped(tmp_path / "b.keras", head + b"," + relu * 10_000_000),
        "as many mappings as fit": zipped(tmp_path / "c.keras", many + b"{}]}}"),
        "as many layers as fit": tmp_path / "d.json",
        "YAML lists": tmp_path / "e.yaml",
        "YAML as long as it may be": tmp_path / "f.yaml",
        "zeros": tmp_path / "g.bin",
        "unnamed layers": tmp_path / "h.json",
    }
    count = (MAX_BYTES - len(head) - 100) // len(relu)
    files["as many layers as fit"].write_bytes(head + b"," + (relu * count)[:-1] + b"]}}")
    files["YAML lists"].write_bytes(b"layers: [" + b"[]," * MAX_YAML + b"]")
    files["YAML as long as it may be"].write_bytes(
        (b"input: [8]\nlayers:\n" + b"- flatten\n" * MAX_YAML)[:MAX_YAML]
    )
    with files["zeros"].open("wb") as file:
        file.truncate(2**40)
    names = ",".join(['"flatten"'] * 99_000)
    files["unnamed layers"].write_text(f'{{"input": [8], "layers": [{names}]}}')
    said = dict(zip(files, read_all(list(files.values())), strict=True))
    assert said.pop("YAML as long as it may be")[0] == "complete"
    assert said.pop("unnamed layers")[0] == "complete"
    for name, (status, message) in said.items():
        assert status == 4, (name, message)
    assert "config.json of" in said["blanks"][1]
    assert "more than 512 KiB" in said["YAML lists"][1]


def test_lying_headers_and_truncation(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "whole.keras", model(layer("ReLU"))).read_bytes()
    files = []

    def keep(content: bytes) -> None:
        files.append(tmp_path / f"{len(files)}.keras")
        files[-1].write_bytes(content)

    for length in range(4, len(whole), 7):
        keep(whole[:length])
    # Sizes of 4 GiB in both headers of config.json, then other methods, flags and offsets.
    central = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    for offset, value in (
        (central + 20, b"\xff" * 4), (central + 24, b"\xff" * 4), (central + 24, bytes(4)),
        (central + 10, b"\x0c\0"), (central + 10, b"\x63\0"), (central + 8, b"\x01\0"),
        (central + 42, b"\xff\xff\xff\x7f"), (central + 16, b"\0\0\0\0"),
        (end + 10, b"\xff\xff"), (end + 12, b"\xff" * 4), (end + 16, b"\xff" * 4),
    ):  # fmt: skip
        keep(whole[:offset] + value + whole[offset + len(value) :])
    # A config.json twice, and one whose compressed bytes are random.
    keep(whole + whole)
    keep(whole[:40] + zlib.compress(b"x" * 100) + whole[140:])
    keep(b"PK\x03\x04" + struct.pack("<I", 2**32 - 1) * 30)
    said = read_all(files)
    refused = [entry for entry in said if entry[0] == 4]
    # Nothing else than the right network or an error; most of these are errors.
    assert all(entry in (["complete", []], *refused) for entry in said)
    assert len(refused) > len(said) // 2
