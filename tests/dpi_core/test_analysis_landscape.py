"""The error landscape against direct calls of the network, closed forms, and noise without a valley."""

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, Denoiser, FixedSchedule, FlowMatching, SoftmaxSchedule
from dpi_core.analysis import denoising
from dpi_core.analysis.denoising import decoupled
from dpi_core.analysis.landscape import (
    curve_errors,
    find_valley,
    is_judged,
    landscape,
    lookup,
    loss,
    plane_errors,
    quality_db,
    regret,
)
from dpi_core.conditioning import Blind
from dpi_core.precision import computes_bfloat16

S = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]
LAM = np.linspace(0, 1, 17).tolist()


class Gain(nn.Module):
    """f(x) = w x: x̂0 = w c_in x_s where the network predicts x0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight * x


def shrinking(schedule=None):
    """x̂0 = (1 − λ) x_s: the best λ has a closed form, least squares on the samples."""
    net = DPI(Gain(), schedule)
    with torch.no_grad():
        net.theta1["weight"].zero_()
    return Denoiser(net, FlowMatching(prediction="x0"))


def separated(generator, schedule=None, **options):
    net = DPI(nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2)), schedule, **options)
    net.separate(0.4, generator)
    return Denoiser(net, FlowMatching())


@pytest.fixture
def samples(generator):
    return torch.randn(40, 2, generator=generator), torch.randn(40, 2, generator=generator)


def survey(denoiser, x0, eps, measure="mse", s=S, lam=LAM):
    cells = list(plane_errors(denoiser, x0, eps, s, lam))
    learned = denoiser.lam(torch.tensor(s)).detach().double().numpy()
    return cells, landscape(cells, learned, curve_errors(denoiser, x0, eps, s), measure)


def test_the_plane_is_what_the_network_gives(samples, generator):
    denoiser = separated(generator)
    cells = list(plane_errors(denoiser, *samples, S, LAM, batch_size=16))
    assert [(cell.s, cell.lam) for cell in cells] == [(s, lam) for lam in LAM for s in S]
    rows = decoupled(denoiser, *samples, S, LAM)
    errors = np.stack([cell.mse for cell in cells]).reshape(len(LAM), len(S), -1)
    for row, found in zip(rows, errors, strict=True):
        np.testing.assert_allclose(found, (row.x0_hat - samples[0]).square().mean(2).numpy(), rtol=2e-4, atol=1e-7)


def test_many_levels_in_one_pass_are_the_levels_one_by_one(samples, generator, monkeypatch):
    subject = separated(generator, SoftmaxSchedule(9))
    monkeypatch.setattr(denoising, "NUMBERS_AT_ONCE", {})
    alone = list(denoising.sweep(subject, *samples, S))
    monkeypatch.setattr(
        denoising, "NUMBERS_AT_ONCE", {"cpu": 100 * samples[0][0].numel()}
    )  # two levels of forty samples
    together = list(denoising.sweep(subject, *samples, S))
    assert [frame.s for frame in together] == S
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.x0_hat, other.x0_hat, rtol=1e-4, atol=1e-5)


def test_bfloat16_moves_the_plane_by_hundredths_of_a_db_and_stays_inside_the_calls(samples, generator):
    denoiser = separated(generator)
    exact, rounded = (plane_errors(denoiser, *samples, S, LAM, precision=kind) for kind in ("float32", "bfloat16"))
    moved = []
    for cell, other in zip(exact, rounded, strict=True):
        moved.append(quality_db(cell.mse[None], "mse") - quality_db(other.mse[None], "mse"))
        assert not torch.is_autocast_enabled("cpu")
    assert np.abs(moved).max() < 0.05
    if computes_bfloat16(torch.device("cpu")):
        assert np.abs(moved).max() > 0


def test_the_valley_of_least_squares(samples):
    x0, eps = samples
    _, found = survey(shrinking(), x0, eps)
    for i, s in enumerate(S[1:], start=1):
        x_s = FlowMatching().add_noise(x0, eps, s)
        best = 1 - float((x_s * x0).sum() / (x_s * x_s).sum())
        assert found.valley[i] == pytest.approx(np.clip(best, 0, 1), abs=1 / 64)


def test_the_learned_quality_is_that_of_the_network(samples, generator):
    denoiser = separated(generator, SoftmaxSchedule(16, init_std=1.0, generator=generator))
    x0, eps = samples
    _, found = survey(denoiser, x0, eps, "psnr")
    for i, s in enumerate(S):
        with torch.no_grad():
            mse = (denoiser(denoiser.process.add_noise(x0, eps, s), s) - x0).square().mean(1).numpy()
        expected = (10 * np.log10(4 / np.maximum(mse, 1e-10))).mean()
        assert found.learned_quality[i] == pytest.approx(expected, rel=1e-4)
    assert found.residual < 0.05 and found.samples == 40


@pytest.mark.parametrize("measure", ["mse", "psnr"])
def test_any_curve_is_looked_up(samples, generator, measure):
    denoiser = separated(generator)
    s, lam = np.linspace(0, 1, 9).tolist(), np.linspace(0, 1, 65).tolist()
    _, found = survey(denoiser, *samples, measure, s, lam)
    curve = np.sort(np.random.default_rng(0).uniform(size=len(s)))
    direct = quality_db(curve_errors(denoiser, *samples, s, FixedSchedule(curve.tolist())), measure)
    judged = is_judged(found.s)
    np.testing.assert_allclose(lookup(found.lam, found.quality, curve)[judged], direct[judged], atol=0.02)


def test_a_lookup_on_the_rows_is_exact_and_follows_a_parabola_between():
    lam = np.linspace(0, 1, 9)
    quality = np.stack([-((lam - centre) ** 2) for centre in (0.3, 0.55)], axis=1)
    np.testing.assert_array_equal(lookup(lam, quality, lam[[2, 7]]), quality[[2, 7], [0, 1]])
    np.testing.assert_allclose(lookup(lam, quality, np.array([0.3, 0.56])), [0, -(0.01**2)], atol=1e-12)
    valley, best = find_valley(lam, quality)
    np.testing.assert_allclose(valley, [0.3, 0.55], atol=1 / 128 + 1e-9)
    assert (best <= 1e-12).all() and (best > -1e-4).all()


def test_regret_is_the_brute_force_difference(samples):
    x0, eps = samples
    _, found = survey(shrinking(FixedSchedule(0.9)), x0, eps)
    for i, s in enumerate(S[1:], start=1):
        x_s = FlowMatching().add_noise(x0, eps, s)
        errors = [float(((1 - lam) * x_s - x0).square().mean()) for lam in np.linspace(0, 1, 1001)]
        worse = float((0.1 * x_s - x0).square().mean())
        # λ* comes from the other half, so the regret judged is at most the one that sees all samples, up to its choice.
        assert found.regret.mean[i] == pytest.approx(10 * np.log10(worse / min(errors)), abs=0.15)
        assert found.regret.low[i] <= found.regret.mean[i] <= found.regret.high[i]


def test_regret_is_not_won_by_choosing_among_noise():
    rng = np.random.default_rng(0)
    s, lam, n = np.linspace(0.1, 0.9, 40), np.linspace(0, 1, 33), 50
    errors = rng.lognormal(size=(len(lam), len(s), n))
    learned = rng.lognormal(size=(len(s), n))
    found = regret(s, lam, errors, learned, "psnr")
    naive = (quality_db(errors, "psnr").max(axis=0) - quality_db(learned, "psnr")).mean()
    assert naive > 1  # choosing and judging on the same samples
    assert abs(found.total[0]) < 0.25
    assert found.total[1] < 0 < found.total[2]


@pytest.mark.parametrize("measure", ["mse", "psnr"])
def test_loss_in_db(measure):
    errors = np.random.default_rng(0).lognormal(size=(3, 20))
    s = np.array([0.2, 0.5, 0.8])
    found = loss(s, errors, 10 * errors, measure)
    np.testing.assert_allclose([found.mean, found.low, found.high], 10.0)
    assert found.total == pytest.approx((10, 10, 10))
    same = loss(s, errors, errors, measure)
    np.testing.assert_allclose([same.mean, same.low, same.high], 0.0, atol=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    s = np.array([0.5])
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        better = rng.lognormal(size=(1, 60))
        worse = better * 10 ** (rng.normal(0.5, 1.0, size=(1, 60)) / 10)
        _, low, high = loss(s, better, worse, "psnr", seed).total
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199


def test_means_leave_out_the_ends():
    np.testing.assert_array_equal(is_judged(np.array([0.0, 0.05, 0.5, 0.95, 1.0])), [False, True, True, True, False])
    assert is_judged(np.array([0.0, 1.0])).all()


def test_equal_sets_have_no_valley_and_no_regret(samples):
    denoiser = Denoiser(DPI(nn.Linear(2, 2)), FlowMatching())
    _, found = survey(denoiser, *samples)
    assert np.isnan(found.valley).all()
    np.testing.assert_allclose(found.regret.mean, 0, atol=1e-6)


def test_with_groups_the_network_is_judged_as_it_is(samples, generator):
    schedule = SoftmaxSchedule(8, n_groups=2, init_std=2.0, generator=generator)
    denoiser = separated(generator, schedule, groups={"first": "0.*"})
    x0, eps = samples
    errors = curve_errors(denoiser, x0, eps, [0.4])
    with torch.no_grad():
        direct = (denoiser(denoiser.process.add_noise(x0, eps, 0.4), 0.4) - x0).square().mean(1)
    np.testing.assert_allclose(errors[0], direct.numpy(), rtol=1e-5)


def test_the_learned_schedule_is_put_back_after_an_interruption(samples):
    denoiser = shrinking()
    learned = denoiser.net.schedule
    steps = plane_errors(denoiser, *samples, S, LAM)
    next(steps)
    assert denoiser.net.schedule is learned
    steps.close()
    assert denoiser.net.schedule is learned


def test_bad_input_is_refused_in_one_sentence(samples, generator):
    x0, eps = samples
    blind = Denoiser(Blind(nn.Linear(2, 2)), FlowMatching())
    with pytest.raises(ValueError, match="Blind has one parameter set.*choose a DPI model"):
        next(plane_errors(blind, x0, eps, S, LAM))
    with pytest.raises(ValueError, match="one parameter set"):
        curve_errors(blind, x0, eps, S, FixedSchedule(0.5))
    with pytest.raises(ValueError, match=r"λ = 2 is not in \[0, 1\]"):
        next(plane_errors(separated(generator), x0, eps, S, [2.0]))
    with pytest.raises(ValueError, match="3 samples were given.*at least 4"):
        survey(shrinking(), x0[:3], eps[:3])
    quality = np.zeros((3, 2))
    with pytest.raises(ValueError, match="λ = -0.1 is not in"):
        lookup(np.linspace(0, 1, 3), quality, np.array([-0.1, 0.5]))
    with pytest.raises(ValueError, match="one λ for each of 2 levels"):
        lookup(np.linspace(0, 1, 3), quality, np.array([0.5]))
    broken = separated(generator)
    with torch.no_grad():
        broken.net.flat1[0] = torch.nan
    with pytest.raises(ValueError, match="output at s = 0.1 is NaN or infinite"):
        list(plane_errors(broken, x0, eps, [0.1], [0.5]))
