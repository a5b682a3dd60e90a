"""A training run as its files tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """One folder below the runs; all arrays may be empty while it begins.

    Attributes:
        name: of the folder, below the root.
        recipe: its recipe.json.
        written: when its log was last written, seconds since 1970; 0 without a log.
        step: (k,) steps done at each log.
        loss: (k,) mean since the log before.
        seconds: spent so far.
        lam: (k, p, g) λ at p even s in [0, 1] of g groups; None for a network with one parameter set.
        saturation: (k,) the least width of s in which λ makes 90 % of its rise; None likewise.
        scored_step: (m,) steps done at each held-out score.
        scored_s: (l,) its noise levels.
        score: (m, l) mean over a few held-out samples.
        measure: "psnr" or "mse".
    """

    name: str
    recipe: dict[str, Any]
    written: float
    step: np.ndarray
    loss: np.ndarray
    seconds: float
    lam: np.ndarray | None
    saturation: np.ndarray | None
    scored_step: np.ndarray
    scored_s: np.ndarray
    score: np.ndarray
    measure: str

    @property
    def steps(self) -> int:
        """How many it will take."""
        return int(self.recipe["training"]["steps"])

    @property
    def done(self) -> int:
        """How many it has taken."""
        return int(self.step[-1]) if len(self.step) else 0
