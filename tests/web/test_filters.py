"""The view Filters, used as a person would; its maps are the command line's, pixel by pixel."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convcalc.cli import app
from convcalc.imaging import FILTERS

WEB = Path(__file__).parents[2] / "web"


def ready(page: Any) -> None:
    page.wait_for_selector(".filter-results[aria-busy=false]:not(.stale)")


def by_cli(folder: Path, *words: str) -> Any:
    """What `convcalc filter` writes, as pixels."""
    file = folder / "map.png"
    app(["filter", *words, "--output", str(file)], standalone_mode=False)
    return np.asarray(Image.open(file))


def shown(page: Any) -> Any:
    """The feature map, as it is saved from the page."""
    with page.expect_download() as waited:
        page.get_by_role("button", name="Feature map as PNG").click()
    return np.asarray(Image.open(io.BytesIO(Path(waited.value.path()).read_bytes())))


def test_the_page_has_the_command_lines_filters_and_sample(browser: Any, open_page: Any) -> None:
    """What is written down twice is the same."""
    page = open_page("#/filters")
    found = page.evaluate("import('/views/filters/kernels.js').then((module) => module.KERNELS)")
    named = {name: maps[0] for name, maps in FILTERS.items() if len(maps) == 1}
    assert found.keys() == named.keys()
    for name, matrix in named.items():
        assert np.array_equal(np.array(found[name]), np.array(matrix)), name
    sample = resources.files("convcalc").joinpath("data", "sample.png").read_bytes()
    assert (WEB / "views" / "filters" / "sample.png").read_bytes() == sample


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "--sample bundled --kernel vertical"),
        ("?kernel=horizontal&stride=2&padding=valid", "--kernel horizontal --stride 2"),
        ("?kernel=blur&stride=3x2&padding=4", "--kernel blur --stride 3x2 --padding 4"),
        ("?kernel=edge&padding=0,5,1,2", "--kernel edge --padding 0,5,1,2"),
    ],
)
def test_links_give_the_command_lines_map(
    open_page: Any, tmp_path: Path, query: str, words: str
) -> None:
    page = open_page(f"#/filters{query}")
    ready(page)
    options = words.split()
    if "--sample" not in options:
        options += ["--sample", "bundled"]
    if "valid" in query:
        options += ["--padding", "valid"]
    wanted = by_cli(tmp_path, *options)
    found = shown(page)
    assert np.array_equal(found, wanted)
    assert page.locator("figcaption").all_inner_texts()[1] == (
        f"Feature map {wanted.shape[0]} × {wanted.shape[1]}"
    )


def test_a_kernel_is_drawn_and_typed(open_page: Any, tmp_path: Path) -> None:
    """Drag, keys, numbers; the link, a reload and the way back keep it."""
    page = open_page("#/filters")
    ready(page)
    page.get_by_label("Filter", exact=True).select_option("Identity")
    page.locator("figcaption", has_text="Feature map 128 × 192").wait_for()
    sizes = page.get_by_label("Size", exact=True)
    sizes.first.select_option("3")
    sizes.last.select_option("3")
    cells = page.locator(".weights input")
    assert cells.count() == 9
    first, last = cells.nth(0).bounding_box(), cells.nth(2).bounding_box()
    page.mouse.move(first["x"] + 9, first["y"] + 9)
    page.mouse.down()
    page.mouse.move(last["x"] + 9, last["y"] + 9, steps=6)
    page.mouse.up()
    page.wait_for_url(lambda url: "kernel=1,1,1%3B0,1,0%3B0,0,0" in url)
    assert page.get_by_label("Filter", exact=True).input_value() == "own"
    cells.nth(6).focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_text("Typing").click()
    cells.nth(8).fill("-2.5")
    page.wait_for_url(lambda url: "%3B1,0,-2.5" in url)
    ready(page)
    kernel = tmp_path / "filter.csv"
    with page.expect_download() as waited:
        page.get_by_role("button", name="Filter as CSV").click()
    kernel.write_bytes(Path(waited.value.path()).read_bytes())
    assert kernel.read_text().split() == ["1,1,1", "0,1,0", "1,0,-2.5"]
    wanted = by_cli(tmp_path, "--sample", "bundled", "--kernel", str(kernel))
    assert np.array_equal(shown(page), wanted)
    page.reload()
    ready(page)
    assert np.array_equal(shown(page), wanted)
    assert cells.nth(8).input_value() == "-2.5"


def test_stride_and_padding_as_one_changes_them(open_page: Any) -> None:
    page = open_page("#/filters")
    ready(page)
    caption = page.locator("figcaption").last
    page.get_by_label("Stride", exact=True).focus()
    page.keyboard.press("ArrowUp")
    caption.filter(has_text="64 × 96").wait_for()
    page.get_by_label("Padding", exact=True).select_option("valid (none)")
    caption.filter(has_text="61 × 93").wait_for()
    page.get_by_label("Padding", exact=True).select_option("custom …")
    page.get_by_label("Zeros on each side").fill("10")
    caption.filter(has_text="71 × 103").wait_for()
    page.go_back()
    page.go_back()
    caption.filter(has_text="61 × 93").wait_for()
    ready(page)
    page.get_by_role("link", name="Count this as a layer").click()
    page.locator("[data-quantity=shape] .value", has_text="1 × 61 × 93 × 1").wait_for()


def test_mistakes_are_said_where_they_are(open_page: Any) -> None:
    page = open_page("#/filters")
    ready(page)
    page.watch.expected = ("422",)
    stride = page.get_by_label("Stride", exact=True)
    stride.fill("fast")
    page.locator(".error", has_text="Enter one number, or 2 joined by x").wait_for()
    assert stride.get_attribute("aria-invalid") == "true"
    stride.fill("1")
    ready(page)
    page.get_by_text("Typing").click()
    page.locator(".weights input").first.fill("x")
    page.locator(".editor .error", has_text="a number in each cell").wait_for()


def test_a_picture_of_ones_own(open_page: Any, tmp_path: Path) -> None:
    """A file from the disk, grey, is filtered as the command line filters it."""
    pixels = np.random.default_rng(5).integers(0, 256, (40, 30), np.uint8)
    file = tmp_path / "grey.png"
    Image.fromarray(pixels).save(file)
    page = open_page("#/filters?kernel=emboss&stride=1&padding=same")
    ready(page)
    page.locator("input[type=file]").set_input_files(file)
    page.locator("figcaption", has_text="Feature map 40 × 30").wait_for()
    ready(page)
    assert np.array_equal(shown(page), by_cli(tmp_path, str(file), "--kernel", "emboss"))
    assert "Links hold the filter" in page.locator("form").inner_text()
    page.get_by_role("button", name="Bundled picture").click()
    page.locator("figcaption", has_text="Feature map 128 × 192").wait_for()


def test_what_is_no_picture_is_refused_in_place(open_page: Any, tmp_path: Path) -> None:
    file = tmp_path / "words.png"
    file.write_text("no picture")
    page = open_page("#/filters")
    ready(page)
    page.watch.expected = ("422",)
    page.locator("input[type=file]").set_input_files(file)
    page.locator(".problem", has_text="is not an image").wait_for()


def test_the_neuron_is_told_by_pointer_and_keys(open_page: Any, tmp_path: Path) -> None:
    """Its brightness is the pixel of the command line's map."""
    page = open_page("#/filters?neuron=0,0")
    ready(page)
    wanted = by_cli(tmp_path, "--sample", "bundled", "--kernel", "vertical")
    says = page.locator(".says")
    assert f"Neuron (0, 0): brightness {wanted[0, 0]} of 255" in says.inner_text()
    assert "rows 0 to 3 and columns 0 to 3" in says.inner_text()
    target = page.get_by_role("application")
    target.focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowRight")
    assert f"Neuron (40, 1): brightness {wanted[40, 1]} of 255" in says.inner_text()
    assert "rows 37 to 43 and columns 0 to 4" in says.inner_text()
    page.wait_for_url(lambda url: url.endswith("neuron=40,1"))


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280)])
def test_it_is_accessible_in_both_themes(
    open_page: Any, accessible: Callable[[Any], None], scheme: str, width: int
) -> None:
    page = open_page("#/filters", width=width, color_scheme=scheme)
    ready(page)
    accessible(page)
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
