"""`convcalc memory`: where the memory of a step goes, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from convcalc.cli import options

if TYPE_CHECKING:
    from convcalc.network import Network
    from convcalc.report import MemoryProfile, Prediction, Report

#: In the order in which a newcomer meets them.
NAMES = {
    "tensorflow": "TensorFlow",
    "tensorflow-xla": "TensorFlow (XLA)",
    "jax": "JAX",
    "torch": "PyTorch",
}


def memory_command(
    model: options.Model,
    input: options.InputSize = None,
    batch: options.Batch = 1,
    dtype: options.Dtype = "float32",
    optimizer: options.Optimizer = "adam",
    remat: options.Remat = "none",
    accumulate: Annotated[
        bool, typer.Option("--accumulate", help="Gradients of several steps are added up.")
    ] = False,
    ema: Annotated[
        bool, typer.Option("--ema", help="A moving average of each variable is kept.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="tensorflow, tensorflow-xla, torch, jax; all: side by side.")
    ] = "tensorflow-xla",
    device: options.Device = "gpu",
    mode: Annotated[str, typer.Option(help="training or inference.")] = "training",
    loss: Annotated[
        str | None, typer.Option(help="cross_entropy or mean_squared_error; else by the output.")
    ] = None,
    top: Annotated[int, typer.Option(help="Layers and buffers to list.")] = 10,
    plot: Annotated[str | None, typer.Option(help="Draw the timeline: out.svg or out.png.")] = None,
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """What an engine will allocate, where it goes and when."""
    from convcalc import load
    from convcalc.cli.tables import emit, wrapped
    from convcalc.memory.job import LOSSES, MODES
    from convcalc.memory.predict import job_for
    from convcalc.memory.profile import profile
    from convcalc.settings import DTYPES, ENGINES, OPTIMIZERS, REMATS, choose, engine_device

    form = options.output_format(format, json)
    choose(mode, MODES, "mode")
    choose(dtype, DTYPES, "dtype")
    choose(optimizer, OPTIMIZERS, "optimizer")
    choose(remat, REMATS, "remat")
    engine_device(device)
    choose(engine, [*(name for name in ENGINES if name != "textbook"), "all"], "engine")
    if loss is not None:
        choose(loss, LOSSES, "loss")
    net = load(model, input=options.input_sizes(input))
    if engine == "all":
        emit(side_by_side(net, batch, dtype, optimizer, device, form, remat), output)
        return
    job = job_for(mode, dtype, optimizer, device, loss, remat=remat, accumulate=accumulate, ema=ema)
    found = profile(net, engine, job, batch)
    if plot is not None:
        draw(found, plot)
    if form == "json":
        emit(found.model_dump_json(indent=2), output)
    elif form == "table":
        emit("\n".join([*wrapped(in_words(net, found)), *details(found, top)]), output)
    else:
        emit(layers_as(found, form), output)


def draw(found: MemoryProfile, path: str) -> None:
    """Write the picture.

    Raises:
        UsageError: neither SVG nor PNG, or the file cannot be written.
    """
    import sys

    from convcalc.errors import UsageError
    from convcalc.memory.chart import png, svg

    if path.lower().endswith(".svg"):
        data = svg(found).encode()
    elif path.lower().endswith(".png"):
        data = png(found)
    else:
        raise UsageError(f"--plot '{path}' must end in .svg or .png")
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror}") from None
    print(f"wrote {path}", file=sys.stderr)


def in_words(net: Network, found: MemoryProfile) -> list[str]:
    """What the book says, what the engine will need, and why these differ."""
    from convcalc import analyze
    from convcalc.settings import format_bytes

    book = analyze(net, batch=found.batch, dtype=found.dtype).memory.textbook
    rule = book.training_bytes if found.mode == "training" else book.inference_bytes
    prediction = found.prediction
    optimizer = f", {found.optimizer}" if found.mode == "training" else ""
    lines = [
        f"{net.name}, {found.mode}, batch {found.batch}, {found.dtype}{optimizer}, on a "
        f"{found.device}:",
        f"the book says {format_bytes(rule)}; "
        + because(found.engine, found.mode, found.optimizer, prediction),
        f"another batch: {format_bytes(found.fixed_bytes)} + batch x "
        f"{format_bytes(found.bytes_per_sample)}; the least it can run in is "
        f"{format_bytes(prediction.floor_bytes)}",
    ]
    if prediction.process_interval is not None:
        least, most = prediction.process_interval
        lines.append(
            f"the device will show {format_bytes(least)} to {format_bytes(most)} for the process "
            "(with the context, workspaces and what the allocator keeps)"
        )
    return [*lines, *found.notes]


def because(engine: str, mode: str, optimizer: str, prediction: Prediction) -> str:
    """What an engine will need, and of what that consists."""
    from convcalc.settings import format_bytes

    low, high = prediction.interval
    reasons = [
        f"{format_bytes(prediction.breakdown[kind])} {words}"
        for kind, words in (
            ("weights", "of weights"),
            ("optimizer", f"of {optimizer}'s slots"),
            ("inputs", "of inputs and labels" if mode == "training" else "of input"),
            ("gradients", "of weight gradients"),
            ("activations", "of activations and their gradients"),
            ("workspace", "of the operations' scratch"),
            ("slack", "that the allocator rounds up or cannot split"),
        )
        if prediction.breakdown[kind] > prediction.peak_bytes // 1000
    ]
    return (
        f"{NAMES[engine]} will need {format_bytes(prediction.peak_bytes)} ({format_bytes(low)} to "
        f"{format_bytes(high)} nine times in ten), because at {prediction.at} there are alive: "
        f"{', '.join(reasons)}"
    )


def details(found: MemoryProfile, top: int) -> list[str]:
    """The timeline, the largest layers and the largest buffers."""
    from convcalc.cli.tables import Column, as_table, line_width
    from convcalc.memory.chart import terminal
    from convcalc.settings import format_bytes

    layers = [
        [row.layer, format_bytes(row.bytes), *(format_bytes(row.kinds[kind]) for kind in SHOWN)]
        for row in found.layers[:top]
    ]
    buffers = [
        [buffer.name, buffer.kind, format_bytes(buffer.bytes), lifetime(found, buffer.start)]
        for buffer in found.alive[:top]
    ]
    return [
        "",
        *terminal(found, line_width()),
        "",
        as_table(
            [Column("layer"), Column("at the peak", True), *(Column(k, True) for k in SHOWN)],
            layers,
        ),
        "",
        as_table(
            [Column("largest buffers"), Column("kind"), Column("bytes", True), Column("since")],
            buffers,
        ),
    ]


SHOWN = ("weights", "optimizer", "activations", "gradients")


def lifetime(found: MemoryProfile, start: int) -> str:
    """When a buffer was taken."""
    step = found.steps[start]
    return "before the step" if start == 0 else f"{step.layer} ({step.phase})"


def layers_as(found: MemoryProfile, form: str) -> str:
    """What is alive at the peak by layer, for programs."""
    from convcalc.cli.tables import Column, as_csv, as_markdown
    from convcalc.memory.program import KINDS

    write = as_csv if form == "csv" else as_markdown
    rows = [
        [row.layer, str(row.bytes), *(str(row.kinds[kind]) for kind in KINDS)]
        for row in found.layers
    ]
    return write([Column("layer"), Column("bytes", True), *(Column(k, True) for k in KINDS)], rows)


def side_by_side(
    net: Network,
    batch: int,
    dtype: str,
    optimizer: str,
    device: str,
    form: str,
    remat: str = "none",
) -> str:
    """All engines beside the book's figure."""
    from json import dumps

    from convcalc import analyze
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table, wrapped

    reports = {
        engine: analyze(
            net,
            batch=batch,
            dtype=dtype,
            optimizer=optimizer,
            remat=remat,
            engine=engine,
            device=device,
        )
        for engine in NAMES
    }
    if form == "json":
        return dumps(
            {name: report.model_dump()["memory"] for name, report in reports.items()}, indent=2
        )
    write = {"table": as_table, "csv": as_csv, "markdown": as_markdown}[form]
    exact = form == "csv"
    book = next(iter(reports.values())).memory.textbook
    rows = [
        ["the book", shown(book.inference_bytes, exact), "", shown(book.training_bytes, exact), ""]
    ]
    rows += [engine_row(engine, report, exact) for engine, report in reports.items()]
    text = write(
        [
            Column("engine"),
            Column("inference", True),
            Column("interval", True),
            Column("training", True),
            Column("interval", True),
        ],
        rows,
    )
    if form != "table":
        return text
    words = [
        because(engine, "training", optimizer, report.memory.training)
        for engine, report in reports.items()
        if report.memory.training is not None
    ]
    notes = dict.fromkeys(note for report in reports.values() for note in report.memory.notes)
    says = f"the book says {shown(book.training_bytes, exact)} for training;"
    return "\n".join([text, *wrapped([says, *words, *notes])])


def engine_row(engine: str, report: Report, exact: bool) -> list[str]:
    """One engine's peaks with their intervals."""
    cells = [engine if exact else NAMES[engine]]
    for found in (report.memory.inference, report.memory.training):
        if found is None:
            cells += ["?", ""]
        else:
            cells += [
                shown(found.peak_bytes, exact),
                " to ".join(shown(bound, exact) for bound in found.interval),
            ]
    return cells


def shown(size: int, exact: bool) -> str:
    """Bytes for programs or for people."""
    from convcalc.settings import format_bytes

    return str(size) if exact else format_bytes(size)
