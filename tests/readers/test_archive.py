""".keras files: structure out of a zip, with bounds, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from convcalc.errors import ModelError
from convcalc.readers import load
from convcalc.readers.configuration import MAX_BYTES

LAYER = {
    "class_name": "Conv2D",
    "config": {"name": "conv", "filters": 4, "kernel_size": [3, 3], "use_bias": True},
}
CONFIG = {
    "class_name": "Sequential",
    "config": {
        "name": "net",
        "layers": [
            {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "name": "in"}},
            LAYER,
        ],
    },
}


def archive(path: Path, content: bytes, name: str = "config.json") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", "{}")
        file.writestr(name, content)
    return path


def test_a_keras_file_is_its_configuration(tmp_path: Path) -> None:
    # Named as something else: the beginning of the file decides.
    path = archive(tmp_path / "model.bin", json.dumps(CONFIG).encode())
    assert load(path) == load(CONFIG)


def test_a_file_that_keras_saved(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
    model.save(tmp_path / "model.keras")
    net = load(tmp_path / "model.keras")
    assert net.tensors["conv"].dims == (1, 6, 6, 4)


@pytest.mark.parametrize("keep", [5, 30, 100, -30, -1])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path / "model.keras", json.dumps(CONFIG).encode())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged zip"):
        load(path)


def test_other_zips(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load(archive(tmp_path / "a.keras", b"{}", name="other.json"))
    with pytest.raises(ModelError, match="not valid JSON"):
        load(archive(tmp_path / "b.keras", b'{"a": '))


def test_a_bomb_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.keras", b" " * (MAX_BYTES + 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(ModelError, match="larger than 16 MiB"):
        load(path)


def test_custom_classes_are_named_and_never_imported(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = {
        "module": "os",
        "class_name": "system",
        "config": {"name": "evil", "command": f"touch {marker}"},
        "registered_name": None,
    }
    config = json.loads(json.dumps(CONFIG))
    config["config"]["layers"].append(evil)
    path = archive(tmp_path / "evil.keras", json.dumps(config).encode())
    code = (
        f"import sys, convcalc; r = convcalc.analyze({str(path)!r}); "
        "print(r.status, [gap.op for gap in r.uncounted], "
        "sorted({'keras', 'tensorflow', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "partial ['system'] []"
    assert not marker.exists()
