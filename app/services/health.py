"""Whether visitors get answers: what `/ready` says. No torch, no streamlit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.records import Inputs, SweepRequest
from app.services import stored
from app.services.inference import Engine

PROBE = "readiness"
"""The session that asks the one question that has to be answered before others are let in."""


def readiness(engine: Engine) -> tuple[dict[str, Any], int]:
    """What is known of the engine, and the HTTP status that goes with it.

    Returns:
        The observation as JSON, and 200 once torch is imported and a model has answered; 503 before, while the queue is
        full, and while a worker has no thread.
    """
    engine.warm_up()
    seen = engine.observe()
    is_ready = seen.ready and seen.waiting < seen.most_waiting and _has_answered(engine)
    return {**asdict(seen), "ready": is_ready}, 200 if is_ready else 503


def _has_answered(engine: Engine) -> bool:
    """Whether a model has answered; asks the smallest one, on the last device, when nobody has asked yet."""
    if engine.observe().outcomes.get("done", 0):
        return True
    weights = {name: (stored.CHECKPOINTS / name / "model.safetensors").stat().st_size for name in stored.model_names()}
    if not weights:
        return False
    key = stored.read_model(min(weights, key=lambda name: weights[name])).key
    device = (engine.devices() or ("cpu",))[-1]
    return engine.submit(PROBE, SweepRequest(key, Inputs("samples", 1, 0), (0.5,), device)).status == "done"
