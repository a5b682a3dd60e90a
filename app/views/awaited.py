"""What stands where runs will be played, until the first steps of the first one are there."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import streamlit as st


def awaited(names: Sequence[str], panels: int) -> None:
    """Holds the place of the player: the runs' names over empty panels.

    Args:
        names: what the columns are headed with.
        panels: how many pictures each of them has.
    """
    columns = (
        f"<div><p><b>{letter}</b> {html.escape(name)}</p><div>{'<i></i>' * panels}</div></div>"
        for letter, name in zip("ABCD", names, strict=False)
    )
    st.html(Path(__file__).with_name("awaited.css"))
    st.html(f'<div class="awaited">{"".join(columns)}</div>')
    st.caption("The pictures come with the first steps of run A, and play while later ones are computed.")
