"""What is stored for the pages belongs to the weights, and one part is renewed without touching the others."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpi_core import cli, reports
from dpi_core.cli import main

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


def test_an_analysis_that_is_stopped_leaves_the_old_one(tmp_path, monkeypatch):
    folder = shutil.copytree(STORED, tmp_path / STORED.name)
    before = (folder / "analysis.safetensors").read_bytes()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "PARTS", {"frames": cli.PARTS["frames"], "layers": reports.Part(("layers.",), stopped)})
    with pytest.raises(KeyboardInterrupt):
        main(["analyse", str(folder)])
    assert (folder / "analysis.safetensors").read_bytes() == before


def test_one_part_is_not_renewed_in_a_damaged_file(tmp_path, capsys):
    folder = shutil.copytree(STORED, tmp_path / STORED.name)
    file = folder / "analysis.safetensors"
    for content in (b"no tensors", file.read_bytes().replace(b'"about"', b'"tuoba"', 1)):
        file.write_bytes(content)
        with pytest.raises(SystemExit):
            main(["analyse", str(folder), "--only", "frames"])
        assert "analysis.safetensors is damaged" in capsys.readouterr().err and file.read_bytes() == content
