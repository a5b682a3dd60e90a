"""The engine's answers for the Layers page: all layers, one layer in detail, and the receptive field of a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.records import (
    LayerDetailRequest,
    LayerDetailResult,
    LayersRequest,
    LayersResult,
    ReceptiveFieldRequest,
    ReceptiveFieldResult,
)
from app.services.reporting import Report
from app.services.stored import layers_result
from dpi_core.analysis.receptive_field import PIXEL_FLOOR, receptive_fields
from dpi_core.layer_detail import channels_last, inspect_layer, sample_of
from dpi_core.layer_report import LEVELS, analyse_layers
from dpi_core.model import Model
from dpi_core.seeds import seeded_generator

PATCH = 3


def layers(model: Model, request: LayersRequest, x0: Tensor, report: Report) -> LayersResult:
    """All layers, judged on the inputs; the slowest statistics at some noise levels only."""

    def progress(steps: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        for done, step in enumerate(steps, start=1):
            report(done, total)
            yield step

    tensors, about = analyse_layers(model, x0, request.inputs.seed, sparing=True, progress=progress)
    return layers_result({name: value.numpy() for name, value in tensors.items()}, about)


def layer_detail(model: Model, request: LayerDetailRequest, x0: Tensor, report: Report) -> LayerDetailResult:
    """One layer: weights at both ends, their spectrum along λ, and the output for one sample along s."""
    inputs = request.inputs
    found = inspect_layer(model, x0, request.layer, LEVELS, request.sample, seed=inputs.seed)
    report(1, 1)
    return LayerDetailResult(**found)


def receptive_field(model: Model, request: ReceptiveFieldRequest, x0: Tensor, report: Report) -> ReceptiveFieldResult:
    """What one pixel of x̂0 depends on, at every noise level asked for."""
    if x0.ndim != 4:
        raise ValueError("points have no pixels whose surroundings could be looked at; choose a model of images.")
    clean = sample_of(x0, request.sample)
    eps = torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed, 1))[request.sample]
    found = []
    for field in receptive_fields(model.denoiser, clean, eps, request.s_grid, (request.row, request.column), PATCH):
        found.append(field)
        report(len(found), len(request.s_grid))
    return ReceptiveFieldResult(
        s=np.array(request.s_grid),
        native=[model.process.describe(s) for s in request.s_grid],
        clean=channels_last(clean),
        x_s=np.stack([channels_last(field.x_s) for field in found]),
        x0_hat=np.stack([channels_last(field.x0_hat) for field in found]),
        gradients=np.stack([channels_last(field.gradients) for field in found]),
        occlusion=np.stack([field.occlusion.numpy() for field in found]),
        patch=PATCH,
        radius=np.array([field.radius for field in found]),
        completeness=np.array([field.residual for field in found]),
        floor=PIXEL_FLOOR,
    )
