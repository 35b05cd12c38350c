"""A served page and a browser, which fails a test at whatever a person would see in its console.

Needs Debian's Chromium (or the one that CONVCALC_CHROMIUM names); skipped without.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from service_server import Live, serving

playwright = pytest.importorskip("playwright.sync_api")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = os.environ.get("CONVCALC_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

#: Kept by the page until a test looks: what the policy refused.
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}`);
});
"""


@pytest.fixture(scope="session")
def site() -> Iterator[Live]:
    """The service, which serves the page."""
    with serving() as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, for one file: while its driver runs, no other can be started."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set CONVCALC_CHROMIUM")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


class Watched:
    """A page, and what went wrong on it so far."""

    def __init__(self, page: Any, origin: str) -> None:
        self.page, self.origin = page, origin
        self.troubles: list[str] = []
        self.requests: list[Any] = []
        self.expected: tuple[str, ...] = ()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.origin, "blob:", "data:")):
            self.troubles.append(f"off the origin: {request.url}")

    def check(self) -> None:
        """Nothing went wrong but what the test expects."""
        left = [
            trouble
            for trouble in self.troubles
            if not any(expected in trouble for expected in self.expected)
        ]
        assert left == []
        assert self.page.evaluate("window.violations") == []


@contextmanager
def pages(browser: Any, port: int) -> Iterator[Callable[..., Any]]:
    """open("#/layer", width=390, color_scheme="dark"): pages, watched until the end."""
    contexts: list[Any] = []
    watched: list[Watched] = []
    origin = f"http://127.0.0.1:{port}"

    def opened(fragment: str = "", width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            permissions=["clipboard-read", "clipboard-write"],
            accept_downloads=True,
            **options,
        )
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.add_init_script(WATCH)
        page.watch = Watched(page, origin)
        watched.append(page.watch)
        page.goto(f"{origin}/{fragment}")
        return page

    try:
        yield opened
        for watch in watched:
            watch.check()
    finally:
        for context in contexts:
            context.close()


@pytest.fixture
def open_page(browser: Any, site: Live) -> Iterator[Callable[..., Any]]:
    """Pages for one test; nothing may go wrong on them that it does not expect."""
    with pages(browser, site.port) as opened:
        yield opened


@pytest.fixture(scope="module")
def open_shared(browser: Any, site: Live) -> Iterator[Callable[..., Any]]:
    """Pages for the tests of one file, where only addresses change."""
    with pages(browser, site.port) as opened:
        yield opened


@pytest.fixture
def accessible() -> Any:
    """accessible(page): axe finds nothing to say about the page as it stands."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any) -> None:
        # Transitions would be looked at half way.
        page.wait_for_timeout(350)
        found = axe.run(page).response["violations"]
        assert [
            (each["id"], [(node["target"], node["failureSummary"]) for node in each["nodes"]])
            for each in found
        ] == []

    return check
