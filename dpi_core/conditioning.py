"""Ways to feed a scalar to a network, all under DPI's call contract `net(x, s)`."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from dpi_core.flat_storage import Patterns, assign_groups, parameters_in_scope
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule, LambdaSchedule, ScalarRange, SoftmaxSchedule
from dpi_core.noise_processes import NoiseProcess
from dpi_core.one_set import Blind, Embedding, InputMap
from dpi_core.operators import SCOPES, parameters_of


@dataclass(frozen=True)
class ScheduleConfig:
    """λ of a DPI network.

    Attributes:
        kind: "softmax" is learned; "linear", "constant" and "table" are fixed controls.
        n_knots: knots of the learned curve.
        rounding: "linear" between knots, or "nearest" for the paper's table.
        init_std: spread of the initial φ; 0 starts at a straight line, the paper uses 1.
        least_slope: of the learned curve everywhere, in [0, 1); the paper has no bound.
        value: λ of the constant curve.
        values: λ of the table, at equally spaced s from 0 to 1.
    """

    kind: Literal["softmax", "linear", "constant", "table"] = "softmax"
    n_knots: int = 1000
    rounding: Literal["linear", "nearest"] = "linear"
    init_std: float = 0.0
    least_slope: float = 0.0
    value: float = 0.5
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "table") != bool(self.values):
            raise ValueError(
                f"schedule.kind is {self.kind!r} with {len(self.values)} values; give values for a table, and for it alone."
            )


@dataclass(frozen=True)
class EmbeddingConfig:
    """The network that turns s into scales and shifts.

    Attributes:
        n_features: Fourier features of s, even.
        width: of its two layers.
    """

    n_features: int = 64
    width: int = 128


Kind = Literal["dpi", "none", "blind", "input_map", "embedding", "rescaling"]


@dataclass(frozen=True)
class ConditioningConfig:
    """How the scalar reaches the network.

    Attributes:
        kind: "dpi": two parameter sets.
            "none": the network is blind; the conversion from its output to x̂0 knows s.
            "blind": the network is blind and predicts x0 without preconditioning, so that nothing knows s.
            "input_map": s is one more input of the first operator.
            "embedding": scale and shift inside the network.
            "rescaling": the network is blind and predicts ε; the score is −ε/σ.
        scope: of the parameters that get two sets: a key of `operators.SCOPES`, or glob patterns (dpi).
        schedule: λ (dpi).
        scalar: the physical range of the scalar; None where it is s itself (dpi).
        groups: name -> glob patterns of parameters that get a λ of their own, the first match decides; what matches none
            has one together, "rest" (dpi).
        embedding: sizes (embedding).

    Raises:
        ValueError: a key is set that the kind does not have.
    """

    kind: Kind = "dpi"
    scope: str | tuple[str, ...] = "*"
    schedule: ScheduleConfig = ScheduleConfig()
    scalar: ScalarRange | None = None
    groups: dict[str, tuple[str, ...]] | None = None
    embedding: EmbeddingConfig = EmbeddingConfig()

    def __post_init__(self) -> None:
        own = {"dpi": set(_DPI_KEYS), "embedding": {"embedding"}}.get(self.kind, set())
        for field in dataclasses.fields(self)[1:]:
            if field.name not in own and getattr(self, field.name) != field.default:
                raise ValueError(
                    f"conditioning.{field.name} is set, but is without effect for the kind {self.kind!r}; remove it."
                )
        if self.groups is not None and self.schedule.kind != "softmax":
            raise ValueError(
                f"conditioning.groups gives each group a learned curve, but schedule.kind is {self.schedule.kind!r}; choose"
                ' "softmax", or remove the groups.'
            )


_DPI_KEYS = ("scope", "schedule", "scalar", "groups")
_PREDICTIONS = {"blind": "x0", "rescaling": "eps"}


def build_schedule(config: ScheduleConfig, generator: torch.Generator, n_groups: int | None = None) -> LambdaSchedule:
    """λ from its config, one for each group; `generator` draws the initial φ."""
    if config.kind == "softmax":
        return SoftmaxSchedule(
            config.n_knots, config.rounding, n_groups, config.init_std, generator, config.least_slope
        )
    if config.kind == "table":
        return FixedSchedule(config.values)
    return FixedSchedule("linear" if config.kind == "linear" else config.value)


def condition(backbone: nn.Module, config: ConditioningConfig, generator: torch.Generator) -> nn.Module:
    """The backbone under the contract `net(x, s)`; `generator` names the stream of what conditioning draws."""
    if config.kind == "dpi":
        scope, groups = _scope(backbone, config.scope), config.groups
        names, _ = parameters_in_scope(backbone, scope)
        n_groups = None if groups is None else len(assign_groups(names, groups)[0])
        schedule = build_schedule(config.schedule, generator, n_groups)
        return DPI(backbone, schedule, scope, groups=groups, scalar=config.scalar)
    if config.kind == "input_map":
        return InputMap(backbone)
    if config.kind == "embedding":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return Embedding(backbone, config.embedding.n_features, config.embedding.width)
    return Blind(backbone)


def conditioned_process(process: NoiseProcess, config: ConditioningConfig) -> NoiseProcess:
    """The process with the prediction that a conditioning implies; most leave it as it is.

    Raises:
        ValueError: the process has no such prediction: rescaling is for scores, not for flow matching.
    """
    wanted = _PREDICTIONS.get(config.kind)
    if wanted is None:
        return process
    offered = typing.get_args(typing.get_type_hints(type(process))["prediction"])
    if wanted not in offered:
        raise ValueError(
            f"conditioning {config.kind!r} needs a network that predicts {wanted}, but with {type(process).__name__} it"
            f" predicts {' or '.join(offered)}; choose another conditioning or process."
        )
    return dataclasses.replace(process, prediction=wanted)  # type: ignore[type-var]


def _scope(backbone: nn.Module, scope: Patterns) -> Patterns:
    return parameters_of(backbone, scope) if isinstance(scope, str) and scope in SCOPES else scope
