"""The Parameters page: what lies between θ0 and θ1, whether λ(s) sits in the valley, and what a drawn curve would cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from app import state
from app.components.scrubber import store
from app.components.studio import Measured, StudioLandscape, StudioState, pack_landscape, studio, studio_state
from app.figures.distances import (
    ALONG,
    SPECTRAL,
    STATISTICS,
    along_chart,
    bars_chart,
    histogram_chart,
    singular_values_chart,
)
from app.figures.parameters import headlines, landscape_chart, studio_landscape, studio_lines
from app.figures.paths import blend_loss_chart, blend_pictures, gap_chart, kept_chart, path_chart
from app.records import CurvesRequest, CurvesResult, Inputs, ParametersRequest, ParametersResult, StoredModel
from app.records.curves import Curves, decode, encode
from app.services import cache
from app.views.charts import show
from app.views.inputs import STORED, choose_inputs
from app.views.plain import plain
from app.views.progress import computed

JUDGED_IMAGES, JUDGED_POINTS = 64, 2048
NOISE_DRAWS = 16
"""An upload is judged on so many samples at least: fewer images get several draws of noise each."""

NOTHING_STORED = (
    "Nothing is stored for this model: choose the samples to judge on, and the page is computed (minutes on a CPU)."
)
TO_COME = """What will stand here:
- whether λ(s) is spread out or saturated, and what it loses against the best curve λ*(s), in dB;
- the λ studio: pull the curve and see at once what it costs, over the landscape of noise level and λ;
- distance, angle and norm between θ0 and θ1 by stage, layer and parameter, and what the output makes of them."""
COMPUTED = (
    "Computed here: the landscape multiplies in bfloat16 where the processor does so itself, good to about 0.01 dB; the"
    " lines of Python take float32."
)
DISTANCE_TAB, PATH_TAB, BLEND_TAB, REGRET_TAB = "Distance and angle", "Path", "Two ways to blend", "Regret"
FOLLOW_THE_CURSOR = (DISTANCE_TAB, PATH_TAB, BLEND_TAB)
SAME_CURSOR = 1e-3
"""The URL keeps four digits."""


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    if not model.has_two_sets:
        st.info("This model has one parameter set, so there is no path to look at; choose a model that ends in -dpi.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    result, used = model.parameters, _stored_inputs(model)
    inputs = choose_inputs(
        row,
        model,
        seed,
        key=state.JUDGED_ON,
        count=JUDGED_IMAGES if model.is_image else JUDGED_POINTS,
        upload_least=NOISE_DRAWS,
        stored=None if result is None else f"{used.n} held-out samples (seed {used.seed}), which errors are judged on",
        unstored=NOTHING_STORED,
    )
    if inputs is not None:
        with row:
            request = ParametersRequest(model.key, inputs, device)
            found = computed(request, ParametersResult, "Analysing the parameters", _back(model))
        if found is not None:
            result, used = found, inputs
            row.caption(COMPUTED)
    if result is None:
        st.markdown(TO_COME)
        return
    _headline(model, result, used)
    try:
        landscape = studio_landscape(model, result)
    except ValueError as error:
        st.error(f"The λ studio cannot be drawn: {error}.")
    else:
        _open_studio(model, result, landscape, used, device)
    _details(model, result, used, device)


def _stored_inputs(model: StoredModel) -> Inputs:
    """What the stored results were judged on."""
    return Inputs("held-out", 0 if model.parameters is None else model.parameters.landscape.samples, 0)


def _back(model: StoredModel) -> Callable[[], None]:
    """Chooses the stored results, or nothing where there are none."""

    def back() -> None:
        st.session_state[state.JUDGED_ON] = STORED if model.parameters is not None else None

    return back


def _headline(model: StoredModel, result: ParametersResult, used: Inputs) -> None:
    for column, number in zip(st.columns(4), headlines(model, result, used), strict=True):
        column.metric(number.label, number.value)
        column.caption(number.remark)


def _open_studio(
    model: StoredModel, result: ParametersResult, landscape: StudioLandscape, inputs: Inputs, device: str
) -> None:
    """What the studio needs, handed over outside its fragment, so that the bytes travel once."""
    landscape_hash, pictures = store("landscape", pack_landscape(landscape)), {}
    # The stored pictures have every layer at the same λ.
    if model.sweep is not None and model.pad is not None and len(landscape.groups) == 1:
        pictures = {
            "sweep_hash": store("sweep", cache.packed_sweep(model, model.sweep, None)),
            "pad_hash": store("pad", cache.packed_pad(model, model.pad, None)),
        }
    _studio(model, result, landscape_hash, pictures, inputs, device)


@st.fragment
def _studio(
    model: StoredModel,
    result: ParametersResult,
    landscape_hash: str,
    pictures: dict[str, str],
    inputs: Inputs,
    device: str,
) -> None:
    """The curve editor; only this part runs when the hand lets go."""
    st.markdown("#### λ studio")
    start = state.read_cursor()
    shape = result.landscape.curves.shape
    with st.container():  # one element, with or without a warning
        linked = _linked_curves(shape)
    now = studio_state("studio", landscape_hash, shape, StudioState(start.s, linked))
    _remember(now, start)
    # Progress comes and goes below the studio: what stands above would push it.
    figure, below = st.container(), st.container()
    with below:
        measured = _measured(model, now, inputs, device, shape[0])
    with figure:
        studio("studio", landscape_hash, now, measured=measured, **pictures)
    if abs(now.s - start.s) > SAME_CURSOR and st.session_state.get(state.TABS) in FOLLOW_THE_CURSOR:
        st.rerun()
    left, right = st.columns(2)
    with left.expander("Python that measures this curve"):
        st.code(studio_lines(model, result, inputs, now.curves, device), language="python", wrap_lines=True)
    with right.expander("Link to this screen"):
        st.code(state.link(), language=None, wrap_lines=True)


def _linked_curves(shape: tuple[int, ...]) -> Curves | None:
    """The drawn curves of the link or of the last visit; a damaged link is said to be so, and the learned ones are shown."""
    text = state.recall(state.DRAWN)
    try:
        return None if text is None else decode(text, *shape)
    except ValueError as error:
        st.warning(plain(f"The learned λ is shown: {error}"))
        return None


def _remember(now: StudioState, start: state.Cursor) -> None:
    state.write_cursor(state.Cursor(now.s, start.lam))
    if now.curves is None:
        state.forget(state.DRAWN)
    else:
        state.remember({state.DRAWN: encode(now.curves)})


def _measured(model: StoredModel, now: StudioState, inputs: Inputs, device: str, groups: int) -> Measured | None:
    """The gain of drawn curves where it cannot be looked up: with several groups."""
    if groups == 1 or now.curves is None:
        return None
    request = CurvesRequest(model.key, inputs, now.curves, device)
    found = computed(request, CurvesResult, "Measuring your curves")
    return None if found is None else Measured(now.curves, found.gain, found.total)


def _details(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    st.markdown("#### In detail")
    bodies: dict[str, Callable[[StoredModel, ParametersResult, Inputs, str], None]] = {
        DISTANCE_TAB: _distance_tab,
        PATH_TAB: _path_tab,
        BLEND_TAB: _blend_tab,
        REGRET_TAB: _regret_tab,
    }
    tabs = st.tabs(list(bodies), key=state.TABS, on_change="rerun", bind="query-params")
    for tab, body in zip(tabs, bodies.values(), strict=True):
        if tab.open:
            with tab:
                body(model, result, inputs, device)


@st.fragment
def _distance_tab(model: StoredModel, result: ParametersResult, inputs: Inputs, device: str) -> None:
    weights = result.weights
    row = st.container(horizontal=True, vertical_alignment="bottom")
    statistic = row.selectbox(
        "Statistic", list(STATISTICS), format_func=lambda key: STATISTICS[key][1], index=1, key=state.STATISTIC,
        bind="query-params", width=220,
    )  # fmt: skip
    kind = row.segmented_control(
        "By", ["stage", "layer", "parameter"], default="stage", required=True, key=state.GROUPING, bind="query-params",
        disabled=statistic in SPECTRAL, format_func=str.capitalize,
    )  # fmt: skip
    order = row.segmented_control(
        "Sorted by", ["Depth", "Value"], default="Depth", required=True, key=state.SORTING, bind="query-params"
    )
    show(bars_chart(model, weights, kind, statistic, order == "Value"), height=460)
    lam = float(np.interp(state.read_cursor().s, weights.s, weights.lam))
    left, right = st.columns(2)
    with left:
        quantity = _choose("Along the path", list(ALONG), state.ALONG, lambda key: ALONG[key][1])
        show(along_chart(model, weights, quantity, lam))
    with right:
        weight = _choose("Singular values of", weights.spectrum_names, state.WEIGHT)
        show(singular_values_chart(model, weights, weight, lam))
    layer = _choose("Histogram of", weights.histogram_names, state.HISTOGRAM)
    at = weights.histogram_names.index(layer)
    show(histogram_chart(model, layer, weights.histogram_edges[at], weights.histogram_counts[at]))


def _choose(label: str, options: list[str], key: str, name: Callable[[str], str] = str) -> str:
    chosen = st.selectbox(label, options, key=key, bind="query-params", format_func=name)
    return str(chosen)


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
