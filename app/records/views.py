"""Request and result of the lesson on x̂0, ε, score and velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.records.inputs import Inputs, ModelKey


@dataclass(frozen=True)
class ViewsRequest:
    """x̂0, ε, score and velocity of some inputs at some noise levels, under one noise draw."""

    model: ModelKey
    inputs: Inputs
    s_grid: tuple[float, ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class ViewsResult:
    """The answer to a `ViewsRequest`: v noise levels, n inputs; images are (h, w, c).

    Attributes:
        s: (v,) the levels, inside (0, 1).
        native: the literature's time at each.
        alpha: (v,) factor of the sample.
        sigma: (v,) factor of the noise.
        d_alpha: (v,) derivative of `alpha` by s.
        d_sigma: (v,) derivative of `sigma` by s.
        clean: (n, ...) inputs.
        noise: (n, ...) their noise.
        x_s: (v, n, ...) noised inputs.
        x0: (v, n, ...) the estimate x̂0.
        eps: (v, n, ...) the noise, computed from the network's own output.
        score: (v, n, ...) likewise.
        velocity: (v, n, ...) likewise.
        exact_score: (v, n, ...) that of the data's closed form, if there is one.
    """

    s: np.ndarray
    native: tuple[str, ...]
    alpha: np.ndarray
    sigma: np.ndarray
    d_alpha: np.ndarray
    d_sigma: np.ndarray
    clean: np.ndarray
    noise: np.ndarray
    x_s: np.ndarray
    x0: np.ndarray
    eps: np.ndarray
    score: np.ndarray
    velocity: np.ndarray
    exact_score: np.ndarray | None = None
