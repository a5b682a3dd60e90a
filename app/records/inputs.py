"""What every request names: a model and the samples it looks at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

InputKind = Literal["held-out", "digits", "photos", "samples", "upload"]
INPUT_KINDS: tuple[InputKind, ...] = ("held-out", "digits", "photos", "samples", "upload")


@dataclass(frozen=True)
class ModelKey:
    """One checkpoint in one state.

    Attributes:
        folder: where it lies.
        digest: of its weights and config; a replaced file is another model.
        name: what the session calls it; of two that differ in nothing else the answers are the same.
    """

    folder: str
    digest: str
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Upload:
    """A user's images, already brought to the model's shape.

    Attributes:
        pixels: float32 in [-1, 1], raw bytes.
        shape: (k, c, h, w) of k images.
        digest: of the pixels; it and the shape stand for the bytes where requests are compared and hashed.
    """

    pixels: bytes = field(repr=False, compare=False)
    shape: tuple[int, int, int, int]
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.pixels).hexdigest())

    @classmethod
    def from_array(cls, images: np.ndarray) -> Upload:
        """From an array of shape (k, c, h, w) in [-1, 1]."""
        return cls(np.ascontiguousarray(images, dtype=np.float32).tobytes(), images.shape)

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.shape[0]

    def array(self) -> np.ndarray:
        """(k, c, h, w), float32 in [-1, 1]."""
        return np.frombuffer(self.pixels, dtype=np.float32).reshape(self.shape).copy()


@dataclass(frozen=True)
class Inputs:
    """Which clean samples are looked at.

    Attributes:
        kind: held-out data, bundled digits or photos, the model's own samples, or an upload.
        n: how many; of an upload a multiple of the images that are taken, each of which gets so many draws of noise.
        seed: of their choice and of their noise.
        upload: the images, for that kind.
        of: whose held-out data or samples they are; None for those of the model that is given them.
    """

    kind: InputKind
    n: int
    seed: int
    upload: Upload | None = None
    of: ModelKey | None = None

    @classmethod
    def of_upload(cls, upload: Upload, seed: int, *, least: int, most: int) -> Inputs:
        """The first `most` images of an upload, each under as many draws of noise as make at least `least` samples."""
        taken = min(upload.count, most)
        return cls("upload", taken * -(-least // taken), seed, upload)

    @property
    def taken(self) -> int:
        """How many images of the upload are looked at; 0 for the other kinds."""
        return 0 if self.upload is None else min(self.upload.count, self.n)

    @property
    def draws(self) -> int:
        """How many draws of noise each image of the upload gets."""
        return self.n // max(self.taken, 1)

    @property
    def upload_in_words(self) -> str:
        """What is looked at of an upload."""
        assert self.upload is not None
        images = "your image" if self.upload.count == 1 else f"your {self.taken} images"
        if self.taken < self.upload.count:
            images = f"the first {self.taken} of your {self.upload.count} images"
        if self.draws == 1:
            return images
        return f"{self.draws} draws of noise on {'' if self.upload.count == 1 else 'each of '}{images}"
