"""The view Network, used as a person would; its numbers are the command line's."""

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
from convcalc import zoo
from convcalc.cli import app
from convcalc.readers.source import load_source
from convcalc.readers.spec import read_spec
from convcalc.settings import DTYPES, ENGINES, OPTIMIZERS, REMATS

READY = ".network-results[aria-busy=false]"
COLUMNS = ["#", "Layer", "Type", "Output", "Params", "MACs", "Output size", "At the peak", "Sees"]


def cli(*words: str) -> Any:
    """What a command says with --json."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        app([*words, "--json"], standalone_mode=False)
    return json.loads(out.getvalue())


def ready(page: Any) -> None:
    """Until the answer stands there."""
    page.wait_for_selector(READY)


def settled(page: Any, act: Callable[[], Any]) -> None:
    """Do something that asks the service, and wait for its answer."""
    with page.expect_response(lambda response: "/v1/memory" in response.url):
        act()
    ready(page)


def total(page: Any, name: str) -> str:
    return str(page.locator(f"[data-total={name}] .also").inner_text())


def copied(page: Any, form: str) -> str:
    page.get_by_role("button", name=f"Copy the layers as {form}").click()
    page.wait_for_timeout(50)
    return str(page.evaluate("navigator.clipboard.readText()"))


def field(page: Any, name: str) -> Any:
    return page.locator(f".inspector [data-field='{name}']").first


def row(page: Any, layer: str) -> Any:
    return page.locator(f".layers tr[data-layer='{layer}']")


def state(page: Any) -> Any:
    """What the address holds, unpacked as a link would be."""
    page.wait_for_timeout(300)
    return page.evaluate(
        "async () => (await (await import('./core/state.js')).decode(location.hash)).state"
    )


@pytest.fixture(scope="module")
def shared(open_shared: Any) -> Callable[[str], Any]:
    """shared(query): one page for many networks, gone to by its address."""
    page = open_shared("#/network")
    ready(page)

    def gone(query: str) -> Any:
        if page.evaluate("location.hash") != f"#/network?{query}":
            settled(page, lambda: page.evaluate(f"location.hash = '#/network?{query}'"))
        return page

    return gone


@pytest.mark.parametrize(
    ("network", "batch", "engine", "mode"),
    [
        ("lenet5", "32", "tensorflow-xla", "training"),
        ("resnet50", "7", "torch", "training"),
        ("mobilenetv2", "3", "tensorflow", "inference"),
    ],
)
def test_numbers_are_the_command_lines(
    shared: Callable[[str], Any], network: str, batch: str, engine: str, mode: str
) -> None:
    """Every cell of the table, the totals, and every point of the timeline."""
    page = shared(f"zoo={network}&batch={batch}&engine={engine}&mode={mode}&optimizer=momentum")
    report = cli("analyze", network, "--batch", batch, "--optimizer", "momentum")
    words = ("--batch", batch, "--engine", engine, "--mode", mode, "--optimizer", "momentum")
    profile = cli("memory", network, *words)
    answer = json.loads(copied(page, "JSON"))
    for key in ("layers", "totals", "memory"):
        assert answer[key] == report[key]
    assert answer["profile"] == profile
    assert total(page, "params") == f"{report['totals']['params']:,}"
    assert total(page, "macs") == f"{report['totals']['macs']:,}"
    lines = [line.split(",") for line in copied(page, "CSV").splitlines()]
    assert lines[0] == COLUMNS
    peaks = {each["layer"]: each["bytes"] for each in profile["layers"]}
    for number, (line, layer) in enumerate(zip(lines[1:], report["layers"], strict=True), 1):
        sizes = "x".join(map(str, layer["output_shape"]))
        assert line[:4] == [str(number), layer["name"], layer["type"], sizes]
        counted = [layer["params"], layer["macs"], layer["output_bytes"]]
        assert [int(cell) for cell in line[4:8]] == [*counted, peaks.get(layer["name"], 0)]
    chart = page.locator(".timeline")
    chart.focus()
    chart.press("p")
    assert chart.get_attribute("aria-valuenow") == str(profile["peak_step"])
    assert chart.get_attribute("aria-valuemax") == str(len(profile["steps"]) - 1)
    page.get_by_text("The peak as tables").click()
    shown = page.locator(".timeline-box details table").first.locator("tbody tr")
    shown.first.wait_for()
    exact = {
        cells[0]: int(cells[2].replace(",", ""))
        for cells in (line.split("\t") for line in shown.all_inner_texts())
    }
    at_peak = {kind: amounts[profile["peak_step"]] for kind, amounts in profile["bytes"].items()}
    assert exact == at_peak
    page.get_by_text("The peak as tables").click()


def test_markdown_sorts_and_units(shared: Callable[[str], Any]) -> None:
    page = shared("zoo=lenet5")
    page.get_by_text("exact", exact=True).click()
    page.get_by_role("button", name="Params").click()
    lines = copied(page, "Markdown").splitlines()
    params = [int(line.split(" | ")[4].replace(",", "")) for line in lines[2:]]
    layers = zoo.load("lenet5")
    counted = [layer.params for layer in convcalc.analyze(layers).layers]
    assert params == sorted(counted, reverse=True)
    assert page.locator(".layers th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Params").click()
    assert page.locator(".layers th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="#").click()


def test_choosers_know_what_the_library_knows(shared: Callable[[str], Any]) -> None:
    page = shared("zoo=lenet5")
    found = page.evaluate(
        """import('./views/network/settings.js')
        .then((m) => [m.DTYPES, m.OPTIMIZERS, m.ENGINES, m.REMATS])"""
    )
    assert found == [
        list(DTYPES),
        list(OPTIMIZERS),
        [engine for engine in ENGINES if engine != "textbook"],
        list(REMATS),
    ]
    options = page.locator(".start select option").evaluate_all("(all) => all.map((o) => o.value)")
    assert set(options) - {""} == set(zoo.index())
    assert page.locator(".field-device option").count() > 20


def test_folds_by_block(shared: Callable[[str], Any]) -> None:
    page = shared("zoo=resnet50")
    page.get_by_role("button", name="Fold by block").click()
    blocks = page.locator(".block-row")
    assert blocks.first.locator("button").get_attribute("aria-expanded") == "false"
    report = convcalc.analyze(zoo.load("resnet50"))
    inside = [each for each in report.layers if each.name.startswith("conv2_block1_")]
    first = page.locator(".block-row", has_text="conv2_block1")
    assert f"{len(inside)} layers" in first.inner_text()
    page.get_by_text("exact", exact=True).click()
    assert f"{sum(each.params for each in inside):,}" in first.inner_text()
    first.locator("button").click()
    assert row(page, "conv2_block1_1_conv").count() == 1
    page.get_by_text("MB", exact=True).click()
    page.get_by_role("button", name="Fold by block").click()


def test_row_bar_node_and_timeline_light_up_together(shared: Callable[[str], Any]) -> None:
    page = shared("zoo=lenet5")
    row(page, "conv_2").hover()
    assert "hovered" in page.locator(".graph [data-layer=conv_2]").get_attribute("class")
    assert page.locator(".timeline .highlight rect").count() >= 2
    assert page.locator(".bars .band.hover").get_attribute("display") == "inline"
    page.locator(".graph [data-layer=dense_1]").click()
    assert row(page, "dense_1").get_attribute("class").split() == ["hovered", "kept"]
    assert page.locator(".inspector h3").inner_text() == "dense_1"
    assert state(page)["layer"] == "dense_1"
    chart = page.locator(".timeline")
    chart.focus()
    chart.press("Home")
    chart.press("ArrowRight")
    assert "conv_1" in chart.get_attribute("aria-valuetext")
    assert "hovered" in row(page, "conv_1").get_attribute("class")
    chart.press("Enter")
    assert page.locator(".inspector h3").inner_text() == "conv_1"


def test_typing_changes_shapes_and_says_a_mistake_at_its_layer(open_page: Any) -> None:
    page = open_page("#/network?zoo=lenet5&layer=conv_2")
    page.watch.expected = ("status of 422",)
    ready(page)
    settled(page, lambda: field(page, "filters").fill("20"))
    spec = zoo.spec("lenet5")
    spec["layers"][3]["conv"]["filters"] = 20
    report = convcalc.analyze(read_spec(spec), batch=32)
    assert total(page, "params") == f"{report.totals.params:,}"
    assert "32 × 10 × 10 × 20" in row(page, "conv_2").inner_text()
    field(page, "kernel").fill("99")
    wrong = row(page, "conv_2")
    page.wait_for_selector(".layers tr.wrong")
    assert page.locator(".layers tr.wrong").count() == 1
    assert "a kernel of 99" in wrong.inner_text()
    assert "a kernel of 99" in page.locator(".inspector .problem").inner_text()
    assert field(page, "kernel").input_value() == "99"
    assert "conv_2" in page.locator(".network-results > section > .problem").first.inner_text()
    field(page, "kernel").fill("three")
    page.locator(".inspector .problem", has_text="integer").wait_for()
    assert field(page, "kernel").input_value() == "three"
    settled(page, lambda: field(page, "kernel").fill("5"))
    assert page.locator(".layers tr.wrong").count() == 0
    assert total(page, "params") == f"{report.totals.params:,}"


def test_building_from_nothing_and_going_back(open_page: Any) -> None:
    """Add, duplicate, move, delete; each step is one of the browser's history, and a link."""
    page = open_page("#/network")
    ready(page)
    settled(page, lambda: page.get_by_role("button", name="Empty", exact=True).click())
    kinds = page.get_by_label("Kind of the new layer")
    for kind in ("max_pool", "flatten", "dense"):
        kinds.select_option(kind)
        settled(page, lambda: page.get_by_role("button", name="Add below").click())
    settled(page, lambda: field(page, "units").fill("5"))

    def names() -> list[str]:
        return [str(name) for name in page.locator(".layers .layer-name").all_inner_texts()]

    assert names() == ["conv_1", "max_pool_1", "flatten_1", "dense_1"]
    page.locator("[data-go=max_pool_1]").focus()
    page.keyboard.press("Enter")
    settled(page, lambda: page.get_by_role("button", name="Duplicate").click())
    assert names() == ["conv_1", "max_pool_1", "max_pool_2", "flatten_1", "dense_1"]
    assert "32 × 7 × 7 × 8" in row(page, "max_pool_2").inner_text()
    page.locator("[data-go=conv_1]").focus()
    settled(page, lambda: page.keyboard.press("Alt+ArrowDown"))
    assert names()[:2] == ["max_pool_1", "conv_1"]
    assert "32 × 14 × 14 × 8" in row(page, "conv_1").inner_text()
    spec = state(page)["spec"]
    assert read_spec(spec).outputs == ("dense_1",)
    params = convcalc.analyze(read_spec(spec)).totals.params
    assert params == 80 + 7 * 7 * 8 * 5 + 5
    assert total(page, "params") == f"{params:,}"
    page.locator("[data-go=max_pool_2]").focus()
    settled(page, lambda: page.keyboard.press("Delete"))
    assert names() == ["max_pool_1", "conv_1", "flatten_1", "dense_1"]
    assert page.evaluate("document.activeElement.dataset.go") == "flatten_1"
    page.wait_for_timeout(250)
    settled(page, page.go_back)
    assert "max_pool_2" in names()
    settled(page, page.go_forward)
    assert "max_pool_2" not in names()
    page.reload()
    ready(page)
    assert names() == ["max_pool_1", "conv_1", "flatten_1", "dense_1"]


def test_editing_keeps_a_branched_network_whole(shared: Callable[[str], Any]) -> None:
    """Whatever is duplicated, moved within a chain or left out, ResNet-18 can still be counted."""
    page = shared("zoo=lenet5")
    spec = zoo.spec("resnet18")
    made = page.evaluate(
        """async (raw) => {
        const m = await import('./views/network/spec.js');
        const spec = m.normal(raw);
        const layers = m.layersOf(spec);
        const at = (name) => layers.findIndex((each) => each.name === name);
        const found = layers.map((each, index) => m.insert(spec, index, 'activation').spec);
        const chain = layers.findIndex((each, index) => index > 8 && each.kind === 'batch_norm');
        return {
          inserted: found,
          duplicated: layers.map((each, index) =>
            (each.kind === 'batch_norm' ? m.duplicate(spec, index).spec : spec)),
          removed: layers.map((each, index) =>
            (['batch_norm', 'activation'].includes(each.kind) ? m.remove(spec, index) : spec)),
          swapped: m.swap(m.swap(spec, chain), chain),
          layers: layers.map((each) => [each.name, each.kind]),
        };
        }""",
        spec,
    )
    params = convcalc.analyze(read_spec(spec)).totals.params
    for changed in made["inserted"]:
        assert convcalc.analyze(read_spec(changed)).totals.params == params
    for changed, (_, kind) in zip(made["duplicated"], made["layers"], strict=True):
        more = convcalc.analyze(read_spec(changed)).totals.params - params
        assert (more > 0) == (kind == "batch_norm")
    for changed, (name, kind) in zip(made["removed"], made["layers"], strict=True):
        left = convcalc.analyze(read_spec(changed))
        assert (name in [layer.name for layer in left.layers]) != (
            kind in ("batch_norm", "activation")
        )
    assert read_spec(made["swapped"]) == read_spec(spec)


def test_paste(open_page: Any) -> None:
    """Code that cannot be read is said and kept; then it can."""
    code = (
        "nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), "
        "nn.Linear(3600, 10))"
    )
    page = open_page("#/network")
    page.watch.expected = ("status of 422",)
    ready(page)
    page.get_by_role("button", name="Paste …").click()
    area = page.get_by_label("Keras or PyTorch code")
    area.fill("nn.Sequential(nn.Conv2d(")
    page.get_by_role("button", name="Read it").click()
    page.wait_for_selector(".start .problem:not([hidden])")
    assert area.input_value() == "nn.Sequential(nn.Conv2d("
    area.fill(code)
    page.get_by_label("Input: height x width x channels").fill("32x32x3")
    settled(page, lambda: page.get_by_role("button", name="Read it").click())
    report = convcalc.analyze(load_source(code, input=(32, 32, 3)), batch=32)
    assert total(page, "params") == f"{report.totals.params:,}"
    assert total(page, "macs") == f"{report.totals.macs:,}"


def test_upload_of_a_file(open_page: Any, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        "input: [20, 20, 3]\n"
        "layers:\n  - conv: {filters: 4, kernel: 3}\n  - flatten\n  - dense: 3\n"
    )
    page = open_page("#/network")
    ready(page)
    settled(page, lambda: page.locator(".start input[type=file]").set_input_files(str(file)))
    params = convcalc.analyze(convcalc.load(file)).totals.params
    assert total(page, "params") == f"{params:,}"
    assert page.locator(".start select").input_value() == ""


def test_link_is_short_for_the_zoo_and_survives(open_page: Any) -> None:
    page = open_page("#/network?zoo=vgg16&engine=torch")
    ready(page)
    settled(page, lambda: page.get_by_label("Batch", exact=True).fill("5"))
    page.wait_for_timeout(250)
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_timeout(100)
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.endswith("#/network?zoo=vgg16&engine=torch&batch=5")
    peak = page.locator("[data-total=peak] .value").inner_text()
    page.goto("about:blank")
    page.goto(link)
    ready(page)
    assert page.locator("[data-total=peak] .value").inner_text() == peak
    assert page.get_by_label("Batch", exact=True).input_value() == "5"
    page.get_by_label("Batch", exact=True).fill("many")
    assert page.get_by_text("A whole number from 1.").is_visible()
    assert page.get_by_label("Batch", exact=True).get_attribute("aria-invalid") == "true"


def test_takes_along(open_page: Any, tmp_path: Path) -> None:
    page = open_page("#/network?zoo=lenet5")
    ready(page)
    take = page.locator(".take")
    starts = {
        "CSV": b"#,Layer",
        "Markdown": b"| # |",
        "JSON": b"{",
        "SVG": b"<svg",
        "PNG": b"\x89PNG",
    }
    for name, start in starts.items():
        for button in take.get_by_role("button", name=re.compile(f"{name}$")).all():
            if button.inner_text() == "JSON" and "The network as" in str(
                button.locator("xpath=..").inner_text()
            ):
                continue
            with page.expect_download() as download:
                button.click()
            assert Path(download.value.path()).read_bytes().startswith(start)
    take.get_by_role("button", name="Command").click()
    assert take.locator("code").inner_text().startswith("convcalc memory lenet5 --batch 32 ")
    take.get_by_role("button", name="JSON").last.click()
    assert read_spec(json.loads(take.locator("code").inner_text())) == zoo.load("lenet5")


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "vgg16", "googlenet", "mobilenetv2"])
def test_source_is_the_network_or_none(shared: Callable[[str], Any], name: str) -> None:
    """What is written as Keras or PyTorch is read back as the same; else a layer is named."""
    page = shared(f"zoo={name}")
    take = page.locator(".take")
    report = convcalc.analyze(zoo.load(name))
    sizes = tuple(zoo.index()[name]["input"])
    written = []
    for form in ("Keras", "PyTorch"):
        take.get_by_role("button", name=form).click()
        if take.locator(".problem").is_visible():
            continue
        written.append(form)
        text = take.locator("code").text_content()
        again = convcalc.analyze(load_source(text, input=sizes))
        counted = [
            [(layer.params, layer.macs) for layer in each.layers if layer.params]
            for each in (report, again)
        ]
        if name == "lenet5":
            assert again.totals.params == report.totals.params
        else:
            assert counted[0] == counted[1]
        assert again.totals.macs == report.totals.macs
    assert written


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(open_page: Any, accessible: Any, scheme: str) -> None:
    page = open_page("#/network?zoo=lenet5&layer=conv_1", color_scheme=scheme)
    page.watch.expected = ("status of 422",)
    ready(page)
    page.get_by_text("The peak as tables").click()
    page.get_by_text("The connections as a table").click()
    page.get_by_role("button", name="Paste …").click()
    page.get_by_role("button", name="JSON").last.click()
    accessible(page)
    page.locator(".layers .layer-name").nth(1).click()
    field(page, "reads (if not the one before)").fill("nobody")
    page.wait_for_selector(".layers tr.wrong")
    accessible(page)


def test_phone(open_page: Any, accessible: Any) -> None:
    page = open_page("#/network?zoo=resnet50&engine=torch", width=390, height=800)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    accessible(page)


def test_a_thousand_layers_stay_fluid(open_page: Any) -> None:
    """From a key to the next frame, and scrolling; the bounds hold on a busy machine."""
    page = open_page("#/network")
    ready(page)
    layers = [
        {"conv": {"filters": 8, "kernel": 3, "padding": "same"}, "name": f"conv_{number}"}
        for number in range(1, 1001)
    ]
    spec = {"convcalc": 1, "name": "deep", "inputs": {"input": [32, 32, 8]}, "layers": layers}
    file = {
        "name": "deep.json",
        "mimeType": "application/json",
        "buffer": json.dumps(spec).encode(),
    }
    settled(page, lambda: page.locator(".start input[type=file]").set_input_files(file))
    assert total(page, "input") == "1,000 layers"
    assert page.locator(".layers tbody tr").count() < 80
    assert page.locator(".graph .node").count() < 80
    page.locator(".layers .layer-name").nth(3).click()
    times = page.evaluate(TYPED)
    ready(page)
    assert times["typed"] < 400
    assert times["scrolled"] < 400
    page.locator(".layers-box").evaluate("(box) => { box.scrollTop = box.scrollHeight; }")
    page.wait_for_selector("tr[data-layer=conv_1000]")
    page.locator("[data-go=conv_1000]").click()
    page.locator(".inspector h3", has_text="conv_1000").wait_for()
    assert page.locator(".graph [data-layer=conv_1000]").is_visible()


#: Medians in milliseconds: typing a digit until the next frame; scrolling the table by a screen.
TYPED = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];
  const field = document.querySelector('.inspector [data-field=filters]');
  const typed = [];
  for (let filters = 9; filters < 16; filters += 1) {
    const start = performance.now();
    field.value = String(filters);
    field.dispatchEvent(new Event('input', { bubbles: true }));
    await frame();
    typed.push(performance.now() - start);
  }
  const box = document.querySelector('.layers-box');
  const scrolled = [];
  for (let at = 0; at < 9; at += 1) {
    const start = performance.now();
    box.scrollTop += 1500;
    await frame();
    scrolled.push(performance.now() - start);
  }
  return { typed: median(typed), scrolled: median(scrolled) };
}"""
