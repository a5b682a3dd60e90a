"""The Parameters page: what lies between θ0 and θ1, whether λ(s) sits in the valley, and what a drawn curve would cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import streamlit as st

from app import state
from app.components.scrubber import blob_hash, store
from app.components.studio import Measured, StudioLandscape, StudioState, pack_landscape, studio, studio_state
from app.figures.beside import Beside, judged_alike, second_headlines, what_compares
from app.figures.distances import (
    ALONG,
    SPECTRAL,
    STATISTICS,
    histogram_chart,
    singular_values_chart,
)
from app.figures.offline import Origin, parameters_page
from app.figures.pairs import Shown, along, bars, judged, path
from app.figures.parameters import Headline, headlines, landscape_chart, studio_landscape, studio_lines
from app.figures.paths import blend_loss_chart, blend_pictures, gap_chart, kept_chart
from app.records import CurvesRequest, CurvesResult, Inputs, ParametersRequest, ParametersResult, StoredModel
from app.records.curves import Curves, decode, encode
from app.services import cache
from app.services.reproduction import about
from app.views.charts import show
from app.views.folded import folded_lines, folded_link
from app.views.inputs import STORED, choose_inputs
from app.views.offline import offer_page
from app.views.plain import plain
from app.views.progress import computed
from app.views.second_model import choose_second

JUDGED_IMAGES, JUDGED_POINTS = 64, 2048
NOISE_DRAWS = 16
"""An upload is judged on so many samples at least: fewer images get several draws of noise each."""

NOTHING_STORED = (
    "Nothing is stored for this model: choose the samples to judge on, and the page is computed (minutes on a CPU)."
)
PICTURES = ("sweep", "pad")
"""What the studio shows its pictures from, as `store` names it."""

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

AHEAD = 0.12
"""Seconds by which the studio comes before the rest of the page: a browser draws in one go what comes together."""


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    if not model.has_two_sets:
        st.info("This model has one parameter set, so there is no path to look at; choose a model that ends in -dpi.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    other = _choose_second(model)
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
    beside = None
    if other is not None and (inputs is None or inputs == used):
        with row:
            beside = _second(model, other, used, inputs is None, device)
    shown = Shown(model, result, used, device, beside)
    _headline(shown)
    try:
        landscape = studio_landscape(model, result)
    except ValueError as error:
        st.error(f"The λ studio cannot be drawn: {error}.")
    else:
        _open_studio(shown, landscape)
    _details(shown)


def _stored_inputs(model: StoredModel) -> Inputs:
    """What the stored results were judged on."""
    return Inputs("held-out", 0 if model.parameters is None else model.parameters.landscape.samples, 0)


def _back(model: StoredModel) -> Callable[[], None]:
    """Chooses the stored results, or nothing where there are none."""

    def back() -> None:
        st.session_state[state.JUDGED_ON] = STORED if model.parameters is not None else None

    return back


def _choose_second(model: StoredModel) -> StoredModel | None:
    """Another model with two parameter sets, of any data: λ and the distance of the sets compare everywhere."""
    other = choose_second(
        cache.sources_with_two_sets(model), "Its λ(s), paths and numbers beside these, under the same cursor."
    )
    if other is not None and not other.has_two_sets:
        st.sidebar.caption(f"{plain(other.name)} has one parameter set, so there is no path to compare.")
        return None
    return other


def _second(model: StoredModel, other: StoredModel, used: Inputs, is_stored: bool, device: str) -> Beside | None:
    """The second model's numbers: on the same samples where it takes such, else those that are stored with it."""
    takes_them = other.recipe["shape"] == model.recipe["shape"]
    if other.parameters is not None and (is_stored or not takes_them):
        return Beside(other, other.parameters, _stored_inputs(other), is_stored and judged_alike(model, other))
    if not takes_them:
        st.caption(f"Nothing is stored for {plain(other.name)}, which takes other samples; open it by itself first.")
        return None
    request = ParametersRequest(other.key, replace(used, of=model.key), device)
    found = computed(request, ParametersResult, f"{other.name} on the same samples")
    return None if found is None else Beside(other, found, used, True)


def _headline(shown: Shown) -> None:
    numbers = headlines(shown.model, shown.result, shown.inputs)
    if shown.beside is None:
        _numbers(numbers)
        return
    st.markdown(f"**{plain(shown.model.name)}**")
    _numbers(numbers)
    st.markdown(f"**{plain(shown.beside.model.name)}**")
    _numbers(second_headlines(shown.beside))
    st.caption(plain(what_compares(shown.beside)))


def _numbers(numbers: Sequence[Headline]) -> None:
    for column, number in zip(st.columns(4), numbers, strict=True):
        column.metric(number.label, number.value)
        column.caption(number.remark)


def _open_studio(shown: Shown, landscape: StudioLandscape) -> None:
    """What the studio needs, handed over outside its fragment, so that the bytes travel once."""
    landscape_hash, pictures, model = store("landscape", pack_landscape(landscape)), None, shown.model
    hashes = {}
    # The stored pictures have every layer at the same λ.
    if model.sweep is not None and model.pad is not None and len(landscape.groups) == 1:
        pictures = (cache.packed_sweep(model, model.sweep, None), cache.packed_pad(model, model.pad, None))
        hashes = {f"{name}_hash": blob_hash(blob) for name, blob in zip(PICTURES, pictures, strict=True)}
    _studio(shown, landscape_hash, hashes, pictures)
    # The studio is on show before its pictures, the most of what is sent, and the rest of the page have come.
    time.sleep(AHEAD)
    for name, blob in zip(PICTURES, pictures or (), strict=False):
        store(name, blob)


@st.fragment
def _studio(shown: Shown, landscape_hash: str, hashes: dict[str, str], pictures: tuple[bytes, bytes] | None) -> None:
    """The curve editor; only this part runs when the hand lets go."""
    st.markdown("#### λ studio")
    start, plane = state.read_cursor(), shown.result.landscape
    shape = plane.curves.shape
    with st.container():  # one element, with or without a warning
        linked = _linked_curves(shape)
    now = studio_state("studio", landscape_hash, shape, StudioState(start.s, linked))
    _remember(now, start)
    # Progress comes and goes below the studio: what stands above would push it.
    figure, below = st.container(), st.container()
    with below:
        measured = _measured(shown, now, shape[0])
    curve = None if shown.beside is None else shown.beside.curve(plane.s)
    with figure:
        studio("studio", landscape_hash, now, measured=measured, beside=curve, **hashes)
    if state.has_moved(start.s, now.s) and st.session_state.get(state.TABS) in FOLLOW_THE_CURSOR:
        st.rerun()
    left, right = st.columns(2)
    lines = studio_lines(shown.model, shown.result, shown.inputs, now.curves, shown.device)
    made_of = ([shown.model], shown.inputs, shown.device)
    folded_lines(left, "Python that measures this curve", lines, "studio lines", made_of, wrap=True)
    folded_link(right)
    _offer_page(shown, now, measured, pictures)


def _offer_page(
    shown: Shown, now: StudioState, measured: Measured | None, pictures: tuple[bytes, bytes] | None
) -> None:
    """The page as a file: the studio as it stands, and the figures of all tabs."""
    origin = Origin(shown.model, about(shown.model, shown.inputs.seed, shown.device), {})
    quantity = st.session_state.get(state.ALONG) or "norm"
    statistic = st.session_state.get(state.STATISTIC) or "relative"
    offer_page(
        "parameters",
        lambda: parameters_page(origin, shown, now, measured, quantity, statistic, pictures),
        shown.model,
    )


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


def _measured(shown: Shown, now: StudioState, groups: int) -> Measured | None:
    """The gain of drawn curves where it cannot be looked up: with several groups."""
    if groups == 1 or now.curves is None:
        return None
    request = CurvesRequest(shown.model.key, shown.inputs, now.curves, shown.device)
    found = computed(request, CurvesResult, "Measuring your curves")
    return None if found is None else Measured(now.curves, found.gain, found.total)


# In detail --------------------------------------------------------------------------------------------------------


def _details(shown: Shown) -> None:
    st.markdown("#### In detail")
    bodies: dict[str, Callable[[Shown], None]] = {
        DISTANCE_TAB: _distance_tab,
        PATH_TAB: _path_tab,
        BLEND_TAB: _blend_tab,
        REGRET_TAB: _regret_tab,
    }
    tabs = st.tabs(list(bodies), key=state.TABS, on_change="rerun", bind="query-params")
    for tab, body in zip(tabs, bodies.values(), strict=True):
        if tab.open:
            with tab:
                body(shown)


@st.fragment
def _distance_tab(shown: Shown) -> None:
    model, weights, cursor = shown.model, shown.result.weights, state.read_cursor().s
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
    show(bars(shown, str(kind), statistic, order == "Value"), height=460)
    left, right = st.columns(2)
    with left:
        quantity = _choose("Along the path", list(ALONG), state.ALONG, lambda key: ALONG[key][1])
        show(along(shown, quantity, cursor))
    with right:
        weight = _choose("Singular values of", weights.spectrum_names, state.WEIGHT)
        show(singular_values_chart(model, weights, weight, shown.lam_at(cursor)))
    layer = _choose("Histogram of", weights.histogram_names, state.HISTOGRAM)
    at = weights.histogram_names.index(layer)
    show(histogram_chart(model, layer, weights.histogram_edges[at], weights.histogram_counts[at]))


def _choose(label: str, options: list[str], key: str, name: Callable[[str], str] = str) -> str:
    chosen = st.selectbox(label, options, key=key, bind="query-params", format_func=name)
    return str(chosen)


@st.fragment
def _path_tab(shown: Shown) -> None:
    left, right = st.columns([3, 2])
    with left:
        show(path(shown, state.read_cursor().s))
    with right:
        show(judged(shown, kept_chart))


@st.fragment
def _blend_tab(shown: Shown) -> None:
    cursor = state.read_cursor().s
    left, right = st.columns(2)
    with left:
        show(judged(shown, gap_chart))
    with right:
        show(judged(shown, blend_loss_chart, cursor))
    lam = st.slider(
        "λ of the pictures; their t is near the cursor of the λ studio", 0.0, 1.0, 0.5, 1 / 8, key="blend_lam"
    )
    show(blend_pictures(shown.model, shown.result, shown.inputs, shown.device, cursor, lam))


@st.fragment
def _regret_tab(shown: Shown) -> None:
    show(judged(shown, landscape_chart))
