"""Integers that a reader types, or a link holds."""

from __future__ import annotations

from typing import Any


def whole_number(place: Any, label: str, low: int, high: int, start: int, key: str, **options: Any) -> int:
    """An integer, also in the URL; what a link holds outside the range counts as absent.

    The widget takes real numbers: one for integers stops the whole page where a link says "inf".

    Args:
        place: where it is drawn.
        label: of it.
        low: the least that is taken.
        high: the most.
        start: at first.
        key: of the session and of the URL.
        options: of `st.number_input`.
    """
    ends = float(low), float(high), float(start)
    return round(place.number_input(label, *ends, 1.0, "%.0f", key=key, bind="query-params", **options))
