"""The path from θ0 to θ1 seen in the output: distances, cached blends, weight blend against output blend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from app.figures.chart import (
    DIVERGING,
    GUIDE,
    LAMBDA,
    SERIES,
    THIS,
    Chart,
    band,
    mark_cursor,
    plot,
    rows_of,
    share_of_last,
    signed,
    subplots,
    tiles,
)
from app.figures.reproduce import clean_line, judged_imports, judged_lines, load_line, stored_inputs
from app.records import Inputs, ParametersResult, StoredModel

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BLENDS = ("weight blend", "output blend", "difference")


def path_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str, cursor: float) -> Chart:
    """Parametric against functional distance along s, both as shares of their value at s = 1."""
    weights, paths = result.weights, result.paths
    figure = plot("scalar s of the parameters", "share of the distance at s = 1", height=420)
    moved = share_of_last(weights.moved)
    figure.add_scatter(x=weights.s, y=moved, name="parameters ‖θ(s) − θ0‖", line={"color": LAMBDA, "width": 4})
    for level, distance, arc, colour in zip(paths.levels, paths.distance, paths.arc, SERIES, strict=False):
        label = f"noise {level:.2f}"
        figure.add_scatter(
            x=paths.s,
            y=share_of_last(distance),
            name=f"x̂0, {label}",
            legendgroup=label,
            line={"color": colour, "width": 2},
        )
        figure.add_scatter(
            x=paths.s, y=arc / (distance[-1] or 1.0), name=f"its arc length, {label}", legendgroup=label,
            line={"color": colour, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    mark_cursor(figure, cursor)
    identity = (
        f"The purple line is λ(s) itself: with one λ, ‖θ(s) − θ0‖ = λ(s)‖θ1 − θ0‖ is an identity (residual"
        f" {weights.residual:.0e}), not a finding."
        if weights.groups == 1
        else "The purple line is measured on θ(s): each group of layers follows its own λ."
    )
    caption = (
        f"{identity} What the output makes of it is: solid lines are the distance of x̂0 from that of θ0 at fixed noised"
        " inputs, dotted ones the way it takes; a dotted line above 1 is a detour."
    )
    header = ["s", "lambda", "parameters"]
    columns = [weights.s, weights.lam, weights.moved]
    for level, distance, arc in zip(paths.levels, paths.distance, paths.arc, strict=True):
        header += [f"distance_{level:.2g}", f"arc_{level:.2g}"]
        columns += [distance, arc]
    lines = [
        *judged_imports(
            inputs,
            "from dpi_core.analysis.paths import output_paths",
            "from dpi_core.analysis.weights import weight_path",
        ),
        "",
        *judged_lines(model, inputs, device),
        f"s = np.linspace(0, 1, {len(paths.s)}).tolist()",
        "parameters = weight_path(model.net, [float(model.denoiser.physical(each)) for each in s]).moved",
        f"outputs = list(output_paths(model.denoiser, x0, eps, {[float(v) for v in paths.levels]}, s))",
    ]  # fmt: skip
    return Chart(
        "functional-against-parametric-distance",
        "Functional against parametric distance",
        figure,
        caption,
        tuple(header),
        rows_of(*columns),
        "\n".join(lines),
    )


def kept_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> Chart:
    """DB lost where only K blends are kept."""
    paths = result.paths
    loss = np.maximum(paths.kept_loss, 1e-4)
    figure = plot("K, parameter sets kept", "dB lost, mean over s", height=420)
    figure.add_scatter(
        x=paths.counts, y=loss[:, 0], mode="lines+markers", line={"color": THIS, "width": 2.5}, marker={"size": 8},
        error_y={"type": "data", "symmetric": False, "array": loss[:, 2] - loss[:, 0], "arrayminus": loss[:, 0] - loss[:, 1]},
    )  # fmt: skip
    figure.update_xaxes(type="log", tickvals=paths.counts.tolist(), ticktext=[f"{k:.0f}" for k in paths.counts])
    figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(showlegend=False)
    lines = [
        *judged_imports(
            inputs,
            "from dpi_core.analysis.landscape import curve_errors, loss",
            "from dpi_core.analysis.paths import cached_blends",
            "from dpi_core.evaluation import LEVELS",
        ),
        "",
        *judged_lines(model, inputs, device),
        "exact = curve_errors(model.denoiser, x0, eps, LEVELS)",
        f"for kept in cached_blends(model.denoiser, x0, eps, LEVELS, {[int(k) for k in paths.counts]}):",
        f'    print(kept.count, loss(kept.s, exact, kept.mse, "{result.landscape.measure}").total)',
    ]  # fmt: skip
    return Chart(
        "kept-blends",
        "Keeping only K blends",
        figure,
        "How much is lost if θ(s) is stored at K equal steps of s and the nearest is used; K = 1 keeps θ(1/2), one"
        " frozen set that was never trained alone. Bars: 95 % over samples.",
        ("K", "loss_db", "low", "high", "rms_change"),
        rows_of(paths.counts, *paths.kept_loss.T, paths.kept_moved),
        "\n".join(lines),
    )


def gap_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> Chart:
    """‖f(θ_λ) − [(1 − λ)f(θ0) + λf(θ1)]‖ against λ."""
    paths = result.paths
    figure = plot("position λ", "gap / ‖f(θ1) − f(θ0)‖", height=380)
    for level, gap, apart, colour in zip(paths.levels, paths.gap, paths.apart, SERIES, strict=False):
        figure.add_scatter(
            x=paths.blend_lam,
            y=gap / (apart or 1.0),
            name=f"noise level {level:.2f}",
            line={"color": colour, "width": 2.5},
        )
    lines = [
        *judged_imports(inputs, "from dpi_core.analysis.paths import blend_gaps"),
        "",
        *judged_lines(model, inputs, device),
        f"lam = np.linspace(0, 1, {len(paths.blend_lam)}).tolist()",
        f"values = [each.relative for each in blend_gaps(model.denoiser, x0, eps, {[float(v) for v in paths.levels]}, lam)]",
    ]
    header = ("lambda", *(f"gap_{level:.2g}" for level in paths.levels), *(f"apart_{v:.2g}" for v in paths.levels))
    rows = [(float(lam), *paths.gap[:, k].tolist(), *paths.apart.tolist()) for k, lam in enumerate(paths.blend_lam)]
    return Chart(
        "blend-gap",
        "Weight blend against output blend",
        figure,
        "Zero at both ends by construction; a high arch means that blending weights is not blending two networks' outputs.",
        header,
        rows,
        "\n".join(lines),
    )


def blend_loss_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str, cursor: float) -> Chart:
    """DB that blended outputs lose against blended weights."""
    paths = result.paths
    mean, low, high = paths.blend_total
    figure = plot("noise level s", "dB lost by blending outputs", height=380)
    band(figure, paths.blend_s, paths.blend_low, paths.blend_high, THIS)
    figure.add_scatter(x=paths.blend_s, y=paths.blend_loss, line={"color": THIS, "width": 3})
    figure.update_layout(showlegend=False)
    mark_cursor(figure, cursor)
    lines = [
        *judged_imports(
            inputs,
            "from dpi_core.analysis.landscape import quality_db",
            "from dpi_core.analysis.paths import blend_gaps",
        ),
        "",
        *judged_lines(model, inputs, device),
        f"s = {cursor:.4g}",
        "lam = model.denoiser.lam(s).detach().mean().item()",
        "(found,) = blend_gaps(model.denoiser, x0, eps, [s], [lam])",
        f'measure = "{result.landscape.measure}"',
        "lost = quality_db(found.weight_mse, measure) - quality_db(found.output_mse, measure)",
    ]  # fmt: skip
    return Chart(
        "output-blend-loss",
        "What an ensemble of both ends would lose",
        figure,
        f"(1 − λ)f(θ0) + λf(θ1) at the learned λ(s), against the network itself: {signed(mean, 2)} dB in the mean over s"
        f" ({signed(low, 2)} to {signed(high, 2)}, 95 % over samples).",
        ("s", "loss_db", "low", "high"),
        rows_of(paths.blend_s, paths.blend_loss, paths.blend_low, paths.blend_high),
        "\n".join(lines),
    )


def blend_pictures(
    model: StoredModel, result: ParametersResult, inputs: Inputs, device: str, s: float, lam: float
) -> Chart:
    """The two blends of a few inputs at the noise level nearest to s, and their difference."""
    paths = result.paths
    i, j = int(np.argmin(np.abs(paths.picture_levels - s))), int(np.argmin(np.abs(paths.picture_lam - lam)))
    s, lam = float(paths.picture_levels[i]), float(paths.picture_lam[j])
    weights, start, end = (paths.pictures[i, row].astype(np.float64) for row in (j, 0, -1))
    outputs = (1 - lam) * start + lam * end
    figure = _image_panels(weights, outputs) if model.is_image else _point_panels(weights, outputs)
    gap = float(np.sqrt(np.mean((weights - outputs) ** 2)))
    shown, stream = (stored_inputs(model), "") if result is model.parameters else (inputs, ", 1")
    lines = [
        *judged_imports(shown, "from dpi_core.analysis.paths import denoised"),
        "",
        load_line(model, device),
        clean_line(model, shown),
        f"eps = torch.randn(x0.shape, generator=seeded_generator({shown.seed}{stream}))",
        f"s, lam = {s:.5g}, {lam:.5g}",
        "def at(lam):",
        "    with model.net.using(dpi_core.FixedSchedule(lam)):",
        "        return denoised(model.denoiser, x0, eps, s, 0.0)",
        f"difference = (at(lam) - torch.lerp(at(0.0), at(1.0), lam))[:{len(weights)}]",
    ]
    what = "Lines join what belongs together."
    if model.is_image:
        what = "Red: the weight blend is brighter, blue: darker, in the unit of the images, which reach from −1 to 1."
    return Chart(
        "blend-pictures",
        f"Both blends at t = {s:.2f}, λ = {lam:.2f}",
        figure,
        f"x̂0 from blended weights, from blended outputs, and their difference (root mean square {gap:.3f}). {what}",
        ("input", "rms_difference"),
        [(n, float(np.sqrt(np.mean((a - b) ** 2)))) for n, (a, b) in enumerate(zip(weights, outputs, strict=True))],
        "\n".join(lines),
    )


def _image_panels(weights: np.ndarray, outputs: np.ndarray) -> Figure:
    figure = subplots(BLENDS)
    # A colour image's difference is the mean over its channels.
    difference = (weights - outputs).mean(axis=-1)
    reach = float(np.quantile(np.abs(difference), 0.995)) or 1.0
    for column, images in enumerate((weights, outputs), start=1):
        mosaic = tiles(np.clip((images + 1) * 127.5, 0, 255), 128, 2)
        figure.add_image(z=np.broadcast_to(mosaic, (*mosaic.shape[:2], 3)).astype(np.uint8), row=1, col=column)
    figure.add_heatmap(
        z=tiles(difference[..., None], np.nan, 2)[..., 0], colorscale=DIVERGING, zmin=-reach, zmax=reach, zmid=0,
        colorbar={"thickness": 8, "orientation": "h", "x": 0.84, "len": 0.3, "y": -0.02, "yanchor": "top", "nticks": 3},
        row=1, col=3,
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x")
    for column in (2, 3):
        figure.update_yaxes(scaleanchor=f"x{column}", col=column)
    return figure


def _point_panels(weights: np.ndarray, outputs: np.ndarray) -> Figure:
    figure = subplots(BLENDS)
    for column, points, colour in ((1, weights, THIS), (2, outputs, "#E69F00")):
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], mode="markers", marker={"color": colour, "size": 4}, row=1, col=column
        )
    joined = np.stack([outputs, weights, np.full_like(weights, np.nan)], axis=1).reshape(-1, 2)
    figure.add_scatter(x=joined[:, 0], y=joined[:, 1], mode="lines", line={"color": GUIDE, "width": 1}, row=1, col=3)
    reach = 1.05 * float(np.abs(np.stack([weights, outputs])).max())
    figure.update_xaxes(range=[-reach, reach], title="first coordinate", title_font_size=12)
    figure.update_yaxes(range=[-reach, reach])
    figure.update_yaxes(title="second coordinate", title_font_size=12, col=1)
    for column in (1, 2, 3):
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(scaleanchor=anchor, showticklabels=column == 1, col=column)
    figure.update_layout(showlegend=False)
    return figure
