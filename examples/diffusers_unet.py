"""A UNet2DModel of diffusers without its timestep, as a flow-matching network of 8×8 digits.

The network is told timestep 0 whatever the noise level is; DPI tells it through its parameters instead.
"""

from __future__ import annotations

import torch
from compare import Comparison, compare
from diffusers import UNet2DModel
from torch import Tensor, nn

from dpi_core.data import digits


class ImageToImage(nn.Module):
    """The network under the call `net(x)`."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.unet = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(channels, channels),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            add_attention=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (b, 1, 8, 8) to images."""
        return self.unet(x, 0).sample


def main(steps: int = 400) -> Comparison:
    """Trains and prints; half a minute on two cores."""
    data = digits()

    def draw(s: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = data.batch(n, generator)
        eps = torch.randn(x0.shape, generator=generator)
        return (1 - s) * x0 + s * eps, eps - x0

    torch.manual_seed(0)
    found = compare(ImageToImage(), draw, steps)
    print(f"UNet2DModel of diffusers, velocity of digits: {found}")
    return found


if __name__ == "__main__":
    main()
