"""What every request names: a model and the samples it looks at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

InputKind = Literal["held-out", "digits", "photos", "samples", "upload"]
INPUT_KINDS: tuple[InputKind, ...] = ("held-out", "digits", "photos", "samples", "upload")

UNSTORED_DATA = ("idx", "image_folder", "patches")
"""Kinds of training data that neither come with the app nor may be stored: the user points at their files."""


@dataclass(frozen=True)
class ModelKey:
    """One checkpoint in one state.

    Attributes:
        folder: where it lies.
        digest: of its weights and config; a replaced file is another model.
    """

    folder: str
    digest: str


@dataclass(frozen=True)
class Upload:
    """A user's image, already brought to the model's shape.

    Attributes:
        pixels: float32 in [-1, 1], raw bytes.
        shape: (c, h, w).
        digest: of the pixels; the request's hash uses it instead of the bytes.
    """

    pixels: bytes = field(repr=False)
    shape: tuple[int, int, int]
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.pixels).hexdigest())

    @classmethod
    def from_array(cls, image: np.ndarray) -> Upload:
        """From an array of shape (c, h, w) in [-1, 1]."""
        return cls(np.ascontiguousarray(image, dtype=np.float32).tobytes(), image.shape)

    def array(self) -> np.ndarray:
        """(c, h, w), float32 in [-1, 1]."""
        return np.frombuffer(self.pixels, dtype=np.float32).reshape(self.shape).copy()


@dataclass(frozen=True)
class Inputs:
    """Which clean samples are looked at.

    Attributes:
        kind: held-out data, bundled digits or photos, the model's own samples, or an upload.
        n: how many.
        seed: of their choice and of their noise.
        upload: the image, for that kind.
    """

    kind: InputKind
    n: int
    seed: int
    upload: Upload | None = None
