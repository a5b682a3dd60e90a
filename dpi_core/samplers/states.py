"""What a sampling run is made of: its states, its noise, and the three forms of a solver."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dpi_core.denoiser import Denoiser, Prediction
from dpi_core.seeds import seeded_generator


@dataclass(frozen=True)
class State:
    """One moment of a sampling run, or of an inversion, which runs the other way.

    Attributes:
        step: 0 at the start: pure noise, or the data of an inversion.
        s: the scalar at this moment.
        x: x_s, shape (b, ...), float64.
        x0_hat: the denoiser's estimate here, shape (b, ...); at the last state of a sampling run the sample itself.
        lam: λ(s), shape () or (g,); None without two parameter sets.
        nfe: network evaluations spent so far, per sample.
    """

    step: int
    s: float
    x: Tensor
    x0_hat: Tensor
    lam: Tensor | None
    nfe: int


@dataclass(frozen=True)
class StepResult:
    """What one solver step returns: the next x, x̂0 at its start, and the network evaluations it took."""

    x: Tensor
    x0_hat: Tensor
    nfe: int


class SampleNoise:
    """Standard normal noise with one generator per sample, so that a sample does not depend on its batch.

    Args:
        seed: of the run.
        indices: which samples of that run; sample i draws the same noise in any batch.
        shape: of one sample.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.generators = [seeded_generator(seed, index) for index in indices]

    def draw(self) -> Tensor:
        """(b, ...) float64, on the CPU."""
        return torch.stack([torch.randn(self.shape, generator=g, dtype=torch.float64) for g in self.generators])


Solver = Callable[[Denoiser, Tensor, float, float, SampleNoise], StepResult]
"""(denoiser, x_s, s, next s, noise) -> the next x."""


@runtime_checkable
class RunSolver(Protocol):
    """A solver that has to know its run, or to remember its past: every run begins with a step of its own."""

    def begin(self, grid: Sequence[float]) -> Solver:
        """The step for one run over this grid."""


@dataclass(frozen=True)
class Arrival:
    """Where a solver ends: the index, scalar and x of its last state, and the network evaluations spent."""

    step: int
    s: float
    x: Tensor
    nfe: int


@runtime_checkable
class AdaptiveSolver(Protocol):
    """A solver that chooses its own steps."""

    def integrate(self, denoiser: Denoiser, x: Tensor, s: float, s_end: float) -> Generator[State, None, Arrival]:
        """From x at s to s_end, up or down: yields every state but the last and returns the last.

        Raises:
            FloatingPointError: the model produced NaN or infinity, or the tolerance cannot be met.
        """


AnySolver = Solver | RunSolver | AdaptiveSolver


def ode_slope(denoiser: Denoiser, prediction: Prediction) -> Tensor:
    """The derivative of the state in the process's ODE coordinates."""
    slope = getattr(prediction, denoiser.process.ode_kind)
    assert slope is not None
    return slope


def check_finite(x: Tensor, step: int, s: float) -> None:
    """Raises a FloatingPointError that names the step if a number of `x` is NaN or infinite."""
    if not bool(torch.isfinite(x).all()):
        raise FloatingPointError(f"the model produced NaN or infinity at step {step} (s = {s:.3f}).")
