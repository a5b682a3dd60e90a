"""What the player draws: one sampling run, packed in the scrubber's byte format.

Quantisation errors, in the data's own unit: images x_s, clipped to [-2.5, 2.5], become uint8 (at most 0.01); x̂0, clipped
to [-1, 1], uint8 (at most 1/255); points and velocities int16 (at most half of `max|value| / 32767`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.components.scrubber.payload import Arrays, seal

__all__ = ["PathPlane", "Run", "pack_plane", "pack_run"]

X_RANGE = 2.5
VELOCITY_RANGES = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0)
VELOCITY_SHARE = 0.95


@dataclass(frozen=True, eq=False)
class Run:
    """One run of k states of n samples, from noise to sample.

    Attributes:
        name: what the column is headed with.
        s: (k,) falling, in [0, 1].
        native: k texts, what each s is in the process's own time.
        x: (k, n, h, w, c) images with c 1 or 3, or (k, n, 2) points.
        x0_hat: as `x`.
        nfe: (k,) network evaluations so far.
        ms: (k,) milliseconds so far.
        lam: (k,) λ at each state, or None.
        curve: (2, p) s rising and λ of the whole curve, or None.
        energy: (k,) energy distance to the data, or None.
        straightness: mean over samples.
        turning: mean over samples, in radians.
        extent: half the width of the square points are drawn in.
        lattice: (m, 2) where the velocity is given, or None.
        learned: (k, m, 2) the network's velocity; NaN where it is undefined.
        exact: (k, m, 2) the closed form's, or None.
        density: (h, w) of the target in [0, 1], the first row at the top, or None.
        origin: (n, ...) clean samples that the run's noise was made of, or None.
        note: shown under the heading, for example why the run stopped.
        ended: whether no more states are to come.

    Raises:
        ValueError: if a shape or a value is not as above.
    """

    name: str
    s: np.ndarray
    native: tuple[str, ...]
    x: np.ndarray
    x0_hat: np.ndarray
    nfe: np.ndarray
    ms: np.ndarray
    lam: np.ndarray | None = None
    curve: np.ndarray | None = None
    energy: np.ndarray | None = None
    straightness: float = 1.0
    turning: float = 0.0
    extent: float = 1.0
    lattice: np.ndarray | None = None
    learned: np.ndarray | None = None
    exact: np.ndarray | None = None
    density: np.ndarray | None = None
    origin: np.ndarray | None = None
    note: str = ""
    ended: bool = True

    def __post_init__(self) -> None:
        """Refuse what the browser could not draw."""
        if len(self.s) < 2 or not (np.diff(self.s) < 0).all():
            raise ValueError(
                f"run: s is {self.s[:6]}; expected at least two falling values; order it from noise to clean"
            )
        for name in ("native", "x", "x0_hat", "nfe", "ms", "lam", "energy", "learned", "exact"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.s):
                raise ValueError(f"run: {name} has {len(values)} entries; expected {len(self.s)}, one for each s")
        if not (np.isfinite(self.x).all() and np.isfinite(self.x0_hat).all()):
            raise ValueError("run: the states hold NaN or infinity; expected finite numbers; cut the run before them")

    @property
    def is_image(self) -> bool:
        """Whether samples are images and not points."""
        return self.x.ndim == 5


@dataclass(frozen=True, eq=False)
class PathPlane:
    """The paths of runs in a plane, with the model's samples behind them.

    Attributes:
        samples: (m, 2).
        paths: (k, n, 2) for each run, the state of every sample at every step.
        shares: of the samples' variance along each axis, in [0, 1].
    """

    samples: np.ndarray
    paths: tuple[np.ndarray, ...]
    shares: tuple[float, float]


def pack_plane(plane: PathPlane) -> bytes:
    """Return a plane in the byte format of `scrubber.payload`."""
    arrays = Arrays()
    arrays.add_int16("samples", plane.samples)
    for index, path in enumerate(plane.paths):
        arrays.add_int16(f"path{index}", path)
    return seal({"type": "plane", "shares": list(plane.shares)}, arrays)


def pack_run(run: Run) -> bytes:
    """Return a run in the byte format of `scrubber.payload`."""
    arrays = Arrays()
    arrays.add_floats("s", run.s)
    header: dict[str, Any] = {
        "type": "run",
        "kind": "image" if run.is_image else "points",
        "name": run.name,
        "note": run.note,
        "native": list(run.native),
        "nfe": [int(value) for value in run.nfe],
        "ms": [round(float(value), 2) for value in run.ms],
        "straightness": round(float(run.straightness), 4),
        "turning": round(float(run.turning), 4),
        "extent": float(run.extent),
        "ended": run.ended,
    }
    for name in ("lam", "curve", "energy"):
        if getattr(run, name) is not None:
            arrays.add_floats(name, getattr(run, name))
    if run.is_image:
        levels = np.rint((np.clip(run.x, -X_RANGE, X_RANGE) / X_RANGE + 1) * 127.5).astype(np.uint8)
        arrays.add("x", levels, scale=X_RANGE / 127.5, zero=-X_RANGE)
        arrays.add_bytes("x0_hat", run.x0_hat)
        if run.origin is not None:
            arrays.add_bytes("origin", run.origin)
        header["velocity_range"] = _velocity_range(run)
    else:
        arrays.add_int16("x", run.x)
        arrays.add_int16("x0_hat", run.x0_hat)
        if run.origin is not None:
            arrays.add_int16("origin", run.origin)
        _add_field(run, header, arrays)
    return seal(header, arrays)


def _add_field(run: Run, header: dict[str, Any], arrays: Arrays) -> None:
    if run.density is not None:
        arrays.add("density", np.rint(255 * np.clip(run.density, 0, 1)).astype(np.uint8), scale=1 / 255)
    if run.lattice is None or run.learned is None:
        return
    header["defined"] = [bool(np.isfinite(frame).all()) for frame in run.learned]
    arrays.add_floats("lattice", run.lattice)
    for name, field in (("learned", run.learned), ("exact", run.exact)):
        if field is not None:
            arrays.add_int16(name, np.nan_to_num(field, nan=0.0, posinf=0.0, neginf=0.0))


def _velocity_range(run: Run) -> float:
    """The round half-range that holds 95 % of the velocities of the middling step: a tiny last one may be far faster."""
    steps = np.abs(np.diff(run.s)).reshape(-1, *[1] * (run.x.ndim - 1))
    speeds = np.abs(np.diff(run.x, axis=0)) / steps
    quantile = float(np.median(np.quantile(speeds.reshape(len(steps), -1), VELOCITY_SHARE, axis=1)))
    return next((size for size in VELOCITY_RANGES if size >= quantile), VELOCITY_RANGES[-1])
