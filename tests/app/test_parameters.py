"""The Parameters page without a browser: what opens, what its numbers are, and that its lines of Python reproduce them."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

import dpi_core
from app.components.scrubber import blob_hash, pack
from app.components.studio import StudioLandscape, StudioState, _parse, pack_landscape
from app.figures import distances, paths
from app.figures import parameters as figures
from app.figures.denoise import pad_figure, sentence, sweep_figure
from app.figures.reproduce import clean_line
from app.records import CurvesRequest, Inputs, PadRequest, ParametersRequest, SweepRequest, Upload, size_in_bytes
from app.records.curves import ALPHABET, decode, encode
from app.services import stored
from dpi_core import parameter_report, reports
from dpi_core.analysis.landscape import lookup
from dpi_core.analysis.weights import weight_distances
from dpi_core.build import build_denoiser, load_recipe, recipe_from_dict, recipe_to_dict
from dpi_core.cli import main
from dpi_core.parameter_report import analyse_parameters

MODELS = ["digits-vp-dpi", "mixture2d-flow-dpi"]
HELD_OUT = Inputs("held-out", 16, 0)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return stored.read_model(request.param)


@pytest.fixture(scope="module")
def loaded(model):
    return dpi_core.load(model.key.folder)


def draw(name):
    from app.services import cache
    from app.views import parameters

    parameters.page(cache.model(name), 0, "cpu")


def open_page(name, **query):
    app = AppTest.from_function(draw, kwargs={"name": name}, default_timeout=60)
    app.session_state["studio lines"] = True  # unfolded
    for key, value in query.items():
        app.query_params[key] = value
    return checked(app.run())


def checked(app):
    assert not app.exception, app.exception[0].stack_trace
    return app


def run(lines):
    """The lines as a reader would run them, from the folder of the project."""
    names = {}
    exec(lines, names)
    return names


# The page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_it_opens_on_what_is_stored(name):
    app = open_page(name)
    labels = [metric.label for metric in app.metric]
    assert labels == [
        "λ(s)",
        "Mean regret against λ*(s)",
        "Relative distance of the sets",
        "Angle between θ0 and θ1",
    ]
    assert app.metric[0].value == "spread out" and app.metric[1].value.endswith(" dB")
    assert not app.error and not app.info
    assert "studio" in {getattr(node, "key", None) for node in app.main}


def test_a_model_with_one_set_gets_one_sentence():
    app = open_page("digits-vp-none")
    (info,) = app.info
    assert info.value.startswith("This model has one parameter set") and not app.metric


@pytest.mark.parametrize("tab", ["Distance and angle", "Path", "Two ways to blend", "Regret"])
@pytest.mark.parametrize("name", MODELS)
def test_every_tab_draws_its_figures(name, tab, axes_without_title):
    app = open_page(name, parameters_tab=tab)
    shown = app.get("plotly_chart")
    assert {"Distance and angle": 4, "Path": 2, "Two ways to blend": 3, "Regret": 1}[tab] == len(shown)
    assert axes_without_title(app) == []


@pytest.mark.parametrize("statistic", distances.STATISTICS)
def test_every_statistic_is_offered_by_stage_layer_and_parameter(model, statistic):
    for kind in ("stage", "layer", "parameter"):
        by_depth, by_value = (
            distances.bars_chart(model, model.parameters.weights, kind, statistic, by_value)
            for by_value in (False, True)
        )
        assert sorted(by_depth.rows) == sorted(by_value.rows)
        assert by_depth.figure.layout.xaxis.title.text and by_depth.caption.endswith(".")
    bars = by_value.figure.data[0].x
    if statistic not in distances.SPECTRAL:
        assert (np.diff(bars) <= 0).all()


def test_a_drawn_curve_is_written_down_as_python():
    app = open_page("digits-vp-dpi")
    revision = app.session_state["studio"] if "studio" in app.session_state else None
    assert revision is None or revision["position"] is None
    assert "curve = None  # the learned one" in app.code[0].value


def test_without_stored_results_nothing_is_computed_unasked(copy_checkpoint):
    (copy_checkpoint("mixture2d-flow-dpi") / "analysis.safetensors").unlink()
    app = open_page("mixture2d-flow-dpi")
    assert any("Nothing is stored for this model" in caption.value for caption in app.caption)
    assert not app.metric and not app.error


def test_the_engine_computes_what_is_not_stored(copy_checkpoint, engine):
    (copy_checkpoint("mixture2d-flow-dpi") / "analysis.safetensors").unlink()
    model = stored.read_model("mixture2d-flow-dpi")
    job = engine.submit("a", ParametersRequest(model.key, Inputs("held-out", 8, 0), "cpu"))
    assert job.wait(250) and job.error == "", job.error
    assert job.result.landscape.samples == 8
    assert job.done == job.total > 33 * 33
    assert size_in_bytes(job.result) > job.result.landscape.quality.nbytes


def test_an_upload_is_judged_under_draws_of_noise(engine):
    model = stored.read_model("digits-vp-dpi")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 8, 8)).astype(np.float32)
    inputs = Inputs.of_upload(Upload.from_array(images), 0, least=5, most=64)
    expected = np.concatenate([images] * 3)
    job = engine.submit("a", SweepRequest(model.key, inputs, (0.25, 0.5), "cpu"))
    assert job.wait(120) and job.error == "", job.error
    np.testing.assert_array_equal(job.result.clean, expected.transpose(0, 2, 3, 1))
    assert len(np.unique(job.result.noise[:, 0, 0])) == 6
    lines = clean_line(model, inputs).replace("...", f"torch.tensor({images.tolist()})")
    np.testing.assert_array_equal(run(f"import torch\n{lines}")["x0"].numpy(), expected)


def test_what_was_computed_of_own_images_is_let_go_with_them(engine):
    model = stored.read_model("digits-vp-dpi")
    mine, yours = (Upload.from_array(np.full((1, 1, 8, 8), level, np.float32)) for level in (-0.5, 0.5))
    requests = [SweepRequest(model.key, Inputs("upload", 1, 0, each), (0.5,), "cpu") for each in (mine, yours)]
    for request in requests:
        assert engine.submit("b", request).wait(120)
    engine.forget("b", Upload.from_array(mine.array()))
    held = [engine.cache.get(request) for request in requests]
    assert held[0] is None and held[1] is not None


def test_choices_of_a_link_that_this_model_does_not_have_count_as_absent():
    app = open_page("digits-vp-dpi", weight="nothing", histogram="nothing", statistic="nothing", along="nothing")
    values = {box.label: box.value for box in app.main.selectbox}
    assert values == {
        "Statistic": "relative",
        "Along the path": "norm",
        "Singular values of": "head.weight",
        "Histogram of": "total",
    }
    assert not app.error


def test_damaged_weights_are_named_in_one_sentence(copy_checkpoint, engine):
    file = copy_checkpoint("mixture2d-flow-dpi") / "model.safetensors"
    with safe_open(file, "numpy") as weights:
        metadata, tensors = weights.metadata(), {name: weights.get_tensor(name) for name in weights.keys()}
    name = next(name for name in tensors if name.endswith("theta1.head.weight"))
    tensors[name][0, 0] = np.nan
    save_file(tensors, file, metadata)
    key = stored.read_model("mixture2d-flow-dpi").key
    job = engine.submit("a", ParametersRequest(key, Inputs("held-out", 8, 0), "cpu"))
    assert job.wait(120) and job.status == "failed"
    assert "theta1.head.weight are not finite" in job.error and "\n" not in job.error


def test_the_engine_stops_when_told(engine):
    model = stored.read_model("digits-vp-dpi")
    job = engine.submit("a", ParametersRequest(model.key, Inputs("held-out", 64, 0), "cpu"))
    deadline = time.monotonic() + 120
    while job.done < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    engine.cancel("a", job)
    assert job.wait(60) and job.status == "cancelled"


# The numbers -----------------------------------------------------------------------------------------------------


def test_stored_distances_are_those_of_the_weights(model, loaded):
    weights, found = model.parameters.weights, weight_distances(loaded.net)
    assert weights.kinds[0] == "total" and weights.distance[0] == pytest.approx(found.total.distance, rel=1e-6)
    for kind, parts in (("stage", found.stages), ("layer", found.layers), ("parameter", found.parameters)):
        rows = [i for i, each in enumerate(weights.kinds) if each == kind]
        assert [weights.names[i] for i in rows] == [part.name for part in parts]
        for column in ("norm0", "distance", "relative", "angle", "dip"):
            expected = [getattr(part, column) for part in parts]
            np.testing.assert_allclose(getattr(weights, column)[rows], expected, rtol=1e-5, atol=1e-5)
    assert weights.residual < 1e-6


def test_the_stored_landscape_holds_the_learned_curve(model):
    plane = model.parameters.landscape
    judged = figures.judged_levels(plane.s)
    found = lookup(plane.lam.astype(float), plane.quality.astype(float), plane.learned.astype(float))
    np.testing.assert_allclose(found[judged], plane.learned_quality[judged], atol=plane.residual + 1e-4)
    assert plane.residual < 0.03
    assert plane.regret_total[1] <= plane.regret_total[0] <= plane.regret_total[2]
    assert plane.regret_total[0] == pytest.approx(plane.regret[judged].mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.02, 0.04, "with these two sets another curve would gain less than 0.05 dB"),
        (0.005, 0.04, "with these two sets another curve would gain less than 0.05 dB"),
        (0.005, 0.2, "another curve would serve these two sets better"),
        (-0.02, 0.2, "undecided on so few samples"),
    ],
)
def test_the_verdict_on_the_regret_follows_its_interval(model, low, high, verdict):
    plane = replace(model.parameters.landscape, regret_total=[(low + high) / 2, low, high])
    found = figures.headlines(model, replace(model.parameters, landscape=plane), HELD_OUT)
    assert found[1].remark.endswith(f"; {verdict}.")


def test_blends_agree_at_both_ends(model):
    found = model.parameters.paths
    assert (found.gap[:, [0, -1]] == 0).all()
    assert (found.arc >= found.distance - 1e-6).all()
    assert found.kept_loss[-1, 0] < found.kept_loss[1, 0]


def test_too_few_samples_are_refused_in_one_sentence(loaded):
    with pytest.raises(ValueError, match="3 samples were given.*at least 4"):
        analyse_parameters(loaded, torch.zeros(3, *loaded.recipe.shape))


@pytest.mark.parametrize("scalar", [None, {"low": 2.0, "high": 8.0}])
def test_the_curve_is_that_along_s_whatever_units_the_network_takes(scalar, monkeypatch):
    small = {"PAD_CELLS": 5, "PATH_STEPS": 5, "SPECTRUM_STEPS": 3, "PICTURE_STEPS": 3, "KEPT_BLENDS": (1, 2)}
    for name, value in small.items():
        monkeypatch.setattr(parameter_report, name, value)
    data = recipe_to_dict(load_recipe("mixture2d-flow-dpi"))
    data["conditioning"]["scalar"] = scalar
    recipe = recipe_from_dict(data | {"backbone": {"kind": "mlp", "width": 8, "depth": 2}})
    model = dpi_core.Model(build_denoiser(recipe).eval(), recipe, {})
    model.net.separate(0.3, torch.Generator().manual_seed(1))
    tensors, _ = analyse_parameters(model, torch.randn(16, 2, generator=torch.Generator().manual_seed(2)))
    straight = np.linspace(0, 1, 5)  # as λ is before training, but for its first knot
    for found in (tensors["weights.lam"], tensors["landscape.learned"], tensors["landscape.curves"][0]):
        np.testing.assert_allclose(found, straight, atol=1e-3)


def test_a_blind_network_is_refused_in_one_sentence():
    blind = dpi_core.load(stored.read_model("digits-vp-none").key.folder)
    with pytest.raises(ValueError, match="one parameter set"):
        analyse_parameters(blind, torch.zeros(8, 1, 8, 8))


# The lines of Python ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", distances.ALONG)
def test_lines_of_the_path_reproduce_its_figure(model, monkeypatch, quantity):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    chart = distances.along_chart(model, model.parameters.weights, quantity, 0.5)
    np.testing.assert_allclose(run(chart.lines)["values"], chart.figure.data[-1].y, rtol=1e-4, atol=2e-4)
    assert chart.figure.data[-1].name == "total"


def test_lines_of_the_singular_values_reproduce_their_figure(model, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    weights = model.parameters.weights
    for name in (weights.spectrum_names[0], weights.spectrum_names[-1]):
        chart = distances.singular_values_chart(model, weights, name, 0.4)
        values = run(chart.lines)["values"]
        assert [trace.name for trace in chart.figure.data] == ["λ = 0", "λ = 0.375", "λ = 1"]
        for trace, expected in zip(chart.figure.data, values, strict=True):
            np.testing.assert_allclose(trace.y, expected, rtol=1e-4)


def test_lines_of_the_weights_reproduce_the_figures(model, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    weights = model.parameters.weights
    chart = distances.bars_chart(model, weights, "layer", "relative", False)
    np.testing.assert_allclose(list(run(chart.lines)["values"].values()), chart.figure.data[0].x, rtol=1e-4)
    chart = distances.bars_chart(model, weights, "layer", "stable_rank", False)
    values = np.stack(list(run(chart.lines)["values"].values()))
    np.testing.assert_allclose(values, [row[1:] for row in chart.rows], rtol=1e-4)
    for at, name in enumerate(weights.histogram_names):
        chart = distances.histogram_chart(model, name, weights.histogram_edges[at], weights.histogram_counts[at])
        np.testing.assert_array_equal(run(chart.lines)["values"], chart.figure.data[0].y)


def test_lines_of_the_paths_reproduce_the_figures(model, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    inputs = Inputs("held-out", figures_count(model), 0)
    result = model.parameters
    names = run(paths.blend_loss_chart(model, result, inputs, "cpu", 0.5).lines)
    middle = int(np.argmin(np.abs(result.paths.blend_s - 0.5)))
    assert float(names["lost"][0]) == pytest.approx(float(result.paths.blend_loss[middle]), abs=2e-3)
    names = run(figures.studio_lines(model, result, inputs, None, "cpu"))
    assert names["gain_db"] == 0
    np.testing.assert_allclose(names["learned"], result.landscape.learned_quality, atol=1e-3)


def test_lines_of_the_path_through_outputs_reproduce_its_figures(monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    model = stored.read_model("mixture2d-flow-dpi")
    result, inputs = model.parameters, Inputs("held-out", figures_count(model), 0)
    about = (model, result, inputs, "cpu")
    names = run(paths.path_chart(*about, 0.5).lines)
    np.testing.assert_allclose(names["parameters"], result.weights.moved, rtol=1e-4)
    np.testing.assert_allclose([each.arc for each in names["outputs"]], result.paths.arc, rtol=1e-3, atol=1e-5)
    gaps = np.array(run(paths.gap_chart(*about).lines)["values"])
    np.testing.assert_allclose(gaps, result.paths.gap / result.paths.apart[:, None], rtol=1e-3, atol=1e-5)


def test_lines_of_kept_blends_and_of_the_regret_reproduce_their_figures(monkeypatch, capsys):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    model = stored.read_model("mixture2d-flow-dpi")
    result, inputs = model.parameters, Inputs("held-out", figures_count(model), 0)
    run(paths.kept_chart(model, result, inputs, "cpu").lines)
    printed = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [int(count) for count, _ in printed] == result.paths.counts.tolist()
    losses = [[float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)] for _, text in printed]
    np.testing.assert_allclose(losses, result.paths.kept_loss, atol=2e-3)
    # Every eighth level and position is enough, and 64 times faster.
    lines = figures.landscape_chart(model, result, inputs, "cpu").lines.replace(
        "np.linspace(0, 1, 33)", "np.linspace(0, 1, 5)"
    )
    found = run(lines)["found"]
    np.testing.assert_allclose(found.quality, result.landscape.quality[::8, ::8], atol=2e-3)


def test_lines_of_the_studio_measure_what_it_looks_up(model, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    plane = model.parameters.landscape
    curve = np.clip(plane.learned.astype(float) + 0.1 * np.sin(np.pi * plane.s), 0, 1)
    inputs = Inputs("held-out", figures_count(model), 0)
    measured = run(figures.studio_lines(model, model.parameters, inputs, (tuple(curve.tolist()),), "cpu"))["gain_db"]
    found = lookup(plane.lam.astype(float), plane.quality.astype(float), curve) - plane.learned_quality
    assert found[figures.judged_levels(plane.s)].mean() == pytest.approx(measured, abs=0.02)


def test_lines_of_the_pictures_reproduce_their_difference(model, monkeypatch):
    monkeypatch.chdir(Path(stored.CHECKPOINTS).parent)
    chart = paths.blend_pictures(model, model.parameters, HELD_OUT, "cpu", 0.47, 0.5)
    difference = run(chart.lines)["difference"]
    found = difference.square().flatten(1).mean(1).sqrt().numpy()
    np.testing.assert_allclose([row[1] for row in chart.rows], found, atol=1e-3)  # stored in half precision


def figures_count(model):
    return model.parameters.landscape.samples


# Drawn curves ----------------------------------------------------------------------------------------------------

RISING = tuple(np.linspace(0, 1, 33).round(4).tolist())


def test_a_curve_survives_the_way_through_a_link():
    curves = (RISING, tuple(1 - lam for lam in RISING))
    text = encode(curves)
    assert len(text) == 2 * 66 + 1 and set(text) <= set(ALPHABET + ".")
    np.testing.assert_allclose(decode(text, 2, 33), curves, atol=0.5 / 4095 + 1e-4)
    assert encode(decode(text, 2, 33)) == text
    assert encode(((0.0, 1.0),)) == "AA__"


def test_a_curve_is_read_on_another_grid_and_serves_all_groups():
    (coarse,) = decode(encode((RISING,)), 1, 5)
    np.testing.assert_allclose(coarse, [0, 0.25, 0.5, 0.75, 1], atol=2e-4)
    assert decode("AA__", 3, 2) == ((0.0, 1.0),) * 3


@pytest.mark.parametrize(
    "text", ["", "A", "AAA", "AA", "AA AA", "AA%A", "\u03bbAAA", "AAAA.", "AA" * 258, "AAAA." * 16 + "AAAA"]
)
def test_damaged_curves_are_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="in the link is damaged; ask for the link again") as error:
        decode(text, 1, 33)
    assert "\n" not in str(error.value)


def test_curves_of_other_groups_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="holds 2 curves, but this network has 3; choose the model"):
        decode("AA__.AA__", 3, 33)


def test_a_link_shows_its_drawn_curve():
    app = open_page("digits-vp-dpi", drawn=encode((RISING,)))
    (line,) = [line for line in app.code[0].value.splitlines() if line.startswith("curve = ")]
    assert line.startswith("curve = dpi_core.FixedSchedule([0.0, 0.031") and not app.warning
    assert app.query_params["drawn"] == encode((RISING,))


@pytest.mark.parametrize("text", ["spoilt!", "AA__.AA__"])
def test_a_damaged_link_is_said_to_be_so_and_the_page_stays_usable(text, unescaped):
    app = open_page("digits-vp-dpi", drawn=text)
    (warning,) = app.warning
    assert unescaped(warning.value).startswith("The learned λ is shown: ") and "\n" not in warning.value
    assert "curve = None  # the learned one" in app.code[0].value and len(app.metric) == 4
    assert "drawn" not in app.query_params
    assert not checked(app.run()).warning


# Groups ----------------------------------------------------------------------------------------------------------

GROUPS = {"first": ("head*",), "last": ("tail*",)}
ALL_GROUPS = ["first", "last", "rest"]


@pytest.fixture
def grouped(copy_checkpoint):
    """The mixture's network with the same curve for each of three groups."""
    folder = copy_checkpoint("mixture2d-flow-dpi")
    config = json.loads((folder / "config.json").read_text())
    config["conditioning"]["groups"] = GROUPS
    (folder / "config.json").write_text(json.dumps(config))
    rewrite(folder / "model.safetensors", {"schedule.phi": lambda phi: np.stack([phi] * 3, axis=1)})
    about = {"group_names": ALL_GROUPS}
    rewrite(folder / "analysis.safetensors", {"landscape.curves": lambda curves: np.tile(curves, (3, 1))}, about)
    return folder


def rewrite(file, changes, landscape=None):
    with safe_open(file, "numpy") as content:
        metadata, tensors = content.metadata() or {}, {name: content.get_tensor(name) for name in content.keys()}
    for name, change in changes.items():
        tensors[name] = np.ascontiguousarray(change(tensors[name]))
    if landscape is not None:
        about = json.loads(metadata["about"])
        about["parameters"]["landscape"] |= landscape
        metadata["about"] = json.dumps(about)
    save_file(tensors, file, metadata)


def test_a_network_with_groups_is_the_same_if_their_curves_are(grouped):
    net = dpi_core.load(grouped).net
    assert net.group_names == tuple(ALL_GROUPS) and net.schedule.n_groups == 3
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    plain = dpi_core.load(Path(__file__).parents[2] / "checkpoints" / "mixture2d-flow-dpi").net
    for s in (0.0, 0.3, 1.0):
        torch.testing.assert_close(net(x, s), plain(x, s))


def test_drawn_curves_of_groups_are_measured(grouped, engine):
    """The same curve for every group costs what it costs the network without groups."""
    model = stored.read_model("mixture2d-flow-dpi")
    plane = model.parameters.landscape
    curve = np.clip(plane.learned.astype(float) + 0.1 * np.sin(np.pi * plane.s), 0, 1).round(4)
    inputs = Inputs("held-out", figures_count(model), 0)
    job = engine.submit("a", CurvesRequest(model.key, inputs, (tuple(curve.tolist()),) * 3, "cpu"))
    assert job.wait(250) and job.error == "", job.error
    judged = figures.judged_levels(plane.s)
    found = lookup(plane.lam.astype(float), plane.quality.astype(float), curve) - plane.learned_quality
    np.testing.assert_allclose(job.result.gain[judged], found[judged], atol=0.05)
    mean, low, high = job.result.total
    assert mean == pytest.approx(found[judged].mean(), abs=0.01) and low < mean < high < 0


def test_a_network_whose_groups_differ_is_shown_by_their_mean_and_stored_so(grouped, engine, monkeypatch):
    def bend(phi):
        phi[:, 2] += np.linspace(-2, 2, len(phi), dtype=phi.dtype)
        return phi

    rewrite(grouped / "model.safetensors", {"schedule.phi": bend})
    model, s = dpi_core.load(grouped), (0.0, 0.25, 0.5, 1.0)
    mean = model.net.lam(torch.tensor(s, dtype=torch.float64)).detach().mean(1)
    assert model.net.lam(0.5).std() > 0.02, "the curves differ"
    shown = stored.read_model("mixture2d-flow-dpi")
    inputs = Inputs("held-out", 64, 0)
    for request in (SweepRequest(shown.key, inputs, s, "cpu"), PadRequest(shown.key, inputs, 4, s, s, "cpu")):
        job = engine.submit("a", request)
        assert job.wait(250) and job.error == "", job.error
        is_sweep = isinstance(request, SweepRequest)
        figure = sweep_figure(shown, [shown], job.result) if is_sweep else pad_figure(shown, job.result)
        assert pack(figure)
        np.testing.assert_allclose(job.result.lam if is_sweep else job.result.learned, mean, atol=1e-6)
        assert "on average" in sentence(shown, job.result, 1, None if is_sweep else 0.5)
    monkeypatch.setattr(reports, "PAD_CELLS", 5)
    main(["analyse", str(grouped), "--only", "frames"])
    again = stored.read_model("mixture2d-flow-dpi")
    assert again.sweep.lam.shape == again.sweep.s.shape and again.pad.learned.shape == again.pad.s.shape


def test_a_network_with_groups_has_its_studio(grouped):
    app = open_page("mixture2d-flow-dpi")
    assert not app.error and not app.info and len(app.metric) == 4
    drawn = encode((RISING, RISING[::-1], RISING))
    app = open_page("mixture2d-flow-dpi", drawn=drawn)
    assert "dpi_core.FixedSchedule([[0.0, 1.0, 0.0], [0.031" in app.code[0].value
    assert [button.label for button in app.button] == ["Cancel"]


# The studio ------------------------------------------------------------------------------------------------------


def landscape_fields(**changes):
    s, lam = np.linspace(0, 1, 4), np.linspace(0, 1, 3)
    fields = {
        "title": "m",
        "s": s,
        "lam": lam,
        "quality": np.zeros((3, 4)),
        "parts": np.zeros((2, 3, 4)),
        "measure": "psnr",
        "groups": ("all",),
        "curves": s[None],
        "valley": np.array([np.nan, 0.2, 0.5, 1.0]),
        "best": np.zeros(4),
        "judged": np.array([False, True, True, False]),
        "gain_caption": "How to read it.",
    }
    return fields | changes


def test_the_browser_gets_the_landscape_as_it_is():
    blob = pack_landscape(StudioLandscape(**landscape_fields()))
    length = int.from_bytes(blob[:4], "little")
    header, body = json.loads(blob[4 : 4 + length]), blob[4 + length :]
    found = {
        array["name"]: np.frombuffer(body, array["dtype"], int(np.prod(array["shape"])), array["offset"]).reshape(
            array["shape"]
        )
        for array in header["arrays"]
    }
    for name, values in found.items():
        np.testing.assert_array_equal(values, landscape_fields()[name].astype(np.float32))
    assert header["judged"] == [False, True, True, False] and header["groups"] == ["all"]
    assert header["hash"] == blob_hash(blob)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quality": np.zeros((4, 3))}, "quality has shape"),
        ({"parts": np.zeros((2, 4, 3))}, "parts has shape"),
        ({"groups": ("a", "b")}, "curves has shape"),
        ({"curves": np.array([[0, np.nan, 1, 1]])}, "curves holds NaN"),
        ({"judged": np.zeros(4, bool)}, "judged marks no noise level"),
    ],
)
def test_the_studio_refuses_what_it_cannot_draw(changes, message):
    with pytest.raises(ValueError, match=message):
        StudioLandscape(**landscape_fields(**changes))


@pytest.mark.parametrize(
    "position",
    [
        None,
        "x",
        {"revision": "old", "s": 0.5, "curves": [[0, 0, 1, 1]]},
        {"revision": "r", "s": 0.5, "curves": [[0, 1]]},
        {"revision": "r", "s": 0.5, "curves": [[0, 0, 1, 1]] * 2},
        {"revision": "r", "s": 0.5, "curves": ["abcd"]},
        {"revision": "r", "s": 0.5, "curves": 3},
        {"revision": "r", "s": 2, "curves": None},
        {"revision": "r", "s": 0.5, "curves": [[0, float("nan"), 1, 1]]},
        {"revision": "r", "s": 0.5, "curves": [[0, 1.001, 1, 1]]},
        {"revision": "r", "s": 0.5, "curves": [[0, True, 1, 1]]},
    ],
)
def test_positions_that_are_none_are_ignored(position):
    assert _parse(position, "r", (1, 4)) is None


@pytest.mark.parametrize("curves", [None, ((0, 0.25, 1, 1),)])
def test_a_position_comes_through(curves):
    sent = {"revision": "r", "s": 0.5, "curves": None if curves is None else [list(curve) for curve in curves]}
    assert _parse(sent, "r", (1, 4)) == StudioState(0.5, curves)
