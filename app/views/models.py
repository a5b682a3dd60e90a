"""The Models page: every model as a card, one's own loaded beside them, and what is wrong with a file that cannot be."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st

from app import state
from app.figures.cards import SCORED_AT, matches, order
from app.figures.model_cards import CARD_STYLE, card_html
from app.figures.offline_lists import models_page
from app.records import Source, StoredModel
from app.services import cache, stored
from app.services.reproduction import versions
from app.views.offline import offer_page
from app.views.own_model import load_form, remove
from app.views.plain import plain

SEARCHED_FROM = 9
"""With fewer cards all are seen at once."""


def page(shown: StoredModel | None, seed: int, device: str) -> None:
    """Draws all cards; `shown` is the sidebar's model, or None where that one is damaged."""
    for style in (Path(__file__).with_name("models.css"), CARD_STYLE):
        st.html(style)
    load_form()
    if news := state.take_news():
        st.success(plain(news))
    sources = cache.sources()
    models = sorted(cache.readable(sources), key=order)
    wanted = _search(len(models))
    found = [model for model in models if matches(model, wanted)]
    if not found:
        st.caption(f"No card holds {plain(wanted)}." if wanted else "There is no model yet.")
    with st.container(key="cards"):
        for model in found:
            _card(model, is_shown=shown is not None and model.name == shown.name)
    _damaged(sources, models)
    if found:
        cards = [(model, stored.read_card(model)) for model in found]
        offer_page("models", partial(models_page, versions(), cards, wanted, None if shown is None else shown.name))


def _search(count: int) -> str:
    if count < SEARCHED_FROM:
        st.caption(f"{count} models. Pictures and scores at t = {SCORED_AT:g}; purple: λ(s), dashed: a straight λ.")
        return ""
    label = f"Search {count} models"
    return str(st.text_input(label, key=state.SEARCH, bind="query-params", placeholder="data, process, network, …"))


def _card(model: StoredModel, is_shown: bool) -> None:
    with st.container(border=True, height="stretch"):
        st.html(card_html(model, is_shown))
        row = st.container(horizontal=True, vertical_alignment="center")
        if row.button("Open", key=f"open {model.name}"):
            state.choose_on_next_page(model.name)
            # Without a query of its own Streamlit refuses to leave a page whose URL holds a choice.
            st.switch_page(state.pages()["denoise"], query_params={})
        if row.button("Card", key=f"card {model.name}", help="The model card: data, recipe, scores, commands."):
            _read_card(model)
        if model.source.origin != "zoo":
            row.button("Remove", key=f"remove {model.name}", on_click=remove, args=(model.source,))


@st.dialog("Model card", width="large")
def _read_card(model: StoredModel) -> None:
    """The card as text: it may come from a stranger."""
    text = stored.read_card(model) or f"{model.name} has no README.md."
    st.code(text, language=None, wrap_lines=True, height=480)


def _damaged(sources: list[Source], models: list[StoredModel]) -> None:
    """What is wrong with the models that have no card, in one sentence each."""
    readable = {model.name for model in models}
    for source in sources:
        if source.name not in readable:
            try:
                cache.model(source.name)
            except ValueError as error:
                st.error(plain(f"{source.name}: {error}"))
