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
from dpi_core.noise_processes import NoiseProcess
from dpi_core.samplers import SAMPLERS, SampleNoise, State, sample_states, uniform_grid
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
    """A trained denoiser with its recipe; made by `dpi_core.load` or `build.build_model`."""

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

    def sample(self, n: int, sampler: str | None = None, steps: int | None = None, seed: int = 0) -> Sample:
        """Draws samples from noise.

        Args:
            n: how many; sample i is the same whatever n is.
            sampler: a name of `samplers.SAMPLERS`; the recipe's by default.
            steps: solver steps; the recipe's by default.
            seed: of the noise.

        Raises:
            ValueError: an unknown sampler, n or steps below 1, or a process without a noise end.
        """
        states = tuple(self.sample_states(range(n), sampler, steps, seed))
        return Sample(states[-1].x.to(self.denoiser.dtype), states)

    def sample_states(
        self, indices: range, sampler: str | None = None, steps: int | None = None, seed: int = 0
    ) -> Iterator[State]:
        """The states of samples `indices` of a run, one by one; see `sample`."""
        if len(indices) < 1:
            raise ValueError(f"{len(indices)} samples were asked for; ask for at least 1.")
        name = sampler if sampler is not None else self.recipe.sampling.sampler
        if name not in SAMPLERS:
            raise ValueError(f"the sampler is {name!r}, but has to be one of {', '.join(sorted(SAMPLERS))}.")
        grid = uniform_grid(self.denoiser, steps if steps is not None else self.recipe.sampling.steps)
        noise = SampleNoise(seed, list(indices), self.recipe.shape)
        return sample_states(self.denoiser, SAMPLERS[name], grid, noise)
