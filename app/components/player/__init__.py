"""The player: sampling runs from the same noise, side by side under one moving t, drawn by the browser.

Each run is handed over once by the scrubber's `store`; the view names the runs it shows by their hashes:

    hashes = [store(f"run {i}", pack_run(run)) for i, run in enumerate(runs)]

    @st.fragment
    def figure() -> None:
        s = player("player", run_hashes=hashes, s=1.0)

Playing, stepping and scrubbing happen in the browser. Python hears of t when it comes to rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from app.components import scrubber
from app.components.player.payload import PathPlane, Run, pack_plane, pack_run
from app.components.scrubber import blob_hash, store
from app.components.sources import read
from app.components.standalone import View, mounted

__all__ = ["PathPlane", "Run", "pack_plane", "pack_run", "player", "standalone_player", "store"]

SHARED_MODULE = (
    "blobs.js",
    "color.js",
    "plot.js",
    "svg.js",
    "panels.js",
    "charts.js",
    "texts.js",
    "export.js",
    "view.js",
)
OWN_MODULE = (
    "clock.js",
    "states.js",
    "images.js",
    "points.js",
    "strip.js",
    "column.js",
    "curves.js",
    "plane.js",
    "player.js",
)


def player(
    key: str,
    *,
    run_hashes: Sequence[str],
    reference_hash: str | None = None,
    plane_hash: str | None = None,
    s: float,
) -> float:
    """Mount the view and return the s it rests at.

    Args:
        key: the element's key.
        run_hashes: what `store` returned for each run, from left to right.
        reference_hash: of a fine run that distances are measured from; None measures them from the first run.
        plane_hash: of the plane that the runs' paths are shown in, or None.
        s: where to start, in [0, 1]; from then on the view belongs to the hand.

    Raises:
        ValueError: if `s` lies outside [0, 1] or there is no run.
    """
    if not math.isfinite(s) or not 0 <= s <= 1:
        raise ValueError(f"s is {s!r}; expected a number in [0, 1]; clip it to that range")
    if not run_hashes:
        raise ValueError("run_hashes is empty; expected at least one run; store it first")
    start = _parse(st.session_state.get(key))
    start = s if start is None else start
    result = _view(
        key=key,
        data=_data(run_hashes, reference_hash, plane_hash, start),
        default={"position": None},
        height="content",
        # Streamlit keeps only the states that have a callback.
        on_position_change=lambda: None,
    )
    found = _parse(result)
    return start if found is None else found


def standalone_player(blobs: Sequence[bytes], s: float, plane: bytes | None = None) -> str:
    """Return the part of an offline page that plays runs.

    Args:
        blobs: what `pack_run` returned for each run.
        s: where to start.
        plane: what `pack_plane` returned, if the paths are shown in a plane.
    """
    data = _data([blob_hash(blob) for blob in blobs], None, None if plane is None else blob_hash(plane), s)
    return mounted(VIEW, [*blobs, *([] if plane is None else [plane])], data)


def _data(runs: Sequence[str], reference: str | None, plane: str | None, s: float) -> dict[str, object]:
    """What the view is handed."""
    return {"runs": list(runs), "reference": reference, "plane": plane, "start": s}


def _parse(state: object) -> float | None:
    """Return the s that a browser sent, or None if it is none."""
    position = state.get("position") if isinstance(state, Mapping) else None
    if not isinstance(position, Mapping):
        return None
    s = position.get("s")
    is_number = isinstance(s, int | float) and not isinstance(s, bool)
    return float(s) if is_number and 0 <= s <= 1 else None  # type: ignore[arg-type, operator]


def _module() -> str:
    shared = Path(scrubber.__file__).parent
    return read(shared, *SHARED_MODULE) + "\n" + read(Path(__file__).parent, *OWN_MODULE)


VIEW = View(
    html=read(Path(__file__).parent, "player.html"),
    css=read(Path(scrubber.__file__).parent, "scrubber.css") + "\n" + read(Path(__file__).parent, "player.css"),
    js=_module(),
)

_view = st.components.v2.component("dpi_player_view", html=VIEW.html, css=VIEW.css, js=VIEW.js)
