"""Request and result of the Parameters page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.records.inputs import Inputs, ModelKey


@dataclass(frozen=True)
class ParametersRequest:
    """What the Parameters page shows, judged on some inputs.

    Attributes:
        model: on show.
        inputs: what is judged on.
        device: that computes.
        dtype: of the network.
    """

    model: ModelKey
    inputs: Inputs
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class CurvesRequest:
    """What drawn curves λ(s) gain over the learned ones, measured: with several groups nothing can be looked up.

    Attributes:
        model: on show.
        inputs: what is judged on.
        curves: for each group, λ at equally spaced s.
        device: where to compute.
    """

    model: ModelKey
    inputs: Inputs
    curves: tuple[tuple[float, ...], ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class CurvesResult:
    """The answer to a `CurvesRequest`.

    Attributes:
        gain: (p,) dB at each noise level; below zero the drawn curves are worse.
        total: mean over s with its 95 % interval.
    """

    gain: np.ndarray
    total: list[float]


@dataclass(frozen=True, eq=False)
class WeightsResult:
    """θ0 against θ1. Rows of the table are parameters, the layers and stages they form, and the total, which is first.

    Attributes:
        kinds: "total", "stage", "layer" or "parameter" of each of m rows.
        names: of each row.
        stages: the stage it belongs to.
        numel: (m,) real numbers in one set.
        norm0: (m,) ‖θ0‖.
        norm1: (m,) ‖θ1‖.
        distance: (m,) ‖θ1 − θ0‖.
        relative: (m,) distance / norm0.
        angle: (m,) between θ0 and θ1, in degrees.
        dip: (m,) share by which the norm at λ = 1/2 falls short of the mean of both ends.
        norm_lam: (q,) positions on the path.
        norm_path: (m, q) norms there.
        angle_path: (m, q) angles to θ0 there, in degrees.
        s: (t,) scalars.
        lam: (t,) λ(s); the mean over groups.
        moved: (t,) ‖θ(s) − θ0‖, measured.
        norm: (t,) ‖θ(s)‖, measured.
        residual: of the measured distance against its closed form, relative to ‖θ1 − θ0‖.
        groups: how many curves λ there are.
        spent: the shortest interval of s that holds 90 % of λ's rise, for each curve.
        saturated: whether one of these is too short.
        spectrum_names: of w weights.
        spectrum_lam: (r,) positions on the path.
        spectral_norm: (w, r) largest singular value.
        stable_rank: (w, r) ‖W‖_F² / σ_max².
        singular_values: (sum of sizes, r) of one weight after another, each in descending order.
        spectrum_sizes: how many each of them has.
        histogram_names: of h layers, the total first.
        histogram_edges: (h, b + 1) for the entries of θ1 − θ0.
        histogram_counts: (h, b).
    """

    kinds: list[str]
    names: list[str]
    stages: list[str]
    numel: np.ndarray
    norm0: np.ndarray
    norm1: np.ndarray
    distance: np.ndarray
    relative: np.ndarray
    angle: np.ndarray
    dip: np.ndarray
    norm_lam: np.ndarray
    norm_path: np.ndarray
    angle_path: np.ndarray
    s: np.ndarray
    lam: np.ndarray
    moved: np.ndarray
    norm: np.ndarray
    residual: float
    groups: int
    spent: list[list[float]]
    saturated: bool
    spectrum_names: list[str]
    spectrum_lam: np.ndarray
    spectral_norm: np.ndarray
    stable_rank: np.ndarray
    singular_values: np.ndarray
    spectrum_sizes: list[int]
    histogram_names: list[str]
    histogram_edges: np.ndarray
    histogram_counts: np.ndarray


@dataclass(frozen=True, eq=False)
class LandscapeResult:
    """Quality of x̂0 in dB over noise level and λ, and what the learned curve loses in it.

    Attributes:
        s: (p,) noise levels.
        lam: (q,) positions of the parameters.
        quality: (q, p) PSNR in dB.
        learned: (p,) λ(s); the mean over groups.
        learned_quality: (p,) of the network itself.
        valley: (p,) λ*(s), NaN where every λ is equally good.
        valley_quality: (p,).
        residual: of the looked-up learned curve against the computed one, in dB.
        samples: how many were judged.
        regret: (p,) dB that the learned curve loses against λ*, chosen on other samples.
        regret_low: (p,) lower end of the 95 % interval.
        regret_high: (p,) upper end.
        regret_total: mean over s with its interval.
        measure: "psnr" averages the PSNR of samples, "mse" their squared errors.
        parts: (b, q, p) quality of each of b parts of the samples, in dB; for intervals of drawn curves.
        curves: (g, p) λ(s) of each group.
        group_names: of the groups.
    """

    s: np.ndarray
    lam: np.ndarray
    quality: np.ndarray
    learned: np.ndarray
    learned_quality: np.ndarray
    valley: np.ndarray
    valley_quality: np.ndarray
    residual: float
    samples: int
    regret: np.ndarray
    regret_low: np.ndarray
    regret_high: np.ndarray
    regret_total: list[float]
    measure: str
    parts: np.ndarray
    curves: np.ndarray
    group_names: list[str]


@dataclass(frozen=True, eq=False)
class PathsResult:
    """The path from θ0 to θ1 seen in x̂0.

    Attributes:
        levels: (v,) noise levels of the fixed inputs.
        s: (t,) where the parameters stand.
        distance: (v, t) root mean square of x̂0(θ(s)) − x̂0(θ0).
        arc: (v, t) the same summed step by step.
        blend_lam: (q,) positions on the path.
        gap: (v, q) root mean square of f(θ_λ) − [(1 − λ)f(θ0) + λf(θ1)].
        apart: (v,) root mean square of f(θ1) − f(θ0).
        blend_s: (p,) noise levels.
        blend_loss: (p,) dB that blended outputs lose against blended weights at λ(s).
        blend_low: (p,) lower end of the 95 % interval.
        blend_high: (p,) upper end.
        blend_total: mean over s with its interval.
        counts: (k,) how many blends are kept.
        kept_loss: (k, 3) dB lost with them: mean over s, low, high.
        kept_moved: (k,) root mean square change of x̂0.
        picture_levels: (u,) noise levels of the pictures.
        picture_lam: (r,) positions of the parameters.
        pictures: (u, r, m, ...) x̂0 of m inputs, images channels last, not clipped.
    """

    levels: np.ndarray
    s: np.ndarray
    distance: np.ndarray
    arc: np.ndarray
    blend_lam: np.ndarray
    gap: np.ndarray
    apart: np.ndarray
    blend_s: np.ndarray
    blend_loss: np.ndarray
    blend_low: np.ndarray
    blend_high: np.ndarray
    blend_total: list[float]
    counts: np.ndarray
    kept_loss: np.ndarray
    kept_moved: np.ndarray
    picture_levels: np.ndarray
    picture_lam: np.ndarray
    pictures: np.ndarray


@dataclass(frozen=True, eq=False)
class ParametersResult:
    """The answer to a `ParametersRequest`."""

    weights: WeightsResult
    landscape: LandscapeResult
    paths: PathsResult
