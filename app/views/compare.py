"""The Compare page: methods trained alike on the same inputs and noise, what each gains and costs, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import state
from app.components.comparer import Row, comparer
from app.components.scrubber import store
from app.figures.chart import Chart, Table
from app.figures.compare import (
    cost_table,
    difference_chart,
    error_chart,
    parameter_table,
    sample_table,
    score_table,
    wins_chart,
)
from app.figures.comparisons import (
    colour_of,
    comparison_of_models,
    comparison_of_request,
    comparison_of_sweep,
    equal_steps,
    equal_time,
    frame_values,
    headline,
    measures_of,
    method_of,
    missing,
    rows_lines,
    same_inputs,
    scored_otherwise,
    shown_alone,
    unlike,
    verdicts,
)
from app.figures.offline import Origin, compare_page
from app.figures.reproduce import stored_inputs
from app.figures.samples import samples_chart
from app.records import (
    Comparison,
    ComparisonRequest,
    ComparisonResult,
    Inputs,
    StoredModel,
    SweepResult,
    TrajectoryRequest,
    TrajectoryResult,
)
from app.services import cache, stored
from app.services.reproduction import about
from app.views.charts import show, show_table
from app.views.folded import folded_lines, folded_link
from app.views.inputs import STORED, choose_inputs
from app.views.offline import offer_page
from app.views.progress import computed
from dpi_core.verdicts import UNITS, steps_in_words, stopped_in_words, timed_elsewhere_in_words

JUDGED_IMAGES, JUDGED_POINTS = 64, 2048
NOISE_DRAWS = 16
"""An upload is judged on so many samples at least: fewer images get several draws of noise each."""

SHOWN_IMAGES, SHOWN_POINTS = 8, 512
SAMPLE_IMAGES, SAMPLE_POINTS = 16, 1000
GRID = tuple(np.linspace(0, 1, 41).tolist())
MOST_ROWS = 8


@dataclass(frozen=True)
class Frames:
    """What the rows of the scrubber show.

    Attributes:
        models: of the rows.
        sweeps: their frames of the same inputs.
        source: what they were computed for; None where they are stored.
    """

    models: Sequence[StoredModel]
    sweeps: Sequence[SweepResult]
    source: ComparisonRequest | None = None


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model's family."""
    family = family_of_rows(model, cache.models_of_family(model))
    row = st.container(horizontal=True, vertical_alignment="center", key="inputs_row")
    try:
        sweep = _choose_sweep(row, model.family)
    except ValueError as error:
        st.error(str(error))
        return
    comparison, frames = _stored_comparison(row, family, sweep), _stored_frames(model, family)
    inputs = _choose_inputs(row, model, seed, comparison)
    if inputs is not None:
        with row:
            found = _computed(model, family, inputs, device)
        if found is not None:
            comparison, frames = found
    otherwise = scored_otherwise(sweep, model) if sweep is not None and inputs is None else []
    for sentence in [*missing(model.family, family, sweep, stored.known_sweeps()), *unlike(family), *otherwise]:
        st.caption(sentence)
    reference = _choose_reference(comparison)
    if comparison is not None and reference is not None:
        st.markdown(headline(comparison, reference))
    if frames is not None:
        _rows(frames, device)
        for sentence in shown_alone(family, frames.models):
            st.caption(sentence)
    charts: list[Chart] = []
    if comparison is not None and reference is not None:
        _verdict(comparison, reference, sweep if inputs is None else None)
        charts = _charts(comparison, reference)
    tables = _cost_tables(family, sweep)
    for table in tables:
        show_table(table)
    charts += _samples(family, seed, device)
    folded_link(st.container())
    if frames is not None:
        said = [] if comparison is None or reference is None else _sentences(comparison, reference)
        _offer_page(model, frames, device, said, charts, tables)


# What is compared -------------------------------------------------------------------------------------------------


def family_of_rows(model: StoredModel, family: Sequence[StoredModel]) -> list[StoredModel]:
    """At most `MOST_ROWS` models in their order; the chosen one is always among them."""
    rows = list(family[:MOST_ROWS])
    return rows if any(row.name == model.name for row in rows) else [*rows[:-1], model]


def _choose_sweep(row: DeltaGenerator, family: str) -> Mapping[str, Any] | None:
    """The sweep whose scores are shown, if there is one.

    Raises:
        ValueError: a file of scores is damaged.
    """
    sweeps = cache.sweeps_of_family(family)
    if len(sweeps) < 2:
        return next(iter(sweeps.values()), None)
    chosen = row.selectbox(
        "Sweep", list(sweeps), key=state.SWEEP, bind="query-params", width=190, label_visibility="collapsed"
    )
    return sweeps[chosen]


def _stored_comparison(
    row: DeltaGenerator, family: Sequence[StoredModel], sweep: Mapping[str, Any] | None
) -> Comparison | None:
    if sweep is None:
        return comparison_of_models(family)
    measures = measures_of(sweep)
    if len(measures) == 1:
        return comparison_of_sweep(sweep, measures[0])
    chosen = row.selectbox(
        "Measure",
        measures,
        format_func=lambda measure: UNITS[measure][0],
        key=state.MEASURE,
        bind="query-params",
        width=150,
        label_visibility="collapsed",
    )
    return comparison_of_sweep(sweep, chosen)


def _stored_frames(model: StoredModel, family: Sequence[StoredModel]) -> Frames | None:
    """The stored frames of the models that show what the chosen one shows; the chosen one decides."""
    first = model if model.sweep is not None else next((each for each in family if each.sweep is not None), None)
    if first is None or first.sweep is None:
        return None
    alike = [(each, each.sweep) for each in family if each.sweep is not None and same_inputs(each.sweep, first.sweep)]
    return Frames([each for each, _ in alike], [sweep for _, sweep in alike])


def _choose_inputs(row: DeltaGenerator, model: StoredModel, seed: int, comparison: Comparison | None) -> Inputs | None:
    stored_in_words = None
    if comparison is not None:
        seeds = len(comparison.seeds[0]) if comparison.seeds else 1
        stored_in_words = f"{comparison.samples}, {seeds} seed{'s' * (seeds > 1)} of training"
    return choose_inputs(
        row,
        model,
        seed,
        key=state.COMPARED_ON,
        count=JUDGED_IMAGES if model.is_image else JUDGED_POINTS,
        upload_least=NOISE_DRAWS,
        stored=stored_in_words,
        unstored="Nothing is stored for this family: choose inputs, and its models are compared on them.",
    )


def _computed(
    model: StoredModel, family: Sequence[StoredModel], inputs: Inputs, device: str
) -> tuple[Comparison, Frames] | None:
    """All models of the family on these inputs; while the engine works the stored results stay."""
    shown = SHOWN_IMAGES if model.is_image else SHOWN_POINTS
    first, *others = family
    request = ComparisonRequest(first.key, tuple(each.key for each in others), inputs, shown, GRID, device)
    found = computed(request, ComparisonResult, f"Denoising by {len(family)} models", _back)
    if found is None:
        return None
    return comparison_of_request(family, request, found.scores), Frames(family, found.sweeps, request)


def _back() -> None:
    st.session_state[state.COMPARED_ON] = STORED


def _choose_reference(comparison: Comparison | None) -> str | None:
    """The method that all others are held against."""
    if comparison is None:
        return None
    names = list(comparison.names)
    if len(names) < 2:
        return names[0]
    ordered = sorted(names, key=lambda name: name != "dpi")
    chosen = st.segmented_control(
        "Held against the others", ordered, default=ordered[0], required=True, key=state.AGAINST, bind="query-params"
    )
    return chosen if chosen in names else ordered[0]


# What is shown ----------------------------------------------------------------------------------------------------


def _verdict(comparison: Comparison, reference: str, sweep: Mapping[str, Any] | None) -> None:
    sentences = verdicts(comparison, reference)
    if sentences:
        st.markdown("#### Verdict")
        st.markdown("\n".join(f"- {sentence}" for sentence in sentences))
    if sweep is not None and "unequal" in (steps := steps_in_words(sweep)):
        st.caption(" ".join([f"Trained {steps}.", *stopped_in_words(sweep)]))
    if sweep is not None and reference == comparison.names[0] and len(comparison.names) > 1:
        if same := equal_steps(sweep):
            with st.expander("At equal steps"):
                st.markdown("\n".join(f"- {sentence}" for sentence in same))
        with st.expander("At equal time of training"):
            st.markdown("\n".join(f"- {sentence}" for sentence in equal_time(sweep)))
            if elsewhere := timed_elsewhere_in_words(sweep):
                st.caption(elsewhere)


def _rows(frames: Frames, device: str) -> None:
    """What the scrubber needs, handed over outside its fragment, so that the bytes travel once."""
    names = [method_of(model) for model in frames.models]
    count = SHOWN_IMAGES if frames.models[0].is_image else SHOWN_POINTS
    try:
        rows = [
            Row(
                name,
                store(f"row {name}", cache.packed_sweep(model, sweep, frames.source)),
                colour_of(name, names),
                frame_values(model, sweep, count),
            )
            for name, model, sweep in zip(names, frames.models, frames.sweeps, strict=True)
        ]
    except ValueError as error:
        st.error(f"These frames cannot be drawn: {error}.")
        return
    _comparer(rows, frames, count, device)


@st.fragment
def _comparer(rows: Sequence[Row], frames: Frames, count: int, device: str) -> None:
    """The scrubber; the charts beneath follow when the hand lets go."""
    start = state.read_cursor()
    s = comparer("comparer", rows=rows, s=start.s, shown=count, title=frames.models[0].family)
    state.write_cursor(state.Cursor(s, start.lam))
    if state.has_moved(start.s, s):
        st.rerun()
    inputs = stored_inputs(frames.models[0]) if frames.source is None else frames.source.inputs
    lines = rows_lines(frames.models, inputs, s, count, device)
    made_of = (frames.models, inputs, device)
    folded_lines(st.container(), "Python that reproduces the rows", lines, "compare lines", made_of)


def _sentences(comparison: Comparison, reference: str) -> list[str]:
    """The headline and the verdict."""
    return [sentence for sentence in (headline(comparison, reference), *verdicts(comparison, reference)) if sentence]


def _charts(comparison: Comparison, reference: str) -> list[Chart]:
    """Draws the charts and returns them."""
    s, has_pairs = state.read_cursor().s, bool(verdicts(comparison, reference))
    error = error_chart(comparison, s)
    if not has_pairs:
        show(error)
        return [error]
    difference, wins = difference_chart(comparison, reference, s), wins_chart(comparison, reference)
    left, right = st.columns(2)
    with left:
        show(error)
    with right:
        show(difference)
    show(wins)
    return [error, difference, wins]


def _cost_tables(family: Sequence[StoredModel], sweep: Mapping[str, Any] | None) -> list[Table]:
    if sweep is None:
        return [parameter_table(family)]
    return [score_table(sweep), *([sample_table(sweep)] if sweep["floor"] else []), cost_table(sweep)]


def _offer_page(
    model: StoredModel,
    frames: Frames,
    device: str,
    said: Sequence[str],
    charts: Sequence[Chart],
    tables: Sequence[Table],
) -> None:
    """The page as a file: the rows, the verdict, the figures and the tables."""
    s, first = state.read_cursor().s, frames.models[0]
    inputs = stored_inputs(first) if frames.source is None else frames.source.inputs
    count = SHOWN_IMAGES if first.is_image else SHOWN_POINTS
    lines = {"Python that reproduces the rows": rows_lines(frames.models, inputs, s, count, device)}
    origin = Origin(model, about(model, inputs.seed, device), lines)
    offer_page(
        "compare", lambda: compare_page(origin, frames.models, frames.sweeps, count, s, said, charts, tables), model
    )


def _samples(family: Sequence[StoredModel], seed: int, device: str) -> list[Chart]:
    """Samples of every model from the same noise: the stored ones, or computed when they are asked for."""
    if not family[0].is_generative:
        return []
    requests = [_sampling(model, family[0].recipe["sampling"], seed, device) for model in family]
    ends = _stored_ends(family, requests)
    section = st.expander("Samples from the same noise", bool(ends), key="compare_samples", on_change="rerun")
    if not section.open:
        return []
    with section:
        ends = ends or _computed_ends(family, requests)
        if not ends:
            return []
        chart = samples_chart(family, requests, ends)
        show(chart)
    return [chart]


def _sampling(model: StoredModel, sampling: Mapping[str, Any], seed: int, device: str) -> TrajectoryRequest:
    inputs = Inputs("samples", SAMPLE_IMAGES if model.is_image else SAMPLE_POINTS, seed)
    return TrajectoryRequest(
        model.key, inputs, sampling["sampler"], sampling["steps"], "uniform", "learned", 0.5, device
    )


def _stored_ends(family: Sequence[StoredModel], requests: Sequence[TrajectoryRequest]) -> list[np.ndarray]:
    """The stored samples; empty where those of a model are not there, or not what is asked for."""
    ends = []
    for model, request in zip(family, requests, strict=True):
        kept, inputs = model.samples, request.inputs
        asked = (inputs.n, inputs.seed, request.sampler, request.steps)
        if kept is None or (len(kept.x), kept.seed, kept.sampler, kept.steps) != asked:
            return []
        ends.append(kept.x.astype(np.float32) / 127.5 - 1 if model.is_image else kept.x)
    return ends


def _computed_ends(family: Sequence[StoredModel], requests: Sequence[TrajectoryRequest]) -> list[np.ndarray]:
    """The samples as the engine draws them, one model after another; empty while they are not all there."""
    ends = []
    for model, request in zip(family, requests, strict=True):
        known = cache.engine().cache.get(request)
        found = known or computed(request, TrajectoryResult, f"Samples of {model.name}")
        if not isinstance(found, TrajectoryResult):
            return []
        ends.append(found.x[-1] * found.scale[-1])
    return ends
