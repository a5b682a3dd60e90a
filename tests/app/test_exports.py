"""Exported files are decoded again: frames, pictures, numbers, and the seed in their metadata."""

import html
import io
import json
import re
import subprocess
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from app.components.player import pack_run
from app.figures import offline
from app.figures.offline import Origin, trajectories_page
from app.figures.offline_parts import thinned_run
from app.figures.trajectories import run_figure
from app.records import Inputs, TrajectoryRequest, TrajectoryResult, VectorField
from app.services import exports, stored

ABOUT = {"model": "digits-vp-dpi", "seed": 7, "runs": [{"sampler": "heun", "steps": 5, "lambda": "learned <λ>"}]}


def result(steps: int, points: bool = False) -> TrajectoryResult:
    """States that grow from black to white, or points that move from left to right."""
    k, n = steps + 1, 4
    growth = np.linspace(-1, 1, k, dtype=np.float32)
    shape = (n, 2) if points else (n, 3, 3, 1)
    x = np.broadcast_to(growth.reshape(-1, *[1] * len(shape)), (k, *shape)).copy()
    lattice = np.array([[0.0, 0.0]])
    field = VectorField(2.0, lattice, np.ones((k, 1, 2)), None, np.zeros((5, 5), np.float32)) if points else None
    return TrajectoryResult(
        s=np.linspace(1, 0, k),
        lam=np.linspace(1, 0, k),
        curve=np.array([[0.0, 1.0], [0.0, 1.0]]),
        native=tuple(map(str, range(k))),
        scale=np.linspace(2, 1, k),
        x=x,
        x0_hat=-x,
        nfe=np.arange(k),
        ms=np.arange(k) * 1.5,
        straightness=np.ones(n),
        turning=np.zeros(n),
        field=field,
    )


RUNS = [result(12), result(5)]
CASES = pytest.mark.parametrize("runs", [RUNS, RUNS[1:], [result(6, points=True)]], ids=["two", "one", "points"])


def centre(image: Image.Image, column: int, row: int) -> tuple[int, ...]:
    """The pixel in the middle of a run's picture."""
    tile, gap, label = exports.TILE, exports.GAP, exports.LABEL
    left, top = gap + column * (tile + gap), gap + row * (tile + label + gap) + label
    return image.convert("RGB").getpixel((left + tile // 4, top + tile // 4))


@CASES
@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_has_one_frame_for_each_step_and_its_settings(runs, kind):
    content = (exports.gif if kind == "GIF" else exports.webp)(runs, ABOUT)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.n_frames) == (kind, max(len(run.s) for run in runs))
        assert image.size == (len(runs) * (exports.TILE + exports.GAP) + exports.GAP, 2 * (exports.TILE + 26) + 10)
        if kind == "GIF":
            assert json.loads(image.info["comment"]) == ABOUT
        else:
            text = image.info["xmp"].decode()
            assert json.loads(html.unescape(re.search(r"<dc:description>(.*)</dc:description>", text)[1])) == ABOUT


def ffmpeg(*arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


@CASES
def test_a_film_has_one_frame_for_each_step_stands_still_at_its_end_and_names_its_settings(runs, tmp_path):
    file = tmp_path / "run.mp4"
    file.write_bytes(exports.mp4(runs, ABOUT))
    width, height = len(runs) * (exports.TILE + exports.GAP) + exports.GAP, 2 * (exports.TILE + 26) + 10
    pixels = np.frombuffer(ffmpeg("-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8)
    shown = pixels.reshape(-1, height, width, 3)
    assert len(shown) == max(len(run.s) for run in runs) + exports.LAST_MS // exports.FRAME_MS
    if runs is RUNS:
        ends = [[centre(Image.fromarray(frame), column, 0)[0] for column in (0, 1)] for frame in (shown[0], shown[-1])]
        np.testing.assert_allclose(ends, [[0, 0], [255, 255]], atol=8)
    text = ffmpeg("-i", str(file), "-f", "ffmetadata", "-").decode()
    # FFmpeg writes a backslash before characters that mean something to it.
    comment = re.sub(r"\\(.)", r"\1", re.search(r"^comment=(.*)$", text, re.MULTILINE)[1])
    assert json.loads(comment) == ABOUT


@pytest.mark.parametrize("make", [exports.gif, exports.webp])
def test_the_frames_run_from_noise_to_sample(make):
    with Image.open(io.BytesIO(make(RUNS, ABOUT))) as image:
        shown = []
        for frame in (0, image.n_frames - 1):
            image.seek(frame)
            shown.append([centre(image, column, row)[0] for column in (0, 1) for row in (0, 1)])
    np.testing.assert_allclose(shown, [[0, 255, 0, 255], [255, 0, 255, 0]], atol=6)


@CASES
def test_a_sheet_has_a_row_for_each_run_and_its_settings(runs):
    with Image.open(io.BytesIO(exports.sheet(runs, ABOUT))) as image:
        image.load()
        assert json.loads(image.text[exports.ABOUT]) == ABOUT
        assert image.size == (8 * 230 + 10, len(runs) * 246 + 10)
        if runs is RUNS:
            # Column 4 shows s = 3/7: the long run has made 6 of 12 steps, the short one 2 of 5.
            assert centre(image, 4, 0)[0] == pytest.approx(127.5, abs=1)
            assert centre(image, 4, 1)[0] == pytest.approx(255 * 2 / 5, abs=1)


@CASES
def test_npz_holds_the_states_in_their_own_scale(runs):
    with np.load(io.BytesIO(exports.npz(runs, ABOUT))) as file:
        assert json.loads(str(file["about"])) == ABOUT
        for letter, run in zip("ab", runs, strict=False):
            scale = run.scale.reshape(-1, *[1] * (run.x.ndim - 1))
            np.testing.assert_allclose(file[f"{letter}_x"], run.x * scale, rtol=1e-6)
            np.testing.assert_array_equal(file[f"{letter}_s"], run.s)
            np.testing.assert_array_equal(file[f"{letter}_lam"], run.lam)


def test_points_are_drawn_where_they_stand():
    run = result(4, points=True)
    pixels = np.asarray(exports._scatter(run, np.array([[1.0, -1.0], [9.0, 0.0]]), 4)).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - pixels[0, 0]).sum(-1))
    # x = 1 of ±2 is three quarters to the right, y = −1 three quarters down; what lies outside is left out.
    assert (rows.tolist(), columns.tolist()) == ([164], [164])
    assert pixels[164, 164].tolist() == exports.THETA0.tolist()


def test_the_offline_page_holds_runs_and_settings_and_asks_for_nothing():
    run = RUNS[0]
    model = stored.read_model("digits-vp-dpi")
    request = TrajectoryRequest(model.key, Inputs("samples", 4, 7), "heun", 12, "uniform", "learned", 0.5, "cpu")
    origin = Origin(model, ABOUT, {"Lines <of Python>": "x < 1"})
    page = trajectories_page(origin, ["Heun"], [(request, run)], None, 0.5)
    found = re.search(r'<meta name="dpi-settings" content="(.*)">', page)[1]
    assert json.loads(html.unescape(found)) == ABOUT
    assert "<title>digits-vp-dpi: samples from noise, seed 7</title>" in page and "x &lt; 1" in page
    k = int((run.s >= 0.5).sum()) - 1
    assert f"At <strong>t = 0.50</strong> run A has made {k} of 12 steps" in page
    assert f"<td>{run.nfe[-1]}</td><td>{run.ms[-1]:.0f}</td>" in page
    assert not re.search(r"""(src|href)=["'](?!\$\{)|https?://(?!www\.w3\.org/2000/svg)|import\s""", page)


@pytest.mark.parametrize("points", [False, True])
def test_a_run_too_long_for_a_page_is_thinned_and_the_page_says_so(points, monkeypatch):
    run = result(12, points)
    if points:
        run = replace(run, field=replace(run.field, learned=np.ones((13, 1, 2))))
    few = thinned_run(run, 5)
    for name in ("s", "x", "x0_hat", "nfe", "ms", "lam"):
        np.testing.assert_array_equal(getattr(few, name), getattr(run, name)[[0, 5, 10, 12]])
    assert few.native == ("0", "5", "10", "12") and (not points or few.field.learned.shape == (4, 1, 2))
    model = stored.read_model("digits-vp-dpi")
    request = TrajectoryRequest(model.key, Inputs("samples", 4, 7), "heun", 12, "uniform", "learned", 0.5, "cpu")
    whole = len(pack_run(run_figure("Heun", run)))
    monkeypatch.setattr(offline, "MOST_FRAME_BYTES", whole // 2)
    page = trajectories_page(Origin(model, ABOUT, {}), ["Heun"], [(request, run)], None, 0.5)
    every = -(-whole // (whole // 2))
    assert f"one in {every} of the page&#x27;s frames" in page and "of 12 steps" in page
