"""Frozen records that pass between pages, figures and the engine: requests, NumPy results, stored models.

No torch, no streamlit.

A request holds everything its result depends on, so it is the result's key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

InputKind = Literal["held-out", "digits", "photos", "samples", "upload"]
INPUT_KINDS: tuple[InputKind, ...] = ("held-out", "digits", "photos", "samples", "upload")


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


@dataclass(frozen=True)
class SweepRequest:
    """x̂0 of some inputs at every s of a grid, under one noise draw."""

    model: ModelKey
    inputs: Inputs
    s_grid: tuple[float, ...]
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class PadRequest:
    """x̂0 of the first `count` of some inputs over noise level and parameter position λ."""

    model: ModelKey
    inputs: Inputs
    count: int
    s_grid: tuple[float, ...]
    lam_grid: tuple[float, ...]
    device: str
    dtype: Literal["float32"] = "float32"


Request = SweepRequest | PadRequest


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The answer to a `SweepRequest`; images are (n, h, w, c) in [-1, 1], points (n, 2).

    Attributes:
        s: (t,) the grid.
        lam: (t,) λ(s); None for a network with one parameter set.
        alpha: (t,) factor of the sample.
        sigma: (t,) factor of the noise.
        native: the literature's time at each s, for read-outs.
        clean: (n, ...) inputs.
        noise: (n, ...) their noise.
        x0_hat: (t, n, ...) estimates; bytes where the stored results are.
        mse: (t, n) mean squared error of each.
    """

    s: np.ndarray
    lam: np.ndarray | None
    alpha: np.ndarray
    sigma: np.ndarray
    native: tuple[str, ...]
    clean: np.ndarray
    noise: np.ndarray
    x0_hat: np.ndarray
    mse: np.ndarray


@dataclass(frozen=True, eq=False)
class PadResult:
    """The answer to a `PadRequest`.

    Attributes:
        s: (p,) noise levels.
        lam: (q,) parameter positions.
        learned: (p,) the learned λ(s).
        alpha: (p,) factor of the sample.
        sigma: (p,) factor of the noise.
        native: the literature's time at each s.
        x0_hat: (q, p, m, ...) estimates of the first m inputs.
        score: (q, p) PSNR in dB for images, mean squared error for points.
        judged: how many samples the score is an average of.
    """

    s: np.ndarray
    lam: np.ndarray
    learned: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    native: tuple[str, ...]
    x0_hat: np.ndarray
    score: np.ndarray
    judged: int


Result = SweepResult | PadResult


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A checkpoint folder without its weights.

    Attributes:
        key: names it to the engine.
        name: of the folder.
        recipe: its config.json.
        metrics: its metrics.json, or empty.
        sweep: stored frames along s, if any.
        pad: stored frames over (noise level, λ), if any.
        shown: what the stored inputs are, in one phrase.
    """

    key: ModelKey
    name: str
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    sweep: SweepResult | None
    pad: PadResult | None
    shown: str

    @property
    def is_image(self) -> bool:
        """Whether samples are images (c, h, w) and not points."""
        return len(self.recipe["shape"]) == 3

    @property
    def has_two_sets(self) -> bool:
        """Whether there is a λ to move."""
        return self.recipe["conditioning"]["kind"] == "dpi"

    @property
    def family(self) -> str:
        """Data and process, shared by models that are compared: the name without its conditioning."""
        return self.name.rsplit("-", 1)[0]


def size_in_bytes(result: Result) -> int:
    """Memory a result holds."""
    values = (getattr(result, item.name) for item in fields(result))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))
