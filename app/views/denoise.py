"""The start page: scrub the scalar and watch clean, noised, denoised and residual follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from app import state
from app.components.scrubber import blob_hash, scrubber, store
from app.figures.comparisons import method_of
from app.figures.denoise import Second, error_at, second_sentence, sentence
from app.figures.offline import Origin, denoise_page
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
from app.services.reproduction import about
from app.services.sizes import affordable
from app.views.folded import folded_lines, folded_link
from app.views.inputs import STORED, choose_inputs
from app.views.offline import offer_page
from app.views.plain import plain
from app.views.progress import computed
from app.views.second_model import choose_second

SWEEP_GRID = tuple(np.linspace(0, 1, 101).tolist())
PAD_GRID = tuple(np.linspace(0, 1, 33).tolist())
SWEEP_LABEL = "Denoising at every t"
SHOWN_IMAGES, SHOWN_POINTS = 16, 512
PAD_IMAGES, PAD_POINTS = 4, 256


@dataclass(frozen=True)
class Shown:
    """What the page shows.

    Attributes:
        model: on show.
        inputs: what it looks at.
        sweep: its answers along s.
        pad: over (noise level, λ), if they are there.
        second: another model on the same inputs and noise, if one was chosen and its answers are there.
        device: that computes.
    """

    model: StoredModel
    inputs: Inputs
    sweep: SweepResult
    pad: PadResult | None
    second: Second | None
    device: str


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    # What comes and goes above the figure has a place of its own: a figure that moves among its siblings is built anew.
    with st.container():
        row = st.container(horizontal=True, vertical_alignment="center", key="inputs_row")
        wanted = SHOWN_IMAGES if model.is_image else SHOWN_POINTS
        count = affordable(wanted, len(SWEEP_GRID), model.recipe["shape"])
        stored = model.shown if model.sweep is not None else None
        inputs = choose_inputs(row, model, seed, key=state.INPUTS, count=count, stored=stored)
        other = _choose_second(model)
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
        shown = Shown(model, stored_inputs(model) if source is None else source.inputs, sweep, pad, None, device)
        if other is not None and (
            inputs is None or (source is not None and (pad is not None or not model.has_two_sets))
        ):
            with row:
                shown = replace(shown, second=_second(shown, other))
        try:
            frames = cache.packed_sweep(model, sweep, source, shown.second)
            plane = None if pad is None else cache.packed_pad(model, pad, source)
            sweep_hash = store("sweep", frames)
        except ValueError as error:
            st.error(f"These frames cannot be drawn: {error}.")
            return
    _figure(shown, sweep_hash, None if plane is None else blob_hash(plane), (frames, plane))
    if plane is not None:
        store("pad", plane)  # the most of what is sent; the pictures are on show before it has come


def _choose_second(model: StoredModel) -> StoredModel | None:
    """Another model that takes the same samples, to stand beside this one."""
    other = choose_second(cache.sources_of_data(model), "Under the same cursor, on the same inputs and noise.")
    if other is not None and other.recipe["shape"] != model.recipe["shape"]:
        st.sidebar.caption(f"{plain(other.name)} takes samples of another shape.")
        return None
    return other


def _second(shown: Shown, other: StoredModel) -> Second | None:
    """The second model's answers for what is shown: stored ones where they are of the same inputs, else computed."""
    ours, theirs = shown.sweep, other.sweep
    if theirs is not None and all(
        np.array_equal(getattr(ours, part), getattr(theirs, part)) for part in ("s", "clean", "noise")
    ):
        return other, theirs
    grid = tuple(ours.s.tolist())
    inputs = replace(shown.inputs, of=shown.inputs.of or shown.model.key)
    request = SweepRequest(other.key, inputs, grid, shown.device)
    found = computed(request, SweepResult, f"{other.name} on the same inputs")
    return None if found is None else (other, found)


def _computed(
    model: StoredModel, inputs: Inputs, device: str
) -> tuple[SweepResult, PadResult | None, SweepRequest] | None:
    """What the engine has for these inputs; while it works, its progress is shown and the old picture stays."""
    request = SweepRequest(model.key, inputs, SWEEP_GRID, device)
    sweep = computed(request, SweepResult, SWEEP_LABEL, _back(model))
    return None if sweep is None else (sweep, _computed_pad(model, inputs, device), request)


def _computed_pad(model: StoredModel, inputs: Inputs, device: str) -> PadResult | None:
    """The pad follows the sweep; until it is there the page does without."""
    if not model.has_two_sets:
        return None
    wanted = min(inputs.n, PAD_IMAGES if model.is_image else PAD_POINTS)
    count = affordable(wanted, len(PAD_GRID) ** 2, model.recipe["shape"])
    request = PadRequest(model.key, inputs, count, PAD_GRID, PAD_GRID, device)
    return computed(request, PadResult, "Noise level × parameters", _back(model))


def _back(model: StoredModel) -> Callable[[], None] | None:
    """Chooses the stored frames, if there are any."""

    def back() -> None:
        st.session_state[state.INPUTS] = STORED

    return back if model.sweep is not None else None


@st.fragment
def _figure(shown: Shown, sweep_hash: str, pad_hash: str | None, blobs: tuple[bytes, bytes | None]) -> None:
    """The scrubber, the numbers under it and where they come from; only this part runs when the hand lets go."""
    start, model, sweep = state.read_cursor(), shown.model, shown.sweep
    position = scrubber("scrubber", sweep_hash=sweep_hash, pad_hash=pad_hash, s=start.s, pad=start.pad)
    cursor = state.Cursor(position.s) if position.pad is None else state.Cursor(*position.pad)
    state.write_cursor(cursor)
    seen = _seen(cursor, sweep, shown.pad)
    along = sweep if shown.pad is None or seen.lam is None else shown.pad
    frame = int(np.argmin(np.abs(along.s - seen.s)))
    beside = "" if shown.second is None or seen.lam is not None else second_sentence(model, frame, sweep, shown.second)
    said = f"{sentence(model, along, frame, seen.lam)} {beside}".rstrip()
    st.markdown(said)
    family = cache.models_of_family(model)
    scores = _scores(family, seen.s)
    _family_table(model, scores, seen.s)
    lines = _reproduce(shown, seen)
    origin = Origin(model, about(model, shown.inputs.seed, shown.device), {"Python that reproduces this": lines})
    offer_page(
        "denoise", lambda: denoise_page(origin, sweep, blobs, shown.second, family, position, said, scores), model
    )


def _seen(cursor: state.Cursor, sweep: SweepResult, pad: PadResult | None) -> state.Cursor:
    """The frame or the cell that is drawn at a cursor; without a pad the parameters follow the learned curve."""

    def nearest(grid: np.ndarray, value: float) -> float:
        return float(grid[np.argmin(np.abs(grid - value))])

    if pad is None or cursor.lam is None:
        return state.Cursor(nearest(sweep.s, cursor.s))
    return state.Cursor(nearest(pad.s, cursor.s), nearest(pad.lam, cursor.lam))


def _scores(family: Sequence[StoredModel], s: float) -> list[tuple[str, str, str]]:
    """Method, held-out error at s, and no remark, of each model that was measured there."""
    rows = [(card, error_at(card, s)) for card in family]
    measured = [(card, value) for card, value in rows if value is not None]
    return [(method_of(card), f"{value:.2f} dB" if card.is_image else f"{value:.4f}", "") for card, value in measured]


def _family_table(model: StoredModel, scores: Sequence[tuple[str, str, str]], s: float) -> None:
    """Held-out error of the models trained alike, at the chosen s."""
    if not scores:
        return
    st.caption(f"Held-out {'PSNR' if model.is_image else 'MSE'} of {model.family} at t = {s:.2f}")
    for column, (method, value, _) in zip(st.columns(max(3, len(scores))), scores, strict=False):
        column.markdown(f":small[{plain(method)}]  \n**{value}**")


def _reproduce(shown: Shown, cursor: state.Cursor) -> str:
    """The lines of Python behind the picture, which are returned, and the link to it."""
    left, right = st.columns(2)
    second = None if shown.second is None else shown.second[0]
    lines = denoise_lines(shown.model, shown.inputs, cursor.s, cursor.lam, shown.device, second)
    models = [shown.model] if second is None else [shown.model, second]
    folded_lines(left, "Python that reproduces this", lines, "denoise lines", (models, shown.inputs, shown.device))
    below = folded_link(right)
    if below is not None and shown.inputs.kind == "upload":
        whose = "Your image is" if shown.inputs.taken == 1 else "Your images are"
        below.caption(f"{whose} private and not part of the link.")
    return lines
