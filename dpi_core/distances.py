"""How far two sets of samples are from being drawn from one distribution, and how alike two images are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
DATA_RANGE = 2.0
"""Images lie in [-1, 1]."""


def ssim(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Structural similarity of each pair of images, averaged over channels; 1 for equal images.

    Wang et al. 2004 with their Gaussian window of 11 pixels and σ = 1.5, where it fits into the image; in smaller
    images the window is the largest odd one that does.

    Args:
        x: images in [-1, 1], (n, c, h, w).
        y: images of the same shape.
    """
    window = min(SSIM_WINDOW, *(side - (side + 1) % 2 for side in x.shape[-2:]))
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    kernel = (weights[:, None] * weights / weights.sum() ** 2)[None, None]

    def local_mean(image: Tensor) -> Tensor:
        return F.conv2d(image.flatten(0, 1)[:, None], kernel)

    x, y = x.double(), y.double()
    mean_x, mean_y = local_mean(x), local_mean(y)
    var_x, var_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * DATA_RANGE) ** 2, (SSIM_K2 * DATA_RANGE) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.unflatten(0, x.shape[:2]).flatten(1).mean(1)


def sliced_wasserstein(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], generator: torch.Generator, n_directions: int = 256
) -> float:
    """Root mean square, over random directions, of the 2-Wasserstein distance of the projections (Bonneel et al. 2015).

    Args:
        x: samples.
        y: as many samples.
        generator: draws the directions, on the CPU; the same for sets that are to be compared.
        n_directions: how many.

    Raises:
        ValueError: the sets differ in size.
    """
    if len(x) != len(y):
        raise ValueError(
            f"there are {len(x)} and {len(y)} samples, but the quantiles of both are paired: give equal numbers."
        )
    directions = F.normalize(torch.randn(x.shape[1], n_directions, generator=generator, dtype=torch.float64), dim=0)
    quantiles = [(points.double() @ directions).sort(dim=0).values for points in (x, y)]
    return (quantiles[0] - quantiles[1]).square().mean().sqrt().item()


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """‖μx − μy‖² + tr(Σx + Σy − 2 (Σx Σy)^½) of features (Heusel et al. 2017, equation 6).

    Raises:
        ValueError: fewer samples than ten times the features, where the estimated covariances are too rough.
    """
    fewest = min(len(x), len(y))
    if fewest < 10 * x.shape[1]:
        raise ValueError(
            f"there are {fewest} samples with {x.shape[1]} features, but a Fréchet distance needs at least"
            f" {10 * x.shape[1]}; draw more."
        )
    x, y = x.double(), y.double()
    cov_x, cov_y = torch.cov(x.T).reshape(x.shape[1], -1), torch.cov(y.T).reshape(x.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum()
    mean = (x.mean(0) - y.mean(0)).square().sum()
    return (mean + cov_x.trace() + cov_y.trace() - 2 * cross).clamp(min=0).item()


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1]: samples that look like data, and data that have samples like them."""

    precision: float
    recall: float


def precision_recall(samples: Float[Tensor, "n d"], data: Float[Tensor, "m d"], neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall of features (Kynkäänniemi et al. 2019): within a neighbour's distance of the others.

    Args:
        samples: features of samples.
        data: features of as many data.
        neighbours: which nearest neighbour's distance is the radius around each point.

    Raises:
        ValueError: the sets differ in size, or are too small to have that neighbour.
    """
    if len(samples) != len(data) or len(data) <= neighbours:
        raise ValueError(
            f"there are {len(samples)} samples and {len(data)} data; give equal numbers, more than {neighbours} of each."
        )
    return PrecisionRecall(_covered(samples, data, neighbours), _covered(data, samples, neighbours))


def _covered(points: Tensor, centres: Tensor, neighbours: int) -> float:
    """Share of points within the radius of some centre; each centre's radius is the distance to its k-th neighbour."""
    radii = torch.cdist(centres, centres).kthvalue(neighbours + 1, dim=1).values
    return (torch.cdist(points, centres) <= radii).any(dim=1).double().mean().item()
