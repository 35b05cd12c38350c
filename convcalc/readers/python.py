"""`file.py:function`: the one thing that runs the user's code, because they named a function."""

from __future__ import annotations

import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import TracebackType
from typing import Any

from convcalc.errors import ConvcalcError, ModelError


def call(path: Path, function: str) -> Any:
    """What the function in the file returns when it is called without arguments.

    The file is imported in this process under its own name; its directory can be imported from
    while it runs, as if it were started as a script.

    Raises:
        ModelError: there is no such file or function, or their code raises: the message names the
            file and the line.
    """
    if not path.is_file():
        raise ModelError(f"'{path}' is no file")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    # Classes of the file look each other up here (dataclasses, pickling, typing).
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
        build = getattr(module, function, None)
        if not callable(build):
            raise ModelError(f"'{path}' has no function '{function}'")
        return build()
    except ConvcalcError:
        raise
    except (Exception, SystemExit) as error:
        line = line_in(error.__traceback__, path)
        if isinstance(error, SyntaxError):
            line = error.lineno
        where = f"'{path}', line {line}" if line else f"'{path}'"
        said = " ".join(traceback.format_exception_only(error)[-1].split())
        raise ModelError(f"{where}: {said}") from error
    finally:
        sys.path.remove(folder)
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before


def line_in(trace: TracebackType | None, path: Path) -> int | None:
    """The innermost line of the file that an error went through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(trace)
        if Path(frame.filename).resolve() == path.resolve()
    ]
    return lines[-1] if lines else None
