"""A reader brings a model: it stays with its session, and stands beside another on three pages under one cursor."""

import pytest
from playwright.sync_api import expect

from app.services import stored

pytestmark = pytest.mark.e2e
SHIPPED = stored.CHECKPOINTS / "digits-vp-none"
OWN = "upload:digits-vp-none"


def upload(page, *names, shipped=SHIPPED):
    page.get_by_text("Load a model of your own").click()
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files([shipped / name for name in names])
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


def choose(page, label, option):
    box = page.get_by_test_id("stApp").get_by_role("combobox", name=label, exact=True)
    box.click()
    page.get_by_role("option", name=option, exact=True).click()
    expect(box).to_have_value(option)


def go_to(page, name):
    page.get_by_role("link", name=name, exact=True).click()


def test_a_model_of_ones_own_stands_beside_another_on_three_pages_under_one_cursor(open_page):
    """The reader brings another network for the same data: what is drawn of it differs from what is drawn of the first."""
    own, picture = "upload:mixture2d-mlp-dpi", "canvas => canvas.toDataURL()"
    page = open_page("models?model=mixture2d-flow-dpi")
    upload(
        page, "model.safetensors", "config.json", "analysis.safetensors", shipped=SHIPPED.parent / "mixture2d-mlp-dpi"
    )
    expect(page.get_by_text(f"{own} is loaded")).to_be_visible()
    choose(page, "Model", "mixture2d-flow-dpi")  # what was loaded is on show

    go_to(page, "Denoise")
    choose(page, "Second model", own)
    first, second = (page.locator(f"[data-panel={panel}] canvas[data-k]") for panel in ("denoised", "beside"))
    expect(second).to_have_attribute("data-k", "35")
    page.get_by_role("slider", name="t", exact=True).press("PageDown")
    for drawn in (first, second):
        expect(drawn).to_have_attribute("data-k", "25")
    assert first.evaluate(picture) != second.evaluate(picture)
    expect(page.get_by_text("At t = 0.25 (flow time")).to_contain_text(f"On the same inputs and noise {own} reaches")

    go_to(page, "Parameters")
    readout = page.locator("[data-part=readout]")
    expect(readout).to_contain_text("At t 0.25")
    expect(readout).to_contain_text(f"{own} 0.")

    go_to(page, "Trajectories")
    page.get_by_text("Choose models, samplers, steps and λ").click()
    choose(page, "B: model", own)
    columns = page.locator(".column")
    expect(columns.nth(1)).to_contain_text(own)
    ends = columns.locator('[data-panel="x"] canvas')
    assert ends.nth(0).get_attribute("data-k") is not None
    page.get_by_role("slider", name="t, from noise to sample").press("End")
    expect(page.locator(".player")).to_have_attribute("data-s", "0.000000")
    assert ends.nth(0).evaluate(picture) != ends.nth(1).evaluate(picture)


def test_a_card_opens_also_where_the_link_holds_a_search_and_another_model(open_page):
    page = open_page("models?search=embedding&model=mixture2d-flow-dpi")
    expect(page.locator(".model-card")).to_have_count(sum("embedding" in name for name in stored.model_names()))
    page.locator(".st-key-cards > div", has_text="digits-vp-embedding").get_by_role("button", name="Open").click()
    page.locator("[data-panel=denoised] canvas[data-k]").wait_for()
    shown = page.get_by_test_id("stSidebar").get_by_role("combobox", name="Model", exact=True)
    expect(shown).to_have_value("digits-vp-embedding")
    assert "search" not in page.url
