"""What every test gets: signatures checked while they run, one thread, and fixed seeds."""

from collections.abc import Iterator

import jaxtyping

# Before dpi_core is imported: shapes and types in its signatures are then checked at every call. The numeric tower is
# PEP 484's rule that an int may stand where a float is asked for.
jaxtyping.install_import_hook(["dpi_core"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest  # noqa: E402
import torch  # noqa: E402

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
    """Lets values of the wrong type through, as they come where signatures are not checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
