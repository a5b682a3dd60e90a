"""Checkpoints as the app first sees them: recipe, scores and stored frames, read without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from app.records import (
    LandscapeResult,
    LayersResult,
    ModelKey,
    PadResult,
    ParametersResult,
    PathsResult,
    StoredModel,
    SweepResult,
    WeightsResult,
)

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
RESULTS = Path(__file__).parents[2] / "results"
"""Scores of sweeps: <name>/metrics.json."""

RECIPES = Path(__file__).parents[2] / "dpi_core" / "recipes" / "sweeps"


def model_names() -> list[str]:
    """Names of the checkpoint folders, alphabetically."""
    return sorted(config.parent.name for config in CHECKPOINTS.glob("*/config.json"))


def read_model(name: str) -> StoredModel:
    """Reads what a checkpoint folder stores beside its weights.

    Raises:
        ValueError: the folder is unknown or a file in it is damaged; one sentence.
    """
    if name not in model_names():
        raise ValueError(f"there is no model {name!r}; choose one of {', '.join(model_names()) or 'none yet'}.")
    folder = CHECKPOINTS / name
    recipe = _read_json(folder / "config.json", needed=("shape", "conditioning", "data"))
    metrics = _read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    key = ModelKey(str(folder), digest(folder))
    return StoredModel(key, name, recipe, metrics, *_read_analysis(folder / "analysis.safetensors"))


def sweep_names(family: str) -> list[str]:
    """Sweeps of a family of models whose scores are here: that of its name, then those whose name begins with it."""
    names = sorted(file.parent.name for file in RESULTS.glob("*/metrics.json"))
    return [name for name in names if name == family or name.startswith(f"{family}-")]


def known_sweeps() -> list[str]:
    """Names of the sweeps that come with the package."""
    return sorted(file.stem for file in RECIPES.glob("*.json"))


def read_sweep(name: str) -> dict[str, Any]:
    """Reads the scores of a sweep.

    Raises:
        ValueError: the file is damaged; one sentence.
    """
    return _read_json(RESULTS / name / "metrics.json", needed=("methods", "against", "s", "config", "judged", "floor"))


def digest(folder: Path) -> str:
    """Of weights and config, so that a replaced checkpoint is another model."""
    found = hashlib.sha256()
    for file in ("config.json", "model.safetensors"):
        found.update((folder / file).read_bytes() if (folder / file).is_file() else b"")
    return found.hexdigest()


def modification_times(name: str) -> tuple[int, ...]:
    """When the files of a checkpoint were last written; part of the key under which it is cached."""
    return tuple(sorted(file.stat().st_mtime_ns for file in (CHECKPOINTS / name).glob("*.*")))


def _read_json(file: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file.parent.name}/{file.name} is not valid JSON ({error}); restore the file.") from error
    if not isinstance(content, dict) or not all(name in content for name in needed):
        holds = f"an object with {', '.join(needed)}" if needed else "an object"
        raise ValueError(f"{file.parent.name}/{file.name} is not {holds}; restore the file.")
    return content


def _read_analysis(
    file: Path,
) -> tuple[SweepResult | None, PadResult | None, str, ParametersResult | None, LayersResult | None]:
    """The stored fields of a `StoredModel`, in its order."""
    if not file.is_file():
        return None, None, "", None, None
    try:
        with safe_open(file, framework="numpy") as stored:
            about = json.loads(stored.metadata()["about"])
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}
        sweep = _sweep(arrays, about)
        pad = _pad(arrays, about, sweep) if "pad" in about else None
        parameters = _stored_parameters(arrays, about)
        return sweep, pad, about["inputs"], parameters, _stored_layers(arrays, about)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file.parent.name}/{file.name} is damaged ({error}); run `python -m dpi_core analyse`."
        ) from error


def _sweep(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> SweepResult:
    image = about["kind"] == "image"
    return SweepResult(
        s=arrays["sweep.s"],
        lam=arrays.get("sweep.lam"),
        alpha=arrays["sweep.alpha"],
        sigma=arrays["sweep.sigma"],
        native=tuple(about["native"]),
        clean=_channels_last(arrays["sweep.clean"], image),
        noise=_channels_last(arrays["sweep.noise"].astype(np.float32), image),
        x0_hat=_channels_last(arrays["sweep.x0_hat"], image),
        mse=arrays["sweep.mse"],
    )


def _pad(arrays: dict[str, np.ndarray], about: dict[str, Any], sweep: SweepResult) -> PadResult:
    s = arrays["pad.s"]
    return PadResult(
        s=s,
        lam=arrays["pad.lam"],
        learned=np.interp(s, sweep.s, arrays["sweep.lam"]),
        alpha=np.interp(s, sweep.s, sweep.alpha),
        sigma=np.interp(s, sweep.s, sweep.sigma),
        native=tuple(about["pad"]["native"]),
        x0_hat=_channels_last(arrays["pad.x0_hat"], about["kind"] == "image"),
        score=arrays["pad.score"],
        judged=about["pad"]["judged"],
    )


def _stored_parameters(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> ParametersResult | None:
    """None also where an older version stored less than the page shows now: it then offers to compute it."""
    try:
        return parameters_result(arrays, about["parameters"])
    except KeyError:
        return None


def _stored_layers(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> LayersResult | None:
    """None also where an older version stored less."""
    try:
        return layers_result(arrays, about["layers"])
    except KeyError:
        return None


def layers_result(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> LayersResult:
    """The record from its arrays, named "layers.<field>", and the JSON of the other fields."""
    stored = {item.name: arrays.get(f"layers.{item.name}") for item in fields(LayersResult)}
    values: dict[str, Any] = {name: about[name] if value is None else value for name, value in stored.items()}
    return LayersResult(**values)


def parameters_result(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> ParametersResult:
    """The record from its arrays, named by section and field, and the JSON of the other fields."""

    def section(name: str, record: type[Any]) -> Any:
        values = {item.name: arrays.get(f"{name}.{item.name}") for item in fields(record)}
        return record(**{key: about[name][key] if value is None else value for key, value in values.items()})

    return ParametersResult(
        section("weights", WeightsResult), section("landscape", LandscapeResult), section("paths", PathsResult)
    )


def _channels_last(values: np.ndarray, image: bool) -> np.ndarray:
    return np.moveaxis(values, -3, -1) if image else values
