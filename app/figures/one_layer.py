"""One layer in figures: the histogram of θ1 − θ0, its spectrum along the path, CKA between noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from app.figures.chart import CURSOR, THETA0, THETA1, THIS, Chart, plot
from app.figures.reproduce import COMPARED, judged_imports, judged_lines, load_line
from app.records import Inputs, LayerDetailResult, LayersResult, StoredModel

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT = 340
SMALLEST_SHARE = 1e-4
"""Singular values below this share of the largest are numerically nothing."""


def spectrum_chart(model: StoredModel, detail: LayerDetailResult) -> Chart | None:
    """Singular values of the weight shown, along the path; None for a vector."""
    values = detail.singular_values
    if not values.size:
        return None
    figure, how = _only_value(detail) if values.shape[1] == 1 and model.has_two_sets else _all_values(model, detail)
    rank = np.arange(1, values.shape[1] + 1)
    parameter = detail.parameter if detail.layer == "." else f"{detail.layer}.{detail.parameter}"
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import spectra",
        "",
        load_line(model),
        f"lam = {[float(v) for v in detail.spectrum_lam]}",
        f'(found,) = [each for each in spectra(model.net, lam) if each.name == "{parameter}"]',
        "values = found.singular_values",
    ]
    if not model.has_two_sets:
        lines = [
            "import dpi_core",
            "import torch",
            "",
            load_line(model),
            f'weight = model.net.get_parameter("backbone.{parameter}").detach()',
            "values = torch.linalg.svdvals(weight.flatten(1))[None].numpy()",
        ]
    return Chart(
        "layer-spectrum",
        f"Spectrum of {detail.parameter}",
        figure,
        how,
        ("rank", *(f"lambda_{lam:.2g}" for lam in detail.spectrum_lam.tolist())),
        [(float(r), *column.tolist()) for r, column in zip(rank, values.T, strict=True)],
        "\n".join(lines),
    )


def _all_values(model: StoredModel, detail: LayerDetailResult) -> tuple[Figure, str]:
    """Singular values by size, a line for each position on the path, and how to read it."""
    two, values = model.has_two_sets, detail.singular_values
    figure = plot("rank of the singular value", "singular value (log)", HEIGHT)
    shown = np.where(values > SMALLEST_SHARE * values.max(), values, np.nan)
    positions = detail.spectrum_lam.tolist() if two else [0.0]
    for lam, row in zip(positions, shown, strict=False):
        figure.add_scatter(
            x=np.arange(1, values.shape[1] + 1), y=row, name=f"λ {lam:.2g}", mode="lines+markers", marker={"size": 4},
            line={"color": path_colour(lam) if two else THIS, "width": 2}, showlegend=two and lam in (0, 0.5, 1),
        )  # fmt: skip
    figure.update_yaxes(type="log", tickformat="~g")
    how = "A curve that falls fast uses few directions"
    return figure, how + ("; where both ends lie above the curve half-way, blending cancels." if two else ".")


def _only_value(detail: LayerDetailResult) -> tuple[Figure, str]:
    """The one singular value of a weight with one row, along the path, and how to read it."""
    figure = plot("position λ: 0 at θ0, 1 at θ1", "singular value", HEIGHT)
    figure.add_scatter(
        x=detail.spectrum_lam, y=detail.singular_values[:, 0], mode="lines+markers", line={"color": THIS, "width": 2}
    )
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure, "One row has one singular value, its length; below the line between both ends, blending cancels."


def cka_chart(
    model: StoredModel, result: LayersResult, layer: str, inputs: Inputs, device: str, cursor: float
) -> Chart:
    """CKA of one layer's outputs between any two noise levels."""
    index = result.names.index(layer)
    values = np.asarray(result.cka[index], dtype=float)
    figure = plot("noise level s", "noise level s′", HEIGHT)
    low = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
    figure.add_heatmap(
        x=result.s, y=result.s, z=values, colorscale="Viridis", zmin=min(low, 0.999), zmax=1,
        colorbar={"title": {"text": "CKA"}, "thickness": 10},
        hovertemplate="s %{x:.2f}, s′ %{y:.2f}: %{z:.3f}<extra></extra>",
    )  # fmt: skip
    for add in (figure.add_vline, figure.add_hline):
        add(cursor, line={"color": CURSOR, "width": 1.5})
    note = result.notes.get(layer, "")
    caption = "Blocks of bright cells are ranges of s in which the layer says the same; a dark corner: it does not."
    if not np.isfinite(values).any():
        caption = (
            f"There is nothing to compare: {note}." if note else "There is nothing to compare: CKA is undefined here."
        )
    lines = [
        *judged_imports(inputs, "from dpi_core.analysis.activations import layer_activations, samples_per_batch"),
        "",
        *judged_lines(model, inputs, device),
        f"s = {[round(float(s), 6) for s in result.s]}",
        f"x0, eps = x0[:{result.samples['cka']}], eps[:{result.samples['cka']}]",
        *COMPARED,
        f"values = found.cka[{index}]  # {layer}",
    ]
    rows = [(float(a), float(b), float(values[i, j])) for i, a in enumerate(result.s) for j, b in enumerate(result.s)]
    return Chart(
        "layer-cka", "CKA between noise levels", figure, caption, ("s", "s_prime", "cka"), rows, "\n".join(lines)
    )


def path_colour(lam: float) -> str:
    """Of a point between θ0 and θ1."""
    ends = [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in (THETA0, THETA1)]
    return "rgb({}, {}, {})".format(*(round((1 - lam) * a + lam * b) for a, b in zip(*ends, strict=True)))
