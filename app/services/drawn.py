"""Samples that models drew lately: a page sweeps them, wants their pad, and puts other models beside. Imports torch."""

from __future__ import annotations

from torch import Tensor

from app.records import Inputs, ModelKey
from app.services.bounded import BoundedCache
from app.services.reporting import Report, reporting
from dpi_core.model import Model

MOST_BYTES = 16 * 2**20
"""Of all samples that are kept together."""

_kept: BoundedCache[tuple[ModelKey, int, int, str], Tensor] = BoundedCache(MOST_BYTES, lambda samples: samples.nbytes)


def drawn(model: Model, key: ModelKey, inputs: Inputs, report: Report) -> Tensor:
    """A model's own samples, (n, ...), on the CPU and, where they are images, within [-1, 1].

    Args:
        model: what draws them, as its recipe says.
        key: names it.
        inputs: how many samples, and their seed.
        report: hears of every step.
    """
    name = key, inputs.n, inputs.seed, str(model.denoiser.device)
    samples = _kept.find(name)
    if samples is None:
        states = model.sample_states(range(inputs.n), seed=inputs.seed)
        *_, last = reporting(states, model.recipe.sampling.steps + 1, report)
        samples = last.x.float().cpu()
        samples = samples.clamp(-1, 1) if samples.ndim == 4 else samples
        _kept.keep(name, samples)
    return samples
