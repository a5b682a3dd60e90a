"""The denoiser along s, and over the plane of noise level and parameter position λ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.analysis.side_by_side import side_by_side
from dpi_core.denoiser import Denoiser
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule

NUMBERS_AT_ONCE = {"cpu": 2**14, "cuda": 2**20}
"""Numbers of the inputs of one pass, over all its levels: with few of them most of a pass is calling (benchmarks/sweep.py)."""


@dataclass(frozen=True)
class SweepFrame:
    """x̂0 of all inputs at one s.

    Attributes:
        s: the scalar, for the noise and the parameters alike.
        x0_hat: shape (n, ...), float32, on the CPU.
    """

    s: float
    x0_hat: Tensor


@dataclass(frozen=True)
class PadRow:
    """x̂0 of all inputs at one parameter position λ and every noise level.

    Attributes:
        lam: where the parameters stand, in [0, 1].
        x0_hat: shape (p, n, ...), float32, on the CPU.
        mse: mean squared error over the inputs at each noise level, (p,).
    """

    lam: float
    x0_hat: Tensor
    mse: Tensor


def sweep(
    denoiser: Denoiser, x0: Float[Tensor, "n ..."], eps: Float[Tensor, "n ..."], s_grid: list[float]
) -> Iterator[SweepFrame]:
    """Denoises the same inputs under the same noise at every s of the grid, several levels at a time where inputs are small.

    Args:
        denoiser: runs where it lives; on a CPU copies of it, see `side_by_side`.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: scalars in [0, 1].
    """
    x0, eps = x0.to(denoiser.device), eps.to(denoiser.device)

    def at(subject: Denoiser, levels: list[float]) -> Iterator[SweepFrame]:
        clean, noise = (each.repeat(len(levels), *[1] * (x0.ndim - 1)) for each in (x0, eps))
        x0_hat = denoise_at(subject, clean, noise, [s for s in levels for _ in x0])
        yield from map(SweepFrame, levels, x0_hat.split(len(x0)))

    n, blocks = len(s_grid), math.ceil(len(s_grid) / levels_at_once(denoiser.device, x0.numel()))
    yield from side_by_side(denoiser, at, [s_grid[n * i // blocks : n * (i + 1) // blocks] for i in range(blocks)])


def levels_at_once(device: torch.device, numbers: int) -> int:
    """How many noise levels of samples with so many numbers go through a network on the device in one pass."""
    return max(1, NUMBERS_AT_ONCE.get(device.type, 0) // numbers)


@torch.no_grad()
def denoise_at(
    denoiser: Denoiser, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], s: Sequence[float]
) -> Float[Tensor, "b ..."]:
    """x̂0 of samples that are noised to a level each, in one pass; float32, on the CPU.

    Args:
        denoiser: runs where it lives.
        x0: clean samples, (b, ...).
        eps: their noise, same shape.
        s: the level of each, in [0, 1].
    """
    levels = s[0] if len(set(s)) == 1 else torch.tensor(s, dtype=torch.float64)
    x_s = denoiser.process.add_noise(x0.to(denoiser.device), eps.to(denoiser.device), levels)
    return denoiser(x_s, levels).float().cpu()


def decoupled(
    denoiser: Denoiser,
    x0: Float[Tensor, "n ..."],
    eps: Float[Tensor, "n ..."],
    s_grid: list[float],
    lam_grid: list[float],
) -> Iterator[PadRow]:
    """Decouples the two roles of s: noise level (input, process, conversions) against the parameters' position λ.

    Args:
        denoiser: of a DPI network; runs where it lives; on a CPU copies of it, see `side_by_side`.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        s_grid: p noise levels in [0, 1].
        lam_grid: parameter positions in [0, 1]; one row is yielded for each.

    Raises:
        ValueError: the network has no two parameter sets.
    """
    if not isinstance(denoiser.net, DPI):
        kind = type(denoiser.net).__name__
        raise ValueError(f"{kind} has one parameter set, so there is no λ to move; choose a DPI model.")
    levels = torch.tensor(s_grid, dtype=torch.float64).repeat_interleave(len(x0))
    clean, noise = (each.repeat(len(s_grid), *[1] * (x0.ndim - 1)) for each in (x0, eps))
    x_s = denoiser.process.add_noise(clean, noise, levels)
    rows_at_once = len(x0) * levels_at_once(denoiser.device, x0.numel())

    def at(subject: Denoiser, lam: float) -> Iterator[PadRow]:
        assert isinstance(subject.net, DPI)
        with torch.no_grad(), subject.net.using(FixedSchedule(lam)):
            parts = [
                subject(x.to(subject.device), s, s_theta=0.0).float().cpu()
                for x, s in zip(x_s.split(rows_at_once), levels.split(rows_at_once), strict=True)
            ]
        x0_hat = torch.cat(parts).unflatten(0, (len(s_grid), len(x0)))
        yield PadRow(lam, x0_hat, (x0_hat - x0).square().flatten(1).mean(1))

    yield from side_by_side(denoiser, at, lam_grid)
