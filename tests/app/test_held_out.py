"""Data sets are read once, again when their files change, and no more of them is kept than may be."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from app.services import held_out as kept
from app.services.held_out import held_out
from dpi_core.data import DataConfig, load_data

FOLDER = DataConfig("image_folder", size=8)


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """The sets that were read."""
    found = []

    def read(config, folder):
        found.append(config)
        return load_data(config, folder)

    kept._kept.drop(lambda key: True)
    monkeypatch.setattr(kept, "load_data", read)
    yield found
    kept._kept.drop(lambda key: True)


@pytest.fixture
def folder(tmp_path):
    for index in range(12):
        Image.fromarray(np.full((8, 8), 20 * index, np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def same(config, folder=None):
    expected = load_data(config, folder).held_out_batch(1, 3)
    torch.testing.assert_close(held_out(config, folder).held_out_batch(1, 3), expected, rtol=0, atol=0)


def test_a_set_is_read_once_and_gives_what_the_library_does(reads, folder):
    for _ in range(2):
        for config, place in ((DataConfig("digits"), None), (DataConfig("digits", seed=1), None), (FOLDER, folder)):
            same(config, place)
    assert reads == [DataConfig("digits"), DataConfig("digits", seed=1), FOLDER]
    same(DataConfig("moons"))


def test_a_changed_file_is_read_again(reads, folder):
    same(FOLDER, folder)
    (folder / "below").mkdir()
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(folder / "below" / "more.png")
    same(FOLDER, folder)
    file = folder / "below" / "more.png"
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1))
    same(FOLDER, folder)
    same(FOLDER, folder)
    assert len(reads) == 3


def test_what_is_kept_is_bounded_in_bytes(reads, monkeypatch):
    first, *others = [DataConfig("digits", seed=seed) for seed in range(3)]
    size = held_out(first).held_out.nbytes
    monkeypatch.setattr(kept._kept, "limit", 2 * size)
    for config in (*others, *others):
        held_out(config)
    assert reads == [first, *others]  # the first has made room
    held_out(first)
    assert len(reads) == 4 and kept._kept.held == 2 * size


def test_a_folder_that_is_missing_is_said_to_be(tmp_path):
    with pytest.raises(ValueError, match="got the folder"):
        held_out(FOLDER, tmp_path / "nowhere")
