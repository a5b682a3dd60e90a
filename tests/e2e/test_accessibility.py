"""Every page as people with a screen reader, with weak eyes, without a mouse or on a telephone meet it: axe finds nothing
serious, and nothing sticks out."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.e2e

PHONE = {"width": 390, "height": 844}
PAGES = {
    "": "[data-panel=denoised] canvas[data-k]",
    "parameters": "[data-part=headline][data-db]",
    "layers": ".layers[data-s] .row",
    "trajectories": ".column canvas[data-k]",
    "compare": ".comparer[data-k]",
    "models": ".model-card",
    "runs": "[data-testid=stMain] .js-plotly-plot",
    "learn": "[data-testid=stMain] button",
}
"""Each page, and what is seen on it once it is drawn."""

OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


def serious_findings(page, name):
    """ "rule, selector: what is wrong" of what axe calls serious or critical; nothing of Streamlit's own is excused."""
    page.locator(PAGES[name]).first.wait_for()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    found = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{finding['id']}, {node['target']}: {node['failureSummary']}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


def sticking_out(page):
    """By how many pixels the widest part of a page is wider than the screen."""
    overflow = "element => element.scrollWidth - element.clientWidth"
    return max(page.locator("html").evaluate(overflow), page.get_by_test_id("stMain").evaluate(overflow))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_finding_and_fits_the_screen(open_page, name):
    page = open_page(f"{name}?model=digits-vp-dpi&t=0.3&runs=1&steps_a=4")
    assert serious_findings(page, name) == []
    assert sticking_out(page) <= 0


@pytest.mark.parametrize("name", PAGES)
def test_nor_has_a_dark_one_on_a_telephone(open_page, name):
    page = open_page(f"{name}?model=digits-vp-dpi&t=0.3&runs=1&steps_a=4", viewport=PHONE, color_scheme="dark")
    assert serious_findings(page, name) == []
    assert sticking_out(page) <= 0


def test_what_is_wrong_is_seen(open_page):
    page = open_page("compare?model=digits-vp-dpi&t=0.3")
    assert serious_findings(page, "compare") == []
    page.locator(".comparer .row canvas").first.evaluate("canvas => canvas.removeAttribute('aria-label')")
    (found,) = serious_findings(page, "compare")
    assert found.startswith("role-img-alt")
    page.locator(".comparer").evaluate("element => element.style.width = '2000px'")
    assert sticking_out(page) > 0
