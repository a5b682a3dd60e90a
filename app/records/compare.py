"""Request and results of the Compare page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.records.denoise import SweepResult
from app.records.inputs import Inputs, ModelKey

Measure = Literal["psnr", "ssim", "mse"]


@dataclass(frozen=True)
class ComparisonRequest:
    """Several models on the same inputs under the same noise.

    Attributes:
        model: the first of them.
        others: the rest, in their order.
        inputs: what is denoised.
        shown: frames are kept of so many of them.
        s_grid: noise levels, rising in [0, 1].
        device: where to compute.
    """

    model: ModelKey
    others: tuple[ModelKey, ...]
    inputs: Inputs
    shown: int
    s_grid: tuple[float, ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of k methods at l noise levels; an interval is (mean, low, high), NaN where it is not known.

    Attributes:
        measure: what they are.
        s: (l,) the levels.
        score: (k, l, 3) of each method.
        difference: (k, k, l, 3) paired, [a, b] in favour of a where positive.
        average: (k, k, 3) the same over all levels.
    """

    measure: Measure
    s: np.ndarray
    score: np.ndarray
    difference: np.ndarray
    average: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the figures of a comparison are drawn of.

    Attributes:
        names: of the methods.
        scores: of them.
        samples: what the intervals are over, in words.
        seeds: of each method the average score of each trained seed; empty where the models at hand were compared.
        lines: Python that reproduces `scores`.
    """

    names: tuple[str, ...]
    scores: Scores
    samples: str
    seeds: tuple[tuple[float, ...], ...]
    lines: str


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """The answer to a `ComparisonRequest`.

    Attributes:
        sweeps: frames of the inputs shown, of each model.
        scores: over all inputs; images by PSNR, points by the mean squared error.
    """

    sweeps: tuple[SweepResult, ...]
    scores: Scores
