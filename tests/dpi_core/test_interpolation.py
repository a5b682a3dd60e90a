"""DPI on networks it has never seen, against torch's own functional call, finite differences and each sample alone."""

import copy
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

import dpi_core
from dpi_core.flat_storage import Blend
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule, LambdaSchedule, ScalarRange, SoftmaxSchedule

SCALARS = torch.tensor([0.7, 1.0, 0.1, 0.7])  # sorting them is not its own inverse
IMAGES = torch.linspace(-1, 1, 4 * 2 * 8 * 8).sin().reshape(4, 2, 8, 8)
SEQUENCES = torch.linspace(-1, 3, 4 * 5 * 8).cos().reshape(4, 5, 8)
exactly = {"rtol": 0, "atol": 0}
closely = {"rtol": 1e-5, "atol": 1e-5}

# Foreign modules -------------------------------------------------------------------------------------------------


class TiedLanguageModel(nn.Module):
    """Token logits whose output layer shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.output = nn.Linear(6, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens):
        return self.output(self.embedding(tokens).tanh())


class DirectParameters(nn.Module):
    """Parameters on the module itself, in a list and in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(8))
        self.offset = nn.Parameter(torch.randn(()))
        self.steps = nn.ParameterList([nn.Parameter(torch.randn(8, 8)) for _ in range(2)])
        self.ends = nn.ParameterDict({"low": nn.Parameter(torch.randn(8)), "high": nn.Parameter(torch.randn(8))})

    def forward(self, x):
        for step in self.steps:
            x = (x @ step).tanh()
        return self.gain * x.clamp(-self.ends["low"].exp(), self.ends["high"].exp()) + self.offset


class FourierFilter(nn.Module):
    """A complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(2, 8, 5, dtype=torch.complex64))

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.filter, s=x.shape[-2:])


class Described(nn.Module):
    """A dict with a nested tuple, a number and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x, mask, *, scale=1.0):
        h = scale * self.layer(x)
        return {"kept": h * mask[:, None, None], "moments": (h.mean((1, 2)), h.transpose(0, 1)), "width": 8}


@dataclass
class Case:
    """A module, its inputs for four samples, and the axis of each output that counts samples."""

    build: Callable[[], nn.Module]
    x: Tensor
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    batch_dim: int = 0
    axes: tuple[int | None, ...] = (0,)

    def backbone(self) -> nn.Module:
        torch.manual_seed(1)
        backbone = self.build().eval()
        for buffer in backbone.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand(buffer.shape))
        return backbone

    def net(self, apart: float = 0.5) -> DPI:
        net = DPI(self.backbone(), SoftmaxSchedule(5), batch_dim=self.batch_dim).eval()
        net.separate(apart, torch.Generator().manual_seed(2))
        return net

    def run(self, module: nn.Module, *s: Any) -> Any:
        return module(self.x, *s, *self.args, **self.kwargs)

    def run_sample(self, module: nn.Module, i: int, s: float) -> Any:
        def only(value: Any) -> Any:
            return value.narrow(self.batch_dim, i, 1) if isinstance(value, Tensor) else value

        x, args, kwargs = pytree.tree_map(only, (self.x, self.args, self.kwargs))
        return module(x, s, *args, **kwargs)


def transformer_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)


def convolutions_with(*norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *norm, nn.GELU(), nn.Conv2d(4, 2, 3, padding=1))


def convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextModel

    return ConvNextModel(ConvNextConfig(num_channels=2, patch_size=2, num_stages=2, hidden_sizes=[4, 8], depths=[1, 1]))


def vision_transformer() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTModel(ViTConfig(image_size=8, patch_size=4, num_channels=2, **sizes))


def diffusers_unet() -> nn.Module:
    from diffusers import UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (4, 8), "layers_per_block": 1, "norm_num_groups": 2, "attention_head_dim": 4}
    return UNet2DModel(sample_size=8, in_channels=2, out_channels=2, **sizes, **blocks)


CASES = {
    "convolutions": Case(convolutions_with, IMAGES),
    "transposed": Case(lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Conv2d(3, 2, 2)), IMAGES),
    "batch norm": Case(lambda: convolutions_with(nn.BatchNorm2d(4)), IMAGES),
    "group norm": Case(lambda: convolutions_with(nn.GroupNorm(2, 4)), IMAGES),
    "plain group norm": Case(lambda: convolutions_with(nn.GroupNorm(2, 4, affine=False)), IMAGES),
    "instance norm": Case(lambda: convolutions_with(nn.InstanceNorm2d(4, affine=True)), IMAGES),
    "plain instance norm": Case(lambda: convolutions_with(nn.InstanceNorm2d(4)), IMAGES),
    "layer norm": Case(lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.PReLU()), SEQUENCES),
    "plain layer norm": Case(
        lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, elementwise_affine=False)), SEQUENCES
    ),
    "attention": Case(
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        SEQUENCES,
        (SEQUENCES[:, :3], SEQUENCES[:, :3]),
        axes=(0, 0),
    ),
    "transformer": Case(transformer_layer, SEQUENCES),
    "lstm": Case(lambda: nn.LSTM(8, 3, 2, batch_first=True), SEQUENCES, axes=(0, 1, 1)),
    "time-major gru": Case(
        lambda: nn.GRU(8, 3, bidirectional=True), SEQUENCES.transpose(0, 1), (torch.ones(2, 4, 3),), {}, 1, (1, 1)
    ),
    "tied": Case(TiedLanguageModel, torch.arange(20).reshape(4, 5) % 11),
    "direct": Case(DirectParameters, SEQUENCES),
    "complex": Case(FourierFilter, IMAGES),
    "weight norm": Case(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)), SEQUENCES),
    "dict": Case(Described, SEQUENCES, (torch.arange(4.0),), {"scale": 2.0}, axes=(0, 0, 1, None)),
    "convnext": Case(convnext, IMAGES, axes=(0, 0)),
    "vision transformer": Case(vision_transformer, IMAGES, kwargs={"output_hidden_states": True}, axes=(0, 0, 0, 0)),
    "diffusers unet": Case(diffusers_unet, IMAGES, (torch.tensor([1, 30, 500, 999]),)),
}
every_module = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_module
@torch.no_grad()
def test_equals_the_backbone_at_every_s_before_the_sets_separate(case):
    expected, net = case.run(case.backbone()), case.net(apart=0.0)
    for s in (0.0, 0.3, 1):
        assert_close(case.run(net, s), expected, **closely)
    assert_close(case.run(net, SCALARS), expected, **closely)
    theta = {name: p for name, p in case.backbone().named_parameters() if name in net.theta0}
    assert_close(net.effective_parameters(0.3), theta, **exactly)


@every_module
@torch.no_grad()
def test_a_batch_with_several_scalars_equals_each_sample_alone(case):
    net = case.net()
    alone = [pytree.tree_leaves(case.run_sample(net, i, s.item())) for i, s in enumerate(SCALARS)]
    together = pytree.tree_leaves(case.run(net, SCALARS))
    for leaf, parts, axis in zip(together, zip(*alone, strict=True), case.axes, strict=True):
        assert_close(leaf, parts[0] if axis is None else torch.cat(parts, axis), **closely)


@every_module
@torch.no_grad()
def test_equals_functional_call_with_parameters_interpolated_by_hand(case):
    net, backbone = case.net(), case.backbone()
    for s in (0.0, 0.4, 1.0):
        lam = net.lam(s).float()
        theta = {name: (1 - lam) * net.theta0[name] + lam * net.theta1[name] for name in net.theta0}
        assert_close(dict(net.effective_parameters(s)), theta, **closely)
        expected = torch.func.functional_call(backbone, theta, (case.x, *case.args), case.kwargs)
        assert_close(case.run(net, s), expected, **closely)


@every_module
@torch.no_grad()
def test_the_ends_are_the_two_sets_to_the_bit(case):
    net = case.net()
    assert_close(net.effective_parameters(0.0), net.theta0, **exactly)
    assert_close(net.effective_parameters(1.0), net.theta1, **exactly)


@every_module
@torch.no_grad()
def test_a_materialised_module_is_plain_and_computes_the_same(case):
    net, backbone = case.net(), case.backbone()
    plain = net.materialize(0.4)
    assert type(plain) is type(net.backbone)
    assert plain.state_dict().keys() == backbone.state_dict().keys()
    assert_close(dict(plain.named_buffers()), dict(backbone.named_buffers()), **exactly)
    expected = case.run(net, 0.4)
    assert_close(case.run(plain), expected, **closely)
    for parameter in plain.parameters():
        parameter.zero_()
    assert_close(case.run(net, 0.4), expected, **exactly)


@every_module
def test_gradients_of_a_mixed_batch_equal_those_of_samples_alone(case):
    def cubes(output: Any) -> Tensor:
        # Not squares: their sum is the same for whatever a layer norm puts out, and rounding is all of its gradient.
        leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        return torch.stack([leaf.pow(3).sum() for leaf in leaves]).sum()

    net, alone = case.net(), case.net()
    cubes(case.run(net, SCALARS)).backward()
    for i, s in enumerate(SCALARS):
        cubes(case.run_sample(alone, i, s.item())).backward()
    for (name, parameter), reference in zip(net.named_parameters(), alone.parameters(), strict=True):
        scale = reference.grad.abs().max().item()
        assert_close(parameter.grad, reference.grad, rtol=1e-4, atol=1e-4 * scale, msg=lambda m, n=name: f"{n}: {m}")


@every_module
def test_nothing_stays_in_the_backbone_after_a_forward(case):
    net, kept = case.net(), []
    hook = net.backbone.register_forward_pre_hook(
        lambda module, inputs: kept.extend(weakref.ref(p) for p in module._parameters.values() if p is not None)
    )
    case.run(net, SCALARS)
    hook.remove()
    assert not list(net.backbone.parameters())
    for module in net.backbone.modules():
        assert [w for w in getattr(module, "_flat_weights", ()) if w is not None] == []
    assert [ref for ref in kept if ref() is not None and ref().grad_fn is not None] == []


@every_module
def test_a_state_dict_goes_round(case):
    net, other = case.net(), case.net(apart=1.0)
    net.schedule.phi.data.normal_()
    other.load_state_dict(net.state_dict())
    assert_close(dict(other.state_dict()), dict(net.state_dict()), **exactly)
    with torch.no_grad():
        assert_close(case.run(other, 0.4), case.run(net, 0.4), **exactly)


# Gradients -------------------------------------------------------------------------------------------------------


def perceptron(**options: Any) -> DPI:
    """A small float64 network with sets apart and a bent curve."""
    torch.manual_seed(3)
    backbone = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    options = {"schedule": SoftmaxSchedule(6), **options}
    net = DPI(backbone, **options).double()
    net.separate(0.7, torch.Generator().manual_seed(4))
    for phi in net.schedule.parameters():
        phi.data = torch.randn(phi.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return net


POINTS = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


@pytest.mark.parametrize("s", [0.0, 0.3, 0.77, 1.0])
def test_gradients_are_those_of_the_effective_parameters_scaled(s):
    net = perceptron()
    net(POINTS, s).square().sum().backward()
    plain = net.materialize(s)
    plain(POINTS).square().sum().backward()
    g = torch.cat([p.grad.flatten() for p in plain.parameters()])
    lam = net.lam(s)
    (curve_grad,) = torch.autograd.grad(lam, net.schedule.phi)
    lam = lam.item()
    assert_close(net.flat0.grad, (1 - lam) * g)
    assert_close(net.flat1.grad, lam * g)
    assert_close(net.schedule.phi.grad, torch.dot(g, (net.flat1 - net.flat0).detach()) * curve_grad)


def test_the_curve_has_no_gradient_while_the_sets_are_equal():
    net = DPI(nn.Linear(3, 2), SoftmaxSchedule(6))
    net(torch.randn(4, 3), SCALARS).square().sum().backward()
    assert_close(net.schedule.phi.grad, torch.zeros(6), **exactly)
    assert net.flat0.grad.abs().min() > 0 and net.flat1.grad.abs().min() > 0


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_the_blend_passes_gradcheck_forwards_backwards_and_twice(generator):
    theta0, theta1 = (torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    lam = torch.rand(3, 2, generator=generator, dtype=torch.float64).requires_grad_()

    def blend(theta0, theta1, lam):
        return Blend.apply(theta0, theta1, lam, [3, 2], [])

    assert torch.autograd.gradcheck(blend, (theta0, theta1, lam), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(blend, (theta0, theta1, lam))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("s", [0.3, SCALARS.double()], ids=["one scalar", "several"])
def test_forward_mode_derivatives_equal_finite_differences(s):
    net, step = perceptron(), 1e-6
    values = {name: p.detach() for name, p in net.named_parameters()}
    tangents = {name: torch.linspace(-1, 2, p.numel(), dtype=torch.float64) for name, p in values.items()}

    def moved(by: float) -> Tensor:
        return torch.func.functional_call(net, {n: v + by * tangents[n] for n, v in values.items()}, (POINTS, s))

    with fwAD.dual_level():
        duals = {name: fwAD.make_dual(value, tangents[name]) for name, value in values.items()}
        derivative = fwAD.unpack_dual(torch.func.functional_call(net, duals, (POINTS, s))).tangent
    with torch.no_grad():
        assert_close(derivative, (moved(step) - moved(-step)) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("s", [torch.tensor(0.33), torch.tensor([0.1, 0.37, 0.37, 0.93])], ids=["one", "several"])
def test_the_output_is_differentiable_in_s(s):
    net, step = perceptron(), 1e-6
    s = s.double().requires_grad_()
    net(POINTS, s).square().sum().backward()
    with torch.no_grad():
        for i in range(s.numel()):
            nudge = step * torch.eye(s.numel(), dtype=torch.float64)[i].reshape(s.shape)
            up, down = (net(POINTS, s + way * nudge).square().sum() for way in (1, -1))
            assert_close(s.grad.flatten()[i], (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


# Scope, groups, units --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "inside"),
    [
        ("*", {"0.weight", "0.bias", "2.weight", "2.bias"}),
        ("*.bias", {"0.bias", "2.bias"}),
        (["2.*", "0.b*"], {"0.bias", "2.bias", "2.weight"}),
    ],
)
def test_what_is_outside_the_scope_keeps_one_set(scope, inside):
    backbone = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    n_inside = sum(p.numel() for name, p in backbone.named_parameters() if name in inside)
    n_all = sum(p.numel() for p in backbone.parameters())
    net = DPI(backbone, SoftmaxSchedule(7), scope=scope)
    assert set(net.theta0) == set(net.theta1) == inside
    assert sum(p.numel() for p in net.parameters()) == n_all + n_inside + 7
    net(torch.randn(4, 3), SCALARS).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@every_module
def test_there_are_two_sets_and_the_knots(case):
    count = sum(torch.view_as_real(p).numel() if p.is_complex() else p.numel() for p in case.backbone().parameters())
    assert sum(p.numel() for p in case.net().parameters()) == 2 * count + 5


def test_frozen_parameters_keep_one_set_and_stay_as_they_are():
    backbone = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    backbone[0].requires_grad_(False)
    before = backbone[0].weight.clone()
    net = DPI(backbone)
    net.separate(1.0, torch.Generator().manual_seed(0))
    assert set(net.theta0) == {"1.weight", "1.bias"}
    assert_close(net.backbone[0].weight.detach(), before, **exactly)
    assert not net.backbone[0].weight.requires_grad


def test_tied_parameters_are_one_entry_and_stay_tied():
    net = CASES["tied"].net()
    plain = net.materialize(0.4)
    assert list(net.theta0) == ["embedding.weight"]
    assert plain.output.weight is plain.embedding.weight


def test_buffers_are_kept_and_batch_statistics_still_learn():
    net = CASES["batch norm"].net().train()
    before = net.backbone[1].running_mean.clone()
    net(IMAGES, 0.3)
    expected = 0.9 * before + 0.1 * net.materialize(0.3)[0](IMAGES).mean((0, 2, 3))
    assert_close(net.backbone[1].running_mean, expected.detach(), **closely)
    assert net.backbone[1].num_batches_tracked == 1


def test_batch_statistics_of_several_scalars_warn_once():
    net = CASES["batch norm"].net().train()
    with pytest.warns(UserWarning, match="batch statistics"):
        net(IMAGES, SCALARS)
    net(IMAGES, SCALARS)
    net.eval()(IMAGES, SCALARS)


def test_normalisation_within_a_sample_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CASES["group norm"].net().train()(IMAGES, SCALARS)


def test_each_group_follows_its_own_curve():
    net = perceptron(schedule=SoftmaxSchedule(6, n_groups=2), groups={"last": "2.*"})
    lam = net.lam(0.4)
    assert net.group_names == ("last", "rest") and lam.shape == (2,)
    for name, theta in net.effective_parameters(0.4).items():
        group = 0 if name.startswith("2.") else 1
        assert_close(theta, torch.lerp(net.theta0[name], net.theta1[name], lam[group]))
    assert_close(net(POINTS, SCALARS)[3], net(POINTS[3:], 0.7)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "groups", "message"),
    [
        (SoftmaxSchedule(6), {"last": "2.*"}, "n_groups=None"),
        (SoftmaxSchedule(6, n_groups=3), {"last": "2.*"}, "pass n_groups=2"),
        (SoftmaxSchedule(6, n_groups=2), {"last": "2.*", "more": "9.*"}, "'more'.*holds no parameter"),
        (SoftmaxSchedule(6, n_groups=2), None, "no groups are given"),
    ],
)
def test_groups_that_do_not_fit_are_refused(schedule, groups, message):
    with pytest.raises(ValueError, match=message):
        perceptron(schedule=schedule, groups=groups)


@pytest.mark.parametrize(
    ("spacing", "value", "s"), [("linear", 3.5, 0.25), ("log", 4.0, 0.5), ("log", 8, 1.0), ("linear", 2, 0)]
)
def test_a_scalar_in_physical_units_is_mapped_to_the_unit_range(spacing, value, s):
    net, plain = perceptron(scalar=ScalarRange(2, 8, spacing=spacing)), perceptron()
    assert_close(net(POINTS, value), plain(POINTS, s))
    assert_close(net.lam(torch.tensor([[value, 2.0]])), plain.lam(torch.tensor([[s, 0.0]], dtype=torch.float64)))
    assert_close(net.scalar.from_unit(net.scalar.to_unit(value)).item(), float(value))


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_the_ends_of_a_range_are_reached_and_not_passed(spacing):
    for low, high in ((0.3, 0.9), (0.3, 50.0), (0.01, 0.7), (2.0, 8.0)):
        found = ScalarRange(low, high, spacing=spacing)
        assert found.from_unit(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([low, high], rel=1e-15)
        assert found.to_unit(found.from_unit(torch.tensor([0.0, 1.0]))).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("low", "high", "spacing", "message"),
    [(8, 2, "linear", "has to rise"), (-1, 2, "log", "needs a positive range"), (1, 2, "root", 'has to be "linear"')],
)
def test_a_range_that_makes_no_sense_is_refused(low, high, spacing, message, unchecked):
    with pytest.raises(ValueError, match=message):
        ScalarRange(low, high, spacing=spacing)


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("s", "message"),
    [
        (float("nan"), r"s = nan is not in \[0, 1\]; rescale"),
        (1.5, r"s = 1.5 is not in"),
        (-0.01, r"s = -0.01"),
        (torch.tensor([0.1, 0.2, 7.0, 0.3]), "s = 7 "),
        (torch.tensor([0.1, 0.2, float("nan"), 0.3]), "s = nan"),
        (torch.tensor([0.1, 0.2]), r"shape \(2,\).*\(4,\)"),
        (torch.full((4, 1), 0.5), r"shape \(4, 1\)"),
    ],
)
def test_a_bad_scalar_is_refused_with_its_value(s, message):
    net = perceptron()
    with pytest.raises(ValueError, match=message):
        net(POINTS, s)
    with pytest.raises(ValueError, match=r"s = 9 is not in \[2, 8\]"):
        perceptron(scalar=ScalarRange(2, 8))(POINTS, 9)


@pytest.mark.parametrize(
    ("backbone", "scope", "message"),
    [
        (
            nn.Linear(2, 2),
            "conv*",
            "scope 'conv\\*' matches no parameter; choose of the names here, which look like weight, bias",
        ),
        (nn.Linear(2, 2), (), "matches no parameter"),
        (nn.ReLU(), "*", "ReLU has no trainable parameter"),
        (nn.Linear(2, 2).requires_grad_(False), "*", "requires_grad_"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "*", "mix .*torch.float32, torch.float64"),
        (nn.Sequential(nn.LazyLinear(2)), "*", "'0.weight' is lazy"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_a_backbone_without_anything_to_interpolate_is_refused(backbone, scope, message):
    with pytest.raises(ValueError, match=message):
        DPI(backbone, scope=scope)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_a_traced_backbone_is_refused():
    traced = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    for backbone, message in (
        (traced, "the backbone is scripted"),
        (nn.Sequential(traced), "its part '0' is scripted"),
    ):
        with pytest.raises(ValueError, match=message):
            DPI(backbone)


def test_one_parameter_set_belongs_to_one_scalar():
    for method in (perceptron().effective_parameters, perceptron().materialize):
        with pytest.raises(ValueError, match="one parameter set belongs to one scalar"):
            method(torch.tensor([0.1, 0.2]))


class Summing(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(8, 8), kind

    def forward(self, x):
        return self.kind(self.layer(x).sum().detach())


@dataclass
class Wrapped:
    value: Tensor


@pytest.mark.parametrize(
    ("kind", "message"),
    [(torch.Tensor.clone, "no axis that counts the 4 samples"), (float, "type float"), (Wrapped, "type Wrapped")],
)
def test_an_output_that_cannot_be_put_together_is_refused(kind, message):
    net = Case(lambda: Summing(kind), SEQUENCES).net()
    net(SEQUENCES, 0.3)
    with pytest.raises(ValueError, match=message):
        net(SEQUENCES, SCALARS)


def test_an_empty_batch_gives_an_empty_output():
    assert_close(perceptron()(POINTS[:0], torch.zeros(0)), torch.zeros(0, 2, dtype=torch.float64))


class Failing(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        self.inner(x)
        raise RuntimeError("broken")


@pytest.mark.parametrize("inner", [nn.Linear(8, 8), nn.LSTM(8, 3)], ids=["linear", "recurrent"])
def test_places_are_empty_again_after_an_exception(inner):
    net = DPI(Failing(inner))
    for s in (0.3, SCALARS):
        with pytest.raises(RuntimeError, match="broken"):
            net(SEQUENCES, s)
        assert not list(net.backbone.parameters())
        assert [w for w in getattr(inner, "_flat_weights", ()) if w is not None] == []


class Checkpointed(nn.Module):
    """Calls its middle a second time in the backward pass."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.head, self.norm, self.tail = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.use_reentrant = use_reentrant

    def forward(self, x):
        return self.tail(checkpoint(lambda h: self.norm(h).tanh(), self.head(x), use_reentrant=self.use_reentrant))


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("scope", ["*", "*bias", "norm.*"])
@pytest.mark.parametrize("s", [0.3, SCALARS], ids=["one scalar", "several"])
def test_a_layer_that_is_called_after_the_network_gives_an_error_and_no_wrong_gradient(scope, use_reentrant, s):
    net = DPI(Checkpointed(use_reentrant), scope=scope)
    output = net(SEQUENCES, s)
    with pytest.raises(RuntimeError, match="checkpoint the network's whole call"):
        output.square().mean().backward()


def test_a_layer_at_rest_says_that_its_parameters_are_elsewhere():
    net = perceptron()
    layer = net.backbone[0]
    for use in (lambda: layer(POINTS), lambda: torch.ones(3) + layer.weight, lambda: layer.bias.data):
        with pytest.raises((RuntimeError, AttributeError), match="used outside the network's call"):
            use()
    assert layer.bias is not None and not hasattr(layer.bias, "data")
    assert copy.deepcopy(net)(POINTS, 0.3).shape == net(POINTS, 0.3).shape


class Counting(nn.Linear):
    """Counts its calls in a buffer, whichever mode it is in."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_what_a_network_counts_is_not_changed_by_trials():
    net = DPI(Counting()).eval()
    net(torch.randn(6, 8), torch.linspace(0, 1, 6))
    assert net.backbone.calls in (1, 6), "one pass, or one for each scalar"


# A module among modules ------------------------------------------------------------------------------------------


def test_loading_strictly_reports_what_is_missing_unknown_or_of_another_shape():
    good = perceptron().state_dict()
    missing = {key: value for key, value in good.items() if key != "theta1.0.bias"}
    for state, message in (
        (missing, "Missing key.*theta1.0.bias"),
        ({**good, "theta0.9.bias": torch.ones(1)}, "Unexpected key.*theta0.9.bias"),
        ({**good, "extra": torch.ones(1)}, "Unexpected key.*extra"),
        ({**good, "theta0.0.bias": torch.ones(7)}, r"theta0.0.bias has shape \(7,\), expected \(5,\)"),
    ):
        with pytest.raises(RuntimeError, match=f"(?s){message}"):
            perceptron().load_state_dict(state)
    report = perceptron().load_state_dict({**missing, "extra": torch.ones(1)}, strict=False)
    assert report.missing_keys == ["theta1.0.bias"] and report.unexpected_keys == ["extra"]


def test_loading_by_assignment_fills_a_network_that_was_built_on_no_device():
    state, filled = perceptron().state_dict(), perceptron()
    empty = perceptron()
    empty.flat0, empty.flat1 = (nn.Parameter(flat.detach().to("meta")) for flat in (empty.flat0, empty.flat1))
    empty.load_state_dict(state, assign=True)
    filled.load_state_dict(state)
    assert not empty.flat0.is_meta and isinstance(empty.flat1, nn.Parameter)
    assert_close(empty(POINTS, 0.3), filled(POINTS, 0.3))
    with pytest.raises(RuntimeError, match="Missing key.*theta1"):
        perceptron().load_state_dict({k: v for k, v in state.items() if not k.startswith("theta1")}, assign=True)


def test_inside_another_module_its_keys_carry_the_prefix_and_leave_siblings_alone():
    whole, other = (nn.ModuleDict({"net": perceptron(), "side": nn.Linear(2, 2)}) for _ in range(2))
    other["net"].separate(1.0, torch.Generator().manual_seed(9))
    other.load_state_dict(whole.state_dict())
    assert_close(dict(other.state_dict()), dict(whole.state_dict()), **exactly)
    assert {"net.theta0.0.weight", "net.schedule.phi", "side.bias"} <= set(whole.state_dict())


def test_a_deep_copy_is_independent():
    net = perceptron()
    expected = net(POINTS, 0.3)
    twin = copy.deepcopy(net)
    twin.separate(1.0, torch.Generator().manual_seed(9))
    assert_close(net(POINTS, 0.3), expected, **exactly)
    assert (twin(POINTS, 0.3) - expected).abs().max() > 0.1
    assert_close(copy.deepcopy(net)(POINTS, SCALARS), net(POINTS, SCALARS), **exactly)


@pytest.mark.parametrize("name", ["lstm", "tied", "complex", "batch norm"])
def test_precision_follows_to_but_the_curve_keeps_its_own(name):
    case = CASES[name]
    net, reference = case.net(), case.net()
    double = case.x.double() if case.x.is_floating_point() else case.x
    with torch.no_grad():
        expected = case.run(reference, 0.4)
        found = net.double()(double, 0.4)
        assert_close(found, pytree.tree_map(Tensor.double, expected), rtol=1e-4, atol=1e-5)
        assert_close(case.run(net.to(torch.float32), 0.4), expected, **exactly)
    assert net.half().schedule.phi.dtype == torch.float32


class Recorder(nn.Linear):
    """Remembers the weight objects it was run with."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.seen: list[Tensor] = []

    def forward(self, x):
        self.seen.append(self.weight)
        return super().forward(x)


@torch.no_grad()
def test_parameters_at_one_s_are_reused_until_something_changes():
    net, x = DPI(Recorder(), SoftmaxSchedule(6)), torch.randn(1, 3)
    net.separate(0.5, torch.Generator().manual_seed(0))
    seen = net.backbone.seen

    def run() -> bool:
        """Whether the parameters were those of the call before; they are right in any case."""
        net(x, 0.3)
        assert_close(seen[-1], net.effective_parameters(0.3)["weight"], **exactly)
        return len(seen) > 1 and seen[-1] is seen[-2]

    assert [run(), run()] == [False, True]
    with torch.enable_grad():
        net(x, 0.3).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert [run(), run()] == [False, True]
    net.load_state_dict({name: value + 0.1 for name, value in net.state_dict().items()})
    assert [run(), run()] == [False, True]
    net.schedule.phi.normal_()
    assert [run(), run()] == [False, True]
    net.double()
    x = x.double()
    assert [run(), run()] == [False, True]
    with net.using(FixedSchedule(0.25)):
        assert [run(), run()] == [False, True]
        assert_close(seen[-1], torch.lerp(net.theta0["weight"], net.theta1["weight"], 0.25), **exactly)
    assert run() is False


@torch.no_grad()
def test_the_memory_of_the_last_parameters_is_used_again_unless_somebody_holds_a_part_of_it():
    net, x = DPI(Recorder(), SoftmaxSchedule(6)), torch.randn(1, 3)
    net.separate(0.5, torch.Generator().manual_seed(0))
    seen = net.backbone.seen

    def address(s: float) -> int:
        net(x, s)
        return seen[-1].untyped_storage().data_ptr()

    first = address(0.2)
    seen.clear()
    assert address(0.3) == first
    kept = {0.3: seen.pop().detach()[1:]}  # a part, behind a view of its own
    assert address(0.4) != first
    kept[0.4] = seen.pop()
    with torch.enable_grad():
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        watched = x.clone().requires_grad_()
        total = net(watched, 0.5).sum()  # the graph holds its parameters
    seen.clear()
    for s in (0.6, 0.7):
        net(x, s)
    for s, part in kept.items():
        assert_close(part, net.effective_parameters(s)["weight"][-len(part) :], **exactly)
    assert_close(torch.autograd.grad(total, watched)[0], net.effective_parameters(0.5)["weight"].sum(0)[None])


class Constant(LambdaSchedule):
    """A user's curve that holds no tensor."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def table(self) -> Tensor:
        return torch.full((2,), self.value, dtype=torch.float64)


@torch.no_grad()
def test_a_curve_without_tensors_is_told_from_another():
    net = perceptron(schedule=Constant(0.0))
    for value in (0.0, 1.0):
        with net.using(Constant(value)):
            assert_close(net(POINTS, 0.5), net.materialize(0.5)(POINTS), **exactly)
    assert_close(net(POINTS, 0.5), net.materialize(0.5)(POINTS), **exactly)


def test_parameters_cached_in_inference_mode_do_no_harm_to_training():
    net = perceptron()
    with torch.inference_mode():
        net(POINTS, 0.3)
    with torch.no_grad():
        expected = net(POINTS, 0.3)
    found = net(POINTS, 0.3)
    found.sum().backward()
    assert_close(found.detach(), expected, **exactly)


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimiser_step_is_noticed_however_it_writes(fused):
    net = perceptron()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, fused=fused)
    for _ in range(3):
        net(POINTS, 0.3).square().mean().backward()
        optimiser.step()
        with torch.no_grad():
            assert_close(net(POINTS, 0.5), net.materialize(0.5)(POINTS), **exactly)
            assert_close(net.lam(0.5), copy.deepcopy(net.schedule)(0.5), **exactly)


@torch.no_grad()
def test_a_write_through_data_is_noticed():
    net = perceptron()
    net(POINTS, 0.5)
    for change in (
        lambda p: p.data.mul_(2),
        lambda p: p.data.copy_(torch.linspace(-1, 1, p.numel())),
        lambda p: setattr(p, "data", p.data * 2),
        lambda p: setattr(p, "data", p.data / 2),
    ):
        for parameter in net.parameters():
            change(parameter)
        assert_close(net(POINTS, 0.5), copy.deepcopy(net)(POINTS, 0.5), **exactly)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_derivatives_by_s_neither_use_nor_leave_kept_parameters():
    net = perceptron().requires_grad_(False)
    s, one = torch.tensor(0.5, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    expected = torch.func.jvp(lambda s: net(POINTS, s), (s,), (one,))[1]
    near = [net(POINTS, 0.5 + step) for step in (-1e-3, 1e-3)]
    assert_close(expected, (near[1] - near[0]) / 2e-3, rtol=1e-2, atol=1e-4)
    net(POINTS, 0.5)
    assert_close(torch.func.jvp(lambda s: net(POINTS, s), (s,), (one,))[1], expected, **exactly)
    assert_close(net(POINTS, 0.5), net.materialize(0.5)(POINTS), **exactly)


def test_the_curve_in_use_comes_back_after_an_exception():
    net = perceptron()
    learned = net.schedule
    with pytest.raises(RuntimeError, match="broken"), net.using(FixedSchedule(0.5)):
        raise RuntimeError("broken")
    assert net.schedule is learned


def test_separation_is_relative_to_each_parameter(generator):
    net = DPI(nn.Sequential(nn.Linear(100, 200), nn.Linear(200, 100)))
    before = {name: value.clone() for name, value in net.theta0.items()}
    net.separate(0.1, generator)
    for theta in (net.theta0, net.theta1):
        for name in ("0.weight", "1.weight"):
            move = (theta[name] - before[name]).square().mean().sqrt() / before[name].square().mean().sqrt()
            assert_close(move.item(), 0.1, rtol=0.03, atol=0)
    apart = net.theta1["0.weight"] - net.theta0["0.weight"]
    assert_close((apart.square().mean() / before["0.weight"].square().mean()).item(), 0.02, rtol=0.05, atol=0)


def test_a_materialised_module_compiles():
    plain = CASES["group norm"].net().materialize(0.4)
    assert_close(torch.compile(plain, backend="eager", fullgraph=True)(IMAGES), plain(IMAGES))


DDP_PROGRAM = """
import os, sys, torch, torch.distributed as dist
from torch import nn
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import SoftmaxSchedule
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
net = DPI(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), SoftmaxSchedule(6))
net.separate(0.5, torch.Generator().manual_seed(0))
parallel = nn.parallel.DistributedDataParallel(net)
x, s = torch.linspace(-1, 1, 12).reshape(4, 3), torch.tensor([0.1, 0.7, 0.1, 1.0])
mine = slice(2 * rank, 2 * rank + 2)
parallel(x[mine], s[mine]).square().mean().backward()
if rank == 0:
    shared = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net(x, s).square().mean().backward()
    for a, b in zip(shared, net.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # gloo's threads sometimes abort a process in which Python shuts down
"""


def test_two_processes_share_gradients(tmp_path):
    root = Path(dpi_core.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DDP_PROGRAM]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)


def test_a_curve_whose_table_is_its_own_buffer_is_noticed_when_it_changes():
    class Own(LambdaSchedule):
        def __init__(self):
            super().__init__()
            self.register_buffer("values", torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))

        def table(self):
            return self.values

    net = DPI(nn.Linear(3, 2), Own())
    net.separate(1.0, torch.Generator().manual_seed(0))
    x = torch.ones(1, 3)
    with torch.no_grad():
        before = net(x, 0.5)
        net.schedule.values[1] = 0.9
        assert_close(net(x, 0.5), net.materialize(0.5)(x), rtol=0, atol=0)
        assert not torch.equal(net(x, 0.5), before)
