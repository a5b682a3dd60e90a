"""The Compare page's figures: scores of several methods in, charts and tables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.figures.chart import SERIES, Chart, Table, band, mark_cursor, plot
from app.figures.comparisons import measures_of, method_of, sweep_lines
from app.records import Comparison, Measure, Scores, StoredModel
from dpi_core.verdicts import BETTER, EVEN, UNITS, WORSE, verdict

METHODS = ("dpi", "embedding", "input_map", "none", "blind", "rescaling")
"""Their order decides the colours: a method has one in every figure."""

S_TITLE = "scalar s: 0 clean, 1 noise"
BETTER_COLOUR, EVEN_COLOUR, WORSE_COLOUR = "#4393c3", "rgba(140, 140, 140, 0.18)", "#d6604d"


def colour_of(method: str, methods: Sequence[str]) -> str:
    """Of a method, the same on every figure; those beyond the families take the next free ones."""
    ordered = [*METHODS, *(name for name in methods if name not in METHODS)]
    return SERIES[ordered.index(method) % len(SERIES)]


# Charts -----------------------------------------------------------------------------------------------------------


def error_chart(comparison: Comparison, s: float) -> Chart:
    """Each method's score against s with its interval over samples."""
    scores = comparison.scores
    name, unit = _label(scores.measure)
    figure = plot(S_TITLE, f"{name} ({unit})" if unit else name, height=380)
    for method, rows in zip(comparison.names, scores.score, strict=True):
        colour = colour_of(method, comparison.names)
        if np.isfinite(rows).all():
            band(figure, scores.s, rows[:, 1], rows[:, 2], colour)
        figure.add_scatter(
            x=scores.s,
            y=rows[:, 0],
            name=method,
            mode="lines",
            line={"color": colour, "width": 3 if method == "dpi" else 1.8},
        )
    if scores.measure == "mse":
        figure.update_yaxes(type="log", exponentformat="power", minor_showgrid=False)
    mark_cursor(figure, s)
    rows = [
        (method, level, *values)
        for method, each in zip(comparison.names, scores.score.tolist(), strict=True)
        for level, values in zip(scores.s.tolist(), each, strict=True)
    ]
    better = "Lower" if scores.measure == "mse" else "Higher"
    has_bands = np.isfinite(scores.score).all()
    bands = f"; the bands are 95 % intervals over {comparison.samples}" if has_bands else f" over {comparison.samples}"
    caption = (
        f"{better} is better{bands}. Samples and noise are the same for every method, so bands that overlap may hide a"
        " difference: the paired one is beside."
    )
    header = ("method", "s", name, "low", "high")
    return Chart("compare-error", f"{name} against s", figure, caption, header, rows, comparison.lines)


def difference_chart(comparison: Comparison, reference: str, s: float) -> Chart:
    """Paired difference of the reference from each of the others, with its interval."""
    scores, a = comparison.scores, comparison.names.index(reference)
    name, unit = _label(scores.measure)
    figure = plot(S_TITLE, f"{reference} − other, {name}{f' ({unit})' * bool(unit)}", height=380)
    if scores.measure == "mse":
        figure.update_yaxes(title=f"other − {reference}, {name}")
    rows = []
    for b, other in enumerate(comparison.names):
        found = scores.difference[a, b]
        if b == a or not np.isfinite(found).all():
            continue
        colour = colour_of(other, comparison.names)
        band(figure, scores.s, found[:, 1], found[:, 2], colour)
        figure.add_scatter(
            x=scores.s, y=found[:, 0], name=f"against {other}", mode="lines", line={"color": colour, "width": 2}
        )
        rows += [
            (reference, other, level, *each) for level, each in zip(scores.s.tolist(), found.tolist(), strict=True)
        ]
    figure.add_hline(0, line={"color": "#8C8C8C", "width": 1, "dash": "dot"})
    mark_cursor(figure, s)
    caption = (
        f"Above zero {reference} is better. Mean over the paired differences on {comparison.samples}, with its 95 % bootstrap"
        " interval; it does not hold what another seed of training changes."
    )
    header = ("method", "against", "s", "difference", "low", "high")
    return Chart("compare-difference", f"Difference of {reference}", figure, caption, header, rows, comparison.lines)


def wins_chart(comparison: Comparison, reference: str) -> Chart:
    """At each level, whether the reference wins against each of the others, loses, or neither."""
    scores, a = comparison.scores, comparison.names.index(reference)
    others = [b for b in range(len(comparison.names)) if b != a and np.isfinite(scores.difference[a, b]).all()]
    words = [[verdict(low, high) for _, low, high in scores.difference[a, b]] for b in others]
    sign = {BETTER: 1, EVEN: 0, WORSE: -1}
    figure = plot(S_TITLE, "", height=120 + 28 * max(1, len(others)))
    names = [f"against {comparison.names[b]}" for b in others]
    figure.add_heatmap(
        x=[f"{level:.2f}" for level in scores.s],
        y=names,
        z=[[sign[word] for word in row] for row in words],
        text=[[{BETTER: "+", EVEN: "", WORSE: "−"}[word] for word in row] for row in words],
        texttemplate="%{text}",
        customdata=[[_difference_text(scores, each) for each in scores.difference[a, b]] for b in others],
        hovertemplate="%{y}, s = %{x}: %{customdata}<extra></extra>",
        colorscale=_three(WORSE_COLOUR, EVEN_COLOUR, BETTER_COLOUR),
        zmin=-1, zmax=1, showscale=False, xgap=2, ygap=3,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(type="category")
    rows = [
        (reference, comparison.names[b], level, word)
        for b, row in zip(others, words, strict=True)
        for level, word in zip(scores.s.tolist(), row, strict=True)
    ]
    caption = (
        f"Blue with a plus: {reference} is better there, the whole 95 % interval lies above zero; red with a minus: worse;"
        f" empty: the interval holds zero. Of {len(scores.s)} levels about one in twenty leaves out zero by chance."
    )
    title = f"Where {reference} wins and loses"
    return Chart("compare-wins", title, figure, caption, ("method", "against", "s", "verdict"), rows, comparison.lines)


def _three(*colours: str) -> list[tuple[float, str]]:
    """A scale of three flat colours."""
    return [(at / 3, colour) for i, colour in enumerate(colours) for at in (i, i + 1)]


def _difference_text(scores: Scores, row: np.ndarray) -> str:
    _, unit, digits = UNITS[scores.measure]
    mean, low, high = (f"{value:+.{digits}f}" for value in row)
    return f"{mean}{f' {unit}' * bool(unit)} ({low} to {high})"


def _label(measure: Measure) -> tuple[str, str]:
    name, unit, _ = UNITS[measure]
    return name, unit


# Tables -----------------------------------------------------------------------------------------------------------


def score_table(sweep: Mapping[str, Any]) -> Table:
    """Average scores and sample quality of each method, beside the floor."""
    measures, distances = measures_of(sweep), list(sweep["floor"])
    header, formats = ["method"], {}
    for measure in measures:
        name, unit, digits = UNITS[measure]
        title = f"{name} ({unit})" if unit else name
        header += [title, f"{title}, lowest seed", f"{title}, highest seed"]
        formats |= dict.fromkeys(header[-3:], f"%.{digits}f")
    for distance in distances:
        title = distance.replace("_", " ")
        header += [title, f"{title}, range over seeds"]
        formats[title] = "%.4f"
    rows = [
        (name, *_score_cells(method, measures), *_distance_cells(method, distances))
        for name, method in sweep["methods"].items()
    ]
    if distances:
        floor = [cell for distance in distances for cell in (sweep["floor"][distance], "")]
        rows.append(("data against data", *[None] * (3 * len(measures)), *floor))
    seeds = sweep["config"]["seeds"]
    caption = (
        f"Averages over {len(sweep['s'])} levels, {sweep['judged']} held-out samples and {len(seeds)}"
        f" seed{'s' * (len(seeds) > 1)} of training. Distances are between samples and data, lower is closer; the"
        " last row is what data reach against other data."
    )
    return Table(
        "compare-scores", "Scores and samples", caption, tuple(header), rows, formats, sweep_lines(sweep, measures[0])
    )


def _score_cells(method: Mapping[str, Any], measures: Sequence[Measure]) -> list[float]:
    cells = []
    for measure in measures:
        scores = method["scores"][measure]
        cells += [scores["average"]["mean"], min(scores["seeds"]), max(scores["seeds"])]
    return cells


def _distance_cells(method: Mapping[str, Any], distances: Sequence[str]) -> list[Any]:
    cells: list[Any] = []
    for distance in distances:
        found = [run[distance] for run in method["generation"]]
        cells += [sum(found) / len(found), f"{min(found):.4f} to {max(found):.4f}"] if found else [None, ""]
    return cells


COSTS = {
    "parameters": ("parameters", "%d", 1),
    "bytes": ("MB", "%.2f", 1e-6),
    "flops": ("MFLOP per sample", "%.3g", 1e-6),
    "forward_ms": ("ms per forward", "%.1f", 1),
    "step_ms": ("ms per training step", "%.1f", 1),
}


def cost_table(sweep: Mapping[str, Any]) -> Table:
    """What each method costs, on one machine in one run."""
    header = ("method", *(title for title, _, _ in COSTS.values()), "steps", "training minutes")
    rows = []
    for name, method in sweep["methods"].items():
        cost, runs = method["cost"], method["training"]
        minutes = sum(run["wall_seconds"] for run in runs) / len(runs) / 60
        rows.append((name, *(cost[key] * unit for key, (_, _, unit) in COSTS.items()), runs[0]["steps"], minutes))
    cost = next(iter(sweep["methods"].values()))["cost"]
    caption = (
        f"On {sweep['hardware']}, methods measured in turn: a forward takes a batch of {cost['batch']} at one scalar, a step is"
        f" its forward and backward with {cost['scalars']} scalars. FLOPs are those of matrix products and convolutions."
    )
    formats = {title: form for title, form, _ in COSTS.values()} | {"steps": "%d", "training minutes": "%.1f"}
    lines = "\n".join(
        [
            "from dpi_core.build import build_denoiser",
            "from dpi_core.cost import measure_cost",
            "from dpi_core.sweep import load_sweep",
            "",
            f'for method, seed, recipe in load_sweep("{sweep["name"]}").runs():',
            "    sizes = recipe.training.batch_size, recipe.training.scalars_per_batch",
            "    print(method, measure_cost(build_denoiser(recipe), recipe.shape, *sizes))",
        ]
    )
    return Table("compare-cost", "Cost", caption, header, rows, formats, lines)


def parameter_table(family: Sequence[StoredModel]) -> Table:
    """What the checkpoints alone say of the cost."""
    rows = [
        (
            method_of(model),
            model.metrics.get("parameters"),
            (model.metrics.get("training") or {}).get("wall_seconds", 0) / 60,
        )
        for model in family
    ]
    caption = (
        "From the checkpoints; FLOPs and milliseconds are measured by a sweep, all methods in turn on one machine."
    )
    lines = 'import json\n\njson.load(open(f"checkpoints/{name}/metrics.json"))["parameters"]'
    formats = {"parameters": "%d", "training minutes": "%.1f"}
    return Table("compare-cost", "Cost", caption, ("method", *formats), rows, formats, lines)
