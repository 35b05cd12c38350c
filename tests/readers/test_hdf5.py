"""`.h5` files: the structure out of an attribute, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convcalc.errors import MissingExtra, ModelError
from convcalc.readers import hdf5, load

h5py = pytest.importorskip("h5py")

CONFIG: dict[str, Any] = {
    "class_name": "Sequential",
    "config": {
        "name": "net",
        "layers": [
            {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "name": "in"}},
            {"class_name": "Conv2D", "config": {"name": "c", "filters": 4, "kernel_size": [3, 3]}},
        ],
    },
}


def file_with(path: Path, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
    return path


def test_text_and_bytes_are_read_whatever_the_name(tmp_path: Path) -> None:
    text = json.dumps(CONFIG)
    for number, value in enumerate((text, text.encode(), h5py.Empty("S1"))):
        path = file_with(tmp_path / f"{number}.model", model_config=value)
        if number < 2:
            assert load(path) == load(CONFIG)
        else:
            with pytest.raises(ModelError, match="is no text"):
                load(path)


def test_a_file_that_keras_saved(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="c")])
    model.save(tmp_path / "model.h5")
    assert load(tmp_path / "model.h5").ops == load(model).ops
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ModelError, match=r"weights without a structure; save the whole model"):
        load(tmp_path / "model.weights.h5")


@pytest.mark.parametrize("value", [7, ["a", "b"], "{", "[]"])
def test_attributes_that_are_no_configuration(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelError, match=r"is no text|is not valid|holds no mapping"):
        load(file_with(tmp_path / "a.h5", model_config=value))


def test_an_attribute_has_a_limit(tmp_path: Path) -> None:
    path = file_with(tmp_path / "a.h5", model_config=json.dumps(CONFIG))
    with pytest.raises(ModelError, match="larger than 0 MiB"):
        hdf5.read_config_text(path, 100)
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.create("model_config", b"x", dtype="S100000")
    with pytest.raises(ModelError, match="larger than 0 MiB"):
        hdf5.read_config_text(path, 100)


def test_every_truncation_is_a_model_error(tmp_path: Path) -> None:
    whole = file_with(tmp_path / "a.h5", model_config=json.dumps(CONFIG)).read_bytes()
    path = tmp_path / "b.h5"
    for keep in (8, 9, 48, 96, 511, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ModelError, match="damaged HDF5 file"):
            load(path)


def test_links_and_virtual_data_are_never_followed(tmp_path: Path) -> None:
    path = tmp_path / "links.h5"
    # Whoever opened it would wait for its other end until the time is up.
    outside = tmp_path / "outside.h5"
    os.mkfifo(outside)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(CONFIG)
        file["layer"] = h5py.ExternalLink(str(outside), "/")
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(outside), "x", (4,))
        file.create_virtual_dataset("weights", layout)
    code = f"import convcalc; print(convcalc.load({str(path)!r}).outputs)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "('c',)"


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_with(tmp_path / "a.h5", model_config=json.dumps(CONFIG))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'convcalc\[hdf5\]'"):
        load(path)
