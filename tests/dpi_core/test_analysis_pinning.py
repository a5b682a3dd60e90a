"""Pinning against networks whose layers are held by hand, and orders whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, Denoiser, FixedSchedule, FlowMatching, SoftmaxSchedule
from dpi_core.analysis.landscape import curve_errors, loss
from dpi_core.analysis.layers import ByLayer
from dpi_core.analysis.pinning import (
    HOLDS,
    HoldingOrder,
    HoldingStep,
    count_holding_steps,
    held_positions,
    holding_order,
    pinned_errors,
    pinning,
)
from dpi_core.conditioning import Blind

S = [0.0, 0.25, 0.5, 0.75]


class Summed(nn.Module):
    """f(x) = Σ_j gain_j x: the gains matter by as much as their ends are apart."""

    def __init__(self, apart):
        super().__init__()
        self.apart = apart
        self.gains = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in apart)

    def forward(self, x):
        return sum(gain.weight[0, 0] * x for gain in self.gains)


def summed(apart):
    """x̂0 = x_s Σ_j (1 − λ_j) apart_j, with λ(s) = s: about the best there is where one of them is 2 and the rest 0."""
    net = DPI(Summed(apart), FixedSchedule("linear"))
    with torch.no_grad():
        for j, end in enumerate(apart):
            net.theta0[f"gains.{j}.weight"].fill_(end)
            net.theta1[f"gains.{j}.weight"].fill_(0.0)
    return Denoiser(net, FlowMatching(prediction="x0"))


@pytest.fixture
def samples(generator):
    return torch.randn(2, 24, 3, generator=generator)


@pytest.fixture
def denoiser(generator):
    backbone = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3))
    net = DPI(backbone, SoftmaxSchedule(16, init_std=1.0, generator=generator))
    net.separate(0.4, generator)
    return Denoiser(net, FlowMatching())


def found(denoiser, samples, **options):
    cells = list(pinned_errors(denoiser, *samples, S, **options))
    return cells, pinning(denoiser, cells, S, "mse")


def held_by_hand(denoiser, samples, s, held):
    """The error with some layers at given λ, by plain modules."""
    x0, eps = samples
    plain = denoiser.net.materialize(s)
    with torch.no_grad():
        for path, lam in held.items():
            plain.get_submodule(path).load_state_dict(
                denoiser.net.materialize(0.0).get_submodule(path).state_dict()
                if lam == 0.0
                else {
                    name.rpartition(".")[2]: torch.lerp(denoiser.net.theta0[name], denoiser.net.theta1[name], lam)
                    for name in denoiser.net.theta0
                    if name.rpartition(".")[0] == path
                }
            )
        by_hand = Denoiser(Blind(plain), denoiser.process)
        return (by_hand(denoiser.process.add_noise(x0, eps, s), s) - x0).square().mean(1).numpy()


@pytest.mark.parametrize("batch_size", [7, 32])
def test_each_error_is_that_of_the_network_with_this_layer_held(denoiser, samples, batch_size):
    cells, single = found(denoiser, samples, batch_size=batch_size)
    assert len(cells) == len(S) * -(-24 // batch_size) * (1 + 3 * 3)
    mean = float(np.mean([denoiser.net.lam(s).item() for s in S[1:]]))
    np.testing.assert_allclose(single.held_at, [[0] * 3, [1] * 3, [mean] * 3], rtol=1e-6)
    for level, s in enumerate(S):
        np.testing.assert_allclose(single.own[level], held_by_hand(denoiser, samples, s, {}), rtol=1e-4, atol=1e-7)
        for hold, lam in enumerate((0.0, 1.0, mean)):
            for layer, path in enumerate(("0", "2", "4")):
                expected = held_by_hand(denoiser, samples, s, {path: lam})
                np.testing.assert_allclose(single.errors[hold, layer, level], expected, rtol=1e-4, atol=1e-7)


def test_losses_are_paired_against_the_network_itself(denoiser, samples):
    _, single = found(denoiser, samples)
    np.testing.assert_allclose(single.own, curve_errors(denoiser, *samples, S), rtol=1e-5)
    again = loss(np.array(S), single.own, single.errors[1, 2], "mse")
    np.testing.assert_array_equal(single.losses[1][2].mean, again.mean)
    assert single.losses[1][2].total == again.total


def test_holding_every_layer_at_an_end_is_the_network_there(denoiser, samples):
    net = ByLayer(denoiser.net)
    x_s = denoiser.process.add_noise(*samples, 0.5)
    for position, end in zip(held_positions(net, S)[:2], (0.0, 1.0), strict=True):
        net.lam = net.learned(0.5)
        for layer in range(len(net.layers)):
            net.lam = net.hold(net.lam, layer, position)
        with torch.no_grad(), denoiser.net.using(FixedSchedule(end)):
            assert torch.equal(Denoiser(net, denoiser.process)(x_s, 0.5), denoiser(x_s, 0.5))


def test_all_held_in_the_order_is_the_brute_force_loss(denoiser, samples):
    _, single = found(denoiser, samples)
    *steps, order = holding_order(denoiser, *samples, single)
    assert all(isinstance(step, HoldingStep) for step in steps) and isinstance(order, HoldingOrder)
    assert len(steps) == count_holding_steps(3, S)
    assert sorted(order.order) == [0, 1, 2] and order.kept.tolist() == [3, 2, 1, 0]
    mean = float(single.held_at[2, 0])
    held = {
        ("0", "2", "4")[layer]: (0.0, 1.0, mean)[hold] for layer, hold in zip(order.order, order.holds, strict=True)
    }
    rng = np.random.default_rng(0)
    judging = np.sort(np.array_split(rng.permutation(24), 2)[1])
    worse = np.stack([held_by_hand(denoiser, samples, s, held)[judging] for s in S[1:]])
    expected = loss(np.array(S[1:]), single.own[1:, judging], worse, "mse").total
    np.testing.assert_allclose(order.losses[-1], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(order.losses[0], 0, atol=1e-5)


def test_the_layer_that_matters_goes_last_and_is_enough(samples):
    denoiser = summed([0.0, 2.0, 1e-3, 0.0, 2e-3])
    _, single = found(denoiser, samples)
    *_, order = holding_order(denoiser, *samples, single, candidates=2)
    assert order.order[-1] == 1
    assert order.enough == 1
    assert order.losses[-1, 0] > 5 * np.abs(order.losses[:-1, 0]).max(), "all that is lost is lost with that layer"
    mean, low, high = order.losses.T
    assert (low <= mean + 1e-12).all() and (mean <= high + 1e-12).all()


def test_many_layers_take_few_steps(samples):
    denoiser = summed([0.0] * 9 + [2.0] + [0.0])
    _, single = found(denoiser, samples[:, :4])
    *steps, order = holding_order(denoiser, *samples[:, :4], single, candidates=2, steps=4)
    assert order.kept.tolist() == [11, 8, 5, 2, 0]
    assert len(steps) == count_holding_steps(11, S, 2, 4)
    assert sorted(order.order) == list(range(11))
    assert 9 in order.order[-2:] and order.enough == 2


def test_equal_sets_lose_nothing_and_no_number_is_enough(samples):
    denoiser = Denoiser(DPI(nn.Linear(3, 3)), FlowMatching())
    _, single = found(denoiser, samples)
    assert [row.total for layers in single.losses for row in layers] == [(0, 0, 0)] * len(HOLDS)
    *_, order = holding_order(denoiser, *samples, single)
    assert order.enough is None


def test_it_stops_when_it_is_no_longer_asked(denoiser, samples):
    work = pinned_errors(denoiser, *samples, S)
    next(work)
    work.close()
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in denoiser.net.modules())


def test_bad_input_is_refused_in_one_sentence(denoiser, samples):
    blind = Denoiser(Blind(nn.Linear(3, 3)), FlowMatching())
    with pytest.raises(ValueError, match="one parameter set"):
        next(pinned_errors(blind, *samples, S))
    _, single = found(denoiser, samples[:, :3])
    with pytest.raises(ValueError, match="3 samples were given.*at least 4"):
        next(holding_order(denoiser, *samples[:, :3], single))
    with pytest.raises(ValueError, match="0 candidates in 16 steps hold nothing"):
        next(holding_order(denoiser, *samples, single, candidates=0))
    with torch.no_grad():
        denoiser.net.flat1[0] = torch.nan
    with pytest.raises(ValueError, match="output at s = 0 is NaN or infinite"):
        list(pinned_errors(denoiser, *samples, S))
