"""Networks that take no scalar; `dpi_core.interpolation` and `dpi_core.conditioning` make them depend on one."""

from collections.abc import Callable
from typing import Any

from torch import nn

from dpi_core.backbones.dncnn import DnCNN, DnCNNConfig
from dpi_core.backbones.drunet import DRUNet, DRUNetConfig
from dpi_core.backbones.foreign import FactoryConfig, build_foreign
from dpi_core.backbones.mlp import MLP, MLPConfig
from dpi_core.backbones.unet import UNet, UNetConfig

BACKBONES: dict[str, tuple[type[Any], Callable[[Any], nn.Module]]] = {
    "mlp": (MLPConfig, MLP),
    "unet": (UNetConfig, UNet),
    "drunet": (DRUNetConfig, DRUNet),
    "dncnn": (DnCNNConfig, DnCNN),
    "factory": (FactoryConfig, build_foreign),
}
"""Name in a saved config -> (config dataclass, what makes the network of it)."""

__all__ = [
    "BACKBONES",
    "MLP",
    "DRUNet",
    "DRUNetConfig",
    "DnCNN",
    "DnCNNConfig",
    "FactoryConfig",
    "MLPConfig",
    "UNet",
    "UNetConfig",
]
