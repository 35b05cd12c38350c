"""The scripts that make and check the documentation, as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


@pytest.fixture(scope="session")
def docs() -> Iterator[ModuleType]:
    """scripts/docs.py."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("docs")
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="session")
def parts(docs: ModuleType) -> ModuleType:
    """scripts/docs_parts.py."""
    return importlib.import_module("docs_parts")


@pytest.fixture(scope="session")
def drawings(docs: ModuleType) -> ModuleType:
    """scripts/docs_drawings.py."""
    return importlib.import_module("docs_drawings")
