"""`convcalc fit`: the largest batch, or the largest input, on a device, in a budget, on all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convcalc.cli import options
from convcalc.errors import UsageError

if TYPE_CHECKING:
    from convcalc.report import Candidate, FitReport, Fitted

PlannedEngine = Annotated[str, typer.Option(help="tensorflow, tensorflow-xla, torch, jax.")]
PlannedDevice = Annotated[
    str | None, typer.Option(help="A name of `convcalc devices`; with --memory also gpu or cpu.")
]
DevicesFile = Annotated[
    str | None,
    typer.Option("--devices", help="A TOML file with devices of yours (or CONVCALC_DEVICES)."),
]
Memory = Annotated[
    str | None, typer.Option(help="What the framework's allocator may hand out: 8GiB.")
]


def fit_command(
    model: options.Model,
    device: PlannedDevice = None,
    memory: Memory = None,
    devices: DevicesFile = None,
    mode: Annotated[str | None, typer.Option(help="training or inference; both if left out.")] = (
        None
    ),
    largest_input: Annotated[
        bool, typer.Option(help="The largest height and width for --batch, not the largest batch.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", "-b", help="Samples in a batch, for --largest-input.")
    ] = None,
    step: Annotated[
        int | None, typer.Option(help="Sides are multiples of this, for --largest-input.")
    ] = None,
    input: options.InputSize = None,
    dtype: options.Dtype = "float32",
    optimizer: options.Optimizer = "adam",
    remat: options.Remat = "none",
    engine: PlannedEngine = "tensorflow-xla",
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """What fits: the largest batch on a device, in a budget, or on every known device."""
    from convcalc import fit
    from convcalc.cli.tables import emit, wrapped

    form = options.output_format(format, json)
    if not largest_input and (batch is not None or step is not None):
        raise UsageError("--batch and --step go with --largest-input")
    found = fit(
        model,
        input=options.input_sizes(input),
        memory=memory,
        device=device,
        devices_file=devices,
        mode=mode,
        engine=engine,
        dtype=dtype,
        optimizer=optimizer,
        remat=remat,
        largest="input" if largest_input else "batch",
        batch=1 if batch is None else batch,
        step=step,
    )
    if form == "json":
        emit(found.model_dump_json(indent=2), output)
    else:
        single = len({row.title for row in found.fits}) == 1
        text = one_budget(found, form) if single or form == "csv" else many(found, form)
        if form == "table":
            text = "\n".join([text, *wrapped(below(found, single))])
        emit(text, output)
    if found.nothing_fits:
        print("convcalc: nothing fits", file=sys.stderr)
        raise typer.Exit(1)


def value(found: Candidate | None, largest: str) -> str:
    """The batch, or the sizes."""
    if found is None:
        return "-"
    if largest == "batch":
        return str(found.batch)
    return " ".join("x".join(map(str, sizes)) for sizes in found.inputs.values())


def one_budget(found: FitReport, form: str) -> str:
    """A row for each budget and mode, with what it needs."""
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table
    from convcalc.settings import format_bytes

    write = {"table": as_table, "csv": as_csv, "markdown": as_markdown}[form]

    def shown(size: int) -> str:
        return str(size) if form == "csv" else format_bytes(size)

    rows = []
    for row in found.fits:
        best = row.likely
        rows.append(
            [
                row.device or "budget",
                shown(row.usable_bytes),
                row.mode,
                *(value(each, found.largest) for each in (row.safe, row.likely, row.hopeful)),
                "-" if best is None else shown(best.peak_bytes),
            ]
        )
    bounds = (Column("safe", True), Column("likely", True), Column("hopeful", True))
    return write(
        [
            Column("device"),
            Column("usable", True),
            Column("mode"),
            *bounds,
            Column("peak of likely", True),
        ],
        rows,
    )


def many(found: FitReport, form: str) -> str:
    """A row for each device: safe and likely in each mode."""
    from convcalc.cli.tables import Column, as_markdown, as_table
    from convcalc.settings import format_bytes

    modes = list(dict.fromkeys(row.mode for row in found.fits))
    by_device: dict[str, dict[str, Fitted]] = {}
    for row in found.fits:
        by_device.setdefault(row.device or row.title, {})[row.mode] = row
    columns = [Column("device"), Column("usable", True)]
    for mode in modes:
        columns += [Column(f"{mode}: safe", True), Column("likely", True)]
    rows = []
    for name, row_of in by_device.items():
        cells = [name, format_bytes(next(iter(row_of.values())).usable_bytes)]
        for mode in modes:
            fitted = row_of[mode]
            cells += [value(fitted.safe, found.largest), value(fitted.likely, found.largest)]
        rows.append(cells)
    return (as_markdown if form == "markdown" else as_table)(columns, rows)


def below(found: FitReport, single: bool) -> list[str]:
    """What the numbers mean, in sentences."""
    asked = "batch" if found.largest == "batch" else "input"
    optimizer = f", {found.optimizer}" if any(r.mode == "training" for r in found.fits) else ""
    lines = [
        f"the largest {asked} of {found.network} on {found.engine}, {found.dtype}{optimizer}: the "
        "safe one fits 19 times in 20, likely is the prediction, beyond hopeful hardly any"
    ]
    if single and found.fits[0].device:
        row = found.fits[0]
        lines.append(f"{row.title}{': ' + row.note if row.note else ''}")
    return [*lines, *found.notes]
