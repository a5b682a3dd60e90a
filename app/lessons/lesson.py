"""What a lesson is: data and small pure functions. No streamlit, no torch.

A lesson is a row of steps. A step is built from the loaded model when it is shown, so every number in its text is that
model's. Three kinds: `Read`, `Predict` (a guess is committed, then the model's answer is revealed), and `Look` (a link
to a page of the app in a certain state).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from app.records import Request, Result, StoredModel

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class Material:
    """What steps are built from.

    Attributes:
        model: on show.
        family: the models trained on the same data and process, this one among them.
        device: what computes.
        results: answers of the engine so far.
    """

    model: StoredModel
    family: tuple[StoredModel, ...] = ()
    device: str = "cpu"
    results: Mapping[Request, Result] = field(default_factory=dict)


# Figures -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Plot:
    """A chart.

    Attributes:
        figure: for Plotly.
        caption: one sentence that says how to read it.
    """

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Tile:
    """A picture in a table of pictures.

    Attributes:
        source: a data URI.
        alt: what it shows.
        note: a short text under it, or "".
    """

    source: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """A table of pictures.

    Attributes:
        columns: headings.
        rows: label and tiles of each row.
        caption: one sentence that says how to read it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]
    caption: str


@dataclass(frozen=True)
class Scrubber:
    """The Denoise page's scrubber over the model's stored frames."""

    caption: str


@dataclass(frozen=True)
class Player:
    """The Trajectories page's player.

    Attributes:
        runs: what it shows, from left to right; they are computed already.
        caption: one sentence that says how to read it.
    """

    runs: tuple[Request, ...]
    caption: str


Shown: TypeAlias = Plot | Pictures | Scrubber | Player


# Steps -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A question with fixed answers.

    Attributes:
        options: what can be said.
        truth: index of the one that is right for the model.
    """

    options: tuple[str, ...]
    truth: int

    def takes(self, guess: float) -> bool:
        """Whether it is the index of an option."""
        return guess in range(len(self.options))


@dataclass(frozen=True)
class Estimate:
    """A question for a number.

    Attributes:
        label: names the number.
        low: end of the slider.
        high: end of the slider.
        step: of the slider.
        truth: the model's number.
        unit: with a space before it where one belongs, or "".
        near: a guess this close counts as right.
    """

    label: str
    low: float
    high: float
    step: float
    truth: float
    unit: str = ""
    near: float = 0.0

    @property
    def digits(self) -> int:
        """After the point, as the slider's step has them."""
        return max(0, -int(np.floor(np.log10(self.step) + 1e-9)))

    def takes(self, guess: float) -> bool:
        """Whether the slider reaches it; a link has six digits of it."""
        return self.low - self.step / 2 <= guess <= self.high + self.step / 2

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.{self.digits}f}{self.unit}".replace("-", "−")


Answer: TypeAlias = Choice | Estimate


@dataclass(frozen=True)
class Read:
    """Text, with a figure perhaps."""

    text: str
    figure: Shown | None = None


@dataclass(frozen=True)
class Predict:
    """A question whose answer is shown once the reader has committed to a guess.

    Attributes:
        text: what has to be known, and the question.
        answer: what can be guessed, and what is true of this model.
        reveal: what to learn from the answer.
        figure: what shows it, given the guess; None for no guess.
        before: a figure beside the question.
    """

    text: str
    answer: Answer
    reveal: str
    figure: Callable[[float | None], Shown]
    before: Shown | None = None


@dataclass(frozen=True)
class Look:
    """A page of the app in the state that shows what the lesson was about.

    Attributes:
        text: what to do there.
        page: its name.
        query: URL parameters that set its state.
        label: of the link.
    """

    text: str
    page: str
    query: Mapping[str, str]
    label: str


Content: TypeAlias = Read | Predict | Look


def fitting(content: Content | None, answers: Mapping[int, float | None], step: int) -> Mapping[int, float | None]:
    """The answers without that to a step's question if it cannot be given there: a link may hold anything."""
    guess = answers.get(step)
    if guess is None or not isinstance(content, Predict) or content.answer.takes(guess):
        return answers
    return {number: answer for number, answer in answers.items() if number != step}


def _always(material: Material) -> bool:
    return True


def _nothing(model: StoredModel, device: str) -> tuple[Request, ...]:
    return ()


@dataclass(frozen=True)
class Step:
    """One screen.

    Attributes:
        title: its heading.
        build: makes the content.
        wants: how many of the lesson's requests have to be answered before.
        fits: whether the step makes sense for a model.
    """

    title: str
    build: Callable[[Material], Content]
    wants: int = 0
    fits: Callable[[Material], bool] = _always


@dataclass(frozen=True)
class Lesson:
    """Six to eight screens on one question.

    Attributes:
        key: its name in the URL.
        title: in a few words.
        question: what is answered.
        minutes: how long it takes.
        steps: in order.
        lack: one sentence if the model does not have what the lesson needs, else None.
        requests: what the engine computes for it, in the order of need.
    """

    key: str
    title: str
    question: str
    minutes: int
    steps: tuple[Step, ...]
    lack: Callable[[StoredModel], str | None]
    requests: Callable[[StoredModel, str], tuple[Request, ...]] = _nothing

    def steps_for(self, material: Material) -> list[Step]:
        """The steps that make sense for a model."""
        return [step for step in self.steps if step.fits(material)]


def verdict(answer: Answer, guess: float | None) -> str:
    """One sentence that compares a guess with the truth.

    Args:
        answer: the question's.
        guess: an option's index, a number, or None where nobody guessed.
    """
    if isinstance(answer, Choice):
        truth = answer.options[answer.truth]
        if guess is None:
            return f"For this model: **{truth}**."
        said = answer.options[int(guess)]
        return f"Right: **{truth}**." if guess == answer.truth else f"You said “{said}”; for this model: **{truth}**."
    truth = answer.text(answer.truth)
    if guess is None:
        return f"For this model: **{truth}**."
    off = abs(guess - answer.truth)
    said = f"You said {answer.text(guess)}; this model has **{truth}**"
    if off <= max(answer.near, answer.step / 2):
        return f"{said}: close."
    return f"{said}: you were {answer.text(off)} too {'high' if guess > answer.truth else 'low'}."
