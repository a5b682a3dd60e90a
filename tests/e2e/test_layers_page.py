"""The Layers page in a real browser: scrubbing, the strips, the order of rows, the link."""

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import expect

from app.services import stored

pytestmark = pytest.mark.e2e

SVG = "{http://www.w3.org/2000/svg}"


class Layers:
    """What a reader sees and does on the page."""

    def __init__(self, page):
        self.page = page
        # On a small screen the link lies in the closed sidebar.
        page.get_by_role("link", name="Layers").dispatch_event("click")
        self.view = page.locator(".layers[data-s]")
        self.detail = page.locator(".layers [data-part=detail]")
        self.rows = page.locator(".layers .row:visible")
        self.strips = page.locator(".layers .strips canvas")
        self.blend = page.locator("[data-weights=blend]")
        expect(self.detail).to_have_attribute("data-layer", re.compile("."))

    def sort_by_value(self):
        # The rest of a link is dropped on the way from the start page, so the order is chosen here.
        button = self.page.locator(".layers [data-order=value]")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")

    def pixels(self, selector):
        """A picture's content."""
        return self.page.locator(selector).evaluate("canvas => canvas.toDataURL()")


@pytest.fixture
def result():
    return stored.read_model("digits-vp-dpi").layers


def test_scrubbing_blends_the_weights_and_changes_the_activations_in_the_browser(open_page):
    page = Layers(open_page("?model=digits-vp-dpi&t=0.3"))
    sweep = stored.read_model("digits-vp-dpi").sweep
    seen = set()
    slider = page.page.locator(".layers input[type=range]")
    for step in (10, 50, 90):
        slider.evaluate("(input, value) => { input.value = value; input.oninput(); }", str(step))
        expect(page.view).to_have_attribute("data-s", str(step / 100))
        lam = float(page.blend.get_attribute("data-lam"))
        assert lam == pytest.approx(float(np.interp(step / 100, sweep.s, sweep.lam)), abs=2e-3)
        pictures = (page.pixels("[data-weights=blend] canvas"), page.pixels("[data-figure=activations] canvas"))
        assert not seen & set(pictures)
        seen |= set(pictures)
    # Python has not been told: the hand has not let go.
    assert "t=0.9" not in page.page.url


def test_a_click_on_a_strip_moves_the_cursor_and_selects_the_layer(open_page, result):
    page = Layers(open_page("?model=digits-vp-dpi&t=0.3"))
    page.sort_by_value()
    box = page.strips.bounding_box()
    page.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 2.5 * 18)
    path = page.rows.nth(2).get_attribute("data-path")
    expect(page.detail).to_have_attribute("data-layer", path)
    expect(page.page).to_have_url(re.compile(r"[?&]t=0\.7(&|$)"))
    expect(page.page).to_have_url(re.compile(rf"[?&]layer={re.escape(path)}(&|$)"))
    assert path in result.names


def test_rows_are_ordered_by_the_chosen_statistic(open_page, result):
    page = Layers(open_page("?model=digits-vp-dpi"))
    page.page.locator(".layers [data-choice=statistic]").select_option("relative")
    page.sort_by_value()
    best = [result.names[i] for i in np.argsort(-result.relative, kind="stable")[:5]]
    assert [page.rows.nth(i).get_attribute("data-path") for i in range(5)] == best
    expect(page.page).to_have_url(re.compile(r"heat=relative"))


def test_keys_walk_through_the_outline(open_page, result):
    page = Layers(open_page("?model=mixture2d-flow-dpi"))
    tree = page.page.get_by_role("tree")
    tree.focus()
    page.page.keyboard.press("Home")
    names = stored.read_model("mixture2d-flow-dpi").layers.names
    expect(page.detail).to_have_attribute("data-layer", names[0])


def test_the_table_is_saved_as_svg_with_a_row_for_each_layer(open_page, result):
    page = Layers(open_page("?model=digits-vp-dpi"))
    page.sort_by_value()
    with page.page.expect_download() as download:
        page.page.locator(".layers [data-action=svg]").click()
    text = download.value.path().read_text()
    assert all(f">{name}</text>" in text for name in result.names)


def test_the_layer_is_saved_as_pixels_and_as_vectors(open_page, result):
    page = Layers(open_page("?model=digits-vp-dpi"))
    shown = page.detail.get_attribute("data-layer")
    saved = {}
    for kind in ("png", "svg"):
        with page.page.expect_download() as download:
            page.page.locator(f".layers [data-action=detail-{kind}]").click()
        assert download.value.suggested_filename == f"digits-vp-dpi-{shown}.{kind}"
        saved[kind] = download.value.path().read_bytes()
    drawing = ElementTree.fromstring(saved["svg"])
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert texts[0].startswith(f"digits-vp-dpi: {shown}")
    pictures = [base64.b64decode(each.get("href").split(",")[1]) for each in drawing.iter(f"{SVG}image")]
    assert len(pictures) == len(drawing.findall(f"{SVG}svg")) >= 4, "θ0, θ(s), θ1 and the activations"
    assert all(content.startswith(b"\x89PNG") for content in [saved["png"], *pictures])
