"""Pictures through the reference convolution: load one, apply filters, write a feature map as PNG.

Pictures are float32 arrays (height, width, channels) of values from 0 to 1: the pixels divided by
255 (16-bit ones by 65,535).  Filters are arrays (height, width, channels, feature maps).
"""

from __future__ import annotations

import io
import re
import warnings
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from convcalc.errors import ConvcalcError, MissingExtra, UsageError
from convcalc.ops.base import suggestion
from convcalc.reference import Padding, PerAxis, convolve, geometry

SAMPLES = ("bundled", "china", "flower")
"""Our own drawing, and the two photographs that scikit-learn brings along."""

IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What `load_image` reads."""

MAX_CELLS = 2**27
"""The most cells of a padded picture or of all feature maps: 1 GiB of float64."""

MAX_KERNEL_BYTES = 2**20
"""The largest file that is read as a filter."""

_SOBEL_X = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_SOBEL_Y = ((-1, -2, -1), (0, 0, 0), (1, 2, 1))

FILTERS: dict[str, Any] = {
    # The book's: a line of ones through the middle of 7 x 7 zeros.
    "vertical": [[[0, 0, 0, 1, 0, 0, 0]] * 7],
    "horizontal": [[[0] * 7] * 3 + [[1] * 7] + [[0] * 7] * 3],
    # The brightness's slope to the right and downwards: two feature maps.
    "sobel": [_SOBEL_X, _SOBEL_Y],
    "sobel-x": [_SOBEL_X],
    "sobel-y": [_SOBEL_Y],
    "edge": [((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))],
    "sharpen": [((0, -1, 0), (-1, 5, -1), (0, -1, 0))],
    "blur": [np.outer((1, 4, 6, 4, 1), (1, 4, 6, 4, 1)) / 256],
    "emboss": [((-2, -1, 0), (-1, 1, 1), (0, 1, 2))],
    "identity": [((1,),)],
}
"""Filters by name: one matrix for each feature map."""


class MissingScikitLearn(MissingExtra):
    """The photographs come with scikit-learn, which is not installed."""

    def __init__(self, sample: str) -> None:
        super().__init__("images")
        self.args = (
            f"the sample '{sample}' comes with scikit-learn: pip install scikit-learn "
            "(the sample 'bundled' needs nothing)",
        )


def load_image(source: Path | BinaryIO) -> NDArray[np.float32]:
    """A picture from a file, (height, width, 1) if it is grey, (height, width, 3) otherwise.

    It is turned upright as its EXIF data say; transparency is dropped; of an animation the first
    frame is taken.

    Args:
        source: a path, or a file open for reading bytes that can seek.

    Raises:
        MissingExtra: Pillow is not installed.
        UsageError: no such file, a directory, not a picture of `IMAGE_FORMATS`, a broken one, or
            one of more than 89 million pixels.
    """
    image_module = _pillow()
    from PIL import ImageOps

    name = f"'{source}'" if isinstance(source, Path) else "the image"
    if isinstance(source, Path):
        _check_file(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(source, formats=IMAGE_FORMATS) as opened:
                image = ImageOps.exif_transpose(opened)
                mode = image.mode
                if mode in ("1", "L", "LA", "La"):
                    image = image.convert("L")
                elif not mode.startswith(("I", "F")):
                    image = image.convert("RGB")
                pixels = np.asarray(image)
    except (image_module.DecompressionBombWarning, image_module.DecompressionBombError):
        limit = image_module.MAX_IMAGE_PIXELS
        raise UsageError(f"{name} has more than {limit:,} pixels") from None
    except image_module.UnidentifiedImageError:
        raise UsageError(
            f"{name} is not an image; known formats: {', '.join(IMAGE_FORMATS)}"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UsageError(f"{name} cannot be read: {_one_line(error)}") from None
    scale = 65535 if mode.startswith("I") else 255
    if mode.startswith("F") or pixels.min() < 0 or pixels.max() > scale:
        raise UsageError(f"{name} has pixels of 32 bits; expected 8 or 16")
    pixels = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    return (pixels / scale).astype(np.float32)


def load_sample(name: str) -> NDArray[np.float32]:
    """One of `SAMPLES`, (height, width, 3).

    Raises:
        MissingExtra: Pillow is not installed, or scikit-learn, for its photographs.
        UsageError: there is no such sample.
    """
    if name not in SAMPLES:
        raise UsageError(
            f"unknown sample '{name}': expected {', '.join(SAMPLES)}{suggestion(name, SAMPLES)}"
        )
    if name == "bundled":
        data = resources.files("convcalc").joinpath("data", "sample.png").read_bytes()
        return load_image(io.BytesIO(data))
    _pillow()
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise MissingScikitLearn(name) from None
    pixels: NDArray[np.uint8] = load_sample_image(f"{name}.jpg")
    return (pixels / 255).astype(np.float32)


def load_filters(kernel: str, channels: int) -> NDArray[np.float64]:
    """Filters by name or from a file, (f_h, f_w, channels, feature maps).

    A matrix is laid over every channel, so that each feature map sums over all of them, as a
    convolution layer does.

    Args:
        kernel: a name of `FILTERS`; several of one size, separated by commas; or the path of a
            file: a matrix as text or CSV (a row a line, ``#`` before a comment), or a NumPy
            ``.npy`` array (f_h, f_w), (f_h, f_w, channels) or (f_h, f_w, channels, feature maps).
        channels: the picture's.

    Raises:
        UsageError: neither a name nor a file, filters of different sizes, or a file that does not
            hold such an array of finite numbers.
    """
    names = [name.strip() for name in kernel.split(",")]
    if all(name in FILTERS for name in names):
        matrices = [np.array(m, np.float64) for name in names for m in FILTERS[name]]
        sizes = dict.fromkeys("x".join(map(str, m.shape)) for m in matrices)
        if len(sizes) > 1:
            raise UsageError(f"filters '{kernel}' differ in size: {', '.join(sizes)}")
        return _over_channels(np.stack(matrices, axis=-1), channels)
    path = Path(kernel)
    if not path.exists():
        unknown = next(name for name in names if name not in FILTERS)
        raise UsageError(
            f"kernel '{kernel}' is neither a file nor one of {', '.join(FILTERS)}"
            f"{suggestion(unknown, FILTERS)}"
        )
    array = _read_array(path)
    if not array.size or not np.isfinite(array).all():
        raise UsageError(f"kernel '{kernel}' must hold finite numbers, at least one")
    if array.ndim == 2:
        return _over_channels(array[..., np.newaxis], channels)
    if array.ndim not in (3, 4):
        raise UsageError(f"kernel '{kernel}' has shape {array.shape}: expected a matrix (f_h, f_w)")
    if array.shape[2] != channels:
        raise UsageError(
            f"kernel '{kernel}' has shape {array.shape}: expected {channels} channels, "
            f"not {array.shape[2]}"
        )
    return array if array.ndim == 4 else array[..., np.newaxis]


def feature_maps(
    images: NDArray[np.floating[Any]],
    filters: NDArray[np.floating[Any]],
    *,
    stride: PerAxis = 1,
    padding: Padding = "same",
) -> NDArray[np.float32]:
    """The feature maps of a batch of pictures, (N, height, width, feature maps).

    Args:
        images: (N, height, width, channels).
        filters: (f_h, f_w, channels, feature maps).
        stride: as `convcalc.reference.convolve` takes it.
        padding: as `convcalc.reference.convolve` takes it.

    Raises:
        UsageError: the filters do not fit the pictures, the result would have more than
            `MAX_CELLS` cells, or its values leave float32.
    """
    axes = geometry(images.shape[1:-1], filters.shape[:2], stride=stride, padding=padding)
    padded, made = images.shape[0] * images.shape[-1], images.shape[0] * filters.shape[-1]
    for axis in axes:
        padded *= axis.size + axis.before + axis.after
        made *= axis.output
    if max(padded, made) > max(MAX_CELLS, images.size):
        raise UsageError(
            f"the padded picture has {padded:,} cells, the feature maps {made:,}: "
            f"{MAX_CELLS:,} is the most that is computed"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        maps = convolve(images, filters, stride=stride, padding=padding).astype(np.float32)
    if not np.isfinite(maps).all():
        raise UsageError("the feature maps leave the range of float32: take smaller weights")
    return maps


def encode_png(feature_map: NDArray[np.floating[Any]]) -> bytes:
    """A feature map (height, width) as a grey PNG: its least value black, its greatest white.

    A map of one value only is black.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    image_module = _pillow()
    values = feature_map.astype(np.float64)
    low, high = values.min(), values.max()
    grey = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    buffer = io.BytesIO()
    image_module.fromarray(grey.round().astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _over_channels(matrices: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """(f_h, f_w, maps) -> (f_h, f_w, channels, maps)."""
    return np.repeat(matrices[:, :, np.newaxis, :], channels, axis=2)


def _read_array(path: Path) -> NDArray[np.float64]:
    _check_file(path)
    try:
        if path.stat().st_size > MAX_KERNEL_BYTES:
            raise UsageError(f"kernel '{path}' is larger than {MAX_KERNEL_BYTES:,} bytes")
        data = path.read_bytes()
        if not data.startswith(b"\x93NUMPY"):
            return _parse_matrix(path, data.decode("utf-8-sig"))
        # Mapped, so that a header that promises more than the file holds allocates nothing.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ConvcalcError:
        raise
    except UnicodeDecodeError:
        raise UsageError(f"kernel '{path}' is neither text nor a NumPy array") from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise UsageError(f"kernel '{path}' cannot be read: {_one_line(error)}") from None
    if array.dtype.kind not in "biuf":
        raise UsageError(f"kernel '{path}' must hold real numbers, not {array.dtype}")
    return np.array(array, np.float64)


def _parse_matrix(path: Path, text: str) -> NDArray[np.float64]:
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        cells = re.split(r"\s*[,;]\s*|\s+", content)
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            raise UsageError(
                f"kernel '{path}', line {number}: '{content[:40]}' is not a row of numbers"
            ) from None
        if len(rows[-1]) != len(rows[0]):
            raise UsageError(
                f"kernel '{path}', line {number}: {len(rows[-1])} numbers, "
                f"the rows above have {len(rows[0])}"
            )
    if not rows:
        raise UsageError(f"kernel '{path}' is empty")
    return np.array(rows, np.float64)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"'{path}' is a directory, not a file")
    if not path.exists():
        raise UsageError(f"no such file: '{path}'")
    if not path.is_file():
        raise UsageError(f"'{path}' is not a regular file")


def _one_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__


def _pillow() -> Any:
    """Pillow's `Image` module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("images") from None
    return Image
