"""Seconds from starting the server to the first picture, cold and for the next visitor.

`python -m benchmarks.start_up [--runs 5]` prints a table and writes benchmarks/results/start_up.json.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from playwright.sync_api import Browser, sync_playwright

from benchmarks.measure import ROOT, Row, write

BOUNDS = {"cold": 4.0, "next visitor": 1.5}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {"cold": [], "next visitor": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        for _ in range(runs):
            cold, following = one_run(browser)
            seconds["cold"].append(cold)
            seconds["next visitor"].append(following)
        browser.close()
    report(seconds)


def one_run(browser: Browser) -> tuple[float, float]:
    """Starts a server, measures the first and the second visitor, stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app/main.py",
        f"--server.port={port}",
        "--server.headless=true",
    ]
    began = time.perf_counter()
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/_stcore/health")
        cold = first_picture(browser, url) - began
        time.sleep(10)  # the engine's warm-up is over
        began = time.perf_counter()
        return cold, first_picture(browser, url) - began
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


def first_picture(browser: Browser, url: str) -> float:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(url)
    page.wait_for_selector('[data-panel="denoised"] canvas[data-k]', timeout=60_000)
    seen = time.perf_counter()
    page.close()
    return seen


def report(seconds: dict[str, list[float]]) -> None:
    rows = [Row(f"first picture, {name}", values, "s", BOUNDS[name]) for name, values in seconds.items()]
    for row in rows:
        print(f"{row.what}: {row.median:.2f} s ({min(row.values):.2f} to {max(row.values):.2f}), bound {row.bound} s")
    write("start_up", "First picture in a browser", rows)


if __name__ == "__main__":
    main()
