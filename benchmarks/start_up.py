"""Seconds from starting the server to the first picture, cold and for the next visitor; beside it Streamlit's share.

`python -m benchmarks.start_up [--runs 5]` prints a table and writes benchmarks/results/start_up.json. Streamlit's share is
what a page of one line takes in the same browser, which has kept nothing of an earlier visit.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from benchmarks.measure import ROOT, Row, write

BOUNDS = {"cold": 4.0, "next visitor": 1.5}
ONE_LINE = "Streamlit's page of one line, next visitor"
PICTURE = '[data-panel="denoised"] canvas[data-k]'
SHOWN = """selector => [document, ...[...document.querySelectorAll("*")].map((element) => element.shadowRoot)].some(
  (root) => root?.querySelector(selector)?.checkVisibility()
)"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {"cold": [], "next visitor": [], ONE_LINE: []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        for _ in range(runs):
            cold, following = one_run(browser)
            seconds["cold"].append(cold)
            seconds["next visitor"].append(following)
            seconds[ONE_LINE].append(one_line(browser))
        browser.close()
    report(seconds)


def one_run(browser: Browser) -> tuple[float, float]:
    """Starts a server, measures the first and the second visitor, stops it."""
    began = time.perf_counter()
    with serving("app/main.py") as server:
        cold = seconds_until(browser, server.url, PICTURE, began)
        time.sleep(10)  # the engine's warm-up is over
        return cold, seconds_until(browser, server.url, PICTURE)


def one_line(browser: Browser) -> float:
    """What a page of one line takes for its second visitor."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "one_line.py"
        script.write_text('import streamlit as st\n\nst.title("One line")\n')
        with serving(str(script)) as server:
            seconds_until(browser, server.url, "h1")
            return seconds_until(browser, server.url, "h1")


class Server(NamedTuple):
    """A running app."""

    url: str
    pid: int


@contextmanager
def serving(script: str, **environment: str) -> Iterator[Server]:
    """A server of its own, once it answers; with more variables in its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--server.port={port}", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", script, *options]
    where = {"cwd": ROOT, "env": os.environ | environment}
    server = subprocess.Popen(command, **where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/_stcore/health")
        yield Server(url, server.pid)
    finally:
        server.terminate()
        server.wait(10)


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer within 30 s")


def seconds_until(browser: Browser, url: str, selector: str, began: float | None = None) -> float:
    """From a moment, by default now, until a new visitor sees an element."""
    began = time.perf_counter() if began is None else began
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(url)
    # Looked for in every frame of the browser: `wait_for_selector` looks again after half a second only.
    page.wait_for_function(SHOWN, arg=selector, polling="raf", timeout=60_000)
    seen = time.perf_counter()
    page.close()
    return seen - began


def report(seconds: dict[str, list[float]]) -> None:
    share = f"Streamlit's own page of one line takes {statistics.median(seconds[ONE_LINE]):.2f} s of it"
    rows = [
        Row(f"first picture, {name}", seconds[name], "s", bound, reason=f"{share}; the rest is ours")
        for name, bound in BOUNDS.items()
    ]
    rows.append(Row(ONE_LINE, seconds[ONE_LINE], "s"))
    for row in rows:
        bound = "" if row.bound is None else f", bound {row.bound} s"
        print(f"{row.what}: {row.median:.2f} s ({min(row.values):.2f} to {max(row.values):.2f}){bound}")
    write("start_up", "First picture in a browser", rows)


if __name__ == "__main__":
    main()
