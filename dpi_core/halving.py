"""Weights stored in 16 bits, where held-out data say that nothing is lost."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dpi_core.checkpoint import shortened
from dpi_core.evaluation import LEVELS, denoising_errors, psnr
from dpi_core.model import Model

MAX_LOSS_DB = 0.01
SEED = 0


@dataclass(frozen=True)
class Halving:
    """What a model scores with its weights as they are and in 16 bits.

    Attributes:
        whole: mean over held-out samples and levels of the PSNR, 10 log10(4 / mean squared error), dB.
        half: the same of the shortened weights.
    """

    whole: float
    half: float

    @property
    def harmless(self) -> bool:
        """Whether the score changes by less than 0.01 dB."""
        return abs(self.whole - self.half) < MAX_LOSS_DB


def cost_of_halving(model: Model, x0: Float[Tensor, "n ..."]) -> Halving:
    """Judges a model whose weights went through 16 bits beside the model itself, on the same noise.

    Args:
        model: left as it is.
        x0: clean held-out samples.
    """
    shorter = copy.deepcopy(model.denoiser)
    shorter.net.load_state_dict(shortened(model.net.state_dict()))
    whole, half = (
        float(psnr(np.stack([error for _, error in denoising_errors(denoiser, x0, LEVELS, SEED)])).mean())
        for denoiser in (model.denoiser, shorter)
    )
    return Halving(whole, half)
