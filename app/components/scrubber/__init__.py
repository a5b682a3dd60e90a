"""The scrubber: a strip of inputs, their noised, denoised and residual pictures, under one cursor in the browser.

Two components share the work, because Streamlit resends a component's data whenever any of it changes. `store` carries
a packed sweep or pad once and keeps it in the page under its content hash; `scrubber` mounts the view and names that
hash:

    sweep_hash = store("sweep", pack(sweep))

    @st.fragment
    def figure() -> None:
        state = scrubber("scrubber", sweep_hash=sweep_hash, s=0.5)

Every picture is drawn by the browser. Python hears of the position when the hand lets go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.scrubber.payload import Beside, Chart, Curve, Pad, Sweep, blob_hash, pack
from app.components.sources import read
from app.components.standalone import View

__all__ = [
    "Beside",
    "Chart",
    "Curve",
    "Pad",
    "ScrubberState",
    "Sweep",
    "blob_hash",
    "VIEW",
    "last_position",
    "pack",
    "parse_position",
    "scrubber",
    "scrubber_data",
    "store",
]

STORE_MODULE = ("blobs.js", "decode.js", "store.js")
VIEW_MODULE = (
    "blobs.js",
    "color.js",
    "plot.js",
    "svg.js",
    "moment.js",
    "panels.js",
    "charts.js",
    "pad.js",
    "player.js",
    "texts.js",
    "export.js",
    "view.js",
    "frames.js",
    "scrubber.js",
)


@dataclass(frozen=True)
class ScrubberState:
    """Where the scrubber was when the hand last let go.

    Attributes:
        s: the noise level in [0, 1].
        pad: (s, λ) while the parameters are held off the learned curve, else None.
    """

    s: float
    pad: tuple[float, float] | None = None


def store(key: str, blob: bytes) -> str:
    """Hand a packed sweep or pad to the browser and return its content hash.

    Mount it outside the fragment of the view, so that the bytes travel once. It takes no space on the page.

    Args:
        key: the element's key, one for each slot (sweep, pad) of a page.
        blob: what `pack` returned.

    Raises:
        ValueError: if `blob` did not come from `pack`.
    """
    digest = blob_hash(blob)
    _store(key=key, data=blob)
    return digest


def scrubber(
    key: str,
    *,
    sweep_hash: str,
    pad_hash: str | None = None,
    s: float,
    pad: tuple[float, float] | None = None,
) -> ScrubberState:
    """Mount the view and return where it stands.

    The view starts at `s` and `pad` and from then on belongs to the hand.

    Args:
        key: the element's key.
        sweep_hash: what `store` returned for the sweep.
        pad_hash: what `store` returned for the pad; None leaves the pad out.
        s: the noise level to stand at, in [0, 1].
        pad: (s, λ) to stand at off the learned curve, or None to follow it.

    Raises:
        ValueError: if `s` or `pad` lies outside [0, 1].
    """
    given = ScrubberState(_unit("s", s), None if pad is None else (_unit("pad s", pad[0]), _unit("pad λ", pad[1])))
    # Streamlit may build the view anew when elements above it come or go: it then starts where the hand left it.
    start = last_position(key) or given
    data = scrubber_data(sweep_hash, pad_hash, start)
    # Streamlit keeps only the states that have a callback.
    result = _view(key=key, data=data, default={"position": None}, height="content", on_position_change=lambda: None)
    return parse_position(result.get("position")) or start


def scrubber_data(sweep_hash: str, pad_hash: str | None, start: ScrubberState) -> dict[str, object]:
    """What the view is handed; the arguments are those of `scrubber`."""
    return {"sweep": sweep_hash, "pad": pad_hash, "start": {"s": start.s, "pad": start.pad}}


def last_position(key: str) -> ScrubberState | None:
    """Return the position that the view under `key` sent last, if there is one."""
    state = st.session_state.get(key)
    return parse_position(state.get("position")) if isinstance(state, Mapping) else None


def parse_position(position: object) -> ScrubberState | None:
    """Return the position that a browser sent, or None if it is none."""
    if not isinstance(position, Mapping):
        return None
    pad = position.get("pad")
    try:
        s = _unit("s", position.get("s"))
        if pad is None:
            return ScrubberState(s)
        if not isinstance(pad, Sequence) or len(pad) != 2:
            return None
        return ScrubberState(s, (_unit("pad s", pad[0]), _unit("pad λ", pad[1])))
    except ValueError:
        return None


def _unit(name: str, value: Any) -> float:
    """Return `value` as a float, or refuse it unless it lies in [0, 1]."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; expected a number in [0, 1]; clip it to that range")
    return float(value)


OWN = Path(__file__).parent

# Without style isolation, so that its style reaches the Streamlit element around it and takes that out of the layout.
_store = st.components.v2.component(
    "dpi_scrubber_store",
    html=read(OWN, "store.html"),
    css=read(OWN, "store.css"),
    js=read(OWN, *STORE_MODULE),
    isolate_styles=False,
)
VIEW = View(html=read(OWN, "scrubber.html"), css=read(OWN, "scrubber.css"), js=read(OWN, *VIEW_MODULE))

_view = st.components.v2.component("dpi_scrubber_view", html=VIEW.html, css=VIEW.css, js=VIEW.js)
