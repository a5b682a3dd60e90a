"""The Trajectories page in a real browser: playing, stepping, columns from one noise, files that open."""

import codecs
import io
import json
import re
import subprocess
from collections.abc import Callable

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from app.components.player import Run, pack_run, standalone_player
from app.components.standalone import standalone_page

pytestmark = pytest.mark.e2e

PATIENCE = 120_000
TRIES = 3

COUNT_FRAMES = """() => new Promise((done) => {
  const find = (root) => {
    for (const element of root.querySelectorAll("*")) {
      const found = element.matches(".player") ? element : element.shadowRoot && find(element.shadowRoot);
      if (found) return found;
    }
  };
  const player = find(document);
  const frames = (seconds) => new Promise((counted) => {
    const [from, draws] = [performance.now(), Number(player.dataset.draws)];
    let count = 0;
    const tick = () => {
      count++;
      const passed = (performance.now() - from) / 1000;
      if (passed < seconds) requestAnimationFrame(tick);
      else counted({ possible: count / passed, drawn: (Number(player.dataset.draws) - draws) / passed });
    };
    requestAnimationFrame(tick);
  });
  frames(1).then((idle) => {
    player.querySelector('[data-action="play"]').click();
    frames(2).then((busy) => done({ idle: idle.possible, ...busy, s: Number(player.dataset.s) }));
  });
})"""
"""Frames a second that the browser has time for, and that are drawn while the player plays; where it then stands."""


@pytest.fixture
def visit(open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the page, with what a link holds."""
    return lambda query, **options: open_page(f"trajectories?{query}", **options)


@pytest.fixture
def open_runs(visit: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the page and waits until every run is shown."""

    def open_runs(model: str, query: str = "", runs: int = 2, **options) -> Page:
        page = visit(f"model={model}&runs={runs}&{query}", **options)
        expect(page.locator(".column")).to_have_count(runs, timeout=PATIENCE)
        expect(page.locator(".column canvas[data-k]").first).to_be_visible(timeout=PATIENCE)
        return page

    return open_runs


def s_of(page: Page) -> float:
    return float(page.locator(".player").get_attribute("data-s"))


def panel_of(page: Page, column: int, panel: str) -> Locator:
    """A canvas of a run; columns count from 1."""
    return page.locator(f'.column:nth-child({column}) [data-panel="{panel}"] canvas')


def differences(shown: np.ndarray) -> np.ndarray:
    """The red channel inside the pictures of x_s − A's; the first sample is framed, so it is left out."""
    tile = shown.shape[1] // 4
    return shown[tile + tile // 4 : tile + tile // 2, tile // 4 : tile // 2, 0]


def to_the_noise(page: Page) -> None:
    page.get_by_role("slider", name="t, from noise to sample").press("Home")
    expect(page.locator(".player")).to_have_attribute("data-s", "1.000000")


@pytest.mark.parametrize("model", ["mixture2d-flow-dpi", "digits-vp-dpi"])
def test_play_advances_at_fifty_frames_a_second(model, open_runs):
    page = open_runs(model, "steps_a=16&steps_b=8")
    expect_to_keep_up(page)


def test_four_runs_of_sixty_states_keep_up_too(browser, tmp_path):
    rng = np.random.default_rng(0)
    s = np.linspace(1, 0, 60)
    noise = rng.normal(size=(16, 28, 28, 1))
    blobs = []
    for name in "abcd":
        clean = np.broadcast_to(np.tanh(rng.normal(size=noise.shape)), (60, *noise.shape))
        x = s[:, None, None, None, None] * noise + (1 - s[:, None, None, None, None]) * clean
        curve, times = np.stack([s[::-1], s[::-1] ** 2]), tuple(f"t {value:.2f}" for value in s)
        run = Run(name, s, times, x, clean, np.arange(60), np.arange(60.0), lam=s**2, curve=curve)
        blobs.append(pack_run(run))
    file = tmp_path / "player.html"
    file.write_text(standalone_page([standalone_player(blobs, 1.0)], title="Four runs", about={}), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(file.as_uri(), timeout=PATIENCE)
    expect(page.locator(".column canvas[data-k]").first).to_be_visible(timeout=PATIENCE)
    expect_to_keep_up(page)
    page.close()


def expect_to_keep_up(page: Page) -> None:
    """Plays at fifty frames a second, or at nearly as many as the browser has time for."""
    for _ in range(TRIES):
        to_the_noise(page)
        measured = page.evaluate(COUNT_FRAMES)
        assert 0.2 < measured["s"] < 0.8
        # A busy machine is not the player's fault: it leaves the browser fewer frames, and one try may be unlucky.
        if measured["drawn"] >= min(50, 0.8 * measured["idle"]):
            return
        page.get_by_role("button", name="Pause").click()
    pytest.fail(f"the player is slower than the browser: {measured}")


def test_space_steps_reverse_loop_and_scrub(open_runs):
    page = open_runs("digits-vp-dpi", "steps_a=4&steps_b=2")
    slider, player = page.get_by_role("slider", name="t, from noise to sample"), page.locator(".player")
    to_the_noise(page)
    # The columns' levels together: 1, 0.75, 0.5, 0.25, 0.
    for expected in ("0.750000", "0.500000", "0.250000"):
        slider.press("ArrowRight")
        expect(player).to_have_attribute("data-s", expected)
    shown = [page.locator(f'.column:nth-child({n}) [data-panel="x"] canvas').get_attribute("data-k") for n in (1, 2)]
    assert shown == ["3", "1"]
    slider.press("ArrowLeft")
    expect(player).to_have_attribute("data-s", "0.500000")

    play = page.get_by_role("button", name="Play", exact=True)
    slider.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    slider.press("Space")
    expect(play).to_be_visible()
    rest = s_of(page)
    assert rest < 0.5

    page.get_by_role("button", name="Reverse").click()
    play.click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    # Backwards it ends at the noise.
    expect(player).to_have_attribute("data-s", "1.000000", timeout=30_000)
    expect(play).to_be_visible()
    # Python hears of it.
    expect(page.get_by_text("At t = 1.00 run A has made 0 of 4 steps")).to_be_visible()

    page.get_by_role("button", name="Loop").click()
    page.get_by_label("Speed").select_option("2")
    play.click()
    page.wait_for_timeout(5000)
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Pause").click()


@pytest.mark.parametrize("model", ["digits-vp-dpi", "mixture2d-flow-dpi"])
def test_columns_share_the_first_frame_and_part(model, open_runs, pixels_of):
    query = "steps_a=4&steps_b=3&steps_c=2&steps_d=2&sampler_b=DDPM+ancestral"
    page = open_runs(model, query, runs=4, viewport={"width": 1600, "height": 900})
    if model.startswith("mixture"):
        # The arrows are the network's, and each column has its own λ.
        page.get_by_label("Vector field").select_option("off")
    to_the_noise(page)
    states = [pixels_of(panel_of(page, column, "x")) for column in (1, 2, 3, 4)]
    # The colour of particles is that of their parameters, so those of reversed λ differ in it.
    alike = states if model.startswith("digits") else states[:3]
    assert all(np.array_equal(state, states[0]) for state in alike)
    if model.startswith("digits"):
        assert np.ptp(differences(pixels_of(panel_of(page, 2, "third")))) <= 1
    page.get_by_role("slider", name="t, from noise to sample").press("End")
    expect(page.locator(".player")).to_have_attribute("data-s", "0.000000")
    ends = [pixels_of(panel_of(page, column, "x")) for column in (1, 2, 3, 4)]
    assert not any(np.array_equal(ends[0], end) for end in ends[1:])
    if model.startswith("digits"):
        assert np.ptp(differences(pixels_of(panel_of(page, 2, "third")))) > 50


def test_every_file_opens(open_runs, tmp_path):
    page = open_runs("digits-vp-dpi", "steps_a=6&steps_b=3&seed=5")
    page.get_by_role("slider", name="t, from noise to sample").press("End")
    expect(page).to_have_url(re.compile(r"[?&]t=0(&|$)"), timeout=PATIENCE)
    content = {}
    for name in ("GIF", "WebP", "MP4", "PNG sheet", "NPZ", "HTML"):
        with page.expect_download(timeout=PATIENCE) as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        content[name] = waiting.value.path().read_bytes()
        assert waiting.value.suggested_filename == f"digits-vp-dpi-seed5.{name.split()[0].lower()}"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV", exact=True).click()
    table = waiting.value.path().read_bytes()
    assert table.startswith(codecs.BOM_UTF8) and len(table.splitlines()) == 1 + 7 + 4
    for name in ("GIF", "WebP"):
        with Image.open(io.BytesIO(content[name])) as image:
            assert (image.n_frames, image.size) == (7, (470, 502))
    film = tmp_path / "film.mp4"
    film.write_bytes(content["MP4"])
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(film),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    # Seven states, and the last one for a while longer.
    assert len(decoded) == (7 + 17) * 470 * 502 * 3
    with Image.open(io.BytesIO(content["PNG sheet"])) as image:
        image.load()
        about = json.loads(image.text["dpi-explorer"])
    assert (about["seed"], [run["steps"] for run in about["runs"]]) == (5, [6, 3])
    with np.load(io.BytesIO(content["NPZ"])) as states:
        assert states["a_x"].shape == (7, 16, 8, 8, 1)
        np.testing.assert_array_equal(states["a_x"][0], states["b_x"][0])

    file = tmp_path / "player.html"
    file.write_bytes(content["HTML"])
    offline = page.context.browser.new_context(offline=True)
    errors = []
    alone = offline.new_page()
    alone.on("pageerror", lambda error: errors.append(str(error)))
    alone.goto(file.as_uri())
    expect(alone.locator(".column")).to_have_count(2)
    expect(alone.locator(".player")).to_have_attribute("data-s", "0.000000")
    alone.get_by_role("slider", name="t, from noise to sample").press("Home")
    expect(alone.locator(".player")).to_have_attribute("data-s", "1.000000")
    alone.get_by_role("slider", name="t, from noise to sample").press("ArrowRight")
    expect(alone.locator('.column:nth-child(1) [data-panel="x"] canvas')).to_have_attribute("data-k", "1")
    expect(alone.locator("td", has_text="DDIM, 3 steps")).to_be_visible()
    alone.get_by_text("Python that reproduces this").click()
    expect(alone.get_by_text('model.sample(16, "ddim", 3, seed=5)')).to_be_visible()
    offline.close()
    assert errors == []


def test_first_frames_come_early_and_stay_when_the_run_is_cancelled(visit):
    page = visit("model=mixture2d-flow-dpi&runs=1&steps_a=200&sampler_a=RK4&seed=77")
    expect(page.locator(".column")).to_have_count(1, timeout=PATIENCE)
    expect(page.get_by_text("so far").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Cancel").click(timeout=PATIENCE)
    expect(page.get_by_text("Run A: RK4, 200 steps: cancelled.")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".column .note")).to_contain_text("they are kept", timeout=PATIENCE)
    to_the_noise(page)
    page.get_by_text("Choose models, samplers, steps and λ").click()
    page.get_by_label("A: steps", exact=True).fill("2")
    page.get_by_label("A: steps", exact=True).press("Enter")
    expect(page.get_by_text("RK4, 2 steps").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".column .note")).to_be_hidden(timeout=PATIENCE)


def test_a_click_on_a_path_or_a_picture_follows_that_sample(open_runs, pixels_of):
    page = open_runs("digits-vp-dpi", "steps_a=4&plane=true", runs=1)
    caption, chart = page.locator('[data-part="strip-caption"]'), page.locator('[data-chart="plane"] canvas')
    expect(chart).to_be_visible(timeout=PATIENCE)
    expect(caption).to_contain_text("Sample 1,")
    picture = page.locator('[data-panel="x"] canvas')
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] - 4, "y": box["height"] - 4})
    expect(caption).to_contain_text("Sample 16,")
    page.get_by_role("slider", name="t, from noise to sample").press("End")
    # Ends of other paths: the leftmost and the rightmost small dot.
    red, green, blue, _ = np.moveaxis(pixels_of(chart), 2, 0)
    rows, columns = np.nonzero((red < 20) & (green > 140) & (blue > 90) & (blue < 140))
    scale = chart.evaluate("c => c.clientWidth / c.width")
    at = [{"x": float(scale * columns[k]), "y": float(scale * rows[k])} for k in (columns.argmin(), columns.argmax())]
    shown = set()
    for position in at:
        chart.click(position=position)
        shown.add(caption.text_content().split(",")[0])
    assert len(shown | {"Sample 16"}) >= 2


def test_the_vector_field_is_the_networks_the_closed_form_or_their_difference(open_runs, pixels_of):
    page = open_runs("mixture2d-flow-dpi", "steps_a=4", runs=1)
    to_the_noise(page)
    page.get_by_role("slider", name="t, from noise to sample").press("ArrowRight")
    choice, drawn, arrows = page.get_by_label("Vector field"), {}, {}
    for option in choice.locator("option").all():
        choice.select_option(option.get_attribute("value"))
        drawn[option.get_attribute("value")] = pixels_of(panel_of(page, 1, "x"))
    for field in ("learned", "exact", "difference"):
        arrows[field] = int((drawn[field] != drawn["off"]).reshape(-1, 4).any(axis=1).sum())
    assert arrows["learned"] > 1000 and arrows["exact"] > 1000
    # A trained network is close to its optimum, so the difference's arrows are short.
    assert 0 < arrows["difference"] < arrows["exact"] / 2
    assert not np.array_equal(drawn["learned"], drawn["exact"])
