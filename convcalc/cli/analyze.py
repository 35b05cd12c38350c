"""`convcalc analyze`: the per-layer table, totals and memory; a gate for continuous integration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convcalc.cli import options

if TYPE_CHECKING:
    from convcalc.network import Network

Limit = Annotated[str | None, typer.Option(help="Exit 1 if it is more.")]


def analyze_command(
    model: options.ModelOrNone = None,
    source: options.Source = None,
    input: options.InputSize = None,
    batch: options.Batch = 1,
    dtype: options.Dtype = "float32",
    optimizer: options.Optimizer = "none",
    remat: options.Remat = "none",
    engine: options.Engine = "textbook",
    device: options.Device = "gpu",
    convention: options.Convention = "macs",
    versus: Annotated[
        str | None, typer.Option(help="Another convention: why it counts this network differently.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="name,type,output_shape,params,...")] = None,
    depth: Annotated[int | None, typer.Option(help="Fold layers by this many parts.")] = None,
    strict: Annotated[bool, typer.Option(help="Exit 3 if anything is uncounted.")] = False,
    max_params: Limit = None,
    max_macs: Limit = None,
    max_memory: Limit = None,
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """What a network costs, layer by layer."""
    from convcalc import analyze
    from convcalc.cli.render import columns_of, layer_table, summary_lines
    from convcalc.cli.tables import emit
    from convcalc.settings import parse_bytes, parse_count

    form = options.output_format(format, json)
    chosen = columns_of(columns)
    limits = {
        "params": max_params and parse_count(max_params),
        "macs": max_macs and parse_count(max_macs),
        "memory": max_memory and parse_bytes(max_memory),
    }
    net = options.loaded(model, source, options.input_sizes(input))
    report = analyze(
        net,
        batch=batch,
        dtype=dtype,
        optimizer=optimizer,
        remat=remat,
        engine=engine,
        device=device,
        convention=convention,
    )
    if versus is not None:
        emit(differences(net, convention, versus, form), output)
    elif form == "json":
        emit(report.model_dump_json(indent=2), output)
    else:
        text = layer_table(report, chosen, form, depth)
        if form == "table":
            text = "\n".join([text, *summary_lines(report)])
        emit(text, output)

    training = report.memory.training
    book = report.memory.textbook.training_bytes
    measured = {
        "params": report.totals.params,
        "macs": report.totals.macs,
        "memory": book if training is None else training.peak_bytes,
    }
    over = [
        f"{what} {measured[what]:,} is over the limit of {limit:,}"
        for what, limit in limits.items()
        if isinstance(limit, int) and measured[what] > limit
    ]
    for line in over:
        print(f"convcalc: {line}", file=sys.stderr)
    if over:
        raise typer.Exit(1)
    if strict and report.status == "partial":
        names = ", ".join(gap.op for gap in report.uncounted)
        print(f"convcalc: incomplete: {names} not counted", file=sys.stderr)
        raise typer.Exit(3)


def differences(net: Network, ours: str, theirs: str, form: str) -> str:
    """Why two conventions differ on a network, operator by operator."""
    from json import dumps

    from convcalc.analysis.conventions import explain
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table

    rows = explain(net, ours, theirs)
    if form == "json":
        return dumps([row._asdict() for row in rows], indent=2)
    cells = [[row.type, f"{row.a:,}", f"{row.b:,}", row.reason] for row in rows]
    cells.append(
        ["total", f"{sum(row.a for row in rows):,}", f"{sum(row.b for row in rows):,}", ""]
    )
    columns = [Column("operator"), Column(ours, True), Column(theirs, True), Column("rule")]
    if form == "table":
        # The reasons are what one asks for: they are not cut.
        return as_table(columns, cells)
    return (as_csv if form == "csv" else as_markdown)(columns, cells)
