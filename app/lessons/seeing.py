"""Lesson 1: what a denoiser sees at small and large noise. Everything is read off the stored frames."""

from __future__ import annotations

import numpy as np

from app.figures.chart import GUIDE, THIS
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
    Scrubber,
    Shown,
    Step,
)
from app.lessons.numbers import lesson_plot, mark, mean_error, nearest, process_in_words, things, where_reached
from app.lessons.pictures import extent_of, sample_tile, square_in_words, to_unit
from app.records import StoredModel, SweepResult

LEVELS = (0.05, 0.2, 0.4, 0.6, 0.9)
"""Noise levels of the first picture."""

ENDINGS = (
    "The clean original, nearly",
    "A sharp sample that is not the original",
    "Nearly the same average for every input",
    "A vague version that still differs from input to input",
)


def lack(model: StoredModel) -> str | None:
    """What is missing."""
    return None if model.sweep is not None else "This lesson reads stored frames, and this model has none yet."


def frames(model: StoredModel) -> SweepResult:
    """The stored frames."""
    assert model.sweep is not None
    return model.sweep


def samples(model: StoredModel, values: np.ndarray) -> np.ndarray:
    """Stored samples as floats."""
    return to_unit(values) if model.is_image else values.astype(np.float64)


def noised(model: StoredModel, k: int) -> np.ndarray:
    """X_s of the stored inputs at level k, divided by √(α² + σ²) for the eye."""
    sweep = frames(model)
    alpha, sigma = float(sweep.alpha[k]), float(sweep.sigma[k])
    return (alpha * samples(model, sweep.clean) + sigma * sweep.noise) / np.hypot(alpha, sigma)


def spread(model: StoredModel, k: int) -> float:
    """How far x̂0 differs between inputs at level k, as a share of how far the clean inputs differ."""
    clean, found = samples(model, frames(model).clean), samples(model, frames(model).x0_hat[k])
    return float(found.var(axis=0).mean() / clean.var(axis=0).mean())


def ending(model: StoredModel) -> int:
    """Which of `ENDINGS` is true at the noise end."""
    sweep = frames(model)
    error = float(mean_error(model)[-1] / samples(model, sweep.clean).var(axis=0).mean())
    if error < 0.1:
        return 0
    share = spread(model, len(sweep.s) - 1)
    return 1 if share > 0.5 else 2 if share < 0.1 else 3


def half_way(model: StoredModel) -> float:
    """The t at which the error of x̂0 has risen to half of its value at the noise end."""
    error = mean_error(model)
    return where_reached(frames(model).s, error, error[-1] / 2)


def setting(material: Material) -> Read:
    """What noise does."""
    model = material.model
    sweep = frames(model)
    shown = [nearest(sweep.s, level) for level in LEVELS]
    extent = 1.0 if model.is_image else extent_of(*(noised(model, k) for k in shown))
    tiles = tuple(
        sample_tile(noised(model, k), extent, f"noised inputs at t = {sweep.s[k]:.2f}", _mixture(sweep, k))
        for k in shown
    )
    axes = "" if model.is_image else square_in_words(extent)
    figure = Pictures(
        tuple(f"t = {sweep.s[k]:.2f}" for k in shown),
        (("xₛ", tiles),),
        f"The same inputs under the same noise, more of it to the right; drawn divided by √(α² + σ²).{axes}",
    )
    text = (
        "A noise process mixes a clean sample $x_0$ with Gaussian noise $\\varepsilon$:\n\n"
        "$$x_s=\\alpha(s)\\,x_0+\\sigma(s)\\,\\varepsilon$$\n\n"
        f"The scalar $s$ runs from 0, clean, to 1, noise; on the sliders it is called $t$. This model was trained on"
        f" {process_in_words(model)}. At $t=0.5$ that is"
        f" $\\alpha={_at(sweep, sweep.alpha):.2f}$ and $\\sigma={_at(sweep, sweep.sigma):.2f}$.\n\n"
        "A denoiser gets $x_s$ and has to say what $x_0$ was."
    )
    return Read(text, figure)


def the_end(material: Material) -> Predict:
    """What is left to say at the noise end."""
    model = material.model
    sweep = frames(model)
    last = len(sweep.s) - 1
    extent = 1.0 if model.is_image else extent_of(noised(model, last), samples(model, sweep.clean))
    axes = "" if model.is_image else square_in_words(extent)

    def figure(guess: float | None) -> Shown:
        row = (
            sample_tile(samples(model, sweep.clean), extent, "clean inputs"),
            sample_tile(noised(model, last), extent, "noised inputs at t = 1"),
            sample_tile(samples(model, sweep.x0_hat[last]), extent, "denoised at t = 1"),
        )
        caption = f"The same inputs clean, at t = {sweep.s[last]:.2f}, and as the network estimates them.{axes}"
        return Pictures(("clean x₀", "noised xₛ", "denoised x̂₀"), (("", row),), caption)

    share = spread(model, last)
    reveal = (
        "The network is trained to make the squared error small. The best answer is then the average over all clean"
        " samples that could have become this input:\n\n$$\\hat x_0=\\mathbb{E}[x_0\\mid x_s]$$\n\n"
        f"Here the estimates of different inputs vary by {_percent(share)} of what the clean {things(model)} vary by"
        " (as a variance). Where the input says nothing, the average is over all the data."
    )
    text = (
        f"At $t=1$ the input is {sweep.alpha[last]:.3f} · clean + {sweep.sigma[last]:.2f} · noise. The network still has"
        " to answer. What does $\\hat x_0$ look like?"
    )
    before = Pictures(
        ("noised xₛ at t = 1",),
        (("", (sample_tile(noised(model, last), extent, "noised inputs at t = 1"),)),),
        f"All that the network is given.{axes}",
    )
    return Predict(text, Choice(ENDINGS, ending(model)), reveal, figure, before)


def half_of_the_error(material: Material) -> Predict:
    """Where the error comes from."""
    model = material.model
    sweep, error, truth = frames(model), mean_error(model), half_way(model)

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t, noise level", "mean squared error of x̂0")
        drawn.add_scatter(x=sweep.s, y=error, line={"color": THIS, "width": 3}, showlegend=False)
        drawn.add_hline(error[-1] / 2, line={"color": GUIDE, "width": 1, "dash": "dot"})
        mark(drawn, truth, guess)
        caption = f"Mean over the {sweep.mse.shape[1]} stored inputs; the dotted line is half of the error at t = 1."
        return Plot(drawn, caption)

    k = nearest(sweep.s, truth)
    text = (
        "With little noise $\\hat x_0$ is almost exact; at $t=1$ its squared error is"
        f" {error[-1]:.3g}. At which $t$ has the error grown to half of that?"
    )
    reveal = (
        f"At that point the mixture is {sweep.alpha[k]:.2f} · clean + {sweep.sigma[k]:.2f} · noise ({sweep.native[k]})."
        " Where the curve is steep, a little more noise hides a lot; where it is flat, there is little left to hide."
    )
    return Predict(text, Estimate("t", 0.0, 1.0, 0.01, truth, near=0.05), reveal, figure)


def try_it(material: Material) -> Read:
    """The scrubber."""
    text = (
        "Drag $t$, or press Play. Watch $\\hat x_0$ lose detail first, then shape, then everything that tells one input"
        " from another. The residual shows what was lost."
    )
    return Read(text, Scrubber("Left to right: clean, noised, denoised, and the difference."))


def real_page(material: Material) -> Look:
    """The Denoise page where the error is half."""
    t = half_way(material.model)
    text = (
        f"The Denoise page opens at $t={t:.2f}$, where this model has made half of its error. Beneath the pictures are"
        " the held-out error and, if there are two parameter sets, the map over noise level and parameters."
    )
    return Look(text, "denoise", {"t": f"{t:.4g}"}, f"Open Denoise at t = {t:.2f}")


def in_short(material: Material) -> Read:
    """Three sentences."""
    model = material.model
    error, last = mean_error(model), len(frames(model).s) - 1
    return Read(
        "- A denoiser returns the average of what the input could have been, $\\mathbb{E}[x_0\\mid x_s]$.\n"
        f"- Its squared error grows from {error[0]:.2g} at $t=0$ to {error[-1]:.3g} at $t=1$, half of it by"
        f" $t={half_way(model):.2f}$.\n"
        f"- At $t=1$ the answers of different inputs vary by {_percent(spread(model, last))} of what the data vary by."
    )


def _at(sweep: SweepResult, values: np.ndarray) -> float:
    return float(np.interp(0.5, sweep.s, values))


def _mixture(sweep: SweepResult, k: int) -> str:
    return f"{sweep.alpha[k]:.2f} · clean + {sweep.sigma[k]:.2f} · noise"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


LESSON = Lesson(
    key="seeing",
    title="What a denoiser sees",
    question="What can a network say about a sample under a little noise, and under a lot?",
    minutes=4,
    steps=(
        Step("Signal and noise", setting),
        Step("Predict: nothing but noise", the_end),
        Step("Predict: half of the error", half_of_the_error),
        Step("Scrub through it", try_it),
        Step("On the Denoise page", real_page),
        Step("In short", in_short),
    ),
    lack=lack,
)
