"""A second model beside the one of the sidebar, under the same cursor; the pages that show two share the choice."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import state
from app.records import Source, StoredModel
from app.services import cache
from app.views.plain import plain

ALONE = "none"
"""The choice of no second model."""


def choose_second(sources: Sequence[Source], about: str) -> StoredModel | None:
    """The second model; None without one, and for one that cannot be read, which is said.

    Args:
        sources: what is offered; their names alone, for reading them all would delay the first picture.
        about: what standing beside the first one means on this page.
    """
    names = [source.name for source in sources]
    if not names:
        return None
    if st.session_state.get(state.BESIDE, ALONE) not in (ALONE, *names):
        # The page before offered other models.
        del st.session_state[state.BESIDE]
    chosen = st.sidebar.selectbox(
        "Second model",
        [ALONE, *names],
        key=state.BESIDE,
        bind="query-params",
        help=f"{about} Your own models are in this list.",
    )
    if chosen not in names:
        return None
    try:
        return cache.model(str(chosen))
    except ValueError as error:
        st.sidebar.error(plain(str(error)))
        return None
