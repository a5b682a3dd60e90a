"""What is taken away from a page: its file, opened without a network, follows the hand; the archive holds what it depends on."""

import io
import json
import re
import zipfile

import pytest
from playwright.sync_api import expect

from app.components.standalone import MOST_BYTES

pytestmark = pytest.mark.e2e


@pytest.fixture
def offline(browser):
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 720})
    yield context
    context.close()


def settled(page):
    """The page once nothing is computed any more: a file that is asked for while it is drawn anew is no longer there."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stMain").get_by_role("progressbar")).to_have_count(0)
    return page


def saved(page, name, folder):
    """The file that the page's button gives, under its full name."""
    button = page.get_by_role("button", name="This page as HTML")
    with page.expect_download() as download:
        button.click()
    assert download.value.suggested_filename == f"{name}.html"
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
    file = saved(page, "digits-vp-dpi-denoise", tmp_path)
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
    file = saved(page, "digits-vp-dpi-parameters", tmp_path)
    alone, wrong = opened(offline, file)
    expect(alone.locator(".plot .main-svg").first).to_be_visible()
    expect(alone.locator(".plot:has(.main-svg)")).to_have_count(10)
    expect(alone.locator("[data-part=readout]")).to_contain_text("fashion-flow-dpi 0.")
    alone.get_by_role("button", name="Linear").click()
    expect(alone.locator("[data-part=headline]")).to_contain_text("dB against the learned curve")
    assert wrong == []


def test_a_saved_models_page_has_the_cards_that_were_seen(open_page, offline, tmp_path):
    page = open_page("models?search=digits%20two")
    shown = page.locator(".model-card h5")
    expect(shown.first).to_be_visible()
    file = saved(page, "models", tmp_path)
    alone, wrong = opened(offline, file)
    cards = alone.locator(".model-card")
    assert cards.locator("h5").all_inner_texts() == shown.all_inner_texts() != []
    assert cards.locator("img").evaluate_all("pictures => pictures.every(picture => picture.naturalWidth > 0)")
    alone.get_by_text("Model card", exact=True).first.click()
    expect(alone.locator(".cards pre").first).to_contain_text(shown.first.inner_text())
    expect(alone.get_by_text("models that hold")).to_contain_text("digits two")
    assert wrong == []


def test_a_saved_runs_page_has_its_charts_and_the_state_of_each_run(open_page, offline, tmp_path):
    page = open_page("runs")
    expect(page.get_by_test_id("stMain").locator(".js-plotly-plot")).to_have_count(4)
    file = saved(page, "runs", tmp_path)
    alone, wrong = opened(offline, file)
    expect(alone.locator(".plot:has(.main-svg)")).to_have_count(4)
    expect(alone.get_by_text("mixture2d-flow-dpi: done, 40 steps in")).to_be_visible()
    assert wrong == []


def test_a_saved_lesson_asks_before_it_answers_and_has_what_is_scrubbed_and_played(open_page, offline, tmp_path):
    page = open_page("learn?model=mixture2d-flow-dpi&lesson=seeing&step=4")
    page.locator("[data-panel=denoised] canvas[data-k]").wait_for()
    alone, wrong = opened(offline, saved(page, "mixture2d-flow-dpi-learn-seeing", tmp_path))
    denoised = alone.locator("[data-panel=denoised] canvas[data-k]")
    alone.get_by_role("slider", name="t", exact=True).press("End")
    expect(denoised).to_have_attribute("data-k", "100")
    expect(alone.locator("math").first).to_be_visible()
    answer = alone.get_by_text("For this model:")
    expect(answer.nth(1)).to_be_hidden()
    alone.get_by_text("The answer", exact=True).nth(1).click()
    expect(answer.nth(1)).to_be_visible()
    drawn = alone.locator(".answer .plot .main-svg").first
    expect(drawn).to_be_visible()
    assert drawn.bounding_box()["width"] > 600
    assert wrong == []


def test_all_lessons_are_one_file_whose_players_play_apart(open_page, offline, tmp_path):
    page = open_page("learn?model=mixture2d-flow-dpi&lesson=sampling&step=2")
    expect(page.get_by_role("heading", name="Predict: twice the steps")).to_be_visible()
    page.get_by_role("button", name="Show the answer without a guess").click()
    expect(page.locator(".st-key-verdict")).to_be_visible()
    page.get_by_role("button", name="All lessons").click()
    expect(page.get_by_role("heading", name="Six lessons")).to_be_visible()
    alone, wrong = opened(offline, saved(page, "mixture2d-flow-dpi-learn", tmp_path))
    expect(alone.locator("h2")).to_have_count(6)
    player = alone.get_by_test_id("player")
    scrubber = alone.get_by_test_id("scrubber").and_(alone.locator(":not(.player)"))
    player.get_by_role("slider").press("End")
    expect(player.locator(".column canvas[data-k]").first).not_to_have_attribute("data-k", "0")
    expect(scrubber.locator("[data-panel=denoised] canvas")).to_have_attribute("data-k", "50")
    expect(alone.get_by_text("Not in this file").first).to_be_visible()  # what other lessons show is not computed
    assert wrong == []


ON_A_TELEPHONE = {
    "denoise": ("?model=digits-vp-dpi&beside=digits-vp-none", 0),
    "parameters": ("parameters?model=digits-vp-dpi", 10),
    "layers": ("layers?model=digits-vp-dpi", 7),
    "trajectories": ("trajectories?model=mixture2d-flow-dpi&steps_a=4&steps_b=4", 0),
    "compare": ("compare?model=digits-vp-dpi", 4),
    "models": ("models", 0),
    "runs": ("runs", 4),
    "learn": ("learn?model=digits-vp-dpi", 0),
}
"""Every page, and how many figures of Plotly's its file shows."""


@pytest.mark.parametrize("name", ON_A_TELEPHONE)
def test_every_page_is_a_file_that_fits_a_telephone(name, open_page, browser, tmp_path):
    query, figures = ON_A_TELEPHONE[name]
    button = open_page(query).get_by_role("button", name=re.compile("^(This page as )?HTML$"))
    button.wait_for()
    settled(button.page)
    with button.page.expect_download() as download:
        button.click()
    download.value.save_as(tmp_path / "page.html")
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    context = browser.new_context(offline=True, color_scheme="dark", **phone)
    alone, wrong = opened(context, tmp_path / "page.html")
    expect(alone.locator(":not(.answer) > .plots .plot:has(.main-svg)")).to_have_count(figures)
    expect(alone.locator(".modebar-btn:visible")).to_have_count(0)
    alone.locator("summary", has_text=re.compile("^Python ")).first.click()
    expect(alone.locator("details[open] pre").first).to_contain_text("dpi_core" if name != "runs" else "import")
    assert alone.evaluate("document.documentElement.scrollWidth") == 390
    assert alone.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 23)"
    assert wrong == []
    context.close()


ARCHIVES = {
    "?model=digits-vp-dpi&beside=digits-vp-none&t=0.5": ("Python that reproduces this", ["digits-vp-none"]),
    "parameters?model=digits-vp-dpi&t=0.5": ("Python that measures this curve", []),
    "layers?model=digits-vp-dpi&t=0.5": ("Python that computes this table", []),
    "trajectories?model=digits-vp-dpi&steps_a=4&runs=2&model_b=digits-vp-none": (
        "Python that reproduces this",
        ["digits-vp-none"],
    ),
    "compare?model=digits-vp-dpi&t=0.5": (
        "Python that reproduces the rows",
        ["digits-vp-dpi", "digits-vp-embedding", "digits-vp-input_map", "digits-vp-none"],
    ),
}
"""Pages, the heading of their lines, and the models beside the first."""


@pytest.mark.parametrize("query", ARCHIVES)
def test_the_archive_of_a_page_holds_configs_seed_versions_and_lines(query, open_page):
    title, beside = ARCHIVES[query]
    page = open_page(query)
    page.get_by_text(title, exact=True).click()
    button = page.get_by_role("button", name="Config, seed, versions and these lines (zip)")
    button.wait_for()
    settled(page)
    with page.expect_download() as download:
        button.click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as packed:
        files = {name.split("/")[1]: packed.read(name).decode() for name in packed.namelist()}
    about = json.loads(files.pop("about.json"))
    assert about["seed"] == 0 and {"torch", "streamlit"} <= set(about["packages"])
    assert [each["model"] for each in about.get("beside", [])] == beside
    names = [about["model"], *beside]
    assert all(name in files["reproduce.py"] for name in names)
    configs = sorted(name for name in files if name.startswith("config"))
    assert {json.loads(files[name])["name"] for name in configs} == set(names)
    compile(files["reproduce.py"], "reproduce.py", "exec")
