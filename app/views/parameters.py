"""The Parameters page: what lies between θ0 and θ1, whether λ(s) sits in the valley, and what a drawn curve would cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import state
from app.components.scrubber import store
from app.components.studio import StudioState, studio
from app.figures.distances import SPECTRAL, STATISTICS, bars_chart, histogram_chart, norm_chart
from app.figures.parameters import headlines, landscape_chart, studio_landscape, studio_lines
from app.figures.paths import blend_loss_chart, blend_pictures, gap_chart, kept_chart, path_chart
from app.records import InputKind, Inputs, ParametersRequest, ParametersResult, StoredModel
from app.services import cache
from app.views.charts import show
from app.views.progress import computed

JUDGED_IMAGES, JUDGED_POINTS = 64, 2048
STORED = "Stored"
NOTHING_STORED = (
    "Nothing is stored for this model: choose the samples to judge on, and the page is computed (minutes on a CPU)."
)
DISTANCE_TAB, PATH_TAB, BLEND_TAB, REGRET_TAB = "Distance and angle", "Path", "Two ways to blend", "Regret"
FOLLOW_THE_CURSOR = (PATH_TAB, BLEND_TAB)
SAME_CURSOR = 1e-3
"""The URL keeps four digits."""

INPUTS, TABS, STATISTIC, GROUPING, SORTING = "judged_on", "parameters_tab", "statistic", "by", "sort"


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    if not model.has_two_sets:
        st.info("This model has one parameter set, so there is no path to look at; choose a model that ends in -dpi.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    inputs = _choose_inputs(row, model, seed)
    result, used = model.parameters, _stored_inputs(model)
    if inputs is not None:
        with row:
            request = ParametersRequest(model.key, inputs, device)
            found = computed(request, ParametersResult, "Analysing the parameters", _back(model))
        if found is not None:
            result, used = found, inputs
    if result is None:
        return
    _headline(model, result)
    _studio(model, result, used, device)
    _details(model, result, used, device)


def _choose_inputs(row: DeltaGenerator, model: StoredModel, seed: int) -> Inputs | None:
    """The samples to judge on, or None for the stored results."""
    kinds: tuple[InputKind, ...] = (
        ("held-out", "digits", "photos", "samples") if model.is_image else ("held-out", "samples")
    )
    has_stored = model.parameters is not None
    options = [*([STORED] if has_stored else []), *(kind.capitalize() for kind in kinds)]
    chosen = row.segmented_control(
        "Judged on",
        options,
        default=STORED if has_stored else None,
        required=has_stored,
        key=INPUTS,
        bind="query-params",
        label_visibility="collapsed",
    )
    if chosen is None or chosen == STORED:
        row.caption(f"Errors are judged on {_in_words(_stored_inputs(model))}." if has_stored else NOTHING_STORED)
        return None
    return Inputs(cast(InputKind, chosen.lower()), JUDGED_IMAGES if model.is_image else JUDGED_POINTS, seed)


def _stored_inputs(model: StoredModel) -> Inputs:
    """What the stored results were judged on."""
    return Inputs("held-out", 0 if model.parameters is None else model.parameters.landscape.samples, 0)


def _in_words(inputs: Inputs) -> str:
    return f"{inputs.n} {inputs.kind} samples (seed {inputs.seed})"


def _back(model: StoredModel) -> Callable[[], None]:
    """Chooses the stored results, or nothing where there are none."""

    def back() -> None:
        st.session_state[INPUTS] = STORED if model.parameters is not None else None

    return back


def _headline(model: StoredModel, result: ParametersResult) -> None:
    for column, number in zip(st.columns(4), headlines(model, result), strict=True):
        column.metric(number.label, number.value)
        column.caption(number.remark)


@st.fragment
def _studio(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    """The curve editor; only this part runs when the hand lets go."""
    st.markdown("#### λ studio")
    if result.weights.groups > 1:
        st.info(
            f"This network has {result.weights.groups} curves λ, one for each group of layers, so the error of a drawn curve"
            " cannot be looked up; compute it with dpi_core.analysis.landscape.curve_errors."
        )
        return
    start = state.read_cursor()
    pictures = {}
    if model.sweep is not None and model.pad is not None:
        pictures = {
            "sweep_hash": store("sweep", cache.packed_sweep(model, model.sweep, None)),
            "pad_hash": store("pad", cache.packed_pad(model, model.pad, None)),
        }
    now = studio("studio", studio_landscape(model, result), start=StudioState(start.s), **pictures)
    state.write_cursor(state.Cursor(now.s, start.lam))
    if abs(now.s - start.s) > SAME_CURSOR and st.session_state.get(TABS) in FOLLOW_THE_CURSOR:
        st.rerun()
    with st.expander("Python that measures this curve"):
        st.code(studio_lines(model, result, inputs, now.curve, device), language="python", wrap_lines=True)


def _details(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    st.markdown("#### In detail")
    bodies: dict[str, Callable[[StoredModel, ParametersResult, Inputs, str], None]] = {
        DISTANCE_TAB: _distance_tab,
        PATH_TAB: _path_tab,
        BLEND_TAB: _blend_tab,
        REGRET_TAB: _regret_tab,
    }
    tabs = st.tabs(list(bodies), key=TABS, on_change="rerun", bind="query-params")
    for tab, body in zip(tabs, bodies.values(), strict=True):
        if tab.open:
            with tab:
                body(model, result, inputs, device)


@st.fragment
def _distance_tab(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    weights = result.weights
    row = st.container(horizontal=True, vertical_alignment="bottom")
    statistic = row.selectbox(
        "Statistic", list(STATISTICS), format_func=lambda key: STATISTICS[key][1], index=1, key=STATISTIC,
        bind="query-params", width=220,
    )  # fmt: skip
    kind = row.segmented_control(
        "By", ["stage", "layer", "parameter"], default="stage", required=True, key=GROUPING, bind="query-params",
        disabled=statistic in SPECTRAL, format_func=str.capitalize,
    )  # fmt: skip
    order = row.segmented_control(
        "Sorted by", ["Depth", "Value"], default="Depth", required=True, key=SORTING, bind="query-params"
    )
    layer = row.selectbox("Histogram of", weights.histogram_names, key="histogram_layer", width=260)
    show(bars_chart(model, weights, kind, statistic, order == "Value"), height=460)
    left, right = st.columns(2)
    with left:
        show(norm_chart(model, weights))
    with right:
        show(histogram_chart(model, weights, layer))


@st.fragment
def _path_tab(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    left, right = st.columns([3, 2])
    with left:
        show(path_chart(model, result, inputs, device, state.read_cursor().s))
    with right:
        show(kept_chart(model, result, inputs, device))


@st.fragment
def _blend_tab(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    cursor = state.read_cursor().s
    left, right = st.columns(2)
    with left:
        show(gap_chart(model, result, inputs, device))
    with right:
        show(blend_loss_chart(model, result, inputs, device, cursor))
    lam = st.slider(
        "λ of the pictures; their t is near the cursor of the λ studio", 0.0, 1.0, 0.5, 1 / 8, key="blend_lam"
    )
    show(blend_pictures(model, result, inputs, device, cursor, lam))


@st.fragment
def _regret_tab(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    show(landscape_chart(model, result, inputs, device))
