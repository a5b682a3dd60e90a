"""One sampling run with all that is shown of it, computed with torch; part of `compute`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from app.records import TrajectoryRequest, TrajectoryResult, VectorField
from dpi_core.analysis.trajectories import energy_distance, path_statistics
from dpi_core.data import load_data
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import LambdaSchedule
from dpi_core.mixtures import GaussianMixture
from dpi_core.model import Model, what_if
from dpi_core.samplers import State

Report = Callable[[int, int], None]

ARROWS = 17
DENSITY_CELLS = 72
JUDGED_POINTS, DATA_POINTS = 600, 1200
LARGEST_EXTENT = 4.0


def trajectory(model: Model, request: TrajectoryRequest, report: Report) -> TrajectoryResult:
    """Runs a sampler; a run that breaks keeps the states so far and says why.

    Raises:
        ValueError: the sampler, the grid, the steps or λ do not fit the model.
        FloatingPointError: the model's first answer was not finite.
    """
    schedule = what_if(model.net, request.lam, request.frozen_at)
    states, clock, error = [], [], ""
    started = time.perf_counter()
    try:
        for state in _states(model, request, schedule):
            states.append(state)
            clock.append(1000 * (time.perf_counter() - started))
            report(len(states), request.steps + 1)
    except FloatingPointError as broken:
        if len(states) < 2:
            raise
        error = f"The run stopped at step {len(states)} of {request.steps}: {broken} What came before is shown."
    result = _result(model, states, clock, schedule)
    return replace(result, **_planar(model, states, schedule), error=error)


def _states(model: Model, request: TrajectoryRequest, schedule: LambdaSchedule | None) -> Iterator[State]:
    inputs = request.inputs
    return model.sample_states(
        range(inputs.n), request.sampler, request.steps, inputs.seed, grid=request.grid, schedule=schedule
    )


def _result(model: Model, states: list[State], clock: list[float], schedule: LambdaSchedule | None) -> TrajectoryResult:
    s = np.array([state.s for state in states])
    c = model.process.coefficients(torch.from_numpy(s))
    scale = torch.hypot(c.alpha, c.sigma).clamp(min=1)
    x = torch.stack([state.x.cpu().double() / factor for state, factor in zip(states, scale, strict=True)])
    x0_hat = torch.stack([state.x0_hat.float().cpu() for state in states])
    paths = path_statistics(x)
    return TrajectoryResult(
        s=s,
        lam=_lambdas(states),
        curve=_curve(model, schedule),
        native=tuple(model.process.describe(value) for value in s.tolist()),
        scale=scale.numpy(),
        x=_channels_last(x.float()),
        x0_hat=_channels_last(x0_hat),
        nfe=np.array([state.nfe for state in states]),
        ms=np.array([0.0, *clock[1:]]),
        straightness=paths.straightness.numpy(),
        turning=paths.turning.numpy(),
    )


def _lambdas(states: list[State]) -> np.ndarray | None:
    values = [None if state.lam is None else state.lam.float().mean().item() for state in states]
    return None if None in values else np.array(values, dtype=np.float64)


@torch.no_grad()
def _curve(model: Model, schedule: LambdaSchedule | None) -> np.ndarray | None:
    if not isinstance(model.net, DPI):
        return None
    s = torch.linspace(0, 1, 201, dtype=torch.float64)
    lam = (model.net.schedule if schedule is None else schedule)(s).cpu().double()
    return np.stack([s.numpy(), (lam if lam.ndim == 1 else lam.mean(1)).numpy()])


# Points in the plane ----------------------------------------------------------------------------------------------


def _planar(model: Model, states: list[State], schedule: LambdaSchedule | None) -> dict:
    if model.recipe.shape != (2,):
        return {}
    data = load_data(model.recipe.data)
    fresh = data.held_out_batch(20_000, 0).double()
    some = [state.x[:JUDGED_POINTS].cpu() for state in states]
    energy = np.array([energy_distance(x, fresh[:DATA_POINTS]) for x in some])
    extent = _extent([*some, fresh])
    mixture = getattr(data, "distribution", None)
    known = mixture if isinstance(mixture, GaussianMixture) else None
    points = _lattice(extent, ARROWS)
    learned = [_velocity(model, points, state.s, schedule) for state in states]
    exact = None if known is None else [_exact_velocity(model, known, points, state.s) for state in states]
    density = _density(known, fresh, extent)
    field = VectorField(extent, points.numpy(), np.stack(learned), None if exact is None else np.stack(exact), density)
    return {"energy": energy, "field": field}


def _extent(points: list[Tensor]) -> float:
    largest = max(x.abs().quantile(0.99).item() for x in points)
    return min(LARGEST_EXTENT, float(np.ceil(2 * largest) / 2))


def _lattice(extent: float, count: int) -> Tensor:
    """Centres of count × count cells, rows from the top."""
    centres = extent * ((torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1)
    return torch.cartesian_prod(centres.flip(0), centres).flip(1)


def _velocity(model: Model, points: Tensor, s: float, schedule: LambdaSchedule | None) -> np.ndarray:
    """dx/ds of the network under the run's λ; NaN where it is undefined."""
    if schedule is None:
        velocity = model.predict(points.float(), s).velocity
    else:
        assert isinstance(model.net, DPI)
        with model.net.using(schedule):
            velocity = model.predict(points.float(), s).velocity
    return np.full(points.shape, np.nan) if velocity is None else velocity.cpu().numpy()


def _exact_velocity(model: Model, mixture: GaussianMixture, points: Tensor, s: float) -> np.ndarray:
    c = model.process.coefficients(s)
    if not model.process.exists("velocity", s):
        return np.full(points.shape, np.nan)
    x0 = mixture.posterior_mean(points, c.alpha, c.sigma)
    return model.process.convert(x0, "x0", "velocity", points, s).numpy()


def _density(mixture: GaussianMixture | None, fresh: Tensor, extent: float) -> np.ndarray:
    """Of the target on a raster, 1 at its highest: the closed form's, or a histogram of fresh data."""
    if mixture is not None:
        log_density = mixture.log_prob(_lattice(extent, DENSITY_CELLS))
        found = log_density.exp().reshape(DENSITY_CELLS, DENSITY_CELLS).numpy()
    else:
        ends = [[-extent, extent]] * 2
        counts, _, _ = np.histogram2d(fresh[:, 0].numpy(), fresh[:, 1].numpy(), DENSITY_CELLS, ends)
        found = counts.T[::-1]
    return (found / max(found.max(), 1e-12)).astype(np.float32)


def _channels_last(values: Tensor) -> np.ndarray:
    array = values.numpy()
    return np.moveaxis(array, -3, -1) if array.ndim == 5 else array
