"""One short step per solver.

ODE solvers integrate the probability flow in the process's own coordinates: diffusion in τ = σ/α with the state x/α,
whose derivative is ε̂; flow matching in s with the velocity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dpi_core.denoiser import Denoiser
from dpi_core.samplers.grids import log_snr, noise_to_signal
from dpi_core.samplers.states import SampleNoise, Solver, StepResult, ode_slope


def ddim_step(
    denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise, eta: float = 0.0
) -> StepResult:
    """Song et al. 2021 (DDIM), eq. 12, for any α and σ: deterministic at η = 0, ancestral at η = 1.

    Raises:
        ValueError: η is not in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"η = {eta:g} is not in [0, 1]: 0 draws no noise, 1 as much as DDPM.")
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
    return StepResult(_advance(denoiser, x, s, s_next, ode_slope(denoiser, prediction)), prediction.x0, 1)


def heun_step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
    """Karras et al. 2022, algorithm 1: the mean of the slopes at both ends; Euler's where the far one is undefined."""
    prediction = denoiser.predict(x, s)
    slope = ode_slope(denoiser, prediction)
    guess = _advance(denoiser, x, s, s_next, slope)
    if denoiser.process.coefficients(s_next).sigma == 0:
        return StepResult(guess, prediction.x0, 1)
    slope_next = ode_slope(denoiser, denoiser.predict(guess, s_next))
    return StepResult(_advance(denoiser, x, s, s_next, (slope + slope_next) / 2), prediction.x0, 2)


def rk4_step(denoiser: Denoiser, x: Tensor, s: float, s_next: float, noise: SampleNoise) -> StepResult:
    """The classical Runge-Kutta step of order 4; Euler's where the slope at the far end is undefined."""
    process = denoiser.process
    prediction = denoiser.predict(x, s)
    first = ode_slope(denoiser, prediction)
    if process.coefficients(s_next).sigma == 0:
        return StepResult(_advance(denoiser, x, s, s_next, first), prediction.x0, 1)
    middle = process.s_at_ode_time((process.ode_time(s) + process.ode_time(s_next)) / 2)
    second = ode_slope(denoiser, denoiser.predict(_advance(denoiser, x, s, middle, first), middle))
    third = ode_slope(denoiser, denoiser.predict(_advance(denoiser, x, s, middle, second), middle))
    fourth = ode_slope(denoiser, denoiser.predict(_advance(denoiser, x, s, s_next, third), s_next))
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
            s_up = min(process.s_at_ratio(rise * noise_to_signal(process, s)), high)
            now, up = process.coefficients(s), process.coefficients(s_up)
            scale = (up.alpha / now.alpha).item()
            added = max(up.sigma.item() ** 2 - (scale * now.sigma.item()) ** 2, 0.0) ** 0.5
            return heun_step(denoiser, scale * x + added * noise.draw().to(x), s_up, s_next, noise)

        return step


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
