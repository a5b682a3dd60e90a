"""Figures and sentences of the Denoise page, and the lines of Python that reproduce what it shows."""

import io
import json
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.components.scrubber import pack
from app.figures.denoise import (
    error_at,
    error_chart,
    gain_over_best,
    pad_figure,
    second_sentence,
    sentence,
    shown_chart,
    sweep_figure,
)
from app.figures.reproduce import denoise_lines, stored_inputs
from app.records import Inputs, PadRequest, SweepRequest, Upload
from app.services import stored
from app.services.inference import Engine
from app.services.reproduction import archive

DIGITS, BLIND, MIXTURE = (stored.read_model(name) for name in ("digits-vp-dpi", "digits-vp-none", "mixture2d-flow-dpi"))
FAMILY = [DIGITS, BLIND]
MODELS = [stored.read_model(name) for name in stored.model_names()]
"""Every shipped model."""


# Figures ---------------------------------------------------------------------------------------------------------


def test_the_best_lambda_falls_short_by_nothing_and_the_others_by_decibels():
    psnr = np.array([[10.0, 20.0], [13.0, 18.0], [12.0, 20.0]])
    np.testing.assert_allclose(gain_over_best(psnr, True), [[-3, 0], [0, -2], [-1, 0]])


def test_an_error_ten_times_the_least_falls_short_by_ten_decibels():
    mse = np.array([[0.1, 0.5], [1.0, 0.05], [0.2, 0.05]])
    expected = [[0, -10], [-10, 0], [-10 * np.log10(2), 0]]
    np.testing.assert_allclose(gain_over_best(mse, False), expected, atol=1e-12)


def test_an_error_of_zero_stays_finite():
    assert np.isfinite(gain_over_best(np.array([[0.0, 1.0], [1e-3, 0.0]]), False)).all()


@pytest.mark.parametrize("model", [model for model in MODELS if model.pad], ids=lambda model: model.name)
def test_the_learned_curve_lies_in_the_valley_of_its_pad(model):
    score, pad = gain_over_best(model.pad.score, model.is_image), model.pad
    rows = np.abs(pad.lam[:, None] - pad.learned).argmin(0)
    assert np.median(score[rows, range(len(pad.s))]) > -0.2


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_shipped_model_has_figures_that_can_be_packed(model):
    family = [other for other in MODELS if other.family == model.family]
    assert len(pack(sweep_figure(model, family, model.sweep))) > 10_000
    assert (model.pad is not None) == model.has_two_sets
    if model.pad is not None:
        assert len(pack(pad_figure(model, model.pad))) > 10_000


@pytest.mark.parametrize(("name", "inputs"), [("digits-vp-dpi", "held-out"), ("mixture2d-flow-dpi", "held-out")])
def test_what_the_engine_computes_can_be_packed(name, inputs):
    model, chosen = stored.read_model(name), Inputs(inputs, 5, 2)
    sweep = compute(SweepRequest(model.key, chosen, (0.0, 0.5, 1.0), "cpu"))
    pad = compute(PadRequest(model.key, chosen, 3, (0.0, 0.5, 1.0), (0.0, 1.0), "cpu"))
    assert pack(sweep_figure(model, [model], sweep))
    assert pack(pad_figure(model, pad))


# Held-out error --------------------------------------------------------------------------------------------------


def test_the_chart_shows_the_family_with_this_model_emphasised():
    (chart,) = error_chart(DIGITS, FAMILY)
    assert [(curve.name, curve.role) for curve in chart.curves] == [
        ("digits-vp-dpi", "this"),
        ("digits-vp-none", "other"),
    ]
    assert chart.y_label == "PSNR (dB)"
    this = chart.curves[0]
    assert (this.low < this.y).all() and (this.y < this.high).all()
    assert "360 held-out images" in chart.caption and "95 %" in chart.caption and "Higher is better" in chart.caption


def test_the_chart_of_points_has_the_optimum_beneath():
    (chart,) = error_chart(MIXTURE, [MIXTURE])
    this, optimum = chart.curves
    assert (this.role, optimum.dashed, optimum.name) == ("this", True, "closed-form optimum")
    assert (np.asarray(this.y) >= 0.98 * np.asarray(optimum.y)).all()
    assert "dashed: the least possible" in chart.caption and "Lower is better" in chart.caption


def test_points_without_a_closed_form_have_no_optimum_nor_a_word_of_it():
    moons = stored.read_model("moons-flow-dpi")
    (chart,) = error_chart(moons, [moons])
    assert [curve.dashed for curve in chart.curves] == [False]
    assert "dashed" not in chart.caption and "Lower is better" in chart.caption


def test_a_model_that_was_not_measured_has_no_chart():
    unmeasured = replace(DIGITS, metrics={})
    assert error_chart(unmeasured, [unmeasured, BLIND]) == []
    assert error_at(unmeasured, 0.5) is None


def test_an_unmeasured_sibling_is_left_out_of_the_chart():
    (chart,) = error_chart(DIGITS, [DIGITS, replace(BLIND, metrics={})])
    assert [curve.name for curve in chart.curves] == ["digits-vp-dpi"]


def test_the_error_between_two_levels_is_interpolated_and_beyond_them_unknown():
    held_out = DIGITS.metrics["held_out"]
    (first, second), (low, high) = held_out["psnr"][:2], held_out["s"][:2]
    assert error_at(DIGITS, low) == pytest.approx(first["mean"])
    assert error_at(DIGITS, (low + high) / 2) == pytest.approx((first["mean"] + second["mean"]) / 2)
    assert error_at(DIGITS, 0.0) is None and error_at(DIGITS, 1.0) is None


# Sentences -------------------------------------------------------------------------------------------------------


def test_the_sentence_on_the_learned_curve():
    text = sentence(DIGITS, DIGITS.sweep, 40, None)
    lam = DIGITS.sweep.lam[40]
    assert text.startswith("At **t = 0.40** (DDPM step 400) the noised image is 0.44 · clean + 0.90 · noise.")
    assert f"at λ = {lam:.2f}: {100 * (1 - lam):.0f} % θ0 and {100 * lam:.0f} % θ1." in text
    mean = np.mean(10 * np.log10(4 / DIGITS.sweep.mse[40]))
    assert f"over the images shown is {mean:.1f} dB" in text
    assert f"over the held-out set it is {error_at(DIGITS, 0.4):.1f} dB." in text


def test_the_sentence_off_the_learned_curve_names_both_positions():
    text = sentence(DIGITS, DIGITS.sweep, 40, 0.25)
    assert "held at λ = 0.25 (75 % θ0 and 25 % θ1)" in text
    assert f"the learned curve has {DIGITS.sweep.lam[40]:.2f} here." in text
    assert "PSNR" not in text, "the frames on show are not the sweep's"


def test_the_sentence_of_a_blind_model_says_so():
    text = sentence(BLIND, BLIND.sweep, 40, None)
    assert "blind: the same parameters at every t" in text and "PSNR" in text and "θ1" not in text


def test_the_sentence_of_points_gives_their_squared_error():
    text = sentence(MIXTURE, MIXTURE.sweep, 50, None)
    assert "the noised point is 0.50 · clean + 0.50 · noise" in text
    assert f"over the points shown is {MIXTURE.sweep.mse[50].mean():.3g}." in text


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_there_is_a_sentence_for_every_frame(model):
    for frame in range(len(model.sweep.s)):
        text = sentence(model, model.sweep, frame, None)
        assert text.endswith(".") and "nan" not in text and "inf" not in text
    assert "Nothing was added, so x̂0 is the clean image." in sentence(DIGITS, DIGITS.sweep, 0, None)


# Python that reproduces the picture ------------------------------------------------------------------------------


def compute(request):
    with closing(Engine()) as engine:
        job = engine.submit("test", request)
        assert job.wait(60)
    assert job.status == "done", job.error
    return job.result


def run(lines):
    """What the lines leave behind; they are to run as they stand, in the repository's root."""
    found = {}
    exec(lines, found)
    return found


def assert_reproduces(lines, model, inputs, s, lam=None):
    found = run(lines)
    if lam is None:
        result = compute(SweepRequest(model.key, inputs, (s,), "cpu"))
        expected, clean = result.x0_hat[0], result.clean
        np.testing.assert_allclose(found["mse"].numpy(), result.mse[0], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(channels_last(found["x0"]), clean, rtol=1e-5, atol=1e-6)
    else:
        expected = compute(PadRequest(model.key, inputs, inputs.n, (s,), (lam,), "cpu")).x0_hat[0, 0]
    np.testing.assert_allclose(channels_last(found["x0_hat"]), expected, rtol=1e-4, atol=1e-5)


def channels_last(tensor):
    array = tensor.numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch):
    monkeypatch.chdir(stored.CHECKPOINTS.parent)


@pytest.mark.parametrize("kind", ["held-out", "digits", "photos", "samples"])
def test_the_lines_reproduce_images(kind):
    inputs = Inputs(kind, 5, 3)
    assert_reproduces(denoise_lines(DIGITS, inputs, 0.35, None, "cpu"), DIGITS, inputs, 0.35)


@pytest.mark.parametrize("kind", ["held-out", "samples"])
def test_the_lines_reproduce_points(kind):
    inputs = Inputs(kind, 40, 1)
    assert_reproduces(denoise_lines(MIXTURE, inputs, 0.62, None, "cpu"), MIXTURE, inputs, 0.62)


@pytest.mark.parametrize("model", [DIGITS, MIXTURE], ids=["images", "points"])
def test_the_lines_reproduce_a_cell_of_the_pad(model):
    inputs, (s, lam) = Inputs("held-out", 4, 0), (7 / 32, 27 / 32)
    assert_reproduces(denoise_lines(model, inputs, s, lam, "cpu"), model, inputs, s, lam)


def test_the_lines_reproduce_a_blind_model():
    inputs = Inputs("held-out", 4, 0)
    assert_reproduces(denoise_lines(BLIND, inputs, 0.5, None, "cpu"), BLIND, inputs, 0.5)


def test_the_lines_reproduce_the_stored_frames():
    model, inputs = DIGITS, stored_inputs(DIGITS)
    found = run(denoise_lines(model, inputs, float(model.sweep.s[70]), None, "cpu"))
    shown = channels_last(found["x0_hat"]).clip(-1, 1)
    np.testing.assert_allclose(model.sweep.x0_hat[70] / 127.5 - 1, shown, atol=1 / 255 + 1e-4)


def test_the_lines_reproduce_an_upload_once_the_image_is_filled_in():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8)).astype(np.float32)
    inputs = Inputs("upload", 1, 4, Upload.from_array(image[None]))
    lines = denoise_lines(DIGITS, inputs, 0.35, None, "cpu")
    assert "x0 = ...  # your image: float32 in [-1, 1], shape (1, 1, 8, 8)" in lines
    filled = lines.replace("x0 = ...", f"x0 = torch.tensor({image[None].tolist()})")
    assert_reproduces(filled, DIGITS, inputs, 0.35)


def test_the_lines_name_the_device():
    lines = denoise_lines(DIGITS, Inputs("held-out", 4, 0), 0.5, None, "cuda:0")
    assert 'dpi_core.load("checkpoints/digits-vp-dpi", device="cuda:0")' in lines


def test_data_that_the_reader_has_to_bring_are_asked_for():
    unstored = replace(DIGITS, recipe=DIGITS.recipe | {"data": {"kind": "idx"}})
    assert "data_path=PATH" in denoise_lines(unstored, Inputs("held-out", 4, 0), 0.5, None, "cpu")
    assert stored_inputs(unstored).kind == "samples"


# A second model -------------------------------------------------------------------------------------------------


def test_the_error_on_the_images_shown_is_that_of_both_models():
    chart = shown_chart(DIGITS, DIGITS.sweep, (BLIND, BLIND.sweep))
    assert [(curve.name, curve.role) for curve in chart.curves] == [(DIGITS.name, "this"), (BLIND.name, "other")]
    for curve, model in zip(chart.curves, (DIGITS, BLIND), strict=True):
        per_image = [10 * np.log10(4 / error) for error in model.sweep.mse[40]]
        assert curve.y[40] == pytest.approx(np.mean(per_image), abs=1e-4)
    assert np.isnan(chart.curves[0].y[0])  # nothing was added there


def test_the_sentence_on_a_second_model_is_silent_where_nothing_was_added():
    second = (BLIND, BLIND.sweep)
    assert second_sentence(DIGITS, 0, DIGITS.sweep, second) == ""
    assert f"{BLIND.name} reaches" in second_sentence(DIGITS, 60, DIGITS.sweep, second)


def test_a_second_model_gets_the_inputs_and_the_noise_of_the_first():
    inputs, grid = Inputs("samples", 3, 1), (0.5,)
    ours = compute(SweepRequest(DIGITS.key, inputs, grid, "cpu"))
    theirs = compute(SweepRequest(BLIND.key, replace(inputs, of=DIGITS.key), grid, "cpu"))
    alone = compute(SweepRequest(BLIND.key, inputs, grid, "cpu"))
    np.testing.assert_array_equal(theirs.clean, ours.clean)
    np.testing.assert_array_equal(theirs.noise, ours.noise)
    assert np.abs(alone.clean - ours.clean).max() > 0.01 and np.abs(theirs.x0_hat - ours.x0_hat).max() > 0.01


def test_the_archive_holds_what_reproduces_the_picture():
    inputs = Inputs("held-out", 4, 2)
    lines = denoise_lines(DIGITS, inputs, 0.35, None, "cpu", BLIND)
    content = archive([DIGITS, BLIND], inputs, "cpu", lines)
    assert content == archive([DIGITS, BLIND], inputs, "cpu", lines)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        files = {Path(name).name: packed.read(name).decode() for name in packed.namelist()}
    assert json.loads(files["config.json"]) == DIGITS.recipe and json.loads(files["config-2.json"]) == BLIND.recipe
    about = json.loads(files["about.json"])
    assert about["seed"] == 2 and about["packages"]["torch"].startswith("2.")
    assert about["digest_of_config_and_weights"] == stored.digest(Path(DIGITS.key.folder))
    blind = {"model": BLIND.name, "digest_of_config_and_weights": stored.digest(Path(BLIND.key.folder))}
    assert about["beside"] == [blind]
    found = run(files["reproduce.py"])
    for model, name in ((DIGITS, "mse"), (BLIND, "second_mse")):
        expected = compute(SweepRequest(model.key, inputs, (0.35,), "cpu")).mse[0]
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-4, atol=1e-7)


def test_the_archive_of_own_images_holds_them_and_runs_as_it_is(tmp_path, monkeypatch):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32)
    inputs = Inputs.of_upload(Upload.from_array(images), 1, least=1, most=2)
    content = archive([DIGITS], inputs, "cpu", denoise_lines(DIGITS, inputs, 0.35, None, "cpu"))
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(tmp_path)
    monkeypatch.chdir(tmp_path / "digits-vp-dpi")
    lines = Path("reproduce.py").read_text().replace("checkpoints/", f"{stored.CHECKPOINTS}/")
    expected = compute(SweepRequest(DIGITS.key, inputs, (0.35,), "cpu")).mse[0]
    assert expected.shape == (2,)
    np.testing.assert_allclose(run(lines)["mse"].numpy(), expected, rtol=1e-4, atol=1e-7)
