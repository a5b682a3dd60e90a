"""Axis names, the scalar's type, and the one check every scalar passes.

Axes in shape strings: `b` samples, `c` channels, `h` `w` pixels, `g` groups of layers, `k` knots, `p` parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

Scalar = float | Tensor
"""s in [0, 1]: a float, a 0-d tensor, or one value per sample of shape (b,)."""


def as_scalar(s: Scalar, batch: int | None = None, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Returns the scalar as a tensor of shape () or (b,), checked.

    A tensor on an accelerator is not read back to be checked for its range; its shape is.

    Args:
        s: the scalar; floats and integers become float64 tensors on the CPU.
        batch: the number of samples a vector has to have; None accepts any.
        low: the smallest value allowed.
        high: the largest value allowed.

    Raises:
        ValueError: NaN, a value outside [low, high], or a shape that is neither () nor (b,).
    """
    value = s if isinstance(s, Tensor) else torch.tensor(float(s), dtype=torch.float64)
    if not isinstance(s, Tensor) and low <= s <= high:  # without an operation on tensors: every call comes by here
        return value
    if value.ndim > 1 or (value.ndim == 1 and batch is not None and len(value) != batch):
        expected = "() or (b,)" if batch is None else f"() or ({batch},), one value per sample"
        raise ValueError(
            f"s has shape {tuple(value.shape)}, but has to have shape {expected}; pass one scalar or one each."
        )
    if not value.dtype.is_floating_point:
        value = value.to(torch.float64)
    if value.device.type == "cpu" and value.numel() and not bool(((value >= low) & (value <= high)).all()):
        bad = value.flatten()[~((value >= low) & (value <= high)).flatten()][0].item()
        raise ValueError(
            f"s = {bad:g} is not in [{low:g}, {high:g}]; rescale it, or give DPI a ScalarRange if s has a physical unit."
        )
    return value


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Reshapes () or (b,) so that it broadcasts over the trailing axes of `like`, in its dtype and on its device."""
    value = value.to(device=like.device, dtype=like.dtype)
    return value if value.ndim == 0 else value.reshape(-1, *([1] * (like.ndim - 1)))
