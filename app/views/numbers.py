"""A field for a whole number, bound to the URL; what a link asks for and the field does not take is said."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import state
from app.views.plain import plain

QUOTED = 20
"""Characters that are repeated of what a link asks for."""


def whole_number(
    place: Any, label: str, low: int, high: int, value: int, key: str, say: Any = st, **options: Any
) -> int:
    """Draws the field and returns its number.

    Streamlit by itself puts the default in the place of a link's bad number without a word, and fails on an infinite one.

    Args:
        place: to draw it in.
        label: of the field.
        low: the smallest number it takes.
        high: the largest.
        value: where the link has none that it takes.
        key: of the field and of the URL's parameter.
        say: where a link's number that is not taken is spoken of, until the reader chooses one.
        options: of `st.number_input`.
    """
    asked = st.query_params.get(key)
    if asked is not None and not _is_taken(asked[:QUOTED], low, high):
        state.set_refused(key, asked[:QUOTED])
        del st.query_params[key]
    refused = state.refused(key)
    if refused is not None:
        say.warning(
            f"The link asks for {plain(refused)} as “{label}”, which goes from {low} to {high}; it is set to {value}."
        )
    # "min" where that is meant: another default beside a value that a page kept in the session would make Streamlit complain.
    default = "min" if value == low else value
    number = place.number_input(
        label,
        low,
        high,
        default,
        key=key,
        bind="query-params",
        on_change=state.set_refused,
        args=(key, None),
        **options,
    )
    return int(number)


def _is_taken(text: str, low: int, high: int) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False
