"""The documentation builds without a warning, and what is built fetches nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("furo")

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"

#: What a browser loads by itself; links that one may click are something else.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\bsrc=["'](?:https?:)?//"""
    r"""|<link[^>]*\brel=["'](?:stylesheet|preload|icon|preconnect)["'][^>]*href=["'](?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as HTML."""
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "-d", str(folder / ".doctrees"), str(DOCS), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(built: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (built / page.relative_to(DOCS)).with_suffix(".html").exists(), page


def test_nothing_is_fetched(built: Path) -> None:
    files = [*built.rglob("*.html"), *built.rglob("*.css")]
    assert len(files) > 20
    for file in files:
        found = LOADED.search(file.read_text(encoding="utf-8"))
        assert found is None, (file, found)


def test_anchors_of_links_exist(built: Path) -> None:
    """Sphinx checks those within Markdown; this checks all that came out."""
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r'href="([^":]*#[^"]+)"', text):
            path, _, anchor = target.partition("#")
            other = (page.parent / path) if path else page
            if other.suffix == ".html" and not anchor.startswith(("/", "MathJax")):
                assert f'id="{anchor}"' in other.read_text(encoding="utf-8"), (page.name, target)
