"""Training runs on disk, read while they are written: no torch, no streamlit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from app.records import TrainingRun

ROOT = Path(os.environ.get("DPI_RUNS", Path(__file__).parents[2] / "runs"))
"""Where training puts its folders."""

CURVE_POINTS = 17
"""Of λ in a line of the log, as `dpi_core.training.CURVE_POINTS`, which cannot be read without torch."""


def run_names() -> list[str]:
    """Folders below the root that hold a run, the most recently written first."""
    found = [(_written(file.parent), file.parent) for file in ROOT.rglob("recipe.json")] if ROOT.is_dir() else []
    return [folder.relative_to(ROOT).as_posix() for _, folder in sorted(found, reverse=True)]


def read_run(name: str) -> TrainingRun:
    """Reads what a run has written so far; a line that is half written is left for the next time.

    Raises:
        ValueError: there is no such run, or its recipe is damaged or being written; one sentence.
    """
    folder = ROOT / name
    try:
        recipe = json.loads((folder / "recipe.json").read_text())
        steps = int(recipe["training"]["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the recipe of the run {name!r} cannot be read ({error}); choose another run.") from error
    logs = [line for line in _lines(folder / "log.jsonl") if {"step", "loss", "seconds"} <= line.keys()]
    scores = [line for line in _lines(folder / "held_out.jsonl") if {"step", "s", "mean", "measure"} <= line.keys()]
    curves = [line["lam"] for line in logs if line.get("lam")]
    has_curves = bool(curves) and len(curves) == len(logs) and steps > 0
    return TrainingRun(
        name=name,
        recipe=recipe,
        written=_written(folder),
        step=np.array([line["step"] for line in logs], dtype=int),
        loss=np.array([line["loss"] for line in logs], dtype=float),
        seconds=float(sum(line["seconds"] for line in logs)),
        lam=np.array(curves, dtype=float).reshape(len(logs), CURVE_POINTS, -1) if has_curves else None,
        saturation=np.array([line["saturation"] for line in logs], dtype=float) if has_curves else None,
        scored_step=np.array([line["step"] for line in scores], dtype=int),
        scored_s=np.array(scores[-1]["s"] if scores else [], dtype=float),
        score=np.array([line["mean"] for line in scores], dtype=float),
        measure=scores[-1]["measure"] if scores else "",
    )


def _lines(file: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file up to the first line that is none: the rest is being written."""
    found: list[dict[str, Any]] = []
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return found
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            break
        if not isinstance(content, dict):
            break
        found.append(content)
    return found


def _written(folder: Path) -> float:
    log = folder / "log.jsonl"
    try:
        return log.stat().st_mtime
    except OSError:
        return 0.0
