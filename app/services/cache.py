"""The only `st.cache_*` calls: handles that all sessions share and nobody changes."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from app import state
from app.components.player import pack_plane, pack_run
from app.components.scrubber import pack
from app.figures.denoise import Second, pad_figure, sweep_figure
from app.figures.trajectories import plane_figure, run_figure
from app.records import (
    PadResult,
    PlaneResult,
    Request,
    Source,
    StoredModel,
    SweepResult,
    TrajectoryRequest,
    TrajectoryResult,
)
from app.services import cluster, stored
from app.services.bounded import BoundedCache
from app.services.inference import CACHE_BYTES, Engine
from app.services.own_models import Uploads

RESULTS_PER_PICTURE = 4
"""By how much results may take more room than pictures of them, as browsers take them, which hold bytes for floats."""
OWN_PICTURES_BYTES = 32 * 2**20
"""What is kept of pictures of what one session has brought itself."""


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """The one owner of the models; `--engine` or DPI_ENGINE has another machine compute."""
    engine = Engine(cache_bytes=_cache_bytes(), computers=cluster.chosen())
    atexit.register(engine.close)
    return engine


def _cache_bytes() -> int:
    """What results are kept in: DPI_CACHE_BYTES, or the engine's own bound.

    Raises:
        ValueError: it is no whole number.
    """
    text = os.environ.get("DPI_CACHE_BYTES", "")
    if text and not text.isdecimal():
        raise ValueError(f"DPI_CACHE_BYTES is {text!r}, but has to be a whole number of bytes, for example 536870912.")
    return int(text) if text else CACHE_BYTES


@st.cache_resource(show_spinner=False)
def uploads() -> Uploads:
    """The one keeper of uploaded files."""
    uploads = Uploads(deleted=engine().forget_models)
    atexit.register(uploads.close)
    return uploads


def sources() -> list[Source]:
    """Every model that this session may look at: those that come with the app, then its own that are still there."""
    return [*stored.zoo(), *(own for own in state.own_models() if (own.folder / "config.json").is_file())]


def readable(chosen: Iterable[Source]) -> list[StoredModel]:
    """The models of some sources; a damaged one is left out until it is chosen itself."""
    found = []
    for source in chosen:
        with suppress(ValueError):
            found.append(_read(source))
    return found


def model(name: str) -> StoredModel:
    """What a checkpoint stores beside its weights; read again when its files change.

    Raises:
        ValueError: this session has no such model, or it is damaged.
    """
    return _read(stored.find(name, sources()))


def models_of_family(model: StoredModel) -> list[StoredModel]:
    """All checkpoints trained on the same data and process; one's own may only be named so, and are left out by their shape."""
    named = readable(source for source in sources() if source.family == model.family)
    return [each for each in named if each.recipe["shape"] == model.recipe["shape"]]


def packed_sweep(
    model: StoredModel, result: SweepResult, source: Request | None, second: Second | None = None
) -> bytes:
    """The bytes of a sweep for the browser, with a second model's beside it; `source` is None for the stored frames."""
    family = models_of_family(model)
    written = tuple((card.key, _times(card)) for card in family)
    beside = () if second is None else (second[0].name, second[0].key)
    shown = family if second is None else [*family, second[0]]
    key = ("sweep", model.key, written, source, beside)
    return _packed(_is_private(source, *shown), key, lambda: pack(sweep_figure(model, family, result, second)))


def packed_pad(model: StoredModel, result: PadResult, source: Request | None) -> bytes:
    """The bytes of a pad for the browser; `source` is None for the stored frames."""
    key = ("pad", model.key, _times(model), source)
    return _packed(_is_private(source, model), key, lambda: pack(pad_figure(model, result)))


def packed_run(name: str, request: TrajectoryRequest, result: TrajectoryResult) -> bytes:
    """The bytes of a sampling run for the browser; those of one that goes on are soon of no use to anybody."""
    if not result.ended:
        return pack_run(run_figure(name, result))
    is_private = Path(request.model.folder).parent != stored.CHECKPOINTS
    return _packed(is_private, ("run", name, request, result.error), lambda: pack_run(run_figure(name, result)))


def packed_plane(plane: PlaneResult, runs: Sequence[TrajectoryResult]) -> bytes:
    """The bytes of the plane that runs of images are shown in."""
    return pack_plane(plane_figure(plane, runs))


def sources_of_data(model: StoredModel) -> list[Source]:
    """Other checkpoints that may be shown the same samples, unread: trained on the same data, or one's own."""
    return [each for each in sources() if each.name != model.name and _may_be_compared(each, model.source)]


def sources_with_two_sets(model: StoredModel) -> list[Source]:
    """Other checkpoints with a λ, unread: of those that come with the app by their name, and all of one's own."""
    others = (each for each in sources() if each.name != model.name)
    return [each for each in others if each.origin != "zoo" or each.recipe_name.endswith("-dpi")]


def models_of_data(model: StoredModel) -> list[StoredModel]:
    """All checkpoints that can be shown the same samples, the given one first."""
    others = readable(sources_of_data(model))
    return [model, *(each for each in others if each.recipe["shape"] == model.recipe["shape"])]


def sweeps_of_family(family: str) -> dict[str, dict[str, Any]]:
    """Scores of the sweeps of a family, by name; read again when a file changes.

    Raises:
        ValueError: a file is damaged.
    """
    names = stored.sweep_names(family)
    return {name: _sweep(name, (stored.RESULTS / name / "metrics.json").stat().st_mtime_ns) for name in names}


@st.cache_resource(max_entries=32, show_spinner=False)
def _sweep(name: str, time: int) -> dict[str, Any]:
    return stored.read_sweep(name)


def _may_be_compared(one: Source, other: Source) -> bool:
    return one.data == other.data or one.origin != "zoo" or other.origin != "zoo"


def _read(source: Source) -> StoredModel:
    read_it = _model if source.origin == "zoo" else _own_model
    return read_it(source, stored.modification_times(source.folder))


def _times(model: StoredModel) -> tuple[int, ...]:
    return stored.modification_times(Path(model.key.folder))


def _read_stored(source: Source, times: tuple[int, ...]) -> StoredModel:
    return stored.read(source)


_model = st.cache_resource(max_entries=64, show_spinner=False, hash_funcs={Source: hash})(_read_stored)
_own_model = st.cache_resource(max_entries=16, show_spinner=False, hash_funcs={Source: hash}, scope="session")(
    _read_stored
)


def _is_private(source: Request | None, *models: StoredModel) -> bool:
    """Whether pictures show what a reader has brought, images or models: they end with the session."""
    has_own_images = source is not None and source.inputs.upload is not None
    return has_own_images or any(model.source.origin != "zoo" for model in models)


def _packed(is_private: bool, key: tuple, make: Callable[[], bytes]) -> bytes:
    """Bytes for the browser that were made before, or are now; `key` names everything that they depend on."""
    kept = _own_pictures() if is_private else _pictures()
    found = kept.find(key)
    if found is None:
        found = make()
        kept.keep(key, found)
    return found


@st.cache_resource(show_spinner=False)
def _pictures() -> BoundedCache[tuple, bytes]:
    return BoundedCache(_cache_bytes() // RESULTS_PER_PICTURE, len)


@st.cache_resource(show_spinner=False, scope="session")
def _own_pictures() -> BoundedCache[tuple, bytes]:
    return BoundedCache(OWN_PICTURES_BYTES, len)
