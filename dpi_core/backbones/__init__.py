"""Networks that take no scalar; `dpi_core.interpolation` and `dpi_core.conditioning` make them depend on one."""

from typing import Any

from torch import nn

from dpi_core.backbones.dncnn import DnCNN, DnCNNConfig
from dpi_core.backbones.drunet import DRUNet, DRUNetConfig
from dpi_core.backbones.mlp import MLP, MLPConfig
from dpi_core.backbones.unet import UNet, UNetConfig

BACKBONES: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "mlp": (MLPConfig, MLP),
    "unet": (UNetConfig, UNet),
    "drunet": (DRUNetConfig, DRUNet),
    "dncnn": (DnCNNConfig, DnCNN),
}
"""Name in a saved config -> (config dataclass, network class)."""

__all__ = [
    "BACKBONES",
    "MLP",
    "DRUNet",
    "DRUNetConfig",
    "DnCNN",
    "DnCNNConfig",
    "MLPConfig",
    "UNet",
    "UNetConfig",
]
