"""A scalar that is no noise level: the width of a blur, in pixels, of an instrument whose width is known when it is used.

A fine texture is to be restored from a blurred line of pixels with a little noise. The scalar goes from 0.3 to 2 pixels, and
`ScalarRange` maps its logarithm to the s in [0, 1] that λ is a function of; the network is called with pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compare import Comparison, compare
from torch import Tensor, nn

import dpi_core

WIDTH = dpi_core.ScalarRange(0.3, 2.0, spacing="log")
"""Standard deviation of the blur in pixels."""
NOISE = 0.05


def blur(x: Tensor, width: float) -> Tensor:
    """Lines (n, 1, length), blurred by a Gaussian of this standard deviation in pixels."""
    kernel = torch.exp(-torch.arange(-8, 9).square() / (2 * width**2))
    padded = F.pad(x, (8, 8), mode="replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])


def main(steps: int = 600) -> Comparison:
    """Trains and prints; half a minute on two cores."""

    def draw(width: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, 1, 32, generator=generator)
        return blur(x, width) + NOISE * torch.randn(x.shape, generator=generator), x

    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 24, 9, padding=4), nn.SiLU(), nn.Conv1d(24, 24, 9, padding=4), nn.SiLU()]
    backbone = nn.Sequential(*layers, nn.Conv1d(24, 1, 9, padding=4))
    found = compare(backbone, draw, steps, scalar=WIDTH, learning_rate=1e-2)
    print(f"deblurring at a known width: {found}")
    return found


if __name__ == "__main__":
    main()
