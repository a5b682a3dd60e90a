"""Lesson 5: sampling, its steps, samplers and error. The runs start from the same noise and are computed by the engine."""

from __future__ import annotations

import numpy as np

from app.figures.chart import GUIDE, SERIES, THIS
from app.figures.trajectories import SAMPLER_NAMES, fine_run
from app.lessons.lesson import (
    Choice,
    Estimate,
    Lesson,
    Look,
    Material,
    Pictures,
    Player,
    Plot,
    Predict,
    Read,
    Shown,
    Step,
)
from app.lessons.numbers import is_flow, lesson_plot, rms, things
from app.lessons.pictures import extent_of, sample_tile, square_in_words
from app.records import Inputs, Request, StoredModel, TrajectoryRequest, TrajectoryResult

IMAGES, POINTS = 4, 300
SEED = 0
FEW, COARSE, MEDIUM = 4, 8, 16
"""Numbers of steps."""

SAME_SAMPLES = (
    "The same samples, a little noisier",
    "The same kind of sample in the same places, clearly changed",
    "Other samples altogether",
)
CLOSE = 1.1
"""A ratio of two errors this close to 1 counts as a draw."""


def lack(model: StoredModel) -> str | None:
    """What is missing."""
    if not model.is_generative:
        return "This model's process never drowns the sample in noise, so there is no noise end to start sampling from."
    return None


def run(model: StoredModel, sampler: str, steps: int, device: str) -> TrajectoryRequest:
    """One run of the lesson; all start from the same noise."""
    inputs = Inputs("samples", IMAGES if model.is_image else POINTS, SEED)
    return TrajectoryRequest(model.key, inputs, sampler, steps, "uniform", "learned", 0.5, device)


def requests(model: StoredModel, device: str) -> tuple[Request, ...]:
    """The runs in the order they are needed; the fine one is the last."""
    pairs = (
        ("ddim", FEW),
        ("heun", MEDIUM),
        ("ddim", COARSE),
        ("ddim", MEDIUM),
        ("heun", FEW),
        ("heun", COARSE),
        ("ddpm", MEDIUM),
    )
    runs = [run(model, sampler, steps, device) for sampler, steps in pairs]
    return (*runs, fine_run(runs[0]))


def result_of(material: Material, sampler: str, steps: int) -> TrajectoryResult:
    """The engine's answer to one of the runs.

    Raises:
        ValueError: the run broke; one sentence.
    """
    return _run_of(material, run(material.model, sampler, steps, material.device))


def fine_of(material: Material) -> TrajectoryResult:
    """The fine run, which the others are measured against."""
    return _run_of(material, fine_run(run(material.model, "ddim", FEW, material.device)))


def _run_of(material: Material, request: TrajectoryRequest) -> TrajectoryResult:
    found = material.results[request]
    assert isinstance(found, TrajectoryResult)
    if found.error:
        raise ValueError(found.error)
    return found


def _between_ends(result: TrajectoryResult, reference: TrajectoryResult) -> float:
    """Root mean square difference of the last states."""
    return float(rms(result.x[-1].astype(np.float64) - reference.x[-1]))


def error_of(material: Material, sampler: str, steps: int) -> float:
    """Root mean square distance of a run's ends from those of the fine run."""
    return _between_ends(result_of(material, sampler, steps), fine_of(material))


def gain_of_doubling(material: Material) -> float:
    """The factor by which the error shrinks from `COARSE` to `MEDIUM` steps of DDIM."""
    return error_of(material, "ddim", COARSE) / error_of(material, "ddim", MEDIUM)


def apart(material: Material) -> float:
    """Distance of the stochastic run's ends from the fine run's, as a share of that between unrelated samples."""
    fine = fine_of(material).x[-1].astype(np.float64)
    unrelated = float(rms(fine - np.roll(fine, 1, axis=0)))
    return _between_ends(result_of(material, "ddpm", MEDIUM), fine_of(material)) / unrelated


def setting(material: Material) -> Read:
    """The equation and two runs."""
    model = material.model
    if is_flow(model):
        equation = "$$\\dfrac{dx}{ds}=\\hat\\varepsilon-\\hat x_0,\\qquad s:\\;1\\to0$$"
        how = "the network's velocity is followed from noise, $s=1$, back to data, $s=0$"
    else:
        equation = "$$\\dfrac{d(x/\\alpha)}{d\\tau}=\\hat\\varepsilon,\\qquad \\tau=\\sigma/\\alpha\\to0$$"
        how = (
            "in the variable $x/\\alpha$ the slope is the noise $\\hat\\varepsilon$ itself, and $\\tau=\\sigma/\\alpha$ falls"
            " to zero"
        )
    text = (
        f"To sample, start from pure noise and solve a differential equation: {how}.\n\n{equation}\n\n"
        "A solver takes finite steps. DDIM takes one slope for each step, Heun the mean of two, so a step of Heun costs two"
        " network evaluations (NFE).\n\n"
        "Both runs below start from the same noise. Press Play and watch the state $x_s$ and the estimate $\\hat x_0$."
    )
    runs = (run(model, "ddim", FEW, material.device), run(model, "heun", MEDIUM, material.device))
    caption = f"DDIM with {FEW} steps on the left, Heun with {MEDIUM} on the right, from the same noise."
    return Read(text, Player(runs, caption))


def doubling(material: Material) -> Predict:
    """Twice as many steps."""
    gain = gain_of_doubling(material)
    text = (
        f"Take a run of {fine_of(material).nfe[-1]} evaluations as exact. The ends of DDIM with {COARSE} steps are"
        f" {error_of(material, 'ddim', COARSE):.3g} away from its ends (root mean square). With twice as many steps, by which"
        " factor does that distance shrink?"
    )
    reveal = (
        "DDIM is a method of first order: once steps are small enough, half the step is half the error, a factor of 2. A"
        " factor that is clearly another says that the steps are not that small yet."
    )
    top = max(8.0, float(np.ceil(1.5 * gain)))
    answer = Estimate("factor", 0.5, top, 0.1, gain, near=0.3)
    return Predict(text, answer, reveal, lambda guess: error_plot(material))


def error_plot(material: Material) -> Plot:
    """Error against network evaluations."""
    drawn = lesson_plot("network evaluations per sample (log)", "distance from the fine run (log)")
    for sampler, steps, colour in (("ddim", (FEW, COARSE, MEDIUM), THIS), ("heun", (FEW, COARSE, MEDIUM), SERIES[1])):
        nfe = [int(result_of(material, sampler, n).nfe[-1]) for n in steps]
        values = [error_of(material, sampler, n) for n in steps]
        drawn.add_scatter(
            x=nfe,
            y=values,
            name=SAMPLER_NAMES[sampler],
            mode="lines+markers",
            line={"color": colour, "width": 3},
            marker={"size": 9},
        )
    ticks = [4, 8, 16, 32]
    drawn.update_xaxes(type="log", tickvals=ticks, ticktext=[str(n) for n in ticks])
    drawn.update_yaxes(type="log", dtick=1)
    first = error_of(material, "ddim", FEW)
    drawn.add_scatter(
        x=[FEW, MEDIUM], y=[first, first * FEW / MEDIUM], name="first order", line={"color": GUIDE, "dash": "dot"}
    )
    return Plot(drawn, "Each point is a run from the same noise; the dotted line halves with every doubling.")


def budget(material: Material) -> Predict:
    """Which solver for the same cost."""
    ddim, heun = error_of(material, "ddim", MEDIUM), error_of(material, "heun", COARSE)
    ratio = ddim / heun
    truth = 0 if ratio < 1 / CLOSE else 1 if ratio > CLOSE else 2
    costs = [int(result_of(material, *which).nfe[-1]) for which in (("ddim", MEDIUM), ("heun", COARSE))]
    options = (f"DDIM with {MEDIUM} steps", f"Heun with {COARSE} steps", "No difference worth the name")
    text = (
        f"About {MEDIUM} network evaluations may be spent: DDIM with {MEDIUM} steps ({costs[0]} evaluations) or Heun with"
        f" {COARSE} ({costs[1]}; its last step needs one slope only). Which ends nearer to the fine run?"
    )
    better = "Heun's second slope pays" if truth == 1 else "The second slope does not pay here"
    if truth == 2:
        better = "The second slope pays for itself and no more"
    reveal = (
        f"DDIM ends {ddim:.3g} away, Heun {heun:.3g}. {better}. A higher order wins as steps get small; where it starts to win"
        " depends on the model and on where the steps lie, so measure it for yours."
    )
    return Predict(text, Choice(options, truth), reveal, lambda guess: error_plot(material))


def fresh_noise(material: Material) -> Predict:
    """A stochastic sampler from the same start."""
    model, share = material.model, apart(material)
    truth = 0 if share < 0.2 else 1 if share < 0.6 else 2
    fine, other = fine_of(material), result_of(material, "ddpm", MEDIUM)
    extent = 1.0 if model.is_image else extent_of(fine.x[-1], other.x[-1])

    def figure(guess: float | None) -> Shown:
        row = tuple(
            sample_tile(result.x[-1], extent, alt)
            for result, alt in (
                (fine, "ends of the fine run"),
                (result_of(material, "heun", MEDIUM), "ends of Heun"),
                (other, "ends of DDPM"),
            )
        )
        axes = "" if model.is_image else square_in_words(extent)
        columns = ("fine run", f"Heun, {MEDIUM} steps", f"DDPM, {MEDIUM} steps")
        return Pictures(columns, (("", row),), f"Ends of three runs from the same noise, in the same order.{axes}")

    text = (
        "DDPM's sampler adds fresh noise at every step. Start it from the same noise as the others,"
        f" with {MEDIUM} steps. What comes out, compared with the fine run?"
    )
    reveal = (
        f"Its ends are {share:.2f} times as far from the fine run's as unrelated samples are from each other. The equation"
        " without noise ties every sample to its starting noise; fresh noise cuts the tie. With an exact"
        " network and small steps both draw from the same distribution."
    )
    return Predict(text, Choice(SAME_SAMPLES, truth), reveal, figure)


def real_page(material: Material) -> Look:
    """The Trajectories page with these runs."""
    model = material.model
    query = {
        "t": "0.5", "runs": "2", "sampler_a": SAMPLER_NAMES["heun"], "steps_a": str(MEDIUM),
        "sampler_b": SAMPLER_NAMES["ddim"], "steps_b": str(COARSE),
    }  # fmt: skip
    text = (
        f"The Trajectories page opens with Heun, {MEDIUM} steps, beside DDIM, {COARSE} steps, both from the noise of the"
        " chosen seed. Change samplers and steps there."
    )
    if model.has_two_sets:
        query |= {"runs": "3", "sampler_c": SAMPLER_NAMES["heun"], "steps_c": str(MEDIUM), "curve_c": "frozen"}
        text += f" The third run keeps the parameters at $\\lambda=\\tfrac12$: see what that does to {things(model)}."
    return Look(text, "trajectories", query, "Open Trajectories with these runs")


def in_short(material: Material) -> Read:
    """Three sentences."""
    ddim, heun = error_of(material, "ddim", MEDIUM), error_of(material, "heun", COARSE)
    return Read(
        "- A sample is the end of a differential equation that starts from noise; a solver's steps make its error.\n"
        f"- Twice the steps of DDIM divide this model's error by {gain_of_doubling(material):.2f}; at about {MEDIUM}"
        f" evaluations DDIM is {ddim:.2g} off and Heun {heun:.2g}.\n"
        f"- With fresh noise on the way the same start ends {apart(material):.2f} times as far off as an unrelated sample."
    )


LESSON = Lesson(
    key="sampling",
    title="Sampling",
    question="How many steps does a sample need, and which solver takes them best?",
    minutes=5,
    steps=(
        Step("From noise to data", setting, wants=2),
        Step("Predict: twice the steps", doubling, wants=8),
        Step("Predict: the same budget", budget, wants=8),
        Step("Predict: fresh noise", fresh_noise, wants=8),
        Step("On the Trajectories page", real_page),
        Step("In short", in_short, wants=8),
    ),
    lack=lack,
    requests=requests,
)
