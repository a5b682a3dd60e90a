"""Every page as people with a screen reader, with weak eyes or without a mouse meet it: axe finds nothing serious."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.e2e

PHONE = {"width": 390, "height": 844}
PAGES = {
    "": "[data-panel=denoised] canvas[data-k]",
    "parameters": "[data-part=headline][data-db]",
    "layers": ".layers[data-s] .row >> nth=0",
    "trajectories": ".column canvas[data-k] >> nth=0",
    "compare": ".comparer[data-k]",
    "models": ".model-card >> nth=0",
    "runs": "[data-testid=stMain] [data-testid=stAlert], [data-testid=stMain] .js-plotly-plot",
    "learn": "[data-testid=stMain] button >> nth=0",
}
"""Each page, and what is seen on it once it is drawn."""

STREAMLIT = ()
"""(rule, part of the selector) of what lies in Streamlit's own widgets, where we cannot mend it, with the reason."""

OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


def serious_findings(page, name):
    """"rule, selector: what is wrong" of what axe calls serious or critical, without what is Streamlit's."""
    page.locator(PAGES[name]).wait_for()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    found = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{finding['id']}, {node['target']}: {node['failureSummary']}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
        if not any(finding["id"] == rule and part in str(node["target"]) for rule, part in STREAMLIT)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_a_serious_finding(open_page, name):
    page = open_page(f"{name}?model=digits-vp-dpi&t=0.3")
    assert serious_findings(page, name) == []


@pytest.mark.parametrize("name", ["compare"])
def test_nor_has_a_dark_one_on_a_telephone(open_page, name):
    page = open_page(f"{name}?model=digits-vp-dpi&t=0.3", viewport=PHONE, color_scheme="dark")
    assert serious_findings(page, name) == []


def test_the_check_sees_what_is_wrong(open_page):
    page = open_page("models")
    page.locator(PAGES["models"]).wait_for()
    page.evaluate("document.querySelector('.model-card img').removeAttribute('alt')")
    assert any(found.startswith("image-alt") for found in serious_findings(page, "models"))
