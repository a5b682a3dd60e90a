"""`python docs/pictures.py [NAME …]`: takes the guide's pictures anew, from the real app in a real browser.

Only data that ship with the project may be seen on them: digits, the mixture, and what the models make themselves.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("pictures")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 600_000
"""Milliseconds to wait for what is computed: the machine may be slow."""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        query: the page and what is chosen on it.
        ready: a locator of what has to be seen before the picture is taken.
        size: of the window, in CSS pixels.
    """

    query: str
    ready: str
    size: tuple[int, int] = (1280, 800)


SHOTS = {
    "denoise": Shot("?model=digits-vp-dpi&t=0.3", "[data-panel=denoised] canvas[data-k]"),
    "parameters": Shot("parameters?model=digits-vp-dpi&t=0.3", "[data-part=headline][data-db]"),
    "layers": Shot("layers?model=digits-vp-dpi&t=0.3", ".layers[data-s] .row >> nth=0"),
    "trajectories": Shot(
        "trajectories?model=mixture2d-flow-dpi&t=0.35&steps_a=8&steps_b=8",
        ".column canvas[data-k] >> nth=0",
        (1280, 900),
    ),
    "fashion": Shot("trajectories?model=fashion-flow-dpi&t=0&runs=1&steps_a=12", ".column canvas[data-k] >> nth=0"),
    "compare": Shot("compare?model=digits-vp-dpi&t=0.3", ".comparer[data-k]"),
    "models": Shot("models?model=digits-vp-dpi", ".st-key-cards img >> nth=0"),
    "runs": Shot("runs?model=digits-vp-dpi", ".js-plotly-plot .main-svg >> nth=0"),
    "learn": Shot("learn?model=digits-vp-dpi", "text=Six lessons"),
}


def main() -> None:
    """Takes the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(SHOTS)} (default: all)")
    names = parser.parse_args().names or list(SHOTS)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _app(_trained(Path(folder), names)) as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name in names:
            page = browser.new_page(
                viewport=dict(zip(("width", "height"), SHOTS[name].size, strict=True)), color_scheme="light"
            )
            print(_save(taken(page, url, SHOTS[name]), FOLDER / f"{name}.webp"), flush=True)
            page.close()
        browser.close()


def _trained(folder: Path, names: list[str]) -> Path:
    """Real logs for the Runs page: the first steps of a small network, a minute of training."""
    if "runs" in names:
        command = [sys.executable, "-m", "dpi_core", "train", "mixture2d-flow-dpi", "--steps", "400"]
        subprocess.run([*command, "--runs", str(folder), "--out", str(folder / "out")], cwd=ROOT, check=True)
    return folder


@contextmanager
def _app(runs: Path) -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", f"--server.port={port}"]
    process = subprocess.Popen(
        [*command, "--server.headless=true"], cwd=ROOT, env={**os.environ, "DPI_RUNS": str(runs)}, stdout=sys.stderr
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        _wait_for(f"{url}_stcore/health", process)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    while process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the app ended with status {process.returncode} before it could be seen.")


def taken(page: Page, url: str, shot: Shot) -> bytes:
    """A PNG of the page when nothing on it is computed any more."""
    page.set_default_timeout(PATIENCE)
    page.goto(url + shot.query)
    page.locator(shot.ready).wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    expect(page.get_by_role("progressbar")).to_have_count(0, timeout=PATIENCE)
    page.wait_for_timeout(1500)  # animations of what has come last
    return page.screenshot()


def _save(png: bytes, path: Path) -> str:
    Image.open(io.BytesIO(png)).save(path, quality=82, method=6)
    return f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB"


if __name__ == "__main__":
    main()
