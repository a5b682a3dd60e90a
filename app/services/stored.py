"""Checkpoints as the app first sees them: recipe, scores and stored frames, read without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
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
    Source,
    StoredModel,
    StoredSamples,
    SweepResult,
    WeightsResult,
)
from app.services.schema import check_metrics, check_recipe, check_sweep, check_texts
from dpi_core.hub import ANALYSIS, CARD, CONFIG, FILES, METRICS, WEIGHTS
from dpi_core.limits import Limits, read_header, read_json

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
RESULTS = Path(__file__).parents[2] / "results"
"""Scores of sweeps: <name>/metrics.json."""

RECIPES = Path(__file__).parents[2] / "dpi_core" / "recipes" / "sweeps"
NAMED = 8
"""How many models a sentence names."""

MAX_CARD = 2**16
"""Characters of a model card that are shown."""


def zoo() -> list[Source]:
    """The checkpoints that come with the app, alphabetically."""
    # Not `glob`, which is slower; every run of the script asks several times.
    inside = CHECKPOINTS.iterdir() if CHECKPOINTS.is_dir() else ()
    folders = sorted(folder for folder in inside if (folder / CONFIG).is_file())
    return [Source(folder.name, folder, "zoo", folder.name, f"checkpoints/{folder.name}") for folder in folders]


def model_names() -> list[str]:
    """Names of the checkpoints that come with the app."""
    return [source.name for source in zoo()]


def read_model(name: str) -> StoredModel:
    """Reads a checkpoint that comes with the app, by name.

    Raises:
        ValueError: see `find` and `read`.
    """
    return read(find(name, zoo()))


def find(name: str, sources: Sequence[Source]) -> Source:
    """The source of that name.

    Raises:
        ValueError: there is none; one sentence.
    """
    for source in sources:
        if source.name == name:
            return source
    alike = get_close_matches(name, [source.name for source in sources], NAMED, cutoff=0)
    more = f" or another of the {len(sources)}" if len(sources) > NAMED else ""
    raise ValueError(f"there is no model {name!r}; choose one of {', '.join(alike) or 'none yet'}{more}.")


def read(source: Source) -> StoredModel:
    """Reads what a checkpoint folder stores beside its weights.

    Raises:
        ValueError: a file in it is missing or damaged; one sentence.
    """
    folder = source.folder
    recipe = _checked(folder / CONFIG, check_recipe, needed=("name", "shape", "process", "conditioning", "data"))
    check = partial(check_metrics, are_images=len(recipe["shape"]) == 3)
    metrics = _checked(folder / METRICS, check) if (folder / METRICS).is_file() else {}
    stored = _read_analysis(folder / ANALYSIS, tuple(recipe["shape"]))
    return StoredModel(_key(source), source, recipe, metrics, **stored)


def _key(source: Source) -> ModelKey:
    return ModelKey(str(source.folder), digest(source.folder), source.name)


def read_card(model: StoredModel) -> str:
    """The model card, as text; empty where there is none."""
    file = Path(model.key.folder) / CARD
    try:
        with file.open(encoding="utf-8", errors="replace") as card:
            return card.read(MAX_CARD)
    except OSError:
        return ""


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
    for file in (CONFIG, WEIGHTS):
        # A file that is not there, or was taken away this moment, is part of no digest.
        with suppress(FileNotFoundError), (folder / file).open("rb") as content:
            while block := content.read(2**20):
                found.update(block)
    return found.hexdigest()


def modification_times(folder: Path) -> tuple[int, ...]:
    """When the files of a checkpoint were last written; part of the key under which it is cached."""
    return tuple(_modified(folder / file) for file in FILES)


def _modified(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # it is not there, or was taken away this moment
        return 0


def _checked(file: Path, check: Callable[[Mapping[str, Any]], None], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    content = _read_json(file, needed)
    try:
        check(content)
    except ValueError as error:
        raise ValueError(f"{file.parent.name}/{file.name}: {error}; restore the file.") from error
    return content


def _read_json(file: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    try:
        content = read_json(file, Limits.from_environment())
    except OSError as error:
        raise ValueError(
            f"{file.parent.name}/{file.name} cannot be read ({error.strerror}); restore the file."
        ) from error
    except ValueError as error:
        raise ValueError(f"{file.parent.name}/{error}") from error
    if not isinstance(content, dict) or not all(name in content for name in needed):
        holds = f"an object with {', '.join(needed)}" if needed else "an object"
        raise ValueError(f"{file.parent.name}/{file.name} is not {holds}; restore the file.")
    return content


def _read_analysis(file: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    """The stored fields of a `StoredModel`, by name."""
    if not file.is_file():
        return {"sweep": None, "pad": None, "shown": ""}
    try:
        read_header(file, Limits.from_environment())
        with safe_open(file, framework="numpy") as stored:
            about = json.loads(stored.metadata()["about"])
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}
        check_texts(about)
        check_sweep(arrays, about, shape)
        sweep = _sweep(arrays, about)
        pad = _pad(arrays, about, sweep) if "pad" in about else None
        return {
            "sweep": sweep,
            "pad": pad,
            "shown": about["inputs"],
            "drawn_by": _key(find(about["drawn_by"], zoo())) if "drawn_by" in about else None,
            "parameters": _stored_parameters(arrays, about),
            "layers": _stored_layers(arrays, about),
            "layer": _stored_layer(arrays, about),
            "samples": _stored_samples(arrays, about),
        }
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
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


def _stored_samples(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> StoredSamples | None:
    if "samples" not in about:
        return None
    return StoredSamples(_channels_last(arrays["samples.x"], about["kind"] == "image"), **about["samples"])


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
