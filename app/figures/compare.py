"""The Compare page's figures: scores of several methods in, charts and tables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.figures.chart import Chart, Table, band, mark_cursor, plot
from app.figures.comparisons import colour_of, measures_of, method_of, sweep_lines
from app.records import Comparison, Measure, Scores, StoredModel
from dpi_core.verdicts import BETTER, EVEN, UNITS, WORSE, judge_in_words, signed, verdict

S_TITLE = "scalar s: 0 clean, 1 noise"
BETTER_COLOUR, EVEN_COLOUR, WORSE_COLOUR = "#4393c3", "rgba(140, 140, 140, 0.18)", "#d6604d"


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
        figure.update_yaxes(type="log", tickformat="~g", minor_showgrid=False)
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
        f"{better} is better{bands}. Samples and noise are the same for every method"
        f"{', so bands that overlap may hide a difference: the paired one is beside' * (len(comparison.names) > 1)}."
    )
    header = ("method", "s", name, "low", "high")
    return Chart("compare-error", f"{_capital(name)} against s", figure, caption, header, rows, comparison.lines)


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
        f" empty: the interval holds zero. Of {len(scores.s)} levels about one in twenty leaves out zero by chance,"
        " and another seed of training moves more."
    )
    title = f"Where {reference} wins and loses"
    return Chart("compare-wins", title, figure, caption, ("method", "against", "s", "verdict"), rows, comparison.lines)


def _three(*colours: str) -> list[tuple[float, str]]:
    """A scale of three flat colours."""
    return [(at / 3, colour) for i, colour in enumerate(colours) for at in (i, i + 1)]


def _difference_text(scores: Scores, row: np.ndarray) -> str:
    _, unit, digits = UNITS[scores.measure]
    mean, low, high = (signed(value, digits) for value in row)
    return f"{mean}{f' {unit}' * bool(unit)} ({low} to {high})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _label(measure: Measure) -> tuple[str, str]:
    name, unit, _ = UNITS[measure]
    return name, unit


# Tables -----------------------------------------------------------------------------------------------------------


def score_table(sweep: Mapping[str, Any]) -> Table:
    """Scores of each method, averaged over the levels."""
    measures, formats = measures_of(sweep), {}
    several = len(sweep["config"]["seeds"]) > 1
    header = ["method"]
    for measure in measures:
        name, unit, digits = UNITS[measure]
        title = f"{name} ({unit})" if unit else name
        header += [title, f"{title}, seed by seed"][: 1 + several]
        formats[title] = f"%.{digits}f"
    rows: list[tuple[Any, ...]] = []
    for name, method in sweep["methods"].items():
        scores = [(method["scores"][measure], UNITS[measure][2]) for measure in measures]
        cells = ((each["average"]["mean"], _range(each["seeds"], digits))[: 1 + several] for each, digits in scores)
        rows.append((name, *(cell for pair in cells for cell in pair)))
    caption = (
        f"Averages over {len(sweep['s'])} levels, {sweep['judged']} held-out samples and {_seeds(sweep)} of training"
        f"{'; lowest to highest seed beside them' if several else ''}."
    )
    return Table("compare-scores", "Scores", caption, tuple(header), rows, formats, sweep_lines(sweep, measures[0]))


def sample_table(sweep: Mapping[str, Any]) -> Table:
    """How far each method's samples are from the data, beside what data reach against other data."""
    distances = list(sweep["floor"])
    titles = [distance.replace("_", " ") for distance in distances]
    header = ("method", *(column for title in titles for column in (title, f"{title}, seed by seed")))
    rows = []
    for name, method in sweep["methods"].items():
        found = [[run[distance] for run in method["generation"]] for distance in distances]
        cells = [(sum(each) / len(each), _range(each, 4)) if each else (None, "not measured") for each in found]
        rows.append((name, *(cell for pair in cells for cell in pair)))
    floors = [sweep["floor"][distance] for distance in distances]
    cells = [(sum(each) / len(each), _range(each, 4)) for each in floors]
    rows.append(("data against data", *(cell for pair in cells for cell in pair)))
    caption = (
        f"{sweep['config']['samples']} samples of each run, from the same noise for the same seed of training, against as many"
        " held-out data; lower is closer,"
        " and recall and precision, where given, better when high. The last row is what"
        f" {len(floors[0])} other draws of data reach. {judge_in_words(sweep)}".rstrip()
    )
    lines = sweep_lines(sweep, measures_of(sweep)[0]).split("\n")[:5]
    lines += [
        'distance = {name: method["generation"] for name, method in sweep["methods"].items()}  # one entry a seed'
    ]
    return Table(
        "compare-distances", "Sample quality", caption, header, rows, dict.fromkeys(titles, "%.4f"), "\n".join(lines)
    )


def _range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _seeds(sweep: Mapping[str, Any]) -> str:
    count = len(sweep["config"]["seeds"])
    return f"{count} seed{'s' * (count > 1)}"


COUNT = "localized"
COSTS = {
    "parameters": ("parameters", COUNT, 1),
    "bytes": ("MB", "%.2f", 1e-6),
    "flops": ("MFLOP per sample", "%.3g", 1e-6),
    "forward_ms": ("ms per forward", "%.1f", 1),
    "step_ms": ("ms per training step", "%.1f", 1),
}


def cost_table(sweep: Mapping[str, Any]) -> Table:
    """What each method costs, on one machine in one run."""
    header = ("method", *(title for title, _, _ in COSTS.values()), "steps", "minutes at that pace")
    rows = []
    for name, method in sweep["methods"].items():
        cost, steps = method["cost"], method["training"][0]["steps"]
        minutes = steps * cost["step_ms"] / 60_000
        rows.append((name, *(cost[key] * unit for key, (_, _, unit) in COSTS.items()), steps, minutes))
    cost = next(iter(sweep["methods"].values()))["cost"]
    caption = (
        f"On {sweep['hardware']}, methods timed by turns: a forward takes a batch of {cost['batch']} at one scalar, a step is"
        f" its forward and backward with {cost['scalars']} scalars. FLOPs are those of matrix products and convolutions."
    )
    formats = {title: form for title, form, _ in COSTS.values()} | {"steps": COUNT, "minutes at that pace": "%.1f"}
    lines = "\n".join(
        [
            "from dpi_core.cost import measure_costs",
            "from dpi_core.sweep import load_sweep",
            "",
            f'recipes = {{method: recipe for method, seed, recipe in load_sweep("{sweep["name"]}").runs()}}',
            "for method, cost in measure_costs(recipes).items():",
            "    print(method, cost)",
        ]
    )
    return Table("compare-cost", "Cost", caption, header, rows, formats, lines)


def parameter_table(family: Sequence[StoredModel]) -> Table:
    """What the checkpoints alone say of the cost."""
    rows = [(method_of(model), model.metrics.get("parameters")) for model in family]
    caption = (
        "From the checkpoints; FLOPs and milliseconds are measured by a sweep, all methods in turn on one machine."
    )
    read = 'json.loads(Path("checkpoints", name, "metrics.json").read_text())["parameters"]'
    names = [model.name for model in family]
    lines = f"import json\nfrom pathlib import Path\n\nparameters = {{name: {read} for name in {names}}}"
    formats = {"parameters": COUNT}
    return Table("compare-cost", "Cost", caption, ("method", *formats), rows, formats, lines)
