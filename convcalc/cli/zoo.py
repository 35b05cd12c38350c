"""`convcalc zoo`: the networks that come along."""

from __future__ import annotations

from convcalc.cli import options


def zoo_command(
    format: options.Format = None, json: options.Json = False, output: options.Output = None
) -> None:
    """The networks that can be named, with parameters, MACs and input size."""
    from json import dumps

    from convcalc import zoo
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table, emit
    from convcalc.settings import format_count

    form = options.output_format(format, json)
    index = zoo.index()
    if form == "json":
        emit(dumps(index, indent=2), output)
        return
    human = form != "csv"
    rows = [
        [
            name,
            "x".join(map(str, entry["input"])),
            f"{entry['params']:,}" if human else str(entry["params"]),
            format_count(entry["macs"]) if human else str(entry["macs"]),
            entry["source"],
        ]
        for name, entry in index.items()
    ]
    columns = [
        Column("name"),
        Column("input", True),
        Column("params", True),
        Column("macs", True),
        Column("source"),
    ]
    if form == "table":
        emit(as_table(columns, rows, cut=len(columns) - 1), output)
    else:
        emit((as_csv if form == "csv" else as_markdown)(columns, rows), output)
