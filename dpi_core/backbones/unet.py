"""The ADM U-Net without its time embedding (Dhariwal & Nichol, "Diffusion Models Beat GANs", NeurIPS 2021).

A level halves the resolution. Encoder and decoder are flat lists, so that every encoder output is one skip:

    encoder   head, then per level: residual blocks (each with attention where configured), strided conv
    middle    residual block, attention, residual block
    decoder   mirrors the encoder; each step takes one skip, the first of a level resizes to it before

Everything a scalar would modulate is left out: which noise level the network is at reaches it through its
parameters (DPI), or through one of the wrappers in `dpi_core.conditioning`.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.backbones.checks import require_int_tuple, require_positive_ints


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a `UNet`.

    Attributes:
        in_channels: channels of the input image.
        out_channels: channels of the output image.
        base_channels: channels at full resolution; level i has `base_channels * channel_multipliers[i]`.
        channel_multipliers: one factor per level; n levels halve the resolution n - 1 times.
        blocks_per_level: residual blocks per encoder level; a decoder level has one more.
        attention_levels: indices of the levels that attend; the middle always does.
        head_channels: channels per attention head.
        norm_groups: groups of every group normalisation.
        dropout: probability in [0, 1) before the last convolution of a residual block, in training mode.

    Raises:
        ValueError: a size is out of range, or the channels do not divide by the groups or heads.
    """

    in_channels: int = 1
    out_channels: int = 1
    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 2, 2)
    blocks_per_level: int = 1
    attention_levels: tuple[int, ...] = ()
    head_channels: int = 32
    norm_groups: int = 8
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_positive_ints(
            self, "in_channels", "out_channels", "base_channels", "blocks_per_level", "head_channels", "norm_groups"
        )
        require_int_tuple(self, "channel_multipliers", minimum=1)
        require_int_tuple(self, "attention_levels", minimum=0)
        self._check_levels()
        self._check_divisibility()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"UNetConfig.dropout is {self.dropout!r}; it must lie in [0, 1), and 0 turns it off.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, full resolution first."""
        return tuple(self.base_channels * multiplier for multiplier in self.channel_multipliers)

    def _check_levels(self) -> None:
        levels = len(self.channel_multipliers)
        if levels == 0:
            raise ValueError("UNetConfig.channel_multipliers is (); give one factor per level, for example (1, 2, 2).")
        if any(level >= levels for level in self.attention_levels):
            raise ValueError(
                f"UNetConfig.attention_levels is {self.attention_levels}; with {levels} levels the indices must lie "
                f"in 0..{levels - 1}, so remove the others."
            )

    def _check_divisibility(self) -> None:
        for width in self.widths:
            if width % self.norm_groups:
                raise ValueError(
                    f"UNetConfig.norm_groups is {self.norm_groups}, but a level has {width} channels; choose a divisor."
                )
        for width in {self.widths[-1], *(self.widths[level] for level in self.attention_levels)}:
            if width % self.head_channels:
                raise ValueError(
                    f"UNetConfig.head_channels is {self.head_channels}, but an attending level has {width} channels; "
                    "choose a divisor."
                )


class UNet(nn.Module):
    """Maps images to images of any height and width.

    A strided convolution rounds odd sizes up (7 -> 4), and the decoder enlarges to the size of the skip it joins
    (4 -> 7, nearest neighbour), so nothing is padded or cropped. The output convolution starts at zero.

    On a CPU, train it under bfloat16 autocast in the default memory format: bfloat16 group normalisation in
    channels_last is about ten times slower there, which costs more than the faster convolutions give.
    """

    modulated: ClassVar[tuple[str, ...]] = ("*.norm2",)
    """Where ADM's embedding acts: the second normalisation of every residual block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.head = _conv3x3(config.in_channels, config.base_channels)
        self.encoder = nn.ModuleList(_encoder_layers(config))
        self.middle = nn.Sequential(
            ResidualBlock(config.widths[-1], config.widths[-1], config),
            SelfAttention(config.widths[-1], config),
            ResidualBlock(config.widths[-1], config.widths[-1], config),
        )
        self.decoder = nn.ModuleList(_decoder_steps(config))
        self.tail = nn.Sequential(
            nn.GroupNorm(config.norm_groups, config.widths[0]),
            nn.SiLU(),
            _zeroed(_conv3x3(config.widths[0], config.out_channels)),
        )

    def forward(self, x: Float[Tensor, "b c_in h w"]) -> Float[Tensor, "b c_out h w"]:
        """Returns an image of the input's height and width."""
        hidden = self.head(x)
        skips = [hidden]
        for layer in self.encoder:
            hidden = layer(hidden)
            skips.append(hidden)
        hidden = self.middle(hidden)
        for step in self.decoder:
            hidden = step(hidden, skips.pop())
        return self.tail(hidden)


class ResidualBlock(nn.Module):
    """GN, SiLU, conv, GN, SiLU, conv on a residual path; the last conv starts at zero, so the block starts linear."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_groups, in_channels)
        self.conv1 = _conv3x3(in_channels, out_channels)
        self.norm2 = nn.GroupNorm(config.norm_groups, out_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _zeroed(_conv3x3(out_channels, out_channels))
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c_in h w"]) -> Float[Tensor, "b c_out h w"]:
        """Returns the input's projection plus the residual."""
        residual = self.conv1(F.silu(self.norm1(x)))
        residual = self.conv2(self.dropout(F.silu(self.norm2(residual))))
        return self.skip(x) + residual


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels on a residual path that starts at zero."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = channels // config.head_channels
        self.norm = nn.GroupNorm(config.norm_groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Returns the input plus what each pixel gathers from the others."""
        height = x.shape[-2]
        qkv = self.qkv(self.norm(x))
        query, key, value = rearrange(qkv, "b (n heads d) h w -> n b heads (h w) d", n=3, heads=self.heads)
        gathered = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(rearrange(gathered, "b heads (h w) d -> b (heads d) h w", h=height))


class DecoderStep(nn.Module):
    """Joins a skip, at its size, through a residual block and, where configured, attention."""

    def __init__(self, channels: int, skip_channels: int, level: int, resizes: bool, config: UNetConfig) -> None:
        super().__init__()
        self.resize = _conv3x3(channels, channels) if resizes else None
        self.block = _attending_block(channels + skip_channels, config.widths[level], level, config)

    def forward(
        self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b c_skip h2 w2"]
    ) -> Float[Tensor, "b c_out h2 w2"]:
        """Returns features at the skip's size."""
        if self.resize is not None:
            x = self.resize(F.interpolate(x, size=skip.shape[-2:], mode="nearest"))
        return self.block(torch.cat([x, skip], dim=1))


def _encoder_layers(config: UNetConfig) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = config.base_channels
    for level, width in enumerate(config.widths):
        if level > 0:
            layers.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
        for _ in range(config.blocks_per_level):
            layers.append(_attending_block(channels, width, level, config))
            channels = width
    return layers


def _decoder_steps(config: UNetConfig) -> list[nn.Module]:
    skips = _skips(config)
    channels, previous_level = config.widths[-1], len(config.widths) - 1
    steps: list[nn.Module] = []
    for skip_channels, level in reversed(skips):
        steps.append(DecoderStep(channels, skip_channels, level, level != previous_level, config))
        channels, previous_level = config.widths[level], level
    return steps


def _skips(config: UNetConfig) -> list[tuple[int, int]]:
    """Channels and level of every encoder output, in the order the encoder makes them."""
    first = [(config.base_channels, 0)] + [(config.widths[0], 0)] * config.blocks_per_level
    deeper = [
        (channels, level)
        for level, (above, width) in enumerate(pairwise(config.widths), start=1)
        for channels in [above] + [width] * config.blocks_per_level
    ]
    return first + deeper


def _attending_block(in_channels: int, out_channels: int, level: int, config: UNetConfig) -> nn.Module:
    block = ResidualBlock(in_channels, out_channels, config)
    if level not in config.attention_levels:
        return block
    return nn.Sequential(block, SelfAttention(out_channels, config))


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
