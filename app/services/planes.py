"""What is drawn behind points in the plane: the velocity on a lattice, the target's density, the distance to the data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.records import VectorField
from dpi_core.analysis.trajectories import energy_distance
from dpi_core.data import load_data
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import LambdaSchedule
from dpi_core.mixtures import GaussianMixture
from dpi_core.model import Model
from dpi_core.samplers import State

ARROWS = 17
DENSITY_CELLS = 72
JUDGED_POINTS, DATA_POINTS = 600, 1200
LARGEST_EXTENT = 4.0


class Plane:
    """The square that a run's points move in; it grows by what is known at each state.

    Args:
        model: of points in the plane.
        schedule: the run's λ, or None for the model's own.
        first: the state at the noise end; with the data it decides how large the square is.

    Attributes:
        energy: distance to the data at each state.
    """

    def __init__(self, model: Model, schedule: LambdaSchedule | None, first: State) -> None:
        self.model, self.schedule = model, schedule
        data = load_data(model.recipe.data)
        fresh = data.held_out_batch(20_000, 0).double()
        mixture = getattr(data, "distribution", None)
        self.mixture = mixture if isinstance(mixture, GaussianMixture) else None
        self.judges = fresh[:DATA_POINTS]
        self.extent = _extent([first.x[:JUDGED_POINTS].cpu(), fresh])
        self.density = _density(self.mixture, fresh, self.extent)
        self.points = _lattice(self.extent, ARROWS)
        self.energy: list[float] = []
        self._learned: list[np.ndarray] = []
        self._exact: list[np.ndarray] = []

    def add(self, state: State) -> None:
        """Takes the next state."""
        self.energy.append(energy_distance(state.x[:JUDGED_POINTS].cpu(), self.judges))
        self._learned.append(_velocity(self.model, self.points, state.s, self.schedule))
        if self.mixture is not None:
            self._exact.append(_exact_velocity(self.model, self.mixture, self.points, state.s))

    def field(self) -> VectorField:
        """The velocities at the states so far."""
        exact = np.stack(self._exact) if self._exact else None
        return VectorField(self.extent, self.points.numpy(), np.stack(self._learned), exact, self.density)


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
