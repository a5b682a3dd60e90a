"""Numbers of a model that several lessons ask for, from its stored results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from app.figures.chart import CURSOR, GUIDE, plot
from app.figures.parameters import judged_levels
from app.records import Inputs, StoredModel

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LEAST = 1e-12
HEIGHT = 380
"""Of a chart, in pixels."""

PROCESSES = {
    "vp": r"variance-preserving diffusion: $\alpha^2+\sigma^2=1$",
    "flow": r"flow matching: $\alpha=1-s$ and $\sigma=s$",
    "edm": r"variance-exploding diffusion: $\alpha=1$, and $\sigma$ grows",
    "awgn": r"plain added noise: $\alpha=1$ and $\sigma$ in proportion to $s$",
}
"""Kind of process -> its α and σ in words."""


def process_in_words(model: StoredModel) -> str:
    """The process's name with its α and σ."""
    kind = model.recipe["process"]["kind"]
    return PROCESSES.get(kind, f"the process “{kind}”")


def is_flow(model: StoredModel) -> bool:
    """Whether samplers follow the velocity itself, and not the noise in σ/α."""
    return bool(model.recipe["process"]["kind"] == "flow")


def things(model: StoredModel) -> str:
    """What samples are."""
    return "images" if model.is_image else "points"


def look_inputs(model: StoredModel, images: int, points: int) -> Inputs:
    """Samples a lesson computes on."""
    return Inputs(model.own_inputs, images if model.is_image else points, 0)


def mean_error(model: StoredModel) -> np.ndarray:
    """(t,) mean squared error of x̂0 over the stored inputs."""
    assert model.sweep is not None
    return model.sweep.mse.mean(axis=1).astype(np.float64)


def learned_curve(model: StoredModel) -> tuple[np.ndarray, np.ndarray]:
    """(t,) s and λ(s); the mean where groups of layers have curves of their own."""
    assert model.sweep is not None and model.sweep.lam is not None
    lam = model.sweep.lam.astype(np.float64)
    return model.sweep.s.astype(np.float64), lam if lam.ndim == 1 else lam.mean(axis=1)


def pad_quality(model: StoredModel) -> np.ndarray:
    """(q, p) dB over λ and noise level: PSNR of images, −10 log10 of the squared error of points."""
    assert model.pad is not None
    score = model.pad.score.astype(np.float64)
    return score if model.is_image else -10 * np.log10(np.maximum(score, LEAST))


def quality_on(model: StoredModel, lam: np.ndarray) -> np.ndarray:
    """(p,) dB at each noise level where λ takes these values, between the cells by straight lines."""
    assert model.pad is not None
    columns = pad_quality(model).T
    return np.array([np.interp(at, model.pad.lam, column) for at, column in zip(lam, columns, strict=True)])


def judged(model: StoredModel) -> np.ndarray:
    """(p,) the pad's noise levels that count in means."""
    assert model.pad is not None
    return judged_levels(model.pad.s)


def nearest(grid: np.ndarray, value: float) -> int:
    """Index of the nearest value of a grid."""
    return int(np.argmin(np.abs(np.asarray(grid) - value)))


def where_reached(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """The first x at which y has risen to a level, by straight lines; the last x where it never does."""
    above = np.flatnonzero(y >= level)
    if len(above) == 0:
        return float(x[-1])
    k = int(above[0])
    if k == 0 or y[k] == y[k - 1]:
        return float(x[k])
    return float(x[k - 1] + (level - y[k - 1]) / (y[k] - y[k - 1]) * (x[k] - x[k - 1]))


def change(value: float) -> str:
    """A difference with two digits and its sign."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def rms(values: np.ndarray, axis: Any = None) -> Any:
    """Root mean square."""
    return np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=axis))


def lesson_plot(x_title: str, y_title: str) -> Figure:
    """An empty chart in a lesson's size."""
    figure = plot(x_title, y_title, HEIGHT)
    figure.update_layout(margin={"t": 50})
    return figure


def mark(figure: Figure, truth: float, guess: float | None) -> None:
    """Draws the answer and the guess as upright lines; their labels stand on the sides away from each other."""
    other = truth if guess is None else guess
    _upright(figure, truth, "this model", {"color": CURSOR, "width": 2.5}, top=True, to_the_right=truth >= other)
    if guess is not None:
        line = {"color": GUIDE, "width": 2, "dash": "dash"}
        _upright(figure, guess, "your guess", line, top=False, to_the_right=guess > truth)


def _upright(figure: Figure, x: float, text: str, line: dict[str, Any], *, top: bool, to_the_right: bool) -> None:
    figure.add_vline(x, line=line)
    place: dict[str, Any] = {"y": 1, "yanchor": "top"} if top else {"y": 0, "yanchor": "bottom"}
    anchor = "left" if to_the_right else "right"
    figure.add_annotation(x=x, yref="paper", text=text, showarrow=False, xanchor=anchor, **place)
