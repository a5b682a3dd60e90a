"""Lines of code and links behind a heading, on every page: they come when the heading is opened."""

from __future__ import annotations

from typing import Literal

from streamlit.delta_generator import DeltaGenerator

from app import state


def folded_lines(place: DeltaGenerator, title: str, lines: str, key: str, wrap: bool = False) -> DeltaGenerator | None:
    """Lines of Python; gives the place below them while it is open.

    A block of code that nobody sees would cost every visitor 1.5 MB of script before the first picture.

    Args:
        place: where the heading stands.
        title: the heading.
        lines: of Python.
        key: of the heading, one for each on a page.
        wrap: whether long lines are broken; else they scroll.
    """
    return _folded(place, title, lines, key, "python", wrap)


def folded_link(place: DeltaGenerator) -> DeltaGenerator | None:
    """The link to what is on the screen; gives the place below it while it is open."""
    return _folded(place, "Link to this screen", state.link(), "shown link", None, True)


def _folded(
    place: DeltaGenerator, title: str, text: str, key: str, language: Literal["python"] | None, wrap: bool
) -> DeltaGenerator | None:
    section = place.expander(title, key=key, on_change="rerun")
    if not section.open:
        return None
    section.code(text, language=language, wrap_lines=wrap)
    return section
