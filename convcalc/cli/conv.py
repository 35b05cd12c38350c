"""`convcalc conv`: one convolution by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcalc.cli import options
from convcalc.errors import UsageError

if TYPE_CHECKING:
    from convcalc.analysis.derivation import Step
    from convcalc.network import Network


def conv_command(
    input: Annotated[str, typer.Option("--input", "-i", help="LxC, HxWxC or DxHxWxC.")],
    filters: Annotated[int | None, typer.Option(help="Maps that come out.")] = None,
    kernel: Annotated[str, typer.Option(help="Size: 5, 5x3.")] = "3",
    stride: Annotated[str, typer.Option(help="2, 2x1, or TensorFlow's 1,2,2,1.")] = "1",
    padding: Annotated[
        str, typer.Option(help="same, valid, causal, N or top,bottom,left,right.")
    ] = "valid",
    dilation: Annotated[str, typer.Option(help="2, 2x1.")] = "1",
    groups: Annotated[int, typer.Option(help="Groups of channels that do not mix.")] = 1,
    depthwise: Annotated[bool, typer.Option(help="Each channel on its own.")] = False,
    transposed: Annotated[bool, typer.Option(help="The transposed convolution.")] = False,
    bias: Annotated[bool, typer.Option("--bias/--no-bias", help="A bias for each map.")] = True,
    layout: Annotated[str, typer.Option(help="nhwc or nchw.")] = "nhwc",
    batch: options.Batch = 1,
    dtype: options.Dtype = "float32",
    neuron: Annotated[str | None, typer.Option(help="I,J: which inputs that neuron sees.")] = None,
    explain: Annotated[bool, typer.Option(help="How each number comes about.")] = False,
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """One convolution: output shape, parameters, multiplications, memory.

    convcalc conv --input 150x100x3 --filters 200 --kernel 5 --stride 1 --padding same
    """
    from convcalc.analysis.costs import analyze
    from convcalc.cli.render import COLUMNS, columns_of, layer_table, summary_lines
    from convcalc.cli.tables import emit

    form = options.output_format(format, json)
    sizes = image_sizes(input)
    window = window_of(sizes, kernel, stride, padding, dilation)
    if layout not in ("nhwc", "nchw"):
        raise UsageError(f"--layout '{layout}' is neither nhwc nor nchw")
    net = single(sizes, filters, window, groups, depthwise, transposed, bias, layout == "nchw")
    at = None if neuron is None else position(neuron, len(sizes) - 1)
    report = analyze(net, batch=batch, dtype=dtype)
    steps: tuple[Step, ...] = ()
    if explain or at is not None:
        from convcalc.analysis.derivation import derive

        steps = derive(net, net.ops[0], batch=batch, dtype=dtype, neuron=at)
    if form == "json":
        from dataclasses import asdict
        from json import dumps

        data = report.model_dump()
        if steps:
            data["derivation"] = [asdict(step) for step in steps]
        emit(dumps(data, indent=2), output)
        return
    columns = columns_of(",".join(COLUMNS) if form == "csv" else None)
    text = layer_table(report, columns, form, depth=None)
    if form == "table":
        from convcalc.cli.steps import step_lines

        text = "\n".join(
            [text, *summary_lines(report), *([""] if steps else []), *step_lines(steps)]
        )
    emit(text, output)


def image_sizes(text: str) -> tuple[int, ...]:
    """The sizes of an input of one, two or three dimensions, channels last.

    Raises:
        UsageError: it is none.
    """
    found = options.sizes(text, "--input")
    if not 2 <= len(found) <= 4:
        raise UsageError(f"--input '{text}' must be LxC, HxWxC or DxHxWxC")
    return found


def window_of(
    sizes: tuple[int, ...], kernel: str, stride: str, padding: str, dilation: str
) -> dict[str, Any]:
    """How the kernel moves, as a convolution's attributes.

    Raises:
        UsageError: one of the options makes no sense.
    """
    return {
        "kernel": options.per_axis(kernel, "--kernel"),
        "stride": options.stride(stride),
        "padding": options.padding(padding, len(sizes) - 1),
        "dilation": options.per_axis(dilation, "--dilation"),
    }


def single(
    sizes: tuple[int, ...],
    filters: int | None,
    window: dict[str, Any],
    groups: int,
    depthwise: bool,
    transposed: bool,
    bias: bool,
    channels_first: bool,
) -> Network:
    """A network of one convolution.

    Raises:
        UsageError: options that exclude or need each other.
    """
    from convcalc.errors import ModelError
    from convcalc.network import Network, Op
    from convcalc.ops import create
    from convcalc.tensors import TensorSpec

    attributes: dict[str, Any] = {**window, "bias": bias, "channels_first": channels_first}
    if depthwise:
        if transposed or groups != 1:
            raise UsageError("--depthwise goes with neither --transposed nor --groups")
        if filters is not None and (filters < 1 or filters % sizes[-1]):
            raise UsageError(f"--filters {filters} must be a multiple of {sizes[-1]} channels")
        kind = "depthwise_conv"
        attributes["multiplier"] = 1 if filters is None else filters // sizes[-1]
    else:
        if filters is None:
            raise UsageError("--filters is missing: how many maps come out?")
        kind = "conv_transpose" if transposed else "conv"
        attributes |= {"filters": filters, "groups": groups}
    shape = (sizes[-1], *sizes[:-1]) if channels_first else sizes
    layout = "channels_first" if channels_first else "channels_last"
    try:
        op = Op("conv", create(kind, attributes), ("input",))
        return Network("conv", (op,), {"input": TensorSpec((1, *shape))}, ("conv",), layout)
    except ModelError as error:
        # The layer came from the options, so this is a mistake of usage, not of a model file.
        raise UsageError(str(error)) from None


def position(text: str, rank: int) -> tuple[int, ...]:
    """The place of a neuron in its map: "3,4".

    Raises:
        UsageError: it is no place, or one for another number of axes.
    """
    parts = text.split(",")
    if len(parts) != rank or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"--neuron '{text}' must be {rank} numbers from 0, such as 0,0")
    return tuple(map(int, parts))
