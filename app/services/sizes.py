"""How many numbers an answer has, known before it is computed: a small file of weights may be for huge samples. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.records import ComparisonRequest, PadRequest, Request, SweepRequest, TrajectoryRequest
from dpi_core.limits import Limits

VIEWS = 3
"""Of each state of a run: x_s, x̂0 and the velocity."""


def affordable(wanted: int, times: int, shape: Sequence[int]) -> int:
    """How many samples to ask for: `wanted`, or as many as an answer with each of them so many times may hold; at least 1."""
    return max(1, min(wanted, Limits.from_environment().result_numbers // (times * math.prod(shape))))


def require_affordable(request: Request, shape: Sequence[int]) -> None:
    """Refuses what would take more memory than one answer may.

    Args:
        request: what is asked for.
        shape: of one sample of its model.

    Raises:
        ValueError: says how much it would be.
    """
    numbers = _samples_in_answer(request) * math.prod(shape)
    Limits.from_environment().check("result_numbers", numbers, "the answer", "choose fewer inputs or smaller samples")


def _samples_in_answer(request: Request) -> int:
    """Over all its levels, positions or steps."""
    n = request.inputs.n
    if isinstance(request, SweepRequest):
        return n * len(request.s_grid)
    if isinstance(request, PadRequest):
        return request.count * len(request.s_grid) * len(request.lam_grid)
    if isinstance(request, ComparisonRequest):
        return (1 + len(request.others)) * (n + request.shown * len(request.s_grid))
    if isinstance(request, TrajectoryRequest):
        return VIEWS * n * (request.steps + 1)
    return n
