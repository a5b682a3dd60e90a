"""Which waiting requests are computed in the same passes of a network as the one whose turn it is. No torch.

A pass costs what calling costs, whatever the batch, and what its samples cost. Sweeps of few samples, which sessions ask
of the same model for different inputs or levels, therefore take less time together than one after another. Those of many
samples do not, and the first would only wait for the last: `benchmarks.joining` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from app.records import Request, SweepRequest

SMALL = {"cpu": 2**11, "cuda": 2**14}
"""Numbers in the samples of one request up to which most of its pass is calling, by kind of device."""

TOGETHER = {"cpu": 2**13, "cuda": 2**18}
"""Numbers in one pass of all that is joined, by kind of device: so much the first has to wait for."""


def joined(first: Request, waiting: Sequence[Request], shape: Sequence[int]) -> list[Request]:
    """Those of `waiting` that are computed with `first`, in their order.

    Args:
        first: whose turn it is.
        waiting: others for the same device.
        shape: of one sample of its model.
    """
    if not _can_be_joined(first):
        return []
    together = [first]
    for other in waiting:
        if _can_be_joined(other) and (other.model, other.dtype) == (first.model, first.dtype):
            if _pays([*together, other], math.prod(shape)):
                together.append(other)
    return [*together[1:]]


def _can_be_joined(request: Request) -> TypeGuard[SweepRequest]:
    """Whether it is a sweep of inputs that are there without a network."""
    return isinstance(request, SweepRequest) and request.inputs.kind != "samples"


def _pays(sweeps: Sequence[SweepRequest], numbers: int) -> bool:
    """Whether passes for all cost less than passes for each.

    With a level of its own for each, a network with two sets takes up to twice as long.
    """
    times = min(len({sweep.s_grid for sweep in sweeps}), 2)
    sizes = [sweep.inputs.n * numbers * times for sweep in sweeps]
    kind = sweeps[0].device.split(":")[0]
    return max(sizes) <= SMALL.get(kind, SMALL["cpu"]) and sum(sizes) <= TOGETHER.get(kind, TOGETHER["cpu"])
