"""The Layers page: which layers change along s, which of them need a second parameter set, and what each one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import state
from app.components.layers import (
    ORDERS,
    SHOWN,
    LayersState,
    last_state,
    layers,
    pack_detail,
    pack_table,
)
from app.components.scrubber import store
from app.figures.attribution import attribution_chart, completeness_chart
from app.figures.distances import histogram_chart
from app.figures.layers import (
    SAMPLES_TO_CHOOSE,
    detail_lines,
    enough_in_words,
    layer_detail,
    layer_table,
    statistics,
    table_lines,
)
from app.figures.offline import Origin, layers_page
from app.figures.one_layer import HEIGHT, cka_chart, spectrum_chart
from app.figures.pinning import kept_layers_chart, pins_chart
from app.figures.receptive_field import fields_chart, radius_chart
from app.figures.reproduce import stored_inputs
from app.records import (
    InputKind,
    Inputs,
    LayerDetailRequest,
    LayerDetailResult,
    LayersRequest,
    LayersResult,
    ReceptiveFieldRequest,
    ReceptiveFieldResult,
    StoredModel,
)
from app.services.reproduction import about
from app.views.charts import show
from app.views.folded import folded_lines
from app.views.numbers import whole_number
from app.views.offline import offer_page
from app.views.own_images import choose_upload
from app.views.plain import plain
from app.views.progress import computed

JUDGED_IMAGES, JUDGED_POINTS = 64, 512
FEWEST_JUDGED = 16
"""An upload of several images is judged on so many samples at least: fewer images get several draws of noise each."""

ONE_IMAGE = (
    "One image says nothing about averages: the table stays as stored, the activations are your image's; of several images"
    " all is computed."
)
STORED, UPLOAD = "Stored", "Upload"
TABLE_LINES = "Python that computes this table"
NOTHING_STORED = (
    "Nothing is stored for this model: choose the samples to judge on, and the page is computed (minutes on a CPU)."
)
TO_COME = """What will stand here:
- the layers as an outline, each with a strip over s: change of its output, CKA, loss when pinned, attribution, derivative;
- one layer's weights and output, followed along s;
- how many layers need a second parameter set, and which."""
ONE_SET = (
    "This model has one parameter set, so no layer can be pinned and nothing is attributed to λ: choose a model that ends"
    " in -dpi for that; weights, activations and their similarity along s are here."
)
PINNING_TAB, ATTRIBUTION_TAB, FIELD_TAB = "Pinning", "Attribution", "Receptive field"
INPUTS, TABS, SORTING = "layers_on", "layers_tab", "layers_by"
VIEW = "layers view"
NAMED = 3
"""Layers that the sentence at the top names."""
FIELD_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Shown:
    """What the page shows.

    Attributes:
        model: on show.
        result: of all its layers.
        judged: the samples behind it.
        inputs: those that activations are of.
        device: that computes.
    """

    model: StoredModel
    result: LayersResult
    judged: Inputs
    inputs: Inputs
    device: str


def page(model: StoredModel, seed: int, device: str) -> None:
    """Draws the page for one model."""
    row = st.container(horizontal=True, vertical_alignment="center")
    inputs = _choose_inputs(row, model, seed)
    result, judged = model.layers, _stored_judges(model)
    own = inputs is not None and inputs.kind == "upload" and inputs.n == 1
    if inputs is not None and not own:
        with row:
            request = LayersRequest(model.key, inputs, device)
            found = computed(request, LayersResult, "Analysing the layers", _back(model))
        if found is not None:
            result, judged = found, inputs
    if result is None:
        st.markdown(TO_COME)
        return
    if not model.has_two_sets:
        st.info(ONE_SET)
    elif sentence := enough_in_words(result, NAMED):
        st.markdown(sentence)
    if inputs is None or (result is model.layers and not own):
        inputs = stored_inputs(model)
    shown = Shown(model, result, judged, inputs, device)
    # Outside the fragment, so that the bytes travel once.
    table = pack_table(layer_table(model, result, inputs == stored_inputs(model), inputs.n))
    _layers(shown, store("layers", table), table)
    if model.has_two_sets or model.is_image:
        _network(shown)


def _choose_inputs(row: DeltaGenerator, model: StoredModel, seed: int) -> Inputs | None:
    """The samples to look at, or None for what is stored."""
    has_stored = model.layers is not None
    kinds = ["Held-out", *(["Digits", "Photos"] if model.is_image else [])]
    kinds += ["Samples"] if model.is_generative else []
    options = [*([STORED] if has_stored else []), *kinds, *([UPLOAD] if model.is_image else [])]
    chosen = row.segmented_control(
        "Judged on",
        options,
        default=STORED if has_stored else None,
        required=has_stored,
        key=INPUTS,
        bind="query-params",
        label_visibility="collapsed",
    )
    if chosen == UPLOAD:
        images = choose_upload(model)
        if images is None or images.count == 1:
            row.caption(ONE_IMAGE if has_stored else f"{ONE_IMAGE} Nothing is stored for this model: choose several.")
            return None if images is None else Inputs("upload", 1, seed, images)
        inputs = Inputs.of_upload(images, seed, least=FEWEST_JUDGED, most=JUDGED_IMAGES)
        row.caption(f"Judged on {inputs.upload_in_words}.")
        return inputs
    if chosen is None or chosen == STORED:
        row.caption(_judged_in_words(model) if has_stored else NOTHING_STORED)
        return None
    return Inputs(cast(InputKind, chosen.lower()), JUDGED_IMAGES if model.is_image else JUDGED_POINTS, seed)


def _stored_judges(model: StoredModel) -> Inputs:
    """What the stored results were judged on."""
    counts = [0] if model.layers is None else model.layers.samples.values()
    return Inputs("held-out", max(counts), 0)


def _judged_in_words(model: StoredModel) -> str:
    assert model.layers is not None
    counts = sorted({count for count in model.layers.samples.values() if count})
    samples = " to ".join(str(count) for count in (counts[0], counts[-1])[: len(counts)])
    return f"Judged on {samples} held-out samples (seed {model.layers.seed})."


def _back(model: StoredModel) -> Callable[[], None]:
    """Chooses the stored results, or nothing where there are none."""

    def back() -> None:
        st.session_state[INPUTS] = STORED if model.layers is not None else None

    return back


# All layers and one of them --------------------------------------------------------------------------------------


@st.fragment
def _layers(shown: Shown, table: str, packed: bytes) -> None:
    """The table, the selected layer beside it and its figures; only this part runs when the hand lets go."""
    with st.container():  # one element, with or without a warning
        _name_what_is_missing(shown)
    start = _start(shown)
    now = last_state(VIEW, table) or start
    carried, view, below = st.container(), st.container(), st.container()
    with below:
        detail = _detail(shown, now)
    with carried:
        content = None if detail is None else pack_detail(layer_detail(shown.model, detail, now.sample))
        detail_hash = None if content is None else store("layer", content)
    with view:
        now = layers(VIEW, table, start=start, detail_hash=detail_hash)
    _remember(now)
    moved, tab = state.has_moved(start.s, now.s), st.session_state.get(TABS)
    if moved and tab in (ATTRIBUTION_TAB, FIELD_TAB) or now.sample != start.sample and tab == FIELD_TAB:
        st.rerun()
    with below:
        lines = _lines(shown, detail, now)
        for column, (title, text) in zip(st.columns(2), lines.items(), strict=False):
            inputs = shown.judged if title == TABLE_LINES else shown.inputs
            made_of = ([shown.model], inputs, shown.device)
            folded_lines(column, title, text, f"layers {title}", made_of, wrap=True)
        _offer_page(shown, now, (packed, content), detail, lines)
        if detail is not None:
            _one_layer(shown, detail, now.s)


def _lines(shown: Shown, detail: LayerDetailResult | None, now: LayersState) -> dict[str, str]:
    """Title -> Python behind the table and behind the layer beside it."""
    judged = (shown.model, shown.result, shown.judged, shown.device)
    found = {TABLE_LINES: table_lines(*judged, now.statistic)}
    if detail is not None:
        lines = detail_lines(shown.model, detail, shown.inputs, shown.device, now.sample, now.s)
        found["Python behind the pictures of the layer"] = lines
    return found


def _offer_page(
    shown: Shown,
    now: LayersState,
    blobs: tuple[bytes, bytes | None],
    detail: LayerDetailResult | None,
    lines: dict[str, str],
) -> None:
    """The page as a file: the table, the selected layer, and the figures of pinning and attribution."""
    origin = Origin(shown.model, about(shown.model, shown.judged.seed, shown.device), lines)
    sentence = enough_in_words(shown.result, NAMED) if shown.model.has_two_sets else ONE_SET
    offer_page(
        "layers",
        lambda: layers_page(origin, shown.result, shown.judged, shown.device, now, blobs, detail, sentence),
        shown.model,
    )


def _name_what_is_missing(shown: Shown) -> None:
    """Says so where a link asks for a layer that this model does not have."""
    asked = state.recall(state.LAYER)
    if asked not in shown.result.names and state.is_from_link(state.LAYER):
        st.warning(
            plain(
                f"There is no layer {asked!r} in {shown.model.name}, so {shown.result.most} is shown: choose a row of the table."
            )
        )


def _detail(shown: Shown, now: LayersState) -> LayerDetailResult | None:
    """The selected layer: as stored where it is the one that the page opens on, else from the engine."""
    stored = shown.model.layer
    if (
        stored is not None
        and (now.layer, now.sample) == (stored.layer, 0)
        and shown.inputs == stored_inputs(shown.model)
    ):
        return stored
    request = LayerDetailRequest(shown.model.key, shown.inputs, now.layer, shown.device, now.sample)
    return computed(request, LayerDetailResult, "Looking into the layer")


def _start(shown: Shown) -> LayersState:
    """What the link asks for, as far as this model has it."""
    keys = [each.key for each in statistics(shown.result)]
    fitting = {
        state.LAYER: (shown.result.names, shown.result.most),
        state.HEAT: (keys, "pin_mean" if "pin_mean" in keys else keys[0]),
        state.ROWS: (ORDERS, ORDERS[0]),
        state.SHOWN: (SHOWN, SHOWN[0]),
        state.SAMPLE: ([str(i) for i in range(min(shown.inputs.n, SAMPLES_TO_CHOOSE))], "0"),
    }
    asked = {key: state.recall(key) for key in fitting}
    chosen = {key: asked[key] if asked[key] in known else default for key, (known, default) in fitting.items()}
    return LayersState(
        state.read_cursor().s,
        str(chosen[state.LAYER]),
        str(chosen[state.HEAT]),
        str(chosen[state.ROWS]),
        int(str(chosen[state.SAMPLE])),
        str(chosen[state.SHOWN]),
    )


def _remember(now: LayersState) -> None:
    """Puts what is chosen into the link."""
    state.write_cursor(state.Cursor(now.s, state.read_cursor().lam))
    state.remember(
        {
            state.LAYER: now.layer,
            state.HEAT: now.statistic,
            state.ROWS: now.order,
            state.SAMPLE: str(now.sample),
            state.SHOWN: now.shown,
        }
    )


def _one_layer(shown: Shown, detail: LayerDetailResult, s: float) -> None:
    """What does not follow the hand: histogram, spectrum, CKA of the layer."""
    st.markdown(f"#### Layer {detail.layer}")
    entries = (detail.layer, detail.histogram_edges, detail.histogram_counts)
    charts = [
        histogram_chart(shown.model, *entries, HEIGHT) if shown.model.has_two_sets else None,
        spectrum_chart(shown.model, detail),
        cka_chart(shown.model, shown.result, detail.layer, shown.judged, shown.device, s),
    ]
    present = [chart for chart in charts if chart is not None]
    for column, chart in zip(st.columns(len(present)), present, strict=True):
        with column:
            show(chart)


# The whole network -----------------------------------------------------------------------------------------------


def _network(shown: Shown) -> None:
    st.markdown("#### The network")
    bodies: dict[str, Callable[[Shown], None]] = {}
    if shown.model.has_two_sets:
        bodies |= {PINNING_TAB: _pinning_tab, ATTRIBUTION_TAB: _attribution_tab}
    if shown.model.is_image:
        bodies[FIELD_TAB] = _field_tab
    tabs = st.tabs(list(bodies), key=TABS, on_change="rerun", bind="query-params")
    for tab, body in zip(tabs, bodies.values(), strict=True):
        if tab.open:
            with tab:
                body(shown)


@st.fragment
def _pinning_tab(shown: Shown) -> None:
    by_value = _by_value("pins")
    left, right = st.columns(2)
    about = (shown.model, shown.result, shown.judged, shown.device)
    with left:
        show(kept_layers_chart(*about))
        st.markdown(enough_in_words(shown.result, len(shown.result.names)))
    with right:
        show(pins_chart(*about, by_value=by_value), height=460)


@st.fragment
def _attribution_tab(shown: Shown) -> None:
    by_value = _by_value("attribution")
    left, right = st.columns(2)
    about = (shown.model, shown.result, shown.judged, shown.device, state.read_cursor().s)
    with left:
        show(attribution_chart(*about, by_value=by_value), height=460)
    with right:
        show(completeness_chart(*about))


def _by_value(name: str) -> bool:
    order = st.segmented_control(
        "Layers by", ["Value", "Depth"], default="Value", required=True, key=f"{SORTING}_{name}", bind="query-params"
    )
    return order == "Value"


@st.fragment
def _field_tab(shown: Shown) -> None:
    height, width = shown.model.recipe["shape"][1:]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    y, x = (
        whole_number(row, f"{name} of the pixel", 0, size - 1, size // 2, f"pixel_{name.lower()}")
        for name, size in (("Row", height), ("Column", width))
    )  # fmt: skip
    sample = int(state.recall(state.SAMPLE) or 0)
    request = ReceptiveFieldRequest(
        shown.model.key, shown.inputs, y, x, FIELD_LEVELS, shown.device, min(sample, shown.inputs.n - 1)
    )
    result = computed(request, ReceptiveFieldResult, "Tracing the pixel")
    if result is None:
        return
    left, right = st.columns([3, 2])
    with left:
        show(fields_chart(shown.model, result, request))
    with right:
        show(radius_chart(shown.model, result, request, state.read_cursor().s))
