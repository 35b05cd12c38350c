"""`convcalc filter` and the pictures behind it; the book's own example against tf.nn.conv2d."""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcalc import imaging
from convcalc.cli import main
from convcalc.errors import MissingExtra, UsageError
from convcalc.imaging import (
    FILTERS,
    SAMPLES,
    encode_png,
    feature_maps,
    load_filters,
    load_image,
    load_sample,
)

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(here: Path) -> Path:
    """A colour picture, 6 high and 9 wide."""
    path = here / "picture.png"
    pixels = np.random.default_rng(3).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `convcalc filter` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["convcalc", "filter", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def grey(png: Any) -> Any:
    """The pixels of a grey PNG."""
    with Image.open(png) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


# The book's example


def test_book_example_on_scikit_learns_pictures_agrees_with_tensorflow() -> None:
    """Two pictures / 255, two 7 x 7 filters, stride 1, SAME.

    Sums of up to 21 float32 values of at most 1: they differ by less than 1e-5.
    """
    tf = pytest.importorskip("tensorflow")
    datasets = pytest.importorskip("sklearn.datasets")
    images = np.array(datasets.load_sample_images().images, dtype=np.float32) / 255
    filters = np.zeros((7, 7, 3, 2), dtype=np.float32)
    filters[:, 3, :, 0] = 1  # a vertical line
    filters[3, :, :, 1] = 1  # a horizontal line
    theirs = tf.nn.conv2d(images, filters, strides=1, padding="SAME").numpy()

    ours_filters = load_filters("vertical,horizontal", channels=3)
    np.testing.assert_array_equal(ours_filters, filters)
    ours_images = np.stack([load_sample("china"), load_sample("flower")])
    np.testing.assert_allclose(ours_images, images, rtol=0, atol=1e-7)
    ours = feature_maps(ours_images, ours_filters)
    assert ours.shape == theirs.shape == (2, 427, 640, 2)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_agrees_with_tensorflow(name: str, stride: Any, padding: str) -> None:
    tf = pytest.importorskip("tensorflow")
    images = load_sample("bundled")[None]
    filters = load_filters(name, channels=3)
    theirs = tf.nn.conv2d(images, filters.astype(np.float32), stride, padding.upper()).numpy()
    ours = feature_maps(images, filters, stride=stride, padding=padding)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


# Filters


@pytest.mark.parametrize("name", ["edge", "sobel", "emboss", "blur", "sharpen", "identity"])
def test_weights_add_up(name: str) -> None:
    """Edges vanish where a picture is flat; the others leave its brightness alone."""
    total = load_filters(name, channels=1).sum(axis=(0, 1, 2))
    np.testing.assert_array_equal(total, 0 if name in ("edge", "sobel") else 1)


@pytest.mark.parametrize(
    "text",
    ["1 2 3\n4 5 6\n", "1,2,3\n4,5,6", "\ufeff1; 2; 3\r\n\r\n4; 5; 6\r\n", "# no\n1\t2 3\n4 5 6#"],
)
def test_reads_a_matrix_from_text(here: Path, text: str) -> None:
    Path("k.csv").write_bytes(text.encode())
    filters = load_filters("k.csv", channels=2)
    assert filters.shape == (2, 3, 2, 1)
    for channel in range(2):
        np.testing.assert_array_equal(filters[:, :, channel, 0], [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_reads_numpy_arrays(here: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(5).normal(size=shape)
    np.save("k.npy", array)
    filters = load_filters("k.npy", channels=4)
    assert filters.shape == (2, 3, 4, shape[3] if len(shape) == 4 else 1)
    if len(shape) == 4:
        np.testing.assert_array_equal(filters, array)


def npy(header: str) -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "'k' is empty"),
        (b"# nothing\n", "'k' is empty"),
        (b"1 2\n3\n", "'k', line 2: 1 numbers, the rows above have 2"),
        (b"1 2\n3 x\n", "'k', line 2: '3 x' is not a row of numbers"),
        (b"1,,2\n", "line 1: '1,,2' is not a row"),
        (b"1 nan\n", "finite numbers"),
        (b"1e999\n", "finite numbers"),
        (b"\xff\xfe\x00", "neither text nor a NumPy array"),
        (b"1 " * 2**20, "larger than 1,048,576 bytes"),
        (b"\x93NUMPY\x01", "cannot be read"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), "cannot be read"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999)}"), "be read"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3)}"), "k' "),
        (npy("{'descr': '|S1', 'fortran_order': False, 'shape': (1, 2)}") + b"ab", "real numbers"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}") + b"ab", "has shape"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 2)}") + b"ab", "3 channels"),
    ],
)
def test_refuses_a_kernel_file(here: Path, content: bytes, message: str) -> None:
    Path("k").write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        load_filters("k", channels=3)
    assert "\n" not in str(error.value)


def test_refuses_a_kernel_that_is_none(here: Path) -> None:
    with pytest.raises(
        UsageError, match=r"neither a file nor one of vertical.*did you mean 'blur'"
    ):
        load_filters("blurr", channels=3)
    with pytest.raises(UsageError, match="is a directory"):
        load_filters(".", channels=3)
    with pytest.raises(UsageError, match="differ in size: 7x7, 3x3"):
        load_filters("vertical,sobel", channels=3)


# Pictures


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)],
)
def test_channels_of_a_picture(here: Path, mode: str, channels: int) -> None:
    Image.new(mode, (4, 3), 1).save("p.png")
    pixels = load_image(Path("p.png"))
    assert pixels.shape == (3, 4, channels)
    assert pixels.dtype == np.float32


def test_pixels_are_divided_by_their_largest_value(here: Path) -> None:
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save("8.png")
    Image.fromarray(np.array([[0, 13107, 65535]], np.uint16)).save("16.png")
    for name in ("8.png", "16.png"):
        np.testing.assert_allclose(load_image(Path(name))[..., 0], [[0, 0.2, 1]], rtol=1e-7)


def test_pixels_of_32_bits_are_refused(here: Path) -> None:
    for mode, value in (("F", 0.5), ("I", 70000)):
        Image.new(mode, (2, 2), value).save("p.tiff")
        with pytest.raises(UsageError, match="32 bits"):
            load_image(Path("p.tiff"))


def test_a_photograph_is_turned_upright(here: Path) -> None:
    photo = Image.new("RGB", (4, 2))
    exif = photo.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    photo.save("p.jpg", exif=exif)
    assert load_image(Path("p.jpg")).shape == (4, 2, 3)


def test_reads_an_open_file(picture: Path) -> None:
    np.testing.assert_array_equal(load_image(io.BytesIO(picture.read_bytes())), load_image(picture))


def test_refuses_a_huge_picture(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (50, 10):  # 54 pixels: Pillow warns from the limit on, and fails from its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UsageError, match=f"has more than {limit} pixels"):
            load_image(picture)


def test_bundled_sample_is_what_the_script_draws(here: Path) -> None:
    stored = resources.files("convcalc").joinpath("data", "sample.png").read_bytes()
    assert len(stored) < 20_000
    script = Path(__file__).parent.parent / "scripts" / "draw_sample.py"
    drawn = np.asarray(runpy.run_path(str(script))["draw"]())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), drawn)
    assert load_sample("bundled").shape == (128, 192, 3)


def test_display_runs_from_black_to_white() -> None:
    ramp = encode_png(np.array([[-2.0, 0.0], [1.0, 2.0]]))
    assert grey(io.BytesIO(ramp)).tolist() == [[0, 128], [191, 255]]
    flat = encode_png(np.full((2, 2), 7.0))
    assert grey(io.BytesIO(flat)).tolist() == [[0, 0], [0, 0]]


def test_refuses_weights_that_leave_float32() -> None:
    with pytest.raises(UsageError, match="range of float32"):
        feature_maps(np.ones((1, 2, 2, 1)), np.full((1, 1, 1, 1), 1e300))


# The command


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ([], [1, 6, 9, 1]),
        (["--kernel", "sobel", "--feature", "1"], [1, 6, 9, 2]),
        (["--kernel", "edge", "--padding", "valid"], [1, 4, 7, 1]),
        (["-k", "edge", "--stride", "2"], [1, 3, 5, 1]),
        (["-k", "edge", "--stride", "1,2,3,1", "--padding", "valid"], [1, 2, 3, 1]),
        (["-k", "edge", "--padding", "0,1,2,3"], [1, 5, 12, 1]),
        (["-k", "edge", "--padding", "2"], [1, 8, 11, 1]),
    ],
)
def test_writes_the_feature_map(
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    shape: list[int],
) -> None:
    code, out, err = run(capsys, monkeypatch, picture.name, "--output", "f.png", *options)
    assert (code, out) == (0, "")
    assert err.startswith("wrote f.png")
    assert err.count("\n") == 1
    assert grey("f.png").shape == (shape[1], shape[2])

    code, out, _ = run(capsys, monkeypatch, picture.name, "--json", *options)
    assert code == 0
    report = json.loads(out)
    assert report["input_shape"] == [1, 6, 9, 3]
    assert report["output_shape"] == shape
    assert report["output"] == "feature.png"
    assert Path("feature.png").read_bytes() == Path("f.png").read_bytes()


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sample: str
) -> None:
    if sample != "bundled":
        pytest.importorskip("sklearn")
    code, out, err = run(capsys, monkeypatch, "--sample", sample, "--stride", "4")
    assert (code, out) == (0, "")
    assert "wrote feature.png" in err
    written = grey("feature.png")
    assert (written.min(), written.max()) == (0, 255)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either an image file or --sample"),
        (["picture.png", "--sample", "bundled"], "give either an image file or --sample"),
        (["--sample", "chna"], "unknown sample 'chna': expected .*did you mean 'china'"),
        (["none.png"], "no such file: 'none.png'"),
        (["."], "'.' is a directory"),
        (["text.png"], "'text.png' is not an image; known formats: PNG"),
        (["empty.png"], "'empty.png' is not an image"),
        (["broken.png"], "'broken.png' cannot be read: "),
        (["picture.png", "-k", "vertical", "--padding", "valid"], "kernel of 7 .* input of 6"),
        (["picture.png", "-k", "unheard"], "neither a file nor one of"),
        (["picture.png", "--stride", "0"], "--stride '0'"),
        (["picture.png", "--stride", "2,1,1,1"], "must be 1"),
        (["picture.png", "--stride", "1x2x3"], "stride has 3 values for 2 axes"),
        (["picture.png", "--padding", "full"], "--padding 'full' must be same, valid"),
        (["picture.png", "--padding", "1,2"], "4 are needed"),
        (["picture.png", "--padding", "9" * 30], "is the most that is computed"),
        (["picture.png", "--feature", "1"], "makes 1 feature map"),
        (["picture.png", "--feature", "-1"], "makes 1 feature map"),
        (["picture.png", "--output", "f.jpg"], "must end in .png"),
        (["picture.png", "--output", "picture.png"], "would overwrite the picture itself"),
        (["picture.png", "--output", "none/f.png"], "cannot write 'none/f.png': No such file"),
    ],
)
def test_refuses(
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    Path("text.png").write_text("not a picture")
    Path("empty.png").touch()
    Path("broken.png").write_bytes(picture.read_bytes()[:80])
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not Path("feature.png").exists()


def test_says_which_extra_is_missing(
    picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert issubclass(imaging.MissingScikitLearn, MissingExtra)
    code, _, err = run(capsys, monkeypatch, "--sample", "china")
    assert code == 5
    assert "pip install scikit-learn" in err

    monkeypatch.setitem(sys.modules, "PIL", None)
    for arguments in ([picture.name], ["--sample", "bundled"], ["--sample", "china"]):
        code, _, err = run(capsys, monkeypatch, *arguments)
        assert code == 5
        assert "pip install 'convcalc[images]'" in err
