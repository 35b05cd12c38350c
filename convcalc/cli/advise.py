"""`convcalc advise`: what to change so that it fits, and what looks wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from convcalc.cli import options
from convcalc.cli.fit import DevicesFile, Memory, PlannedDevice, PlannedEngine

if TYPE_CHECKING:
    from convcalc.report import Advice, Remedy


def advise_command(
    model: options.Model,
    memory: Memory = None,
    device: PlannedDevice = None,
    devices: DevicesFile = None,
    mode: Annotated[str, typer.Option(help="training or inference.")] = "training",
    batch: options.Batch = 32,
    input: options.InputSize = None,
    dtype: options.Dtype = "float32",
    optimizer: options.Optimizer = "adam",
    engine: PlannedEngine = "tensorflow-xla",
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """What to change so that it needs less memory: what each change saves, and what it costs."""
    from convcalc import advise
    from convcalc.cli.tables import emit, wrapped

    form = options.output_format(format, json)
    found = advise(
        model,
        input=options.input_sizes(input),
        memory=memory,
        device=device,
        devices_file=devices,
        mode=mode,
        batch=batch,
        engine=engine,
        dtype=dtype,
        optimizer=optimizer,
    )
    if form == "json":
        emit(found.model_dump_json(indent=2), output)
        return
    text = remedies(found, form)
    if form == "table":
        lines = [*wrapped(above(found)), "", text, "", *wrapped(below(found))]
        text = "\n".join(lines)
    emit(text, output)


FITS = {"safe": "fits", "likely": "likely", "hopeful": "hardly", "no": "no", None: ""}


def above(found: Advice) -> list[str]:
    """What is needed now, and the plan."""
    from convcalc.settings import format_bytes

    now = found.now
    low, high = (format_bytes(bound) for bound in found.interval)
    optimizer = f", {now.optimizer}" if found.mode == "training" else ""
    lines = [
        f"{found.network}, {found.mode}, batch {now.batch}, {now.dtype}{optimizer}, on "
        f"{now.engine}, needs {format_bytes(found.peak_bytes)} ({low} to {high} nine times in ten)"
    ]
    if found.usable_bytes is None:
        return lines
    room = f"{format_bytes(found.usable_bytes)}{f' of {found.device}' if found.device else ''}"
    if found.fits == "safe":
        return [*lines, f"that fits {room}"]
    verdict = {"likely": "likely fits", "hopeful": "hardly fits", "no": "does not fit"}
    lines.append(f"that {verdict[found.fits or 'no']} {room}")
    if found.plan is None:
        lines.append("nothing of what follows is enough, not even together")
    else:
        lines.append(
            f"the cheapest plan that fits: {found.plan.change}: {needs(found.plan)}; "
            f"its price: {'; '.join(found.plan.price)}"
        )
    return lines


def needs(remedy: Remedy) -> str:
    """A remedy's peak with its interval."""
    from convcalc.settings import format_bytes

    low, high = (format_bytes(bound) for bound in remedy.interval)
    return f"{format_bytes(remedy.peak_bytes)} ({low} to {high})"


def remedies(found: Advice, form: str) -> str:
    """A row for each remedy."""
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table
    from convcalc.settings import format_bytes

    exact = form == "csv"
    rows = []
    for each in found.remedies:
        share = each.saving_bytes / found.peak_bytes
        sizes = [str(each.peak_bytes), str(each.saving_bytes)]
        if not exact:
            sizes = [format_bytes(each.peak_bytes), f"{share:.0%}"]
        row = [FITS[each.fits] or "-", each.change, *sizes, each.effort]
        rows.append([each.name, *row, "; ".join(each.price)] if exact else row)
    columns = [
        Column("fits"),
        Column("remedy"),
        Column("peak", True),
        Column("saved", True),
        Column("costs"),
    ]
    if exact:
        return as_csv([Column("name"), *columns, Column("price")], rows)
    return as_table(columns, rows, cut=1) if form == "table" else as_markdown(columns, rows)


def below(found: Advice) -> list[str]:
    """The prices, what was refused, and what looks wrong."""
    lines = [f"{each.change}: {'; '.join(each.price)}" for each in found.remedies]
    lines += [f"not {each.name}: {each.reason}" for each in found.refused]
    lines += [f"note ({each.code}): {each.message}" for each in found.lint]
    return lines
