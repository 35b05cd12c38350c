"""Nothing public is undocumented."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import convcalc
from convcalc import report
from convcalc.analysis.conventions import CONVENTIONS
from convcalc.cli import app
from convcalc.ops import operators
from convcalc.planning.lint import RULES
from convcalc.planning.remedies import KINDS
from convcalc.settings import DEVICES, DTYPES, ENGINES, OPTIMIZERS

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def words(page: str) -> set[str]:
    """What a page has in backquotes."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return set(re.findall(r"`([^`\n]+)`", text))


def test_every_public_name() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    named = words("python.md") | set(re.findall(r"^### convcalc\.(\w+)$", text, re.MULTILINE))
    assert set(convcalc.__all__) - {"__version__"} <= named
    assert "convcalc.__version__" in named


def test_every_setting_of_an_analysis() -> None:
    assert {*DTYPES, *OPTIMIZERS, *ENGINES, *DEVICES} <= words("python.md")
    assert {field.name for field in dataclasses.fields(report.Settings)} <= words("python.md")


def test_every_class_of_the_schema_and_its_fields(parts: ModuleType) -> None:
    shown = {*parts.REPORT, *parts.ANSWERS}
    text = (DOCS / "schema.md").read_text(encoding="utf-8")
    for name, thing in vars(report).items():
        if dataclasses.is_dataclass(thing):
            assert name in shown, name
            (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
            for field in dataclasses.fields(thing):
                assert f"| `{field.name}` |" in section, (name, field.name)


def test_every_command() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"## convcalc {command.name}\n" in text


def test_every_operator_and_convention() -> None:
    assert set(operators()) <= words("operators.md")
    assert set(CONVENTIONS) <= words("conventions.md")


def test_every_remedy_and_every_finding() -> None:
    assert {kind.name for kind in KINDS} <= words("planning.md")
    assert {rule.__name__.replace("_", "-") for rule in RULES} <= words("planning.md")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("analyze", "analysis.costs"),
        ("advise", "planning.advise"),
        ("fit", "planning.fit"),
        ("sweep", "planning.sweep"),
    ],
)
def test_every_keyword_of_a_function(name: str, module: str) -> None:
    """`**settings` are named in the docstring, which the page shows."""
    run = getattr(importlib.import_module(f"convcalc.{module}"), name)
    keywords = [
        each.name
        for each in inspect.signature(run).parameters.values()
        if each.kind is each.KEYWORD_ONLY
    ]
    assert len(keywords) > 5
    text = getattr(convcalc, name).__doc__
    for keyword in keywords:
        assert re.search(rf"\b{keyword}\b", text), keyword
