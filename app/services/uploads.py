"""A user's image files -> arrays in the model's shape. Checked before memory is taken."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from app.records import Upload

MAX_PIXELS = 50_000_000
MAX_BYTES = 16 * 2**20
MAX_IMAGES = 64
MAX_BYTES_TOGETHER = 128 * 2**20
MAX_NAME = 80
"""Characters of a file's name in a sentence."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""Formats that are nothing but data: Pillow hands PostScript to an interpreter."""

SPARE = 4
"""An image is resampled from at least so many times the model's size; what is larger is reduced first, to save memory."""

ONE_AT_A_TIME = threading.Lock()
"""An image of 50 million pixels takes up to 500 MB while it is decoded."""

TOO_MANY_PIXELS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
DAMAGE = (
    *(OSError, SyntaxError, EOFError, ValueError, LookupError, TypeError, OverflowError, struct.error, Warning),
    RuntimeError,  # of the AVIF decoder
)


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
        files: `MAX_IMAGES` of them, as long as they have at most `MAX_BYTES_TOGETHER`, are read; the first by name.
        shape: (c, h, w) of the model.
    """
    taken, refused = _within_limits(sorted(files, key=lambda file: file.name))
    images = []
    for file in taken:
        try:
            images.append(read_image(file.getvalue(), shape))
        except ValueError as error:
            refused.append(f"{file.name[:MAX_NAME]}: {error}")
    return Received(Upload.from_array(np.stack(images)) if images else None, tuple(refused))


def _within_limits(files: list[ImageFile]) -> tuple[list[ImageFile], list[str]]:
    """The files that are read, and a sentence for each limit that the others exceed."""
    taken, refused, held = files[:MAX_IMAGES], [], 0
    if len(files) > MAX_IMAGES:
        refused.append(
            f"These are {len(files)} files, but a session may keep {MAX_IMAGES} images: the first {MAX_IMAGES} by name are"
            " read; choose fewer."
        )
    for at, file in enumerate(taken):
        held += file.size
        if held > MAX_BYTES_TOGETHER:
            refused.append(
                f"These files have more than {MAX_BYTES_TOGETHER // 2**20} MB together, which is the most that is taken: the"
                f" first {at} by name are read; shrink them or choose fewer."
            )
            return taken[:at], refused
    return taken, refused


def read_image(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes, crops to the model's aspect, resizes and converts an image.

    Args:
        content: the file; one of `FORMATS`.
        shape: (c, h, w) of the model; c is 1 (gray) or 3.

    Returns:
        (c, h, w), float32 in [-1, 1].

    Raises:
        ValueError: not an image, damaged, or too large; one sentence with the remedy.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"The file has {len(content) / 2**20:.1f} MB, but at most {MAX_BYTES // 2**20} are taken; shrink it."
        )
    channels, height, width = shape
    packed = _open(content)
    try:
        with ONE_AT_A_TIME:
            image = _decode(packed, SPARE * width, SPARE * height)
    except DAMAGE as error:
        raise ValueError(f"The image could not be decoded ({error}); save it again as PNG and retry.") from None
    fitted = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, dtype=np.float32).reshape(height, width, channels) / 127.5 - 1
    return np.moveaxis(pixels, -1, 0)


def _open(content: bytes) -> Image.Image:
    """The image as its header describes it; pixels are not unpacked yet."""
    too_large = f"The image has more than {MAX_PIXELS // 10**6} million pixels; shrink it."
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except TOO_MANY_PIXELS:
        raise ValueError(too_large) from None
    except DAMAGE:
        raise ValueError("This file is not an image that can be read; upload a PNG, JPEG, WebP, GIF or TIFF.") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(too_large)
    return image


def _decode(packed: Image.Image, width: int, height: int) -> Image.Image:
    """The pixels, upright, in gray or RGB, reduced by whole factors as long as they are larger than this."""
    packed.draft(None, (width, height))  # a JPEG is decoded at the size that is needed
    ImageOps.exif_transpose(packed, in_place=True)
    image = _plain_mode(packed)
    factor = min(image.width // width, image.height // height)
    reduced = image.reduce(factor) if factor > 1 else image
    if reduced.mode == "F":
        return _to_eight_bits(reduced, packed.mode.startswith("I;16"))
    if reduced.mode == "RGBA":
        # Transparent parts show the white page they were drawn for.
        return Image.alpha_composite(Image.new("RGBA", reduced.size, "white"), reduced).convert("RGB")
    return reduced


def _plain_mode(image: Image.Image) -> Image.Image:
    """As L, RGB, RGBA, or F where it has more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        return image.convert("F")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _to_eight_bits(image: Image.Image, is_sixteen: bool) -> Image.Image:
    """16 bits keep their brightness; wider and float images are stretched from their darkest to their brightest value."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = (0.0, 65535.0) if is_sixteen else (values.min(), values.max())
    return Image.fromarray(((values - low) / ((high - low) or 1.0) * 255).round().clip(0, 255).astype(np.uint8))
