"""The start page: scrub the scalar and watch clean, noised, denoised and residual follow."""

from __future__ import annotations

from typing import cast

import numpy as np
import streamlit as st

from app import state
from app.components.scrubber import ScrubberState, scrubber, store
from app.figures.denoise import error_at, sentence
from app.records import (
    INPUT_KINDS,
    InputKind,
    Inputs,
    PadRequest,
    PadResult,
    Request,
    StoredModel,
    SweepRequest,
    SweepResult,
)
from app.services import cache
from app.services.inference import Job
from app.services.uploads import read_upload

SWEEP_GRID = tuple(np.linspace(0, 1, 101).tolist())
PAD_GRID = tuple(np.linspace(0, 1, 33).tolist())
SHOWN_IMAGES, SHOWN_POINTS = 16, 512
PAD_IMAGES, PAD_POINTS = 4, 256

STORED = "stored"
LABELS = {
    STORED: "Stored",
    "held-out": "Held-out data",
    "digits": "Digits",
    "photos": "Photos",
    "samples": "Model's samples",
    "upload": "Upload",
}


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    inputs = _choose_inputs(model, seed)
    sweep, pad, source = model.sweep, model.pad, None
    if inputs is not None:
        found = _computed(model, inputs, device)
        if found is not None:
            sweep, pad, source = found
    if sweep is None:
        st.info("This model has no stored frames yet; they appear here as soon as they are computed.")
        return
    sweep_hash = store("sweep", cache.packed_sweep(model, sweep, source))
    pad_hash = None if pad is None else store("pad", cache.packed_pad(model, pad, source))
    _figure(model, sweep, sweep_hash, pad_hash)
    _reproduce(model, inputs, device)


def _choose_inputs(model: StoredModel, seed: int) -> Inputs | None:
    """The inputs to compute, or None for the stored ones."""
    kinds: tuple[InputKind, ...] = INPUT_KINDS if model.is_image else ("held-out", "samples")
    options = [*([STORED] if model.sweep is not None else []), *kinds]
    state.choose_from_url(state.INPUTS, options)
    row = st.container(horizontal=True, vertical_alignment="center")
    chosen = row.segmented_control(
        "Inputs",
        options,
        default=options[0],
        required=True,
        format_func=LABELS.__getitem__,
        key=state.INPUTS,
        bind="query-params",
        label_visibility="collapsed",
    )
    if chosen == "upload":
        _choose_upload(model)
        image = state.upload()
        return (
            None if image is None or image.shape != tuple(model.recipe["shape"]) else Inputs("upload", 1, seed, image)
        )
    if chosen == STORED or chosen is None:
        row.caption(model.shown)
        return None
    return Inputs(cast(InputKind, chosen), SHOWN_IMAGES if model.is_image else SHOWN_POINTS, seed)


def _choose_upload(model: StoredModel) -> None:
    """Reads the session's own image; a file that is none leaves the last one in place."""
    channels, height, width = model.recipe["shape"]
    file = st.file_uploader(
        f"Any image; it is cropped to {width} × {height} pixels{' in gray' if channels == 1 else ''} and stays on this server.",
        type=None,
    )
    if file is None:
        return
    try:
        state.set_upload(read_upload(file.getvalue(), (channels, height, width)))
    except ValueError as error:
        st.error(str(error))


def _computed(model: StoredModel, inputs: Inputs, device: str) -> tuple[SweepResult, PadResult | None, Request] | None:
    """What the engine has for these inputs; while it works, its progress is shown and the old picture stays."""
    engine, session = cache.engine(), state.session_id()
    request = SweepRequest(model.key, inputs, SWEEP_GRID, device)
    sweep = engine.submit(session, request)
    if sweep.result is None:
        _progress("Denoising the inputs at every t", sweep)
        return None
    assert isinstance(sweep.result, SweepResult)
    return sweep.result, _computed_pad(model, inputs, device), request


def _computed_pad(model: StoredModel, inputs: Inputs, device: str) -> PadResult | None:
    if not model.has_two_sets:
        return None
    few = Inputs(inputs.kind, min(inputs.n, PAD_IMAGES if model.is_image else PAD_POINTS), inputs.seed, inputs.upload)
    job = cache.engine().submit(state.session_id(), PadRequest(model.key, few, PAD_GRID, PAD_GRID, device))
    if job.result is None:
        _progress("Computing the pad of noise level against λ", job)
        return None
    assert isinstance(job.result, PadResult)
    return job.result


def _progress(label: str, job: Job) -> None:
    """Shows a job until it is finished, then draws the page again."""
    if job.status == "failed":
        st.error(job.error)
        return
    if job.status == "cancelled":
        st.info(f"{label}: cancelled.")
        return

    @st.fragment(run_every=0.3)
    def watch() -> None:
        if job.finished:
            st.rerun()
        row = st.container(horizontal=True, vertical_alignment="center")
        row.progress(job.progress, label if job.total else f"{label}: waiting for the engine")
        row.button("Cancel", key=f"cancel {label}", on_click=_cancel, args=(job,))

    watch()


def _cancel(job: Job) -> None:
    """Gives the computation up and goes back to the stored frames."""
    cache.engine().cancel(state.session_id(), job)
    st.session_state[state.INPUTS] = STORED


@st.fragment
def _figure(model: StoredModel, sweep: SweepResult, sweep_hash: str, pad_hash: str | None) -> None:
    """The scrubber and the numbers under it; only this part runs when the hand lets go."""
    start = state.read_cursor()
    position = scrubber(
        "scrubber", sweep_hash=sweep_hash, pad_hash=pad_hash, s=start.s, pad=start.pad if pad_hash else None
    )
    cursor = _cursor(position)
    state.write_cursor(cursor)
    frame = int(np.argmin(np.abs(sweep.s - cursor.s)))
    st.markdown(sentence(model, sweep, frame, cursor.lam))
    _family_table(model, float(sweep.s[frame]))


def _cursor(position: ScrubberState) -> state.Cursor:
    if position.pad is None:
        return state.Cursor(position.s)
    return state.Cursor(*position.pad)


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


def _reproduce(model: StoredModel, inputs: Inputs | None, device: str) -> None:
    """The lines of Python behind the picture, and the link to it."""
    left, right = st.columns(2)
    with left.expander("Python that reproduces this"):
        st.code(_python(model, inputs, device), language="python")
    with right.expander("Link to this screen"):
        st.code(state.link(), language=None, wrap_lines=True)
        if inputs is not None and inputs.kind == "upload":
            st.caption("Your image is private and not part of the link.")


def _python(model: StoredModel, inputs: Inputs | None, device: str) -> str:
    cursor = state.read_cursor()
    kind = "held-out" if inputs is None else inputs.kind
    lines = ["import torch", "import dpi_core", ""]
    lines += [f'model = dpi_core.load("checkpoints/{model.name}", device="{device}")']
    return "\n".join(lines + [f"# {kind}", f"s = {cursor.s:.4g}"])
