"""Two-dimensional toy distributions: centred, with variance 1 per coordinate on average."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Distribution(Protocol):
    """A distribution that can be drawn from for ever."""

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """Draws n independent points, float64."""


@dataclass(frozen=True)
class Moons:
    """Two interleaved half circles.

    Attributes:
        noise: standard deviation around the curves, before scaling; the half circles have radius 1.
    """

    noise: float = 0.05

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """Draws n independent points, float64."""
        angle = math.pi * _uniform(n, generator)
        lower = _uniform(n, generator) < 0.5
        x = torch.where(lower, 1 - angle.cos(), angle.cos()) - 0.5
        y = torch.where(lower, 0.5 - angle.sin(), angle.sin()) - 0.25
        # Squared distance of the noiseless curves from their centre, averaged over the angle.
        mean_square = 1 + 5 / 16 - 1 / math.pi
        return _to_unit_variance(torch.stack([x, y], dim=1), self.noise, mean_square, generator)


@dataclass(frozen=True)
class Spirals:
    """Two arms of an Archimedean spiral, even in arc length far from the centre.

    Attributes:
        turns: how often an arm goes round.
        noise: standard deviation around the arms, before scaling; the outer radius is 1.
    """

    turns: float = 1.5
    noise: float = 0.02

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """Draws n independent points, float64."""
        radius = _uniform(n, generator).sqrt()
        side = torch.where(_uniform(n, generator) < 0.5, 1.0, -1.0)
        angle = 2 * math.pi * self.turns * radius
        curve = (side * radius)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
        return _to_unit_variance(curve, self.noise, 1 / 2, generator)


@dataclass(frozen=True)
class Checkerboard:
    """The dark squares of a board, uniformly filled.

    Attributes:
        squares: squares per side, even.
    """

    squares: int = 4

    def __post_init__(self) -> None:
        if self.squares < 2 or self.squares % 2:
            raise ValueError(f"Checkerboard.squares is {self.squares}; it must be even and at least 2, for example 4.")

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """Draws n independent points, float64."""
        column = torch.randint(self.squares, (n,), generator=generator)
        row = 2 * torch.randint(self.squares // 2, (n,), generator=generator) + column % 2
        corner = torch.stack([column, row], dim=1)
        inside = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        # Each coordinate is uniform on an interval of length sqrt(12), whose variance is 1.
        return math.sqrt(12) * ((corner + inside) / self.squares - 0.5)


def _uniform(n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _to_unit_variance(
    curve: Float[Tensor, "n 2"], noise: float, mean_square: float, generator: torch.Generator
) -> Float[Tensor, "n 2"]:
    """Adds noise to a centred curve and scales both coordinates alike to variance 1 on average."""
    noisy = curve + noise * torch.randn(curve.shape, generator=generator, dtype=torch.float64)
    return noisy / math.sqrt(mean_square / 2 + noise**2)
