"""Data to noise and back, points between two samples, and any table of λ."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dpi_core.build import build_denoiser, load_recipe
from dpi_core.denoiser import Denoiser
from dpi_core.mixtures import GaussianMixture
from dpi_core.model import Model, what_if
from dpi_core.noise_processes import AWGN, FlowMatching, VEDiffusion, VPDiffusion
from dpi_core.samplers import LOWEST_RATIO, Dopri5, EDMStochastic, noise_to_signal, slerp

PROCESSES = {"vp": VPDiffusion(), "edm": VEDiffusion(), "flow": FlowMatching()}
three_families = pytest.mark.parametrize("name", PROCESSES)
long_loop = pytest.mark.usefixtures("unchecked")

MEAN, VARIANCES = torch.tensor([0.4, -0.2], dtype=torch.float64), torch.tensor([0.6, 0.2], dtype=torch.float64)
GAUSSIAN = GaussianMixture(MEAN[None], VARIANCES.diag()[None], torch.ones(1, dtype=torch.float64))


@pytest.fixture
def points(generator) -> torch.Tensor:
    return GAUSSIAN.sample(6, generator)


def with_process(denoiser: Denoiser, process) -> Model:
    return Model(denoiser, dataclasses.replace(load_recipe("mixture2d-flow-dpi"), process=process))


@pytest.fixture
def model() -> Model:
    recipe = load_recipe("mixture2d-flow-dpi")
    denoiser = build_denoiser(recipe).eval().double()
    denoiser.net.separate(0.5, torch.Generator().manual_seed(0))
    return Model(denoiser, recipe)


def gaussian_flow(process, x, s_from: float, s_to: float) -> torch.Tensor:
    start, end = process.coefficients(s_from), process.coefficients(s_to)
    spread = [(c.alpha**2 * VARIANCES + c.sigma**2).sqrt() for c in (start, end)]
    return end.alpha * MEAN + spread[1] / spread[0] * (x - start.alpha * MEAN)


# Inversion -------------------------------------------------------------------------------------------------------


@long_loop
@three_families
@pytest.mark.parametrize(("sampler", "steps"), [("rk4", 24), (Dopri5(1e-5, 1e-5), None)], ids=["rk4", "dopri5"])
def test_the_noise_of_data_is_where_the_exact_flow_takes_it(name, sampler, steps, points, optimal_denoiser):
    process = PROCESSES[name]
    model = with_process(optimal_denoiser(process, GAUSSIAN), process)
    states = list(model.invert(points, sampler, steps))
    s = [state.s for state in states]
    assert bool((np.diff(s) > 0).all()) and s[-1] == process.sampling_range[1]
    assert noise_to_signal(process, s[0]) == pytest.approx(LOWEST_RATIO)
    assert [state.step for state in states] == list(range(len(states)))
    exact = gaussian_flow(process, points, 0.0, s[-1])
    assert_close(states[-1].x, exact, rtol=0, atol=1e-3 * process.prior_std)
    assert_close(states[0].x, process.coefficients(s[0]).alpha * points)


@long_loop
@three_families
@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_the_round_trips_error_falls_at_least_with_the_order_of_the_sampler(
    name, sampler, order, points, optimal_denoiser
):
    process = PROCESSES[name]
    model = with_process(optimal_denoiser(process, GAUSSIAN), process)
    sizes = (12, 24, 48)
    errors = [model.round_trip(points, sampler, n).error.square().mean().sqrt().item() for n in sizes]
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    # A symmetric pair of maps cancels the leading error of the two ways, so the way back may gain an order.
    assert order - 0.3 < slope < order + 1.6
    assert errors[-1] < 0.1


def test_the_error_of_a_round_trip_is_that_of_each_sample(model, points):
    trip = model.round_trip(points, "heun", 8)
    expected = (trip.back[-1].x - points).square().mean(1).sqrt()
    assert_close(trip.error, expected)
    assert (trip.out[0].step, trip.back[0].step) == (0, 0)
    assert_close(trip.back[0].x, trip.out[-1].x, rtol=0, atol=0)
    assert [state.s for state in trip.back[:-1]] == [state.s for state in reversed(trip.out)]
    assert trip.back[-1].s == 0 and trip.error.shape == (6,)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmpp_2m", "rk4", "dopri5"])
def test_evaluations_of_both_ways_are_those_that_took_place(model, points, sampler):
    calls = []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    trip = model.round_trip(points, sampler, None if sampler == "dopri5" else 5)
    assert trip.out[-1].nfe + trip.back[-1].nfe == len(calls)


def test_inverting_samples_gives_their_noise(model):
    noise = model.noise(range(4), seed=2)
    sampled = model.sample(4, Dopri5(1e-6, 1e-6), seed=2).states[-1].x
    *_, end = model.invert(sampled, Dopri5(1e-6, 1e-6))
    # The way out starts at σ/α = 0.002 as if no noise were there; an untrained network sees noise of the order of 1.
    assert_close(end.x, noise, rtol=0, atol=2 * LOWEST_RATIO)


def test_a_run_from_given_noise_is_the_run_of_its_seed(model):
    given = list(model.sample_states([3, 1], "heun", 4, start=model.noise([3, 1], 5)))
    drawn = list(model.sample_states([3, 1], "heun", 4, 5))
    for a, b in zip(given, drawn, strict=True):
        assert_close(a.x, b.x, rtol=0, atol=0)


def test_another_curve_serves_the_inversion_and_leaves_no_trace(model, points):
    learned, lam = model.net.schedule, []
    for state in model.invert(points, "heun", 4, schedule=what_if(model.net, "frozen", 0.25)):
        assert model.net.schedule is learned
        lam.append(state.lam.item())
    assert lam == pytest.approx([0.25] * 5)


@pytest.mark.parametrize("sampler", ["ddpm", "edm", EDMStochastic(churn=3.0)])
def test_what_draws_noise_has_no_inverse(model, points, sampler):
    with pytest.raises(ValueError, match="draws noise on the way, so it has no inverse; take one of ddim, dopri5, "):
        model.invert(points, sampler, 4)
    with pytest.raises(ValueError, match="has no inverse"):
        model.round_trip_states(points, sampler, 4)


@pytest.mark.parametrize(
    ("sampler", "steps", "grid", "message"),
    [
        ("heun", 0, "uniform", "steps is 0, but a sampler needs at least 1 step"),
        ("heun", 10_000, "uniform", "steps is 10000, but at most 1000 are taken"),
        ("dopri5", 8, "uniform", "steps is 8, but dopri5 chooses its own steps"),
        ("heun", 8, "cubic", "the grid is 'cubic', but has to be one of"),
        ("magic", 8, "uniform", "the sampler is 'magic', but has to be one of"),
    ],
)
def test_misfits_are_refused_before_anything_runs(model, points, sampler, steps, grid, message):
    with pytest.raises(ValueError, match=message):
        model.invert(points, sampler, steps, grid=grid)


def test_data_of_another_shape_and_processes_without_noise_are_refused(model, points):
    with pytest.raises(ValueError, match=r"x0 has shape \(6, 3\), but has to have shape \(6, 2\) for this model"):
        model.invert(torch.zeros(6, 3), "heun", 4)
    with pytest.raises(ValueError, match=r"start has shape \(1, 2\), but has to have shape \(2, 2\)"):
        model.sample_states(range(2), "heun", 4, start=torch.zeros(1, 2))
    awgn = with_process(model.denoiser, AWGN())
    awgn.denoiser.process = AWGN()
    with pytest.raises(ValueError, match="AWGN never drowns the image in noise, so there is nothing to invert to"):
        list(awgn.invert(points, "heun", 4))
    with pytest.raises(ValueError, match="AWGN never drowns the image in noise, so there is nothing to sample from"):
        awgn.noise([0])


@pytest.mark.parametrize(("sampler", "steps"), [("heun", 8), ("dopri5", None)])
def test_a_model_that_breaks_is_reported_at_its_step(sampler, steps, points):
    class BreaksAbove(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, s):
            return torch.sin(20 * x) * self.weight if s <= 0.6 else x * math.nan

    seen = []
    with pytest.raises(FloatingPointError, match=r"NaN or infinity at step \d+ \(s = 0\.\d\d\d\)"):
        for state in with_process(Denoiser(BreaksAbove(), FlowMatching()), FlowMatching()).invert(
            points, sampler, steps
        ):
            seen.append(state)
    assert len(seen) > 2 and all(bool(torch.isfinite(state.x).all()) for state in seen)


# Between two samples ---------------------------------------------------------------------------------------------


def test_points_between_keep_the_length_and_go_evenly(generator):
    a, b = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    b = b * a.norm() / b.norm()
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    found = slerp(a, b, t)
    assert_close(found[0], a)
    assert_close(found[-1], b)
    assert_close(found.flatten(1).norm(dim=1), a.norm().expand(9))
    cosines = torch.nn.functional.cosine_similarity(found.flatten(1), a.flatten()[None])
    assert_close(cosines.clamp(max=1).acos(), t * cosines[-1].acos(), rtol=0, atol=1e-7)
    assert_close(slerp(b, a, 1 - t), found)


def test_the_mean_of_two_draws_is_too_short_and_the_point_between_is_not(generator):
    a, b = torch.randn(2, 10_000, generator=generator, dtype=torch.float64)
    middle = slerp(a, b, torch.tensor([0.5]))[0]
    assert middle.std().item() == pytest.approx(1, abs=0.03)
    assert ((a + b) / 2).std().item() == pytest.approx(math.sqrt(0.5), abs=0.03)


def test_nearly_parallel_points_are_joined_by_a_straight_line(generator):
    a = torch.randn(50, generator=generator, dtype=torch.float64)
    for b in (a, 2 * a, a + 1e-12):
        found = slerp(a, b, torch.tensor([0.0, 0.25, 1.0]))
        assert_close(found[1], 0.75 * a + 0.25 * b)
        assert bool(torch.isfinite(found).all())


def test_places_and_directions_that_make_no_sense_are_refused():
    a = torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match="the two points are opposite"):
        slerp(a, -a, torch.tensor([0.5]))
    with pytest.raises(ValueError, match="has length 0"):
        slerp(a, 0 * a, torch.tensor([0.5]))
    with pytest.raises(ValueError, match=r"t is \[1\.5\], but .* in \[0, 1\]"):
        slerp(a, torch.tensor([0.0, 1.0]), torch.tensor([1.5]))


def test_the_ends_of_an_interpolation_are_the_two_samples(model):
    a, b = model.noise([7, 3], seed=1)
    *_, end = model.interpolate(a, b, 5, "heun", 6)
    sampled = [state.x for state in model.sample_states([7, 3], "heun", 6, 1)][-1]
    assert end.x.shape == (5, 2)
    assert_close(end.x[[0, -1]], sampled)
    with pytest.raises(ValueError, match="1 samples were asked for between two"):
        model.interpolate(a, b, 1, "heun", 6)
    with pytest.raises(ValueError, match="the noise has shape"):
        model.interpolate(torch.zeros(3), torch.zeros(3), 4, "heun", 6)


# Any table of λ --------------------------------------------------------------------------------------------------


def test_a_table_is_followed_also_where_it_falls(model):
    table = [0.2, 1.0, 0.0, 0.5]
    states = list(model.sample_states(range(2), "heun", 9, schedule=what_if(model.net, "table", table=table)))
    expected = np.interp([state.s for state in states], np.linspace(0, 1, 4), table)
    np.testing.assert_allclose([state.lam.item() for state in states], expected, atol=1e-6)


def test_a_table_of_the_learned_curve_gives_the_learned_samples(model):
    with torch.no_grad():
        model.net.schedule.phi.copy_(torch.linspace(3, 0, len(model.net.schedule.phi)))
        learned = model.net.schedule.table().tolist()
    tabled = model.sample(3, "heun", 5, schedule=what_if(model.net, "table", table=learned))
    assert_close(tabled.x, model.sample(3, "heun", 5).x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", 0.5, [0.5]), r"the table of λ is \[0\.5\], but has to be a list of at least 2 numbers"),
        (("table", 0.5, []), r"the table of λ is \[\], but has to be a list of at least 2 numbers"),
        (("table", 0.5, [0.0, 1.2]), r"λ = 1\.2 is not in \[0, 1\]"),
        (("table", 0.5, [0.0, math.nan]), r"λ = nan is not in \[0, 1\]"),
        (("table", 0.5, [0.0, math.inf]), r"λ = inf is not in \[0, 1\]"),
        (("table",), "λ is 'table' without a table"),
        (("linear", 0.5, [0.0, 1.0]), "λ is 'linear' with a table"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        what_if(model.net, *arguments)
