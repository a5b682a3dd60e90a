"""Checkpoints: round trips to the bit, files that were tampered with, writes that fail half-way."""

import ast
import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import dpi_core
from dpi_core.backbones import DnCNNConfig, DRUNetConfig, MLPConfig, UNetConfig
from dpi_core.build import build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.checkpoint import (
    load_training_state,
    read_json,
    save_training_state,
    write_json,
    write_tensors,
    write_text,
)
from dpi_core.interpolation import DPI
from dpi_core.model import Model
from dpi_core.training import TrainingState

exactly = {"rtol": 0, "atol": 0}
ROOT = Path(dpi_core.__file__).parents[1]

RECIPE = recipe_from_dict(
    {
        "name": "ring-flow-dpi",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 8, "depth": 2},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 3},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)
CONDITIONINGS = {
    "softmax": {"kind": "dpi"},
    "scattered": {"kind": "dpi", "schedule": {"kind": "softmax", "init_std": 1.0, "rounding": "nearest"}},
    "linear": {"kind": "dpi", "schedule": {"kind": "linear"}},
    "constant": {"kind": "dpi", "schedule": {"kind": "constant", "value": 0.3}},
    "scope": {"kind": "dpi", "scope": ["*.bias"]},
    "first and last": {"kind": "dpi", "scope": "first_last"},
    "none": {"kind": "none"},
    "blind": {"kind": "blind"},
    "input_map": {"kind": "input_map"},
    "embedding": {"kind": "embedding", "embedding": {"n_features": 8, "width": 4}},
}
BACKBONES = {
    "mlp": (MLPConfig(width=8, depth=2), (2,)),
    "unet": (UNetConfig(base_channels=8, channel_multipliers=(1, 2), head_channels=8), (1, 8, 8)),
    "drunet": (DRUNetConfig(channels=(4, 8), blocks=1), (1, 8, 8)),
    "dncnn": (DnCNNConfig(channels=8, depth=4, batch_norm=True), (1, 8, 8)),
}


def made(recipe=RECIPE, seed: int = 0) -> Model:
    """A model whose every number was drawn at random."""
    denoiser, generator = build_denoiser(recipe).eval(), torch.Generator().manual_seed(seed)
    for value in [*denoiser.parameters(), *denoiser.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand(value.shape, generator=generator)
    return Model(denoiser, recipe, {"psnr": [30.5, 28.25], "n": 3})


def assert_same(found: Model, expected: Model) -> None:
    assert found.recipe == expected.recipe and found.metrics == expected.metrics
    assert_close(dict(found.net.state_dict()), dict(expected.net.state_dict()), **exactly)
    x = torch.randn(3, *expected.recipe.shape, generator=torch.Generator().manual_seed(1))
    assert_close(found.denoise(x, 0.4), expected.denoise(x, 0.4), **exactly)


# Round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditioning", CONDITIONINGS.values(), ids=CONDITIONINGS.keys())
def test_a_model_comes_back_to_the_bit_under_every_conditioning(conditioning, tmp_path):
    model = made(recipe_from_dict({**recipe_to_dict(RECIPE), "conditioning": conditioning}))
    assert_same(dpi_core.load(dpi_core.save(model, tmp_path / "ring")), model)


@pytest.mark.parametrize(("backbone", "shape"), BACKBONES.values(), ids=BACKBONES.keys())
def test_a_model_comes_back_to_the_bit_with_every_backbone(backbone, shape, tmp_path):
    model = made(dataclasses.replace(RECIPE, backbone=backbone, shape=shape))
    assert_same(dpi_core.load(dpi_core.save(model, tmp_path / "model")), model)


def test_a_checkpoint_holds_safetensors_and_json_alone(tmp_path):
    dpi_core.save(made(), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "metrics.json", "model.safetensors"]
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"theta0.head.weight", "theta1.head.weight", "schedule.phi"} <= names


def test_saving_again_replaces_the_checkpoint(tmp_path):
    dpi_core.save(made(seed=0), tmp_path)
    dpi_core.save(made(seed=1), tmp_path)
    assert_same(dpi_core.load(tmp_path), made(seed=1))


def test_what_is_stored_of_other_weights_goes_with_them(tmp_path, monkeypatch):
    first, second = made(seed=0), made(seed=1)
    first.metrics = {"held_out": {"psnr": [1.0]}}
    dpi_core.save(first, tmp_path)
    (tmp_path / "analysis.safetensors").write_bytes(b"of the first one's weights")
    second.metrics = {"written": object()}  # which is no JSON
    with pytest.raises(TypeError):
        dpi_core.save(second, tmp_path)
    assert (tmp_path / "analysis.safetensors").exists() and dpi_core.load(tmp_path).metrics == first.metrics
    second.metrics = {}
    dpi_core.save(second, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"model.safetensors", "config.json"}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_checkpoint_loads_where_no_gradient_is_recorded(context, tmp_path):
    folder = dpi_core.save(made(), tmp_path)
    with context():
        assert_same(dpi_core.load(folder), made())


def test_samples_are_the_same_after_loading_and_whatever_their_number(tmp_path):
    model = made()
    loaded = dpi_core.load(dpi_core.save(model, tmp_path))
    assert_close(loaded.sample(5, seed=3).x, model.sample(5, seed=3).x, **exactly)
    assert_close(model.sample(2, seed=3).x, model.sample(5, seed=3).x[:2], rtol=1e-5, atol=1e-5)
    sample = model.sample(3)
    assert [state.step for state in sample.states] == [0, 1, 2, 3, 4] and sample.nfe == 7
    assert model.sample(2, "ddim", 6).nfe == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "0 samples were asked for; ask for at least 1"),
        ((2, "leapfrog"), "the sampler is 'leapfrog', but has to be one of .*ddim.*heun"),
        ((2, "heun", 0), "steps is 0"),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made().sample(*arguments)


def test_the_shipped_checkpoints_load_and_keep_their_budget():
    folders = [folder for folder in (ROOT / "checkpoints").iterdir() if folder.is_dir()]
    for folder in folders:
        model, metrics = dpi_core.load(folder), json.loads((folder / "metrics.json").read_text())
        assert model.recipe.name == folder.name
        assert metrics["parameters"] == sum(p.numel() for p in model.net.parameters())
        assert {"name", "licence", "source"} <= set(metrics["data"])
    weights = [(folder / "model.safetensors").stat().st_size for folder in folders]
    everything = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    assert max(weights) <= 10e6 and sum(weights) <= 80e6 and everything <= 200e6


# Tampering -------------------------------------------------------------------------------------------------------


class Malicious:
    """Runs code where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def edit_config(**changes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for section, value in changes.items():
            config[section] = {**config[section], **value} if isinstance(value, dict) else value
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def edit_tensors(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


def edit_bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


TAMPERED = {
    "an unknown key": (
        edit_config(training={"learning_rat": 1.0}),
        "config.json: training .*did you mean 'learning_rate'",
    ),
    "an unknown section": (edit_config(extra=1), "config.json: .*unknown: extra"),
    "another width": (edit_config(backbone={"width": 9}), "the config needs .*it belongs to another config"),
    "a gigantic width": (edit_config(backbone={"width": 10**6}), "it belongs to another config"),
    "another depth": (edit_config(backbone={"depth": 3}), "lacks 'theta0.hidden"),
    "more knots": (edit_config(conditioning={"schedule": {"n_knots": 10}}), "schedule.phi is"),
    "another conditioning": (edit_config(conditioning={"kind": "none", "schedule": {}}), "lacks 'backbone"),
    "a key of another conditioning": (
        edit_config(conditioning={"kind": "none"}),
        "conditioning.schedule is set, but is",
    ),
    "an impossible constant": (
        edit_config(conditioning={"schedule": {"kind": "constant", "value": 7.0}}),
        "λ = 7 is not",
    ),
    "a config that is not JSON": (edit_bytes("config.json", lambda data: data[:-9]), "config.json is not valid JSON"),
    "a config that is not text": (
        edit_bytes("config.json", lambda data: b"\xff\xfe\x00"),
        "config.json is not valid JSON",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "has no config.json; a checkpoint is a folder with",
    ),
    "metrics that are not JSON": (edit_bytes("metrics.json", lambda data: b"nan,"), "metrics.json is not valid JSON"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    "a tensor missing": (
        edit_tensors(lambda tensors: tensors.pop("theta1.tail.bias")),
        r"lacks 'theta1.tail.bias' \(1 such\)",
    ),
    "a tensor too many": (edit_tensors(lambda tensors: tensors.update(x=torch.ones(1))), "has the unknown tensor 'x'"),
    "another shape": (
        edit_tensors(lambda tensors: tensors.update({"theta0.tail.bias": torch.ones(3)})),
        r"theta0.tail.bias is \('F32', \(3,\)\)",
    ),
    "another precision": (
        edit_tensors(lambda tensors: tensors.update({"theta0.tail.bias": torch.ones(2).bfloat16()})),
        "'BF16'",
    ),
    "half a file": (
        edit_bytes("model.safetensors", lambda data: data[: len(data) // 2]),
        "not a readable safetensors file",
    ),
    "half a header": (edit_bytes("model.safetensors", lambda data: data[:4]), "not a readable safetensors file"),
    "an empty file": (edit_bytes("model.safetensors", lambda data: b""), "not a readable safetensors file"),
    "a header of any length": (
        edit_bytes("model.safetensors", lambda data: b"\xff" * 8 + data[8:]),
        "not a readable safetensors file",
    ),
    "a pickle": (
        lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps(Malicious(folder / "owned"))) and None,
        "not a readable safetensors file",
    ),
    "a pickle inside a zip": (
        lambda folder: torch.save(Malicious(folder / "owned"), folder / "model.safetensors"),
        "not a readable safetensors file",
    ),
}


@pytest.mark.parametrize(("tamper", "message"), TAMPERED.values(), ids=TAMPERED.keys())
def test_a_checkpoint_that_was_tampered_with_gives_one_clear_sentence(tamper, message, tmp_path):
    dpi_core.save(made(), tmp_path)
    tamper(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        dpi_core.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing has no config.json"):
        dpi_core.load(tmp_path / "nothing")


def test_the_sources_read_no_pickle():
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for file in [*ROOT.glob("dpi_core/**/*.py"), *ROOT.glob("app/**/*.py"), *ROOT.glob("examples/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert forbidden.isdisjoint(name.split(".")[0] for name in names), file
            if isinstance(node, ast.Call):
                options = {option.arg: ast.unparse(option.value) for option in node.keywords}
                assert options.get("allow_pickle", "False") == "False", file
                if ast.unparse(node.func) == "torch.load":
                    assert options.get("weights_only") == "True", file


# Writing ---------------------------------------------------------------------------------------------------------


def test_a_text_that_fails_half_way_leaves_the_old_file(tmp_path):
    file = tmp_path / "README.md"
    write_text(file, "the old text")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "the new text " * 10_000 + "\ud800")
    assert file.read_text() == "the old text"
    assert list(tmp_path.iterdir()) == [file]


def test_json_that_fails_half_way_leaves_the_old_file(tmp_path):
    file = tmp_path / "metrics.json"
    write_json(file, {"psnr": 30})
    with pytest.raises(TypeError):
        write_json(file, {"psnr": 31, "model": object()})
    assert read_json(file) == {"psnr": 30}
    assert list(tmp_path.iterdir()) == [file]


def test_tensors_that_fail_half_way_leave_the_old_file(tmp_path, unchecked):
    file = tmp_path / "state.safetensors"
    state = TrainingState(4, {"a": torch.arange(3.0)})
    save_training_state(file, state)
    with pytest.raises(Exception, match="."):
        write_tensors(file, {"a": torch.zeros(3)}, {"step": 5})  # safetensors takes strings alone
    assert_close(load_training_state(file).tensors, state.tensors, **exactly)
    assert list(tmp_path.iterdir()) == [file]


def test_a_kill_between_two_moves_leaves_no_scores_of_other_weights(tmp_path, monkeypatch):
    old, new = made(), made()
    old.metrics, new.metrics = {"psnr": 30}, {"psnr": 31}
    dpi_core.save(old, tmp_path)
    move = Path.replace

    def killed(self, target):
        if target.name != "model.safetensors":
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        dpi_core.save(new, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_training_state_goes_round_to_the_bit(tmp_path):
    tensors = {"model.a": torch.randn(2, 3), "buffer.n": torch.tensor(7), "optimiser.0.step": torch.tensor(5.0)}
    tensors["model.view"] = torch.randn(4, 4).T[:2]
    save_training_state(tmp_path / "runs" / "state.safetensors", TrainingState(12, tensors))
    found = load_training_state(tmp_path / "runs" / "state.safetensors")
    assert found.step == 12
    assert_close(found.tensors, tensors, **exactly)


@pytest.mark.parametrize("content", [b"", b"junk that is long enough to have a header", pickle.dumps({"step": 3})])
def test_a_file_that_is_no_training_state_is_refused(content, tmp_path):
    file = tmp_path / "state.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is not a training state .*remove it to start again"):
        load_training_state(file)


def test_weights_without_a_step_are_no_training_state(tmp_path):
    write_tensors(tmp_path / "model.safetensors", {"a": torch.ones(1)})
    with pytest.raises(ValueError, match="is not a training state"):
        load_training_state(tmp_path / "model.safetensors")


def test_written_files_can_be_read_by_others(tmp_path):
    dpi_core.save(made(), tmp_path)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o644}


# Building --------------------------------------------------------------------------------------------------------


def test_first_weights_come_from_the_seed_alone():
    state = torch.random.get_rng_state()
    first = build_denoiser(RECIPE)
    assert_close(torch.random.get_rng_state(), state, **exactly)
    torch.manual_seed(99)
    assert_close(dict(build_denoiser(RECIPE).state_dict()), dict(first.state_dict()), **exactly)
    other = dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, seed=1))
    assert (build_denoiser(other).net.flat0 - first.net.flat0).abs().max() > 0


def test_dpi_and_the_blind_network_start_from_the_same_weights():
    blind = recipe_from_dict({**recipe_to_dict(RECIPE), "conditioning": {"kind": "none"}})
    theta0, plain = build_denoiser(RECIPE).net.theta0, build_denoiser(blind).net.backbone
    assert_close(dict(theta0), {name: p.detach() for name, p in plain.named_parameters()}, **exactly)


def test_a_partial_scope_is_saved_as_one_set_outside_it(tmp_path):
    model = made(recipe_from_dict({**recipe_to_dict(RECIPE), "conditioning": CONDITIONINGS["scope"]}))
    assert isinstance(model.net, DPI)
    dpi_core.save(model, tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"theta0.head.bias", "theta1.head.bias", "backbone.head.weight"} <= names
    assert "theta0.head.weight" not in names
