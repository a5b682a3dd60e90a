"""How good samples get with more network evaluations, as charts."""

from __future__ import annotations

import numpy as np

from app.figures.chart import FAINT, SERIES, Chart, plot, signed
from app.figures.reproduce import load_line
from app.figures.trajectories import SAMPLER_NAMES
from app.records import QualityRequest, QualityResult, StoredModel

BUDGETS = (4, 8, 16, 32)
"""Network evaluations that every sampler is given, where they make at least two steps."""

EVALUATIONS = {"euler": 1, "heun": 2, "dpmpp_2m": 1, "rk4": 4}
STOCHASTIC_EVALUATIONS = {"ddpm": 1, "edm": 2}


def _runs(per_step: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((name, budget // cost) for name, cost in per_step.items() for budget in BUDGETS if budget >= 2 * cost)


QUALITY_RUNS = (*_runs(EVALUATIONS), ("dopri5", 0))
STOCHASTIC_RUNS = _runs(STOCHASTIC_EVALUATIONS)


def quality_charts(model: StoredModel, request: QualityRequest, result: QualityResult) -> list[Chart]:
    """Error against network evaluations, and for points in the plane the distance to the data."""
    charts = [_error_chart(model, request, result)]
    return charts if result.energy is None else [*charts, _energy_chart(model, request, result)]


def _error_chart(model: StoredModel, request: QualityRequest, result: QualityResult) -> Chart:
    caption = (
        f"Root mean square distance of {request.inputs.n} samples from those of a run of dopri5 with a hundredth of its usual"
        " tolerance, from the same noise; both axes logarithmic. It judges the solver, not the network. A solver of order p"
        " falls with slope −p away from the clean end only: the last step of Heun and RK4 is Euler's, so they fall less"
        " steeply here. DDIM without noise is Euler here."
    )
    return _chart(
        "error-nfe", "Error of the solver", "RMS from the fine run", caption, model, request, result, result.error
    )


def _energy_chart(model: StoredModel, request: QualityRequest, result: QualityResult) -> Chart:
    assert result.energy is not None
    floor = ""
    if result.floor is not None:
        low, high = result.floor
        floor = f" Fresh data in place of samples reach {signed(low, 4)} to {signed(high, 4)} in nine draws of ten (grey band)."
    caption = f"Energy distance of {request.inputs.n} samples to fresh data; near 0 is best.{floor}"
    values = result.energy
    chart = _chart(
        "energy-nfe", "Distance to the data", "energy distance", caption, model, request, result, values, log=False
    )
    if result.floor is not None:
        chart.figure.add_hrect(*result.floor, fillcolor=FAINT, opacity=0.4, line_width=0)
    return chart


def _chart(
    name: str,
    title: str,
    y_title: str,
    caption: str,
    model: StoredModel,
    request: QualityRequest,
    result: QualityResult,
    values: np.ndarray,
    log: bool = True,
) -> Chart:
    figure = plot("NFE: network evaluations per sample", y_title, height=380)
    samplers = np.array(result.samplers)
    for sampler, colour in zip(dict.fromkeys(result.samplers), SERIES, strict=False):
        own = (samplers == sampler) & np.isfinite(values)
        if own.any():
            order = np.argsort(result.nfe[own])
            figure.add_scatter(
                x=result.nfe[own][order],
                y=values[own][order],
                name=SAMPLER_NAMES[sampler],
                mode="lines+markers",
                line={"color": colour},
                marker={"size": 8},
            )
    figure.update_xaxes(type="log", tickvals=[*BUDGETS, 64, 128], minor_showgrid=False)
    if log:
        figure.update_yaxes(type="log", dtick="D2", tickformat="~g", minor_showgrid=False)  # at 1, 2, 5
    header = ("sampler", "steps", "nfe", y_title)
    rows = list(zip(result.samplers, result.steps, result.nfe.tolist(), values.tolist(), strict=True))
    return Chart(name, title, figure, caption, header, rows, _lines(model, request))


def _lines(model: StoredModel, request: QualityRequest) -> str:
    """Python that computes the points."""
    runs = [(sampler, steps or None) for sampler, steps in request.runs]
    with_data = not model.is_image
    imports = ["from dpi_core.quality import quality_against_nfe", "import dpi_core"]
    imports += ["from dpi_core.data import load_data"] if with_data else []
    data = ", data=load_data(model.recipe.data)" if with_data else ""
    call = f"quality_against_nfe(model, runs, {request.inputs.n}, seed={request.inputs.seed}{data})"
    return "\n".join(
        [*imports, "", load_line(model, request.device), f"runs = {runs}", f"*_, last = {call}", "points = last.found"]
    )
