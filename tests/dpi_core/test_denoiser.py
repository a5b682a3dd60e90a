"""The denoiser around the exact posterior mean of a Gaussian mixture, and around networks that know nothing."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dpi_core.conditioning import Blind
from dpi_core.denoiser import CPU_PASS, Denoiser
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import SoftmaxSchedule
from dpi_core.mixtures import ring_mixture
from dpi_core.noise_processes import AWGN, FlowMatching, VEDiffusion, VPDiffusion

PROCESSES = {
    "vp": VPDiffusion(),
    "vp eps": VPDiffusion(prediction="eps"),
    "vp x0": VPDiffusion(prediction="x0"),
    "vp cosine": VPDiffusion("cosine"),
    "edm": VEDiffusion(),
    "awgn": AWGN(),
    "awgn eps": AWGN(prediction="eps"),
    "flow": FlowMatching(),
    "flow x0": FlowMatching(prediction="x0"),
}
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
LEVELS = torch.tensor([0.02, 0.1, 0.35, 0.6, 0.8, 0.97], dtype=torch.float64)


@pytest.fixture
def points(generator):
    """One clean point and its noise for each level."""
    mixture = ring_mixture()
    return mixture.sample(len(LEVELS), generator), torch.randn(len(LEVELS), 2, generator=generator, dtype=torch.float64)


def perceptron(process, conditioned=True) -> Denoiser:
    """An untrained float32 network under the process."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2))
    if not conditioned:
        return Denoiser(Blind(backbone), process)
    net = DPI(backbone, SoftmaxSchedule(9))
    net.separate(0.5, torch.Generator().manual_seed(0))
    return Denoiser(net, process).eval()


@every_process
def test_views_of_the_optimal_network_are_those_of_the_mixture(process, points, optimal_denoiser):
    mixture, c = ring_mixture(), process.coefficients(LEVELS)
    x_s = process.add_noise(*points, LEVELS)
    found = optimal_denoiser(process, mixture).predict(x_s, LEVELS)
    x0 = mixture.posterior_mean(x_s, c.alpha, c.sigma)
    alpha, sigma, d_alpha, d_sigma = (v[:, None] for v in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
    eps = (x_s - alpha * x0) / sigma
    assert_close(found.x0, x0, rtol=1e-9, atol=1e-9)
    assert_close(found.score, mixture.score(x_s, c.alpha, c.sigma), rtol=1e-8, atol=1e-8)
    assert_close(found.eps, eps, rtol=1e-9, atol=1e-9)
    assert_close(found.velocity, d_alpha * x0 + d_sigma * eps, rtol=1e-9, atol=1e-8)


@every_process
@torch.no_grad()
def test_a_batch_with_several_levels_equals_each_level_alone(process, points):
    denoiser = perceptron(process)
    x_s = process.add_noise(*points, LEVELS)
    together = denoiser.predict(x_s, LEVELS)
    alone = [denoiser.predict(x_s[i : i + 1], s.item()) for i, s in enumerate(LEVELS)]
    for kind in ("x0", "eps", "score", "velocity"):
        expected = torch.cat([getattr(prediction, kind) for prediction in alone])
        scale = expected.abs().max().item()
        assert_close(getattr(together, kind), expected, rtol=1e-5, atol=1e-5 * scale)
    assert_close(together.x0, denoiser(x_s, LEVELS), rtol=0, atol=0)


@every_process
@torch.no_grad()
def test_predictions_at_the_clean_end_leave_out_what_is_undefined(process, points):
    x_s = points[0]
    prediction = perceptron(process).predict(x_s, 0.0)
    assert bool(torch.isfinite(prediction.x0).all())
    has_noise = isinstance(process, VEDiffusion)
    assert (prediction.eps is not None) == (prediction.score is not None) == has_noise
    has_velocity = has_noise or (isinstance(process, FlowMatching) and process.prediction == "velocity")
    assert (prediction.velocity is not None) == has_velocity


@pytest.mark.parametrize("name", ["vp", "vp eps", "vp cosine", "flow", "awgn eps"])
@torch.no_grad()
def test_without_noise_the_estimate_is_the_sample_whatever_the_network_says(name, points):
    x_s = points[0]
    assert_close(perceptron(PROCESSES[name])(x_s, 0.0), x_s, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vp cosine", "flow", "flow x0", "edm"])
@torch.no_grad()
def test_predictions_at_the_noise_end_are_finite(name, points):
    prediction = perceptron(PROCESSES[name]).predict(points[1], 1.0)
    for kind in ("x0", "eps", "score", "velocity"):
        assert bool(torch.isfinite(getattr(prediction, kind)).all()), kind


@every_process
@torch.no_grad()
def test_noise_level_and_parameter_position_can_be_told_apart(process, points):
    denoiser, s, s_theta = perceptron(process), 0.3, 0.8
    x_s = process.add_noise(*points, s)
    pre = process.preconditioning(s)
    plain = denoiser.net.materialize(s_theta)
    expected = pre.c_skip * x_s + pre.c_out * plain((pre.c_in * x_s).float()).double()
    assert_close(denoiser(x_s, s, s_theta), expected, rtol=1e-6, atol=1e-6)
    assert_close(denoiser.predict(x_s, s, s_theta).x0, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_blind_network_sees_no_scalar_but_the_conversion_does(points):
    process = PROCESSES["vp"]
    denoiser, x_s = perceptron(process, conditioned=False), points[1]
    outputs = [denoiser.network_output(x_s, s) for s in (0.2, 0.9)]
    assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    for s, output in zip((0.2, 0.9), outputs, strict=True):
        c = process.coefficients(s)
        assert_close(denoiser(x_s, s), c.alpha * x_s - c.sigma * output)
    assert denoiser.lam(0.3) is None
    with pytest.raises(ValueError, match=r"s = 1.3 is not in \[0, 1\]"):
        denoiser(x_s, 1.3)


@torch.no_grad()
def test_lambda_is_that_of_the_network():
    denoiser = perceptron(PROCESSES["vp"])
    denoiser.net.schedule.phi.normal_()
    assert_close(denoiser.lam(LEVELS), denoiser.net.schedule(LEVELS), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_the_estimate_has_the_precision_of_the_sample(dtype, points):
    x_s = points[0].to(dtype)
    prediction = perceptron(PROCESSES["flow"]).predict(x_s, LEVELS.float())
    assert {prediction.x0.dtype, prediction.eps.dtype, prediction.score.dtype, prediction.velocity.dtype} == {dtype}


def test_at_little_noise_the_optimal_estimate_is_nearly_the_clean_point(generator, optimal_denoiser):
    mixture, process = ring_mixture(), FlowMatching()
    x0 = mixture.sample(200, generator)
    x_s = process.add_noise(x0, torch.randn(200, 2, generator=generator, dtype=torch.float64), 0.001)
    error = (optimal_denoiser(process, mixture)(x_s, 0.001) - x0).square().mean().sqrt().item()
    assert error == pytest.approx(0.001, rel=0.1)


class Passes(nn.Module):
    """Half of its input; remembers how many samples each pass had."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.scale * x


@pytest.fixture
def passes():
    """A denoiser around it, and five samples of which a pass takes two."""
    net = Passes()
    return net, Denoiser(Blind(net), FlowMatching()).eval(), torch.linspace(0, 1, 5 * CPU_PASS // 2).reshape(5, -1)


def test_a_large_batch_takes_several_passes_with_the_same_result(passes):
    net, denoiser, x = passes
    with torch.no_grad():
        found = denoiser(x, 0.3)
    assert net.sizes == [2, 2, 1]
    assert torch.equal(found, torch.cat([denoiser(sample[None], 0.3) for sample in x]))


@pytest.mark.parametrize(
    "case", ["with a gradient", "in training mode", "with a listener", "with a scalar for each", "few samples"]
)
def test_a_batch_takes_one_pass_where_it_could_be_noticed(case, passes):
    net, denoiser, x = passes
    s = torch.full((5,), 0.3) if case == "with a scalar for each" else 0.3
    denoiser.train(case == "in training mode")
    if case == "with a listener":
        net.register_forward_hook(lambda *_: None)
    if case == "few samples":
        x = x[:, :100]
    with torch.set_grad_enabled(case == "with a gradient"):
        denoiser(x, s)
    assert net.sizes == [5]
