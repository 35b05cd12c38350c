"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcalc.errors import ModelError, UsageError

if TYPE_CHECKING:
    from convcalc.network import Network
    from convcalc.readers.sizes import Input

Model = Annotated[
    str,
    typer.Argument(help="A zoo name, a model file, or file.py:function, whose function is run."),
]
ModelOrNone = Annotated[
    str | None,
    typer.Argument(help="A zoo name, a model file, or file.py:function, whose function is run."),
]
Source = Annotated[
    str | None,
    typer.Option(
        help="Keras or PyTorch code, read and never run: a file, or - for standard input."
    ),
]
InputSize = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        help="Height x width x channels: 224x224x3. Of several inputs: NAME=224x224x3, repeated.",
    ),
]
Batch = Annotated[int, typer.Option("--batch", "-b", help="Samples in a batch.")]
Dtype = Annotated[str, typer.Option(help="float32, float16, bfloat16, float64, mixed_float16, ...")]
Optimizer = Annotated[str, typer.Option(help="none, sgd, momentum, adam, ...")]
Remat = Annotated[str, typer.Option(help="Gradient checkpointing in training: none, block, sqrt.")]
Engine = Annotated[
    str, typer.Option(help="Whose memory: textbook, tensorflow, tensorflow-xla, torch, jax.")
]
Device = Annotated[str, typer.Option(help="gpu, cpu, or a name of `convcalc devices`.")]
Convention = Annotated[str, typer.Option(help="How to count flops: macs, fvcore, torchinfo, ...")]
Format = Annotated[str | None, typer.Option("--format", "-f", help="table, json, csv or markdown.")]
Json = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Write to this file.")]

FORMATS = ("table", "json", "csv", "markdown")


def output_format(given: str | None, as_json: bool) -> str:
    """The format asked for.

    Raises:
        UsageError: there is no such format, or two were asked for.
    """
    if as_json and given not in (None, "json"):
        raise UsageError(f"--json and --format {given} contradict each other")
    chosen = "json" if as_json else given or "table"
    if chosen not in FORMATS:
        raise UsageError(f"unknown format '{chosen}'; known: {', '.join(FORMATS)}")
    return chosen


def sizes(text: str, what: str) -> tuple[int, ...]:
    """The numbers of "150x100x3" or "5".

    Raises:
        UsageError: it is something else.
    """
    if not re.fullmatch(r"-?\d+([x×]-?\d+)*", text.strip()):
        raise UsageError(f"{what} '{text}' must be positive numbers such as 150x100x3")
    numbers = tuple(map(int, re.split("[x×]", text.strip())))
    for number in numbers:
        if number < 1:
            raise UsageError(f"{what} '{text}': {number} is not positive")
    return numbers


def input_sizes(texts: list[str] | None) -> Input:
    """What `--input` says: one size ("224x224x3"), or sizes by name ("image=224x224x3").

    Raises:
        UsageError: a size is none, or there are several and one has no name, or two the same.
    """
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return sizes(texts[0], "--input")
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, separator, size = text.rpartition("=")
        if not separator or not name:
            raise UsageError(f"--input '{text}' does not say which input; write NAME={text}")
        if name in found:
            raise UsageError(f"--input gives two sizes for '{name}'")
        found[name] = sizes(size, "--input")
    return found


def per_axis(text: str, what: str) -> Any:
    """One number, or one for each axis."""
    numbers = sizes(text, what)
    return numbers[0] if len(numbers) == 1 else numbers


def stride(text: str) -> Any:
    """A stride: "2", "2x1", or TensorFlow's numbers "1,2,2,1", whose ends must be 1.

    Raises:
        UsageError: it is something else.
    """
    if "," not in text:
        return per_axis(text, "--stride")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) < 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--stride '{text}' must be like 2, 2x1 or 1,2,2,1")
    if parts[0] != "1" or parts[-1] != "1":
        raise UsageError(
            f"--stride '{text}': the first and the last number move over samples and channels "
            "and must be 1"
        )
    return tuple(map(int, parts[1:-1]))


def padding(text: str, rank: int) -> Any:
    """A name, one number, or numbers for each side: top,bottom,left,right.

    Raises:
        UsageError: it is none of these.
    """
    if text in ("same", "valid", "causal", "same_lower"):
        return text
    parts = text.split(",")
    if not all(re.fullmatch(r"\d+", part.strip()) for part in parts):
        raise UsageError(
            f"--padding '{text}' must be same, valid, causal, a number or top,bottom,left,right"
        )
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) != 2 * rank:
        raise UsageError(f"--padding '{text}' has {len(numbers)} numbers; {2 * rank} are needed")
    return tuple((numbers[2 * i], numbers[2 * i + 1]) for i in range(rank))


def loaded(model: str | None, source: str | None, input: Input) -> Network:
    """The network that MODEL names, or that the code in SOURCE builds.

    Raises:
        UsageError: neither or both are given, or sizes by name with code.
        ModelError: it cannot be read.
    """
    if (model is None) == (source is None):
        raise UsageError("give either MODEL or --source FILE (- for standard input)")
    if model is not None:
        from convcalc import load

        return load(model, input=input)
    assert source is not None
    if input is not None and not isinstance(input, tuple):
        raise UsageError("--source takes one --input, without a name")
    from convcalc.readers.source import MAX_BYTES, load_source

    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read '{source}': {error.strerror}") from None
    return load_source(data.decode("utf-8-sig", "replace"), input=input)
