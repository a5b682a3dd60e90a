"""dopri5 against closed forms, scipy's solver, its own counters, and what it must refuse."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn
from torch.testing import assert_close

import dpi_core
from dpi_core import cli
from dpi_core.build import build_denoiser, load_recipe, recipe_from_dict, recipe_to_dict
from dpi_core.denoiser import Denoiser
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import SoftmaxSchedule
from dpi_core.mixtures import GaussianMixture, ring_mixture
from dpi_core.model import Model
from dpi_core.noise_processes import FlowMatching, VEDiffusion, VPDiffusion
from dpi_core.samplers import Dopri5, SampleNoise, name_of, sample_states

MIXTURE2D = Path(dpi_core.__file__).parents[1] / "checkpoints" / "mixture2d-flow-dpi"
PROCESSES = {
    "vp": VPDiffusion(),
    "vp eps": VPDiffusion(prediction="eps"),
    "vp x0": VPDiffusion(prediction="x0"),
    "vp cosine": VPDiffusion("cosine"),
    "edm": VEDiffusion(),
    "flow": FlowMatching(),
    "flow x0": FlowMatching(prediction="x0"),
}
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
long_loop = pytest.mark.usefixtures("unchecked")
three_families = pytest.mark.parametrize("name", ["vp", "edm", "flow"])

MEAN, VARIANCES = torch.tensor([0.4, -0.2], dtype=torch.float64), torch.tensor([0.6, 0.2], dtype=torch.float64)
GAUSSIAN = GaussianMixture(MEAN[None], VARIANCES.diag()[None], torch.ones(1, dtype=torch.float64))


def noise(n: int = 4, seed: int = 0) -> SampleNoise:
    return SampleNoise(seed, range(n), (2,))


def whole_range(process) -> list[float]:
    low, high = process.sampling_range
    return [high, low]


def untrained(process, dtype=torch.float64) -> Denoiser:
    net = DPI(nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2)), SoftmaxSchedule(9))
    net.separate(0.5, torch.Generator().manual_seed(0))
    return Denoiser(net, process).to(dtype).eval()


def gaussian_flow(process, x, s_from: float, s_to: float) -> torch.Tensor:
    """The probability flow of one Gaussian moves each coordinate with the mean and the standard deviation."""
    start, end = process.coefficients(s_from), process.coefficients(s_to)
    spread = [(c.alpha**2 * VARIANCES + c.sigma**2).sqrt() for c in (start, end)]
    return end.alpha * MEAN + spread[1] / spread[0] * (x - start.alpha * MEAN)


# Accuracy --------------------------------------------------------------------------------------------------------


@long_loop
@three_families
def test_every_accepted_state_is_on_the_exact_flow_of_a_gaussian_within_the_tolerance(name, optimal_denoiser):
    process, high = PROCESSES[name], 0.8
    c = process.coefficients(high)
    x = c.alpha * MEAN + (c.alpha**2 * VARIANCES + c.sigma**2).sqrt() * noise(8).draw()
    for tolerance in (1e-3, 1e-5):
        solver = Dopri5(tolerance, tolerance)
        states = list(sample_states(optimal_denoiser(process, GAUSSIAN), solver, [high, 0.0], noise(8), x))
        gaps = [(state.x - gaussian_flow(process, x, high, state.s)).abs().max().item() for state in states]
        # The flow itself runs to σ/α = 0.002; from there to s = 0 goes a straight line.
        assert max(gaps) < 20 * tolerance + 4e-5


@long_loop
@three_families
def test_it_agrees_with_scipy_on_a_mixture(name, optimal_denoiser):
    process, mixture, high = PROCESSES[name], ring_mixture(), 0.75

    def flow(s, flat):
        """dx/ds = f x − g²/2 ∇log p, with f = α'/α and g² = 2 σ σ' − 2 f σ² (Song et al. 2021, eq. 13)."""
        c, x = process.coefficients(float(s)), torch.from_numpy(flat).reshape(-1, 2)
        f = c.d_alpha / c.alpha
        return (f * x - (c.sigma * c.d_sigma - f * c.sigma**2) * mixture.score(x, c.alpha, c.sigma)).flatten().numpy()

    c = process.coefficients(high)
    x = torch.hypot(c.alpha, c.sigma) * noise(6).draw()
    states = list(sample_states(optimal_denoiser(process, mixture), Dopri5(1e-6, 1e-6), [high, 0.0], noise(6), x))
    accepted = [state for state in states if state.s >= 0.02]
    ends, levels = (high, accepted[-1].s), [state.s for state in accepted]
    peer = solve_ivp(flow, ends, x.flatten().numpy(), "DOP853", t_eval=levels, rtol=1e-8, atol=1e-8)
    assert len(accepted) > 5
    for state, expected in zip(accepted, peer.y.T, strict=True):
        assert_close(state.x.flatten(), torch.from_numpy(expected), rtol=0, atol=5e-5)


@three_families
def test_samples_of_the_whole_range_are_those_of_a_fine_rk4(name):
    denoiser = untrained(PROCESSES[name])
    model = Model(denoiser, dataclasses.replace(load_recipe("mixture2d-flow-dpi"), process=PROCESSES[name]))
    found = model.sample(4, Dopri5(1e-7, 1e-7)).states[-1].x
    fine = model.sample(4, "rk4", 80, grid="log_snr").states[-1].x
    assert_close(found, fine, rtol=0, atol=2e-3)


# The states ------------------------------------------------------------------------------------------------------


@every_process
def test_states_fall_strictly_to_the_clean_end_and_are_finite(process):
    denoiser = untrained(process, torch.float32)
    states = list(sample_states(denoiser, Dopri5(), whole_range(process), noise()))
    s = np.array([state.s for state in states])
    assert (s[0], s[-1]) == (process.sampling_range[1], process.sampling_range[0])
    assert bool((np.diff(s) < 0).all()) and len(states) > 2
    assert [state.step for state in states] == list(range(len(states)))
    for state in states:
        assert bool(torch.isfinite(state.x).all()) and bool(torch.isfinite(state.x0_hat).all())
        assert_close(state.lam, denoiser.net.lam(state.s), rtol=0, atol=0)
    assert_close(states[0].x, process.prior_std * noise().draw(), rtol=0, atol=0)
    assert_close(states[-1].x, states[-1].x0_hat, rtol=0, atol=0)


@every_process
def test_the_estimate_beside_a_state_is_the_denoisers(process):
    denoiser = untrained(process)
    for state in sample_states(denoiser, Dopri5(), whole_range(process), noise()):
        if state.s > process.sampling_range[0]:
            with torch.no_grad():
                assert_close(state.x0_hat, denoiser(state.x, state.s), rtol=1e-6, atol=1e-8)


@three_families
@pytest.mark.parametrize("mixture", [GAUSSIAN, ring_mixture()], ids=["gaussian", "ring"])
def test_evaluations_are_those_that_took_place_rejected_attempts_among_them(name, mixture, optimal_denoiser):
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    denoiser = optimal_denoiser(PROCESSES[name], mixture)
    denoiser.net.register_forward_hook(count)
    nfe = [0]
    for state in sample_states(denoiser, Dopri5(1e-4, 1e-4), whole_range(PROCESSES[name]), noise(16)):
        # The first state is shown with its x̂0, for which the network has run; what led to it cost nothing.
        assert state.nfe == (0 if state.step == 0 else calls)
        nfe.append(state.nfe)
    attempts = (nfe[-1] - 3) / 6
    assert attempts == int(attempts) >= state.step
    if mixture is not GAUSSIAN:
        assert attempts > state.step  # this one has rejected attempts


def test_nothing_is_computed_before_it_is_asked_for_and_a_run_can_be_left():
    denoiser, calls = untrained(FlowMatching()), []
    denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    states = sample_states(denoiser, Dopri5(), [1.0, 0.0], noise())
    assert not calls
    next(states)
    seen = next(states)
    assert torch.is_grad_enabled() and not seen.x.requires_grad
    assert len(calls) == seen.nfe
    states.close()
    assert len(calls) == seen.nfe
    assert torch.is_grad_enabled()


@three_families
def test_a_sample_alone_is_the_one_of_the_batch_within_the_tolerance_and_seeds_repeat(name):
    denoiser, ends = untrained(PROCESSES[name]), whole_range(PROCESSES[name])
    runs = [SampleNoise(3, indices, (2,)) for indices in (range(6), range(6), [4])]
    everyone, again, alone = (list(sample_states(denoiser, Dopri5(1e-6, 1e-6), ends, run))[-1].x for run in runs)
    assert_close(again, everyone, rtol=0, atol=0)
    assert_close(alone[0], everyone[4], rtol=1e-4, atol=1e-4)
    other = list(sample_states(denoiser, Dopri5(), ends, SampleNoise(4, range(6), (2,))))[-1].x
    assert (other - everyone).abs().max() > 1e-2


def test_the_worst_sample_of_a_batch_sets_the_steps(optimal_denoiser):
    """The error of a batch must not hide behind samples that are easy: thousands of them leave the hard one as good."""
    denoiser = optimal_denoiser(FlowMatching(), ring_mixture())
    hard = noise(1, seed=5).draw()
    alone = list(sample_states(denoiser, Dopri5(), [1.0, 0.0], noise(1), hard))
    crowd = torch.cat([hard, torch.zeros(500, 2, dtype=torch.float64)])
    among = list(sample_states(denoiser, Dopri5(), [1.0, 0.0], noise(501), crowd))
    assert among[-1].nfe >= alone[-1].nfe


# What goes wrong -------------------------------------------------------------------------------------------------


class BreaksBelow(nn.Module):
    """NaN as soon as s falls below 0.4."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, s):
        return torch.sin(20 * x) * self.weight if s >= 0.4 else x * math.nan


def test_a_model_that_breaks_is_reported_at_its_step_and_leaves_what_came_before():
    states = sample_states(Denoiser(BreaksBelow(), FlowMatching()), Dopri5(), [1.0, 0.0], noise())
    seen = []
    with pytest.raises(FloatingPointError, match="NaN or infinity") as caught:
        for state in states:
            seen.append(state)
    step, s = re.search(r"at step (\d+) \(s = (0\.\d+)\)", str(caught.value)).groups()
    assert int(step) == seen[-1].step and float(s) <= seen[-1].s + 5e-4
    assert len(seen) > 1 and seen[-1].s >= 0.4
    assert all(bool(torch.isfinite(state.x).all()) for state in seen)


def test_a_model_that_breaks_at_once_says_so():
    class Broken(BreaksBelow):
        def forward(self, x, s):
            return x * math.nan

    with pytest.raises(FloatingPointError, match=r"NaN or infinity at step 0 \(s = 1\.000\)"):
        next(sample_states(Denoiser(Broken(), FlowMatching()), Dopri5(), [1.0, 0.0], noise()))


@long_loop
def test_a_tolerance_beyond_the_networks_precision_is_said_and_not_waited_for():
    denoiser = untrained(FlowMatching(), torch.float32)
    with pytest.raises(
        FloatingPointError, match=r"dopri5 cannot meet its tolerance at step \d+ .* raise rtol and atol"
    ):
        list(sample_states(denoiser, Dopri5(1e-14, 1e-14), [1.0, 0.0], noise()))


@pytest.mark.parametrize("value", [0.0, -1e-3, math.nan, math.inf])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_a_tolerance_is_a_positive_number(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value:g}, but a tolerance has to be a positive number"):
        Dopri5(**{name: value})


# By name ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Model:
    recipe = load_recipe("mixture2d-flow-dpi")
    return Model(build_denoiser(recipe).eval(), recipe)


def test_it_has_a_name_everywhere(model):
    by_name, by_solver = model.sample(3, "dopri5"), model.sample(3, Dopri5())
    assert_close(by_name.x, by_solver.x, rtol=0, atol=0)
    assert by_name.nfe == by_name.states[-1].nfe > 0
    assert name_of(Dopri5(rtol=1e-7)) == "dopri5"


def test_it_can_be_a_recipes_sampler(model):
    text = recipe_to_dict(model.recipe)
    text["sampling"] = {"sampler": "dopri5", "steps": 32}
    own = Model(model.denoiser, recipe_from_dict(text))
    assert_close(own.sample(3).x, model.sample(3, "dopri5").x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 32}, "steps is 32, but dopri5 chooses its own steps; leave steps and grid out"),
        ({"steps": 0}, "steps is 0, but dopri5 chooses its own steps"),
        ({"steps": 10_000}, "steps is 10000, but dopri5 chooses its own steps"),
        ({"grid": "karras"}, "the grid is 'karras', but dopri5 chooses its own steps"),
    ],
)
def test_steps_and_grids_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.sample(2, "dopri5", **options)


def test_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    cli.main(["sample", str(MIXTURE2D), "--n", "2", "--sampler", "dopri5", "--rtol", "1e-2", "--out", str(out)])
    coarse = capsys.readouterr().out
    cli.main(
        [
            "sample",
            str(MIXTURE2D),
            "--n",
            "2",
            "--sampler",
            "dopri5",
            "--rtol",
            "1e-7",
            "--atol",
            "1e-7",
            "--out",
            str(out),
        ]
    )
    fine = capsys.readouterr().out
    evaluations = [int(text.split(", ")[-1].split()[0]) for text in (coarse, fine)]
    assert evaluations[0] < evaluations[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "heun", "--rtol", "1e-3"], "--rtol is a tolerance of --sampler dopri5"),
        (["--sampler", "dopri5", "--steps", "8"], "steps is 8, but dopri5 chooses its own steps"),
        (["--sampler", "dopri5", "--atol", "0"], "atol is 0, but a tolerance has to be a positive number"),
        (["--sampler", "heun", "--steps", "10000"], "steps is 10000, but at most 1000 are taken"),
    ],
)
def test_misfits_on_the_command_line_are_one_sentence(options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["sample", str(MIXTURE2D), "--n", "2", *options])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
