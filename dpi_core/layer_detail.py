"""One layer in detail: its weights at both ends, their spectrum along λ, and its output for one sample along s."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpi_core.analysis.activations import layer_outputs
from dpi_core.analysis.layers import ByLayer, layer_index, layer_weights, layers_of
from dpi_core.interpolation import DPI
from dpi_core.model import Model
from dpi_core.seeds import seeded_generator

SPECTRUM_STEPS, HISTOGRAM_BINS = 9, 61
SHOWN_NUMBERS = 2**18
"""A weight or an output larger than this is cut to its leading rows or channels."""


def inspect_layer(
    model: Model,
    x0: Tensor,
    name: str,
    s_grid: tuple[float, ...],
    sample: int = 0,
    parameter: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """What the Layers page shows of one layer: NumPy arrays, and the JSON values beside them, by name.

    Args:
        model: of any conditioning; with one parameter set both ends are the same.
        x0: clean samples, (n, ...), on the CPU.
        name: module path of the layer in the backbone.
        s_grid: t noise levels in [0, 1] of its output.
        sample: which of `x0` is put in.
        parameter: which of the layer's weights, by its name within the layer; "" for the largest.
        seed: of the noise.

    Raises:
        ValueError: there is no such layer, weight or sample, or a weight is not finite.
    """
    all_layers = layers_of(model.net)
    index = layer_index(all_layers, name)
    layer, clean = all_layers[index], sample_of(x0, sample)
    weights = layer_weights(model.net, layer)
    chosen = parameter or max(weights, key=lambda each: weights[each][0].numel())
    if chosen not in weights:
        raise ValueError(f"{layer.name} has no weight {chosen!r}; choose one of {', '.join(weights)}.")
    eps = torch.randn(x0.shape, generator=seeded_generator(seed, 1))[sample]
    here, start, note = layer_outputs(model.denoiser, clean, eps, layer.name, s_grid)
    edges, counts = _histogram(torch.cat([(end - begin).flatten() for begin, end in weights.values()]))
    lam = np.linspace(0, 1, SPECTRUM_STEPS)
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "parameters": list(weights),
        "parameter": chosen,
        "weight_shape": list(weights[chosen][0].shape),
        "theta0": _shown(weights[chosen][0]),
        "theta1": _shown(weights[chosen][1]),
        "histogram_edges": edges,
        "histogram_counts": counts,
        "spectrum_lam": lam,
        "singular_values": _singular_values(*weights[chosen], lam),
        "s": np.array(s_grid),
        "lam": _learned(model, index, s_grid),
        "native": [model.process.describe(s) for s in s_grid],
        "clean": channels_last(clean),
        "activation_shape": list(here.shape[1:]),
        "activations": _shown(here, 1),
        "activations0": _shown(start, 1),
        "note": note,
    }


def sample_of(x0: Tensor, sample: int) -> Tensor:
    """One of the samples.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 <= sample < len(x0):
        raise ValueError(f"there is no sample {sample} among {len(x0)}; choose one from 0 to {len(x0) - 1}.")
    return x0[sample]


def channels_last(sample: Tensor) -> np.ndarray:
    """An image (c, h, w) as (h, w, c); a point as it is."""
    array = sample.numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array


def _learned(model: Model, layer: int, s_grid: tuple[float, ...]) -> np.ndarray:
    """λ(s) of one layer, (t,)."""
    if not isinstance(model.net, DPI):
        return np.full(len(s_grid), np.nan)
    net = ByLayer(model.net)
    return np.array([float(net.gather(net.learned(s))[layer]) for s in s_grid])


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
