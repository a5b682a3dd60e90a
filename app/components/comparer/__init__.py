"""Several models on the same inputs under one t: a row for each, x̂0 and residual, drawn by the browser.

Each model's sweep is handed over once by the scrubber's `store`; the view names them by their hashes:

    rows = [Row(name, store(f"row {name}", pack(sweep)), ...) for name, sweep in ...]

    @st.fragment
    def figure() -> None:
        s = comparer("comparer", rows=rows, s=0.5)

Scrubbing and playing move all rows in the browser. Python hears of t when the hand lets go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st

from app.components import scrubber
from app.components.scrubber import last_position, parse_position
from app.components.sources import read
from app.components.standalone import View

SHARED_MODULES = (
    "blobs.js",
    "color.js",
    "plot.js",
    "svg.js",
    "moment.js",
    "panels.js",
    "player.js",
    "texts.js",
    "export.js",
    "view.js",
    "frames.js",
)
OWN_MODULES = ("row.js", "comparer.js")


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: what the row is headed with.
        sweep: what `store` returned for its frames; all rows have the same inputs, noise and grid of s.
        color: "#rrggbb", the model's in every figure.
        values: one text for each frame, how good x̂0 is there.
    """

    name: str
    sweep: str
    color: str
    values: tuple[str, ...]


def comparer(key: str, *, rows: Sequence[Row], s: float, shown: int, title: str) -> float:
    """Mounts the view and returns the s it stands at.

    It starts at `s` and from then on belongs to the hand.

    Args:
        key: the element's key.
        rows: from top to bottom, at least one.
        s: where to start, in [0, 1].
        shown: how many inputs, the first ones.
        title: of the saved picture.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("rows is empty; expected at least one model; store its frames first")
    start = last_position(key)
    data = comparer_data(rows, s if start is None else start.s, shown, title)
    # Streamlit keeps only the states that have a callback.
    result = _view(key=key, data=data, default={"position": None}, height="content", on_position_change=lambda: None)
    found = parse_position(result.get("position")) or start
    return s if found is None else found.s


def comparer_data(rows: Sequence[Row], s: float, shown: int, title: str) -> dict[str, object]:
    """What the view is handed; the arguments are those of `comparer`."""
    return {"rows": [asdict(row) for row in rows], "start": s, "shown": shown, "title": title}


OWN, SHARED = Path(__file__).parent, Path(scrubber.__file__).parent

VIEW = View(
    html=read(OWN, "comparer.html"),
    css=read(SHARED, "scrubber.css") + "\n" + read(OWN, "comparer.css"),
    js=read(SHARED, *SHARED_MODULES) + "\n" + read(OWN, *OWN_MODULES),
)

_view = st.components.v2.component("dpi_comparer", html=VIEW.html, css=VIEW.css, js=VIEW.js)
