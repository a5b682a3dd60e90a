"""The only `st.cache_*` calls: handles that all sessions share and nobody changes."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import streamlit as st

from app.components.player import pack_plane, pack_run
from app.components.scrubber import pack
from app.figures.denoise import pad_figure, sweep_figure
from app.figures.trajectories import plane_figure, run_figure
from app.records import (
    PadResult,
    PlaneResult,
    Request,
    StoredModel,
    SweepResult,
    TrajectoryRequest,
    TrajectoryResult,
)
from app.services import stored
from app.services.inference import Engine


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """The one owner of the models."""
    engine = Engine()
    atexit.register(engine.close)
    return engine


def model(name: str) -> StoredModel:
    """What a checkpoint stores beside its weights; read again when its files change.

    Raises:
        ValueError: the checkpoint is missing or damaged.
    """
    return _model(name, stored.modification_times(name))


def models_of_family(family: str) -> list[StoredModel]:
    """All checkpoints trained on the same data and process; a damaged one is left out until it is chosen itself."""
    found = []
    for name in stored.model_names():
        if name.rsplit("-", 1)[0] == family:
            with suppress(ValueError):
                found.append(model(name))
    return found


def packed_sweep(model: StoredModel, result: SweepResult, source: Request | None) -> bytes:
    """The bytes of a sweep for the browser; `source` is None for the stored frames."""
    written = tuple((card.name, stored.modification_times(card.name)) for card in models_of_family(model.family))
    return _packed_sweep((model.key, written, source), model, result)


def packed_pad(model: StoredModel, result: PadResult, source: Request | None) -> bytes:
    """The bytes of a pad for the browser; `source` is None for the stored frames."""
    return _packed_pad((model.key, stored.modification_times(model.name), source), model, result)


def packed_run(name: str, request: TrajectoryRequest, result: TrajectoryResult) -> bytes:
    """The bytes of a sampling run for the browser; those of one that goes on are soon of no use to anybody."""
    if not result.ended:
        return pack_run(run_figure(name, result))
    return _packed_run((name, request, result.error), result)


def packed_plane(plane: PlaneResult, runs: Sequence[TrajectoryResult]) -> bytes:
    """The bytes of the plane that runs of images are shown in."""
    return pack_plane(plane_figure(plane, runs))


def models_of_data(model: StoredModel) -> list[StoredModel]:
    """All checkpoints that were trained on the same data, the given one first; a damaged one is left out."""
    found = [model]
    for name in stored.model_names():
        if name != model.name and name.split("-")[0] == model.name.split("-")[0]:
            with suppress(ValueError):
                other = _model(name, stored.modification_times(name))
                found += [other] if other.recipe["shape"] == model.recipe["shape"] else []
    return found


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


@st.cache_resource(max_entries=64, show_spinner=False)
def _model(name: str, times: tuple[int, ...]) -> StoredModel:
    return stored.read_model(name)


# Streamlit leaves underscored arguments out of the key, so `key` names everything the bytes depend on.
@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs={tuple: hash})
def _packed_sweep(key: tuple, _model: StoredModel, _result: SweepResult) -> bytes:
    return pack(sweep_figure(_model, models_of_family(_model.family), _result))


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs={tuple: hash})
def _packed_pad(key: tuple, _model: StoredModel, _result: PadResult) -> bytes:
    return pack(pad_figure(_model, _result))


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs={tuple: hash})
def _packed_run(key: tuple[str, TrajectoryRequest, str], _result: TrajectoryResult) -> bytes:
    return pack_run(run_figure(key[0], _result))
