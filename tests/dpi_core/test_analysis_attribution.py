"""Attributions against games whose answer is known; derivatives against differences in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, Denoiser, FixedSchedule, FlowMatching, SoftmaxSchedule
from dpi_core.analysis.attribution import FLAGGED, layer_tangents, quality_target, shares
from dpi_core.analysis.landscape import curve_errors, quality_db
from dpi_core.analysis.layers import ByLayer
from dpi_core.analysis.pinning import pinned_errors
from dpi_core.analysis.receptive_field import receptive_fields
from dpi_core.conditioning import Blind

S = [0.3, 0.7]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture
def samples(generator):
    return torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def denoiser(generator):
    backbone = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3))
    net = DPI(backbone.double(), SoftmaxSchedule(16, init_std=1.0, generator=generator))
    net.separate(0.4, generator)
    return Denoiser(net, FlowMatching())


def value(denoiser, samples, s, share):
    """F(a) by plain calls."""
    net = ByLayer(denoiser.net)
    net.lam = net.spread(torch.tensor(share, dtype=torch.float64)) * net.learned(s)
    x0, eps = samples
    with torch.no_grad():
        x0_hat = Denoiser(net, denoiser.process)(denoiser.process.add_noise(x0, eps, s), s)
    return in_db((x0_hat - x0).square().mean(1).numpy())


def in_db(mse):
    return quality_db(mse[None], "psnr")[0]


def test_integrated_gradients_share_out_the_whole_gain(denoiser, samples):
    for found in shares(denoiser, *samples, S, methods=["integrated gradients"]):
        start, end = (value(denoiser, samples, found.s, [a] * 3) for a in (0.0, 1.0))
        assert found.gain == pytest.approx(end - start, rel=1e-9)
        assert found.values.sum() == pytest.approx(found.gain, rel=1e-4)
        assert found.residual < 1e-4 < FLAGGED


def test_too_few_steps_show_in_the_residual(denoiser, samples):
    (coarse,) = shares(denoiser, *samples, [0.7], methods=["integrated gradients"], steps=1)
    (fine,) = shares(denoiser, *samples, [0.7], methods=["integrated gradients"], steps=24)
    assert coarse.residual > 100 * fine.residual


def test_shapley_values_of_all_orders_are_the_definition(denoiser, samples):
    (found,) = shares(denoiser, *samples, [0.7], methods=["shapley"], permutations=60, seed=1)
    exact = np.zeros(3)
    for order in itertools.permutations(range(3)):
        share, last = [0.0] * 3, value(denoiser, samples, 0.7, [0.0] * 3)
        for layer in order:
            share[layer] = 1.0
            here = value(denoiser, samples, 0.7, share)
            exact[layer] += (here - last) / 6
            last = here
    assert exact.sum() == pytest.approx(found.gain)
    assert found.residual < 1e-6
    np.testing.assert_allclose(found.values, exact, atol=0.15 * np.abs(exact).max())


def test_an_order_and_its_reverse_are_exact_where_layers_meet_in_pairs(generator):
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(4))

        def forward(self, x):
            a, b, c, d = (part.weight[0, 0] for part in self.parts)
            return x * (a + a * b + b * c + 2 * d + a * d)

    net = DPI(Pairs().double(), FixedSchedule("linear"))
    net.separate(1.0, generator)
    denoiser = Denoiser(net, FlowMatching(prediction="x0"))
    x0, eps = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)

    def first(x0_hat, x0):
        return x0_hat[0, 0]

    two, many = (
        next(shares(denoiser, x0, eps, [0.6], first, ["shapley"], permutations=count, seed=3)) for count in (2, 10)
    )
    np.testing.assert_allclose(two.values, many.values, rtol=1e-5, atol=1e-6)
    gradients = next(shares(denoiser, x0, eps, [0.6], first, ["integrated gradients"]))
    np.testing.assert_allclose(gradients.values, two.values, rtol=1e-5, atol=1e-6)  # both halve what a pair makes


def test_ablation_is_pinning_at_theta0(denoiser, samples):
    cells = list(pinned_errors(denoiser, *samples, S))
    for level, found in enumerate(shares(denoiser, *samples, S, methods=["ablation"])):
        own = next(cell.mse for cell in cells if cell.level == level and cell.layer is None)
        for layer, share in enumerate(found.values):
            held = next(cell.mse for cell in cells if (cell.level, cell.layer, cell.hold) == (level, layer, 0))
            assert share == pytest.approx(in_db(own) - in_db(held), rel=1e-5, abs=1e-6)
        assert math.isnan(found.residual)


@pytest.mark.parametrize("measure", ["psnr", "mse"])
def test_derivatives_are_central_differences_and_sum_to_that_along_lambda(denoiser, samples, measure):
    x0, eps = samples
    found = list(layer_tangents(denoiser, x0, eps, S, measure))
    assert [step.layer for step in found] == [0, 1, 2, None] * 2
    net = ByLayer(denoiser.net)
    for step in found:
        shift = torch.zeros(3, dtype=torch.float64)
        shift[slice(None) if step.layer is None else step.layer] = 1e-5
        x_s = denoiser.process.add_noise(x0, eps, step.s)
        ends = []
        for sign in (1, -1):
            net.lam = net.learned(step.s) + net.spread(sign * shift)
            with torch.no_grad():
                ends.append(Denoiser(net, denoiser.process)(x_s, step.s))
        slope = (quality_target(measure)(ends[0], x0) - quality_target(measure)(ends[1], x0)).item() / 2e-5
        assert step.quality == pytest.approx(slope, rel=1e-6, abs=1e-7)
        assert step.moved == pytest.approx((ends[0] - ends[1]).square().mean().sqrt().item() / 2e-5, rel=1e-6)
    for first in (0, 4):
        assert sum(step.quality for step in found[first : first + 3]) == pytest.approx(found[first + 3].quality)
        assert found[first + 3].residual < 1e-12 and math.isnan(found[first].residual)


def test_the_target_is_the_quality_of_the_landscape(denoiser, samples):
    x0, eps = samples
    with torch.no_grad():
        x0_hat = denoiser(denoiser.process.add_noise(x0, eps, 0.3), 0.3)
    for measure in ("psnr", "mse"):
        expected = quality_db(curve_errors(denoiser, x0, eps, [0.3]), measure)[0]
        assert quality_target(measure)(x0_hat, x0).item() == pytest.approx(expected)


def test_equal_sets_have_nothing_to_share(samples):
    denoiser = Denoiser(DPI(nn.Linear(3, 3).double()), FlowMatching())
    for found in shares(denoiser, *samples, S):
        assert found.gain == 0 and found.residual == 0 and (found.values == 0).all()
    assert all(step.moved == 0 for step in layer_tangents(denoiser, *samples, S))


def test_bad_input_is_refused_in_one_sentence(denoiser, samples):
    with pytest.raises(ValueError, match="one parameter set"):
        next(shares(Denoiser(Blind(nn.Linear(3, 3).double()), FlowMatching()), *samples, S))
    with pytest.raises(ValueError, match="the method is 'magic', but has to be one of integrated gradients"):
        next(shares(denoiser, *samples, S, methods=["magic"]))
    with pytest.raises(ValueError, match=r"the target has shape \(6, 3\), but has to be one number"):
        next(shares(denoiser, *samples, S, lambda x0_hat, x0: x0_hat))
    with torch.no_grad():
        denoiser.net.flat1[0] = torch.nan
    with pytest.raises(ValueError, match="the target at s = 0.3 goes from .* to nan; choose one that is finite"):
        next(shares(denoiser, *samples, S))


# The receptive field ---------------------------------------------------------------------------------------------


@pytest.fixture
def image(generator):
    return torch.randn(2, 1, 7, 8, generator=generator, dtype=torch.float64)


def test_the_receptive_field_of_a_linear_filter_is_the_filter(image):
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    denoiser = Denoiser(Blind(conv), FlowMatching(prediction="x0"))
    (found,) = receptive_fields(denoiser, *image, [0.5], (3, 4), patch=1)
    expected = torch.zeros(7, 8, dtype=torch.float64)
    expected[2:5, 3:6] = conv.weight[0, 0].detach() * found.x_s[0, 2:5, 3:6]
    torch.testing.assert_close(found.gradients[0], expected)
    torch.testing.assert_close(found.occlusion.double(), expected, rtol=1e-5, atol=1e-6)
    assert found.residual < 1e-7
    weights = expected.abs().numpy()
    rows, columns = np.indices(weights.shape)
    squares = (rows - 3) ** 2 + (columns - 4) ** 2
    assert found.radius == pytest.approx(math.sqrt((weights * squares).sum() / weights.sum()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel": (7, 0)}, r"the pixel \(7, 0\) is not in an image of 7 × 8"),
        ({"pixel": (0, 0), "patch": 9}, "a patch of 9 pixels does not fit into 7 × 8"),
        ({"pixel": (0, 0), "stride": 4}, "steps of 4 pixels leave gaps between patches of 3"),
    ],
)
def test_a_receptive_field_out_of_range_is_refused(image, options, message):
    denoiser = Denoiser(Blind(nn.Conv2d(1, 1, 3, padding=1).double()), FlowMatching())
    with pytest.raises(ValueError, match=message):
        next(receptive_fields(denoiser, *image, [0.5], **options))
