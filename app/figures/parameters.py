"""The Parameters page's figures and sentences: results in, Plotly figures and their data out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.components.studio import StudioLandscape
from app.figures.reproduce import clean_line, data_imports, stored_inputs
from app.records import Inputs, ParametersResult, StoredModel, WeightsResult

if TYPE_CHECKING:  # plotly takes half a second to import, which the start page need not wait for
    from plotly.graph_objects import Figure

THETA0, THETA1, LAMBDA, THIS = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
CURSOR = "#17A08F"  # between the theme's primary on light and on dark
MIDWAY = "#6A6959"  # the even blend of θ0 and θ1
FAINT = "rgba(140, 140, 140, 0.6)"
SERIES = ("#009E73", "#E69F00", "#56B4E9", "#8C8C8C", "#B8860B", "#4477AA", "#999933")
DIVERGING = "RdBu_r"

JUDGED = (0.05, 0.95)
"""The noise levels that means over s are taken of, as in `dpi_core.analysis.landscape`."""

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
        "0° is the same direction; at 90° the two sets have nothing in common.",
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

BLENDS = ("weight blend", "output blend", "difference")

SPECTRAL = ("stable_rank", "spectral_norm")


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with all that stands around it.

    Attributes:
        name: of its files.
        title: the heading.
        figure: for Plotly.
        caption: one sentence that says how to read it.
        header: names of the table's columns.
        rows: its data.
        lines: Python that reproduces it.
    """

    name: str
    title: str
    figure: Figure
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    lines: str

    def csv(self) -> str:
        """The table, readable by spreadsheets."""
        stream = io.StringIO()
        csv.writer(stream).writerows([self.header, *self.rows])
        return "\ufeff" + stream.getvalue()


# Numbers in words ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Headline:
    """One number of the top row: what it is, its value with its unit, and a remark."""

    label: str
    value: str
    remark: str


def headlines(model: StoredModel, result: ParametersResult) -> list[Headline]:
    """The four numbers that a researcher asks for first."""
    weights, landscape = result.weights, result.landscape
    mean, low, high = landscape.regret_total
    what = "images" if model.is_image else "points"
    return [
        Headline("λ(s)", "saturated" if weights.saturated else "spread out", spent_in_words(weights)),
        Headline(
            "Mean regret against λ*(s)",
            f"{_signed(mean, 3)} dB",
            f"{_signed(low, 3)} to {_signed(high, 3)} with 95 % confidence over {landscape.samples} {what};"
            f" {_regret_in_words(low, high)}.",
        ),
        Headline(
            "Relative distance of the sets",
            f"{weights.relative[0]:.2f}",
            f"‖θ1 − θ0‖ = {weights.distance[0]:.1f} against ‖θ0‖ = {weights.norm0[0]:.1f}.",
        ),
        Headline(
            "Angle between θ0 and θ1",
            f"{weights.angle[0]:.1f}°",
            f"Half-way the norm is {100 * weights.dip[0]:.1f} % below the mean of both ends.",
        ),
    ]


def spent_in_words(weights: WeightsResult) -> str:
    """Where λ's range is spent, and whether that is too short."""
    low, high = weights.spent[0]
    share = f"90 % of its rise lies in t {low:.2f} to {high:.2f}; a straight line needs 0.90 of the range."
    if weights.groups > 1:
        return f"First of {weights.groups} groups: {share}"
    return f"{share} The rest of the range hardly changes the network." if weights.saturated else share


def _regret_in_words(low: float, high: float) -> str:
    if low > 0.01:
        return "another curve would be better"
    if high < 0.05:
        return "the learned curve lies in the valley"
    return "no clear loss"


def _signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return "0." + "0" * digits if float(text) == 0 else text.replace("-", "−")


# λ studio --------------------------------------------------------------------------------------------------------


def judged_levels(s: np.ndarray) -> np.ndarray:
    """Which noise levels count in means over s."""
    return (s >= JUDGED[0]) & (s <= JUDGED[1])


def studio_landscape(model: StoredModel, result: ParametersResult) -> StudioLandscape:
    """What the studio looks curves up in."""
    plane = result.landscape
    return StudioLandscape(
        title=model.name,
        s=plane.s.astype(float),
        lam=plane.lam.astype(float),
        quality=plane.quality,
        learned=np.clip(plane.learned.astype(float), 0, 1),
        valley=plane.valley.astype(float),
        best=plane.valley_quality,
        judged=judged_levels(plane.s),
        gain_caption=(
            f"Below zero your curve is worse than the learned one; dashed: the best λ at each s. Looked up in"
            f" {len(plane.lam)} × {len(plane.s)} measured errors, right to {max(plane.residual, 0.001):.3f} dB on the learned"
            " curve; the headline is the mean over t 0.05–0.95."
        ),
    )


def studio_lines(
    model: StoredModel, result: ParametersResult, inputs: Inputs, curve: Sequence[float] | None, device: str
) -> str:
    """Python that measures what the studio looks up."""
    table = "None" if curve is None else "dpi_core.FixedSchedule([" + ", ".join(f"{v:.4g}" for v in curve) + "])"
    measure = result.landscape.measure
    return "\n".join(
        [
            *_imports(inputs, "from dpi_core.analysis.landscape import curve_errors, is_judged, quality_db"),
            "",
            *_inputs_lines(model, inputs, device),
            f"s = np.linspace(0, 1, {len(result.landscape.s)})",
            f"curve = {table}" + ("  # the learned one" if curve is None else ""),
            f'drawn = quality_db(curve_errors(model.denoiser, x0, eps, s.tolist(), curve), "{measure}")',
            f'learned = quality_db(curve_errors(model.denoiser, x0, eps, s.tolist()), "{measure}")',
            "gain_db = (drawn - learned)[is_judged(s)].mean()",
        ]
    )


def _imports(inputs: Inputs, *more: str) -> list[str]:
    return [
        "import dpi_core",
        "import numpy as np",
        "import torch",
        *more,
        *data_imports(inputs),
        "from dpi_core.seeds import seeded_generator",
    ]


def _load_line(model: StoredModel, device: str = "cpu") -> str:
    return (
        f'model = dpi_core.load("checkpoints/{model.name}"' + ("" if device == "cpu" else f', device="{device}"') + ")"
    )


def _inputs_lines(model: StoredModel, inputs: Inputs, device: str) -> list[str]:
    return [
        _load_line(model, device),
        clean_line(model, inputs),
        f"eps = torch.randn(x0.shape, generator=seeded_generator({inputs.seed}, 1))",
    ]


def landscape_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> Chart:
    """DB below the best λ at each noise level, with regret and the three curves."""
    plane = result.landscape
    figure = _figure("noise level s", "dB", height=320)
    judged = judged_levels(plane.s)
    _band(figure, plane.s[judged], plane.regret_low[judged], plane.regret_high[judged], LAMBDA)
    figure.add_scatter(x=plane.s[judged], y=plane.regret[judged], line={"color": LAMBDA, "width": 3})
    figure.update_layout(showlegend=False, yaxis_title="dB lost against λ*(s)")
    figure.add_hline(0, line={"color": "#8C8C8C", "width": 1})
    return Chart(
        "regret",
        "Regret of the learned curve",
        figure,
        "Above zero another λ would denoise better; λ* is chosen on the other half of the samples, so the"
        " regret may come out below zero where nothing is to be gained. Band: 95 % over samples.",
        ("s", "learned_lambda", "best_lambda", "regret_db", "low", "high", "psnr_learned", "psnr_best"),
        _rows(
            plane.s, plane.learned, plane.valley, plane.regret, plane.regret_low, plane.regret_high,
            plane.learned_quality, plane.valley_quality,
        ),
        "\n".join(
            [
                *_imports(inputs, "from dpi_core.analysis.landscape import curve_errors, landscape, plane_errors"),
                "",
                *_inputs_lines(model, inputs, device),
                f"s = np.linspace(0, 1, {len(plane.s)}).tolist()",
                "cells = list(plane_errors(model.denoiser, x0, eps, s, s))",
                "lam = model.net.lam(torch.tensor(s, dtype=torch.float64)).detach().cpu().numpy()",
                "errors = curve_errors(model.denoiser, x0, eps, s)",
                f'found = landscape(cells, lam, errors, "{plane.measure}", seed={inputs.seed})',
                "print(found.regret.total)",
            ]
        ),
    )  # fmt: skip


# Distances -------------------------------------------------------------------------------------------------------


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
    order = _order(values, by_value)
    figure = _figure(axis, "", height=_bar_height(len(rows)))
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
            line={"color": "#8C8C8C", "dash": "dash"},
            annotation_text="total",
            annotation_position="bottom",
        )
        caption += " Dashed: all parameters as one vector."
    _categories(figure)
    columns = ("numel", "norm0", "norm1", "distance", "relative", "angle", "dip")
    table = [(names[i], *(float(getattr(weights, column)[rows[i]]) for column in columns)) for i in order]
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import weight_distances",
        "",
        _load_line(model),
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
    order = _order(values[:, shown[1]], by_value)
    figure = _figure(axis, "", height=_bar_height(len(values)))
    names = [weights.spectrum_names[i] for i in order]
    for column, colour, symbol in zip(shown, (THETA0, MIDWAY, THETA1), ("circle", "diamond", "square"), strict=True):
        lam = float(weights.spectrum_lam[column])
        figure.add_scatter(
            y=names, x=values[order, column], mode="markers", name=f"λ = {lam:.2g}",
            marker={"color": colour, "size": 8, "symbol": symbol},
        )  # fmt: skip
    _categories(figure)
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import spectra",
        "",
        _load_line(model),
        f"lam = {[float(v) for v in weights.spectrum_lam]}",
        f"values = {{each.name: each.{statistic} for each in spectra(model.net, lam)}}",
    ]
    header = ("parameter", *(f"lambda_{float(lam):.2g}" for lam in weights.spectrum_lam))
    rows = [(weights.spectrum_names[i], *values[i].tolist()) for i in order]
    return Chart(statistic, f"{name} of each weight", figure, caption, header, rows, "\n".join(lines))


def norm_chart(model: StoredModel, weights: WeightsResult) -> Chart:
    """‖θ‖ along the path, of all parameters and of the stages, relative to ‖θ0‖."""
    figure = _figure("position λ: 0 at θ0, 1 at θ1", "‖θ‖ / ‖θ0‖", height=380)
    stages = [i for i, kind in enumerate(weights.kinds) if kind == "stage" and weights.norm0[i] > 0]
    bent = sorted(stages, key=lambda i: -abs(weights.norm_path[i] / weights.norm0[i] - 1).max())[: len(SERIES) - 2]
    for i in sorted(stages, key=lambda i: i in bent):
        colour = SERIES[bent.index(i)] if i in bent else FAINT
        figure.add_scatter(
            x=weights.norm_lam, y=weights.norm_path[i] / weights.norm0[i], name=weights.names[i],
            line={"color": colour, "width": 2 if i in bent else 1}, showlegend=i in bent,
        )  # fmt: skip
    scale = weights.norm0[0] or 1.0
    figure.add_scatter(
        x=weights.norm_lam, y=weights.norm_path[0] / scale, name="total", line={"color": LAMBDA, "width": 4}
    )
    lines = [
        "import dpi_core",
        "import numpy as np",
        "from dpi_core.analysis.weights import weight_distances",
        "",
        _load_line(model),
        "total = weight_distances(model.net).total",
        f"values = [total.norm_at(lam) / total.norm0 for lam in np.linspace(0, 1, {len(weights.norm_lam)})]",
    ]
    rows = [(float(lam), *weights.norm_path[[0, *stages], k].tolist()) for k, lam in enumerate(weights.norm_lam)]
    return Chart(
        "norm-along-path",
        "Norm along the path",
        figure,
        "A line that sags has smaller weights half-way than at either end; named are the stages that change most, thin grey"
        " lines are the others.",
        ("lambda", "total", *(weights.names[i] for i in stages)),
        rows,
        "\n".join(lines),
    )


def histogram_chart(model: StoredModel, weights: WeightsResult, name: str) -> Chart:
    """The entries of θ1 − θ0 of one layer, or of all."""
    at = weights.histogram_names.index(name)
    edges, counts = weights.histogram_edges[at], weights.histogram_counts[at]
    figure = _figure("entry of θ1 − θ0", "count (log)", height=380)
    figure.add_bar(
        x=(edges[1:] + edges[:-1]) / 2, y=counts, width=np.diff(edges), marker_color=THIS, marker_line_width=0
    )
    figure.update_layout(bargap=0, showlegend=False)
    figure.update_yaxes(type="log", dtick=1)
    lines = [
        "import dpi_core",
        "from dpi_core.analysis.weights import histograms",
        "",
        _load_line(model),
        f'(found,) = [each for each in histograms(model.net) if each.name == "{name}"]',
        "values = found.counts",
    ]
    return Chart(
        "difference-histogram",
        "Entries of θ1 − θ0",
        figure,
        "A peak at zero with long arms means that few entries carry the difference; counts are on a logarithmic axis.",
        ("low", "high", "count"),
        _rows(edges[:-1], edges[1:], counts),
        "\n".join(lines),
    )


# Paths -----------------------------------------------------------------------------------------------------------


def path_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str, cursor: float) -> Chart:
    """Parametric against functional distance along s, both as shares of their value at s = 1."""
    weights, paths = result.weights, result.paths
    figure = _figure("scalar s of the parameters", "share of the distance at s = 1", height=420)
    moved = _share(weights.moved)
    figure.add_scatter(x=weights.s, y=moved, name="parameters ‖θ(s) − θ0‖", line={"color": LAMBDA, "width": 4})
    for level, distance, arc, colour in zip(paths.levels, paths.distance, paths.arc, SERIES, strict=False):
        label = f"noise {level:.2f}"
        figure.add_scatter(
            x=paths.s, y=_share(distance), name=f"x̂0, {label}", legendgroup=label, line={"color": colour, "width": 2}
        )
        figure.add_scatter(
            x=paths.s, y=arc / (distance[-1] or 1.0), name=f"its arc length, {label}", legendgroup=label,
            line={"color": colour, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    _cursor(figure, cursor)
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
        *_imports(
            inputs,
            "from dpi_core.analysis.paths import output_paths",
            "from dpi_core.analysis.weights import weight_path",
        ),
        "",
        *_inputs_lines(model, inputs, device),
        f"s = np.linspace(0, 1, {len(paths.s)}).tolist()",
        "parameters = weight_path(model.net, s).moved",
        f"outputs = list(output_paths(model.denoiser, x0, eps, {[float(v) for v in paths.levels]}, s))",
    ]  # fmt: skip
    return Chart(
        "functional-against-parametric-distance",
        "Functional against parametric distance",
        figure,
        caption,
        tuple(header),
        _rows(*columns),
        "\n".join(lines),
    )


def kept_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> Chart:
    """DB lost where only K blends are kept."""
    paths = result.paths
    loss = np.maximum(paths.kept_loss, 1e-4)
    figure = _figure("K, parameter sets kept", "dB lost, mean over s", height=420)
    figure.add_scatter(
        x=paths.counts, y=loss[:, 0], mode="lines+markers", line={"color": THIS, "width": 2.5}, marker={"size": 8},
        error_y={"type": "data", "symmetric": False, "array": loss[:, 2] - loss[:, 0], "arrayminus": loss[:, 0] - loss[:, 1]},
    )  # fmt: skip
    figure.update_xaxes(type="log", tickvals=paths.counts.tolist(), ticktext=[f"{k:.0f}" for k in paths.counts])
    figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(showlegend=False)
    lines = [
        *_imports(
            inputs,
            "from dpi_core.analysis.landscape import curve_errors, loss",
            "from dpi_core.analysis.paths import cached_blends",
            "from dpi_core.evaluation import LEVELS",
        ),
        "",
        *_inputs_lines(model, inputs, device),
        "exact = curve_errors(model.denoiser, x0, eps, LEVELS)",
        f"for kept in cached_blends(model.denoiser, x0, eps, LEVELS, {[int(k) for k in paths.counts]}):",
        f'    print(kept.count, loss(kept.s, exact, kept.mse, "{result.landscape.measure}").total)',
    ]  # fmt: skip
    return Chart(
        "kept-blends",
        "Keeping only K blends",
        figure,
        "How much is lost if θ(s) is stored at K equal steps of s and the nearest is used; K = 1 keeps θ(1/2), a network"
        " without conditioning. Bars: 95 % over samples.",
        ("K", "loss_db", "low", "high", "rms_change"),
        _rows(paths.counts, *paths.kept_loss.T, paths.kept_moved),
        "\n".join(lines),
    )


# Blends ----------------------------------------------------------------------------------------------------------


def gap_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> Chart:
    """‖f(θ_λ) − [(1 − λ)f(θ0) + λf(θ1)]‖ against λ."""
    paths = result.paths
    figure = _figure("position λ", "gap / ‖f(θ1) − f(θ0)‖", height=380)
    for level, gap, apart, colour in zip(paths.levels, paths.gap, paths.apart, SERIES, strict=False):
        figure.add_scatter(
            x=paths.blend_lam,
            y=gap / (apart or 1.0),
            name=f"noise level {level:.2f}",
            line={"color": colour, "width": 2.5},
        )
    lines = [
        *_imports(inputs, "from dpi_core.analysis.paths import blend_gaps"),
        "",
        *_inputs_lines(model, inputs, device),
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
    figure = _figure("noise level s", "dB lost by blending outputs", height=380)
    _band(figure, paths.blend_s, paths.blend_low, paths.blend_high, THIS)
    figure.add_scatter(x=paths.blend_s, y=paths.blend_loss, line={"color": THIS, "width": 3})
    figure.update_layout(showlegend=False)
    _cursor(figure, cursor)
    lines = [
        *_imports(
            inputs,
            "from dpi_core.analysis.landscape import quality_db",
            "from dpi_core.analysis.paths import blend_gaps",
        ),
        "",
        *_inputs_lines(model, inputs, device),
        f"s = {cursor:.4g}",
        "lam = model.net.lam(s).detach().mean().item()",
        "(found,) = blend_gaps(model.denoiser, x0, eps, [s], [lam])",
        f'measure = "{result.landscape.measure}"',
        "lost = quality_db(found.weight_mse, measure) - quality_db(found.output_mse, measure)",
    ]  # fmt: skip
    return Chart(
        "output-blend-loss",
        "What an ensemble of both ends would lose",
        figure,
        f"(1 − λ)f(θ0) + λf(θ1) at the learned λ(s), against the network itself: {_signed(mean, 2)} dB in the mean over s"
        f" ({_signed(low, 2)} to {_signed(high, 2)}, 95 % over samples).",
        ("s", "loss_db", "low", "high"),
        _rows(paths.blend_s, paths.blend_loss, paths.blend_low, paths.blend_high),
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
        *_imports(shown, "from dpi_core.analysis.paths import denoised"),
        "",
        _load_line(model, device),
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
    figure = _subplots(BLENDS)
    # A colour image's difference is the mean over its channels.
    difference = (weights - outputs).mean(axis=-1)
    reach = float(np.quantile(np.abs(difference), 0.995)) or 1.0
    for column, images in enumerate((weights, outputs), start=1):
        tiles = _tiles(np.clip((images + 1) * 127.5, 0, 255), 128)
        figure.add_image(z=np.broadcast_to(tiles, (*tiles.shape[:2], 3)).astype(np.uint8), row=1, col=column)
    figure.add_heatmap(
        z=_tiles(difference[..., None], np.nan)[..., 0], colorscale=DIVERGING, zmin=-reach, zmax=reach, zmid=0,
        colorbar={"thickness": 8, "orientation": "h", "x": 0.84, "len": 0.3, "y": -0.02, "yanchor": "top", "nticks": 3},
        row=1, col=3,
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x")
    for column in (2, 3):
        figure.update_yaxes(scaleanchor=f"x{column}", col=column)
    return figure


def _tiles(images: np.ndarray, gap: float) -> np.ndarray:
    """(n, h, w, c) -> two columns of tiles with a pixel of `gap` between them, (h', w', c)."""
    n, height, width, channels = images.shape
    columns = min(n, 2)
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), gap, dtype=images.dtype)
    for at, image in enumerate(images):
        top, left = (height + 1) * (at // columns), (width + 1) * (at % columns)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _point_panels(weights: np.ndarray, outputs: np.ndarray) -> Figure:
    figure = _subplots(BLENDS)
    for column, points, colour in ((1, weights, THIS), (2, outputs, "#E69F00")):
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], mode="markers", marker={"color": colour, "size": 4}, row=1, col=column
        )
    joined = np.stack([outputs, weights, np.full_like(weights, np.nan)], axis=1).reshape(-1, 2)
    figure.add_scatter(
        x=joined[:, 0], y=joined[:, 1], mode="lines", line={"color": "#8C8C8C", "width": 1}, row=1, col=3
    )
    reach = 1.05 * float(np.abs(np.stack([weights, outputs])).max())
    figure.update_xaxes(range=[-reach, reach], title="first coordinate", title_font_size=12)
    figure.update_yaxes(range=[-reach, reach])
    figure.update_yaxes(title="second coordinate", title_font_size=12, col=1)
    for column in (1, 2, 3):
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(scaleanchor=anchor, showticklabels=column == 1, col=column)
    figure.update_layout(showlegend=False)
    return figure


# Helpers ---------------------------------------------------------------------------------------------------------


def _figure(x_title: str, y_title: str, height: int) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        xaxis={"title": x_title, "automargin": True},
        yaxis={"title": y_title, "automargin": True},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hoverlabel={"namelength": -1},
    )
    return figure


def _subplots(titles: tuple[str, ...]) -> Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles, horizontal_spacing=0.04)
    figure.update_layout(height=320, margin={"l": 10, "r": 10, "t": 40, "b": 40})
    figure.update_annotations(font_size=13)
    return figure


def _band(figure: Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
        line={"width": 0}, fillcolor=f"rgba({red}, {green}, {blue}, 0.25)", hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _cursor(figure: Figure, s: float) -> None:
    figure.add_vline(s, line={"color": CURSOR, "width": 1.5})


def _categories(figure: Figure) -> None:
    figure.update_yaxes(autorange="reversed", type="category", tickmode="linear", title=None)
    # At the top, where it stays in sight while a long list scrolls.
    figure.update_xaxes(side="top")
    figure.update_layout(bargap=0.25, margin={"t": 60}, legend={"y": -0.02, "yanchor": "top"})


def _bar_height(count: int) -> int:
    return 90 + 20 * max(count, 3)


def _order(values: np.ndarray, by_value: bool) -> np.ndarray:
    return np.argsort(-np.nan_to_num(values), kind="stable") if by_value else np.arange(len(values))


def _share(values: np.ndarray) -> np.ndarray:
    return values / (values[-1] or 1.0)


def _rows(*columns: np.ndarray) -> list[tuple[Any, ...]]:
    return [tuple(float(value) for value in row) for row in zip(*columns, strict=True)]
