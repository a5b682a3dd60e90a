"""Sampling runs with all that is shown of them, computed with torch; part of `compute`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from app.records import PlaneRequest, PlaneResult, QualityRequest, QualityResult, TrajectoryRequest, TrajectoryResult
from app.services.planes import Plane
from app.services.reporting import Report
from dpi_core.analysis.trajectories import path_statistics, principal_plane
from dpi_core.data import load_data
from dpi_core.interpolation import DPI
from dpi_core.lambda_schedules import LambdaSchedule
from dpi_core.model import Model, what_if
from dpi_core.quality import QualityProgress, quality_against_nfe
from dpi_core.samplers import ADAPTIVE, State

PARTIAL_SECONDS = 1.0
"""How often the states so far are handed over."""

WHOLE = 1000
"""Progress is told in thousandths of the way."""


def trajectory(
    model: Model, request: TrajectoryRequest, report: Report, clean: Tensor | None = None
) -> TrajectoryResult:
    """Runs a sampler; a run that breaks keeps the states so far and says why.

    Args:
        model: what samples.
        request: what is asked for.
        report: hears how far the run is, and every second the states so far.
        clean: samples to carry to noise and back, (n, ...); None starts from noise.

    Raises:
        ValueError: the sampler, the grid, the steps or λ do not fit the model.
        FloatingPointError: the model's first answer was not finite.
    """
    schedule = what_if(model.net, request.lam, request.frozen_at, table=request.table or None)
    recording = _Recording(model, schedule, clean)
    handed_over = time.perf_counter()
    try:
        for state, ms in _timed(_states(model, request, schedule, report, clean)):
            recording.add(state, ms)
            is_due = len(recording.states) > 1 and time.perf_counter() - handed_over > PARTIAL_SECONDS
            report(*_progress(model, state, clean is not None), recording.result(ended=False) if is_due else None)
            handed_over = time.perf_counter() if is_due else handed_over
    except FloatingPointError as broken:
        if len(recording.states) < 2:
            raise
        steps = "" if request.sampler in ADAPTIVE else f" of {request.steps}"
        where = f"The run stopped at step {len(recording.states)}{steps}"
        return recording.result(error=f"{where}: {broken} What came before is shown.")
    return recording.result()


def plane(model: Model, request: PlaneRequest, report: Report) -> PlaneResult:
    """The plane in which samples of the model spread most."""
    inputs = request.inputs
    states = model.sample_states(range(inputs.n), request.sampler, request.steps, inputs.seed)
    for state in states:
        report(*_progress(model, state))
    found = principal_plane(state.x.double().cpu())
    samples = found.project(state.x.double().cpu())
    return PlaneResult(found.mean.numpy(), found.axes.numpy(), found.shares.numpy(), samples.numpy())


def quality(model: Model, request: QualityRequest, report: Report) -> QualityResult:
    """Error and distance to the data of several samplers, each with several numbers of steps."""
    inputs, result = request.inputs, None
    runs = [(name, steps or None) for name, steps in request.runs]
    data = load_data(model.recipe.data) if model.recipe.shape == (2,) else None
    for progress in quality_against_nfe(model, runs, inputs.n, inputs.seed, data=data):
        is_new = result is None or len(progress.found) > len(result.samplers)
        result = _quality_result(progress) if is_new else result
        report(round(WHOLE * progress.share), WHOLE, result if is_new and progress.found else None)
    assert result is not None
    return result


def _quality_result(progress: QualityProgress) -> QualityResult:
    found = progress.found
    energies = [point.energy for point in found]
    return QualityResult(
        samplers=tuple(point.sampler for point in found),
        steps=tuple(point.steps or 0 for point in found),
        nfe=np.array([point.nfe for point in found]),
        error=np.array([np.nan if point.error is None else point.error for point in found]),
        energy=None if None in energies else np.array(energies),
        floor=progress.floor,
    )


def _states(
    model: Model, request: TrajectoryRequest, schedule: LambdaSchedule | None, report: Report, clean: Tensor | None
) -> Iterator[State]:
    """The states from noise: the seed's, that on the great circle between two samples, or that of clean samples."""
    inputs, sampler, n = request.inputs, request.sampler, request.inputs.n
    steps, grid = (None, "uniform") if sampler in ADAPTIVE else (request.steps, request.grid)
    if clean is not None:
        return _way_back(model, model.round_trip_states(clean, sampler, steps, grid=grid, schedule=schedule), report)
    if request.between is None:
        return model.sample_states(range(n), sampler, steps, inputs.seed, grid=grid, schedule=schedule)
    first, second = model.noise(list(request.between), inputs.seed)
    return model.interpolate(first, second, n, sampler, steps, inputs.seed, grid=grid, schedule=schedule)


def _way_back(model: Model, states: Iterator[State], report: Report) -> Iterator[State]:
    """The states from where a round trip turns; the way out to the noise is only told of."""
    before, has_turned = -1, False
    for state in states:
        has_turned = has_turned or state.step < before
        before = state.step
        if has_turned:
            yield state
        else:
            report((WHOLE - _progress(model, state)[0]) // 2, WHOLE)


def _progress(model: Model, state: State, is_second_half: bool = False) -> tuple[int, int]:
    """How far a run is: by s, for not every sampler knows its steps."""
    low, high = model.process.sampling_range
    done = round(WHOLE * (high - state.s) / (high - low))
    return (WHOLE + done) // 2 if is_second_half else done, WHOLE


def _timed(states: Iterator[State]) -> Iterator[tuple[State, float]]:
    """Each state with the milliseconds spent on it and those before, without what happens to them in between."""
    spent = 0.0
    while True:
        started = time.perf_counter()
        state = next(states, None)
        spent += 1000 * (time.perf_counter() - started)
        if state is None:
            return
        yield state, spent


@dataclass
class _Recording:
    """The states of one run as they come."""

    model: Model
    schedule: LambdaSchedule | None
    clean: Tensor | None
    states: list[State] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    plane: Plane | None = None

    def add(self, state: State, ms: float) -> None:
        self.states.append(state)
        self.clock.append(ms)
        if self.model.recipe.shape == (2,):
            self.plane = self.plane or Plane(self.model, self.schedule, state)
            self.plane.add(state)

    def result(self, error: str = "", ended: bool = True) -> TrajectoryResult:
        states, process = self.states, self.model.process
        s = np.array([state.s for state in states])
        c = process.coefficients(torch.from_numpy(s))
        scale = torch.hypot(c.alpha, c.sigma).clamp(min=1)
        x = torch.stack([state.x.cpu().double() / factor for state, factor in zip(states, scale, strict=True)])
        paths = path_statistics(x)
        return TrajectoryResult(
            s=s,
            lam=_lambdas(states),
            curve=_curve(self.model, self.schedule),
            native=tuple(process.describe(value) for value in s.tolist()),
            scale=scale.numpy(),
            x=_channels_last(x.float()),
            x0_hat=_channels_last(torch.stack([state.x0_hat.float().cpu() for state in states])),
            nfe=np.array([state.nfe for state in states]),
            ms=np.array([0.0, *self.clock[1:]]),
            straightness=paths.straightness.numpy(),
            turning=paths.turning.numpy(),
            energy=None if self.plane is None else np.array(self.plane.energy),
            field=None if self.plane is None else self.plane.field(),
            origin=None if self.clean is None else _channels_last(self.clean.float().cpu()),
            error=error,
            ended=ended,
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


def _channels_last(values: Tensor) -> np.ndarray:
    """Images (..., c, h, w) as (..., h, w, c); points as they are."""
    array = values.numpy()
    return np.moveaxis(array, -3, -1) if array.ndim >= 4 else array
