"""Outputs of layers: CKA against a second implementation, distances by hand, hooks gone."""

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, Denoiser, FixedSchedule, FlowMatching
from dpi_core.analysis.activations import (
    NO_SAMPLES,
    NO_VARIATION,
    NOT_CALLED,
    LayerActivations,
    Step,
    captured,
    cka,
    gram,
    hsic,
    layer_activations,
    layer_outputs,
    samples_per_batch,
)
from dpi_core.conditioning import Blind

S = [0.0, 0.4, 0.9]


def hsic_by_definition(k, l):  # noqa: E741
    """Song et al. 2012, equation 5, written out."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    value = np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (value - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def hsic_by_quadruples(k, l):  # noqa: E741
    """The U-statistic over all ordered quadruples of different samples, from which equation 5 is derived."""
    n, total, count = len(k), 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
                        count += 1
    return total / count


@pytest.fixture
def features(generator):
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return x, x @ torch.randn(5, 4, generator=generator, dtype=torch.float64) + 3


def test_hsic_is_the_published_estimator(features):
    k, l = ((values @ values.T).numpy() for values in features)  # noqa: E741
    found = float(hsic(gram(features[0])[None], gram(features[1])[None]))
    assert found == pytest.approx(hsic_by_definition(k, l), rel=1e-9)
    assert found == pytest.approx(hsic_by_quadruples(k, l), rel=1e-9)


def test_cka_does_not_see_rotation_shift_and_scale(features, generator):
    x, y = features
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    assert cka(x, 2.5 * x @ rotation - 7) == pytest.approx(1, abs=1e-9)
    assert cka(x, y) == pytest.approx(cka(y, x)) and 0.2 < cka(x, y) < 1


def test_cka_has_no_bias_for_independent_features(generator):
    found = [
        cka(torch.randn(8, 200, generator=generator), torch.randn(8, 200, generator=generator)) for _ in range(300)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300)
    assert min(found) < -0.05


def test_cka_of_a_constant_is_nan(features):
    assert np.isnan(cka(features[0], torch.full((7, 3), 2.7, dtype=torch.float64)))
    noise = 1 + 1e-7 * features[1].float()
    assert np.isnan(cka(features[0], noise))


def backbone():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3))


@pytest.fixture
def denoiser(generator):
    net = DPI(backbone(), FixedSchedule("linear"))
    net.separate(0.5, generator)
    return Denoiser(net, FlowMatching(prediction="x0"))


@pytest.fixture
def samples(generator):
    return torch.randn(2, 10, 3, generator=generator)


def compared(denoiser, samples, **options):
    *steps, found = layer_activations(denoiser, *samples, S, **options)
    assert all(isinstance(step, Step) for step in steps) and isinstance(found, LayerActivations)
    return found


def outputs(denoiser, samples, s, s_theta):
    plain = denoiser.net.materialize(s_theta)
    x_s = denoiser.process.preconditioning(s).c_in * denoiser.process.add_noise(*samples, s)
    first = plain[0](x_s.float())
    return first.detach(), plain(x_s.float()).detach()


def test_distances_and_cka_are_those_of_the_outputs(denoiser, samples):
    found = compared(denoiser, samples)
    assert found.notes == {} and found.samples == 10
    for layer in (0, 1):
        for i, s in enumerate(S):
            here, start = outputs(denoiser, samples, s, s)[layer], outputs(denoiser, samples, s, 0.0)[layer]
            change = float((here - start).norm() / start.norm())
            assert found.change[layer, i] == pytest.approx(change, rel=1e-4, abs=1e-6)
            assert found.cka_path[layer, i] == pytest.approx(cka(here, start), rel=1e-4)
            for j, other in enumerate(S):
                there = outputs(denoiser, samples, other, other)[layer]
                assert found.cka[layer, i, j] == pytest.approx(cka(here, there), rel=1e-4, abs=1e-5)


def test_batches_sum_up(denoiser, samples):
    whole, parts = compared(denoiser, samples), compared(denoiser, samples, batch_size=5)
    np.testing.assert_allclose(parts.change, whole.change, rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(parts.cka, axis1=1, axis2=2), 1, atol=1e-9)
    sums = np.zeros((2, 2))
    for part in (samples[:, :5], samples[:, 5:]):
        both = torch.stack([gram(outputs(denoiser, part, s, s)[0]) for s in S[:2]])
        sums += hsic(both, both).numpy()
    assert parts.cka[0, 0, 1] == pytest.approx(sums[0, 1] / np.sqrt(sums[0, 0] * sums[1, 1]), rel=1e-4)
    left_over = compared(denoiser, samples, batch_size=8)  # two samples of the second batch take no part
    np.testing.assert_allclose(left_over.cka, compared(denoiser, samples[:, :8]).cka, rtol=1e-9)


def test_too_few_samples_are_explained(denoiser, samples):
    found = compared(denoiser, samples[:, :3])
    assert np.isnan(found.cka).all() and np.isfinite(found.change).all()
    assert found.notes["cka"] == "CKA without bias needs at least 4 samples, but there are 3"
    with pytest.raises(ValueError, match="needs at least 4 samples, but there are 3"):
        cka(samples[0, :3], samples[1, :3])


def test_representations_of_different_samples_are_refused(samples, unchecked):
    with pytest.raises(ValueError, match="10 and 7 samples"):
        cka(samples[0], samples[1, :7])


def test_a_network_with_one_set_is_compared_along_s(samples):
    found = compared(Denoiser(Blind(backbone()), FlowMatching(prediction="x0")), samples)
    assert np.isfinite(found.cka).all() and np.isnan(found.change).all()
    assert found.notes["cka_path"] == found.notes["activation_change"] == "the network has one parameter set"


class Odd(nn.Module):
    """Layers that put out nothing for each sample."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Linear(3, 3, bias=False)
        self.offset = nn.Linear(1, 3)
        self.table = nn.Embedding(1, 3)

    def forward(self, x):
        return (
            x @ self.gain.weight + self.offset(torch.ones(11, 1))[0] + self.table(torch.zeros(len(x), dtype=torch.long))
        )


def test_what_cannot_be_compared_is_nan_with_a_reason(samples, generator):
    net = DPI(Odd())
    net.separate(0.5, generator)
    found = compared(Denoiser(net, FlowMatching(prediction="x0")), samples)
    assert found.notes == {"gain": NOT_CALLED, "offset": NO_SAMPLES, "table": NO_VARIATION}
    assert np.isnan(found.cka).all() and np.isnan(found.change[:2]).all() and (found.change[2, 1:] > 0).all()


def hooks(module):
    return sum(len(child._forward_hooks) + len(child._forward_pre_hooks) for child in module.modules())


def test_no_hook_is_left_also_after_an_exception(samples):
    module = backbone()
    with captured(module, ["0", "."]) as kept:
        expected = module(samples[0])
    assert torch.equal(kept["."], expected) and kept["0"].shape == (10, 6)
    assert hooks(module) == 0
    with pytest.raises(RuntimeError), captured(module, ["0"]):
        module(samples[0][:, :2])
    assert hooks(module) == 0
    with pytest.raises(ValueError, match="no layer 'nowhere'"), captured(module, ["0", "nowhere"]):
        pass
    assert hooks(module) == 0


def test_an_output_is_kept_although_a_later_layer_writes_into_it(samples):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    with captured(module, ["0"]) as kept:
        module(samples[0])
    torch.testing.assert_close(kept["0"], module[0](samples[0]).detach())


def test_one_layer_for_one_sample(denoiser, samples):
    here, start, note = layer_outputs(denoiser, samples[0, 2], samples[1, 2], "0", S)
    one = samples[:, 2:3]
    for i, s in enumerate(S):
        torch.testing.assert_close(here[i], outputs(denoiser, one, s, s)[0][0])
        torch.testing.assert_close(start[i], outputs(denoiser, one, s, 0.0)[0][0])
    assert note == ""


def test_batches_are_bounded_by_memory(denoiser, samples):
    per_sample = 4 * (6 + 3)
    assert samples_per_batch(denoiser, samples[0], 10 * per_sample) == 10
    assert samples_per_batch(denoiser, samples[0], 1) == 1


def test_an_output_that_is_not_finite_is_refused(denoiser, samples):
    with torch.no_grad():
        denoiser.net.flat1[0] = torch.inf
    with pytest.raises(ValueError, match="output at s = 0 is NaN or infinite"):
        list(layer_activations(denoiser, *samples, S))
