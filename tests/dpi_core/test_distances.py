"""Distances of sets of samples against closed forms, and SSIM against scikit-image."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from skimage.metrics import structural_similarity
from torch.testing import assert_close

from dpi_core.distances import frechet_distance, precision_recall, sliced_wasserstein, ssim
from dpi_core.evaluation import bootstrap_interval, bootstrap_intervals, compare
from dpi_core.seeds import seeded_generator
from dpi_core.verdicts import verdict


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=seeded_generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 1, 20, 33), (1, 3, 15, 15), (2, 1, 8, 9)])
def test_similarity_is_that_of_scikit_image(shape):
    x = torch.rand(shape, generator=seeded_generator(0)) * 2 - 1
    y = (x + 0.3 * torch.randn(shape, generator=seeded_generator(1))).clamp(-1, 1)
    if min(shape[-2:]) >= 11:
        expected = [
            structural_similarity(
                a, b, data_range=2, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
        ]
        assert_close(ssim(x, y), torch.tensor(expected), rtol=1e-6, atol=1e-8)
    assert_close(ssim(x, x), torch.ones(len(x), dtype=torch.float64))
    assert (ssim(x, y) < 0.99).all()


def test_the_frechet_distance_is_that_of_the_fitted_gaussians():
    x = normal(4000, 3, 0)
    y = normal(4000, 3, 1) @ torch.tensor([[2.0, 0.3, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.4]]).double() + 1
    cov_x, cov_y = (np.cov(points.numpy().T) for points in (x, y))
    cross = linalg.sqrtm(cov_x @ cov_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(cov_x + cov_y - 2 * cross)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="29 samples with 3 features, but a Fréchet distance needs at least 30"):
        frechet_distance(x, y[:29])


def test_the_sliced_distance_of_a_shift_is_known():
    x, shift = normal(500, 4, 0), torch.tensor([1.0, 0.0, -2.0, 0.5]).double()
    # A unit direction in d dimensions keeps 1/d of a squared shift on average.
    found = sliced_wasserstein(x, x + shift, seeded_generator(0), n_directions=4000)
    assert found == pytest.approx(shift.norm().item() / math.sqrt(4), rel=0.03)
    with pytest.raises(ValueError, match="there are 500 and 499 samples"):
        sliced_wasserstein(x, x[:499], seeded_generator(0))


def test_precision_and_recall_tell_missing_from_wrong_samples():
    data = torch.cat([normal(200, 2, 0), normal(200, 2, 1) + 20])
    half = torch.cat([normal(200, 2, 2), normal(200, 2, 3)])
    wrong = torch.cat([normal(200, 2, 4), normal(200, 2, 5) - 20])
    same = precision_recall(torch.cat([normal(200, 2, 6), normal(200, 2, 7) + 20]), data)
    assert same.precision > 0.9 and same.recall > 0.9
    missing = precision_recall(half, data)
    assert missing.precision > 0.9 and missing.recall == pytest.approx(0.5, abs=0.05)
    astray = precision_recall(wrong, data)
    assert astray.precision == pytest.approx(0.5, abs=0.05) and astray.recall == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="there are 3 samples and 3 data"):
        precision_recall(data[:3], data[:3])


def test_a_comparison_finds_the_levels_where_a_method_gains():
    rng = np.random.default_rng(0)
    image = rng.normal(0, 5, (1, 1, 400))  # how hard an image is: common to both, so pairing takes it out
    gain = np.array([0.5, 0.0, -0.5])[None, :, None]
    theirs = image + rng.normal(0, 0.5, (2, 3, 400))
    ours = image + gain + rng.normal(0, 0.5, (2, 3, 400))
    found = compare(ours, theirs)
    assert [verdict(each.low, each.high) for each in found.difference] == ["better", "no clear difference", "worse"]
    assert [interval.mean for interval in found.difference] == pytest.approx([0.5, 0.0, -0.5], abs=0.1)
    assert all(interval.high - interval.low < 0.2 for interval in found.difference)
    assert found.average.low < 0 < found.average.high
    assert len(found.spread) == 3 and compare(ours[:1], theirs).spread is None


def test_intervals_are_percentiles_of_resampled_means():
    values = np.random.default_rng(1).normal(size=(3, 50)) * [[1], [2], [3]]
    chosen = np.random.default_rng(5).integers(0, 50, (2000, 50))
    for row, found in zip(values, bootstrap_intervals(values, seed=5), strict=True):
        low, high = np.percentile(row[chosen].mean(axis=1), [2.5, 97.5])
        assert (found.mean, found.low, found.high) == pytest.approx((row.mean(), low, high), abs=1e-12)
        alone = bootstrap_interval(row, seed=5)
        assert (alone.low, alone.high) == pytest.approx((low, high), abs=1e-12)


def test_resampling_in_parts_gives_the_same_intervals(monkeypatch):
    values = np.random.default_rng(1).normal(size=(2, 30))
    whole = bootstrap_intervals(values)
    monkeypatch.setattr("dpi_core.evaluation.DRAWN_AT_ONCE", 100)
    for part, expected in zip(bootstrap_intervals(values), whole, strict=True):
        assert (part.mean, part.low, part.high) == pytest.approx(
            (expected.mean, expected.low, expected.high), abs=1e-12
        )
