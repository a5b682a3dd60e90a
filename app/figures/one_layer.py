"""One layer in figures: the histogram of θ1 − θ0, its spectrum along the path, CKA between noise levels."""

from __future__ import annotations

import numpy as np

from app.figures.chart import CURSOR, THETA0, THETA1, THIS, Chart, plot, rows_of
from app.figures.reproduce import judged_imports, judged_lines, load_line
from app.records import Inputs, LayerDetailResult, LayersResult, StoredModel

HEIGHT = 340
SMALLEST_SHARE = 1e-4
"""Singular values below this share of the largest are numerically nothing."""


def histogram_chart(model: StoredModel, detail: LayerDetailResult) -> Chart:
    """Entries of θ1 − θ0 of all weights of the layer."""
    edges, counts = detail.histogram_edges, detail.histogram_counts
    centres = (edges[:-1] + edges[1:]) / 2
    figure = plot("θ1 − θ0, entry by entry", "numbers", HEIGHT)
    figure.add_bar(
        x=centres, y=counts, width=np.diff(edges), marker={"color": THIS},
        hovertemplate="%{x:.3g}: %{y:,}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(bargap=0, showlegend=False)
    figure.update_yaxes(type="log", dtick=1)
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import histograms",
        "",
        load_line(model),
        f'(found,) = [each for each in histograms(model.net) if each.name == "{detail.layer}"]',
        "values = found.counts",
    ]
    return Chart(
        "layer-histogram",
        "Histogram of θ1 − θ0",
        figure,
        "How far each number moved; a peak at zero with long tails means that few numbers do the work.",
        ("low", "high", "count"),
        rows_of(edges[:-1], edges[1:], counts),
        "\n".join(lines),
    )


def spectrum_chart(model: StoredModel, detail: LayerDetailResult) -> Chart | None:
    """Singular values of the weight shown, along the path; None for a vector."""
    values = detail.singular_values
    if not values.size:
        return None
    figure = plot("singular value, by size", "σ", HEIGHT)
    rank = np.arange(1, values.shape[1] + 1)
    shown = np.where(values > SMALLEST_SHARE * values.max(), values, np.nan)
    positions = detail.spectrum_lam.tolist() if model.has_two_sets else [0.0]
    for lam, row in zip(positions, shown, strict=False):
        figure.add_scatter(
            x=rank, y=row, name=f"λ {lam:.2g}", mode="lines+markers", marker={"size": 4},
            line={"color": path_colour(lam) if model.has_two_sets else THIS, "width": 2},
        )  # fmt: skip
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_layout(showlegend=model.has_two_sets)
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
        "A curve that falls fast uses few directions"
        + ("; where both ends lie above the curve half-way, blending cancels." if model.has_two_sets else "."),
        ("rank", *(f"lambda_{lam:.2g}" for lam in detail.spectrum_lam.tolist())),
        [(float(r), *column.tolist()) for r, column in zip(rank, values.T, strict=True)],
        "\n".join(lines),
    )


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
        *judged_imports(inputs, "from dpi_core.analysis.activations import layer_activations"),
        "",
        *judged_lines(model, inputs, device),
        f"s = {[round(float(s), 6) for s in result.s]}",
        f"x0, eps = x0[:{result.samples['cka']}], eps[:{result.samples['cka']}]",
        "*_, found = layer_activations(model.denoiser, x0, eps, s)",
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
