"""Request and result of the Trajectories page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.records.inputs import Inputs, ModelKey


@dataclass(frozen=True)
class TrajectoryRequest:
    """One sampling run from noise.

    Attributes:
        model: the model that samples.
        inputs: of kind "samples": how many, and the seed of their noise; runs of one seed start from the same noise.
        sampler: a name of the library's samplers.
        steps: how many steps.
        grid: a name of the library's grids of s.
        lam: "learned", "linear", "frozen" or "reversed".
        frozen_at: where λ stands if it is frozen.
        device: where to compute.
    """

    model: ModelKey
    inputs: Inputs
    sampler: str
    steps: int
    grid: str
    lam: str
    frozen_at: float
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class VectorField:
    """The velocity on a lattice at every step of a run, and the density of the target behind it, for points in the plane.

    Attributes:
        extent: half the width of the square, centred at 0, that everything is drawn in.
        points: (m, 2) where the arrows stand.
        learned: (k, m, 2) dx/ds of the network; NaN where it is undefined.
        exact: (k, m, 2) the closed form's, if there is one.
        density: (h, w) of the target, the first row at the top; 1 at its highest.
    """

    extent: float
    points: np.ndarray
    learned: np.ndarray
    exact: np.ndarray | None
    density: np.ndarray


@dataclass(frozen=True, eq=False)
class TrajectoryResult:
    """The answer to a `TrajectoryRequest`: k states from noise to sample; images are (n, h, w, c), points (n, 2).

    Attributes:
        s: (k,) falling.
        lam: (k,) λ at each state, or None for a network with one parameter set.
        curve: (2, p) s and λ of the whole curve that was used, or None.
        native: the literature's time at each state, for read-outs.
        scale: (k,) states are x_s divided by this: max(1, √(α² + σ²)).
        x: (k, n, ...) states, scaled.
        x0_hat: (k, n, ...) the denoiser's estimates.
        nfe: (k,) network evaluations per sample so far.
        ms: (k,) milliseconds so far, for all samples together.
        straightness: (n,) distance from start to end over the length of the way, in (0, 1].
        turning: (n,) sum of the angles between steps, in radians.
        energy: (k,) energy distance between the points and fresh data, or None for images.
        field: for points in the plane.
        error: why the run stopped early, in one sentence, or empty.
    """

    s: np.ndarray
    lam: np.ndarray | None
    curve: np.ndarray | None
    native: tuple[str, ...]
    scale: np.ndarray
    x: np.ndarray
    x0_hat: np.ndarray
    nfe: np.ndarray
    ms: np.ndarray
    straightness: np.ndarray
    turning: np.ndarray
    energy: np.ndarray | None = None
    field: VectorField | None = None
    error: str = ""
