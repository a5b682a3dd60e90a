"""Two methods of a sweep after the same time of training, or the same steps, from the held-out scores their runs kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpi_core.evaluation import Interval, bootstrap_interval
from dpi_core.held_out import HeldOutLog, samples_at


@dataclass(frozen=True)
class EqualTime:
    """One method against another after the same time; positive differences are in favour of the first.

    Attributes:
        measure: of the scores.
        steps: that each has taken by then, without those of the network that it started from.
        difference: mean over seeds, samples and levels, with its interval over samples.
        samples: how many.
        levels: how many noise levels.
    """

    measure: str
    steps: tuple[int, int]
    difference: Interval
    samples: int
    levels: int


def equal_time(
    ours: Sequence[list[HeldOutLog]],
    theirs: Sequence[list[HeldOutLog]],
    step_ms: tuple[float, float],
    before_ms: tuple[float, float] = (0.0, 0.0),
) -> EqualTime | None:
    """Reads the method that takes longer at the step that fits the whole training of the other one.

    Args:
        ours: scores of each seed of the first method.
        theirs: scores of the same seeds of the second.
        step_ms: time of one step of each, measured side by side; equal numbers read both after equally many steps.
        before_ms: time that the network took which each started from.

    Returns:
        None where the runs kept no scores around those steps.
    """
    if not all([*ours, *theirs]):
        return None
    lasts = [runs[0][-1].step for runs in (ours, theirs)]
    budget = min(before + last * ms for last, ms, before in zip(lasts, step_ms, before_ms, strict=True))
    steps = [min(last, (budget - before) / ms) for last, ms, before in zip(lasts, step_ms, before_ms, strict=True)]
    try:
        first, second = (
            np.mean([samples_at(logs, step) for logs in runs], axis=0)
            for runs, step in zip((ours, theirs), steps, strict=True)
        )
    except ValueError:
        return None
    log = ours[0][-1]
    sign = -1 if log.measure == "mse" else 1
    found = bootstrap_interval(sign * (first - second))
    return EqualTime(log.measure, (round(steps[0]), round(steps[1])), found, len(first), len(log.s))
