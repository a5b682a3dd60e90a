"""Six lessons on the loaded model: predict, then see what the model does; for a reader, or for a class on a projector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import streamlit as st

from app import state
from app.components.keys import BACK, LEAVE, NEXT, keys
from app.components.player import player
from app.components.scrubber import scrubber, store
from app.figures.offline_lessons import Told, in_words, lessons_page
from app.figures.trajectories import run_name
from app.lessons import LESSONS
from app.lessons.lesson import (
    Choice,
    Content,
    Estimate,
    Lesson,
    Look,
    Material,
    Pictures,
    Player,
    Plot,
    Predict,
    Read,
    Scrubber,
    Shown,
    Step,
    fitting,
    verdict,
)
from app.lessons.pictures import as_html
from app.records import Request, Result, StoredModel, TrajectoryRequest, TrajectoryResult, ViewsRequest, ViewsResult
from app.services import cache
from app.services.reproduction import about
from app.views.offline import offer_page
from app.views.progress import computed

WIDE = (Scrubber, Player)
"""Figures that take the whole width."""

PROJECTED = {
    "font_size": 18,
    "height": 480,
    "legend_font_size": 18,
    "xaxis": {"title_font_size": 20, "tickfont_size": 16},
    "yaxis": {"title_font_size": 20, "tickfont_size": 16},
}
"""What a chart's type grows to on a projector."""


@dataclass(frozen=True)
class Screen:
    """What is on show: one step of one lesson.

    Attributes:
        material: the model with what the engine has found so far.
        lesson: the lesson.
        steps: those that fit the model; none where it lacks what the lesson is about.
        place: where the reader stands; its step lies within `steps`.
        content: of the step, or None while the engine computes what it needs.
    """

    material: Material
    lesson: Lesson
    steps: Sequence[Step]
    place: state.Place
    content: Content | None

    @property
    def model(self) -> StoredModel:
        """On show."""
        return self.material.model

    @property
    def go(self) -> Callable[[state.Place], None]:
        """Goes to another place, from a button's callback."""
        return state.mover(self.model.name, self.place)

    @property
    def is_open_question(self) -> bool:
        """Whether a guess is awaited."""
        return isinstance(self.content, Predict) and self.place.step not in self.place.answers

    @property
    def guess(self) -> float | None:
        """What was guessed at this step."""
        return self.place.answers.get(self.place.step)


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the list of lessons, or the step that the reader has come to."""
    place = state.read_place(model.name)
    lesson = _lesson_of(place)
    screen = _screen(model, device, lesson, place) if lesson is not None else None
    place = screen.place if screen is not None else replace(place, lesson="", step=1, answers={}, present=False)
    # Before anything is drawn: the next click may stop this run, and the browser's Back comes to what was on show.
    state.write_place(model.name, place)
    st.html(Path(__file__).with_name("learn.css"))
    if screen is None:
        _overview(model, device, place)
    else:
        _lesson(screen)


# The list ----------------------------------------------------------------------------------------------------------


def _overview(model: StoredModel, device: str, place: state.Place) -> None:
    st.markdown("#### Six lessons")
    st.markdown(
        f"Each takes a few minutes: a little text, a question to answer before you see the answer, and a look at the real page."
        f" All pictures and numbers are those of **{model.name}**; choose another model in the sidebar and the answers change."
    )
    if place.done:
        st.caption(f"{len(set(place.done))} of {len(LESSONS)} read to the end.")
    for first in range(0, len(LESSONS), 3):
        for column, number in zip(st.columns(3), range(first, first + 3), strict=True):
            with column.container(border=True, height="stretch"):
                _card(model, LESSONS[number], number + 1, place)
    told = [Told(lesson, LESSONS.index(lesson) + 1, _material(model, device, lesson)) for lesson in LESSONS]
    _offer_page(model, device, told)


def _card(model: StoredModel, lesson: Lesson, number: int, place: state.Place) -> None:
    st.markdown(f"**{number}. {lesson.title}**")
    st.markdown(lesson.question)
    lack = lesson.lack(model)
    done = " · read to the end" if lesson.key in place.done else ""
    st.caption(lack or f"{lesson.minutes} minutes{done}")
    label = "Start again" if done else "Start"
    st.button(
        label,
        key=f"start {lesson.key}",
        on_click=state.mover(model.name, place),
        args=(replace(place, lesson=lesson.key),),
    )


# One lesson --------------------------------------------------------------------------------------------------------


def _lesson(screen: Screen) -> None:
    if screen.place.present:
        st.html(Path(__file__).with_name("presenter.css"))
    with st.container(key="lesson"):
        _header(screen)
        lack = screen.lesson.lack(screen.model)
        if lack:
            _offer_another_model(screen, lack)
        else:
            _step(screen)
    if screen.place.present:
        keys("lesson keys", lambda pressed: _press(screen.model, screen.material.device, pressed))


def _screen(model: StoredModel, device: str, lesson: Lesson, place: state.Place) -> Screen:
    """What is to be shown at a place; the lesson counts as read where that is its last step."""
    material = _material(model, device, lesson)
    steps = () if lesson.lack(model) else lesson.steps_for(material)
    place = replace(place, step=min(place.step, max(len(steps), 1)))
    if place.step == len(steps) and lesson.key not in place.done:
        place = replace(place, done=(*place.done, lesson.key))
    content = _built(steps[place.step - 1], material) if steps else None
    place = replace(place, answers=fitting(content, place.answers, place.step))
    return Screen(material, lesson, steps, place, content)


def _built(step: Step, material: Material) -> Content | None:
    if step.wants > len(material.results):
        return None
    try:
        return step.build(material)
    except ValueError as error:
        return Read(f"This step cannot be shown: {error}")


def _step(screen: Screen) -> None:
    st.markdown(f"### {screen.steps[screen.place.step - 1].title}")
    if screen.content is None:
        st.markdown("This step shows what the model computes now; it follows in a moment.")
    else:
        _content(screen, screen.content)
    _footer(screen)
    if not screen.place.present:
        number = LESSONS.index(screen.lesson) + 1
        told = Told(screen.lesson, number, screen.material, screen.place.answers)
        _offer_page(screen.model, screen.material.device, [told])
    _compute(screen.material, screen.lesson)


def _offer_page(model: StoredModel, device: str, told: list[Told]) -> None:
    """The page as a file: every step of the lesson, or of all."""
    name = "learn" if len(told) > 1 else f"learn-{told[0].lesson.key}"
    offer_page(name, partial(lessons_page, about(model, 0, device), told), model)


def _material(model: StoredModel, device: str, lesson: Lesson) -> Material:
    """The model, its family, and the answers that the engine has, up to the first that is missing."""
    found: dict[Request, Result] = {}
    for request in lesson.requests(model, device) if lesson.lack(model) is None else ():
        result = cache.engine().cache.get(request)
        if result is None:
            break
        found[request] = result
    return Material(model, tuple(cache.models_of_family(model)), device, found)


def _compute(material: Material, lesson: Lesson) -> None:
    """Asks for the first answer that is missing; later steps need it, so it is computed while the reader reads."""
    wanted = lesson.requests(material.model, material.device)
    if len(material.results) == len(wanted):
        return
    request = wanted[len(material.results)]
    number = f"{len(material.results) + 1} of {len(wanted)}"
    if isinstance(request, TrajectoryRequest):
        found: Result | None = computed(request, TrajectoryResult, f"Computing run {number}, {run_name(request)}")
    else:
        assert isinstance(request, ViewsRequest)
        found = computed(request, ViewsResult, "Asking the network at every noise level")
    if found is not None:
        st.rerun()


def _offer_another_model(screen: Screen, lack: str) -> None:
    """One sentence on what is missing, and models that have it; the nearest relatives first."""
    st.markdown(lack)
    others = cache.readable(source for source in cache.sources() if source.name != screen.model.name)
    able = [other for other in others if screen.lesson.lack(other) is None]
    for other in sorted(able, key=lambda other: other.family != screen.model.family):
        st.button(
            f"Take this lesson with {other.name}", key=f"with {other.name}", on_click=_change_model, args=(other.name,)
        )
    st.button(
        "All lessons",
        key="all lessons",
        on_click=screen.go,
        args=(replace(screen.place, lesson="", step=1),),
    )


def _header(screen: Screen) -> None:
    number = LESSONS.index(screen.lesson) + 1
    row = st.container(horizontal=True, vertical_alignment="center", key="lesson_header")
    row.markdown(f"**Lesson {number}. {screen.lesson.title}** · {screen.model.name}")
    if screen.steps:
        row.progress(screen.place.step / len(screen.steps))
        row.caption(f"{screen.place.step} of {len(screen.steps)}")
    label, other = ("Leave (Esc)", False) if screen.place.present else ("Present", True)
    row.button(
        label, key="present", on_click=screen.go, args=(replace(screen.place, present=other),),
        help=None if screen.place.present else "Large type and no controls; keys: right, left, space, page up and down.",
    )  # fmt: skip
    if not screen.place.present:
        row.button(
            "All lessons", key="leave lesson", on_click=screen.go,
            args=(replace(screen.place, lesson="", step=1, answers={}),),
        )  # fmt: skip


def _footer(screen: Screen) -> None:
    """Back and on; from the last step on to the next lesson."""
    row = st.container(horizontal=True, vertical_alignment="center", key="lesson_footer")
    row.button(
        "Back",
        key="back",
        disabled=screen.place.step == 1,
        on_click=screen.go,
        args=(_before(screen),),
    )
    following = _after(screen)
    is_last = screen.place.step == len(screen.steps)
    label = "Next" if not is_last else "All lessons" if not following.lesson else f"Next lesson: {_title(following)}"
    if screen.is_open_question:
        row.button(
            "Show the answer without a guess",
            key="reveal",
            on_click=screen.go,
            args=(_answered(screen, None),),
        )
    else:
        row.button(label, key="next", type="primary", on_click=screen.go, args=(following,))


# Steps -------------------------------------------------------------------------------------------------------------


def _content(screen: Screen, content: Content) -> None:
    if isinstance(content, Predict):
        _predict(screen, content)
    elif isinstance(content, Look):
        _look(screen, content)
    else:
        _text_and_figure(screen, content)


def _text_and_figure(screen: Screen, content: Read) -> None:
    if content.figure is None or isinstance(content.figure, WIDE):
        with st.container(key="lesson_text"):
            st.markdown(content.text)
        _show(screen, content.figure)
        return
    left, right = st.columns([2, 3], gap="large")
    left.markdown(content.text)
    with right:
        _show(screen, content.figure)


def _predict(screen: Screen, content: Predict) -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown(content.text)
        if screen.is_open_question:
            _ask(screen, content.answer)
        else:
            with st.container(border=True, key="verdict"):
                st.markdown(verdict(content.answer, screen.guess))
            st.markdown(content.reveal)
    with right:
        _show(screen, content.before if screen.is_open_question else content.figure(screen.guess))


def _ask(screen: Screen, answer: Choice | Estimate) -> None:
    key = f"guess {screen.model.name} {screen.lesson.key} {screen.place.step}"
    if screen.place.present:
        st.markdown(in_words(answer))
        return
    if isinstance(answer, Choice):
        options = range(len(answer.options))
        guess: float | None = st.radio(
            "Your guess", options, index=None, format_func=lambda index: answer.options[index], key=key
        )
    else:
        middle = answer.low + round((answer.high - answer.low) / 2 / answer.step) * answer.step
        label = f"Your guess: {answer.label}"
        guess = st.slider(label, float(answer.low), float(answer.high), float(middle), float(answer.step), key=key)
    st.button(
        "Commit", key="commit", type="primary", disabled=guess is None, on_click=screen.go,
        args=(_answered(screen, guess),),
    )  # fmt: skip


def _look(screen: Screen, content: Look) -> None:
    """A link to the page, in the same session; the place travels in the URL, so that the page offers the way back."""
    with st.container(key="lesson_text"):
        st.markdown(content.text)
        query = {**state.sidebar_query(), **state.place_query(screen.place), **content.query}
        target = state.pages().get(content.page)
        if target is not None:
            st.page_link(target, label=content.label, query_params=query)


def _show(screen: Screen, figure: Shown | None) -> None:
    if figure is None:
        return
    if isinstance(figure, Plot):
        if screen.place.present:
            figure.figure.update_layout(PROJECTED)
            figure.figure.update_annotations(font_size=PROJECTED["font_size"])
        st.plotly_chart(figure.figure, config={"displaylogo": False}, alt=figure.caption)
    elif isinstance(figure, Pictures):
        st.html(as_html(figure))
    elif isinstance(figure, Player):
        _show_runs(figure)
    else:
        _show_frames(screen.model)
    st.caption(figure.caption)


def _show_runs(figure: Player) -> None:
    hashes = []
    for number, request in enumerate(figure.runs):
        result = cache.engine().cache.get(request)
        if not isinstance(request, TrajectoryRequest) or not isinstance(result, TrajectoryResult):
            return
        hashes.append(store(f"lesson run {number}", cache.packed_run(run_name(request), request, result)))
    _runs(hashes)


@st.fragment
def _runs(hashes: list[str]) -> None:
    player("lesson player", run_hashes=hashes, s=1.0)


def _show_frames(model: StoredModel) -> None:
    assert model.sweep is not None
    _frames(store("lesson sweep", cache.packed_sweep(model, model.sweep, None)))


@st.fragment
def _frames(sweep_hash: str) -> None:
    """The scrubber; its cursor is that of all pages."""
    start = state.read_cursor()
    position = scrubber("lesson scrubber", sweep_hash=sweep_hash, s=start.s)
    state.write_cursor(state.Cursor(position.s, start.lam))


# Moving ------------------------------------------------------------------------------------------------------------


def _go(model: StoredModel, place: state.Place) -> None:
    state.move(model.name, place)


def _change_model(name: str) -> None:
    st.session_state[state.MODEL] = name


def _answered(screen: Screen, guess: float | None) -> state.Place:
    return replace(screen.place, answers={**screen.place.answers, screen.place.step: guess})


def _before(screen: Screen) -> state.Place:
    return replace(screen.place, step=max(1, screen.place.step - 1))


def _after(screen: Screen) -> state.Place:
    """The next step; after the last one the next lesson, and after the last lesson the list."""
    if screen.place.step < len(screen.steps):
        return replace(screen.place, step=screen.place.step + 1)
    number = LESSONS.index(screen.lesson) + 1
    return replace(screen.place, lesson=LESSONS[number].key if number < len(LESSONS) else "", step=1, answers={})


def _lesson_of(place: state.Place) -> Lesson | None:
    return next((lesson for lesson in LESSONS if lesson.key == place.lesson), None)


def _title(place: state.Place) -> str:
    return next(lesson.title for lesson in LESSONS if lesson.key == place.lesson)


def _press(model: StoredModel, device: str, pressed: str) -> None:
    """A key in the presenter's view: on, which first shows an answer; back; leave; or a vote."""
    place = state.known_place(model.name)
    lesson = _lesson_of(place)
    if lesson is None:
        return
    screen = _screen(model, device, lesson, place)
    content = screen.content
    if pressed == LEAVE:
        _go(model, replace(place, present=False))
    elif pressed == BACK:
        _go(model, _before(screen))
    elif pressed == NEXT:
        _go(model, _answered(screen, None) if screen.is_open_question else _after(screen))
    elif screen.is_open_question and isinstance(content, Predict) and isinstance(content.answer, Choice):
        option = int(pressed) - 1
        if option < len(content.answer.options):
            _go(model, _answered(screen, option))
