"""From a recipe (the JSON in `recipes/` and in a checkpoint's `config.json`) to objects."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from dpi_core.backbones import BACKBONES
from dpi_core.conditioning import ConditioningConfig, condition, conditioned_process
from dpi_core.config import from_dict
from dpi_core.data import DataConfig
from dpi_core.denoiser import Denoiser
from dpi_core.noise_processes import PROCESSES, NoiseProcess
from dpi_core.one_set import Blind
from dpi_core.training import TrainingConfig

RECIPES = Path(__file__).parent / "recipes"
SWEEPS = RECIPES / "sweeps"


@dataclass(frozen=True)
class SamplingConfig:
    """The sampler a model uses unless told otherwise; dopri5 chooses its own steps and has no use for `steps`."""

    sampler: Literal["ddim", "ddpm", "euler", "heun", "dpmpp_2m", "rk4", "edm", "dopri5"] = "heun"
    steps: int = 32


@dataclass(frozen=True)
class Recipe:
    """All that makes a model: where the data come from, the process, the network, its conditioning, the training.

    Attributes:
        name: `<data>-<process or backbone>-<conditioning>`.
        data: the data set.
        shape: of one sample.
        process: the noise process.
        backbone: a config of `backbones`.
        conditioning: how the scalar reaches the network.
        training: the recipe proper.
        sampling: the default sampler.
    """

    name: str
    data: DataConfig
    shape: tuple[int, ...]
    process: NoiseProcess
    backbone: Any
    conditioning: ConditioningConfig
    training: TrainingConfig
    sampling: SamplingConfig


def recipe_from_dict(data: Any) -> Recipe:
    """Reads a recipe; unknown keys, missing keys and wrong values raise a ValueError that names them."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    if not isinstance(data, Mapping) or set(data) != known:
        given = set(data) if isinstance(data, Mapping) else set()
        raise ValueError(
            f"a recipe has the keys {', '.join(sorted(known))};"
            f" missing: {', '.join(sorted(known - given)) or 'none'}, unknown: {', '.join(sorted(given - known)) or 'none'}."
        )
    backbones = {kind: config for kind, (config, _) in BACKBONES.items()}
    return Recipe(
        name=_name(data["name"]),
        data=from_dict(DataConfig, data["data"], "data"),
        shape=_shape(data["shape"]),
        process=_tagged(PROCESSES, data["process"], "process"),
        backbone=_tagged(backbones, data["backbone"], "backbone"),
        conditioning=from_dict(ConditioningConfig, data["conditioning"], "conditioning"),
        training=from_dict(TrainingConfig, data["training"], "training"),
        sampling=from_dict(SamplingConfig, data["sampling"], "sampling"),
    )


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The JSON object `recipe_from_dict` reads back."""
    data = dataclasses.asdict(recipe)
    backbones = {config: kind for kind, (config, _) in BACKBONES.items()}
    processes = {process: kind for kind, process in PROCESSES.items()}
    data["backbone"] = {"kind": backbones[type(recipe.backbone)], **data["backbone"]}
    data["process"] = {"kind": processes[type(recipe.process)], **data["process"]}
    return data


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by file, by the name of one that comes with the package, or of a sweep's method: "digits-vp-embedding".

    Raises:
        ValueError: there is none, or it is wrong; the message says how.
    """
    path = Path(name_or_path) if name_or_path.endswith(".json") else RECIPES / f"{name_or_path}.json"
    try:
        data = json.loads(path.read_text()) if path.is_file() else _recipe_of_sweep(name_or_path)
        if data is not None:
            return recipe_from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.json")))
    sweeps = ", ".join(sorted(file.stem for file in SWEEPS.glob("*.json")))
    raise ValueError(
        f"there is no recipe {name_or_path!r}; give a JSON file, one of {known}, or SWEEP-METHOD for a method of one of the"
        f" sweeps {sweeps}."
    )


def _recipe_of_sweep(name: str) -> dict[str, Any] | None:
    for file in SWEEPS.glob("*.json"):
        sweep = json.loads(file.read_text())
        for method, changes in sweep["methods"].items():
            if name == f"{sweep['name']}-{method}":
                training = {**changes.get("training", {}), "seed": sweep.get("seeds", [0])[0]}
                return method_recipe(name, sweep["recipe"], changes["conditioning"], training)
    return None


def method_recipe(
    name: str, recipe: dict[str, Any], conditioning: dict[str, Any], training: dict[str, Any]
) -> dict[str, Any]:
    """The recipe of one method of a comparison: that of all, with what the method has for itself.

    Args:
        name: of the model.
        recipe: of all methods, without name and conditioning.
        conditioning: of the method.
        training: keys of the training that it has otherwise.
    """
    training = {**recipe.get("training", {}), **training}
    return {**recipe, "name": name, "conditioning": conditioning, "training": training}


def build_denoiser(recipe: Recipe) -> Denoiser:
    """The untrained denoiser of a recipe; its initial weights come from the training seed alone."""
    return _conditioned(_initialised_backbone(recipe), recipe)


def warm_start(recipe: Recipe, trained: Denoiser, origin: Recipe) -> Denoiser:
    """The denoiser of a recipe with the weights of a trained one.

    A blind network becomes the backbone of any conditioning, and all start as that network: DPI with both sets equal
    to it, as in the paper. Between networks of one conditioning all weights are taken over.

    Args:
        recipe: what is to be trained.
        trained: where the weights come from.
        origin: the recipe of `trained`.

    Raises:
        ValueError: the networks differ in backbone or target, or in conditioning without `trained` being blind.
    """
    new = build_denoiser(recipe)
    for what, wanted, found in (
        ("the backbone", recipe.backbone, origin.backbone),
        ("the target", new.process, trained.process),
    ):
        if wanted != found:
            raise ValueError(
                f"{recipe.name} cannot start from {origin.name}: {what} is {wanted} here and {found} there; choose a"
                " checkpoint that agrees, or train from scratch."
            )
    if recipe.conditioning == origin.conditioning:
        new.net.load_state_dict(trained.net.state_dict())
        return new
    if not isinstance(trained.net, Blind):
        raise ValueError(
            f"{recipe.name} cannot start from {origin.name}, whose conditioning {origin.conditioning.kind!r} is another;"
            " choose a blind network, or one of the same conditioning."
        )
    backbone = _initialised_backbone(recipe)
    backbone.load_state_dict(trained.net.backbone.state_dict())
    return _conditioned(backbone, recipe)


def _initialised_backbone(recipe: Recipe) -> nn.Module:
    _, backbone_class = BACKBONES[_kind_of(recipe.backbone)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return backbone_class(recipe.backbone)


def _conditioned(backbone: nn.Module, recipe: Recipe) -> Denoiser:
    generator = torch.Generator().manual_seed(recipe.training.seed)
    process = conditioned_process(recipe.process, recipe.conditioning)
    return Denoiser(condition(backbone, recipe.conditioning, generator), process)


def _kind_of(backbone_config: Any) -> str:
    return next(kind for kind, (config, _) in BACKBONES.items() if isinstance(backbone_config, config))


def _tagged(registry: Mapping[str, type[Any]], data: Any, where: str) -> Any:
    """Reads `{"kind": ..., **fields}` by the class the kind names."""
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in registry:
        raise ValueError(f"{where}.kind is {kind!r}, but has to be one of {', '.join(sorted(registry))}.")
    return from_dict(registry[kind], {key: value for key, value in data.items() if key != "kind"}, where)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_" for c in name):
        raise ValueError(f"name is {name!r}, but has to be made of letters, digits, - and _.")
    return name


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"shape is {shape!r}, but has to be a list of positive integers.")
    return tuple(shape)
