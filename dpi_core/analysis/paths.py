"""The path from θ0 to θ1 seen in the output: distance, arc length, weight blend against output blend, cached blends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.analysis.weights import two_sets
from dpi_core.denoiser import Denoiser
from dpi_core.lambda_schedules import FixedSchedule
from dpi_core.precision import Precision, multiplying_in


@dataclass(frozen=True)
class OutputPath:
    """x̂0 of fixed noised inputs while the parameters alone go along s.

    Attributes:
        level: the noise level of the inputs.
        s: (t,) where the parameters stand.
        distance: (t,) root mean square of x̂0(θ(s)) − x̂0(θ(s_1)) over samples and entries.
        arc: (t,) the same, summed step by step along s; at least `distance`.
    """

    level: float
    s: np.ndarray
    distance: np.ndarray
    arc: np.ndarray


@dataclass(frozen=True)
class BlendGap:
    """The blend of weights against the blend of outputs, at one noise level.

    Attributes:
        level: the noise level of the inputs.
        lam: (q,) positions on the path.
        gap: (q,) root mean square of f(θ_λ) − [(1 − λ)f(θ0) + λf(θ1)], f being x̂0.
        apart: root mean square of f(θ1) − f(θ0), the gap's natural unit.
        weight_mse: (q, n) error of f(θ_λ) for each sample.
        output_mse: (q, n) error of the blended outputs.
    """

    level: float
    lam: np.ndarray
    gap: np.ndarray
    apart: float
    weight_mse: np.ndarray
    output_mse: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """(q,) the gap as a share of the distance between both ends' outputs; NaN where the ends agree."""
        return self.gap / self.apart if self.apart > 0 else np.full_like(self.gap, np.nan)


@dataclass(frozen=True)
class CachedBlends:
    """What it costs to keep only K parameter sets, at K equal steps of s, and to use the nearest.

    Attributes:
        count: K.
        s: (p,) noise levels.
        moved: (p,) root mean square change of x̂0.
        mse: (p, n) error of each sample with the nearest kept set.
    """

    count: int
    s: np.ndarray
    moved: np.ndarray
    mse: np.ndarray


def output_paths(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    levels: Sequence[float],
    s_grid: Sequence[float],
    batch_size: int = 512,
) -> Iterator[OutputPath]:
    """How far x̂0 of fixed inputs moves while the parameters go along s; one result per noise level.

    Args:
        denoiser: runs where it lives; with groups every group follows its own λ.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        levels: noise levels in [0, 1].
        s_grid: t scalars for the parameters, increasing.
        batch_size: samples per network call.

    Raises:
        ValueError: the network has no two parameter sets.
    """
    two_sets(denoiser.net)
    for level in levels:
        first = last = None
        distance, steps = [], []
        for s in s_grid:
            here = denoised(denoiser, x0, eps, level, s, batch_size)
            first, last = here if first is None else first, here if last is None else last
            distance.append(_rms(here - first))
            steps.append(_rms(here - last))
            last = here
        yield OutputPath(level, np.array(s_grid), np.array(distance), np.cumsum(steps))


def blend_gaps(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    levels: Sequence[float],
    lam_grid: Sequence[float],
    batch_size: int = 512,
) -> Iterator[BlendGap]:
    """What blending weights gives that blending two networks' outputs would not; one result per noise level.

    Args:
        denoiser: runs where it lives; with groups all stand at the same λ.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        levels: noise levels in [0, 1].
        lam_grid: q positions in [0, 1].
        batch_size: samples per network call.

    Raises:
        ValueError: the network has no two parameter sets.
    """
    net = two_sets(denoiser.net)
    for level in levels:

        def at(lam: float, level: float = level) -> Tensor:
            with net.using(FixedSchedule(lam)):
                return denoised(denoiser, x0, eps, level, 0.0, batch_size)

        start, end = at(0.0), at(1.0)
        gap, weight_mse, output_mse = [], [], []
        for lam in lam_grid:
            weights, outputs = at(lam), torch.lerp(start, end, lam)
            gap.append(_rms(weights - outputs))
            weight_mse.append(per_sample_mse(weights - x0))
            output_mse.append(per_sample_mse(outputs - x0))
        stacked = (np.stack(values) for values in (weight_mse, output_mse))
        yield BlendGap(level, np.array(lam_grid), np.array(gap), _rms(end - start), *stacked)


def cached_blends(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: Sequence[float],
    counts: Sequence[int],
    batch_size: int = 512,
) -> Iterator[CachedBlends]:
    """The error where only K blends θ(0), θ(1/(K−1)), …, θ(1) are kept; one result per K.

    Args:
        denoiser: runs where it lives.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: p noise levels in [0, 1].
        counts: the K, each at least 1; K = 1 keeps θ(1/2).
        batch_size: samples per network call.

    Raises:
        ValueError: the network has no two parameter sets, or a K below 1.
    """
    two_sets(denoiser.net)
    if min(counts, default=1) < 1:
        raise ValueError(f"K = {min(counts)} blends cannot be kept; keep at least 1.")
    exact = {s: denoised(denoiser, x0, eps, s, s, batch_size) for s in s_grid}
    for count in counts:
        moved, mse = [], []
        for s in s_grid:
            here = denoised(denoiser, x0, eps, s, nearest_kept(s, count), batch_size)
            moved.append(_rms(here - exact[s]))
            mse.append(per_sample_mse(here - x0))
        yield CachedBlends(count, np.array(s_grid), np.array(moved), np.stack(mse))


def nearest_kept(s: float, count: int) -> float:
    """The s of the nearest of `count` equally spaced parameter sets; 1/2 if there is one."""
    return 0.5 if count == 1 else round(s * (count - 1)) / (count - 1)


@torch.no_grad()
def denoised(
    denoiser: Denoiser,
    x0: Tensor,
    eps: Tensor,
    s: float,
    s_theta: float,
    batch_size: int = 512,
    precision: Precision = "float32",
) -> Tensor:
    """x̂0 of noised inputs, (n, ...), on the CPU.

    Args:
        denoiser: runs where it lives.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s: the noise level.
        s_theta: the scalar of the parameters.
        batch_size: samples per network call.
        precision: what the network multiplies in.

    Raises:
        ValueError: the output is not finite.
    """
    parts = []
    for clean, noise in zip(x0.split(batch_size), eps.split(batch_size), strict=True):
        x_s = denoiser.process.add_noise(clean.to(denoiser.device), noise.to(denoiser.device), s)
        with multiplying_in(precision, denoiser.device):
            parts.append(denoiser(x_s, s, s_theta).cpu())
    x0_hat = torch.cat(parts)
    if not bool(torch.isfinite(x0_hat).all()):
        raise ValueError(
            f"the network's output at s = {s:g} is NaN or infinite; load a checkpoint from before training diverged."
        )
    return x0_hat


def _rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


def per_sample_mse(difference: Tensor) -> np.ndarray:
    """Mean square of each sample's entries, (n,)."""
    return difference.double().square().flatten(1).mean(1).numpy()
