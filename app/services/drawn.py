"""Samples that models drew lately: a page sweeps them, wants their pad, and puts other models beside. Imports torch."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import Tensor

from app.records import Inputs
from app.services.bounded import BoundedCache
from app.services.reporting import Report, reporting
from dpi_core.denoiser import Denoiser
from dpi_core.model import Model

MOST_BYTES = 4 * 2**20
"""Of the samples of one model."""

_kept: WeakKeyDictionary[Denoiser, BoundedCache[tuple[int, int], Tensor]] = WeakKeyDictionary()
"""By number and seed; they go with the model."""


def drawn(model: Model, inputs: Inputs, report: Report) -> Tensor:
    """A model's own samples, (n, ...), on the CPU and, where they are images, within [-1, 1].

    Args:
        model: what draws them, as its recipe says.
        inputs: how many samples, and their seed.
        report: hears of every step.
    """
    kept = _kept.setdefault(model.denoiser, BoundedCache(MOST_BYTES, lambda samples: samples.nbytes))
    samples = kept.find((inputs.n, inputs.seed))
    if samples is None:
        states = model.sample_states(range(inputs.n), seed=inputs.seed)
        *_, last = reporting(states, model.recipe.sampling.steps + 1, report)
        samples = last.x.float().cpu()
        samples = samples.clamp(-1, 1) if samples.ndim == 4 else samples
        kept.keep((inputs.n, inputs.seed), samples)
    return samples
