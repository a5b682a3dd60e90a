"""The λ studio: pull the curve λ(s) with the mouse or keys and see at once what it costs.

With one λ for the whole network, the error of any curve at noise level s depends on λ(s) alone: it is looked up in the
landscape that Python hands over once. The browser draws everything; Python hears of the curve when the hand lets go.

    store("sweep", ...), store("pad", ...)   # the pictures, as the scrubber takes them; optional
    state = studio("studio", landscape, start=StudioState(0.35), sweep_hash=..., pad_hash=...)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

__all__ = ["StudioLandscape", "StudioState", "studio"]

SHARED = Path(__file__).parents[1] / "scrubber"
OWN = Path(__file__).parent
SHARED_MODULES = (
    "blobs.js",
    "color.js",
    "plot.js",
    "moment.js",
    "panels.js",
    "charts.js",
    "pad.js",
    "texts.js",
    "export.js",
)
OWN_MODULES = ("curve.js", "figures.js", "studio.js")


@dataclass(frozen=True, eq=False)
class StudioLandscape:
    """What the browser looks curves up in.

    Attributes:
        title: names the model in exports.
        s: (p,) noise levels, increasing.
        lam: (q,) positions of the parameters, increasing from 0 to 1.
        quality: (q, p) in dB, higher is better.
        learned: (p,) λ(s).
        valley: (p,) λ*(s); NaN where there is none.
        best: (p,) quality at λ*(s), in dB.
        judged: (p,) which levels count in the headline.
        gain_caption: how to read the cost chart, in one sentence.

    Raises:
        ValueError: a shape is not as above, or a value that has to be finite is not.
    """

    title: str
    s: np.ndarray
    lam: np.ndarray
    quality: np.ndarray
    learned: np.ndarray
    valley: np.ndarray
    best: np.ndarray
    judged: np.ndarray
    gain_caption: str

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        levels = self.s.shape
        for name, expected in (
            ("quality", (*self.lam.shape, *levels)),
            ("learned", levels),
            ("valley", levels),
            ("best", levels),
            ("judged", levels),
        ):
            if getattr(self, name).shape != expected:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; expected {expected}; recompute it")
        for name in ("s", "lam", "quality", "learned", "best"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} holds NaN or infinity; expected finite numbers; check the network's weights")
        if not self.judged.any():
            raise ValueError("judged marks no noise level; expected at least one; mark those that the mean is taken of")

    def to_json(self) -> dict[str, Any]:
        """Plain lists; NaN becomes null."""
        return {
            "title": self.title,
            "s": self.s.tolist(),
            "lam": self.lam.tolist(),
            "quality": np.round(self.quality.astype(float), 4).tolist(),
            "learned": self.learned.tolist(),
            "valley": [None if math.isnan(value) else value for value in self.valley.tolist()],
            "best": np.round(self.best.astype(float), 4).tolist(),
            "judged": self.judged.tolist(),
            "gain_caption": self.gain_caption,
        }


@dataclass(frozen=True)
class StudioState:
    """Where the studio was when the hand last let go.

    Attributes:
        s: the cursor in [0, 1].
        curve: λ at each noise level, in [0, 1]; None is the learned curve, untouched.
    """

    s: float
    curve: tuple[float, ...] | None = None


def studio(
    key: str,
    landscape: StudioLandscape,
    *,
    start: StudioState,
    sweep_hash: str | None = None,
    pad_hash: str | None = None,
) -> StudioState:
    """Mounts the studio and returns where it stands.

    It starts at `start` and from then on belongs to the hand, until another landscape comes.

    Args:
        key: the element's key.
        landscape: what curves are looked up in.
        start: cursor and curve to begin with.
        sweep_hash: what the scrubber's `store` returned for a sweep; its pictures are shown together with the pad's.
        pad_hash: what `store` returned for the pad.
    """
    content = landscape.to_json()
    revision = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    levels = len(landscape.s)
    given = _last_position(key, revision, levels) or start
    data = {
        **content,
        "start": {"s": given.s, "curve": None if given.curve is None else list(given.curve)},
        "sweep": sweep_hash,
        "pad": pad_hash,
        "revision": revision,
    }
    # Streamlit keeps only the states that have a callback.
    result = _view(key=key, data=data, default={"position": None}, height="content", on_position_change=lambda: None)
    return _parse(result.get("position"), revision, levels) or given


def _last_position(key: str, revision: str, levels: int) -> StudioState | None:
    """What the view under `key` sent last, if it belongs to this landscape."""
    state = st.session_state.get(key)
    return _parse(state.get("position"), revision, levels) if isinstance(state, Mapping) else None


def _parse(position: object, revision: str, levels: int) -> StudioState | None:
    """What a browser sent, or None if it is stale or not a position at all."""
    if not isinstance(position, Mapping) or position.get("revision") != revision:
        return None
    s, curve = position.get("s"), position.get("curve")
    if not isinstance(curve, Sequence) or isinstance(curve, str) or len(curve) != levels:
        return None
    if not all(_is_unit(value) for value in (s, *curve)):
        return None
    return StudioState(float(s), tuple(float(value) for value in curve))  # type: ignore[arg-type]


def _is_unit(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= 1  # type: ignore[operator]


def _read(folder: Path, names: Sequence[str]) -> str:
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


_view = st.components.v2.component(
    "dpi_lambda_studio",
    html=_read(OWN, ["studio.html"]),
    css=_read(SHARED, ["scrubber.css"]) + _read(OWN, ["studio.css"]),
    js=_read(SHARED, SHARED_MODULES) + "\n" + _read(OWN, OWN_MODULES),
)
