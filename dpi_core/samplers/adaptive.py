"""Dormand and Prince's pair of orders 5 and 4: steps as long as an error tolerance allows."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpi_core.denoiser import Denoiser
from dpi_core.samplers.states import Arrival, State, check_finite, ode_slope

MAX_ATTEMPTS = 1000
STOPS = (1.0, 10.0, 100.0)
"""Times no step passes over. A diffusion's x/α is as large as σ/α, so a step from far out to the clean end would be judged
by a tolerance for numbers of the size of the noise."""


@dataclass(frozen=True)
class Dopri5:
    """Dormand & Prince 1980 on the probability flow, in the coordinates of the fixed-step ODE solvers, by torchdiffeq.

    It chooses its own steps, so a number of steps and a grid mean nothing to it and are refused. A state
    is an accepted step, and its NFE counts rejected attempts: 2 evaluations to begin, 6 per attempt, 1 at the end.

    The estimated error of every sample is held below the tolerance, root mean square over its entries, so the sample that
    needs the shortest steps sets them for its batch: a sample drawn alone equals the same one drawn among others within
    the tolerance, not to the bit.

    Attributes:
        rtol: relative tolerance of one step, above 0.
        atol: absolute tolerance of one step, above 0, in units of x/α for diffusions and of x for flows.

    Raises:
        ValueError: a tolerance is not a positive number.
    """

    rtol: float = 1e-3
    atol: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value:g}, but a tolerance has to be a positive number, for example 1e-3.")

    def integrate(self, denoiser: Denoiser, x: Tensor, s: float, s_end: float) -> Generator[State, None, Arrival]:
        """From x at s to s_end, up or down: yields every accepted state but the last and returns the last.

        Raises:
            FloatingPointError: the model produced NaN or infinity, or the tolerance cannot be met.
        """
        flow, end = Flow(denoiser, 1 if s_end > s else -1), denoiser.process.ode_time(s_end)
        with torch.no_grad():
            solver = self._solver(flow, x / denoiser.process.ode_scale(s), flow.sign * end)
            solver._before_integrate(x.new_tensor([flow.sign * denoiser.process.ode_time(s)]))
        nfe = 0
        while solver.rk_state.t1 < flow.sign * end:
            reached = solver.rk_state
            with torch.no_grad():
                # x̂0 is where the straight line along the slope arrives at time 0, for diffusions and flows alike.
                x0_hat, lam = reached.y1 - reached.t1 * reached.f1, denoiser.lam(s)
            yield State(flow.step, s, x, x0_hat, lam, nfe)
            with torch.no_grad():
                _accept_one(solver, flow)
            s = flow.s(solver.rk_state.t1) if solver.rk_state.t1 < flow.sign * end else s_end
            x, nfe = denoiser.process.ode_scale(s) * solver.rk_state.y1, flow.nfe
        return Arrival(flow.step, s, x, nfe)

    def _solver(self, flow: Flow, y: Tensor, end: float) -> Any:
        """The public `odeint` answers only at the end; its solver, taken step by step, can be watched and cancelled."""
        from torchdiffeq._impl.dopri5 import Dopri5Solver  # imports scipy, which takes seconds

        stops = y.new_tensor(sorted({flow.sign * stop for stop in STOPS if flow.sign * stop < end} | {end}))
        return Dopri5Solver(flow, y, self.rtol, self.atol, norm=_worst_sample, step_t=stops, dtype=y.dtype)


class Flow:
    """The ODE's right-hand side in a time that rises along the run, with the calls torchdiffeq makes."""

    def __init__(self, denoiser: Denoiser, sign: int) -> None:
        self.denoiser, self.sign = denoiser, sign
        self.step, self.nfe, self.attempts = 0, 0, 0

    def s(self, time: Tensor) -> float:
        """The scalar at a solver's time."""
        return self.denoiser.process.s_at_ode_time(self.sign * time.item())

    def __call__(self, time: Tensor, y: Tensor, perturb: Any = None) -> Tensor:
        """The slope at a solver's time."""
        s = self.s(time)
        self.nfe += 1
        slope = ode_slope(self.denoiser, self.denoiser.predict(self.denoiser.process.ode_scale(s) * y, s))
        check_finite(slope, self.step, s)
        return self.sign * slope

    def callback_step(self, time: Tensor, y: Tensor, step: Tensor) -> None:
        """Before an attempt."""
        self.attempts += 1
        if self.attempts > MAX_ATTEMPTS or not time + step > time:
            raise FloatingPointError(
                f"dopri5 cannot meet its tolerance at step {self.step} (s = {self.s(time):.3f});"
                " raise rtol and atol, or take a sampler of fixed steps."
            )

    def callback_accept_step(self, time: Tensor, y: Tensor, step: Tensor) -> None:
        """The attempt was good enough."""
        self.step += 1

    def callback_reject_step(self, time: Tensor, y: Tensor, step: Tensor) -> None:
        """The attempt was too long and is made again, shorter."""


def _accept_one(solver: Any, flow: Flow) -> None:
    """Attempts until one is accepted."""
    step = flow.step
    while flow.step == step:
        solver.rk_state = solver._adaptive_step(solver.rk_state)


def _worst_sample(error: Tensor) -> Tensor:
    """The largest root mean square of a sample."""
    return error.flatten(1).square().mean(1).max().sqrt()
