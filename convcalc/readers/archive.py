"""`.keras` files: zips whose `config.json` is the structure; the weights in them are not read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.readers import configuration, foreign
from convcalc.readers.sizes import Input

MAGIC = b"PK\x03\x04"


def match(start: bytes, name: str) -> bool:
    """Whether a file is a zip."""
    return start.startswith(MAGIC)


def read(path: Path, input: Input = None) -> Network:
    """The network in a `.keras` file.

    Raises:
        ModelError: it is damaged, or another kind of zip.
    """
    what = f"'{path}'"
    config = configuration.parse(read_config_text(path, configuration.MAX_BYTES), what)
    return configuration.read_mapping(config, what, input)


def read_config_text(path: Path, limit: int) -> bytes:
    """The `config.json` of a `.keras` file, of at most `limit` bytes whatever the zip declares.

    Raises:
        ModelError: it is no zip, has no `config.json`, or a larger one.
    """
    names: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            with archive.open("config.json") as file:
                data = file.read(limit + 1)
    except KeyError:
        if any(name.endswith("/data.pkl") for name in names):
            raise ModelError(f"'{path}' is {foreign.TORCH}") from None
        raise ModelError(f"'{path}' holds no config.json, so it is no .keras file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"'{path}' is a damaged zip: {error}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read '{path}': {error}") from None
    if len(data) > limit:
        raise ModelError(f"config.json of '{path}' is larger than {limit >> 20} MiB")
    return data
