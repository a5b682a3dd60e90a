"""What a batch with many scalars costs: convolutions with a weight for each scalar or at both ends; one pass or one for each.

`python -m benchmarks.grouped` prints the rows and writes benchmarks/results/grouped.json, or grouped_gpu.json with
`--device cuda`. Below 1 the first way is the cheaper one; beside each row stands what `dpi_core.linearity` chooses, by sizes
alone.
"""

from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Bench, bench, options
from benchmarks.networks import LARGE, MIDDLE, SMALL, dpi, inputs
from dpi_core.linearity import Operator, Pass, PerSample, Plan, grouped, twice
from dpi_core.precision import bfloat16_where_native

CASES = [
    # channels, height and width, samples, scalars
    (32, 28, 16, 16),
    (32, 28, 64, 8),
    (64, 14, 16, 16),
    (64, 14, 64, 8),
    (96, 7, 16, 16),
    (96, 7, 64, 16),
    (96, 7, 64, 8),
    (256, 4, 64, 8),
]

NETWORKS = [
    (SMALL, 64, 2),
    (SMALL, 64, 8),
    (SMALL, 16, 16),
    (MIDDLE, 16, 2),
    (MIDDLE, 16, 16),
    (LARGE, 16, 4),
    (LARGE, 16, 16),
]
"""Network, samples, scalars."""


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    measured = bench(f"Convolutions with many scalars{'' if chosen.device == 'cpu' else ' on a GPU'}", chosen)
    for case in CASES:
        for trains in (False, True):
            measure(measured, *case, trains)
    with bfloat16_where_native(torch.device(measured.device)):
        if torch.is_autocast_enabled(measured.device):
            for case in CASES[:4]:
                measure(measured, *case, trains=True)
    with torch.no_grad():
        for network in NETWORKS:
            whole(measured, *network)
    if chosen.device == "cpu":
        measured.write("grouped")
    else:
        measured.write("grouped_gpu", "grouped --device cuda")


def measure(measured: Bench, channels: int, size: int, batch: int, scalars: int, trains: bool) -> None:
    """One row."""
    device, operator = measured.device, Operator(size * size, 9 * channels**2, 9 * channels)
    rounded = ", bfloat16" if torch.is_autocast_enabled(device) else ""
    chosen = "grouped" if operator.groups(batch // scalars, device) else "twice"
    measured.compare(
        f"grouped / twice, {'training' if trains else 'inference'}{rounded}: {channels} channels, {size}×{size},"
        f" {batch} samples, {scalars} scalars",
        convolution(grouped, channels, size, batch, scalars, trains, device),
        convolution(twice, channels, size, batch, scalars, trains, device),
        beside=f"{operator.positions * batch // scalars} positions a weight, chosen: {chosen}",
    )


def convolution(
    way: Callable[..., Tensor], channels: int, size: int, batch: int, scalars: int, trains: bool, device: str
) -> Callable[[], object]:
    """A 3×3 convolution, and where it trains the derivatives of its input and both weights."""
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, channels, size, size), (channels, channels, 3, 3), (channels, channels, 3, 3)
    x, start, end = (torch.randn(shape, generator=generator).to(device).requires_grad_(trains) for shape in shapes)
    lam = torch.rand(scalars, generator=generator).to(device).repeat(batch // scalars)
    weight = PerSample(start, end, lam, Pass(batch, scalars))

    def call() -> object:
        with torch.set_grad_enabled(trains):
            out = way(F.conv2d, x, weight, None, padding=1)
            return torch.autograd.grad(out.sum(), (x, start, end)) if trains else out

    return call


def whole(measured: Bench, name: str, batch: int, scalars: int) -> None:
    """One row of a whole network."""
    net, x = dpi(name, measured.device).eval(), inputs(name, batch, measured.device)
    s = torch.linspace(0.1, 0.9, scalars, dtype=torch.float64).repeat_interleave(batch // scalars)
    pays, choices = Plan.pays, []

    def answered(one_pass: bool) -> Tensor:
        with patch.object(Plan, "pays", lambda *known: choices.append(pays(*known)) or one_pass):
            return net(x, s)

    answered(True)
    measured.compare(
        f"one pass / a pass for each scalar: {name}, {batch} samples, {scalars} scalars",
        lambda: answered(True),
        lambda: answered(False),
        beside=f"chosen: {'one pass' if choices[0] else 'a pass for each'}",
    )


if __name__ == "__main__":
    main()
