"""`convcalc filter`: what one filter of a convolution layer makes of a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from convcalc.cli import options
from convcalc.errors import UsageError


def filter_command(
    image: Annotated[Path | None, typer.Argument(help="A picture: PNG, JPEG, ...")] = None,
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel",
            "-k",
            help="vertical, horizontal, sobel, sharpen, blur, edge, ...; several of one size as "
            "a,b; or a FILE: a matrix as text, CSV or .npy.",
        ),
    ] = "vertical",
    stride: Annotated[str, typer.Option(help="2, 2x1, or TensorFlow's 1,2,2,1.")] = "1",
    padding: Annotated[str, typer.Option(help="same, valid, N or top,bottom,left,right.")] = "same",
    sample: Annotated[
        str | None, typer.Option(help="Instead of a picture: bundled, china or flower.")
    ] = None,
    feature: Annotated[
        int, typer.Option(help="Which feature map to write, from 0, if there are several.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print shapes as JSON.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")] = Path(
        "feature.png"
    ),
) -> None:
    """Apply a filter to a picture and write the feature map as PNG.

    convcalc filter --sample bundled --kernel vertical --output vertical.png
    """
    step, zeros = options.stride(stride), options.padding(padding, rank=2)
    if (image is None) == (sample is None):
        raise UsageError("give either an image file or --sample bundled, china or flower")
    if output.suffix.lower() != ".png":
        raise UsageError(f"--output '{output}' must end in .png")
    if image is not None and output.exists() and image.exists() and output.samefile(image):
        raise UsageError(f"--output '{output}' would overwrite the picture itself")

    from convcalc.imaging import encode_png, feature_maps, load_filters, load_image, load_sample

    picture = load_sample(sample) if image is None and sample else load_image(image or Path())
    filters = load_filters(kernel, channels=picture.shape[-1])
    count = filters.shape[-1]
    if not 0 <= feature < count:
        raise UsageError(
            f"--feature {feature}: '{kernel}' makes {count} feature map(s), counted from 0"
        )
    maps = feature_maps(picture[None], filters, stride=step, padding=zeros)
    try:
        output.write_bytes(encode_png(maps[0, :, :, feature]))
    except OSError as error:
        raise UsageError(f"cannot write '{output}': {error.strerror}") from None
    which = f"feature map {feature} of {count}, " if count > 1 else ""
    print(f"wrote {output} ({which}{maps.shape[1]} x {maps.shape[2]})", file=sys.stderr)
    if json:
        from json import dumps

        report = {
            "input_shape": [1, *picture.shape],
            "output_shape": list(maps.shape),
            "kernel": kernel,
            "feature": feature,
            "output": str(output),
        }
        print(dumps(report, indent=2))
