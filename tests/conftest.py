"""What every test gets: signatures checked while they run, one thread, and fixed seeds."""

from collections.abc import Callable, Iterator

import jaxtyping

# Before dpi_core is imported: shapes and types in its signatures are then checked at every call. The numeric tower is
# PEP 484's rule that an int may stand where a float is asked for.
jaxtyping.install_import_hook(["dpi_core"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from dpi_core.denoiser import Denoiser  # noqa: E402
from dpi_core.mixtures import GaussianMixture  # noqa: E402
from dpi_core.noise_processes import NoiseProcess  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_initial_weights():
    """Layers of torch draw their first weights from the global generator."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switches the checks of signatures off: for values of the wrong type, as users pass them, and for long loops."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class PosteriorMean(nn.Module):
    """The optimal network: what a process's prediction is when x̂0 is the mixture's exact posterior mean, for s > 0."""

    def __init__(self, process: NoiseProcess, mixture: GaussianMixture) -> None:
        super().__init__()
        self.process, self.mixture = process, mixture
        self.precision = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, s: float | Tensor) -> Tensor:
        pre, c = self.process.preconditioning(s), self.process.coefficients(s)
        c_skip, c_out, c_in = (value[..., None] for value in (pre.c_skip, pre.c_out, pre.c_in))
        x_s = x / c_in
        return (self.mixture.posterior_mean(x_s, c.alpha, c.sigma) - c_skip * x_s) / c_out


@pytest.fixture
def optimal_denoiser() -> Callable[[NoiseProcess, GaussianMixture], Denoiser]:
    return lambda process, mixture: Denoiser(PosteriorMean(process, mixture), process)
