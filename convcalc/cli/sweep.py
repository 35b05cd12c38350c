"""`convcalc sweep`: a table of configurations, filtered, printed or written to a file."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcalc.cli import options
from convcalc.cli.ranges import decimals, integers, items, values
from convcalc.errors import UsageError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from convcalc.network import Network
    from convcalc.planning.sweep import Sweep
    from convcalc.planning.sweep_jobs import Progress

#: Rows that are printed for people unless they ask for another number.
SHOWN = 20
#: Seconds of work before a progress bar appears.
PATIENCE = 1.0


def sweep_command(
    model: options.Model,
    batch: Annotated[str, typer.Option("--batch", "-b", help="1:256, 8:64:8 or 1,2,4.")] = "1",
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            help="224x224x3,192x192x3, or 128:512:32 for squares with the model's channels. "
            "Of several inputs: NAME=...",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32,mixed_float16,...")] = "float32",
    optimizer: Annotated[str, typer.Option(help="sgd,adam,...")] = "none",
    engine: Annotated[str, typer.Option(help="textbook,tensorflow,torch,...")] = "textbook",
    width: Annotated[
        str | None, typer.Option(help="Width multipliers: 0.25:1:0.25 or 0.5,1.")
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(help="LAYER.ATTRIBUTE=VALUES: conv1.filters=16:64:16, conv*.padding=same."),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='"macs < 1e9 and training_peak < 8GiB".')
    ] = None,
    pareto: Annotated[
        str | None, typer.Option(help="macs,training_peak: only what nothing beats in all of them.")
    ] = None,
    device: options.Device = "gpu",
    exact: Annotated[
        bool, typer.Option(help="Replay the allocator for each row, however long it takes.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes that compute.")] = 1,
    dask: Annotated[str | None, typer.Option(help="The address of a Dask scheduler.")] = None,
    limit_rows: Annotated[
        int | None, typer.Option(min=1, help="Print at most so many rows; a table has 20.")
    ] = None,
    format: options.Format = None,
    json: options.Json = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Write to this file: .csv or .parquet."),
    ] = None,
) -> None:
    """A table of configurations: batch x input x dtype x optimizer x engine x width x fields."""
    from convcalc import load
    from convcalc.planning.sweep import sweep
    from convcalc.planning.sweep_jobs import workers

    form = options.output_format(format, json)
    if output is not None and pareto is None and limit_rows is not None:
        raise UsageError("--limit-rows is for what is printed; --output writes all rows")
    net = load(model)
    table = sweep(
        net,
        batch=integers(batch, "--batch"),
        input=input_values(net, input),
        dtype=items(dtype, "--dtype"),
        optimizer=items(optimizer, "--optimizer"),
        engine=items(engine, "--engine"),
        width=None if width is None else decimals(width, "--width"),
        fields=dict(map(field, set or [])),
        where=where,
        device=device,
        exact=exact,
    )
    with workers(jobs, dask) as (executor, count), progress_bar() as progress:
        if pareto is not None:
            objectives = items(pareto, "--pareto")
            rows = table.pareto(*objectives, executor=executor, workers=count, progress=progress)
            shown(table, iter(rows), form, limit_rows, output)
        elif output is not None:
            written(table, output, executor, count, progress)
        elif form == "csv" and limit_rows is None:
            from convcalc.planning.sweep_output import csv_chunks

            for text in csv_chunks(table, executor, count):
                sys.stdout.write(text)
        elif executor is not None:
            raise UsageError("--jobs and --dask are for --output, --pareto and --format csv")
        else:
            shown(table, iter(table), form, limit_rows, None)
    for line in (*table.variants.problems, *table.notes):
        print(f"convcalc: {line}", file=sys.stderr)


def field(text: str) -> tuple[str, list[Any]]:
    """The name and the values of LAYER.ATTRIBUTE=VALUES.

    Raises:
        UsageError: it is something else.
    """
    name, separator, given = text.partition("=")
    if not separator:
        raise UsageError(f"--set '{text}' must be LAYER.ATTRIBUTE=VALUES")
    return name.strip(), values(given, f"--set {name}")


def input_values(net: Network, texts: list[str] | None) -> Any:
    """Input sizes: whole ones, and numbers that stand for squares.

    Raises:
        UsageError: they are something else, or do not say of which input they are.
    """
    if not texts:
        return None
    found: list[Any] = []
    for text in texts:
        name, named, sizes = text.rpartition("=")
        if not named:
            if len(net.inputs) > 1:
                known = ", ".join(net.inputs)
                raise UsageError(f"--input '{text}' does not say which of {known}: NAME={text}")
            name = next(iter(net.inputs))
        if name not in net.inputs:
            raise UsageError(f"'{net.name}' has no input '{name}'")
        for part in items(sizes, "--input"):
            if "x" in part or "×" in part:
                found.append({name: options.sizes(part, "--input")})
                continue
            dims = net.inputs[name].dims
            channels = dims[1] if net.channels_first else dims[-1]
            for side in integers(part, "--input"):
                # A list of numbers has one axis only.
                size = (side,) if len(dims) == 2 else (*(side,) * (len(dims) - 2), channels)
                found.append({name: size})
    return found


def written(
    table: Sweep, output: str, executor: Executor | None, count: int, progress: Progress
) -> None:
    """Write all rows to a file of the kind that its name says."""
    kind = output.rpartition(".")[2].lower()
    if kind not in ("csv", "parquet"):
        raise UsageError(f"--output '{output}' must end in .csv or .parquet")
    from convcalc.planning.sweep_output import write

    rows = write(table, output, kind, executor=executor, workers=count, progress=progress)
    print(f"wrote {output}: {rows:,} of {len(table):,} configurations", file=sys.stderr)


def shown(
    table: Sweep,
    rows: Iterator[dict[str, Any]],
    form: str,
    limit: int | None,
    output: str | None,
) -> None:
    """Print rows, for people not too many of them."""
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table, emit

    if limit is None and form in ("table", "markdown"):
        limit = SHOWN
    kept = list(islice(rows, limit))
    more = next(rows, None) is not None
    names = list(table.names)
    if form == "json":
        emit(jsonlib.dumps(kept, indent=1), output)
    else:
        if form in ("table", "markdown"):
            names = [name for name in names if worth_showing(table, name)]
        human = form == "table"
        cells = [[cell(name, row[name], human) for name in names] for row in kept]
        heads = [Column(name, name not in table.labels) for name in names]
        make = {"csv": as_csv, "markdown": as_markdown, "table": as_table}[form]
        emit(make(heads, cells), output)
    if more:
        print(f"convcalc: the first {len(kept)} rows; --output FILE writes all", file=sys.stderr)


def worth_showing(table: Sweep, name: str) -> bool:
    """Whether a column tells rows apart, or is a result that people ask for."""
    axes = table.axes
    if name in ("dtype", "optimizer", "engine", "input"):
        return len(table.labels[name]) > 1
    if name in ("inference_peak", "training_peak"):
        return set(axes.engine) != {"textbook"}
    return name not in ("trainable_params", "flops", "status")


def cell(name: str, value: Any, human: bool) -> str:
    """A value as text."""
    from convcalc.settings import format_bytes, format_count

    if value is None:
        return ""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if not human or not isinstance(value, int):
        return str(value)
    if name.startswith("textbook") or name.endswith("peak"):
        return format_bytes(value)
    return format_count(value) if name in ("params", "macs") else str(value)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on a terminal's stderr for work that takes longer than a moment."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} configurations"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("sweep", total=None)
    begun = time.monotonic()

    def progress(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if time.monotonic() - begun > PATIENCE:
            bar.start()

    try:
        yield progress
    finally:
        bar.stop()
