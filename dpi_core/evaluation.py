"""Scores on held-out data: error against s with intervals over samples, the same inputs and noise for every method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.denoiser import Denoiser
from dpi_core.judged import JUDGED
from dpi_core.judged import psnr as psnr
from dpi_core.mixtures import GaussianMixture
from dpi_core.seeds import seeded_generator

LEVELS = tuple(float(s) for s in np.linspace(*JUDGED, 17))
"""The s at which models are judged; at s = 0 the error is zero by construction."""


@dataclass(frozen=True)
class Interval:
    """A mean over samples with a bootstrap interval."""

    mean: float
    low: float
    high: float


def evaluation_noise(shape: tuple[int, ...], seed: int, level: int) -> Tensor:
    """ε for one level: the same for every method, whatever its batches."""
    return torch.randn(shape, generator=seeded_generator(seed, level))


def denoised(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
    batch_size: int = 512,
) -> Iterator[tuple[float, Tensor]]:
    """Yields (s, x̂0 of every sample) level by level, on the CPU; every method gets the same samples and noise.

    Args:
        denoiser: what is judged; it runs where it lives.
        x0: clean held-out samples, (n, ...), on the CPU.
        levels: noise levels in [0, 1].
        seed: of the noise.
        batch_size: samples per network call.
    """
    for index, s in enumerate(levels):
        eps = evaluation_noise(tuple(x0.shape), seed, index)
        found = []
        for clean, noise in zip(x0.split(batch_size), eps.split(batch_size), strict=True):
            clean, noise = clean.to(denoiser.device), noise.to(denoiser.device)
            with torch.no_grad():
                found.append(denoiser(denoiser.process.add_noise(clean, noise, s), s).cpu())
        yield s, torch.cat(found)


def denoising_errors(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    levels: tuple[float, ...] = LEVELS,
    seed: int = 0,
    batch_size: int = 512,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (s, mean squared error of each sample) level by level; arguments as of `denoised`."""
    for s, x0_hat in denoised(denoiser, x0, levels, seed, batch_size):
        yield s, (x0_hat - x0).square().flatten(1).mean(1).double().numpy()


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of (n,) values with a 95 % percentile bootstrap interval; for paired methods pass their differences."""
    return bootstrap_intervals(values[None], seed)[0]


def bootstrap_intervals(values: Float[np.ndarray, "l n"], seed: int = 0) -> list[Interval]:
    """`bootstrap_interval` of each row; all rows see the same draws of samples."""
    rng, n = np.random.default_rng(seed), values.shape[1]
    at_once = max(1, DRAWN_AT_ONCE // n)
    means = np.concatenate(
        [_resampled_means(values, rng.integers(0, n, (min(at_once, DRAWS - k), n))) for k in range(0, DRAWS, at_once)]
    )
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    centres = values.mean(axis=1)
    return [Interval(float(c), float(low), float(high)) for c, low, high in zip(centres, lows, highs, strict=True)]


DRAWS = 2000
DRAWN_AT_ONCE = 4_000_000


def _resampled_means(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Means of (l, n) values over (d, n) choices of samples, (d, l): how often each is chosen, times the values."""
    draws, n = chosen.shape
    places = (chosen + n * np.arange(draws)[:, None]).ravel()
    return np.bincount(places, minlength=draws * n).reshape(draws, n) @ values.T / n


@dataclass(frozen=True)
class Comparison:
    """One method against another on identical samples and noise; positive differences are in favour of the first.

    Attributes:
        difference: mean over samples, and over seeds, of the difference at each level, with its interval over samples.
        average: the same over all levels together.
        spread: standard deviation over seeds of the mean difference at each level; None where a method has one seed.
    """

    difference: tuple[Interval, ...]
    average: Interval
    spread: tuple[float, ...] | None


def compare(ours: Float[np.ndarray, "k l n"], theirs: Float[np.ndarray, "k2 l n"], seed: int = 0) -> Comparison:
    """Paired differences of a score, the larger the better, of k trained seeds at l levels on n samples.

    Args:
        ours: scores of the first method.
        theirs: scores of the second on the same samples under the same noise.
        seed: of the bootstrap.
    """
    paired = ours.mean(axis=0) - theirs.mean(axis=0)
    *levels, average = bootstrap_intervals(np.vstack([paired, paired.mean(axis=0)]), seed)
    seeds = min(len(ours), len(theirs))
    each = ours[:seeds].mean(axis=2) - theirs[:seeds].mean(axis=2)
    return Comparison(
        difference=tuple(levels),
        average=average,
        spread=tuple(each.std(axis=0, ddof=1).tolist()) if seeds > 1 else None,
    )


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
