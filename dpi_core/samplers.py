"""From noise to samples: one loop, one short step per solver, every state yielded.

ODE solvers integrate the probability flow in the process's own coordinates: diffusion in τ = σ/α with the state x/α,
whose derivative is ε̂; flow matching in s with the velocity. States are float64, the network computes in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpi_core.denoiser import Denoiser, Prediction
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


SAMPLERS: dict[str, Solver] = {"ddim": ddim_step, "ddpm": ddpm_step, "euler": euler_step, "heun": heun_step}


def uniform_grid(denoiser: Denoiser, steps: int) -> list[float]:
    """`steps` + 1 equally spaced s, from noise to the clean end."""
    if steps < 1:
        raise ValueError(f"steps is {steps}, but a sampler needs at least 1 step.")
    low, high = denoiser.process.sampling_range
    return np.linspace(high, low, steps + 1).tolist()


def sample_states(
    denoiser: Denoiser, solver: Solver, grid: Sequence[float], noise: SampleNoise, x: Tensor | None = None
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
    nfe = 0
    for step, (s, s_next) in enumerate(zip(grid, grid[1:], strict=False)):
        with torch.no_grad():
            result, lam = solver(denoiser, x, s, s_next, noise), denoiser.lam(s)
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
