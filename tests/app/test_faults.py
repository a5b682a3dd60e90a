"""What goes wrong while people work, with the real thing: nothing is lost, one sentence says what happened, work goes on."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch.testing import assert_close

import dpi_core
from app.records import Inputs, SweepRequest
from app.services import cache, stored
from app.services.own_models import Uploads
from dpi_core.analysis import denoising
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.cli import main
from dpi_core.data import load_data
from dpi_core.model import Model
from dpi_core.runs import train_run

SCRIPT = Path(__file__).parents[2] / "app" / "main.py"
PATIENCE = 120
RECIPE = recipe_from_dict(
    {
        "name": "ring-flow-dpi",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 16, "depth": 3},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 12, "batch_size": 32, "warmup_steps": 3, "log_every": 1, "save_every": 4},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)
exactly = {"rtol": 0, "atol": 0}


def made(seed, recipe=RECIPE):
    """A model whose every number was drawn at random, and whose scores say from which seed."""
    denoiser, generator = build_denoiser(recipe).eval(), torch.Generator().manual_seed(seed)
    for value in denoiser.parameters():
        value.data = torch.rand(value.shape, generator=generator)
    return Model(denoiser, recipe, {"seed": seed})


def weights(model):
    return dict(model.net.state_dict())


def one_sentence(text):
    assert text and "\n" not in text.strip() and "Traceback" not in text and len(text) < 600, text
    return text


# A full disk -----------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """A small file system of its own where the tests may mount one; else a limit on the size of any file."""

    folder: Path
    is_mounted: bool

    def fill(self):
        if self.is_mounted:
            with suppress(OSError), (self.folder / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(512))
                    filler.flush()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))

    def free(self):
        (self.folder / "filler").unlink(missing_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True)
    disk = Disk(folder, mount.returncode == 0)
    yield disk
    disk.free()
    if disk.is_mounted:
        subprocess.run(["umount", folder], check=True)


def test_the_disk_of_these_tests_is_full_when_it_is_filled(disk):
    disk.fill()
    with pytest.raises(OSError) as full:
        (disk.folder / "x").write_bytes(bytes(5000))
    assert full.value.errno in (errno.ENOSPC, errno.EFBIG)
    disk.free()
    (disk.folder / "x").write_bytes(bytes(5000))


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_old_one_whole(disk):
    old, new = made(1), made(2, replace(RECIPE, name="another", backbone=replace(RECIPE.backbone, width=24)))
    folder = dpi_core.save(old, disk.folder / "ring")
    disk.fill()
    with pytest.raises(
        OSError, match="model.safetensors cannot be written .*; free space .* nothing that was saved"
    ) as error:
        dpi_core.save(new, folder)
    one_sentence(str(error.value))
    found = dpi_core.load(folder)
    assert found.recipe == old.recipe and found.metrics == {"seed": 1}
    assert_close(weights(found), weights(old), **exactly)
    assert len(list(folder.iterdir())) == 3, "no half-written file is left"
    disk.free()
    assert_close(weights(dpi_core.load(dpi_core.save(new, folder))), weights(new), **exactly)


def test_a_run_that_fills_the_disk_goes_on_from_its_last_state(disk, tmp_path):
    data, drawn = load_data(RECIPE.data), []

    class Filling:
        """The data, of whose seventh batch the disk becomes full."""

        def __getattr__(self, name):
            return getattr(data, name)

        def batch(self, *arguments):
            drawn.append(0)
            if len(drawn) == 7:
                disk.fill()
            return data.batch(*arguments)

    with pytest.raises(OSError):
        train_run(RECIPE, Filling(), disk.folder / "run")
    assert 7 <= len(drawn) <= 8
    disk.free()
    again = train_run(RECIPE, data, disk.folder / "run")
    assert_close(weights(again), weights(train_run(RECIPE, data, tmp_path / "undisturbed")), **exactly)


def test_the_command_line_says_in_one_sentence_that_the_disk_is_full(disk, capsys):
    folder = dpi_core.save(made(1), disk.folder / "ring")
    disk.fill()
    with pytest.raises(SystemExit):
        main(
            ["export", str(folder), "--to", "safetensors", "--s", "0.5", "--out", str(disk.folder / "flat.safetensors")]
        )
    said = one_sentence(capsys.readouterr().err)
    assert "No space left" in said or "too large" in said
    assert "run the same again" in said


def test_an_upload_that_does_not_fit_on_the_servers_disk_is_refused_and_taken_later(disk, tmp_path, monkeypatch):
    folder = dpi_core.save(made(1), tmp_path / "ring")
    files = {name: (folder / name).read_bytes() for name in ("model.safetensors", "config.json")}
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    uploads = Uploads()
    disk.fill()
    with pytest.raises(ValueError, match="the server cannot keep these files now .*; try again later") as error:
        uploads.receive("me", files, [])
    one_sentence(str(error.value))
    assert not list(disk.folder.rglob("*.json"))
    disk.free()
    source = uploads.receive("me", files, [])
    assert source.folder.is_relative_to(disk.folder)
    uploads.close()


# SIGKILL ---------------------------------------------------------------------------------------------------------


def test_a_process_killed_while_it_saves_leaves_one_whole_checkpoint(tmp_path):
    """In training: `test_runs.py`."""
    models = [made(0), made(1)]
    folder = dpi_core.save(models[0], tmp_path / "ring")
    rng, found = torch.Generator().manual_seed(0), set()
    for _ in range(12):
        process, saved = forked(lambda: (dpi_core.save(model, folder) for _ in range(10_000) for model in models[::-1]))
        for _ in range(int(torch.randint(1, 4, (), generator=rng))):
            os.read(saved, 1)
        time.sleep(0.005 * torch.rand((), generator=rng).item())
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(saved)
        left = dpi_core.load(folder)
        [which] = [
            seed
            for seed, model in enumerate(models)
            if all(torch.equal(value, weights(model)[name]) for name, value in weights(left).items())
        ]
        found.add(which)
        assert left.metrics.get("seed", which) == which, "scores of other weights never stand with them"
    assert found == {0, 1}, "the processes did save"
    assert_close(weights(dpi_core.load(dpi_core.save(models[1], folder))), weights(models[1]), **exactly)


def forked(steps):
    """A copy of this process that does nothing but take these steps; a byte can be read after each of them."""
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other threads are not needed there
        process = os.fork()
    if process == 0:
        try:
            for _ in steps():
                os.write(tell, b"x")
        finally:
            os._exit(1)
    os.close(tell)
    return process, told


# A lost device ---------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_lost_is_replaced_by_the_cpu(engine, monkeypatch):
    """Simulated: the weights lie on the CPU, and the second layer's call fails as CUDA fails."""
    from app.services import compute

    load, calls = compute.load_model, []
    monkeypatch.setattr(denoising, "NUMBERS_AT_ONCE", {})  # one level in a pass

    def on_gpu(key, device):
        model = load(key, "cpu")
        if device == "cuda:0":
            model.net.register_forward_pre_hook(lambda *_: calls.append(0) or _fail(len(calls)))
        return model

    def _fail(count):
        if count > 1:
            raise torch.AcceleratorError(
                "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronous"
            )

    monkeypatch.setattr(compute, "load_model", on_gpu)
    key = stored.read_model("digits-vp-none").key
    expected = answered(engine, SweepRequest(key, Inputs("held-out", 2, 0), (0.2, 0.4, 0.6), "cpu"))
    for seed in (0, 1):  # it stays lost, and the next one is answered too
        job = answered(engine, SweepRequest(key, Inputs("held-out", 2, seed), (0.2, 0.4, 0.6), "cuda:0"))
        assert "cuda:0 has stopped working: computed on the CPU; start the app again" in one_sentence(job.note)
        assert seed or (job.result.x0_hat == expected.result.x0_hat).all()
    assert len(calls) == 3, "after its first failure the device is asked once per request"


def answered(engine, request):
    job = engine.submit("me", request)
    assert job.wait(PATIENCE) and job.status == "done", job.error
    return job


# A checkpoint that changes under the page ------------------------------------------------------------------------


@pytest.fixture
def open_app(engine, monkeypatch):
    """Sessions of the app with an engine of the test's own."""
    monkeypatch.setattr(cache, "engine", lambda: engine)

    def open_app(**parameters):
        app = AppTest.from_file(str(SCRIPT), default_timeout=60)
        app.session_state["denoise lines"] = True  # unfolded
        for name, value in parameters.items():
            app.query_params[name] = value
        return again(app)

    return open_app


def again(app):
    app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def said(app):
    return " ".join(text.value for text in app.main.markdown)


def test_a_checkpoint_deleted_while_it_is_open_gives_way_to_another(copy_checkpoint, open_app):
    copy_checkpoint("digits-vp-dpi")
    gone = copy_checkpoint("mixture2d-flow-dpi")
    app = open_app(model="mixture2d-flow-dpi")
    assert "flow time" in said(app)
    shutil.rmtree(gone)
    assert "DDPM step" in said(again(app)) and not app.error
    shutil.rmtree(gone.parent / "digits-vp-dpi")
    assert "There is no model" in one_sentence(again(app).error[0].value)


def test_a_checkpoint_replaced_while_it_is_open_is_shown_anew(copy_checkpoint, open_app):
    folder, other = copy_checkpoint("digits-vp-dpi"), stored.CHECKPOINTS.parent / "other"
    shutil.copytree(SCRIPT.parents[1] / "checkpoints" / "digits-vp-none", other)
    app = open_app()
    assert "two parameter sets" in app.sidebar.caption[0].value
    for file in other.iterdir():
        shutil.copy(file, folder / file.name)
    assert "one parameter set, blind" in again(app).sidebar.caption[0].value and not app.error
    (folder / "config.json").write_text('{"name": "half of')
    assert "restore the file" in one_sentence(again(app).error[0].value)
    shutil.copy(other / "config.json", folder / "config.json")
    assert not again(app).error and "The network is blind" in said(app)


def test_weights_deleted_before_they_are_needed_are_missed_in_a_sentence_and_found_again(copy_checkpoint, open_app):
    folder = copy_checkpoint("digits-vp-none")
    app = open_app(model="digits-vp-none")
    hidden = (folder / "model.safetensors").rename(folder.parent / "hidden")
    app.query_params["inputs"] = "Digits"
    app = open_app(model="digits-vp-none", inputs="Digits")
    wait_until(lambda: again(app).error)
    assert "has no model" in one_sentence(app.error[0].value) and "At **t" in said(app), "what is stored stays on show"
    hidden.rename(folder / "model.safetensors")
    next(button for button in app.button if button.label == "Try again").click()
    wait_until(lambda: not again(app).error and "digits().held_out_batch" in app.code[0].value)


def wait_until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# A reader who comes back -----------------------------------------------------------------------------------------


def test_a_page_loaded_anew_in_mid_computation_gets_the_same_answer_computed_once(engine, open_app):
    first = open_app(model="mixture2d-flow-dpi", inputs="Samples", seed="3")
    second = open_app(model="mixture2d-flow-dpi", inputs="Samples", seed="3")
    wait_until(lambda: "model.sample(512, seed=3)" in again(second).code[0].value and not second.button)
    assert not second.error
    assert "model.sample(512, seed=3)" in again(first).code[0].value, "whoever stayed has it too"
    assert engine.observe().outcomes == {"done": 2}, "the frames and their pad, for both sessions"
