"""Lesson 2: why one set of parameters is not enough. Read off the stored map over noise level and λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.figures.chart import GUIDE, LAMBDA, SERIES, THIS, signed
from app.lessons.lesson import (
    Choice,
    Estimate,
    Lesson,
    Look,
    Material,
    Pictures,
    Plot,
    Predict,
    Read,
    Shown,
    Step,
    Tile,
)
from app.lessons.numbers import HEIGHT, judged, lesson_plot, nearest, pad_quality, quality_on, things
from app.lessons.pictures import extent_of, sample_tile, square_in_words
from app.records import PadResult, StoredModel

LOW, MIDDLE, HIGH = 0.1, 0.45, 0.8
"""Noise levels that are compared."""

TWIN_OPTIONS = (
    "It loses nothing against two sets",
    "It loses, but less than the frozen position",
    "It loses at least as much as the frozen position",
)


@dataclass(frozen=True)
class Compromise:
    """One λ for all noise levels.

    Attributes:
        lam: where it stands.
        loss: dB below the learned curve, mean over the judged levels.
        below: (p,) the same at each level, against the best λ there.
    """

    lam: float
    loss: float
    below: np.ndarray


def lack(model: StoredModel) -> str | None:
    """What is missing."""
    if not model.has_two_sets:
        return "This lesson moves parameters between two sets, and this model has one set."
    return (
        None if model.pad is not None else "This lesson reads a stored map over noise level and λ; this model has none."
    )


def pad_of(model: StoredModel) -> PadResult:
    """The stored map."""
    assert model.pad is not None
    return model.pad


def column(model: StoredModel, level: float) -> int:
    """The map's column of a noise level."""
    return nearest(pad_of(model).s, level)


def best_row(model: StoredModel, level: float) -> int:
    """The row of the λ that is best at a noise level."""
    return int(pad_quality(model)[:, column(model, level)].argmax())


def price_of_the_wrong_set(model: StoredModel) -> float:
    """DB lost at large noise by the λ that is best at small noise."""
    quality = pad_quality(model)[:, column(model, HIGH)]
    return float(quality.max() - quality[best_row(model, LOW)])


def compromise(model: StoredModel) -> Compromise:
    """The single λ that is best on average."""
    quality, levels, pad = pad_quality(model), judged(model), pad_of(model)
    row = int(quality[:, levels].mean(axis=1).argmax())
    learned = quality_on(model, pad.learned)
    loss = float((learned - quality[row])[levels].mean())
    return Compromise(float(pad.lam[row]), loss, quality[row] - quality.max(axis=0))


def setting(material: Material) -> Read:
    """The tasks differ."""
    model = material.model
    pad = pad_of(model)
    text = (
        "A plain network is $\\hat x_0=f(\\theta,x)$: one set of numbers $\\theta$, whatever the noise. But the tasks"
        " differ. Under little noise it has to leave nearly everything as it is. Under much noise it has to fill in"
        " what it remembers of the data.\n\n"
        "This model can move its parameters along a line from $\\theta_0$ to $\\theta_1$; $\\lambda$ says where it"
        " stands. So it can be asked what happens when one position has to serve all noise levels.\n\n"
        f"Errors here are in decibels, {_measure(model)}: 3 dB is half the squared error. They were measured on"
        f" {pad.judged} {things(model)} at {len(pad.s)} noise levels and {len(pad.lam)} positions."
    )
    return Read(text, matrix(model, diagonal_only=True))


def matrix(model: StoredModel, diagonal_only: bool = False) -> Pictures:
    """X̂0 over noise level and the position that is best at one of them."""
    pad, quality = pad_of(model), pad_quality(model)
    levels = (LOW, MIDDLE, HIGH)
    every = [_estimates(model, best_row(model, i), column(model, j)) for i in levels for j in levels]
    extent = 1.0 if model.is_image else extent_of(*every)

    def tile(of: float, at: float) -> Tile:
        i, j = best_row(model, of), column(model, at)
        alt = f"denoised at t = {pad.s[j]:.2f} with the parameters that are best at t = {of:.2f}"
        note = f"{signed(float(quality[i, j]), 1)} dB"
        return sample_tile(_estimates(model, i, j), extent, alt, note)

    columns = tuple(f"noise t = {pad.s[column(model, at)]:.2f}" for at in levels)
    axes = "" if model.is_image else square_in_words(extent)
    if diagonal_only:
        own = tuple(tile(level, level) for level in levels)
        caption = f"x̂0 with the position that is best at each noise level.{axes}"
        return Pictures(columns, (("best θ there", own),), caption)
    rows = tuple(
        (f"θ best at t = {pad.s[column(model, of)]:.2f}", tuple(tile(of, at) for at in levels)) for of in levels
    )
    return Pictures(columns, rows, f"Down the diagonal parameters and noise fit; beside it they do not.{axes}")


def wrong_set(material: Material) -> Predict:
    """The best parameters for little noise, given much noise."""
    model = material.model
    truth = price_of_the_wrong_set(model)
    pad = pad_of(model)
    top = max(12.0, float(np.ceil(1.5 * truth)))
    low, high = pad.s[column(model, LOW)], pad.s[column(model, HIGH)]
    text = (
        f"Take the parameters that are best at $t={low:.2f}$"
        f" ($\\lambda={pad.lam[best_row(model, LOW)]:.2f}$) and give them inputs of $t={high:.2f}$. How many decibels are"
        " they worse than the parameters that are best there?"
    )
    reveal = (
        f"A factor of {10 ** (truth / 10):.1f} in squared error. Look along the rows: parameters that fit $t={low:.2f}$ let"
        f" noise through at $t={high:.2f}$, and parameters that fit $t={high:.2f}$ lose detail at $t={low:.2f}$."
    )
    answer = Estimate("dB lost", 0.0, top, 0.5, truth, " dB", near=1.0)
    return Predict(text, answer, reveal, lambda guess: matrix(model))


def one_position(material: Material) -> Predict:
    """The best compromise."""
    model = material.model
    pad, levels, found = pad_of(model), judged(model), compromise(model)

    def figure(guess: float | None) -> Shown:
        best = pad_quality(model).max(axis=0)
        drawn = lesson_plot("t, noise level", "dB against the best λ at each t")
        learned = quality_on(model, pad.learned) - best
        for values, name, colour in (
            (found.below, f"one position, λ = {found.lam:.2f}", SERIES[1]),
            (learned, "the learned curve λ(s)", LAMBDA),
        ):
            drawn.add_scatter(x=pad.s[levels], y=values[levels], name=name, line={"color": colour, "width": 3})
        return Plot(drawn, "Zero is the best any position on the line can do at that noise level; lower is worse.")

    text = (
        "Now choose one position $\\lambda$ for all noise levels, the best compromise there is, and compare it with the"
        " learned curve, which moves with $s$. How many decibels does it lose, on average over $t$ from 0.05 to 0.95?"
    )
    reveal = (
        f"The best compromise stands at $\\lambda={found.lam:.2f}$. At its worst noise level it is"
        f" {-found.below[levels].min():.1f} dB below the best position; the loss sits where the tasks differ most from its own."
    )
    top = max(6.0, float(np.ceil(1.5 * found.loss)))
    return Predict(text, Estimate("dB lost", 0.0, top, 0.1, found.loss, " dB", near=0.4), reveal, figure)


# The twin that was trained with one set ------------------------------------------------------------------------------


def twin(material: Material) -> StoredModel | None:
    """The model trained alike with one set of parameters, measured on the same held-out data."""
    if "held_out" not in material.model.metrics:
        return None
    wanted = material.model.metrics["held_out"]["s"]
    for other in material.family:
        is_blind = other.recipe["conditioning"]["kind"] == "none"
        if is_blind and other.metrics.get("held_out", {}).get("s") == wanted:
            return other
    return None


def held_out_quality(model: StoredModel) -> np.ndarray:
    """DB at each held-out level."""
    found = model.metrics["held_out"]
    if model.is_image:
        return np.array([level["mean"] for level in found["psnr"]])
    return -10 * np.log10(np.array(found["mse"]))


def twin_gap(material: Material) -> float:
    """DB by which two sets are better than the twin, mean over held-out levels."""
    other = twin(material)
    assert other is not None
    return float((held_out_quality(material.model) - held_out_quality(other)).mean())


def trained_blind(material: Material) -> Predict:
    """A network that had one set from the start."""
    model, other, gap = material.model, twin(material), twin_gap(material)
    assert other is not None
    loss = compromise(model).loss
    truth = 0 if gap <= 0 else 1 if gap < loss else 2
    held_out = model.metrics["held_out"]

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t, noise level", f"held-out {'PSNR' if model.is_image else 'quality'} (dB)")
        for card, colour in ((model, THIS), (other, GUIDE)):
            drawn.add_scatter(
                x=held_out["s"], y=held_out_quality(card), name=card.name, line={"color": colour, "width": 3}
            )
        drawn.update_layout(height=HEIGHT)
        return Plot(
            drawn, f"Mean over {held_out['n']} held-out {things(model)}, the same noise for both; higher is better."
        )

    text = (
        f"A frozen position was never trained to work alone. The model {other.name} was: the same network with one set of"
        f" parameters, blind to $s$, {_training(model, other)}. The frozen position lost {loss:.1f} dB. What about the blind"
        " network?"
    )
    reveal = (
        f"Two sets are {gap:.2f} dB better than the blind network in the mean over $t$, and at most"
        f" {float((held_out_quality(model) - held_out_quality(other)).max()):.2f} dB. A blind network can read the amount"
        " of noise off the input; what it cannot do is be another network at every level."
    )
    return Predict(text, Choice(TWIN_OPTIONS, truth), reveal, figure)


def real_page(material: Material) -> Look:
    """The Denoise page with parameters and noise apart."""
    model = material.model
    pad = pad_of(model)
    s, lam = float(pad.s[column(model, HIGH)]), float(pad.lam[best_row(model, LOW)])
    text = (
        f"The Denoise page opens with the noise at $t={s:.2f}$ and the parameters held at $\\lambda={lam:.2f}$. Drag the"
        " ring in the map onto the purple line and see the estimate recover."
    )
    return Look(text, "denoise", {"t": f"{s:.4g}", "lam": f"{lam:.4g}"}, f"Open Denoise at t = {s:.2f}, λ = {lam:.2f}")


def in_short(material: Material) -> Read:
    """Three sentences."""
    model = material.model
    found = compromise(model)
    lines = [
        "- Little noise and much noise are different tasks for the same network.",
        f"- Parameters made for $t={LOW:g}$ lose {price_of_the_wrong_set(model):.1f} dB at $t={HIGH:g}$.",
        f"- The best single position of this model loses {found.loss:.1f} dB on average against the learned curve.",
    ]
    if twin(material) is not None:
        lines.append(f"- Trained blind from the start, the network loses {twin_gap(material):.2f} dB.")
    return Read("\n".join(lines))


def _estimates(model: StoredModel, row: int, level: int) -> np.ndarray:
    return pad_of(model).x0_hat[row, level]


def _training(model: StoredModel, other: StoredModel) -> str:
    ours, theirs = (card.metrics.get("training", {}).get("steps") for card in (model, other))
    if ours is None or theirs is None:
        return "trained on the same data"
    return (
        f"trained as long, {theirs:,} steps"
        if ours == theirs
        else f"trained for {theirs:,} steps, this one for {ours:,}"
    )


def _measure(model: StoredModel) -> str:
    return "as PSNR" if model.is_image else r"$-10\log_{10}$ of the squared error"


LESSON = Lesson(
    key="one-set",
    title="Why one set is not enough",
    question="What is lost if the same parameters have to serve every noise level?",
    minutes=4,
    steps=(
        Step("One network, many tasks", setting),
        Step("Predict: the wrong parameters", wrong_set),
        Step("Predict: one position for all", one_position),
        Step("Predict: trained with one set", trained_blind, fits=lambda material: twin(material) is not None),
        Step("On the Denoise page", real_page),
        Step("In short", in_short),
    ),
    lack=lack,
)
