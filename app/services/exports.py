"""Runs as files: animated GIF and WebP, an MP4 film, a PNG sheet of key frames, and the states as NPZ.

Every file carries the seed and the settings: GIF and MP4 as their comment, WebP in XMP, PNG as text, NPZ as the entry
"about".
"""

from __future__ import annotations

import html
import io
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from app.records import TrajectoryResult

ABOUT = "dpi-explorer"
"""The PNG's text key."""

MAX_FRAMES = 60
FRAME_MS, LAST_MS = 70, 1200
SHEET_FRAMES = 8
TILE, GAP, LABEL = 220, 10, 16
BACKGROUND, INK, FAINT = (255, 255, 255), (20, 20, 20), (205, 205, 205)
THETA0, THETA1 = np.array([0, 114, 178]), np.array([213, 94, 0])


def gif(runs: Sequence[TrajectoryResult], about: Mapping[str, Any]) -> bytes:
    """All runs side by side, x_s above x̂0, from noise to sample."""
    frames = [frame.quantize(64) for frame in _frames(runs)]
    return _animation(frames, "GIF", comment=json.dumps(about, ensure_ascii=True).encode(), disposal=1)


def webp(runs: Sequence[TrajectoryResult], about: Mapping[str, Any]) -> bytes:
    """The same as `gif`, without a palette and smaller."""
    return _animation(_frames(runs), "WEBP", xmp=_xmp(about), quality=80, method=2)


def mp4(runs: Sequence[TrajectoryResult], about: Mapping[str, Any]) -> bytes:
    """The same as `gif`, in H.264, which every player and slide programme shows; the last frame stands still for a while."""
    import imageio_ffmpeg  # looks for its program when it is imported, which no page has to wait for

    frames = _frames(runs)
    frames += [frames[-1]] * (LAST_MS // FRAME_MS)
    width, height = frames[0].size
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(1000 / FRAME_MS), "-i", "-"]
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    comment = ["-metadata", f"comment={json.dumps(about, ensure_ascii=False)}"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *coding, *comment, str(file)]
        subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), capture_output=True, check=True)
        return file.read_bytes()


def sheet(runs: Sequence[TrajectoryResult], about: Mapping[str, Any]) -> bytes:
    """Key frames in columns, evenly spaced in s, one row of states for each run."""
    levels = _levels(runs, SHEET_FRAMES)
    picture = Image.new("RGB", (len(levels) * (TILE + GAP) + GAP, len(runs) * (TILE + LABEL + GAP) + GAP), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for row, run in enumerate(runs):
        for column, s in enumerate(levels):
            k = _state_at(run, s)
            left, top = GAP + column * (TILE + GAP), GAP + row * (TILE + LABEL + GAP)
            pen.text((left, top), f"{'ABCD'[row]}  s = {run.s[k]:.2f}", fill=INK)
            picture.paste(_picture(run, run.x, k), (left, top + LABEL))
    info = PngImagePlugin.PngInfo()
    info.add_itxt(ABOUT, json.dumps(about, ensure_ascii=False))
    return _saved(picture, "PNG", pnginfo=info)


def npz(runs: Sequence[TrajectoryResult], about: Mapping[str, Any]) -> bytes:
    """States and estimates of every run as arrays `a_x`, `a_x0_hat`, `a_s`, `a_lam`, `a_nfe`, `b_x`, ..."""
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about, ensure_ascii=False))}
    for letter, run in zip("abcd", runs, strict=False):
        scale = run.scale.reshape(-1, *[1] * (run.x.ndim - 1))
        arrays[f"{letter}_x"] = (run.x * scale).astype(np.float32)
        for name in ("x0_hat", "s", "lam", "nfe"):
            if getattr(run, name) is not None:
                arrays[f"{letter}_{name}"] = getattr(run, name)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _animation(frames: Sequence[Image.Image], kind: str, **options: Any) -> bytes:
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    return _saved(frames[0], kind, save_all=True, append_images=list(frames[1:]), duration=durations, loop=0, **options)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _frames(runs: Sequence[TrajectoryResult]) -> list[Image.Image]:
    count = min(MAX_FRAMES, max(len(run.s) for run in runs))
    return [_frame(runs, s, index) for index, s in enumerate(_levels(runs, count))]


def _frame(runs: Sequence[TrajectoryResult], s: float, index: int) -> Image.Image:
    size = (len(runs) * (TILE + GAP) + GAP, 2 * (TILE + LABEL + GAP) + GAP)
    picture = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for column, run in enumerate(runs):
        k, left = _state_at(run, s), GAP + column * (TILE + GAP)
        for row, (name, states) in enumerate((("x_s", run.x), ("x0 estimate", run.x0_hat))):
            top = GAP + row * (TILE + LABEL + GAP)
            pen.text((left, top), f"{'ABCD'[column]}  {name}  s = {run.s[k]:.2f}  NFE {run.nfe[k]}", fill=INK)
            picture.paste(_picture(run, states, k), (left, top + LABEL))
    # The bar of time keeps encoders from merging equal frames: every file has one frame per level.
    pen.rectangle((0, size[1] - 3, size[0] * (1 - s), size[1]), fill=(15, 118, 110))
    picture.putpixel((index % size[0], 0), FAINT)
    return picture


def _levels(runs: Sequence[TrajectoryResult], count: int) -> list[float]:
    high, low = max(run.s[0] for run in runs), min(run.s[-1] for run in runs)
    return np.linspace(high, low, count).tolist()


def _state_at(run: TrajectoryResult, s: float) -> int:
    return max(0, int(np.sum(run.s >= s - 1e-6)) - 1)


def _picture(run: TrajectoryResult, states: np.ndarray, k: int) -> Image.Image:
    return _mosaic(states[k]) if states.ndim == 5 else _scatter(run, states[k], k)


def _mosaic(images: np.ndarray) -> Image.Image:
    """Images (n, h, w, c) in [-1, 1] as near-square tiles, TILE pixels wide."""
    n, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    pixels = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    canvas = np.full((rows * (height + 1), columns * (width + 1), 3), 255, np.uint8)
    for index, image in enumerate(np.broadcast_to(pixels, (n, height, width, 3)) if channels == 1 else pixels):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas).resize((TILE, TILE), Image.Resampling.NEAREST)


def _scatter(run: TrajectoryResult, points: np.ndarray, k: int) -> Image.Image:
    """Points (n, 2) over the density of the target."""
    assert run.field is not None
    density = Image.fromarray(np.rint(255 - 70 * run.field.density).astype(np.uint8)).resize((TILE, TILE))
    canvas = np.stack([np.asarray(density)] * 3, axis=-1).copy()
    lam = 1.0 if run.lam is None else float(run.lam[k])
    at = np.rint((points / run.field.extent + 1) / 2 * (TILE - 1)).astype(int)
    inside = ((at >= 0) & (at < TILE)).all(axis=1)
    canvas[TILE - 1 - at[inside, 1], at[inside, 0]] = np.rint((1 - lam) * THETA0 + lam * THETA1)
    return Image.fromarray(canvas)


def _xmp(about: Mapping[str, Any]) -> bytes:
    text = html.escape(json.dumps(about, ensure_ascii=False), quote=False)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:description>{text}</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
