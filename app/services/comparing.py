"""Several models on the same inputs under the same noise, computed with torch; part of `compute`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from app.records import ComparisonRequest, ComparisonResult, Scores
from app.services.reporting import Report
from app.services.sweeps import sweep_result
from dpi_core.analysis.denoising import sweep
from dpi_core.evaluation import Interval, bootstrap_intervals, compare, psnr
from dpi_core.judged import JUDGED
from dpi_core.model import Model


def comparison(
    models: Iterable[Model], request: ComparisonRequest, x0: Tensor, eps: Tensor, report: Report
) -> ComparisonResult:
    """Denoises the same inputs by each model at every level, and compares them in pairs.

    Args:
        models: loaded when their turn comes.
        request: what is asked for.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        report: called after each level of each model.

    Raises:
        ValueError: a model's output is not finite.
    """
    grid, total = list(request.s_grid), (1 + len(request.others)) * len(request.s_grid)
    sweeps = []
    errors: list[np.ndarray] = []
    for model in models:
        shown, error = [], []
        for frame in sweep(model.denoiser, x0, eps, grid):
            if not frame.x0_hat.isfinite().all():
                raise ValueError(
                    f"the output of {model.recipe.name} is not finite at s = {frame.s:g}; restore the checkpoint."
                )
            shown.append(frame.x0_hat[: request.shown])
            error.append((frame.x0_hat - x0).square().flatten(1).mean(1).double().numpy())
            report(len(errors) * len(grid) + len(error), total)
        errors.append(np.stack(error))
        count = request.shown
        sweeps.append(sweep_result(model, grid, x0[:count], eps[:count], torch.stack(shown), errors[-1][:, :count]))
    return ComparisonResult(tuple(sweeps), paired_scores(np.array(grid), np.stack(errors), x0.ndim == 4))


def paired_scores(s: np.ndarray, mse: np.ndarray, are_images: bool) -> Scores:
    """Scores of k methods and all their paired differences, with intervals over samples.

    Args:
        s: noise levels, (t,); those outside `JUDGED` are left out.
        mse: mean squared errors, (k, t, n), of the same samples under the same noise.
        are_images: whether they are judged by PSNR.
    """
    low, high = JUDGED
    judged = (s >= low - 1e-9) & (s <= high + 1e-9)
    s, mse = s[judged], mse[:, judged]
    values = psnr(mse) if are_images else mse
    better = values if are_images else -values
    count = len(mse)
    difference, average = np.zeros((count, count, len(s), 3)), np.zeros((count, count, 3))
    for a, b in combinations(range(count), 2):
        found = compare(better[a][None], better[b][None])
        difference[a, b], average[a, b] = _rows(found.difference), _rows([found.average])[0]
        difference[b, a], average[b, a] = (-each[..., [0, 2, 1]] for each in (difference[a, b], average[a, b]))
    scores = np.stack([_rows(bootstrap_intervals(each)) for each in values])
    return Scores("psnr" if are_images else "mse", s, scores, difference, average)


def _rows(intervals: Iterable[Interval]) -> np.ndarray:
    return np.array([(each.mean, each.low, each.high) for each in intervals])
