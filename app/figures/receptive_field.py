"""The receptive field in figures: which pixels of x_s one pixel of x̂0 depends on, as s moves."""

from __future__ import annotations

import numpy as np

from app.figures.chart import DIVERGING, THIS, Chart, mark_cursor, plot, rows_of
from app.figures.reproduce import clean_line, data_imports, load_line
from app.records import Inputs, ReceptiveFieldRequest, ReceptiveFieldResult, StoredModel

ROWS = ("noised x_s", "x̂0", "integrated gradients", "occlusion")
CROSS = "#17A08F"


def fields_chart(model: StoredModel, result: ReceptiveFieldResult, request: ReceptiveFieldRequest) -> Chart:
    """Pictures for every noise level: input, output, and what the pixel depends on by two methods."""
    from plotly.subplots import make_subplots

    columns = len(result.s)
    figure = make_subplots(
        rows=len(ROWS), cols=columns, column_titles=[f"s = {s:.2f}" for s in result.s], row_titles=list(ROWS),
        horizontal_spacing=0.01, vertical_spacing=0.015,
    )  # fmt: skip
    gradients = result.gradients.sum(axis=-1)
    for column in range(columns):
        for row, images in enumerate((result.x_s, result.x0_hat), start=1):
            shown = np.clip((images[column] + 1) * 127.5, 0, 255).astype(np.uint8)
            figure.add_image(z=np.broadcast_to(shown, (*shown.shape[:2], 3)), row=row, col=column + 1)
        for row, values in enumerate((gradients[column], result.occlusion[column]), start=3):
            reach = float(np.abs(values).max()) or 1.0
            figure.add_heatmap(
                z=values, colorscale=DIVERGING, zmin=-reach, zmax=reach, showscale=False, row=row, col=column + 1,
                hovertemplate="row %{y}, column %{x}: %{z:.3g}<extra></extra>",
            )  # fmt: skip
        for row in range(1, len(ROWS) + 1):
            figure.add_scatter(
                x=[request.column], y=[request.row], mode="markers", showlegend=False, hoverinfo="skip",
                marker={"color": CROSS, "symbol": "x-thin", "size": 10, "line": {"color": CROSS, "width": 2}},
                row=row, col=column + 1,
            )  # fmt: skip
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    for axis in range(1, columns * len(ROWS) + 1):
        figure.update_layout({f"yaxis{axis if axis > 1 else ''}": {"scaleanchor": f"x{axis if axis > 1 else ''}"}})
    figure.update_layout(height=640, margin={"l": 10, "r": 30, "t": 30, "b": 10})
    header = ("s", "row", "column", "integrated_gradient", "occlusion")
    rows = [
        (float(s), y, x, float(gradients[k, y, x]), float(result.occlusion[k, y, x]))
        for k, s in enumerate(result.s)
        for y in range(gradients.shape[1])
        for x in range(gradients.shape[2])
    ]
    return Chart(
        "receptive-field",
        f"What the pixel in row {request.row}, column {request.column} of x̂0 depends on",
        figure,
        "Red pixels of x_s make it brighter, blue ones darker, each panel in its own scale; occlusion replaces a patch of"
        f" {result.patch} × {result.patch} pixels by mid-grey. The cross marks the pixel.",
        header,
        rows,
        "\n".join(_lines(model, request)),
    )


def radius_chart(model: StoredModel, result: ReceptiveFieldResult, request: ReceptiveFieldRequest, s: float) -> Chart:
    """How far the dependence reaches."""
    figure = plot("noise level s", "radius (pixels)", 300)
    figure.add_scatter(x=result.s, y=result.radius, mode="lines+markers", line={"color": THIS, "width": 2.5})
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=False)
    mark_cursor(figure, s)
    worst = 100 * float(np.nanmax(result.completeness))
    return Chart(
        "receptive-radius",
        "How far it looks",
        figure,
        "Root mean square distance of what the pixel depends on."
        f" Completeness residual of the gradients: at most {worst:.2g} %.",
        ("s", "radius_pixels", "completeness"),
        rows_of(result.s, result.radius, result.completeness),
        "\n".join(_lines(model, request)),
    )


def _lines(model: StoredModel, request: ReceptiveFieldRequest) -> list[str]:
    inputs: Inputs = request.inputs
    return [
        "import dpi_core",
        "import torch",
        "from dpi_core.analysis.receptive_field import receptive_fields",
        *data_imports(inputs),
        "from dpi_core.seeds import seeded_generator",
        "",
        load_line(model, request.device),
        clean_line(model, inputs),
        f"eps = torch.randn(x0.shape, generator=seeded_generator({inputs.seed}, 1))",
        f"s, n = {list(request.s_grid)}, {request.sample}",
        f"fields = receptive_fields(model.denoiser, x0[n], eps[n], s, ({request.row}, {request.column}), 3)",
        "values = [each.radius for each in fields]",
    ]
