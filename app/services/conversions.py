"""One network output seen as x̂0, ε, score and velocity, computed with torch; part of `compute`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.records import ViewsRequest, ViewsResult
from app.services.reporting import Report
from app.services.sweeps import channels_last
from dpi_core.data import load_data
from dpi_core.mixtures import GaussianMixture
from dpi_core.model import Model


def views(model: Model, request: ViewsRequest, x0: Tensor, eps: Tensor, report: Report) -> ViewsResult:
    """Asks the network once at each noise level and converts its output.

    Args:
        model: that is asked.
        request: its noise levels lie inside (0, 1), where every conversion exists.
        x0: clean inputs, (n, ...).
        eps: their noise, same shape.
        report: called with (done, total) after each level.

    Raises:
        ValueError: a conversion does not exist at one of the levels, or the network's output is not finite.
    """
    inputs, found = [], []
    for done, s in enumerate(request.s_grid, start=1):
        x_s = model.process.add_noise(x0, eps, s)
        prediction = model.predict(x_s, s)
        four = (prediction.x0, prediction.eps, prediction.score, prediction.velocity)
        if any(value is None or not bool(value.isfinite().all()) for value in four):
            raise ValueError(f"at s = {s:g} one of x̂0, ε, score and velocity is undefined; ask inside (0, 1).")
        report(done, len(request.s_grid))
        inputs.append(x_s)
        found.append(torch.stack([value.float().cpu() for value in four if value is not None]))
    x_s, (clean, noise, score, velocity) = torch.stack(inputs), torch.stack(found, dim=1)
    c = model.process.coefficients(torch.tensor(request.s_grid, dtype=torch.float64))
    exact = _exact_score(model, x_s, c.alpha, c.sigma)
    return ViewsResult(
        s=np.array(request.s_grid),
        native=tuple(model.process.describe(s) for s in request.s_grid),
        alpha=c.alpha.numpy(),
        sigma=c.sigma.numpy(),
        d_alpha=c.d_alpha.numpy(),
        d_sigma=c.d_sigma.numpy(),
        clean=channels_last(x0, model),
        noise=channels_last(eps, model),
        x_s=channels_last(x_s, model),
        x0=channels_last(clean, model),
        eps=channels_last(noise, model),
        score=channels_last(score, model),
        velocity=channels_last(velocity, model),
        exact_score=exact,
    )


def _exact_score(model: Model, x_s: Tensor, alpha: Tensor, sigma: Tensor) -> np.ndarray | None:
    """∇ log p(x_s) where the data are a Gaussian mixture."""
    if len(model.recipe.shape) != 1:
        return None
    mixture = getattr(load_data(model.recipe.data), "distribution", None)
    if not isinstance(mixture, GaussianMixture):
        return None
    return torch.stack([mixture.score(x, a, b) for x, a, b in zip(x_s, alpha, sigma, strict=True)]).numpy()
