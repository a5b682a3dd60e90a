"""Path statistics against curves whose length and turning are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from dpi_core.analysis.trajectories import (
    distance,
    energy_distance,
    path_statistics,
    principal_plane,
)


def test_a_straight_path_is_straight_in_any_shape():
    direction = torch.randn(3, 2, 4, dtype=torch.float64)
    found = path_statistics(torch.linspace(0, 1, 9, dtype=torch.float64)[:, None, None, None] * direction)
    assert_close(found.length, direction.flatten(1).norm(dim=1))
    assert_close(found.straightness, torch.ones(3, dtype=torch.float64))
    assert_close(found.turning, torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("angle", [math.pi / 2, math.pi, 3.0])
def test_an_arc_has_the_length_chord_and_turning_of_its_angle(angle):
    k, radius = 2000, 1.7
    t = torch.linspace(0, angle, k, dtype=torch.float64)
    found = path_statistics(radius * torch.stack([t.cos(), t.sin()], -1)[:, None])
    assert found.length.item() == pytest.approx(radius * angle, rel=1e-6)
    assert found.chord.item() == pytest.approx(2 * radius * math.sin(angle / 2), rel=1e-9)
    assert found.straightness.item() == pytest.approx(2 * math.sin(angle / 2) / angle, rel=1e-6)
    # k points make k − 1 steps of equal angle and k − 2 corners.
    assert found.turning.item() == pytest.approx(angle * (k - 2) / (k - 1), rel=1e-6)


def test_a_point_that_never_moves_counts_as_straight():
    found = path_statistics(torch.ones(4, 1, 2))
    assert (found.straightness.item(), found.turning.item(), found.length.item()) == (1.0, 0.0, 0.0)


def test_one_state_is_no_path():
    with pytest.raises(ValueError, match="the path has 1 state, but at least 2 are needed"):
        path_statistics(torch.ones(1, 3, 2))


def test_distance_is_the_root_mean_square_per_sample():
    x = torch.zeros(5, 3, 1, 2, 2)
    y = x.clone()
    y[2, 1] = 3.0
    y[4, 0, 0, 0, 0] = 2.0
    found = distance(x, y, sample_ndim=3)
    assert found.shape == (5, 3)
    assert (found[2, 1].item(), found[4, 0].item(), found.sum().item()) == (3.0, 1.0, 4.0)


def test_energy_distance_of_two_gaussians_on_a_line_is_known():
    n, shift = 2000, 1.5
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    # E|N(m, 2)| = 2/√π e^(−m²/4) + m erf(m/2).
    gap = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2) - 2 / math.sqrt(math.pi)
    assert energy_distance(x, y + shift) == pytest.approx(gap, abs=0.08)
    assert energy_distance(x, y) == pytest.approx(0, abs=0.005)
    with pytest.raises(ValueError, match="there are 1 and 2000 points"):
        energy_distance(x[:1], y)


# The principal plane -----------------------------------------------------------------------------------------------


def test_the_plane_is_that_of_scikit_learn(generator):
    from sklearn.decomposition import PCA

    scales = torch.linspace(3, 0.1, 12, dtype=torch.float64)
    paths = (torch.randn(9, 20, 12, generator=generator, dtype=torch.float64) * scales + 5).unflatten(-1, (1, 3, 4))
    found, others = principal_plane(paths.flatten(0, 1)), torch.randn(4, 1, 3, 4, generator=generator)
    peer = PCA(2, svd_solver="full").fit(paths.reshape(-1, 12).numpy())
    assert_close(found.axes.abs(), torch.from_numpy(peer.components_).abs())
    assert_close(found.shares, torch.from_numpy(peer.explained_variance_ratio_))
    signs = torch.from_numpy((peer.components_ * found.axes.numpy()).sum(1)).sign()
    expected = torch.from_numpy(peer.transform(others.reshape(-1, 12).double().numpy())) * signs
    assert_close(found.project(others), expected)
    assert found.project(paths).shape == (9, 20, 2)
    assert bool((found.axes.gather(1, found.axes.abs().argmax(1, keepdim=True)) > 0).all())


def test_points_of_a_plane_are_found_again_and_share_all_the_variance(generator):
    corner, side = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    points = (torch.randn(30, 2, generator=generator, dtype=torch.float64) @ side).unflatten(-1, (5,)) + corner[0]
    found = principal_plane(points)
    assert_close(found.at(found.project(points)), points)
    assert found.shares.sum().item() == pytest.approx(1)
    assert_close(found.axes @ found.axes.T, torch.eye(2, dtype=torch.float64))


def test_points_that_coincide_have_no_variance_to_share():
    found = principal_plane(torch.ones(4, 1, 2, 2))
    assert found.shares.tolist() == [0.0, 0.0]
    assert_close(found.project(torch.ones(1, 2, 2)), torch.zeros(2, dtype=torch.float64))


def test_what_spans_no_plane_is_refused():
    with pytest.raises(ValueError, match="there are 1 samples of 4 entries, but a plane needs at least 2 of each"):
        principal_plane(torch.ones(1, 4))
    with pytest.raises(ValueError, match="there are 3 samples of 1 entries"):
        principal_plane(torch.ones(3))
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\), but has to end in \(4,\)"):
        principal_plane(torch.randn(5, 4)).project(torch.ones(2, 3))
