"""Pages saved as files: opened from the disk without a network, their views follow the hand and their figures are there."""

import re

import pytest
from playwright.sync_api import expect

from app.components.standalone import MOST_BYTES

pytestmark = pytest.mark.e2e


@pytest.fixture
def offline(browser):
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 720})
    yield context
    context.close()


def saved(page, name, folder):
    """The file that the page's button gives."""
    button = page.get_by_role("button", name="This page as HTML")
    with page.expect_download() as download:
        button.click()
    assert download.value.suggested_filename == f"digits-vp-dpi-{name}.html"
    file = folder / f"{name}.html"
    download.value.save_as(file)
    assert file.stat().st_size < MOST_BYTES
    return file


def opened(context, file):
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if re.match("http|ws", request.url) else None)
    page.goto(file.as_uri())
    return page, wrong


def test_a_saved_page_is_scrubbed_from_the_disk(open_page, offline, tmp_path):
    page = open_page("?model=digits-vp-dpi&t=0.5")
    page.locator("[data-panel=denoised] canvas[data-k='50']").wait_for()
    file = saved(page, "denoise", tmp_path)
    alone, wrong = opened(offline, file)
    denoised = alone.locator("[data-panel=denoised] canvas")
    expect(denoised).to_have_attribute("data-k", "50")
    before = denoised.evaluate("canvas => canvas.toDataURL()")
    alone.get_by_role("slider", name="t", exact=True).press("End")
    expect(denoised).to_have_attribute("data-k", "100")
    assert denoised.evaluate("canvas => canvas.toDataURL()") != before
    expect(alone.get_by_text("At t = 0.50 (DDPM step 500)")).to_be_visible()
    alone.get_by_text("Python that reproduces this").click()
    expect(alone.get_by_text('dpi_core.load("checkpoints/digits-vp-dpi")')).to_be_visible()
    assert wrong == []


def test_a_saved_page_has_its_figures_and_its_second_model(open_page, offline, tmp_path):
    page = open_page("parameters?model=digits-vp-dpi&beside=fashion-flow-dpi&t=0.5")
    page.locator(".studio:not(.waiting)").wait_for()
    file = saved(page, "parameters", tmp_path)
    alone, wrong = opened(offline, file)
    expect(alone.locator(".plot .main-svg").first).to_be_visible()
    expect(alone.locator(".plot:has(.main-svg)")).to_have_count(10)
    expect(alone.locator("[data-part=readout]")).to_contain_text("fashion-flow-dpi 0.")
    alone.get_by_role("button", name="Linear").click()
    expect(alone.locator("[data-part=headline]")).to_contain_text("dB against the learned curve")
    assert wrong == []
