"""A field for a whole number, bound to the URL; what a link asks for and the field does not take is said."""

from __future__ import annotations

import math
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

    Streamlit by itself puts the default in the place of a link's bad number without a word.

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
    if asked is not None and not low <= _number(asked) <= high:
        state.refuse(key, asked[:QUOTED])
    refused = state.refused(key)
    if refused is not None:
        say.warning(
            f"The link asks for {plain(refused)} as “{label}”, which goes from {low} to {high}; it is set to {value}."
        )
    # The widget takes real numbers: one for integers stops the whole page where a link says "inf". Its default is left out
    # where it is the lowest: beside what a page kept in the session it would make Streamlit complain.
    default: Any = "min" if value == low else float(value)
    number = place.number_input(
        label, float(low), float(high), default, 1.0, "%.0f",
        key=key, bind="query-params", on_change=state.forget_refused, args=(key,), **options,
    )  # fmt: skip
    return round(number)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
