"""The path from θ0 to θ1 seen in the output: closed forms of linear networks, and brute force."""

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, Denoiser, FixedSchedule, FlowMatching, SoftmaxSchedule
from dpi_core.analysis.paths import blend_gaps, cached_blends, denoised, nearest_kept, output_paths
from dpi_core.conditioning import Blind

LAM = [0.0, 0.25, 0.5, 1.0]


@pytest.fixture
def samples(generator):
    x0, eps = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    return x0, eps


def denoiser_of(backbone, generator, schedule=None, **options):
    """A denoiser whose network predicts x0, so that f is x̂0 itself."""
    net = DPI(backbone.double(), schedule or FixedSchedule("linear"), **options)
    net.separate(0.5, generator)
    return Denoiser(net, FlowMatching(prediction="x0"))


def rms(values):
    return float(values.square().mean().sqrt())


def noised(denoiser, samples, s):
    scaled = denoiser.process.preconditioning(s).c_in
    return scaled * denoiser.process.add_noise(*samples, s)


def test_a_linear_layer_blends_alike_in_weights_and_outputs(samples, generator):
    (found,) = blend_gaps(denoiser_of(nn.Linear(3, 3), generator), *samples, [0.5], LAM)
    np.testing.assert_allclose(found.gap, 0, atol=1e-6)
    np.testing.assert_allclose(found.weight_mse, found.output_mse, rtol=1e-5)


def test_two_linear_layers_leave_the_product_of_both_differences(samples, generator):
    backbone = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 3, bias=False))
    denoiser = denoiser_of(backbone, generator)
    (found,) = blend_gaps(denoiser, *samples, [0.5], LAM)
    apart = {k: (denoiser.net.theta1[k] - denoiser.net.theta0[k]).detach() for k in denoiser.net.theta0}
    product = noised(denoiser, samples, 0.5) @ (apart["1.weight"] @ apart["0.weight"]).T
    np.testing.assert_allclose(found.gap, [lam * (1 - lam) * rms(product) for lam in LAM], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.relative, found.gap / found.apart)


def test_the_gap_is_zero_at_both_ends_to_the_bit(samples, generator):
    (found,) = blend_gaps(
        denoiser_of(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), generator), *samples, [0.3], LAM
    )
    assert found.gap[0] == found.gap[-1] == 0
    assert (found.gap[1:-1] > 0).all()


def test_errors_of_both_blends_are_those_of_the_network(samples, generator):
    denoiser = denoiser_of(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), generator)
    (found,) = blend_gaps(denoiser, *samples, [0.3], [0.25], batch_size=5)
    x_s = denoiser.process.add_noise(*samples, 0.3)
    with torch.no_grad():
        start, here, end = (denoiser(x_s, 0.3, s_theta=lam) for lam in (0.0, 0.25, 1.0))  # λ(s) = s
    np.testing.assert_allclose(found.weight_mse[0], (here - samples[0]).square().mean(1), rtol=1e-6)
    np.testing.assert_allclose(
        found.output_mse[0], (0.75 * start + 0.25 * end - samples[0]).square().mean(1), rtol=1e-6
    )
    assert found.apart == pytest.approx(rms(end - start), rel=1e-6)


def test_a_linear_layer_goes_straight(samples, generator):
    denoiser = denoiser_of(nn.Linear(3, 3), generator)
    (found,) = output_paths(denoiser, *samples, [0.4], np.linspace(0, 1, 11).tolist())
    np.testing.assert_allclose(found.distance, found.s * found.distance[-1], atol=1e-6)
    np.testing.assert_allclose(found.arc, found.distance, atol=1e-6)


def test_the_arc_is_the_sum_of_its_steps_and_never_shorter_than_the_chord(samples, generator):
    denoiser = denoiser_of(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), generator)
    s = np.linspace(0, 1, 6).tolist()
    levels = [0.2, 0.8]
    for level, found in zip(levels, output_paths(denoiser, *samples, levels, s), strict=True):
        outputs = [denoised(denoiser, *samples, level, value) for value in s]
        steps = [rms(b - a) for a, b in zip(outputs, outputs[1:], strict=False)]
        np.testing.assert_allclose(found.arc, np.cumsum([0, *steps]), rtol=1e-9)
        np.testing.assert_allclose(found.distance, [rms(each - outputs[0]) for each in outputs], rtol=1e-9)
        assert (found.arc >= found.distance - 1e-12).all()


def test_with_groups_each_group_follows_its_own_curve(samples, generator):
    schedule = SoftmaxSchedule(8, n_groups=2, init_std=2.0, generator=generator)
    denoiser = denoiser_of(
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)), generator, schedule, groups={"first": "0.*"}
    )
    (found,) = output_paths(denoiser, *samples, [0.4], [0.0, 0.6, 1.0])
    x_s = denoiser.process.add_noise(*samples, 0.4)
    with torch.no_grad():
        expected = rms(denoiser(x_s, 0.4, s_theta=0.6) - denoiser(x_s, 0.4, s_theta=0.0))
    assert found.distance[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_nearest_kept_set(count):
    kept = [0.5] if count == 1 else np.linspace(0, 1, count).tolist()
    for s in np.random.default_rng(0).uniform(size=50):
        assert nearest_kept(float(s), count) == pytest.approx(min(kept, key=lambda k: abs(k - s)))


def test_kept_blends_that_are_hit_cost_nothing(samples, generator):
    denoiser = denoiser_of(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), generator)
    s = np.linspace(0, 1, 5).tolist()
    one, two, all_five = cached_blends(denoiser, *samples, s, [1, 2, 5])
    np.testing.assert_array_equal(all_five.moved, 0)
    assert two.moved[0] == two.moved[-1] == 0 and (two.moved[[1, 3]] > 0).all()
    half_way = denoised(denoiser, *samples, 0.25, 0.5)
    np.testing.assert_allclose(one.mse[1], (half_way - samples[0]).square().mean(1).numpy(), rtol=1e-9)
    exact = denoised(denoiser, *samples, 0.25, 0.25)
    assert one.moved[1] == pytest.approx(rms(half_way - exact), rel=1e-9)


def test_equal_sets_stay_where_they_are(samples):
    denoiser = Denoiser(DPI(nn.Linear(3, 3).double()), FlowMatching())
    (path,) = output_paths(denoiser, *samples, [0.5], [0.0, 0.5, 1.0])
    (gap,) = blend_gaps(denoiser, *samples, [0.5], LAM)
    assert path.arc[-1] == 0 and gap.apart == 0
    assert np.isnan(gap.relative).all()


def test_a_constant_curve_does_not_move_the_output(samples, generator):
    denoiser = denoiser_of(nn.Linear(3, 3), generator, FixedSchedule(0.3))
    (path,) = output_paths(denoiser, *samples, [0.5], [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(path.distance, 0)


def test_a_foreign_backbone(generator):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

        def forward(self, x):
            return self.block(x)

    x0, eps = torch.randn(2, 6, 5, 4, generator=generator)
    net = DPI(Attention().eval())
    net.separate(0.3, generator)
    denoiser = Denoiser(net, FlowMatching(prediction="x0"))
    (gap,) = blend_gaps(denoiser, x0, eps, [0.5], LAM)
    assert gap.gap[0] == gap.gap[-1] == 0 and gap.gap[2] > 0
    assert gap.weight_mse.shape == (4, 6)


def test_bad_input_is_refused_in_one_sentence(samples, generator):
    blind = Denoiser(Blind(nn.Linear(3, 3).double()), FlowMatching())
    for steps in (
        output_paths(blind, *samples, [0.5], [0.0]),
        blend_gaps(blind, *samples, [0.5], [0.5]),
        cached_blends(blind, *samples, [0.5], [2]),
    ):
        with pytest.raises(ValueError, match="Blind has one parameter set.*choose a DPI model"):
            next(steps)
    denoiser = denoiser_of(nn.Linear(3, 3), generator)
    with pytest.raises(ValueError, match="K = 0 blends cannot be kept; keep at least 1"):
        next(cached_blends(denoiser, *samples, [0.5], [2, 0]))
    with torch.no_grad():
        denoiser.net.flat0[0] = torch.inf
    with pytest.raises(ValueError, match="output at s = 0.5 is NaN or infinite"):
        next(output_paths(denoiser, *samples, [0.5], [0.0]))
