"""Seconds until the Parameters and Layers pages show what is stored, on a warm server, from the click on the page's link.

`python -m benchmarks.pages [--runs 5]` prints a table and writes benchmarks/results/pages.json. "page" is when the page's
first row says what was judged on, "view" when the view under it has drawn, "figures" when the charts below have.
"""

import argparse
import os
import statistics
import urllib.parse

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.measure import Row, write
from benchmarks.start_up import FLAGS, serving

BOUND = 0.3
"""Seconds between "page" and "view"."""

REASON = "most of it is the browser's, which mounts the view and draws; this machine's speed changes by a third from hour to hour"

MODELS = ("digits-vp-dpi", "mixture2d-flow-dpi")
VIEWS = {
    "Parameters": "[data-part=headline][data-db]",
    "Layers": ".layers [data-part=detail]:not([data-layer=''])[data-layer]",
}
"""What each page has once its view has drawn."""

WATCH = """([link, view]) => new Promise((resolve, reject) => {
  const roots = () => [document, ...[...document.querySelectorAll("*")].map((e) => e.shadowRoot).filter(Boolean)];
  const find = (selector) => roots().flatMap((root) => [...root.querySelectorAll(selector)]);
  const shown = {
    page: () => find("[data-testid=stCaptionContainer]").some((caption) => /judged on/i.test(caption.textContent)),
    view: () => find(view).length > 0,
    figures: () => find(".js-plotly-plot .main-svg").length > 0,
  };
  const began = performance.now();
  const found = {};
  const look = () => {
    for (const [name, is] of Object.entries(shown)) if (!(name in found) && is()) found[name] = performance.now() - began;
    if (Object.keys(found).length === 3) resolve(found);
    else if (performance.now() - began > 60000) reject(new Error(`only ${Object.keys(found)} came within 60 s`));
    else requestAnimationFrame(look);
  };
  [...document.querySelectorAll("a")].find((a) => a.textContent.trim() === link).click();
  requestAnimationFrame(look);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    with serving("app/main.py") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        found = {
            f"{page}, {model}": [opened(browser, server.url, page, model) for _ in range(options.runs + 1)][1:]
            for page in VIEWS
            for model in options.models
        }
        browser.close()
    report(found)


def opened(browser: Browser, url: str, name: str, model: str) -> dict[str, float]:
    """Opens the start page as a new visitor, then the page by its link; seconds after the click."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"{url}/?{urllib.parse.urlencode({'model': model})}")
    page.wait_for_selector('[data-panel="denoised"] canvas[data-k]', timeout=60_000)
    wait_until_idle(page)
    milliseconds = page.evaluate(WATCH, [name, VIEWS[name]])
    page.close()
    return {key: value / 1000 for key, value in milliseconds.items()}


def wait_until_idle(page: Page) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_timeout(500)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    rows = []
    for name, runs in found.items():
        after = [run["view"] - run["page"] for run in runs]
        whole = {key: statistics.median(run[key] for run in runs) for key in ("page", "view", "figures")}
        beside = ", ".join(f"{key} {value:.2f} s" for key, value in whole.items())
        rows.append(Row(f"{name}: view after page", after, "s", BOUND, f"medians: {beside}", REASON))
    for row in rows:
        print(f"{row.what}: {row.median:.2f} s, bound {BOUND} s; {row.beside}")
    write("pages", "Pages on a warm server", rows)


if __name__ == "__main__":
    main()
