"""The Parameters page in a real browser: presets, dragging, keys, downloads."""

import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import expect

from app.figures.parameters import judged_levels
from app.services import stored
from dpi_core.analysis.landscape import lookup

pytestmark = pytest.mark.e2e

MARGIN = {"left": 36, "right": 12, "top": 24, "bottom": 40}
PAD_RIGHT = 62
SVG = "{http://www.w3.org/2000/svg}"


class Parameters:
    """What a reader sees and does on the page, reached from the start page or, with `is_link`, opened by its own link."""

    def __init__(self, page, is_link=False):
        self.page = page
        if not is_link:
            # On a small screen the link lies in the closed sidebar.
            page.get_by_role("link", name="Parameters").dispatch_event("click")
        self.headline = page.locator("[data-part=headline][data-db]")
        self.curve = page.locator(".studio [data-chart=curve] canvas")
        self.cursor = page.locator(".studio input[type=range]")
        self.landscape = page.locator(".studio [data-chart=landscape] canvas")
        self.interval = page.locator("[data-part=interval]")
        self.readout = page.locator(".studio [data-part=readout]")
        self.lines = page.locator("code").filter(has_text="curve_errors").first
        expect(self.headline).to_be_visible()
        self.wait_for_python()
        page.get_by_test_id("stExpander").filter(has_text="Python that measures").locator("summary").click()
        self.wait_for_python()

    def wait_for_python(self):
        expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")

    def gain(self):
        return float(self.headline.get_attribute("data-db"))

    def choose(self, preset):
        button = self.page.locator(f"[data-preset={preset}]")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")

    def at(self, s, lam):
        """Where (s, λ) lies on the screen."""
        self.curve.scroll_into_view_if_needed()
        box = self.curve.bounding_box()
        width = box["width"] - MARGIN["left"] - MARGIN["right"]
        height = box["height"] - MARGIN["top"] - MARGIN["bottom"]
        return box["x"] + MARGIN["left"] + s * width, box["y"] + MARGIN["top"] + (1 - lam) * height


@pytest.fixture
def plane():
    return stored.read_model("digits-vp-dpi").parameters.landscape


def gain_of(plane, curve):
    """What Python looks up for a curve, in dB."""
    lam, quality = plane.lam.astype(float), plane.quality.astype(float)
    gain = lookup(lam, quality, np.asarray(curve, dtype=float)) - lookup(lam, quality, plane.learned.astype(float))
    return gain[judged_levels(plane.s)].mean()


def test_presets_cost_what_python_looks_up(open_page, plane):
    page = Parameters(open_page("?model=digits-vp-dpi&t=0.5"))
    assert page.gain() == 0
    middle = int(np.argmin(np.abs(plane.s - 0.5)))
    curves = {
        "linear": plane.s,
        "constant": np.full_like(plane.s, plane.learned[middle]),
        "step": (plane.s >= plane.s[middle]).astype(float),
        "valley": np.where(np.isnan(plane.valley), plane.learned, plane.valley),
        "learned": plane.learned,
    }
    for preset, curve in curves.items():
        page.choose(preset)
        assert page.gain() == pytest.approx(gain_of(plane, curve), abs=2e-3), preset
    page.choose("linear")
    assert page.gain() < -0.5
    expect(page.headline).to_have_text(re.compile(r"^−\d+\.\d\d dB against the learned curve$"))


def test_returning_to_a_curve_while_the_last_run_still_comes_in_does_not_break_the_page(open_page, server):
    page = open_page()
    delayed = []

    def pass_on(socket):
        to_server = socket.connect_to_server()
        to_server.on_message(lambda message: delayed.append(message) if is_slow else socket.send(message))
        sockets.append(socket)

    is_slow, sockets = False, []
    page.route_web_socket(re.compile("/_stcore/stream"), pass_on)
    page.goto(f"{server.url}parameters?model=digits-vp-dpi&t=0.5")
    studio = Parameters(page, is_link=True)
    for preset in ("linear", "constant"):
        studio.choose(preset)
        studio.wait_for_python()
    # Streamlit's browser lets a message go that three runs did without; its request for the next run still counts on it.
    is_slow = True
    studio.choose("step")
    page.wait_for_timeout(1500)
    studio.choose("learned")
    page.wait_for_timeout(1500)
    is_slow = False
    for message in delayed:
        sockets[-1].send(message)
    studio.wait_for_python()
    studio.choose("linear")
    assert studio.gain() < -0.5


def bootstrapped(plane, curve):
    """The 95 % interval of a curve's gain over parts of the samples."""
    judged, parts = judged_levels(plane.s), plane.parts.astype(float)
    lam, learned = plane.lam.astype(float), plane.learned.astype(float)
    gains = np.array([(lookup(lam, part, curve) - lookup(lam, part, learned))[judged].mean() for part in parts])
    draws = np.random.default_rng(0).integers(0, len(gains), (4000, len(gains)))
    return np.percentile(gains[draws].mean(axis=1), [2.5, 97.5])


def test_the_headline_has_its_interval(open_page, plane):
    page = Parameters(open_page("?model=digits-vp-dpi"))
    assert page.interval.inner_text().strip() == ""
    page.choose("linear")
    text = page.interval.inner_text().replace("−", "-")
    found = [float(number) for number in re.match(r"(\S+) to (\S+) dB with 95 % confidence", text).groups()]
    expected = bootstrapped(plane, plane.s.astype(float))
    np.testing.assert_allclose(found, expected, atol=0.1 * np.ptp(expected) + 0.005)
    assert found[0] < page.gain() < found[1]


def test_the_landscape_is_looked_at_by_hovering_and_moves_the_cursor_by_a_click(open_page):
    page = Parameters(open_page("?model=digits-vp-dpi&t=0.5"))
    page.landscape.scroll_into_view_if_needed()
    box = page.landscape.bounding_box()
    at = {"x": MARGIN["left"] + 0.25 * (box["width"] - MARGIN["left"] - PAD_RIGHT), "y": box["height"] / 2}
    page.landscape.hover(position=at)
    expect(page.readout).to_have_text(re.compile("^At t 0.25: "))
    page.page.mouse.move(0, 0)
    expect(page.readout).to_have_text(re.compile("^At t 0.50: "))
    page.landscape.click(position=at)
    expect(page.page).to_have_url(re.compile(r"[?&]t=0\.25(&|$)"))
    page.page.mouse.move(0, 0)
    expect(page.readout).to_have_text(re.compile("^At t 0.25: "))


def test_a_link_reproduces_the_drawn_curve(open_page, server):
    page = Parameters(open_page("?model=digits-vp-dpi&t=0.5"))
    page.choose("step")
    expect(page.page).to_have_url(re.compile("[?&]drawn=[A-Za-z0-9_-]{66}"))
    other = Parameters(open_page(page.page.url.removeprefix(server.url)), is_link=True)
    assert other.gain() == pytest.approx(page.gain(), abs=2e-3) and other.gain() < -0.5
    expect(other.readout).to_have_text(page.readout.inner_text())
    other.choose("learned")
    expect(other.page).not_to_have_url(re.compile("drawn="))


def test_dragging_the_curve_changes_the_headline_while_the_hand_moves(open_page):
    page = Parameters(open_page("?model=digits-vp-dpi&t=0.5"))
    mouse = page.page.mouse
    seen = []
    mouse.move(*page.at(0.25, 0.4))
    mouse.down()
    for lam in (0.3, 0.2, 0.1):
        mouse.move(*page.at(0.25, lam))
        expect(page.curve).to_have_attribute("aria-valuetext", re.compile(f"^λ {lam:.1f}\\d? at t 0.25$"))
        seen.append(page.gain())
    # Python has not heard of it yet; it does when the hand lets go.
    assert 0 > seen[0] > seen[1] > seen[2]
    mouse.up()
    page.wait_for_python()
    expect(page.lines).to_contain_text("dpi_core.FixedSchedule([")
    expect(page.page).to_have_url(re.compile(r"[?&]t=0\.25(&|$)"))


def test_keys_move_the_cursor_and_the_curve(open_page):
    page = Parameters(open_page("?model=digits-vp-dpi&t=0.5"))
    page.curve.focus()
    page.page.keyboard.press("ArrowLeft")
    expect(page.curve).to_have_attribute("aria-valuetext", re.compile("at t 0.47$"))
    before = page.curve.get_attribute("aria-valuenow")
    for _ in range(5):
        page.page.keyboard.press("ArrowUp")
    expect(page.curve).to_have_attribute("aria-valuenow", f"{float(before) + 0.1:.2f}")
    assert page.gain() < 0


def test_the_table_holds_the_curves(open_page, plane):
    page = Parameters(open_page("?model=digits-vp-dpi"))
    page.choose("linear")
    with page.page.expect_download() as download:
        page.page.locator(".studio [data-action=csv]").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(plane.s)
    np.testing.assert_allclose([float(row["lambda_drawn"]) for row in rows], plane.s, atol=1e-6)
    np.testing.assert_allclose([float(row["lambda_learned"]) for row in rows], plane.learned, atol=1e-6)
    with page.page.expect_download() as download:
        page.page.locator(".studio [data-action=csv-landscape]").click()
    rows = list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))[1:]
    np.testing.assert_allclose(np.array(rows, dtype=float), np.column_stack([plane.lam, plane.quality]), rtol=1e-5)
    with page.page.expect_download() as download:
        page.page.locator(".studio [data-action=png]").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_the_saved_vectors_are_the_curves(open_page, plane):
    page = Parameters(open_page("?model=digits-vp-dpi"))
    page.choose("linear")
    with page.page.expect_download() as download:
        page.page.locator(".studio [data-action=svg]").click()
    drawing = ElementTree.parse(download.value.path()).getroot()
    chart = next(
        part for part in drawing.findall(f"{SVG}svg") if "λ: 0 at θ0, 1 at θ1" in map(text_of, part.iter(f"{SVG}text"))
    )
    width, height = map(float, chart.get("viewBox").split()[2:])
    for color, curve in (("rgb(204, 121, 167)", plane.learned), ("#e69f00", plane.s)):
        path = next(part for part in chart.iter(f"{SVG}path") if part.get("stroke") == color)
        points = np.array(re.findall(r"([\d.]+),([\d.]+)", path.get("d")), dtype=float)
        s = (points[:, 0] - MARGIN["left"]) / (width - MARGIN["left"] - MARGIN["right"])
        lam = (height - MARGIN["bottom"] - points[:, 1]) / (height - MARGIN["top"] - MARGIN["bottom"])
        np.testing.assert_allclose(np.column_stack([s, lam]), np.column_stack([plane.s, curve]), atol=1e-3)
    assert len(list(drawing.iter(f"{SVG}image"))) == 4, "the four pictures"


def text_of(element):
    return element.text


def test_an_analysis_is_cancelled_and_the_page_stays_usable(open_page):
    page = Parameters(open_page("?model=digits-vp-dpi"))
    page.page.get_by_test_id("stMain").get_by_text("Samples", exact=True).click()
    expect(page.page.get_by_test_id("stProgress")).to_be_visible()
    page.choose("linear")  # what is stored stays on show, and usable
    assert page.gain() < -0.5
    page.page.get_by_role("button", name="Cancel").click()
    expect(page.page.get_by_test_id("stProgress")).to_have_count(0)
    expect(page.page.get_by_text("128 held-out samples (seed 0), which errors are judged on")).to_be_visible()
    page.choose("learned")
    assert page.gain() == 0


def test_nothing_sticks_out_of_a_telephone(open_page):
    page = Parameters(open_page("?model=mixture2d-flow-dpi", viewport={"width": 390, "height": 844}))
    for tab in ("Distance and angle", "Path", "Two ways to blend", "Regret"):
        page.page.get_by_role("tab", name=tab).click()
        expect(page.page.locator(".js-plotly-plot").first).to_be_visible()
        main = page.page.get_by_test_id("stMain")
        assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
