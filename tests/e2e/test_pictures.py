"""The guide's pictures are what the pages look like: each is taken anew and compared."""

import io
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.e2e
DOCS = Path(__file__).parents[2] / "docs"
ALIKE = 0.02
"""Mean difference of blocks of 20 × 20 pixels, of 1 between black and white. Taken twice a page differs by 0.003 at most, two
pages by 0.022 at least."""


def module():
    spec = util.spec_from_file_location("docs_pictures", DOCS / "pictures.py")
    found = util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


PICTURES = module()


def blocks(content):
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.reduce(20), np.float64) / 255


@pytest.mark.parametrize("name", PICTURES.SHOTS)
def test_a_picture_shows_the_page_as_it_is(name, open_page, server):
    shot = PICTURES.SHOTS[name]
    viewport = dict(zip(("width", "height"), shot.size, strict=True))
    page = open_page(viewport=viewport, color_scheme="light")
    now = blocks(PICTURES.taken(page, server.url, shot))
    kept = {name: blocks((DOCS / "pictures" / f"{name}.webp").read_bytes()) for name in PICTURES.SHOTS}
    found = {other: np.abs(now - each).mean() for other, each in kept.items() if each.shape == now.shape}
    assert found[name] < ALIKE and found[name] == min(found.values())
