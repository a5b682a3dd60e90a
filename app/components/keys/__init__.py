"""Keys that a presenter's remote control sends: on, back, leave, and the digits of a vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import streamlit as st

NEXT, BACK, LEAVE = "next", "back", "leave"

_view = st.components.v2.component(
    "dpi_keys",
    html="<span hidden></span>",
    js=(Path(__file__).parent / "keys.js").read_text(encoding="utf-8"),
)


def keys(key: str, on_press: Callable[[str], None]) -> None:
    """Listens on the whole page, but not while somebody types or moves a slider.

    Right, Space and Page Down mean `NEXT`, Left and Page Up `BACK`, Escape `LEAVE`; digits come as they are.

    Args:
        key: the element's key.
        on_press: called with what was pressed, before the page is drawn again.
    """

    def pressed() -> None:
        state = st.session_state.get(key)
        what = state.get("pressed") if isinstance(state, Mapping) else None
        if isinstance(what, str):
            on_press(what)

    _view(key=key, on_pressed_change=pressed)
