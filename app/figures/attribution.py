"""Attribution in figures: which layers the gain of θ(s) over θ0 comes from, and whether the shares add up."""

from __future__ import annotations

import numpy as np

from app.figures.chart import GUIDE, LAMBDA, THIS, Chart, bar_height, categories, mark_cursor, order_of, plot, rows_of
from app.figures.reproduce import judged_imports, judged_lines
from app.records import Inputs, LayersResult, StoredModel

CHECK_COLOUR = "#E69F00"
FLAGGED = 0.01
"""A completeness residual above this is flagged."""


def attribution_chart(
    model: StoredModel, result: LayersResult, inputs: Inputs, device: str, cursor: float, by_value: bool
) -> Chart:
    """DB that each layer contributes at the noise level nearest to the cursor, by two methods."""
    known = np.isfinite(result.attribution).any(axis=0)
    level = int(np.argmin(np.where(known, np.abs(result.s - cursor), np.inf)))
    shares, check = result.attribution[:, level], result.attribution_check[:, level]
    order = order_of(np.abs(shares), by_value)
    names = [result.names[i] for i in order]
    figure = plot("dB of the gain of θ(s) over θ0", "layer", bar_height(len(names)))
    figure.add_bar(y=names, x=shares[order], orientation="h", marker_color=THIS, name="integrated gradients")
    if np.isfinite(check).any():
        figure.add_scatter(
            y=names, x=check[order], mode="markers", name=result.check,
            marker={"color": CHECK_COLOUR, "size": 8, "symbol": "diamond"},
        )  # fmt: skip
    figure.add_vline(0, line={"color": GUIDE, "width": 1})
    categories(figure)
    residual = float(result.completeness[level])
    flag = " That is more than 1 %: take the shares as rough." if residual > FLAGGED else ""
    lines = _lines(model, result, inputs, device, level)
    rows = [(result.names[i], float(shares[i]), float(check[i]), float(result.derivative[i, level])) for i in order]
    return Chart(
        "attribution",
        f"Where the gain comes from at t = {result.s[level]:.2f}",
        figure,
        f"Bars to the right: layers whose way from θ0 to θ(s) improves x̂0; diamonds: the same by {result.check}. The bars"
        f" add up to {float(result.gain[level]):.2f} dB with a residual of {100 * residual:.2g} %.{flag}",
        ("layer", "integrated_gradients_db", "check_db", "derivative_db_per_lambda"),
        rows,
        "\n".join(lines),
    )


def completeness_chart(model: StoredModel, result: LayersResult, inputs: Inputs, device: str, cursor: float) -> Chart:
    """The gain to be shared out and the sums of the shares."""
    figure = plot("noise level s", "dB gained by θ(s) over θ0", 400)
    sums = result.attribution.sum(axis=0)
    checked = result.attribution_check.sum(axis=0)
    figure.add_scatter(x=result.s, y=result.gain, name="gain", line={"color": LAMBDA, "width": 4})
    figure.add_scatter(
        x=result.s, y=sums, name="Σ integrated gradients", line={"color": THIS, "width": 2, "dash": "dash"}
    )
    if np.isfinite(checked).any():
        figure.add_scatter(
            x=result.s, y=checked, name=f"Σ {result.check}", mode="markers",
            marker={"color": CHECK_COLOUR, "symbol": "diamond", "size": 7},
        )  # fmt: skip
    mark_cursor(figure, cursor)
    worst = float(np.nanmax(result.completeness))
    level = int(np.nanargmax(result.completeness))
    jvp = float(np.nanmax(result.derivative_residual))
    return Chart(
        "completeness",
        "Do the shares add up",
        figure,
        f"The sums should lie on the purple line; the largest completeness residual is {100 * worst:.2g} % (t"
        f" {result.s[level]:.2f}, relative to at least {result.floor:g} dB), that of the exact derivatives {100 * jvp:.2g} %.",
        ("s", "gain_db", "sum_integrated_gradients_db", "sum_check_db", "completeness", "derivative_residual"),
        rows_of(result.s, result.gain, sums, checked, result.completeness, result.derivative_residual),
        "\n".join(_lines(model, result, inputs, device, level)),
    )


def _lines(model: StoredModel, result: LayersResult, inputs: Inputs, device: str, level: int) -> list[str]:
    return [
        *judged_imports(inputs, "from dpi_core.analysis.attribution import quality_target, shares"),
        "",
        *judged_lines(model, inputs, device),
        f"s = {float(result.s[level]):.6g}",
        f"count = {result.samples['attribution']}",
        f'target = quality_target("{result.measure}")',
        f"found = list(shares(model.denoiser, x0[:count], eps[:count], [s], target, seed={inputs.seed}))",
        "values, check = (each.values for each in found)",
        "residual = found[0].residual",
    ]
