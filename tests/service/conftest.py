"""The service that most tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from service_server import Live, serving


@pytest.fixture(scope="session")
def service() -> Iterator[Live]:
    """The service with the settings it comes with."""
    with serving() as client:
        yield client
