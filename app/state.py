"""Every session key and URL parameter, typed, in one place.

The URL holds all that is chosen, so a link shows the same screen. Widgets named here are bound to the parameter of the
same name; the cursor lives in the browser and is written to the URL when the hand lets go. Uploaded images are private
and stay out of the link.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import streamlit as st
from streamlit.navigation.page import StreamlitPage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.records import Request, Source, Upload

MODEL, INPUTS, SEED, DEVICE = "model", "inputs", "seed", "device"
"""Widgets bound to the URL."""

RUNS, START, FIRST, SECOND, REFERENCE, PLANE = "runs", "start", "first", "second", "reference", "plane"
"""The Trajectories page: how many runs, where they start, between which samples, a fine one beside them, their plane."""

QUALITY, DRAWN = "quality", "drawn"
"""Its section on quality, and the curves λ drawn on the Parameters page, see `records.curves`."""

RUN_LETTERS = ("a", "b", "c", "d")
RUN_MODEL, SAMPLER, STEPS, GRID, RUN_LAM, FROZEN_AT, TABLE = (
    "model",
    "sampler",
    "steps",
    "grid",
    "curve",
    "frozen",
    "table",
)
"""The settings of each run, see `run_key`."""

JUDGED_ON, TABS, STATISTIC, GROUPING, SORTING = "judged_on", "parameters_tab", "statistic", "by", "sort"
ALONG, WEIGHT, HISTOGRAM = "along", "weight", "histogram"
"""The Parameters page: its inputs, tabs and choices; what is shown along the path, of which weight, of which layer."""

T, LAM = "t", "lam"
"""The cursor in the URL: noise level, and the parameters' position where it is off the learned curve."""

COMPARED_ON, SWEEP, AGAINST, MEASURE = "compared_on", "scores_of", "against", "measure"
"""The Compare page: its inputs, the sweep whose scores are shown, the method all are held against, and by what measure."""

LAYER, HEAT, ROWS, SAMPLE, SHOWN = "layer", "heat", "rows", "sample", "shown"
"""The Layers page: the selected layer, the statistic on the strips, the order of the rows, the sample, what is shown of it."""

LESSON, STEP, ANSWER, PRESENT, DONE = "lesson", "step", "answer", "present", "done"
"""The Learn page: which lesson, where in it, the guesses so far, whether for a projector, and the lessons finished."""

BESIDE = "beside"
"""The Denoise and Parameters pages: a second model under the same cursor."""

SEARCH, LOADING, LOAD_FROM, FOLDER, HUB = "search", "loading", "load_from", "folder", "hub"
"""The Models page: what its cards are searched for, and how a model is loaded."""

DEFAULT_T = 0.35
MAX_SEED = 9999

_SESSION, _UPLOAD, _CURSOR, _PAGE, _CANCELLED = "_session", "_upload", "_cursor", "_page", "_cancelled"
_UPLOAD_LEASE, _REFUSED_IMAGES = "_upload_lease", "_refused_images"
_REMEMBERED, _REFUSED = "_remembered", "_refused"
_PLACE, _PAGES = "_place", "_pages"
_OWN_MODELS, _ROUND, _NEWS, _CHOSEN = "_own_models", "_round", "_news", "_chosen"
_LEASE, _TOUCH, _WORK = "_lease", "_touch", "_work"


@dataclass(frozen=True)
class Cursor:
    """Where the reader stands.

    Attributes:
        s: the noise level, in [0, 1].
        lam: λ of the parameters, or None to follow the learned curve.
    """

    s: float = DEFAULT_T
    lam: float | None = None

    @property
    def pad(self) -> tuple[float, float] | None:
        """(s, λ) while the two roles of s are apart."""
        return None if self.lam is None else (self.s, self.lam)


@dataclass(frozen=True)
class Place:
    """Where the reader stands in the lessons.

    Attributes:
        lesson: its key, or "" for the list of lessons.
        step: from 1.
        answers: guess of each step that has been answered; None where nobody guessed.
        present: whether the page is drawn for a projector.
        done: keys of the lessons that were read to the end.
    """

    lesson: str = ""
    step: int = 1
    answers: Mapping[int, float | None] = field(default_factory=dict)
    present: bool = False
    done: tuple[str, ...] = ()


@dataclass
class Reading:
    """The place that was written last, and the model it is for; one for each session, changed where it stands."""

    model: str
    place: Place


def run_key(setting: str, run: int) -> str:
    """The URL parameter of one setting of one run, e.g. "steps_b"."""
    return f"{setting}_{RUN_LETTERS[run]}"


def session_id() -> str:
    """Names this browser session to the engine."""
    return st.session_state.setdefault(_SESSION, uuid.uuid4().hex)


def read_cursor() -> Cursor:
    """The cursor of the URL, or where it was on the page before."""
    found = cursor_of(st.query_params)
    return st.session_state.get(_CURSOR, Cursor()) if found is None else found


def cursor_of(query: Mapping[str, str]) -> Cursor | None:
    """The cursor in URL parameters; what cannot be read counts as absent."""
    s = _unit_interval(query.get(T))
    return None if s is None else Cursor(s, _unit_interval(query.get(LAM)))


def write_cursor(cursor: Cursor) -> None:
    """Puts the cursor into the URL, and keeps it for the next page; the session is in use."""
    touch()
    st.session_state[_CURSOR] = cursor
    if cursor.lam is None and LAM in st.query_params:
        del st.query_params[LAM]
    place = {T: cursor.s} if cursor.lam is None else {T: cursor.s, LAM: cursor.lam}
    st.query_params.update({key: f"{value:.4g}" for key, value in place.items()})


def has_moved(before: float, s: float) -> bool:
    """Whether the cursor stands elsewhere than before; the URL keeps four digits of it."""
    return abs(s - before) > 1e-3


def recall(key: str) -> str | None:
    """A choice made in a component: from the URL, or as it was when its page was left."""
    return st.query_params.get(key) or st.session_state.get(_REMEMBERED, {}).get(key)


def is_from_link(key: str) -> bool:
    """Whether a choice stands in the URL without having been made in this session."""
    value = st.query_params.get(key)
    return value is not None and value != st.session_state.get(_REMEMBERED, {}).get(key)


def remember(choices: dict[str, str]) -> None:
    """Puts choices made in a component into the URL, and keeps them for when the page is opened again."""
    st.session_state[_REMEMBERED] = {**st.session_state.get(_REMEMBERED, {}), **choices}
    changed = {key: value for key, value in choices.items() if st.query_params.get(key) != value}
    if changed:  # at once: each change is an entry in the browser's history
        st.query_params.update(changed)


def refuse(key: str, asked: str) -> None:
    """Keeps what a link asks for and a field does not take, unless the reader has chosen since it was asked."""
    known = st.session_state.setdefault(_REFUSED, {})
    if known.get(key, ("", True))[0] != asked:
        known[key] = (asked, True)


def refused(key: str) -> str | None:
    """What a link asked for and this field does not take."""
    asked, counts = st.session_state.get(_REFUSED, {}).get(key, (None, False))
    return asked if counts else None


def forget_refused(key: str) -> None:
    """What a link asked for does not count any more: the reader has chosen."""
    known = st.session_state.get(_REFUSED, {})
    if key in known:
        known[key] = (known[key][0], False)


def forget(key: str) -> None:
    """Takes a choice made in a component back."""
    st.session_state.get(_REMEMBERED, {}).pop(key, None)
    if key in st.query_params:
        del st.query_params[key]


def read_place(model: str) -> Place:
    """The place in the URL of a new session or after the browser's Back, else the one that was written last.

    While somebody reads on, the URL may be behind: what the browser sends on its own carries the URL that it shows, and the
    newest may still be on its way to it. Guesses hold for the model that they were made for.
    """
    context = get_script_run_ctx()
    has_moved = context is not None and context.is_history_navigation
    if _PLACE in st.session_state and not has_moved:
        return known_place(model)
    place, reading = place_of(st.query_params), st.session_state.get(_PLACE)
    return place if reading is None or reading.model == model else replace(place, answers={})


def place_of(query: Mapping[str, str]) -> Place:
    """The place in URL parameters; what cannot be read counts as absent."""
    return Place(
        lesson=query.get(LESSON, ""),
        step=_step(query.get(STEP, "1")),
        answers=_answers(query.get(ANSWER, "")),
        present=query.get(PRESENT) == "1",
        done=tuple(key for key in query.get(DONE, "").split(",") if key),
    )


def known_place(model: str) -> Place:
    """The place that was written last."""
    reading = st.session_state.get(_PLACE, Reading(model, Place()))
    return reading.place if reading.model == model else replace(reading.place, answers={})


def move(model: str, place: Place) -> None:
    """Goes to another place before the page is drawn.

    The URL follows when it is drawn: a callback that writes to it can be stopped there by the next click or key.
    """
    mover(model, place)(place)


def mover(model: str, place: Place) -> Callable[[Place], None]:
    """Goes to other places from a button's callback.

    It does not touch the session there: at every such touch Streamlit lets a newer request in, and the click would be lost.

    Args:
        model: that the places are for.
        place: where the reader stands now.
    """
    reading = st.session_state.setdefault(_PLACE, Reading(model, place))

    def go(to: Place) -> None:
        reading.model, reading.place = model, to

    return go


def write_place(model: str, place: Place) -> None:
    """Puts the place into the URL, and keeps it for when the page is opened again."""
    move(model, place)
    query = place_query(place)
    keys = (LESSON, STEP, ANSWER, PRESENT, DONE)
    if any(st.query_params.get(key, "") != query.get(key, "") for key in keys):
        # At once, an empty list for what is absent: every change by itself would be a place to which the browser goes back.
        st.query_params.update({key: query.get(key, []) for key in keys})


def place_query(place: Place) -> dict[str, str]:
    """The URL parameters of a place."""
    guesses = (f"{step}:{'' if guess is None else f'{guess:g}'}" for step, guess in sorted(place.answers.items()))
    query = {
        LESSON: place.lesson,
        STEP: str(place.step) if place.lesson else "",
        ANSWER: ",".join(guesses) if place.lesson else "",
        PRESENT: "1" if place.present else "",
        DONE: ",".join(place.done),
    }
    return {key: value for key, value in query.items() if value}


def sidebar_query() -> dict[str, str]:
    """The sidebar's choices that are in the URL, for a link to another page."""
    return {key: st.query_params[key] for key in (MODEL, SEED, DEVICE) if key in st.query_params}


def set_pages(pages: Mapping[str, StreamlitPage]) -> None:
    """Keeps the app's pages, by name, for links from one to another."""
    st.session_state[_PAGES] = dict(pages)


def pages() -> Mapping[str, StreamlitPage]:
    """The app's pages, by name."""
    return st.session_state.get(_PAGES, {})


def link() -> str:
    """The present URL with everything chosen in it."""
    base = (st.context.url or "").split("?")[0]
    return f"{base}?{urlencode({key: value for key, value in st.query_params.to_dict().items() if value})}"


def keep_choices(page: str) -> None:
    """Carries the sidebar's choices to another page: the browser forgets them with the URL of the page before."""
    if st.session_state.get(_PAGE, page) != page:
        for key in (MODEL, SEED, DEVICE, BESIDE):
            if key in st.session_state:
                st.session_state[key] = st.session_state[key]
        if _CHOSEN in st.session_state:
            st.session_state[MODEL] = st.session_state.pop(_CHOSEN)
    st.session_state[_PAGE] = page


def choose_on_next_page(model: str) -> None:
    """Sets the sidebar's model when another page is opened next: a switch of pages takes it back otherwise."""
    st.session_state[_CHOSEN] = model


def upload() -> Upload | None:
    """This session's own images."""
    return st.session_state.get(_UPLOAD)


def set_upload(images: Upload | None, lease: object) -> None:
    """Keeps this session's own images, and an object that is let go together with them."""
    st.session_state[_UPLOAD], st.session_state[_UPLOAD_LEASE] = images, lease


def refused_images() -> tuple[str, ...]:
    """What was wrong with the images that were handed over last, in sentences."""
    return st.session_state.get(_REFUSED_IMAGES, ())


def set_refused_images(sentences: tuple[str, ...]) -> None:
    """Keeps what was wrong with the images that were handed over last."""
    st.session_state[_REFUSED_IMAGES] = sentences


def own_models() -> tuple[Source, ...]:
    """The models that this session has loaded, in the order of loading; no other session sees them."""
    return st.session_state.get(_OWN_MODELS, ())


def set_own_models(sources: Iterable[Source]) -> None:
    """Keeps the models that this session has loaded."""
    st.session_state[_OWN_MODELS] = tuple(sources)


def keep_lease(lease_of: Callable[[str], object], touch: Callable[[str], None]) -> None:
    """Keeps until the session ends what `lease_of` makes, once, for the session of this name.

    Args:
        lease_of: makes what deletes this session's uploaded models when it is let go, so it is not made anew.
        touch: is told the session's name whenever it is used.
    """
    if _LEASE not in st.session_state:
        st.session_state[_LEASE], st.session_state[_TOUCH] = lease_of(session_id()), touch


def touch() -> None:
    """The session is in use: a page is drawn, or its cursor has moved, which draws only a part of it."""
    if _TOUCH in st.session_state:
        st.session_state[_TOUCH](session_id())


def upload_round() -> int:
    """Numbers the forms that take files: a new number makes an empty form, and the browser's copies are let go."""
    return st.session_state.get(_ROUND, 0)


def let_go_of_files(file_ids: Iterable[str]) -> None:
    """Deletes files that a form has taken, and empties the form when it is next drawn."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        for file_id in file_ids:
            context.uploaded_file_mgr.remove_file(context.session_id, file_id)
    st.session_state[_ROUND] = upload_round() + 1


def set_news(text: str) -> None:
    """Keeps a sentence for when the page is next drawn."""
    st.session_state[_NEWS] = text


def take_news() -> str:
    """The sentence that was kept, once."""
    return str(st.session_state.pop(_NEWS, ""))


def hold_work(lease_of: Callable[[str], object]) -> None:
    """Keeps until the session ends what `lease_of` makes, once, for the session of this name: the end of its work."""
    if _WORK not in st.session_state:
        st.session_state[_WORK] = lease_of(session_id())


def was_cancelled(request: Request) -> bool:
    """Whether this session has cancelled a request, and not asked for it since."""
    return request in st.session_state.get(_CANCELLED, frozenset())


def set_cancelled(request: Request, is_cancelled: bool) -> None:
    """Keeps that a request was cancelled, so that it is not computed again unasked, or that it is asked for again."""
    others = st.session_state.get(_CANCELLED, frozenset()) - {request}
    st.session_state[_CANCELLED] = others | {request} if is_cancelled else others


def _step(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 and int(text) > 0 else 1


def _answers(text: str) -> dict[int, float | None]:
    """Guesses from "2:0.3,5:"; what cannot be read counts as absent."""
    found: dict[int, float | None] = {}
    for part in text.split(","):
        step, colon, guess = part.partition(":")
        try:
            value = float(guess) if guess else None
        except ValueError:
            continue
        # Python reads no integer of thousands of digits.
        if colon and step.isascii() and step.isdigit() and len(step) < 4 and (value is None or math.isfinite(value)):
            found[int(step)] = value
    return found


def _unit_interval(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
