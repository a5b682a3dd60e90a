"""The download of a page as one file, on every page that has something to show."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.records import StoredModel


def offer_page(page: str, make: Callable[[], str], model: StoredModel | None = None) -> None:
    """The button; the file is made when it is asked for, outside the page's run.

    Args:
        page: its name.
        make: makes the file. It runs without a session, so it touches neither `st` nor what is cached for one.
        model: on show; None where the page is of several.
    """
    name = page if model is None else f"{model.source.recipe_name}-{page}"
    st.download_button(
        "This page as HTML",
        make,
        f"{name}.html",
        "text/html",
        key=f"{page} as html",
        on_click="ignore",
        help="One file that opens without a server and without a network: its view can be scrubbed, its figures zoomed.",
    )
