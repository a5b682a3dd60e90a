"""One λ for each layer: exact at its ends, remembered without a difference, differentiated exactly, nothing left behind."""

import math

import pytest
import torch
from torch import nn

from dpi_core import DPI, SoftmaxSchedule
from dpi_core.analysis.layers import ByLayer, layer_index, layer_weights, layers_of
from dpi_core.conditioning import Blind


class Tied(nn.Module):
    """A layer called twice, one whose weight another uses, and a parameter of the network's own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.block = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.LayerNorm(3))
        self.unused = nn.Linear(3, 3, bias=False)
        self.shift = nn.Parameter(torch.ones(3))

    def forward(self, x):
        x = self.first(self.block(self.first(x)))
        return x @ self.unused.weight + self.shift


@pytest.fixture
def net(generator):
    net = DPI(Tied().double())
    net.separate(0.5, generator)
    return net


@pytest.fixture
def x(generator):
    return torch.randn(5, 3, generator=generator, dtype=torch.float64)


def brute_force(net, lam, x):
    """The backbone with every parameter blended by itself."""
    values = {name: torch.lerp(net.theta0[name], net.theta1[name], float(lam[name])) for name in net.theta0}
    plain = net.materialize(0.0)
    return torch.func.functional_call(plain, {name: value.detach() for name, value in values.items()}, (x,))


def test_layers_are_named_in_the_order_of_the_modules(net):
    assert [layer.name for layer in layers_of(net)] == [".", "first", "block.0", "block.2", "unused"]
    assert [layer.kind for layer in layers_of(net)] == ["Tied", "Linear", "Linear", "LayerNorm", "Linear"]
    assert sum(layer.numel for layer in layers_of(net)) == net.flat0.numel()
    assert layer_index(layers_of(net), "block.2") == 3
    assert [layer.name for layer in layers_of(Blind(Tied()))] == [layer.name for layer in layers_of(net)]


def test_both_ends_are_the_ends_of_the_network_to_the_bit(net, x):
    by_layer = ByLayer(net)
    for lam in (0.0, 1.0):
        by_layer.lam = by_layer.together(lam)
        assert torch.equal(by_layer(x, 0.3), net(x, lam))


def test_every_layer_stands_where_it_is_put(net, x, generator):
    by_layer = ByLayer(net)
    positions = torch.rand(len(by_layer.layers), generator=generator, dtype=torch.float64)
    by_layer.lam = by_layer.spread(positions)
    lam = {name: positions[i] for i, layer in enumerate(by_layer.layers) for name in layer.parameters}
    torch.testing.assert_close(by_layer(x, 0.0), brute_force(net, lam, x))
    torch.testing.assert_close(by_layer.gather(by_layer.lam), positions)


def test_with_groups_every_parameter_follows_its_own_curve(x, generator):
    schedule = SoftmaxSchedule(8, n_groups=2, init_std=2.0, generator=generator)
    net = DPI(Tied().double(), schedule, groups={"biases": "*.bias"})
    net.separate(0.5, generator)
    by_layer = ByLayer(net)
    by_layer.lam = by_layer.learned(0.6)
    torch.testing.assert_close(by_layer(x, 0.0), net(x, 0.6))
    at_start = by_layer.together(0.0)
    by_layer.lam = by_layer.hold(by_layer.lam, 1, at_start)
    biases, rest = net.lam(0.6).tolist()
    lam = {name: biases if name.endswith("bias") else rest for name in net.theta0}
    torch.testing.assert_close(by_layer(x, 0.0), brute_force(net, lam | {"first.weight": 0, "first.bias": 0}, x))


def test_remembered_runs_give_the_same_and_call_less(net, x, generator):
    calls = []
    net.backbone.block[0].register_forward_hook(lambda *_: calls.append(1))
    original = net.backbone.block[0].forward
    computed = []
    net.backbone.block[0].forward = lambda values: computed.append(1) or original(values)
    by_layer = ByLayer(net)
    cases = [by_layer.spread(torch.rand(5, generator=generator, dtype=torch.float64)) for _ in range(4)]
    for layer in (4, 3, 2, 1, 0):
        cases.append(by_layer.hold(cases[-1], layer, by_layer.together(1.0)))
    expected = []
    for lam in cases:
        by_layer.lam = lam
        expected.append(by_layer(x, 0.0))
    computed.clear()
    with torch.no_grad(), by_layer.remembering():
        for lam, value in zip(cases, expected, strict=True):
            by_layer.lam = lam
            assert torch.equal(by_layer(x, 0.0), value)
        other = by_layer(2 * x, 0.0)
    assert torch.equal(by_layer(2 * x, 0.0), other) and not torch.equal(other, expected[-1])
    assert 5 <= len(computed) < len(cases) + 2


class TiedAutoencoder(nn.Module):
    """Its decoder's weight is used before its decoder is called."""

    def __init__(self):
        super().__init__()
        self.middle, self.decoder = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.decoder(torch.tanh(self.middle(x @ self.decoder.weight)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_a_weight_that_is_used_before_its_layer_is_called_is_remembered_right():
    torch.manual_seed(0)
    net = DPI(TiedAutoencoder()).double()
    net.separate(0.7, torch.Generator().manual_seed(1))
    x, by_layer = torch.randn(5, 3, dtype=torch.float64), ByLayer(net)
    start = by_layer.together(0.3)
    cases = [start, *(by_layer.hold(start, layer, by_layer.together(1.0)) for layer in range(len(by_layer.layers)))]
    with torch.no_grad():
        for lam in cases:
            by_layer.lam = lam
            expected = by_layer(x, 0.0)
            tangents = [by_layer.tangent(layer, lambda: by_layer(x, 0.0)) for layer in range(len(by_layer.layers))]
            with by_layer.remembering():
                by_layer.lam = start
                by_layer(x, 0.0)
                by_layer.lam = lam
                torch.testing.assert_close(by_layer(x, 0.0), expected, rtol=0, atol=0)
                for layer, tangent in enumerate(tangents):
                    torch.testing.assert_close(by_layer.tangent(layer, lambda: by_layer(x, 0.0)), tangent)


def fingerprint(module):
    return [
        (path, sorted(child.__dict__), len(child._forward_hooks), len(child._forward_pre_hooks), child.training)
        for path, child in module.named_modules()
    ]


def test_nothing_is_left_behind_also_after_an_exception(net, x):
    before = fingerprint(net)
    by_layer = ByLayer(net)
    with torch.no_grad(), by_layer.remembering():
        by_layer(x, 0.0)
        assert fingerprint(net) == before
        with pytest.raises(RuntimeError):
            by_layer(x[:, :2], 0.0)
        assert fingerprint(net) == before
        with pytest.raises(ZeroDivisionError):
            by_layer.tangent(0, lambda: 1 / 0)
        torch.testing.assert_close(by_layer(x, 0.0), net(x, 0.0))
    assert fingerprint(net) == before
    assert not torch.autograd.forward_ad._current_level >= 0


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("remembers", [False, True])
def test_the_derivative_along_a_layer_is_the_central_difference(net, x, remembers):
    by_layer = ByLayer(net)
    here = by_layer.learned(0.4)
    total = 0

    def at(shift):
        by_layer.lam = here + by_layer.spread(shift)
        return by_layer(x, 0.0)

    def tangents():
        by_layer.lam = here
        if remembers:
            by_layer(x, 0.0)
        return [by_layer.tangent(layer, lambda: by_layer(x, 0.0)) for layer in (*range(5), None)]

    if remembers:
        with torch.no_grad(), by_layer.remembering():
            found = tangents()
    else:
        found = tangents()
    for layer, (value, tangent) in enumerate(found):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[layer if layer < 5 else slice(None)] = 1e-6
        with torch.no_grad():
            torch.testing.assert_close(tangent, (at(shift) - at(-shift)) / 2e-6, rtol=1e-6, atol=1e-8)
            torch.testing.assert_close(value, at(0 * shift))
        total = total + tangent if layer < 5 else total
    torch.testing.assert_close(total, found[-1][1])


def test_bad_input_is_refused_in_one_sentence(net, x):
    by_layer = ByLayer(net)
    for bad in (1.2, -0.1, math.nan):
        by_layer.lam = torch.full_like(by_layer.lam, bad)
        with pytest.raises(ValueError, match=r"λ = .* is not in \[0, 1\]"):
            by_layer(x, 0.0)
        with pytest.raises(ValueError, match=r"λ = .* is not in \[0, 1\]"):
            by_layer.together(bad)
    with pytest.raises(ValueError, match="there is no layer 'nowhere'; layers here are named like"):
        layer_index(by_layer.layers, "nowhere")
    with pytest.raises(ValueError, match="one parameter set"):
        ByLayer(Blind(nn.Linear(2, 2)))
    with torch.no_grad():
        net.theta1["first.bias"][0] = torch.nan
    with pytest.raises(ValueError, match="the weight 'bias' of first holds NaN"):
        layer_weights(net, by_layer.layers[1])
