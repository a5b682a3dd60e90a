"""Frames along s, of one request or of several in the same passes, computed with torch; part of `compute`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from app.records import SweepResult
from dpi_core.analysis.denoising import denoise_at, levels_at_once
from dpi_core.model import Model


@dataclass
class Sweep:
    """The frames of one request as they come.

    Attributes:
        model: that denoises.
        grid: noise levels.
        x0: clean inputs, (n, ...), on the CPU.
        eps: their noise, same shape.
        frames: x̂0 at the first levels, (n, ...) each.
    """

    model: Model
    grid: tuple[float, ...]
    x0: Tensor
    eps: Tensor
    frames: list[Tensor] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every level has its frame."""
        return len(self.frames) == len(self.grid)

    def result(self) -> SweepResult:
        """The record of all levels.

        Raises:
            ValueError: the network's output is not finite.
        """
        x0_hat = finite(torch.stack(self.frames))
        mse = (x0_hat - self.x0).square().flatten(2).mean(2).numpy()
        return sweep_result(self.model, list(self.grid), self.x0, self.eps, x0_hat, mse)


def advance(model: Model, sweeps: Sequence[Sweep]) -> None:
    """More levels of each sweep, as many as the device computes well at once, all in one pass.

    Args:
        model: of all of them.
        sweeps: none of them complete, samples of one shape.
    """
    denoiser = model.denoiser
    count = levels_at_once(denoiser.device, sum(sweep.x0.numel() for sweep in sweeps))
    parts = [(sweep, s) for sweep in sweeps for s in sweep.grid[len(sweep.frames) :][:count]]
    x0, eps = (torch.cat([getattr(sweep, name) for sweep, _ in parts]) for name in ("x0", "eps"))
    x0_hat = denoise_at(denoiser, x0, eps, [s for sweep, s in parts for _ in sweep.x0])
    for (sweep, _), frame in zip(parts, x0_hat.split([len(sweep.x0) for sweep, _ in parts]), strict=True):
        sweep.frames.append(frame)


def finite(x0_hat: Tensor) -> Tensor:
    """The same.

    Raises:
        ValueError: it is not finite.
    """
    if not x0_hat.isfinite().all():
        raise ValueError("the network's output is not finite: its weights are damaged; restore the checkpoint.")
    return x0_hat


def sweep_result(
    model: Model, grid: list[float], x0: Tensor, eps: Tensor, x0_hat: Tensor, mse: np.ndarray
) -> SweepResult:
    """The record of a sweep.

    Args:
        model: that denoised.
        grid: noise levels, t of them.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        x0_hat: estimates, (t, n, ...).
        mse: mean squared error of each, (t, n).
    """
    s = torch.tensor(grid, dtype=torch.float64)
    c, lam = model.process.coefficients(s), model.denoiser.mean_lam(grid)
    return SweepResult(
        s=s.numpy(),
        lam=None if lam is None else lam.numpy(),
        alpha=c.alpha.numpy(),
        sigma=c.sigma.numpy(),
        native=tuple(model.process.describe(value) for value in grid),
        clean=channels_last(x0, model),
        noise=channels_last(eps, model),
        x0_hat=channels_last(x0_hat, model),
        mse=mse,
    )


def channels_last(values: Tensor, model: Model) -> np.ndarray:
    """Images (..., c, h, w) as (..., h, w, c); points as they are."""
    array = values.cpu().numpy()
    return np.moveaxis(array, -3, -1) if len(model.recipe.shape) == 3 else array
