"""Readiness follows what the engine can do."""

import time
from contextlib import closing

from app.services import stored
from app.services.health import PROBE, readiness
from app.services.inference import Engine


def until_ready(engine, patience=90):
    """Asks as a load balancer does; the statuses it got."""
    statuses, deadline = [], time.monotonic() + patience
    while not statuses or statuses[-1] != 200:
        assert time.monotonic() < deadline, readiness(engine)
        statuses.append(readiness(engine)[1])
        time.sleep(0.02)
    return statuses


def test_a_server_is_ready_once_a_model_has_answered_and_not_before(engine):
    body, status = readiness(engine)
    assert status == 503 and body["ready"] is False and body["outcomes"] == {}
    assert set(until_ready(engine)) == {503, 200}
    body, _ = readiness(engine)
    assert body["ready"] is True and body["outcomes"] == {"done": 1}
    assert body["cached"] == 1 and 0 < body["cache_bytes"] <= body["cache_limit"]


def test_a_full_queue_is_not_ready():
    with closing(Engine(most_waiting=0)) as engine:
        engine.best_device()
        assert readiness(engine)[1] == 503


def test_a_server_without_models_is_not_ready(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHECKPOINTS", tmp_path)
    engine.best_device()
    assert readiness(engine)[1] == 503


def test_what_is_no_whole_checkpoint_is_passed_over(engine, copy_checkpoint):
    folder = copy_checkpoint("mixture2d-flow-dpi")
    for name, config in (("copied", (folder / "config.json").read_text()), ("damaged", "{}")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "config.json").write_text(config)
    (folder.parent / "damaged" / "model.safetensors").write_bytes(b"")
    assert until_ready(engine)[-1] == 200


def test_a_damaged_model_is_not_ready_until_it_is_mended(engine, copy_checkpoint):
    folder = copy_checkpoint("mixture2d-flow-dpi")
    engine.best_device()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    for _ in range(3):
        assert readiness(engine)[1] == 503
        for job in [job for (session, _), job in engine._latest.items() if session == PROBE]:
            assert job.wait(60)
    weights.write_bytes(whole)
    assert until_ready(engine)[-1] == 200
