"""Photograph the page for the docs.

`python scripts/page_pictures.py http://127.0.0.1:8000 [NAME ...]` needs a running `convcalc serve`
and Debian's Chromium.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
SMALL = "input=9x12x3&filters=8&kernel=4&stride=3&padding=valid&neuron=1,1"
UNEVEN = "input=8x12x1&filters=3&kernel=4&stride=1&padding=same&neuron=0,0"

#: Name: (fragment, width, height, theme, the part to show; none for the window).
VIEWS = {
    "layer": ("#/layer", 1700, 1000, "light", None),
    "layer-phone": ("#/layer", 390, 844, "dark", None),
    "layer-valid": (f"#/layer?{SMALL}", 1100, 900, "light", ".picture-panel"),
    "layer-same": (f"#/layer?{UNEVEN}", 1100, 900, "dark", ".picture-panel"),
    "filters": ("#/filters?neuron=105,150", 1300, 860, "light", None),
}


def main(address: str, *names: str) -> None:
    """Write docs/images/page-NAME.png for the named views, or for all."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for name in names or VIEWS:
            fragment, width, height, theme, part = VIEWS[name]
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
            page.goto(f"{address}/{fragment}", wait_until="networkidle")
            page.wait_for_timeout(500)
            shot = (page.locator(part) if part else page).screenshot()
            # A palette is enough, and a quarter of the bytes.
            method = Image.Quantize.MAXCOVERAGE
            picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(255, method)
            picture.save(IMAGES / f"page-{name}.png", optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
