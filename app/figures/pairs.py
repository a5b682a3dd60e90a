"""The Parameters page's charts: of one model, or of two in one figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.figures.beside import Beside, mark_second_cursor, overlaid
from app.figures.chart import Chart
from app.figures.distances import SPECTRAL, along_chart, bars_chart
from app.figures.paths import path_chart
from app.records import Inputs, ParametersResult, StoredModel


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page shows.

    Attributes:
        model: on show.
        result: of it.
        inputs: what errors were judged on.
        device: that computes.
        beside: the second model, if one was chosen and its numbers are there.
    """

    model: StoredModel
    result: ParametersResult
    inputs: Inputs
    device: str
    beside: Beside | None = None

    def lam_at(self, s: float) -> float:
        """λ(s) of the first model."""
        return float(np.interp(s, self.result.weights.s, self.result.weights.lam))


def bars(shown: Shown, kind: str, statistic: str, by_value: bool) -> Chart:
    """One statistic of both models; spectra are of the first alone: three marks for each weight are enough in one figure."""

    def draw(model: StoredModel, result: ParametersResult, inputs: Inputs) -> Chart:
        return bars_chart(model, result.weights, kind, statistic, by_value)

    return _with_second(shown, draw, shown.beside is not None and statistic not in SPECTRAL)


def along(shown: Shown, quantity: str, cursor: float) -> Chart:
    """A quantity along the path; of the second model all parameters as one, and its λ at the cursor."""

    def draw(model: StoredModel, result: ParametersResult, inputs: Inputs) -> Chart:
        lam = float(np.interp(cursor, result.weights.s, result.weights.lam))
        return along_chart(model, result.weights, quantity, lam)

    chart = _with_second(shown, draw, shown.beside is not None, lambda trace: trace.name == "total")
    if shown.beside is not None:
        mark_second_cursor(chart, float(shown.beside.lam_at(cursor)))
    return chart


def _with_second(
    shown: Shown,
    draw: Callable[[StoredModel, ParametersResult, Inputs], Chart],
    is_wanted: bool,
    is_kept: Callable[[Any], bool] = lambda trace: True,
) -> Chart:
    """A chart of the first model, with the second one's lines in it where they compare."""
    chart = draw(shown.model, shown.result, shown.inputs)
    if shown.beside is None or not is_wanted:
        return chart
    return overlaid(shown.model, chart, shown.beside, draw, is_kept)


def judged(shown: Shown, make: Callable[..., Chart], *more: Any) -> Chart:
    """A chart of errors, with the second model's where they are of the same samples."""

    def draw(model: StoredModel, result: ParametersResult, inputs: Inputs) -> Chart:
        return make(model, result, inputs, shown.device, *more)

    return _with_second(shown, draw, shown.beside is not None and shown.beside.same_samples)


def path(shown: Shown, cursor: float) -> Chart:
    """Both distances along s; of the second model the parameters', and x̂0's where the samples are the same."""

    def draw(model: StoredModel, result: ParametersResult, inputs: Inputs) -> Chart:
        return path_chart(model, result, inputs, shown.device, cursor)

    def is_kept(trace: Any) -> bool:
        assert shown.beside is not None
        return trace.line.dash is None and (shown.beside.same_samples or trace.name.startswith("parameters"))

    return _with_second(shown, draw, shown.beside is not None, is_kept)
