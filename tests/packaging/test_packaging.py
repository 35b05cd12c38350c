"""The sdist, the wheel that is built from it, and clean installations by each Python at hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

import convcalc

ROOT = Path(__file__).parents[2]
#: Where pyenv keeps other Pythons.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
PYTHONS = sorted(PYENV.glob("versions/*/bin/python"))


def run(*command: str | Path, **variables: str) -> str:
    """What a command prints, without this environment's packages and the repository in sight."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        env={**kept, "PIP_NO_INPUT": "1", **variables},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(python: Path, folder: Path) -> Path:
    """The interpreter of a new, empty environment."""
    run(python, "-m", "venv", "--without-pip", folder)
    return folder / "bin/python"


def pip(python: Path, *words: str | Path) -> None:
    """Install with this environment's pip; byte code would take longer than all the rest."""
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile",
        "--disable-pip-version-check", *words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An sdist of this tree, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def repository(*folders: str) -> set[str]:
    """The files that git tracks below folders."""
    listed = run("git", "-C", ROOT, "ls-files", *folders)
    return {name for name in listed.splitlines() if (ROOT / name).exists()}


def metadata(wheel: Path) -> Message:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(file.read(name).decode())


def test_the_wheel_has_the_package_and_the_page_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    wanted = repository("convcalc") | {f"convcalc/{name}" for name in repository("web")}
    assert names >= wanted
    # Files that are not yet tracked may be there as well; caches may not.
    assert {name.split("/")[0] for name in names} == {"convcalc"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert {"convcalc/py.typed", "convcalc/web/index.html", "convcalc/data/sample.png"} <= names


def test_the_sdist_has_its_tests_and_what_they_need(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = repository("convcalc", "web", "tests", "benchmarks", "docs", "scripts", "requirements")
    assert names >= wanted | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"}
    assert not [name for name in names if name.startswith((".venv", ".ci", "build/"))]


def test_metadata(built: dict[str, Path]) -> None:
    found = metadata(built["wheel"])
    assert found["Name"] == "convcalc"
    assert found["Version"] == convcalc.__version__
    assert found["License-Expression"] == "MIT"
    assert found["Requires-Python"] == ">=3.11"
    assert found["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in (found.get_all("Classifier") or [])
    core = {
        re.split("[<>=~]", line)[0]
        for line in found.get_all("Requires-Dist") or []
        if "extra ==" not in line
    }
    assert core == {"numpy", "pydantic", "pyyaml", "rich", "typer"}


def version(python: Path) -> tuple[int, int]:
    """The version of an interpreter by its folder's name, 0.0 for other names."""
    found = re.match(r"(\d+)\.(\d+)", python.parents[1].name)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def interpreters() -> Iterator[Path]:
    """This one, and the newest of each other version at hand that is new enough."""
    yield Path(sys.executable)
    newest = {version(python): python for python in PYTHONS}
    for minor, python in sorted(newest.items()):
        if minor >= (3, 11) and minor != sys.version_info[:2]:
            yield python


@pytest.mark.parametrize("python", [*interpreters()], ids=lambda path: f"{path}")
def test_a_clean_installation_works(built: dict[str, Path], python: Path, tmp_path: Path) -> None:
    own = environment(python, tmp_path / "env")
    pip(own, "--only-binary", ":all:", built["wheel"])
    command = tmp_path / "env/bin/convcalc"
    assert run(command, "--version").strip() == convcalc.__version__
    text = run(command, "analyze", "resnet50", "--depth", "1", COLUMNS="80")
    assert "25,636,712 parameters" in text
    folder = run(own, "-c", "import convcalc; print(convcalc.__path__[0])").strip()
    assert Path(folder).is_relative_to(tmp_path)
    assert (Path(folder) / "web/index.html").is_file()
    # What an extra brings is named, not missed with a traceback.
    done = subprocess.run([command, "serve"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "convcalc[serve]" in done.stderr


def test_an_editable_installation_serves_the_page(tmp_path: Path) -> None:
    """The page is then beside the package, and changes as one edits."""
    own = environment(Path(sys.executable), tmp_path / "env")
    pip(own, "--no-deps", "--editable", ROOT)
    site = run(own, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    assert not (Path(site) / "convcalc" / "__init__.py").exists()
    # Packages come from the environment that runs this; the package from the editable one.
    packages = Path(pytest.__file__).parents[1]
    code = "from convcalc.service.page import directory; print(directory())"
    found = Path(run(own, "-c", f"import sys; sys.path.append({str(packages)!r}); {code}").strip())
    assert found == ROOT / "web"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_each_shell(shell: str) -> None:
    script = run(
        Path(sys.executable).parent / "convcalc", "--show-completion", shell,
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )  # fmt: skip
    assert "_CONVCALC_COMPLETE" in script


def test_completion_knows_commands_and_networks() -> None:
    command = Path(sys.executable).parent / "convcalc"
    found = run(
        command,
        _CONVCALC_COMPLETE="complete_bash",
        COMP_WORDS="convcalc an",
        COMP_CWORD="1",
    )
    assert found.split() == ["analyze"]


def test_the_bill_of_materials_names_every_package_once() -> None:
    found = json.loads(run(sys.executable, ROOT / "scripts/sbom.py"))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["purl"] == f"pkg:pypi/convcalc@{convcalc.__version__}"
    references = {each["bom-ref"] for each in found["components"]}
    assert len(references) == len(found["components"])
    assert any(each["name"] == "numpy" for each in found["components"])
    needs = {each["ref"]: set(each["dependsOn"]) for each in found["dependencies"]}
    own = needs.pop(found["metadata"]["component"]["bom-ref"])
    assert {ref.split("@")[0] for ref in own} >= {"pkg:pypi/numpy", "pkg:pypi/typer"}
    assert set(needs) == references


def test_the_dockerfile_has_nothing_that_its_linter_dislikes() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    assert run(linter, "--failure-threshold", "style", ROOT / "Dockerfile") == ""
