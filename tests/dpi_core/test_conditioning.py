"""Every conditioning under one contract, each held against a network that was written for it."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from dpi_core.analysis.denoising import decoupled
from dpi_core.backbones import BACKBONES, DnCNNConfig, DRUNetConfig, MLPConfig, UNetConfig
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.conditioning import ConditioningConfig, EmbeddingConfig, ScheduleConfig
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import ScalarRange
from dpi_core.noise_processes import AWGN, FlowMatching, VEDiffusion, VPDiffusion
from dpi_core.one_set import Blind, Embedding, InputMap, OneSet, fourier_features
from dpi_core.operators import linear_operators, norms
from dpi_core.seeds import seeded_generator
from dpi_core.training import train

KINDS = ("dpi", "none", "blind", "input_map", "embedding", "rescaling")
SCALARS = (0.0, 0.25, 1.0)
SHAPES = {"mlp": (2,), "unet": (1, 8, 8), "drunet": (1, 8, 8), "dncnn": (1, 8, 8)}
CONFIGS = {
    "mlp": MLPConfig(width=8, depth=3),
    "unet": UNetConfig(base_channels=8, channel_multipliers=(1, 2), head_channels=8),
    "drunet": DRUNetConfig(channels=(4, 8), blocks=1),
    "dncnn": DnCNNConfig(channels=8, depth=4),
}
exactly = {"rtol": 0, "atol": 0}
every_backbone = pytest.mark.parametrize("name", CONFIGS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def recipe(kind="dpi", backbone="mlp", process=None, **training):
    base = recipe_from_dict(
        {
            "name": "test",
            "data": {"kind": "ring_mixture"},
            "shape": list(SHAPES[backbone]),
            "process": {"kind": "vp"},
            "backbone": {"kind": "mlp"},
            "conditioning": {"kind": kind},
            "training": {"steps": 6, "batch_size": 16, "log_every": 1, **training},
            "sampling": {},
        }
    )
    return dataclasses.replace(base, backbone=CONFIGS[backbone], process=process or VPDiffusion())


def scattered(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every parameter drawn at random, those that start at zero among them."""
    generator = seeded_generator(seed)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return net.eval()


def inputs(name: str, n: int = 3) -> torch.Tensor:
    return torch.randn(n, *SHAPES[name], generator=seeded_generator(1))


def backbone(name: str, **changes) -> nn.Module:
    return BACKBONES[name][1](dataclasses.replace(CONFIGS[name], **changes))


# The contract ----------------------------------------------------------------------------------------------------


@every_kind
@every_backbone
@torch.no_grad()
def test_a_batch_with_several_scalars_is_each_sample_at_its_own(name, kind):
    net, x = scattered(build_denoiser(recipe(kind, name)).net).double(), inputs(name).double()
    single = torch.cat([net(row[None], s) for row, s in zip(x, SCALARS, strict=True)])
    assert_close(net(x, torch.tensor(SCALARS).double()), single, rtol=1e-5, atol=1e-9)
    assert_close(net(x, 0.25), net(x, torch.tensor([0.25] * 3).double()), rtol=1e-5, atol=1e-9)
    moved = (net(x, 0.3) - net(x, 0.9)).abs().max().item()
    assert moved > 1e-3 if kind in ("dpi", "input_map", "embedding") else moved == 0


@every_kind
@torch.no_grad()
def test_a_scalar_is_checked_whether_it_is_used_or_not(kind):
    net = build_denoiser(recipe(kind)).net
    with pytest.raises(ValueError, match=r"s = 1.5 is not in \[0, 1\]"):
        net(torch.zeros(3, 2), 1.5)
    with pytest.raises(ValueError, match=r"s has shape \(2,\), but has to have shape \(\) or \(3,\)"):
        net(torch.zeros(3, 2), torch.tensor([0.1, 0.2]))


@every_backbone
@torch.no_grad()
def test_all_start_as_the_network_without_conditioning(name):
    plain = build_denoiser(recipe("none", name)).net
    for kind in KINDS:
        net = build_denoiser(recipe(kind, name)).net
        for s in SCALARS:
            assert_close(net(inputs(name), s), plain(inputs(name), s), rtol=1e-5, atol=1e-6)
        own = net.theta0 if isinstance(net, DPI) else dict(net.backbone.named_parameters())
        for key, value in plain.backbone.named_parameters():
            same = own[key].narrow(1, 0, value.shape[1]) if own[key].shape != value.shape else own[key]
            assert_close(same, value, **exactly)


class Recorded:
    """Data that remember what was drawn from them."""

    def __init__(self) -> None:
        self.seen = []

    def batch(self, n, generator):
        self.seen.append(torch.randn(n, 2, generator=generator))
        return self.seen[-1]


def test_configs_differ_in_their_conditioning_alone():
    # With the same target and without learning all are one network, so equal losses mean equal data, noise and scalars.
    losses, seen = {}, {}
    for kind in ("dpi", "none", "input_map", "embedding"):
        config, data = recipe(kind, learning_rate=0.0, phi_learning_rate=0.0), Recorded()
        losses[kind] = [log.loss for log in train(build_denoiser(config), data, config.training)]
        seen[kind] = torch.stack(data.seen)
    for kind in losses:
        assert_close(losses[kind], losses["none"], rtol=1e-5, atol=0)
        assert_close(seen[kind], seen["none"], **exactly)


@every_kind
def test_what_is_trained_depends_on_the_scalar_where_it_can(kind):
    config = recipe(kind, learning_rate=1e-2, warmup_steps=0, steps=8)
    denoiser = build_denoiser(config)
    for _ in train(denoiser, Recorded(), config.training):
        pass
    with torch.no_grad():
        moved = (denoiser.net(inputs("mlp"), 0.2) - denoiser.net(inputs("mlp"), 0.8)).abs().max().item()
    assert moved > 1e-4 if kind in ("dpi", "input_map", "embedding") else moved == 0


# s at the input --------------------------------------------------------------------------------------------------


@every_backbone
@torch.no_grad()
def test_an_input_map_is_the_backbone_with_one_more_input(name):
    field = "in_features" if name == "mlp" else "in_channels"
    wider = backbone(name, **{field: getattr(CONFIGS[name], field) + 1})
    net = InputMap(backbone(name))
    scattered(net)
    wider.load_state_dict(net.backbone.state_dict())
    x, s = inputs(name), torch.tensor(SCALARS)
    extra = s[:, None] if name == "mlp" else s[:, None, None, None].expand(-1, 1, 8, 8)
    assert_close(net(x, s), wider.eval()(torch.cat([x, extra], dim=1)), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_an_input_map_feeds_transposed_convolutions_and_sequences():
    transposed = scattered(InputMap(nn.ConvTranspose2d(3, 5, 3, stride=2)))
    x, s = torch.randn(2, 3, 4, 4), torch.tensor([0.2, 0.7])
    whole = torch.cat([x, s[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
    expected = F.conv_transpose2d(whole, transposed.backbone.weight, transposed.backbone.bias, stride=2)
    assert_close(transposed(x, s), expected)
    sequences = scattered(InputMap(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))))
    x = torch.randn(2, 5, 3)
    wide = torch.cat([x, s[:, None, None].expand(-1, 5, 1)], dim=-1)
    assert_close(
        sequences(x, s), sequences.backbone[2](torch.tanh(F.linear(wide, *sequences.backbone[0].parameters())))
    )


def test_an_input_map_enters_where_it_is_told_to():
    net = InputMap(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)), operator="2")
    assert net.backbone[0].in_features == 2 and net.backbone[2].in_features == 5
    assert net(torch.zeros(3, 2), 0.5).shape == (3, 2)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (nn.Sequential(nn.ReLU()), {}, "Sequential has no linear layer or convolution .* use DPI"),
        (nn.LSTM(2, 3), {}, "LSTM has no linear layer"),
        (nn.Conv2d(4, 4, 3, groups=2), {}, "'' cannot take s as one more input, because it is grouped"),
        (Tied(), {}, "'a' cannot take s .* shared"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), {}, "'' cannot take s .* computed from others"),
        (nn.Linear(2, 2), {"operator": "first"}, "'first' is no linear layer or convolution of Linear"),
    ],
)
def test_an_operator_that_cannot_take_one_more_input_is_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        InputMap(network, **options)


class Unused(nn.Module):
    """Reads a weight without calling its layer."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)

    def forward(self, x):
        return x @ self.layer.weight[:, : x.shape[1]]


@pytest.mark.parametrize("make", [InputMap, Embedding])
def test_a_scalar_that_did_not_reach_the_network_is_an_error(make):
    with pytest.raises(ValueError, match=f"Unused did not call the layers through which {make.__name__} feeds s"):
        make(Unused())(torch.zeros(3, 2), 0.5)


# s as an embedding -----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_normalisations_are_scaled_and_shifted():
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 1, 3, padding=1))
    net, x, s = scattered(Embedding(body, n_features=8, width=6)), torch.randn(2, 1, 5, 5), torch.tensor([0.2, 0.7])
    angles = s[:, None] * 1000 * 10000 ** -(torch.arange(4) / 4)
    hidden = net.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))
    scale, shift = net.heads(hidden)[..., None, None].chunk(2, dim=1)
    expected = body[3](F.silu(body[1](body[0](x)) * (1 + scale) + shift))
    assert_close(net(x, s), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_normalisations_every_hidden_operator_is():
    net = scattered(Embedding(backbone("mlp"), n_features=8, width=6))
    assert net.layers == ["head", "hidden.0", "hidden.1"]
    x, s = inputs("mlp"), torch.tensor(SCALARS)
    pieces = net.heads(net.mlp(fourier_features(s, 8))).split(8, dim=1)
    first, second, third = zip(pieces[::2], pieces[1::2], strict=True)
    h = F.silu(net.backbone.head(x) * (1 + first[0]) + first[1])
    for layer, (scale, shift) in zip(net.backbone.hidden, (second, third), strict=True):
        h = h + F.silu(layer(h) * (1 + scale) + shift)
    assert_close(net(x, s), net.backbone.tail(h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), [("drunet", {}), ("dncnn", {"bias": False})])
@torch.no_grad()
def test_a_network_without_biases_keeps_its_homogeneity(name, changes):
    net, x = scattered(Embedding(backbone(name, **changes))).double(), inputs(name).double()
    assert net.parts == 1 and len(net.layers) == len(linear_operators(net.backbone)) - 1
    assert_close(net(3 * x, 0.4), 3 * net(x, 0.4), rtol=1e-9, atol=1e-9)
    assert (net(x, 0.4) - net(x, 0.6)).abs().max() > 1e-3


def test_the_unet_is_modulated_where_adm_does_it():
    net = Embedding(backbone("unet"))
    assert len(net.layers) > 3 and all(path.endswith(".norm2") for path in net.layers)
    assert sum(path.endswith("norm2") for path in norms(net.backbone)) == len(net.layers)
    assert Embedding(backbone("dncnn", batch_norm=True)).layers == ["noise.3", "noise.6"]


def test_the_features_tell_scalars_apart_at_every_scale():
    s = torch.linspace(0, 1, 1001, dtype=torch.float64)
    features = fourier_features(s, 64)
    gaps = torch.cdist(features, features) + torch.eye(1001) * 10
    assert gaps.min() > 0.1
    assert_close(features[:, :32].square() + features[:, 32:].square(), torch.ones(1001, 32, dtype=torch.float64))


class TwoStage(nn.Module):
    """Folds a sequence into the batch, so that a layer sees more samples than there are scalars."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x.flatten(0, 1))).unflatten(0, x.shape[:2])


@torch.no_grad()
def test_foreign_networks_are_conditioned_or_refused():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x, s = torch.randn(3, 5, 8), torch.tensor(SCALARS)
    for make in (InputMap, Embedding):
        net = scattered(make(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)))
        assert_close(
            net(x, s), torch.cat([net(row[None], v) for row, v in zip(x, s, strict=True)]), atol=1e-5, rtol=1e-4
        )
        assert (net(x, 0.1) - net(x, 0.9)).abs().max() > 1e-3
    assert Embedding(encoder).layers == ["norm1", "norm2"]
    with pytest.raises(ValueError, match="LSTM has no hidden layer that an embedding could scale and shift; use DPI"):
        Embedding(nn.LSTM(2, 3))
    with pytest.raises(ValueError, match="Linear has no hidden layer"):
        Embedding(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"has no layer like 'no\*'"):
        Embedding(backbone("mlp"), layers="no*")
    assert Embedding(TwoStage())(torch.zeros(3, 5, 2), 0.5).shape == (3, 5, 2)
    with pytest.raises(ValueError, match="sees 15 samples, but s has 3 values; pass one scalar, or use DPI"):
        Embedding(TwoStage())(torch.zeros(3, 5, 2), s)


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        raise RuntimeError(f"hooks: {len(self.first._forward_hooks) + len(self.first._forward_pre_hooks)}")


@pytest.mark.parametrize("make", [InputMap, Embedding])
def test_nothing_stays_attached_after_an_exception(make):
    net = make(Failing())
    with pytest.raises(RuntimeError, match="hooks: 1"):
        net(torch.zeros(3, 2), 0.5)
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


# What nothing in the network knows -------------------------------------------------------------------------------


@torch.no_grad()
def test_the_blind_network_is_the_estimate_itself():
    for process in (VPDiffusion(), FlowMatching(), AWGN()):
        denoiser = build_denoiser(recipe("blind", process=process))
        x = inputs("mlp")
        for s in SCALARS:
            assert_close(denoiser(x, s), denoiser.net.backbone(x), **exactly)


@torch.no_grad()
def test_rescaling_divides_a_blind_prediction_by_the_noise_level():
    for process in (VPDiffusion(), AWGN()):
        denoiser, x = build_denoiser(recipe("rescaling", process=process)), inputs("mlp")
        for s in (0.2, 0.7):
            sigma = process.coefficients(s).sigma.item()
            assert_close(denoiser.predict(x, s).score, -denoiser.net.backbone(x) / sigma, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "process", "message"),
    [
        (
            "rescaling",
            FlowMatching(),
            "'rescaling' needs a network that predicts eps, but with FlowMatching it predicts velocity or x0",
        ),
        (
            "rescaling",
            VEDiffusion(),
            "'rescaling' needs a network that predicts eps, but with VEDiffusion it predicts edm",
        ),
        ("blind", VEDiffusion(), "'blind' needs a network that predicts x0, but with VEDiffusion it predicts edm"),
    ],
)
def test_a_process_without_the_prediction_is_refused(kind, process, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_denoiser(recipe(kind, process=process))
    assert "\n" not in str(caught.value)


# DPI's scopes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("mlp", "first_last", {"head.weight", "head.bias", "tail.weight", "tail.bias"}),
        ("mlp", "biases", {"head.bias", "hidden.0.bias", "hidden.1.bias", "tail.bias"}),
        ("drunet", "first_last", {"head.weight", "tail.weight"}),
    ],
)
def test_scopes_by_name_hold_what_they_say(name, scope, expected):
    config = dataclasses.replace(recipe("dpi", name), conditioning=ConditioningConfig(scope=scope))
    assert set(build_denoiser(config).net.theta0) == expected


def test_scopes_of_a_network_with_normalisations():
    found = {}
    for scope in ("all", "first_last", "norms", "biases"):
        config = dataclasses.replace(recipe("dpi", "unet"), conditioning=ConditioningConfig(scope=scope))
        found[scope] = set(build_denoiser(config).net.theta0)
    names = {name for name, _ in backbone("unet").named_parameters()}
    assert found["all"] == names
    assert found["first_last"] == {"head.weight", "head.bias", "tail.2.weight", "tail.2.bias"}
    assert found["norms"] == {name for name in names if ".norm" in name or name.startswith("tail.0")}
    assert found["biases"] == {name for name in names if name.endswith("bias")}
    assert 0 < len(found["norms"]) < len(names)


def test_a_scope_that_the_network_does_not_have_is_refused():
    for name, scope in (("mlp", "norms"), ("drunet", "biases")):
        config = dataclasses.replace(recipe("dpi", name), conditioning=ConditioningConfig(scope=scope))
        with pytest.raises(ValueError, match=f"has no parameters in the scope '{scope}'; choose another scope"):
            build_denoiser(config)


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        ("none", {"scope": "*.weight"}, "scope"),
        ("embedding", {"schedule": ScheduleConfig("linear")}, "schedule"),
        ("rescaling", {"scalar": ScalarRange(1.0, 2.0)}, "scalar"),
        ("dpi", {"embedding": EmbeddingConfig(8, 8)}, "embedding"),
    ],
)
def test_a_key_without_effect_is_refused(kind, options, key):
    with pytest.raises(ValueError, match=f"conditioning.{key} is set, but is without effect for the kind '{kind}'"):
        ConditioningConfig(kind, **options)


def test_a_fixed_curve_is_what_its_config_says():
    configs = [
        ScheduleConfig("table", values=(0.2, 0.9, 0.4)),
        ScheduleConfig("linear"),
        ScheduleConfig("constant", value=0.3),
    ]
    built = [
        build_denoiser(dataclasses.replace(recipe("dpi"), conditioning=ConditioningConfig(schedule=each))).net
        for each in configs
    ]
    s = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    expected = ([0.2, 0.55, 0.9, 0.4], s.tolist(), [0.3] * 4)
    for net, curve in zip(built, expected, strict=True):
        torch.testing.assert_close(net.lam(s), torch.tensor(curve, dtype=torch.float64))
        assert not list(net.schedule.parameters())
    for kind, values in (("table", ()), ("linear", (0.0, 1.0))):
        with pytest.raises(ValueError, match=f"'{kind}' with {len(values)} values; give values for a table"):
            ScheduleConfig(kind, values=values)


@pytest.mark.parametrize("make", [Blind, InputMap, Embedding])
def test_what_needs_two_sets_says_so_in_one_sentence(make):
    net: OneSet = make(backbone("mlp"))
    with pytest.raises(ValueError, match=f"^{make.__name__} has one parameter set, .*choose a DPI model.$"):
        net.materialize(0.3)
    denoiser = build_denoiser(recipe("none"))
    denoiser.net = net
    with pytest.raises(ValueError, match=f"^{make.__name__} has one parameter set, .*choose a DPI model.$"):
        next(decoupled(denoiser, torch.zeros(2, 2), torch.zeros(2, 2), [0.5], [0.5]))
    assert denoiser.lam(0.3) is None


def test_an_odd_number_of_features_and_no_width_are_refused():
    with pytest.raises(ValueError, match="n_features is 7, but has to be even and at least 2"):
        Embedding(backbone("mlp"), n_features=7)
    with pytest.raises(ValueError, match="width is 0, but has to be at least 1"):
        Embedding(backbone("mlp"), width=0)
    assert math.isclose(fourier_features(torch.tensor(0.5), 2)[1].item(), math.sin(500), abs_tol=1e-4)
