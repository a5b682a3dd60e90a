"""Lesson 4: from denoiser to score to velocity. One network output per noise level, computed by the engine."""

from __future__ import annotations

import numpy as np

from app.figures.chart import GUIDE, SERIES, THIS
from app.lessons.lesson import Choice, Lesson, Look, Material, Pictures, Plot, Predict, Read, Shown, Step
from app.lessons.numbers import is_flow, lesson_plot, look_inputs, nearest, process_in_words, rms, things
from app.lessons.pictures import arrow_tile, extent_of, image_tile, sample_tile, signed_tile, square_in_words
from app.records import Request, StoredModel, ViewsRequest, ViewsResult

LEVELS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
LITTLE, MUCH = 0.1, 0.9
PICTURED = (0.1, 0.5, 0.9)
IMAGES, POINTS = 8, 512

OUTPUTS = {
    "v": r"$v=\alpha\,\varepsilon-\sigma\,x_0$",
    "velocity": r"the velocity $\varepsilon-x_0$",
    "eps": r"the noise $\varepsilon$",
    "x0": r"the clean sample $x_0$",
    "edm": r"a mixture of $x_0$ and $\varepsilon$ that EDM's preconditioning turns into $\hat x_0$",
}
"""What a network predicts -> in words."""

ERROR_OPTIONS = ("ε̂ is further off than x̂0", "Both are off by about the same", "ε̂ is less far off than x̂0")
NAMES = ("noise ε̂", "score", "velocity")
SAME = 1.1
"""A ratio of two errors this close to 1 counts as about the same."""


def lack(model: StoredModel) -> str | None:
    """Nothing: every model can be asked."""
    return None


def requests(model: StoredModel, device: str) -> tuple[Request, ...]:
    """One: all views at all levels."""
    return (ViewsRequest(model.key, look_inputs(model, IMAGES, POINTS), LEVELS, device),)


def views_of(material: Material) -> ViewsResult:
    """The engine's answer."""
    (request,) = requests(material.model, material.device)
    found = material.results[request]
    assert isinstance(found, ViewsResult)
    return found


def errors(views: ViewsResult) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square errors of x̂0 and of ε̂, (v,) each."""
    axes = tuple(range(1, views.x0.ndim))
    return rms(views.x0 - views.clean, axes), rms(views.eps - views.noise, axes)


def converted(views: ViewsResult) -> dict[str, np.ndarray]:
    """ε, score and velocity by the formulas, from x̂0 and x_s alone; (v, n, ...) each."""
    alpha, sigma, d_alpha, d_sigma = (
        values.reshape(-1, *[1] * (views.x0.ndim - 1))
        for values in (views.alpha, views.sigma, views.d_alpha, views.d_sigma)
    )
    eps = (views.x_s.astype(np.float64) - alpha * views.x0) / sigma
    return {"eps": eps, "score": -eps / sigma, "velocity": d_alpha * views.x0 + d_sigma * eps}


def residuals(views: ViewsResult) -> dict[str, np.ndarray]:
    """How far the formulas are from the network's own output, relative root mean square at each level, (v,) each."""
    axes = tuple(range(1, views.x0.ndim))
    return {
        name: rms(values - getattr(views, name), axes) / rms(getattr(views, name), axes)
        for name, values in converted(views).items()
    }


def score_error(views: ViewsResult) -> np.ndarray | None:
    """(v,) distance of the network's score from the closed form's, relative root mean square; None without one."""
    if views.exact_score is None:
        return None
    axes = tuple(range(1, views.x0.ndim))
    return rms(views.score - views.exact_score, axes) / rms(views.exact_score, axes)


def setting(material: Material) -> Read:
    """The formulas."""
    model = material.model
    predicts = OUTPUTS.get(model.recipe["process"].get("prediction", ""), "one of them")
    text = (
        f"This model is {process_in_words(model)}. Its network predicts {predicts}. Given $x_s$, that fixes four quantities:\n\n"
        "$$\\hat\\varepsilon=\\dfrac{x_s-\\alpha\\hat x_0}{\\sigma},\\qquad"
        " \\nabla\\log p(x_s)\\approx-\\dfrac{\\hat\\varepsilon}{\\sigma},\\qquad"
        " \\dfrac{dx}{ds}\\approx\\alpha'\\hat x_0+\\sigma'\\hat\\varepsilon$$\n\n"
        "- $\\hat x_0$ is what a denoiser returns;\n"
        "- $\\hat\\varepsilon$ is the noise it thinks was added;\n"
        "- the score points to where inputs are more likely;\n"
        "- the velocity is how $x_s$ moves when $s$ grows.\n\n"
        f"The second formula is Tweedie's. {_own(model)}"
    )
    return Read(text)


def _own(model: StoredModel) -> str:
    kind = model.recipe["process"]["kind"]
    if kind == "flow":
        return r"With $\alpha'=-1$ and $\sigma'=1$ the velocity is $\hat\varepsilon-\hat x_0$."
    if kind == "vp":
        return r"With $\sigma'=-\alpha\alpha'/\sigma$, from $\alpha^2+\sigma^2=1$, everything follows from $\alpha(s)$."
    return r"With $\alpha'=0$ the velocity is $\sigma'\hat\varepsilon$."


def two_errors(material: Material) -> Predict:
    """The same answer, twice as wrong or half as wrong."""
    views = views_of(material)
    of_x0, of_eps = errors(views)
    k, far = nearest(views.s, LITTLE), nearest(views.s, MUCH)
    ratio = float(of_eps[k] / of_x0[k])
    truth = 0 if ratio > SAME else 2 if ratio < 1 / SAME else 1

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t, noise level", "root mean square error (log)")
        for values, name, colour in ((of_x0, "of x̂0", THIS), (of_eps, "of ε̂", SERIES[1])):
            drawn.add_scatter(x=views.s, y=values, name=name, mode="lines+markers", line={"color": colour, "width": 3})
        drawn.update_yaxes(type="log", dtick=1)
        return Plot(drawn, "The lines cross where α = σ: there both have the same error.")

    text = (
        f"At $t={views.s[k]:.2f}$ this model's $\\hat x_0$ is off by {of_x0[k]:.3g}; the data have the size"
        f" {rms(views.clean):.2f}, the noise $\\varepsilon$ the size 1 (all root mean square). How far off is"
        " $\\hat\\varepsilon$, which is made of the same answer?"
    )
    reveal = (
        "Subtract the formula for $\\hat\\varepsilon$ from that of the true noise:\n\n"
        "$$\\hat\\varepsilon-\\varepsilon=-\\dfrac{\\alpha}{\\sigma}\\,(\\hat x_0-x_0)$$\n\n"
        f"At $t={views.s[k]:.2f}$ the factor $\\alpha/\\sigma$ is {views.alpha[k] / views.sigma[k]:.3g}, and measured it is"
        f" {ratio:.3g}. At $t={views.s[far]:.2f}$ it is {views.alpha[far] / views.sigma[far]:.2g}."
    )
    if views.alpha[far] < views.sigma[far]:
        reveal += " There the noise is easier to name than the clean sample."
    return Predict(text, Choice(ERROR_OPTIONS, truth), reveal, figure)


def sizes(sigma: float) -> tuple[float, ...]:
    """What could be guessed as the size of the score."""
    return (sigma, 1.0, 1 / sigma, 1 / sigma**2)


def size_of_the_score(material: Material) -> Predict:
    """The score is at most 1/σ large."""
    views = views_of(material)
    k = nearest(views.s, LITTLE)
    measured = float(rms(views.score[k]))
    offered = sizes(float(views.sigma[k]))
    truth = nearest(np.log(offered), float(np.log(measured)))
    names = ("σ", "1", "1/σ", "1/σ²")
    options = tuple(f"{name} = {size:.3g}" if name != "1" else "1" for name, size in zip(names, offered, strict=True))

    def figure(guess: float | None) -> Shown:
        drawn = lesson_plot("t, noise level", "size, root mean square (log)")
        axes = tuple(range(1, views.x0.ndim))
        for name, values, colour in zip(NAMES, (views.eps, views.score, views.velocity), SERIES, strict=False):
            drawn.add_scatter(x=views.s, y=rms(values, axes), name=name, line={"color": colour, "width": 3})
        drawn.add_scatter(x=views.s, y=1 / views.sigma, name="1/σ", line={"color": GUIDE, "dash": "dot", "width": 2})
        drawn.update_yaxes(type="log", dtick=1)
        return Plot(drawn, "Up to the error of the network the score stays below 1/σ, the dotted line.")

    text = (
        f"At $t={views.s[k]:.2f}$, $\\sigma={views.sigma[k]:.3g}$. How large are the entries of the score"
        " $-\\hat\\varepsilon/\\sigma$ there (root mean square)? The nearest counts."
    )
    reveal = (
        f"Measured: {measured:.3g}. $\\hat\\varepsilon$ is the average of the noises that could have been added, so its size"
        " is at most 1 and that of the score at most $1/\\sigma$. The square of $\\hat\\varepsilon$'s size,"
        f" {100 * float(rms(views.eps[k])) ** 2:.0f} % here, is the share of the noise that an ideal network can tell from the"
        " data. The bound grows as the noise shrinks, and so does the score where data fill a thin set; that is why losses"
        " weight it, and why networks are asked for $\\hat x_0$, $\\hat\\varepsilon$ or a velocity instead."
    )
    return Predict(text, Choice(options, truth), reveal, figure)


def four_views(material: Material) -> Read:
    """The pictures, and the check that the formulas agree with the network's own output."""
    views = views_of(material)
    worst = {name: float(values.max()) for name, values in residuals(views).items()}
    rows = "\n".join(
        f"| {name} | {formula} | {_power(worst[key])} |"
        for key, name, formula in (
            ("eps", "noise", r"$(x_s-\alpha\hat x_0)/\sigma$"),
            ("score", "score", r"$-\hat\varepsilon/\sigma$"),
            ("velocity", "velocity", r"$\alpha'\hat x_0+\sigma'\hat\varepsilon$"),
        )
    )
    text = (
        "The same answer of the network, drawn four ways. The table checks the formulas: each quantity is computed once from"
        " the network's own output and once from $\\hat x_0$ and $x_s$ alone.\n\n"
        f"| | from $\\hat x_0$ | largest difference |\n|---|---|---|\n{rows}\n\n"
        f"The differences are relative, the largest over {len(views.s)} noise levels; what is left is the rounding of 32-bit"
        " numbers."
    )
    gap = score_error(views)
    if gap is not None:
        shown = ", ".join(f"{100 * gap[nearest(views.s, s)]:.2g} % at $t={s:g}$" for s in PICTURED)
        text += f"\n\nFor these data the true score is known in closed form. The network's differs from it by {shown}."
    return Read(text, _table(material))


def _table(material: Material) -> Pictures:
    views, is_image = views_of(material), material.model.is_image
    shown = [nearest(views.s, s) for s in PICTURED]
    extent = 1.0 if is_image else extent_of(views.clean, views.x_s)
    fields = (("noise ε̂", views.eps), ("score", views.score), ("velocity", views.velocity))

    def signed(name: str, values: np.ndarray, k: int):  # noqa: ANN202
        reach = 2.5 * float(rms(values[k]))
        alt, note = f"{name} at t = {views.s[k]:.2f}", f"size {rms(values[k]):.2g}"
        if is_image:
            return signed_tile(values[k], reach, alt, note)
        return arrow_tile(views.x_s[k], values[k], extent, alt, note)

    first = tuple(
        image_tile(views.x0[k], f"x̂0 at t = {views.s[k]:.2f}")
        if is_image
        else sample_tile(views.x0[k], extent, f"x̂0 at t = {views.s[k]:.2f}")
        for k in shown
    )
    rows = (("x̂₀", first), *((name, tuple(signed(name, values, k) for k in shown)) for name, values in fields))
    how = (
        "Red is above zero, blue below; each tile is scaled to 2.5 times its size."
        if is_image
        else f"Arrows start at x_s, each tile with a scale of its own.{square_in_words(extent)}"
    )
    return Pictures(tuple(f"t = {views.s[k]:.2f}" for k in shown), rows, f"{how} “size” is the root mean square.")


def real_page(material: Material) -> Look:
    """Velocity along a run."""
    if not material.model.is_generative:
        text = (
            f"The Denoise page opens at $t={LITTLE:g}$. There $x_s-\\hat x_0$ is $\\sigma\\hat\\varepsilon$, what the network"
            " takes for noise."
        )
        return Look(text, "denoise", {"t": f"{LITTLE:g}"}, f"Open Denoise at t = {LITTLE:g}")
    what = (
        "the velocity itself"
        if is_flow(material.model)
        else "$\\hat\\varepsilon$, in the variable $x/\\alpha$ over $\\sigma/\\alpha$"
    )
    text = (
        f"A sampler walks along one of these quantities, here {what}. The Trajectories page opens at $t=0.5$ and shows"
        f" $x_s$, $\\hat x_0$ and the velocity of the same {things(material.model)}, step by step."
    )
    return Look(text, "trajectories", {"t": "0.5", "runs": "1"}, "Open Trajectories at t = 0.5")


def in_short(material: Material) -> Read:
    """Three sentences."""
    views = views_of(material)
    of_x0, of_eps = errors(views)
    k, far = nearest(views.s, LITTLE), nearest(views.s, MUCH)
    worst = max(float(values.max()) for values in residuals(views).values())
    return Read(
        "- Denoiser, noise, score and velocity are one answer in four units; only $\\alpha$, $\\sigma$ and their slopes"
        f" stand between them. In this model they agree to {_power(worst)}.\n"
        f"- Its $\\hat x_0$ is off by {of_x0[k]:.2g} at $t={views.s[k]:g}$ and {of_x0[far]:.2g} at $t={views.s[far]:g}$;"
        f" its $\\hat\\varepsilon$ by {of_eps[k]:.2g} and {of_eps[far]:.2g}.\n"
        "- The score has at most the size $1/\\sigma$, a bound that grows as the noise goes to zero; that of a smooth density"
        " stays finite."
    )


def _power(value: float) -> str:
    """A small number as a power of ten."""
    if value == 0:
        return "0"
    exponent = int(np.floor(np.log10(value)))
    return f"${value / 10**exponent:.0f}\\cdot10^{{{exponent}}}$"


LESSON = Lesson(
    key="score",
    title="From denoiser to score to velocity",
    question="What else does a network know that can remove noise?",
    minutes=5,
    steps=(
        Step("One answer, four names", setting),
        Step("Predict: the error of the noise", two_errors, wants=1),
        Step("Predict: the size of the score", size_of_the_score, wants=1),
        Step("The four, and a check", four_views, wants=1),
        Step("On the real page", real_page),
        Step("In short", in_short, wants=1),
    ),
    lack=lack,
    requests=requests,
)
