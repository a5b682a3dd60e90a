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
    LayerDetailResult,
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
    return StoredModel(key, name, recipe, metrics, **_read_analysis(folder / "analysis.safetensors"))


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


def _read_analysis(file: Path) -> dict[str, Any]:
    """The stored fields of a `StoredModel`, by name."""
    if not file.is_file():
        return {"sweep": None, "pad": None, "shown": ""}
    try:
        with safe_open(file, framework="numpy") as stored:
            about = json.loads(stored.metadata()["about"])
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}
        sweep = _sweep(arrays, about)
        pad = _pad(arrays, about, sweep) if "pad" in about else None
        return {
            "sweep": sweep,
            "pad": pad,
            "shown": about["inputs"],
            "parameters": _stored_parameters(arrays, about),
            "layers": _stored_layers(arrays, about),
            "layer": _stored_layer(arrays, about),
        }
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


def _stored_layer(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> LayerDetailResult | None:
    """None also where an older version stored less."""
    try:
        values = _values(LayerDetailResult, "layers.detail", arrays, about["layers"]["detail"])
    except KeyError:
        return None
    return LayerDetailResult(
        **{k: v.astype(np.float32) if k.startswith("activations") else v for k, v in values.items()}
    )


def layers_result(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> LayersResult:
    """The record from its arrays, named "layers.<field>", and the JSON of the other fields."""
    return LayersResult(**_values(LayersResult, "layers", arrays, about))


def parameters_result(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> ParametersResult:
    """The record from its arrays, named by section and field, and the JSON of the other fields."""

    def section(name: str, record: type[Any]) -> Any:
        return record(**_values(record, name, arrays, about[name]))

    return ParametersResult(
        section("weights", WeightsResult), section("landscape", LandscapeResult), section("paths", PathsResult)
    )


def _values(record: type[Any], section: str, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, Any]:
    """A record's fields: from the arrays named "<section>.<field>", or from the JSON beside them."""
    stored = {item.name: arrays.get(f"{section}.{item.name}") for item in fields(record)}
    return {name: about[name] if value is None else value for name, value in stored.items()}


def _channels_last(values: np.ndarray, image: bool) -> np.ndarray:
    return np.moveaxis(values, -3, -1) if image else values
