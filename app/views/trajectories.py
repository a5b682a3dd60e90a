"""Watch samples come out of noise: up to four runs from the same noise, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from app import state
from app.components.player import player, standalone_page, store
from app.figures.trajectories import (
    CURVE_NAMES,
    GRID_NAMES,
    SAMPLER_NAMES,
    fine_run,
    run_name,
    sampling_lines,
    sentence,
    settings,
    summary_rows,
)
from app.records import Inputs, StoredModel, TrajectoryRequest, TrajectoryResult
from app.services import cache, exports
from app.services.inference import Job

IMAGES, POINTS = 16, 2000
MAX_STEPS = 200

# What the columns show before anything is chosen: many steps against few, then other curves λ.
DEFAULTS = (("heun", 32, "learned"), ("ddim", 8, "learned"), ("heun", 32, "linear"), ("heun", 32, "reversed"))
DEFAULTS_ONE_SET = (
    ("heun", 32, "learned"),
    ("ddim", 8, "learned"),
    ("dpmpp_2m", 8, "learned"),
    ("ddpm", 32, "learned"),
)

_CANCELLED = "_cancelled_run"

Run = tuple[TrajectoryRequest, TrajectoryResult]
Found = list[Run]


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    requests, with_reference = _choose_runs(model, seed, device)
    slot = st.container()
    wanted = [(f"Run {letter}", request) for letter, request in zip("ABCD", requests, strict=False)]
    if with_reference:
        wanted.append(("Fine run", fine_run(requests[0])))
    found = _computed(slot, wanted)
    if not found:
        return
    runs, reference = found[: len(requests)], (found[len(requests)] if len(found) > len(requests) else None)
    try:
        hashes = [store(f"run {index}", cache.packed_run(*run)) for index, run in enumerate(runs)]
        fine_hash = None if reference is None else store("reference run", cache.packed_run(*reference))
    except ValueError as error:
        st.error(f"These runs cannot be drawn: {error}.")
        return
    _figure(model, runs, hashes, reference, fine_hash)


def _choose_runs(model: StoredModel, seed: int, device: str) -> tuple[list[TrajectoryRequest], bool]:
    """How many runs, the settings of each, and whether a fine run is computed to compare with."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown("Runs from the same noise")
    count = row.segmented_control(
        "Runs from the same noise",
        [1, 2, 3, 4],
        default=2,
        required=True,
        key=state.RUNS,
        bind="query-params",
        label_visibility="collapsed",
    )
    with_reference = row.toggle(
        "Compare with a fine run",
        key=state.REFERENCE,
        bind="query-params",
        help="RK4 in many steps with the learned λ, from the same noise: what the ODE's samplers approach.",
    )
    with st.expander("Choose samplers, steps and λ"):
        columns = st.columns(int(count or 1))
    return [_choose_run(column, model, index, seed, device) for index, column in enumerate(columns)], with_reference


def _choose_run(column: Any, model: StoredModel, index: int, seed: int, device: str) -> TrajectoryRequest:
    sampler, steps, curve = (DEFAULTS if model.has_two_sets else DEFAULTS_ONE_SET)[index]
    with column:
        row = st.columns([3, 2], gap="small")
        sampler = _select(row[0], f"{'ABCD'[index]}: sampler", SAMPLER_NAMES, sampler, state.SAMPLER, index)
        steps = row[1].number_input(
            "Steps", 1, MAX_STEPS, steps, key=state.run_key(state.STEPS, index), bind="query-params"
        )
        row = st.columns([3, 2], gap="small")
        grid = _select(row[0], "Steps lie", GRID_NAMES, "uniform", state.GRID, index)
        frozen_at = 0.5
        if model.has_two_sets:
            curve = _select(row[1], "λ", CURVE_NAMES, curve, state.RUN_LAM, index)
            if curve == "frozen":
                key = state.run_key(state.FROZEN_AT, index)
                frozen_at = st.slider("λ frozen at", 0.0, 1.0, 0.5, 0.05, key=key, bind="query-params")
    inputs = Inputs("samples", IMAGES if model.is_image else POINTS, seed)
    curve = curve if model.has_two_sets else "learned"
    return TrajectoryRequest(model.key, inputs, sampler, int(steps), grid, curve, float(frozen_at), device)


def _select(place: Any, label: str, names: dict[str, str], default: str, setting: str, index: int) -> str:
    options = list(names)
    chosen = place.selectbox(
        label,
        options,
        index=options.index(default),
        format_func=lambda name: names[name],
        key=state.run_key(setting, index),
        bind="query-params",
    )
    return str(chosen)


def _computed(slot: Any, wanted: Sequence[tuple[str, TrajectoryRequest]]) -> Found:
    """The runs that the engine has; the first that is missing is computed while the others are shown."""
    engine, found = cache.engine(), []
    for name, request in wanted:
        result = engine.cache.get(request)
        if result is None:
            with slot:
                _compute(request, f"{name}: {run_name(request)}")
            break
        assert isinstance(result, TrajectoryResult)
        found.append((request, result))
    return found


def _compute(request: TrajectoryRequest, label: str) -> None:
    """Asks for a run and shows how far it is, unless it was cancelled."""
    if st.session_state.get(_CANCELLED) == request:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.caption(f"{label}: cancelled.")
        row.button("Compute", key="compute run", on_click=_forget_cancelled)
        return
    job = cache.engine().submit(state.session_id(), request)
    if job.result is not None:
        st.rerun()
    if job.status == "failed":
        st.error(f"{label}: {job.error}")
        return
    _watch(label, job)


def _watch(label: str, job: Job) -> None:
    """Shows a job until it is finished, then draws the page again."""

    @st.fragment(run_every=0.3)
    def watch() -> None:
        if job.finished:
            st.rerun()
        row = st.container(horizontal=True, vertical_alignment="center")
        row.progress(job.progress, label if job.total else f"{label}: waiting for the engine")
        row.button("Cancel", key="cancel run", on_click=_cancel, args=(job,))

    watch()


def _cancel(job: Job) -> None:
    cache.engine().cancel(state.session_id(), job)
    st.session_state[_CANCELLED] = job.request


def _forget_cancelled() -> None:
    st.session_state.pop(_CANCELLED, None)


@st.fragment
def _figure(
    model: StoredModel, found: Found, hashes: list[str], reference: Run | None, reference_hash: str | None
) -> None:
    """The player, what is seen, and the files; only this part runs when t comes to rest."""
    s = player("player", run_hashes=hashes, reference_hash=reference_hash, s=state.read_cursor().s)
    state.write_cursor(state.Cursor(s))
    st.markdown(sentence(found, s))
    st.dataframe(summary_rows(found, reference), hide_index=True)
    st.caption(
        "NFE: network evaluations per sample. Straightness: distance from start to end over the length of the way, mean"
        " over samples. Turning: the sum of the angles between steps."
    )
    _files(model, found, s)
    left, right = st.columns(2)
    with left.expander("Python that reproduces this"):
        st.code("\n\n".join(sampling_lines(model, request) for request, _ in found), language="python")
    with right.expander("Link to this screen"):
        st.code(state.link(), language=None, wrap_lines=True)


def _files(model: StoredModel, found: Found, s: float) -> None:
    """Downloads; a file is made when it is asked for."""
    about = settings(model, [request for request, _ in found])
    results = [result for _, result in found]
    makers: dict[str, tuple[Callable[[], bytes | str], str]] = {
        "GIF": (partial(exports.gif, results, about), "image/gif"),
        "WebP": (partial(exports.webp, results, about), "image/webp"),
        "PNG sheet": (partial(exports.sheet, results, about), "image/png"),
        "NPZ": (partial(exports.npz, results, about), "application/octet-stream"),
        "HTML": (partial(_standalone, model, found, s, about), "text/html"),
    }
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption("Save the runs shown:")
    for name, (make, mime) in makers.items():
        suffix = name.split()[0].lower()
        file = f"{model.name}-seed{about['seed']}.{suffix}"
        row.download_button(name, make, file, mime, key=f"save {name}", on_click="ignore")


def _standalone(model: StoredModel, found: Found, s: float, about: dict[str, Any]) -> str:
    """A page that plays offline."""
    blobs = [cache.packed_run(*run) for run in found]
    return standalone_page(blobs, s, f"{model.name}: samples from noise, seed {about['seed']}", about)
