"""What the page weighs, and how long it takes by Chromium's own trace.

The bounds on time are loose: they are to hold on a busy machine.  docs/page.md has figures, made by
`python tests/web/test_weight.py http://127.0.0.1:8000`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

#: The page's own marks of a trace, in the order in which they come.
MARKS = ("firstPaint", "firstContentfulPaint", "largestContentfulPaint::Candidate")


def visit(browser: Any, address: str) -> dict[str, Any]:
    """A first visit, until the numbers stand there; times in milliseconds from its start.

    `layout_shift` is the sum that browsers call cumulative layout shift; `blocking` the time beyond
    50 ms of each task of the main thread; `typed` the median from a key to its number on the page,
    `drawn` from the answer's last byte.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    # The process that draws has to be there for its events to be in the trace.
    page.goto(f"{address}livez")
    finished: list[Any] = []
    page.on("requestfinished", lambda request: finished.append(request))
    kinds = ["devtools.timeline", "loading", "toplevel", "blink.user_timing"]
    browser.start_tracing(page=page, categories=kinds)
    page.goto(address)
    page.wait_for_selector(".results[aria-busy=false]:not(.stale)")
    answer = page.evaluate("performance.now()")
    page.wait_for_timeout(300)
    sizes = [request.sizes()["responseBodySize"] for request in list(finished)]
    events = json.loads(browser.stop_tracing())["traceEvents"]
    typed, drawn = page.evaluate(
        """async () => {
        const field = document.querySelector('.field-filters input');
        const shown = () => document.querySelector('[data-quantity=params] .value').textContent;
        const typed = [], drawn = [];
        for (let filters = 300; filters < 320; filters += 1) {
          const before = shown();
          const start = performance.now();
          field.value = String(filters);
          field.dispatchEvent(new Event('input', { bubbles: true }));
          while (shown() === before) await new Promise(requestAnimationFrame);
          const now = performance.now();
          typed.push(now - start);
          await new Promise((resolve) => setTimeout(resolve, 20));
          drawn.push(now - performance.getEntriesByType('resource').at(-1).responseEnd);
        }
        return [typed, drawn].map((times) => times.sort((a, b) => a - b)[10]);
        }"""
    )
    context.close()
    begun = next(
        event
        for event in events
        if event["name"] == "navigationStart"
        and event["args"].get("data", {}).get("documentLoaderURL") == address
    )
    start = begun["ts"]
    named = {name: [e for e in events if e["name"] == name and e["ts"] >= start] for name in MARKS}
    tasks = [
        event
        for event in events
        if event["name"] == "ThreadControllerImpl::RunTask"
        and (event["pid"], event["tid"]) == (begun["pid"], begun["tid"])
        and event["ts"] >= start
    ]
    shifts = [event["args"]["data"]["score"] for event in events if event["name"] == "LayoutShift"]
    return {
        "requests": len(sizes),
        "bytes": sum(sizes),
        **{name.split("::")[0]: (found[-1]["ts"] - start) / 1000 for name, found in named.items()},
        "numbers": answer,
        "typed": typed,
        "drawn": drawn,
        "layout_shift": sum(shifts),
        "blocking": sum(max(task.get("dur", 0) / 1000 - 50, 0) for task in tasks),
    }


def test_the_first_visit_is_light(browser: Any, site: Any) -> None:
    """Everything for the first view: bytes as they stand in the repository, requests, times."""
    found = visit(browser, f"http://127.0.0.1:{site.port}/")
    assert found["requests"] <= 32
    assert found["bytes"] <= 200_000
    assert found["firstContentfulPaint"] <= found["largestContentfulPaint"]
    assert found["firstContentfulPaint"] < 3000
    assert found["numbers"] < 6000
    assert found["typed"] < 1000
    assert found["drawn"] < 500
    assert found["layout_shift"] < 0.25


if __name__ == "__main__":
    from conftest import CHROMIUM, FLAGS
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        print(json.dumps([visit(chromium, sys.argv[1]) for _ in range(5)], indent=1))
        chromium.close()
