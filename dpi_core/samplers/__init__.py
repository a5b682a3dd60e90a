"""From noise to samples and back: one loop, one short step per solver, every state yielded."""

from functools import partial

from dpi_core.samplers.adaptive import Dopri5
from dpi_core.samplers.grids import (
    GRIDS,
    HIGHEST_RATIO,
    LOWEST_RATIO,
    MAX_STEPS,
    karras_grid,
    log_snr,
    log_snr_grid,
    noise_to_signal,
    uniform_grid,
)
from dpi_core.samplers.latents import slerp
from dpi_core.samplers.loop import check_generative, invert_states, rising_grid, sample_states
from dpi_core.samplers.states import (
    AdaptiveSolver,
    AnySolver,
    RunSolver,
    SampleNoise,
    Solver,
    State,
    StepResult,
)
from dpi_core.samplers.steps import (
    DPMSolverPlusPlus2M,
    EDMStochastic,
    ddim_step,
    ddpm_step,
    euler_step,
    heun_step,
    rk4_step,
)

SAMPLERS: dict[str, AnySolver] = {
    "ddim": ddim_step,
    "ddpm": ddpm_step,
    "euler": euler_step,
    "heun": heun_step,
    "dpmpp_2m": DPMSolverPlusPlus2M(),
    "rk4": rk4_step,
    "edm": EDMStochastic(),
    "dopri5": Dopri5(),
}
STOCHASTIC = ("ddpm", "edm")
"""Those that draw fresh noise on the way, and so have no inverse."""
ADAPTIVE = ("dopri5",)
"""Those that choose their own steps, so that a number of steps and a grid mean nothing to them."""


def find_solver(sampler: str | AnySolver) -> AnySolver:
    """A solver by its name in `SAMPLERS`; a solver is given back.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(sampler, str) and sampler not in SAMPLERS:
        raise ValueError(f"the sampler is {sampler!r}, but has to be one of {', '.join(sorted(SAMPLERS))}.")
    return SAMPLERS[sampler] if isinstance(sampler, str) else sampler


def draws_noise(solver: AnySolver) -> bool:
    """Whether a solver draws fresh noise on the way."""
    if isinstance(solver, partial) and solver.func is ddim_step:
        return solver.keywords.get("eta", 0.0) > 0
    return solver is ddpm_step or isinstance(solver, EDMStochastic)


def name_of(solver: AnySolver) -> str:
    """A solver's name in `SAMPLERS`, whatever its settings; its own name if it is none of those."""
    solver = solver.func if isinstance(solver, partial) else solver
    for name, known in SAMPLERS.items():
        if known is solver or (not callable(solver) and type(known) is type(solver)):
            return name
    return getattr(solver, "__name__", type(solver).__name__)


__all__ = [
    "ADAPTIVE",
    "GRIDS",
    "HIGHEST_RATIO",
    "LOWEST_RATIO",
    "MAX_STEPS",
    "SAMPLERS",
    "STOCHASTIC",
    "AdaptiveSolver",
    "AnySolver",
    "DPMSolverPlusPlus2M",
    "Dopri5",
    "EDMStochastic",
    "RunSolver",
    "SampleNoise",
    "Solver",
    "State",
    "StepResult",
    "check_generative",
    "ddim_step",
    "ddpm_step",
    "draws_noise",
    "euler_step",
    "find_solver",
    "heun_step",
    "invert_states",
    "karras_grid",
    "log_snr",
    "log_snr_grid",
    "name_of",
    "noise_to_signal",
    "rising_grid",
    "rk4_step",
    "sample_states",
    "slerp",
    "uniform_grid",
]
