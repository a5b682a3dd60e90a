"""Quality against network evaluations: its numbers from runs made by hand, progress, stopping, refusals."""

from pathlib import Path

import pytest
import torch

import dpi_core
from dpi_core.analysis.trajectories import energy_distance
from dpi_core.data import load_data
from dpi_core.model import Model, what_if
from dpi_core.quality import FRESH_POINTS, quality_against_nfe
from dpi_core.samplers import Dopri5

ROOT = Path(dpi_core.__file__).parents[1]


@pytest.fixture(scope="module")
def model() -> Model:
    return dpi_core.load(ROOT / "checkpoints" / "mixture2d-flow-dpi")


def last(progress):
    *_, end = progress
    return end


def test_the_numbers_are_those_of_runs_made_by_hand(model):
    data, fine = load_data(model.recipe.data), (Dopri5(1e-4, 1e-4), None)
    runs = [("heun", 4), ("ddpm", 4), ("dopri5", None), ("heun", 16)]
    end = last(quality_against_nfe(model, runs, 64, seed=2, reference=fine, data=data))
    exact = model.sample(64, *fine, seed=2).states[-1].x
    fresh = data.held_out_batch(FRESH_POINTS, 2)
    assert [found.sampler for found in end.found] == ["heun", "ddpm", "dopri5", "heun"]
    for found, (sampler, steps) in zip(end.found, runs, strict=True):
        sample = model.sample(64, sampler, steps, seed=2)
        x = sample.states[-1].x
        assert (found.nfe, found.steps) == (sample.nfe, sample.states[-1].step)
        assert found.energy == pytest.approx(energy_distance(x, fresh), abs=1e-9)
        expected = None if sampler == "ddpm" else pytest.approx((x - exact).square().mean().sqrt().item())
        assert found.error == expected
    coarse, _, _, finer = end.found
    assert coarse.nfe < finer.nfe and coarse.error > 3 * finer.error


def test_data_against_data_is_the_floor_and_bad_samples_are_above_it(model):
    data = load_data(model.recipe.data)
    frozen = what_if(model.net, "frozen", 0.0)
    end = last(quality_against_nfe(model, [("heun", 8)], 200, schedule=frozen, reference=("heun", 16), data=data))
    low, high = end.floor
    assert low < 0 < high < 0.05
    assert end.found[0].energy > 3 * high


def test_progress_rises_to_one_and_finished_runs_are_shown_meanwhile(model):
    steps = list(quality_against_nfe(model, [("heun", 3), ("euler", 3)], 2, reference=("rk4", 4)))
    shares = [progress.share for progress in steps]
    assert shares == sorted(shares) and shares[-1] == 1.0 and 0 <= shares[0] < 0.01
    assert [len(progress.found) for progress in steps] == [0] * (5 + 4) + [1] * 4 + [2]
    assert steps[-1].found[0].energy is None and steps[-1].floor is None


def test_it_can_be_stopped_and_leaves_no_trace(model):
    calls, learned = [], model.net.schedule
    hook = model.net.register_forward_hook(lambda *_: calls.append(1))
    progress = quality_against_nfe(model, [("heun", 3)], 2, schedule=what_if(model.net, "linear"), reference=("rk4", 4))
    for _ in range(3):
        next(progress)
        assert model.net.schedule is learned
    seen = len(calls)
    progress.close()
    hook.remove()
    assert len(calls) == seen == 12


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([], {}, "no run was asked for"),
        ([("magic", 4)], {}, "the sampler is 'magic'"),
        ([("heun", 4), ("heun", 0)], {}, "steps is 0, but a sampler needs at least 1 step"),
        ([("heun", 4), ("dopri5", 4)], {}, "steps is 4, but dopri5 chooses its own steps"),
        ([("heun", 4)], {"reference": ("edm", 8)}, "the reference is edm, which draws noise on the way"),
    ],
)
def test_misfits_are_refused_before_anything_runs(model, runs, options, message):
    def never(*_):
        raise AssertionError("the network ran")

    hook = model.net.register_forward_hook(never)
    try:
        with pytest.raises(ValueError, match=message):
            next(quality_against_nfe(model, runs, 2, **options))
    finally:
        hook.remove()


def test_images_are_not_compared_with_fresh_data(model):
    digits = load_data(dpi_core.load(ROOT / "checkpoints" / "digits-vp-dpi").recipe.data)
    with pytest.raises(ValueError, match="fresh data are compared for points in the plane"):
        next(quality_against_nfe(model, [("heun", 2)], 2, data=digits))
    assert torch.is_grad_enabled()
