"""A ConvNeXt of transformers as a denoiser of 8×8 digits: patches of one pixel in, features back to one channel out."""

from __future__ import annotations

import torch
from compare import Comparison, compare
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel

from dpi_core.data import digits


class ImageToImage(nn.Module):
    """The network under the call `net(x)`."""

    def __init__(self, channels: int = 24, depth: int = 2) -> None:
        super().__init__()
        config = ConvNextConfig(
            num_channels=1,
            patch_size=1,
            num_stages=1,
            hidden_sizes=[channels],
            depths=[depth],
            layer_scale_init_value=0.5,
        )
        self.features = ConvNextModel(config)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (b, 1, h, w) to images."""
        return self.head(self.features(x).last_hidden_state)


def main(steps: int = 400) -> Comparison:
    """Trains and prints; half a minute on two cores."""
    data = digits()

    def draw(s: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = data.batch(n, generator)
        eps = torch.randn(x0.shape, generator=generator)
        return (1 - s) * x0 + s * eps, eps - x0

    torch.manual_seed(0)
    found = compare(ImageToImage(), draw, steps)
    print(f"ConvNeXt of transformers, velocity of digits: {found}")
    return found


if __name__ == "__main__":
    main()
