"""The view Fit, used as a person would; its numbers are the command line's."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convcalc.cli import app
from convcalc.planning.devices import builtin

READY = ".fit-results[aria-busy=false]"


def cli(*words: str) -> Any:
    """What a command says with --json; exit code 1 says that nothing fits."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        app([*words, "--json"], standalone_mode=False)
    return json.loads(out.getvalue())


def ready(page: Any) -> None:
    page.wait_for_selector(READY)


def settled(page: Any, act: Callable[[], Any]) -> None:
    """Do something that asks the service, and wait for its answer."""
    with page.expect_response(lambda response: "/v1/advise" in response.url):
        act()
    ready(page)


def batch(largest: Any) -> str:
    return f"{largest['batch']:,}" if largest else "none"


def bar(page: Any) -> str:
    return str(page.locator(".use").get_attribute("aria-label"))


@pytest.fixture(scope="module")
def shared(open_shared: Any) -> Callable[[str], Any]:
    """shared(query): one page, gone to by its address."""
    page = open_shared("#/fit")
    ready(page)

    def gone(query: str) -> Any:
        if page.evaluate("location.hash") != f"#/fit?{query}":
            settled(page, lambda: page.evaluate(f"location.hash = '#/fit?{query}'"))
        return page

    return gone


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("zoo=resnet18&device=rtx-3060&engine=torch", ("--device", "rtx-3060")),
        ("zoo=vgg16&memory=6GiB&engine=torch", ("--memory", "6GiB")),
        ("zoo=vgg16&memory=100MB&engine=torch", ("--memory", "100MB")),
    ],
)
def test_largest_batches_are_the_command_lines(
    shared: Callable[[str], Any], query: str, words: tuple[str, ...]
) -> None:
    page = shared(query)
    network = query.split("&")[0].removeprefix("zoo=")
    report = cli("fit", network, *words, "--engine", "torch")
    for row in report["fits"]:
        shown = page.locator(f".largest tr[data-mode={row['mode']}]")
        for bound in ("safe", "likely", "hopeful"):
            assert shown.locator(f"[data-bound={bound}]").inner_text() == batch(row[bound])
    training = next(row for row in report["fits"] if row["mode"] == "training")
    fits = bool(training["safe"]) and training["safe"]["batch"] >= 32
    assert page.locator(".verdict strong").inner_text() == (
        "Batch 32 fits." if fits else "Batch 32 does not fit."
    )


def test_every_device_at_a_glance(shared: Callable[[str], Any]) -> None:
    page = shared("zoo=resnet18&device=rtx-3060&engine=torch")
    report = cli("fit", "resnet18", "--engine", "torch")
    rows = {row["title"]: row for row in report["fits"] if row["mode"] == "training"}
    assert 30 < len(rows) <= len(builtin())
    shown = page.locator(".devices tbody tr")
    assert shown.count() == len(rows)
    for line in shown.all():
        title, _, _, safe, hopeful = line.locator("th, td").all_inner_texts()
        assert (safe, hopeful) == (batch(rows[title]["safe"]), batch(rows[title]["hopeful"]))
    assert (
        page.locator(".devices [aria-current]").inner_text()
        == rows["NVIDIA GeForce RTX 3060 12 GB"]["title"]
    )
    with page.expect_download() as download:
        page.locator(".take").get_by_role("button", name="CSV").click()
    lines = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert {line["title"]: line["safe_batch"] for line in lines} == {
        title: str(row["safe"]["batch"]) if row["safe"] else "" for title, row in rows.items()
    }
    settled(page, lambda: page.get_by_role("button", name="NVIDIA GeForce GTX 1650").click())
    assert page.get_by_label("Device", exact=True).input_value() == "gtx-1650"


def test_remedies_are_switched_on(open_page: Any) -> None:
    """One has the advice's figure; two settings together have what the engine needs with both."""
    page = open_page("#/fit?zoo=resnet18&memory=4GiB&batch=256&engine=torch")
    ready(page)
    asked = ("resnet18", "--batch", "256", "--engine", "torch")
    advice = cli("advise", *asked, "--memory", "4GiB")
    remedies = {remedy["name"]: remedy for remedy in advice["remedies"]}
    labels = page.locator(".remedies label").all_inner_texts()
    assert labels == [remedy["change"] for remedy in advice["remedies"]]
    assert advice["plan"]["change"] in page.locator(".plan").inner_text()
    page.get_by_text("The bars as a table").click()

    def figures() -> list[str]:
        row = page.locator(".view-fit details tr", has_text="At the peak").first
        return [str(cell) for cell in row.locator("td").all_inner_texts()]

    def megabytes(number: int) -> str:
        found = page.evaluate(
            "async (n) => (await import('./core/format.js')).bytes(n)", arg=number
        )
        return str(found)

    assert figures() == [megabytes(advice["peak_bytes"])]
    first, second = "lower-precision", "optimizer-sgd"
    page.get_by_label(remedies[first]["change"]).check()
    page.locator(".use-label", has_text=f"With {first}").wait_for()
    assert figures() == [megabytes(advice["peak_bytes"]), megabytes(remedies[first]["peak_bytes"])]
    page.get_by_label(remedies[second]["change"]).check()
    page.locator(".use-label", has_text=f"With {first} + {second}").wait_for()
    after = remedies[first]["after"]
    both = cli("memory", *asked, "--dtype", after["dtype"], "--optimizer", "sgd")
    assert figures()[1] == megabytes(both["prediction"]["peak_bytes"])
    page.wait_for_timeout(250)
    assert page.evaluate("location.hash").endswith("&on=lower-precision,optimizer-sgd")
    said = bar(page)
    page.reload()
    ready(page)
    page.locator(".use-label", has_text=f"With {first} + {second}").wait_for()
    assert bar(page) == said
    assert page.get_by_label(remedies[second]["change"]).is_checked()
    # A change of the network itself is shown alone.
    page.get_by_label(remedies["freeze"]["change"]).check()
    page.locator(".use-label", has_text="With freeze").wait_for()
    assert not page.get_by_label(remedies[first]["change"]).is_checked()
    page.get_by_text("The bars as a table").click()
    assert figures()[1] == megabytes(remedies["freeze"]["peak_bytes"])


def test_typing_a_budget_and_a_batch(open_page: Any) -> None:
    page = open_page("#/fit?engine=torch")
    ready(page)
    memory = page.get_by_label("Memory", exact=True)
    memory.fill("8 parrots")
    assert page.get_by_text("A size such as").is_visible()
    assert memory.get_attribute("aria-invalid") == "true"
    settled(page, lambda: memory.fill("20MB"))
    row = next(
        each
        for each in cli("fit", "lenet5", "--memory", "20MB", "--engine", "torch")["fits"]
        if each["mode"] == "training"
    )
    safe = page.locator("tr[data-mode=training] [data-bound=safe]").inner_text()
    assert safe == batch(row["safe"])
    settled(page, lambda: page.get_by_label("Batch", exact=True).fill(str(row["safe"]["batch"])))
    assert page.locator(".verdict strong").inner_text().endswith(" fits.")
    page.get_by_label("Batch", exact=True).fill(str(10 * row["hopeful"]["batch"]))
    page.locator(".verdict strong", has_text="does not fit").wait_for()


def test_a_network_of_ones_own_goes_from_view_to_view(open_page: Any) -> None:
    page = open_page("#/network")
    page.wait_for_selector(".network-results[aria-busy=false]")
    page.get_by_role("button", name="Empty", exact=True).click()
    page.locator("tr[data-layer=conv_1]").wait_for()
    page.wait_for_selector(".network-results[aria-busy=false]")
    page.get_by_role("link", name="Does it fit my device?").click()
    page.wait_for_selector(READY)
    assert page.locator(".start select").input_value() == ""
    assert "#/fit/z." in page.evaluate("location.hash")
    page.get_by_role("link", name="Where the memory goes").click()
    page.locator("tr[data-layer=conv_1]").wait_for()
    page.go_back()
    page.wait_for_selector(READY)


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 390)], ids=str
)
def test_accessible(open_page: Any, accessible: Any, scheme: str, width: int) -> None:
    query = "zoo=lenet5&memory=1MB&engine=torch&on=optimizer-sgd"
    page = open_page(f"#/fit?{query}", color_scheme=scheme, width=width)
    ready(page)
    page.get_by_text("The bars as a table").click()
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keyboard(open_page: Any) -> None:
    """A remedy by the space bar, and a device by Enter."""
    page = open_page("#/fit?zoo=lenet5&memory=1MB&engine=torch")
    ready(page)
    page.locator(".remedies input").first.focus()
    page.keyboard.press("Space")
    page.locator(".use-label", has_text="With ").wait_for()
    button = page.locator(".devices button").first
    button.focus()
    name = button.inner_text()
    settled(page, lambda: page.keyboard.press("Enter"))
    assert page.locator(".devices [aria-current]").inner_text() == name
