"""Pinning in figures: what it costs to hold one layer, and how many layers need a second parameter set."""

from __future__ import annotations

import numpy as np

from app.figures.chart import (
    GUIDE,
    MIDWAY,
    THETA0,
    THETA1,
    THIS,
    Chart,
    bar_height,
    categories,
    order_of,
    plot,
    rows_of,
)
from app.figures.layers import HOLDS
from app.figures.reproduce import judged_imports, judged_lines, pinned_lines
from app.records import Inputs, LayersResult, StoredModel

COLOURS = {"theta0": THETA0, "theta1": THETA1, "mean": MIDWAY}
SYMBOLS = {"theta0": "circle", "theta1": "square", "mean": "diamond"}
SHARE = 0.05
"""Of what holding all layers loses: so much may be lost where enough of them are kept."""


def kept_layers_chart(model: StoredModel, result: LayersResult, inputs: Inputs, device: str) -> Chart:
    """DB lost against the number of layers that keep two parameter sets."""
    kept, (mean, low, high) = result.kept, result.kept_loss.T
    figure = plot("layers that keep two parameter sets", "dB lost, mean over s", 400)
    figure.add_scatter(
        x=kept, y=mean, mode="lines+markers", line={"color": THIS, "width": 2.5}, marker={"size": 7},
        error_y={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low, "thickness": 1.2},
        hovertemplate="%{x} layers: %{y:.3f} dB<extra></extra>",
    )  # fmt: skip
    if result.enough is not None:
        figure.add_hline(SHARE * mean[-1], line={"color": GUIDE, "dash": "dash"})
        figure.add_vline(
            result.enough, line={"color": GUIDE, "dash": "dash"}, annotation_text=f"{result.enough} layers: 95 %"
        )
    figure.update_layout(showlegend=False)
    figure.update_yaxes(rangemode="tozero")
    held = list(zip(result.order, result.order_holds, strict=True))
    rows = [(*_last_held(held, len(result.names), row[0]), *row) for row in rows_of(kept, mean, low, high)]
    lines = [
        *_pinning_lines(model, result, inputs, device),
        f"*_, found = holding_order(model.denoiser, x0, eps, single, batch_size=len(x0), seed={inputs.seed})",
        "print(found.kept, found.losses[:, 0], found.enough)",
    ]
    return Chart(
        "layers-with-two-sets",
        "How many layers need two sets",
        figure,
        "From the left, one more layer at a time gets its second set back, the most needed first; dashed: 5 % of the loss"
        " is left. At 0 stands one frozen set; a set trained alone would lose less. Bars: 95 % over samples that did not"
        " choose the order.",
        ("held_last", "held_at", "kept", "loss_db", "low", "high"),
        rows,
        "\n".join(lines),
    )


def _last_held(held: list[tuple[str, str]], layers: int, kept: float) -> tuple[str, str]:
    """The last layer that was held when so many kept two sets."""
    count = layers - int(kept)
    return held[count - 1] if 0 < count <= len(held) else ("", "")


def pins_chart(model: StoredModel, result: LayersResult, inputs: Inputs, device: str, by_value: bool) -> Chart:
    """DB lost on average over s where one layer is held."""
    totals = result.pinned_total
    order = order_of(np.nanmax(np.nan_to_num(totals[:, :, 0]), axis=0), by_value)
    names = [result.names[i] for i in order]
    figure = plot("dB lost, mean over s", "layer", bar_height(len(names)))
    for hold, values in zip(result.holds, totals[:, order], strict=True):
        mean, low, high = values.T
        figure.add_scatter(
            y=names, x=mean, mode="markers", name=f"held at {HOLDS[hold]}",
            marker={"color": COLOURS[hold], "size": 8, "symbol": SYMBOLS[hold]},
            error_x={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low, "thickness": 1},
        )  # fmt: skip
    figure.add_vline(0, line={"color": GUIDE, "width": 1})
    categories(figure)
    columns = [f"{hold}_{part}" for hold in result.holds for part in ("db", "low", "high")]
    rows = [(result.names[i], *(float(v) for hold in totals[:, i] for v in hold)) for i in order]
    lines = [
        *_pinning_lines(model, result, inputs, device),
        "values = [[lost.total for lost in losses] for losses in single.losses]",
    ]
    return Chart(
        "pinned-layers",
        "What each layer needs its λ for",
        figure,
        "Right of zero the network loses when this layer stands still while all others follow λ(s): at θ0 (circle), θ1"
        " (square) or at its mean (diamond); bars: 95 % over samples.",
        ("layer", *columns),
        rows,
        "\n".join(lines),
    )


def _pinning_lines(model: StoredModel, result: LayersResult, inputs: Inputs, device: str) -> list[str]:
    return [
        *judged_imports(inputs, "from dpi_core.analysis.pinning import holding_order, pinned_errors, pinning"),
        "",
        *judged_lines(model, inputs, device),
        f"s = {[round(float(s), 6) for s in result.s]}",
        f"x0, eps = x0[:{result.samples['pinned']}], eps[:{result.samples['pinned']}]",
        *pinned_lines(result.measure, inputs.seed),
    ]
