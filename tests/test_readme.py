"""Every command and every output that the README shows is what one gets."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from convcalc.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Each `$ command` with the lines shown under it."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command.partition("#")[0].strip(), output))
    return found


@pytest.mark.parametrize(("command", "output"), examples())
def test_a_command_gives_what_is_shown(
    command: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "lenet5.yaml").write_text(blocks("yaml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    shown = capsys.readouterr().out
    if output:
        assert shown.startswith(output)


def test_the_python_lines() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec("\n".join(line for line in code.splitlines() if "analyze(model" not in line), names)
    report = names["report"]
    assert (report.totals.params, report.totals.macs) == (25_636_712, 3_857_973_248)
