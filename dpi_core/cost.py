"""What a network costs: parameters, bytes, arithmetic, and measured milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpi_core.build import Recipe, build_denoiser
from dpi_core.precision import multiplying_in
from dpi_core.seeds import seeded_generator
from dpi_core.training import denoising_loss, stratified_scalars


@dataclass(frozen=True)
class Cost:
    """The cost of one network on one machine.

    Attributes:
        parameters: numbers that are stored, both sets and λ of a DPI network among them.
        bytes: they take in memory.
        flops: floating-point operations of a forward of one sample, as torch counts them: matrix products and
            convolutions; the blend of two parameter sets is not among them.
        forward_ms: of one batch at one scalar, in float32.
        step_ms: forward and backward of one batch with several scalars, in the precision of training.
        batch: its samples.
        scalars: distinct scalars in a training batch.
    """

    parameters: int
    bytes: int
    flops: int
    forward_ms: float
    step_ms: float
    batch: int
    scalars: int


def measure_costs(recipes: Mapping[str, Recipe], device: str = "cpu", rounds: int = 9) -> dict[str, Cost]:
    """Counts and times networks as they are before training; of each one's times the median is taken.

    They are timed by turns, so that a machine that is slower for a while is so for all.

    Args:
        recipes: what is measured, by name.
        device: where.
        rounds: how often each is timed, after one to warm up.
    """
    subjects = {name: _Subject(recipe, device) for name, recipe in recipes.items()}
    for _ in range(1 + rounds):
        for subject in subjects.values():
            subject.time()
    return {name: subject.cost() for name, subject in subjects.items()}


class _Subject:
    """One network, with what its times have been so far."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self._training = recipe.training
        self._denoiser = build_denoiser(recipe).to(device)
        batch, scalars = self._training.batch_size, self._training.scalars_per_batch
        x0, eps = (torch.randn(batch, *recipe.shape, generator=seeded_generator(0, i)) for i in (0, 1))
        self._x0, self._eps = x0.to(device), eps.to(device)
        self._s = stratified_scalars(batch, scalars, seeded_generator(0, 2))
        self._forward_ms: list[float] = []
        self._step_ms: list[float] = []

    def time(self) -> None:
        """Takes each time once more."""
        self._forward_ms.append(_milliseconds(self._forward, self._denoiser.device))
        self._step_ms.append(_milliseconds(self._step, self._denoiser.device))

    def cost(self) -> Cost:
        """What was counted, and the medians of the times but the first."""
        parameters = list(self._denoiser.parameters())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self._denoiser(self._x0[:1], 0.5)
        return Cost(
            parameters=sum(p.numel() for p in parameters),
            bytes=sum(p.numel() * p.element_size() for p in parameters),
            flops=counter.get_total_flops(),
            forward_ms=statistics.median(self._forward_ms[1:]),
            step_ms=statistics.median(self._step_ms[1:]),
            batch=self._training.batch_size,
            scalars=self._training.scalars_per_batch,
        )

    @torch.no_grad()
    def _forward(self) -> None:
        self._denoiser(self._x0, 0.5)

    def _step(self) -> None:
        with multiplying_in(self._training.precision, self._denoiser.device):
            loss = denoising_loss(self._denoiser, self._x0, self._eps, self._s)
        torch.autograd.grad(loss, [p for p in self._denoiser.parameters() if p.requires_grad])


def _milliseconds(work: Callable[[], None], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return 1e3 * (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
