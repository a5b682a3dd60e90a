"""The lessons in a real browser: from start to end for two models, the way to a real page and back, and the presenter's keys."""

import re

import pytest
from playwright.sync_api import expect

from app.lessons import seeing
from app.services import stored

pytestmark = pytest.mark.e2e


class Learn:
    """What a reader sees and does in the lessons."""

    def __init__(self, page):
        self.page = page
        # On a small screen the link lies in the closed sidebar.
        page.get_by_role("link", name="Learn").dispatch_event("click")
        expect(self.heading("Six lessons")).to_be_visible()

    def heading(self, text):
        return self.page.get_by_role("heading", name=text)

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def verdict(self):
        return self.page.locator(".st-key-verdict")


@pytest.mark.parametrize("model", ["digits-vp-dpi", "mixture2d-flow-dpi"])
def test_a_lesson_from_start_to_end(model, open_page):
    card = stored.read_model(model)
    t = seeing.half_way(card)
    learn = Learn(open_page(f"?model={model}"))
    page = learn.page
    page.get_by_role("button", name="Start", exact=True).first.click()
    expect(learn.heading("Signal and noise")).to_be_visible()
    expect(page.locator(".tiles img")).to_have_count(5)
    assert page.locator(".tiles img").evaluate_all("pictures => pictures.every(picture => picture.naturalWidth > 0)")
    expect(page.locator(".katex").first).to_be_visible()

    learn.press("Next")
    expect(page.get_by_role("button", name="Commit")).to_be_disabled()
    page.get_by_text("A sharp sample that is not the original").click()
    learn.press("Commit")
    expect(learn.verdict()).to_have_text(
        f"You said “A sharp sample that is not the original”; for this model: {seeing.ENDINGS[seeing.ending(card)]}."
    )
    learn.press("Next")
    expect(learn.heading("half of the error")).to_be_visible()
    learn.press("Commit")
    expect(learn.verdict()).to_have_text(re.compile(rf"^You said 0\.50; this model has {t:.2f}: "))
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    learn.press("Next")
    expect(page.locator("[data-panel=denoised] canvas[data-k]")).to_be_visible()
    learn.press("Next")

    # To the real page, in its state, and back to the place.
    page.get_by_role("link", name=f"Open Denoise at t = {t:.2f}").click()
    expect(page.get_by_text(f"At t = {t:.2f} (")).to_be_visible()
    expect(page).to_have_url(re.compile(rf"[?&]t={t:.4g}(&|$)"))
    page.get_by_role("link", name="Back to the lesson").click()
    expect(learn.heading("On the Denoise page")).to_be_visible()
    expect(page).to_have_url(re.compile("step=5"))
    learn.press("Next")
    expect(learn.heading("In short")).to_be_visible()
    expect(page.get_by_text("half of it by").last).to_contain_text(f"{t:.2f}")
    learn.press("All lessons")
    expect(page.get_by_text("1 of 6 read to the end.")).to_be_visible()
    # The browser's own way back.
    page.go_back()
    expect(learn.heading("In short")).to_be_visible()


def test_a_presenter_goes_on_by_keys(open_page):
    learn = Learn(open_page("?model=digits-vp-dpi"))
    page = learn.page
    page.get_by_role("button", name="Start", exact=True).nth(1).click()
    expect(learn.heading("One network, many tasks")).to_be_visible()
    learn.press("Present")
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    expect(page.get_by_test_id("stHeader")).to_be_hidden()
    expect(page.get_by_text("A plain network is")).to_have_css("font-size", "22.4px")

    expect(page.locator("[data-listening]")).to_be_attached()
    page.keyboard.press("ArrowRight")
    expect(learn.heading("the wrong parameters")).to_be_visible()
    expect(learn.verdict()).to_have_count(0)
    # The first press shows the answer, the second goes on.
    page.keyboard.press("Space")
    expect(learn.verdict()).to_contain_text("For this model:")
    page.keyboard.press("PageDown")
    expect(learn.heading("one position for all")).to_be_visible()
    # Faster than the page can follow: none is lost.
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(learn.heading("trained with one set")).to_be_visible()
    # A class votes by number.
    page.keyboard.press("2")
    expect(learn.verdict()).to_have_text("Right: It loses, but less than the frozen position.")
    page.keyboard.press("ArrowLeft")
    expect(learn.heading("one position for all")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
    expect(learn.heading("one position for all")).to_be_visible()


def test_nothing_sticks_out_of_a_telephone(open_page):
    learn = Learn(open_page("?model=mixture2d-flow-dpi", viewport={"width": 390, "height": 844}))
    page = learn.page
    page.get_by_role("button", name="Start", exact=True).nth(1).click()
    expect(learn.heading("One network, many tasks")).to_be_visible()
    learn.press("Next")
    learn.press("Show the answer without a guess")
    expect(page.locator(".tiles img")).to_have_count(9)
    main = page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
