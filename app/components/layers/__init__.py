"""The layers of a network: outline, a strip over s for each, and the selected one's weights and activations.

The browser holds all that follows the hand: it blends θ(s) from θ0 and θ1 and chooses the activations' frame. Python hears
of the cursor, the layer and the other choices when the hand lets go.

    table = store("layers", pack_table(...))
    state = layers("layers view", table, start=LayersState(...), detail_hash=store("layer", pack_detail(...)))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.layers.payload import LayerDetail, LayerTable, Statistic, pack_detail, pack_table
from app.components.sources import read
from app.components.standalone import View

__all__ = [
    "ORDERS",
    "SHOWN",
    "VIEW",
    "LayerDetail",
    "LayerTable",
    "LayersState",
    "last_state",
    "Statistic",
    "layers",
    "layers_data",
    "pack_detail",
    "pack_table",
]

ORDERS = ("depth", "value")
SHOWN = ("value", "change")

SHARED = Path(__file__).parents[1] / "scrubber"
OWN = Path(__file__).parent
SHARED_MODULES = ("blobs.js", "color.js", "plot.js", "svg.js", "moment.js", "texts.js", "export.js", "view.js")
OWN_MODULES = ("outline.js", "statistics.js", "tiles.js", "table.js", "detail.js", "layers.js")


@dataclass(frozen=True)
class LayersState:
    """What is chosen in the view.

    Attributes:
        s: the cursor in [0, 1].
        layer: module path of the selected layer.
        statistic: key of the one on the strips.
        order: of the rows, one of `ORDERS`.
        sample: which input the activations are of.
        shown: of the activations, one of `SHOWN`.
    """

    s: float
    layer: str
    statistic: str
    order: str = "depth"
    sample: int = 0
    shown: str = "value"


def layers(key: str, table_hash: str, *, start: LayersState, detail_hash: str | None) -> LayersState:
    """Mounts the view and returns what is chosen in it.

    It starts at `start` and from then on belongs to the hand, until another table comes.

    Args:
        key: the element's key.
        table_hash: what the scrubber's `store` returned for the packed table.
        start: what is chosen to begin with.
        detail_hash: what `store` returned for the selected layer; None while it is not there.
    """
    now = last_state(key, table_hash) or start
    data = layers_data(table_hash, now, detail_hash)
    # Streamlit keeps only the states that have a callback.
    result = _view(key=key, data=data, default={"position": None}, height="content", on_position_change=lambda: None)
    return _parse(result.get("position"), table_hash) or now


def layers_data(table_hash: str, start: LayersState, detail_hash: str | None, pending: str = "") -> dict[str, object]:
    """What the view is handed; the arguments are those of `layers`, and what stands where a layer is not there."""
    return {
        "table": table_hash,
        "detail": detail_hash,
        "start": asdict(start),
        "pending": pending,
        "revision": table_hash,
    }


def last_state(key: str, table_hash: str) -> LayersState | None:
    """What the view under `key` sent last, if it belongs to this table: known before the view is mounted again."""
    state = st.session_state.get(key)
    return _parse(state.get("position"), table_hash) if isinstance(state, Mapping) else None


def _parse(position: object, revision: str) -> LayersState | None:
    """What a browser sent, or None if it is stale or no choice at all."""
    if not isinstance(position, Mapping) or position.get("revision") != revision:
        return None
    found = {name: position.get(name) for name in ("s", "layer", "statistic", "order", "sample", "shown")}
    s, sample = found["s"], found["sample"]
    is_valid = (
        _is_number(s, float | int)
        and 0 <= s <= 1  # type: ignore[operator]
        and _is_number(sample, int)
        and sample >= 0  # type: ignore[operator]
        and isinstance(found["layer"], str)
        and isinstance(found["statistic"], str)
        and found["order"] in ORDERS
        and found["shown"] in SHOWN
    )
    return LayersState(**found) if is_valid else None  # type: ignore[arg-type]


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


VIEW = View(
    html=read(OWN, "layers.html"),
    css=read(SHARED, "scrubber.css") + read(OWN, "layers.css"),
    js=read(SHARED, *SHARED_MODULES) + "\n" + read(OWN, *OWN_MODULES),
)

_view = st.components.v2.component("dpi_layers", html=VIEW.html, css=VIEW.css, js=VIEW.js)
