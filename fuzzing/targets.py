"""The ways in: config, weights, a whole folder, a state dict, an image, a link, a folder's name, a page."""

from __future__ import annotations

import atexit
import io
import json
import os
import string
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.torch import save as as_safetensors
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import dpi_core
from app import state
from app.figures.trajectories import read_table
from app.records.curves import decode
from app.services import cache as app_cache
from app.services import own_models, stored
from app.services.inference import Engine
from app.services.own_models import Uploads
from app.services.uploads import read_image
from dpi_core import hub
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.reference_format import export_reference, import_reference
from dpi_core.state_dicts import read_state_dict
from fuzzing import material
from fuzzing.target import Target, check_sentence, sentences_allowed

# Checkpoints -----------------------------------------------------------------------------------------------------


def _configs() -> SearchStrategy[tuple[int, bytes]]:
    numbers = range(len(material.RECIPES))
    return st.one_of(*(st.tuples(st.just(i), material.spoilt_json(material.full_recipe(i))) for i in numbers))


def load_config(case: tuple[int, bytes]) -> None:
    """Intact weights, and any config beside them."""
    number, config = case
    folder = material.checkpoints()[number]
    (folder / "config.json").write_bytes(config)
    dpi_core.load(folder)


def load_weights(content: bytes) -> None:
    """An intact config, and any weights beside it."""
    folder = material.scratch() / "weights"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(material.files()["config.json"])
    (folder / "model.safetensors").write_bytes(content)
    dpi_core.load(folder)


@cache
def _uploads() -> Uploads:
    uploads = Uploads()
    atexit.register(uploads.close)
    return uploads


def _folders() -> SearchStrategy[dict[str, bytes]]:
    """One or two files of a checkpoint spoilt, dropped or added."""
    intact = material.files()
    one = st.one_of(
        *(
            st.tuples(st.just(name), material.spoilt_json(json.loads(content)))
            for name, content in intact.items()
            if name.endswith("json")
        ),
        *(
            st.tuples(st.just(name), material.spoilt_tensors(content))
            for name, content in intact.items()
            if name.endswith("safetensors")
        ),
        st.tuples(st.just("README.md"), st.binary(max_size=64)),
        st.tuples(st.text(max_size=12), st.binary(max_size=8)),
        st.tuples(st.sampled_from(list(intact)), st.none()),
    )
    spoilt = st.lists(one, min_size=1, max_size=2)
    return spoilt.map(lambda parts: {k: v for k, v in {**intact, **dict(parts)}.items() if v is not None})


def upload_folder(files: dict[str, bytes]) -> None:
    """What the Models page does with files; an accepted model is read as the pages read it."""
    source = _uploads().receive("fuzzing", files, [])
    try:
        model = stored.read(source)
        stored.read_card(model)
    finally:
        _uploads().remove(source)


# State dicts -----------------------------------------------------------------------------------------------------


@cache
def _reference() -> dict[str, torch.Tensor]:
    net = build_denoiser(recipe_from_dict(material.POINTS)).net
    assert isinstance(net, dpi_core.DPI)
    return export_reference(net)


def _state_dicts() -> SearchStrategy[tuple[str, bytes]]:
    intact = _reference()
    file = io.BytesIO()
    torch.save(intact, file)
    return st.one_of(
        st.tuples(st.just(".pt"), material.spoilt(file.getvalue())),
        st.tuples(st.just(".safetensors"), material.spoilt_tensors(as_safetensors(intact))),
        st.tuples(st.just(".safetensors"), _changes().map(lambda tensors: as_safetensors(tensors))),
        st.tuples(st.just(".pt"), _changes().map(_as_pt)),
    )


def _as_pt(tensors: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def _changes() -> SearchStrategy[dict[str, torch.Tensor]]:
    """The reference's tensors, with some renamed, dropped, or of another shape, type or value."""
    intact = _reference()
    names = st.sampled_from([*intact, "lambda_table.phi", "module.theta", "x_copy", "a.b"])
    types = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
    fills = st.sampled_from([0.0, 1.0, float("nan"), float("inf"), -1e4])
    shapes = st.lists(st.integers(0, 5), max_size=3)
    tensors = st.builds(_filled, shapes, types, fills) | st.none()
    edits = st.lists(st.tuples(names, tensors), min_size=1, max_size=3)
    return edits.map(lambda parts: {k: v for k, v in {**intact, **dict(parts)}.items() if v is not None})


def _filled(shape: list[int], dtype: torch.dtype, value: float) -> torch.Tensor:
    return torch.full(shape, value if dtype.is_floating_point else 1, dtype=dtype)


def import_state_dict(case: tuple[str, bytes]) -> None:
    """What `python -m dpi_core import` does with a file."""
    suffix, content = case
    file = material.scratch() / f"state{suffix}"
    file.write_bytes(content)
    _, report = import_reference(recipe_from_dict(material.POINTS), read_state_dict(file))
    str(report)


# Images ----------------------------------------------------------------------------------------------------------


def _pictures() -> SearchStrategy[tuple[bytes, tuple[int, int, int]]]:
    contents = st.sampled_from(range(len(material.pictures()))).flatmap(
        lambda i: material.spoilt(material.pictures()[i])
    )
    return st.tuples(contents, st.sampled_from([(1, 28, 28), (3, 16, 24), (1, 1, 1)]))


def read_picture(case: tuple[bytes, tuple[int, int, int]]) -> None:
    """Any file as an image of one's own; what is taken is in range and shape."""
    content, shape = case
    pixels = read_image(content, shape)
    assert pixels.shape == shape and abs(pixels).max() <= 1


# Links -----------------------------------------------------------------------------------------------------------

KEYS = (
    *(state.MODEL, state.INPUTS, state.SEED, state.DEVICE, state.T, state.LAM, state.BESIDE, state.SEARCH),
    *(state.RUNS, state.START, state.FIRST, state.SECOND, state.REFERENCE, state.PLANE, state.QUALITY, state.DRAWN),
    *(state.JUDGED_ON, state.TABS, state.STATISTIC, state.GROUPING, state.SORTING, state.ALONG, state.WEIGHT),
    *(state.HISTOGRAM, state.COMPARED_ON, state.SWEEP, state.AGAINST, state.MEASURE, state.LAYER, state.HEAT),
    *(state.ROWS, state.SAMPLE, state.SHOWN, state.LESSON, state.STEP, state.ANSWER, state.PRESENT, state.DONE),
    *(
        state.run_key(setting, run)
        for setting in (state.RUN_MODEL, state.SAMPLER, state.STEPS, state.GRID, state.RUN_LAM, state.FROZEN_AT, state.TABLE)
        for run in (0, 1)
    ),
    *("layers_on", "layers_tab", "layers_by_pinning", "layers_by_attribution", "pixel_row", "pixel_column", "runs_shown"),
)  # fmt: skip
"""The parameters of a URL."""

NUMBERS = st.sampled_from(
    ["", "0", "1", "-1", "0.5", "1e400", "nan", "inf", "-0.0", "1_0", "٣", "²", "9" * 30, "9" * 5000, "0x10", "1e-400"]
)
WORDS = st.sampled_from(
    ["digits-vp-dpi", "Upload", "Stored", "true", "layers", "<b>x</b>", "../..", "%00", "a" * 3000, "\x00"]
)
VALUES = st.one_of(
    NUMBERS,
    WORDS,
    st.text(max_size=12),
    st.text(string.ascii_letters + string.digits + "-_.,:", max_size=40),
    st.lists(st.tuples(NUMBERS, NUMBERS).map(":".join), max_size=3).map(",".join),
    st.lists(NUMBERS, max_size=4).map(" ".join),
)
LINKS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8)
VIEWS = ("denoise", "parameters", "layers", "trajectories", "compare", "models", "runs", "learn")


def read_link(query: dict[str, str]) -> None:
    """The parts of a URL that the app reads itself; what cannot be read counts as absent, or is said to be damaged."""
    cursor, place = state.cursor_of(query), state.place_of(query)
    assert cursor is None or (0 <= cursor.s <= 1 and (cursor.lam is None or 0 <= cursor.lam <= 1))
    assert place.step >= 1 and all(guess is None or abs(guess) < float("inf") for guess in place.answers.values())
    assert state.place_of(state.place_query(place)).step == (place.step if place.lesson else 1)
    for text in query.values():
        with sentences_allowed():
            assert all(0 <= lam <= 1 for curve in decode(text, 2, 9) for lam in curve)
        with sentences_allowed():
            assert all(0 <= lam <= 1 for lam in read_table(text))


def open_address(text: str) -> None:
    """Names typed on the Models page: a repository, which is not fetched, and a folder below the operator's root."""
    with sentences_allowed():
        hub.parse(f"{hub.SCHEME}{text}")
    root = material.scratch() / "root"
    root.mkdir(exist_ok=True)
    with patch.dict(os.environ, DPI_ROOTS=str(root)):
        own_models.from_folder(text, [])


# Pages -----------------------------------------------------------------------------------------------------------


def open_page(case: tuple[str, dict[str, str]]) -> None:
    """A page of the app as a link opens it; the queue of its engine is full, so nothing is computed."""
    view, query = case
    app = AppTest.from_file(str(stored.CHECKPOINTS.parent / "app" / "main.py"), default_timeout=60)
    app._page_hash = "" if view == "denoise" else calc_hash(view)  # as the browser asks for a page
    for key, value in query.items():
        app.query_params[key] = value
    with patch.object(app_cache, "engine", _busy_engine):
        app.run()
    assert not app.exception, (app.exception[0].message, app.exception[0].stack_trace)
    for said in (*app.error, *app.warning):
        check_sentence(said.value)


@cache
def _busy_engine() -> Engine:
    return Engine(most_waiting=0)


# -----------------------------------------------------------------------------------------------------------------


def targets() -> dict[str, Target]:
    """All targets by name."""
    found = (
        Target("config", _configs(), load_config, 0.2),
        Target("weights", material.spoilt_tensors(material.files()["model.safetensors"]), load_weights, 0.2),
        Target("folder", _folders(), upload_folder, 0.1),
        Target("state_dict", _state_dicts(), import_state_dict, 0.1),
        Target("image", _pictures(), read_picture, 0.2, megabytes=600),
        Target("link", LINKS, read_link, 0.1),
        Target("address", st.text(max_size=40) | VALUES, open_address, 0.095),
        Target("page", st.tuples(st.sampled_from(VIEWS), LINKS), open_page, 0.005),
    )
    return {target.name: target for target in found}
