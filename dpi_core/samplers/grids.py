"""Where the steps of a run lie: falling grids of s."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dpi_core.denoiser import Denoiser
from dpi_core.noise_processes import NoiseProcess

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
    return _warped_grid(denoiser, steps, lambda ratio: ratio ** (1 / rho), lambda level: level**rho)


def log_snr_grid(denoiser: Denoiser, steps: int) -> list[float]:
    """Equal steps of log(α/σ), as DPM-Solver takes them."""
    return _warped_grid(denoiser, steps, math.log, math.exp)


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


def off_the_clean_end(process: NoiseProcess, s: float) -> float:
    """The given s, or the one where σ/α is `LOWEST_RATIO` if that is higher: nearer to σ = 0 the noise is undefined."""
    return max(s, process.s_at_ratio(LOWEST_RATIO))


def _warped_grid(
    denoiser: Denoiser, steps: int, warp: Callable[[float], float], unwarp: Callable[[float], float]
) -> list[float]:
    """Equal steps of warp(σ/α); the process's own ends stand where σ/α was clamped."""
    high, *_, low = uniform_grid(denoiser, steps)
    process = denoiser.process
    first = min(noise_to_signal(process, high), HIGHEST_RATIO)
    reaches_clean = noise_to_signal(process, low) < LOWEST_RATIO
    last = LOWEST_RATIO if reaches_clean else noise_to_signal(process, low)
    levels = np.linspace(warp(first), warp(last), steps if reaches_clean else steps + 1).tolist()
    inner = [process.s_at_ratio(unwarp(level)) for level in levels[1:steps]]
    return [high, *inner, low]
