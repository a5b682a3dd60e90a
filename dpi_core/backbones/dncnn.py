"""DnCNN, a plain convolutional denoiser that predicts the noise.

Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", IEEE TIP 2017.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.backbones.checks import require_bools, require_positive_ints


@dataclass(frozen=True)
class DnCNNConfig:
    """Sizes of a `DnCNN`.

    Attributes:
        in_channels: channels of the input; those beyond `out_channels` (a noise map) are seen, but not denoised.
        out_channels: channels of the image.
        channels: features of every hidden layer.
        depth: number of convolutions, at least 2; the paper has 17.
        batch_norm: whether hidden convolutions are normalised, as in the paper. Off by default: the running statistics
            would average over all noise levels.
        bias: whether convolutions have biases; without them (and without batch_norm) f(a x) = a f(x) for a > 0.

    Raises:
        ValueError: a size is out of range, or `in_channels` is below `out_channels`.
    """

    in_channels: int = 1
    out_channels: int = 1
    channels: int = 64
    depth: int = 17
    batch_norm: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive_ints(self, "in_channels", "out_channels", "channels", "depth")
        require_bools(self, "batch_norm", "bias")
        if self.depth < 2:
            raise ValueError(
                f"DnCNNConfig.depth is {self.depth}, but has to be at least 2: the first and the last conv."
            )
        if self.in_channels < self.out_channels:
            raise ValueError(
                f"DnCNNConfig.in_channels is {self.in_channels}, below out_channels={self.out_channels}; the noise is "
                f"subtracted from the input, so pass in_channels={self.out_channels} or more."
            )


class DnCNN(nn.Module):
    """Returns x - noise(x), where noise(x) is a stack of 3x3 convolutions and ReLUs."""

    def __init__(self, config: DnCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.noise = nn.Sequential(
            _conv3x3(config.in_channels, config.channels, config.bias),
            nn.ReLU(),
            *(layer for _ in range(config.depth - 2) for layer in _hidden_layer(config)),
            _conv3x3(config.channels, config.out_channels, config.bias),
        )

    def forward(self, x: Float[Tensor, "b c_in h w"]) -> Float[Tensor, "b c_out h w"]:
        """Returns the denoised image."""
        return x[:, : self.config.out_channels] - self.noise(x)


def _hidden_layer(config: DnCNNConfig) -> list[nn.Module]:
    if not config.batch_norm:
        return [_conv3x3(config.channels, config.channels, config.bias), nn.ReLU()]
    # Batch normalisation subtracts the mean, so a bias before it would have no effect.
    return [_conv3x3(config.channels, config.channels, bias=False), nn.BatchNorm2d(config.channels), nn.ReLU()]


def _conv3x3(in_channels: int, out_channels: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
