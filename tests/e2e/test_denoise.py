"""The Denoise page in a real browser: scrubbing, the pad, links, other inputs, uploads, downloads."""

import csv
import io
import math
import re
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from PIL import Image, ImageFilter
from playwright.sync_api import expect

from app.services import stored

pytestmark = pytest.mark.e2e

PANELS = ("clean", "noised", "denoised", "residual")
PAD_MARGIN = {"left": 36, "right": 62, "top": 24, "bottom": 40}
CHART_MARGIN = {"left": 36, "right": 12, "top": 24, "bottom": 40}

FIND = """name => {
  const roots = [...document.querySelectorAll("*")].map((element) => element.shadowRoot).filter(Boolean);
  return [document, ...roots].map((root) => root.querySelector(name)).find(Boolean);
}"""


class Denoise:
    """What a reader sees and does on the page."""

    def __init__(self, page):
        self.page = page
        self.slider = page.locator(".scrubber input[type=range]")
        self.pad = page.locator("[data-chart=pad] canvas")
        self.sentence = page.get_by_test_id("stMarkdownContainer").filter(has_text=re.compile("^At t = "))
        self.progress = page.get_by_test_id("stProgress")
        self.error = page.get_by_test_id("stAlert")
        expect(page.locator(".scrubber:not(.waiting)")).to_be_visible()
        self.wait_for_python()

    def wait_for_python(self):
        """Until the script has come to its end and everything it draws is there."""
        expect(self.sentence).to_be_visible()
        expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")

    def canvas(self, name):
        return self.page.locator(f"[data-panel={name}] canvas, [data-chart={name}] canvas")

    def canvases(self):
        return self.page.locator(".scrubber figure:not([hidden]) canvas")

    def part(self, name):
        return self.page.locator(f"[data-part={name}]")

    def button(self, action):
        return self.page.locator(f"[data-action={action}]")

    def expect_frame(self, k):
        """Every panel and every chart shows frame k."""
        for canvas in self.canvases().all():
            expect(canvas).to_have_attribute("data-k", str(k))
        expect(self.slider).to_have_js_property("value", str(k))

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def choose_inputs(self, kind):
        self.page.get_by_test_id("stButtonGroup").get_by_text(kind, exact=True).click()

    def chosen_inputs(self):
        return self.page.get_by_test_id("stButtonGroup").locator("[aria-checked=true]")

    def choose_model(self, name):
        box = self.page.get_by_role("combobox", name="Model", exact=True)
        box.click()
        box.fill(name)  # of a long list only what is in sight is there to be clicked
        self.page.get_by_role("option", name=name, exact=True).click()

    def point(self, chart, margin, x, y):
        """Where on the page a chart shows the values x and y, both in [0, 1]."""
        box = self.canvas(chart).bounding_box()
        left, right = box["x"] + margin["left"], box["x"] + box["width"] - margin["right"]
        top, bottom = box["y"] + margin["top"], box["y"] + box["height"] - margin["bottom"]
        return left + x * (right - left), bottom + y * (top - bottom)

    def hold(self, s, lam):
        """Puts the ring of the pad somewhere by mouse."""
        self.pad.scroll_into_view_if_needed()
        self.page.mouse.click(*self.point("pad", PAD_MARGIN, s, lam))

    def thumb(self, k):
        """Where on the page the slider's thumb is for frame k of 101."""
        box = self.slider.bounding_box()
        return box["x"] + 10 + (box["width"] - 20) * k / 100, box["y"] + box["height"] / 2

    def picture(self, name):
        """A canvas as text, to tell whether two are the same."""
        return self.canvas(name).evaluate("canvas => canvas.toDataURL()")

    def wait_for_other_picture(self, name, than):
        """Until a canvas shows something else."""
        self._wait_for_picture(name, "!==", than)

    def wait_for_same_picture(self, name, as_):
        """Until a canvas shows what it has shown."""
        self._wait_for_picture(name, "===", as_)

    def _wait_for_picture(self, name, compare, picture):
        found = f"({FIND})('[data-panel={name}] canvas').toDataURL()"
        self.page.wait_for_function(f"picture => {found} {compare} picture", arg=picture)

    def parameters(self):
        return {name: values[0] for name, values in parse_qs(urlparse(self.page.url).query).items()}

    def expect_parameters(self, **expected):
        """The URL follows a moment after the script; None stands for absent."""
        self.page.wait_for_function(
            """expected => {
              const found = new URLSearchParams(location.search);
              return Object.entries(expected).every(([name, value]) => found.get(name) === value);
            }""",
            arg=expected,
        )

    def link(self):
        expander = self.page.get_by_test_id("stExpander").filter(has_text="Link to this screen")
        if not expander.locator("code").is_visible():
            expander.locator("summary").click()
        return expander


@pytest.fixture
def denoise(open_page):
    """Opens the page, with what a link holds."""
    return lambda query="", **options: Denoise(open_page(query, **options))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def upload(page, **contents):
    files = [{"name": f"{name}.png", "mimeType": "image/png", "buffer": content} for name, content in contents.items()]
    page.page.locator("input[type=file]").set_input_files(files)


# Opening ---------------------------------------------------------------------------------------------------------


def test_the_first_picture_comes_soon_after_a_cold_start(server, record_property):
    record_property("cold_start_seconds", round(server.cold_start, 2))
    print(f"cold start: {server.cold_start:.2f} s")
    # The bound of 4 s is measured in benchmarks, on a machine that does nothing else; tests share theirs.
    assert server.cold_start < 8


def kind_of(name):
    """What the page draws differently: points or images, their channels, the process, and whether there are two sets."""
    model = stored.read_model(name)
    return model.is_image and model.recipe["shape"][0], model.recipe["process"]["kind"], model.has_two_sets


OF_EACH_KIND = {kind_of(name): name for name in stored.model_names()}.values()
LOOKS = [*((name, "light") for name in OF_EACH_KIND), ("digits-vp-dpi", "dark"), ("mixture2d-flow-dpi", "dark")]


@pytest.mark.parametrize(("model", "scheme"), LOOKS)
def test_every_figure_is_drawn_in_light_and_dark(denoise, pixels_of, model, scheme):
    page = denoise(f"?model={model}", color_scheme=scheme)
    page.expect_frame(35)
    names = [*PANELS, "score", *(["lambda", "pad"] if model.endswith("-dpi") else [])]
    assert page.canvases().count() == len(names)
    for name in names:
        colours = np.unique(pixels_of(page.canvas(name)).reshape(-1, 4), axis=0)
        assert len(colours) > 5, f"{name} is blank"
    background = page.page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    brightness = np.mean([int(value) for value in re.findall(r"\d+", background)[:3]])
    assert brightness > 200 if scheme == "light" else brightness < 60


def test_a_phone_shows_everything_without_scrolling_sideways(denoise):
    page = denoise(viewport={"width": 390, "height": 844}, has_touch=True)
    overflow = "e => e.scrollWidth - e.clientWidth"
    assert page.page.locator("html").evaluate(overflow) <= 0
    assert page.page.get_by_test_id("stMain").evaluate(overflow) <= 0
    for canvas in page.canvases().all():
        box = canvas.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.canvas("lambda").scroll_into_view_if_needed()
    page.page.touchscreen.tap(*page.point("lambda", CHART_MARGIN, 0.75, 0.5))
    page.expect_frame(75)
    expect(page.sentence).to_contain_text("At t = 0.75")


def test_the_start_page_is_found_by_its_name_too(denoise):
    page = denoise("denoise?model=digits-vp-none&t=0.7")
    page.expect_frame(70)
    page.expect_parameters(model="digits-vp-none", t="0.7")
    assert urlparse(page.page.url).path == "/"
    expect(page.page.get_by_text("Page not found")).to_have_count(0)
    expect(page.page.get_by_role("link", name="Start")).to_have_count(0)


# Scrubbing -------------------------------------------------------------------------------------------------------


def test_keys_move_panels_charts_and_read_out_together_and_python_follows(denoise):
    page = denoise()
    page.slider.focus()
    page.press(*["ArrowRight"] * 5)
    page.expect_frame(40)
    expect(page.part("readout")).to_contain_text("s 0.40")
    expect(page.part("readout")).to_contain_text("DDPM step 400")
    expect(page.slider).to_have_attribute("aria-valuetext", re.compile(r"t 0\.40, λ 0\.51, DDPM step 400"))
    expect(page.sentence).to_contain_text("At t = 0.40")
    page.press("ArrowLeft", "PageUp")
    page.expect_frame(49)
    page.press("End")
    page.expect_frame(100)
    expect(page.sentence).to_contain_text("At t = 1.00")
    page.press("Home")
    page.expect_frame(0)
    expect(page.sentence).to_contain_text("Nothing was added, so x̂0 is the clean image.")
    page.expect_parameters(t="0")


def test_the_step_buttons_move_by_one_frame(denoise):
    page = denoise()
    page.button("forward").click()
    page.button("forward").click()
    page.expect_frame(37)
    page.button("back").click()
    page.expect_frame(36)
    expect(page.sentence).to_contain_text("At t = 0.36")


def test_a_key_press_is_drawn_within_50_ms(denoise, record_property):
    page = denoise()
    page.slider.focus()
    page.canvas("denoised").evaluate(
        """canvas => {
          window.latencies = [];
          let pressed = null;
          addEventListener("keydown", (event) => (pressed = event.timeStamp), true);
          new MutationObserver(() => {
            if (pressed !== null) window.latencies.push(performance.now() - pressed);
            pressed = null;
          }).observe(canvas, { attributes: true, attributeFilter: ["data-k"] });
        }"""
    )
    for _ in range(30):
        page.press("ArrowRight")
        page.page.wait_for_timeout(40)
    page.expect_frame(65)
    latencies = page.page.evaluate("window.latencies")
    assert len(latencies) == 30
    record_property("keydown_to_draw_ms", round(float(np.median(latencies)), 1))
    print(f"keydown to draw: median {np.median(latencies):.1f} ms, 95 % {np.quantile(latencies, 0.95):.1f} ms")
    assert np.median(latencies) < 50


# One event per animation frame, as from a hand on a trackpad; the browser driver's mouse sends only fifty a second.
DRAG = """async (slider) => {
  const canvas = slider.getRootNode().querySelector("[data-panel=denoised] canvas");
  const drawn = [];
  const observer = new MutationObserver(() => drawn.push([performance.now(), canvas.dataset.k]));
  observer.observe(canvas, { attributes: true, attributeFilter: ["data-k"] });
  for (let frame = 0; frame < 120; frame++) {
    await new Promise(requestAnimationFrame);
    slider.value = Math.abs(100 - frame);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  observer.disconnect();
  return drawn;
}"""


def test_a_drag_is_drawn_at_50_frames_a_second(denoise, record_property):
    page, rates = denoise(), []
    # Whatever else the machine does can only slow a run down.
    for _ in range(3):
        drawn = page.slider.evaluate(DRAG)
        assert len(drawn) >= 118, "every event is drawn"
        rates.append((len(drawn) - 1) / (drawn[-1][0] - drawn[0][0]) * 1000)
    record_property("frames_per_second", round(max(rates), 1))
    print("frames per second:", ", ".join(f"{rate:.1f}" for rate in rates))
    assert max(rates) >= 50


def test_python_hears_of_a_drag_only_when_the_hand_lets_go(denoise):
    page = denoise()
    before = page.sentence.inner_text()
    sent = page.page.evaluate(
        """() => {
          window.sent = 0;
          const send = WebSocket.prototype.send;
          WebSocket.prototype.send = function (...message) { window.sent++; return send.apply(this, message); };
          return window.sent;
        }"""
    )
    page.page.mouse.move(*page.thumb(35))
    page.page.mouse.down()
    for k in range(36, 71):
        page.page.mouse.move(*page.thumb(k))
    page.expect_frame(70)
    page.page.wait_for_timeout(500)
    assert page.page.evaluate("window.sent") == sent == 0
    assert page.sentence.inner_text() == before
    page.page.mouse.up()
    expect(page.sentence).to_contain_text("At t = 0.70")
    page.expect_parameters(t="0.7")
    assert page.page.evaluate("window.sent") == 1


def test_no_frame_is_blank_while_dragging_and_when_the_hand_lets_go(denoise):
    page = denoise()
    page.slider.evaluate(
        """slider => {
          const canvases = [...slider.getRootNode().querySelectorAll("figure:not([hidden]) canvas")];
          window.blanks = [];
          window.frames = 0;
          const isBlank = (canvas) => {
            if (!canvas.isConnected || canvas.width < 10) return true;
            const small = new OffscreenCanvas(16, 16).getContext("2d");
            small.drawImage(canvas, 0, 0, 16, 16);
            const { data } = small.getImageData(0, 0, 16, 16);
            return data.every((value, i) => value === data[i % 4]);
          };
          const look = () => {
            window.frames++;
            canvases.forEach((canvas, i) => isBlank(canvas) && window.blanks.push([window.frames, i]));
            window.looking = requestAnimationFrame(look);
          };
          look();
        }"""
    )
    page.page.mouse.move(*page.thumb(35))
    page.page.mouse.down()
    for k in [*range(35, 95, 2), *range(95, 5, -2)]:
        page.page.mouse.move(*page.thumb(k))
    page.page.mouse.up()
    expect(page.sentence).to_contain_text("At t = 0.07")
    page.wait_for_python()
    frames, blanks = page.page.evaluate("[window.frames, window.blanks]")
    assert frames > 30
    assert blanks == []


def test_a_chart_is_scrubbed_too(denoise):
    page = denoise()
    page.page.mouse.move(*page.point("score", CHART_MARGIN, 0.2, 0.5))
    page.page.mouse.down()
    page.page.mouse.move(*page.point("score", CHART_MARGIN, 0.6, 0.5), steps=5)
    page.expect_frame(60)
    page.page.mouse.up()
    expect(page.sentence).to_contain_text("At t = 0.60")


def test_space_plays_and_pauses(denoise):
    page = denoise()
    page.slider.focus()
    page.press("Space")
    expect(page.button("play")).to_have_text("Pause")
    expect(page.canvas("denoised")).not_to_have_attribute("data-k", "35")
    page.press("Space")
    expect(page.button("play")).to_have_text("Play")
    page.page.wait_for_timeout(200)  # the last frame is still to be drawn
    stopped = int(page.canvas("denoised").get_attribute("data-k"))
    page.page.wait_for_timeout(300)
    page.expect_frame(stopped)
    expect(page.sentence).to_contain_text(f"At t = {stopped / 100:.2f}")


# The pad ---------------------------------------------------------------------------------------------------------


def test_the_mouse_takes_the_parameters_off_the_learned_curve_and_a_button_brings_them_back(denoise):
    page = denoise()
    expect(page.pad).to_have_attribute("data-pad", "")
    expect(page.part("readout")).to_have_text("s 0.35  ·  λ 0.47  ·  DDPM step 350")
    expect(page.button("follow")).to_be_disabled()
    page.pad.scroll_into_view_if_needed()
    page.page.mouse.move(*page.point("pad", PAD_MARGIN, 0.4, 0.6))
    page.page.mouse.down()
    page.page.mouse.move(*page.point("pad", PAD_MARGIN, 0.5, 0.25), steps=8)
    expect(page.pad).to_have_attribute("data-pad", "16,8")
    expect(page.part("readout")).to_contain_text("noise s 0.50  ·  parameters λ 0.25 (learned 0.59)  ·  vs best λ −")
    page.expect_frame(50)
    page.page.mouse.up()
    expect(page.sentence).to_contain_text("held at λ = 0.25 (75 % θ0 and 25 % θ1); the learned curve has 0.59 here")
    page.expect_parameters(t="0.5", lam="0.25")
    page.button("follow").click()
    expect(page.pad).to_have_attribute("data-pad", "")
    expect(page.part("readout")).to_have_text("s 0.50  ·  λ 0.59  ·  DDPM step 500")
    expect(page.sentence).to_contain_text("The network runs at λ = 0.59")
    page.expect_parameters(t="0.5", lam=None)


def test_arrow_keys_move_the_ring_of_the_pad(denoise):
    page = denoise("?t=0.5")
    page.pad.focus()
    page.press("ArrowDown", "ArrowDown", "ArrowRight")
    expect(page.pad).to_have_attribute("data-pad", "17,17")
    expect(page.pad).to_have_attribute("aria-valuetext", "noise s 0.53, parameters λ 0.53")
    expect(page.sentence).to_contain_text("held at λ = 0.53")
    page.press("Home")
    expect(page.pad).to_have_attribute("data-pad", "0,17")


def test_moving_the_slider_relinks(denoise):
    page = denoise("?t=0.5&lam=0.25")
    expect(page.pad).to_have_attribute("data-pad", "16,8")
    page.slider.focus()
    page.press("ArrowRight")
    expect(page.pad).to_have_attribute("data-pad", "")
    page.expect_frame(51)


def test_the_parameters_change_the_estimate_and_not_the_input(denoise):
    page = denoise("?t=0.5&lam=0.5938")
    noised, denoised = page.picture("noised"), page.picture("denoised")
    page.pad.focus()
    page.press("PageDown")
    expect(page.pad).to_have_attribute("data-pad", "16,9")
    assert page.picture("noised") == noised
    assert page.picture("denoised") != denoised


# Links -----------------------------------------------------------------------------------------------------------


def test_a_copied_link_shows_the_same_screen(denoise):
    page = denoise()
    page.choose_model("mixture2d-flow-dpi")
    expect(page.part("readout")).to_contain_text("flow time")
    seed = page.page.get_by_label("Seed", exact=True)
    seed.fill("3")
    seed.press("Enter")
    page.expect_parameters(seed="3")
    before = page.picture("clean")
    page.choose_inputs("Held-out")
    page.wait_for_other_picture("clean", than=before)
    expect(page.progress).to_have_count(0)
    page.hold(0.5, 0.25)
    page.expect_parameters(model="mixture2d-flow-dpi", inputs="Held-out", seed="3", t="0.5", lam="0.25")
    page.wait_for_python()
    expect(page.link().locator("code")).to_contain_text("lam=0.25")
    link = page.link().locator("code").inner_text()
    assert {name: values[0] for name, values in parse_qs(urlparse(link).query).items()} == page.parameters()

    copy = denoise(f"?{urlparse(link).query}")
    expect(copy.progress).to_have_count(0)
    expect(copy.pad).to_have_attribute("data-pad", "16,8")
    copy.expect_frame(50)
    assert copy.part("readout").inner_text() == page.part("readout").inner_text()
    assert copy.sentence.inner_text() == page.sentence.inner_text()
    for name in PANELS:
        assert copy.picture(name) == page.picture(name), name


def test_a_link_with_a_held_lambda_waits_for_the_pad_of_its_inputs(denoise):
    page = denoise("?inputs=Digits&seed=21&t=0.5&lam=0.25")
    expect(page.pad).to_have_attribute("data-pad", "16,8")
    expect(page.sentence).to_contain_text("held at λ = 0.25")
    page.expect_parameters(inputs="Digits", seed="21", t="0.5", lam="0.25")


def test_a_blind_model_follows_the_cursor_of_a_held_pad(denoise):
    page = denoise("?t=0.5&lam=0.25")
    page.choose_model("digits-vp-none")
    expect(page.sentence).to_contain_text("The network is blind")
    expect(page.pad).to_be_hidden()
    page.expect_frame(50)
    page.choose_model("digits-vp-dpi")
    expect(page.sentence).to_contain_text("held at λ = 0.25")
    expect(page.pad).to_have_attribute("data-pad", "16,8")


# Other inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Digits", "Samples"])
def test_other_inputs_are_computed_with_progress_and_shown(denoise, kind):
    page = denoise("?seed=11")
    before = {name: page.picture(name) for name in PANELS}
    page.choose_inputs(kind)
    expect(page.progress).to_be_visible()
    expect(page.progress).to_have_count(0)
    for name in PANELS:
        assert page.picture(name) != before[name], name
    expect(page.pad).to_be_visible()
    page.expect_frame(35)
    page.expect_parameters(inputs=kind)
    page.choose_inputs("Stored")
    page.wait_for_same_picture("clean", before["clean"])


def test_the_figure_stays_while_controls_come_and_go_above_it(denoise):
    page = denoise("?seed=13")
    figure = page.page.locator(".scrubber").element_handle()
    page.choose_inputs("Held-out")
    expect(page.progress).to_be_visible()
    expect(page.progress).to_have_count(0)
    page.choose_inputs("Upload")
    expect(page.page.get_by_test_id("stFileUploader")).to_be_visible()
    page.wait_for_python()
    page.choose_inputs("Stored")
    expect(page.page.get_by_test_id("stFileUploader")).to_have_count(0)
    page.wait_for_python()
    assert figure.evaluate("figure => figure.isConnected"), "it was built anew, which blinks"
    expect(page.page.locator(".scrubber")).to_have_count(1)


def test_a_computation_is_cancelled_and_the_page_stays_usable(denoise):
    page = denoise("?seed=12")
    before = page.picture("clean")
    page.choose_inputs("Samples")
    page.page.get_by_role("button", name="Cancel").click()
    expect(page.chosen_inputs()).to_have_text("Stored")
    expect(page.progress).to_have_count(0)
    assert page.picture("clean") == before
    page.slider.focus()
    page.press("ArrowRight")
    page.expect_frame(36)
    expect(page.sentence).to_contain_text("At t = 0.36")


# Uploads ---------------------------------------------------------------------------------------------------------


def test_an_upload_is_shown_and_left_out_of_the_link(denoise, pixels_of):
    page = denoise("?inputs=Upload")
    before = page.picture("clean")
    left_black = np.zeros((80, 80), np.uint8)
    left_black[:, 40:] = 255
    upload(page, mine=png(left_black))
    page.wait_for_other_picture("clean", than=before)
    expect(page.progress).to_have_count(0)
    clean = pixels_of(page.canvas("clean"))[..., :3].mean((0, 2))
    assert clean[: len(clean) * 2 // 5].max() < 40 and clean[len(clean) * 3 // 5 :].min() > 215
    expect(page.link()).to_contain_text("Your image is private and not part of the link.")
    page.slider.focus()
    page.press("ArrowRight")
    page.expect_frame(36)
    expect(page.sentence).to_contain_text("At t = 0.36")

    shown = page.picture("clean")
    upload(page, x=b"this is text")
    expect(page.error).to_have_text(
        "x.png: The file is not an image that can be read; choose a PNG, JPEG, WebP, GIF or TIFF, or leave it out."
    )
    page.wait_for_python()
    assert page.picture("clean") == shown

    upload(page, a=png(left_black), b=png(left_black[:, ::-1]), x=b"this is text")
    page.wait_for_other_picture("clean", than=shown)
    expect(page.page.get_by_text("On your 2 images.")).to_be_visible()
    expect(page.error).to_contain_text("x.png: The file is not an image")
    expect(page.link()).to_contain_text("Your images are private and not part of the link.")


def test_sessions_do_not_share_uploads_or_cursors(denoise):
    mine, other = denoise("?inputs=Upload"), denoise("?inputs=Upload")
    before = other.picture("clean")
    upload(mine, mine=png(np.full((20, 20), 200, np.uint8)))
    mine.wait_for_other_picture("clean", than=before)
    mine.slider.focus()
    mine.press("End")
    expect(mine.sentence).to_contain_text("At t = 1.00")
    other.slider.focus()
    other.press("ArrowLeft")
    expect(other.sentence).to_contain_text("At t = 0.34")
    other.expect_frame(34)
    assert mine.picture("clean") != other.picture("clean") == before


# Downloads -------------------------------------------------------------------------------------------------------


def test_the_picture_that_is_saved_is_the_one_on_show(denoise):
    page = denoise()
    with page.page.expect_download() as download:
        page.button("png").click()
    assert download.value.suggested_filename == "digits-vp-dpi-s0.35.png"
    image = Image.open(download.value.path())
    assert image.format == "PNG" and image.width > 1500 and image.height > 900
    pixels = np.asarray(image.convert("L"), float)
    tiles = [tile for row in np.array_split(pixels, 3) for tile in np.array_split(row, 3, axis=1)]
    assert all(tile.std() > 5 for tile in tiles), "no part of it is empty"
    page.expect_frame(35)


@pytest.mark.parametrize("model", ["digits-vp-dpi", "mixture2d-flow-dpi"])
def test_saved_pixels_and_vectors_are_one_picture(denoise, browser, model, tmp_path):
    page = denoise(f"?model={model}")
    saved = {}
    for kind in ("png", "svg"):
        with page.page.expect_download() as download:
            page.button(kind).click()
        saved[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[kind])
    pixels = Image.open(saved["png"]).convert("RGB")
    viewer = browser.new_page()
    viewer.goto(saved["svg"].as_uri())
    box = viewer.locator("svg").first.bounding_box()
    viewer.set_viewport_size({"width": math.ceil(box["width"]), "height": math.ceil(box["height"])})
    vectors = Image.open(io.BytesIO(viewer.screenshot())).convert("RGB")
    assert abs(pixels.width / 2 - vectors.width) <= 1
    # Texts have another font and break elsewhere; blurred, they weigh little beside a curve or a picture that is missing.
    height = min(pixels.height // 2, vectors.height)
    one, other = (
        np.asarray(image.resize((vectors.width, size)).filter(ImageFilter.GaussianBlur(6)), float)[50 : height - 60]
        for image, size in ((pixels, pixels.height // 2), (vectors, vectors.height))
    )
    tiles = [
        [tile for row in np.array_split(image, 4) for tile in np.array_split(row, 8, axis=1)] for image in (one, other)
    ]
    differences = [np.abs(a - b).mean() / max(a.std(), 10) for a, b in zip(*tiles, strict=True)]
    assert max(differences) < 0.4, np.round(differences, 2)


def test_the_table_that_is_saved_holds_the_curves(denoise):
    page = denoise()
    with page.page.expect_download() as download:
        page.button("csv").click()
    assert download.value.suggested_filename == "digits-vp-dpi-s0.35.csv"
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["chart", "series", "s", "value", "low", "high", "native"]
    series = {name: [row for row in rows if row["series"] == name] for name in {row["series"] for row in rows}}
    family = [name for name in stored.model_names() if name.startswith("digits-vp-")]
    assert {name: len(found) for name, found in series.items()} == {"lambda": 101, **dict.fromkeys(family, 17)}
    assert [float(row["value"]) for row in series["lambda"]][::100] == [0, 1]
    assert series["lambda"][35]["native"] == "DDPM step 350"
    for row in series["digits-vp-dpi"]:
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
