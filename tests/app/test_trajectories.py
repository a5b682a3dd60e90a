"""The Trajectories page: what is computed, what travels to the browser, and what the page shows."""

import json
import math
import struct

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.components.player import VIEW, pack_plane, pack_run
from app.components.player.payload import Run
from app.figures import trajectories as figures
from app.figures.quality import quality_charts
from app.figures.trajectories import (
    fine_run,
    plane_figure,
    read_table,
    run_figure,
    run_name,
    sampling_lines,
    sentence,
    settings,
    state_at,
    summary_rows,
    written_table,
)
from app.records import Inputs, PlaneRequest, QualityRequest, TrajectoryRequest
from app.services import compute, planes, sampling, stored
from dpi_core.samplers import ADAPTIVE, GRIDS, SAMPLERS, STOCHASTIC, Dopri5

SHIPPED = {"digits-vp-dpi": 4, "digits-vp-none": 4, "mixture2d-flow-dpi": 100}


def silent(done: int, total: int, partial: object = None) -> None:
    """A report nobody reads."""


def request(name: str, **changes) -> TrajectoryRequest:
    usual = {"sampler": "heun", "steps": 4, "grid": "uniform", "lam": "learned", "frozen_at": 0.5, "device": "cpu"}
    usual |= {"model": stored.read_model(name).key, "inputs": Inputs("samples", SHIPPED[name], 3)}
    return TrajectoryRequest(**(usual | changes))


@pytest.fixture(scope="module")
def models():
    return {name: compute.load_model(stored.read_model(name).key, "cpu") for name in SHIPPED}


def answer(models, asked: TrajectoryRequest):
    name = next(name for name in SHIPPED if stored.read_model(name).key == asked.model)
    return compute.answer(models[name], asked, silent)


def unpack(blob: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    (length,) = struct.unpack_from("<I", blob)
    header = json.loads(blob[4 : 4 + length])
    body = blob[4 + length :]
    arrays = {}
    for spec in header["arrays"]:
        count = math.prod(spec["shape"])
        raw = np.frombuffer(body, spec["dtype"], count, spec["offset"]).reshape(spec["shape"])
        arrays[spec["name"]] = raw * spec["scale"] + spec["zero"]
    return header, arrays


# What is computed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_run_is_that_of_the_library(name, models):
    found = answer(models, request(name))
    expected = models[name].sample(SHIPPED[name], "heun", 4, seed=3)
    last = expected.x.numpy()
    np.testing.assert_allclose(found.x[-1], np.moveaxis(last, 1, -1) if last.ndim == 4 else last, atol=1e-6)
    assert found.nfe.tolist() == [state.nfe for state in expected.states]
    assert found.s.tolist() == [state.s for state in expected.states]
    assert (np.diff(found.ms) > 0).all() and found.error == ""


def test_runs_of_one_seed_start_from_the_same_noise(models):
    runs = [answer(models, request("digits-vp-dpi", **c)) for c in ({}, {"sampler": "ddpm"}, {"lam": "reversed"})]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.x[0], runs[0].x[0])
        assert np.abs(run.x[-1] - runs[0].x[-1]).max() > 1e-3


def test_the_curve_shown_is_the_one_that_was_used(models):
    run = answer(models, request("mixture2d-flow-dpi", lam="frozen", frozen_at=0.25))
    np.testing.assert_allclose(run.lam, 0.25)
    np.testing.assert_allclose(run.curve[1], 0.25)
    learned = answer(models, request("mixture2d-flow-dpi"))
    np.testing.assert_allclose(learned.lam, np.interp(learned.s, *learned.curve), atol=2e-3)


def test_the_learned_field_is_near_the_closed_form_where_the_data_are(models):
    run = answer(models, request("mixture2d-flow-dpi", steps=10))
    field = run.field
    middle = state_at(run, 0.5)
    inside = np.abs(field.points).max(axis=1) < 1.5
    gap = np.linalg.norm(field.learned[middle] - field.exact[middle], axis=1)[inside]
    size = np.linalg.norm(field.exact[middle], axis=1)[inside]
    assert np.sqrt(np.mean(gap**2) / np.mean(size**2)) < 0.25
    # The ring's components stand out where the closed form has them: at (√2 · 0.995, 0), three quarters to the right.
    rows, columns = field.density.shape
    x = (np.arange(columns) + 0.5) / columns * 2 * field.extent - field.extent
    column = int(np.argmin(np.abs(x - math.sqrt(2 * 0.99))))
    assert field.density[rows // 2, column] > 0.5 > 0.01 > field.density[rows // 2, columns // 2]


def test_the_energy_distance_falls_on_the_way_to_the_data(models):
    run = answer(models, request("mixture2d-flow-dpi", steps=16, inputs=Inputs("samples", 600, 3)))
    assert run.energy[-1] < 0.2 * run.energy[0]


def test_a_run_that_breaks_keeps_its_states_and_says_where(models):
    model, calls = models["digits-vp-dpi"], 0

    def spoil(module, inputs, output):
        nonlocal calls
        calls += 1
        return output * math.nan if calls > 3 else output

    handle = model.net.register_forward_hook(spoil)
    try:
        run = answer(models, request("digits-vp-dpi", sampler="euler", steps=8))
    finally:
        handle.remove()
    assert len(run.s) == 3 and np.isfinite(run.x).all()
    assert run.error.startswith("The run stopped at step 3 of 8: the model produced NaN or infinity at step 3")


REFUSED = [
    ("digits-vp-dpi", {"steps": 0}, "at least 1 step"),
    ("digits-vp-dpi", {"steps": 10_000}, "at most 1000 are taken"),
    ("digits-vp-dpi", {"sampler": "magic"}, "the sampler is 'magic'"),
    ("digits-vp-none", {"lam": "linear"}, "has one parameter set, so there is no λ to change"),
    ("digits-vp-dpi", {"lam": "table", "table": (0.5, 1.5)}, "1.5"),
    ("digits-vp-dpi", {"sampler": "ddpm", "inputs": Inputs("digits", 2, 0)}, "ddpm"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(name, changes, message, models):
    with pytest.raises(ValueError, match=message):
        answer(models, request(name, **changes))


# Other starts, other curves, other solvers --------------------------------------------------------------------------


def test_a_solver_that_chooses_its_steps_says_how_many(models):
    run = answer(models, request("mixture2d-flow-dpi", sampler="dopri5", steps=0))
    fine = answer(models, request("mixture2d-flow-dpi", sampler="rk4", steps=64))
    assert len(run.s) > 4 and run.nfe[-1] >= 6 * (len(run.s) - 1) and run.s[-1] == fine.s[-1]
    assert np.sqrt(np.mean((run.x[-1] - fine.x[-1]) ** 2)) < 0.02


def test_a_table_is_the_curve_of_the_run(models):
    run = answer(models, request("mixture2d-flow-dpi", lam="table", table=(0.2, 0.8, 0.4)))
    np.testing.assert_allclose(run.lam, np.interp(run.s, [0, 0.5, 1], [0.2, 0.8, 0.4]), atol=1e-6)


def test_between_two_samples_both_ends_are_those_samples(models):
    plain = answer(models, request("digits-vp-dpi"))
    run = answer(models, request("digits-vp-dpi", between=(1, 3)))
    for here, there in ((0, 1), (-1, 3)):
        np.testing.assert_allclose(run.x[:, here], plain.x[:, there], atol=1e-5)
    # On the great circle noise keeps its length.
    lengths = np.linalg.norm(run.x[0].reshape(len(run.x[0]), -1), axis=1)
    assert (np.abs(np.diff(lengths)) < 0.35 * lengths[0]).all()


def test_inverted_data_come_back(models):
    inputs = Inputs("held-out", 20, 0)
    errors = []
    for steps in (8, 32):
        run = answer(models, request("mixture2d-flow-dpi", inputs=inputs, sampler="rk4", steps=steps))
        errors.append(figures.round_trip_error(run))
        assert run.x[0].shape == run.origin.shape
    # Noise of data is noise: about 1 in each coordinate. More steps lose less.
    assert 0.6 < run.x[0].std() < 1.4
    assert errors[1] < min(0.02, errors[0] / 4)
    assert figures.round_trip_error(answer(models, request("mixture2d-flow-dpi"))) is None


def test_states_so_far_are_handed_over(models, monkeypatch):
    monkeypatch.setattr(sampling, "PARTIAL_SECONDS", 0)
    handed = []
    model = models["mixture2d-flow-dpi"]
    asked = request("mixture2d-flow-dpi")
    whole = compute.answer(model, asked, lambda done, total, partial=None: handed.append((done / total, partial)))
    partials = [partial for _, partial in handed if partial is not None]
    assert [len(partial.s) for partial in partials] == [2, 3, 4, 5]
    for partial in partials:
        assert not partial.ended
        np.testing.assert_array_equal(partial.x, whole.x[: len(partial.s)])
        np.testing.assert_array_equal(partial.energy, whole.energy[: len(partial.s)])
        assert partial.field.learned.shape == whole.field.learned[: len(partial.s)].shape
    assert whole.ended and [share for share, _ in handed] == [0, 0.25, 0.5, 0.75, 1]


def test_a_cancelled_run_keeps_its_states(engine, monkeypatch):
    monkeypatch.setattr(sampling, "PARTIAL_SECONDS", 0)
    asked = request("mixture2d-flow-dpi", steps=200)
    job = engine.submit("me", asked)
    while engine.partials.get(asked) is None:
        assert not job.wait(0.02), job.error
    engine.cancel("me", job)
    assert job.wait(60) and job.status == "cancelled" and engine.cache.get(asked) is None
    assert 2 <= len(engine.partials.get(asked).s) < 201


def test_the_plane_is_that_of_the_largest_variance(models):
    model = stored.read_model("digits-vp-dpi").key
    plane = compute.answer(
        models["digits-vp-dpi"], PlaneRequest(model, Inputs("samples", 6, 3), "heun", 4, "cpu"), silent
    )
    run = answer(models, request("digits-vp-dpi"))
    figure = plane_figure(plane, [run])
    # Sample i is the same whatever n is, so the run's ends are the plane's first samples.
    np.testing.assert_allclose(figure.paths[0][-1], plane.samples[:4], atol=1e-4)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-6)
    assert 1 > plane.shares[0] > plane.shares[1] > 0
    _, arrays = unpack(pack_plane(figure))
    np.testing.assert_allclose(arrays["path0"], figure.paths[0], atol=np.abs(figure.paths[0]).max() / 32767)


@pytest.mark.parametrize("name", ["digits-vp-dpi", "mixture2d-flow-dpi"])
def test_quality_grows_with_network_evaluations(name, models):
    model = stored.read_model(name)
    # A sampler that chooses its own steps takes hundreds of evaluations on images.
    runs = (("heun", 2), ("heun", 8), *((("dopri5", 0), ("ddpm", 4)) if not model.is_image else ()))
    inputs = Inputs("samples", 4 if model.is_image else 100, 0)
    asked = QualityRequest(model.key, inputs, runs, "cpu")
    partials = []
    found = compute.answer(models[name], asked, lambda done, total, partial=None: partials.append(partial))
    assert found.samplers == tuple(name for name, _ in runs) and found.nfe[1] in (15, 16)
    assert found.error[1] < found.error[0] / 2
    assert (found.energy is None) == model.is_image
    if not model.is_image:
        assert np.isnan(found.error[3]) and found.floor[0] < found.floor[1]
    assert [len(partial.samplers) for partial in partials if partial is not None] == list(range(1, len(runs) + 1))
    charts = quality_charts(model, asked, found)
    assert len(charts) == (1 if model.is_image else 2)
    lines: dict = {}
    exec(charts[0].lines, lines)
    np.testing.assert_allclose([point.nfe for point in lines["points"]], found.nfe)
    np.testing.assert_allclose([point.error or np.nan for point in lines["points"]], found.error, rtol=1e-3)


# What travels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_the_browser_gets_the_states(name, models):
    run = answer(models, request(name))
    header, arrays = unpack(pack_run(run_figure(run_name(request(name)), run)))
    is_image = run.x.ndim == 5
    limit = 2.5 if is_image else math.inf
    step = 2.5 / 127.5 if is_image else np.abs(run.x).max() / 32767
    np.testing.assert_allclose(arrays["x"], np.clip(run.x, -limit, limit), atol=step / 2 + 1e-6)
    np.testing.assert_allclose(arrays["s"], run.s, atol=1e-7)
    assert header["nfe"] == run.nfe.tolist() and header["name"] == "Heun, 4 steps"
    assert ("lam" in arrays) == (name != "digits-vp-none")


def test_equal_noise_stays_equal_on_its_way(models):
    names = {"ddim": 3, "rk4": 2, "edm": 4}
    blobs = [answer(models, request("digits-vp-dpi", sampler=s, steps=n)) for s, n in names.items()]
    first = [unpack(pack_run(run_figure("", run)))[1]["x"][0] for run in blobs]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])


def test_sixty_frames_of_images_and_particles_fit_into_two_megabytes():
    rng, k = np.random.default_rng(0), 60
    usual = {"name": "", "s": np.linspace(1, 0, k), "native": ("",) * k, "nfe": np.arange(k), "ms": np.arange(k)}
    images, points = rng.normal(size=(k, 16, 28, 28, 1)), rng.normal(size=(k, 2000, 2))
    sizes = [len(pack_run(Run(**usual, x=x, x0_hat=x))) for x in (images, points)]
    assert sizes[0] <= 1.6e6 and sizes[1] <= 1.0e6
    # Images with the particles' states beside them.
    assert sizes[0] + sizes[1] / 2 <= 2.0e6


def test_what_the_browser_cannot_draw_is_refused():
    k = 3
    usual = {"name": "", "native": ("",) * k, "x": np.zeros((k, 2, 2)), "nfe": np.arange(k), "ms": np.arange(k)}
    with pytest.raises(ValueError, match="expected at least two falling values"):
        Run(**usual, s=np.array([0.0, 0.5, 1.0]), x0_hat=np.zeros((k, 2, 2)))
    with pytest.raises(ValueError, match="x0_hat has 2 entries; expected 3"):
        Run(**usual, s=np.array([1.0, 0.5, 0.0]), x0_hat=np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="the states hold NaN or infinity"):
        Run(**usual, s=np.array([1.0, 0.5, 0.0]), x0_hat=np.full((k, 2, 2), np.nan))


# Words and numbers -------------------------------------------------------------------------------------------------


def test_the_state_at_an_s_is_the_last_one_reached(models):
    run = answer(models, request("digits-vp-dpi"))
    assert [state_at(run, s) for s in (1.0, 0.9, 0.75, 0.4999, 0.0)] == [0, 0, 1, 2, 4]


def test_a_run_is_named_by_what_is_unusual():
    assert run_name(request("digits-vp-dpi")) == "Heun, 4 steps"
    unusual = request("digits-vp-dpi", sampler="dpmpp_2m", grid="karras", lam="frozen", frozen_at=0.25)
    assert run_name(unusual) == "DPM-Solver++(2M), 4 steps, Karras ρ = 7, λ = 0.25"
    other = request("digits-vp-none", sampler="dopri5")
    assert run_name(other, request("digits-vp-dpi").model) == "digits-vp-none, dopri5 (adaptive)"


def test_every_sampler_and_grid_of_the_library_can_be_chosen():
    assert set(figures.SAMPLER_NAMES) == set(SAMPLERS) and set(figures.GRID_NAMES) == set(GRIDS)
    assert figures.ADAPTIVE == ADAPTIVE and figures.STOCHASTIC == STOCHASTIC


def test_a_table_is_read_as_it_is_written():
    assert read_table("0, 0.5 1;0.25") == (0, 0.5, 1, 0.25)
    curve = np.linspace(0, 1, 101) ** 2
    np.testing.assert_allclose(read_table(written_table(curve)), curve, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"), [("0, two", "'two' is not a number"), ("0 1.2", "'1.2'"), ("1", "has 1 ")]
)
def test_a_table_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_table(text)


def test_the_table_says_how_far_apart_the_ends_are(models):
    runs = [(r, answer(models, r)) for r in (request("digits-vp-dpi"), request("digits-vp-dpi", lam="linear"))]
    rows = summary_rows(runs)
    assert rows[0]["End, RMS from A"] == "0.000"
    gap = np.sqrt(np.mean((runs[1][1].x[-1] - runs[0][1].x[-1]) ** 2))
    assert rows[1]["End, RMS from A"] == f"{gap:.3f}"
    assert f"ends {gap:.3f} RMS from A" in sentence(runs, 0.5)


LINES = [
    {"grid": "karras", "lam": "frozen", "frozen_at": 0.3, "sampler": "rk4"},
    {"lam": "table", "table": (0.1, 0.9), "sampler": "euler"},
    {"between": (0, 2)},
    {"inputs": Inputs("digits", 4, 3)},
]


@pytest.mark.parametrize("changes", LINES)
def test_the_lines_of_python_give_the_same_samples(changes, models):
    asked = request("digits-vp-dpi", **changes)
    found: dict = {}
    exec(sampling_lines(stored.read_model("digits-vp-dpi"), asked), found)
    shown = answer(models, asked)
    np.testing.assert_allclose(np.moveaxis(found["x"].numpy(), 1, -1), shown.x[-1], atol=1e-5)


def test_exported_settings_name_all_that_a_run_depends_on():
    key = stored.read_model("digits-vp-dpi").key
    changed = [{"lam": "frozen", "frozen_at": 0.2}, {"sampler": "dopri5", "lam": "table", "table": (0.0, 1.0)}]
    found = settings([request("digits-vp-dpi"), *(request("digits-vp-dpi", **changes) for changes in changed)])
    assert (found["seed"], found["samples"], found["start"]) == (3, 4, {"kind": "noise"})
    usual = {"model": "digits-vp-dpi", "digest": key.digest, "lambda": "learned"}
    assert found["runs"][0] == {**usual, "sampler": "heun", "steps": 4, "grid": "uniform"}
    assert found["runs"][1]["frozen_at"] == 0.2
    assert found["runs"][2] == {**usual, "sampler": "dopri5", "lambda": "table", "table": [0.0, 1.0]}
    assert settings([request("digits-vp-dpi", between=(1, 2))])["start"] == {"kind": "between", "samples": [1, 2]}


# The page ----------------------------------------------------------------------------------------------------------


def script(name: str) -> None:
    from app.services import cache
    from app.views import trajectories

    trajectories.page(cache.model(name), 0, "cpu")


def open_page(name: str, **query: str) -> AppTest:
    """The page with all its runs computed."""
    app = AppTest.from_function(script, args=(name,), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    for _ in range(8):
        _finish_jobs()
        app.run()
        if app.dataframe and len(app.dataframe[0].value) == int(query.get("runs", 2)):
            break
    assert not app.exception and not app.error
    return app


def _finish_jobs() -> None:
    from app.services import cache

    for job in list(cache.engine()._jobs.values()):
        assert job.wait(100)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_page_opens_with_two_runs_for_every_model(name):
    app = open_page(name, steps_a="3", steps_b="2")
    table = app.dataframe[0].value
    assert table["Run"].tolist() == ["A: Heun, 3 steps", "B: DDIM, 2 steps"]
    assert table["NFE"].tolist() == ["5", "2"]
    assert [button.label for button in app.get("download_button")] == ["GIF", "WebP", "MP4", "PNG sheet", "NPZ", "HTML"]


def test_the_caption_of_the_distance_names_what_is_compared():
    assert f"Between {planes.JUDGED_POINTS} particles and {planes.DATA_POINTS} fresh data points" in VIEW.html


def test_a_link_off_the_learned_curve_stays_off_it():
    app = open_page("digits-vp-dpi", steps_a="3", steps_b="2", t="0.4", lam="0.7")
    assert {key: app.query_params[key] for key in ("t", "lam")} == {"t": "0.4", "lam": "0.7"}


def test_a_link_shows_the_runs_it_names():
    app = open_page(
        "mixture2d-flow-dpi",
        runs="1",
        sampler_a="RK4",
        steps_a="2",
        grid_a="even in log-SNR",
        curve_a="frozen",
        frozen_a="0.25",
    )
    assert app.dataframe[0].value["Run"].tolist() == ["A: RK4, 2 steps, even in log-SNR, λ = 0.25"]


@pytest.mark.parametrize("asked", ["0", "10000", "many", "-3", "1e999", "9" * 5000])
def test_steps_that_no_run_takes_are_said_until_others_are_chosen(asked):
    app = open_page("digits-vp-dpi", runs="1", sampler_a="DDIM", steps_a=asked)
    assert app.dataframe[0].value["NFE"].tolist() == ["32"]
    (warning,) = app.warning
    assert "as “A: steps”, which goes from 1 to 200; it is set to 32." in warning.value
    app.number_input(key="steps_a").set_value(2).run()
    assert not app.warning and not app.exception


def test_the_ends_of_a_fine_run_are_those_of_a_solver_with_a_tolerance(models):
    asked = fine_run(request("mixture2d-flow-dpi"))
    exact = models["mixture2d-flow-dpi"].sample(asked.inputs.n, Dopri5(1e-7, 1e-7), seed=asked.inputs.seed).x
    assert np.sqrt(np.square(answer(models, asked).x[-1] - exact.numpy()).mean()) < 2e-4


def test_a_fine_run_is_computed_beside_the_others():
    app = open_page("digits-vp-dpi", runs="1", steps_a="3", reference="true")
    for _ in range(4):
        _finish_jobs()
        app.run()
    table = app.dataframe[0].value
    assert 0 < float(table["End, RMS from the fine run"][0]) < 1
    assert "End, RMS from A" not in table


def test_models_of_the_same_data_stand_side_by_side():
    app = open_page("digits-vp-dpi", steps_a="2", steps_b="2", model_b="digits-vp-none")
    assert app.dataframe[0].value["Run"].tolist() == ["A: Heun, 2 steps", "B: digits-vp-none, DDIM, 2 steps"]


def test_data_are_carried_to_noise_and_back():
    app = open_page("digits-vp-dpi", runs="1", sampler_a="RK4", steps_a="4", start="held-out, inverted")
    assert 0 < float(app.dataframe[0].value["Round trip, RMS from the data"][0]) < 1


def test_a_table_that_cannot_be_read_is_said(unescaped):
    app = AppTest.from_function(script, args=("digits-vp-dpi",), default_timeout=120)
    for key, value in {"runs": "1", "curve_a": "a table", "table_a": "0, two"}.items():
        app.query_params[key] = value
    app.run()
    assert [unescaped(error.value) for error in app.error] == [
        "λ = 'two' is not a number in [0, 1]; write for example 0, 0.1, 0.9, 1."
    ]


def test_a_model_with_one_parameter_set_has_no_choice_of_curve():
    app = open_page("digits-vp-none", runs="1", steps_a="2")
    assert [box.label for box in app.selectbox] == ["Start from", "A: sampler", "Steps lie"]
