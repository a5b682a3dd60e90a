"""Training runs as charts: loss, λ(s) as it forms, its saturation, held-out scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.figures.chart import SERIES, Chart, plot
from app.records import TrainingRun
from dpi_core.verdicts import SATURATION_WARNING, UNITS

S_TITLE = "scalar s: 0 clean, 1 noise"
MOST_CURVES = 24
NEWS_FOR = 120.0
"""Seconds after the last line in which a run counts as running."""

NOT_SCORED = "No held-out scores are logged yet: a run scores a few samples whenever it saves."
ONE_SET = "One parameter set each, so there is no λ to form."


def state_of(run: TrainingRun, now: float) -> str:
    """Whether a run is done, running, or has stopped, in words.

    Args:
        run: as its files tell it.
        now: seconds since 1970.
    """
    if run.done >= run.steps:
        return f"done, {run.steps:,} steps in {run.seconds / 60:.1f} minutes"
    if not run.done:
        return "begins; nothing is logged yet"
    where = f"step {run.done:,} of {run.steps:,}"
    if now - run.written > NEWS_FOR:
        return f"{where}; no news for {(now - run.written) / 60:.0f} minutes: stopped, or slow"
    left = run.seconds / run.done * (run.steps - run.done)
    return f"{where}, {run.seconds / run.done * 1000:.0f} ms each, about {left / 60:.0f} minutes left"


def run_charts(logged: Sequence[TrainingRun]) -> list[Chart | str]:
    """Loss and saturation of all runs, λ(s) and held-out scores of the first that has them; or why there is none.

    Args:
        logged: runs that have left a log; may be empty.
    """
    if not logged:
        return []
    scored = [run for run in logged if len(run.scored_step)]
    with_curve = [run for run in logged if run.lam is not None]
    found: list[Chart | str] = [loss_chart(logged), held_out_chart(scored[0]) if scored else NOT_SCORED]
    if not with_curve:
        return [*found, ONE_SET]
    return [*found, saturation_chart(with_curve), lambda_chart(with_curve[0])]


def loss_chart(runs: Sequence[TrainingRun]) -> Chart:
    """Training loss against step."""
    figure = plot("step", "training loss", height=340)
    rows = []
    for i, run in enumerate(runs):
        figure.add_scatter(x=run.step, y=run.loss, name=run.name, mode="lines", line={"color": SERIES[i % len(SERIES)]})
        rows += [(run.name, step, loss) for step, loss in zip(run.step.tolist(), run.loss.tolist(), strict=True)]
    figure.update_yaxes(type="log", minor_showgrid=False)
    figure.update_layout(showlegend=True)
    caption = "Mean squared error of the network's own output since the log before; runs compare where process and target agree."
    return Chart("run-loss", "Loss", figure, caption, ("run", "step", "loss"), rows, _lines(runs, "log.jsonl", "loss"))


def lambda_chart(run: TrainingRun) -> Chart:
    """λ(s) at several steps, from the start (dark) to now (bright)."""
    assert run.lam is not None
    figure = plot(S_TITLE, "λ: 0 at θ0, 1 at θ1", height=340)
    s = np.linspace(0, 1, run.lam.shape[1])
    shown = np.unique(np.linspace(0, len(run.step) - 1, min(MOST_CURVES, len(run.step))).astype(int))
    for i in shown:
        colour = _viridis(run.step[i] / max(1, run.steps))
        for group in range(run.lam.shape[2]):
            figure.add_scatter(
                x=s, y=run.lam[i, :, group], name=f"step {run.step[i]:,}", mode="lines",
                line={"color": colour, "width": 3 if i == shown[-1] else 1.2}, showlegend=False,
            )  # fmt: skip
    figure.update_yaxes(range=[-0.02, 1.02])
    rows = [
        (step, group, level, value)
        for step, curves in zip(run.step.tolist(), run.lam, strict=True)
        for group in range(curves.shape[1])
        for level, value in zip(s.tolist(), curves[:, group].tolist(), strict=True)
    ]
    caption = "A line for each of some logs, dark at the first step, bright at the last; heavy: now."
    return Chart(
        "run-lambda",
        f"λ(s) of {run.name} as it forms",
        figure,
        caption,
        ("step", "group", "s", "lambda"),
        rows,
        _lines([run], "log.jsonl", "lam"),
    )


def saturation_chart(runs: Sequence[TrainingRun]) -> Chart:
    """How wide the range of s is in which λ makes most of its rise."""
    figure = plot("step", "width of s holding 90 % of λ's rise", height=340)
    rows = []
    for i, run in enumerate(runs):
        if run.saturation is not None:
            colour = SERIES[i % len(SERIES)]
            figure.add_scatter(x=run.step, y=run.saturation, name=run.name, mode="lines", line={"color": colour})
            rows += [(run.name, *pair) for pair in zip(run.step.tolist(), run.saturation.tolist(), strict=True)]
    figure.add_hline(SATURATION_WARNING, line={"color": "#8C8C8C", "dash": "dot", "width": 1})
    figure.update_yaxes(range=[0, 1])
    figure.update_layout(showlegend=True)
    caption = f"0.9 is a straight line; below {SATURATION_WARNING} (dotted) λ saturates: a small part of s gets most of its rise."
    header = ("run", "step", "width")
    return Chart(
        "run-saturation", "Saturation of λ", figure, caption, header, rows, _lines(runs, "log.jsonl", "saturation")
    )


def held_out_chart(run: TrainingRun) -> Chart:
    """Held-out scores against s, from the first (dark) to the last (bright)."""
    name, unit, _ = UNITS[run.measure]
    figure = plot(S_TITLE, f"{name} ({unit})" if unit else name, height=340)
    for step, scores in zip(run.scored_step.tolist(), run.score, strict=True):
        is_last = step == run.scored_step[-1]
        figure.add_scatter(
            x=run.scored_s, y=scores, name=f"step {step:,}", mode="lines+markers", showlegend=False,
            line={"color": _viridis(step / max(1, run.steps)), "width": 3 if is_last else 1.2},
        )  # fmt: skip
    if run.measure == "mse":
        figure.update_yaxes(type="log", minor_showgrid=False)
    rows = [
        (step, level, value)
        for step, scores in zip(run.scored_step.tolist(), run.score.tolist(), strict=True)
        for level, value in zip(run.scored_s.tolist(), scores, strict=True)
    ]
    caption = (
        "The averaged weights on a few held-out samples, always the same ones; dark at the first score, bright at the last;"
        " heavy: now."
    )
    return Chart(
        "run-held-out",
        f"Held-out {name} of {run.name}",
        figure,
        caption,
        ("step", "s", name),
        rows,
        _lines([run], "held_out.jsonl", "mean"),
    )


def _viridis(share: float) -> str:
    from plotly.colors import sample_colorscale

    return sample_colorscale("Viridis", [min(1.0, max(0.0, 0.95 * share))])[0]


def _lines(runs: Sequence[TrainingRun], file: str, key: str) -> str:
    """Python that reads the numbers."""
    names = [run.name for run in runs]
    return "\n".join(
        [
            "import json",
            "from pathlib import Path",
            "",
            f"for name in {names}:",
            f'    lines = Path("runs", name, "{file}").read_text().splitlines()',
            f'    found = [(log["step"], log["{key}"]) for log in map(json.loads, lines)]',
        ]
    )
