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
        inputs: of kind "samples": how many, and the seed of their noise; runs of one seed start from the same noise. Of
            another kind: these clean samples, carried to noise by the run's own solver, and from there back.
        sampler: a name of the library's samplers.
        steps: how many steps; of no account to a sampler that chooses its own.
        grid: a name of the library's grids of s.
        lam: "learned", "linear", "frozen", "reversed" or "table".
        frozen_at: where λ stands if it is frozen.
        device: where to compute.
        table: λ at equally spaced s from 0 to 1, for "table".
        between: start on the great circle between the noise of these two samples, or None.
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
    table: tuple[float, ...] = ()
    between: tuple[int, int] | None = None


@dataclass(frozen=True)
class QualityRequest:
    """How good the samples get with more network evaluations: several samplers, each with several numbers of steps.

    Attributes:
        model: the model that samples.
        inputs: of kind "samples": how many are judged, and the seed of their noise.
        runs: (a name of the library's samplers, how many steps); 0 steps for a sampler that chooses its own.
        device: where to compute.
    """

    model: ModelKey
    inputs: Inputs
    runs: tuple[tuple[str, int], ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class PlaneRequest:
    """The plane in which a model's samples spread most.

    Attributes:
        model: the model that samples.
        inputs: of kind "samples": how many, and the seed of their noise.
        sampler: a name of the library's samplers.
        steps: how many steps.
        device: where to compute.
    """

    model: ModelKey
    inputs: Inputs
    sampler: str
    steps: int
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """The answer to a `PlaneRequest`: a sample x, flattened with its channels first, lies at axes @ (x − mean).

    Attributes:
        mean: (d,) of the samples.
        axes: (2, d) of length 1, that of the largest variance first.
        shares: (2,) of the samples' variance along each axis, in [0, 1].
        samples: (m, 2) where they lie.
    """

    mean: np.ndarray
    axes: np.ndarray
    shares: np.ndarray
    samples: np.ndarray


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
        ms: (k,) milliseconds so far, for all samples together; with those of the way out to the noise, if there was one.
        straightness: (n,) distance from start to end over the length of the way, in (0, 1].
        turning: (n,) sum of the angles between steps, in radians.
        energy: (k,) energy distance between the points and fresh data, or None for images.
        field: for points in the plane.
        origin: (n, ...) the clean samples that the run's noise was made of, or None.
        error: why the run stopped early, in one sentence, or empty.
        ended: whether no more states are to come.
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
    origin: np.ndarray | None = None
    error: str = ""
    ended: bool = True


@dataclass(frozen=True, eq=False)
class QualityResult:
    """The answer to a `QualityRequest`, or its first p points.

    Attributes:
        samplers: p names.
        steps: p numbers of steps; 0 for a sampler that chose its own.
        nfe: (p,) network evaluations per sample.
        error: (p,) root mean square distance per entry from a fine run's ends; NaN for samplers that draw noise.
        energy: (p,) energy distance to fresh data, for points in the plane, or None.
        floor: what 5 % and 95 % of equally many fresh data reach in place of the samples, or None.
    """

    samplers: tuple[str, ...]
    steps: tuple[int, ...]
    nfe: np.ndarray
    error: np.ndarray
    energy: np.ndarray | None
    floor: tuple[float, float] | None
