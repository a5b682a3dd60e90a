"""The Parameters page: its numbers in words, what the λ studio is given, and the regret of the learned curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.components.studio import StudioLandscape
from app.figures.chart import GUIDE, LAMBDA, Chart, band, plot, rows_of, signed
from app.figures.reproduce import judged_imports, judged_lines
from app.records import Inputs, ParametersResult, StoredModel, WeightsResult
from app.records.curves import Curves
from dpi_core.judged import JUDGED

LITTLE = 0.05
"""In dB: a regret that is surely below this is called little."""


@dataclass(frozen=True)
class Headline:
    """One number of the top row: what it is, its value with its unit, and a remark."""

    label: str
    value: str
    remark: str


def headlines(model: StoredModel, result: ParametersResult, inputs: Inputs) -> list[Headline]:
    """The four numbers that a researcher asks for first; `inputs` are what errors were judged on."""
    weights, landscape = result.weights, result.landscape
    mean, low, high = landscape.regret_total
    judged = f"{landscape.samples} {'images' if model.is_image else 'points'}"
    if inputs.kind == "upload":
        judged = inputs.upload_in_words
    return [
        Headline("λ(s)", "saturated" if weights.saturated else "spread out", spent_in_words(weights)),
        Headline(
            "Mean regret against λ*(s)",
            f"{signed(mean, 3)} dB",
            f"{signed(low, 3)} to {signed(high, 3)} with 95 % confidence over {judged}; {_regret_in_words(low, high)}.",
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
    """What the interval says of these two sets, which were trained for this λ; of another training it says nothing."""
    if high < LITTLE:
        return f"with these two sets another curve would gain less than {LITTLE:g} dB"
    if low > 0:
        return "another curve would serve these two sets better"
    return "undecided on so few samples"


def judged_levels(s: np.ndarray) -> np.ndarray:
    """Which noise levels count in means over s."""
    return (s >= JUDGED[0]) & (s <= JUDGED[1])


def studio_landscape(model: StoredModel, result: ParametersResult) -> StudioLandscape:
    """What the studio looks curves up in."""
    plane = result.landscape
    below = "Below zero your curve is worse than the learned one"
    looked_up = (
        f"{below}; dashed: the best λ at each s. Looked up in {len(plane.lam)} × {len(plane.s)} measured errors, right to"
        f" {max(plane.residual, 0.001):.3f} dB on the learned curve; the headline is the mean over t 0.05–0.95."
    )
    measured = (
        f"{below}. With a curve for each of {len(plane.group_names)} groups nothing can be looked up: it is measured when you"
        " let go, and the landscape holds for all groups at the same λ; the headline is the mean over t 0.05–0.95."
    )
    return StudioLandscape(
        title=model.name,
        s=plane.s,
        lam=plane.lam,
        quality=plane.quality,
        parts=plane.parts,
        measure="psnr" if plane.measure == "psnr" else "mse",
        groups=tuple(plane.group_names),
        curves=plane.curves,
        valley=plane.valley,
        best=plane.valley_quality,
        judged=judged_levels(plane.s),
        gain_caption=looked_up if len(plane.group_names) == 1 else measured,
    )


def studio_lines(
    model: StoredModel, result: ParametersResult, inputs: Inputs, curves: Curves | None, device: str
) -> str:
    """Python that measures what the studio shows."""
    table = "None" if curves is None else f"dpi_core.FixedSchedule({_table(curves)})"
    measure = result.landscape.measure
    return "\n".join(
        [
            *judged_imports(inputs, "from dpi_core.analysis.landscape import curve_errors, is_judged, quality_db"),
            "",
            *judged_lines(model, inputs, device),
            f"s = np.linspace(0, 1, {len(result.landscape.s)})",
            f"curve = {table}" + ("  # the learned one" if curves is None else ""),
            f'drawn = quality_db(curve_errors(model.denoiser, x0, eps, s.tolist(), curve), "{measure}")',
            f'learned = quality_db(curve_errors(model.denoiser, x0, eps, s.tolist()), "{measure}")',
            "gain_db = (drawn - learned)[is_judged(s)].mean()",
        ]
    )


def _table(curves: Curves) -> str:
    """The values of a schedule: one λ for each s, or a row with one for each group."""
    rows = [[float(f"{lam:.4g}") for lam in row] for row in zip(*curves, strict=True)]
    return str(rows if len(curves) > 1 else [row[0] for row in rows])


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
        "Above zero another λ would serve these two sets better; λ* is chosen on the other half of the samples, so the"
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
                "lam = model.denoiser.lam(torch.tensor(s, dtype=torch.float64)).detach().cpu().numpy()",
                "errors = curve_errors(model.denoiser, x0, eps, s)",
                f'found = landscape(cells, lam, errors, "{plane.measure}", seed={inputs.seed})',
                "print(found.regret.total)",
            ]
        ),
    )  # fmt: skip
