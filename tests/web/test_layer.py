"""The view Layer, used as a person would; its numbers are the command line's."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convcalc
from convcalc.cli import app
from convcalc.readers.source import load_source

SETTINGS = {
    "book": "input=150x100x3&filters=200&kernel=5&stride=1&padding=same",
    "uneven": "input=8x12x1&filters=3&kernel=4&stride=1&padding=same",
    "strided": "input=9x12x3&filters=8&kernel=4x3&stride=3x2&padding=valid",
    "dilated": "input=14x18x8&filters=8&kernel=3&stride=1&padding=same&dilation=2&groups=4",
    "sides": "input=20x21x4&filters=6&kernel=5x2&stride=2&padding=1,2,0,3&batch=7&dtype=float16",
    "lower": "input=8x9x2&filters=2&kernel=4&stride=3&padding=same_lower",
    "causal": "input=160x16&filters=32&kernel=3&stride=1&padding=causal&dilation=8",
    "video": "input=16x28x28x3&filters=32&kernel=3&stride=2x1x2&padding=same&bias=false",
    "depthwise": "input=30x31x8&filters=16&kernel=3&stride=2&padding=same&depthwise=true",
    "transposed": "input=6x8x16&filters=8&kernel=3&stride=2&padding=same&transposed=true",
    "wide": "input=6x8x4&filters=8&kernel=2&stride=3&padding=valid&transposed=true",
    "cropped": "input=6x8x4&filters=8&kernel=5&stride=3&padding=1,2,0,3&transposed=true",
    "first": "input=30x20x3&filters=4&kernel=3&stride=1&padding=same&layout=nchw",
}
OPTIONS = {"depthwise": "--depthwise", "transposed": "--transposed"}


def cli(query: str, *more: str) -> dict[str, Any]:
    """What `convcalc conv --json` says of a link."""
    words = ["conv", "--json", "--explain", *more]
    for key, value in (part.split("=") for part in query.split("&")):
        if key == "bias":
            words.append("--no-bias")
        elif key in OPTIONS:
            words.append(OPTIONS[key])
        else:
            words += [f"--{key}", value]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        app(words, standalone_mode=False)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def ready(page: Any) -> None:
    """Until the answer stands there."""
    page.wait_for_selector(".results[aria-busy=false]:not(.stale)")


def value(page: Any, quantity: str) -> str:
    """The number beside a name, as it reads."""
    text = page.locator(f"[data-quantity={quantity}] .value").evaluate(
        "(node) => node.firstChild.textContent"
    )
    return str(text)


def formulas(page: Any, quantity: str) -> list[tuple[str, str]]:
    """(in symbols, in numbers) of each formula."""
    shown = page.locator(f"[data-quantity={quantity}] .sum")
    texts = shown.evaluate_all(
        """(nodes) => nodes.map((node) =>
        [node.querySelector('.symbols'), node.querySelector('.with-values')].map((part) => {
          const copy = part.cloneNode(true);
          for (const sub of copy.querySelectorAll('sub')) sub.prepend('_');
          return copy.textContent;
        }))"""
    )
    return [tuple(part.replace(" × ", " x ").replace("−", "-") for part in both) for both in texts]


def source(page: Any, name: str) -> str:
    """The layer as it is written for others."""
    page.get_by_role("button", name=name, exact=True).click()
    return str(page.locator(".source code").inner_text())


@pytest.fixture(scope="module")
def tour(open_shared: Any) -> Callable[[str], Any]:
    """tour(query): one page for many layers, gone to by its address as a link on it would."""
    page = open_shared("#/layer")
    ready(page)

    def visit(query: str) -> Any:
        with page.expect_response("**/v1/conv"):
            page.evaluate(f"location.hash = '#/layer?{query}'")
        ready(page)
        return page

    return visit


@pytest.mark.parametrize("query", SETTINGS.values(), ids=SETTINGS)
def test_the_numbers_are_those_of_the_command_line(tour: Callable[[str], Any], query: str) -> None:
    """Every number and every formula; the sources describe the same layer."""
    page = tour(query)
    report = cli(query)
    layer, steps = report["layers"][0], report["derivation"]
    assert value(page, "shape") == " × ".join(map(str, layer["output_shape"]))
    assert value(page, "params") == f"{layer['params']:,}"
    assert value(page, "macs") == f"{layer['macs']:,}"
    assert value(page, "flops") == f"{layer['flops']:,}"
    assert f"{layer['output_bytes']:,}" in page.locator("[data-quantity=bytes]").inner_text()
    assert value(page, "field") == " × ".join(map(str, layer["receptive_field"]["size"]))

    at = [step["quantity"] for step in steps].index("output shape")
    wanted = {"shape": steps[:at], "params": [], "macs": [], "bytes": [], "field": []}
    for step in steps:
        for key, start in (
            ("params", "parameters"),
            ("macs", "multiplications"),
            ("bytes", "output bytes"),
            ("field", "receptive field"),
        ):
            if step["quantity"].startswith(start):
                wanted[key].append(step)
    for key, found in wanted.items():
        assert formulas(page, key) == [(step["symbols"], step["values"]) for step in found]

    dense = {step["quantity"]: step["result"] for step in steps}
    shown = page.locator("[data-quantity=dense-weights]").inner_text()
    assert shown == f"{dense['weights of a fully connected layer instead']:,}"
    assert page.locator("[data-quantity=dense-times]").inner_text() == (
        f"{dense['times as many parameters as here']:,}"
    )


@pytest.mark.parametrize("query", SETTINGS.values(), ids=SETTINGS)
def test_the_neuron_sees_what_the_command_line_says(tour: Callable[[str], Any], query: str) -> None:
    """At the corners and in the middle, the picture's words are --neuron's."""
    report = cli(query)
    shape = report["layers"][0]["output_shape"]
    sizes = shape[2:] if "nchw" in query else shape[1:-1]
    for place in ([0 for _ in sizes], [n // 2 for n in sizes], [n - 1 for n in sizes]):
        text = ",".join(map(str, place))
        page = tour(f"{query}&neuron={text}")
        said = page.locator(".says").inner_text()
        assert said.startswith(f"Neuron ({', '.join(map(str, place))}) sees ")
        steps = cli(query, "--neuron", text)["derivation"]
        step = next(step for step in steps if step["quantity"].startswith("neuron"))
        # The page says "row 2" where the command line says "rows 2 to 2".
        seen = re.sub(r"(row|column|plane|position)s (\d+) to \2\b", r"\1 \2", step["result"])
        assert said.split(" sees ")[1].split(".")[0] == seen
        sums = re.findall(r"p = (.+?) = (−?-?\d+)", page.locator(".sums").inner_text())
        firsts = [step for step in steps if re.fullmatch(r"first \w+ seen", step["quantity"])]
        if "transposed" not in query:
            assert [
                (values.replace("×", "x").replace("−", "-"), int(first)) for values, first in sums
            ] == [(step["values"], step["result"]) for step in firsts]


def run_torch(text: str, layer: dict[str, Any]) -> list[int]:
    """The shape that PyTorch makes of the input named in the source, channels last."""
    torch = pytest.importorskip("torch")
    scope: dict[str, Any] = {}
    exec(text, scope)
    sizes = re.search(r"# input: ([\d x]+)", text)
    assert sizes
    made = scope["model"](torch.zeros([int(size) for size in sizes[1].split(" x ")]))
    assert sum(each.numel() for each in scope["model"].parameters()) == layer["params"]
    return list(made.movedim(1, -1).shape)


@pytest.mark.parametrize("query", SETTINGS.values(), ids=SETTINGS)
def test_sources_describe_the_same_layer(tour: Callable[[str], Any], query: str) -> None:
    """Keras', PyTorch's and the command line, read again, give the same numbers."""
    page = tour(query)
    report = cli(query)
    layer = report["layers"][0]
    words = source(page, "Command line").split()
    assert words[:2] == ["convcalc", "conv"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        app([*words[1:], "--json"], standalone_mode=False)
    assert json.loads(out.getvalue()) == report

    dims = tuple(report["inputs"][0]["shape"][1:])
    dims = (*dims[1:], dims[0]) if "nchw" in query else dims
    for name in ("Keras", "PyTorch"):
        text = source(page, name)
        if name == "PyTorch" and "-" in text.partition("Pad")[2]:
            # A crop; not read by convcalc, but by PyTorch.
            assert run_torch(text, layer) == layer["output_shape"]
            continue
        network = load_source(text, input=dims)
        read = convcalc.analyze(network, batch=report["settings"]["batch"])
        assert read.totals.params == layer["params"], text
        assert read.totals.macs == layer["macs"], text
        shape = list(read.layers[-1].output_shape)
        if (name == "PyTorch") != ("nchw" in query):
            shape = [shape[0], *shape[2:], shape[1]] if name == "PyTorch" else shape
        assert shape == layer["output_shape"], text


def test_typing_changes_numbers_address_and_history(open_page: Any) -> None:
    """A field is an entry of the history; back and forward, and a reload, show what was there."""
    page = open_page()
    ready(page)
    assert value(page, "params") == "15,200"
    assert value(page, "bytes").replace("\xa0", " ") == "12 MB"
    page.get_by_label("Filters", exact=True).fill("64")
    page.locator("[data-quantity=params] .value", has_text="4,864").wait_for()
    page.get_by_label("Kernel", exact=True).fill("3x1")
    page.locator("[data-quantity=params] .value", has_text="640").wait_for()
    assert page.url.endswith("#/layer?input=150x100x3&filters=64&kernel=3x1&stride=1&padding=same")
    page.reload()
    ready(page)
    assert value(page, "params") == "640"
    assert page.get_by_label("Kernel", exact=True).input_value() == "3x1"
    page.go_back()
    page.locator("[data-quantity=params] .value", has_text="4,864").wait_for()
    assert page.get_by_label("Kernel", exact=True).input_value() == "5"
    page.go_forward()
    page.locator("[data-quantity=params] .value", has_text="640").wait_for()


def test_the_arrow_keys_count_in_fields(open_page: Any) -> None:
    page = open_page()
    ready(page)
    page.get_by_label("Stride", exact=True).focus()
    page.keyboard.press("ArrowUp")
    page.locator("[data-quantity=shape] .value", has_text="1 × 75 × 50 × 200").wait_for()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert page.get_by_label("Stride", exact=True).input_value() == "1"


def test_examples_are_reached_by_keys(open_page: Any) -> None:
    """Down, down, down: one example after the other, each without a mistake."""
    page = open_page()
    ready(page)
    examples = page.get_by_label("Examples", exact=True)
    assert examples.input_value() == "book"
    seen = []
    for _ in range(9):
        examples.focus()
        with page.expect_response("**/v1/conv") as waited:
            page.keyboard.press("ArrowDown")
        assert waited.value.ok
        ready(page)
        seen.append(examples.input_value())
    assert seen[0] == "small"
    assert len(set(seen)) == 9
    page.get_by_label("Filters", exact=True).fill("3")
    assert examples.input_value() == ""


def test_dimensions_padding_and_kinds(open_page: Any) -> None:
    """From 2D to 1D and 3D; custom padding; depthwise, transposed."""
    page = open_page()
    ready(page)
    page.get_by_role("radio", name="3D").check()
    page.locator("[data-quantity=shape] .value", has_text="1 × 16 × 150 × 100 × 200").wait_for()
    page.get_by_role("radio", name="1D").check()
    page.locator("[data-quantity=shape] .value", has_text="1 × 100 × 200").wait_for()
    page.get_by_role("radio", name="2D").check()
    page.locator("[data-quantity=shape] .value", has_text="1 × 100 × 100 × 200").wait_for()
    page.get_by_label("Padding", exact=True).select_option("custom …")
    page.get_by_label("Added on each side").fill("1,2,3,4")
    page.locator("[data-quantity=shape] .value", has_text="1 × 99 × 103 × 200").wait_for()
    page.get_by_label("Padding", exact=True).select_option("same")
    page.get_by_label("Filters", exact=True).fill("6")
    page.get_by_label("Depthwise", exact=True).check()
    page.locator("[data-quantity=params] .value", has_text="156").wait_for()
    page.get_by_label("Depthwise", exact=True).uncheck()
    page.get_by_label("Transposed", exact=True).check()
    page.get_by_label("Bias", exact=True).uncheck()
    page.locator("[data-quantity=params] .value", has_text="450").wait_for()
    page.wait_for_url(lambda url: url.endswith("&padding=same&transposed=true&bias=false"))


def test_mistakes_are_said_at_their_field_and_kept(open_page: Any) -> None:
    """Own checks and the service's refusals; the numbers before them stay, dimmed."""
    page = open_page()
    ready(page)
    page.watch.expected = ("422",)
    kernel = page.get_by_label("Kernel", exact=True)
    kernel.fill("5x")
    page.locator(".field-kernel .error", has_text="Enter one number, or 2 joined by x").wait_for()
    assert kernel.get_attribute("aria-invalid") == "true"
    assert page.locator(".results").evaluate("(node) => node.classList.contains('stale')")
    assert value(page, "params") == "15,200"
    page.get_by_label("Padding", exact=True).select_option("valid (none)")
    kernel.fill("101")
    error = page.locator(".field-kernel .error", has_text="does not fit an input of 100")
    error.wait_for()
    assert kernel.get_attribute("aria-describedby") == error.get_attribute("id")
    page.get_by_label("Groups", exact=True).fill("2")
    kernel.fill("3")
    page.locator(".field-groups .error:not(:empty)").wait_for()
    page.get_by_label("Height", exact=True).fill("zwölf")
    page.locator(".field-input .error", has_text="whole numbers").wait_for()
    page.reload()
    page.locator(".field-input .error", has_text="whole numbers").wait_for()
    assert page.get_by_label("Height", exact=True).input_value() == "zwölf"
    page.get_by_label("Height", exact=True).fill("12")
    page.get_by_label("Groups", exact=True).fill("1")
    ready(page)
    assert value(page, "shape") == "1 × 10 × 98 × 200"


def test_an_absent_service_is_said_and_asked_again(open_page: Any) -> None:
    page = open_page()
    ready(page)
    page.watch.expected = ("ERR_FAILED", "Failed to load resource")
    page.route("**/v1/conv", lambda route: route.abort())
    page.get_by_label("Filters", exact=True).fill("10")
    page.locator("#away", has_text="does not answer").wait_for()
    assert page.get_by_label("Filters", exact=True).input_value() == "10"
    assert page.locator(".results").evaluate("(node) => node.classList.contains('stale')")
    page.unroute("**/v1/conv")
    page.locator("[data-quantity=params] .value", has_text="760").wait_for()
    page.locator("#away").wait_for(state="hidden")


def test_the_first_paint_waits_for_nobody(open_page: Any, browser: Any) -> None:
    """With a service that never answers, the form is there, and what is missing is said."""
    page = open_page("#/filters")
    page.watch.expected = ("Failed to load resource", "ERR_FAILED")
    page.route("**/v1/**", lambda route: None)
    page.get_by_role("link", name="Layer").click()
    page.get_by_label("Kernel", exact=True).wait_for()
    assert "as soon as the service answers" in page.locator(".results").inner_text()
    page.unroute_all(behavior="ignoreErrors")


def test_only_the_last_question_counts(open_page: Any) -> None:
    """An answer that comes late does not replace that to a later question."""
    page = open_page()
    ready(page)
    held: list[Any] = []
    page.route("**/v1/conv", lambda route: held.append(route) if not held else route.continue_())
    page.get_by_label("Filters", exact=True).fill("10")
    page.wait_for_timeout(150)
    assert len(held) == 1
    page.get_by_label("Filters", exact=True).fill("20")
    page.locator("[data-quantity=params] .value", has_text="1,520").wait_for()
    with contextlib.suppress(Exception):
        held[0].continue_()
    page.wait_for_timeout(100)
    assert value(page, "params") == "1,520"


def test_the_picture_follows_pointer_and_keys(open_page: Any) -> None:
    """Hovering shows, clicking and arrow keys choose; the choice is in the link."""
    page = open_page("#/layer?input=9x12x3&filters=8&kernel=4&stride=3&padding=valid&neuron=0,0")
    ready(page)
    says = page.locator(".says")
    assert says.inner_text() == "Neuron (0, 0) sees rows 0 to 3, columns 0 to 3."
    assert page.locator(".picture .ignored").count() == 2
    picture = page.locator("svg.picture")
    picture.scroll_into_view_if_needed()
    output = page.locator(".picture .edge-result").bounding_box()
    page.mouse.move(output["x"] + output["width"] - 3, output["y"] + output["height"] - 3)
    assert says.inner_text() == "Neuron (1, 2) sees rows 3 to 6, columns 6 to 9."
    page.mouse.move(5, 5)
    assert "(0, 0)" in says.inner_text()
    picture.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "Neuron (1, 1) sees rows 3 to 6, columns 3 to 6" in says.inner_text()
    page.wait_for_url(lambda url: url.endswith("neuron=1,1"))
    page.keyboard.press("End")
    assert "(1, 2)" in says.inner_text()
    page.get_by_role("button", name="Step through").click()
    says.filter(has_not_text="(1, 2)").wait_for()
    page.get_by_role("button", name="Stop").click()


def test_uneven_padding_is_drawn(open_page: Any) -> None:
    """SAME with a kernel of 4: one row above, two below; the table says it too."""
    page = open_page(f"#/layer?{SETTINGS['uneven']}")
    ready(page)
    labels = page.locator(".picture > .note").all_text_contents()
    assert sorted(labels) == ["+1", "+1", "+2", "+2"]
    padded = page.locator(".picture .padding").bounding_box()
    inner = page.locator(".picture .edge").bounding_box()
    cell = inner["height"] / 8
    assert round((inner["y"] - padded["y"]) / cell) == 1
    assert round((padded["height"] - inner["height"]) / cell) == 3
    page.get_by_text("The picture as a table").click()
    cells = page.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells == ["8", "1", "2", "4", "1", "4", "1", "8", "0"]


def test_large_maps_are_drawn_to_scale(open_page: Any) -> None:
    """Few elements, however many cells; both maps to one scale."""
    page = open_page("#/layer?input=4000x3000x3&filters=8&kernel=7&stride=2&padding=same")
    ready(page)
    before = page.locator(".picture .edge").bounding_box()
    after = page.locator(".picture .edge-result").bounding_box()
    assert before["width"] / after["width"] == pytest.approx(2, rel=0.02)
    assert before["height"] / before["width"] == pytest.approx(4 / 3, rel=0.02)
    assert page.locator(".picture *").count() < 80


def test_integers_beyond_javascript_are_exact(open_page: Any) -> None:
    """The fully connected layer's weights pass 2^53 soon."""
    query = "input=4001x3001x64&filters=67&kernel=3&stride=1&padding=same"
    page = open_page(f"#/layer?{query}")
    ready(page)
    steps = {step["quantity"]: step["result"] for step in cli(query)["derivation"]}
    weights = steps["weights of a fully connected layer instead"]
    assert weights > 2**53
    assert page.locator("[data-quantity=dense-weights]").inner_text() == f"{weights:,}"


def test_exports(open_page: Any, tmp_path: Path) -> None:
    """CSV and Markdown are the command line's; JSON is its report; pictures are pictures."""
    page = open_page()
    ready(page)

    def saved(name: str) -> bytes:
        with page.expect_download() as waited:
            page.get_by_role("button", name=name, exact=True).click()
        return Path(waited.value.path()).read_bytes()

    words = [
        "conv",
        "--input",
        "150x100x3",
        "--filters",
        "200",
        "--kernel",
        "5",
        "--padding",
        "same",
    ]
    file = tmp_path / "layer.csv"
    app([*words, "--format", "csv", "--output", str(file)], standalone_mode=False)
    assert saved("CSV").decode().split() == file.read_text().split()
    head, rule, row, *_ = saved("Markdown").decode().splitlines()
    assert set(rule) <= set("|-: ")
    cells = dict(zip(head.split("|"), row.split("|"), strict=True))
    assert {name.strip(): cell.strip() for name, cell in cells.items()}["params"] == "15,200"
    found = json.loads(saved("JSON"))
    assert found == cli(SETTINGS["book"])
    svg = saved("SVG").decode()
    assert svg.startswith("<svg ")
    assert "class=" not in svg
    assert "Input 150 × 100" in svg
    assert saved("PNG").startswith(b"\x89PNG")


def test_links_and_sources_are_copied(open_page: Any) -> None:
    page = open_page()
    ready(page)
    page.get_by_label("Filters", exact=True).press_sequentially("7")
    page.get_by_role("button", name="Copy link").click()
    page.locator("#toast", has_text="Copied.").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("#/layer?input=150x100x3&filters=7200&kernel=5&stride=1&padding=same")
    page.get_by_role("button", name="Copy", exact=True).click()
    page.wait_for_timeout(100)
    assert "import keras" in page.evaluate("navigator.clipboard.readText()")


def test_help_stands_beside_each_term(open_page: Any) -> None:
    """A button by each term opens a note; Escape closes it."""
    page = open_page()
    ready(page)
    button = page.get_by_role("button", name="What is “Dilation”?")
    button.click()
    note = page.get_by_role("note").filter(has_text="distance between the cells")
    note.wait_for()
    page.keyboard.press("Escape")
    note.wait_for(state="hidden")
    assert page.locator("button.help").count() >= 17


def test_broken_links_start_afresh(open_page: Any) -> None:
    page = open_page("#/layer/z.AAAA")
    ready(page)
    page.locator("#toast", has_text="This link is incomplete").wait_for()
    assert value(page, "params") == "15,200"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_it_is_accessible_in_both_themes(
    open_page: Any, accessible: Any, scheme: str, width: int
) -> None:
    """axe, with everything open and an error shown; nothing is wider than the window."""
    page = open_page(f"#/layer?{SETTINGS['uneven']}", width=width, color_scheme=scheme)
    ready(page)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    page.locator("[data-quantity=params] .value", has_text="51").wait_for()
    accessible(page)
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    page.get_by_label("Filters", exact=True).fill("x")
    page.locator(".field-filters .error:not(:empty)").wait_for()
    # What is dimmed, because it no longer holds, may be faint.
    page.evaluate("document.querySelector('.results').remove()")
    accessible(page)


def test_the_theme_is_chosen_and_remembered(open_page: Any) -> None:
    page = open_page(color_scheme="light")
    ready(page)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Theme: as the system").click()
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(paper) != light
    page.reload()
    assert page.get_by_role("button", name="Theme: dark").is_visible()
    assert page.evaluate(paper) != light


def test_the_keyboard_comes_to_the_content_at_once(open_page: Any) -> None:
    """The first stop skips the bar, and leaves the address alone."""
    page = open_page(f"#/layer?{SETTINGS['video']}", reduced_motion="reduce")
    ready(page)
    address = page.url
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.url == address
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    # Motion is off for those who asked for none.
    assert page.evaluate("getComputedStyle(document.querySelector('.toast')).transition") in (
        "none",
        "none 0s ease 0s",
        "none 0s",
    )


def test_planes_are_reached_by_keys(open_page: Any) -> None:
    """3D: Page down goes a plane on; a strip shows the planes."""
    page = open_page(f"#/layer?{SETTINGS['video']}&neuron=0,0,0")
    ready(page)
    page.locator("svg.picture").focus()
    page.keyboard.press("PageDown")
    assert (
        page.locator(".says")
        .inner_text()
        .startswith("Neuron (1, 0, 0) sees planes 2 to 4, rows 0 to 1, columns 0 to 2.")
    )
    assert page.locator(".picture .neuron").count() == 2
