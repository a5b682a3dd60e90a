"""RK4, DPM-Solver++(2M), EDM's stochastic sampler, grids, and what-ifs on λ."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dpi_core.build import build_denoiser, load_recipe
from dpi_core.denoiser import Denoiser
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule, SoftmaxSchedule
from dpi_core.mixtures import GaussianMixture
from dpi_core.model import Model, what_if
from dpi_core.noise_processes import FlowMatching, VEDiffusion, VPDiffusion
from dpi_core.samplers import (
    ADAPTIVE,
    GRIDS,
    HIGHEST_RATIO,
    LOWEST_RATIO,
    SAMPLERS,
    EDMStochastic,
    SampleNoise,
    ddim_step,
    draws_noise,
    name_of,
    noise_to_signal,
    sample_states,
    uniform_grid,
)

PROCESSES = {"vp": VPDiffusion(), "vp cosine": VPDiffusion("cosine"), "edm": VEDiffusion(), "flow": FlowMatching()}
FIXED = sorted(set(SAMPLERS) - set(ADAPTIVE))
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
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


def untrained(process) -> Denoiser:
    net = DPI(nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2)), SoftmaxSchedule(9))
    net.separate(0.5, torch.Generator().manual_seed(0))
    return Denoiser(net, process).to(torch.float64).eval()


def marginal(process, s: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of x_s for the Gaussian target."""
    c = process.coefficients(s)
    return c.alpha * MEAN, (c.alpha**2 * VARIANCES + c.sigma**2).sqrt()


# Accuracy --------------------------------------------------------------------------------------------------------


def gaussian_errors(process, sampler: str, sizes: tuple[int, ...], optimal_denoiser) -> list[float]:
    """RMS distance to the exact flow of one Gaussian, which moves with the mean and the standard deviation."""
    high, low = 0.8, 0.02
    (mean_high, std_high), (mean_low, std_low) = marginal(process, high), marginal(process, low)
    x = mean_high + std_high * noise(8).draw()
    exact = mean_low + std_low / std_high * (x - mean_high)
    errors = []
    for n in sizes:
        grid = [*np.linspace(high, low, n + 1).tolist(), 0.0]
        states = sample_states(optimal_denoiser(process, GAUSSIAN), SAMPLERS[sampler], grid, noise(8), x)
        end = next(state for state in states if state.step == n)
        errors.append((end.x - exact).square().mean().sqrt().item())
    return errors


ORDERS = [("dpmpp_2m", 2, (40, 80, 160), 0.25), ("rk4", 4, (16, 32, 64), 0.3)]


@three_families
@pytest.mark.parametrize(("sampler", "order", "sizes", "tolerance"), ORDERS)
def test_the_error_falls_with_the_order_of_the_solver(name, sampler, order, sizes, tolerance, optimal_denoiser):
    errors = gaussian_errors(PROCESSES[name], sampler, sizes, optimal_denoiser)
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    # On the flow of one Gaussian RK4's leading error nearly cancels.
    assert order - tolerance < slope < order + (2 if sampler == "rk4" else tolerance)


MIXTURE_ORDERS = [("euler", 1, (40, 80)), ("heun", 2, (20, 40)), ("dpmpp_2m", 2, (40, 80)), ("rk4", 4, (10, 20))]


@three_families
@pytest.mark.usefixtures("unchecked")
def test_the_error_falls_with_the_order_of_the_solver_on_a_mixture(name, optimal_denoiser):
    """Against RK4 in 160 steps; the mixture's components are wide, so that few steps see its curvature."""
    process, high, low = PROCESSES[name], 0.8, 0.02
    means = torch.tensor([[0.8, 0.0], [-0.6, 0.5], [0.0, -0.9]], dtype=torch.float64)
    covariances = 0.36 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
    denoiser = optimal_denoiser(process, GaussianMixture(means, covariances, torch.ones(3, dtype=torch.float64) / 3))
    x = torch.hypot(*(getattr(process.coefficients(high), part) for part in ("alpha", "sigma"))) * noise(8).draw()

    def end(sampler: str, steps: int) -> torch.Tensor:
        grid = [*np.linspace(high, low, steps + 1).tolist(), 0.0]
        states = sample_states(denoiser, SAMPLERS[sampler], grid, noise(8), x)
        return next(state.x for state in states if state.step == steps)

    fine = end("rk4", 160)
    for sampler, order, sizes in MIXTURE_ORDERS:
        errors = [(end(sampler, steps) - fine).square().mean().sqrt().item() for steps in sizes]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2), sampler


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("prediction", "peers_name"), [("v", "v_prediction"), ("eps", "epsilon"), ("x0", "sample")])
def test_dpm_solver_is_that_of_diffusers(prediction, peers_name):
    from diffusers import DPMSolverMultistepScheduler

    process, n = VPDiffusion(prediction=prediction), 25
    denoiser, grid = untrained(process), np.linspace(1, 0, n + 1).tolist()
    alpha_bar = process.coefficients(torch.tensor(grid).flip(0)).alpha ** 2
    peer = DPMSolverMultistepScheduler(
        n,
        trained_betas=(1 - alpha_bar[1:] / alpha_bar[:-1]).numpy(),
        prediction_type=peers_name,
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    peer.set_timesteps(n)
    assert peer.timesteps.tolist() == list(range(n - 1, -1, -1))
    found, expected = list(sample_states(denoiser, SAMPLERS["dpmpp_2m"], grid, noise())), noise().draw()
    with torch.no_grad():
        for state, t in zip(found, peer.timesteps, strict=False):
            assert_close(state.x, expected, rtol=1e-4, atol=1e-4)
            output = denoiser.net(expected, grid[n - 1 - int(t)])
            expected = peer.step(output, t, expected).prev_sample
    assert_close(found[-1].x, expected, rtol=1e-4, atol=1e-4)


def test_euler_on_the_flow_is_that_of_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    denoiser, n = untrained(FlowMatching()), 20
    grid = uniform_grid(denoiser, n)
    peer = FlowMatchEulerDiscreteScheduler()
    peer.set_timesteps(sigmas=grid[:-1])
    found, expected = list(sample_states(denoiser, SAMPLERS["euler"], grid, noise())), noise().draw()
    with torch.no_grad():
        for state, t in zip(found, peer.timesteps, strict=False):
            assert_close(state.x, expected, rtol=1e-4, atol=1e-4)
            expected = peer.step(denoiser.net(expected, state.s), t, expected).prev_sample.double()
    assert_close(found[-1].x, expected, rtol=1e-4, atol=1e-4)


def test_heun_on_the_flow_is_that_of_diffusers():
    from diffusers import FlowMatchHeunDiscreteScheduler

    denoiser, n = untrained(FlowMatching()), 20
    peer = FlowMatchHeunDiscreteScheduler()
    peer.set_timesteps(n)
    # Every level but the ends comes twice: as the far end of a step and as the start of the next one.
    grid = sorted(set(peer.sigmas.tolist()), reverse=True)
    expected = noise().draw()
    found = last(sample_states(denoiser, SAMPLERS["heun"], grid, noise(), expected))
    with torch.no_grad():
        for t in peer.timesteps:
            expected = peer.step(denoiser.net(expected, t.item() / 1000), t, expected).prev_sample.double()
    assert_close(found.x, expected, rtol=1e-4, atol=1e-4)


# Noise on the way ------------------------------------------------------------------------------------------------


@three_families
def test_without_churn_the_stochastic_sampler_is_heuns(name):
    denoiser = untrained(PROCESSES[name])
    grid = uniform_grid(denoiser, 9)
    heun = last(sample_states(denoiser, SAMPLERS["heun"], grid, noise()))
    quiet = last(sample_states(denoiser, EDMStochastic(churn=0.0), grid, noise()))
    assert_close(quiet.x, heun.x, rtol=0, atol=0)
    assert quiet.nfe == heun.nfe


@three_families
def test_the_stochastic_sampler_keeps_the_moments_of_the_target(name, optimal_denoiser):
    n, std = 10_000, VARIANCES.sqrt()
    denoiser = optimal_denoiser(PROCESSES[name], GAUSSIAN)
    x = last(sample_states(denoiser, EDMStochastic(churn=40.0), uniform_grid(denoiser, 60), OneStream(0, n))).x
    quiet = last(sample_states(denoiser, SAMPLERS["heun"], uniform_grid(denoiser, 60), OneStream(0, n))).x
    # The noise on the way is large: the ends have little to do with those of the same start without it.
    assert ((x - quiet) / std).square().mean().sqrt() > 0.5
    assert_close((x.mean(0) - MEAN) / std, torch.zeros(2, dtype=torch.float64), rtol=0, atol=4 / math.sqrt(n))
    assert_close((x / std).T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=4 * math.sqrt(2 / n) + 0.05)


@three_families
def test_churn_adds_what_it_says(name):
    """For a denoiser that answers 0, Heun keeps x/σ: one step's spread follows from σ before, after the rise, and at the end."""

    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x, s):
            pre = process.preconditioning(s)
            return -x / pre.c_in * pre.c_skip / pre.c_out

    process, n, s, s_next = PROCESSES[name], 20_000, 0.5, 0.4
    grid = [s, s_next]
    denoiser, step = Denoiser(Nothing(), process), EDMStochastic(churn=0.3).begin(grid)
    with torch.no_grad():
        x = step(denoiser, torch.zeros(n, 2, dtype=torch.float64), s, s_next, OneStream(0, n)).x
    rise, ratio = 1.3, noise_to_signal(process, s)
    # From x/α = 0 the added noise has variance (rise² − 1)(σ/α)², and Heun scales it with σ/α.
    in_ratio = math.sqrt(rise**2 - 1) * ratio * noise_to_signal(process, s_next) / (rise * ratio)
    assert x.std() == pytest.approx(in_ratio * process.coefficients(s_next).alpha.item(), rel=0.03)


@every_process
@pytest.mark.parametrize("sampler", FIXED)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_sampler_on_every_grid_gives_finite_samples_of_their_own_seeds(process, sampler, grid):
    denoiser = untrained(process)
    levels = GRIDS[grid](denoiser, 6)
    runs = [SampleNoise(3, indices, (2,)) for indices in (range(5), [4])]
    everyone, alone = (last(sample_states(denoiser, SAMPLERS[sampler], levels, run)).x for run in runs)
    assert bool(torch.isfinite(everyone).all())
    assert_close(alone[0], everyone[4], rtol=1e-9, atol=1e-9)


def test_a_multistep_run_does_not_remember_the_run_before():
    denoiser, sampler = untrained(FlowMatching()), SAMPLERS["dpmpp_2m"]
    grid = uniform_grid(denoiser, 6)
    alone = last(sample_states(denoiser, sampler, grid, noise())).x
    together = [sample_states(denoiser, sampler, grid, noise(seed=seed)) for seed in (0, 1)]
    for _ in grid:
        states = [next(states) for states in together]
    assert_close(states[0].x, alone, rtol=0, atol=0)


@pytest.mark.parametrize(("sampler", "nfe"), [("dpmpp_2m", 6), ("rk4", 21), ("edm", 11)])
def test_evaluations_are_counted(sampler, nfe):
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    denoiser = untrained(FlowMatching())
    denoiser.net.register_forward_hook(count)
    assert last(sample_states(denoiser, SAMPLERS[sampler], uniform_grid(denoiser, 6), noise())).nfe == nfe == calls


@pytest.mark.parametrize(("sampler", "times"), [("ddim", 8), ("heun", 8), ("dpmpp_2m", 8), ("rk4", 15)])
def test_parameters_are_made_once_for_each_scalar_of_a_run(sampler, times, monkeypatch):
    """The far end of a Heun step is the start of the next one; RK4 asks in the middle too, and twice there."""
    made, blend = [], DPI._blend
    monkeypatch.setattr(DPI, "_blend", lambda net, s, *room: made.append(s.item()) or blend(net, s, *room))
    denoiser = untrained(FlowMatching())
    last(sample_states(denoiser, SAMPLERS[sampler], uniform_grid(denoiser, 8), noise()))
    assert len(made) == times and len(set(made)) == times


# Grids -----------------------------------------------------------------------------------------------------------


@every_process
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_grids_fall_between_the_ends_of_the_process(process, grid, steps):
    levels = GRIDS[grid](untrained(process), steps)
    assert (levels[-1], levels[0]) == process.sampling_range
    assert len(levels) == steps + 1 and bool((np.diff(levels) < 0).all())


@every_process
@pytest.mark.parametrize(("grid", "warp"), [("karras", lambda ratio: ratio ** (1 / 7)), ("log_snr", math.log)])
def test_grids_are_even_in_what_they_say(process, grid, warp):
    levels = GRIDS[grid](untrained(process), 24)
    ratios = [noise_to_signal(process, s) for s in levels[1:-1]]
    steps = np.diff([warp(ratio) for ratio in ratios])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    # Where the process goes on to 0 or infinity the spacing counts from the clamp.
    ends = [noise_to_signal(process, s) for s in process.sampling_range]
    low = LOWEST_RATIO if ends[0] < LOWEST_RATIO else ends[0]
    expected = (warp(low) - warp(min(ends[1], HIGHEST_RATIO))) / (23 if ends[0] < LOWEST_RATIO else 24)
    assert steps[0] == pytest.approx(expected, rel=1e-6)


def test_karras_grid_of_edm_is_the_processs_own():
    denoiser = untrained(VEDiffusion())
    assert GRIDS["karras"](denoiser, 12) == pytest.approx(uniform_grid(denoiser, 12), abs=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("steps", "message"), [(0, "at least 1 step"), (10_000, "at most 1000 are taken")])
def test_too_few_and_too_many_steps_are_refused(grid, steps, message):
    with pytest.raises(ValueError, match=f"steps is {steps}, but .*{message}"):
        GRIDS[grid](untrained(FlowMatching()), steps)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "rk4", "edm"])
def test_a_model_that_breaks_is_reported_at_its_step(sampler):
    class BreaksBelow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, s):
            return x * self.weight if s >= 0.4 else x * math.nan

    states = sample_states(
        Denoiser(BreaksBelow(), FlowMatching()), SAMPLERS[sampler], [1.0, 0.8, 0.6, 0.3, 0.0], noise()
    )
    with pytest.raises(FloatingPointError, match=r"NaN or infinity at step [23] \(s = 0\.[36]00\)"):
        list(states)


# λ what-ifs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Model:
    recipe = load_recipe("mixture2d-flow-dpi")
    denoiser = build_denoiser(recipe).eval()
    denoiser.net.separate(0.5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        denoiser.net.schedule.phi.copy_(torch.linspace(3, 0, len(denoiser.net.schedule.phi)))
    return Model(denoiser, recipe)


WHAT_IFS = [
    ("linear", lambda s, learned: s),
    ("reversed", lambda s, learned: 1 - learned),
    ("frozen", lambda s, learned: 0.25),
]


@pytest.mark.parametrize(("name", "expected"), WHAT_IFS)
def test_a_run_under_another_curve_uses_that_curve_and_leaves_no_trace(model, name, expected):
    learned = model.net.schedule
    s, lam = [], []
    for state in model.sample_states(range(2), "heun", 5, schedule=what_if(model.net, name, 0.25)):
        assert model.net.schedule is learned
        s.append(state.s)
        lam.append(state.lam.item())
    assert lam == pytest.approx([expected(at, model.net.lam(at).item()) for at in s], abs=1e-6)


def test_a_run_with_frozen_parameters_is_that_of_the_materialised_network(model):
    frozen = model.sample(3, "rk4", 4, schedule=what_if(model.net, "frozen", 0.75))
    with model.net.using(FixedSchedule(0.75)):
        plain = model.net.materialize(0.5)
    inner = nn.Module()
    inner.plain, inner.forward = plain, lambda x, s: plain(x)
    noise = SampleNoise(0, range(3), (2,))
    denoiser = Denoiser(inner, model.process)
    expected = last(sample_states(denoiser, SAMPLERS["rk4"], uniform_grid(denoiser, 4), noise)).x
    assert_close(frozen.x.double(), expected, rtol=1e-5, atol=1e-5)


def test_what_makes_no_sense_is_refused_in_one_sentence(model):
    with pytest.raises(
        ValueError, match="λ is 'upward', but has to be one of learned, linear, frozen, reversed, table"
    ):
        what_if(model.net, "upward")
    with pytest.raises(ValueError, match="Linear has one parameter set, so there is no λ to change"):
        what_if(nn.Linear(2, 2), "linear")
    with pytest.raises(ValueError, match=r"λ = 1\.5 is not in \[0, 1\]"):
        what_if(model.net, "frozen", 1.5)
    with pytest.raises(ValueError, match="the grid is 'cubic', but has to be one of karras, log_snr, uniform"):
        model.sample(1, grid="cubic")
    with pytest.raises(ValueError, match="the sampler is 'magic', but has to be one of ddim, ddpm"):
        model.sample(1, "magic")


def test_ancestral_ddim_is_known_to_draw_noise_and_takes_no_more_than_all_of_it():
    assert not draws_noise(ddim_step) and not draws_noise(partial(ddim_step, eta=0.0))
    assert draws_noise(partial(ddim_step, eta=0.5)) and name_of(partial(ddim_step, eta=0.5)) == "ddim"
    with pytest.raises(ValueError, match=r"η = 1.5 is not in \[0, 1\]"):
        last(sample_states(untrained(VPDiffusion()), partial(ddim_step, eta=1.5), [1.0, 0.5, 0.0], noise()))
