"""Runs in training as the app reads them: a real run, half-written files, and the page that follows them."""

import json
import shutil

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.figures import runs as figures
from app.services import runs
from dpi_core.build import recipe_from_dict
from dpi_core.data import load_data
from dpi_core.held_out import read_held_out
from dpi_core.runs import train_run
from dpi_core.training import CURVE_POINTS

RECIPE = recipe_from_dict(
    {
        "name": "ring",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 16, "depth": 3},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 12, "batch_size": 32, "warmup_steps": 3, "log_every": 2, "save_every": 4},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    train_run(RECIPE, load_data(RECIPE.data), root / "ring")
    return root


@pytest.fixture
def root(trained, tmp_path, monkeypatch):
    """A folder of runs of the test's own."""
    folder = shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.setattr(runs, "ROOT", folder)
    return folder


def logs(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_is_what_its_log_says(root):
    run, written = runs.read_run("ring"), logs(root / "ring")
    assert runs.CURVE_POINTS == CURVE_POINTS
    assert run.step.tolist() == [2, 4, 6, 8, 10, 12] and run.done == run.steps == 12
    assert run.loss.tolist() == [line["loss"] for line in written]
    assert run.lam[:, :, 0].tolist() == [line["lam"] for line in written]
    assert run.saturation.tolist() == [line["saturation"] for line in written]
    scores = read_held_out(root / "ring" / "held_out.jsonl")
    assert run.measure == "mse" and run.scored_step.tolist() == [4, 8, 12]
    assert run.score.tolist() == [list(score.mean) for score in scores]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_is_half_written_waits_for_the_next_time(root, cut):
    file = root / "ring" / "log.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    complete = 6 if cut == 1 else 5  # without its end a line may be whole
    assert runs.read_run("ring").done == 2 * complete
    file.write_bytes(whole)
    assert runs.read_run("ring").done == 12


def test_a_run_that_has_not_logged_yet_is_there(root):
    for name in ("log.jsonl", "held_out.jsonl"):
        (root / "ring" / name).unlink()
    run = runs.read_run("ring")
    assert run.done == 0 and run.lam is None and not len(run.scored_step)
    assert figures.state_of(run, 0) == "begins; nothing is logged yet"


def test_a_damaged_recipe_is_said_to_be_so(root):
    (root / "ring" / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match="the recipe of the run 'ring' cannot be read"):
        runs.read_run("ring")


def test_whether_a_run_goes_on_is_told_by_its_steps_and_its_last_line(root):
    file = root / "ring" / "log.jsonl"
    assert figures.state_of(runs.read_run("ring"), 0).startswith("done, 12 steps in ")
    lines = logs(root / "ring")[:3]
    file.write_text("".join(json.dumps({**line, "seconds": 20.0}) + "\n" for line in lines))
    run = runs.read_run("ring")
    going = figures.state_of(run, run.written + 5)
    assert going == "step 6 of 12, 10000 ms each, about 1 minutes left"
    assert figures.state_of(run, run.written + 600) == "step 6 of 12; no news for 10 minutes: stopped, or slow"


def test_charts_hold_the_log(root):
    run = runs.read_run("ring")
    assert [row[1:] for row in figures.loss_chart([run]).rows] == list(
        zip(run.step.tolist(), run.loss.tolist(), strict=True)
    )
    curves = figures.lambda_chart(run).figure.data
    assert len(curves) == 6 and np.array(curves[-1].y).tolist() == run.lam[-1, :, 0].tolist()
    assert figures.saturation_chart([run]).rows[-1] == ("ring", 12, run.saturation[-1])
    assert [row[2] for row in figures.held_out_chart(run).rows[-5:]] == run.score[-1].tolist()


def draw():
    from app.views import runs

    runs.page(None, 0, "cpu")


def test_the_page_follows_a_run_while_it_is_written(root):
    file = root / "ring" / "log.jsonl"
    whole = file.read_text()
    file.write_text(whole[: whole.index("\n") + 20])
    app = AppTest.from_function(draw, default_timeout=60).run()
    assert not app.exception and any("step 2 of 12" in text.value for text in app.markdown)
    file.write_text(whole)
    app.run()
    assert not app.exception and any("**ring**: done, 12 steps" in text.value for text in app.markdown)
    shown = [text.value for text in app.markdown]
    for title in ("Loss", "λ(s) of ring as it forms", "Saturation of λ", "Held-out mean squared error of ring"):
        assert f"**{title}**" in shown


def test_without_runs_the_page_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path / "nothing")
    app = AppTest.from_function(draw, default_timeout=60).run()
    assert "python -m dpi_core train digits-vp-dpi" in app.info[0].value and "DPI_RUNS" in app.info[0].value
