"""A network of one's own on a folder of images, in two calls: a recipe that fits it, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpi_core.backbones import FactoryConfig
from dpi_core.build import Recipe, SamplingConfig, recipe_from_dict, recipe_to_dict
from dpi_core.conditioning import ConditioningConfig
from dpi_core.data import DataConfig, load_data
from dpi_core.model import Model
from dpi_core.noise_processes import FlowMatching, NoiseProcess
from dpi_core.parallel import Team
from dpi_core.runs import train_run
from dpi_core.training import TrainingConfig


def image_recipe(
    name: str,
    backbone: FactoryConfig,
    size: int = 32,
    gray: bool = True,
    process: NoiseProcess | None = None,
    **training: Any,
) -> Recipe:
    """The recipe of a DPI network of images from a folder.

    Args:
        name: `<data>-<process>-dpi`, of letters, digits, - and _.
        backbone: what `dpi_core.factory` returned; maps images (b, c, size, size) to such images.
        size: side in pixels; images of the folder are scaled and cropped to it.
        gray: one channel instead of three.
        process: flow matching by default.
        **training: fields of `training.TrainingConfig`; 2000 steps unless `steps` says otherwise.

    Raises:
        ValueError: the name or a value of `training` is out of its range.
    """
    recipe = Recipe(
        name=name,
        data=DataConfig("image_folder", size=size, gray=gray),
        shape=(1 if gray else 3, size, size),
        process=FlowMatching() if process is None else process,
        backbone=backbone,
        conditioning=ConditioningConfig(),
        training=TrainingConfig(**{"steps": 2000, **training}),
        sampling=SamplingConfig(),
    )
    return recipe_from_dict(recipe_to_dict(recipe))  # checked like one from a file


def train(recipe: Recipe, data_path: str | Path | None = None, runs: str | Path = "runs", device: str = "cpu") -> Model:
    """Trains a recipe; goes on where a run of the same recipe was stopped.

    Args:
        recipe: what is trained.
        data_path: the folder with its images or files; None for data that come with the library.
        runs: where logs and resume states lie.
        device: where it is trained, for example "cuda".

    Returns:
        The trained model, its weights averaged.

    Raises:
        ValueError: the data are missing, damaged, or do not fit; or the folder of runs holds another recipe's.
        FloatingPointError: the loss is no longer finite.
    """
    data = load_data(recipe.data, None if data_path is None else Path(data_path))
    return train_run(recipe, data, Path(runs) / recipe.name, Team(device))
