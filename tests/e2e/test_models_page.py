"""A reader brings a model: two sessions upload, neither sees the other's, and a second model stands beside the first."""

import pytest
from playwright.sync_api import expect

from app.services import stored

pytestmark = pytest.mark.e2e
SHIPPED = stored.CHECKPOINTS / "digits-vp-none"
OWN = "upload:digits-vp-none"


def upload(page, *names):
    page.get_by_text("Load a model of your own").click()
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files([SHIPPED / name for name in names])
    expect(page.locator("[data-testid=stFileChip]")).to_have_count(len(names))
    page.get_by_role("button", name="Check and load").click()


def test_an_uploaded_model_is_scrubbed_and_stays_with_its_session(open_page):
    page = open_page("models")
    upload(page, "config.json")
    expect(page.get_by_text("model.safetensors is missing; a checkpoint is")).to_be_visible()
    upload_again = [SHIPPED / name for name in ("model.safetensors", "metrics.json", "analysis.safetensors")]
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(upload_again)
    expect(page.locator("[data-testid=stFileChip]")).to_have_count(4)
    page.get_by_role("button", name="Check and load").click()
    expect(page.get_by_text(f"{OWN} is loaded")).to_be_visible()
    card = page.locator(".model-card", has_text=OWN)
    expect(card.locator("img")).to_have_count(2)

    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).first.click()
    denoised = page.locator("[data-panel=denoised] canvas[data-k]")
    expect(denoised).to_have_attribute("data-k", "35")
    slider = page.get_by_role("slider", name="t", exact=True)
    slider.focus()
    slider.press("ArrowRight")
    expect(denoised).to_have_attribute("data-k", "36")
    expect(page.get_by_text("At t = 0.36 (DDPM")).to_be_visible()
    assert "model=upload%3Adigits-vp-none" in page.url

    stranger = open_page(page.url.split("/", 3)[3])
    stranger.locator("[data-panel=denoised] canvas[data-k]").wait_for()
    assert "0.65 M numbers" in stranger.get_by_test_id("stSidebar").inner_text()


def test_a_second_model_follows_the_same_cursor(open_page):
    page = open_page("?model=digits-vp-dpi&beside=digits-vp-none")
    beside = page.locator("[data-panel=beside] canvas[data-k]")
    expect(beside).to_have_attribute("data-k", "35")
    picture = "canvas => canvas.toDataURL()"
    denoised = page.locator("[data-panel=denoised] canvas")
    before = beside.evaluate(picture)
    assert before != denoised.evaluate(picture)
    page.get_by_role("slider", name="t", exact=True).press("End")
    expect(beside).to_have_attribute("data-k", "100")
    expect(denoised).to_have_attribute("data-k", "100")
    assert beside.evaluate(picture) != before


def test_a_card_opens_also_where_the_link_holds_a_search_and_another_model(open_page):
    page = open_page("models?search=embedding&model=mixture2d-flow-dpi")
    expect(page.locator(".model-card")).to_have_count(2)
    page.locator(".st-key-cards > div", has_text="digits-vp-embedding").get_by_role("button", name="Open").click()
    page.locator("[data-panel=denoised] canvas[data-k]").wait_for()
    shown = page.get_by_test_id("stSidebar").get_by_role("combobox", name="Model", exact=True)
    expect(shown).to_have_value("digits-vp-embedding")
    assert "search" not in page.url
