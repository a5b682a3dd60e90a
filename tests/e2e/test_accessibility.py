"""Every page as people with a screen reader, with weak eyes or without a mouse meet it: axe finds nothing serious."""

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


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_a_serious_finding(open_page, name):
    page = open_page(f"{name}?model=digits-vp-dpi&t=0.3&runs=1&steps_a=4")
    assert serious_findings(page, name) == []


@pytest.mark.parametrize("name", PAGES)
def test_nor_has_a_dark_one_on_a_telephone(open_page, name):
    page = open_page(f"{name}?model=digits-vp-dpi&t=0.3&runs=1&steps_a=4", viewport=PHONE, color_scheme="dark")
    assert serious_findings(page, name) == []


def test_what_is_wrong_is_seen(open_page):
    page = open_page("compare?model=digits-vp-dpi&t=0.3")
    assert serious_findings(page, "compare") == []
    page.locator(".comparer .row canvas").first.evaluate("canvas => canvas.removeAttribute('aria-label')")
    (found,) = serious_findings(page, "compare")
    assert found.startswith("role-img-alt")
