"""Which pixels of x_s one pixel of x̂0 depends on, as s moves: Captum's integrated gradients and occlusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.denoiser import Denoiser
from dpi_core.sample_batches import evaluating

PIXEL_FLOOR = 0.01
"""Completeness residuals are relative to the change of x̂0 at the pixel, or to this where it is smaller."""


@dataclass(frozen=True)
class ReceptiveField:
    """What one pixel of x̂0, summed over its channels, depends on at one noise level.

    Attributes:
        s: the noise level.
        x_s: (c, h, w).
        x0_hat: (c, h, w).
        gradients: (c, h, w) integrated gradients from x_s = 0 to x_s.
        occlusion: (h, w) change of the pixel when a patch about that place is replaced by 0, mean over the patches.
        radius: root mean square distance from the pixel, weighted by |gradients|, in pixels; NaN where all are zero.
        residual: |Σ gradients − change of the pixel| / max(|change|, `PIXEL_FLOOR`).
    """

    s: float
    x_s: Tensor
    x0_hat: Tensor
    gradients: Tensor
    occlusion: Tensor
    radius: float
    residual: float


def receptive_fields(
    denoiser: Denoiser,
    x0: Float[Tensor, "c h w"],
    eps: Float[Tensor, "c h w"],
    s_grid: Sequence[float],
    pixel: tuple[int, int],
    patch: int = 3,
    stride: int = 1,
    steps: int = 32,
    batch_size: int = 32,
) -> Iterator[ReceptiveField]:
    """One result per noise level, for denoisers of images, of any conditioning.

    Args:
        denoiser: runs where it lives.
        x0: a clean image.
        eps: its noise.
        s_grid: noise levels in [0, 1].
        pixel: (row, column) from the top left.
        patch: side of the occluding square, in pixels.
        stride: steps of the square, in pixels; at most `patch`.
        steps: nodes of the Gauss-Legendre rule.
        batch_size: images per network call.

    Raises:
        ValueError: no image, a pixel outside it, or a patch that does not fit.
    """
    _check(x0, pixel, patch, stride)
    x0, eps = x0[None].to(denoiser.device), eps[None].to(denoiser.device)
    for s in s_grid:
        x_s = denoiser.process.add_noise(x0, eps, s)
        with torch.no_grad(), evaluating(denoiser):
            x0_hat, baseline = denoiser(torch.cat([x_s, torch.zeros_like(x_s)]), s).cpu()
        with evaluating(denoiser):
            gradients, occlusion = _attributed(denoiser, x_s, s, pixel, patch, stride, steps, batch_size)
        row, column = pixel
        change = float((x0_hat - baseline)[:, row, column].sum())
        residual = abs(float(gradients.sum()) - change) / max(abs(change), PIXEL_FLOOR)
        yield ReceptiveField(s, x_s[0].cpu(), x0_hat, gradients, occlusion, _radius(gradients, pixel), residual)


def _attributed(
    denoiser: Denoiser,
    x_s: Tensor,
    s: float,
    pixel: tuple[int, int],
    patch: int,
    stride: int,
    steps: int,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    from captum.attr import IntegratedGradients, Occlusion  # takes a second, and a page has to open before

    def at_pixel(images: Tensor) -> Tensor:
        return denoiser(images, s)[:, :, pixel[0], pixel[1]].sum(1)

    channels = x_s.shape[1]
    gradients = IntegratedGradients(at_pixel).attribute(x_s, n_steps=steps, internal_batch_size=batch_size)
    with torch.no_grad():
        covered = Occlusion(at_pixel).attribute(
            x_s, (channels, patch, patch), (channels, stride, stride), perturbations_per_eval=batch_size
        )
    return gradients[0].detach().cpu(), covered[0, 0].cpu()


def _radius(gradients: Tensor, pixel: tuple[int, int]) -> float:
    weights = gradients.abs().sum(0).double().numpy()
    rows, columns = np.indices(weights.shape)
    squares = (rows - pixel[0]) ** 2 + (columns - pixel[1]) ** 2
    return float(np.sqrt((weights * squares).sum() / weights.sum())) if weights.sum() > 0 else float("nan")


def _check(x0: Tensor, pixel: tuple[int, int], patch: int, stride: int) -> None:
    height, width = x0.shape[1:]
    if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise ValueError(
            f"the pixel {pixel} is not in an image of {height} × {width}; choose a row and a column in it."
        )
    if not 1 <= patch <= min(height, width):
        raise ValueError(f"a patch of {patch} pixels does not fit into {height} × {width}; choose a smaller one.")
    if not 1 <= stride <= patch:
        raise ValueError(f"steps of {stride} pixels leave gaps between patches of {patch}; choose at most {patch}.")
