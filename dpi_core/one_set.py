"""Conditionings with one parameter set: none, s as an input, scale and shift from an embedding of s.

None of them knows a backbone's class: they find its operators and normalisations, and act on those through hooks that
stand only while the backbone runs. All start as the network without conditioning: what s is multiplied by is zero at first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dpi_core.flat_storage import Patterns, matches
from dpi_core.operators import (
    TRANSPOSED,
    channel_axis,
    is_bias_free,
    linear_operators,
    norms,
    out_channels,
)
from dpi_core.sample_batches import batch_size
from dpi_core.types import Scalar, as_scalar


class OneSet(nn.Module):
    """A backbone under the contract `net(x, s)` whose parameters do not move with s.

    Args:
        backbone: the network f; it takes no scalar, and is taken over.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._reached = True

    def forward(self, x: Any, s: Scalar, *args: Any, **kwargs: Any) -> Any:
        """f(x, ...), conditioned on s.

        Args:
            x: the backbone's first input, samples along its first axis.
            s: in [0, 1]: a float, a 0-d tensor, or one value per sample of shape (b,).
            *args: passed on.
            **kwargs: passed on.

        Returns:
            What the backbone returns.

        Raises:
            ValueError: s is out of range or of another shape, or the backbone does not call what s enters through.
        """
        unit = as_scalar(s, batch_size(x, 0))
        with ExitStack() as hooks:
            for hook in self._hooks(unit):
                hooks.enter_context(hook)
            output = self.backbone(x, *args, **kwargs)
        if not self._reached:
            raise ValueError(
                f"{type(self.backbone).__name__} did not call the layers through which {type(self).__name__} feeds s,"
                " so s was without effect; name layers it calls, or use DPI."
            )
        return output

    def materialize(self, s: Scalar) -> NoReturn:
        """There is no θ(s) to take out.

        Raises:
            ValueError: always; it says what to use instead.
        """
        raise ValueError(
            f"{type(self).__name__} has one parameter set, so there is no θ(s) to take out; choose a DPI model."
        )

    def _hooks(self, s: Tensor) -> Iterator[RemovableHandle]:
        """Attaches what feeds s, () or (b,), to the backbone."""
        yield from ()


class Blind(OneSet):
    """No conditioning: f(x), whatever s is; it is only checked."""


class InputMap(OneSet):
    """s as one more input of an operator: a constant channel of a convolution, a feature of a linear layer.

    The operator is the first one, so this is f([x, s]) with a first layer that is one input wider.

    Args:
        backbone: the network f.
        operator: name of the linear layer or convolution that sees s; by default the first one registered.

    Raises:
        ValueError: there is no such operator, it is grouped, or its weight is shared or computed from others.
    """

    def __init__(self, backbone: nn.Module, operator: str | None = None) -> None:
        super().__init__(backbone)
        self.operator = operator if operator is not None else _first_operator(backbone)
        _widen(backbone, self.operator)

    def _hooks(self, s: Tensor) -> Iterator[RemovableHandle]:
        operator = self.backbone.get_submodule(self.operator)
        axis = channel_axis(operator)
        self._reached = False

        def append(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            self._reached = True
            x, *rest = inputs
            shape = list(x.shape)
            shape[axis] = 1
            channel = _aligned(s[..., None], x, axis).to(device=x.device, dtype=x.dtype)
            return (torch.cat([x, channel.expand(shape)], dim=axis), *rest)

        yield operator.register_forward_pre_hook(append)

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"operator={self.operator!r}"


class Embedding(OneSet):
    """h (1 + scale(s)) + shift(s) after layers of the backbone, from Fourier features of s through a small MLP.

    The layers are those that the backbone names as `modulated` (globs over module names), else all normalisations, else
    all linear operators but the last: FiLM (Perez et al. 2018). A network without biases keeps f(a x) = a f(x): it gets
    a scale alone.

    Args:
        backbone: the network f.
        n_features: Fourier features of s, even.
        width: of the MLP's two layers.
        layers: globs over the names of normalisations and linear operators, instead of the default.

    Raises:
        ValueError: n_features is odd, width is not positive, or the backbone has no such layers.
    """

    def __init__(
        self, backbone: nn.Module, n_features: int = 64, width: int = 128, layers: Patterns | None = None
    ) -> None:
        super().__init__(backbone)
        if n_features < 2 or n_features % 2:
            raise ValueError(f"n_features is {n_features}, but has to be even and at least 2, for sines and cosines.")
        if width < 1:
            raise ValueError(f"width is {width}, but has to be at least 1.")
        self.layers, scale_only = _modulated_layers(backbone, layers)
        self.n_features, self.parts = n_features, 1 if scale_only else 2
        self.channels = [out_channels(backbone.get_submodule(path)) for path in self.layers]
        self.mlp = nn.Sequential(nn.Linear(n_features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.heads = nn.Linear(width, self.parts * sum(self.channels))
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)
        self.to(next(backbone.parameters()))

    def _hooks(self, s: Tensor) -> Iterator[RemovableHandle]:
        features = fourier_features(s, self.n_features).to(self.heads.weight)
        pieces = self.heads(self.mlp(features)).split([self.parts * count for count in self.channels], dim=-1)
        self._reached = False
        for path, piece in zip(self.layers, pieces, strict=True):
            layer = self.backbone.get_submodule(path)
            yield layer.register_forward_hook(self._modulation(piece.chunk(self.parts, dim=-1), channel_axis(layer)))

    def _modulation(self, pieces: tuple[Tensor, ...], axis: int) -> Any:
        def modulate(_: nn.Module, inputs: tuple[Any, ...], h: Tensor) -> Tensor:
            self._reached = True
            scale, *shift = (_aligned(piece, h, axis).to(h.dtype) for piece in pieces)
            h = h * (1 + scale)
            return h + shift[0] if shift else h

        return modulate

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"{'scale' if self.parts == 1 else 'scale and shift'} after {len(self.layers)} layers"


MAX_FREQUENCY, FREQUENCY_SPAN = 1000.0, 10000.0


def fourier_features(s: Float[Tensor, " *b"], n: int) -> Float[Tensor, "*b {n}"]:
    """Cosines and sines of s at n / 2 frequencies, evenly spaced in logarithm from 1000 rad downwards.

    These are ADM's and DDPM's features of the step 1000·s (Dhariwal & Nichol 2021; Ho et al. 2020).
    """
    steps = torch.arange(n // 2, device=s.device, dtype=s.dtype) / (n // 2)
    angles = s[..., None] * MAX_FREQUENCY * torch.exp(-math.log(FREQUENCY_SPAN) * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _aligned(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """(c,) or (b, c) with c moved to the axis of `like` that counts channels, and b to its first."""
    if values.ndim > 1 and len(values) != len(like):
        raise ValueError(
            f"a layer inside the network sees {len(like)} samples, but s has {len(values)} values; pass one scalar, or"
            " use DPI, which divides the batch itself."
        )
    shape = [1] * like.ndim
    shape[axis] = values.shape[-1]
    if values.ndim > 1:
        shape[0] = len(values)
    return values.reshape(shape)


def _first_operator(backbone: nn.Module) -> str:
    names = list(linear_operators(backbone))
    if not names:
        raise ValueError(
            f"{type(backbone).__name__} has no linear layer or convolution that could take s as an input; use DPI."
        )
    return names[0]


@torch.no_grad()
def _widen(backbone: nn.Module, path: str) -> None:
    """Gives an operator one more input, with weight zero."""
    operator = linear_operators(backbone).get(path)
    if operator is None:
        raise ValueError(f"{path!r} is no linear layer or convolution of {type(backbone).__name__}; name one that is.")
    weight = operator._parameters.get("weight")
    shared = sum(value is weight for _, value in backbone.named_parameters(remove_duplicate=False)) != 1
    if weight is None or shared or getattr(operator, "groups", 1) > 1:
        raise ValueError(
            f"{path!r} cannot take s as one more input, because it is grouped, or its weight is shared or computed from"
            " others; name another operator, or use DPI."
        )
    axis = 0 if isinstance(operator, TRANSPOSED) else 1
    wider = torch.cat([weight, torch.zeros_like(weight.narrow(axis, 0, 1))], dim=axis)
    operator.weight = nn.Parameter(wider, requires_grad=weight.requires_grad)
    attribute = "in_features" if isinstance(operator, nn.Linear) else "in_channels"
    setattr(operator, attribute, getattr(operator, attribute) + 1)


def _modulated_layers(backbone: nn.Module, layers: Patterns | None) -> tuple[list[str], bool]:
    """Names of the layers that are modulated, and whether by a scale alone."""
    normalising, operators = list(norms(backbone)), list(linear_operators(backbone))
    wanted = layers if layers is not None else getattr(backbone, "modulated", None)
    if wanted is not None:
        names = [name for name, _ in backbone.named_modules() if name in {*normalising, *operators}]
        names = [name for name in names if matches(name, wanted)]
    else:
        names = normalising or operators[:-1]
    if not names:
        raise ValueError(
            f"{type(backbone).__name__} has no {f'layer like {wanted!r}' if wanted else 'hidden layer'} that an embedding"
            " could scale and shift; use DPI."
        )
    return names, not normalising and is_bias_free(backbone)
