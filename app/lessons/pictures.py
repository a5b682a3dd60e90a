"""Samples and curves as small pictures: data URIs that a page shows without a request."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from app.figures.chart import GUIDE, LAMBDA, THIS
from app.lessons.lesson import Pictures, Tile

SHOWN_IMAGES, SHOWN_POINTS, SHOWN_ARROWS = 4, 384, 120
SIDE = 100
"""Of a tile of points, in units of its own."""

LEAST_SIDE = 56
"""Of an image, in pixels."""

FRAME = 140
"""The grey between images, seen on light and on dark."""

BLUE, WHITE, RED = (np.array(colour, dtype=np.float64) for colour in ((33, 102, 172), (247, 247, 247), (178, 24, 43)))


def image_tile(images: np.ndarray, alt: str, note: str = "") -> Tile:
    """The first few of (n, h, w, c) images, in [-1, 1] or bytes, two in a row."""
    values = to_unit(images[:SHOWN_IMAGES])
    pixels = np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)
    return Tile(_png(np.broadcast_to(pixels, (*pixels.shape[:3], 3))), alt, note)


def signed_tile(images: np.ndarray, reach: float, alt: str, note: str = "") -> Tile:
    """The first few of (n, h, w, c) images of either sign: blue below zero, red above, white at zero.

    Args:
        images: in any unit; the mean over channels is drawn.
        reach: the value at which the colours end.
        alt: what is shown.
        note: stands under it.
    """
    share = np.clip(images[:SHOWN_IMAGES].astype(np.float64).mean(axis=-1, keepdims=True) / reach, -1, 1)
    pixels = WHITE + np.maximum(share, 0) * (RED - WHITE) + np.maximum(-share, 0) * (BLUE - WHITE)
    return Tile(_png(np.rint(pixels).astype(np.uint8)), alt, note)


def point_tile(points: np.ndarray, extent: float, alt: str, note: str = "") -> Tile:
    """The first few of (n, 2) points in a square from −extent to extent."""
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in _place(points[:SHOWN_POINTS], extent))
    return Tile(_svg(f'<path d="{dots}" stroke="{THIS}" stroke-width="2" stroke-linecap="round"/>'), alt, note)


def arrow_tile(points: np.ndarray, vectors: np.ndarray, extent: float, alt: str, note: str = "") -> Tile:
    """Arrows at the first few of (n, 2) points; vectors of either length are drawn with a common factor."""
    shown = vectors[:SHOWN_ARROWS].astype(np.float64)
    longest = float(np.quantile(np.linalg.norm(shown, axis=1), 0.95)) or 1.0
    starts = points[:SHOWN_ARROWS].astype(np.float64)
    ends = _place(starts + shown * (0.35 * extent / longest), extent)
    lines = "".join(
        f"M{a:.1f} {b:.1f}L{x:.1f} {y:.1f}" for (a, b), (x, y) in zip(_place(starts, extent), ends, strict=True)
    )
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in _place(starts, extent))
    parts = f'<path d="{lines}" stroke="{GUIDE}" stroke-width="0.8"/>'
    return Tile(_svg(f'{parts}<path d="{dots}" stroke="{THIS}" stroke-width="2" stroke-linecap="round"/>'), alt, note)


def sample_tile(samples: np.ndarray, extent: float, alt: str, note: str = "") -> Tile:
    """Images or points, whichever they are."""
    return image_tile(samples, alt, note) if samples.ndim == 4 else point_tile(samples, extent, alt, note)


def curve_tile(s: np.ndarray, lam: np.ndarray, alt: str, note: str = "") -> Tile:
    """λ against s, both from 0 to 1; λ is (t,) or, with groups of layers, (t, g). Dashed: the straight line."""
    curves = np.clip(lam.reshape(len(s), -1), 0, 1).T
    ways = ("L".join(f"{SIDE * x:.1f} {SIDE * (1 - y):.1f}" for x, y in zip(s, curve, strict=True)) for curve in curves)
    drawn = "".join(f"M{way}" for way in ways)
    line = f'<path d="M0 {SIDE}L{SIDE} 0" stroke="{GUIDE}" stroke-width="1" stroke-dasharray="4 4"/>'
    return Tile(_svg(f'{line}<path d="{drawn}" stroke="{LAMBDA}" stroke-width="3"/>'), alt, note)


def extent_of(*points: np.ndarray) -> float:
    """Half the side of a square that holds nearly all points, a multiple of one half."""
    return float(np.ceil(2 * max(np.quantile(np.abs(p), 0.99) for p in points)) / 2)


def square_in_words(extent: float) -> str:
    """The axes of a tile of points, to stand after a sentence."""
    return f" Each square reaches from −{extent:g} to {extent:g} in both coordinates."


def to_unit(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1], from bytes or as they are."""
    return images.astype(np.float64) / 127.5 - 1 if images.dtype == np.uint8 else images.astype(np.float64)


def as_html(pictures: Pictures) -> str:
    """The table as HTML; it shrinks with the screen."""
    head = "".join(f"<div class=h>{escape(column)}</div>" for column in ("", *pictures.columns))
    body = "".join(
        f"<div class=l>{escape(label)}</div>" + "".join(_tile_html(tile) for tile in tiles)
        for label, tiles in pictures.rows
    )
    return (
        f'<div class="tiles" style="--columns:{len(pictures.columns)};--rows:{len(pictures.rows)}">{head}{body}</div>'
    )


def _tile_html(tile: Tile) -> str:
    note = f"<span>{escape(tile.note)}</span>" if tile.note else ""
    return f'<div><img src="{tile.source}" alt="{escape(tile.alt)}">{note}</div>'


def _png(pixels: np.ndarray) -> str:
    """(n, h, w, 3) bytes as a mosaic, two in a row, with a line of grey around each."""
    # Small images grow, so that the line between them is thin.
    factor = max(1, LEAST_SIDE // pixels.shape[1])
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    n, height, width, _ = pixels.shape
    columns = min(n, 2)
    canvas = np.full((-(-n // columns) * (height + 1) + 1, columns * (width + 1) + 1, 3), FRAME, np.uint8)
    for index, image in enumerate(pixels):
        top, left = 1 + index // columns * (height + 1), 1 + index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _svg(content: str) -> str:
    frame = (
        f'<path d="M0 0H{SIDE}V{SIDE}H0ZM{SIDE / 2} 0V{SIDE}M0 {SIDE / 2}H{SIDE}" stroke="{GUIDE}" stroke-width=".5"/>'
    )
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" fill="none">{frame}{content}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _place(points: np.ndarray, extent: float) -> np.ndarray:
    """Where points lie in a tile, (n, 2); those outside stand on its edge."""
    right_and_up = np.clip(points.astype(np.float64) / extent, -1, 1) * np.array([1, -1])
    return (right_and_up + 1) * (SIDE / 2)
