"""Models that a reader brings: what is taken, what is wrong with the rest, who sees it, and when it is gone."""

import gc
import json
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamlit.runtime.caching import clear_session_resource_cache
from streamlit.testing.v1 import AppTest

import dpi_core
from app.records import StoredModel
from app.services import cache, own_models, stored
from app.services.own_models import Lease, Uploads, from_folder
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.limits import Limits
from dpi_core.model import Model

SCRIPT = Path(__file__).parents[2] / "app" / "main.py"
CONFIG = {
    "name": "ring-flow-dpi",
    "data": {"kind": "ring_mixture"},
    "shape": [2],
    "process": {"kind": "flow"},
    "backbone": {"kind": "mlp", "width": 8, "depth": 2},
    "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
    "training": {"steps": 3},
    "sampling": {"sampler": "heun", "steps": 4},
}


def written(folder: Path, **changes) -> Path:
    """A tiny checkpoint on disk."""
    recipe = recipe_from_dict({**CONFIG, **changes})
    return dpi_core.save(Model(build_denoiser(recipe), recipe, {}), folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return written(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def uploads():
    uploads = Uploads()
    yield uploads
    uploads.close()


def until(condition):
    """Whatever a session's end sets going is over soon after."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def files_of(folder, *names):
    return {name: (folder / name).read_bytes() for name in names or ("model.safetensors", "config.json")}


def said(error):
    """The sentence; it names no place on the server."""
    text = str(error.value)
    assert "\n" not in text and "/tmp" not in text and "Traceback" not in text and len(text) < 500, text
    return text


# Uploads ---------------------------------------------------------------------------------------------------------


def test_an_uploaded_checkpoint_is_the_one_that_was_handed_over(uploads, tiny):
    source = uploads.receive("me", files_of(tiny), stored.zoo())
    assert (source.name, source.origin, source.family) == ("upload:ring-flow-dpi", "upload", "ring-flow")
    found, given = dpi_core.load(source.folder), dpi_core.load(tiny)
    torch.testing.assert_close(dict(found.net.state_dict()), dict(given.net.state_dict()), rtol=0, atol=0)
    project = Path(stored.CHECKPOINTS).parent
    assert not source.folder.is_relative_to(project)


def test_a_second_one_of_that_name_gets_another_name(uploads, tiny):
    first = uploads.receive("me", files_of(tiny), stored.zoo())
    second = uploads.receive("me", files_of(tiny), [*stored.zoo(), first])
    assert second.name == "upload:ring-flow-dpi-2" and second.folder != first.folder


def with_config(**changes):
    return lambda files: files | {"config.json": json.dumps({**CONFIG, **changes}).encode()}


def with_weights(change):
    def edit(files, tmp_path):
        (tmp_path / "w").write_bytes(files["model.safetensors"])
        tensors = load_file(tmp_path / "w")
        change(tensors)
        save_file(tensors, tmp_path / "w")
        return files | {"model.safetensors": (tmp_path / "w").read_bytes()}

    return edit


def without(name):
    return lambda files: {key: value for key, value in files.items() if key != name}


def and_file(name, content):
    return lambda files: files | {name: content}


BAD = {
    "no weights": (without("model.safetensors"), "model.safetensors is missing; a checkpoint is"),
    "nothing": (lambda files: {}, "model.safetensors and config.json are missing"),
    "a pickle": (and_file("weights.pt", b"\x80\x04"), "'weights.pt' is none of .* dpi_core import"),
    "a path": (and_file("../config.json", b"{}"), "'../config.json' is none of"),
    "no JSON": (and_file("config.json", b"{"), "config.json is not valid JSON|config.json: config.json is not valid"),
    "nested JSON": (and_file("config.json", b"[" * 100_000), "nested too deeply"),
    "long JSON": (and_file("config.json", b" " * 2**21), "2,097,152 bytes, more than the .* Limits.json_bytes"),
    "an unknown key": (with_config(training={"step": 3}), "did you mean 'steps'"),
    "a gigantic width": (with_config(backbone={"kind": "mlp", "width": 10**9, "depth": 2}), "another config"),
    "a gigantic depth": (with_config(backbone={"kind": "mlp", "width": 8, "depth": 10**9}), "another config"),
    "gigantic knots": (with_config(conditioning={"kind": "dpi", "schedule": {"n_knots": 10**12}}), "another config"),
    "a gigantic sample": (with_config(shape=[3, 10**6, 10**6]), "Limits.sample_numbers"),
    "endless sampling": (with_config(sampling={"sampler": "heun", "steps": 10**9}), "Limits.steps"),
    "a seed beyond 64 bits": (with_config(training={"steps": 3, "seed": 10**30}), "training.seed is"),
    "half the weights": (
        lambda files: files | {"model.safetensors": files["model.safetensors"][:-9]},
        "not a readable safetensors file",
    ),
    "NaN": (
        with_weights(lambda tensors: tensors["theta0.tail.bias"].fill_(float("nan"))),
        "2 of the 2 numbers of theta0.tail.bias are not finite",
    ),
    "scores that are none": (and_file("metrics.json", b'{"held_out": 5}'), "metrics.json: held_out is not what"),
    "scores that are a list": (and_file("metrics.json", b"[]"), "metrics.json is not an object"),
    "frames that are none": (and_file("analysis.safetensors", b"\x00" * 40), "analysis.safetensors is damaged"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_with_one_sentence_and_leaves_nothing(uploads, tiny, tmp_path, spoil, sentence):
    takes_folder = spoil.__code__.co_argcount == 2
    files = spoil(files_of(tiny), tmp_path) if takes_folder else spoil(files_of(tiny))
    started = time.process_time()
    with pytest.raises(ValueError, match=sentence) as error:
        uploads.receive("me", files, [])
    said(error)
    assert time.process_time() - started < 2
    assert all(not list(shelf.folder.iterdir()) for shelf in uploads._shelves.values())


def test_samples_that_the_app_cannot_draw_are_refused(uploads, tmp_path):
    backbone = {"kind": "mlp", "in_features": 5, "out_features": 5, "width": 8, "depth": 2}
    folder = written(tmp_path, shape=[5], backbone=backbone)
    with pytest.raises(ValueError, match=r"shape \(5,\), but the app draws points .* use dpi_core"):
        uploads.receive("me", files_of(folder), [])


def test_frames_of_another_model_are_refused(uploads, tiny):
    shipped = stored.CHECKPOINTS / "digits-vp-dpi"
    with pytest.raises(ValueError, match="analysis.safetensors is damaged .*expected"):
        uploads.receive("me", files_of(tiny) | files_of(shipped, "analysis.safetensors"), [])


def test_a_session_keeps_a_bounded_number_of_bytes_and_of_models(tiny):
    files = files_of(tiny)
    size = sum(map(len, files.values()))
    uploads = Uploads(limits=Limits(session_bytes=2 * size, server_bytes=3 * size))
    try:
        first = uploads.receive("me", files, [])
        uploads.receive("me", files, [first])
        with pytest.raises(ValueError, match=rf"the {2 * size:,} allowed; remove one of them .*DPI_MAX_SESSION_BYTES"):
            uploads.receive("me", files, [])
        uploads.receive("you", files, [])
        with pytest.raises(ValueError, match="as many uploads as it may .*DPI_MAX_SERVER_BYTES"):
            uploads.receive("they", files, [])
        uploads.remove(first)
        assert not first.folder.exists()
        uploads.receive("me", files, [])
        uploads.limits = Limits(session_models=1)
        with pytest.raises(
            ValueError, match="has 2 models, more than the 1 allowed; remove one .*DPI_MAX_SESSION_MODELS"
        ):
            uploads.receive("you", files, [])
    finally:
        uploads.close()


def test_what_was_uploaded_ends_with_the_session(uploads, tiny):
    mine, yours = (uploads.receive(session, files_of(tiny), []) for session in ("me", "you"))
    lease, other = uploads.lease("me"), uploads.lease("you")
    del lease
    gc.collect()
    until(lambda: not mine.folder.parent.exists())
    assert yours.folder.is_dir()
    del other


def test_a_session_that_ends_in_the_middle_of_anything_waits_for_no_lock():
    lock, ended = threading.Lock(), []

    def end():
        with lock:
            ended.append(True)

    class Session: ...

    def work():
        session = Session()
        session.itself, session.lease = session, Lease(end)
        del session
        with lock:
            gc.collect()  # as any allocation may

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    until(lambda: ended)


def test_a_lease_whose_end_fails_does_not_keep_the_others():
    ended = []
    Lease(lambda: 1 / 0)
    Lease(lambda: ended.append(True))
    until(lambda: ended)


def test_the_engine_hears_of_deleted_models(tiny):
    deleted = []
    uploads = Uploads(deleted=deleted.append)
    mine, again, yours = (uploads.receive(session, files_of(tiny), []) for session in ("me", "me", "you"))
    uploads.remove(mine)
    uploads.drop("me")
    uploads.close()
    assert deleted == [mine.folder, again.folder.parent, yours.folder.parent]


def test_a_model_that_was_uploaded_is_not_kept_for_other_sessions(uploads, tiny):
    mine = uploads.receive("me", files_of(stored.CHECKPOINTS / "digits-vp-dpi", *stored.FILES), stored.zoo())

    def draw(name):
        from app.services import cache
        from app.views import denoise

        denoise.page(cache.model(name), 0, "cpu")

    app = AppTest.from_function(draw, kwargs={"name": mine.name}, default_timeout=60)
    app.session_state["_own_models"] = (mine,)
    assert not app.run().exception
    del app
    clear_session_resource_cache("test session id")  # as the end of its connection does
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is StoredModel and each.source == mine]


def test_what_is_long_idle_is_deleted_and_what_is_used_stays(tiny):
    now = [0.0]
    uploads = Uploads(idle_seconds=60, clock=lambda: now[0])
    mine, yours = (uploads.receive(session, files_of(tiny), []) for session in ("me", "you"))
    now[0] = 59
    uploads.touch("you")
    uploads.expire()
    assert mine.folder.is_dir()
    now[0] = 61
    uploads.expire()
    assert not mine.folder.exists() and yours.folder.is_dir()
    uploads.close()
    assert not yours.folder.exists()


# Folders of the server -------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, tiny, monkeypatch):
    """An allowed folder with one checkpoint, and one beside it that is not allowed."""
    open_, closed = tmp_path / "open", tmp_path / "closed"
    for folder in (open_ / "run 1", closed / "run"):
        folder.mkdir(parents=True)
        for name, content in files_of(tiny).items():
            (folder / name).write_bytes(content)
    monkeypatch.setenv("DPI_ROOTS", f"{open_}{os.pathsep}{tmp_path / 'absent'}")
    return open_


@pytest.mark.parametrize("form", ["run 1", "{root}/run 1", "./run 1/", "../open/run 1"])
def test_a_folder_below_a_root_is_loaded_however_it_is_written(root, form):
    source = from_folder(form.format(root=root), [])
    assert (source.name, source.folder) == ("folder:run_1", root / "run 1")
    assert stored.read(source).recipe["name"] == "ring-flow-dpi"


def test_folders_below_the_roots_are_offered(root):
    assert own_models.offered() == [str(root / "run 1")]


@pytest.mark.parametrize("form", ["../closed/run", "{root}/../closed/run", "/", "", "..", "no\0thing", "x" * 5000, "~"])
def test_nothing_outside_the_roots_is_loaded(root, form):
    with pytest.raises(ValueError, match="is no checkpoint folder below"):
        from_folder(form.format(root=root), [])


def test_links_that_lead_out_of_a_root_are_not_followed(root):
    (root / "link").symlink_to(root.parent / "closed" / "run")
    (root / "mixed").mkdir()
    (root / "mixed" / "config.json").symlink_to(root / "run 1" / "config.json")
    (root / "mixed" / "model.safetensors").symlink_to(root.parent / "closed" / "run" / "model.safetensors")
    for form in ("link", "mixed"):
        with pytest.raises(ValueError, match="without links"):
            from_folder(form, [])


def test_without_roots_no_folder_is_open(root, monkeypatch):
    monkeypatch.delenv("DPI_ROOTS")
    with pytest.raises(ValueError, match="No folder of this server is open; .* DPI_ROOTS"):
        from_folder(str(root / "run 1"), [])
    assert own_models.offered() == []


# On the pages ----------------------------------------------------------------------------------------------------


def open_app(*own, **parameters):
    """A session of the app that has loaded some models."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=60)
    for name, value in parameters.items():
        app.query_params[name] = value
    app.session_state["_own_models"] = own
    app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def test_two_sessions_do_not_see_each_others_models(uploads):
    shipped = stored.CHECKPOINTS / "digits-vp-none"
    mine = uploads.receive("me", files_of(shipped), [])
    yours = uploads.receive("you", files_of(shipped, *stored.FILES), [])
    assert mine.name == yours.name and mine.folder != yours.folder
    link = {"model": mine.name}
    for own, others in ((mine, yours), (yours, mine)):
        app = open_app(own, **link)
        assert app.sidebar.selectbox[0].value == own.name
        assert stored.read(own).key != stored.read(others).key
        # Only one of the two brought its frames.
        assert bool(app.info) == (own is mine)
    stranger = open_app(**link)
    assert mine.name not in stranger.sidebar.selectbox[0].options
    assert stranger.sidebar.selectbox[0].value == "digits-vp-dpi"


def test_a_model_that_is_gone_leaves_the_page_on_the_default(uploads):
    mine = uploads.receive("me", files_of(stored.CHECKPOINTS / "digits-vp-none", *stored.FILES), [])
    app = open_app(mine, model=mine.name)
    assert app.sidebar.selectbox[0].value == mine.name
    uploads.drop("me")
    app.run()
    assert not app.exception and app.sidebar.selectbox[0].value == "digits-vp-dpi"


@pytest.mark.parametrize("view", ["denoise", "parameters", "trajectories"])
def test_a_model_of_ones_own_stands_beside_another(uploads, view):
    mine = uploads.receive("me", files_of(stored.CHECKPOINTS / "digits-vp-dpi", *stored.FILES), [])

    def draw(view):
        from importlib import import_module

        from app.services import cache

        import_module(f"app.views.{view}").page(cache.model("digits-vp-dpi"), 0, "cpu")

    app = AppTest.from_function(draw, kwargs={"view": view}, default_timeout=60)
    app.session_state["_own_models"] = [mine]
    key = "model_b" if view == "trajectories" else "beside"
    app.query_params.update({key: mine.name, "steps_a": "2", "steps_b": "2"})
    app.run()
    for _ in range(3):
        for job in list(cache.engine()._jobs.values()):
            assert job.wait(100)
        app.run()
    assert not app.exception, app.exception[0].stack_trace
    chosen = next(box for box in app.get("selectbox") if box.key == key)
    assert chosen.value == mine.name
    if view == "trajectories":
        assert app.dataframe[0].value["Run"][1] == f"B: {mine.name}, DDIM, 2 steps"
    elif view == "parameters":
        assert len(app.metric) == 8  # four of each
    else:
        (frames,) = (node.proto for node in app.main if getattr(node, "key", None) == "sweep")
        assert mine.name in str(frames)


def test_a_shipped_model_in_a_family_with_ones_own_is_drawn_for_this_session_alone(uploads):
    """Its figure has the own model's curve, so that the picture may not outlive the session."""
    mine = uploads.receive("me", files_of(stored.CHECKPOINTS / "digits-vp-dpi", *stored.FILES), [])
    before = len(cache._pictures())
    app = open_app(mine, model="digits-vp-none")
    (frames,) = (node.proto for node in app.main if getattr(node, "key", None) == "sweep")
    assert mine.name in str(frames)
    assert len(cache._pictures()) == before


def five_levels(held_out):
    return held_out | {"s": [0.1, 0.3, 0.5, 0.7, 0.9]} | {key: held_out[key][:5] for key in ("psnr", "mse")}


@pytest.mark.parametrize("view", ["compare", "denoise"])
def test_a_model_that_was_scored_elsewhere_leaves_the_pages_of_its_family_whole(uploads, tmp_path, monkeypatch, view):
    shipped = stored.CHECKPOINTS / "digits-vp-dpi"
    metrics = json.loads((shipped / "metrics.json").read_text())
    metrics["held_out"] = five_levels(metrics["held_out"])
    scored = uploads.receive("me", files_of(shipped) | {"metrics.json": json.dumps(metrics).encode()}, [])
    points = files_of(written(tmp_path / "points", name="digits-vp-points"))
    points["metrics.json"] = b'{"held_out": {"s": [0.1, 0.9], "n": 5, "mse": [0.1, 0.9]}}'
    namesake = uploads.receive("me", points, [])
    monkeypatch.setattr(stored, "RESULTS", tmp_path)

    def draw(view):
        from importlib import import_module

        from app.services import cache

        import_module(f"app.views.{view}").page(cache.model("digits-vp-dpi"), 0, "cpu")

    app = AppTest.from_function(draw, kwargs={"view": view}, default_timeout=60)
    app.session_state["_own_models"] = [scored, namesake]
    app.run()
    assert not app.exception and not app.error
    if view == "compare":
        said = "Scored at other noise levels than blind, so left out until inputs are chosen: upload:digits-vp-dpi."
        assert said in [caption.value for caption in app.caption]
        assert "points" not in str([frame.value for frame in app.dataframe])


def test_images_without_their_measure_are_refused(uploads):
    shipped = stored.CHECKPOINTS / "digits-vp-dpi"
    metrics = json.loads((shipped / "metrics.json").read_text())
    del metrics["held_out"]["psnr"]
    with pytest.raises(ValueError, match=r"metrics.json: held_out.psnr is not what it should be"):
        uploads.receive("me", files_of(shipped) | {"metrics.json": json.dumps(metrics).encode()}, [])


def press(app, *files):
    """Hands files over in the form of the Models page."""
    app.file_uploader[0].set_value([(file.name, file.read_bytes(), "application/octet-stream") for file in files])
    next(button for button in app.button if button.label == "Check and load").click()
    app.run()
    assert not app.exception
    gc.collect()


def test_uploaded_models_stay_through_a_refused_upload_and_end_with_the_session(tiny):
    def draw():
        import streamlit as st
        from streamlit.runtime.scriptrunner import get_script_run_ctx

        from app.views.models import page

        page(None, 0, "cpu")
        context = get_script_run_ctx()
        st.session_state["left"] = len(context.uploaded_file_mgr.file_storage.get(context.session_id, {}))

    app = AppTest.from_function(draw, default_timeout=60).run()
    good = [tiny / name for name in ("model.safetensors", "config.json")]
    press(app, *good)
    (mine,) = app.session_state["_own_models"]
    assert app.session_state["left"] == 0
    for _ in range(2):
        press(app, good[0])
        assert "is missing" in app.error[0].value and (mine.folder / "config.json").is_file()
    press(app, *good)
    assert len(app.session_state["_own_models"]) == 2
    del app.session_state["_lease"]  # as the session's end does
    gc.collect()
    until(lambda: not mine.folder.parent.exists())


def test_a_cursor_that_comes_to_rest_keeps_what_was_uploaded():
    def draw():
        from app import state

        used = []
        state.keep_lease(lambda session: session, used.append)
        state.write_cursor(state.Cursor(0.5))
        assert used == [state.session_id()]

    assert not AppTest.from_function(draw).run().exception
