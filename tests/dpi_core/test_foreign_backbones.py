"""Networks of other libraries, tiny and with random weights: the same identities, whatever they are made of."""

import numpy as np
import pytest
import torch
from torch import nn

from dpi_core import DPI, Denoiser, FixedSchedule, FlowMatching
from dpi_core.analysis.activations import layer_activations
from dpi_core.analysis.attribution import layer_tangents, shares
from dpi_core.analysis.layers import ByLayer
from dpi_core.analysis.pinning import pinned_errors

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers"),
]
S = 0.5


class Wrapped(nn.Module):
    """A network of another library as an image-to-image map."""

    def __init__(self, inner, run):
        super().__init__()
        self.inner, self.run = inner, run

    def forward(self, x):
        return self.run(self.inner, x)


def convnext():
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(
        num_channels=4, patch_size=1, hidden_sizes=[4], depths=[1], num_stages=1, layer_scale_init_value=0.5
    )
    return Wrapped(ConvNextModel(config), lambda inner, x: inner(x).last_hidden_state), (4, 4, 4)


def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=4, patch_size=1,
        num_channels=4,
    )  # fmt: skip
    run = lambda inner, x: inner(x).last_hidden_state[:, 1:, :4].transpose(1, 2).reshape(x.shape)  # noqa: E731
    return Wrapped(ViTModel(config, add_pooling_layer=False), run), (4, 4, 4)


def unet():
    from diffusers import UNet2DModel

    inner = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        attention_head_dim=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return Wrapped(inner, lambda inner, x: inner(x, 0).sample), (1, 8, 8)


def lstm():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.LSTM(3, 5, num_layers=2, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.cells(x)[0])

    return Recurrent(), (4, 3)


def attention():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

        def forward(self, x):
            return self.block(x)

    return Encoder(), (5, 4)


@pytest.fixture(params=[convnext, vit, unet, lstm, attention], ids=lambda make: make.__name__)
def network(request, generator):
    """(denoiser in float64, x0, eps)."""
    backbone, shape = request.param()
    net = DPI(backbone.double().eval(), FixedSchedule("linear"))
    net.separate(0.2, generator)
    x0, eps = torch.randn(2, 4, *shape, generator=generator, dtype=torch.float64)
    return Denoiser(net, FlowMatching(prediction="x0")), x0, eps


def hooks(module):
    return sum(len(child._forward_hooks) + len(child._forward_pre_hooks) for child in module.modules())


def test_all_layers_at_an_end_are_the_network_there(network):
    denoiser, x0, eps = network
    net = ByLayer(denoiser.net)
    x_s = denoiser.process.add_noise(x0, eps, S)
    with torch.no_grad():
        for end in (0.0, 1.0):
            net.lam = net.together(end)
            torch.testing.assert_close(Denoiser(net, denoiser.process)(x_s, S), denoiser(x_s, S, s_theta=end))


def test_the_derivatives_of_the_layers_sum_to_the_difference_along_lambda(network):
    denoiser, x0, eps = network
    *layers, together = layer_tangents(denoiser, x0, eps, [S])
    assert together.residual < 1e-9
    assert sum(step.quality for step in layers) == pytest.approx(together.quality, rel=1e-6, abs=1e-9)
    x_s = denoiser.process.add_noise(x0, eps, S)
    with torch.no_grad():
        ends = [denoiser(x_s, S, s_theta=S + shift) for shift in (1e-4, -1e-4)]
    assert together.moved == pytest.approx(((ends[0] - ends[1]) / 2e-4).square().mean().sqrt().item(), rel=1e-4)


def test_integrated_gradients_and_shapley_values_add_up(network):
    denoiser, x0, eps = network
    gradients, shapley = shares(denoiser, x0, eps, [S], steps=16)
    assert gradients.residual < 1e-2, "a quadrature; kinks of ReLUs leave something"
    assert shapley.residual < 1e-6


def test_pinned_errors_are_those_without_memory(network):
    denoiser, x0, eps = network
    net = ByLayer(denoiser.net)
    last = len(net.layers) - 1
    x_s = denoiser.process.add_noise(x0, eps, S)
    for cell in pinned_errors(denoiser, x0, eps, [S], layers=[last, last // 2, 0]):
        held = net.together((0.0, 1.0, S)[cell.hold])
        net.lam = net.learned(S) if cell.layer is None else net.hold(net.learned(S), cell.layer, held)
        with torch.no_grad():
            expected = (Denoiser(net, denoiser.process)(x_s, S) - x0).square().flatten(1).mean(1)
        np.testing.assert_allclose(cell.mse, expected.numpy(), rtol=1e-9)
    assert hooks(denoiser.net) == 0


def test_outputs_are_compared_or_the_reason_is_given(network):
    denoiser, x0, eps = network
    *_, found = layer_activations(denoiser, x0, eps, [0.2, 0.8])
    names = [layer.name for layer in ByLayer(denoiser.net).layers]
    explained = [name in found.notes for name in names]
    assert not all(explained)
    for layer, reason in enumerate(explained):
        assert reason or (np.isfinite(found.cka[layer]).all() and (found.change[layer] > 0).all())
    assert hooks(denoiser.net) == 0
