"""What a convolution costs whose samples have many scalars: a weight for each scalar in one call, or both ends for all.

`python -m benchmarks.grouped` prints the rows and writes benchmarks/results/grouped.json. Below 1 the first is
the cheaper one. `dpi_core.linearity` chooses by the number of positions that a weight meets.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Bench, bench, options
from dpi_core.linearity import Operator, Pass, PerSample, grouped, twice
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


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    measured = bench("Convolutions with many scalars", chosen)
    for case in CASES:
        for trains in (False, True):
            measure(measured, *case, trains)
    with bfloat16_where_native(torch.device(measured.device)):
        if torch.is_autocast_enabled(measured.device):
            for case in CASES[:4]:
                measure(measured, *case, trains=True)
    measured.write("grouped")


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


if __name__ == "__main__":
    main()
