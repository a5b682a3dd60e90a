"""One loop: a solver over a grid of s, every state yielded. States are float64, the network computes in its own dtype."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor

from dpi_core.denoiser import Denoiser
from dpi_core.samplers.grids import off_the_clean_end
from dpi_core.samplers.states import AdaptiveSolver, AnySolver, Arrival, RunSolver, SampleNoise, State, check_finite


def sample_states(
    denoiser: Denoiser, solver: AnySolver, grid: Sequence[float], noise: SampleNoise, x: Tensor | None = None
) -> Iterator[State]:
    """Runs a solver over a falling grid of s and yields every state, the first at pure noise.

    Where the solver does not reach σ = 0 at the grid's end, the last state is the denoiser's estimate there.

    Args:
        denoiser: network and process.
        solver: one of `SAMPLERS`, or an object of the same form.
        grid: s from high to low; a solver that chooses its own steps uses the two ends.
        noise: per-sample generators; also draws the start.
        x: a start at `grid[0]` instead of noise, shape (b, ...).

    Raises:
        ValueError: the process has no noise end to start from, or the grid does not fall.
        FloatingPointError: the model produced NaN or infinity; the message names the step.
    """
    process = denoiser.process
    if x is None:
        check_generative(denoiser, "sample from")
    if any(later >= earlier for earlier, later in zip(grid, grid[1:], strict=False)):
        raise ValueError(f"the grid {list(grid)[:4]}... has to fall from noise to the clean end.")
    x = process.prior_std * noise.draw() if x is None else x
    end = yield from _follow(denoiser, solver, grid, noise, x)
    x, nfe = end.x, end.nfe
    with torch.no_grad():
        lam = denoiser.lam(grid[-1])
        if process.coefficients(end.s).sigma > 0:
            x, nfe = denoiser(x, end.s), nfe + 1
    check_finite(x, end.step, end.s)
    yield State(end.step, grid[-1], x, x, lam, nfe)


def invert_states(denoiser: Denoiser, solver: AnySolver, grid: Sequence[float], x0: Tensor) -> Iterator[State]:
    """Runs the probability flow from data to noise and yields every state, the last at the noise end.

    The flow starts where σ/α is `LOWEST_RATIO` (or at the process's own clean end, where that is noisier), with the data
    taken as x/α there: at σ = 0 the noise is undefined. The difference is of the order of σ² times the score.

    Args:
        denoiser: network and process.
        solver: one that draws no noise.
        grid: s from low to high, as `rising_grid` makes it; a solver that chooses its own steps uses the two ends.
        x0: data, shape (b, ...).

    Raises:
        ValueError: the process has no noise end, or the grid does not rise.
        FloatingPointError: the model produced NaN or infinity; the message names the step.
    """
    check_generative(denoiser, "invert to")
    if any(later <= earlier for earlier, later in zip(grid, grid[1:], strict=False)):
        raise ValueError(f"the grid {list(grid)[:4]}... has to rise from the clean end to noise.")
    start = denoiser.process.coefficients(grid[0]).alpha.item() * x0.double()
    end = yield from _follow(denoiser, solver, grid, SampleNoise(0, [], ()), start)
    with torch.no_grad():
        x0_hat, lam = denoiser(end.x, end.s), denoiser.lam(end.s)
    check_finite(x0_hat, end.step, end.s)
    yield State(end.step, end.s, end.x, x0_hat, lam, end.nfe + 1)


def rising_grid(denoiser: Denoiser, grid: Sequence[float]) -> list[float]:
    """A falling grid turned round for `invert_states`, its clean end moved to where the noise is defined."""
    start = off_the_clean_end(denoiser.process, grid[-1])
    return [start, *(s for s in reversed(grid[:-1]) if s > start)]


def check_generative(denoiser: Denoiser, purpose: str) -> None:
    """Raises a ValueError for a process without a noise end."""
    if not denoiser.process.generative:
        raise ValueError(
            f"{type(denoiser.process).__name__} never drowns the image in noise, so there is nothing to {purpose}."
        )


def _follow(
    denoiser: Denoiser, solver: AnySolver, grid: Sequence[float], noise: SampleNoise, x: Tensor
) -> Generator[State, None, Arrival]:
    """Yields every state but the last and returns where the solver arrived."""
    x = x.to(denoiser.device, torch.float32 if denoiser.device.type == "mps" else torch.float64)
    if isinstance(solver, AdaptiveSolver):
        ends = [off_the_clean_end(denoiser.process, s) for s in (grid[0], grid[-1])]
        return (yield from solver.integrate(denoiser, x, *ends))
    take_step = solver.begin(grid) if isinstance(solver, RunSolver) else solver
    nfe = 0
    for step, (s, s_next) in enumerate(zip(grid, grid[1:], strict=False)):
        with torch.no_grad():
            result, lam = take_step(denoiser, x, s, s_next, noise), denoiser.lam(s)
        check_finite(result.x, step, s)
        yield State(step, s, x, result.x0_hat, lam, nfe)
        x, nfe = result.x, nfe + result.nfe
    return Arrival(len(grid) - 1, grid[-1], x, nfe)
