"""Lessons as a file: all their steps one under the other, the answers folded away until somebody has guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape

from app.components import scrubber
from app.components.player import pack_run, standalone_player
from app.components.scrubber import ScrubberState, blob_hash, pack, scrubber_data
from app.components.standalone import folded, mounted, paragraph, section, standalone_page, text
from app.figures.denoise import sweep_figure
from app.figures.offline_parts import MOST_FRAME_BYTES, ending, plotly_part, thinned, thinned_in_words
from app.figures.reproduce import load_line
from app.figures.trajectories import run_figure, run_name
from app.lessons.lesson import (
    Answer,
    Choice,
    Content,
    Lesson,
    Look,
    Material,
    Pictures,
    Player,
    Plot,
    Predict,
    Scrubber,
    Shown,
    Step,
    fitting,
    verdict,
)
from app.lessons.pictures import as_html
from app.records import StoredModel, TrajectoryRequest, TrajectoryResult

STYLE = """
.text { max-width: 46rem; }
.text table { margin: 8px 0; }
.step { margin: 24px 0; }
.tiles { display: grid; gap: 4px 10px; align-items: start; justify-content: start; overflow-x: auto;
  grid-template-columns: auto repeat(var(--columns), minmax(4.5rem, 11rem)); }
.tiles .h { font-weight: 600; }
.tiles .h, .tiles .l, .tiles span { font-size: 14px; line-height: 1.25; }
.tiles .l { max-width: 5rem; }
.tiles img { display: block; width: 100%; image-rendering: pixelated; }
summary { cursor: pointer; }
.answer > details > summary { font-weight: 600; }
"""


@dataclass(frozen=True)
class Told:
    """One lesson on one model.

    Attributes:
        lesson: the lesson.
        number: of the lesson, from 1.
        material: the model, and the answers that the engine has.
        guesses: what the reader has guessed at each step, from 1.
    """

    lesson: Lesson
    number: int
    material: Material
    guesses: Mapping[int, float | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its number and its name."""
        return f"Lesson {self.number}. {self.lesson.title}"


def lessons_page(about: Mapping[str, object], told: Sequence[Told]) -> str:
    """One lesson, or all of them.

    Args:
        about: weights, device and versions.
        told: the lessons; of one model.
    """
    model = told[0].material.model
    each = [part for one in told for part in _lesson(one, alone=len(told) == 1)]
    lines = {"Python that loads this model": f"import dpi_core\n\n{load_line(model)}"}
    heading = told[0].title if len(told) == 1 else "Lessons"
    return standalone_page([*each, *ending(about, lines)], title=f"{model.name}: {heading}", about=about, css=STYLE)


def _lesson(told: Told, alone: bool) -> list[str]:
    question = paragraph(f"{told.lesson.question} Takes {told.lesson.minutes} minutes.")
    heading = [question] if alone else [section(told.title, [question])]
    lack = told.lesson.lack(told.material.model)
    if lack:
        return [*heading, paragraph(lack)]
    steps = told.lesson.steps_for(told.material)
    there = [step for step in steps if step.wants <= len(told.material.results)]
    level = "h2" if alone else "h3"
    told_steps = [_step(told, number, step, level) for number, step in enumerate(steps, start=1) if step in there]
    if len(there) < len(steps):
        titles = ", ".join(f"“{step.title}”" for step in steps if step not in there)
        told_steps.append(
            paragraph(
                f"Not in this file: {titles}. The model had not computed what they show when it was saved: open this"
                " lesson in the app, and save it a moment later."
            )
        )
    return [*heading, *told_steps]


def _step(told: Told, number: int, step: Step, level: str) -> str:
    content, draw = step.build(told.material), partial(_drawn, told.material)
    if isinstance(content, Predict):
        parts = [*_question(content, draw(content.before)), _answer(content, told, number)]
    else:
        parts = [text(content.text), *_rest(content, told.material)]
    return f'<section class="step"><{level}>{escape(step.title)}</{level}>{"".join(parts)}</section>'


def _rest(content: Content, material: Material) -> list[str]:
    if isinstance(content, Look):
        return [paragraph(f"This is to be done in the app: {content.label}.")]
    return [] if isinstance(content, Predict) else [_drawn(material, content.figure)]


def _question(content: Predict, before: str) -> list[str]:
    return [text(content.text), text(in_words(content.answer)), before]


def _answer(content: Predict, told: Told, number: int) -> str:
    guess = fitting(content, told.guesses, number).get(number)
    shown = [text(verdict(content.answer, guess)), text(content.reveal), _drawn(told.material, content.figure(guess))]
    return f'<div class="answer">{folded("The answer", shown)}</div>'


def in_words(answer: Answer) -> str:
    """What can be guessed, as Markdown: a class can vote for it."""
    if isinstance(answer, Choice):
        return "\n".join(f"{number}. {option}" for number, option in enumerate(answer.options, start=1))
    return f"{answer.label}: somewhere from {answer.text(answer.low)} to {answer.text(answer.high)}."


def _drawn(material: Material, figure: Shown | None) -> str:
    if figure is None:
        return ""
    if isinstance(figure, Plot):
        return plotly_part("", figure.figure, figure.caption)
    if isinstance(figure, Pictures):
        return as_html(figure) + paragraph(figure.caption)
    if isinstance(figure, Scrubber):
        return _frames(material.model) + paragraph(figure.caption)
    return _runs(material, figure) + paragraph(figure.caption)


def _frames(model: StoredModel) -> str:
    assert model.sweep is not None
    every = -(-model.sweep.x0_hat.size // MOST_FRAME_BYTES)  # a byte for each pixel
    packed = pack(sweep_figure(model, [model], thinned(model.sweep, every)))
    view = mounted(scrubber.VIEW, [packed], scrubber_data(blob_hash(packed), None, ScrubberState(0.5)))
    return view + (paragraph(thinned_in_words(every)) if every > 1 else "")


def _runs(material: Material, figure: Player) -> str:
    blobs = []
    for request in figure.runs:
        result = material.results.get(request)
        assert isinstance(request, TrajectoryRequest) and isinstance(result, TrajectoryResult)
        blobs.append(pack_run(run_figure(run_name(request), result)))
    return standalone_player(blobs, 1.0)
