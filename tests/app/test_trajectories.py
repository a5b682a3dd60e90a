"""The Trajectories page: what is computed, what travels to the browser, and what the page shows."""

import json
import math
import struct

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.components.player import pack_run
from app.components.player.payload import Run
from app.figures.trajectories import run_figure, run_name, sampling_lines, sentence, settings, state_at, summary_rows
from app.records import Inputs, TrajectoryRequest
from app.services import compute, stored

SHIPPED = {"digits-vp-dpi": 4, "digits-vp-none": 4, "mixture2d-flow-dpi": 100}


def silent(done: int, total: int, partial: object = None) -> None:
    """A report nobody reads."""


def request(name: str, **changes) -> TrajectoryRequest:
    usual = {"sampler": "heun", "steps": 4, "grid": "uniform", "lam": "learned", "frozen_at": 0.5, "device": "cpu"}
    return TrajectoryRequest(stored.read_model(name).key, Inputs("samples", SHIPPED[name], 3), **(usual | changes))


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
    asked = request("mixture2d-flow-dpi", steps=16)
    asked = TrajectoryRequest(**(vars(asked) | {"inputs": Inputs("samples", 600, 3)}))
    run = answer(models, asked)
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
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(name, changes, message, models):
    with pytest.raises(ValueError, match=message):
        answer(models, request(name, **changes))


# What travels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_the_browser_gets_the_states(name, models):
    run = answer(models, request(name))
    header, arrays = unpack(pack_run(run_figure(request(name), run)))
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
    first = [unpack(pack_run(run_figure(request("digits-vp-dpi"), run)))[1]["x"][0] for run in blobs]
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


def test_the_table_says_how_far_apart_the_ends_are(models):
    runs = [(r, answer(models, r)) for r in (request("digits-vp-dpi"), request("digits-vp-dpi", lam="linear"))]
    rows = summary_rows(runs)
    assert rows[0]["End, RMS from A"] == "0.000"
    gap = np.sqrt(np.mean((runs[1][1].x[-1] - runs[0][1].x[-1]) ** 2))
    assert rows[1]["End, RMS from A"] == f"{gap:.3f}"
    assert f"ends {gap:.3f} RMS from A" in sentence(runs, 0.5)


@pytest.mark.parametrize("changes", [{}, {"grid": "karras", "lam": "frozen", "frozen_at": 0.3, "sampler": "rk4"}])
def test_the_lines_of_python_give_the_same_samples(changes, models):
    asked = request("digits-vp-dpi", **changes)
    found: dict = {}
    exec(sampling_lines(stored.read_model("digits-vp-dpi"), asked), found)
    shown = answer(models, asked)
    np.testing.assert_allclose(np.moveaxis(found["x"].numpy(), 1, -1), shown.x[-1], atol=1e-5)


def test_exported_settings_name_all_that_a_run_depends_on():
    model = stored.read_model("digits-vp-dpi")
    found = settings(model, [request("digits-vp-dpi"), request("digits-vp-dpi", lam="frozen", frozen_at=0.2)])
    assert (found["model"], found["digest"], found["seed"], found["samples"]) == (
        "digits-vp-dpi",
        model.key.digest,
        3,
        4,
    )
    assert found["runs"][0] == {"sampler": "heun", "steps": 4, "grid": "uniform", "lambda": "learned"}
    assert found["runs"][1]["frozen_at"] == 0.2


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
    assert [button.label for button in app.get("download_button")] == ["GIF", "WebP", "PNG sheet", "NPZ", "HTML"]


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


def test_a_fine_run_is_computed_beside_the_others():
    app = open_page("digits-vp-dpi", runs="1", steps_a="3", reference="true")
    for _ in range(4):
        _finish_jobs()
        app.run()
    table = app.dataframe[0].value
    assert 0 < float(table["End, RMS from the fine run"][0]) < 1
    assert float(table["End, RMS from A"][0]) == 0


def test_a_model_with_one_parameter_set_has_no_choice_of_curve():
    app = open_page("digits-vp-none", runs="1", steps_a="2")
    assert [box.label for box in app.selectbox] == ["A: sampler", "Steps lie"]
