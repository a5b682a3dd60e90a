"""A user's image file -> an array in the model's shape. Checked before memory is taken."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from app.records import Upload

MAX_PIXELS = 50_000_000
MAX_BYTES = 16 * 2**20


def read_upload(content: bytes, shape: tuple[int, int, int]) -> Upload:
    """Decodes, crops to the model's aspect, resizes and converts an image.

    Args:
        content: the file; any format Pillow reads.
        shape: (c, h, w) of the model; c is 1 (gray) or 3.

    Raises:
        ValueError: not an image, damaged, or too large; one sentence with the remedy.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"The file has {len(content) / 2**20:.0f} MB, but at most {MAX_BYTES // 2**20} are taken; shrink it."
        )
    try:
        image = _decode(content)
    except UnidentifiedImageError:
        raise ValueError(
            "This file is not an image that can be read; upload a PNG, JPEG, WebP, BMP, GIF or TIFF."
        ) from None
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError, Warning) as error:
        raise ValueError(f"The image could not be decoded ({error}); save it again as PNG and retry.") from None
    channels, height, width = shape
    fitted = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, dtype=np.float32).reshape(height, width, channels) / 127.5 - 1
    return Upload.from_array(np.moveaxis(pixels, -1, 0))


def _decode(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image: Image.Image = Image.open(io.BytesIO(content))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise OSError(f"it has {width} × {height} pixels, more than {MAX_PIXELS:,}")
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # Transparent parts show the white page they were drawn for.
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit and float images, stretched from their darkest to their brightest value."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, span = values.min(), float(np.ptp(values)) or 1.0
    return Image.fromarray(((values - low) / span * 255).round().astype(np.uint8))
