"""Lines of code, with the zip that reproduces a result, and links behind a heading: they come when the heading is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from streamlit.delta_generator import DeltaGenerator

from app import state
from app.records import Inputs, StoredModel
from app.services.reproduction import archive


def folded_lines(
    place: DeltaGenerator,
    title: str,
    lines: str,
    key: str,
    made_of: tuple[Sequence[StoredModel], Inputs, str],
    wrap: bool = False,
) -> None:
    """Lines of Python, and a zip of them with what else they depend on.

    A block of code that nobody sees would cost every visitor 1.5 MB of script before the first picture.

    Args:
        place: where the heading stands.
        title: the heading.
        lines: of Python.
        key: of the heading, one for each on a page.
        made_of: models, inputs and device, as `archive` takes them.
        wrap: whether long lines are broken; else they scroll.
    """
    below = _folded(place, title, lines, key, "python", wrap)
    if below is not None:
        below.download_button(
            "Config, seed, versions and these lines (zip)",
            lambda: archive(*made_of, lines),
            f"{made_of[0][0].source.recipe_name}-reproduce.zip",
            "application/zip",
            key=f"{key} zip",
            on_click="ignore",
        )


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
