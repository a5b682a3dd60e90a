"""A user's image file -> an array in the model's shape. Checked before memory is taken."""

from __future__ import annotations

import io
import struct
import threading

import numpy as np
from PIL import Image, ImageOps

from app.records import Upload

MAX_PIXELS = 50_000_000
MAX_BYTES = 16 * 2**20

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


def read_upload(content: bytes, shape: tuple[int, int, int]) -> Upload:
    """Decodes, crops to the model's aspect, resizes and converts an image.

    Args:
        content: the file; one of `FORMATS`.
        shape: (c, h, w) of the model; c is 1 (gray) or 3.

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
    return Upload.from_array(np.moveaxis(pixels, -1, 0))


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
