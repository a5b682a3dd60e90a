"""Denoising images of any size and format, against the protocol written out by hand."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import dpi_core
from dpi_core import checkpoint
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.cli import main
from dpi_core.model import Model
from dpi_core.noise_processes import AWGN, VPDiffusion
from dpi_core.own_images import denoise_folder, denoise_noisy, psnr_by_sigma
from dpi_core.results import photos_section

RECIPE = recipe_from_dict(
    {
        "name": "photos-drunet-none",
        "data": {"kind": "photos"},
        "shape": [1, 16, 16],
        "process": {"kind": "awgn"},
        "backbone": {"kind": "drunet", "channels": [4, 8], "blocks": 1},
        "conditioning": {"kind": "none"},
        "training": {"steps": 1},
        "sampling": {},
    }
)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "deeper").mkdir(parents=True)
    for name, shape in (("a.png", (17, 30)), ("b.jpg", (40, 21, 3)), ("deeper/c.tiff", (8, 8)), ("d.bmp", (9, 33, 3))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def model(process=None, **changes) -> Model:
    recipe = dataclasses.replace(RECIPE, process=process or AWGN(), **changes)
    return Model(build_denoiser(recipe).eval(), recipe)


class Zero(torch.nn.Module):
    """A network that always predicts nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, s):
        return 0 * x


def test_the_error_of_a_known_estimate_is_computed_by_hand(folder):
    # A network that predicts ε = 0 leaves x̂0 = y, so what is measured is the clipped and rounded noise itself.
    subject = model(AWGN(prediction="eps"))
    subject.denoiser.net = Zero()
    found = {image.name: image.psnr for image in denoise_folder(subject, folder, [25.0])}
    assert set(found) == {"a.png", "b.jpg", "deeper/c.tiff", "d.bmp"}
    for name, psnr in found.items():
        pixels = np.asarray(Image.open(folder / name).convert("L")).astype(np.float64)
        rng = np.random.default_rng(1)
        noisy = np.clip(np.round(pixels + 25 * rng.standard_normal((500, *pixels.shape))), 0, 255)
        assert psnr == pytest.approx(10 * np.log10(255**2 / ((noisy - pixels) ** 2).mean()), abs=0.6)
    assert len(set(found.values())) == 4


def test_noise_belongs_to_the_image_and_not_to_its_place_in_the_folder(folder):
    subject = model()
    whole = {image.name: image.psnr for image in denoise_folder(subject, folder, [15.0])}
    (folder / "a.png").unlink()
    rest = {image.name: image.psnr for image in denoise_folder(subject, folder, [15.0])}
    assert rest == {name: psnr for name, psnr in whole.items() if name != "a.png"}
    other = {image.name: image.psnr for image in denoise_folder(subject, folder, [15.0], seed=1)}
    assert all(other[name] != rest[name] for name in rest)


@torch.no_grad()
def test_a_process_that_shrinks_the_image_is_given_it_shrunk():
    subject = model(VPDiffusion())
    y, sigma = torch.randn(2, 1, 8, 8), 50 / 127.5
    s = subject.process.s_at_ratio(sigma)
    c = subject.process.coefficients(s)
    assert (c.sigma / c.alpha).item() == pytest.approx(sigma, rel=1e-9) and c.alpha < 0.95
    expected = subject.denoiser(c.alpha.float() * y, s)
    torch.testing.assert_close(denoise_noisy(subject, y, s), expected)


def test_the_command_prints_json_alone_and_keeps_means_on_request(folder, tmp_path, capsys):
    place = dpi_core.save(model(), tmp_path / "photos-drunet-none")
    main(["evaluate", str(place), "--images", str(folder), "--sigma", "15", "25", "50", "--json"])
    scores = json.loads(capsys.readouterr().out)
    assert list(scores) == ["sigma"] and list(scores["sigma"]) == ["15", "25", "50"]
    for found in scores["sigma"].values():
        assert set(found) == {"psnr_mean", "psnr", "ci95"} and len(found["psnr"]) == 4
        assert found["psnr_mean"] == pytest.approx(np.mean(list(found["psnr"].values())))
        low, high = found["ci95"]
        assert low <= found["psnr_mean"] <= high
    assert not (place / "metrics.json").exists()
    assert scores == psnr_by_sigma(list(denoise_folder(dpi_core.load(place), folder, [15, 25, 50])))

    main(["evaluate", str(place), "--images", str(folder), "--sigma", "25", "--record", "four"])
    mean = scores["sigma"]["25"]["psnr_mean"]
    assert f"σ = 25: {mean:.2f} dB" in capsys.readouterr().out
    kept = checkpoint.read_json(place / "metrics.json")
    assert kept["images"]["four"]["sigma"]["25"]["psnr_mean"] == mean
    models = [(checkpoint.read_json(place / "config.json"), kept)]
    low, high = kept["images"]["four"]["sigma"]["25"]["ci95"]
    row = f"| photos-drunet-none | {mean:.2f} ({low:.2f} to {high:.2f}) | measured here |"
    assert row in photos_section("four", models, tmp_path)
    published = {
        "about": "Four.",
        "rows": [{"method": "another", "psnr": {"25": 30.125, "50": 1.0}, "source": "a paper"}],
    }
    checkpoint.write_json(tmp_path / "four.json", published)
    assert "| another | 30.12 | a paper |" in photos_section("four", models, tmp_path)


@pytest.mark.parametrize("sigma", [0.0, 76.0, -5.0])
def test_a_noise_level_the_model_does_not_know_is_refused(folder, sigma):
    with pytest.raises(ValueError, match=f"σ = {sigma:g} of 255 is not among the noise levels of photos-drunet-none"):
        list(denoise_folder(model(), folder, [sigma]))


def test_a_folder_without_images_and_a_model_of_points_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="holds no images; give a folder with some of .png"):
        list(denoise_folder(model(), tmp_path / "nothing", [25.0]))
    points = dpi_core.load("checkpoints/mixture2d-flow-dpi")
    with pytest.raises(ValueError, match="mixture2d-flow-dpi is a model of points"):
        list(denoise_folder(points, folder, [25.0]))
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken.png is not an image that can be read"):
        list(denoise_folder(model(), folder, [25.0]))
