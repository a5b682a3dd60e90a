"""What `load` returns: a denoiser, the recipe it was made by, and its measured scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpi_core.analysis.trajectories import distance
from dpi_core.build import Recipe
from dpi_core.denoiser import Denoiser, Prediction
from dpi_core.hub import HubMixin
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import FixedSchedule, LambdaSchedule
from dpi_core.noise_processes import NoiseProcess
from dpi_core.samplers import (
    GRIDS,
    SAMPLERS,
    STOCHASTIC,
    AdaptiveSolver,
    AnySolver,
    SampleNoise,
    State,
    check_generative,
    draws_noise,
    find_solver,
    invert_states,
    name_of,
    rising_grid,
    sample_states,
    slerp,
)
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


@dataclass(frozen=True)
class RoundTrip:
    """Data taken to noise and back by the same sampler.

    Attributes:
        out: the states from data to noise.
        back: the states from that noise to the samples.
        error: root mean square difference of each sample to its data, over its entries, (n,).
    """

    out: tuple[State, ...]
    back: tuple[State, ...]
    error: Tensor


@dataclass
class Model(HubMixin):
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
        sampler: str | AnySolver | None = None,
        steps: int | None = None,
        seed: int = 0,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> Sample:
        """Draws samples from noise.

        Args:
            n: how many; sample i is the same whatever n is.
            sampler: a name of `samplers.SAMPLERS`, or a solver, e.g. `Dopri5(rtol=1e-6)`; the recipe's by default.
            steps: solver steps; the recipe's by default. A sampler that chooses its own steps refuses them.
            seed: of the noise.
            grid: where the steps lie, a name of `samplers.GRIDS`.
            schedule: another λ for this run, e.g. `what_if(model.net, "linear")`; None is the model's own.

        Raises:
            ValueError: an unknown name, n or steps out of range, steps or a grid for a sampler that chooses its own, a
                process without a noise end, or another λ for a network with one parameter set.
            FloatingPointError: the model produced NaN or infinity; the message names the step.
        """
        states = tuple(self.sample_states(range(n), sampler, steps, seed, grid=grid, schedule=schedule))
        return Sample(states[-1].x.to(self.denoiser.dtype), states)

    def sample_states(
        self,
        indices: Sequence[int],
        sampler: str | AnySolver | None = None,
        steps: int | None = None,
        seed: int = 0,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
        start: Float[Tensor, "n ..."] | None = None,
    ) -> Iterator[State]:
        """The states of samples `indices` of a run, one by one; see `sample`.

        Args:
            indices: which samples of the run; sample i has its own noise.
            sampler: a name or a solver.
            steps: solver steps.
            seed: of the noise.
            grid: where the steps lie.
            schedule: another λ for this run.
            start: x at the noise end instead of the seed's noise, one for each index, as `noise` and `invert` give it.
        """
        if len(indices) < 1:
            raise ValueError(f"{len(indices)} samples were asked for; ask for at least 1.")
        solver, levels = self._run(sampler, steps, grid)
        if start is not None:
            self._check_samples(start, "start", len(indices))
        noise = SampleNoise(seed, list(indices), self.recipe.shape)
        return self._with(schedule, sample_states(self.denoiser, solver, levels, noise, start))

    def noise(self, indices: Sequence[int], seed: int = 0) -> Float[Tensor, "n ..."]:
        """The noise that samples `indices` of a run start from, float64 on the CPU.

        Raises:
            ValueError: the process has no noise end.
        """
        check_generative(self.denoiser, "sample from")
        return self.process.prior_std * SampleNoise(seed, list(indices), self.recipe.shape).draw()

    def invert(
        self,
        x0: Float[Tensor, "n ..."],
        sampler: str | AnySolver | None = None,
        steps: int | None = None,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> Iterator[State]:
        """The states from data to the noise they would be sampled from, by the probability flow; the last one is the noise.

        Args:
            x0: data, shape (n, ...).
            sampler: one that draws no noise; the recipe's by default.
            steps: solver steps; the recipe's by default. A sampler that chooses its own steps refuses them.
            grid: where the steps lie, a name of `samplers.GRIDS`, taken from its clean end.
            schedule: another λ for this run.

        Raises:
            ValueError: a sampler that draws noise, data of another shape than the model's, or as for `sample`.
            FloatingPointError: the model produced NaN or infinity; the message names the step.
        """
        solver, levels = self._deterministic_run(sampler, steps, grid)
        self._check_samples(x0, "x0", len(x0))
        return self._with(schedule, invert_states(self.denoiser, solver, rising_grid(self.denoiser, levels), x0))

    def round_trip_states(
        self,
        x0: Float[Tensor, "n ..."],
        sampler: str | AnySolver | None = None,
        steps: int | None = None,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> Iterator[State]:
        """The states from data to noise, then those back to the data over the same levels; see `invert`.

        The second part begins with step 0 and NFE 0 again.
        """
        solver, levels = self._deterministic_run(sampler, steps, grid)
        out = self.invert(x0, solver, steps, grid=grid, schedule=schedule)
        rising = rising_grid(self.denoiser, levels)
        falling = [*reversed(rising), *(s for s in levels[-1:] if s < rising[0])]
        return self._there_and_back(out, solver, falling, schedule)

    def _there_and_back(
        self, out: Iterator[State], solver: AnySolver, grid: list[float], schedule: LambdaSchedule | None
    ) -> Iterator[State]:
        for state in out:
            noise = state.x
            yield state
        no_draws = SampleNoise(0, [], self.recipe.shape)
        yield from self._with(schedule, sample_states(self.denoiser, solver, grid, no_draws, noise))

    def round_trip(
        self,
        x0: Float[Tensor, "n ..."],
        sampler: str | AnySolver | None = None,
        steps: int | None = None,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> RoundTrip:
        """Data taken to noise and back, with the error of each sample; see `invert`."""
        states = list(self.round_trip_states(x0, sampler, steps, grid=grid, schedule=schedule))
        turn = next(i for i in range(1, len(states)) if states[i].step == 0)
        error = distance(states[-1].x.cpu(), x0.cpu(), len(self.recipe.shape))
        return RoundTrip(tuple(states[:turn]), tuple(states[turn:]), error)

    def interpolate(
        self,
        a: Float[Tensor, ...],
        b: Float[Tensor, ...],
        n: int,
        sampler: str | AnySolver | None = None,
        steps: int | None = None,
        seed: int = 0,
        *,
        grid: str = "uniform",
        schedule: LambdaSchedule | None = None,
    ) -> Iterator[State]:
        """The states of n samples whose noise lies evenly on the great circle from a to b, both ends among them.

        Args:
            a: the noise of the first sample, in the shape of one, as `noise` and `invert` give it.
            b: the noise of the last sample.
            n: how many samples, at least 2.
            sampler: as for `sample`.
            steps: as for `sample`.
            seed: of the noise a stochastic sampler draws on the way.
            grid: as for `sample`.
            schedule: as for `sample`.

        Raises:
            ValueError: n below 2, noise of another shape or of opposite directions, or as for `sample`.
        """
        if n < 2:
            raise ValueError(f"{n} samples were asked for between two; ask for at least 2, the ends themselves.")
        self._check_samples(torch.stack([a, b]), "the noise", 2)
        start = slerp(a.cpu(), b.cpu(), torch.linspace(0, 1, n, dtype=torch.float64))
        return self.sample_states(range(n), sampler, steps, seed, grid=grid, schedule=schedule, start=start)

    def _run(self, sampler: str | AnySolver | None, steps: int | None, grid: str) -> tuple[AnySolver, list[float]]:
        """The solver and the levels of a run."""
        solver = find_solver(sampler if sampler is not None else self.recipe.sampling.sampler)
        if grid not in GRIDS:
            raise ValueError(f"the grid is {grid!r}, but has to be one of {', '.join(sorted(GRIDS))}.")
        if isinstance(solver, AdaptiveSolver):
            if steps is not None or grid != "uniform":
                what = f"steps is {steps}" if steps is not None else f"the grid is {grid!r}"
                raise ValueError(
                    f"{what}, but {name_of(solver)} chooses its own steps; leave steps and grid out: its tolerance decides."
                )
            return solver, GRIDS["uniform"](self.denoiser, 1)
        return solver, GRIDS[grid](self.denoiser, steps if steps is not None else self.recipe.sampling.steps)

    def _deterministic_run(
        self, sampler: str | AnySolver | None, steps: int | None, grid: str
    ) -> tuple[AnySolver, list[float]]:
        solver, levels = self._run(sampler, steps, grid)
        if draws_noise(solver):
            follow = ", ".join(sorted(set(SAMPLERS) - set(STOCHASTIC)))
            raise ValueError(f"{name_of(solver)} draws noise on the way, so it has no inverse; take one of {follow}.")
        return solver, levels

    def _check_samples(self, x: Tensor, name: str, n: int) -> None:
        expected = (n, *self.recipe.shape)
        if tuple(x.shape) != expected:
            raise ValueError(f"{name} has shape {tuple(x.shape)}, but has to have shape {expected} for this model.")

    def _with(self, schedule: LambdaSchedule | None, states: Iterator[State]) -> Iterator[State]:
        return states if schedule is None else _under(_two_sets(self.net), schedule, states)


WHAT_IFS = ("learned", "linear", "frozen", "reversed", "table")


def what_if(net: nn.Module, name: str, lam: float = 0.5, table: Sequence[float] | None = None) -> LambdaSchedule | None:
    """Another λ to sample with; None for "learned".

    Args:
        net: the conditioned network.
        name: "learned"; "linear", λ = s; "frozen" at `lam`; "reversed", 1 − λ(s), which swaps the parameter sets
            (with groups, of their mean λ); or "table".
        lam: where "frozen" stands, in [0, 1].
        table: of "table": at least 2 values in [0, 1] at equally spaced s from 0 to 1, straight lines between them.

    Raises:
        ValueError: an unknown name, a value of λ that is no number in [0, 1], "table" without a table of at least 2
            entries, a table for another name, or a network with one parameter set.
    """
    if name not in WHAT_IFS:
        raise ValueError(f"λ is {name!r}, but has to be one of {', '.join(WHAT_IFS)}.")
    if (name == "table") != (table is not None):
        raise ValueError(f'λ is {name!r} {"without" if table is None else "with"} a table; give a table with "table".')
    if name == "learned":
        return None
    net = _two_sets(net)
    if name == "reversed":
        return _mirrored(net.schedule).to(net.flat0.device)
    curve = table if table is not None else lam if name == "frozen" else "linear"
    return FixedSchedule(curve).to(net.flat0.device)


def _mirrored(learned: LambdaSchedule) -> FixedSchedule:
    with torch.no_grad():
        table = learned.table().cpu()
    mirrored = 1 - (table if table.ndim == 1 else table.mean(1))
    return FixedSchedule(mirrored.clamp(0, 1).tolist(), rounding=learned.rounding)


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
