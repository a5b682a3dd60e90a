"""Denoising error over (noise level s, parameter position λ), and what the learned curve λ(s) loses in it.

At a noise level s the valley λ*(s) is where the error is least; the regret is what the learned λ(s) loses against it. A
valley found and judged on the same samples would be too good by the noise of its choice. So λ* of each sample comes from
the other half of the samples, and the regret may come out below zero where nothing is to be gained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dpi_core.analysis.paths import denoised, per_sample_mse
from dpi_core.analysis.side_by_side import side_by_side
from dpi_core.analysis.weights import two_sets
from dpi_core.denoiser import Denoiser
from dpi_core.judged import JUDGED, PEAK_TO_PEAK
from dpi_core.lambda_schedules import FixedSchedule, LambdaSchedule
from dpi_core.precision import Precision

Measure = Literal["psnr", "mse"]
"""How samples are averaged: PSNR of each, then the mean; or the mean squared error, then its logarithm."""

FLOOR = 1e-10
"""A mean squared error below this counts as this: 106 dB."""

FINER = 8
PARTS = 64
"""Into how many parts samples are gathered for intervals of curves that are looked up later."""

DRAWS, CONFIDENCE = 2000, 95


@dataclass(frozen=True)
class Cell:
    """Error of each sample at one noise level and one λ.

    Attributes:
        s: the noise level.
        lam: where the parameters stand, in [0, 1].
        mse: (n,).
    """

    s: float
    lam: float
    mse: np.ndarray


@dataclass(frozen=True)
class Loss:
    """What one way of denoising loses against a better one, in dB, with 95 % bootstrap intervals over samples.

    Attributes:
        s: (p,) noise levels.
        mean: (p,) at each of them.
        low: (p,).
        high: (p,).
        total: (mean, low, high) of the mean over the judged levels.
    """

    s: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    total: tuple[float, float, float]


@dataclass(frozen=True)
class Landscape:
    """Quality of x̂0 in dB over noise level and parameter position; higher is better.

    Attributes:
        s: (p,) noise levels.
        lam: (q,) parameter positions.
        quality: (q, p) in dB.
        learned: (p,) λ(s) of the network.
        learned_quality: (p,) of the network itself, computed at λ(s) and not looked up.
        valley: (p,) λ*(s), where quality is best on all samples; NaN where every λ is equally good.
        valley_quality: (p,).
        regret: of the learned curve.
        residual: largest |looked up − computed| of the learned curve over the judged levels, in dB.
        samples: how many were judged.
        parts: (b, q, p) quality of each of b parts of the samples, in dB.
    """

    s: np.ndarray
    lam: np.ndarray
    quality: np.ndarray
    learned: np.ndarray
    learned_quality: np.ndarray
    valley: np.ndarray
    valley_quality: np.ndarray
    regret: Loss
    residual: float
    samples: int
    parts: np.ndarray


def curve_errors(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    schedule: LambdaSchedule | None = None,
    batch_size: int = 512,
    precision: Precision = "float32",
) -> np.ndarray:
    """Mean squared error of each sample at each noise level under a curve λ(s), (p, n).

    Args:
        denoiser: runs where it lives.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: p noise levels in [0, 1].
        schedule: the curve, one for all groups or one for each; None for the network's own.
        batch_size: samples per network call.
        precision: what the network multiplies in; curves are compared with a plane of the same.

    Raises:
        ValueError: a curve is given for a network without two parameter sets, or an output is not finite.
    """

    def at(denoiser: Denoiser, s: float) -> Iterator[np.ndarray]:
        yield per_sample_mse(denoised(denoiser, x0, eps, s, s, batch_size, precision) - x0)

    with contextlib.nullcontext() if schedule is None else two_sets(denoiser.net).using(schedule):
        return np.stack(list(side_by_side(denoiser, at, s_grid)))


def plane_errors(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    lam_grid: Sequence[float],
    batch_size: int = 512,
    precision: Precision = "float32",
) -> Iterator[Cell]:
    """The error of each sample over (noise level, λ), cell by cell: all s of the first λ, then those of the next.

    Args:
        denoiser: of a DPI network; with groups all of them stand at that λ.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: p noise levels in [0, 1].
        lam_grid: q parameter positions in [0, 1].
        batch_size: samples per network call.
        precision: what the network multiplies in; curves are compared with a plane of the same.

    Raises:
        ValueError: the network has no two parameter sets, a λ outside [0, 1], or an output that is not finite.
    """
    two_sets(denoiser.net)

    def row(denoiser: Denoiser, lam: float) -> Iterator[Cell]:
        held = FixedSchedule(lam)
        for s in s_grid:
            with two_sets(denoiser.net).using(held):
                x0_hat = denoised(denoiser, x0, eps, s, 0.0, batch_size, precision)
            yield Cell(s, lam, per_sample_mse(x0_hat - x0))

    yield from side_by_side(denoiser, row, lam_grid)


def landscape(
    cells: Sequence[Cell],
    learned: np.ndarray,
    learned_errors: np.ndarray,
    measure: Measure = "psnr",
    seed: int = 0,
) -> Landscape:
    """The plane, its valley and the learned curve's regret, from the errors of each sample.

    Args:
        cells: of `plane_errors`, λ increasing.
        learned: (p,) λ(s).
        learned_errors: (p, n) of `curve_errors`.
        measure: how samples are averaged.
        seed: of the halves and of the bootstrap.

    Raises:
        ValueError: fewer than 4 samples, which cannot be halved and judged.
    """
    s, lam = (np.unique([getattr(cell, name) for cell in cells]) for name in ("s", "lam"))
    errors = np.stack([cell.mse for cell in cells]).reshape(len(lam), len(s), -1)
    if errors.shape[2] < 4:
        raise ValueError(
            f"{errors.shape[2]} samples were given, but one half chooses λ* for the other: give at least 4."
        )
    quality, own = quality_db(errors, measure), quality_db(learned_errors, measure)
    valley, best = find_valley(lam, quality)
    judged = is_judged(s)
    looked_up = lookup(lam, quality, learned)
    return Landscape(
        s,
        lam,
        quality,
        learned,
        own,
        np.where(np.ptp(quality, axis=0) > 1e-9, valley, np.nan),
        best,
        regret(s, lam, errors, learned_errors, measure, seed),
        float(np.abs(looked_up - own)[judged].max(initial=0.0)),
        errors.shape[2],
        quality_of_parts(errors, measure),
    )


def lookup(lam: np.ndarray, quality: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Quality of any curve at each noise level, by a cubic along λ between the rows of a landscape; (p,).

    It is right for a network with one λ: its error at (s, λ(s)) does not depend on the rest of the curve.

    Args:
        lam: (q,) increasing.
        quality: (q, p).
        curve: (p,) λ at each noise level.

    Raises:
        ValueError: a λ outside [0, 1], or not one for each noise level.
    """
    if curve.shape != quality.shape[1:]:
        raise ValueError(f"the curve has shape {curve.shape}, but needs one λ for each of {quality.shape[1]} levels.")
    if not ((curve >= 0) & (curve <= 1)).all():
        bad = curve[~((curve >= 0) & (curve <= 1))][0]
        raise ValueError(f"λ = {bad:g} is not in [0, 1]; clip the curve to that range.")
    return _cubic(lam, quality, curve)


def find_valley(lam: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ*(s) and the quality there, (p,) each, sought on `FINER` times as many positions as there are rows."""
    fine = np.interp(np.arange(FINER * (len(lam) - 1) + 1) / FINER, np.arange(len(lam)), lam)
    found = np.stack([_cubic(lam, quality, np.full(quality.shape[1], value)) for value in fine])
    return fine[found.argmax(axis=0)], found.max(axis=0)


def _cubic(lam: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (q, p, ...) read at one λ for each of the p columns: exact at the rows, a cubic between them, (p, ...)."""
    levels = np.arange(len(at))
    left = np.clip(np.searchsorted(lam, at, side="right") - 1, 0, len(lam) - 2)
    width, shape = lam[left + 1] - lam[left], (-1, *[1] * (values.ndim - 2))
    t = ((at - lam[left]) / width).reshape(shape)
    slopes = np.gradient(values, lam, axis=0)
    start, end = (values[row, levels] for row in (left, left + 1))
    rise, fall = (width.reshape(shape) * slopes[row, levels] for row in (left, left + 1))
    return (
        (1 + 2 * t) * (1 - t) ** 2 * start + t * (1 - t) ** 2 * rise + t**2 * (3 - 2 * t) * end - t**2 * (1 - t) * fall
    )


def measure_of(x0: Tensor) -> Measure:
    """Images are averaged as PSNR; a single point's PSNR says little, so points are averaged before the logarithm."""
    return "psnr" if x0.ndim == 4 else "mse"


def quality_db(errors: np.ndarray, measure: Measure) -> np.ndarray:
    """PSNR in dB from errors (..., n) of samples in [-1, 1]; "mse" averages the errors, "psnr" their logarithms."""
    bounded = np.maximum(errors, FLOOR)
    if measure == "mse":
        bounded = bounded.mean(axis=-1)
        return 10 * np.log10(PEAK_TO_PEAK**2 / bounded)
    return (10 * np.log10(PEAK_TO_PEAK**2 / bounded)).mean(axis=-1)


def quality_of_parts(errors: np.ndarray, measure: Measure) -> np.ndarray:
    """Quality in dB of at most `PARTS` equal parts of the samples, (b, ...), from errors (..., n).

    A bootstrap over the parts judges what is looked up in a landscape nearly as one over the samples would: parts are
    independent of each other, as samples are.
    """
    parts = np.array_split(errors, min(PARTS, errors.shape[-1]), axis=-1)
    return np.stack([quality_db(part, measure) for part in parts])


def is_judged(s: np.ndarray) -> np.ndarray:
    """Which noise levels count in means over s; all where none lies in the range."""
    inside = (s >= JUDGED[0]) & (s <= JUDGED[1])
    return inside if inside.any() else np.ones_like(inside)


def regret(
    s: np.ndarray,
    lam: np.ndarray,
    errors: np.ndarray,
    learned_errors: np.ndarray,
    measure: Measure = "psnr",
    seed: int = 0,
) -> Loss:
    """What the learned curve loses against λ*, each sample judged at the λ* that the other half has chosen.

    Args:
        s: (p,) noise levels.
        lam: (q,) parameter positions.
        errors: (q, p, n).
        learned_errors: (p, n).
        measure: how samples are averaged.
        seed: of the halves and of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    n = errors.shape[2]
    first, second = np.array_split(rng.permutation(n), 2)
    crossed = np.empty_like(learned_errors)
    # PSNR is averaged sample by sample, so its samples are read between the rows in dB as well.
    values = np.log(np.maximum(errors, FLOOR)) if measure == "psnr" else errors
    for chosen_on, judged_on in ((first, second), (second, first)):
        best, _ = find_valley(lam, quality_db(errors[:, :, chosen_on], measure))
        read = _cubic(lam, values[:, :, judged_on], best)
        crossed[:, judged_on] = np.exp(read) if measure == "psnr" else read
    return loss(s, crossed, learned_errors, measure, seed)


def loss(s: np.ndarray, better: np.ndarray, worse: np.ndarray, measure: Measure = "psnr", seed: int = 0) -> Loss:
    """What `worse` loses against `better` in dB; both are judged on the same samples, so the bootstrap is paired.

    Args:
        s: (p,) noise levels.
        better: (p, n) errors.
        worse: (p, n) errors of the same samples.
        measure: how samples are averaged.
        seed: of the bootstrap.
    """
    n = better.shape[1]
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS) / n
    mean = _lost(better, worse, np.full((1, n), 1 / n), measure)[0]
    drawn = _lost(better, worse, weights, measure)
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    judged = is_judged(s)
    total_low, total_high = np.percentile(drawn[:, judged].mean(axis=1), [tail, 100 - tail])
    return Loss(s, mean, low, high, (float(mean[judged].mean()), float(total_low), float(total_high)))


def _lost(better: np.ndarray, worse: np.ndarray, weights: np.ndarray, measure: Measure) -> np.ndarray:
    """DB between two (p, n) errors, for each row of sample weights (d, n); (d, p)."""
    better, worse = np.maximum(better, FLOOR), np.maximum(worse, FLOOR)
    if measure == "mse":
        return 10 * np.log10((weights @ worse.T) / (weights @ better.T))
    return weights @ (10 * np.log10(worse / better)).T
