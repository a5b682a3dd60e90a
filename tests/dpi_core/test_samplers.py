"""Samplers against exact solutions, an adaptive solver, diffusers, and each other."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dpi_core.denoiser import Denoiser
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import SoftmaxSchedule
from dpi_core.mixtures import GaussianMixture, ring_mixture
from dpi_core.noise_processes import AWGN, FlowMatching, VEDiffusion, VPDiffusion
from dpi_core.samplers import ADAPTIVE, SAMPLERS, SampleNoise, ddim_step, ddpm_step, sample_states, uniform_grid

PROCESSES = {
    "vp": VPDiffusion(),
    "vp eps": VPDiffusion(prediction="eps"),
    "vp x0": VPDiffusion(prediction="x0"),
    "vp cosine": VPDiffusion("cosine"),
    "edm": VEDiffusion(),
    "flow": FlowMatching(),
    "flow x0": FlowMatching(prediction="x0"),
}
FIXED = sorted(set(SAMPLERS) - set(ADAPTIVE))
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
long_loop = pytest.mark.usefixtures("unchecked")
three_families = pytest.mark.parametrize("name", ["vp", "edm", "flow"])

MEAN, VARIANCES = torch.tensor([0.4, -0.2], dtype=torch.float64), torch.tensor([0.6, 0.2], dtype=torch.float64)
GAUSSIAN = GaussianMixture(MEAN[None], VARIANCES.diag()[None], torch.ones(1, dtype=torch.float64))


class OneStream(SampleNoise):
    """Fast noise for many samples: one generator for all."""

    def __init__(self, seed: int, n: int) -> None:
        super().__init__(seed, [0], (n, 2))

    def draw(self) -> torch.Tensor:
        return super().draw()[0]


def noise(n: int = 4, seed: int = 0) -> SampleNoise:
    return SampleNoise(seed, range(n), (2,))


def last(states):
    *_, state = states
    return state


def untrained(process, dtype=torch.float64) -> Denoiser:
    torch.manual_seed(0)
    net = DPI(nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2)), SoftmaxSchedule(9))
    net.separate(0.5, torch.Generator().manual_seed(0))
    return Denoiser(net, process).to(dtype).eval()


# Accuracy --------------------------------------------------------------------------------------------------------


def gaussian_flow(process, x, s_from: float, s_to: float) -> torch.Tensor:
    """The probability flow of one Gaussian moves each coordinate with the mean and the standard deviation."""
    start, end = process.coefficients(s_from), process.coefficients(s_to)
    spread = [(c.alpha**2 * VARIANCES + c.sigma**2).sqrt() for c in (start, end)]
    return end.alpha * MEAN + spread[1] / spread[0] * (x - start.alpha * MEAN)


@long_loop
@three_families
@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("ddim", 1), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_solver(name, sampler, order, optimal_denoiser):
    process, (high, low) = PROCESSES[name], (0.8, 0.02)
    denoiser = optimal_denoiser(process, GAUSSIAN)
    c = process.coefficients(high)
    x = c.alpha * MEAN + (c.alpha**2 * VARIANCES + c.sigma**2).sqrt() * noise(8).draw()
    exact, sizes, errors = gaussian_flow(process, x, high, low), (16, 32, 64), []
    for n in sizes:
        states = sample_states(denoiser, SAMPLERS[sampler], [*np.linspace(high, low, n + 1).tolist(), 0.0], noise(8), x)
        end = next(state for state in states if state.step == n)
        assert end.s == pytest.approx(low)
        errors.append((end.x - exact).square().mean().sqrt().item())
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.15)


@long_loop
@three_families
def test_heun_agrees_with_an_adaptive_solver_of_the_probability_flow(name, optimal_denoiser):
    from torchdiffeq import odeint

    process, mixture, high, low = PROCESSES[name], ring_mixture(), 0.75, 0.02

    def flow(s, x):
        """dx/ds = f x − g²/2 ∇log p, with f = α'/α and g² = 2 σ σ' − 2 f σ² (Song et al. 2021, eq. 13)."""
        c = process.coefficients(s.clamp(1e-4, 1))  # the solver's last step may reach beyond the end
        f = c.d_alpha / c.alpha
        half_g_squared = c.sigma * c.d_sigma - f * c.sigma**2
        return f * x - half_g_squared * mixture.score(x, c.alpha, c.sigma)

    c = process.coefficients(high)
    x = torch.hypot(c.alpha, c.sigma) * noise(6).draw()
    ends = torch.tensor([high, low], dtype=torch.float64)
    expected = odeint(flow, x, ends, method="dopri5", rtol=1e-5, atol=1e-7, options={"first_step": 0.01})[-1]
    grid = [*np.linspace(high, low, 101).tolist(), 0.0]
    states = sample_states(optimal_denoiser(process, mixture), SAMPLERS["heun"], grid, noise(6), x)
    found = next(state.x for state in states if state.step == 100)
    assert_close(found, expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize(("prediction", "peers_name"), [("v", "v_prediction"), ("eps", "epsilon"), ("x0", "sample")])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim_is_that_of_diffusers(prediction, peers_name, eta):
    from diffusers import DDIMScheduler

    process, n = VPDiffusion(prediction=prediction), 25
    denoiser, grid = untrained(process), np.linspace(1, 0, n + 1).tolist()
    alpha_bar = process.coefficients(torch.tensor(grid).flip(0)).alpha ** 2
    peer = DDIMScheduler(
        n, trained_betas=(1 - alpha_bar[1:] / alpha_bar[:-1]).numpy(), clip_sample=False, prediction_type=peers_name
    )
    peer.set_timesteps(n)
    assert peer.timesteps.tolist() == list(range(n - 1, -1, -1))
    draws, expected = noise(), noise().draw()
    draws.draw()

    def solver(denoiser, x, s, s_next, noise):
        return ddim_step(denoiser, x, s, s_next, noise, eta)

    found = list(sample_states(denoiser, solver, grid, noise()))
    with torch.no_grad():
        for state, t in zip(found, peer.timesteps, strict=False):
            assert_close(state.x, expected, rtol=1e-4, atol=1e-4)
            fresh = draws.draw() if eta > 0 and t > 0 else torch.zeros_like(expected)
            output = denoiser.net(expected, grid[n - 1 - int(t)])
            expected = peer.step(output, t, expected, eta=eta, variance_noise=fresh).prev_sample
    assert_close(found[-1].x, expected, rtol=1e-4, atol=1e-4)


@every_process
@torch.no_grad()
def test_one_ancestral_step_is_ddim_with_full_noise(process):
    denoiser, x = untrained(process), noise().draw()
    for s, s_next in ((0.9, 0.6), (0.5, 0.45), (0.3, 0.0)):
        full = ddim_step(denoiser, x, s, s_next, noise(), eta=1.0)
        ancestral = ddpm_step(denoiser, x, s, s_next, noise())
        assert_close(ancestral.x, full.x, rtol=1e-9, atol=1e-9)
        assert_close(ancestral.x0_hat, full.x0_hat, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vp", "vp eps", "vp cosine", "edm"])
def test_euler_and_ddim_are_the_same_for_diffusion(name):
    denoiser = untrained(PROCESSES[name])
    runs = [list(sample_states(denoiser, SAMPLERS[s], uniform_grid(denoiser, 12), noise())) for s in ("euler", "ddim")]
    for euler, ddim in zip(*runs, strict=True):
        assert_close(euler.x, ddim.x, rtol=1e-8, atol=1e-8)


@long_loop
@three_families
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 200), ("heun", 40)])
def test_samples_have_the_mean_and_covariance_of_the_target(name, sampler, steps, optimal_denoiser):
    n, std = 5_000, VARIANCES.sqrt()
    denoiser = optimal_denoiser(PROCESSES[name], GAUSSIAN)
    x = last(sample_states(denoiser, SAMPLERS[sampler], uniform_grid(denoiser, steps), OneStream(0, n))).x
    # Four standard errors; the variance also lacks a few percent at any finite number of steps.
    assert_close((x.mean(0) - MEAN) / std, torch.zeros(2, dtype=torch.float64), rtol=0, atol=4 / math.sqrt(n))
    assert_close((x / std).T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=4 * math.sqrt(2 / n) + 0.05)


@long_loop
@three_families
def test_the_ancestral_sampler_has_the_moments_of_its_own_markov_chain(name, optimal_denoiser):
    process, n, steps = PROCESSES[name], 10_000, 12
    denoiser = optimal_denoiser(process, GAUSSIAN)
    grid = uniform_grid(denoiser, steps)
    x = last(sample_states(denoiser, SAMPLERS["ddpm"], [*grid[:-1], 0.01], OneStream(0, n))).x
    mean, variance = torch.zeros(2, dtype=torch.float64), torch.full((2,), process.prior_std**2, dtype=torch.float64)
    for s, s_next in zip(grid, [*grid[1:-1], 0.01], strict=False):
        now, after = process.coefficients(s), process.coefficients(s_next)
        # q(x_s' | x_s, x0) is a product of Gaussians: precisions add up.
        step = now.alpha / after.alpha
        step_variance = now.sigma**2 - (step * after.sigma) ** 2
        precision = step**2 / step_variance + 1 / after.sigma**2
        to_x, to_x0 = step / step_variance / precision, after.alpha / after.sigma**2 / precision
        gain = now.alpha * VARIANCES / (now.alpha**2 * VARIANCES + now.sigma**2)
        mean = to_x * mean + to_x0 * (MEAN + gain * (mean - now.alpha * MEAN))
        variance = (to_x + to_x0 * gain) ** 2 * variance + 1 / precision
    c = process.coefficients(0.01)
    gain = c.alpha * VARIANCES / (c.alpha**2 * VARIANCES + c.sigma**2)
    mean, variance = MEAN + gain * (mean - c.alpha * MEAN), gain**2 * variance
    assert_close(x.mean(0), mean, rtol=0, atol=4 * variance.max().sqrt().item() / math.sqrt(n))
    assert_close(x.var(0), variance, rtol=4 * math.sqrt(2 / n), atol=0)


# The loop --------------------------------------------------------------------------------------------------------


@every_process
@pytest.mark.parametrize("sampler", FIXED)
def test_every_state_down_to_the_clean_end_is_finite(process, sampler):
    denoiser, steps = untrained(process, torch.float32), 4
    states = list(sample_states(denoiser, SAMPLERS[sampler], uniform_grid(denoiser, steps), noise()))
    low, high = process.sampling_range
    assert [state.step for state in states] == list(range(steps + 1))
    assert [state.s for state in states] == pytest.approx(np.linspace(high, low, steps + 1).tolist())
    for state in states:
        assert bool(torch.isfinite(state.x).all()) and bool(torch.isfinite(state.x0_hat).all())
        assert_close(state.lam, denoiser.net.lam(state.s), rtol=0, atol=0)
    assert_close(states[-1].x, states[-1].x0_hat, rtol=0, atol=0)


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.zeros(())), 0

    def forward(self, x, s):
        self.calls += 1
        return self.weight * x


@three_families
@pytest.mark.parametrize("sampler", FIXED)
def test_network_evaluations_are_those_that_took_place(name, sampler):
    denoiser = Denoiser(Counting(), PROCESSES[name])
    calls = 0
    for state in sample_states(denoiser, SAMPLERS[sampler], uniform_grid(denoiser, 4), noise()):
        # A state is yielded after the step that starts at it; the last has none.
        before = denoiser.net.calls if state.step == 4 else calls
        assert state.nfe == before
        calls = denoiser.net.calls


@every_process
@pytest.mark.parametrize(("sampler", "calls"), [("ddim", 7), ("ddpm", 7), ("euler", 7), ("heun", 13)])
def test_a_run_costs_what_its_solver_promises(process, sampler, calls):
    denoiser = untrained(process)
    # Where the clean end has noise left, Heun's last step is whole and one more call removes the noise.
    extra = 0 if process.coefficients(0.0).sigma == 0 else (2 if sampler == "heun" else 1)
    assert last(sample_states(denoiser, SAMPLERS[sampler], uniform_grid(denoiser, 7), noise())).nfe == calls + extra


@every_process
def test_the_run_starts_from_noise_of_the_processes_own_size(process):
    denoiser = untrained(process)
    first = next(iter(sample_states(denoiser, SAMPLERS["euler"], uniform_grid(denoiser, 3), noise())))
    c = process.coefficients(process.sampling_range[1])
    assert_close(first.x, torch.hypot(c.alpha, c.sigma) * noise().draw())


@three_families
@pytest.mark.parametrize("sampler", FIXED)
def test_a_sample_does_not_depend_on_the_batch_it_is_drawn_in(name, sampler):
    denoiser = untrained(PROCESSES[name])
    grid = uniform_grid(denoiser, 4)
    runs = [SampleNoise(3, indices, (2,)) for indices in (range(6), [4], [5, 1, 4])]
    everyone, alone, few = (last(sample_states(denoiser, SAMPLERS[sampler], grid, run)).x for run in runs)
    assert_close(alone[0], everyone[4], rtol=1e-9, atol=1e-9)
    assert_close(few, everyone[[5, 1, 4]], rtol=1e-9, atol=1e-9)


def test_noise_of_a_sample_is_its_own_to_the_bit():
    everyone, one, other_seed = (SampleNoise(s, i, (3, 2)) for s, i in ((7, range(5)), (7, [3]), (8, [3])))
    for _ in range(3):
        draws = everyone.draw()
        assert_close(one.draw()[0], draws[3], rtol=0, atol=0)
        assert (draws[1:] - draws[:-1]).abs().min() > 0
        assert (other_seed.draw()[0] - draws[3]).abs().min() > 0


@three_families
def test_gradients_are_not_recorded(name):
    denoiser = untrained(PROCESSES[name])
    for state in sample_states(denoiser, SAMPLERS["heun"], uniform_grid(denoiser, 2), noise()):
        assert not state.x.requires_grad and not state.x0_hat.requires_grad
        assert torch.is_grad_enabled()  # the caller's own setting is left alone between states


class BreaksBelow(nn.Module):
    """NaN as soon as s falls below a half."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, s):
        return x * self.weight if s >= 0.5 else x * math.nan


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler"])
def test_a_model_that_breaks_is_reported_at_its_step(sampler):
    states = sample_states(
        Denoiser(BreaksBelow(), FlowMatching()), SAMPLERS[sampler], [1.0, 0.75, 0.5, 0.25, 0.0], noise()
    )
    seen = [next(states).step for _ in range(3)]
    assert seen == [0, 1, 2]
    with pytest.raises(FloatingPointError, match=r"NaN or infinity at step 3 \(s = 0.250\)"):
        next(states)


def test_a_process_without_a_noise_end_has_nothing_to_sample_from():
    denoiser = untrained(AWGN())
    with pytest.raises(ValueError, match="AWGN never drowns the image in noise"):
        next(iter(sample_states(denoiser, SAMPLERS["heun"], uniform_grid(denoiser, 3), noise())))


def test_a_process_without_a_noise_end_can_be_followed_from_a_given_start():
    denoiser, x = untrained(AWGN()), noise().draw()
    states = list(sample_states(denoiser, SAMPLERS["heun"], [0.5, 0.25, 0.0], noise(), x))
    assert_close(states[0].x, x, rtol=0, atol=0)
    assert bool(torch.isfinite(states[-1].x).all())


@pytest.mark.parametrize("grid", [[0.5, 0.5, 0.0], [0.0, 0.5, 1.0], [1.0, 0.2, 0.3]])
def test_a_grid_that_does_not_fall_is_refused(grid):
    with pytest.raises(ValueError, match="has to fall"):
        next(iter(sample_states(untrained(FlowMatching()), SAMPLERS["euler"], grid, noise())))


def test_a_run_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps is 0, but a sampler needs at least 1 step"):
        uniform_grid(untrained(FlowMatching()), 0)
