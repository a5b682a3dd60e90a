"""Requests of several sessions in the same passes: right answers, and nobody hears of the others."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dpi_core
from app.records import Inputs, PadRequest, SweepRequest
from app.services import compute, stored
from app.services import sweeps as sweeps_module
from app.services.jobs import Job
from app.services.joining import SMALL, TOGETHER, joined
from app.services.worker import Turns
from dpi_core.analysis import denoising
from dpi_core.data import load_data
from dpi_core.seeds import seeded_generator

ROOT = Path(__file__).parents[2]
PATIENCE = 120
DIGITS, BLIND, MIXTURE = (
    stored.read_model(name).key for name in ("digits-vp-dpi", "digits-vp-none", "mixture2d-flow-dpi")
)


def sweep(model, *s_grid, n=2, seed=0, kind="held-out"):
    return SweepRequest(model, Inputs(kind, n, seed), s_grid or (0.3, 0.7), "cpu")


def endless(model, seed=0):
    """Some minutes' work in short steps."""
    return sweep(model, *np.linspace(0, 1, 20_000).tolist(), seed=seed)


@pytest.fixture
def passes(monkeypatch):
    """How many requests were in each pass of a network."""
    found, advance = [], sweeps_module.advance

    def counted(model, sweeps):
        found.append(len(sweeps))
        advance(model, sweeps)

    monkeypatch.setattr(sweeps_module, "advance", counted)
    return found


@contextmanager
def queue(engine, model):
    """The model is loaded, and what is submitted inside waits until the end."""
    assert engine.submit("first", sweep(model, 0.5)).wait(PATIENCE)
    other = MIXTURE if model != MIXTURE else BLIND
    busy = engine.submit("busy", endless(other))
    until(lambda: busy.done > 0)
    yield
    engine.cancel("busy", busy)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def reference(request):
    """x̂0 by dpi_core alone, in this thread, channels last."""
    model = dpi_core.load(request.model.folder)
    x0 = load_data(model.recipe.data).held_out_batch(request.inputs.n, request.inputs.seed)
    eps = torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed))
    x0_hat = [model.denoise(model.process.add_noise(x0, eps, s), s).numpy() for s in request.s_grid]
    return np.moveaxis(np.stack(x0_hat), 2, -1) if x0.ndim == 4 else np.stack(x0_hat)


@pytest.mark.parametrize("model", [DIGITS, BLIND, MIXTURE], ids=["two sets", "one set", "points"])
def test_joined_answers_are_those_of_a_single_thread(engine, passes, model, monkeypatch):
    monkeypatch.setattr(denoising, "NUMBERS_AT_ONCE", {})  # one level in a pass
    grids = [(0.0, 0.4, 1.0), (0.0, 0.4, 1.0), (0.1, 0.2, 0.3), (0.4,), (0.0, 0.25, 0.5, 0.75, 1.0)]
    asked = [sweep(model, *grid, n=1 + index, seed=index) for index, grid in enumerate(grids)]
    with queue(engine, model):
        jobs = [engine.submit(f"session {index}", request) for index, request in enumerate(asked)]
        passes.clear()
    for job in jobs:
        assert job.wait(PATIENCE) and job.status == "done", job.error
        np.testing.assert_allclose(job.result.x0_hat, reference(job.request), rtol=1e-4, atol=1e-6)
        assert job.result.s.tolist() == list(job.request.s_grid) and job.done == job.total == len(job.request.s_grid)
    assert passes[-5:] == [5, 4, 4, 1, 1], "each leaves when it has all its levels"


def test_a_cancelled_part_leaves_and_the_others_go_on(engine, passes):
    with queue(engine, DIGITS):
        parts = [engine.submit(f"session {seed}", endless(DIGITS, seed)) for seed in range(3)]
    until(lambda: all(part.done > 0 for part in parts))
    engine.cancel("session 0", parts[0])
    assert parts[0].wait(PATIENCE) and parts[0].status == "cancelled"
    newer = engine.submit("session 1", sweep(DIGITS, 0.2))  # takes the place of its older one
    assert parts[1].wait(PATIENCE) and parts[1].status == "cancelled"
    before = parts[2].done
    until(lambda: parts[2].done > before + 5)
    assert newer.status == "waiting" and passes[-1] == 1
    engine.cancel("session 2", parts[2])
    assert newer.wait(PATIENCE) and newer.status == "done"
    assert passes.count(3) > 0


def test_all_of_them_stop_between_two_layers_when_nobody_waits(engine, monkeypatch):
    load, started = compute.load_model, []

    def watched(key, device):
        model = load(key, device)
        layers = list(model.denoiser.net.modules())[-1:]
        layers[0].register_forward_pre_hook(lambda *_: started.append(time.monotonic()))
        return model

    monkeypatch.setattr(compute, "load_model", watched)
    with queue(engine, BLIND):
        parts = [engine.submit(f"session {seed}", endless(BLIND, seed)) for seed in range(2)]
    until(lambda: all(part.done > 0 for part in parts))
    for seed, part in enumerate(parts):
        engine.cancel(f"session {seed}", part)
    left = time.monotonic()
    assert all(part.wait(PATIENCE) and part.status == "cancelled" for part in parts)
    assert sum(at > left for at in started) <= 1


def test_what_is_wrong_with_one_part_fails_it_alone(engine):
    with queue(engine, DIGITS):
        bad = engine.submit("bad", sweep(DIGITS, 0.1, 2.0))
        good = [engine.submit(f"session {seed}", sweep(DIGITS, 0.1, 0.2, seed=seed)) for seed in (1, 2)]
    assert bad.wait(PATIENCE) and bad.status == "failed" and "s = 2 " in bad.error
    for job in good:
        assert job.wait(PATIENCE) and job.status == "done"
        np.testing.assert_allclose(job.result.x0_hat, reference(job.request), rtol=1e-4, atol=1e-6)


def test_a_part_that_is_not_finite_fails_alone(engine, monkeypatch):
    prepared = compute.prepared

    def spoilt(model, request, *rest):
        found = prepared(model, request, *rest)
        if request.inputs.seed == 1:
            found.x0[:] = float("nan")
        return found

    with queue(engine, BLIND):
        monkeypatch.setattr(compute, "prepared", spoilt)
        jobs = [engine.submit(f"session {seed}", sweep(BLIND, seed=seed)) for seed in range(3)]
    assert all(job.wait(PATIENCE) for job in jobs)
    assert [job.status for job in jobs] == ["done", "failed", "done"]
    assert "not finite" in jobs[1].error


def test_where_memory_is_short_each_is_computed_alone(engine, monkeypatch):
    load, rows = compute.load_model, []

    def tight(key, device):
        model = load(key, device)
        whole = model.net.backbone.forward

        def forward(x):
            rows.append(len(x))
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return whole(x)

        model.net.backbone.forward = forward
        return model

    monkeypatch.setattr(compute, "load_model", tight)
    with queue(engine, DIGITS):
        jobs = [engine.submit(f"session {seed}", sweep(DIGITS, 0.4, seed=seed)) for seed in range(3)]
        rows.clear()
    for job in jobs:
        assert job.wait(PATIENCE) and job.status == "done" and job.note == ""
        np.testing.assert_allclose(job.result.x0_hat, reference(job.request), rtol=1e-4, atol=1e-6)
    assert [size for size in rows if size != 64][-4:] == [6, 2, 2, 2]


def test_several_levels_in_a_pass_give_the_same_frames(engine, passes, monkeypatch):
    monkeypatch.setattr(denoising, "NUMBERS_AT_ONCE", {"cpu": 2 * 2 * 2 * 64})  # two levels of two samples of both
    with queue(engine, DIGITS):
        jobs = [engine.submit(f"session {i}", sweep(DIGITS, 0.1, 0.4, 0.7, 0.8, 0.9, seed=i)) for i in range(2)]
        passes.clear()
    for job in jobs:
        assert job.wait(PATIENCE)
        np.testing.assert_allclose(job.result.x0_hat, reference(job.request), rtol=1e-4, atol=1e-5)
    assert passes == [2, 2, 2]


# Who goes with whom ----------------------------------------------------------------------------------------------

IMAGE = (1, 8, 8)
FIRST = sweep(DIGITS, n=4)


@pytest.mark.parametrize(
    "other",
    [
        sweep(BLIND, n=4, seed=1),
        sweep(DIGITS, n=4, seed=1, kind="samples"),
        sweep(DIGITS, n=SMALL["cpu"] // 64 + 1, seed=1),
        sweep(DIGITS, 0.5, n=SMALL["cpu"] // 64),
        PadRequest(DIGITS, Inputs("held-out", 4, 0), 4, (0.1,), (0.5,), "cpu"),
    ],
    ids=["another model", "its own samples", "many images", "many images at another level", "a pad"],
)
def test_what_does_not_pay_is_not_joined(other):
    assert joined(FIRST, [other], IMAGE) == [] and joined(other, [FIRST], IMAGE) == []


def test_a_gpu_takes_more():
    here, other = (replace(sweep(DIGITS, n=16, seed=seed), device="cuda:0") for seed in (0, 1))
    assert joined(here, [other], (1, 28, 28)) == [other]


def test_the_first_waits_for_a_bounded_pass():
    waiting = [sweep(DIGITS, n=16, seed=seed) for seed in range(1, 60)]
    found = joined(sweep(DIGITS, n=16), waiting, IMAGE)
    assert found == waiting[: TOGETHER["cpu"] // (16 * 64) - 1]


def test_one_that_cannot_be_joined_is_passed_over_once():
    turns = Turns()
    pad = PadRequest(DIGITS, Inputs("held-out", 4, 0), 4, (0.1,), (0.5,), "cpu")
    asked = [("a", sweep(DIGITS, seed=0)), ("b", pad), ("c", sweep(DIGITS, seed=1))]
    for session, request in asked:
        turns.waiting.append(Job(request, waiting={session}))

    def taken():
        return [job.request for job in turns.take(lambda first, waiting: joined(first, waiting, IMAGE))]

    assert taken() == [asked[0][1], asked[2][1]]
    for session, seed in (("a", 2), ("c", 3)):  # they ask again at once
        turns.waiting.append(Job(sweep(DIGITS, seed=seed), waiting={session}))
    assert taken() == [pad]
    assert len(taken()) == 2 and turns.waiting == []


def test_the_apps_threads_sleep_soon_while_they_wait():
    lines = """
import os, sys
from app.services.computer import ThisMachine
ThisMachine().devices()
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""
    ways = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in ways}
    for chosen, expected in (({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")):
        command = [sys.executable, "-c", lines]
        done = subprocess.run(
            command, env={**environment, **chosen}, cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert done.stdout.split() == [expected, "True"]
