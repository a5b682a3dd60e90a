"""The Trajectories page's figures, sentences and numbers: results in, what the player draws out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from app.components.player.payload import PathPlane, Run
from app.figures.reproduce import clean_line, data_imports, load_line
from app.records import ModelKey, PlaneResult, StoredModel, TrajectoryRequest, TrajectoryResult

Found = tuple[TrajectoryRequest, TrajectoryResult]

SAME_S = 1e-6

SAMPLER_NAMES = {
    "heun": "Heun",
    "ddim": "DDIM",
    "ddpm": "DDPM ancestral",
    "euler": "Euler",
    "dpmpp_2m": "DPM-Solver++(2M)",
    "rk4": "RK4",
    "edm": "EDM stochastic",
    "dopri5": "dopri5 (adaptive)",
}
ADAPTIVE, STOCHASTIC = ("dopri5",), ("ddpm", "edm")
"""Samplers that choose their own steps, and those that draw noise on the way: a test compares with the library's."""

GRID_NAMES = {"uniform": "even in s", "karras": "Karras ρ = 7", "log_snr": "even in log-SNR"}
FINE_STEPS = 64
CURVE_NAMES = {"learned": "learned", "linear": "linear", "frozen": "frozen", "reversed": "reversed", "table": "a table"}
MAX_KNOTS = 101


def run_name(request: TrajectoryRequest, home: ModelKey | None = None) -> str:
    """What a column is headed with: what differs from the usual only.

    Args:
        request: the run.
        home: the page's model, which goes without saying.
    """
    parts = [] if home in (None, request.model) else [request.model.name]
    parts.append(SAMPLER_NAMES[request.sampler])
    if request.sampler not in ADAPTIVE:
        parts.append(f"{request.steps} step{'s' if request.steps != 1 else ''}")
    if request.grid != "uniform":
        parts.append(GRID_NAMES[request.grid])
    if request.lam == "frozen":
        parts.append(f"λ = {request.frozen_at:g}")
    elif request.lam == "table":
        parts.append(f"λ table of {len(request.table)}")
    elif request.lam != "learned":
        parts.append(f"λ {CURVE_NAMES[request.lam]}")
    return ", ".join(parts)


def read_table(text: str) -> tuple[float, ...]:
    """λ at equally spaced s, as a person types it: numbers in [0, 1], with commas or blanks between them.

    Raises:
        ValueError: something is no number, lies outside [0, 1], or there are fewer than 2 or more than `MAX_KNOTS`.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ValueError(f"λ = {word[:20]!r} is not a number in [0, 1]; write for example 0, 0.1, 0.9, 1.")
        values.append(value)
    if not 2 <= len(values) <= MAX_KNOTS:
        raise ValueError(f"the table of λ has {len(values)} numbers; write 2 to {MAX_KNOTS}, from s = 0 to s = 1.")
    return tuple(values)


def written_table(curve: Sequence[float]) -> str:
    """λ at equally spaced s, as `read_table` reads it."""
    return ", ".join(f"{value:.3g}" for value in curve)


def fine_run(request: TrajectoryRequest) -> TrajectoryRequest:
    """The run that the ODE's samplers approach: RK4 in many steps with the learned λ, from the same noise.

    Even in log-SNR its last step, which is Euler's, is so short that it does not count; a test holds the ends to those of a
    solver with a tolerance.
    """
    return replace(request, sampler="rk4", steps=FINE_STEPS, grid="log_snr", lam="learned", frozen_at=0.5, table=())


def run_figure(name: str, result: TrajectoryResult) -> Run:
    """What the player draws of one run, under a name."""
    field = result.field
    planar: dict[str, Any] = {}
    if field is not None:
        planar = {
            "extent": field.extent,
            "lattice": field.points,
            "learned": field.learned,
            "exact": field.exact,
            "density": field.density,
        }
    return Run(
        name=name,
        s=result.s,
        native=result.native,
        x=result.x,
        x0_hat=result.x0_hat,
        nfe=result.nfe,
        ms=result.ms,
        lam=result.lam,
        curve=result.curve,
        energy=result.energy,
        straightness=float(result.straightness.mean()),
        turning=float(result.turning.mean()),
        note=result.error,
        origin=result.origin,
        ended=result.ended,
        **planar,
    )


ABOUT_ROWS = (
    "NFE: network evaluations per sample. Straightness: distance from start to end over the length of the way, mean"
    " over samples. Turning: the sum of the angles between steps."
)
"""How to read the columns of `summary_rows`."""


def summary_rows(runs: Sequence[Found], reference: Found | None = None) -> list[dict[str, str]]:
    """One row of numbers for each run, for a table; with a fine run to compare with, the distance of the ends to its."""
    home = runs[0][0].model
    rows = []
    for letter, (request, result) in zip("ABCD", runs, strict=False):
        row = {
            "Run": f"{letter}: {run_name(request, home)}",
            "NFE": f"{result.nfe[-1]}",
            "Time (ms)": f"{result.ms[-1]:.0f}",
            "Straightness": f"{result.straightness.mean():.3f}",
            "Turning (rad)": f"{result.turning.mean():.2f}",
        }
        if len(runs) > 1:
            row["End, RMS from A"] = _digits(end_distance(result, runs[0][1]), 3)
        if reference is not None:
            row["End, RMS from the fine run"] = _digits(end_distance(result, reference[1]), 4)
        if result.origin is not None:
            row["Round trip, RMS from the data"] = _digits(round_trip_error(result), 4)
        if result.energy is not None:
            row["Energy distance to data"] = f"{result.energy[-1]:.4f}"
        rows.append(row)
    return rows


def end_distance(result: TrajectoryResult, reference: TrajectoryResult) -> float | None:
    """Root mean square difference of the last states of two runs; None where one of them has not come to the same end."""
    if abs(result.s[-1] - reference.s[-1]) > SAME_S:
        return None
    return _rms(result.x[-1], reference.x[-1])


def round_trip_error(result: TrajectoryResult) -> float | None:
    """Root mean square difference between the clean samples that a run began with and what it made of their noise."""
    return None if result.origin is None or not result.ended or result.error else _rms(result.x[-1], result.origin)


def _rms(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x.astype(np.float64) - y))))


def _digits(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def sentence(runs: Sequence[Found], s: float) -> str:
    """What is seen at s, in words."""
    request, result = runs[0]
    k = state_at(result, s)
    native, steps = result.native[k], len(result.s) - 1
    of_all = f"{k} of {steps} steps" if result.ended else f"{k} steps of the {steps} computed so far"
    text = (
        f"At **t = {s:.2f}** run A has made {of_all} ({result.nfe[k]} network evaluations) and stands at"
        f" t = {result.s[k]:.2f} ({native})."
    )
    if result.lam is not None:
        lam = float(result.lam[k])
        text += f" Its parameters stand at λ = {lam:.2f}: {100 * (1 - lam):.0f} % θ0 and {100 * lam:.0f} % θ1."
    error = round_trip_error(result)
    if error is not None:
        text += f" It carried the data to noise and back; {error:.4f} RMS is lost on the way."
    apart = end_distance(runs[1][1], result) if len(runs) > 1 else None
    if apart is not None:
        origin = "the same noise" if result.origin is None else "the same data"
        text += f" Started from {origin}, run B ({run_name(runs[1][0], request.model)}) ends {apart:.3f} RMS from A."
    return text


def state_at(result: TrajectoryResult, s: float) -> int:
    """The last state that a run has reached at s."""
    return max(0, int(np.sum(result.s >= s - SAME_S)) - 1)


def plane_figure(plane: PlaneResult, results: Sequence[TrajectoryResult]) -> PathPlane:
    """The paths of runs of images in the plane of the model's samples."""
    return PathPlane(
        samples=plane.samples,
        shares=(float(plane.shares[0]), float(plane.shares[1])),
        paths=tuple(_projected(plane, result.x) for result in results),
    )


def _projected(plane: PlaneResult, x: np.ndarray) -> np.ndarray:
    """Images (k, n, h, w, c) in the plane: (k, n, 2)."""
    flat = np.moveaxis(x, -1, -3).reshape(*x.shape[:2], -1)
    return (flat - plane.mean) @ plane.axes.T


def sampling_lines(model: StoredModel, request: TrajectoryRequest) -> str:
    """Python that computes the samples of one run.

    Args:
        model: the run's own.
        request: the run.
    """
    inputs, arguments = request.inputs, _arguments(request)
    imports, lines = ["import dpi_core"], [load_line(model, request.device)]
    if request.lam != "learned":
        imports.append("from dpi_core.model import what_if")
    if request.between is not None:
        lines += [
            f"first, second = model.noise({list(request.between)}, seed={inputs.seed})",
            f"states = list(model.interpolate(first, second, {inputs.n}, {arguments}, seed={inputs.seed}))",
            "x = states[-1].x",
        ]
    elif inputs.kind != "samples":
        imports += data_imports(inputs)
        lines += [clean_line(model, inputs), f"trip = model.round_trip(x0, {arguments})"]
        lines += ["states, error = trip.back, trip.error", "x = states[-1].x"]
    else:
        lines += [f"run = model.sample({inputs.n}, {arguments}, seed={inputs.seed})", "x, states = run.x, run.states"]
    return "\n".join([*imports, "", *lines])


def _arguments(request: TrajectoryRequest) -> str:
    """Sampler, steps, grid and λ as the library takes them."""
    arguments = [f'"{request.sampler}"']
    if request.sampler not in ADAPTIVE:
        arguments.append(str(request.steps))
    if request.grid != "uniform":
        arguments.append(f'grid="{request.grid}"')
    extra = {"frozen": f", {request.frozen_at:g}", "table": f", table={list(request.table)}"}.get(request.lam, "")
    if request.lam != "learned":
        arguments.append(f'schedule=what_if(model.net, "{request.lam}"{extra})')
    return ", ".join(arguments)


def settings(runs: Sequence[TrajectoryRequest]) -> dict[str, Any]:
    """Seed and settings, as they are written into exported files."""
    inputs = runs[0].inputs
    start: dict[str, Any] = {"kind": "noise"} if inputs.kind == "samples" else {"kind": "inverted", "data": inputs.kind}
    if runs[0].between is not None:
        start = {"kind": "between", "samples": list(runs[0].between)}
    return {"seed": inputs.seed, "samples": inputs.n, "start": start, "runs": [_run_settings(run) for run in runs]}


def _run_settings(run: TrajectoryRequest) -> dict[str, Any]:
    curves: dict[str, dict[str, Any]] = {
        "frozen": {"frozen_at": run.frozen_at},
        "table": {"table": list(run.table)},
    }
    steps = {} if run.sampler in ADAPTIVE else {"steps": run.steps, "grid": run.grid}
    about = {"model": run.model.name, "digest": run.model.digest, "sampler": run.sampler}
    return {**about, **steps, "lambda": run.lam, **curves.get(run.lam, {})}
