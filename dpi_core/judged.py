"""What models are judged by: PSNR, and a range of noise levels. NumPy alone, so that the app's figures share it."""

from __future__ import annotations

import numpy as np

JUDGED = (0.05, 0.95)
"""The range of s that means over s are taken of: at s = 0 the error is zero whatever λ is, at s = 1 nothing is left to see."""

PEAK_TO_PEAK = 2.0
"""Images lie in [-1, 1]."""


def psnr(mse: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, for data in [-1, 1]; an exact match (below 1e-10) counts as 106 dB."""
    return 10 * np.log10(PEAK_TO_PEAK**2 / np.maximum(mse, 1e-10))
