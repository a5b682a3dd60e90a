"""DRUNet, a residual U-Net denoiser, bias-free in the paper.

Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", IEEE TPAMI 2021, section 3.

Without biases and normalisation the network is positively homogeneous: f(a x) = a f(x) for every a > 0, which is why
it works over a wide range of noise levels. The noise-level map that the paper appends to the input is an extra input
channel here, and only there if the conditioning asks for it.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dpi_core.backbones.checks import require_bools, require_int_tuple, require_positive_ints


@dataclass(frozen=True)
class DRUNetConfig:
    """Sizes of a `DRUNet`.

    Attributes:
        in_channels: channels of the input image.
        out_channels: channels of the output image.
        channels: channels of each level; the paper has (64, 128, 256, 512).
        blocks: residual blocks per level, encoder and decoder each; the paper has 4.
        bias: whether convolutions have biases, which end the homogeneity; the paper's have none.

    Raises:
        ValueError: a size is not a positive integer, or `channels` is empty.
    """

    in_channels: int = 1
    out_channels: int = 1
    channels: tuple[int, ...] = (32, 64, 128, 256)
    blocks: int = 2
    bias: bool = False

    def __post_init__(self) -> None:
        require_positive_ints(self, "in_channels", "out_channels", "blocks")
        require_int_tuple(self, "channels", minimum=1)
        require_bools(self, "bias")
        if not self.channels:
            raise ValueError("DRUNetConfig.channels is (); give one width per level, for example (32, 64, 128, 256).")


class DRUNet(nn.Module):
    """Maps images to images of any height and width.

    The input is reflected at its right and bottom border to a multiple of 2^(levels - 1), which is 8 for the paper's
    four levels, and the output is cropped back.
    """

    def __init__(self, config: DRUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, bias = config.channels, config.bias
        self.head = _conv3x3(config.in_channels, widths[0], bias)
        self.down = nn.ModuleList(
            nn.Sequential(*_residual_blocks(upper, config), nn.Conv2d(upper, lower, 2, stride=2, bias=bias))
            for upper, lower in pairwise(widths)
        )
        self.body = nn.Sequential(*_residual_blocks(widths[-1], config))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(lower, upper, 2, stride=2, bias=bias), *_residual_blocks(upper, config))
            for lower, upper in pairwise(reversed(widths))
        )
        self.tail = _conv3x3(widths[0], config.out_channels, bias)

    def forward(self, x: Float[Tensor, "b c_in h w"]) -> Float[Tensor, "b c_out h w"]:
        """Returns an image of the input's height and width."""
        height, width = x.shape[-2:]
        hidden = self.head(pad_to_multiple(x, 2 ** len(self.down)))
        skips = [hidden]
        for down in self.down:
            hidden = down(hidden)
            skips.append(hidden)
        hidden = self.body(hidden)
        for up in self.up:
            hidden = up(hidden + skips.pop())
        return self.tail(hidden + skips.pop())[..., :height, :width]


class ResidualBlock(nn.Module):
    """Conv, ReLU, conv on a residual path."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels, channels, bias)
        self.conv2 = _conv3x3(channels, channels, bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Returns the input plus the residual."""
        return x + self.conv2(F.relu(self.conv1(x)))


def pad_to_multiple(x: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c h2 w2"]:
    """Reflects an image at its right and bottom border until both sizes divide by `multiple`.

    Unlike `F.pad(mode="reflect")` the reflection repeats, so an image smaller than its padding works too.

    Args:
        x: images, (b, c, h, w).
        multiple: what the padded height and width are multiples of.

    Returns:
        The padded images, or `x` itself where nothing is missing.
    """
    for axis in (-2, -1):
        missing = -x.shape[axis] % multiple
        if missing:
            x = x.index_select(axis, _reflected_indices(x.shape[axis], missing, x.device))
    return x


def _reflected_indices(size: int, missing: int, device: torch.device) -> Int[Tensor, " padded"]:
    """0, 1, .., size - 1, size - 2, .., 0, 1, ..: a triangle wave that does not repeat its turning points."""
    period = max(2 * (size - 1), 1)
    phase = torch.arange(size + missing, device=device) % period
    return torch.minimum(phase, period - phase) if size > 1 else torch.zeros_like(phase)


def _residual_blocks(channels: int, config: DRUNetConfig) -> list[nn.Module]:
    return [ResidualBlock(channels, config.bias) for _ in range(config.blocks)]


def _conv3x3(in_channels: int, out_channels: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
