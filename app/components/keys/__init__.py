"""Keys that a presenter's remote control sends: on, back, leave, and the digits of a vote.

The browser numbers the presses and sends the latest together. A press that comes while the page is still being drawn for
the one before stops that drawing, and may arrive before the page has taken note of what was drawn; so nothing that one
drawing knows may decide what a press means, and `on_press` has to look at the present state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import streamlit as st

NEXT, BACK, LEAVE = "next", "back", "leave"

_HANDLED = "_keys_handled"

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
        on_press: called once for each press, in their order, before the page is drawn again; a call that was stopped half-way
            is made again, so its last act has to be its one write to the session. It may be the function of a drawing
            before the last one.
    """

    def pressed() -> None:
        # Every access to the session is a place where a newer request stops this function; that request brings the presses
        # again. So a press counts as handled by a change that no access follows, right after what it did.
        handled = st.session_state.setdefault(_HANDLED, {"number": 0})
        for number, what in presses(st.session_state.get(key)):
            if number > handled["number"]:
                on_press(what)
                handled["number"] = number

    _view(key=key, default={"presses": []}, on_presses_change=pressed)


def presses(sent: object) -> list[tuple[int, str]]:
    """Number and meaning of each press that a browser sent; what cannot be read counts as absent."""
    found = sent.get("presses") if isinstance(sent, Mapping) else None
    entries = [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
    pairs = [(entry.get("number"), entry.get("pressed")) for entry in entries]
    return [(number, what) for number, what in pairs if type(number) is int and isinstance(what, str)]
