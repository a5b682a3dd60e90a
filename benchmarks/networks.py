"""The networks that are measured, and the other ways to interpolate their parameters, which DPI is measured against."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from dpi_core import DPI
from dpi_core.backbones import MLP, MLPConfig, UNet, UNetConfig
from dpi_core.lambda_schedules import SoftmaxSchedule

UNETS = {
    "UNet 0.5 M": UNetConfig(base_channels=24, channel_multipliers=(1, 2, 2), head_channels=24),
    "UNet 2 M": UNetConfig(base_channels=48, channel_multipliers=(1, 2, 2), head_channels=24),
    "UNet 30 M": UNetConfig(base_channels=112, channel_multipliers=(1, 2, 4), head_channels=64),
}
SMALL, MIDDLE, LARGE = UNETS
MLP_NAME, LINEAR_NAME = "MLP 0.2 M", "Linear 4096 × 4096"


def backbone(name: str) -> nn.Module:
    """A network with random weights, none of them zero."""
    torch.manual_seed(0)
    if name in UNETS:
        network: nn.Module = UNet(UNETS[name])
    elif name == MLP_NAME:
        network = MLP(MLPConfig(width=256, depth=4))
    else:
        network = nn.Linear(4096, 4096)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network


def inputs(name: str, batch: int, device: str = "cpu") -> Tensor:
    """A batch for a network: 28×28 images for UNets, vectors for the others."""
    shape = (1, 28, 28) if name in UNETS else (2,) if name == MLP_NAME else (4096,)
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1)).to(device)


def dpi(name: str, device: str = "cpu") -> DPI:
    """The network with two parameter sets that differ, and a curved λ."""
    generator = torch.Generator().manual_seed(2)
    net = DPI(backbone(name), SoftmaxSchedule(init_std=1.0, generator=generator))
    net.separate(0.1, generator)
    return net.to(device)


# The other ways --------------------------------------------------------------------------------------------------


@dataclass
class Position:
    """λ where every layer reads it."""

    lam: Tensor = field(default_factory=lambda: torch.zeros(()))


class Peer(nn.Module):
    """Another implementation of the same function of (x, s), with the same λ."""

    def __init__(self, net: DPI) -> None:
        super().__init__()
        self.schedule = net.schedule
        self.start, self.end = net.materialize(0.0), net.materialize(1.0)

    def lam(self, s: float) -> Tensor:
        return self.schedule(s).to(next(self.start.parameters()))


class PerLayer(Peer):
    """Every layer holds two weights and blends them when it is called, a·w + (1 − a)·w_copy: the paper's own code."""

    def __init__(self, net: DPI) -> None:
        super().__init__(net)
        self.position = Position()
        for name, layer in list(self.start.named_modules()):
            if layer._parameters:
                _blend_when_called(layer, self.end.get_submodule(name), self.position)

    def forward(self, x: Tensor, s: float) -> Tensor:
        self.position.lam = self.lam(s)
        return self.start(x)


def _blend_when_called(layer: nn.Module, other: nn.Module, position: Position) -> None:
    """Replaces the layer's forward by one that computes its weights first."""
    call = type(layer).forward
    own = {key: value for key, value in layer._parameters.items() if value is not None}
    layer._parameters.clear()
    layer.own, layer.other = nn.ParameterDict(own), other

    def forward(x: Tensor) -> Tensor:
        a = 1 - position.lam
        for key, value in own.items():
            setattr(layer, key, a * value + (1 - a) * other._parameters[key])
        return call(layer, x)

    layer.forward = forward  # type: ignore[method-assign]


class Parametrized(Peer):
    """`torch.nn.utils.parametrize` on every parameter."""

    def __init__(self, net: DPI) -> None:
        super().__init__(net)
        self.position = Position()
        for name, layer in list(self.start.named_modules()):
            for key in [key for key, value in layer._parameters.items() if value is not None]:
                other = self.end.get_submodule(name)._parameters[key]
                parametrize.register_parametrization(layer, key, _Blended(other, self.position))

    def forward(self, x: Tensor, s: float) -> Tensor:
        self.position.lam = self.lam(s)
        return self.start(x)


class _Blended(nn.Module):
    def __init__(self, other: nn.Parameter, position: Position) -> None:
        super().__init__()
        self.other, self.position = other, position

    def forward(self, own: Tensor) -> Tensor:
        return torch.lerp(own, self.other, self.position.lam)


class FunctionalCall(Peer):
    """`torch.func.functional_call` with a dict of blended parameters."""

    def forward(self, x: Tensor, s: float) -> Tensor:
        lam, others = self.lam(s), dict(self.end.named_parameters())
        blended = {key: torch.lerp(value, others[key], lam) for key, value in self.start.named_parameters()}
        return functional_call(self.start, blended, (x,))


class Vmap(Peer):
    """`torch.vmap` over samples, each with parameters of its own."""

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        starts, ends = dict(self.start.named_parameters()), dict(self.end.named_parameters())

        def one(sample: Tensor, lam: Tensor) -> Tensor:
            blended = {key: torch.lerp(value, ends[key], lam) for key, value in starts.items()}
            return functional_call(self.start, blended, (sample[None],))[0]

        return torch.vmap(one)(x, self.schedule(s).to(x))


PEERS: dict[str, Callable[[DPI], Peer]] = {
    "a·w + (1 − a)·w_copy in every layer": PerLayer,
    "torch.nn.utils.parametrize": Parametrized,
    "functional_call on a dict": FunctionalCall,
}
