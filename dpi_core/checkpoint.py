"""Checkpoints: a folder of safetensors and JSON. Nothing here can run code from a file.

model.safetensors     both parameter sets and φ (the averaged weights), buffers
config.json           the recipe
metrics.json          held-out scores
analysis.safetensors  what the app shows first
README.md             the model card
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpi_core import hub
from dpi_core.backbones.foreign import allowing
from dpi_core.build import Recipe, build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.denoiser import Denoiser
from dpi_core.model import Model
from dpi_core.training import TrainingState

WEIGHTS, CONFIG, METRICS, ANALYSIS, CARD = (
    "model.safetensors",
    "config.json",
    "metrics.json",
    "analysis.safetensors",
    "README.md",
)
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


def save(model: Model, path: str | Path) -> Path:
    """Writes weights, config and metrics into the folder `path`, each file atomically.

    Returns:
        The folder.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, recipe_to_dict(model.recipe))
    if model.metrics:
        write_json(folder / METRICS, model.metrics)
    write_tensors(folder / WEIGHTS, model.net.state_dict())
    return folder


def load(path: str | Path, device: str | torch.device = "cpu", allow: Sequence[str] = ()) -> Model:
    """Reads a checkpoint: a folder, or a repository on the Hub.

    Config, and the names, shapes and types of all tensors are checked before a weight is read.

    Args:
        path: the folder, or `hub:<owner>/<repo>`, of which weights, config, scores and card are fetched.
        device: where the weights go.
        allow: factories `module:function` that may make its backbone, if it is not one of ours; see `backbones.foreign`.

    Raises:
        ValueError: the folder or a file is missing, not what it should be, or does not fit the config; the message says
            which and why.
    """
    with allowing(allow):
        return _load_folder(hub.folder_of(path), device)


def _load_folder(folder: Path, device: str | torch.device) -> Model:
    recipe = _read_recipe(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; a checkpoint is a folder with {WEIGHTS} and {CONFIG}.")
    with torch.device("meta"):
        skeleton = build_denoiser(recipe)
    _check_tensors(weights, skeleton.net.state_dict())
    _check_shape(folder / CONFIG, skeleton, recipe.shape)
    denoiser = build_denoiser(recipe)
    denoiser.net.load_state_dict(load_file(weights))
    denoiser.to(device).eval()
    metrics = read_json(folder / METRICS) if (folder / METRICS).is_file() else {}
    return Model(denoiser, recipe, metrics)


def _read_recipe(folder: Path) -> Recipe:
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} has no {CONFIG}; a checkpoint is a folder with {WEIGHTS} and {CONFIG}.")
    try:
        return recipe_from_dict(read_json(folder / CONFIG))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def _check_tensors(file: Path, expected: Mapping[str, Tensor]) -> None:
    try:
        with safe_open(file, framework="pt") as tensors:
            names = set(tensors.keys())
            slices = {name: tensors.get_slice(name) for name in names}
            found = {name: (tuple(piece.get_shape()), piece.get_dtype()) for name, piece in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a readable safetensors file ({error}); copy it again.") from error
    for kind, gap in (("lacks", set(expected) - names), ("has the unknown tensor", names - set(expected))):
        if gap:
            raise ValueError(f"{file} {kind} {sorted(gap)[0]!r} ({len(gap)} such); it belongs to another config.")
    for name, tensor in expected.items():
        wanted = (tuple(tensor.shape), DTYPES[tensor.dtype])
        if found[name] != wanted:
            raise ValueError(
                f"{file}: {name} is {found[name]}, but the config needs {wanted}; it belongs to another config."
            )


def _check_shape(config: Path, skeleton: Denoiser, shape: tuple[int, ...]) -> None:
    """One forward on the meta device, which computes shapes only."""
    try:
        found = tuple(skeleton(torch.empty(1, *shape, device="meta"), 0.5).shape[1:])
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{config}: the network does not take samples of shape {shape} ({error}); mend `shape`."
        ) from error
    if found != shape:
        raise ValueError(
            f"{config}: the network makes {found} of samples of shape {shape}, but has to keep it; mend `shape`."
        )


# Files -----------------------------------------------------------------------------------------------------------


def write_json(file: Path, data: Any) -> None:
    """Writes JSON atomically."""
    write_text(file, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes text atomically."""
    _write_atomically(file, lambda temporary: Path(temporary).write_text(text))


def read_json(file: Path) -> Any:
    """Reads JSON.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name} is not valid JSON ({error}).") from error


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors atomically as safetensors."""
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    _write_atomically(file, lambda temporary: save_file(owned, temporary, dict(metadata or {})))


def save_training_state(file: Path, state: TrainingState) -> None:
    """Writes what a run needs to go on, atomically: a kill leaves the last complete state."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, state.tensors, {"step": str(state.step)})


def load_training_state(file: Path) -> TrainingState:
    """Reads what `save_training_state` wrote.

    Raises:
        ValueError: the file is not such a state.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            metadata = tensors.metadata() or {}
            return TrainingState(int(metadata["step"]), {name: tensors.get_tensor(name) for name in tensors.keys()})
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{file} is not a training state ({error}); remove it to start again.") from error


def _write_atomically(file: Path, write: Callable[[str], Any]) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
