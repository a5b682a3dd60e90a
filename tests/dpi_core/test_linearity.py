"""A scalar for every sample in one pass: what grouping gives, and only where that is certain."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils import _pytree as pytree

from dpi_core import DPI, SoftmaxSchedule, interpolation
from dpi_core.backbones import MLP, MLPConfig, UNet, UNetConfig
from dpi_core.flat_storage import Vacant
from dpi_core.linearity import Operator, Pass, PerSample, Plan

BATCH = 6
SCALARS = torch.tensor([0.3, 1.0, 0.0, 0.8, 0.55, 0.1], dtype=torch.float64)
closely = {"rtol": 1e-5, "atol": 1e-5}


class Every(nn.Module):
    """Every operator that one pass can answer, in 1 to 3 dimensions, without and with biases."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv1d(2, 4, 3, stride=2, bias=False), nn.ConvTranspose1d(4, 2, 3, stride=2)
        self.down2, self.up2 = nn.Conv2d(2, 4, 3, groups=2), nn.ConvTranspose2d(4, 2, 3, padding=1)
        self.down3, self.up3 = nn.Conv3d(1, 2, 2), nn.ConvTranspose3d(2, 1, 2)
        self.group, self.layer, self.rms = nn.GroupNorm(2, 4), nn.LayerNorm((7, 7)), nn.RMSNorm(7)
        self.linear = nn.Linear(7, 7, bias=False)

    def forward(self, x):
        x = self.up(self.down(x.flatten(2)).tanh()).unflatten(2, (7, 7))
        x = self.up2(self.group(self.down2(x)))[..., :7, :7]
        x = self.layer(F.pad(x, (0, 7 - x.shape[-1], 0, 7 - x.shape[-2])))
        x = self.up3(self.down3(x[:, None]))[:, 0]
        return self.rms(self.linear(x)), x.mean((1, 2, 3))


def unet():
    config = UNetConfig(base_channels=8, channel_multipliers=(1, 2), head_channels=8, norm_groups=4)
    return UNet(config), torch.randn(BATCH, 1, 7, 7)


CASES = {
    "unet": unet,
    "mlp": lambda: (MLP(MLPConfig(width=16, depth=3)), torch.randn(BATCH, 2)),
    "every operator": lambda: (Every(), torch.randn(BATCH, 2, 7, 7)),
    "tokens": lambda: (nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)), torch.randn(BATCH, 4, 5)),
}


def apart(backbone, **options):
    """DPI with sets that differ everywhere, zero weights included."""
    generator = torch.Generator().manual_seed(3)
    net = DPI(backbone, options.pop("schedule", SoftmaxSchedule(9, init_std=1.0, generator=generator)), **options)
    with torch.no_grad():
        for flat in (net.flat0, net.flat1):
            flat.add_(0.3 * torch.randn(flat.shape, generator=generator))
    return net


def always(monkeypatch, pays=True, grouped=False):
    monkeypatch.setattr(Plan, "pays", lambda self, *_: bool(self.meetings) and pays)
    monkeypatch.setattr(Operator, "groups", lambda self, *_: grouped)


WAYS = {"twice": False, "grouped": True}
ways = pytest.mark.parametrize("grouped", WAYS.values(), ids=WAYS)
ORDERS = {
    "one each": [0.3, 1.0, 0.0, 0.8, 0.55, 0.1],
    "as many of each": [0.3, 0.3, 0.0, 0.0, 0.8, 0.8],
    "as many of each, mixed": [0.3, 0.8, 0.8, 1.0, 0.3, 1.0],
    "more of one": [0.3, 0.3, 0.3, 0.8, 0.0, 0.0],
}
orders = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def passes(net):
    """How often the backbone is called, counted in the list that is returned."""
    calls, forward = [], net.backbone.forward
    net.backbone.forward = lambda *args, **kwargs: (calls.append(len(args[0])), forward(*args, **kwargs))[1]
    return calls


def outputs(network, *args):
    """What a network puts out, (b, n), also where that is a tuple."""
    out = network(*args)
    return torch.cat([part.flatten(1) if part.ndim > 1 else part[:, None] for part in pytree.tree_leaves(out)], 1)


def derivatives(net, x, s):
    flat = outputs(net, x, s)
    weights = torch.linspace(-1, 1, flat.numel()).view_as(flat)
    wanted = [net.flat0, net.flat1, net.schedule.phi, *(t for t in (x, s) if t.requires_grad)]
    return flat.detach(), torch.autograd.grad((flat * weights).sum(), wanted)


@ways
@orders
@pytest.mark.parametrize("scalars_learn", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_one_pass_is_what_the_groups_give_derivatives_included(case, scalars_learn, order, grouped, monkeypatch):
    backbone, x = CASES[case]()
    net, x = apart(backbone), x.requires_grad_()
    s = torch.tensor(order, dtype=torch.float64, requires_grad=scalars_learn)
    always(monkeypatch, pays=False)
    expected, expected_grads = derivatives(net, x, s)
    always(monkeypatch, grouped=grouped)
    net(x, s)  # its plan is made
    calls = passes(net)
    found, grads = derivatives(net, x, s)
    assert calls == [BATCH]
    assert_close(found, expected, **closely)
    for grad, other in zip(grads, expected_grads, strict=True):
        assert_close(grad, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@ways
@orders
@pytest.mark.parametrize("case", CASES)
def test_each_sample_is_that_of_its_own_materialised_network(case, order, grouped, monkeypatch):
    backbone, x = CASES[case]()
    net = apart(backbone)
    always(monkeypatch, grouped=grouped)
    with torch.no_grad():
        found = outputs(net, x, torch.tensor(order, dtype=torch.float64))
        alone = [outputs(net.materialize(s), x[i : i + 1]) for i, s in enumerate(order)]
    assert_close(found, torch.cat(alone), **closely)


def test_the_ends_of_linear_operators_are_exact_to_the_bit(monkeypatch):
    net, x = apart(nn.Linear(8, 8)), torch.randn(2, 8)
    always(monkeypatch)
    found = net(x, torch.tensor([0.0, 1.0]))
    for i in (0, 1):
        assert torch.equal(found[i], net.materialize(float(i))(x)[i])


@ways
@pytest.mark.parametrize("scope", ["*.weight", "*.bias"])
def test_a_scope_that_leaves_out_weights_or_biases(scope, grouped, monkeypatch):
    net, x = apart(unet()[0], scope=scope), torch.randn(BATCH, 1, 7, 7)
    always(monkeypatch, pays=False)
    expected = net(x, SCALARS)
    always(monkeypatch, grouped=grouped)
    assert_close(net(x, SCALARS), expected, **closely)


def test_biases_alone_need_no_operator_twice(monkeypatch):
    net = apart(nn.Linear(5, 5), scope="bias")
    always(monkeypatch)
    net(torch.randn(BATCH, 5), SCALARS)
    with torch.profiler.profile() as profile:
        net(torch.randn(BATCH, 5), SCALARS)
    called = [event for event in profile.events() if event.name == "aten::linear"]
    assert len(called) == 1


@ways
def test_groups_of_layers_follow_their_own_curves(grouped, monkeypatch):
    schedule = SoftmaxSchedule(9, n_groups=2, init_std=2.0, generator=torch.Generator().manual_seed(1))
    net = apart(MLP(MLPConfig(width=16, depth=3)), schedule=schedule, groups={"ends": ("head.*", "tail.*")})
    x = torch.randn(BATCH, 2)
    always(monkeypatch, pays=False)
    expected = net(x, SCALARS)
    always(monkeypatch, grouped=grouped)
    assert_close(net(x, SCALARS), expected, **closely)


# Where it must not be used ---------------------------------------------------------------------------------------


class TimeFirst(nn.Module):
    """Samples on the second axis inside."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 5)

    def forward(self, x):
        return self.linear(x.transpose(0, 1)).tanh().transpose(0, 1)


class Windows(nn.Module):
    """Samples and windows on one axis inside."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 5)

    def forward(self, x):
        return self.linear(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Arithmetic(nn.Module):
    """Parameters in arithmetic of its own; "a comparison" would be answered by identity if nobody stopped it."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.weight = kind, nn.Parameter(torch.randn(5))

    def forward(self, x):
        used = {
            "before": lambda: x * self.weight,
            "after": lambda: self.weight * 2,
            "attribute": lambda: self.weight.exp(),
        }
        used["comparison"] = lambda: (self.weight == 0).float() + x
        return x + used[self.kind]()


UNSURE = {
    "time first, as many steps as samples": (TimeFirst, BATCH),
    "windows": (Windows, 3),
    **{kind: (lambda kind=kind: Arithmetic(kind), 4) for kind in ("before", "after", "attribute", "comparison")},
    "recurrent": (lambda: First(nn.LSTM(5, 5, batch_first=True)), 4),
    "attention": (lambda: Attention(), 4),
    "batch normalisation": (lambda: nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(4)), 4),
}


class First(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(5, 1, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0]


@pytest.mark.parametrize("case", UNSURE)
def test_where_it_is_not_certain_every_scalar_has_its_pass(case, monkeypatch):
    build, steps = UNSURE[case]
    net, x = apart(build()).eval(), torch.randn(BATCH, steps, 5)
    always(monkeypatch)
    with torch.no_grad():
        expected = torch.cat([net.materialize(s)(x[i : i + 1]) for i, s in enumerate(SCALARS.tolist())])
        net(x, SCALARS)  # its plan is made
        calls = passes(net)
        found = net(x, SCALARS)
    assert len(calls) == len(SCALARS)
    assert_close(found, expected, **closely)


def test_an_observed_backbone_is_run_once_per_scalar(monkeypatch):
    net, seen = apart(nn.Sequential(nn.Linear(2, 2), nn.Tanh())), []
    always(monkeypatch)
    handle = net.backbone[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    net(torch.randn(BATCH, 2), SCALARS)
    assert seen == [1] * BATCH
    handle.remove()


def test_nothing_remains_after_an_unsupported_operator(monkeypatch):
    net = apart(Arithmetic("attribute"))
    always(monkeypatch)
    net(torch.randn(BATCH, 4, 5), SCALARS)
    assert not list(net.backbone.parameters()) and isinstance(net.backbone.weight, Vacant)


# What it costs ---------------------------------------------------------------------------------------------------


def test_it_is_used_where_many_small_passes_would_cost_more():
    small, x = apart(MLP(MLPConfig(width=16, depth=3))), torch.randn(64, 2)
    large, images = (
        apart(UNet(UNetConfig(base_channels=24, channel_multipliers=(1,), head_channels=8))),
        torch.randn(64, 1, 28, 28),
    )
    with torch.no_grad():
        for net, inputs in ((small, x), (large, images)):
            net(inputs, torch.linspace(0, 1, 64))
        few, many = passes(large), passes(small)
        large(images, torch.tensor([0.2, 0.7]).repeat(32))
        small(x, torch.linspace(0, 1, 64))
    assert few == [32, 32] and many == [64]


def test_a_weight_for_each_scalar_is_made_where_it_meets_many_positions():
    weights = Operator(28 * 28, 9 * 32 * 32, 9 * 32), Operator(7 * 7, 9 * 96 * 96, 9 * 96)
    assert [each.groups(1, "cpu") for each in weights] == [True, False]
    assert [each.groups(8, "cpu") for each in weights] == [True, True]
    assert not any(each.groups(64, "cuda") for each in weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert not weights[0]._replace(positions=14 * 14).groups(1, "cpu")
    assert weights[0]._replace(positions=14 * 14).groups(1, "cpu")


def test_weights_of_many_scalars_do_not_outgrow_the_outputs():
    wide = Operator(14 * 14, 9 * 256 * 256, 9 * 256)
    assert not wide.groups(1, "cpu") and wide.groups(4, "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_samples_change_places_only_where_operators_may_be_grouped(device, monkeypatch):
    """Elsewhere the order would be sent to the device, which a recorded step of training must not do."""
    monkeypatch.setattr(interpolation, "GROUPED_ON", device)
    net, x, seen = apart(nn.Linear(2, 2)), torch.randn(BATCH, 2), []
    forward = net.backbone.forward
    net.backbone.forward = lambda x: (seen.append(x), forward(x))[1]
    always(monkeypatch)
    net(x, torch.tensor([0.3, 0.3, 0.0, 0.0, 0.8, 0.8], dtype=torch.float64))
    assert torch.equal(seen[-1], x if device == "cuda" else x[[0, 2, 4, 1, 3, 5]])


def test_grouped_operators_run_once(monkeypatch):
    net, x = apart(nn.Conv2d(1, 4, 3, padding=1)), torch.randn(64, 1, 8, 8)
    s = torch.linspace(0, 1, 8, dtype=torch.float64).repeat(8)
    always(monkeypatch, grouped=True)
    net(x, s)
    with torch.profiler.profile(record_shapes=True) as profile:
        net(x, s)
    (call,) = (event for event in profile.events() if event.name == "aten::conv2d")
    assert call.input_shapes[0] == [8, 8, 8, 8] and call.input_shapes[1] == [32, 1, 3, 3]


def test_operators_are_counted_in_multiplications_of_a_sample():
    net = apart(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, stride=2), nn.ConvTranspose2d(4, 2, 2, stride=2)))
    net(torch.randn(BATCH, 1, 8, 8), SCALARS)
    (plan,) = net._plans.values()
    assert plan == Plan(2, (Operator(4 * 4, 4 * 9, 9), Operator(4 * 4, 4 * 2 * 4, 2 * 4)))


def test_a_parameter_per_sample_tells_its_form_and_nothing_else():
    parameter = PerSample(torch.zeros(3, 2), torch.ones(3, 2), torch.rand(4), Pass(4, 4))
    assert parameter.shape == (3, 2) and parameter.dtype == torch.float32
    assert not hasattr(parameter, "no_such_name")


@pytest.mark.parametrize("pays", [True, False], ids=["one pass", "one each"])
def test_scalars_that_are_said_to_stand_together_are_answered_the_same(pays, monkeypatch):
    always(monkeypatch, pays)
    net, x = apart(unet()[0]), unet()[1]
    s = torch.tensor([0.2, 0.2, 0.7, 0.7, 0.7, 0.9], dtype=torch.float64)
    expected = net(x, s)
    with net.in_stretches((2, 3, 1)):
        assert_close(net(x, s), expected, **closely)
        if not pays:
            with pytest.raises(ValueError, match="stretches of 6 samples in all do not make a batch of 5"):
                net(x[:5], s[:5])
    assert_close(net(x, s.flip(0)), torch.stack([net(x[i : i + 1], s[5 - i].item())[0] for i in range(6)]), **closely)
