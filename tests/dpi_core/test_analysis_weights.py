"""Distances between θ0 and θ1 against closed forms, NumPy, and what the network itself does."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, FixedSchedule, SoftmaxSchedule
from dpi_core.analysis.weights import (
    histograms,
    layer_of,
    spectra,
    stage_of,
    weight_distances,
    weight_path,
)
from dpi_core.conditioning import Blind


def vectors(theta0, theta1, schedule=None):
    """A linear layer without bias whose weights are the two given matrices."""
    theta0, theta1 = torch.tensor(theta0), torch.tensor(theta1)
    net = DPI(nn.Linear(theta0.shape[1], theta0.shape[0], bias=False).to(theta0), schedule)
    with torch.no_grad():
        net.theta0["weight"].copy_(theta0)
        net.theta1["weight"].copy_(theta1)
    return net


def separated(backbone, generator, schedule=None, **options):
    net = DPI(backbone, schedule, **options)
    net.separate(0.5, generator)
    return net


def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 1, 3))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, x):
        return x @ self.gain.abs()


FOREIGN = {
    "lstm": lambda: nn.LSTM(4, 3, batch_first=True),
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "complex": Complex,
    "convolutions": small,
}


def numpy_sets(net):
    def flat(named):
        return {k: torch.view_as_real(v).double() if v.is_complex() else v.double() for k, v in named.items()}

    return tuple({k: v.detach().numpy().ravel() for k, v in flat(s).items()} for s in (net.theta0, net.theta1))


def test_two_orthogonal_vectors():
    total = weight_distances(vectors([[3.0, 0.0]], [[0.0, 4.0]])).total
    assert (total.norm0, total.norm1, total.distance, total.dot, total.numel) == (3, 4, 5, 0, 2)
    assert total.relative == pytest.approx(5 / 3)
    assert total.angle == pytest.approx(90)
    assert total.norm_at(0.5) == pytest.approx(2.5)
    assert total.dip == pytest.approx(1 - 2.5 / 3.5)


def test_equal_orthogonal_vectors_dip_by_one_minus_one_over_root_two():
    assert weight_distances(vectors([[1.0, 0.0]], [[0.0, 1.0]])).total.dip == pytest.approx(1 - 1 / math.sqrt(2))


def test_opposite_vectors_meet_at_zero():
    total = weight_distances(vectors([[2.0, 1.0]], [[-2.0, -1.0]])).total
    assert total.angle == pytest.approx(180)
    assert total.norm_at(0.5) == pytest.approx(0, abs=1e-7) and total.dip == pytest.approx(1)


def test_a_tiny_angle_keeps_its_digits():
    total = weight_distances(vectors([[1.0, 0.0]], [[1.0, 1e-7]])).total
    assert math.radians(total.angle) == pytest.approx(1e-7, rel=1e-5)


@pytest.mark.parametrize("backbone", FOREIGN.values(), ids=FOREIGN)
def test_distances_are_those_of_numpy(backbone, generator):
    net = separated(backbone(), generator)
    found = weight_distances(net)
    theta0, theta1 = numpy_sets(net)
    assert [part.name for part in found.parameters] == list(net.theta0)
    for part in found.parameters:
        a, b = theta0[part.name], theta1[part.name]
        assert part.distance == pytest.approx(np.linalg.norm(b - a), rel=1e-12)
        assert part.norm_at(0.3) == pytest.approx(np.linalg.norm(0.7 * a + 0.3 * b), rel=1e-9)
    a, b = (np.concatenate(list(each.values())) for each in (theta0, theta1))
    assert found.total.numel == a.size
    assert found.total.distance == pytest.approx(np.linalg.norm(b - a), rel=1e-12)
    angle = math.degrees(math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    assert found.total.angle == pytest.approx(angle, rel=1e-9)


@pytest.mark.parametrize("backbone", FOREIGN.values(), ids=FOREIGN)
def test_layers_and_stages_share_out_the_whole(backbone, generator):
    found = weight_distances(separated(backbone(), generator))
    for parts in (found.layers, found.stages):
        assert sum(part.numel for part in parts) == found.total.numel
        assert math.hypot(*(part.distance for part in parts)) == pytest.approx(found.total.distance, rel=1e-12)
        assert len({part.name for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("parameter", "layer", "stage"),
    [
        ("weight", ".", "."),
        ("head.weight", "head", "head"),
        ("encoder.0.norm1.bias", "encoder.0.norm1", "encoder.0"),
        ("vit.encoder.layer.11.attention.query.weight", "vit.encoder.layer.11.attention.query", "vit.encoder.layer.11"),
    ],
)
def test_names_of_layers_and_stages(parameter, layer, stage):
    assert layer_of(parameter) == layer
    assert stage_of(layer) == stage


def test_with_one_curve_the_distance_is_lambda_times_the_whole(generator):
    schedule = SoftmaxSchedule(32, init_std=2.0, generator=generator)
    net = separated(small(), generator, schedule)
    s = np.linspace(0, 1, 9).tolist()
    path = weight_path(net, s)
    assert path.residual < 1e-6
    lam = net.lam(torch.tensor(s)).detach().numpy()
    np.testing.assert_allclose(path.moved, lam * weight_distances(net).total.distance, rtol=1e-5, atol=1e-6)
    assert path.norm[0] == pytest.approx(weight_distances(net).total.norm0)


def test_with_groups_the_distance_is_measured(generator):
    schedule = SoftmaxSchedule(16, n_groups=2, init_std=2.0, generator=generator)
    net = separated(small(), generator, schedule, groups={"first": "0.*"})
    s = [0.0, 0.4, 1.0]
    path = weight_path(net, s)
    start = {name: value.detach() for name, value in net.effective_parameters(0.0).items()}
    for value, moved in zip(s, path.moved, strict=True):
        here = {name: each.detach() for name, each in net.effective_parameters(value).items()}
        direct = math.sqrt(sum(float((here[k] - start[k]).double().square().sum()) for k in here))
        assert moved == pytest.approx(direct, rel=1e-6, abs=1e-9)
    assert path.residual < 1e-6
    one_curve = path.lam.mean(axis=1) * weight_distances(net).total.distance
    assert abs(path.moved[1] - one_curve[1]) > 1e-3  # the identity of one λ does not hold here


def test_a_constant_curve_does_not_move(generator):
    path = weight_path(separated(small(), generator, FixedSchedule(0.25)), [0.0, 0.5, 1.0])
    np.testing.assert_allclose(path.moved, path.moved[0])
    assert path.residual < 1e-6


def test_equal_sets_have_no_distance():
    net = DPI(small())
    found = weight_distances(net)
    assert found.total.distance == 0 and found.total.relative == 0 and found.total.angle == 0
    assert found.total.dip == pytest.approx(0, abs=1e-12)
    assert weight_path(net, [0.0, 0.5, 1.0]).residual == 0
    whole = histograms(net)[0]
    assert whole.counts[len(whole.counts) // 2] == whole.counts.sum() == found.total.numel


def test_zero_parameters_have_no_direction():
    total = weight_distances(vectors([[0.0, 0.0]], [[0.0, 0.0]])).total
    assert math.isnan(total.relative) and math.isnan(total.angle) and math.isnan(total.dip)
    assert weight_distances(vectors([[0.0]], [[1.0]])).total.relative == math.inf


@pytest.mark.parametrize("backbone", FOREIGN.values(), ids=FOREIGN)
def test_spectra_are_those_of_the_unfolded_weights(backbone, generator):
    net = separated(backbone(), generator)
    lam = [0.0, 0.3, 1.0]
    found = list(spectra(net, lam))
    assert [each.name for each in found] == [name for name, value in net.theta0.items() if value.ndim > 1]
    for each in found:
        for row, position in zip(each.singular_values, lam, strict=True):
            weight = ((1 - position) * net.theta0[each.name] + position * net.theta1[each.name]).detach().numpy()
            matrix = weight.reshape(len(weight), -1)
            np.testing.assert_allclose(row, np.linalg.svd(matrix, compute_uv=False), rtol=1e-5, atol=1e-6)
            assert np.sqrt((row**2).sum()) == pytest.approx(np.linalg.norm(matrix), rel=1e-5)


def test_stable_rank_of_one_direction_and_of_all():
    net = vectors([[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    (found,) = spectra(net, [0.0, 1.0])
    np.testing.assert_allclose(found.stable_rank, [1, 2], rtol=1e-12)
    np.testing.assert_allclose(found.spectral_norm, [5, 1], rtol=1e-12)


def test_a_zero_weight_has_no_stable_rank():
    (found,) = spectra(vectors([[0.0]], [[1.0]]), [0.0, 1.0])
    assert math.isnan(found.stable_rank[0]) and found.stable_rank[1] == 1


def test_histograms_count_every_entry(generator):
    net = separated(small(), generator)
    whole, *layers = histograms(net, bins=11)
    theta0, theta1 = numpy_sets(net)
    apart = np.concatenate([theta1[name] - theta0[name] for name in theta0])
    reach = np.abs(apart).max()
    np.testing.assert_array_equal(whole.counts, np.histogram(apart, 11, (-reach, reach))[0])
    assert sum(layer.counts.sum() for layer in layers) == whole.counts.sum() == apart.size
    assert [layer.name for layer in layers] == ["0", "1", "3"]


@pytest.mark.parametrize(
    "measure",
    [weight_distances, histograms, lambda net: weight_path(net, [0.0]), lambda net: list(spectra(net, [0.0]))],
)
def test_bad_networks_are_refused_in_one_sentence(measure, generator):
    with pytest.raises(ValueError, match="Blind has one parameter set.*choose a DPI model"):
        measure(Blind(small()))
    net = separated(small(), generator)
    with torch.no_grad():
        net.theta1["3.weight"][0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="'3.weight' of θ1 holds NaN"):
        measure(net)


def test_spectra_refuse_a_position_off_the_path():
    with pytest.raises(ValueError, match="1.5 is not in"):
        list(spectra(vectors([[1.0]], [[2.0]]), [1.5]))
