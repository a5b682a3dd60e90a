"""Whether visitors get answers: what `/ready` says. No torch, no streamlit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from app.records import Inputs, ModelKey, SweepRequest
from app.services import stored
from app.services.inference import Engine

PROBE = "readiness"
"""The session that asks the one question that has to be answered before others are let in."""


def readiness(engine: Engine) -> tuple[dict[str, Any], int]:
    """What is known of the engine, and the HTTP status that goes with it.

    Returns:
        The observation as JSON, and 200 once torch is imported and a model has answered; 503 before, while a queue is
        full, and while a worker has no thread.
    """
    engine.warm_up()
    seen = engine.observe()
    is_ready = seen.ready and not seen.full and _has_answered(engine)
    return {**asdict(seen), "ready": is_ready}, 200 if is_ready else 503


def _has_answered(engine: Engine) -> bool:
    """Whether a model has answered; asks the smallest one, on the last device, when nobody has asked yet.

    One that has failed is asked again the next time: a cluster that was lost comes back.
    """
    if engine.observe().outcomes.get("done", 0):
        return True
    key = _smallest()
    if key is None:
        return False
    device = (engine.devices() or ("cpu",))[-1]
    job = engine.submit(PROBE, SweepRequest(key, Inputs("samples", 1, 0), (0.5,), device))
    if job.status == "failed":
        engine.cancel(PROBE, job)
    return job.status == "done"


def _smallest() -> ModelKey | None:
    """The checkpoint with the smallest weights; a folder that is no checkpoint, or not yet, is passed over."""
    weights = (stored.CHECKPOINTS / name / "model.safetensors" for name in stored.model_names())
    for file in sorted((file for file in weights if file.is_file()), key=lambda file: file.stat().st_size):
        with suppress(ValueError, OSError):
            return stored.read_model(file.parent.name).key
    return None
