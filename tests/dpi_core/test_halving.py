"""Weights in 16 bits: stored, read back, and judged before."""

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

import dpi_core
from dpi_core import checkpoint
from dpi_core.build import build_denoiser, load_recipe
from dpi_core.cli import main
from dpi_core.halving import cost_of_halving
from dpi_core.model import Model


def model() -> Model:
    recipe = load_recipe("digits-vp-dpi")
    denoiser = build_denoiser(recipe).eval()
    with torch.no_grad():
        denoiser.net.flat1.add_(0.05 * torch.randn(denoiser.net.flat1.shape))
    return Model(denoiser, recipe, {"training": {"steps": 0}})


def test_halves_are_half_as_large_and_read_back_as_float32(tmp_path):
    subject = model()
    whole, half = (checkpoint.save(subject, tmp_path / name, half=name == "half") for name in ("whole", "half"))
    sizes = [(folder / checkpoint.WEIGHTS).stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.51 * sizes[0]
    stored = load_file(half / checkpoint.WEIGHTS)
    assert stored["schedule.phi"].dtype == torch.float32 and stored["theta0.head.weight"].dtype == torch.float16
    read = dpi_core.load(half)
    assert read.denoiser.dtype == torch.float32
    assert_close(dict(read.net.state_dict()), dict(subject.net.state_dict()), rtol=1e-3, atol=1e-6)


def test_a_shorter_type_of_another_kind_is_refused(tmp_path):
    folder = checkpoint.save(model(), tmp_path / "digits")
    tensors = {name: value.bfloat16() for name, value in load_file(folder / checkpoint.WEIGHTS).items()}
    checkpoint.write_tensors(folder / checkpoint.WEIGHTS, tensors)
    with pytest.raises(ValueError, match="belongs to another config"):
        dpi_core.load(folder)


def test_the_command_halves_what_loses_nothing_and_leaves_the_rest(tmp_path, capsys):
    folder = checkpoint.save(model(), tmp_path / "digits")
    checkpoint.write_tensors(folder / checkpoint.ANALYSIS, {"sweep.s": torch.zeros(1)})
    main(["halve", str(folder), "--n", "8"])
    said = capsys.readouterr().out
    assert "in 16 bits" in said and f"python -m dpi_core analyse {folder}" in said
    assert not (folder / checkpoint.ANALYSIS).exists()
    assert load_file(folder / checkpoint.WEIGHTS)["theta1.head.weight"].dtype == torch.float16

    subject = model()
    with torch.no_grad():
        subject.net.flat1[0] = 1e5  # above the largest number of 16 bits
    large = checkpoint.save(subject, tmp_path / "large")
    before = (large / checkpoint.WEIGHTS).read_bytes()
    assert not cost_of_halving(dpi_core.load(large), torch.randn(4, 1, 8, 8).clamp(-1, 1)).harmless
    with pytest.raises(SystemExit):
        main(["halve", str(large), "--n", "4"])
    assert "keeps its weights" in capsys.readouterr().err
    assert (large / checkpoint.WEIGHTS).read_bytes() == before
