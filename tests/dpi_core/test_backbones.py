"""The networks that take no scalar: their algebra, any image size, and configs that cannot be built."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpi_core.backbones import (
    BACKBONES,
    MLP,
    DnCNN,
    DnCNNConfig,
    DRUNet,
    DRUNetConfig,
    MLPConfig,
    UNet,
    UNetConfig,
)
from dpi_core.backbones.drunet import pad_to_multiple
from dpi_core.backbones.unet import ResidualBlock, SelfAttention
from dpi_core.config import from_dict, to_dict

SMALL_UNET = UNetConfig(base_channels=8, norm_groups=2, head_channels=4, attention_levels=(1, 2), blocks_per_level=2)
SMALL_DRUNET = DRUNetConfig(channels=(4, 8, 8, 8), blocks=1)
SMALL_DNCNN = DnCNNConfig(channels=8, depth=4)
ODD_SIZES = [(28, 28), (7, 7), (13, 9), (1, 5), (1, 1), (32, 3)]


def images(height, width, channels=1, batch=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=dtype)


def randomised(net):
    """The network with all weights drawn, so that nothing stays at its zero initialisation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = max(1, parameter[0].numel())
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return net.eval()


IMAGE_NETS = {
    "unet": lambda: randomised(UNet(SMALL_UNET)),
    "drunet": lambda: randomised(DRUNet(SMALL_DRUNET)),
    "dncnn": lambda: randomised(DnCNN(SMALL_DNCNN)),
}


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"factory"}))
def test_registry_pairs_each_config_with_its_network_and_survives_json(name):
    config_class, network_class = BACKBONES[name]
    config = from_dict(config_class, to_dict(config_class()))
    assert config == config_class()
    assert network_class(config).config is config


@pytest.mark.parametrize("name", IMAGE_NETS)
@pytest.mark.parametrize("size", ODD_SIZES)
def test_every_size_keeps_its_size_and_samples_do_not_mix(name, size):
    net, x = IMAGE_NETS[name](), images(*size)
    together = net(x)
    assert together.shape == x.shape
    torch.testing.assert_close(together, torch.cat([net(one[None]) for one in x]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("name", IMAGE_NETS)
def test_every_parameter_and_every_input_pixel_gets_a_gradient(name):
    net, x = IMAGE_NETS[name](), images(7, 7).requires_grad_()
    net(x).square().sum().backward()
    assert [key for key, value in net.named_parameters() if value.grad is None or not value.grad.abs().max() > 0] == []
    assert x.grad.abs().min() > 0


@pytest.mark.parametrize("name", IMAGE_NETS)
def test_bfloat16_autocast_in_channels_last_stays_close(name):
    net, x = IMAGE_NETS[name](), images(14, 14)
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        actual = net(x.to(memory_format=torch.channels_last)).float()
    assert (actual - expected).norm() < 0.05 * expected.norm()


# --- MLP


def test_mlp_is_head_residual_layers_and_tail():
    net = randomised(MLP(MLPConfig(in_features=3, out_features=5, width=16, depth=3, activation="tanh")))
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(1))
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    head, first, second, tail = linears
    h = torch.tanh(x @ head.weight.T + head.bias)
    h = h + torch.tanh(h @ first.weight.T + first.bias)
    h = h + torch.tanh(h @ second.weight.T + second.bias)
    torch.testing.assert_close(net(x), h @ tail.weight.T + tail.bias)


# --- UNet


def test_unet_starts_at_zero_and_its_blocks_at_identity():
    x = images(9, 9)
    assert torch.equal(UNet(SMALL_UNET)(x), torch.zeros_like(x))
    features = images(5, 6, channels=8)
    assert torch.equal(ResidualBlock(8, 8, SMALL_UNET)(features), features)
    assert torch.equal(SelfAttention(8, SMALL_UNET)(features), features)


def test_unet_attention_is_softmax_over_pixels_per_head():
    attention = randomised(SelfAttention(8, SMALL_UNET))
    x = images(3, 4, channels=8)
    query, key, value = attention.qkv(attention.norm(x)).flatten(2).chunk(3, dim=1)
    heads = []
    for channels in (slice(0, 4), slice(4, 8)):
        logits = torch.einsum("bdi,bdj->bij", query[:, channels], key[:, channels]) / 4**0.5
        heads.append(torch.einsum("bij,bdj->bdi", logits.softmax(-1), value[:, channels]))
    expected = x + attention.out(torch.cat(heads, dim=1).unflatten(2, (3, 4)))
    torch.testing.assert_close(attention(x), expected)


def test_unet_without_attention_layers_has_them_only_in_the_middle():
    net = UNet(UNetConfig(base_channels=8, norm_groups=2, head_channels=8))
    assert [name for name, module in net.named_modules() if isinstance(module, SelfAttention)] == ["middle.1"]


def test_unet_dropout_acts_in_training_mode_only():
    config = UNetConfig(base_channels=8, norm_groups=2, head_channels=8, dropout=0.5)
    net, x = randomised(UNet(config)), images(8, 8)
    assert torch.equal(net(x), net(x))
    with torch.random.fork_rng(devices=[]):
        net.train()
        assert not torch.allclose(net(x), net(x))


# --- DRUNet


@pytest.mark.parametrize("size", ODD_SIZES)
def test_drunet_scales_with_its_input(size):
    net, x = randomised(DRUNet(SMALL_DRUNET)), images(*size)
    y = net(x)
    assert torch.equal(net(4 * x), 4 * y), "a power of two changes exponents only, so nothing may round differently"
    for a in (1e-3, 0.37, 3.0, 1e3):
        torch.testing.assert_close(net(a * x) / a, y, rtol=1e-4, atol=1e-5 * y.abs().max().item())


def test_drunet_with_biases_does_not_scale():
    net, x = randomised(DRUNet(replace(SMALL_DRUNET, bias=True))), images(8, 8)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(conv.bias is not None for conv in convs)
    assert not torch.allclose(net(4 * x), 4 * net(x), rtol=1e-2)


def test_drunet_does_not_scale_with_negative_factors():
    net, x = randomised(DRUNet(SMALL_DRUNET)), images(8, 8)
    assert not torch.allclose(net(-x), -net(x), rtol=1e-2), "without its ReLUs the network would be linear"


def test_padding_is_torchs_reflection_where_that_exists():
    x = images(10, 13, channels=2)
    torch.testing.assert_close(pad_to_multiple(x, 8), F.pad(x, (0, 3, 0, 6), mode="reflect"), rtol=0, atol=0)
    assert pad_to_multiple(images(8, 16), 8).shape == (3, 1, 8, 16)


def test_padding_repeats_the_reflection_of_a_small_image():
    row = torch.tensor([[[[10.0, 11.0, 12.0]]]])
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [10, 11, 12, 11, 10, 11, 12, 11]


# --- DnCNN


def test_dncnn_returns_the_input_minus_predicted_noise():
    net, x = randomised(DnCNN(SMALL_DNCNN)), images(6, 6)
    torch.testing.assert_close(net(x), x - net.noise(x))
    with torch.no_grad():
        net.noise[-1].weight.zero_()
        net.noise[-1].bias.fill_(0.25)
    torch.testing.assert_close(net(x), x - 0.25)


def test_dncnn_sees_a_noise_map_but_does_not_return_it():
    net = randomised(DnCNN(DnCNNConfig(in_channels=2, out_channels=1, channels=8, depth=3)))
    x = images(6, 6, channels=2)
    changed = x.clone()
    changed[:, 1] += 1
    assert net(x).shape == (3, 1, 6, 6)
    assert not torch.allclose(net(x), net(changed))


def test_dncnn_without_biases_scales_with_its_input():
    net, x = randomised(DnCNN(DnCNNConfig(channels=8, depth=4, bias=False))), images(6, 6)
    assert torch.equal(net(4 * x), 4 * net(x))


def test_dncnn_batch_norm_replaces_hidden_biases():
    net = DnCNN(DnCNNConfig(channels=8, depth=4, batch_norm=True))
    convs = [module for module in net.noise if isinstance(module, nn.Conv2d)]
    assert [conv.bias is not None for conv in convs] == [True, False, False, True]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.noise) == 2


# --- configs


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (MLPConfig, {"width": 0}, r"MLPConfig\.width is 0; it must be an integer of at least 1"),
        (MLPConfig, {"activation": "step"}, r"'step'; choose one of silu, gelu, relu, tanh"),
        (UNetConfig, {"channel_multipliers": ()}, r"channel_multipliers is \(\); give one factor per level"),
        (UNetConfig, {"channel_multipliers": (1, 0)}, r"\(1, 0\); it must be a tuple of integers of at least 1"),
        (UNetConfig, {"attention_levels": (3,)}, r"attention_levels is \(3,\); with 3 levels .* 0\.\.2, so remove"),
        (UNetConfig, {"base_channels": 36}, r"norm_groups is 8, but a level has 36 channels; choose a divisor"),
        (UNetConfig, {"head_channels": 48}, r"head_channels is 48, but an attending level has 64 channels"),
        (UNetConfig, {"dropout": 1.0}, r"dropout is 1\.0; it must lie in \[0, 1\)"),
        (DRUNetConfig, {"channels": ()}, r"channels is \(\); give one width per level"),
        (DRUNetConfig, {"blocks": -1}, r"DRUNetConfig\.blocks is -1"),
        (DnCNNConfig, {"depth": 1}, r"depth is 1, but has to be at least 2"),
        (DnCNNConfig, {"out_channels": 3}, r"in_channels is 1, below out_channels=3; .* pass in_channels=3 or more"),
    ],
)
def test_impossible_config_says_what_to_change(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(**fields)
