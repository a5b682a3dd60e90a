"""Lesson 6: which layers care. How far each one moved, and what it costs to hold it still."""

from __future__ import annotations

import numpy as np

from app.figures.chart import FAINT, GUIDE, SERIES, THIS, bar_height, categories
from app.lessons.lesson import Choice, Estimate, Lesson, Look, Material, Plot, Predict, Read, Shown, Step
from app.lessons.numbers import lesson_plot
from app.records import LayersResult, StoredModel, WeightsResult

OFFERED = 4
"""How many parts are offered as an answer."""

SHOWN_LAYERS = 12
AGREE_OPTIONS = ("Yes, it is the same layer", "No, it is another layer")


def lack(model: StoredModel) -> str | None:
    """What is missing."""
    if not model.has_two_sets:
        return "This lesson compares two parameter sets layer by layer, and this model has one set."
    if model.parameters is None and model.layers is None:
        return "This lesson reads a stored table of layers; this model has none yet."
    return None


def has_distances(material: Material) -> bool:
    """Whether ‖θ1 − θ0‖ of every layer is stored."""
    return material.model.parameters is not None


def has_pinning(material: Material) -> bool:
    """Whether layers were held still, one by one and together."""
    layers = material.model.layers
    return layers is not None and layers.enough is not None


def pinning_of(model: StoredModel) -> LayersResult:
    """What was found by holding layers."""
    assert model.layers is not None
    return model.layers


def weights_of(model: StoredModel) -> WeightsResult:
    """The table of weights."""
    assert model.parameters is not None
    return model.parameters.weights


def parts(model: StoredModel) -> tuple[list[str], np.ndarray]:
    """Parts of the network by depth and the relative change of each: its stages, or its layers where only those are known."""
    if model.parameters is not None:
        weights = model.parameters.weights
        rows = [i for i, kind in enumerate(weights.kinds) if kind == "stage" and np.isfinite(weights.relative[i])]
        return [weights.names[i] for i in rows], weights.relative[rows].astype(np.float64)
    layers = pinning_of(model)
    rows = np.flatnonzero(np.isfinite(layers.relative)).tolist()
    return [layers.names[i] for i in rows], layers.relative[rows].astype(np.float64)


def layer_shares(model: StoredModel) -> tuple[list[str], np.ndarray]:
    """Layers and the share each has in ‖θ1 − θ0‖², the largest first."""
    weights = weights_of(model)
    rows = [i for i, kind in enumerate(weights.kinds) if kind == "layer"]
    squared = weights.distance[rows].astype(np.float64) ** 2
    order = np.argsort(-squared, kind="stable")
    return [weights.names[rows[i]] for i in order], squared[order] / squared.sum()


def layers_for_half(model: StoredModel) -> int:
    """The fewest layers that hold half of ‖θ1 − θ0‖²."""
    _, shares = layer_shares(model)
    return int(np.searchsorted(np.cumsum(shares), 0.5 - 1e-9) + 1)


def cost_of_holding(model: StoredModel) -> np.ndarray:
    """(m,) dB lost, mean over s, when one layer is held at λ's mean while the others follow the curve."""
    layers = pinning_of(model)
    return layers.pinned_total[layers.holds.index("mean"), :, 0].astype(np.float64)


def offered(names: list[str], values: np.ndarray) -> list[int]:
    """A few parts to choose from: the largest, and others spread over the depth."""
    best = int(values.argmax())
    others = [i for i in range(len(names)) if i != best]
    count = min(OFFERED - 1, len(others))
    return sorted({best, *(others[round(i)] for i in np.linspace(0, len(others) - 1, count).tolist())})


def setting(material: Material) -> Read:
    """Two ways to ask."""
    model = material.model
    names, _ = parts(model)
    text = (
        "Interpolation doubles every tensor of the network: each layer has a $\\theta_0$ and a $\\theta_1$. Training decides"
        " how far they part. For a layer with weights $\\theta^{(l)}$ the relative change is\n\n"
        "$$\\dfrac{\\lVert\\theta_1^{(l)}-\\theta_0^{(l)}\\rVert}{\\lVert\\theta_0^{(l)}\\rVert}$$\n\n"
        "It is 0 where both sets agree and 1 where the layer moved by its own length.\n\n"
        f"This network has {len(names)} parts, from input to output: {_listed(names)}.\n\n"
        "How far a layer moved is one question. Whether the network needs it to move is another; it takes an experiment:"
        " hold the layer still and measure the error."
    )
    return Read(text)


def most_moved(material: Material) -> Predict:
    """The part that moved most."""
    model = material.model
    names, values = parts(model)
    shown = offered(names, values)
    truth = shown.index(int(values.argmax()))

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("relative change ‖θ1 − θ0‖ / ‖θ0‖", "")
        top = (
            list(range(len(names)))
            if len(names) <= 2 * SHOWN_LAYERS
            else sorted(np.argsort(-values)[: 2 * SHOWN_LAYERS])
        )
        colours = [SERIES[1] if guess is not None and i == shown[int(guess)] else THIS for i in top]
        drawn.add_bar(y=[names[i] for i in top], x=values[top], orientation="h", marker_color=colours)
        categories(drawn)
        drawn.update_layout(height=bar_height(len(top)), showlegend=False)
        return Plot(drawn, "One bar for each part, the input on top; orange is the part you named, if you named one.")

    best, least = int(values.argmax()), int(values.argmin())
    text = "Which of these parts of the network differs most between $\\theta_0$ and $\\theta_1$, relative to its size?"
    reveal = (
        f"{names[best]} changed by {values[best]:.2f} of its length, {names[least]} by {values[least]:.2f}: a factor of"
        f" {values[best] / max(values[least], 1e-12):.1f} in one network."
    )
    return Predict(text, Choice(tuple(names[i] for i in shown), truth), reveal, figure)


def concentration(material: Material) -> Predict:
    """How few layers hold half of the distance."""
    model = material.model
    names, shares = layer_shares(model)
    truth = layers_for_half(model)

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("layers, those with the largest share first", "share of ‖θ1 − θ0‖²")
        count = np.arange(1, len(names) + 1)
        drawn.add_scatter(
            x=count,
            y=np.cumsum(shares),
            line={"color": THIS, "width": 3},
            showlegend=False,
            text=names,
            mode="lines+markers",
        )
        drawn.add_hline(0.5, line={"color": GUIDE, "width": 1, "dash": "dot"})
        drawn.add_vline(truth, line={"color": THIS, "width": 2})
        if guess is not None:
            drawn.add_vline(guess, line={"color": GUIDE, "width": 2, "dash": "dash"})
        drawn.update_yaxes(range=[0, 1.05])
        caption = (
            "The sum over layers; solid: where it reaches one half, dashed: your guess. Point at a dot for the layer."
        )
        return Plot(drawn, caption)

    text = (
        f"The squared distance $\\lVert\\theta_1-\\theta_0\\rVert^2$ is a sum over {len(names)} layers. Sort them by their share."
        " How many of them hold half of it?"
    )
    reveal = (
        f"The largest is {names[0]} with {100 * shares[0]:.0f} %. A large share may only mean a large layer; that is why the"
        " relative change divides by the layer's own length."
    )
    answer = Estimate("layers", 1, len(names), 1, truth, near=max(1.0, 0.1 * len(names)))
    return Predict(text, answer, reveal, figure)


def needed(material: Material) -> Predict:
    """How many layers need two sets."""
    model = material.model
    layers = pinning_of(model)
    assert layers.enough is not None
    kept, loss = layers.kept.astype(float), layers.kept_loss

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("layers that keep two sets", "dB lost, mean over t")
        drawn.add_scatter(
            x=kept, y=loss[:, 0], line={"color": THIS, "width": 3}, mode="lines+markers", showlegend=False
        )
        drawn.add_vline(layers.enough, line={"color": THIS, "width": 2})
        if guess is not None:
            drawn.add_vline(guess, line={"color": GUIDE, "width": 2, "dash": "dash"})
        caption = "Layers are held one after the other, the most dispensable first; solid: 5 % of the loss, dashed: your guess."
        return Plot(drawn, caption)

    text = (
        f"Now the experiment. The {len(layers.names)} layers are held at one position one after the other, those that are missed"
        " least first. How many of them have to keep two sets, if at most 5 % of what holding all of them costs may be lost?"
    )
    reveal = (
        f"With {layers.enough} of {len(layers.names)} layers on two sets, at most 5 % of that is lost. With none this network"
        f" loses {loss[int(kept.argmin()), 0]:.2f} dB; one trained with one set would lose less, so only training tells how"
        " many layers a smaller network needs."
    )
    count = len(layers.names)
    answer = Estimate("layers", 0, count, 1, layers.enough, near=max(1.0, 0.1 * count))
    return Predict(text, answer, reveal, figure)


def moved_or_needed(material: Material) -> Predict:
    """Distance against need."""
    model = material.model
    layers, cost = pinning_of(model), cost_of_holding(model)
    moved = np.where(np.isfinite(layers.relative), layers.relative, -np.inf)
    far, dear = int(moved.argmax()), int(np.nan_to_num(cost, nan=-np.inf).argmax())

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("relative change ‖θ1 − θ0‖ / ‖θ0‖", "dB lost when held")
        colours = [SERIES[1] if i in (far, dear) else FAINT for i in range(len(cost))]
        labels = [layers.names[i] if i in (far, dear) else "" for i in range(len(cost))]
        drawn.add_scatter(
            x=layers.relative, y=cost, mode="markers+text", text=labels, textposition="top center", hovertext=layers.names,
            marker={"color": colours, "size": 10}, showlegend=False,
        )  # fmt: skip
        # Room for the names at the right end.
        drawn.update_xaxes(range=[0, 1.3 * float(np.nanmax(layers.relative))])
        return Plot(
            drawn, "One point for each layer; marked are the one that moved most and the one that is missed most."
        )

    text = (
        f"The layer with the largest relative change is {layers.names[far]}. Is it also the one whose being held, alone, costs"
        " most?"
    )
    reveal = (
        f"Held at the mean of $\\lambda$, {layers.names[far]} costs {cost[far]:.2f} dB and {layers.names[dear]} costs"
        f" {cost[dear]:.2f} dB, the most of all. Distance in parameters and need are different things."
    )
    return Predict(text, Choice(AGREE_OPTIONS, 0 if far == dear else 1), reveal, figure)


def real_page(material: Material) -> Look:
    """The table on the real page."""
    if has_pinning(material):
        text = (
            "The Layers page shows every layer against $t$: how its output changes, and what it costs to hold it. Click a"
            " layer to see its weights."
        )
        return Look(text, "layers", {}, "Open Layers")
    text = (
        "The Parameters page opens on the same numbers for every single layer, the largest first. Change the statistic to the"
        " angle, and see whether the order stays."
    )
    query = {"parameters_tab": "Distance and angle", "statistic": "Relative distance", "by": "Layer", "sort": "Value"}
    return Look(text, "parameters", query, "Open Parameters, layers by relative distance")


def in_short(material: Material) -> Read:
    """Three sentences."""
    model = material.model
    names, values = parts(model)
    best, least = int(values.argmax()), int(values.argmin())
    lines = [
        f"- The two sets part unevenly: {names[best]} by {values[best]:.2f} of its length, {names[least]} by {values[least]:.2f}."
    ]
    if has_distances(material):
        lines.append(
            f"- {layers_for_half(model)} of {len(layer_shares(model)[0])} layers hold half of the squared distance."
        )
    if has_pinning(material):
        layers = pinning_of(model)
        lines.append(
            f"- {layers.enough} of {len(layers.names)} layers carry 95 % of what this network loses when all are held."
        )
    else:
        lines.append("- How far a layer moved does not say whether it had to: holding it still would.")
    return Read("\n".join(lines))


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= SHOWN_LAYERS + 2 else [*names[:SHOWN_LAYERS], "…"]
    return ", ".join(shown)


LESSON = Lesson(
    key="layers",
    title="Which layers care",
    question="Where in the network are two sets of parameters put to use?",
    minutes=4,
    steps=(
        Step("Moved, or needed", setting),
        Step("Predict: who moved most", most_moved),
        Step("Predict: how few hold half", concentration, fits=has_distances),
        Step("Predict: how many need two sets", needed, fits=has_pinning),
        Step("Predict: moved most, missed most", moved_or_needed, fits=has_pinning),
        Step("On the real page", real_page),
        Step("In short", in_short),
    ),
    lack=lack,
)
