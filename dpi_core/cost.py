"""What a network costs: parameters, bytes, arithmetic, and measured milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpi_core.denoiser import Denoiser
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
        forward_ms: of one batch at one scalar.
        step_ms: forward and backward of one batch with several scalars.
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


def measure_cost(denoiser: Denoiser, shape: tuple[int, ...], batch: int, scalars: int, repeats: int = 5) -> Cost:
    """Counts and times a network; of the repeated times the median is taken, after one to warm up.

    Args:
        denoiser: left as it was.
        shape: of one sample.
        batch: samples in a batch.
        scalars: distinct scalars in a training batch.
        repeats: how often each time is taken.
    """
    x0, eps = (torch.randn(batch, *shape, generator=seeded_generator(0, i)).to(denoiser.device) for i in (0, 1))
    s = stratified_scalars(batch, scalars, seeded_generator(0, 2))

    def forward() -> None:
        with torch.no_grad():
            denoiser(x0, 0.5)

    def step() -> None:
        torch.autograd.grad(denoising_loss(denoiser, x0, eps, s), [p for p in denoiser.parameters() if p.requires_grad])

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(x0[:1], 0.5)
    return Cost(
        parameters=sum(p.numel() for p in denoiser.parameters()),
        bytes=sum(p.numel() * p.element_size() for p in denoiser.parameters()),
        flops=counter.get_total_flops(),
        forward_ms=_milliseconds(forward, denoiser.device, repeats),
        step_ms=_milliseconds(step, denoiser.device, repeats),
        batch=batch,
        scalars=scalars,
    )


def _milliseconds(work: Callable[[], None], device: torch.device, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
