"""Patches of photos: from anywhere, in every position, never from a held-out photo."""

import numpy as np
import pytest
import torch
from PIL import Image

from dpi_core.patches import _turned, patches


def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def photo_folder(tmp_path):
    """Photos of several sizes, whose pixels name the photo and the place: value = 40·photo + row."""
    for number, (width, height) in enumerate([(20, 16), (12, 30), (16, 16), (9, 9)]):
        rows = np.arange(height, dtype=np.uint8)[:, None]
        pixels = np.broadcast_to(40 * number + rows, (height, width))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_patches_are_cut_from_anywhere_and_turned(photo_folder):
    data = patches(photo_folder, size=8, held_out_fraction=0.25)
    assert (len(data.photos), len(data.held_out), data.shape) == (3, 1, (1, 8, 8))
    drawn = ((data.batch(600, rng()) + 1) * 127.5).round()
    held_out = int(((data.held_out + 1) * 127.5).round().min()) // 40
    assert set((drawn.amin((1, 2, 3)) // 40).int().tolist()) == set(range(4)) - {held_out}
    down, right = (drawn.diff(dim=axis)[:, 0, 0, 0] for axis in (2, 3))
    # Rows count downwards in a photo, so a turned patch counts down, up, right or left.
    assert {(int(a), int(b)) for a, b in zip(down, right, strict=True)} == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    tops = {int(value) % 40 for value in drawn.amin((1, 2, 3))[drawn.amin((1, 2, 3)) // 40 == 1]}
    assert held_out == 1 or tops == set(range(30 - 8 + 1))


def test_the_positions_of_a_patch_are_those_of_a_square():
    square = torch.arange(9).reshape(1, 3, 3)
    positions = {tuple(_turned(square, position).flatten().tolist()) for position in range(8)}
    assert len(positions) == 8 and all(sorted(each) == list(range(9)) for each in positions)


def test_patches_repeat_by_seed(photo_folder):
    one, same, other = (patches(photo_folder, size=8, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(one.held_out, same.held_out)
    torch.testing.assert_close(one.batch(4, rng()), same.batch(4, rng()))
    assert not torch.equal(one.held_out, other.held_out) or len(one.photos) != len(other.photos)


def test_patches_larger_than_a_photo_are_refused(photo_folder):
    with pytest.raises(ValueError, match=r"3\.png has 9 x 9 pixels, fewer than a patch of 10; remove it"):
        patches(photo_folder, size=10)


def test_known_photos_say_their_licence(photo_folder, tmp_path_factory):
    assert patches(photo_folder, size=8).licence == "not stated in image files"
    known = tmp_path_factory.mktemp("data") / "BSDS500"
    photo_folder.rename(known)
    assert patches(known, size=8).licence == "non-commercial research and education"
