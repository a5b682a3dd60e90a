"""Photos of any size as a data set: patches cut from them, for networks that denoise images of any size."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from dpi_core.images import HeldOutImages, image_paths, licence_and_source, random_crop, read_image, to_unit_range
from dpi_core.limits import Limits
from dpi_core.seeds import seeded_generator


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchData(HeldOutImages):
    """Photos of any size: every batch is freshly cut from them, turned and mirrored.

    Attributes:
        photos: each (c, h, w), bytes in 0..255, no side smaller than a patch.
    """

    photos: tuple[UInt8[Tensor, "c _ _"], ...]

    def batch(self, n: int, generator: torch.Generator) -> Float[Tensor, "n c size size"]:
        """Draws n patches, each from any photo, in any of the eight positions of a square."""
        chosen = torch.randint(len(self.photos), (n,), generator=generator).tolist()
        positions = torch.randint(8, (n,), generator=generator).tolist()
        cut = [
            _turned(random_crop(self.photos[photo], self.shape[-1], generator), position)
            for photo, position in zip(chosen, positions, strict=True)
        ]
        return to_unit_range(torch.stack(cut))


def patches(
    folder: Path, size: int = 64, gray: bool = True, held_out_fraction: float = 0.15, seed: int = 0
) -> PatchData:
    """Reads all photos below a folder, to cut patches from them; a held-out photo gives one patch, so that they are independent.

    Args:
        folder: searched with its subfolders for images.
        size: side of a patch in pixels.
        gray: whether photos are read as one channel instead of three.
        held_out_fraction: share of photos held out, at least one.
        seed: decides which ones, and where their patches lie.

    Raises:
        ValueError: there are fewer than two images, too many to hold in memory, or one is damaged, too large, or smaller than
            a patch.
    """
    generator = seeded_generator(seed)
    photos = _whole_photos(folder, size, gray)
    order = torch.randperm(len(photos), generator=generator).tolist()
    n_held_out = max(1, round(held_out_fraction * len(photos)))
    held_out = [random_crop(photos[index], size, generator) for index in order[:n_held_out]]
    return PatchData(
        photos=tuple(photos[index] for index in order[n_held_out:]),
        held_out=to_unit_range(torch.stack(held_out)),
        name=folder.name,
        **licence_and_source(folder),
    )


def _whole_photos(folder: Path, size: int, gray: bool) -> list[UInt8[Tensor, "c _ _"]]:
    limits, photos, held = Limits.from_environment(), [], 0
    for path in image_paths(folder):
        photos.append(_whole_photo(path, size, gray))
        held += photos[-1].nbytes
        limits.check("data_bytes", held, f"{folder} as a data set", "leave photos out")
    return photos


def _whole_photo(path: Path, size: int, gray: bool) -> UInt8[Tensor, "c h w"]:
    photo = ((read_image(path, gray) + 1) * 127.5).round().to(torch.uint8)
    if min(photo.shape[1:]) < size:
        raise ValueError(
            f"{path} has {photo.shape[2]} x {photo.shape[1]} pixels, fewer than a patch of {size}; remove it."
        )
    return photo


def _turned(square: Shaped[Tensor, "c s s"], position: int) -> Shaped[Tensor, "c s s"]:
    turned = square.rot90(position % 4, (1, 2))
    return turned.flip(2) if position >= 4 else turned
