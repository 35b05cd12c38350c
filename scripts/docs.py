"""Brings what the documentation shows of the program up to date; the tests use the same code.

    .venv/bin/python scripts/docs.py           # rewrites outputs, tables, help and drawings
    .venv/bin/python scripts/docs.py --check   # says what would change, exit code 1 if anything

A page's `console` and `python` blocks are run in order, in a folder and a namespace of the page's
own.  A comment before a block says more:

    <!-- file: NAME -->      the block is a file that later blocks use
    <!-- predicted -->       numbers may be off by a tenth, and intervals by anything
    <!-- not run: REASON --> the commands are only parsed, the code is only compiled

`sh` blocks are never run; lines of them that call convcalc are parsed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

#: Its calls of curl are run against a server by tests/service/test_documents.py.
API = DOCS / "api.md"

#: How far a number of a `predicted` block may be from what the program says now.
TOLERANCE = 0.1

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>file|predicted|not run)(?:: (?P<value>.*?))? -->\n\n?)?"
    r"^```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
GENERATED = re.compile(
    r"^<!-- generated: (?P<name>[\w-]+) -->\n(?P<body>.*?)^<!-- /generated -->$",
    re.DOTALL | re.MULTILINE,
)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
NUMBER = re.compile(r"^[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
REQUEST = re.compile(r'"request_id": "[0-9a-f]+"')
INTERVAL = re.compile(r"\d[\d.]*\s+[kMGT]?B\s+to\s+\d[\d.]*\s+[kMGT]?B")


def pages() -> list[Path]:
    """Every page whose examples are run."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    body: str
    mark: str
    value: str
    line: int
    start: int
    """Where the body begins in the page's text."""


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for match in FENCE.finditer(text):
        yield Block(
            match["language"],
            match["body"],
            match["mark"] or "",
            match["value"] or "",
            text.count("\n", 0, match.start("body")) + 1,
            match.start("body"),
        )


@dataclass(frozen=True)
class Command:
    """One `$ command` of a console block with the lines shown under it."""

    text: str
    """Without the comment, in one line."""
    source: str
    """As the page has it."""
    output: str


def commands(body: str) -> list[Command]:
    """The commands of a console block."""
    found = []
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        count = 1
        while lines[count - 1].endswith("\\\n"):
            count += 1
        source = "".join(lines[:count])
        joined = source.replace("\\\n", " ")
        found.append(
            Command(re.sub(r"\s+# .*$", "", joined).strip(), source, "".join(lines[count:]))
        )
    return found


@dataclass
class Session:
    """What a page's examples share: a folder, a namespace, the last exit code."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    code: int = 0
    client: Any = None

    def run(self, command: str) -> str:
        """What a terminal shows of a command: a pipeline of what is known here."""
        first, *rest = (shlex.split(part) for part in split_pipes(command))
        text = self.program(first)
        for words in rest:
            text = piped(words, text)
        return text

    def program(self, words: list[str]) -> str:
        """The output of the first program of a pipeline."""
        match words:
            case ["convcalc", *arguments]:
                return self.convcalc(arguments)
            case ["echo", "$?"]:
                code, self.code = self.code, 0
                return f"{code}\n"
            case ["cat", name]:
                return (self.folder / name).read_text(encoding="utf-8")
            case ["ls"]:
                return "".join(f"{path.name}\n" for path in sorted(self.folder.iterdir()))
            case ["curl", *arguments]:
                return self.curl(arguments)
        raise ValueError(f"the documentation's examples cannot run {words[0]!r}")

    def convcalc(self, arguments: list[str]) -> str:
        """Standard output and standard error of the command line, run in this process."""
        from convcalc.cli import main

        shown = io.StringIO()
        argv, before = sys.argv, Path.cwd()
        sys.argv = ["convcalc", *arguments]
        os.chdir(self.folder)
        self.code = 0
        try:
            with (
                environment(COLUMNS="80", NO_COLOR="1", TERM="dumb"),
                contextlib.redirect_stdout(shown),
                contextlib.redirect_stderr(shown),
            ):
                main()
        except SystemExit as stop:
            self.code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            os.chdir(before)
            sys.argv = argv
        return ESCAPES.sub("", shown.getvalue())

    def curl(self, arguments: list[str]) -> str:
        """What the service answers, without a socket."""
        if self.client is None:
            self.client = client()
        headers, body, url, include = {}, None, "", False
        words = list(arguments)
        while words:
            word = words.pop(0)
            if word == "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = words.pop(0)
            elif word == "--data-binary":
                body = (self.folder / words.pop(0).removeprefix("@")).read_bytes()
            elif word == "-i":
                include = True
            elif word != "-s":
                url = word
        path = url.removeprefix("localhost:8000")
        method = "GET" if body is None else "POST"
        answer = self.client.request(method, path, content=body, headers=headers)
        self.code = 0
        text = answer.text if answer.text.endswith("\n") else f"{answer.text}\n"
        text = REQUEST.sub('"request_id": "1c8fe8b5a0f3d2e4"', text)
        if not include:
            return text
        head = f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"
        return f"{head}\ncontent-type: {answer.headers['content-type']}\n\n{text}"

    def close(self) -> None:
        """End the service, if there was one."""
        if self.client is not None:
            self.client.__exit__(None, None, None)


def client() -> Any:
    """A client of the service, which runs in this process."""
    import warnings

    with warnings.catch_warnings():
        # Starlette would rather have another client than the one that the tests use elsewhere.
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

        from convcalc.service.app import create_app
        from convcalc.service.settings import ServiceSettings

        settings = ServiceSettings(processes=1, access_log=False)
        return TestClient(create_app(settings)).__enter__()


def split_pipes(command: str) -> list[str]:
    """The parts of a pipeline; a bar within quotes is none."""
    parts, quote = [""], ""
    for letter in command:
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        if letter == "|" and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def piped(words: list[str], text: str) -> str:
    """`text` through the next program of a pipeline."""
    lines = text.splitlines(keepends=True)
    match words:
        case ["head", count]:
            return "".join(lines[: int(count.removeprefix("-"))])
        case ["tail", count]:
            return "".join(lines[-int(count.removeprefix("-")) :])
        case ["grep", pattern]:
            return "".join(line for line in lines if pattern in line)
        case ["grep", after, pattern] if after.startswith("-A"):
            more = int(after.removeprefix("-A"))
            kept = {
                i + j for i, line in enumerate(lines) if pattern in line for j in range(more + 1)
            }
            return "".join(line for i, line in enumerate(lines) if i in kept)
        case ["python", "-m", "json.tool"]:
            import json

            return json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"
    raise ValueError(f"the documentation's examples cannot pipe into {words[0]!r}")


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """These variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def alike(shown: str, actual: str, *, predicted: bool) -> bool:
    """Whether a page shows what comes out; predictions may move a little, intervals freely."""
    if not predicted:
        return shown.rstrip("\n") == actual.rstrip("\n")
    left, right = (INTERVAL.sub("A to B", text).split() for text in (shown, actual))
    left, right = ([w for w in words if not set(w) <= {"-"}] for words in (left, right))
    return len(left) == len(right) and all(map(close, left, right))


def close(shown: str, actual: str) -> bool:
    """Whether two words are equal, or numbers within the tolerance with the same rest."""
    a, b = shown.lstrip("("), actual.lstrip("(")
    one, two = NUMBER.match(a), NUMBER.match(b)
    if shown == actual or not one or not two or a[one.end() :] != b[two.end() :]:
        return shown == actual
    x, y = (float(match[0].replace(",", "")) for match in (one, two))
    return abs(x - y) <= TOLERANCE * max(abs(x), abs(y))


@dataclass(frozen=True)
class Trouble:
    """A place where a page is not what it should be."""

    page: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.what}"


def run_page(page: Path, text: str) -> tuple[str, list[Trouble]]:
    """The page with what its commands give now, and where that is not what it shows."""
    troubles: list[Trouble] = []
    made: list[tuple[Block, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        try:
            for block in blocks(text):
                say = lambda what, line=block.line: troubles.append(Trouble(page, line, what))  # noqa: E731
                if block.mark == "file":
                    path = session.folder / block.value
                    path.write_text(block.body, encoding="utf-8")
                elif block.language in ("sh", "bash") or (
                    block.language == "console" and block.mark == "not run"
                ):
                    for line in called(block):
                        if problem := unparsed(line):
                            say(f"`{line}`: {problem}")
                elif block.language == "console" and page != API:
                    made.append((block, run_console(session, block, say)))
                elif block.language == "python":
                    run_python(session, block, say)
        finally:
            session.close()
    for block, body in reversed(made):
        text = text[: block.start] + body + text[block.start + len(block.body) :]
    return text, troubles


def run_console(session: Session, block: Block, say: Callable[[str], None]) -> str:
    """The block with what its commands give now."""
    body = ""
    found = commands(block.body)
    for index, command in enumerate(found):
        actual = "\n".join(line.rstrip() for line in session.run(command.text).splitlines())
        actual += "\n" if actual else ""
        follows = found[index + 1].text if index + 1 < len(found) else ""
        if session.code and "|" not in command.text and follows != "echo $?":
            say(f"`{command.text}` ends with {session.code}: {actual}")
        # A command that shows nothing is run, and what it says is left out.
        if command.output and not alike(
            command.output, actual, predicted=block.mark == "predicted"
        ):
            say(f"`{command.text}` gives\n{actual}\nand the page shows\n{command.output}")
        gap = "\n" if command.output.endswith("\n\n") or index + 1 < len(found) else ""
        shown = actual if command.output.strip() else ""
        body += f"$ {command.source}{shown}" + (gap if shown else "")
    return body


def run_python(session: Session, block: Block, say: Callable[[str], None]) -> None:
    """Run code; an expression with a comment must have the value that the comment starts with."""
    lines = block.body.splitlines()
    tree = ast.parse(block.body)
    if block.mark == "not run":
        return
    shown = io.StringIO()
    before = Path.cwd()
    os.chdir(session.folder)
    sys.path.insert(0, str(session.folder))
    try:
        with contextlib.redirect_stdout(shown):
            for statement in tree.body:
                comment = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset or 0 :]
                if isinstance(statement, ast.Expr):
                    code = compile(ast.Expression(statement.value), "<docs>", "eval")
                    value = eval(code, session.names)
                    wanted = comment.strip().removeprefix("# ")
                    if wanted and not says(wanted, value, predicted=block.mark == "predicted"):
                        line = ast.unparse(statement)
                        say(f"`{line}` is {value!r}, the page says {wanted}")
                else:
                    exec(compile(ast.Module([statement], []), "<docs>", "exec"), session.names)
    finally:
        sys.path.remove(str(session.folder))
        os.chdir(before)


def says(comment: str, value: Any, *, predicted: bool) -> bool:
    """Whether a comment begins with a value, or only with words about it."""
    if not re.match(r"[-\d'\"\[({]|True|False|None", comment):
        return True
    if predicted and isinstance(value, int | float):
        return close(comment.split(" ")[0].rstrip(",").replace("_", ""), repr(value))
    rest = comment.removeprefix(repr(value))
    return rest != comment and (not rest or rest[0] in ",:; ")


def called(block: Block) -> list[str]:
    """The commands of ours in a block that is not run."""
    if block.language == "console":
        return [c.text for c in commands(block.body) if c.text.startswith("convcalc ")]
    lines = block.body.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("convcalc ")]


def unparsed(line: str) -> str:
    """What is wrong with a call of the command line, without running it; empty if nothing."""
    import typer
    from typer.main import get_command

    from convcalc.cli import app

    words = shlex.split(split_pipes(re.sub(r"\s+# .*$", "", line))[0])[1:]
    group = get_command(app)
    if not words or words[0].startswith("-"):
        return ""
    try:
        with group.make_context("convcalc", list(words)) as context:
            name, command, rest = group.resolve_command(context, list(words))  # type: ignore[attr-defined]
            if command is None:
                return f"no command {words[0]}"
            command.make_context(name, [*rest], parent=context)
    except typer.Exit:
        return ""
    except Exception as error:
        return getattr(error, "message", None) or str(error)
    return ""


# What is generated


def generators() -> dict[str, Callable[[], str]]:
    """What stands between `<!-- generated: NAME -->` and `<!-- /generated -->`."""
    if str(ROOT / "scripts") not in sys.path:
        sys.path.insert(0, str(ROOT / "scripts"))
    import docs_parts

    return dict(docs_parts.PARTS)


def regenerated(page: Path, text: str) -> tuple[str, list[Trouble]]:
    """The page with its generated parts made anew."""
    known = generators()
    troubles = []

    def make(match: re.Match[str]) -> str:
        name = match["name"]
        body = known[name]()
        if body != match["body"]:
            line = text.count("\n", 0, match.start()) + 1
            troubles.append(Trouble(page, line, f"'{name}' is not what is generated now"))
        return f"<!-- generated: {name} -->\n{body}<!-- /generated -->"

    return GENERATED.sub(make, text), troubles


def refreshed(page: Path) -> tuple[str, list[Trouble]]:
    """A page as it should be, and where it is not."""
    text = page.read_text(encoding="utf-8")
    text, first = regenerated(page, text)
    text, second = run_page(page, text)
    return text, first + second


def main() -> int:
    """Refresh, or check, the pages that are named; all of them if none is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    troubles: list[Trouble] = []
    for page in [path.resolve() for path in options.pages] or pages():
        text, found = refreshed(page)
        troubles += found
        if not options.check and text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}", file=sys.stderr)
    if not options.pages:
        import docs_drawings

        troubles += [
            Trouble(DOCS / "images" / name, 1, "is not what is drawn now")
            for name in docs_drawings.write(check=options.check)
        ]
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return int(options.check and bool(troubles))


if __name__ == "__main__":
    sys.exit(main())
