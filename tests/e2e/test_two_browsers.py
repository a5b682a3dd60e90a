"""Two browsers, each a program of its own with its own profile: neither finds what the other has handed over."""

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from safetensors.numpy import load_file, save_file

from app.services import stored

pytestmark = pytest.mark.e2e
OWN = "upload:digits-vp-none"
COMPUTING = 180
"""Seconds that a first computation may take where others use the machine: torch is imported before it."""


@pytest.fixture
def browsers(launch, tmp_path):
    """A page in each of two browsers."""
    profiles = [tmp_path / "one", tmp_path / "two"]
    pages = [launch(profile) for profile in profiles]
    assert main_process(profiles[0]) != main_process(profiles[1])
    return pages


def main_process(profile):
    """The process that was started with a profile, and no helper of it."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_text().split("\0")
        except OSError:  # it has ended
            continue
        if f"--user-data-dir={profile}" in command and not any(part.startswith("--type=") for part in command):
            found.append(int(file.parent.name))
    (process,) = found
    return process


def checkpoint(folder, gain):
    """The shipped checkpoint with other weights and another card, under the same name."""
    shipped = stored.CHECKPOINTS / "digits-vp-none"
    folder.mkdir()
    tensors = {
        name: (value * gain).astype(value.dtype) for name, value in load_file(shipped / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_bytes((shipped / "config.json").read_bytes())
    metrics = json.loads((shipped / "metrics.json").read_text())
    metrics["data"]["licence"] = f"times {gain:g}"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return sorted(folder.iterdir())


def load(page, files):
    page.get_by_text("Load a model of your own").click()
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(files)
    expect(page.locator("[data-testid=stFileChip]")).to_have_count(len(files))
    page.get_by_role("button", name="Check and load").click()
    expect(page.get_by_text(f"{OWN} is loaded")).to_be_visible()


def test_models_of_one_name_stay_with_the_browser_that_brought_them(browsers, server, tmp_path):
    mine, yours = browsers
    for page in browsers:
        page.goto(f"{server.url}models")
        page.locator(".model-card").first.wait_for()
    own = [page.locator(".model-card", has_text=OWN) for page in browsers]
    load(mine, checkpoint(tmp_path / "mine", 1.0))
    expect(own[0]).to_contain_text("times 1")

    yours.goto(f"{server.url}models?model={OWN}")  # what my address bar holds
    yours.locator(".model-card").first.wait_for()
    expect(own[1]).to_have_count(0)
    expect(yours.get_by_test_id("stSidebar")).to_contain_text("0.65 M numbers")  # the default model is on show

    load(yours, checkpoint(tmp_path / "yours", 0.5))
    expect(own[1]).to_contain_text("times 0.5")
    mine.get_by_label("Search").fill("upload")
    mine.get_by_label("Search").press("Enter")
    expect(mine.locator(".model-card")).to_have_count(1)
    expect(own[0]).to_contain_text("times 1")

    yours.get_by_role("button", name="Remove").click()
    expect(own[1]).to_have_count(0)
    mine.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    expect(mine.get_by_test_id("stSidebar")).to_contain_text("times 1")


def image(level):
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20), level, np.uint8)).save(file, "PNG")
    return {"name": "own.png", "mimeType": "image/png", "buffer": file.getvalue()}


def test_an_image_stays_with_the_browser_that_brought_it(browsers, server):
    mine, yours = (page.locator("[data-panel=clean] canvas") for page in browsers)
    for page in browsers:
        page.goto(f"{server.url}?model=digits-vp-dpi&inputs=Upload")
        page.locator("[data-panel=denoised] canvas[data-k]").wait_for()
    frames = picture(yours)
    assert picture(mine) == frames
    browsers[0].locator("input[type=file]").set_input_files([image(200)])
    expect(browsers[0].get_by_text("On your image.")).to_be_visible()
    deadline = time.monotonic() + COMPUTING
    while picture(mine) == frames:
        assert time.monotonic() < deadline, "the image is not shown"
        browsers[0].wait_for_timeout(100)
    assert picture(yours) == frames
    browsers[1].goto(browsers[0].url)
    browsers[1].locator("[data-panel=denoised] canvas[data-k]").wait_for()
    assert picture(yours) == frames
    expect(browsers[1].get_by_text("On your image.")).to_have_count(0)


def picture(canvas):
    return canvas.evaluate("canvas => canvas.toDataURL()")
