"""A UNet of MONAI on volumes: denoising blobs in 8×8×8 voxels under noise of any strength up to 2."""

from __future__ import annotations

import torch
from compare import Comparison, compare
from monai.networks.nets import UNet
from torch import Tensor

import dpi_core

SIDE = 8
NOISE = dpi_core.ScalarRange(0.05, 2.0, spacing="log")
"""Standard deviation of the noise; the blobs are 1 at their centres."""


def blobs(n: int, generator: torch.Generator) -> Tensor:
    """One Gaussian blob in each volume, anywhere and of any size, (n, 1, 8, 8, 8)."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    centre = 2 * torch.randn(n, 3, 1, 1, 1, generator=generator)
    width = 1 + 2 * torch.rand(n, 1, 1, 1, generator=generator)
    return torch.exp(-(grid - centre).square().sum(1) / (2 * width**2))[:, None]


def main(steps: int = 400) -> Comparison:
    """Trains and prints; half a minute on two cores."""

    def draw(sigma: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = blobs(n, generator)
        return x0 + sigma * torch.randn(x0.shape, generator=generator), x0

    torch.manual_seed(0)
    backbone = UNet(spatial_dims=3, in_channels=1, out_channels=1, channels=(8, 16), strides=(2,), norm=None)
    found = compare(backbone, draw, steps, scalar=NOISE)
    print(f"UNet of MONAI, blobs in three dimensions: {found}")
    return found


if __name__ == "__main__":
    main()
