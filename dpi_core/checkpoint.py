"""Checkpoints: a folder of safetensors and JSON. Nothing here can run code from a file.

model.safetensors     both parameter sets and φ (the averaged weights), buffers
config.json           the recipe
metrics.json          held-out scores
analysis.safetensors  what the app shows first
README.md             the model card
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpi_core import hub
from dpi_core.backbones import FactoryConfig
from dpi_core.backbones.foreign import allowing
from dpi_core.build import Recipe, build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.denoiser import Denoiser
from dpi_core.hub import ANALYSIS as ANALYSIS
from dpi_core.hub import CARD as CARD
from dpi_core.hub import CONFIG as CONFIG
from dpi_core.hub import METRICS as METRICS
from dpi_core.hub import WEIGHTS as WEIGHTS
from dpi_core.limits import Limits, building_within, in_one_line, layers_within, read_header
from dpi_core.limits import read_json as read_json
from dpi_core.model import Model
from dpi_core.training import TrainingState

DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
}
"""Types of what a network may hold -> their names in a safetensors header."""


HALVES = {"F32": "F16"}
"""Type that a network computes in -> the shorter one that its weights may be stored in."""


def save(model: Model, path: str | Path, half: bool = False) -> Path:
    """Writes weights, config and metrics into the folder `path`: all of them, or, where that fails, none.

    What is stored there of other weights goes: `analysis.safetensors`, and scores. All is written beside its place and then
    moved there, file by file: a process killed in these moves can leave new weights with the old config.

    Args:
        model: what is saved.
        path: the folder.
        half: whether float32 weights are stored in 16 bits; `halving` says what that costs. λ's logits stay whole.

    Returns:
        The folder.

    Raises:
        OSError: the disk is full, or the folder cannot be written; what was there before is untouched.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    state = model.net.state_dict()
    writers = {
        folder / WEIGHTS: _tensor_writer(shortened(state) if half else state, {}),
        folder / CONFIG: _json_writer(recipe_to_dict(model.recipe)),
    }
    if model.metrics:
        writers[folder / METRICS] = _json_writer(model.metrics)
    _write_all(writers, removed=(folder / ANALYSIS, folder / METRICS))
    return folder


def shortened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state with its float32 weights in 16 bits; those of the schedule as they are."""
    return {
        name: value.half() if value.dtype == torch.float32 and not name.startswith("schedule.") else value
        for name, value in state.items()
    }


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    limits: Limits | None = None,
    allow: Sequence[str] = (),
) -> Model:
    """Reads a checkpoint: a folder, or a repository on the Hub.

    Config, and the names, shapes and types of all tensors are checked before a weight is read.

    Args:
        path: the folder, or `hub:<owner>/<repo>`, of which weights, config, scores and card are fetched.
        device: where the weights go.
        limits: what the checkpoint may ask for; by default what the environment allows (`Limits.from_environment`).
        allow: factories `module:function` that may make its backbone, if it is not one of ours; see `backbones.foreign`.

    Raises:
        ValueError: the folder or a file is missing, not what it should be, too large, or does not fit the config; the
            message says which and why.
    """
    limits = limits or Limits.from_environment()
    with allowing(allow), opened(path, limits) as folder, _readable(folder):
        recipe = check(folder, limits)
        denoiser = build_denoiser(recipe)
        denoiser.net.load_state_dict(_read_weights(folder / WEIGHTS))
        metrics = _read_metrics(folder, limits)
    denoiser.to(device).eval()
    return Model(denoiser, recipe, metrics)


@contextmanager
def opened(path: str | Path, limits: Limits | None = None) -> Iterator[Path]:
    """The folder of a checkpoint: itself, or where one on the Hub was downloaded to.

    Args:
        path: the folder, or `hub:<owner>/<repo>`.
        limits: see `load`.

    Raises:
        ValueError: see `hub.downloaded`, which also says what a ValueError in the block does.
    """
    if not hub.is_address(path):
        yield Path(path)
        return
    with hub.downloaded(str(path), lambda folder: _read_recipe(folder, limits or Limits.from_environment())) as folder:
        yield folder


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Says in a sentence that a file has been taken away, or may not be read."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be read ({in_one_line(error)}); restore its files, or see to their permissions."
        ) from error


def check(path: str | Path, limits: Limits | None = None) -> Recipe:
    """Checks a checkpoint folder without reading its weights; memory is taken for file headers and the config alone.

    Args:
        path: the folder.
        limits: see `load`.

    Returns:
        The recipe.

    Raises:
        ValueError: see `load`.
    """
    folder, limits = Path(path), limits or Limits.from_environment()
    recipe = _read_recipe(folder, limits)
    weights, config = folder / WEIGHTS, folder / CONFIG
    if not weights.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; a checkpoint is a folder with {WEIGHTS} and {CONFIG}.")
    found = read_header(weights, limits)
    skeleton = _skeleton(recipe, config, found)
    _check_tensors(weights, found, skeleton.net.state_dict())
    _check_shape(config, skeleton, recipe.shape, limits)
    return recipe


def _read_recipe(folder: Path, limits: Limits) -> Recipe:
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} has no {CONFIG}; a checkpoint is a folder with {WEIGHTS} and {CONFIG}.")
    try:
        recipe = recipe_from_dict(read_json(folder / CONFIG, limits))
        limits.check("sample_numbers", math.prod(recipe.shape), "one sample of this shape")
        limits.check("steps", recipe.sampling.steps, "sampling")
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {in_one_line(error)}") from error
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} is not a config ({in_one_line(error)}); restore the file.") from error
    return recipe


def _read_metrics(folder: Path, limits: Limits) -> dict[str, Any]:
    if not (folder / METRICS).is_file():
        return {}
    metrics = read_json(folder / METRICS, limits)
    if not isinstance(metrics, dict):
        raise ValueError(f"{folder / METRICS} is not an object; restore the file, or remove it.")
    return metrics


def _read_weights(weights: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights} is not a readable safetensors file ({error}); copy it again.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"{weights}: {bad} of the {tensor.numel()} numbers of {name} are not finite; the training diverged, or the"
                " file is damaged: take an earlier checkpoint."
            )
    return tensors


def _skeleton(recipe: Recipe, config: Path, found: Mapping[str, tuple[str, tuple[int, ...]]]) -> Denoiser:
    """The network on the meta device, which holds no numbers."""
    # Another's code may read numbers while it builds: drop-path rates, for example.
    place = "cpu" if isinstance(recipe.backbone, FactoryConfig) else "meta"
    numbers = sum(math.prod(shape) for _, shape in found.values())
    try:
        with torch.device(place), building_within(len(found), numbers):
            return build_denoiser(recipe).to("meta")
    except ValueError as error:
        raise ValueError(f"{config}: {in_one_line(error)}") from error
    except (RuntimeError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ValueError(f"{config}: the network cannot be built ({in_one_line(error)}); mend the config.") from error


def _check_tensors(
    file: Path, found: Mapping[str, tuple[str, tuple[int, ...]]], expected: Mapping[str, Tensor]
) -> None:
    names = set(found)
    for kind, gap in (("lacks", set(expected) - names), ("has the unknown tensor", names - set(expected))):
        if gap:
            raise ValueError(f"{file} {kind} {sorted(gap)[0][:80]!r} ({len(gap)} such); it belongs to another config.")
    for name, tensor in expected.items():
        wanted = (DTYPES[tensor.dtype], tuple(tensor.shape))
        if found[name] not in (wanted, (HALVES.get(wanted[0]), wanted[1])):
            raise ValueError(
                f"{file}: {name} is {found[name]}, but the config needs {wanted}; it belongs to another config."
            )


def _check_shape(config: Path, skeleton: Denoiser, shape: tuple[int, ...], limits: Limits) -> None:
    """One forward on the meta device, which computes shapes only."""
    try:
        with layers_within(skeleton.net, limits):
            found = tuple(skeleton(torch.empty(1, *shape, device="meta"), 0.5).shape[1:])
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{config}: the network does not take samples of shape {shape} ({in_one_line(error)}); mend `shape`."
        ) from error
    if found != shape:
        raise ValueError(
            f"{config}: the network makes {found} of samples of shape {shape}, but has to keep it; mend `shape`."
        )


# Files -----------------------------------------------------------------------------------------------------------


def write_json(file: Path, data: Any) -> None:
    """Writes JSON atomically."""
    _write_all({file: _json_writer(data)})


def write_text(file: Path, text: str) -> None:
    """Writes text atomically."""
    _write_all({file: lambda temporary: temporary.write_text(text)})


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors atomically as safetensors."""
    _write_all({file: _tensor_writer(tensors, metadata or {})})


Writer = Callable[[Path], Any]


def _json_writer(data: Any) -> Writer:
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    return lambda temporary: temporary.write_text(text)


def _tensor_writer(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Writer:
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} has the type {tensor.dtype}, which a checkpoint cannot hold; convert it.")
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return lambda temporary: save_file(owned, temporary, dict(metadata))


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
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{file} is not a training state ({error}); remove it to start again.") from error


def _write_all(writers: Mapping[Path, Writer], removed: Iterable[Path] = ()) -> None:
    """Writes files of one folder beside their places, and moves them there once all are written: one file atomically.

    A kill among the moves of several leaves the first ones new and the others old.

    Args:
        writers: what writes each file.
        removed: files that are not true of the new ones; they go before the moves.
    """
    temporaries: dict[Path, Path] = {}
    try:
        for file, write in writers.items():
            handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
            os.close(handle)
            temporaries[file] = Path(name)
            write(temporaries[file])
            with temporaries[file].open("rb") as written:
                os.fsync(written.fileno())
            temporaries[file].chmod(0o644)
        for file in removed:
            file.unlink(missing_ok=True)
        for file, temporary in temporaries.items():
            temporary.replace(file)
    except (OSError, SafetensorError) as error:
        # safetensors says of a failed write only what the system said.
        raise OSError(
            f"{file} cannot be written ({in_one_line(error)}); free space there or choose another folder, and run the same"
            " again: nothing that was saved before is lost."
        ) from error
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
