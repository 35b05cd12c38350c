"""`convcalc compare`: two networks, or one under two settings, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from convcalc.cli import options

if TYPE_CHECKING:
    from convcalc.analysis.comparison import Comparison

if TYPE_CHECKING:
    from convcalc.analysis.comparison import Comparison


def compare_command(
    left: options.Model,
    right: Annotated[
        str | None, typer.Argument(help="Another model; left out: the same one again.")
    ] = None,
    input: options.InputSize = None,
    batch: options.Batch = 1,
    dtype: options.Dtype = "float32",
    optimizer: options.Optimizer = "none",
    engine: options.Engine = "textbook",
    device: options.Device = "gpu",
    right_input: Annotated[
        list[str] | None, typer.Option(help="Another size for the second.")
    ] = None,
    right_batch: Annotated[int | None, typer.Option(help="Another batch for the second.")] = None,
    right_dtype: Annotated[str | None, typer.Option(help="Another dtype for the second.")] = None,
    right_optimizer: Annotated[
        str | None, typer.Option(help="Another optimizer for the second.")
    ] = None,
    right_engine: Annotated[str | None, typer.Option(help="Another engine for the second.")] = None,
    right_device: Annotated[str | None, typer.Option(help="Another device for the second.")] = None,
    layers: Annotated[bool, typer.Option(help="Also the layers that differ.")] = False,
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Two models, or two settings of one, side by side."""
    from convcalc import compare
    from convcalc.cli.tables import emit

    form = options.output_format(format, json)
    changed = {
        "input": options.input_sizes(right_input),
        "batch": right_batch,
        "dtype": right_dtype,
        "optimizer": right_optimizer,
        "engine": right_engine,
        "device": right_device,
    }
    result = compare(
        left,
        right,
        input=options.input_sizes(input),
        batch=batch,
        dtype=dtype,
        optimizer=optimizer,
        engine=engine,
        device=device,
        other={name: value for name, value in changed.items() if value is not None},
    )
    if form == "json":
        emit(result.model_dump_json(indent=2), output)
        return
    emit(as_text(result, form, layers), output)


def as_text(result: Comparison, form: str, layers: bool) -> str:
    """The totals side by side, and the layers that differ if these are asked for."""
    from convcalc.cli.render import cell
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table
    from convcalc.settings import format_bytes, format_count

    write = {"csv": as_csv, "markdown": as_markdown, "table": as_table}[form]
    rows = []
    for row in result.totals:
        human = format_bytes if row.quantity.endswith("bytes") else format_count
        show: Callable[[int], str] = str if form == "csv" else human
        ratio = f"{row.right / row.left:.3f}" if row.left else ""
        rows.append([row.quantity, show(row.left), show(row.right), ratio])
    names = titles(result)
    text = write(
        [Column("quantity"), *(Column(name, True) for name in names), Column("ratio", True)], rows
    )
    if layers:
        shown = ("type", "output_shape", "params", "macs")
        columns = [Column("layer"), Column("side"), *(Column(name, True) for name in shown)]
        lines = [
            [layer.name, side, *(cell(layer, name, form != "csv") for name in shown)]
            for pair in result.layers
            for side, layer in (("left", pair.left), ("right", pair.right))
            if layer is not None
        ]
        same = "" if form == "csv" else f"\n{result.same_layers} layers are the same; these differ:"
        text = "\n".join([text + same, write(columns, lines)])
    return text


def titles(result: Comparison) -> list[str]:
    """What tells the columns apart: the names, or of one network the settings that differ."""
    if result.left != result.right:
        return [result.left, result.right]
    sides = result.left_settings.model_dump(), result.right_settings.model_dump()
    differing = [name for name in sides[0] if sides[0][name] != sides[1][name]]
    if not differing:
        return [f"{result.left} (left)", f"{result.right} (right)"]
    return [
        ", ".join(f"batch {side[name]}" if name == "batch" else side[name] for name in differing)
        for side in sides
    ]
