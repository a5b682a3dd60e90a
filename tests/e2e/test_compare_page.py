"""The Compare page in a real browser: one t moves all rows, without the server; nothing sticks out."""

import re

import pytest
from playwright.sync_api import expect

from app.services import stored

pytestmark = pytest.mark.e2e


def open_compare(open_page, **options):
    page = open_page("?model=digits-vp-dpi&t=0.3", **options)
    # On a small screen the link lies in the closed sidebar.
    page.get_by_role("link", name="Compare").dispatch_event("click")
    expect(page.locator(".comparer[data-k]")).to_be_visible()
    return page


def pictures(page):
    """Content of every canvas, and the frame that each one says it shows."""
    canvases = page.locator(".comparer .row canvas")
    found = canvases.evaluate_all("all => all.map((canvas) => [canvas.dataset.k, canvas.toDataURL()])")
    return [frame for frame, _ in found], [content for _, content in found]


def test_scrubbing_moves_all_rows_in_the_browser_and_python_hears_of_the_release(open_page):
    page = open_compare(open_page)
    slider = page.locator(".comparer input[type=range]")
    frames, before = pictures(page)
    family = [name for name in stored.model_names() if name.startswith("digits-vp-")]
    shown = [name for name in family if stored.read_model(name).sweep is not None]
    assert len(frames) == 2 * (1 + len(shown)) >= 6 and len(set(frames)) == 1, (
        "two pictures of the inputs and of each model"
    )
    slider.evaluate("(input) => { input.value = 80; input.oninput(); }")
    expect(page.locator(".comparer")).to_have_attribute("data-k", "80")
    frames, after = pictures(page)
    assert set(frames) == {"80"}
    assert after[0] == before[0], "the clean inputs stay"
    assert all(new != old for new, old in zip(after[1:], before[1:], strict=True))
    assert "t=0.8" not in page.url, "the hand has not let go"
    slider.evaluate("(input) => input.onchange()")
    expect(page).to_have_url(re.compile(r"[?&]t=0\.8(&|$)"))
    frames, _ = pictures(page)
    assert set(frames) == {"80"}
