"""`.h5` files of Keras 2 and 3: the attribute `model_config` of the root is the structure.

Nothing else of the file is opened: no dataset, so no filter of one, no external link or storage,
no virtual dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convcalc.errors import MissingExtra, ModelError
from convcalc.network import Network
from convcalc.readers import configuration
from convcalc.readers.sizes import Input

MAGIC = b"\x89HDF\r\n\x1a\n"


def match(start: bytes, name: str) -> bool:
    """Whether a file is HDF5."""
    return start.startswith(MAGIC)


def read(path: Path, input: Input = None) -> Network:
    """The network in an HDF5 file that Keras saved.

    Raises:
        ModelError: it is damaged, or holds weights only.
        MissingExtra: h5py is not installed.
    """
    what = f"'{path}'"
    text = read_config_text(path, configuration.MAX_BYTES)
    return configuration.read_mapping(configuration.parse(text, what), what, input)


def read_config_text(path: Path, limit: int) -> bytes:
    """The attribute `model_config`, of at most `limit` bytes.

    Raises:
        ModelError: the file is damaged or has no such attribute, or it is no text or a larger one.
        MissingExtra: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("hdf5") from None
    try:
        with h5py.File(path, "r") as file:
            if "model_config" not in file.attrs:
                raise ModelError(
                    f"'{path}' holds weights without a structure; save the whole model "
                    "(model.save('model.keras')) or its configuration (model.to_json())"
                )
            attribute = h5py.h5a.open(file.id, b"model_config")
            if attribute.shape != () or attribute.get_type().get_class() != h5py.h5t.STRING:
                raise ModelError(f"model_config of '{path}' is no text")
            if attribute.get_type().get_size() > limit:
                raise ModelError(f"model_config of '{path}' is larger than {limit >> 20} MiB")
            found: Any = file.attrs["model_config"]
    except ModelError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"'{path}' is a damaged HDF5 file: {said}") from None
    data: bytes = found.encode(errors="surrogateescape") if isinstance(found, str) else bytes(found)
    if len(data) > limit:
        raise ModelError(f"model_config of '{path}' is larger than {limit >> 20} MiB")
    return data
