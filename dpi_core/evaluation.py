"""Scores on held-out data: error against s with intervals over samples, the same inputs and noise for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.denoiser import Denoiser
from dpi_core.mixtures import GaussianMixture
from dpi_core.seeds import seeded_generator

LEVELS = tuple(float(s) for s in np.linspace(0.05, 0.95, 17))
"""The s at which models are judged; at s = 0 the error is zero by construction."""

PEAK_TO_PEAK = 2.0
"""Images lie in [-1, 1]."""


@dataclass(frozen=True)
class Interval:
    """A mean over samples with a bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ErrorCurve:
    """Mean squared error of x̂0 per sample.

    Attributes:
        s: the noise levels, (l,).
        mse: error of each sample at each level, (l, n), averaged over the sample's entries.
    """

    s: np.ndarray
    mse: np.ndarray

    @property
    def psnr(self) -> np.ndarray:
        """Peak signal-to-noise ratio in dB, (l, n), for data in [-1, 1]."""
        return psnr(self.mse)


def psnr(mse: np.ndarray) -> np.ndarray:
    """dB, for data in [-1, 1]; an exact match (below 1e-10) counts as 106 dB."""
    return 10 * np.log10(PEAK_TO_PEAK**2 / np.maximum(mse, 1e-10))


def evaluation_noise(shape: tuple[int, ...], seed: int, level: int) -> Tensor:
    """ε for one level: the same for every method, whatever its batches."""
    return torch.randn(shape, generator=seeded_generator(seed, level))


def denoising_errors(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
    batch_size: int = 512,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (s, mean squared error of each sample) level by level.

    Args:
        denoiser: what is judged; it runs where it lives.
        x0: clean held-out samples, (n, ...), on the CPU.
        levels: noise levels in [0, 1].
        seed: of the noise.
        batch_size: samples per network call.
    """
    for index, s in enumerate(levels):
        eps = evaluation_noise(tuple(x0.shape), seed, index)
        errors = []
        for clean, noise in zip(x0.split(batch_size), eps.split(batch_size), strict=True):
            clean, noise = clean.to(denoiser.device), noise.to(denoiser.device)
            with torch.no_grad():
                x0_hat = denoiser(denoiser.process.add_noise(clean, noise, s), s)
            errors.append((x0_hat - clean).square().flatten(1).mean(1).double().cpu())
        yield s, torch.cat(errors).numpy()


def error_curve(denoiser: Denoiser, x0: Float[Tensor, "n ..."], **options: object) -> ErrorCurve:
    """`denoising_errors` in one piece."""
    levels, errors = zip(*denoising_errors(denoiser, x0, **options), strict=True)  # type: ignore[arg-type]
    return ErrorCurve(np.array(levels), np.stack(errors))


def bootstrap_interval(values: np.ndarray, seed: int = 0, draws: int = 2000, confidence: float = 0.95) -> Interval:
    """The mean of (n,) values with a percentile bootstrap interval; for paired methods pass their differences."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(values.mean()), float(low), float(high))


@torch.no_grad()
def excess_over_optimum(
    denoiser: Denoiser,
    mixture: GaussianMixture,
    x0: Float[Tensor, "n 2"],
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """How far a denoiser is from the mixture's closed-form optimum x*.

    Returns:
        E‖x̂0 − x*‖² / E‖x* − x0‖² at each level, (l,), and the optimum's mean squared error per coordinate, (l,).
    """
    excess, optimum = [], []
    for index, s in enumerate(levels):
        c = denoiser.process.coefficients(s)
        eps = evaluation_noise(tuple(x0.shape), seed, index).double()
        x_s = denoiser.process.add_noise(x0.double(), eps, s)
        best = mixture.posterior_mean(x_s, c.alpha, c.sigma)
        found = denoiser(x_s.to(denoiser.device, denoiser.dtype), s).cpu().double()
        optimum.append((best - x0.double()).square().mean().item())
        excess.append((found - best).square().mean().item() / optimum[-1])
    return np.array(excess), np.array(optimum)


def summarise(curve: ErrorCurve, measure: Callable[[np.ndarray], np.ndarray] = psnr) -> list[Interval]:
    """One interval per level of a per-sample measure of the error."""
    return [bootstrap_interval(measure(row)) for row in curve.mse]
