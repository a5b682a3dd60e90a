"""What the parts of a page ask for is computed side by side; what a page no longer asks for, or nobody, is dropped."""

import gc
import time
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.records import Inputs, LayerDetailRequest, LayersRequest, PadRequest, SweepRequest, SweepResult, Upload
from app.services import stored
from app.services.jobs import Job, Outcome

SCRIPT = Path(__file__).parents[2] / "app" / "main.py"
PATIENCE = 60

DIGITS, BLIND = (stored.read_model(name).key for name in ("digits-vp-dpi", "digits-vp-none"))
SAMPLES, HELD_OUT = Inputs("samples", 4, 1), Inputs("held-out", 4, 1)
LAYERS, DETAIL = LayersRequest(DIGITS, SAMPLES, "cpu"), LayerDetailRequest(DIGITS, HELD_OUT, "head", "cpu")
PAD = PadRequest(DIGITS, HELD_OUT, 1, (0.5,), (0.5,), "cpu")


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def some_result():
    empty = np.zeros(0, np.float32)
    return SweepResult(empty, None, empty, empty, (), empty, empty, empty, empty)


# The engine ------------------------------------------------------------------------------------------------------


def test_what_a_page_no_longer_asks_for_is_dropped_once_it_is_drawn(patient):
    engine, _ = patient
    with engine.draw("me"):
        first, pad = engine.submit("me", SweepRequest(DIGITS, HELD_OUT, (0.5,), "cpu")), engine.submit("me", PAD)
    yours = engine.submit("you", DETAIL)
    with engine.draw("me"):
        other = engine.submit("me", LAYERS)
        assert pad.status == "waiting", "the page may ask for it yet"
    assert pad.status == "cancelled" and first.wait(PATIENCE) and first.status == "cancelled"
    assert not other.finished and not yours.finished


def test_a_page_that_asks_for_nothing_and_one_that_is_interrupted_drop_nothing(patient):
    engine, _ = patient
    job = engine.submit("me", PAD)
    with engine.draw("me"):
        pass
    with pytest.raises(KeyError), engine.draw("me"):
        engine.submit("me", LAYERS)
        raise KeyError
    assert not job.finished


def test_an_answer_that_is_known_stops_nothing_of_another_kind(patient):
    engine, _ = patient
    job = engine.submit("me", LAYERS)
    engine.cache.put(DETAIL, some_result())
    assert engine.submit("me", DETAIL).status == "done" and not job.finished


# Pages -----------------------------------------------------------------------------------------------------------


def draw(view):
    from importlib import import_module

    from app import state
    from app.services import cache

    with cache.engine().draw(state.session_id()):
        import_module(f"app.views.{view}").page(cache.model("digits-vp-dpi"), 1, "cpu")


@pytest.mark.parametrize(
    ("view", "link", "open_section", "kinds"),
    [
        ("layers", {"layers_on": "Samples", "layer": "head"}, None, {"LayersRequest", "LayerDetailRequest"}),
        (
            "layers",
            {"layers_on": "Samples", "layers_tab": "Receptive field"},
            None,
            {"LayersRequest", "ReceptiveFieldRequest"},
        ),
        ("compare", {"compared_on": "Photos"}, "compare_samples", {"ComparisonRequest", "TrajectoryRequest"}),
    ],
)
def test_the_parts_of_a_page_do_not_stop_one_another(patient, view, link, open_section, kinds):
    _, seen = patient
    app = AppTest.from_function(draw, kwargs={"view": view}, default_timeout=60)
    app.query_params.update(link)
    if open_section:
        app.session_state[open_section] = True
    for _ in range(100):
        app.run()
        assert not app.exception, app.exception[0].stack_trace
        if {kind for kind, _ in seen} >= kinds:
            break
        time.sleep(0.1)
    assert {status for _, status in seen} == {"failed"} and {kind for kind, _ in seen} == kinds


def test_the_app_drops_what_its_page_does_not_show_and_ends_with_the_session(patient):
    engine, _ = patient
    older = engine.submit("me", PAD)
    app = AppTest.from_file(str(SCRIPT), default_timeout=60)
    app.session_state["_session"], app.query_params["inputs"] = "me", "Photos"
    app.run()
    assert not app.exception and older.wait(PATIENCE) and older.status == "cancelled"
    (job,) = engine._latest.values()
    assert not job.finished
    app.session_state["_work"] = None  # as the session's end does
    gc.collect()
    assert job.wait(PATIENCE) and job.status == "cancelled"
    assert not engine._latest


@pytest.mark.parametrize("label", ["Looking into the layer", "Tracing the pixel"])
def test_what_was_cancelled_stays_so_whatever_else_is_cancelled(patient, label):
    app = AppTest.from_function(draw, kwargs={"view": "layers"}, default_timeout=60)
    app.query_params.update({"layer": "head", "layers_tab": "Receptive field"})
    app.run()
    for _ in range(2):
        next(button for button in app.button if button.label == "Cancel").click().run()
    assert [caption.value for caption in app.caption if caption.value.endswith("cancelled.")] == [
        "Looking into the layer: cancelled.",
        "Tracing the pixel: cancelled.",
    ]
    app.button(key=f"compute {label}").click().run()
    assert len([button for button in app.button if button.label == "Cancel"]) == 1


# The end of a session --------------------------------------------------------------------------------------------


def of_images(level):
    upload = Upload.from_array(np.full((1, 1, 8, 8), level, np.float32))
    return upload, SweepRequest(DIGITS, Inputs("upload", 1, 0, upload), tuple(np.linspace(0, 1, 400).tolist()), "cpu")


def test_a_failed_request_goes_with_its_session(patient):
    engine, _ = patient
    assert engine.submit("me", of_images(0.0)[1]).wait(PATIENCE)
    assert engine._latest
    engine.leave("me")
    assert not engine._latest


@pytest.mark.parametrize(
    "end", [lambda engine, upload: engine.leave("me"), lambda engine, upload: engine.forget("me", upload)]
)
def test_nothing_is_kept_of_images_that_are_computed_when_their_reader_leaves(engine, end):
    upload, request = of_images(0.0)
    engine.best_device()
    job = engine.submit("me", request)
    until(lambda: job.done > 0)
    end(engine, upload)
    assert job.wait(PATIENCE) and job.status == "cancelled"
    engine.complete(Job(request), Outcome("done", some_result()))  # of a computation that nobody waited for any more
    assert engine.cache.get(request) is None and not engine._latest


def test_models_whose_files_are_deleted_leave_memory(engine):
    requests = [SweepRequest(key, HELD_OUT, (0.5,), "cpu") for key in (DIGITS, BLIND)]
    for request in requests:
        assert engine.submit("me", request).wait(PATIENCE)
    computer = engine._workers["cpu", False].computer
    assert set(computer.models) == {DIGITS, BLIND}
    engine.forget_models(Path(DIGITS.folder))
    until(lambda: set(computer.models) == {BLIND})
    assert [engine.cache.get(request) is None for request in requests] == [True, False]
