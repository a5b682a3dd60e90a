"""The Trajectories page's figures, sentences and numbers: results in, what the player draws out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from app.components.player.payload import Run
from app.records import StoredModel, TrajectoryRequest, TrajectoryResult

SAMPLER_NAMES = {
    "heun": "Heun",
    "ddim": "DDIM",
    "ddpm": "DDPM ancestral",
    "euler": "Euler",
    "dpmpp_2m": "DPM-Solver++(2M)",
    "rk4": "RK4",
    "edm": "EDM stochastic",
}
GRID_NAMES = {"uniform": "even in s", "karras": "Karras ρ = 7", "log_snr": "even in log-SNR"}
FINE_STEPS = 64
CURVE_NAMES = {"learned": "learned", "linear": "linear", "frozen": "frozen", "reversed": "reversed"}


def run_name(request: TrajectoryRequest) -> str:
    """What a column is headed with: what differs from the usual only."""
    parts = [SAMPLER_NAMES[request.sampler], f"{request.steps} steps"]
    if request.grid != "uniform":
        parts.append(GRID_NAMES[request.grid])
    if request.lam == "frozen":
        parts.append(f"λ = {request.frozen_at:g}")
    elif request.lam != "learned":
        parts.append(f"λ {CURVE_NAMES[request.lam]}")
    return ", ".join(parts)


def fine_run(request: TrajectoryRequest) -> TrajectoryRequest:
    """The run that the ODE's samplers approach: RK4 in many steps with the learned λ, from the same noise."""
    return replace(request, sampler="rk4", steps=FINE_STEPS, grid="uniform", lam="learned", frozen_at=0.5)


def run_figure(request: TrajectoryRequest, result: TrajectoryResult) -> Run:
    """What the player draws of one run."""
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
        name=run_name(request),
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
        **planar,
    )


def summary_rows(
    runs: Sequence[tuple[TrajectoryRequest, TrajectoryResult]],
    reference: tuple[TrajectoryRequest, TrajectoryResult] | None = None,
) -> list[dict[str, str]]:
    """One row of numbers for each run, for a table; with a fine run to compare with, the distance of the ends to its."""
    rows = []
    for letter, (request, result) in zip("ABCD", runs, strict=False):
        row = {
            "Run": f"{letter}: {run_name(request)}",
            "NFE": f"{result.nfe[-1]}",
            "Time (ms)": f"{result.ms[-1]:.0f}",
            "Straightness": f"{result.straightness.mean():.3f}",
            "Turning (rad)": f"{result.turning.mean():.2f}",
            "End, RMS from A": f"{end_distance(result, runs[0][1]):.3f}",
        }
        if reference is not None:
            row["End, RMS from the fine run"] = f"{end_distance(result, reference[1]):.4f}"
        if result.energy is not None:
            row["Energy distance to data"] = f"{result.energy[-1]:.4f}"
        rows.append(row)
    return rows


def end_distance(result: TrajectoryResult, reference: TrajectoryResult) -> float:
    """Root mean square difference of the last states of two runs."""
    return float(np.sqrt(np.mean(np.square(result.x[-1].astype(np.float64) - reference.x[-1]))))


def sentence(runs: Sequence[tuple[TrajectoryRequest, TrajectoryResult]], s: float) -> str:
    """What is seen at s, in words."""
    request, result = runs[0]
    k = state_at(result, s)
    native = result.native[k]
    text = f"At **t = {s:.2f}** run A has made {k} of {len(result.s) - 1} steps ({native}, {result.nfe[k]} network evaluations)."
    if result.lam is not None:
        lam = float(result.lam[k])
        text += f" Its parameters stand at λ = {lam:.2f}: {100 * (1 - lam):.0f} % θ0 and {100 * lam:.0f} % θ1."
    if len(runs) > 1:
        name = run_name(runs[1][0])
        text += f" Started from the same noise, run B ({name}) ends {end_distance(runs[1][1], result):.3f} RMS from A."
    return text


def state_at(result: TrajectoryResult, s: float) -> int:
    """The last state that a run has reached at s."""
    return max(0, int(np.sum(result.s >= s - 1e-6)) - 1)


def sampling_lines(model: StoredModel, request: TrajectoryRequest) -> str:
    """Python that computes the samples of one run."""
    on_device = "" if request.device == "cpu" else f', device="{request.device}"'
    arguments = [f'{request.inputs.n}, "{request.sampler}", {request.steps}, seed={request.inputs.seed}']
    lines = ["import dpi_core", "", f'model = dpi_core.load("checkpoints/{model.name}"{on_device})']
    if request.grid != "uniform":
        arguments.append(f'grid="{request.grid}"')
    if request.lam != "learned":
        at = f", {request.frozen_at:g}" if request.lam == "frozen" else ""
        lines = ["from dpi_core.model import what_if", *lines]
        arguments.append(f'schedule=what_if(model.net, "{request.lam}"{at})')
    return "\n".join([*lines, f"run = model.sample({', '.join(arguments)})", "x, states = run.x, run.states"])


def settings(model: StoredModel, runs: Sequence[TrajectoryRequest]) -> dict[str, Any]:
    """Seed and settings, as they are written into exported files."""
    return {
        "model": model.name,
        "digest": model.key.digest,
        "seed": runs[0].inputs.seed,
        "samples": runs[0].inputs.n,
        "runs": [
            {
                "sampler": run.sampler,
                "steps": run.steps,
                "grid": run.grid,
                "lambda": run.lam,
                **({"frozen_at": run.frozen_at} if run.lam == "frozen" else {}),
            }
            for run in runs
        ],
    }
