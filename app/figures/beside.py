"""A second model on the Parameters page: what of it can be held against the first, its numbers, and both in one chart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.components.studio import BesideCurve
from app.figures.chart import CURSOR, Chart
from app.figures.parameters import Headline, headlines
from app.figures.reproduce import clean_line, load_line
from app.records import Inputs, ParametersResult, StoredModel

NOT_COMPARABLE = Headline("Mean regret against λ*(s)", "–", "Judged on other samples, so it does not compare.")


@dataclass(frozen=True, eq=False)
class Beside:
    """The second model.

    Attributes:
        model: that stands beside.
        result: of it.
        inputs: what its errors were judged on.
        same_samples: whether these are the first model's samples and noise.
    """

    model: StoredModel
    result: ParametersResult
    inputs: Inputs
    same_samples: bool

    def curve(self, s: np.ndarray) -> BesideCurve:
        """Its λ at the first model's noise levels; the mean over its groups."""
        return BesideCurve(self.model.name, self.lam_at(s))

    def lam_at(self, s: Any) -> Any:
        """Its λ(s)."""
        return np.interp(s, self.result.weights.s, self.result.weights.lam)


def judged_alike(one: StoredModel, other: StoredModel) -> bool:
    """Whether the stored errors of two models are of the same samples and noise."""
    if one.parameters is None or other.parameters is None or one.recipe["data"] != other.recipe["data"]:
        return False
    return one.parameters.landscape.samples == other.parameters.landscape.samples


def what_compares(beside: Beside) -> str:
    """In one sentence what of the second model may be held against the first."""
    name = beside.model.name
    if beside.same_samples:
        return f"Dashed, and in the second row of numbers: {name}, judged on the same samples under the same noise."
    return (
        f"Dashed, and in the second row of numbers: {name}. λ(s), its saturation, distances and angles compare; regret, x̂0"
        " along the path, kept blends and blended outputs do not and are left out, because its errors are of other samples."
    )


def second_headlines(beside: Beside) -> list[Headline]:
    """The four numbers of the second model."""
    numbers = headlines(beside.model, beside.result, beside.inputs)
    if not beside.same_samples:
        numbers[1] = NOT_COMPARABLE
    return numbers


def overlaid(
    model: StoredModel,
    chart: Chart,
    beside: Beside,
    draw: Callable[[StoredModel, ParametersResult, Inputs], Chart],
    is_kept: Callable[[Any], bool] = lambda trace: True,
) -> Chart:
    """A chart of the first model with the second one's lines dashed in it, and both in its table and lines of Python.

    Args:
        model: the first one.
        chart: of it.
        beside: the second one.
        draw: makes the same chart of a model, its result and what it was judged on.
        is_kept: which traces of the second model are drawn; all by default.
    """
    second = draw(beside.model, beside.result, beside.inputs)
    names = (model.name, beside.model.name)
    figure = _with_second(chart.figure, [trace for trace in second.figure.data if is_kept(trace)], names)
    header = ("model", *chart.header, *(column for column in second.header if column not in chart.header))
    rows = [
        (name, *(dict(zip(each.header, row, strict=True)).get(column, "") for column in header[1:]))
        for name, each in zip(names, (chart, second), strict=True)
        for row in each.rows
    ]
    lines = f"{chart.lines}\n\n# the same of {names[1]}\n{_on_the_first_ones_samples(model, beside, second.lines)}"
    return replace(chart, figure=figure, header=header, rows=rows, lines=lines)


def _with_second(figure: Any, traces: list[Any], names: tuple[str, str]) -> Any:
    """The figure with more traces: lines dashed, bars pale, each named with its model."""
    import plotly.graph_objects as go

    both = go.Figure(figure)
    for trace in both.data:
        trace.name = trace.name or names[0]
    for trace in traces:
        added = type(trace)(trace)
        added.name = names[1] if trace.name is None else f"{trace.name}, {names[1]}"
        if trace.type == "bar":
            added.opacity = 0.45
        elif trace.fill is None:
            added.line.dash = "dash"
        both.add_trace(added)
    both.update_layout(showlegend=True)
    return both


def mark_second_cursor(chart: Chart, lam: float) -> None:
    """Draws where the second model's parameters stand at the shared cursor."""
    chart.figure.add_vline(lam, line={"color": CURSOR, "width": 1.5, "dash": "dash"})


def _on_the_first_ones_samples(model: StoredModel, beside: Beside, lines: str) -> str:
    """The lines of the second model, with the samples of the first where these are what it was judged on."""
    own, kind = clean_line(beside.model, beside.inputs), beside.inputs.kind
    is_same = kind == "held-out" and model.recipe["data"] == beside.model.recipe["data"]
    if not beside.same_samples or kind not in ("held-out", "samples") or is_same:
        return lines
    load, clean = (
        load_line(model).replace("model", "first", 1),
        clean_line(model, beside.inputs).replace("model.", "first."),
    )
    return lines.replace(own, f"{load}\n{clean}")
