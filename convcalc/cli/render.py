"""A report as text."""

from __future__ import annotations

from convcalc.cli.tables import Column, as_csv, as_markdown, as_table, wrapped
from convcalc.errors import UsageError
from convcalc.ops.base import suggestion
from convcalc.report import Layer, ReceptiveField, Report
from convcalc.settings import format_bytes, format_count

#: Column name -> (title, holds numbers).
COLUMNS = {
    "name": Column("layer"),
    "type": Column("type"),
    "output_shape": Column("output", True),
    "params": Column("params", True),
    "trainable_params": Column("trainable", True),
    "macs": Column("MACs", True),
    "flops": Column("FLOPs", True),
    "output_bytes": Column("memory", True),
    "receptive_field": Column("field", True),
}
DEFAULT = ("name", "type", "output_shape", "params", "macs", "output_bytes")


def columns_of(text: str | None) -> tuple[str, ...]:
    """The columns named in "name,macs,params".

    Raises:
        UsageError: a column does not exist.
    """
    if text is None:
        return DEFAULT
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in COLUMNS:
            hint = suggestion(name, COLUMNS) or f"; known: {', '.join(COLUMNS)}"
            raise UsageError(f"unknown column '{name}'{hint}")
    if not names:
        raise UsageError("--columns names no column")
    return names


def cell(layer: Layer, column: str, human: bool) -> str:
    """One value as text: exact for programs, rounded with units for people."""
    value = getattr(layer, column)
    if value is None:
        return "?"
    if column == "output_shape":
        return "x".join(map(str, value))
    if column == "receptive_field":
        return field_text(value)
    if not human or isinstance(value, str):
        return str(value)
    if column == "output_bytes":
        return format_bytes(value)
    return f"{value:,}" if column.endswith("params") else format_count(value)


def field_text(value: ReceptiveField) -> str:
    """Sizes of a receptive field: 11x11; "all" for a whole axis."""
    return "x".join("all" if size is None else str(size) for size in value.size)


def layer_table(report: Report, columns: tuple[str, ...], form: str, depth: int | None) -> str:
    """The per-layer table in a format other than JSON."""
    layers = report.layers if depth is None else fold(report.layers, depth)
    heads = [COLUMNS[name] for name in columns]
    if form == "csv":
        return as_csv(
            [Column(name) for name in columns],
            [[cell(layer, name, human=False) for name in columns] for layer in layers],
        )
    rows = [[cell(layer, name, human=True) for name in columns] for layer in layers]
    totals = report.totals
    sums = {
        "name": "total",
        "params": f"{totals.params:,}",
        "trainable_params": f"{totals.trainable_params:,}",
        "macs": format_count(totals.macs),
        "flops": format_count(totals.flops),
        "output_bytes": format_bytes(totals.output_bytes),
    }
    total = [sums.get(name, "") for name in columns]
    if form == "markdown":
        return as_markdown(heads, [*rows, total])
    return as_table(heads, rows, total)


def fold(layers: list[Layer], depth: int) -> list[Layer]:
    """Neighbours whose names agree in their first `depth` parts as one row.

    Parts of a name end at "/", "." or "_": block1/conv, layer1.0.conv1, conv2_block1_1_conv.
    """
    groups: list[tuple[str, list[Layer]]] = []
    for layer in layers:
        key = prefix(layer.name, depth)
        if groups and groups[-1][0] == key:
            groups[-1][1].append(layer)
        else:
            groups.append((key, [layer]))
    return [members[0] if len(members) == 1 else merged(key, members) for key, members in groups]


def prefix(name: str, depth: int) -> str:
    """The first `depth` parts of a layer's name."""
    ends = [i for i, char in enumerate(name) if char in "/._"]
    return name[: ends[depth - 1]] if 0 < depth <= len(ends) else name


def merged(name: str, members: list[Layer]) -> Layer:
    """Several layers as one: counts added, shape and field of the last."""

    def add(column: str) -> int | None:
        values = [getattr(layer, column) for layer in members]
        return None if None in values else sum(values)

    last = members[-1]
    return Layer(
        name=name,
        type=f"{len(members)} layers",
        output_shape=last.output_shape,
        params=add("params"),
        trainable_params=add("trainable_params"),
        macs=add("macs"),
        flops=add("flops"),
        output_bytes=add("output_bytes"),
        receptive_field=last.receptive_field,
    )


def summary_lines(report: Report) -> list[str]:
    """What stands under the table: totals in words, memory by the book, what is missing."""
    totals, settings, book = report.totals, report.settings, report.memory.textbook
    frozen = totals.params - totals.trainable_params
    lines = [
        f"{report.network}: {totals.params:,} parameters"
        + (f" ({frozen:,} not trainable)" if frozen else "")
        + f", {totals.macs:,} multiplications"
        + f" ({format_count(totals.flops)} FLOPs, {settings.convention} convention)",
        f"by the book, batch {settings.batch}, {settings.dtype}: inference "
        f"{format_bytes(book.inference_bytes)} ({' + '.join(book.inference_layers)}), "
        f"training {format_bytes(book.training_bytes)} (all layers)",
    ]
    for mode in ("inference", "training"):
        found = getattr(report.memory, mode)
        if found is not None:
            peak, low, high = map(format_bytes, (found.peak_bytes, *found.interval))
            what = mode if mode == "inference" else f"training with {settings.optimizer}"
            lines.append(
                f"predicted for {settings.engine} on {settings.device}: {what} peaks with {peak} "
                f"({low} to {high} nine times in ten) at {found.at}"
            )
    lines.extend(report.memory.notes)
    for gap in report.uncounted:
        where = ", ".join(gap.layers[:3]) + (", ..." if len(gap.layers) > 3 else "")
        lines.append(f"not counted: {gap.op} ({where}): {', '.join(gap.missing)} unknown")
    if report.status == "partial":
        lines.append("partial: the totals are lower bounds")
    return wrapped(lines)
