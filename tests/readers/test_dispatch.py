"""Which format a file is in, what is said of those that are not read, and sizes by name."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from convcalc.cli import main, options
from convcalc.errors import ModelError, UsageError
from convcalc.readers import FORMATS, foreign, load

SPEC = {"name": "n", "input": [8, 8, 3], "layers": [{"conv": {"filters": 2, "kernel": 3}}]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
        ("net.bin", b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
        ("net.bin", pickle.dumps([1, 2]), "a pickle, which is never opened"),
        ("net.pt", b"\0\0", "a pickle, which is never opened"),
        ("net.safetensors", b"\x02\0\0\0\0\0\0\0{}", "weights without a structure"),
        ("net.bin", b"\x40\0\0\0\0\0\0\0" + b'{"a": {}}', "weights without a structure"),
        ("saved_model.pb", b"\x08\x01\x12\x00", "tf2onnx.convert --saved-model"),
        ("graph.pb", b"\x0a\x05\x0a\x01x\x12", "tf2onnx.convert --graphdef"),
        ("net.json.gz", b"\x1f\x8b\x08\0", "compressed"),
        ("net.what", b"\0\x01\x02\x03", "in no format that is read"),
        ("net.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("net.py", b"import keras", r"net\.py:build_model"),
    ],
)
def test_formats_that_are_not_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_pytorch_zip_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", pickle.dumps(Evil()))
    with pytest.raises(ModelError, match=r"never opened: name the function"):
        load(path)
    assert not marker.exists()


def test_directories_and_things_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a directory"):
        load(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ModelError, match="a TensorFlow SavedModel"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="no regular file"):
        load(tmp_path / "pipe")
    with pytest.raises(ModelError, match="neither a file nor a network of the zoo"):
        load(tmp_path / "nothing.onnx")


def test_what_a_file_holds_comes_before_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_text(json.dumps(SPEC))
    assert load(path) == load(SPEC)


def test_every_format_has_both_functions() -> None:
    from importlib import import_module

    for format in FORMATS:
        module = import_module(f"convcalc.readers.{format}")
        assert module.match(b"", "") in (True, False)
        assert callable(module.read)


def test_foreign_endings_are_not_ours() -> None:
    assert not {".keras", ".h5", ".onnx", ".json", ".yaml"} & foreign.ENDINGS.keys()


TWO: dict[str, Any] = {
    "inputs": {"image": [8, 8, 3], "ids": {"shape": [4], "dtype": "int32"}},
    "layers": [
        {"conv": {"filters": 2, "kernel": 3}, "from": "image", "name": "c"},
        {"embedding": {"rows": 9, "width": 2}, "from": "ids", "name": "e"},
    ],
    "outputs": ["c", "e"],
}


def test_sizes_by_name_for_a_spec_and_a_network() -> None:
    for source in (TWO, load(TWO)):
        net = load(source, input={"image": (9, 10, 3)})
        assert net.tensors["c"].shape == (1, 7, 8, 2)
        assert net.inputs["ids"] == load(TWO).inputs["ids"]
        with pytest.raises(ModelError, match=r"has no input 'picture'; its inputs: 'image', 'ids'"):
            load(source, input={"picture": (9, 9, 3)})
        with pytest.raises(ModelError, match=r"2 inputs; .* by name \(image, ids\)"):
            load(source, input=(9, 9, 3))
    with pytest.raises(ModelError, match="takes 3 sizes, not 2"):
        load(load(SPEC), input=(9, 9))
    first = load({**SPEC, "layout": "channels_first"} | {"input": [3, 8, 8], "layers": ["flatten"]})
    assert load(first, input={"input": (5, 6, 3)}).inputs["input"].shape == (1, 3, 5, 6)


def test_sizes_by_name_for_keras() -> None:
    def source(name: str, size: list[int | None]) -> dict[str, Any]:
        config = {"name": name, "batch_shape": [None, *size]}
        return {"class_name": "InputLayer", "config": config, "name": name, "inbound_nodes": []}

    config = {
        "class_name": "Functional",
        "config": {
            "name": "two",
            "layers": [
                source("a", [None, None, 3]),
                source("b", [None, None, 3]),
                {
                    "class_name": "Concatenate",
                    "config": {"name": "c", "axis": -1},
                    "name": "c",
                    "inbound_nodes": [[["a", 0, 0, {}], ["b", 0, 0, {}]]],
                },
            ],
            "input_layers": [["a", 0, 0], ["b", 0, 0]],
            "output_layers": [["c", 0, 0]],
        },
    }
    net = load(config, input={"a": (4, 5, 3), "b": (4, 5, 3)})
    assert net.tensors["c"].shape == (1, 4, 5, 6)
    with pytest.raises(ModelError, match="input 'b' leaves sizes open"):
        load(config, input={"a": (4, 5, 3)})


def test_sizes_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.json"
    path.write_text(json.dumps(TWO))
    line = f"convcalc analyze {path} --input image=9x9x3 -i ids=7 --json"
    monkeypatch.setattr("sys.argv", line.split())
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    shapes = [layer["output_shape"] for layer in json.loads(capsys.readouterr().out)["layers"]]
    assert shapes == [[1, 7, 7, 2], [1, 7, 2]]


def test_what_input_takes() -> None:
    assert options.input_sizes(None) is None
    assert options.input_sizes([]) is None
    assert options.input_sizes(["8x9x3"]) == (8, 9, 3)
    assert options.input_sizes(["a=b=1x8"]) == {"a=b": (1, 8)}
    for texts, message in (
        (["8x9", "7x7"], "does not say which input"),
        (["a=8", "7"], "does not say which input"),
        (["a=8", "a=9"], "two sizes for 'a'"),
        (["a="], "must be positive numbers"),
    ):
        with pytest.raises(UsageError, match=message):
            options.input_sizes(texts)
