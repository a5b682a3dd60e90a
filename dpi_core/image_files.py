"""Image files as their headers describe them: measured before a pixel is unpacked. No torch."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from dpi_core.limits import Limits

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""Formats that are nothing but data: Pillow hands PostScript to an interpreter."""

DAMAGE = (
    *(OSError, SyntaxError, EOFError, ValueError, LookupError, TypeError, OverflowError, struct.error, Warning),
    RuntimeError,  # of the AVIF decoder
    Image.DecompressionBombError,
)
"""What Pillow raises while it opens or decodes a damaged file."""

_PILLOW = threading.Lock()
"""Held while Pillow's own bound, which is one for the whole process, is ours."""


def open_image(file: Path | io.BytesIO, what: str, limits: Limits | None = None) -> Image.Image:
    """The image that a file holds; its pixels are not unpacked yet.

    Args:
        file: of one of `FORMATS`.
        what: the file, in a sentence.
        limits: by default what the environment allows.

    Raises:
        ValueError: it is no such image, or has more than `Limits.image_pixels`; one sentence.
    """
    limits = limits or Limits.from_environment()
    try:
        with _pillow_within(limits.image_pixels):
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise limits.refusal("image_pixels", "too many", what, "shrink it") from None
    except DAMAGE:
        raise ValueError(
            f"{what} is not an image that can be read; choose a PNG, JPEG, WebP, GIF or TIFF, or leave it out."
        ) from None
    try:
        limits.check("image_pixels", image.width * image.height, what, "shrink it")
    except ValueError:
        image.close()
        raise
    return image


def plain(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB, RGBA, or F where it has more than 8 bits; these can be reduced and resized."""
    if image.mode.startswith(("I", "F")):
        return image.convert("F")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def in_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """A `plain` image in L or RGB: transparent parts show the white page they were drawn for.

    16 bits keep their brightness; wider and float images are stretched from their darkest to their brightest value.

    Args:
        image: what `plain` made, perhaps resized.
        mode: of the file.
    """
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode != "F":
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = (0.0, 65535.0) if mode.startswith("I;16") else (values.min(), values.max())
    return Image.fromarray(((values - low) / ((high - low) or 1.0) * 255).round().clip(0, 255).astype(np.uint8))


@contextmanager
def _pillow_within(pixels: int) -> Iterator[None]:
    """Pillow refuses twice as many pixels while it reads a header: some of its decoders take memory there."""
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `open_image` counts exactly
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
