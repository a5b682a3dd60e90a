"""Image sets: fixed tensors in [-1, 1], split once into images to train on and images to measure on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from dpi_core.idx_files import FASHION_MNIST_PAGE, idx_path, is_fashion_mnist, read_idx
from dpi_core.image_files import DAMAGE, in_eight_bits, open_image, plain
from dpi_core.limits import Limits
from dpi_core.seeds import held_out_generator, seeded_generator

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOutImages:
    """Images in [-1, 1] to measure on, and what is known of the data set.

    Attributes:
        held_out: (m, c, h, w), float32.
        name: what the data set is called.
        licence: under which licence the images are.
        source: where they come from.
    """

    held_out: Float[Tensor, "m c h w"]
    name: str
    licence: str
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w)."""
        return tuple(self.held_out.shape[1:])

    def held_out_batch(self, n: int, seed: int) -> Float[Tensor, "n c h w"]:
        """Draws n different held-out images.

        Raises:
            ValueError: there are fewer than n.
        """
        if n > len(self.held_out):
            raise ValueError(
                f"{n} held-out images were asked for, but {self.name} has {len(self.held_out)}; ask for fewer."
            )
        return self.held_out[torch.randperm(len(self.held_out), generator=held_out_generator(seed))[:n]]


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageData(HeldOutImages):
    """Images of one size, split once.

    Attributes:
        train: (n, c, h, w), float32 in [-1, 1].
    """

    train: Float[Tensor, "n c h w"]

    def batch(self, n: int, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Draws n training images with replacement."""
        return self.train[torch.randint(len(self.train), (n,), generator=generator)]

    def different_batch(self, n: int, generator: torch.Generator) -> Float[Tensor, "m c h w"]:
        """Draws n different training images, or all where there are fewer."""
        return self.train[torch.randperm(len(self.train), generator=generator)[:n]]


def digits(seed: int = 0) -> ImageData:
    """Loads scikit-learn's 8x8 handwritten digits: 1437 to train on, 360 held out, every class in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    train, held_out = train_test_split(bunch.images, test_size=360, random_state=seed, stratify=bunch.target)
    train, held_out = (rearrange(torch.from_numpy(part / 8 - 1), "n h w -> n 1 h w") for part in (train, held_out))
    return ImageData(
        train=train.float(),
        held_out=held_out.float(),
        name="digits",
        licence="CC BY 4.0",
        source="https://archive.ics.uci.edu/dataset/80, as bundled in scikit-learn",
    )


GRAY_PHOTOS = ("brick", "camera", "coins", "grass", "gravel")
COLOUR_PHOTOS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "rocket")
HELD_OUT_PHOTOS = ("camera", "chelsea", "coins")
"""Never trained on, whatever the seed: a cat in colour, and two gray scenes that are common test images."""


def photos(size: int = 64, gray: bool = True, crops_per_photo: int = 256, seed: int = 0) -> ImageData:
    """Cuts square crops from the photos that scikit-image carries in its wheel, at full and at half resolution.

    Args:
        size: side of a crop in pixels.
        gray: whether crops have one channel; in colour the gray photos are left out.
        crops_per_photo: how many crops each photo gives.
        seed: where the crops lie; which photos are held out does not depend on it.

    Raises:
        ValueError: a photo is smaller than a crop.
    """
    names = GRAY_PHOTOS + COLOUR_PHOTOS if gray else COLOUR_PHOTOS
    generator = seeded_generator(seed)
    crops = {name: _random_crops(_photo(name, gray), size, crops_per_photo, generator) for name in names}
    return ImageData(
        train=torch.cat([crops[name] for name in names if name not in HELD_OUT_PHOTOS]),
        held_out=torch.cat([crops[name] for name in names if name in HELD_OUT_PHOTOS]),
        name="photos",
        licence="CC0, public domain, or no known copyright restrictions, as scikit-image states for each photo",
        source="https://scikit-image.org/docs/stable/api/skimage.data.html, as bundled in scikit-image",
    )


def idx(folder: Path) -> ImageData:
    """Reads the image files of MNIST or Fashion-MNIST; their test images are the held-out ones.

    Args:
        folder: holds train-images-idx3-ubyte and t10k-images-idx3-ubyte, plain or with .gz.

    Raises:
        ValueError: a file is missing or damaged.
    """
    train, held_out = (read_idx(idx_path(folder, f"{part}-images-idx3-ubyte"), axes=3) for part in ("train", "t10k"))
    if train.shape[1:] != held_out.shape[1:]:
        raise ValueError(
            f"{folder} has training images of {tuple(train.shape[1:])} pixels and held-out images of "
            f"{tuple(held_out.shape[1:])}; put the files of one data set there."
        )
    known = is_fashion_mnist(train)
    return ImageData(
        train=to_unit_range(rearrange(train, "n h w -> n 1 h w")),
        held_out=to_unit_range(rearrange(held_out, "m h w -> m 1 h w")),
        name="Fashion-MNIST" if known else folder.name,
        licence="MIT" if known else "not stated in idx files",
        source=FASHION_MNIST_PAGE if known else "idx files of the user",
    )


def image_folder(
    folder: Path, size: int = 64, gray: bool = True, held_out_fraction: float = 0.1, seed: int = 0
) -> ImageData:
    """Reads all images below a folder, scaled and cropped to squares.

    Args:
        folder: searched with its subfolders for the image files of `IMAGE_SUFFIXES`.
        size: side in pixels.
        gray: whether images are read as one channel instead of three.
        held_out_fraction: share of images held out, at least one image.
        seed: decides which ones.

    Raises:
        ValueError: there are fewer than two images, too many to hold in memory, or one is damaged or too large.
    """
    paths = image_paths(folder)
    needed = 4 * len(paths) * size**2 * (1 if gray else 3)
    Limits.from_environment().check(
        "data_bytes", needed, f"{folder} as a data set", f"choose a smaller size than {size}"
    )
    images = torch.stack([_read_image(path, size, gray) for path in paths])
    order = torch.randperm(len(images), generator=seeded_generator(seed))
    n_held_out = max(1, round(held_out_fraction * len(images)))
    return ImageData(
        train=images[order[n_held_out:]],
        held_out=images[order[:n_held_out]],
        name=folder.name,
        **licence_and_source(folder),
    )


KNOWN_FOLDERS = {
    "BSDS500": {
        "licence": "non-commercial research and education",
        "source": "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html (Arbeláez et al. 2011)",
    },
    "crawl_tiles": {
        "licence": "CC0 1.0",
        "source": "https://github.com/crawl/tiles, monsters and items of releases/Nov-2015 (Dungeon Crawl Stone Soup)",
    },
}
"""Folder's name -> licence and source of the images in it."""


def licence_and_source(folder: Path) -> dict[str, str]:
    """What is known of the images in a folder by its name."""
    return KNOWN_FOLDERS.get(folder.name, {"licence": "not stated in image files", "source": "images of the user"})


def image_paths(folder: Path) -> list[Path]:
    """All images below a folder, at least two."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < 2:
        raise ValueError(
            f"{folder} has {len(paths)} images; pass a folder with at least 2 of {', '.join(IMAGE_SUFFIXES)}."
        )
    return paths


def to_unit_range(pixels: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """0..255 -> [-1, 1]."""
    return pixels.float() / 127.5 - 1


def _photo(name: str, gray: bool) -> Float[Tensor, "c h w"]:
    from skimage import data

    image = Image.fromarray(getattr(data, name)()).convert("L" if gray else "RGB")
    return _pixels(image)


def _random_crops(
    photo: Float[Tensor, "c h w"], size: int, n: int, generator: torch.Generator
) -> Float[Tensor, "n c size size"]:
    """Half of the crops show twice the surroundings, where the photo is large enough for it."""
    halved = F.avg_pool2d(photo, 2)
    scales = [image for image in (photo, halved) if min(image.shape[1:]) >= size]
    if not scales:
        raise ValueError(f"size is {size}, but a photo has {tuple(photo.shape[1:])} pixels; choose a smaller size.")
    return torch.stack([random_crop(scales[i % len(scales)], size, generator) for i in range(n)])


def random_crop(image: Shaped[Tensor, "c h w"], size: int, generator: torch.Generator) -> Shaped[Tensor, "c size size"]:
    """A square of an image, all places alike."""
    top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in image.shape[1:])
    return image[:, top : top + size, left : left + size]


def read_image(path: Path, gray: bool) -> Float[Tensor, "c h w"]:
    """Reads one image as it is, upright, in [-1, 1]; gray is 0.299 R + 0.587 G + 0.114 B, rounded.

    Transparent parts are white; 16 bits keep their brightness.

    Raises:
        ValueError: the file is no image, damaged, or too large.
    """
    return _read(path, gray, None)


def _read_image(path: Path, size: int, gray: bool) -> Float[Tensor, "c size size"]:
    return _read(path, gray, size)


def _read(path: Path, gray: bool, size: int | None) -> Float[Tensor, "c h w"]:
    with open_image(path, str(path)) as image:
        try:
            upright = in_eight_bits(plain(ImageOps.exif_transpose(image)), image.mode).convert("L" if gray else "RGB")
        except DAMAGE as error:
            raise ValueError(f"{path} could not be decoded ({error}); save it again as PNG, or remove it.") from error
    return _pixels(upright if size is None else ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS))


def _pixels(image: Image.Image) -> Float[Tensor, "c h w"]:
    values = np.atleast_3d(np.asarray(image))
    return to_unit_range(rearrange(torch.from_numpy(values.copy()), "h w c -> c h w"))


def fit_images(images: Float[Tensor, "n c h w"], shape: tuple[int, ...]) -> Float[Tensor, "n c2 h2 w2"]:
    """Brings images in [-1, 1] to another size, and gray ones to more channels.

    Args:
        images: (n, c, h, w); c is 1, or the channels of `shape`.
        shape: (c2, h2, w2), for example a model's.
    """
    resized = F.interpolate(images, size=shape[1:], mode="bilinear", antialias=True)
    return resized.expand(-1, shape[0], -1, -1).clamp(-1, 1)
