"""Ways to feed a scalar to a network, all under DPI's call contract `net(x, s)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule, LambdaSchedule, ScalarRange, SoftmaxSchedule
from dpi_core.types import Scalar, as_scalar


@dataclass(frozen=True)
class ScheduleConfig:
    """λ of a DPI network.

    Attributes:
        kind: "softmax" is learned; "linear" and "constant" are fixed controls.
        n_knots: knots of the learned curve.
        rounding: "linear" between knots, or "nearest" for the paper's table.
        init_std: spread of the initial φ; 0 starts at a straight line, the paper uses 1.
        value: λ of the constant curve.
    """

    kind: Literal["softmax", "linear", "constant"] = "softmax"
    n_knots: int = 1000
    rounding: Literal["linear", "nearest"] = "linear"
    init_std: float = 0.0
    value: float = 0.5


@dataclass(frozen=True)
class ConditioningConfig:
    """How the scalar reaches the network.

    Attributes:
        kind: "dpi", or "none" for a network that is blind to the scalar.
        scope: glob patterns of the parameters that get two sets (dpi).
        schedule: λ (dpi).
        scalar: the physical range of the scalar; None where it is s itself (dpi).
    """

    kind: Literal["dpi", "none"] = "dpi"
    scope: str | tuple[str, ...] = "*"
    schedule: ScheduleConfig = ScheduleConfig()
    scalar: ScalarRange | None = None


class Blind(nn.Module):
    """No conditioning: f(x), whatever s is; it is only checked."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Any, s: Scalar, *args: Any, **kwargs: Any) -> Any:
        """f(x, ...); s as in `DPI.forward`."""
        as_scalar(s)
        return self.backbone(x, *args, **kwargs)


def build_schedule(config: ScheduleConfig, generator: torch.Generator) -> LambdaSchedule:
    """λ from its config; `generator` draws the initial φ."""
    if config.kind == "softmax":
        return SoftmaxSchedule(config.n_knots, config.rounding, init_std=config.init_std, generator=generator)
    return FixedSchedule("linear" if config.kind == "linear" else config.value)


def condition(backbone: nn.Module, config: ConditioningConfig, generator: torch.Generator) -> nn.Module:
    """The backbone under the contract `net(x, s)`."""
    if config.kind == "none":
        return Blind(backbone)
    return DPI(backbone, build_schedule(config.schedule, generator), config.scope, scalar=config.scalar)
