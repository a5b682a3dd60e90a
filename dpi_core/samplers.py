"""From noise to samples: one loop, one short step per solver, every state yielded.

ODE solvers integrate the probability flow in the process's own coordinates: diffusion in τ = σ/α with the state x/α,
whose derivative is ε̂; flow matching in s with the velocity. States are float64, the network computes in its own dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dpi_core.denoiser import Denoiser, Prediction
from dpi_core.noise_processes import NoiseProcess
from dpi_core.seeds import seeded_generator


@dataclass(frozen=True)
class State:
    """One moment of a sampling run.

    Attributes:
        step: 0 at pure noise.
        s: the scalar at this moment.
        x: x_s, shape (b, ...), float64.
        x0_hat: the denoiser's estimate here, shape (b, ...); at the last state the sample itself.
        lam: λ(s), shape () or (g,); None without two parameter sets.
        nfe: network evaluations spent so far, per sample.
    """

    step: int
    s: float
    x: Tensor
    x0_hat: Tensor
    lam: Tensor | None
    nfe: int


@dataclass(frozen=True)
class StepResult:
    """What one solver step returns: the next x, x̂0 at its start, and the network evaluations it took."""

    x: Tensor
    x0_hat: Tensor
    nfe: int


class SampleNoise:
    """Standard normal noise with one generator per sample, so that a sample does not depend on its batch.

    Args:
        seed: of the run.
        indices: which samples of that run; sample i draws the same noise in any batch.
        shape: of one sample.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.generators = [seeded_generator(seed, index) for index in indices]

    def draw(self) -> Tensor:
        """(b, ...) float64, on the CPU."""
        return torch.stack([torch.randn(self.shape, generator=g, dtype=torch.float64) for g in self.generators])


Solver = Callable[[Denoiser, Tensor, float, float, SampleNoise], StepResult]
"""(denoiser, x_s, s, next s, noise) -> the next x."""


@runtime_checkable
class RunSolver(Protocol):
    """A solver that has to know its run, or to remember its past: every run begins with a step of its own."""

    def begin(self, grid: Sequence[float]) -> Solver:
        """The step for one run over this grid."""


def ddim_step(
    denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise, eta: float = 0.0
) -> StepResult:
    """Song et al. 2021 (DDIM), eq. 12, for any α and σ: deterministic at η = 0, ancestral at η = 1."""
    after = denoiser.process.coefficients(s_next)
    prediction = denoiser.predict(x, s)
    assert prediction.eps is not None
    fresh = eta * _posterior_std(denoiser, s, s_next)
    kept = (after.sigma.item() ** 2 - fresh**2) ** 0.5
    x_next = after.alpha.item() * prediction.x0 + kept * prediction.eps
    if fresh > 0:
        x_next = x_next + fresh * noise.draw().to(x)
    return StepResult(x_next, prediction.x0, 1)


def ddpm_step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
    """Ho et al. 2020, eq. 7: a draw from q(x_{s'} | x_s, x̂0)."""
    now, after = denoiser.process.coefficients(s), denoiser.process.coefficients(s_next)
    x0_hat = denoiser(x, s)
    ratio = (now.alpha / after.alpha).item()
    variance = now.sigma.item() ** 2 - (ratio * after.sigma.item()) ** 2
    weight_x = ratio * (after.sigma / now.sigma).item() ** 2
    weight_x0 = after.alpha.item() * variance / now.sigma.item() ** 2
    std = _posterior_std(denoiser, s, s_next)
    x_next = weight_x * x + weight_x0 * x0_hat
    return StepResult(x_next + std * noise.draw().to(x) if std > 0 else x_next, x0_hat, 1)


def euler_step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
    """One slope, at the start."""
    prediction = denoiser.predict(x, s)
    return StepResult(_advance(denoiser, x, s, s_next, _slope(denoiser, prediction)), prediction.x0, 1)


def heun_step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
    """Karras et al. 2022, algorithm 1: the mean of the slopes at both ends; Euler's where the far one is undefined."""
    prediction = denoiser.predict(x, s)
    slope = _slope(denoiser, prediction)
    guess = _advance(denoiser, x, s, s_next, slope)
    if denoiser.process.coefficients(s_next).sigma == 0:
        return StepResult(guess, prediction.x0, 1)
    slope_next = _slope(denoiser, denoiser.predict(guess, s_next))
    return StepResult(_advance(denoiser, x, s, s_next, (slope + slope_next) / 2), prediction.x0, 2)


def rk4_step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
    """The classical Runge-Kutta step of order 4; Euler's where the slope at the far end is undefined."""
    process = denoiser.process
    prediction = denoiser.predict(x, s)
    first = _slope(denoiser, prediction)
    if process.coefficients(s_next).sigma == 0:
        return StepResult(_advance(denoiser, x, s, s_next, first), prediction.x0, 1)
    middle = s_at(process, process.ode_time, (process.ode_time(s) + process.ode_time(s_next)) / 2)
    second = _slope(denoiser, denoiser.predict(_advance(denoiser, x, s, middle, first), middle))
    third = _slope(denoiser, denoiser.predict(_advance(denoiser, x, s, middle, second), middle))
    fourth = _slope(denoiser, denoiser.predict(_advance(denoiser, x, s, s_next, third), s_next))
    slope = (first + 2 * second + 2 * third + fourth) / 6
    return StepResult(_advance(denoiser, x, s, s_next, slope), prediction.x0, 4)


class DPMSolverPlusPlus2M:
    """Lu et al. 2022 (arXiv:2211.01095), algorithm 2: an exponential integrator that extrapolates x̂0 from two steps.

    With h the step in log(α/σ): x' = (σ'/σ) x + α' (1 − e^−h) D, D = x̂0 + h/(2 h_before) (x̂0 − x̂0_before). The first
    step, and one that ends at σ = 0 where h is infinite, take D = x̂0.
    """

    def begin(self, grid: Sequence[float]) -> Solver:
        """A step that remembers x̂0 of the step before."""
        past: tuple[Tensor, float] | None = None

        def step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
            nonlocal past
            now, after = denoiser.process.coefficients(s), denoiser.process.coefficients(s_next)
            shrink, x0_hat = (after.sigma / now.sigma).item(), denoiser(x, s)
            h = log_snr(denoiser.process, s_next) - log_snr(denoiser.process, s)
            extrapolated = x0_hat
            if past is not None and math.isfinite(h):
                before, h_before = past
                extrapolated = x0_hat + h / (2 * h_before) * (x0_hat - before)
            past = (x0_hat, h)
            gain = after.alpha.item() - shrink * now.alpha.item()
            return StepResult(shrink * x + gain * extrapolated, x0_hat, 1)

        return step


@dataclass(frozen=True)
class EDMStochastic:
    """Karras et al. 2022 (arXiv:2206.00364), algorithm 2: noise is added before each Heun step.

    σ/α rises by the factor 1 + min(churn / steps, √2 − 1), as far as the process reaches: at the noise end nothing is added.

    Attributes:
        churn: S_churn, at least 0; 0 is Heun's method.
    """

    churn: float = 8.0

    def begin(self, grid: Sequence[float]) -> Solver:
        """A step whose share of the churn depends on the number of steps."""
        rise = 1 + min(self.churn / max(len(grid) - 1, 1), math.sqrt(2) - 1)

        def step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
            process, high = denoiser.process, denoiser.process.sampling_range[1]
            if s >= high or rise == 1:
                return heun_step(denoiser, x, s, s_next, noise)
            s_up = s_at(process, partial(noise_to_signal, process), rise * noise_to_signal(process, s), low=s)
            now, up = process.coefficients(s), process.coefficients(s_up)
            scale = (up.alpha / now.alpha).item()
            added = max(up.sigma.item() ** 2 - (scale * now.sigma.item()) ** 2, 0.0) ** 0.5
            return heun_step(denoiser, scale * x + added * noise.draw().to(x), s_up, s_next, noise)

        return step


SAMPLERS: dict[str, Solver | RunSolver] = {
    "ddim": ddim_step,
    "ddpm": ddpm_step,
    "euler": euler_step,
    "heun": heun_step,
    "dpmpp_2m": DPMSolverPlusPlus2M(),
    "rk4": rk4_step,
    "edm": EDMStochastic(),
}
STOCHASTIC = ("ddpm", "edm")
"""Those that draw fresh noise on the way."""

MAX_STEPS = 1000
LOWEST_RATIO, HIGHEST_RATIO = 0.002, 80.0
"""σ/α between which grids in σ/α are spaced where the process goes on to 0 or infinity (Karras et al. 2022, table 1)."""


def uniform_grid(denoiser: Denoiser, steps: int) -> list[float]:
    """`steps` + 1 equally spaced s, from noise to the clean end: the process's own time.

    Every process maps s to its literature's time so that this is the literature's grid: equal DDPM steps, EDM's ρ = 7,
    equal steps of flow time.

    Raises:
        ValueError: `steps` is below 1 or above `MAX_STEPS`.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, but a sampler needs at least 1 step.")
    if steps > MAX_STEPS:
        raise ValueError(f"steps is {steps}, but at most {MAX_STEPS} are taken; a sampler of higher order needs fewer.")
    low, high = denoiser.process.sampling_range
    return np.linspace(high, low, steps + 1).tolist()


def karras_grid(denoiser: Denoiser, steps: int, rho: float = 7.0) -> list[float]:
    """Equal steps of (σ/α)^(1/ρ): Karras et al. 2022, eq. 5, for any α."""
    return _warped_grid(denoiser, steps, lambda ratio: ratio ** (1 / rho))


def log_snr_grid(denoiser: Denoiser, steps: int) -> list[float]:
    """Equal steps of log(α/σ), as DPM-Solver takes them."""
    return _warped_grid(denoiser, steps, math.log)


GRIDS: dict[str, Callable[[Denoiser, int], list[float]]] = {
    "uniform": uniform_grid,
    "karras": karras_grid,
    "log_snr": log_snr_grid,
}


def noise_to_signal(process: NoiseProcess, s: float) -> float:
    """σ/α; infinite where α = 0."""
    c = process.coefficients(s)
    return (c.sigma / c.alpha).item()


def log_snr(process: NoiseProcess, s: float) -> float:
    """log(α/σ), half the logarithm of the signal-to-noise ratio; infinite at a clean or a signal-free end."""
    c = process.coefficients(s)
    return (c.alpha.log() - c.sigma.log()).item()


def s_at(process: NoiseProcess, rising: Callable[[float], float], value: float, low: float | None = None) -> float:
    """The s at which a function that rises with s takes a value, by bisection; the nearest end where it never does."""
    below, above = process.sampling_range if low is None else (low, process.sampling_range[1])
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if rising(middle) < value else (below, middle)
    return (below + above) / 2


def _warped_grid(denoiser: Denoiser, steps: int, warp: Callable[[float], float]) -> list[float]:
    """Equal steps of warp(σ/α); the process's own ends stand where σ/α was clamped."""
    high, *_, low = uniform_grid(denoiser, steps)
    process = denoiser.process
    ratio = partial(noise_to_signal, process)
    first = min(ratio(high), HIGHEST_RATIO)
    reaches_clean = ratio(low) < LOWEST_RATIO
    last = LOWEST_RATIO if reaches_clean else ratio(low)
    levels = np.linspace(warp(first), warp(last), steps if reaches_clean else steps + 1).tolist()
    inner = [s_at(process, lambda s: warp(ratio(s)), level) for level in levels[1:steps]]
    return [high, *inner, low]


def sample_states(
    denoiser: Denoiser, solver: Solver | RunSolver, grid: Sequence[float], noise: SampleNoise, x: Tensor | None = None
) -> Iterator[State]:
    """Runs a solver over a falling grid of s and yields every state, the first at pure noise.

    Where the process does not reach σ = 0 at the grid's end, the last state is the denoiser's estimate there.

    Args:
        denoiser: network and process.
        solver: one of `SAMPLERS`, or a function of the same form.
        grid: s from high to low.
        noise: per-sample generators; also draws the start.
        x: a start at `grid[0]` instead of noise, shape (b, ...).

    Raises:
        ValueError: the process has no noise end to start from, or the grid does not fall.
        FloatingPointError: the model produced NaN or infinity; the message names the step.
    """
    process = denoiser.process
    if not process.generative and x is None:
        raise ValueError(
            f"{type(process).__name__} never drowns the image in noise, so there is nothing to sample from."
        )
    if any(later >= earlier for earlier, later in zip(grid, grid[1:], strict=False)):
        raise ValueError(f"the grid {list(grid)[:4]}... has to fall from noise to the clean end.")
    x = process.prior_std * noise.draw() if x is None else x.double()
    x = x.to(denoiser.device) if denoiser.device.type != "mps" else x.float().to(denoiser.device)
    take_step = solver.begin(grid) if isinstance(solver, RunSolver) else solver
    nfe = 0
    for step, (s, s_next) in enumerate(zip(grid, grid[1:], strict=False)):
        with torch.no_grad():
            result, lam = take_step(denoiser, x, s, s_next, noise), denoiser.lam(s)
        if not bool(torch.isfinite(result.x).all()):
            raise FloatingPointError(f"the model produced NaN or infinity at step {step} (s = {s:.3f}).")
        yield State(step, s, x, result.x0_hat, lam, nfe)
        x, nfe = result.x, nfe + result.nfe
    with torch.no_grad():
        lam = denoiser.lam(grid[-1])
        if process.coefficients(grid[-1]).sigma > 0:
            x, nfe = denoiser(x, grid[-1]), nfe + 1
    yield State(len(grid) - 1, grid[-1], x, x, lam, nfe)


def _slope(denoiser: Denoiser, prediction: Prediction) -> Tensor:
    slope = getattr(prediction, denoiser.process.ode_kind)
    assert slope is not None
    return slope


def _advance(denoiser: Denoiser, x: Tensor, s: float, s_next: float, slope: Tensor) -> Tensor:
    """A straight step in the process's ODE coordinates."""
    process = denoiser.process
    reach = process.ode_time(s_next) - process.ode_time(s)
    return process.ode_scale(s_next) * (x / process.ode_scale(s) + reach * slope)


def _posterior_std(denoiser: Denoiser, s: float, s_next: float) -> float:
    """Standard deviation of q(x_{s'} | x_s, x0)."""
    now, after = denoiser.process.coefficients(s), denoiser.process.coefficients(s_next)
    forward_variance = now.sigma**2 - (now.alpha / after.alpha * after.sigma) ** 2
    return ((after.sigma / now.sigma) * forward_variance.clamp(min=0).sqrt()).item()
