"""The Parameters page: its numbers in words, what the λ studio is given, and the regret of the learned curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.components.studio import StudioLandscape
from app.figures.chart import GUIDE, LAMBDA, Chart, band, plot, rows_of, signed
from app.figures.reproduce import judged_imports, judged_lines
from app.records import Inputs, ParametersResult, StoredModel, WeightsResult

JUDGED = (0.05, 0.95)
"""The noise levels that means over s are taken of, as in `dpi_core.analysis.landscape`."""


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
            f"{signed(mean, 3)} dB",
            f"{signed(low, 3)} to {signed(high, 3)} with 95 % confidence over {landscape.samples} {what};"
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
            *judged_imports(inputs, "from dpi_core.analysis.landscape import curve_errors, is_judged, quality_db"),
            "",
            *judged_lines(model, inputs, device),
            f"s = np.linspace(0, 1, {len(result.landscape.s)})",
            f"curve = {table}" + ("  # the learned one" if curve is None else ""),
            f'drawn = quality_db(curve_errors(model.denoiser, x0, eps, s.tolist(), curve), "{measure}")',
            f'learned = quality_db(curve_errors(model.denoiser, x0, eps, s.tolist()), "{measure}")',
            "gain_db = (drawn - learned)[is_judged(s)].mean()",
        ]
    )


def landscape_chart(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> Chart:
    """DB below the best λ at each noise level, with regret and the three curves."""
    plane = result.landscape
    figure = plot("noise level s", "dB", height=320)
    judged = judged_levels(plane.s)
    band(figure, plane.s[judged], plane.regret_low[judged], plane.regret_high[judged], LAMBDA)
    figure.add_scatter(x=plane.s[judged], y=plane.regret[judged], line={"color": LAMBDA, "width": 3})
    figure.update_layout(showlegend=False, yaxis_title="dB lost against λ*(s)")
    figure.add_hline(0, line={"color": GUIDE, "width": 1})
    return Chart(
        "regret",
        "Regret of the learned curve",
        figure,
        "Above zero another λ would denoise better; λ* is chosen on the other half of the samples, so the"
        " regret may come out below zero where nothing is to be gained. Band: 95 % over samples.",
        ("s", "learned_lambda", "best_lambda", "regret_db", "low", "high", "psnr_learned", "psnr_best"),
        rows_of(
            plane.s, plane.learned, plane.valley, plane.regret, plane.regret_low, plane.regret_high,
            plane.learned_quality, plane.valley_quality,
        ),
        "\n".join(
            [
                *judged_imports(inputs, "from dpi_core.analysis.landscape import curve_errors, landscape, plane_errors"),
                "",
                *judged_lines(model, inputs, device),
                f"s = np.linspace(0, 1, {len(plane.s)}).tolist()",
                "cells = list(plane_errors(model.denoiser, x0, eps, s, s))",
                "lam = model.net.lam(torch.tensor(s, dtype=torch.float64)).detach().cpu().numpy()",
                "errors = curve_errors(model.denoiser, x0, eps, s)",
                f'found = landscape(cells, lam, errors, "{plane.measure}", seed={inputs.seed})',
                "print(found.regret.total)",
            ]
        ),
    )  # fmt: skip
