"""θ0 against θ1 in figures: distances, spectra, the norm along the path, the histogram of the difference."""

from __future__ import annotations

import numpy as np

from app.figures.chart import (
    FAINT,
    GUIDE,
    LAMBDA,
    MIDWAY,
    SERIES,
    THETA0,
    THETA1,
    THIS,
    Chart,
    bar_height,
    blend,
    categories,
    mark_cursor,
    order_of,
    plot,
    rows_of,
)
from app.figures.reproduce import load_line
from app.records import StoredModel, WeightsResult

STATISTICS = {
    "distance": (
        "‖θ1 − θ0‖",
        "Distance",
        "Long bars moved far in absolute terms, which large layers do easily; the relative distance divides by ‖θ0‖.",
    ),
    "relative": (
        "‖θ1 − θ0‖ / ‖θ0‖",
        "Relative distance",
        "A bar of 1 means that the two sets differ by as much as θ0 is long.",
    ),
    "angle": (
        "angle between θ0 and θ1 (degrees)",
        "Angle",
        "0° is the same direction; at 90° neither set has a component along the other.",
    ),
    "dip": (
        "norm dip at λ = 1/2 (share)",
        "Norm dip",
        "How far the norm half-way falls short of the mean of both ends; 0.29 would be two orthogonal sets of equal norm.",
    ),
    "stable_rank": (
        "stable rank at λ = 0, 1/2, 1",
        "Stable rank",
        "How many directions a weight uses, ‖W‖² / σ_max², at θ0 (blue), half-way (their blend) and θ1 (vermilion).",
    ),
    "spectral_norm": (
        "spectral norm at λ = 0, 1/2, 1",
        "Spectral norm",
        "The largest factor by which a weight stretches an input, at θ0 (blue), half-way (their blend) and θ1 (vermilion).",
    ),
}
"""Statistic -> (axis title, name, how to read it)."""

ALONG = {
    "norm": (
        "‖θ‖ / ‖θ0‖",
        "Norm",
        "A line that sags has smaller weights half-way than at either end.",
        "total.norm_at(lam) / total.norm0",
    ),
    "angle": (
        "angle to θ0 (degrees)",
        "Angle",
        "A line that rises late keeps the direction of θ0 for long.",
        "total.angle_at(lam)",
    ),
    "distance": (
        "‖θ − θ0‖ / ‖θ0‖",
        "Distance",
        "Straight by construction, ‖θ − θ0‖ = λ‖θ1 − θ0‖: only the slopes tell stages apart.",
        "lam * total.relative",
    ),
}
"""Quantity -> (axis title, name, how to read it, how Python computes it)."""

SPECTRAL = ("stable_rank", "spectral_norm")


def bars_chart(model: StoredModel, weights: WeightsResult, kind: str, statistic: str, by_value: bool) -> Chart:
    """One statistic of θ0 and θ1 for each stage, layer, parameter, or weight matrix.

    Args:
        model: on show.
        weights: its results.
        kind: "stage", "layer" or "parameter"; spectra are of parameters whatever it is.
        statistic: a key of `STATISTICS`.
        by_value: largest first, instead of the order of the network.
    """
    axis, name, caption = STATISTICS[statistic]
    if statistic in SPECTRAL:
        return _spectrum_chart(model, weights, statistic, by_value)
    rows = [i for i, row in enumerate(weights.kinds) if row == kind]
    names, values = [weights.names[i] for i in rows], getattr(weights, statistic)[rows]
    order = order_of(values, by_value)
    figure = plot(axis, kind, height=bar_height(len(rows)))
    figure.add_bar(
        y=[names[i] for i in order],
        x=values[order],
        orientation="h",
        marker_color=THIS,
        customdata=weights.numel[rows][order],
        hovertemplate="%{y}: %{x:.3g}<br>%{customdata:,} numbers<extra></extra>",
    )
    total = float(getattr(weights, statistic)[0])
    if statistic != "distance" and np.isfinite(total):
        figure.add_vline(
            total,
            line={"color": GUIDE, "dash": "dash"},
            annotation_text="total",
            annotation_position="bottom",
        )
        caption += " Dashed: all parameters as one vector."
    categories(figure)
    columns = ("numel", "norm0", "norm1", "distance", "relative", "angle", "dip")
    table = [(names[i], *(float(getattr(weights, column)[rows[i]]) for column in columns)) for i in order]
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import weight_distances",
        "",
        load_line(model),
        f"{kind}s = weight_distances(model.net).{kind}s",
        f"values = {{part.name: part.{statistic} for part in {kind}s}}",
    ]
    return Chart(
        f"{statistic}-by-{kind}", f"{name} by {kind}", figure, caption, ("name", *columns), table, "\n".join(lines)
    )


def _spectrum_chart(model: StoredModel, weights: WeightsResult, statistic: str, by_value: bool) -> Chart:
    axis, name, caption = STATISTICS[statistic]
    values = getattr(weights, statistic)
    shown = (0, values.shape[1] // 2, values.shape[1] - 1)
    order = order_of(values[:, shown[1]], by_value)
    figure = plot(axis, "parameter", height=bar_height(len(values)))
    names = [weights.spectrum_names[i] for i in order]
    for column, colour, symbol in zip(shown, (THETA0, MIDWAY, THETA1), ("circle", "diamond", "square"), strict=True):
        lam = float(weights.spectrum_lam[column])
        figure.add_scatter(
            y=names, x=values[order, column], mode="markers", name=f"λ = {lam:.2g}",
            marker={"color": colour, "size": 8, "symbol": symbol},
        )  # fmt: skip
    categories(figure)
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import spectra",
        "",
        load_line(model),
        f"lam = {[float(v) for v in weights.spectrum_lam]}",
        f"values = {{each.name: each.{statistic} for each in spectra(model.net, lam)}}",
    ]
    header = ("parameter", *(f"lambda_{float(lam):.2g}" for lam in weights.spectrum_lam))
    rows = [(weights.spectrum_names[i], *values[i].tolist()) for i in order]
    return Chart(statistic, f"{name} of each weight", figure, caption, header, rows, "\n".join(lines))


def along_chart(model: StoredModel, weights: WeightsResult, quantity: str, lam: float) -> Chart:
    """Norm, angle or distance along the path, of all parameters and of the stages.

    Args:
        model: on show.
        weights: its results.
        quantity: a key of `ALONG`.
        lam: λ at the shared cursor.
    """
    axis, name, caption, call = ALONG[quantity]
    figure = plot("position λ: 0 at θ0, 1 at θ1", axis, height=380)
    paths = {
        "norm": weights.norm_path / _or_one(weights.norm0),
        "angle": weights.angle_path,
        "distance": weights.norm_lam * weights.distance[:, None] / _or_one(weights.norm0),
    }[quantity]
    stages = [i for i, kind in enumerate(weights.kinds) if kind == "stage" and weights.norm0[i] > 0]
    bent = sorted(stages, key=lambda i: -np.abs(paths[i] - paths[i, 0]).max())[: len(SERIES) - 2]
    for i in sorted(stages, key=lambda i: i in bent):
        colour = SERIES[bent.index(i)] if i in bent else FAINT
        figure.add_scatter(
            x=weights.norm_lam, y=paths[i], name=weights.names[i],
            line={"color": colour, "width": 2 if i in bent else 1}, showlegend=i in bent,
        )  # fmt: skip
    figure.add_scatter(x=weights.norm_lam, y=paths[0], name="total", line={"color": LAMBDA, "width": 4})
    mark_cursor(figure, lam)
    lines = [
        "import dpi_core",
        "import numpy as np",
        "from dpi_core.analysis.weights import weight_distances",
        "",
        load_line(model),
        "total = weight_distances(model.net).total",
        f"values = [{call} for lam in np.linspace(0, 1, {len(weights.norm_lam)})]",
    ]
    rows = [(float(at), *paths[[0, *stages], k].tolist()) for k, at in enumerate(weights.norm_lam)]
    return Chart(
        f"{quantity}-along-path",
        f"{name} along the path",
        figure,
        f"{caption} Named are the stages that change most, thin grey lines are the others; the upright line is λ at the"
        " cursor.",
        ("lambda", "total", *(weights.names[i] for i in stages)),
        rows,
        "\n".join(lines),
    )


def _or_one(norms: np.ndarray) -> np.ndarray:
    """Norms as a column to divide by."""
    return np.where(norms > 0, norms, 1.0)[:, None]


def singular_values_chart(model: StoredModel, weights: WeightsResult, name: str, lam: float) -> Chart:
    """Singular values of one weight at both ends of the path and near a λ.

    Args:
        model: on show.
        weights: its results.
        name: of a parameter with at least two axes.
        lam: λ at the shared cursor; the nearest stored one is shown.
    """
    at = weights.spectrum_names.index(name)
    start = sum(weights.spectrum_sizes[:at])
    values = weights.singular_values[start : start + weights.spectrum_sizes[at]].astype(float)
    near = int(np.argmin(np.abs(weights.spectrum_lam - lam)))
    columns = sorted({0, near, values.shape[1] - 1})
    rank = np.arange(1, len(values) + 1)
    figure = plot("rank", "singular value (log)", height=380)
    for column in columns:
        here = float(weights.spectrum_lam[column])
        figure.add_scatter(
            x=rank, y=values[:, column], mode="lines+markers", name=f"λ = {here:.3g}",
            line={"color": blend(here), "width": 2}, marker={"size": 4},
        )  # fmt: skip
    figure.update_yaxes(type="log", tickformat="~g")
    shown = [float(weights.spectrum_lam[column]) for column in columns]
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import spectra",
        "",
        load_line(model),
        f'(found,) = [each for each in spectra(model.net, {shown}) if each.name == "{name}"]',
        "values = found.singular_values",
    ]
    return Chart(
        "singular-values",
        f"Singular values of {name}",
        figure,
        "A steep line uses few directions; at θ0 (blue), at θ1 (vermilion) and at the stored λ nearest to the cursor (their"
        " blend).",
        ("rank", *(f"lambda_{here:.3g}" for here in shown)),
        rows_of(rank, *values[:, columns].T),
        "\n".join(lines),
    )


def histogram_chart(model: StoredModel, layer: str, edges: np.ndarray, counts: np.ndarray, height: int = 380) -> Chart:
    """The entries of θ1 − θ0 of one layer, or of all, as `analysis.weights.histograms` names it."""
    figure = plot("entry of θ1 − θ0", "count (log)", height)
    figure.add_bar(
        x=(edges[1:] + edges[:-1]) / 2, y=counts, width=np.diff(edges), marker_color=THIS, marker_line_width=0,
        hovertemplate="%{x:.3g}: %{y:,}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(bargap=0, showlegend=False)
    figure.update_yaxes(type="log", dtick=1)
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import histograms",
        "",
        load_line(model),
        f'(found,) = [each for each in histograms(model.net) if each.name == "{layer}"]',
        "values = found.counts",
    ]
    return Chart(
        "difference-histogram",
        "Entries of θ1 − θ0",
        figure,
        "How far each number moved; a peak at zero with long arms means that few of them carry the difference.",
        ("low", "high", "count"),
        rows_of(edges[:-1], edges[1:], counts),
        "\n".join(lines),
    )
