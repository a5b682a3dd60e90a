"""What is stored for the pages belongs to the weights, and one part is renewed without touching the others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import dpi_core
from dpi_core import cli, reports
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.cli import main
from dpi_core.data import DataConfig, load_data
from dpi_core.model import Model
from dpi_core.reports import pictures

STORED = Path(__file__).parents[2] / "checkpoints" / "digits-vp-none"


def test_frames_computed_anew_are_those_that_ship_and_the_rest_stays(tmp_path):
    folder = shutil.copytree(STORED, tmp_path / STORED.name)
    before = load_file(folder / "analysis.safetensors")
    main(["analyse", str(folder), "--only", "frames"])
    after = load_file(folder / "analysis.safetensors")
    assert set(after) == set(before)
    for name, value in before.items():
        step = 1 if value.dtype == torch.uint8 else 1e-2  # pixels are bytes: another CPU may round to the next
        tolerance = step if name.startswith("sweep.") else 0
        torch.testing.assert_close(after[name].float(), value.float(), equal_nan=True, rtol=0, atol=tolerance)


@pytest.mark.parametrize("has_old", [True, False])
def test_an_analysis_that_is_stopped_keeps_what_it_found_and_the_rest_of_the_old_one(tmp_path, monkeypatch, has_old):
    folder = shutil.copytree(STORED, tmp_path / STORED.name)
    file = folder / "analysis.safetensors"
    before = (
        {name: value for name, value in load_file(file).items() if not name.startswith("sweep.")} if has_old else {}
    )
    if not has_old:
        file.unlink()

    def found(*_):
        return {"sweep.s": torch.tensor([0.25])}, {"seed": 7}

    def stopped(*_):
        raise KeyboardInterrupt

    parts = {
        "frames": reports.Part(("sweep.",), ("seed",), found),
        "layers": reports.Part(("layers.",), ("layers",), stopped),
    }
    monkeypatch.setattr(cli, "PARTS", parts)
    with pytest.raises(KeyboardInterrupt):
        main(["analyse", str(folder)])
    after = load_file(file)
    assert after.pop("sweep.s").tolist() == [0.25] and after.keys() == before.keys()
    torch.testing.assert_close(after, before, equal_nan=True, rtol=0, atol=0)


def test_frames_renewed_without_another_models_samples_no_longer_name_it(tmp_path, monkeypatch):
    folder = shutil.copytree(STORED, tmp_path / STORED.name)
    file = folder / "analysis.safetensors"

    def said(**beside):
        part = reports.Part(("sweep.",), cli.PARTS["frames"].about, lambda *_: ({}, {"seed": 0, **beside}))
        monkeypatch.setattr(cli, "PARTS", {"frames": part})
        main(["analyse", str(folder)])
        with safe_open(file, framework="pt") as stored:
            return json.loads(stored.metadata()["about"])

    assert said(drawn_by="another")["drawn_by"] == "another"
    about = said()
    assert "drawn_by" not in about and "samples" in about, "what is said of other parts stays"


def test_what_is_said_of_a_part_is_named_by_it():
    for name in ("digits-vp-dpi", "fashion-unet-none"):
        with safe_open(STORED.parent / name / "analysis.safetensors", framework="pt") as stored:
            said, names = json.loads(stored.metadata()["about"]), list(stored.keys())
        assert set(said) <= {key for part in reports.PARTS.values() for key in part.about}
        assert all(any(each.startswith(part.tensors) for part in reports.PARTS.values()) for each in names)


def test_one_part_is_not_renewed_in_a_damaged_file(tmp_path, capsys):
    folder = shutil.copytree(STORED, tmp_path / STORED.name)
    file = folder / "analysis.safetensors"
    for content in (b"no tensors", file.read_bytes().replace(b'"about"', b'"tuoba"', 1)):
        file.write_bytes(content)
        with pytest.raises(SystemExit):
            main(["analyse", str(folder), "--only", "frames"])
        assert "analysis.safetensors is damaged" in capsys.readouterr().err and file.read_bytes() == content


def small_model(kind: str, shape: tuple[int, ...], process: str = "flow") -> Model:
    recipe = recipe_from_dict(
        {
            "name": f"small-{process}-none",
            "data": {"kind": kind},
            "shape": list(shape),
            "process": {"kind": process},
            "backbone": {"kind": "drunet", "channels": [4, 8], "blocks": 1},
            "conditioning": {"kind": "none"},
            "training": {"steps": 1},
            "sampling": {"steps": 2},
        }
    )
    return Model(build_denoiser(recipe), recipe, {})


def test_samples_stand_for_data_that_may_not_be_passed_on():
    images, private = load_data(DataConfig("digits")), small_model("idx", (1, 8, 8))
    painter = dpi_core.load(STORED)
    own, family = pictures(private, images), pictures(private, images, samples_of=painter)
    assert own.drawn_by is None and own.about == "16 samples of the model itself (seed 0)"
    torch.testing.assert_close(own.inputs, private.sample(16, seed=0).x.clamp(-1, 1))
    assert family.drawn_by == STORED.name and family.about == f"16 samples of {STORED.name} (seed 0)"
    torch.testing.assert_close(family.inputs, pictures(small_model("idx", (1, 8, 8)), images, painter).inputs)
    assert torch.equal(own.eps, family.eps) and not torch.equal(own.inputs, family.inputs)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (small_model("idx", (1, 12, 12)), r"makes no samples of shape \(1, 12, 12\); name a model that does"),
        (small_model("digits", (1, 8, 8)), "is shown with data and not with samples; leave out whose samples to take"),
        (small_model("patches", (1, 8, 8), "awgn"), "is shown with data and not with samples"),
    ],
    ids=["another shape", "data that may be passed on", "nothing is sampled"],
)
def test_samples_of_another_model_are_refused_where_they_do_not_fit(model, message):
    with pytest.raises(ValueError, match=message):
        pictures(model, load_data(DataConfig("digits")), samples_of=dpi_core.load(STORED))
