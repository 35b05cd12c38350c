"""Tables for people, spreadsheets and Markdown, without a dependency: rows in, text out."""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from convcalc.errors import UsageError


class Column(NamedTuple):
    """One column: its title and whether it holds numbers (aligned to the right)."""

    title: str
    number: bool = False


def emit(text: str, output: str | None) -> None:
    """Write data to a file, or to stdout.

    Raises:
        UsageError: the file cannot be written.
    """
    if not text.endswith("\n"):
        text += "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with open(output, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write '{output}': {error.strerror}") from None
    print(f"wrote {output}", file=sys.stderr)


def as_csv(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Comma-separated values with a header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.title for column in columns])
    writer.writerows(rows)
    return buffer.getvalue()


def as_markdown(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if column.number else "---" for column in columns) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def as_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    total: Sequence[str] | None = None,
    cut: int = 0,
) -> str:
    """An aligned table; the column `cut` is shortened so that a line fits the terminal."""
    body = [*rows, total] if total else list(rows)
    widths = [
        max(len(column.title), *(len(row[i]) for row in body), 1) if body else len(column.title)
        for i, column in enumerate(columns)
    ]
    rest = sum(widths) - widths[cut] + 2 * (len(widths) - 1)
    widths[cut] = min(widths[cut], max(line_width() - rest, 12))

    def line(cells: Sequence[str]) -> str:
        shown = [*cells[:cut], shorten(cells[cut], widths[cut], end=cut > 0), *cells[cut + 1 :]]
        aligned = [
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(shown, widths, columns, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [bold(line([column.title for column in columns])), rule]
    lines += [line(row) for row in rows]
    if total:
        lines += [rule, bold(line(total))]
    return "\n".join(lines)


def line_width() -> int:
    """Characters in a line: the terminal's, or 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80


def shorten(text: str, width: int, end: bool) -> str:
    """`text` in at most `width` characters, cut at its end or, as names of layers are, in front."""
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if end else "…" + text[len(text) - width + 1 :]


def wrapped(lines: Sequence[str]) -> list[str]:
    """Sentences broken to fit the terminal."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(
            line, line_width(), subsequent_indent="  ", break_long_words=False
        )
    ]


def bold(text: str) -> str:
    """Bold on a terminal that may have colour, plain elsewhere."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
