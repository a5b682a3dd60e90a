"""How good samples are for the network evaluations they took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dpi_core.analysis.trajectories import distance, energy_distance
from dpi_core.data import Data
from dpi_core.lambda_schedules import LambdaSchedule
from dpi_core.model import Model
from dpi_core.samplers import AdaptiveSolver, AnySolver, Dopri5, State, draws_noise, find_solver, name_of

Run = tuple[str | AnySolver, int | None]
"""(sampler, steps); steps are None for a sampler that chooses its own."""

REFERENCE: Run = (Dopri5(rtol=1e-5, atol=1e-5), None)
"""What a run's error is measured against: tolerances a hundredth of the default ones."""

FRESH_POINTS, FLOOR_DRAWS = 1200, 20


@dataclass(frozen=True)
class Quality:
    """One run's price and worth.

    Attributes:
        sampler: its name.
        steps: the steps it took, accepted ones for a sampler that chooses its own.
        nfe: network evaluations per sample.
        error: root mean square difference of its samples to the reference from the same noise, over all entries; None for
            a sampler that draws noise on the way, which has no such reference.
        energy: energy distance of its samples to fresh data; None without data.
    """

    sampler: str
    steps: int
    nfe: int
    error: float | None
    energy: float | None


@dataclass(frozen=True)
class QualityProgress:
    """How far a comparison has come.

    Attributes:
        share: of all the runs, in [0, 1].
        found: the runs that are done, in the order they were asked for.
        floor: (low, high) between which 90 % of the energy distances of as much other data to the fresh data lie; None
            before the reference is done, and without data.
    """

    share: float
    found: tuple[Quality, ...]
    floor: tuple[float, float] | None


def quality_against_nfe(
    model: Model,
    runs: Sequence[Run],
    n: int,
    seed: int = 0,
    *,
    grid: str = "uniform",
    schedule: LambdaSchedule | None = None,
    reference: Run = REFERENCE,
    data: Data | None = None,
) -> Iterator[QualityProgress]:
    """Runs samplers from the same noise; yields after every step, so that it can be watched and stopped.

    Args:
        model: the model that samples.
        runs: samplers with their steps.
        n: samples, at least 2 where `data` are given.
        seed: of the noise, and of the fresh data.
        grid: of the samplers with fixed steps.
        schedule: another λ for all runs, the reference among them.
        reference: a fine run without noise on the way.
        data: where fresh points in the plane come from, to measure the energy distance.

    Raises:
        ValueError: no run, a reference that draws noise, or as for `Model.sample`.
        FloatingPointError: the model produced NaN or infinity; what was found before has been yielded.
    """
    if not runs:
        raise ValueError("no run was asked for; give at least one sampler with its steps.")
    if data is not None and tuple(data.shape) != (2,):
        raise ValueError(
            f"the data have shape {tuple(data.shape)}, but fresh data are compared for points in the plane."
        )
    solvers = [find_solver(sampler) for sampler, _ in (reference, *runs)]
    if draws_noise(solvers[0]):
        raise ValueError(
            f"the reference is {name_of(solvers[0])}, which draws noise on the way; take one that does not."
        )
    # All are begun before one is run, so that a misfit is refused at once.
    begun = [
        model.sample_states(
            range(n),
            solver,
            steps,
            seed,
            grid="uniform" if isinstance(solver, AdaptiveSolver) else grid,
            schedule=schedule,
        )
        for solver, (_, steps) in zip(solvers, (reference, *runs), strict=True)
    ]
    fresh = None if data is None else data.held_out_batch(FRESH_POINTS, seed)
    found: list[Quality] = []
    floor = None
    low, high = model.process.sampling_range
    for done, (solver, states) in enumerate(zip(solvers, begun, strict=True)):
        for state in states:
            yield QualityProgress((done + (high - state.s) / (high - low)) / len(begun), tuple(found), floor)
        if done == 0:
            exact = state.x.cpu()
            floor = None if data is None or fresh is None else _floor(data, fresh, n, seed)
        else:
            found.append(_quality(solver, state, exact, fresh))
    yield QualityProgress(1.0, tuple(found), floor)


def _quality(solver: AnySolver, end: State, exact: Tensor, fresh: Tensor | None) -> Quality:
    x = end.x.cpu()
    error = None if draws_noise(solver) else distance(x.flatten()[None], exact.flatten()[None], 1).item()
    energy = None if fresh is None else energy_distance(x, fresh)
    return Quality(name_of(solver), end.step, end.nfe, error, energy)


def _floor(data: Data, fresh: Float[Tensor, "m 2"], n: int, seed: int) -> tuple[float, float]:
    draws = [data.held_out_batch(n, seed + 1 + draw) for draw in range(FLOOR_DRAWS)]
    low, high = np.percentile([energy_distance(draw, fresh) for draw in draws], [5, 95])
    return float(low), float(high)
