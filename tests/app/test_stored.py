"""Stored checkpoints: damage gives one sentence, and the frames shown first are the ones a computation gives."""

import json
import os
from contextlib import closing

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from app.figures.reproduce import stored_inputs
from app.records import Inputs, PadRequest, SweepRequest, TrajectoryRequest
from app.services import stored
from app.services.inference import Engine

HALF_A_GREY_LEVEL = 1 / 255
MODELS = stored.model_names()


def read_analysis(folder):
    with safe_open(folder / "analysis.safetensors", framework="numpy") as analysis:
        return {name: analysis.get_tensor(name) for name in analysis.keys()}, analysis.metadata()


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 400, text


# Damage ----------------------------------------------------------------------------------------------------------


def test_an_unknown_name_lists_the_models_that_are_called_alike():
    with pytest.raises(
        ValueError, match=r"no model '\.\./digits'; choose one of .*digits-vp-dpi.* or another of the"
    ) as error:
        stored.read_model("../digits")
    assert_one_sentence(error)


@pytest.mark.parametrize("file", ["config.json", "metrics.json"])
@pytest.mark.parametrize("content", [b"", b'{"name": "dig', b"\xff\xfe\x00", b"[]", b"null"])
def test_damaged_json_gives_a_sentence(copy_checkpoint, file, content):
    (copy_checkpoint("digits-vp-none") / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"digits-vp-none/{file} is not .*restore the file") as error:
        stored.read_model("digits-vp-none")
    assert_one_sentence(error)


def test_a_config_that_lacks_its_parts_gives_a_sentence(copy_checkpoint):
    (copy_checkpoint("digits-vp-none") / "config.json").write_text('{"name": "digits-vp-none"}')
    with pytest.raises(ValueError, match="config.json is not an object with name, shape, process") as error:
        stored.read_model("digits-vp-none")
    assert_one_sentence(error)


def truncate(folder):
    content = (folder / "analysis.safetensors").read_bytes()
    (folder / "analysis.safetensors").write_bytes(content[: len(content) // 2])


def overwrite(folder):
    (folder / "analysis.safetensors").write_bytes(b"not what it should be" * 100)


def empty(folder):
    (folder / "analysis.safetensors").write_bytes(b"")


def forget_metadata(folder):
    arrays, _ = read_analysis(folder)
    save_file(arrays, folder / "analysis.safetensors")


def break_metadata(folder):
    arrays, metadata = read_analysis(folder)
    save_file(arrays, folder / "analysis.safetensors", {"about": metadata["about"][:-5]})


def forget_the_inputs(folder):
    arrays, metadata = read_analysis(folder)
    about = json.loads(metadata["about"])
    del about["inputs"]
    save_file(arrays, folder / "analysis.safetensors", {"about": json.dumps(about)})


def lose_the_frames(folder):
    arrays, metadata = read_analysis(folder)
    del arrays["sweep.x0_hat"]
    save_file(arrays, folder / "analysis.safetensors", metadata)


def lose_lambda(folder):
    arrays, metadata = read_analysis(folder)
    del arrays["sweep.lam"]
    save_file(arrays, folder / "analysis.safetensors", metadata)


DAMAGES = [
    truncate,
    overwrite,
    empty,
    forget_metadata,
    break_metadata,
    forget_the_inputs,
    lose_the_frames,
    lose_lambda,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_frames_give_a_sentence(copy_checkpoint, damage):
    damage(copy_checkpoint("digits-vp-dpi"))
    with pytest.raises(ValueError, match="digits-vp-dpi/analysis.safetensors is damaged .* analyse") as error:
        stored.read_model("digits-vp-dpi")
    assert_one_sentence(error)


def test_a_checkpoint_without_frames_and_scores_can_be_read(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-dpi")
    (folder / "analysis.safetensors").unlink()
    (folder / "metrics.json").unlink()
    model = stored.read_model("digits-vp-dpi")
    assert (model.sweep, model.pad, model.metrics) == (None, None, {})


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_the_digest_follows_weights_and_config(copy_checkpoint, file):
    folder = copy_checkpoint("digits-vp-none")
    before = stored.read_model("digits-vp-none").key
    assert stored.read_model("digits-vp-none").key == before
    content = bytearray((folder / file).read_bytes())
    content[-3:] = b" }\n" if file == "config.json" else b"abc"
    (folder / file).write_bytes(bytes(content))
    assert stored.digest(folder) != before.digest


def test_the_modification_times_follow_every_file(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-none")
    for number, file in enumerate(sorted(folder.iterdir())):
        before = stored.modification_times(folder)
        os.utime(file, ns=(number, number))
        assert stored.modification_times(folder) != before, file


# Stored and computed ---------------------------------------------------------------------------------------------


def some(grid, count):
    """Indices of a few entries of a grid, both ends among them."""
    return np.linspace(0, len(grid) - 1, count).round().astype(int)


@pytest.fixture(scope="module")
def compute():
    """Answers of one engine for all models, which keeps what they draw."""
    with closing(Engine()) as engine:

        def compute(request):
            job = engine.submit("test", request)
            assert job.wait(120)
            assert job.status == "done", job.error
            return job.result

        yield compute


def assert_same_frames(model, stored_frames, fresh_frames):
    if model.is_image:
        assert stored_frames.dtype == np.uint8
        shown = stored_frames / 127.5 - 1
        np.testing.assert_allclose(shown, fresh_frames.clip(-1, 1), rtol=0, atol=HALF_A_GREY_LEVEL + 1e-4)
    else:
        np.testing.assert_allclose(stored_frames, fresh_frames, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_stored_sweep_is_the_one_that_is_computed(name, compute):
    model = stored.read_model(name)
    sweep, at = model.sweep, some(model.sweep.s, 3)
    s_grid = tuple(sweep.s[at].round(6).tolist())
    fresh = compute(SweepRequest(model.key, stored_inputs(model), s_grid, "cpu"))
    assert_same_frames(model, sweep.clean, fresh.clean)
    assert_same_frames(model, sweep.x0_hat[at], fresh.x0_hat)
    np.testing.assert_allclose(sweep.noise, fresh.noise, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(sweep.mse[at], fresh.mse, rtol=1e-3, atol=1e-6)
    for part in ("alpha", "sigma", *(["lam"] if model.has_two_sets else [])):
        np.testing.assert_allclose(getattr(sweep, part)[at], getattr(fresh, part), rtol=1e-5, atol=1e-6)
    assert [sweep.native[k] for k in at] == list(fresh.native)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-dpi")])
def test_the_stored_pad_is_the_one_that_is_computed(name, compute):
    model = stored.read_model(name)
    pad, inputs = model.pad, stored_inputs(model)
    columns, rows = some(pad.s, 3), some(pad.lam, 3)
    s_grid, lam_grid = tuple(pad.s[columns].tolist()), tuple(pad.lam[rows].tolist())
    count = pad.x0_hat.shape[2]
    fresh = compute(PadRequest(model.key, inputs, count, s_grid, lam_grid, "cpu"))
    assert_same_frames(model, pad.x0_hat[np.ix_(rows, columns)], fresh.x0_hat)
    for part in ("learned", "alpha", "sigma"):
        np.testing.assert_allclose(getattr(pad, part)[columns], getattr(fresh, part), rtol=1e-3, atol=1e-4)
    assert [pad.native[k] for k in columns] == list(fresh.native)


DRAWING = [name for name in MODELS if name.endswith(("-dpi", "-embedding")) and not name.startswith("photos")]


@pytest.mark.parametrize("name", DRAWING)
def test_the_stored_samples_are_those_that_are_drawn(name, compute):
    model = stored.read_model(name)
    kept, few = model.samples, 4
    assert (kept.sampler, kept.steps) == tuple(model.recipe["sampling"][key] for key in ("sampler", "steps"))
    inputs = Inputs("samples", few, kept.seed)
    run = compute(TrajectoryRequest(model.key, inputs, kept.sampler, kept.steps, "uniform", "learned", 0.5, "cpu"))
    ends = run.x[-1] * run.scale[-1]
    if model.is_image:
        np.testing.assert_allclose(kept.x[:few] / 127.5 - 1, ends.clip(-1, 1), rtol=0, atol=HALF_A_GREY_LEVEL + 0.01)
    else:
        np.testing.assert_allclose(kept.x[:few], ends, rtol=0, atol=1e-3)


def test_samples_of_another_shape_give_a_sentence(copy_checkpoint):
    folder = copy_checkpoint("digits-vp-dpi")
    arrays, metadata = read_analysis(folder)
    arrays["samples.x"] = arrays["samples.x"][..., :5]
    save_file(arrays, folder / "analysis.safetensors", metadata)
    with pytest.raises(ValueError, match="samples.x has shape .* is expected") as error:
        stored.read_model("digits-vp-dpi")
    assert_one_sentence(error)
