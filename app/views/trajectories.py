"""Watch samples come out of noise: up to four runs from the same noise, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import streamlit as st

from app import state
from app.components.player import player, store
from app.figures.offline import Origin, trajectories_page
from app.figures.quality import QUALITY_RUNS, STOCHASTIC_RUNS, quality_charts
from app.figures.trajectories import (
    ABOUT_ROWS,
    ADAPTIVE,
    CURVE_NAMES,
    GRID_NAMES,
    SAMPLER_NAMES,
    Found,
    fine_run,
    read_table,
    run_name,
    sampling_lines,
    sentence,
    settings,
    summary_rows,
    written_table,
)
from app.records import (
    InputKind,
    Inputs,
    PlaneRequest,
    PlaneResult,
    QualityRequest,
    QualityResult,
    StoredModel,
    TrajectoryRequest,
    TrajectoryResult,
)
from app.records.curves import decode
from app.services import cache, exports
from app.services.reproduction import versions
from app.views.awaited import awaited
from app.views.charts import show
from app.views.folded import folded_lines, folded_link
from app.views.numbers import whole_number
from app.views.plain import plain
from app.views.progress import computed

IMAGES, POINTS = 16, 2000
MAX_STEPS, MAX_SAMPLE = 200, 100
PLANE_SAMPLES, PLANE_SAMPLER, PLANE_STEPS = 96, "dpmpp_2m", 10
QUALITY_IMAGES, QUALITY_POINTS = 16, 1000

# What the columns show before anything is chosen: many steps against few, then other curves λ.
DEFAULTS = (("heun", 32, "learned"), ("ddim", 8, "learned"), ("heun", 32, "linear"), ("heun", 32, "reversed"))
DEFAULTS_ONE_SET = (
    ("heun", 32, "learned"),
    ("ddim", 8, "learned"),
    ("dpmpp_2m", 8, "learned"),
    ("ddpm", 32, "learned"),
)
NOISE, BETWEEN = "noise", "between two samples"
DEFAULT_TABLE, KNOTS = "0, 0.1, 0.9, 1", 21


@dataclass(frozen=True)
class Chosen:
    """What the page is to show.

    Attributes:
        models: of each run.
        runs: what is asked for, from left to right.
        with_reference: whether a fine run is computed to compare with.
        with_plane: whether the paths are shown in the plane of the model's samples.
    """

    models: list[StoredModel]
    runs: list[TrajectoryRequest]
    with_reference: bool
    with_plane: bool

    @property
    def names(self) -> list[str]:
        """What the columns are headed with."""
        return [run_name(run, self.runs[0].model) for run in self.runs]


@dataclass(frozen=True)
class Shown:
    """What the page shows.

    Attributes:
        model: on show.
        chosen: what was asked for.
        found: the runs that are there, from left to right.
        reference: the fine run, if it is there.
        plane: of the paths, if it is there.
    """

    model: StoredModel
    chosen: Chosen
    found: list[Found]
    reference: Found | None
    plane: PlaneResult | None


@dataclass(frozen=True)
class Start:
    """Where all runs start.

    Attributes:
        inputs: the seed of their noise, or the data that their noise is made of.
        between: the samples whose noise they lie between, counted from 0.
    """

    inputs: Inputs
    between: tuple[int, int] | None = None


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    if not model.is_generative:
        st.info(
            "This model takes noise of known strength out of images; its process never drowns them, so there is no noise to"
            " start a trajectory from. Choose another model in the sidebar."
        )
        return
    try:
        chosen = _choose(model, seed, device)
    except ValueError as error:
        st.error(plain(str(error)))
        return
    st.html(Path(__file__).with_name("trajectories.css"))
    slot = st.container(key="runs_status")
    with slot:
        found = _computed_runs(chosen)
    if not found:
        awaited(chosen.names, 3 if model.is_image else 2)
        return
    is_whole = len(found) == len(chosen.runs) and all(
        result.ended and not state.was_cancelled(run) for run, result in found
    )
    with slot:
        reference = _computed_reference(chosen) if is_whole else None
        is_whole = is_whole and (reference is not None or not chosen.with_reference)
        plane = _computed_plane(model, chosen) if is_whole else None
        is_whole = is_whole and (plane is not None or not chosen.with_plane)
    if is_whole:
        slot.caption(_status(found))
    try:
        packed = [cache.packed_run(chosen.names[i], *run) for i, run in enumerate(found)]
        sent: dict[str, Any] = {"run_hashes": [store(f"run {i}", run) for i, run in enumerate(packed)]}
        if reference is not None:
            sent["reference_hash"] = store("reference run", _packed_reference(reference))
        if plane is not None:
            sent["plane_hash"] = store("plane of paths", cache.packed_plane(plane, _results(found)))
    except ValueError as error:
        st.error(f"These runs cannot be drawn: {error}.")
        return
    _figure(Shown(model, chosen, found, reference, plane), sent)
    _quality(model, chosen, is_whole, device)


# What is asked for ------------------------------------------------------------------------------------------------


def _choose(model: StoredModel, seed: int, device: str) -> Chosen:
    """How many runs, where they start, what is shown beside them, and the settings of each.

    Raises:
        ValueError: a table of λ cannot be read; one sentence.
    """
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown("Runs", width="content")
    count = row.segmented_control(
        "Runs side by side",
        [1, 2, 3, 4],
        default=2,
        required=True,
        key=state.RUNS,
        bind="query-params",
        label_visibility="collapsed",
    )
    start = _choose_start(row, model, seed)
    with_reference = row.toggle(
        "Fine run",
        key=state.REFERENCE,
        bind="query-params",
        help="Measure distances from RK4 in many steps, even in log-SNR, with the learned λ: what the ODE's samplers approach.",
    )
    with_plane = model.is_image and row.toggle(
        "Plane of paths",
        key=state.PLANE,
        bind="query-params",
        help="Draw the paths in the plane of the two largest principal components of the model's samples.",
    )
    say = st.container()
    with st.expander("Choose models, samplers, steps and λ"):
        columns = st.columns(int(count or 1))
    chosen = [_choose_run(column, model, index, start, device, say) for index, column in enumerate(columns)]
    return Chosen([run_model for run_model, _ in chosen], [run for _, run in chosen], with_reference, with_plane)


def _choose_start(row: Any, model: StoredModel, seed: int) -> Start:
    """From noise, between two samples, or from data that are carried to noise first."""
    kinds = ("held-out", "digits", "photos") if model.is_image else ("held-out",)
    options = {NOISE: "noise", BETWEEN: "between two samples", **{kind: f"{kind}, inverted" for kind in kinds}}
    help_text = (
        "noise: that of the seed. Between two samples: the great circle from one's noise to the other's. Inverted: data"
        " carried to noise by each run's own solver, and from there back."
    )
    row.markdown("from", width="content")
    chosen = row.selectbox(
        "Start from",
        list(options),
        format_func=lambda name: options[name],
        key=state.START,
        bind="query-params",
        help=help_text,
        width=190,
        label_visibility="collapsed",
    )
    count = IMAGES if model.is_image else POINTS
    if chosen != BETWEEN:
        return Start(Inputs("samples" if chosen == NOISE else cast(InputKind, chosen), count, seed))
    pair = [
        whole_number(row, label, 1, MAX_SAMPLE, default, key, width=110)
        for label, default, key in (("First sample", 1, state.FIRST), ("Last sample", 2, state.SECOND))
    ]
    if pair[0] == pair[1]:
        raise ValueError("Both ends are the same sample; choose two, so that there is something between them.")
    return Start(Inputs("samples", count, seed), (pair[0] - 1, pair[1] - 1))


def _choose_run(
    column: Any, home: StoredModel, index: int, start: Start, device: str, say: Any
) -> tuple[StoredModel, TrajectoryRequest]:
    with column:
        model = _choose_model(home, index)
        sampler, steps, curve = (DEFAULTS if model.has_two_sets else DEFAULTS_ONE_SET)[index]
        row = st.columns([3, 2], gap="small")
        sampler = _select(row[0], f"{'ABCD'[index]}: sampler", SAMPLER_NAMES, sampler, state.SAMPLER, index)
        steps, grid = _choose_steps(row[1], sampler, steps, index, say)
        run = TrajectoryRequest(model.key, start.inputs, sampler, steps, grid, "learned", 0.5, device)
        run = replace(run, between=start.between)
        if not model.has_two_sets:
            return model, run
        curve = _select(st, "λ", CURVE_NAMES, curve, state.RUN_LAM, index)
        return model, replace(run, lam=curve, **_choose_curve(curve, index))


def _choose_model(home: StoredModel, index: int) -> StoredModel:
    """The first run shows the page's model; the others may show any that was trained on the same data."""
    models = {model.name: model for model in cache.models_of_data(home)}
    if index == 0 or len(models) == 1:
        return home
    key = state.run_key(state.RUN_MODEL, index)
    return models[st.selectbox("ABCD"[index] + ": model", list(models), key=key, bind="query-params")]


def _choose_steps(place: Any, sampler: str, default: int, index: int, say: Any) -> tuple[int, str]:
    """How many steps and where they lie; a sampler that chooses its own is not asked."""
    if sampler in ADAPTIVE:
        place.caption("Chooses its own steps.")
        return 0, "uniform"
    key = state.run_key(state.STEPS, index)
    steps = whole_number(place, f"{'ABCD'[index]}: steps", 1, MAX_STEPS, default, key, say)
    return steps, _select(st, "Steps lie", GRID_NAMES, "uniform", state.GRID, index)


def _choose_curve(curve: str, index: int) -> dict[str, Any]:
    """What a λ needs besides its name.

    Raises:
        ValueError: the table cannot be read.
    """
    if curve == "frozen":
        key = state.run_key(state.FROZEN_AT, index)
        return {"frozen_at": float(st.slider("λ frozen at", 0.0, 1.0, 0.5, 0.05, key=key, bind="query-params"))}
    if curve != "table":
        return {}
    text = st.text_input(
        "λ from s = 0 to s = 1",
        _drawn_table() or DEFAULT_TABLE,
        key=state.run_key(state.TABLE, index),
        bind="query-params",
        help="Numbers in [0, 1] at equally spaced s; at first the curve drawn on the Parameters page, if there is one.",
    )
    return {"table": read_table(text)}


def _drawn_table() -> str | None:
    """The curve drawn on the Parameters page; None where there is none, or several for groups of layers."""
    try:
        return written_table(decode(state.recall(state.DRAWN) or "", 1, KNOTS)[0])
    except ValueError:
        return None


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


# What the engine has ----------------------------------------------------------------------------------------------


def _computed_runs(chosen: Chosen) -> list[Found]:
    """The runs that are there; the first that is missing is computed, and shown as far as it has come."""
    found: list[Found] = []
    for letter, name, run in zip("ABCD", chosen.names, chosen.runs, strict=False):
        result = _known(run) or computed(run, TrajectoryResult, f"Run {letter}: {name}")
        if result is None:
            so_far = cache.engine().partials.get(run)
            return [*found, (run, _explained(run, so_far))] if isinstance(so_far, TrajectoryResult) else found
        found.append((run, result))
    return found


def _known(run: TrajectoryRequest) -> TrajectoryResult | None:
    result = cache.engine().cache.get(run)
    assert result is None or isinstance(result, TrajectoryResult)
    return result


def _explained(run: TrajectoryRequest, so_far: TrajectoryResult) -> TrajectoryResult:
    """The states so far; those of a run that was cancelled say so."""
    if not state.was_cancelled(run):
        return so_far
    return replace(so_far, ended=True, error=f"Cancelled after {len(so_far.s) - 1} steps; they are kept.")


def _computed_reference(chosen: Chosen) -> Found | None:
    if not chosen.with_reference:
        return None
    run = fine_run(chosen.runs[0])
    result = _known(run) or computed(run, TrajectoryResult, f"Fine run: {run_name(run)}")
    return None if result is None else (run, result)


def _packed_reference(reference: Found) -> bytes:
    return cache.packed_run(run_name(reference[0]), *reference)


def _computed_plane(model: StoredModel, chosen: Chosen) -> PlaneResult | None:
    if not chosen.with_plane:
        return None
    run = chosen.runs[0]
    inputs = Inputs("samples", PLANE_SAMPLES, run.inputs.seed)
    request = PlaneRequest(model.key, inputs, PLANE_SAMPLER, PLANE_STEPS, run.device)
    known = cache.engine().cache.get(request)
    assert known is None or isinstance(known, PlaneResult)
    return known or computed(request, PlaneResult, f"The plane of {PLANE_SAMPLES} samples")


def _status(found: Sequence[Found]) -> str:
    """What stands where the progress was, so that nothing below moves when it goes."""
    inputs, seconds = found[0][0].inputs, sum(float(result.ms[-1]) for _, result in found) / 1000
    start = "" if len(found) == 1 else ", the same start for all runs"
    return f"{inputs.n} samples{start} (seed {inputs.seed}); sampled in {seconds:.1f} s."


def _results(found: Sequence[Found]) -> list[TrajectoryResult]:
    return [result for _, result in found]


# What is shown ----------------------------------------------------------------------------------------------------


@st.fragment
def _figure(shown: Shown, sent: dict[str, Any]) -> None:
    """The player, what is seen, and files of it; only this part runs when t comes to rest."""
    start = state.read_cursor()
    s = player("player", **sent, s=start.s)
    state.write_cursor(state.Cursor(s, start.lam))
    st.markdown(sentence(shown.found, s))
    st.dataframe(summary_rows(shown.found, shown.reference), hide_index=True)
    st.caption(ABOUT_ROWS)
    _files(shown, s)


def _quality(model: StoredModel, chosen: Chosen, is_whole: bool, device: str) -> None:
    """How good the samples get with more network evaluations; computed when it is opened."""
    section = st.expander(
        "Quality against network evaluations", key=state.QUALITY, on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    with section:
        if not is_whole:
            st.caption("Computed after the runs above.")
            return
        inputs = Inputs("samples", QUALITY_IMAGES if model.is_image else QUALITY_POINTS, chosen.runs[0].inputs.seed)
        # A stochastic sampler has no run to approach, and pixels no distance to the data that means much.
        runs = QUALITY_RUNS if model.is_image else QUALITY_RUNS + STOCHASTIC_RUNS
        request = QualityRequest(model.key, inputs, runs, device)
        known = cache.engine().cache.get(request)
        result = known or computed(request, QualityResult, "Samplers with 4 to 32 network evaluations")
        result = result or cache.engine().partials.get(request)
        if isinstance(result, QualityResult):
            for chart in quality_charts(model, request, result):
                show(chart)


def _files(shown: Shown, s: float) -> None:
    """Downloads; a file is made when it is asked for, outside the page's run."""
    chosen, results = shown.chosen, _results(shown.found)
    about = settings([run for run, _ in shown.found])
    each_run = [sampling_lines(run_model, run) for run_model, run in zip(chosen.models, chosen.runs, strict=True)]
    lines = "\n\n".join(each_run)
    makers: dict[str, tuple[Callable[[], bytes | str], str]] = {
        "GIF": (partial(exports.gif, results, about), "image/gif"),
        "WebP": (partial(exports.webp, results, about), "image/webp"),
        "MP4": (partial(exports.mp4, results, about), "video/mp4"),
        "PNG sheet": (partial(exports.sheet, results, about), "image/png"),
        "NPZ": (partial(exports.npz, results, about), "application/octet-stream"),
        "HTML": (partial(_standalone, shown, s, about, lines), "text/html"),
    }
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption("Save the runs shown:")
    for name, (make, mime) in makers.items():
        suffix = name.split()[0].lower()
        file = f"{shown.model.source.recipe_name}-seed{about['seed']}.{suffix}"
        row.download_button(name, make, file, mime, key=f"save {name}", on_click="ignore")
    left, right = st.columns(2)
    models = list({each.name: each for each in chosen.models}.values())
    made_of = (models, chosen.runs[0].inputs, chosen.runs[0].device)
    folded_lines(left, "Python that reproduces this", lines, "trajectories lines", made_of)
    folded_link(right)


def _standalone(shown: Shown, s: float, about: dict[str, Any], lines: str) -> str:
    """A page that plays offline and opens at s; made without a session."""
    origin, found = Origin(shown.model, about | versions(), {"Python that reproduces this": lines}), shown.found
    return trajectories_page(origin, shown.chosen.names[: len(found)], found, shown.plane, s)
