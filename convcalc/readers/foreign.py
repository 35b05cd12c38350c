"""Formats that are recognised and not read: what they are, and what to do instead.

Most hold weights without a structure, or a pickle, whose reading would run what stands in it.
"""

from __future__ import annotations

from pathlib import Path

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers.sizes import Input

TORCH = (
    "a pickle, which is never opened: name the function that builds the module (file.py:function), "
    "pass the module itself from Python, or export it with torch.onnx.export"
)
WEIGHTS = "weights without a structure: give the model that they belong to"
SAVED_MODEL = (
    "a TensorFlow SavedModel; save it as .keras (model.save('model.keras')), or convert it: "
    "python -m tf2onnx.convert --saved-model DIRECTORY --output model.onnx"
)
FROZEN_GRAPH = (
    "a TensorFlow graph; convert it: python -m tf2onnx.convert --graphdef FILE --output model.onnx"
)
TFLITE = (
    "a TensorFlow Lite model; give the model it was made from, or convert it: "
    "python -m tf2onnx.convert --tflite FILE --output model.onnx"
)
POINTER = "a pointer of Git LFS; fetch the file that it stands for: git lfs pull"
COMPRESSED = "compressed; unpack it first"

#: What each ending says where the content does not.
ENDINGS = {
    ".pt": TORCH,
    ".pth": TORCH,
    ".pkl": TORCH,
    ".pickle": TORCH,
    ".ckpt": WEIGHTS,
    ".npz": WEIGHTS,
    ".safetensors": WEIGHTS,
    ".tflite": TFLITE,
    ".pb": FROZEN_GRAPH,
}


def what(start: bytes, name: str) -> str | None:
    """What a file is if it is one of these, from its content first and then from its name."""
    if start[4:8] == b"TFL3":
        return TFLITE
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 1:
        return TORCH
    if start[:2] == b"\x1f\x8b" or start[:3] in (b"BZh", b"\xfd7z"):
        return COMPRESSED
    if start.startswith(b"version https://git-lfs"):
        return POINTER
    # Eight bytes of length, then a JSON header.
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 2**32:
        return WEIGHTS
    # Version 1 of the schema, then the graph; ONNX writes a larger version there.
    if start[:3] == b"\x08\x01\x12" and b"serve" in start:
        return SAVED_MODEL
    if name.endswith("saved_model.pb"):
        return SAVED_MODEL
    ending = Path(name).suffix.lower()
    return None if ending == ".pb" and start[:1] == b"\x08" else ENDINGS.get(ending)


def match(start: bytes, name: str) -> bool:
    """Whether a file is one of these."""
    return what(start, name) is not None


def read(path: Path, input: Input = None) -> Network:
    """Nothing.

    Raises:
        ModelError: always; it says what the file is and what to do.
    """
    with path.open("rb") as file:
        raise ModelError(f"'{path}' is {what(file.read(64), path.name)}")


def refuse_directory(path: Path) -> None:
    """Say what a directory is.

    Raises:
        ModelError: always.
    """
    if (path / "saved_model.pb").exists():
        raise ModelError(f"'{path}' is {SAVED_MODEL}")
    raise ModelError(f"'{path}' is a directory; give a model file or a name of `convcalc zoo`")
