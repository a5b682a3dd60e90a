"""Frozen records that pass between pages, figures and the engine: requests, NumPy results, stored models.

No torch, no streamlit.

A request holds everything its result depends on, so it is the result's key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np

InputKind = Literal["held-out", "digits", "photos", "samples", "upload"]
INPUT_KINDS: tuple[InputKind, ...] = ("held-out", "digits", "photos", "samples", "upload")

UNSTORED_DATA = ("idx", "image_folder")
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


@dataclass(frozen=True)
class ParametersRequest:
    """What the Parameters page shows, judged on some inputs."""

    model: ModelKey
    inputs: Inputs
    device: str
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class TrajectoryRequest:
    """One sampling run from noise.

    Attributes:
        model: the model that samples.
        inputs: of kind "samples": how many, and the seed of their noise; runs of one seed start from the same noise.
        sampler: a name of the library's samplers.
        steps: how many steps.
        grid: a name of the library's grids of s.
        lam: "learned", "linear", "frozen" or "reversed".
        frozen_at: where λ stands if it is frozen.
        device: where to compute.
    """

    model: ModelKey
    inputs: Inputs
    sampler: str
    steps: int
    grid: str
    lam: str
    frozen_at: float
    device: str
    dtype: Literal["float32"] = "float32"


Request = SweepRequest | PadRequest | ParametersRequest | TrajectoryRequest


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


@dataclass(frozen=True, eq=False)
class WeightsResult:
    """θ0 against θ1. Rows of the table are parameters, the layers and stages they form, and the total, which is first.

    Attributes:
        kinds: "total", "stage", "layer" or "parameter" of each of m rows.
        names: of each row.
        stages: the stage it belongs to.
        numel: (m,) real numbers in one set.
        norm0: (m,) ‖θ0‖.
        norm1: (m,) ‖θ1‖.
        distance: (m,) ‖θ1 − θ0‖.
        relative: (m,) distance / norm0.
        angle: (m,) between θ0 and θ1, in degrees.
        dip: (m,) share by which the norm at λ = 1/2 falls short of the mean of both ends.
        norm_lam: (q,) positions on the path.
        norm_path: (m, q) norms there.
        s: (t,) scalars.
        lam: (t,) λ(s); the mean over groups.
        moved: (t,) ‖θ(s) − θ0‖, measured.
        norm: (t,) ‖θ(s)‖, measured.
        residual: of the measured distance against its closed form, relative to ‖θ1 − θ0‖.
        groups: how many curves λ there are.
        spent: the shortest interval of s that holds 90 % of λ's rise, for each curve.
        saturated: whether one of these is too short.
        spectrum_names: of w weights.
        spectrum_lam: (r,) positions on the path.
        spectral_norm: (w, r) largest singular value.
        stable_rank: (w, r) ‖W‖_F² / σ_max².
        histogram_names: of h layers, the total first.
        histogram_edges: (h, b + 1) for the entries of θ1 − θ0.
        histogram_counts: (h, b).
    """

    kinds: list[str]
    names: list[str]
    stages: list[str]
    numel: np.ndarray
    norm0: np.ndarray
    norm1: np.ndarray
    distance: np.ndarray
    relative: np.ndarray
    angle: np.ndarray
    dip: np.ndarray
    norm_lam: np.ndarray
    norm_path: np.ndarray
    s: np.ndarray
    lam: np.ndarray
    moved: np.ndarray
    norm: np.ndarray
    residual: float
    groups: int
    spent: list[list[float]]
    saturated: bool
    spectrum_names: list[str]
    spectrum_lam: np.ndarray
    spectral_norm: np.ndarray
    stable_rank: np.ndarray
    histogram_names: list[str]
    histogram_edges: np.ndarray
    histogram_counts: np.ndarray


@dataclass(frozen=True, eq=False)
class LandscapeResult:
    """Quality of x̂0 in dB over noise level and λ, and what the learned curve loses in it.

    Attributes:
        s: (p,) noise levels.
        lam: (q,) positions of the parameters.
        quality: (q, p) PSNR in dB.
        learned: (p,) λ(s); the mean over groups.
        learned_quality: (p,) of the network itself.
        valley: (p,) λ*(s), NaN where every λ is equally good.
        valley_quality: (p,).
        residual: of the looked-up learned curve against the computed one, in dB.
        samples: how many were judged.
        regret: (p,) dB that the learned curve loses against λ*, chosen on other samples.
        regret_low: (p,) lower end of the 95 % interval.
        regret_high: (p,) upper end.
        regret_total: mean over s with its interval.
        measure: "psnr" averages the PSNR of samples, "mse" their squared errors.
    """

    s: np.ndarray
    lam: np.ndarray
    quality: np.ndarray
    learned: np.ndarray
    learned_quality: np.ndarray
    valley: np.ndarray
    valley_quality: np.ndarray
    residual: float
    samples: int
    regret: np.ndarray
    regret_low: np.ndarray
    regret_high: np.ndarray
    regret_total: list[float]
    measure: str


@dataclass(frozen=True, eq=False)
class PathsResult:
    """The path from θ0 to θ1 seen in x̂0.

    Attributes:
        levels: (v,) noise levels of the fixed inputs.
        s: (t,) where the parameters stand.
        distance: (v, t) root mean square of x̂0(θ(s)) − x̂0(θ0).
        arc: (v, t) the same summed step by step.
        blend_lam: (q,) positions on the path.
        gap: (v, q) root mean square of f(θ_λ) − [(1 − λ)f(θ0) + λf(θ1)].
        apart: (v,) root mean square of f(θ1) − f(θ0).
        blend_s: (p,) noise levels.
        blend_loss: (p,) dB that blended outputs lose against blended weights at λ(s).
        blend_low: (p,) lower end of the 95 % interval.
        blend_high: (p,) upper end.
        blend_total: mean over s with its interval.
        counts: (k,) how many blends are kept.
        kept_loss: (k, 3) dB lost with them: mean over s, low, high.
        kept_moved: (k,) root mean square change of x̂0.
        picture_levels: (u,) noise levels of the pictures.
        picture_lam: (r,) positions of the parameters.
        pictures: (u, r, m, ...) x̂0 of m inputs, images channels last, not clipped.
    """

    levels: np.ndarray
    s: np.ndarray
    distance: np.ndarray
    arc: np.ndarray
    blend_lam: np.ndarray
    gap: np.ndarray
    apart: np.ndarray
    blend_s: np.ndarray
    blend_loss: np.ndarray
    blend_low: np.ndarray
    blend_high: np.ndarray
    blend_total: list[float]
    counts: np.ndarray
    kept_loss: np.ndarray
    kept_moved: np.ndarray
    picture_levels: np.ndarray
    picture_lam: np.ndarray
    pictures: np.ndarray


@dataclass(frozen=True, eq=False)
class ParametersResult:
    """The answer to a `ParametersRequest`."""

    weights: WeightsResult
    landscape: LandscapeResult
    paths: PathsResult


@dataclass(frozen=True, eq=False)
class VectorField:
    """The velocity on a lattice at every step of a run, and the density of the target behind it, for points in the plane.

    Attributes:
        extent: half the width of the square, centred at 0, that everything is drawn in.
        points: (m, 2) where the arrows stand.
        learned: (k, m, 2) dx/ds of the network; NaN where it is undefined.
        exact: (k, m, 2) the closed form's, if there is one.
        density: (h, w) of the target, the first row at the top; 1 at its highest.
    """

    extent: float
    points: np.ndarray
    learned: np.ndarray
    exact: np.ndarray | None
    density: np.ndarray


@dataclass(frozen=True, eq=False)
class TrajectoryResult:
    """The answer to a `TrajectoryRequest`: k states from noise to sample; images are (n, h, w, c), points (n, 2).

    Attributes:
        s: (k,) falling.
        lam: (k,) λ at each state, or None for a network with one parameter set.
        curve: (2, p) s and λ of the whole curve that was used, or None.
        native: the literature's time at each state, for read-outs.
        scale: (k,) states are x_s divided by this: max(1, √(α² + σ²)).
        x: (k, n, ...) states, scaled.
        x0_hat: (k, n, ...) the denoiser's estimates.
        nfe: (k,) network evaluations per sample so far.
        ms: (k,) milliseconds so far, for all samples together.
        straightness: (n,) distance from start to end over the length of the way, in (0, 1].
        turning: (n,) sum of the angles between steps, in radians.
        energy: (k,) energy distance between the points and fresh data, or None for images.
        field: for points in the plane.
        error: why the run stopped early, in one sentence, or empty.
    """

    s: np.ndarray
    lam: np.ndarray | None
    curve: np.ndarray | None
    native: tuple[str, ...]
    scale: np.ndarray
    x: np.ndarray
    x0_hat: np.ndarray
    nfe: np.ndarray
    ms: np.ndarray
    straightness: np.ndarray
    turning: np.ndarray
    energy: np.ndarray | None = None
    field: VectorField | None = None
    error: str = ""


Result = SweepResult | PadResult | ParametersResult | TrajectoryResult


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
        parameters: what the Parameters page shows first, if it is stored.
    """

    key: ModelKey
    name: str
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    sweep: SweepResult | None
    pad: PadResult | None
    shown: str
    parameters: ParametersResult | None = None

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


def size_in_bytes(result: Any) -> int:
    """Memory a result holds, that of the results in it included."""
    values = [getattr(result, item.name) for item in fields(result)]
    own = sum(value.nbytes for value in values if isinstance(value, np.ndarray))
    return own + sum(size_in_bytes(value) for value in values if is_dataclass(value))
