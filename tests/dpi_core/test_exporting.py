"""θ(s) in other formats: what they answer is what the network answers."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

import dpi_core
from dpi_core.backbones import BACKBONES, MLPConfig, UNetConfig
from dpi_core.build import build_denoiser, recipe_from_dict, recipe_to_dict
from dpi_core.cli import main
from dpi_core.lambda_schedules import ScalarRange
from dpi_core.model import Model

RECIPE = recipe_from_dict(
    {
        "name": "digits-vp-dpi",
        "data": {"kind": "digits"},
        "shape": [1, 8, 8],
        "process": {"kind": "vp"},
        "backbone": {"kind": "unet", "base_channels": 8, "channel_multipliers": [1], "head_channels": 8},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 3},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)
POINTS = dataclasses.replace(RECIPE, shape=(2,), backbone=MLPConfig(width=8, depth=2))
S = 0.3


def made(recipe=RECIPE) -> Model:
    denoiser, generator = build_denoiser(recipe).eval(), torch.Generator().manual_seed(0)
    for value in denoiser.parameters():
        value.data = value + 0.1 * torch.randn(value.shape, generator=generator)
    return Model(denoiser, recipe)


def exported(model, folder: Path, to: str, *options: str) -> Path:
    dpi_core.save(model, folder / "model")
    main(["export", str(folder / "model"), "--to", to, "--out", str(folder / f"network.{to}"), *options])
    return folder / f"network.{to}"


@pytest.fixture
def x(generator):
    return torch.randn(3, *RECIPE.shape, generator=generator)


def test_a_plain_state_dict_fills_a_plain_network(tmp_path, x):
    model = made()
    file = exported(model, tmp_path, "safetensors", "--s", str(S))
    plain = BACKBONES["unet"][1](UNetConfig(base_channels=8, channel_multipliers=(1,), head_channels=8)).eval()
    with safe_open(file, framework="pt") as found:
        plain.load_state_dict({name: found.get_tensor(name) for name in found.keys()}, strict=True)
        about = found.metadata()
    with torch.no_grad():
        assert_close(plain(x), model.net(x, S), rtol=0, atol=0)
        c_skip, c_out, c_in = (float(about[name]) for name in ("c_skip", "c_out", "c_in"))
        assert_close(c_skip * x + c_out * plain(c_in * x), model.denoise(x, S), rtol=1e-5, atol=1e-6)
    assert (about["s"], about["predicts"], about["model"]) == ("0.3", "v", "digits-vp-dpi")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_exported_program_answers_as_the_network_does(tmp_path, x):
    model, text = made(), {"about.json": ""}
    program = torch.export.load(exported(model, tmp_path, "pt2", "--s", str(S)), extra_files=text)
    with torch.no_grad():
        for batch in (x, x[:1]):
            assert_close(program.module()(batch), model.net(batch, S), rtol=0, atol=1e-6)
    assert json.loads(text["about.json"])["s"] == "0.3"


def test_onnx_answers_as_the_network_does(tmp_path, x):
    import onnxruntime

    model = made()
    file = exported(model, tmp_path, "onnx", "--s", str(S))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for batch in (x, x[:1]):
            (found,) = session.run(["y"], {"x": batch.numpy()})
            assert_close(torch.from_numpy(found), model.net(batch, S), rtol=0, atol=1e-4)
    assert np.abs(found).max() > 0.1
    assert session.get_modelmeta().custom_metadata_map["s"] == "0.3"


def test_a_physical_scalar_is_given_as_s(tmp_path):
    model = made(dataclasses.replace(POINTS, conditioning=dataclasses.replace(
        POINTS.conditioning, scalar=ScalarRange(2, 8, "log"))))  # fmt: skip
    file = exported(model, tmp_path, "safetensors", "--s", "0.5")
    with safe_open(file, framework="pt") as found:
        assert_close(found.get_tensor("tail.bias"), model.net.effective_parameters(4.0)["tail.bias"].detach())


def test_a_blind_network_is_exported_as_it_is(tmp_path):
    blind = recipe_from_dict({**recipe_to_dict(POINTS), "conditioning": {"kind": "none"}})
    model = made(blind)
    with safe_open(exported(model, tmp_path, "safetensors"), framework="pt") as found:
        assert_close(found.get_tensor("tail.bias"), model.net.backbone.tail.bias.detach(), rtol=0, atol=0)
        assert "s" not in found.metadata()


@pytest.mark.parametrize(
    ("conditioning", "options", "message"),
    [
        ("dpi", ["--to", "onnx"], "is another network at every s; say at which one by --s"),
        ("dpi", ["--to", "onnx", "--s", "1.5"], r"s = 1.5 is not in \[0, 1\]"),
        ("dpi", ["--to", "safetensors", "--s", "0.5", "--out", "a.npz"], "ends in '.npz', but safetensors is written"),
        ("dpi", ["--to", "reference", "--s", "0.5"], "hold both sets; leave --s out"),
        ("none", ["--to", "onnx", "--s", "0.5"], "one parameter set, the same at every s; leave --s out"),
        ("none", ["--to", "reference"], "hold two: choose a DPI model"),
        ("input_map", ["--to", "onnx", "--s", "0.5"], "no plain network at any s"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(conditioning, options, message, tmp_path, capsys):
    recipe = recipe_from_dict({**recipe_to_dict(POINTS), "conditioning": {"kind": conditioning}})
    dpi_core.save(made(recipe), tmp_path / "model")
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "model"), *options])
    assert re.search(message, capsys.readouterr().err)
