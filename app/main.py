"""`streamlit run app/main.py`: page config, sidebar, navigation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from app import state
from app.figures.cards import CONDITIONINGS
from app.records import StoredModel
from app.services import cache
from app.services.own_models import Lease
from app.views.numbers import whole_number
from app.views.plain import plain
from dpi_core.limits import Limits

VIEWS = ("denoise", "parameters", "layers", "trajectories", "compare", "models", "runs", "learn")
WITHOUT_MODEL = ("models",)
"""Pages that are drawn even where the sidebar's model is damaged."""

DEFAULT_MODEL = "digits-vp-dpi"
AUTOMATIC = "auto"
LONGEST_NAME = 60
"""Characters that are repeated of a name in a link."""

NOT_DRAWN = (
    "This page cannot be drawn with what is stored beside this model: run `python -m dpi_core analyse` on it, or load it"
    " without its analysis.safetensors."
)

log = logging.getLogger(__name__)

# Slider, pictures and charts fit a 1280 × 720 screen.
COMPACT = """<style>
.stMainBlockContainer { padding: 4.2rem clamp(1rem, 2.5vw, 2rem) 1rem }
.stMarkdown [data-testid="stCaptionContainer"] { opacity: 0.8 } /* Streamlit's 0.6 is too faint to read on white */
@media (hover: none) { /* what shows itself while a mouse is over it would cover text for ever */
  [data-testid="stElementToolbar"], .modebar { display: none !important }
}
.st-key-inputs_row { min-height: 2.5rem; margin: -0.25rem 0 } /* as high with a progress bar as without */
</style>"""


@dataclass
class Choices:
    """What the sidebar holds for every page."""

    model: StoredModel | None = None
    seed: int = 0
    device: str = "cpu"


def main() -> None:
    """Draws the sidebar and the chosen page."""
    st.set_page_config(page_title="DPI Explorer", layout="wide")
    st.html(COMPACT)
    try:
        Limits.from_environment()
        cache.engine()
    except ValueError as error:
        st.error(plain(str(error)))
        return
    state.touch()
    state.hold_work(lambda session: Lease(partial(cache.engine().leave, session)))
    names = [source.name for source in cache.sources()]
    if not names:
        st.error("There is no model in checkpoints/; train one with `python -m dpi_core train digits-vp-dpi`.")
        return
    choices = Choices()
    pages = {name: _view(name, choices) for name in VIEWS}
    state.set_pages(pages)
    # Streamlit draws its start page at the root alone, but people type /denoise as they do /layers.
    by_name = st.Page(_nothing, title="Start", url_path=VIEWS[0], visibility="hidden")
    page = st.navigation([*pages.values(), by_name], position="top")
    if page is by_name:
        st.switch_page(pages[VIEWS[0]], query_params=st.query_params.to_dict())
    state.keep_choices(page.title)
    choices.model = _choose_model(names)
    choices.seed = _choose_seed()
    choices.device = _choose_device()
    if choices.model is not None and page is not pages["learn"]:
        _way_back_to_the_lesson(choices.model)
    with cache.engine().draw(state.session_id()):
        page.run()
    # After the page, so that the first picture does not wait for torch to be imported.
    cache.engine().warm_up()


def _view(name: str, choices: Choices) -> StreamlitPage:
    """One page; its module is imported when it is first opened, so that the start page does not wait for the others."""

    def draw() -> None:
        if choices.model is None and name not in WITHOUT_MODEL:
            return
        try:
            import_module(f"app.views.{name}").page(choices.model, choices.seed, choices.device)
        except Exception:
            # What a reader has loaded may hold results that fit neither its weights nor one another.
            if choices.model is None or choices.model.source.origin == "zoo":
                raise
            log.exception("a page of a loaded model could not be drawn: %s", name)
            st.error(NOT_DRAWN)

    is_start = name == VIEWS[0]
    return st.Page(draw, title=name.capitalize(), url_path="start" if is_start else name, default=is_start)


def _nothing() -> None:
    """A page that is left before it is drawn."""


def _way_back_to_the_lesson(model: StoredModel) -> None:
    """A link for whom a lesson sent to this page."""
    if st.query_params.get(state.LESSON):
        query = {**state.sidebar_query(), **state.place_query(state.read_place(model.name))}
        st.page_link(state.pages()["learn"], label="‹ Back to the lesson", query_params=query)


def _choose_model(names: list[str]) -> StoredModel | None:
    with st.sidebar:
        st.markdown("#### DPI Explorer")
        # The default comes first: an index beside a value kept in the session would make Streamlit complain.
        ordered = sorted(names, key=lambda name: name != DEFAULT_MODEL)
        asked = st.query_params.get(state.MODEL)
        if asked is not None and asked not in names:
            state.refuse(state.MODEL, asked[:LONGEST_NAME])
        name = st.selectbox(
            "Model", ordered, key=state.MODEL, bind="query-params", on_change=state.forget_refused, args=(state.MODEL,)
        )
        refused = state.refused(state.MODEL)
        if refused is not None:
            st.warning(
                f"The link asks for the model {plain(refused)}, which is not here; choose another, or load it on the page Models."
            )
        try:
            model = cache.model(name)
        except ValueError as error:
            st.error(plain(str(error)))
            return None
        st.caption(_card(model))
    return model


def _card(model: StoredModel) -> str:
    """Two lines about a model."""
    data, parameters = model.metrics.get("data", {}), model.metrics.get("parameters")
    sets = CONDITIONINGS[model.recipe["conditioning"]["kind"]]
    size = "" if parameters is None else f"{parameters / 1e6:.2f} M numbers, "
    origin = plain(f"{data['name'].replace('_', ' ')}, {data['licence']}") if data else ""
    return f"{size}{sets}.  \n{origin}"


def _choose_seed() -> int:
    about = "Of the choice of inputs and of their noise. Stored frames have seed 0; others are computed."
    return whole_number(st.sidebar, "Seed", 0, state.MAX_SEED, 0, state.SEED, help=about)


def _choose_device() -> str:
    """The device that computes; the list is complete once torch has been imported."""
    known = cache.engine().devices()
    options = [AUTOMATIC, *(known or ())]
    chosen = st.sidebar.selectbox(
        "Device", options, key=state.DEVICE, bind="query-params", help="auto: CUDA, then MPS, then CPU."
    )
    return chosen if chosen != AUTOMATIC else (known or ("cpu",))[0]


main()
