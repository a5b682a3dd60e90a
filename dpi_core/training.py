"""Training as a generator of step logs: the caller prints, plots, saves, stops.

Everything random at step k comes from a generator seeded by (seed, k), so a resumed run repeats the losses of one that
was never stopped, and two configs that differ in conditioning alone see the same data, noise and scalars. Only what a network
draws on a GPU, by dropout, comes from that device's own generator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dpi_core.denoiser import Denoiser
from dpi_core.interpolation import DPI
from dpi_core.parallel import Team
from dpi_core.precision import multiplying_in
from dpi_core.replay import Replay
from dpi_core.seeds import global_seed, seeded_generator

CURVE_POINTS = 17
_DRAWN_BY_THE_NETWORK = 1


@runtime_checkable
class Batches(Protocol):
    """What training needs of a data set."""

    def batch(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws n training samples, shape (n, ...)."""
        ...


@dataclass(frozen=True)
class TrainingConfig:
    """How a denoiser is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: samples per step, in all processes together.
        accumulate: parts a batch is divided into, one after another, so that it needs less memory. The step is the same,
            unless the network takes batch statistics.
        scalars_per_batch: distinct s per batch, drawn stratified over [0, 1]; 1 is the paper's recipe.
        learning_rate: peak rate of AdamW for the network.
        phi_learning_rate: peak rate for λ's parameters, in a group of their own.
        weight_decay: of the network; λ's parameters have none.
        warmup_steps: linear warm-up, before a cosine decay to zero.
        clip_norm: largest gradient norm.
        clip: what that norm is of: "all" parameters, or "each" of DPI's sets, and the other parameters, alone.
        ema_decay: of the exponential moving average of the weights, which is what is saved and judged.
        precision: "bfloat16" computes the network under autocast on a device that has it; weights stay float32.
        seed: of data order, noise, scalars and initial weights.
        log_every: steps between logs.
        save_every: steps between calls of the save callback.
    """

    steps: int
    batch_size: int = 64
    accumulate: int = 1
    scalars_per_batch: int = 8
    learning_rate: float = 1e-3
    phi_learning_rate: float = 1e-2
    weight_decay: float = 0.0
    warmup_steps: int = 100
    clip_norm: float = 1.0
    clip: Literal["all", "each"] = "all"
    ema_decay: float = 0.999
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    log_every: int = 50
    save_every: int = 500

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size", "accumulate", "scalars_per_batch", "log_every", "save_every"):
            if getattr(self, key) < 1:
                raise ValueError(f"training.{key} is {getattr(self, key)}, but has to be at least 1.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"training.seed is {self.seed}, but has to lie in 0 to 2^63 - 1.")
        if self.scalars_per_batch > self.batch_size:
            raise ValueError(
                f"training.scalars_per_batch is {self.scalars_per_batch}, but has to be at most training.batch_size,"
                f" which is {self.batch_size}: one scalar per sample."
            )


@dataclass(frozen=True)
class StepLog:
    """What happened since the last log; `loss` is the mean over those steps."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    lam: tuple[float, ...] | None
    saturation: float | None


@dataclass(frozen=True)
class TrainingState:
    """All that a run needs to go on: weights, their average, the optimiser's moments, and the losses since the last log."""

    step: int
    tensors: dict[str, Tensor]


class EMA:
    """Exponential moving average of a module's parameters, shorter at the start (decay (1 + t) / (10 + t))."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average towards the module's present parameters."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in module.parameters()], weight)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Writes the average into the module."""
        for name, value in module.named_parameters():
            value.copy_(self.average[name])


def stratified_scalars(n: int, n_distinct: int, generator: torch.Generator) -> Tensor:
    """One s per sample with `n_distinct` values: one uniform draw in each equal part of [0, 1], float64, shape (n,).

    Where the parts cannot have equally many samples, it is drawn which have more.
    """
    offsets = torch.rand(n_distinct, generator=generator, dtype=torch.float64)
    values = (torch.arange(n_distinct) + offsets) / n_distinct
    if n % n_distinct:
        values = values[torch.randperm(n_distinct, generator=generator)]
    return values[torch.arange(n) * n_distinct // n]


class Problem(NamedTuple):
    """What a network is asked for in one step: inputs c_in·x_s, the process's target, and s; each (b, ...)."""

    inputs: Tensor
    target: Tensor
    s: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Problem:
        """The same change of all three."""
        return Problem(*map(change, self))


def noised(denoiser: Denoiser, x0: Tensor, eps: Tensor, s: Tensor) -> Problem:
    """The problem that clean samples, their noise and their scalars make; s has to be on the CPU."""
    process = denoiser.process
    return Problem(denoiser.network_input(process.add_noise(x0, eps, s), s), process.target(x0, eps, s), s)


def denoising_loss(denoiser: Denoiser, x0: Tensor, eps: Tensor, s: Tensor) -> Tensor:
    """Mean squared error of the network's output against the process's target, a scalar.

    Raises:
        ValueError: the network's output has another shape than its input, which would be broadcast in silence.
    """
    return Objective(denoiser)(*noised(denoiser, x0, eps, s))


class Objective(nn.Module):
    """The mean squared error as the forward of a module, which is what processes share gradients of."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, inputs: Tensor, target: Tensor, s: Tensor) -> Tensor:
        """Of the network's output against the target of a `Problem`."""
        output = self.denoiser.net(inputs.to(self.denoiser.dtype), self.denoiser.physical(s))
        if output.shape != target.shape:
            raise ValueError(
                f"the network makes {tuple(output.shape[1:])} of samples of shape {tuple(target.shape[1:])}, but has to keep"
                " it; mend the backbone, or the shape."
            )
        return (output.to(target.dtype) - target).square().mean()


def parameter_groups(denoiser: Denoiser, config: TrainingConfig) -> list[dict[str, Any]]:
    """The network with weight decay, and λ's parameters with their own rate and none."""
    phi = list(denoiser.net.schedule.parameters()) if isinstance(denoiser.net, DPI) else []
    network = [p for p in denoiser.parameters() if all(p is not q for q in phi)]
    groups = [{"params": network, "lr": config.learning_rate, "weight_decay": config.weight_decay}]
    return groups + ([{"params": phi, "lr": config.phi_learning_rate, "weight_decay": 0.0}] if phi else [])


def clipped_together(denoiser: Denoiser, config: TrainingConfig) -> list[list[nn.Parameter]]:
    """Parameters that share a gradient norm, see `TrainingConfig.clip`."""
    net, parameters = denoiser.net, list(denoiser.parameters())
    sets = [net.flat0, net.flat1] if config.clip == "each" and isinstance(net, DPI) else []
    others = [p for p in parameters if all(p is not each for each in sets)]
    return [[each] for each in sets] + ([others] if others else [])


def optimiser_of(denoiser: Denoiser, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; on a CUDA device its rates are tensors there, so that a step can be recorded."""
    groups, records = parameter_groups(denoiser, config), denoiser.device.type == "cuda"
    if records:
        groups = [group | {"lr": torch.tensor(group["lr"], device=denoiser.device)} for group in groups]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True, capturable=records)


def set_rates(optimiser: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """Sets the learning rate of each group."""
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def train(
    denoiser: Denoiser,
    data: Batches,
    config: TrainingConfig,
    save: Callable[[TrainingState], None] | None = None,
    resume: TrainingState | None = None,
    team: Team | None = None,
    replays: bool = False,
) -> Iterator[StepLog]:
    """Trains in place and yields a log every `log_every` steps; at the end the denoiser holds the averaged weights.

    Args:
        denoiser: network and process; trained where it lives.
        data: gives batches of clean samples.
        config: the recipe.
        save: called with the state every `save_every` steps and at the end, in the process that leads; given in all alike.
        resume: a state that `save` once received.
        team: the processes that train together; this one alone by default.
        replays: whether the network does the same work whatever its input and step, so that one process on a CUDA device
            may record a step and replay it, see `replay`.

    Raises:
        ValueError: the state to resume from belongs to another network, or a batch has fewer samples than parts.
        FloatingPointError: the loss is no longer finite.
    """
    team = team if team is not None else Team(denoiser.device)
    if team.size * config.accumulate > config.batch_size:
        raise ValueError(
            f"a batch of {config.batch_size} cannot be divided over {team.size} processes and {config.accumulate} parts"
            " each; raise training.batch_size, or lower training.accumulate."
        )
    denoiser.train()
    optimiser = optimiser_of(denoiser, config)
    peaks = [float(group["lr"]) for group in optimiser.param_groups]
    ema = EMA(denoiser, config.ema_decay)
    first = 0 if resume is None else _restore(resume, denoiser, ema, optimiser)
    take_step = step_taker(denoiser, config, optimiser, team, replays)
    losses, spent = ([], 0.0) if resume is None else _not_logged(resume, team.device)
    began = time.perf_counter() - spent
    for step in range(first, config.steps):
        factor = rate_factor(step, config)
        set_rates(optimiser, [peak * factor for peak in peaks])
        problem = draw_problem(denoiser, data, config, step)
        with global_seed(config.seed, step, _DRAWN_BY_THE_NETWORK, team.rank):
            loss, norm = take_step(problem)
        ema.update(denoiser, step)
        losses.append(loss)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            mean = team.mean(torch.stack(losses).mean()).item()
            if not math.isfinite(mean):
                raise FloatingPointError(f"the loss is {mean} at step {done}; lower training.learning_rate.")
            yield _log(denoiser, done, mean, peaks[0] * factor, norm.item(), time.perf_counter() - began)
            losses, began = [], time.perf_counter()
        if save is not None and (done % config.save_every == 0 or done == config.steps):
            losses = list(team.mean(torch.stack(losses))) if losses else []
            if team.leads:
                save(_state(done, denoiser, ema, optimiser, losses, time.perf_counter() - began))
    ema.copy_to(denoiser)
    denoiser.eval()


def draw_problem(denoiser: Denoiser, data: Batches, config: TrainingConfig, step: int) -> Problem:
    """What all processes together compute at a step, on the CPU."""
    generator = seeded_generator(config.seed, step)
    x0 = data.batch(config.batch_size, generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    return noised(denoiser, x0, eps, stratified_scalars(len(x0), config.scalars_per_batch, generator))


Step = Callable[[Problem], tuple[Tensor, Tensor]]
"""Moves the weights by one step of the optimiser; its loss and the norm of its gradient."""


def step_taker(
    denoiser: Denoiser, config: TrainingConfig, optimiser: torch.optim.Optimizer, team: Team, replays: bool
) -> Step:
    """A step of training; its loss is this process's, whose mean over processes is that of the batch.

    Args:
        denoiser: what is trained.
        config: the recipe.
        optimiser: see `optimiser_of`.
        team: the processes that train together.
        replays: see `train`.
    """
    objective = team.wrap(Objective(denoiser))
    clipped = clipped_together(denoiser, config)

    def step(problem: Problem) -> tuple[Tensor, Tensor]:
        n = len(problem.s)
        own = problem.map(team.share)
        parts = [Problem(*part) for part in zip(*(each.tensor_split(config.accumulate) for each in own), strict=True)]
        optimiser.zero_grad(set_to_none=True)
        losses = []
        for index, part in enumerate(parts):
            on_device = Problem(part.inputs.to(team.device), part.target.to(team.device), part.s)
            with nullcontext() if index == len(parts) - 1 else team.apart(objective):
                with multiplying_in(config.precision, team.device):
                    loss = objective(*on_device) * (len(part.s) * team.size / n)
                loss.backward()
            losses.append(loss.detach())
        norms = [nn.utils.clip_grad_norm_(together, config.clip_norm) for together in clipped]
        optimiser.step()
        return torch.stack(losses).sum(), torch.stack(norms).norm()

    if replays and team.device.type == "cuda" and team.size == config.accumulate == 1:
        # Convolutions in bfloat16 are faster in this layout.
        layout = torch.channels_last if config.precision == "bfloat16" else torch.contiguous_format
        return Replay(step, denoiser.net, team.device, layout)
    return step


@torch.no_grad()
def _log(denoiser: Denoiser, step: int, loss: float, rate: float, norm: float, seconds: float) -> StepLog:
    if not isinstance(denoiser.net, DPI):
        return StepLog(step, loss, rate, norm, seconds, None, None)
    curve = denoiser.net.schedule(torch.linspace(0, 1, CURVE_POINTS, dtype=torch.float64))
    saturation = denoiser.net.schedule.saturation()
    widths = [interval.width for interval in (saturation if isinstance(saturation, tuple) else (saturation,))]
    return StepLog(step, loss, rate, norm, seconds, tuple(curve.flatten().tolist()), min(widths))


def _state(
    step: int,
    denoiser: Denoiser,
    ema: EMA,
    optimiser: torch.optim.Optimizer,
    losses: Sequence[Tensor],
    seconds: float,
) -> TrainingState:
    tensors = {f"model.{name}": value.detach() for name, value in denoiser.named_parameters()}
    tensors |= {f"buffer.{name}": value for name, value in denoiser.named_buffers()}
    tensors |= {f"ema.{name}": value for name, value in ema.average.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
    if losses:
        tensors |= {"log.losses": torch.stack(list(losses)), "log.seconds": torch.tensor(seconds)}
    # Copies, for later steps write into them.
    return TrainingState(step, {name: tensor.clone() for name, tensor in tensors.items()})


def _restore(state: TrainingState, denoiser: Denoiser, ema: EMA, optimiser: torch.optim.Optimizer) -> int:
    for name, parameter in denoiser.named_parameters():
        found = state.tensors.get(f"model.{name}")
        if found is None or found.shape != parameter.shape:
            raise ValueError(
                f"the state to resume from has no {name} of shape {tuple(parameter.shape)}: it belongs to another recipe;"
                " remove it to start again."
            )
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            parameter.copy_(state.tensors[f"model.{name}"])
            ema.average[name].copy_(state.tensors[f"ema.{name}"])
        for name, value in denoiser.named_buffers():
            value.copy_(state.tensors[f"buffer.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _with_prefix(state.tensors, "optimiser.").items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return state.step


def _not_logged(state: TrainingState, device: torch.device) -> tuple[list[Tensor], float]:
    """Losses and seconds since the last log before a state."""
    if "log.losses" not in state.tensors:
        return [], 0.0
    return list(state.tensors["log.losses"].to(device)), state.tensors["log.seconds"].item()


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
