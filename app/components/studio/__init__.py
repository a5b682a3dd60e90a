"""The λ studio: pull the curve λ(s) with the mouse or keys and see at once what it costs.

With one λ for the whole network, the error of any curve at noise level s depends on λ(s) alone: it is looked up in the
landscape that Python hands over once. With a λ for each group of layers Python measures the drawn curves when the hand lets
go. The browser draws everything.

    store("sweep", ...), store("pad", ...)   # the pictures, as the scrubber takes them; optional
    landscape_hash = store("landscape", pack_landscape(landscape))

    @st.fragment
    def figure() -> None:
        state = studio_state("studio", landscape_hash, landscape.curves.shape, StudioState(0.35))
        studio("studio", landscape_hash, state, measured=...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from app.components.scrubber.payload import Arrays, seal
from app.components.sources import read
from app.components.standalone import View
from app.records.curves import Curves

__all__ = [
    "VIEW",
    "BesideCurve",
    "Measured",
    "StudioLandscape",
    "StudioState",
    "pack_landscape",
    "studio",
    "studio_data",
    "studio_state",
]

SHARED = Path(__file__).parents[1] / "scrubber"
OWN = Path(__file__).parent
SHARED_MODULES = (
    "blobs.js",
    "color.js",
    "plot.js",
    "svg.js",
    "moment.js",
    "panels.js",
    "charts.js",
    "pad.js",
    "texts.js",
    "export.js",
    "view.js",
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
        parts: (b, q, p) the same of each of b parts of the samples.
        measure: "psnr" where the mean is taken of dB, "mse" where of errors.
        groups: names of the groups of layers; one is the whole network.
        curves: (g, p) the learned λ(s) of each.
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
    parts: np.ndarray
    measure: Literal["psnr", "mse"]
    groups: tuple[str, ...]
    curves: np.ndarray
    valley: np.ndarray
    best: np.ndarray
    judged: np.ndarray
    gain_caption: str

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        levels = self.s.shape
        for name, expected in (
            ("quality", (*self.lam.shape, *levels)),
            ("parts", (len(self.parts), *self.lam.shape, *levels)),
            ("curves", (len(self.groups), *levels)),
            ("valley", levels),
            ("best", levels),
            ("judged", levels),
        ):
            if getattr(self, name).shape != expected:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; expected {expected}; recompute it")
        for name in ("s", "lam", "quality", "parts", "curves", "best"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} holds NaN or infinity; expected finite numbers; check the network's weights")
        if not self.judged.any():
            raise ValueError("judged marks no noise level; expected at least one; mark those that the mean is taken of")


def pack_landscape(landscape: StudioLandscape) -> bytes:
    """Return the landscape in the byte format of `scrubber.payload`."""
    arrays = Arrays()
    for name in ("s", "lam", "quality", "valley", "best"):
        arrays.add_floats(name, getattr(landscape, name))
    arrays.add_floats("curves", np.clip(landscape.curves, 0, 1))
    # Most of the bytes, and read for an interval only: to 0.001 dB at 30 dB.
    arrays.add_int16("parts", landscape.parts)
    header = {
        "type": "landscape",
        "title": landscape.title,
        "measure": landscape.measure,
        "groups": list(landscape.groups),
        "judged": landscape.judged.tolist(),
        "gain_caption": landscape.gain_caption,
    }
    return seal(header, arrays)


@dataclass(frozen=True)
class StudioState:
    """Where the studio was when the hand last let go.

    Attributes:
        s: the cursor in [0, 1].
        curves: what was drawn; None are the learned curves, untouched.
    """

    s: float
    curves: Curves | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """What Python has measured of drawn curves.

    Attributes:
        curves: the ones.
        gain: (p,) dB against the learned curves.
        total: mean with its 95 % interval.
    """

    curves: Curves
    gain: np.ndarray
    total: Sequence[float]


@dataclass(frozen=True, eq=False)
class BesideCurve:
    """Another model's λ(s) under the same cursor.

    Attributes:
        name: of the model.
        lam: (p,) on the landscape's noise levels.
    """

    name: str
    lam: np.ndarray


def studio_state(key: str, landscape_hash: str, shape: tuple[int, ...], start: StudioState) -> StudioState:
    """What the view under `key` sent last; `start` if that belongs to another landscape.

    Args:
        key: the element's key.
        landscape_hash: what `store` returned for the landscape.
        shape: (g, p) of its curves.
        start: cursor and curves to begin with.
    """
    sent = st.session_state.get(key)
    found = _parse(sent.get("position"), landscape_hash, shape) if isinstance(sent, Mapping) else None
    return found or start


def studio(
    key: str,
    landscape_hash: str,
    state: StudioState,
    *,
    measured: Measured | None = None,
    beside: BesideCurve | None = None,
    sweep_hash: str | None = None,
    pad_hash: str | None = None,
) -> None:
    """Mounts the studio; it starts at `state` and from then on belongs to the hand, until another landscape comes.

    Args:
        key: the element's key.
        landscape_hash: what `store` returned for the landscape.
        state: what `studio_state` returned.
        measured: of the drawn curves, where they cannot be looked up.
        beside: another model's curve.
        sweep_hash: what the scrubber's `store` returned for a sweep; its pictures are shown together with the pad's.
        pad_hash: what `store` returned for the pad.
    """
    data = studio_data(landscape_hash, state, measured, beside, sweep_hash, pad_hash)
    # Streamlit keeps only the states that have a callback.
    _view(key=key, data=data, default={"position": None}, height="content", on_position_change=lambda: None)


def studio_data(
    landscape_hash: str,
    state: StudioState,
    measured: Measured | None = None,
    beside: BesideCurve | None = None,
    sweep_hash: str | None = None,
    pad_hash: str | None = None,
) -> dict[str, object]:
    """What the view is handed; the arguments are those of `studio`."""
    return {
        "landscape": landscape_hash,
        "start": {"s": state.s, "curves": _lists(state.curves)},
        "measured": None
        if measured is None
        else {"curves": _lists(measured.curves), "gain": measured.gain.tolist(), "total": list(measured.total)},
        "beside": None if beside is None else {"name": beside.name, "lam": beside.lam.tolist()},
        "sweep": sweep_hash,
        "pad": pad_hash,
        "revision": landscape_hash,
    }


def _lists(curves: Curves | None) -> list[list[float]] | None:
    return None if curves is None else [list(curve) for curve in curves]


def _parse(position: object, revision: str, shape: tuple[int, ...]) -> StudioState | None:
    """What a browser sent, or None if it is stale or not a position at all."""
    if not isinstance(position, Mapping) or position.get("revision") != revision:
        return None
    s, curves = position.get("s"), position.get("curves")
    if not _is_unit(s):
        return None
    if curves is None:
        return StudioState(float(s))  # type: ignore[arg-type]
    if not _is_list(curves, shape[0]) or not all(_is_list(curve, shape[1]) for curve in curves):
        return None
    if not all(_is_unit(lam) for curve in curves for lam in curve):
        return None
    return StudioState(float(s), tuple(tuple(map(float, curve)) for curve in curves))  # type: ignore[arg-type]


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == length


def _is_unit(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= 1  # type: ignore[operator]


VIEW = View(
    html=read(OWN, "studio.html"),
    css=read(SHARED, "scrubber.css") + read(OWN, "studio.css"),
    js=read(SHARED, *SHARED_MODULES) + "\n" + read(OWN, *OWN_MODULES),
)

_view = st.components.v2.component("dpi_lambda_studio", html=VIEW.html, css=VIEW.css, js=VIEW.js)
