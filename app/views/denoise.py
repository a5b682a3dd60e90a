"""The start page: scrub the scalar and watch clean, noised, denoised and residual follow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from app import state
from app.components.scrubber import scrubber, store
from app.figures.denoise import error_at, sentence
from app.figures.reproduce import denoise_lines, stored_inputs
from app.records import (
    Inputs,
    PadRequest,
    PadResult,
    StoredModel,
    SweepRequest,
    SweepResult,
)
from app.services import cache
from app.views.inputs import STORED, choose_inputs
from app.views.progress import computed

SWEEP_GRID = tuple(np.linspace(0, 1, 101).tolist())
PAD_GRID = tuple(np.linspace(0, 1, 33).tolist())
SHOWN_IMAGES, SHOWN_POINTS = 16, 512
PAD_IMAGES, PAD_POINTS = 4, 256


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    # What comes and goes above the figure has a place of its own: a figure that moves among its siblings is built anew.
    with st.container():
        row = st.container(horizontal=True, vertical_alignment="center", key="inputs_row")
        count, stored = (
            SHOWN_IMAGES if model.is_image else SHOWN_POINTS,
            model.shown if model.sweep is not None else None,
        )
        inputs = choose_inputs(row, model, seed, key=state.INPUTS, count=count, stored=stored)
        sweep, pad, source = model.sweep, model.pad, None
        if inputs is not None:
            with row:
                found = _computed(model, inputs, device)
            if found is not None:
                sweep, pad, source = found
        if sweep is None:
            st.info(
                "This model has no stored frames yet; choose other inputs, and they appear as soon as they are"
                " computed."
            )
            return
        try:
            sweep_hash = store("sweep", cache.packed_sweep(model, sweep, source))
            pad_hash = None if pad is None else store("pad", cache.packed_pad(model, pad, source))
        except ValueError as error:
            st.error(f"These frames cannot be drawn: {error}.")
            return
    shown = stored_inputs(model) if source is None else source.inputs
    _figure(model, sweep, pad, sweep_hash, pad_hash, shown, device)


def _computed(
    model: StoredModel, inputs: Inputs, device: str
) -> tuple[SweepResult, PadResult | None, SweepRequest] | None:
    """What the engine has for these inputs; while it works, its progress is shown and the old picture stays."""
    request = SweepRequest(model.key, inputs, SWEEP_GRID, device)
    sweep = computed(request, SweepResult, "Denoising at every t", _back(model))
    return None if sweep is None else (sweep, _computed_pad(model, inputs, device), request)


def _computed_pad(model: StoredModel, inputs: Inputs, device: str) -> PadResult | None:
    """The pad follows the sweep; until it is there the page does without."""
    if not model.has_two_sets:
        return None
    count = min(inputs.n, PAD_IMAGES if model.is_image else PAD_POINTS)
    request = PadRequest(model.key, inputs, count, PAD_GRID, PAD_GRID, device)
    return computed(request, PadResult, "Noise level × parameters", _back(model))


def _back(model: StoredModel) -> Callable[[], None] | None:
    """Chooses the stored frames, if there are any."""

    def back() -> None:
        st.session_state[state.INPUTS] = STORED

    return back if model.sweep is not None else None


@st.fragment
def _figure(
    model: StoredModel,
    sweep: SweepResult,
    pad: PadResult | None,
    sweep_hash: str,
    pad_hash: str | None,
    shown: Inputs,
    device: str,
) -> None:
    """The scrubber, the numbers under it and where they come from; only this part runs when the hand lets go."""
    start = state.read_cursor()
    position = scrubber("scrubber", sweep_hash=sweep_hash, pad_hash=pad_hash, s=start.s, pad=start.pad)
    cursor = state.Cursor(position.s) if position.pad is None else state.Cursor(*position.pad)
    state.write_cursor(cursor)
    seen = _seen(cursor, sweep, pad)
    st.markdown(sentence(model, sweep, int(np.argmin(np.abs(sweep.s - seen.s))), seen.lam))
    _family_table(model, seen.s)
    _reproduce(model, shown, seen, device)


def _seen(cursor: state.Cursor, sweep: SweepResult, pad: PadResult | None) -> state.Cursor:
    """The frame or the cell that is drawn at a cursor; without a pad the parameters follow the learned curve."""

    def nearest(grid: np.ndarray, value: float) -> float:
        return float(grid[np.argmin(np.abs(grid - value))])

    if pad is None or cursor.lam is None:
        return state.Cursor(nearest(sweep.s, cursor.s))
    return state.Cursor(nearest(pad.s, cursor.s), nearest(pad.lam, cursor.lam))


def _family_table(model: StoredModel, s: float) -> None:
    """Held-out error of the models trained alike, at the chosen s."""
    family = cache.models_of_family(model.family)
    rows = [(card.name, error_at(card, s)) for card in family]
    measured = [(name, value) for name, value in rows if value is not None]
    if not measured:
        return
    for column, (name, value) in zip(st.columns(max(3, len(measured))), measured, strict=False):
        text = f"{value:.2f} dB" if model.is_image else f"{value:.4f}"
        label = f"{name}, held-out {'PSNR' if model.is_image else 'MSE'} at t = {s:.2f}"
        column.metric(label, text, border=False)


def _reproduce(model: StoredModel, shown: Inputs, cursor: state.Cursor, device: str) -> None:
    """The lines of Python behind the picture, and the link to it."""
    left, right = st.columns(2)
    with left.expander("Python that reproduces this"):
        st.code(denoise_lines(model, shown, cursor.s, cursor.lam, device), language="python")
    with right.expander("Link to this screen"):
        st.code(state.link(), language=None, wrap_lines=True)
        if shown.kind == "upload":
            st.caption("Your image is private and not part of the link.")
