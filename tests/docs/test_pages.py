"""What the documentation shows is what one gets: commands, outputs, code, help, tables, pictures.

If one of these fails because the program has changed for the better, `.venv/bin/python
scripts/docs.py` brings the pages up to date.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

#: Their examples register what the whole process then has.
APART = (DOCS / "extend.md",)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in APART], ids=lambda page: page.stem
)
def test_a_page_shows_what_comes_out(docs: ModuleType, page: Path) -> None:
    _, troubles = docs.refreshed(page)
    assert not troubles, "\n".join(map(str, troubles))


@pytest.mark.parametrize("page", APART, ids=lambda page: page.stem)
def test_a_page_whose_examples_change_the_process(page: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_page_has_the_commands_that_it_had(docs: ModuleType) -> None:
    """The parser sees the blocks: a mistake in its pattern would check nothing."""
    text = (DOCS / "chapter.md").read_text(encoding="utf-8")
    found = list(docs.blocks(text))
    assert text.count("\n```console\n") == sum(b.language == "console" for b in found) > 8
    assert sum(len(docs.commands(b.body)) for b in found if b.language == "console") > 10
    assert {b.mark for b in found} == {"", "predicted", "file"}


def test_the_drawings(drawings: ModuleType) -> None:
    assert drawings.write(check=True) == []
    for name in drawings.DRAWINGS:
        assert ET.parse(DOCS / "images" / name).getroot().get("aria-label")


@pytest.mark.parametrize(
    ("shown", "actual", "predicted", "same"),
    [
        ("12 MB\n", "12 MB", False, True),
        ("12 MB", "13 MB", False, False),
        ("peak 12 MB (11 MB to 15 MB nine", "peak 12.5 MB (9 MB to\n  25 MB nine", True, True),
        ("peak 12 MB", "peak 14 MB", True, False),
        ("peak 12 MB", "peak 12 GB", True, False),
        ("at conv_1", "at conv_2", True, False),
        ("1,000 rows", "1,050 rows", True, True),
        ("-2%", "2%", True, False),
        ("-------", "--------", True, True),
    ],
)
def test_alike(docs: ModuleType, shown: str, actual: str, predicted: bool, same: bool) -> None:
    assert docs.alike(shown, actual, predicted=predicted) is same


def test_a_page_that_is_wrong_is_found(docs: ModuleType, tmp_path: Path) -> None:
    page = ROOT / "docs" / "made-up.md"
    text = (
        "```console\n$ convcalc conv --input 8x8x1 --filters 2 --kernel 3 | tail -1\nwrong\n```\n"
        "```python\n1 + 1  # 3\n```\n"
        "```sh\nconvcalc analyze resnet50 --no-such-option\n```\n"
        "```console\n$ convcalc analyze nothing.yaml\n```\n"
    )
    fresh, troubles = docs.run_page(page, text)
    assert [trouble.line for trouble in troubles] == [2, 6, 9, 12]
    assert "wrong" not in fresh
    assert docs.run_page(page, fresh)[1][0].line != 2


def test_links_of_the_readme_lead_somewhere(docs: ModuleType) -> None:
    import re

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link
