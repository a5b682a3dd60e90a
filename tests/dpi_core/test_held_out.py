"""Held-out scores on the way: those of the averaged weights, without a trace in the training; and equal time from them."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.data import load_data
from dpi_core.equal_time import equal_time
from dpi_core.evaluation import denoising_errors
from dpi_core.held_out import FILE, SCORED_LEVELS, HeldOutLog, HeldOutScores, read_held_out, samples_at
from dpi_core.runs import train_run
from dpi_core.training import train

RECIPE = recipe_from_dict(
    {
        "name": "ring",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 16, "depth": 3},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 12, "batch_size": 32, "warmup_steps": 3, "log_every": 1, "save_every": 4},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)


def log(step, *samples):
    return HeldOutLog(step, "psnr", SCORED_LEVELS, (0.0,) * len(SCORED_LEVELS), samples)


def test_the_last_scores_are_those_of_the_trained_model_and_training_does_not_notice(tmp_path):
    data = load_data(RECIPE.data)
    model = train_run(RECIPE, data, tmp_path)
    logs = read_held_out(tmp_path / FILE)
    assert [each.step for each in logs] == [4, 8, 12]
    x0 = data.held_out_batch(len(logs[-1].samples), 0)
    errors = np.stack([error for _, error in denoising_errors(model.denoiser, x0, SCORED_LEVELS, 0)])
    assert_close(np.array(logs[-1].mean), errors.mean(axis=1), rtol=1e-6, atol=0)
    assert_close(np.array(logs[-1].samples), errors.mean(axis=0), rtol=1e-6, atol=0)
    assert logs[0].mean != logs[-1].mean
    alone = [each.loss for each in train(build_denoiser(RECIPE), data, RECIPE.training)]
    assert [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == alone


def test_a_run_that_goes_on_drops_what_was_scored_after_its_state_and_a_torn_line(tmp_path):
    data = load_data(RECIPE.data)
    train_run(RECIPE, data, tmp_path)
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"step": 16, "mea')
    assert [each.step for each in read_held_out(tmp_path / FILE)] == [4, 8, 12]
    HeldOutScores(tmp_path, RECIPE, data, step=8)
    assert [each.step for each in read_held_out(tmp_path / FILE)] == [4, 8]
    assert read_held_out(tmp_path / "nothing.jsonl") == []


def test_scores_between_two_steps_lie_on_a_line():
    logs = [log(10, 1.0, 5.0), log(20, 3.0, 4.0)]
    assert samples_at(logs, 10).tolist() == [1.0, 5.0] and samples_at(logs, 20).tolist() == [3.0, 4.0]
    assert samples_at(logs, 15).tolist() == [2.0, 4.5]
    for step in (5, 25):
        with pytest.raises(ValueError, match=r"lie at the steps \[10, 20\], not around"):
            samples_at(logs, step)


def test_the_slower_method_is_read_where_the_other_one_ends():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=50)
    slow = [log(step, *(hard + 0.01 * step).tolist()) for step in (100, 200)]
    fast = [log(step, *(hard + 0.5).tolist()) for step in (100, 200)]
    found = equal_time([slow], [fast], (4.0, 3.0))
    assert found.steps == (150, 200) and found.samples == 50 and found.levels == 5
    assert found.difference.mean == pytest.approx(1.0) and found.difference.low == pytest.approx(found.difference.high)
    other = equal_time([fast], [slow], (3.0, 4.0))
    assert other.steps == (200, 150) and other.difference.mean == pytest.approx(-1.0)
    assert equal_time([slow], [fast], (40.0, 3.0)) is None, "the slow one would be read before its first score"
    assert equal_time([slow], [[]], (1.0, 1.0)) is None


def test_the_time_of_the_network_that_training_started_from_counts():
    slow, fast = ([log(step, 0.01 * step * pace) for step in (100, 200)] for pace in (1, 2))
    found = equal_time([slow], [fast], (3.0, 4.0), before_ms=(60.0, 0.0))
    assert found.steps == (200, 165)
    assert equal_time([slow], [fast], (1.0, 1.0), before_ms=(0.0, 50.0)).steps == (200, 150)
    assert equal_time([slow], [fast], (1.0, 1.0), before_ms=(150.0, 0.0)) is None, "it had hardly begun by then"


def test_scores_of_a_changed_state_are_new(tmp_path):
    """The judged copy keeps nothing of the weights it held before."""
    data, states = load_data(RECIPE.data), []
    for _ in train(build_denoiser(RECIPE), data, RECIPE.training, lambda state: states.append(copied(state))):
        pass
    scores = HeldOutScores(tmp_path, RECIPE, data)
    for state in (states[0], states[-1], states[0]):
        scores.add(state)
    first, last, again = (each.mean for each in read_held_out(tmp_path / FILE))
    assert first == again != last


def copied(state):
    return type(state)(state.step, {name: torch.clone(value) for name, value in state.tensors.items()})
