"""Lesson 3: two sets and a curve, what λ does."""

from __future__ import annotations

import numpy as np

from app.figures.chart import GUIDE, LAMBDA, THETA0, THETA1, THIS, band, signed
from app.lessons.lesson import Choice, Estimate, Lesson, Look, Material, Pictures, Plot, Predict, Read, Shown, Step
from app.lessons.numbers import (
    change,
    judged,
    learned_curve,
    lesson_plot,
    mark,
    nearest,
    pad_quality,
    quality_on,
    things,
    where_reached,
)
from app.lessons.one_set import pad_of
from app.lessons.pictures import extent_of, sample_tile, square_in_words
from app.records import StoredModel

LEVEL = 0.5
"""Noise level of the first picture."""

LINE_OPTIONS = (
    "The straight line is better",
    "They differ by less than 0.1 dB",
    "The straight line loses 0.1 to 1 dB",
    "The straight line loses more than 1 dB",
)
BLEND_OPTIONS = (
    "Blending the outputs is better",
    "No clear difference",
    "Blending the parameters is better",
)


def lack(model: StoredModel) -> str | None:
    """What is missing."""
    if not model.has_two_sets:
        return "This lesson is about λ between two parameter sets, and this model has one set."
    if model.pad is None or model.sweep is None or model.sweep.lam is None:
        return "This lesson reads a stored map over noise level and λ; this model has none."
    return None


def half_way(model: StoredModel) -> float:
    """The s at which λ = 1/2."""
    return where_reached(*learned_curve(model), 0.5)


def loss_of_the_line(model: StoredModel) -> np.ndarray:
    """(p,) dB that λ = s loses against the learned curve at each noise level."""
    pad = pad_of(model)
    return quality_on(model, pad.learned) - quality_on(model, pad.s)


def mean_loss_of_the_line(model: StoredModel) -> float:
    """Its mean over the judged levels."""
    return float(loss_of_the_line(model)[judged(model)].mean())


def setting(material: Material) -> Read:
    """The formula and what it does to a picture."""
    model = material.model
    pad, quality = pad_of(model), pad_quality(model)
    j = nearest(pad.s, LEVEL)
    rows = sorted(
        {0, len(pad.lam) - 1, nearest(pad.lam, 0.25), nearest(pad.lam, 0.75), nearest(pad.lam, pad.learned[j])}
    )
    extent = 1.0 if model.is_image else extent_of(*(pad.x0_hat[i, j] for i in rows))
    tiles = tuple(
        sample_tile(
            pad.x0_hat[i, j], extent, f"denoised with λ = {pad.lam[i]:.2f}", f"{signed(float(quality[i, j]), 1)} dB"
        )
        for i in rows
    )
    axes = "" if model.is_image else square_in_words(extent)
    figure = Pictures(
        tuple(_position(model, i, j) for i in rows),
        (("x̂₀", tiles),),
        f"The same inputs at t = {pad.s[j]:.2f}; only the parameters move, from θ0 on the left to θ1.{axes}",
    )
    text = (
        "Deep Parameter Interpolation gives a network two sets of parameters and blends them:\n\n"
        "$$\\theta(s)=[1-\\lambda(s)]\\,\\theta_0+\\lambda(s)\\,\\theta_1$$\n\n"
        "$$\\hat x_0=f(\\theta(s),\\,x_s)$$\n\n"
        "The curve $\\lambda$ is learned with them. It is the running sum of $\\mathrm{softmax}(\\varphi)$, so it only"
        " rises, from $\\lambda(0)=0$ to $\\lambda(1)=1$. No layer is added: an evaluation costs what the plain network"
        " costs.\n\n"
        f"At $t={pad.s[j]:.2f}$ this model has learned $\\lambda={pad.learned[j]:.2f}$."
    )
    return Read(text, figure)


def middle(material: Material) -> Predict:
    """Where the parameters are half-way."""
    model = material.model
    s, lam = learned_curve(model)
    truth = half_way(model)

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t", "λ(s): 0 at θ0, 1 at θ1")
        drawn.add_scatter(x=[0, 1], y=[0, 1], name="straight line", line={"color": GUIDE, "width": 1.5, "dash": "dot"})
        drawn.add_scatter(x=s, y=lam, name="learned λ(s)", line={"color": LAMBDA, "width": 4})
        for y, colour, name in ((0.0, THETA0, "θ0"), (1.0, THETA1, "θ1")):
            drawn.add_scatter(x=[y], y=[y], mode="markers", marker={"color": colour, "size": 12}, name=name)
        mark(drawn, truth, guess)
        return Plot(
            drawn, "Where the curve is steep the network changes fast with the noise; where it is flat, hardly."
        )

    thirds = np.diff(np.interp([0, 1 / 3, 2 / 3, 1], s, lam))
    where = ("first", "middle", "last")[int(thirds.argmax())]
    text = (
        "Training was free to spend the way from $\\theta_0$ to $\\theta_1$ anywhere along $s$. At which $t$ is half of it"
        " spent, $\\lambda=\\tfrac12$?"
    )
    reveal = (
        f"A straight line would be half-way at 0.50. This model spends the largest part, {100 * thirds.max():.0f} % of the"
        f" way, in the {where} third of $t$."
    )
    return Predict(text, Estimate("t", 0.0, 1.0, 0.01, truth, near=0.05), reveal, figure)


def straight_line(material: Material) -> Predict:
    """The same sets with λ = s."""
    model = material.model
    pad, levels, loss = pad_of(model), judged(model), mean_loss_of_the_line(model)
    truth = 0 if loss < -0.1 else 1 if loss <= 0.1 else 2 if loss <= 1 else 3

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t, noise level", "dB lost by λ = s")
        drawn.add_scatter(
            x=pad.s[levels], y=loss_of_the_line(model)[levels], line={"color": LAMBDA, "width": 3}, showlegend=False
        )
        drawn.add_hline(0, line={"color": GUIDE, "width": 1})
        return Plot(drawn, "Above zero the learned curve is better; the loss is looked up in the stored map.")

    text = (
        "Keep both sets as they are and replace the learned curve by the straight line $\\lambda(s)=s$. What happens to"
        " the quality, on average over $t$ from 0.05 to 0.95?"
    )
    worst = int(np.argmax(np.where(levels, loss_of_the_line(model), -np.inf)))
    reveal = (
        f"The line changes it by {change(-loss)} dB on average, and by {change(-loss_of_the_line(model)[worst])} dB at"
        f" $t={pad.s[worst]:.2f}$, where it is worst for the line. The sets were trained for the learned positions, so"
        " this shows what the curve is worth to these two sets, not what training with a line would give."
    )
    return Predict(text, Choice(LINE_OPTIONS, truth), reveal, figure)


def blends(material: Material) -> Predict:
    """Weights against outputs."""
    model = material.model
    assert model.parameters is not None
    paths = model.parameters.paths
    mean, low, high = paths.blend_total
    truth = 2 if low > 0 else 0 if high < 0 else 1

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t, noise level", "dB lost by blending outputs")
        band(drawn, paths.blend_s, paths.blend_low, paths.blend_high, THIS)
        drawn.add_scatter(x=paths.blend_s, y=paths.blend_loss, line={"color": THIS, "width": 3}, showlegend=False)
        drawn.add_hline(0, line={"color": GUIDE, "width": 1})
        return Plot(drawn, f"Mean over {model.parameters.landscape.samples} {things(model)} with its 95 % interval.")  # type: ignore[union-attr]

    text = (
        "Since all parameters move on one straight line, $\\lVert\\theta(s)-\\theta_0\\rVert="
        "\\lambda(s)\\,\\lVert\\theta_1-\\theta_0\\rVert$ holds by construction. What the outputs do does not.\n\n"
        "Compare two ways to use both sets: blend the parameters, $f([1-\\lambda]\\theta_0+\\lambda\\theta_1,x)$, or run two"
        " networks and blend their outputs, $[1-\\lambda]f(\\theta_0,x)+\\lambda f(\\theta_1,x)$. Which has the smaller error?"
    )
    reveal = (
        f"Blended outputs change the quality by {change(-mean)} dB on average (95 % interval {change(-high)} to"
        f" {change(-low)}), and they cost two evaluations. The network half-way is a network of its own, not the mean of two."
    )
    return Predict(text, Choice(BLEND_OPTIONS, truth), reveal, figure)


def real_page(material: Material) -> Look:
    """The λ studio."""
    model = material.model
    t = half_way(model)
    if model.parameters is None:
        text = (
            f"The Denoise page opens at $t={t:.2f}$, where $\\lambda=\\tfrac12$. The purple curve and the map show λ beside"
            " the pictures."
        )
        return Look(text, "denoise", {"t": f"{t:.4g}"}, f"Open Denoise at t = {t:.2f}")
    text = (
        f"The λ studio opens at $t={t:.2f}$, where $\\lambda=\\tfrac12$. Choose the straight line, or drag the curve: what it"
        " costs is written above it while you move."
    )
    return Look(text, "parameters", {"t": f"{t:.4g}"}, f"Open the λ studio at t = {t:.2f}")


def in_short(material: Material) -> Read:
    """Three sentences."""
    model = material.model
    lines = [
        "- Two sets and one rising curve make a network for every $s$, at the cost of one.",
        f"- This model is half-way between its sets at $t={half_way(model):.2f}$.",
        f"- A straight line in place of its curve changes its quality by {change(-mean_loss_of_the_line(model))} dB.",
    ]
    if model.parameters is not None:
        lost = model.parameters.paths.blend_total[0]
        lines.append(f"- Blending outputs in place of parameters changes it by {change(-lost)} dB.")
    return Read("\n".join(lines))


def _position(model: StoredModel, row: int, level: int) -> str:
    pad = pad_of(model)
    learned = row == nearest(pad.lam, pad.learned[level])
    return f"λ = {pad.lam[row]:.2f}{', near the learned' if learned else ''}"


LESSON = Lesson(
    key="curve",
    title="Two sets and a curve",
    question="What does λ do between two parameter sets?",
    minutes=5,
    steps=(
        Step("A blend of parameters", setting),
        Step("Predict: half-way", middle),
        Step("Predict: a straight line", straight_line),
        Step("Predict: weights or outputs", blends, fits=lambda material: material.model.parameters is not None),
        Step("On the real page", real_page),
        Step("In short", in_short),
    ),
    lack=lack,
)
