"""Samples of several models from the same noise, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.figures.chart import Chart, subplots, tiles
from app.figures.comparisons import colour_of, method_of
from app.figures.trajectories import SAMPLER_NAMES, sampling_lines
from app.records import StoredModel, TrajectoryRequest

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PANEL, ACROSS = 290, 3
"""Height of a panel in pixels, and how many stand in a row: more could not be made out on a telephone."""


def samples_chart(
    family: Sequence[StoredModel], requests: Sequence[TrajectoryRequest], ends: Sequence[np.ndarray]
) -> Chart:
    """One panel for each model; sample i comes from the same noise in all.

    Args:
        family: the models.
        requests: their runs, alike but for the model.
        ends: where the runs end; images (n, h, w, c) in [-1, 1], points (n, 2).
    """
    names = tuple(map(method_of, family))
    figure = subplots(names, ACROSS, PANEL)
    figure.update_layout(showlegend=False)
    if family[0].is_image:
        _draw_images(figure, ends)
    else:
        _draw_points(figure, ends, names)
    run = requests[0]
    caption = (
        f"{run.inputs.n} samples of each, from the same noise (seed {run.inputs.seed}), by {SAMPLER_NAMES[run.sampler]} in"
        f" {run.steps} steps{'; what is at one place in all panels began as the same noise' * family[0].is_image}."
    )
    header = ("method", "sample", "mean", "standard_deviation")
    rows = [
        (name, index, float(sample.mean()), float(sample.std()))
        for name, samples in zip(names, ends, strict=True)
        for index, sample in enumerate(samples)
    ]
    lines = "\n\n".join(sampling_lines(model, request) for model, request in zip(family, requests, strict=True))
    return Chart("compare-samples", "Samples from the same noise", figure, caption, header, rows, lines)


def _draw_images(figure: Figure, ends: Sequence[np.ndarray]) -> None:
    for index, images in enumerate(ends):
        mosaic = tiles(np.clip((images + 1) * 127.5, 0, 255), 128, 4)
        picture = np.broadcast_to(mosaic, (*mosaic.shape[:2], 3)).astype(np.uint8)
        figure.add_image(z=picture, **_place(index), hoverinfo="skip")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)


def _draw_points(figure: Figure, ends: Sequence[np.ndarray], names: tuple[str, ...]) -> None:
    reach = 1.1 * float(np.quantile(np.abs(np.concatenate(ends)), 0.999))
    for index, (points, name) in enumerate(zip(ends, names, strict=True)):
        figure.add_scattergl(
            x=points[:, 0], y=points[:, 1], mode="markers", hoverinfo="skip",
            marker={"size": 2.5, "color": colour_of(name, names), "opacity": 0.6}, **_place(index),
        )  # fmt: skip
    figure.update_xaxes(range=[-reach, reach], title="x₁", title_standoff=4)
    figure.update_yaxes(range=[-reach, reach])
    figure.update_yaxes(title="x₂", title_standoff=4, col=1)


def _place(index: int) -> dict[str, int]:
    """Row and column of a panel."""
    row, column = divmod(index, ACROSS)
    return {"row": row + 1, "col": column + 1}
