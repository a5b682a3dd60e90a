"""Frames along s as the record that figures draw, computed with torch; part of `compute`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.records import SweepResult
from dpi_core.model import Model


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
    c, lam = model.process.coefficients(s), model.denoiser.lam(s)
    return SweepResult(
        s=s.numpy(),
        lam=None if lam is None else lam.detach().cpu().numpy(),
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
