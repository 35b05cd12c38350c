"""The parts of the documentation that are made from the program: help, schema, rules, figures."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def table(head: list[str], rows: list[list[str]], numbers: tuple[int, ...] = ()) -> str:
    """A Markdown table; `numbers` are the columns that are aligned to the right."""
    rule = ["---:" if index in numbers else "---" for index in range(len(head))]
    lines = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def first_line(text: str | None) -> str:
    """The first sentence or line of a docstring, for Markdown."""
    return " ".join((text or "").strip().split("\n\n")[0].split()).replace("``", "`")


# The command line


def help_of(arguments: list[str]) -> str:
    """What `convcalc ... --help` shows on a terminal of 80 columns."""
    from docs import Session

    shown = Session(ROOT).convcalc([*arguments, "--help"])
    return "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())


def command_help() -> str:
    """Every command with its help."""
    from convcalc.cli import app

    parts = [f"```text\n{textwrap.dedent(help_of([])).strip()}\n```\n"]
    for command in sorted(app.registered_commands, key=lambda each: each.name or ""):
        name = command.name or ""
        text = textwrap.dedent(help_of([name])).strip()
        parts.append(f"## convcalc {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


# Python


def signature(function: Callable[..., Any]) -> str:
    """A function's signature, one parameter a line if it is long."""
    text = f"{function.__name__}{inspect.signature(function)}".replace("'", "")
    if len(text) <= 100:
        return text
    lines: list[str] = []
    starred = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            lines.append("*")
            starred = True
        lines.append(str(parameter))
    returns = inspect.signature(function).return_annotation
    inside = "".join(f"    {line},\n" for line in lines)
    return f"{function.__name__}(\n{inside}) -> {returns}".replace("'", "")


def public_names() -> str:
    """Every name of `convcalc.__all__` with its signature and what it says of itself."""
    import convcalc

    parts = []
    for name in convcalc.__all__:
        thing = getattr(convcalc, name)
        if inspect.isclass(thing) or not callable(thing):
            continue
        doc = inspect.cleandoc(thing.__doc__ or "").replace("``", "`")
        doc = re.sub(
            r"(?ms)^Raises:\n(.*)",
            lambda match: "Raises:\n\n" + raises(match[1]),
            doc,
        )
        parts.append(f"### convcalc.{name}\n\n```text\n{signature(thing)}\n```\n\n{doc.strip()}\n")
    return "\n".join(parts)


def raises(text: str) -> str:
    """The items of a `Raises:` section as a list."""
    items = re.split(r"\n(?=\S)", textwrap.dedent(text).strip("\n"))
    return "\n".join("- " + re.sub(r"^(\w+):", r"`\1`:", " ".join(i.split())) for i in items)


def error_names() -> str:
    """The exceptions, with their exit codes."""
    import convcalc

    rows = []
    for name in convcalc.__all__:
        thing = getattr(convcalc, name)
        if inspect.isclass(thing):
            base = thing.__mro__[1].__name__
            rows.append([f"`{name}`", f"`{base}`", str(thing.exit_code), first_line(thing.__doc__)])
    return table(["name", "is a", "exit code", "when"], rows)


#: The classes of the schema that the pages show, in the order of a report.
REPORT = (
    *("Report", "Settings", "Input", "Layer", "ReceptiveField", "Totals", "Memory", "Textbook"),
    *("Prediction", "Uncounted"),
)
ANSWERS = (
    *("MemoryProfile", "MemoryStep", "Alive", "LayerMemory", "FitReport", "Fitted", "Candidate"),
    *("Advice", "Remedy", "Setting", "Refused", "Finding", "Device"),
)


def schema_fields() -> str:
    """Every field of every answer, from the schema's source."""
    source = (ROOT / "convcalc" / "report.py").read_text(encoding="utf-8")
    classes = {n.name: n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)}
    parts = []
    for name in (*REPORT, *ANSWERS):
        node = classes[name]
        parts.append(f"## {name}\n\n{first_line(ast.get_docstring(node))}\n")
        parts.append(table(["field", "type", ""], list(fields_of(node))))
    return "\n".join(parts)


def fields_of(node: ast.ClassDef) -> Iterator[list[str]]:
    """Name, type and words of each field of a class."""
    for index, item in enumerate(node.body):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            after = node.body[index + 1] if index + 1 < len(node.body) else None
            says = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                says = first_line(str(after.value.value))
            yield [f"`{item.target.id}`", f"`{ast.unparse(item.annotation)}`", says]


# Operators and conventions


def operator_list() -> str:
    """Every operator of a spec with its attributes, by family."""
    import dataclasses

    from convcalc.ops.base import FAMILIES, operators

    known = operators()
    parts = []
    for family, names in FAMILIES.items():
        rows = []
        for name in names:
            fields = [
                f.name if f.default is dataclasses.MISSING else f"{f.name}={shown(f.default)}"
                for f in dataclasses.fields(known[name])
            ]
            rows.append(
                [f"`{name}`", ", ".join(f"`{f}`" for f in fields), first_words(known[name])]
            )
        parts.append(f"## {family}\n\n{table(['operator', 'attributes', ''], rows)}")
    return "\n".join(parts)


def first_words(cls: type) -> str:
    """The first sentence of an operator's docstring."""
    return first_line(cls.__doc__).partition(". ")[0].rstrip(".")


def shown(value: Any) -> str:
    """A default as a spec writes it."""
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if (value is None or isinstance(value, bool))
        else str(value)
    )


def convention_table() -> str:
    """Every counting convention, and what it makes of three networks."""
    import convcalc
    from convcalc.analysis.conventions import CONVENTIONS, count

    nets = [convcalc.load(name) for name in ("vgg16", "resnet50", "mobilenetv2")]
    rows = [
        [f"`{name}`", convention.title, *(f"{count(net, name)[1]:,}" for net in nets)]
        for name, convention in CONVENTIONS.items()
    ]
    head = ["`--convention`", "counts", *(f"`{net.name}`" for net in nets)]
    return table(head, rows, (2, 3, 4))


# Figures


SHOWN = ("seed_layer", "lenet5", "alexnet", "vgg16", "googlenet", "resnet50", "mobilenet")


def book_against_runs() -> str:
    """The book's rules beside what TensorFlow's allocator has measured, from the records."""
    import convcalc

    rows = []
    path = ROOT / "benchmarks" / "memory" / "tensorflow.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for name in SHOWN:
        runs: dict[str, dict[str, Any]] = {}
        for record in records:
            usual = record["optimizer"] == "adam" and record["threads"] == 1
            wanted = record["mode"] == "inference" or usual
            plain = record["dtype"] == "float32" and not record["jit"] and record["peak_bytes"]
            if record["network"] == name and wanted and plain:
                runs.setdefault(record["mode"], record)
        first = runs["training"]
        size, batch = tuple(first["input"]), first["batch"]
        book = convcalc.analyze(name, input=size, batch=batch).memory.textbook
        cells = [f"`{name}`", "x".join(map(str, size)), str(batch)]
        for mode, rule in (("inference", book.inference_bytes), ("training", book.training_bytes)):
            peak = runs[mode]["peak_bytes"]
            assert runs[mode]["batch"] == batch
            cells += [megabytes(rule), megabytes(peak), f"{rule / peak:.2f}"]
        rows.append(cells)
    head = ["network", "input", "batch", "inference: book", "measured", "ratio"]
    head += ["training: book", "measured", "ratio"]
    return table(head, rows, (1, 2, 3, 4, 5, 6, 7, 8))


def formula_rows() -> dict[str, list[list[str]]]:
    """The rows of benchmarks/memory/formulas.md by what was measured."""
    text = (ROOT / "benchmarks" / "memory" / "formulas.md").read_text(encoding="utf-8")
    found: dict[str, list[list[str]]] = {}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE):
        rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("|")]
        found[title] = rows[2:]
    return found


def rule_errors() -> str:
    """What the book's rule is off by, for each framework and mode."""
    rows = [
        [title, *row[1:]]
        for title, formulas in formula_rows().items()
        for row in formulas
        if row[0] == "the book's rule" and not title.startswith("jax")
    ]
    return table(["runs", "median error", "range", "too low"], rows, (1, 2, 3))


def formula_errors() -> str:
    """The median error of each formula with TensorFlow's graph executor."""
    found = {
        mode: {row[0]: row[1] for row in rows}
        for title, rows in formula_rows().items()
        for mode in ("inference", "training")
        if title.startswith(f"TensorFlow, graph executor, cpu, {mode} (")
    }
    rows = [[name, found["inference"][name], found["training"][name]] for name in found["training"]]
    return table(["rule", "inference, median error", "training, median error"], rows, (1, 2))


def megabytes(value: int) -> str:
    """Bytes for people."""
    from convcalc.settings import format_bytes

    return format_bytes(value)


def accuracy() -> str:
    """The accuracy table of docs/memory.md."""
    text = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"<!-- accuracy -->\n(.*?)<!-- /accuracy -->", text, re.DOTALL)
    return str(found)


def recorded(module: str) -> Callable[[], str]:
    """The table that a benchmark makes of its records."""

    def made() -> str:
        sys.path.insert(0, str(ROOT))
        return str(import_module(f"benchmarks.{module}").table())

    return made


PARTS: dict[str, Callable[[], str]] = {
    "fit-runs": recorded("planning"),
    "remedies": recorded("remedies"),
    "attacks": recorded("service_attacks"),
    "commands": command_help,
    "python": public_names,
    "errors": error_names,
    "schema": schema_fields,
    "operators": operator_list,
    "conventions": convention_table,
    "book": book_against_runs,
    "accuracy": accuracy,
    "rule-errors": rule_errors,
    "formula-errors": formula_errors,
}
