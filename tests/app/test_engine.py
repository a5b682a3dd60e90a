"""The engine: right answers for many sessions at once, computed once, and dropped when nobody waits for them."""

import gc
import json
import os
import pkgutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import app.figures
import dpi_core
from app.records import (
    ComparisonRequest,
    Inputs,
    ModelKey,
    PadRequest,
    SweepRequest,
    SweepResult,
    TrajectoryRequest,
    size_in_bytes,
)
from app.services import stored
from app.services.inference import Engine, ResultCache
from app.services.sizes import affordable
from dpi_core.allocator import keep_freed_memory
from dpi_core.analysis import denoising
from dpi_core.data import load_data
from dpi_core.seeds import seeded_generator

PATIENCE = 120
"""Seconds to wait for what has to come: the machine may be busy."""

HELD_OUT = Inputs("held-out", 2, 0)
DIGITS, BLIND, MIXTURE = (
    stored.read_model(name).key for name in ("digits-vp-dpi", "digits-vp-none", "mixture2d-flow-dpi")
)


def sweep_request(*s_grid, model=None, inputs=HELD_OUT):
    return SweepRequest(model or DIGITS, inputs, tuple(s_grid or (0.3, 0.7)), "cpu")


def sweep_of_a_minute(inputs=HELD_OUT):
    """A minute's work in short steps."""
    return sweep_request(*np.linspace(0, 1, 20_000).tolist(), inputs=inputs)


def pad_of_a_minute():
    """The same of a long request."""
    return PadRequest(DIGITS, HELD_OUT, 1, (0.5,), tuple(np.linspace(0, 1, 20_000).tolist()), "cpu")


def answer(engine, request, session="me"):
    job = engine.submit(session, request)
    assert job.wait(PATIENCE)
    return job


def result(engine, request):
    job = answer(engine, request)
    assert job.status == "done", job.error
    return job.result


def start(engine, request, session):
    """Submits a request and returns its job once it is being computed."""
    job = engine.submit(session, request)
    engine.best_device()  # torch is imported
    deadline = time.monotonic() + PATIENCE
    while job.done < 1:
        assert time.monotonic() < deadline, job
        time.sleep(0.005)
    return job


def reference(folder, inputs, s):
    """x̂0 by dpi_core alone, in this thread: (n, ...) with channels first."""
    model = dpi_core.load(folder)
    x0 = load_data(model.recipe.data).held_out_batch(inputs.n, inputs.seed)
    eps = torch.randn(x0.shape, generator=seeded_generator(inputs.seed))
    return [model.denoise(model.process.add_noise(x0, eps, value), value).numpy() for value in s]


# Many sessions ---------------------------------------------------------------------------------------------------


def test_five_threads_asking_for_different_s_get_no_wrong_answer(engine):
    frames, grid = 8, np.linspace(0, 1, 200).tolist()
    expected = dict(zip(grid, reference(DIGITS.folder, HELD_OUT, grid), strict=True))
    answers = []

    def ask(session):
        order = np.random.default_rng(session).permutation(grid).tolist()
        for first in range(0, len(grid), frames):
            job = engine.submit(f"session {session}", sweep_request(*order[first : first + frames]))
            assert job.wait(PATIENCE)
            answers.extend(zip(job.result.s.tolist(), np.moveaxis(job.result.x0_hat, -1, 2), strict=True))

    threads = [threading.Thread(target=ask, args=(session,)) for session in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = [s for s, x0_hat in answers if not np.allclose(x0_hat, expected[s], rtol=1e-4, atol=1e-6)]
    assert len(answers) >= 1000
    assert wrong == []


def test_a_request_of_two_sessions_is_computed_once(engine):
    running = start(engine, sweep_of_a_minute(), "somebody")
    first, second = engine.submit("a", sweep_request()), engine.submit("b", sweep_request())
    engine.cancel("somebody", running)
    assert first is second
    assert first.wait(PATIENCE) and first.status == "done"


def test_a_known_result_is_there_at_once(engine):
    first = result(engine, sweep_request())
    again = engine.submit("another session", sweep_request())
    assert again.finished and again.result is first


def test_a_superseded_request_that_has_not_started_is_dropped(engine):
    running = start(engine, sweep_of_a_minute(), "somebody")
    older = engine.submit("me", sweep_request(0.1, 0.2))
    newer = engine.submit("me", sweep_request(0.3, 0.4))
    assert older.finished and older.status == "cancelled"
    engine.cancel("somebody", running)
    assert newer.wait(PATIENCE) and newer.status == "done"
    assert older.result is None


def test_a_second_models_sweep_waits_beside_the_first_and_goes_with_it(engine):
    start(engine, sweep_of_a_minute(), "other")
    start(engine, pad_of_a_minute(), "other")
    first, pad = sweep_request(0.1), PadRequest(DIGITS, HELD_OUT, 2, (0.1,), (0.5,), "cpu")
    second = replace(sweep_request(0.1, model=BLIND), inputs=replace(HELD_OUT, of=DIGITS))
    jobs = [engine.submit("me", request) for request in (first, pad, second, first)]
    assert [job.status for job in jobs] == ["waiting"] * 4 and jobs[0] is jobs[3]
    with engine.draw("me"):
        engine.submit("me", sweep_request(0.2, inputs=Inputs("held-out", 3, 1)))
    assert [job.status for job in jobs] == ["cancelled"] * 4


def test_a_superseded_request_that_runs_is_stopped(engine):
    older = start(engine, sweep_of_a_minute(), "me")
    assert answer(engine, sweep_request()).status == "done"
    assert older.status == "cancelled" and older.done < older.total


def test_choosing_other_inputs_drops_the_pad_of_the_last_ones(engine):
    pad = start(engine, pad_of_a_minute(), "me")
    with engine.draw("me"):
        sweep = engine.submit("me", sweep_request(inputs=Inputs("held-out", 2, 1)))
    assert sweep.wait(PATIENCE) and sweep.status == "done"
    assert pad.status == "cancelled"


def test_a_pad_and_the_sweep_of_the_same_inputs_do_not_drop_one_another(engine):
    running = start(engine, sweep_of_a_minute(), "somebody")
    sweep = engine.submit("me", sweep_request())
    pad = engine.submit("me", PadRequest(DIGITS, HELD_OUT, 1, (0.5,), (0.0, 1.0), "cpu"))
    engine.cancel("somebody", running)
    assert sweep.wait(PATIENCE) and pad.wait(PATIENCE)
    assert (sweep.status, pad.status) == ("done", "done")


def test_a_running_request_stops_within_half_a_second_of_being_cancelled(engine):
    job = start(engine, sweep_of_a_minute(), "me")
    engine.cancel("me", job)
    assert job.wait(0.5)
    assert job.status == "cancelled" and job.result is None


def test_a_cancelled_request_can_be_asked_for_again(engine):
    request = sweep_request()
    running = start(engine, sweep_of_a_minute(), "somebody")
    engine.cancel("me", engine.submit("me", request))
    engine.cancel("somebody", running)
    assert answer(engine, request).status == "done"


def test_cancelling_leaves_the_job_of_another_session_alive(engine):
    request = sweep_request(*np.linspace(0, 1, 100).tolist())
    job = start(engine, request, "a")
    assert engine.submit("b", request) is job
    engine.cancel("a", job)
    assert job.wait(PATIENCE) and job.status == "done"


def test_a_closed_engine_has_stopped():
    engine, others = Engine(), set(threading.enumerate())
    running, waiting = start(engine, sweep_of_a_minute(), "a"), engine.submit("b", sweep_request())
    engine.close()
    assert (running.status, waiting.status) == ("cancelled", "cancelled")
    assert running.finished and waiting.finished
    assert set(threading.enumerate()) <= others


def test_progress_is_counted_to_the_end(engine):
    job = answer(engine, sweep_request(0.1, 0.5, 0.9))
    assert (job.done, job.total, job.progress) == (3, 3, 1.0)


# Failures --------------------------------------------------------------------------------------------------------


def assert_one_sentence(text):
    assert text.strip() and "\n" not in text and text.endswith("."), text


def without_its_data(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-dpi", into="absent-vp-dpi")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"name": "absent-vp-dpi", "data": {"kind": "idx"}}))
    return key_of(folder)


def with_nan_weights(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-dpi")
    weights = load_file(folder / "model.safetensors")
    nan = {name: value * torch.nan if value.is_floating_point() else value for name, value in weights.items()}
    save_file(nan, folder / "model.safetensors")
    return key_of(folder)


def with_truncated_weights(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-dpi")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    return key_of(folder)


def of_an_unknown_folder(copy_checkpoint):
    return ModelKey("/no/such/folder", "digest")


def key_of(folder):
    return stored.read_model(folder.name).key


FAILURES = [
    (of_an_unknown_folder, "/no/such/folder has no config.json"),
    (without_its_data, "the held-out data are not on this machine; put their files into .*absent"),
    (with_nan_weights, "not finite"),
    (with_truncated_weights, "not a readable safetensors file"),
]


@pytest.mark.parametrize(("damage", "says"), FAILURES)
def test_a_failing_request_gives_a_sentence_and_the_worker_survives(engine, copy_checkpoint, damage, says):
    job = answer(engine, sweep_request(model=damage(copy_checkpoint)))
    assert job.status == "failed" and job.result is None
    assert_one_sentence(job.error)
    with pytest.raises(ValueError, match=says):
        raise ValueError(job.error)
    assert answer(engine, sweep_request(model=BLIND)).status == "done"


def test_a_pad_of_a_blind_model_gives_a_sentence(engine):
    job = answer(engine, PadRequest(BLIND, HELD_OUT, 1, (0.5,), (0.0, 1.0), "cpu"))
    assert job.status == "failed"
    assert "one parameter set" in job.error
    assert_one_sentence(job.error)


def test_a_device_that_is_not_there_gives_a_sentence(engine):
    request = SweepRequest(DIGITS, HELD_OUT, (0.5,), "cuda:7")
    job = answer(engine, request)
    assert job.status == "failed" and "there is no device 'cuda:7'" in job.error
    assert_one_sentence(job.error)


def test_a_failed_request_is_not_tried_again_when_its_page_is_drawn_again(engine):
    request = sweep_request(model=ModelKey("/no/such/folder", "digest"))
    failed = answer(engine, request)
    assert engine.submit("me", request) is failed


def test_a_failed_request_is_tried_again_on_demand(engine, copy_checkpoint):
    folder = copy_checkpoint("digits-vp-none")
    request = sweep_request(model=key_of(folder))
    hidden = folder.rename(folder.parent / "hidden")
    failed = answer(engine, request)
    assert failed.status == "failed"
    hidden.rename(folder)
    engine.cancel("me", failed)
    assert answer(engine, request).status == "done"


# The cache -------------------------------------------------------------------------------------------------------


def some_result(count):
    empty = np.zeros(0, np.float32)
    return SweepResult(empty, None, empty, empty, (), empty, empty, np.zeros(count, np.uint8), empty)


def test_the_cache_never_holds_more_than_its_limit():
    cache, rng = ResultCache(limit=1000), np.random.default_rng(0)
    sizes = {}
    for step in range(500):
        request = sweep_request(float(rng.integers(30)) / 30)
        sizes[request] = int(rng.integers(0, 500))
        cache.put(request, some_result(sizes[request]))
        held = [found for found in map(cache.get, sizes) if found is not None]
        assert cache.held == sum(map(size_in_bytes, held)) <= cache.limit, step


def test_what_an_observer_sees_never_exceeds_the_limit():
    cache, done, seen = ResultCache(limit=1000), threading.Event(), []

    def watch():
        while not done.is_set():
            seen.append(cache.held)

    observer = threading.Thread(target=watch)
    observer.start()
    for step in range(5000):
        cache.put(sweep_request(step / 5000), some_result(400))
    done.set()
    observer.join()
    assert 0 < max(seen) <= cache.limit


def test_the_least_recently_used_result_goes_first():
    cache = ResultCache(limit=300)
    first, second, third = (sweep_request(s) for s in (0.1, 0.2, 0.3))
    cache.put(first, some_result(100))
    cache.put(second, some_result(100))
    cache.get(first)
    cache.put(third, some_result(200))
    assert cache.get(second) is None
    assert cache.get(first) is not None and cache.get(third) is not None


def test_a_result_larger_than_the_cache_is_delivered_and_not_stored():
    with closing(Engine(cache_bytes=100)) as engine:
        assert isinstance(result(engine, sweep_request()), SweepResult)
        assert engine.cache.get(sweep_request()) is None and engine.cache.held == 0


def test_the_cache_of_an_engine_stays_within_its_bound():
    with closing(Engine(cache_bytes=5000)) as engine:
        for s in np.linspace(0, 1, 12).tolist():
            result(engine, sweep_request(s))
            assert 0 < engine.cache.held <= 5000
    assert engine.cache.get(sweep_request(1.0)) is not None
    assert engine.cache.get(sweep_request(0.0)) is None


def test_a_replaced_checkpoint_is_another_model(engine, copy_checkpoint):
    folder = copy_checkpoint("digits-vp-none")
    before = key_of(folder)
    old = result(engine, sweep_request(model=before))
    weights = load_file(folder / "model.safetensors")
    save_file({name: 0.9 * value for name, value in weights.items()}, folder / "model.safetensors")
    after = key_of(folder)
    assert after.folder == before.folder and after.digest != before.digest
    new = result(engine, sweep_request(model=after))
    assert not np.allclose(new.x0_hat, old.x0_hat, atol=1e-3)
    expected = reference(folder, HELD_OUT, new.s.tolist())
    np.testing.assert_allclose(np.moveaxis(new.x0_hat, -1, 2), expected, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_replaced_behind_the_page_is_not_answered_for_the_old_one(engine, copy_checkpoint):
    folder = copy_checkpoint("digits-vp-none")
    before = key_of(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: 0.9 * value for name, value in weights.items()}, folder / "model.safetensors")
    job = answer(engine, sweep_request(model=before))
    assert job.status == "failed" and "replaced" in job.error
    assert_one_sentence(job.error)


# The two roles of s ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [DIGITS, MIXTURE], ids=["images", "points"])
def test_on_the_learned_curve_the_pad_agrees_with_the_sweep(engine, model):
    inputs, count, s_grid = Inputs("held-out", 6, 3), 4, (0.15, 0.4, 0.8)
    sweep = result(engine, sweep_request(*s_grid, model=model, inputs=inputs))
    lam_grid = tuple(sorted({0.0, *sweep.lam.tolist(), 1.0}))
    pad = result(engine, PadRequest(model, inputs, count, s_grid, lam_grid, "cpu"))
    np.testing.assert_allclose(pad.learned, sweep.lam, rtol=1e-12)
    rows = [lam_grid.index(lam) for lam in sweep.lam.tolist()]
    on_curve = pad.x0_hat[rows, range(len(s_grid))]
    np.testing.assert_allclose(on_curve, sweep.x0_hat[:, :count], rtol=1e-4, atol=1e-5)
    assert not np.allclose(pad.x0_hat[0, 1], sweep.x0_hat[1, :count], atol=1e-2), "λ = 0 is another network"


def test_the_scores_of_a_pad_are_those_of_its_frames(engine):
    request = PadRequest(DIGITS, HELD_OUT, 2, (0.2, 0.6), (0.0, 0.5, 1.0), "cpu")
    pad, clean = result(engine, request), result(engine, sweep_request()).clean
    mse = np.square(pad.x0_hat - clean).mean((3, 4, 5))
    np.testing.assert_allclose(pad.score, (10 * np.log10(4 / mse)).mean(2), rtol=1e-4)
    assert pad.judged == 2


def test_the_errors_of_a_sweep_are_those_of_its_frames(engine):
    sweep = result(engine, sweep_request(0.1, 0.5, 0.9))
    np.testing.assert_allclose(sweep.mse, np.square(sweep.x0_hat - sweep.clean).mean((2, 3, 4)), rtol=1e-4)


# torch comes late ------------------------------------------------------------------------------------------------


def test_the_first_picture_is_made_without_torch():
    figures = [f"app.figures.{module.name}" for module in pkgutil.iter_modules(app.figures.__path__)]
    modules = ["app.records", *figures, "app.services.stored", "app.services.uploads", "app.services.inference"]
    modules += ["app.state", "app.components.scrubber", "app.services.cache", "app.views.denoise"]
    lines = ["import importlib, sys", f"for name in {modules!r}:", "    importlib.import_module(name)"]
    lines += ["    assert 'torch' not in sys.modules, name", "from app.services.inference import Engine", "Engine()"]
    lines += ["from app.services import stored", "from app.figures.denoise import sweep_figure"]
    lines += ["model = stored.read_model(stored.model_names()[0])", "sweep_figure(model, [model], model.sweep)"]
    lines += ["assert 'torch' not in sys.modules"]
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# Fair, bounded, and hard to kill ---------------------------------------------------------------------------------


def test_a_session_that_asks_for_little_is_served_before_the_rest_of_one_that_asks_for_much(engine):
    running, finished = start(engine, sweep_of_a_minute(), "somebody"), []
    greedy = [
        sweep_request(0.1),
        TrajectoryRequest(DIGITS, Inputs("samples", 1, 0), "heun", 2, "uniform", "learned", 0.5, "cpu"),
    ]
    jobs = {("greedy", i): engine.submit("greedy", request) for i, request in enumerate(greedy)}
    jobs |= {("modest", 0): engine.submit("modest", sweep_request(0.9))}
    watchers = [
        threading.Thread(target=lambda k=k, j=j: (j.wait(PATIENCE), finished.append(k))) for k, j in jobs.items()
    ]
    for watcher in watchers:
        watcher.start()
    assert engine.ahead_of(jobs["modest", 0]) == 3
    engine.cancel("somebody", running)
    for watcher in watchers:
        watcher.join()
    assert all(job.status == "done" for job in jobs.values())
    assert finished[-1] == ("greedy", 1), "the sweeps may be joined, and either of them be over first"


@pytest.mark.usefixtures("unchecked")
def test_nobody_waits_for_the_long_request_of_another_and_both_answers_are_right(engine):
    """Both of the same model, at the same time: one worker's λ must not be the other's."""
    grid = tuple(np.linspace(0, 1, 33).tolist())
    result(engine, sweep_request(0.5))  # the model is loaded
    pad = start(engine, PadRequest(DIGITS, HELD_OUT, 2, grid, grid, "cpu"), "somebody")
    levels = (0.2, 0.4, 0.6, 0.8)
    for seed in range(4):
        inputs = replace(HELD_OUT, seed=seed)
        found = result(engine, sweep_request(*levels, inputs=inputs))
        assert seed or not pad.finished
        for x0_hat, expected in zip(found.x0_hat, reference(DIGITS.folder, inputs, levels), strict=True):
            np.testing.assert_allclose(x0_hat[..., 0], expected[:, 0], rtol=1e-4, atol=1e-5)
    assert pad.wait(PATIENCE)
    with closing(Engine()) as quiet:
        np.testing.assert_array_equal(pad.result.x0_hat, result(quiet, pad.request).x0_hat)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_long_requests_step_back_where_processors_are_short(engine):
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    for request in (sweep_request(0.5), PadRequest(DIGITS, HELD_OUT, 1, (0.5,), (0.5,), "cpu")):
        assert answer(engine, request).status == "done"
    threads = [thread for thread in threading.enumerate() if thread.name == "engine-cpu"]
    found = sorted(os.getpriority(os.PRIO_PROCESS, thread.native_id) for thread in threads)
    assert found[0] == usual < found[-1]


def test_a_full_queue_refuses_with_a_sentence_and_takes_jobs_again_later():
    with closing(Engine(most_waiting=2)) as engine:
        running = start(engine, sweep_of_a_minute(), "somebody")
        waiting = [engine.submit(f"s{i}", sweep_request(i / 10)) for i in range(2)]
        refused = engine.submit("late", sweep_request(0.9))
        assert refused.status == "failed" and "2 computations wait for cpu" in refused.error
        assert_one_sentence(refused.error)
        assert engine.observe().full
        assert engine.submit("late", sweep_request(0.1)) is waiting[1], "what is computed anyhow costs nothing"
        pad = answer(engine, PadRequest(DIGITS, HELD_OUT, 1, (0.5,), (0.5,), "cpu"), "late")
        assert pad.status == "done", "long requests have a queue of their own"
        engine.cancel("somebody", running)
        assert all(job.wait(PATIENCE) for job in waiting)
        assert answer(engine, sweep_request(0.9), "late").status == "done"
        assert engine.observe().outcomes == {"cancelled": 1, "refused": 1, "done": 4} and not engine.observe().full


def test_a_worker_that_dies_is_replaced_and_the_others_are_answered(engine, monkeypatch):
    from app.services import compute

    load = compute.load_model

    def dying(key, device):
        if key == BLIND:
            raise SystemExit
        return load(key, device)

    monkeypatch.setattr(compute, "load_model", dying)
    running = start(engine, sweep_of_a_minute(), "somebody")
    fatal, next_one = engine.submit("a", sweep_request(model=BLIND)), engine.submit("b", sweep_request())
    engine.cancel("somebody", running)
    assert fatal.wait(PATIENCE) and fatal.status == "failed"
    assert_one_sentence(fatal.error)
    assert next_one.wait(PATIENCE) and next_one.status == "done"


def test_a_large_batch_stops_between_two_layers(engine, monkeypatch):
    from app.services import compute

    load, started = compute.load_model, []

    def watched(key, device):
        model = load(key, device)
        for layer in model.net.backbone.modules():
            layer.register_forward_pre_hook(lambda *_: started.append(time.monotonic()))
        return model

    monkeypatch.setattr(compute, "load_model", watched)
    job = engine.submit("me", sweep_request(0.2, 0.5, inputs=Inputs("digits", 300, 0)))
    while not started:
        time.sleep(0.001)
    engine.cancel("me", job)
    cancelled = time.monotonic()
    assert job.wait(PATIENCE) and job.status == "cancelled" and job.done == 0
    assert sum(at > cancelled for at in started) <= 1, "one layer may have passed the question already"


def test_what_is_alive_after_the_warm_up_is_left_out_of_collections(engine):
    gc.unfreeze()
    engine.best_device()
    assert gc.get_freeze_count() > 10_000, "torch's objects"


def test_the_operator_chooses_how_much_is_kept(monkeypatch):
    from app.services import cache

    monkeypatch.setenv("DPI_CACHE_BYTES", "1000")
    assert cache._cache_bytes() == 1000
    monkeypatch.setenv("DPI_CACHE_BYTES", "much")
    with pytest.raises(ValueError, match="DPI_CACHE_BYTES is 'much', but has to be a whole number of bytes"):
        cache._cache_bytes()


def test_what_the_engine_holds_can_be_observed(engine):
    result(engine, sweep_request())
    seen = engine.observe()
    assert seen.cache_bytes == engine.cache.held > 0 and seen.cached == 1
    assert (seen.waiting, seen.running) == (0, 0) and seen.cache_bytes <= seen.cache_limit


def short_of_memory(monkeypatch, rows):
    """A device on which the network has room for so many samples and no more; the calls that had room are returned."""
    from app.services import compute

    load, calls = compute.load_model, []

    def limited(key, device):
        model = load(key, device)
        whole = model.net.backbone.forward

        def forward(x):
            if len(x) > rows:
                raise torch.OutOfMemoryError("out of memory")
            calls.append(len(x))
            return whole(x)

        model.net.backbone.forward = forward
        return model

    monkeypatch.setattr(compute, "load_model", limited)
    return calls


def test_too_little_memory_means_smaller_parts_and_a_sentence(engine, monkeypatch):
    monkeypatch.setattr(denoising, "NUMBERS_AT_ONCE", {})  # one level in a pass
    inputs = Inputs("held-out", 10, 0)
    expected = result(engine, sweep_request(inputs=inputs)).x0_hat
    with closing(Engine()) as tight:
        calls = short_of_memory(monkeypatch, 5)
        job = answer(tight, sweep_request(inputs=inputs))
        assert "computed 4 at a time" in job.note and calls == [4, 4, 2] * 2
        assert_one_sentence(job.note)
        np.testing.assert_allclose(job.result.x0_hat, expected, rtol=1e-4, atol=1e-6)
        assert tight.submit("another", sweep_request(inputs=inputs)).note == job.note


def test_too_little_memory_for_one_of_the_compared_models_means_smaller_parts(monkeypatch):
    from app.services import compute

    load = compute.load_model

    def limited(key, device):
        model = load(key, device)

        def hungry(module, inputs):
            if key == BLIND and len(inputs[0]) > 5:
                raise torch.OutOfMemoryError("out of memory")

        model.net.backbone.register_forward_pre_hook(hungry)
        return model

    monkeypatch.setattr(compute, "load_model", limited)
    request = ComparisonRequest(DIGITS, (BLIND, DIGITS), Inputs("held-out", 10, 0), 2, (0.3, 0.6), "cpu")
    with closing(Engine()) as tight:
        job = answer(tight, request)
        assert job.status == "done" and "computed 4 at a time" in job.note, job.error
        models = tight._workers["cpu", True].computer.models.values()
        assert models and not any("forward" in vars(model.denoiser.net) for model in models)


def test_no_memory_for_a_single_sample_is_said_in_a_sentence(engine, monkeypatch):
    short_of_memory(monkeypatch, 0)
    job = answer(engine, sweep_request())
    assert job.status == "failed" and "memory of cpu does not suffice" in job.error
    assert_one_sentence(job.error)


def test_logs_hold_no_words_of_users(engine, caplog, monkeypatch):
    from app.services import compute

    def broken(*_):
        raise KeyError("a secret of the user")

    caplog.set_level("INFO", "dpi_explorer")
    result(engine, sweep_request())
    monkeypatch.setattr(compute, "answer", broken)
    assert answer(engine, sweep_request(0.4)).status == "failed"
    events = [json.loads(record.message) for record in caplog.records if record.name == "dpi_explorer"]
    assert [event["event"] for event in events][-3:] == ["request", "request failed", "request"]
    assert events[-3]["status"] == "done" and events[-3]["model"] == DIGITS.digest[:12] and events[-3]["seconds"] > 0
    assert "test_engine.py" in events[-2]["where"]
    assert "secret" not in caplog.text


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not keep_freed_memory(), reason="only glibc can be told to give memory back")
def test_freed_memory_goes_back_to_the_system_after_a_computation(engine):
    made = [b"x" * 2**20 for _ in range(200)]
    between = made[::20]  # what is freed does not lie at the end, where it would go back by itself
    del made
    kept = resident()
    result(engine, sweep_request(0.1))
    deadline = time.monotonic() + PATIENCE
    while resident() > kept - 150 * 2**20:
        assert time.monotonic() < deadline, (kept, resident(), len(between))
        time.sleep(0.01)


@pytest.mark.parametrize(
    "request_of_many",
    [
        sweep_request(0.1, 0.2, inputs=Inputs("held-out", 9, 0)),
        PadRequest(DIGITS, HELD_OUT, 1, (0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4, 0.5), "cpu"),
        ComparisonRequest(DIGITS, (BLIND,), HELD_OUT, 2, (0.1, 0.2, 0.3, 0.4), "cpu"),
        TrajectoryRequest(DIGITS, Inputs("samples", 1, 0), "euler", 5, "uniform", "learned", 0.5, "cpu"),
    ],
    ids=lambda request: type(request).__name__,
)
def test_an_answer_that_takes_too_much_memory_is_refused_before_it_is_computed(engine, monkeypatch, request_of_many):
    monkeypatch.setenv("DPI_MAX_RESULT_NUMBERS", str(17 * 64))
    job = answer(engine, request_of_many)
    assert job.status == "failed" and job.done == 0
    assert "the answer has" in job.error and "numbers, more than the 1,088 allowed" in job.error
    assert "choose fewer inputs" in job.error and "DPI_MAX_RESULT_NUMBERS" in job.error


def test_a_page_asks_for_as_many_samples_as_an_answer_may_hold():
    assert affordable(16, 101, (1, 28, 28)) == 16
    assert affordable(16, 101, (3, 256, 256)) == 13
    assert affordable(16, 101, (1, 2048, 2048)) == 1
