"""The page at "/", if there is one: files with ETags, that browsers ask for anew each time."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import FastAPI


def directory() -> Path | None:
    """Where the page is: in the package as it is installed, or beside it in the repository."""
    package = Path(str(resources.files("convcalc")))
    for found in (package / "web", package.parent / "web"):
        if (found / "index.html").is_file():
            return found
    return None


def install(app: FastAPI, found: Path | None = None) -> None:
    """Serve the page below every other route; what it has not is a 404."""
    found = found or directory()
    if found is not None:
        app.frontend("/", directory=found, check_dir=True, fallback=None)
