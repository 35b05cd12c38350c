"""`file.py:function`: the one thing that runs the user's code, because they named a function."""

from __future__ import annotations

import sys
import traceback
from contextlib import redirect_stdout, suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from convcalc.errors import ConvcalcError, MissingExtra, ModelError

#: Frameworks that such a file imports -> the extra that installs them.
EXTRAS = {"jax": "jax", "keras": "tensorflow", "tensorflow": "tensorflow", "torch": "torch"}


def call(path: Path, function: str) -> Any:
    """What the function in the file returns when it is called without arguments.

    The file is run in this process; its directory can be imported from meanwhile, as if it were
    started as a script, and what it prints goes to stderr.

    Raises:
        ModelError: there is no such file or function, or their code raises: the message names the
            file and the line.
        MissingExtra: the file needs a framework that is not installed.
    """
    if not path.is_file():
        raise ModelError(f"'{path}' is no file")
    # A name of its own: a file called keras.py must not stand in for Keras.
    name = f"__convcalc_{path.stem}__"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    # It stays: classes of the file, and what traces them later, look it up here.
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
            build = getattr(module, function, None)
            if not callable(build):
                raise ModelError(f"'{path}' has no function '{function}'")
            return build()
    except ConvcalcError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            raise MissingExtra(EXTRAS[error.name]) from error
        line = error.lineno if isinstance(error, SyntaxError) else line_in(error, path)
        where = f"'{path}', line {line}" if line else f"'{path}'"
        said = " ".join(traceback.format_exception_only(error)[-1].split())
        raise ModelError(f"{where}: {said}") from error
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)


def line_in(error: BaseException, path: Path) -> int | None:
    """The innermost line of the file that an error went through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == path.resolve()
    ]
    return lines[-1] if lines else None
