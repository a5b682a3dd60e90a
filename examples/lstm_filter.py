"""An LSTM as a filter: it follows a random walk that is seen through noise, one step after another.

The best filter trusts a new observation the less, the stronger the noise is, and at the first steps nothing in the
sequence says how strong that is.
"""

from __future__ import annotations

import torch
from compare import Comparison, compare
from torch import Tensor, nn

import dpi_core

NOISE = dpi_core.ScalarRange(0.1, 4.0, spacing="log")
"""Standard deviation of the noise, in steps of the walk."""


class Filter(nn.Module):
    """Observations (b, length, 1) to estimates; causal."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.memory = nn.LSTM(1, width, batch_first=True)
        self.outward = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences to sequences."""
        return self.outward(self.memory(x)[0])


def main(steps: int = 600) -> Comparison:
    """Trains and prints; half a minute on two cores."""

    def draw(sigma: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        walk = torch.randn(n, 12, 1, generator=generator).cumsum(1)
        return walk + sigma * torch.randn(walk.shape, generator=generator), walk

    torch.manual_seed(0)
    found = compare(Filter(), draw, steps, scalar=NOISE, learning_rate=1e-2)
    print(f"LSTM, filtering a random walk: {found}")
    return found


if __name__ == "__main__":
    main()
