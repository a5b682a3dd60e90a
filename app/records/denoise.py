"""Requests and results of the Denoise page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.records.inputs import Inputs, ModelKey


@dataclass(frozen=True)
class SweepRequest:
    """x̂0 of some inputs at every s of a grid, under one noise draw.

    Attributes:
        model: that denoises.
        inputs: what it denoises.
        s_grid: noise levels.
        device: that computes.
        dtype: of the network.
    """

    model: ModelKey
    inputs: Inputs
    s_grid: tuple[float, ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class PadRequest:
    """x̂0 of the first `count` of some inputs over noise level and parameter position λ."""

    model: ModelKey
    inputs: Inputs
    count: int
    s_grid: tuple[float, ...]
    lam_grid: tuple[float, ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The answer to a `SweepRequest`; images are (n, h, w, c) in [-1, 1], points (n, 2).

    Attributes:
        s: (t,) the grid.
        lam: (t,) λ(s), the mean over groups; None for a network with one parameter set.
        alpha: (t,) factor of the sample.
        sigma: (t,) factor of the noise.
        native: the literature's time at each s, for read-outs.
        clean: (n, ...) inputs.
        noise: (n, ...) their noise.
        x0_hat: (t, n, ...) estimates; bytes where the stored results are.
        mse: (t, n) mean squared error of each.
    """

    s: np.ndarray
    lam: np.ndarray | None
    alpha: np.ndarray
    sigma: np.ndarray
    native: tuple[str, ...]
    clean: np.ndarray
    noise: np.ndarray
    x0_hat: np.ndarray
    mse: np.ndarray


@dataclass(frozen=True, eq=False)
class PadResult:
    """The answer to a `PadRequest`.

    Attributes:
        s: (p,) noise levels.
        lam: (q,) parameter positions.
        learned: (p,) the learned λ(s); the mean over groups.
        alpha: (p,) factor of the sample.
        sigma: (p,) factor of the noise.
        native: the literature's time at each s.
        x0_hat: (q, p, m, ...) estimates of the first m inputs.
        score: (q, p) PSNR in dB for images, mean squared error for points.
        judged: how many samples the score is an average of.
    """

    s: np.ndarray
    lam: np.ndarray
    learned: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    native: tuple[str, ...]
    x0_hat: np.ndarray
    score: np.ndarray
    judged: int
