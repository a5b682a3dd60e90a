"""A user's image files -> arrays in the model's shape. Checked before memory is taken."""

from __future__ import annotations

import io
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from app.records import Upload
from dpi_core.image_files import DAMAGE, in_eight_bits, open_image, plain
from dpi_core.limits import Limits

MAX_NAME = 80
"""Characters of a file's name in a sentence."""

SPARE = 4
"""An image is resampled from at least so many times the model's size; what is larger is reduced first, to save memory."""

ONE_AT_A_TIME = threading.Lock()
"""An image of 50 million pixels takes up to 500 MB while it is decoded."""


class ImageFile(Protocol):
    """A file that a browser has sent."""

    name: str
    size: int

    def getvalue(self) -> bytes:
        """Its content."""
        ...


@dataclass(frozen=True)
class Received:
    """What became of some files.

    Attributes:
        upload: the images among them, in the order of the files' names; None where there was none.
        refused: a sentence for each file that is no image, and one for each limit that was exceeded.
    """

    upload: Upload | None
    refused: tuple[str, ...]


def read_images(files: Sequence[ImageFile], shape: tuple[int, int, int]) -> Received:
    """Reads images, or a folder of them; what cannot be read is named, and the others are taken.

    Args:
        files: `Limits.images` of them, as long as they have at most `Limits.images_bytes`, are read; the first by name.
        shape: (c, h, w) of the model.
    """
    taken, refused = _within_limits(sorted(files, key=lambda file: file.name), Limits.from_environment())
    images = []
    for file in taken:
        try:
            images.append(read_image(file.getvalue(), shape))
        except ValueError as error:
            refused.append(f"{file.name[:MAX_NAME]}: {error}")
    return Received(Upload.from_array(np.stack(images)) if images else None, tuple(refused))


def _within_limits(files: list[ImageFile], limits: Limits) -> tuple[list[ImageFile], list[str]]:
    """The files that are read, and a sentence for each limit that the others exceed."""
    taken, refused = files, []
    measures: dict[str, Callable[[ImageFile], int]] = {"images": lambda file: 1, "images_bytes": lambda file: file.size}
    for name, measure in measures.items():
        held = list(accumulate(map(measure, taken), initial=0))
        fit = bisect_right(held, getattr(limits, name)) - 1
        try:
            limits.check(name, held[-1], "What you chose", f"the first {fit} by name are read: choose fewer")
        except ValueError as error:
            refused.append(str(error))
            taken = taken[:fit]
    return taken, refused


def read_image(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes, crops to the model's aspect, resizes and converts an image.

    Args:
        content: the file, of one of `dpi_core.image_files.FORMATS`.
        shape: (c, h, w) of the model; c is 1 (gray) or 3.

    Returns:
        (c, h, w), float32 in [-1, 1].

    Raises:
        ValueError: not an image, damaged, or too large; one sentence with the remedy.
    """
    limits = Limits.from_environment()
    limits.check("image_bytes", len(content), "The file", "shrink it")
    channels, height, width = shape
    packed = open_image(io.BytesIO(content), "The file", limits)
    try:
        with ONE_AT_A_TIME:
            image = _decode(packed, SPARE * width, SPARE * height)
    except DAMAGE as error:
        raise ValueError(f"The image could not be decoded ({error}); save it again as PNG and retry.") from None
    fitted = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, dtype=np.float32).reshape(height, width, channels) / 127.5 - 1
    return np.moveaxis(pixels, -1, 0)


def _decode(packed: Image.Image, width: int, height: int) -> Image.Image:
    """The pixels, upright, in gray or RGB, reduced by whole factors as long as they are larger than this."""
    packed.draft(None, (width, height))  # a JPEG is decoded at the size that is needed
    ImageOps.exif_transpose(packed, in_place=True)
    image = plain(packed)
    factor = min(image.width // width, image.height // height)
    return in_eight_bits(image.reduce(factor) if factor > 1 else image, packed.mode)
