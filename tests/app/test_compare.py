"""The Compare page: its numbers against hand-computed ones, the engine against direct computation, and a real tiny sweep."""

import copy
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import dpi_core
from app.figures import compare, comparisons
from app.figures.reproduce import stored_inputs
from app.records import ComparisonRequest, Inputs, size_in_bytes
from app.services import stored
from app.services.comparing import paired_scores
from dpi_core.cli import main
from dpi_core.conditioning import ConditioningConfig
from dpi_core.data import load_data
from dpi_core.results import sweep_section
from dpi_core.seeds import seeded_generator
from dpi_core.sweep import Method, SweepConfig, load_sweep, sweep

PATIENCE = 60
FAMILY = [stored.read_model(name) for name in ("digits-vp-dpi", "digits-vp-none")]
GRID = tuple(np.linspace(0, 1, 4).tolist())

TINY = SweepConfig(
    "tiny-vp",
    {
        "data": {"kind": "digits"},
        "shape": [1, 8, 8],
        "process": {"kind": "vp"},
        "backbone": {"kind": "drunet", "channels": [4, 8], "blocks": 1},
        "training": {"steps": 6, "batch_size": 16, "warmup_steps": 1, "log_every": 3, "save_every": 3},
        "sampling": {"sampler": "ddim", "steps": 3},
    },
    {name: Method(ConditioningConfig(name)) for name in ("dpi", "input_map", "none")},
    seeds=(0, 1),
    judged=12,
    samples=20,
)


# Pure functions --------------------------------------------------------------------------------------------------


def interval(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def scores_of(*means, seeds):
    return {"psnr": {"each": list(map(interval, means)), "average": interval(np.mean(means)), "seeds": seeds}}


def against(*means):
    return {"psnr": {"difference": list(map(interval, means)), "average": interval(float(np.mean(means)))}}


SWEEP = {
    "name": "toy",
    "config": {"seeds": [0, 1]},
    "s": [0.2, 0.8],
    "judged": 7,
    "floor": {},
    "methods": {
        "dpi": {"scores": scores_of(20.0, 10.0, seeds=[15.5, 14.5])},
        "none": {"scores": scores_of(19.0, 10.5, seeds=[15.0, 14.5])},
        "blind": {"scores": scores_of(18.0, 10.0, seeds=[14.0, 14.0])},
    },
    "against": {"none": against(1.0, -0.5), "blind": against(2.0, 0.0)},
    "between": {"none": {"blind": against(1.0, 0.5)}},
}


def test_any_method_can_be_held_against_the_others():
    found = comparisons.comparison_of_sweep(SWEEP, "psnr")
    assert found.scores.difference[0, 1].tolist() == pytest.approx(np.array([[1, 0.9, 1.1], [-0.5, -0.6, -0.4]]))
    assert found.scores.difference[1, 0].tolist() == pytest.approx(np.array([[-1, -1.1, -0.9], [0.5, 0.4, 0.6]]))
    assert found.scores.difference[2, 1].tolist() == pytest.approx(np.array([[-1, -1.1, -0.9], [-0.5, -0.6, -0.4]]))
    assert comparisons.verdicts(found, "none") == [
        "PSNR: none is better than dpi at s = 0.80 (1 of 2 levels), worse at s = 0.20 (1). On average over the levels −0.25 dB"
        " (−0.35 to −0.15), from 7 held-out samples and 2 seeds of training (each alone: −0.50 to 0.00 dB).",
        "PSNR: none is better than blind at all 2 levels. On average over the levels +0.75 dB (+0.65 to +0.85), from 7 held-out"
        " samples and 2 seeds of training (each alone: +0.50 to +1.00 dB).",
    ]
    assert comparisons.headline(found, "dpi") == (
        "By PSNR, dpi is worse at no level and better on average against blind; not so against none. From 7 held-out samples and"
        " 2 seeds of training."
    )


def test_a_sweep_of_an_older_kind_knows_the_first_method_alone():
    found = comparisons.comparison_of_sweep({key: value for key, value in SWEEP.items() if key != "between"}, "psnr")
    assert len(comparisons.verdicts(found, "dpi")) == 2 and len(comparisons.verdicts(found, "blind")) == 1


def test_the_charts_hold_what_the_scores_say():
    found = comparisons.comparison_of_sweep(SWEEP, "psnr")
    wins = compare.wins_chart(found, "dpi")
    assert wins.rows == [
        ("dpi", "none", 0.2, "better"),
        ("dpi", "none", 0.8, "worse"),
        ("dpi", "blind", 0.2, "better"),
        ("dpi", "blind", 0.8, "no clear difference"),
    ]
    assert np.array(wins.figure.data[0].z).tolist() == [[1, -1], [1, 0]]
    difference = compare.difference_chart(found, "dpi", 0.5)
    lines = {trace.name: list(trace.y) for trace in difference.figure.data if trace.name}
    assert lines == {"against none": [1.0, -0.5], "against blind": [2.0, 0.0]}
    assert difference.csv().splitlines()[1].startswith("dpi,none,0.2,1.0,0.9,1.1")
    error = compare.error_chart(found, 0.5)
    assert {trace.name: list(trace.y) for trace in error.figure.data if trace.name}["blind"] == [18.0, 10.0]
    assert error.figure.layout.yaxis.title.text == "PSNR (dB)" and "7 held-out samples" in error.caption


def test_a_method_has_one_colour_whoever_stands_beside_it():
    assert comparisons.colour_of("none", ["none"]) == comparisons.colour_of("none", ["warm", "dpi", "none"])
    known = [comparisons.colour_of(name, comparisons.METHODS) for name in comparisons.METHODS]
    assert len(set(known)) == len(known)
    recipe = list(load_sweep("mixture2d-recipe").methods)
    assert len({comparisons.colour_of(name, recipe) for name in recipe}) == len(recipe) == 15


def test_paired_scores_of_errors_with_a_known_ratio():
    s = np.array([0.0, 0.25, 0.5, 1.0])
    hard = np.random.default_rng(0).uniform(0.01, 1, (4, 30))
    found = paired_scores(s, np.stack([hard, 10 * hard]), are_images=True)
    assert found.s.tolist() == [0.25, 0.5], "ends are left out"
    assert found.difference[0, 1] == pytest.approx(np.full((2, 3), 10.0))
    assert found.difference[1, 0] == pytest.approx(np.full((2, 3), -10.0)) and not found.difference[0, 0].any()
    assert found.score[0, :, 0] == pytest.approx(10 * np.log10(4 / hard[1:3]).mean(axis=1))
    points = paired_scores(s, np.stack([hard, hard + 0.5]), are_images=False)
    assert points.average[0, 1] == pytest.approx(np.full(3, 0.5)) and points.measure == "mse"


def test_without_a_sweep_the_command_that_makes_one_is_named():
    sentences = comparisons.missing("digits-vp", FAMILY, None, ["digits-vp"])
    assert sentences[0].startswith(
        "There are no scores of a sweep for digits-vp: `python -m dpi_core sweep digits-vp` trains"
    )
    assert "digits-vp" in stored.known_sweeps()
    sentences = comparisons.missing("toy", FAMILY, SWEEP, [])
    assert any("without weights here to look at: blind" in sentence for sentence in sentences)


def test_a_loaded_model_without_frames_is_analysed_in_its_own_folder():
    own = dataclasses.replace(FAMILY[1].source, origin="upload")
    for source, folder in ((FAMILY[1].source, "digits-vp-none"), (own, "FOLDER")):
        bare = dataclasses.replace(FAMILY[1], source=source, sweep=None)
        said = comparisons.missing("digits-vp", [FAMILY[0], bare], None, [])
        assert f"`python -m dpi_core analyse {folder} --only frames` stores them" in said[-1]


def test_models_that_were_not_trained_alike_are_named():
    assert comparisons.unlike(FAMILY) == []
    other = copy.deepcopy(FAMILY[1].recipe)
    other["training"]["steps"] += 1
    other["shape"] = [1, 9, 9]
    changed = dataclasses.replace(FAMILY[1], recipe=other)
    assert comparisons.unlike([FAMILY[0], changed]) == [
        "none was not trained like dpi, so a difference may come of shape, training.steps."
    ]


def test_scores_of_other_networks_than_the_rows_are_said_to_be_so():
    dpi = stored.read_model("photos-drunet-dpi")
    assert comparisons.scored_otherwise(stored.read_sweep("photos-drunet"), dpi) == []
    assert comparisons.scored_otherwise(stored.read_sweep("digits-vp"), stored.read_model("digits-vp-dpi")) == []
    (sentence,) = comparisons.scored_otherwise(stored.read_sweep("photos-drunet-biases"), dpi)
    assert "of photos-drunet-biases are of other networks than the rows show" in sentence
    assert "backbone.bias, training.steps" in sentence and "every" not in sentence


def test_the_chosen_model_is_among_the_rows_however_many_there_are():
    from app.views.compare import MOST_ROWS, family_of_rows

    source = FAMILY[0].source
    many = [
        dataclasses.replace(FAMILY[0], source=dataclasses.replace(source, name=f"m{i}")) for i in range(MOST_ROWS + 2)
    ]
    assert family_of_rows(many[1], many) == many[:MOST_ROWS]
    assert family_of_rows(many[-1], many) == [*many[: MOST_ROWS - 1], many[-1]]


def test_checkpoints_alone_give_curves_and_no_verdict():
    found = comparisons.comparison_of_models(FAMILY)
    assert found.names == ("dpi", "none") and comparisons.verdicts(found, "dpi") == []
    expected = [level["low"] for level in FAMILY[1].metrics["held_out"]["psnr"]]
    assert found.scores.score[1, :, 1].tolist() == expected
    assert run(found.lines)["score"]["digits-vp-none"] == FAMILY[1].metrics["held_out"]["psnr"]


def test_lines_load_a_model_from_where_it_came(tmp_path):
    own = Path(shutil.copytree(FAMILY[1].key.folder, tmp_path / "mine"))
    source = dataclasses.replace(FAMILY[1].source, name="folder:mine", origin="folder", load_from=str(own))
    family = [FAMILY[0], dataclasses.replace(FAMILY[1], source=source)]
    score = run(comparisons.comparison_of_models(family).lines)["score"]
    assert score["folder:mine"] == FAMILY[1].metrics["held_out"]["psnr"]
    rows = run(comparisons.rows_lines(family, stored_inputs(FAMILY[0]), 0.3, 2, "cpu"))["x0_hat"]
    assert list(rows) == ["digits-vp-dpi", "folder:mine"]


def run(lines):
    names = {}
    exec(lines, names)
    return names


# The engine ------------------------------------------------------------------------------------------------------


def test_the_engine_compares_on_the_same_inputs_and_noise(engine):
    inputs = Inputs("held-out", 6, 3)
    request = ComparisonRequest(FAMILY[0].key, (FAMILY[1].key,), inputs, 2, GRID, "cpu")
    job = engine.submit("me", request)
    assert job.wait(PATIENCE) and job.status == "done", job.error
    assert (job.done, job.total) == (8, 8)
    found = job.result
    x0 = load_data(dpi_core.load(FAMILY[0].key.folder).recipe.data).held_out_batch(6, 3)
    eps = torch.randn(x0.shape, generator=seeded_generator(3))
    values = []
    for model, shown in zip(FAMILY, found.sweeps, strict=True):
        loaded = dpi_core.load(model.key.folder)
        x0_hat = torch.stack([loaded.denoise(loaded.process.add_noise(x0, eps, s), s) for s in GRID])
        np.testing.assert_allclose(shown.x0_hat, np.moveaxis(x0_hat[:, :2].numpy(), 2, -1), atol=1e-5)
        mse = (x0_hat - x0).square().flatten(2).mean(2)[1:3]
        values.append(10 * np.log10(4 / mse.numpy()))
    assert found.scores.s.tolist() == list(GRID[1:3])
    np.testing.assert_allclose(found.scores.difference[0, 1, :, 0], (values[0] - values[1]).mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(found.scores.score[1, :, 0], values[1].mean(axis=1), atol=1e-4)
    assert (found.scores.difference[0, 1, :, 1] < found.scores.difference[0, 1, :, 0]).all()
    frames = sum(each.x0_hat.nbytes for each in found.sweeps)
    assert size_in_bytes(found) > frames + found.scores.difference.nbytes

    lines = comparisons.comparison_of_request(FAMILY, request, found.scores).lines
    names = run(lines)
    again = np.array([(level.mean, level.low, level.high) for level in names["found"].difference])
    np.testing.assert_allclose(again, found.scores.difference[0, 1], atol=1e-4)


def test_the_lines_of_the_rows_make_the_stored_frames():
    names = run(comparisons.rows_lines(FAMILY, stored_inputs(FAMILY[0]), 0.3, 2, "cpu"))
    for model in FAMILY:
        pixels = (names["x0_hat"][model.name].clamp(-1, 1) + 1) * 127.5
        wanted = model.sweep.x0_hat[30, :2]
        assert np.abs(np.moveaxis(pixels.numpy(), 1, -1) - wanted).max() <= 1.5
    assert comparisons.same_inputs(FAMILY[0].sweep, FAMILY[1].sweep)


# The page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A real sweep, and its models as checkpoints with stored frames."""
    root = tmp_path_factory.mktemp("tiny")
    runs = root / "runs" / TINY.name
    result = sweep(TINY, load_data(TINY.runs()[0][2].data), runs, say=lambda text: None)
    (root / "results" / TINY.name).mkdir(parents=True)
    shutil.copy(runs / "metrics.json", root / "results" / TINY.name)
    for name in TINY.methods:
        folder = shutil.copytree(runs / f"{name}-0", root / "checkpoints" / f"{TINY.name}-{name}")
        if name != "input_map":
            main(["analyse", str(folder), "--only", "frames"])
    return root, result


@pytest.fixture
def here(tiny, monkeypatch):
    root, result = tiny
    monkeypatch.setattr(stored, "CHECKPOINTS", root / "checkpoints")
    monkeypatch.setattr(stored, "RESULTS", root / "results")
    return root, result


def draw(name):
    from app.services import cache
    from app.views import compare

    compare.page(cache.model(name), 0, "cpu")


def open_page(name="tiny-vp-dpi", **query):
    app = AppTest.from_function(draw, kwargs={"name": name}, default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def texts(app):
    return [*(text.value for text in app.markdown), *(text.value for text in app.caption)]


def test_the_page_and_the_results_say_the_same(here):
    _, result = here
    app = open_page()
    bullets = [line for text in app.markdown for line in text.value.splitlines() if line.startswith("- PSNR: dpi")]
    written = sweep_section(result).splitlines()
    assert len(bullets) == 2 and set(bullets) <= set(written)
    headline = next(text.value for text in app.markdown if text.value.startswith("By PSNR, dpi"))
    assert headline.split(" From ")[0] in written and "12 held-out samples and 2 seeds" in headline
    scores, samples, cost = (frame.value for frame in app.dataframe)
    assert list(samples["method"]) == [*TINY.methods, "data against data"]
    energies = [run["energy"] for run in result["methods"]["none"]["generation"]]
    assert samples["energy"][2] == pytest.approx(np.mean(energies))
    assert samples["energy"][3] == pytest.approx(np.mean(result["floor"]["energy"]))
    assert scores["PSNR (dB)"][0] == pytest.approx(result["methods"]["dpi"]["scores"]["psnr"]["average"]["mean"])
    assert list(cost["parameters"]) == [each["cost"]["parameters"] for each in result["methods"].values()]
    assert any("among the rows until inputs are chosen: input_map" in text for text in texts(app))


def test_another_reference_and_another_measure(here):
    app = open_page(against="none", measure="SSIM")
    bullets = [line for text in app.markdown for line in text.value.splitlines() if line.startswith("- ")]
    assert [bullet.startswith("- SSIM: ") and "none" in bullet for bullet in bullets] == [True, True]


def test_all_models_are_compared_on_inputs_of_ones_own(here):
    app = open_page(compared_on="Held-out")
    for _ in range(200):
        if any("64 inputs (held-out)" in text for text in texts(app)):
            break
        app.run()
    assert any(text.startswith("By PSNR, dpi") and "64 inputs (held-out)" in text for text in texts(app))


def test_a_family_without_a_sweep_is_compared_by_what_is_there(here, monkeypatch):
    root, _ = here
    monkeypatch.setattr(stored, "RESULTS", root / "nothing")
    app = open_page()
    assert any("There are no scores of a sweep for tiny-vp" in text for text in texts(app))
    assert not app.error and list(app.dataframe[0].value["method"]) == sorted(TINY.methods)


def test_damaged_scores_are_said_to_be_so(here, tmp_path, monkeypatch):
    (tmp_path / "tiny-vp").mkdir()
    (tmp_path / "tiny-vp" / "metrics.json").write_text('{"methods": ')
    monkeypatch.setattr(stored, "RESULTS", Path(tmp_path))
    assert "tiny-vp/metrics.json is not valid JSON" in open_page().error[0].value


def test_samples_of_all_models_begin_as_the_same_noise(engine):
    from app.figures.samples import samples_chart
    from app.records import TrajectoryRequest

    inputs = Inputs("samples", 3, 5)
    requests = [TrajectoryRequest(model.key, inputs, "ddim", 2, "uniform", "learned", 0.5, "cpu") for model in FAMILY]
    results = []
    for request in requests:
        job = engine.submit("me", request)
        assert job.wait(PATIENCE) and job.status == "done", job.error
        results.append(job.result)
    np.testing.assert_allclose(results[0].x[0], results[1].x[0])
    chart = samples_chart(FAMILY, requests, [result.x[-1] * result.scale[-1] for result in results])
    expected = [dpi_core.load(model.key.folder).sample(3, "ddim", 2, 5).x for model in FAMILY]
    means = np.array([row[2] for row in chart.rows]).reshape(2, 3)
    np.testing.assert_allclose(means, [x.mean(dim=(1, 2, 3)).numpy() for x in expected], atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_stored_samples_are_shown_at_once_and_others_when_they_are_asked_for(seed):
    def draw(seed):
        from app.services import cache
        from app.views import compare

        compare.page(cache.model("digits-vp-dpi"), seed, "cpu")

    app = AppTest.from_function(draw, kwargs={"seed": seed}, default_timeout=120).run()
    assert not app.exception, app.exception[0].stack_trace
    captions = [text for text in texts(app) if "from the same noise (seed 0), by Heun" in text]
    assert len(captions) == (seed == 0)


def test_scores_of_one_seed_have_no_spread_over_seeds(tiny):
    _, result = tiny
    several = compare.score_table(result)
    one = copy.deepcopy(result)
    one["config"]["seeds"] = result["config"]["seeds"][:1]
    alone = compare.score_table(one)
    assert alone.header == tuple(name for name in several.header if "seed by seed" not in name) != several.header
    assert [row[0] for row in alone.rows] == [row[0] for row in several.rows]
    assert all(len(row) == len(alone.header) for row in alone.rows) and "beside" not in alone.caption


def test_the_steps_of_a_first_round_count_and_a_run_that_was_stopped_there_is_named():
    app = open_page("photos-drunet-dpi")
    assert not any(box.label == "At equal steps" for box in app.expander), (
        "no round's scores are those of another's steps"
    )
    (said,) = (caption.value for caption in app.caption if "unequal steps" in caption.value)
    assert said.startswith(
        "Trained at unequal steps: dpi, input_map and none 32,000; input_map_first and none_first 16,000;"
    )
    assert "dpi_first was stopped at step 12,000 of 16,000" in said


def test_a_run_that_was_stopped_is_also_read_where_the_others_were_then():
    early = {"measure": "psnr", "steps": [12000, 12000], "samples": 60, "levels": 5}
    early["difference"] = {"mean": 0.1, "low": 0.05, "high": 0.15}
    shown = {**stored.read_sweep("photos-drunet"), "equal_steps": {"none": early}}
    (line,) = comparisons.equal_steps(shown)
    assert line.startswith("Dpi is better against none:") and line.endswith("both are read at step 12,000.")


def test_a_family_of_data_that_may_not_be_passed_on_shows_samples_of_one_model():
    """Fashion-MNIST's images are in no file of ours: the rows are of what `fashion-unet-dpi` draws."""
    family = [stored.read_model(f"fashion-unet-{kind}") for kind in ("dpi", "none")]
    assert family[0].drawn_by is None and family[1].drawn_by == family[0].key
    assert comparisons.same_inputs(family[0].sweep, family[1].sweep)
    assert stored_inputs(family[1]) == dataclasses.replace(stored_inputs(family[0]), of=family[0].key)
    lines = comparisons.rows_lines(family[1:], stored_inputs(family[1]), 0.5, 2, "cpu")
    assert 'x0 = dpi_core.load("checkpoints/fashion-unet-dpi").sample(16, seed=0).x.cpu().clamp(-1, 1)' in lines
    namespace = {}
    exec(lines, namespace)
    clean = np.moveaxis(namespace["x0"].numpy(), 1, -1)
    np.testing.assert_allclose(clean, family[1].sweep.clean / 127.5 - 1, atol=1 / 127)
    app = open_page("fashion-unet-none")
    assert not any("own samples" in caption.value for caption in app.caption)


def test_models_that_show_other_samples_are_named_and_not_set_beside():
    apart = [dataclasses.replace(FAMILY[0], sweep=None), *FAMILY[1:]]
    assert comparisons.shown_alone(FAMILY, FAMILY) == comparisons.shown_alone(apart, FAMILY[1:]) == []
    (said,) = comparisons.shown_alone(FAMILY, FAMILY[:1])
    assert said.startswith(
        f"The stored frames of {', '.join(map(comparisons.method_of, FAMILY[1:]))} show those models' own"
    )
