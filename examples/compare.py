"""What the examples share: one backbone twice, blind to the scalar and as a DPI network, trained on the same batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import dpi_core

Draw = Callable[[float, int, torch.Generator], tuple[Tensor, Tensor]]
"""(scalar, number of samples, generator) -> what the network is given, and what it should answer."""


@dataclass(frozen=True)
class Comparison:
    """Mean squared errors on samples that were not trained on, averaged over the scalar's range."""

    blind: float
    dpi: float

    def __str__(self) -> str:
        """One line."""
        return f"held-out error: blind {self.blind:.4f}, DPI {self.dpi:.4f}, {100 * (1 - self.dpi / self.blind):.0f} % less"


def compare(
    backbone: nn.Module, draw: Draw, steps: int, scalar: dpi_core.ScalarRange | None = None, learning_rate: float = 3e-3
) -> Comparison:
    """Trains a copy of the backbone as it is, and another as a DPI network; both see the same batches.

    Args:
        backbone: takes no scalar.
        draw: makes batches at one scalar.
        steps: of training, one scalar for each.
        scalar: the scalar's range in its own unit; in [0, 1] without it.
        learning_rate: of AdamW.
    """
    unit = scalar if scalar is not None else dpi_core.ScalarRange(0.0, 1.0)
    net = dpi_core.DPI(copy.deepcopy(backbone), scalar=scalar)
    errors = []
    for model, answer in ((backbone, lambda x, s: backbone(x)), (net, net)):
        train(model, answer, draw, unit, steps, learning_rate)
        errors.append(held_out_error(model, answer, draw, unit))
    return Comparison(*errors)


def train(
    model: nn.Module,
    answer: Callable[[Tensor, float], Tensor],
    draw: Draw,
    unit: dpi_core.ScalarRange,
    steps: int,
    rate: float,
) -> None:
    """The paper's recipe: one scalar per batch, AdamW."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(steps):
        s = unit.from_unit(torch.rand((), generator=generator).item()).item()
        x, target = draw(s, 32, generator)
        loss = (answer(x, s) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()


@torch.no_grad()
def held_out_error(
    model: nn.Module, answer: Callable[[Tensor, float], Tensor], draw: Draw, unit: dpi_core.ScalarRange
) -> float:
    """The mean over nine scalars, each on the same batch for every model."""
    model.eval()
    generator = torch.Generator().manual_seed(1)
    errors = []
    for s in unit.from_unit(torch.linspace(0, 1, 9, dtype=torch.float64)).tolist():
        x, target = draw(s, 64, generator)
        errors.append((answer(x, s) - target).square().mean().item())
    return sum(errors) / len(errors)
