"""/docs in a browser under its policy.  Needs Debian's Chromium; skipped without."""

from __future__ import annotations

import os
import shutil

import pytest
from service_server import Live

playwright = pytest.importorskip("playwright.sync_api")

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CHROMIUM = os.environ.get("CONVCALC_CHROMIUM") or shutil.which("chromium")


def test_the_documentation_keeps_to_its_policy(service: Live) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set CONVCALC_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        elsewhere: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.add_init_script(
            "window.refused = []; document.addEventListener('securitypolicyviolation', (event) => {"
            " window.refused.push(event.violatedDirective + ' ' + event.blockedURI); });"
        )
        page.goto(f"{service.base_url}/docs")
        page.get_by_role("button", name="POST /v1/conv Conv").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.get_by_text("Server response").wait_for()
        page.get_by_text("225000000").first.wait_for()
        refused = page.evaluate("window.refused")
        browser.close()
    assert not refused
    assert not said
    own = (str(service.base_url).rstrip("/"), "data:", "blob:")
    assert all(url.startswith(own) for url in elsewhere)
