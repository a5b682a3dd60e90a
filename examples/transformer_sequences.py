"""A transformer on sequences: the velocity of a flow from noise to sine waves of 16 samples."""

from __future__ import annotations

import torch
from compare import Comparison, compare
from torch import Tensor, nn

LENGTH = 16


class SequenceToSequence(nn.Module):
    """A small encoder with learned positions, from (b, length, 1) to the same."""

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.inward = nn.Linear(1, width)
        self.positions = nn.Parameter(0.1 * torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.outward = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences to sequences."""
        return self.outward(self.encoder(self.inward(x) + self.positions))


def waves(n: int, generator: torch.Generator) -> Tensor:
    """Sine waves of random frequency and phase, (n, length, 1)."""
    frequency = 0.2 + torch.rand(n, 1, 1, generator=generator)
    phase = 6.3 * torch.rand(n, 1, 1, generator=generator)
    return torch.sin(frequency * torch.arange(LENGTH)[:, None] + phase)


def main(steps: int = 400) -> Comparison:
    """Trains and prints; half a minute on two cores."""

    def draw(s: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = waves(n, generator)
        eps = torch.randn(x0.shape, generator=generator)
        return (1 - s) * x0 + s * eps, eps - x0

    torch.manual_seed(0)
    found = compare(SequenceToSequence(), draw, steps)
    print(f"transformer on sequences, velocity of waves: {found}")
    return found


if __name__ == "__main__":
    main()
