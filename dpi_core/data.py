"""Seeded data sets behind one protocol: draw a batch, draw a held-out batch, know a sample's shape.

Two-dimensional sets are distributions, drawn afresh for every batch: centred, with variance 1 per coordinate on
average. Image sets are fixed tensors in [-1, 1], split once into training and held-out images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.idx_files import FASHION_MNIST_PAGE, Labels, download_fashion_mnist, idx_labels
from dpi_core.images import HeldOutImages, ImageData, digits, fit_images, idx, image_folder, photos
from dpi_core.licences import FOLDER_KINDS
from dpi_core.mixtures import GaussianMixture, ring_mixture
from dpi_core.patches import PatchData, patches
from dpi_core.planar import Checkerboard, Distribution, Moons, Spirals
from dpi_core.seeds import held_out_generator

__all__ = [
    "Checkerboard",
    "DATA_KINDS",
    "Data",
    "DataConfig",
    "Distribution",
    "DistributionData",
    "FOLDER_KINDS",
    "GaussianMixture",
    "HeldOutImages",
    "ImageData",
    "Labels",
    "Moons",
    "PatchData",
    "Spirals",
    "digits",
    "download_fashion_mnist",
    "fit_images",
    "idx",
    "idx_labels",
    "image_folder",
    "load_data",
    "patches",
    "photos",
    "ring_mixture",
]


@runtime_checkable
class Data(Protocol):
    """What training and evaluation need to know of a data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (2,) for points, (c, h, w) for images."""

    def batch(self, n: int, generator: torch.Generator) -> Float[Tensor, "n ..."]:
        """Draws n training samples, float32."""

    def held_out_batch(self, n: int, seed: int) -> Float[Tensor, "n ..."]:
        """Draws n samples that training does not see, float32; the same ones for the same seed."""


@dataclass(frozen=True)
class DistributionData:
    """A distribution as a data set: every batch is fresh.

    Attributes:
        distribution: what samples are drawn from, in float64; batches are float32.
        name: what the data set is called.
    """

    distribution: Distribution
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(2,)."""
        return (2,)

    def batch(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """Draws n new points."""
        return self.distribution.sample(n, generator).float()

    def held_out_batch(self, n: int, seed: int) -> Float[Tensor, "n 2"]:
        """Draws n points from a stream of random numbers that training with the same seed does not use."""
        return self.batch(n, held_out_generator(seed))


@dataclass(frozen=True)
class DataConfig:
    """Which data set a model is trained on; where its files lie is not part of it.

    Attributes:
        kind: one of the keys of `DATA_KINDS`.
        seed: of the split, or of the crops of photos.
        size: side in pixels of photos, of images from a folder, and of patches cut from them, 8 to 512.
        gray: whether photos and images from a folder have one channel instead of three.

    Raises:
        ValueError: the kind is unknown, or the size is out of range.
    """

    kind: str
    seed: int = 0
    size: int = 64
    gray: bool = True

    def __post_init__(self) -> None:
        if self.kind not in DATA_KINDS:
            raise ValueError(f"DataConfig.kind is {self.kind!r}; choose one of {', '.join(DATA_KINDS)}.")
        if not 8 <= self.size <= 512:
            raise ValueError(f"DataConfig.size is {self.size!r}; it must lie in 8..512 pixels, for example 64.")


DATA_KINDS: dict[str, Callable[[DataConfig, Path | None], Data]] = {
    "ring_mixture": lambda config, path: DistributionData(ring_mixture(), config.kind),
    "moons": lambda config, path: DistributionData(Moons(), config.kind),
    "spirals": lambda config, path: DistributionData(Spirals(), config.kind),
    "checkerboard": lambda config, path: DistributionData(Checkerboard(), config.kind),
    "digits": lambda config, path: digits(config.seed),
    "photos": lambda config, path: photos(config.size, config.gray, seed=config.seed),
    "idx": lambda config, path: idx(_existing(config, path)),
    "image_folder": lambda config, path: image_folder(
        _existing(config, path), config.size, config.gray, seed=config.seed
    ),
    "patches": lambda config, path: patches(_existing(config, path), config.size, config.gray, seed=config.seed),
}
"""Kind in a saved config -> how to load it."""


def load_data(config: DataConfig, data_path: Path | None = None) -> Data:
    """Loads the data set that a config names.

    Args:
        config: which one.
        data_path: the folder with its files, for the kinds "idx", "image_folder" and "patches".

    Raises:
        ValueError: the folder is needed and missing, or its files are damaged.
    """
    return DATA_KINDS[config.kind](config, data_path)


def _existing(config: DataConfig, path: Path | None) -> Path:
    if path is not None and path.is_dir():
        return path
    where = f"; Fashion-MNIST's are at {FASHION_MNIST_PAGE}" if config.kind == "idx" else ""
    raise ValueError(f"data kind {config.kind!r} got the folder {path}; pass --data PATH with its files{where}.")
