"""What `load` returns: a denoiser, the recipe it was made by, and its measured scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.build import Recipe
from dpi_core.denoiser import Denoiser, Prediction
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule, LambdaSchedule
from dpi_core.noise_processes import NoiseProcess
from dpi_core.samplers import GRIDS, SAMPLERS, SampleNoise, State, sample_states
from dpi_core.types import Scalar


@dataclass(frozen=True)
class Sample:
    """The end of a sampling run and the way there.

    Attributes:
        x: the samples, shape (n, ...), in the network's dtype.
        states: every state, from noise to sample.
    """

    x: Tensor
    states: tuple[State, ...]

    @property
    def nfe(self) -> int:
        """Network evaluations per sample."""
        return self.states[-1].nfe


@dataclass
class Model:
    """A trained denoiser with its recipe; made by `dpi_core.load`, or from `build.build_denoiser`."""

    denoiser: Denoiser
    recipe: Recipe
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def net(self) -> nn.Module:
        """The conditioned network: a DPI, or another conditioning."""
        return self.denoiser.net

    @property
    def process(self) -> NoiseProcess:
        """The noise process the model was trained on."""
        return self.denoiser.process

    def to(self, device: str | torch.device) -> Model:
        """Moves the weights; returns itself."""
        self.denoiser.to(device)
        return self

    @torch.no_grad()
    def denoise(self, x_s: Float[Tensor, "b ..."], s: Scalar, s_theta: Scalar | None = None) -> Float[Tensor, "b ..."]:
        """x̂0 = E[x0 | x_s], shape of `x_s`.

        Args:
            x_s: noised samples, shape (b, ...).
            s: noise level in [0, 1], shape () or (b,).
            s_theta: the scalar of the parameters, if it is to differ from the noise level.
        """
        return self.denoiser(x_s.to(self.denoiser.device), s, s_theta)

    @torch.no_grad()
    def predict(self, x_s: Float[Tensor, "b ..."], s: Scalar) -> Prediction:
        """x̂0, ε, score and velocity, each shape of `x_s`; None where undefined at this s."""
        return self.denoiser.predict(x_s.to(self.denoiser.device), s)

    def sample(
        self,
        n: int,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> Sample:
        """Draws samples from noise.

        Args:
            n: how many; sample i is the same whatever n is.
            sampler: a name of `samplers.SAMPLERS`; the recipe's by default.
            steps: solver steps; the recipe's by default.
            seed: of the noise.
            grid: where the steps lie, a name of `samplers.GRIDS`.
            schedule: another λ for this run, e.g. `what_if(model.net, "linear")`; None is the model's own.

        Raises:
            ValueError: an unknown name, n or steps out of range, a process without a noise end, or another λ for a
                network with one parameter set.
        """
        states = tuple(self.sample_states(range(n), sampler, steps, seed, grid=grid, schedule=schedule))
        return Sample(states[-1].x.to(self.denoiser.dtype), states)

    def sample_states(
        self,
        indices: range,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> Iterator[State]:
        """The states of samples `indices` of a run, one by one; see `sample`."""
        if len(indices) < 1:
            raise ValueError(f"{len(indices)} samples were asked for; ask for at least 1.")
        name = sampler if sampler is not None else self.recipe.sampling.sampler
        for what, given, known in (("sampler", name, SAMPLERS), ("grid", grid, GRIDS)):
            if given not in known:
                raise ValueError(f"the {what} is {given!r}, but has to be one of {', '.join(sorted(known))}.")
        levels = GRIDS[grid](self.denoiser, steps if steps is not None else self.recipe.sampling.steps)
        noise = SampleNoise(seed, list(indices), self.recipe.shape)
        states = sample_states(self.denoiser, SAMPLERS[name], levels, noise)
        return states if schedule is None else _under(_two_sets(self.net), schedule, states)


WHAT_IFS = ("learned", "linear", "frozen", "reversed")


def what_if(net: nn.Module, name: str, lam: float = 0.5) -> LambdaSchedule | None:
    """Another λ to sample with; None for "learned".

    Args:
        net: the conditioned network.
        name: "learned"; "linear", λ = s; "frozen" at `lam`; or "reversed", 1 − λ(s), which swaps the parameter sets
            (with groups, of their mean λ).
        lam: where "frozen" stands, in [0, 1].

    Raises:
        ValueError: an unknown name, `lam` outside [0, 1], or a network with one parameter set.
    """
    if name not in WHAT_IFS:
        raise ValueError(f"λ is {name!r}, but has to be one of {', '.join(WHAT_IFS)}.")
    if name == "learned":
        return None
    learned = _two_sets(net).schedule
    if name == "reversed":
        with torch.no_grad():
            table = learned.table().cpu()
        mirrored = 1 - (table if table.ndim == 1 else table.mean(1))
        return FixedSchedule(mirrored.clamp(0, 1).tolist(), rounding=learned.rounding).to(_two_sets(net).flat0.device)
    return FixedSchedule("linear" if name == "linear" else lam).to(_two_sets(net).flat0.device)


def _two_sets(net: nn.Module) -> DPI:
    if not isinstance(net, DPI):
        raise ValueError(f"{type(net).__name__} has one parameter set, so there is no λ to change; choose a DPI model.")
    return net


def _under(net: DPI, schedule: LambdaSchedule, states: Iterator[State]) -> Iterator[State]:
    """The same states under another λ, which stands only while one is computed and never while the caller looks."""
    while True:
        with net.using(schedule):
            state = next(states, None)
        if state is None:
            return
        yield state
