"""`.keras` files: zips whose `config.json` is the structure; the weights in them are not read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from convcalc.errors import ModelError

MAGIC = b"PK\x03\x04"


def read_config_text(path: Path, limit: int) -> bytes:
    """The `config.json` of a `.keras` file, of at most `limit` bytes whatever the zip declares.

    Raises:
        ModelError: it is no zip, has no `config.json`, or a larger one.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            data = file.read(limit + 1)
    except KeyError:
        raise ModelError(f"'{path}' holds no config.json, so it is no .keras file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"'{path}' is a damaged zip: {error}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read '{path}': {error}") from None
    if len(data) > limit:
        raise ModelError(f"config.json of '{path}' is larger than {limit >> 20} MiB")
    return data
