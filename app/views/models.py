"""The Models page: every model as a card, one's own loaded beside them, and what is wrong with a file that cannot be."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import streamlit as st

from app import state
from app.figures.cards import SCORED_AT, facts, matches, order
from app.lessons.lesson import Tile
from app.lessons.pictures import curve_tile, extent_of, sample_tile, to_unit
from app.records import Source, StoredModel, SweepResult
from app.services import cache, stored
from app.views.own_model import load_form, remove
from app.views.plain import plain

SEARCHED_FROM = 9
"""With fewer cards all are seen at once."""


def page(shown: StoredModel | None, seed: int, device: str) -> None:
    """Draws all cards; `shown` is the sidebar's model, or None where that one is damaged."""
    st.html(Path(__file__).with_name("models.css"))
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


def _search(count: int) -> str:
    if count < SEARCHED_FROM:
        st.caption(f"{count} models. Pictures and scores at t = {SCORED_AT:g}; purple: λ(s), dashed: a straight λ.")
        return ""
    label = f"Search {count} models"
    return str(st.text_input(label, key=state.SEARCH, bind="query-params", placeholder="data, process, network, …"))


def _card(model: StoredModel, is_shown: bool) -> None:
    with st.container(border=True, height="stretch"):
        st.html(_as_html(model, is_shown))
        row = st.container(horizontal=True, vertical_alignment="center")
        if row.button("Open", key=f"open {model.name}"):
            state.choose_on_next_page(model.name)
            st.switch_page(state.pages()["denoise"])
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


def _as_html(model: StoredModel, is_shown: bool) -> str:
    marks = [*(["yours"] if model.source.origin != "zoo" else []), *(["on show"] if is_shown else [])]
    mark = f"<small>{', '.join(marks)}</small>" if marks else ""
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts(model))
    return f'<div class="model-card"><h5>{escape(model.name)}{mark}</h5>{_pictures(model)}<dl>{rows}</dl></div>'


def _pictures(model: StoredModel) -> str:
    if model.sweep is None:
        return '<p class="none">No stored frames: open it, and they are computed.</p>'
    tiles = [*_frames(model, model.sweep), *_curve(model.sweep)]
    return f'<div class="pictures">{"".join(_figure(tile) for tile in tiles)}</div>'


def _figure(tile: Tile) -> str:
    return f'<figure><img src="{tile.source}" alt="{escape(tile.alt)}"><figcaption>{escape(tile.note)}</figcaption></figure>'


def _frames(model: StoredModel, sweep: SweepResult) -> list[Tile]:
    """The same few inputs noised and denoised."""
    k = int(np.abs(sweep.s - SCORED_AT).argmin())
    clean, x0_hat = sweep.clean, sweep.x0_hat[k]
    if model.is_image:
        clean, x0_hat = to_unit(clean), to_unit(x0_hat)
    alpha, sigma = float(sweep.alpha[k]), float(sweep.sigma[k])
    noised = (alpha * clean + sigma * sweep.noise) / np.hypot(alpha, sigma)
    extent = 1.0 if model.is_image else extent_of(noised, x0_hat)
    at = f" of {model.name} at t = {sweep.s[k]:.2f}"
    return [
        sample_tile(noised, extent, f"Noised inputs{at}", "Noised"),
        sample_tile(x0_hat, extent, f"Denoised inputs{at}", "Denoised"),
    ]


def _curve(sweep: SweepResult) -> list[Tile]:
    return [] if sweep.lam is None else [curve_tile(sweep.s, sweep.lam, "λ against s", "λ(s)")]
