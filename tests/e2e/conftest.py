"""The app on a server of its own and a browser to drive it. Locators find what lies in the components' shadow roots."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from dpi_core.build import recipe_from_dict
from dpi_core.data import load_data
from dpi_core.runs import train_run

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
PATIENCE = 60_000
"""Milliseconds to wait for what has to come: the machine may be busy."""

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Server:
    """The running app.

    Attributes:
        url: of its start page.
        cold_start: seconds from the start of the process to the first picture.
    """

    url: str
    cold_start: float


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    if not Path(CHROMIUM).is_file():
        pytest.fail(f"there is no browser at {CHROMIUM}: install the chromium package, or set CHROMIUM to the program.")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def launch(playwright: Playwright) -> Iterator[Callable[[Path], Page]]:
    """Starts a browser that shares nothing with others: a program of its own, with the profile that it is given."""
    contexts = []

    def launch(profile: Path) -> Page:
        contexts.append(_launched(playwright, profile))
        return contexts[-1].pages[0]

    yield launch
    for context in contexts:
        context.close()


def _launched(playwright: Playwright, profile: Path, **options: Any) -> BrowserContext:
    context = playwright.chromium.launch_persistent_context(
        profile, executable_path=CHROMIUM, args=ARGUMENTS, **options
    )
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture(scope="session")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    environment = {**os.environ, "DPI_RUNS": str(trained_runs(tmp_path_factory.mktemp("runs")))}
    options = [f"--server.port={port}", "--server.headless=true", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", *options]
    url = f"http://127.0.0.1:{port}/"
    with log.open("w") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_healthy(process, url, log)
            page = browser.new_page()
            page.goto(url)
            wait_for_picture(page)
            cold_start = time.monotonic() - started
            page.close()
            yield Server(url, cold_start)
        finally:
            process.terminate()
            process.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()


def trained_runs(folder: Path) -> Path:
    """Logs of a real run for the Runs page: some steps of a tiny network."""
    recipe = json.loads((ROOT / "dpi_core" / "recipes" / "mixture2d-flow-dpi.json").read_text())
    recipe["backbone"] = {"kind": "mlp", "width": 16, "depth": 3}
    recipe["training"] |= {"steps": 40, "log_every": 4, "save_every": 20, "warmup_steps": 3}
    read = recipe_from_dict(recipe)
    train_run(read, load_data(read.data), folder / read.name)
    return folder


def _wait_until_healthy(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}_stcore/health", timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the server did not start:\n{log.read_text()}")


def wait_for_picture(page: Page) -> None:
    page.locator("[data-panel=denoised] canvas[data-k]").wait_for(timeout=PATIENCE)


@pytest.fixture(scope="session")
def pixels_of() -> Callable[[Locator], np.ndarray]:
    """Reads what a canvas shows, (h, w, 4) from 0 to 255; as a PNG, since a list of numbers takes seconds to come over."""

    def pixels_of(canvas: Locator) -> np.ndarray:
        encoded = canvas.evaluate("canvas => canvas.toDataURL()").partition(",")[2]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))

    return pixels_of


@pytest.fixture(scope="session")
def context_of(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., BrowserContext]]:
    """One browser for each set of options: its pages share the cached frontend.

    Its profile lies on disk, because only there does Chromium keep compiled scripts: a third of the work of opening a page.
    To the app every page is a session of its own all the same.
    """
    contexts: dict[str, BrowserContext] = {}

    def context_of(**options) -> BrowserContext:
        options = {"viewport": {"width": 1280, "height": 720}} | options
        key = repr(sorted(options.items()))
        if key not in contexts:
            contexts[key] = _launched(playwright, tmp_path_factory.mktemp("profile"), **options)
        return contexts[key]

    yield context_of
    for context in contexts.values():
        context.close()


@pytest.fixture
def open_page(context_of: Callable[..., BrowserContext], server: Server) -> Iterator[Callable[..., Page]]:
    """Opens the app in a session of its own; at the end no session may have seen an error or a foreign host."""
    pages, errors, foreign = [], [], []

    def open_page(query: str = "", **options) -> Page:
        page = context_of(**options).new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
        page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url) else None)
        page.goto(f"{server.url}{query}")
        return page

    def is_error(message: ConsoleMessage) -> bool:
        # Opened by a page's own link, Streamlit first looks for its server below that page's path, in vain.
        is_probe = message.location["url"].endswith(("/_stcore/health", "/_stcore/host-config"))
        return message.type == "error" and not is_probe

    def is_foreign(url: str) -> bool:
        return not url.startswith((server.url, "data:", "blob:"))

    yield open_page
    found = list(errors)  # before closing, which breaks off what is still being loaded
    for page in pages:
        page.close()
    assert found == []
    assert foreign == []
