"""`convcalc verify`: runs the network and puts what it used beside what we say."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcalc.cli import options
from convcalc.errors import ConvcalcError, ModelError, UsageError

if TYPE_CHECKING:
    from convcalc.network import Network
    from convcalc.report import Prediction
    from convcalc.verify.request import Request
    from convcalc.verify.verdict import Rung, Verdict

#: Allocations and layers that `--timeline` lists.
SHOWN = 12


def verify_command(
    model: Annotated[str | None, typer.Argument(help="A zoo name or a model file.")] = None,
    conv: Annotated[bool, typer.Option("--conv", help="One convolution instead.")] = False,
    input: options.InputSize = None,
    filters: Annotated[int | None, typer.Option(help="--conv: maps that come out.")] = None,
    kernel: Annotated[str, typer.Option(help="--conv: size.")] = "3",
    stride: Annotated[str, typer.Option(help="--conv: stride.")] = "1",
    padding: Annotated[str, typer.Option(help="--conv: padding.")] = "same",
    dilation: Annotated[str, typer.Option(help="--conv: dilation.")] = "1",
    groups: Annotated[int, typer.Option(help="--conv: groups of channels.")] = 1,
    depthwise: Annotated[bool, typer.Option(help="--conv: each channel on its own.")] = False,
    framework: Annotated[str, typer.Option(help="tensorflow, torch or jax.")] = "tensorflow",
    device: Annotated[
        str, typer.Option(help="auto, cpu, gpu; with --compiled: cpu, h100, a100, t4, tpu-v5e, ...")
    ] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Ask XLA's compiler; the device need not be there.")
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="allocator, compiled; torch: profiler, memtracker.")
    ] = None,
    mode: Annotated[str, typer.Option(help="inference, training or both.")] = "both",
    batch: options.Batch = 1,
    optimizer: options.Optimizer = "sgd",
    dtype: options.Dtype = "float32",
    remat: options.Remat = "none",
    jit: Annotated[
        bool | None, typer.Option("--jit/--no-jit", help="XLA; as Keras does: on a GPU only.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="cross_entropy or mean_squared_error; else by the output.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Steps that are measured.")] = 3,
    threads: Annotated[
        int | None, typer.Option(help="Threads between ops; 1 repeats best.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Cap the allocator, as a smaller card would: 4GiB.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Per cent that the prediction may be off; else its interval must hold."),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Also every allocation, beside the predicted ones.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds after which a run is ended.")] = 600.0,
    record: Annotated[str | None, typer.Option(help="Append each run to this file.")] = None,
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Runs the real network in a fresh process and compares.  Exit code 1: something is off.

    convcalc verify --conv --input 150x100x3 --filters 200 --kernel 5
    """
    from json import dumps

    from convcalc import load
    from convcalc.cli.conv import image_sizes, single, window_of
    from convcalc.cli.tables import emit
    from convcalc.memory.job import LOSSES, MODES
    from convcalc.readers.spec import write_spec
    from convcalc.settings import DTYPES, OPTIMIZERS, REMATS, choose, parse_bytes
    from convcalc.verify.request import FRAMEWORKS, Request

    form = options.output_format(format, json)
    choose(mode, [*MODES, "both"], "mode")
    choose(dtype, DTYPES, "dtype")
    choose(optimizer, OPTIMIZERS, "optimizer")
    choose(framework, FRAMEWORKS, "framework")
    choose(remat, REMATS, "remat")
    if loss is not None:
        choose(loss, LOSSES, "loss")
    for number, what in ((batch, "--batch"), (repeats, "--repeats"), (threads or 1, "--threads")):
        if number < 1:
            raise UsageError(f"{what} must be at least 1")
    if (model is None) != conv:
        raise UsageError("give either a model or --conv with --input and --filters")
    if model is None:
        if input is None or len(input) != 1:
            raise UsageError("--conv needs one --input, such as 150x100x3")
        sizes = image_sizes(input[0])
        window = window_of(sizes, kernel, stride, padding, dilation)
        net = single(sizes, filters, window, groups, depthwise, False, True, False)
    else:
        net = load(model, input=options.input_sizes(input))
    if compiled or (framework == "jax" and method is None and device in ("auto", "cpu")):
        method = "compiled"
    if device == "auto":
        device = "gpu" if method != "compiled" and has_gpu() else "cpu"
    if method != "compiled":
        choose(device, ("cpu", "gpu"), "device")
    asked = Request(
        network=write_spec(net),
        framework="jax" if method == "compiled" else framework,
        method=method or "allocator",
        device=device,
        batch=batch,
        dtype=dtype,
        jit=(method == "compiled" or device != "cpu") if jit is None else jit,
        repeats=repeats,
        threads=threads,
        timeline=timeline,
        loss=loss,
        remat=remat,
        memory_limit=None if memory is None else parse_bytes(memory),
        timeout=timeout,
    )
    share = None if tolerance is None else tolerance / 100
    verdicts = [
        verdict_of(net, request, share, record)
        for request in requests_of(asked, mode, optimizer, single_layer=conv)
    ]
    if form == "json":
        emit(dumps([verdict.to_json() for verdict in verdicts], indent=2), output)
    else:
        emit(as_text(net, verdicts, form, timeline), output)
    failed = [f"{verdict.mode}: {why}" for verdict in verdicts for why in verdict.failed]
    for line in failed:
        print(f"convcalc: {line}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def requests_of(asked: Request, mode: str, optimizer: str, *, single_layer: bool) -> list[Request]:
    """One run for each mode that is asked for."""
    import dataclasses

    found = []
    if mode != "training":
        # Values and operations are an inference's, and its timeline shows a single output.
        single = single_layer and asked.method != "compiled"
        found.append(
            dataclasses.replace(
                asked,
                mode="inference",
                optimizer="none",
                values=single,
                timeline=asked.timeline or (single and not asked.jit),
                flops=True,
            )
        )
    if mode != "inference":
        found.append(dataclasses.replace(asked, mode="training", optimizer=optimizer))
    return found


def verdict_of(
    net: Network, request: Request, tolerance: float | None, record: str | None
) -> Verdict:
    """Predict, run, compare, keep."""
    from pathlib import Path

    from convcalc.verify import records
    from convcalc.verify.child import measure
    from convcalc.verify.verdict import judge

    what = "compiling" if request.method == "compiled" else "running"
    print(
        f"{what} {net.name} with {request.framework} for {request.device}: {request.mode}, "
        f"batch {request.batch} ...",
        file=sys.stderr,
        flush=True,
    )
    found = measure(request)
    if record is not None:
        records.append(Path(record), records.record(net.name, request, found))
    try:
        prediction, layers = predict(net, request)
        note = []
    except (ConvcalcError, ModuleNotFoundError) as error:
        prediction, layers = None, None
        note = [f"no prediction: {error}"]
    verdict = judge(net, request, found, predicted=prediction, tolerance=tolerance)
    verdict.predicted_layers = layers
    verdict.notes += note
    return verdict


def engine_of(request: Request) -> str:
    """The engine that predicts what a request measures."""
    if request.framework == "tensorflow":
        return "tensorflow-xla" if request.jit else "tensorflow"
    return request.framework


def predict(net: Network, request: Request) -> tuple[Prediction, dict[str, int] | None]:
    """What our engine says, and for a timeline what each layer holds at the peak.

    Raises:
        ModelError: the engine cannot say, or there is none for a TPU.
    """
    from convcalc.memory import predict
    from convcalc.memory.predict import job_for
    from convcalc.memory.profile import profile
    from convcalc.verify.verdict import RESTING

    if request.device.startswith("tpu"):
        raise ModelError("no engine lays out a network for a TPU; see what its compiler says")
    device = "cpu" if request.device == "cpu" else "gpu"
    job = job_for(
        *(request.mode, request.dtype, request.optimizer, device, request.loss),
        remat=request.remat,
    )
    # Only TensorFlow runs operations side by side, and only on a CPU.
    job = replace(job, threads=request.threads, capability=older_target(request))
    engine = engine_of(request)
    if not request.timeline:
        return predict(net, engine, job, request.batch), None
    made = profile(net, engine, job, request.batch)
    layers = {
        row.layer: sum(size for kind, size in row.kinds.items() if kind not in RESTING)
        for row in made.layers
    }
    return made.prediction, layers


def older_target(request: Request) -> int | None:
    """The major compute capability of the GPU compiled for, if XLA serves it as an older one."""
    if request.method != "compiled":
        return None
    from convcalc.verify.targets import find

    return find(request.device).older


def has_gpu() -> bool:
    """Whether NVIDIA's driver lists a device; no framework is imported to find out."""
    import shutil
    import subprocess

    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, check=False)
    return listed.returncode == 0 and b"GPU" in listed.stdout


def as_text(net: Network, verdicts: list[Verdict], form: str, timeline: bool) -> str:
    """The verdicts' rungs as one table, the rest in words."""
    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table, wrapped

    columns = [
        Column("mode"),
        Column("rung"),
        Column("peak", True),
        Column("error", True),
        Column("interval", True),
        Column("held"),
    ]
    exact = form == "csv"
    rows = [
        [verdict.mode, *rung_row(rung, exact)] for verdict in verdicts for rung in verdict.rungs
    ]
    write = {"csv": as_csv, "markdown": as_markdown, "table": as_table}[form]
    text = write(columns, rows)
    if form != "table":
        return text
    lines = [text]
    for verdict in verdicts:
        lines += wrapped(in_words(verdict))
        if timeline and verdict.measurement.timeline:
            lines += ["", *parting_table(net, verdict)]
    return "\n".join(lines)


def rung_row(rung: Rung, exact: bool) -> list[str]:
    """One rung's cells."""
    from convcalc.settings import format_bytes

    def show(size: int) -> str:
        return str(size) if exact else format_bytes(size)

    return [
        rung.name,
        str(rung.bytes) if exact else f"{rung.bytes:,} B",
        "" if rung.error is None else f"{rung.error:+.1%}",
        "" if rung.interval is None else " to ".join(map(show, rung.interval)),
        "" if rung.held is None else "yes" if rung.held else "no",
    ]


def in_words(verdict: Verdict) -> list[str]:
    """What stands under the table."""
    from convcalc.settings import format_bytes, format_count

    found = verdict.measurement
    settings = ", ".join(
        f"{key} {', '.join(value) if isinstance(value, list) else value}"
        for key, value in found.settings.items()
        if value is not None
    )
    framework = "" if found.version.startswith(found.framework) else f"{found.framework} "
    lines = [f"{verdict.mode}: {framework}{found.version} on {found.device} ({settings})"]
    if found.out_of_memory:
        return [*lines, *(f"  {note}" for note in verdict.notes)]
    for check in verdict.checks:
        sign = "=" if check.holds else "is not"
        if check.what == "difference of values":
            sign = "within" if check.holds else "beyond"
            lines.append(
                f"  {check.what} to the reference {check.found:.1e} of the largest, {sign} "
                f"{check.expected:g}"
            )
        else:
            lines.append(f"  {check.what} {plain(check.found)} {sign} {plain(check.expected)}")
    predicted, measured = verdict.resting
    if measured is not None:
        own = "" if predicted is None else f", predicted {format_bytes(predicted)}"
        lines.append(f"  at rest between steps {format_bytes(measured)}{own}")
    ours, theirs = verdict.flops
    if theirs is not None:
        lines.append(
            f"  {format_count(theirs)} FLOPs by the framework, 2 x MACs {format_count(ours)}"
        )
    if verdict.spread is not None and len(found.peaks) > 1:
        lines.append(f"  {len(found.peaks)} repeats, spread {verdict.spread:.2%}")
    return [*lines, *(f"  {note}" for note in verdict.notes)]


def plain(value: Any) -> str:
    """A count or a shape for people."""
    return "x".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def parting_table(net: Network, verdict: Verdict) -> list[str]:
    """What was allocated during the step and is there at its peak, by op; then by layer beside
    the prediction."""
    from convcalc.cli.tables import Column, as_table
    from convcalc.settings import format_bytes
    from convcalc.verify.parting import at_peak, parts

    events = verdict.measurement.timeline
    held = [
        [item.op or "?", item.kind, format_bytes(item.bytes)] for item in at_peak(events)[:SHOWN]
    ]
    layers = {op.layer for op in net.ops}
    rows = [
        [
            part.layer or "?",
            "" if part.predicted is None else format_bytes(part.predicted),
            format_bytes(part.measured),
        ]
        for part in parts(events, layers, verdict.predicted_layers)[:SHOWN]
    ]
    ops = [Column(f"at the peak of {verdict.mode}"), Column("op"), Column("holds", True)]
    both = [Column("where they part"), Column("predicted", True), Column("measured", True)]
    if verdict.predicted_layers is None:
        return [as_table(ops, held)]
    return [as_table(ops, held), "", as_table(both, rows)]
