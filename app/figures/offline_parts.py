"""What several pages as files have in common: charts, the lines behind them, frames thinned until they fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.components.standalone import code, figure, side_by_side
from app.figures.chart import Chart
from app.records import SweepResult, TrajectoryResult

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_FRAME_BYTES = 5 * 2**20
"""Frames of a page: as text in the file, beside two megabytes of Plotly, they stay below the bound of a page."""


def ending(about: Mapping[str, object], lines: Mapping[str, str]) -> list[str]:
    """What stands at the end of a page.

    Args:
        about: weights, seed, device and versions, as far as the page depends on them.
        lines: title -> Python that computes what is shown.
    """
    found = [code(title, text) for title, text in lines.items()]
    return [*found, code("Model, weights, seed and versions", json.dumps(about, indent=1, ensure_ascii=False))]


def with_charts(charts: Sequence[Chart], about: Mapping[str, object], lines: Mapping[str, str]) -> list[str]:
    """The charts, and after the page's own lines those behind each chart; arguments as of `ending`."""
    behind = {f"Python behind “{chart.title}”": chart.lines for chart in charts}
    shown = [plotly_part(chart.title, chart.figure, chart.caption) for chart in charts]
    return [side_by_side(shown), *ending(about, {**lines, **behind})]


def plotly_part(title: str, drawn: Figure, caption: str) -> str:
    """A figure with its heading and caption, in the page's own colours."""
    import plotly.graph_objects as go

    plain = go.Figure(drawn)
    plain.update_layout(template=None)
    return figure(title, plain.to_json(), caption)


def thinned(sweep: SweepResult, every: int) -> SweepResult:
    """Every so-many-th frame, the last one included."""
    kept = _kept(len(sweep.s), every)
    along_s = ("s", "alpha", "sigma", "x0_hat", "mse")
    found: dict[str, Any] = {name: getattr(sweep, name)[kept] for name in along_s}
    lam = None if sweep.lam is None else sweep.lam[kept]
    return replace(sweep, **found, lam=lam, native=tuple(sweep.native[k] for k in kept))


def thinned_run(run: TrajectoryResult, every: int) -> TrajectoryResult:
    """Every so-many-th state of a run, the last one included."""
    kept = _kept(len(run.s), every)
    along_s = ("s", "lam", "scale", "x", "x0_hat", "nfe", "ms", "energy")
    found: dict[str, Any] = {name: getattr(run, name)[kept] for name in along_s if getattr(run, name) is not None}
    field = run.field
    if field is not None:
        exact = None if field.exact is None else field.exact[kept]
        field = replace(field, learned=field.learned[kept], exact=exact)
    return replace(run, **found, native=tuple(run.native[k] for k in kept), field=field)


def _kept(count: int, every: int) -> np.ndarray:
    return np.unique(np.r_[0:count:every, count - 1])


def thinned_in_words(every: int) -> str:
    """What the page says where frames are left out."""
    return f"The file holds one in {every} of the page's frames along t: all of them would make it too large."
