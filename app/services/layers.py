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
from dpi_core.analysis.activations import layer_outputs
from dpi_core.analysis.layers import ByLayer, layer_index, layer_weights, layers_of
from dpi_core.analysis.receptive_field import PIXEL_FLOOR, receptive_fields
from dpi_core.interpolation import DPI
from dpi_core.layer_report import LEVELS, analyse_layers
from dpi_core.model import Model
from dpi_core.seeds import seeded_generator

PATCH = 3
SPECTRUM_STEPS, HISTOGRAM_BINS = 9, 61
SHOWN_NUMBERS = 2**18
"""A weight or an output larger than this is cut to its leading rows or channels."""


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
    all_layers = layers_of(model.net)
    index = layer_index(all_layers, request.layer)
    layer, clean = all_layers[index], _sample(x0, request.sample)
    weights = layer_weights(model.net, layer)
    chosen = request.parameter or max(weights, key=lambda name: weights[name][0].numel())
    if chosen not in weights:
        raise ValueError(f"{layer.name} has no weight {chosen!r}; choose one of {', '.join(weights)}.")
    report(1, 2)
    eps = torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed, 1))[request.sample]
    here, start, note = layer_outputs(model.denoiser, clean, eps, layer.name, LEVELS)
    report(2, 2)
    edges, counts = _histogram(torch.cat([(end - begin).flatten() for begin, end in weights.values()]))
    lam = np.linspace(0, 1, SPECTRUM_STEPS)
    return LayerDetailResult(
        layer=layer.name,
        kind=layer.kind,
        parameters=list(weights),
        parameter=chosen,
        weight_shape=list(weights[chosen][0].shape),
        theta0=_shown(weights[chosen][0]),
        theta1=_shown(weights[chosen][1]),
        histogram_edges=edges,
        histogram_counts=counts,
        spectrum_lam=lam,
        singular_values=_singular_values(*weights[chosen], lam),
        s=np.array(LEVELS),
        lam=_learned(model, index),
        native=[model.process.describe(s) for s in LEVELS],
        clean=_channels_last(clean),
        activation_shape=list(here.shape[1:]),
        activations=_shown(here, 1),
        activations0=_shown(start, 1),
        note=note,
    )


def receptive_field(model: Model, request: ReceptiveFieldRequest, x0: Tensor, report: Report) -> ReceptiveFieldResult:
    """What one pixel of x̂0 depends on, at every noise level asked for."""
    if x0.ndim != 4:
        raise ValueError("points have no pixels whose surroundings could be looked at; choose a model of images.")
    clean = _sample(x0, request.sample)
    eps = torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed, 1))[request.sample]
    found = []
    for field in receptive_fields(model.denoiser, clean, eps, request.s_grid, (request.row, request.column), PATCH):
        found.append(field)
        report(len(found), len(request.s_grid))
    return ReceptiveFieldResult(
        s=np.array(request.s_grid),
        native=[model.process.describe(s) for s in request.s_grid],
        clean=_channels_last(clean),
        x_s=np.stack([_channels_last(field.x_s) for field in found]),
        x0_hat=np.stack([_channels_last(field.x0_hat) for field in found]),
        gradients=np.stack([_channels_last(field.gradients) for field in found]),
        occlusion=np.stack([field.occlusion.numpy() for field in found]),
        patch=PATCH,
        radius=np.array([field.radius for field in found]),
        completeness=np.array([field.residual for field in found]),
        floor=PIXEL_FLOOR,
    )


def _sample(x0: Tensor, sample: int) -> Tensor:
    if not 0 <= sample < len(x0):
        raise ValueError(f"there is no sample {sample} among {len(x0)}; choose one from 0 to {len(x0) - 1}.")
    return x0[sample]


def _learned(model: Model, layer: int) -> np.ndarray:
    """λ(s) of one layer, (t,)."""
    if not isinstance(model.net, DPI):
        return np.full(len(LEVELS), np.nan)
    net = ByLayer(model.net)
    return np.array([float(net.gather(net.learned(s))[layer]) for s in LEVELS])


def _shown(values: Tensor, axis: int = 0) -> np.ndarray:
    """Float32, cut along one axis to `SHOWN_NUMBERS` numbers."""
    kept = max(1, SHOWN_NUMBERS * (values.shape[axis] if values.ndim > axis else 1) // max(1, values.numel()))
    cut = values.narrow(axis, 0, min(kept, values.shape[axis])) if values.ndim > axis else values
    return np.ascontiguousarray(cut.float().numpy())


def _singular_values(start: Tensor, end: Tensor, lam: np.ndarray) -> np.ndarray:
    if start.ndim < 2:
        return np.empty((len(lam), 0))
    blends = torch.stack([torch.lerp(start.double(), end.double(), value) for value in lam.tolist()])
    return torch.linalg.svdvals(blends.flatten(2)).numpy()


def _histogram(apart: Tensor) -> tuple[np.ndarray, np.ndarray]:
    reach = float(apart.abs().max()) or 1.0
    counts, edges = np.histogram(apart.numpy(), bins=HISTOGRAM_BINS, range=(-reach, reach))
    return edges, counts


def _channels_last(sample: Tensor) -> np.ndarray:
    array = sample.numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array
