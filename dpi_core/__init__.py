"""Deep Parameter Interpolation: any network, conditioned on a scalar by two parameter sets (arXiv:2511.21028).

Names are imported when they are first used, so `import dpi_core` is cheap and does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpi_core.backbones.foreign import factory as factory
    from dpi_core.card import model_card as model_card
    from dpi_core.checkpoint import load as load
    from dpi_core.checkpoint import save as save
    from dpi_core.denoiser import Denoiser as Denoiser
    from dpi_core.interpolation import DPI as DPI
    from dpi_core.lambda_schedules import FixedSchedule as FixedSchedule
    from dpi_core.lambda_schedules import ScalarRange as ScalarRange
    from dpi_core.lambda_schedules import SoftmaxSchedule as SoftmaxSchedule
    from dpi_core.model import Model as Model
    from dpi_core.noise_processes import AWGN as AWGN
    from dpi_core.noise_processes import FlowMatching as FlowMatching
    from dpi_core.noise_processes import VEDiffusion as VEDiffusion
    from dpi_core.noise_processes import VPDiffusion as VPDiffusion
    from dpi_core.own_network import image_recipe as image_recipe
    from dpi_core.own_network import train as train

_HOME = {
    "AWGN": "noise_processes",
    "DPI": "interpolation",
    "Denoiser": "denoiser",
    "FixedSchedule": "lambda_schedules",
    "FlowMatching": "noise_processes",
    "Model": "model",
    "ScalarRange": "lambda_schedules",
    "SoftmaxSchedule": "lambda_schedules",
    "VEDiffusion": "noise_processes",
    "VPDiffusion": "noise_processes",
    "factory": "backbones.foreign",
    "image_recipe": "own_network",
    "load": "checkpoint",
    "model_card": "card",
    "save": "checkpoint",
    "train": "own_network",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpi_core' has no attribute {name!r}")
    return getattr(import_module(f"dpi_core.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
