"""Intact files to spoil, and ways to spoil them."""

from __future__ import annotations

import copy
import io
import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

import dpi_core
from app.services import stored
from dpi_core.build import build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.model import Model

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.integers(-3, 70), st.floats(), st.text(max_size=4)
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)

POINTS = {
    "name": "ring-flow-dpi",
    "data": {"kind": "ring_mixture"},
    "shape": [2],
    "process": {"kind": "flow"},
    "backbone": {"kind": "mlp", "width": 4, "depth": 2},
    "conditioning": {"kind": "dpi", "schedule": {"n_knots": 5}},
    "training": {"steps": 3},
    "sampling": {"sampler": "heun", "steps": 4},
}
IMAGES = {**POINTS, "data": {"kind": "digits"}, "shape": [1, 8, 8], "process": {"kind": "vp"}}
RECIPES = [
    POINTS,
    IMAGES | {"backbone": {"kind": "unet", "base_channels": 8, "channel_multipliers": [1, 2], "head_channels": 8}},
    IMAGES | {"backbone": {"kind": "drunet", "channels": [4, 8], "blocks": 1}, "process": {"kind": "edm"}},
    IMAGES | {"backbone": {"kind": "dncnn", "channels": 4, "depth": 3}, "conditioning": {"kind": "embedding"}},
]


def spoilt(intact: bytes) -> SearchStrategy[bytes]:
    """A file with some bytes changed, cut off, doubled, or replaced altogether."""
    places = st.integers(0, len(intact) - 1)
    edits = st.lists(st.tuples(places | st.integers(0, min(64, len(intact)) - 1), st.integers(0, 255)), max_size=6)
    return st.one_of(
        edits.map(lambda changes: _edited(intact, changes)),
        places.map(lambda end: intact[:end]),
        st.tuples(places, places).map(lambda span: intact[: max(span)] + intact[min(span) :]),
        st.binary(max_size=64),
    )


def _edited(intact: bytes, changes: list[tuple[int, int]]) -> bytes:
    found = bytearray(intact)
    for at, value in changes:
        found[at] = value
    return bytes(found)


def spoilt_json(intact: Any) -> SearchStrategy[bytes]:
    """JSON with some values replaced, keys added or dropped; or the text itself spoilt."""
    spots = list(places(intact))
    edits = st.lists(st.tuples(st.sampled_from(spots), ANYTHING | st.just(_GONE)), min_size=1, max_size=3)
    edited = edits.map(lambda changes: json.dumps(with_edits(intact, changes)).encode())
    return st.one_of(*[edited] * EDITED, spoilt(json.dumps(intact).encode()))


def spoilt_tensors(intact: bytes) -> SearchStrategy[bytes]:
    """A safetensors file whose header or bytes are spoilt."""
    length = struct.unpack("<Q", intact[:8])[0]
    header, body = json.loads(intact[8 : 8 + length]), intact[8 + length :]
    anything = st.dictionaries(st.text(max_size=3), ANYTHING).map(lambda each: json.dumps(each).encode())
    headers = (spoilt_json(header) | anything).map(lambda text: struct.pack("<Q", len(text)) + text + body)
    return st.one_of(headers, headers, spoilt(intact))


_GONE = object()

EDITED = 9
"""Files with something else in them, for each of the four ways to spoil the bytes: these rarely get past the first check."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Paths to every value in JSON, and to a new key of every object."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield (*path, "extra")
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def with_edits(intact: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """A copy with values put at paths; a path that an earlier change has taken away is passed over."""
    found = copy.deepcopy(intact)
    for path, value in changes:
        spot = found
        for key in path[:-1]:
            spot = spot[key] if _has(spot, key) else None
        if value is not _GONE and (isinstance(spot, dict) or _has(spot, path[-1])):
            spot[path[-1]] = value
        elif _has(spot, path[-1]):
            del spot[path[-1]]
    return found


def _has(spot: Any, key: Any) -> bool:
    return key in spot if isinstance(spot, dict) else isinstance(spot, list) and type(key) is int and key < len(spot)


@cache
def scratch() -> Path:
    """A folder that lasts as long as the process."""
    scratch.kept = tempfile.TemporaryDirectory(prefix="dpi-fuzzing-")  # type: ignore[attr-defined]
    return Path(scratch.kept.name)  # type: ignore[attr-defined]


@cache
def checkpoints() -> tuple[Path, ...]:
    """Tiny checkpoints, one for each recipe."""
    return tuple(_written(recipe, scratch() / f"checkpoint {i}") for i, recipe in enumerate(RECIPES))


def _written(recipe: dict[str, Any], folder: Path) -> Path:
    made = recipe_from_dict(recipe)
    return dpi_core.save(Model(build_denoiser(made), made, {}), folder)


def full_recipe(number: int) -> dict[str, Any]:
    """A recipe with every key written out."""
    return json.loads(json.dumps(recipe_to_dict(recipe_from_dict(RECIPES[number]))))


@cache
def files() -> dict[str, bytes]:
    """All the files of a checkpoint, with the scores and stored frames of a shipped one, thinned."""
    from safetensors import safe_open
    from safetensors.numpy import save

    shipped = stored.CHECKPOINTS / "mixture2d-flow-dpi"
    with safe_open(shipped / "analysis.safetensors", framework="numpy") as analysis:
        about = analysis.metadata()
        tensors = {name: analysis.get_tensor(name) for name in analysis.keys() if name.startswith(("sweep", "pad"))}
    thin = {name: np.ascontiguousarray(_few(value)) for name, value in tensors.items()}
    texts = json.loads(about["about"])
    kept = {key: value for key, value in texts.items() if key not in ("parameters", "layers")}
    found = {name: (checkpoints()[0] / name).read_bytes() for name in ("config.json", "model.safetensors")}
    found["metrics.json"] = (shipped / "metrics.json").read_bytes()
    found["analysis.safetensors"] = save(thin, {"about": json.dumps(kept)})
    found["README.md"] = b"# a card\n\n<script>alert(1)</script> [x](javascript:alert(1))\n"
    return found


def _few(value: np.ndarray) -> np.ndarray:
    """Four of the samples: by far the longest axis."""
    longest = int(np.argmax(value.shape))
    return value.take(range(4), axis=longest) if value.shape[longest] >= 256 else value


@cache
def pictures() -> tuple[bytes, ...]:
    """Small images of every format and pixel format that an upload may have."""
    y, x = np.mgrid[0:24, 0:36]
    photo = Image.fromarray(np.stack([7 * x, 10 * y, 60 + 0 * x], -1).astype(np.uint8))
    gray = np.asarray(photo.convert("L"))
    wide = [Image.fromarray(gray.astype(kind)) for kind in (np.uint16, np.int32, np.float32)]
    modes = [photo.convert(mode) for mode in ("1", "L", "LA", "P", "RGBA", "CMYK")]
    written = [_saved(photo, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")]
    return (
        *written,
        *(_saved(image, "TIFF") for image in [*wide, *modes]),
        _saved(modes[4], "PNG"),
        _saved(wide[0], "PNG"),
    )


def _saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
