"""The page's types, which stand in JSDoc comments, hold."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_types() -> None:
    """TypeScript, strict, has nothing to say about web/."""
    cached = sorted(ROOT.glob(".cache/typescript-*/node_modules/.bin/tsc"))
    tsc = str(cached[-1]) if cached else shutil.which("tsc")
    if tsc is None:
        pytest.skip("no TypeScript: scripts/page_tools.sh gets it where there is npm")
    done = subprocess.run(
        [tsc, "--project", str(Path(__file__).parent / "tsconfig.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.returncode == 0
