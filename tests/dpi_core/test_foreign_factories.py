"""Backbones made by functions of somebody else: found again by name, and called only where that was allowed."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

import dpi_core
from dpi_core.backbones import foreign
from dpi_core.backbones.foreign import FactoryConfig, allowing, build_foreign
from dpi_core.build import build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.cli import main
from dpi_core.conditioning import ConditioningConfig
from dpi_core.data import load_data
from dpi_core.runs import train_run

SOURCE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("imported").touch()

def network(width, depth=1):
    hidden = [layer for _ in range(depth) for layer in (nn.SiLU(), nn.Linear(width, width))]
    return nn.Sequential(nn.Linear(2, width), *hidden, nn.SiLU(), nn.Linear(width, 2))

def no_network():
    return 3
"""
NAME = "nets_of_others:network"
BLIND = ConditioningConfig("none")


@pytest.fixture
def others(tmp_path, monkeypatch):
    """The folder of a module that is not ours; whether it was imported is seen in the file it then makes."""
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "nets_of_others.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "others")
    monkeypatch.delenv("DPI_FACTORIES", raising=False)
    monkeypatch.setattr(foreign, "_handed_over", {})
    yield tmp_path / "others"
    sys.modules.pop("nets_of_others", None)


def recipe(name=NAME, **arguments):
    return recipe_from_dict(
        {
            "name": "ring-flow-dpi",
            "data": {"kind": "ring_mixture"},
            "shape": [2],
            "process": {"kind": "flow"},
            "backbone": {"kind": "factory", "factory": name, "arguments": arguments or {"width": 8}},
            "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
            "training": {"steps": 8, "batch_size": 32, "warmup_steps": 2, "log_every": 4},
            "sampling": {"sampler": "heun", "steps": 4},
        }
    )


def saved(folder: Path) -> tuple[Path, dpi_core.Model]:
    with allowing([NAME]):
        model = train_run(recipe(), load_data(recipe().data), folder / "run")
    return dpi_core.save(model, folder / "ring-flow-dpi"), model


class Keeper(nn.Module):
    """A network that keeps a tensor besides its weights, and reads a number while it is built."""

    def __init__(self, kind):
        super().__init__()
        rate = torch.linspace(0, 0.1, 3)[1].item()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(rate))
        self.holder = nn.Module()
        kept = torch.ones(2, dtype=getattr(torch, kind))
        if kept.is_floating_point() or kept.is_complex():
            self.holder.kept = nn.Parameter(kept)
        else:
            self.holder.register_buffer("kept", kept)

    def forward(self, x):
        return self.layers(x) * (self.holder.kept != 0)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "int32", "float32", "complex64"])
def test_what_a_network_keeps_is_saved_and_loaded_whatever_its_type(kind, tmp_path):
    made = dataclasses.replace(recipe(), backbone=dpi_core.factory(Keeper, kind=kind), conditioning=BLIND)
    model = dpi_core.Model(build_denoiser(made).eval(), made, {})
    again = dpi_core.load(dpi_core.save(model, tmp_path / "kept"))
    x = torch.randn(5, 2)
    assert_close(again.denoise(x, 0.5), model.denoise(x, 0.5), rtol=0, atol=0)
    assert again.net.backbone.holder.kept.dtype == getattr(torch, kind)


def test_a_type_that_no_file_holds_is_refused_before_anything_is_written(tmp_path):
    made = dataclasses.replace(recipe(), backbone=dpi_core.factory(Keeper, kind="complex128"), conditioning=BLIND)
    with pytest.raises(ValueError, match="kept has the type torch.complex128, which a checkpoint cannot hold"):
        dpi_core.save(dpi_core.Model(build_denoiser(made), made, {}), tmp_path / "kept")
    assert not (tmp_path / "kept").exists() or not list((tmp_path / "kept").iterdir())


def imported(others) -> bool:
    return (others / "imported").exists()


def test_the_config_names_function_and_arguments(others, tmp_path):
    folder, model = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["backbone"] == {"kind": "factory", "factory": NAME, "arguments": {"width": 8}}
    assert recipe_from_dict(config) == model.recipe
    assert f"`{NAME}` to be allowed there" in dpi_core.model_card(model)


def test_a_trained_model_comes_back_to_the_bit_where_its_factory_is_allowed(others, tmp_path, monkeypatch):
    folder, model = saved(tmp_path)
    x = torch.randn(3, 2)
    for back in (dpi_core.load(folder, allow=[NAME]), monkeypatch.setenv("DPI_FACTORIES", f"a:b, {NAME}")):
        back = back or dpi_core.load(folder)
        assert_close(dict(back.net.state_dict()), dict(model.net.state_dict()), rtol=0, atol=0)
        assert_close(back.denoise(x, 0.4), model.denoise(x, 0.4), rtol=0, atol=0)


def test_a_config_cannot_choose_what_code_runs(others, tmp_path):
    folder, _ = saved(tmp_path)
    (others / "imported").unlink()
    sys.modules.pop("nets_of_others")
    for name in (NAME, "os:getcwd", "nets_of_others:no_network"):
        config = json.loads((folder / "config.json").read_text())
        config["backbone"]["factory"] = name
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(
            ValueError, match=f"{name}, which is not allowed to run here; .*DPI_FACTORIES={name}"
        ) as caught:
            dpi_core.load(folder, allow=["nets_of_others:another"])
        assert "\n" not in str(caught.value)
    assert not imported(others)


def test_what_was_allowed_for_one_load_is_not_allowed_afterwards(others, tmp_path):
    folder, _ = saved(tmp_path)
    dpi_core.load(folder, allow=[NAME])
    with pytest.raises(ValueError, match="not allowed to run here"):
        dpi_core.load(folder)


def test_the_commands_train_and_describe_such_a_network(others, tmp_path, capsys):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_to_dict(recipe())))
    arguments = [str(tmp_path / "recipe.json"), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(["train", *arguments])
    assert f"DPI_FACTORIES={NAME}, or --allow." in capsys.readouterr().err and not imported(others)
    main(["train", *arguments, "--allow", NAME])
    main(["info", str(tmp_path / "ring-flow-dpi"), "--allow", NAME])
    numbers = 2 * (3 * 8 + 9 * 8 + 9 * 2) + 9
    assert f"parameters: {numbers:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            FactoryConfig("nets_of_others:nothing"),
            r"nets_of_others:nothing, which is not here \(module .*has no attribute",
        ),
        (
            FactoryConfig("no_such_module:net"),
            "which is not here .*install its package, or put its folder on PYTHONPATH",
        ),
        (
            FactoryConfig(NAME, {"widht": 8}),
            r"failed with the arguments \{'widht': 8\} \(TypeError: .*mend backbone.arg",
        ),
        (FactoryConfig("nets_of_others:no_network"), "made a int, but has to make an nn.Module"),
        (
            FactoryConfig("no_such_entry_point"),
            "the entry point 'no_such_entry_point' of the group 'dpi_core.backbones'",
        ),
    ],
)
def test_a_factory_that_makes_no_backbone_is_named(config, message, others):
    names = [config.factory] if ":" in config.factory else []
    with allowing(names), pytest.raises(ValueError, match=message):
        build_foreign(config)


@pytest.mark.parametrize("name", ["", "../x:net", "os.system:", "a b", "x:y:z", "x:(lambda: 0)"])
def test_a_name_of_neither_form_is_refused(name):
    with pytest.raises(ValueError, match="has to be module:function, or the name of an entry point"):
        FactoryConfig(name)
    with pytest.raises(ValueError, match="cannot be allowed: give module:function"), allowing([name]):
        pass


def test_an_installed_package_offers_a_backbone_by_entry_point(others):
    package = others / "others-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[dpi_core.backbones]\nplain = nets_of_others:network\n")
    importlib.invalidate_caches()
    built = build_foreign(FactoryConfig("plain", {"width": 4, "depth": 2}))
    assert sum(p.numel() for p in built.parameters()) == 3 * 4 + 2 * 5 * 4 + 5 * 2


def test_a_function_that_was_handed_over_is_allowed_and_named(others):
    import nets_of_others

    config = dpi_core.factory(nets_of_others.network, width=8)
    assert config == FactoryConfig(NAME, {"width": 8})
    assert len(build_foreign(config)) == 5
    for function in (lambda: None, Path.touch):
        with pytest.raises(ValueError, match="stands inside another function or class"):
            dpi_core.factory(function)


def test_a_network_that_changes_the_shape_is_refused_before_it_is_trained(others, tmp_path):
    (others / "nets_of_others.py").write_text("from torch import nn\n\ndef network():\n    return nn.Linear(2, 1)\n")
    with (
        allowing([NAME]),
        pytest.raises(ValueError, match=r"makes \(1,\) of samples of shape \(2,\), but has to keep it"),
    ):
        train_run(
            dataclasses.replace(recipe(), backbone=FactoryConfig(NAME)), load_data(recipe().data), tmp_path / "run"
        )
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_network_of_ones_own_learns_from_a_folder_of_images(others, tmp_path):
    for i in range(6):
        Image.new("L", (12, 10), 40 * i).save(tmp_path / f"{i}.png")
    source = "from torch import nn\n\ndef small():\n    return nn.Conv2d(3, 3, 1)\n"
    (others / "nets_of_others.py").write_text(source)
    import nets_of_others

    own = dpi_core.image_recipe("mine-flow-dpi", dpi_core.factory(nets_of_others.small), size=8, gray=False, steps=4)
    assert own.shape == (3, 8, 8) and own.training.steps == 4
    model = dpi_core.train(own, tmp_path, tmp_path / "runs")
    assert model.metrics["training"]["steps"] == 4
    assert (model.net.theta0["bias"] - model.net.theta1["bias"]).abs().max() > 0
    with pytest.raises(ValueError, match="training has the unknown key 'learning_rat'; did you mean 'learning_rate'"):
        dpi_core.image_recipe("x", own.backbone, learning_rat=1.0)
    with pytest.raises(ValueError, match="mine/flow"):
        dpi_core.image_recipe("mine/flow", own.backbone)
    assert dataclasses.replace(own, name="other") != own
