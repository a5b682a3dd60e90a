"""What the Layers page shows: outputs, pinning and attribution of every layer, and one layer in detail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpi_core.analysis.activations import LayerActivations, layer_activations, samples_per_batch
from dpi_core.analysis.attribution import GAIN_FLOOR, Shares, Tangent, layer_tangents, quality_target, shares
from dpi_core.analysis.landscape import Measure, quality_db
from dpi_core.analysis.layers import layers_of
from dpi_core.analysis.pinning import (
    HOLDS,
    NO_GAIN,
    HoldingOrder,
    Pinning,
    count_holding_steps,
    holding_order,
    pinned_errors,
    pinning,
)
from dpi_core.analysis.weights import weight_distances
from dpi_core.data import Data
from dpi_core.interpolation import DPI
from dpi_core.model import Model
from dpi_core.progress import Progress, silent
from dpi_core.seeds import seeded_generator

SEED = 0
LEVELS = tuple(np.linspace(0, 1, 9).tolist())
SPARING_LEVELS = LEVELS[1::2]
"""Noise levels of what costs most, where a person waits for it."""

INTEGRATION_STEPS, PERMUTATIONS = 16, 2
CANDIDATES, HOLDING_STEPS = 4, 16

ONE_SET = "the network has one parameter set, so no layer has anything to follow"
NOT_AT_ALL_LEVELS = "computed at some of the noise levels only, for it takes long; stored results have all"
"""Of the statistics that `sparing` thins out."""


@dataclass(frozen=True)
class Samples:
    """How many samples each part looks at.

    Attributes:
        cka: for the comparison of outputs.
        pinned: for pinning and the order of holding.
        attribution: for both attributions.
        derivative: for the derivatives.
    """

    cka: int
    pinned: int
    attribution: int
    derivative: int


IMAGES, POINTS = Samples(32, 16, 4, 2), Samples(512, 1024, 512, 512)
"""What a laptop affords at 28×28, and of points."""


def analyse_layers(
    model: Model,
    x0: Tensor,
    seed: int = SEED,
    sparing: bool = False,
    progress: Progress = silent,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the Layers page shows of all layers.

    Args:
        model: of any conditioning; without two parameter sets the outputs are compared and the rest is NaN.
        x0: clean samples, (n, ...), on the CPU; each part takes the first of them, as many as it can afford.
        seed: of their noise, of the halves and of the bootstrap.
        sparing: whether to leave out some noise levels of the slowest statistics, which are NaN there.
        progress: called once; its total is the number of steps.

    Returns:
        Tensors named "layers.<field>", and the JSON with the other fields of `LayersResult`.

    Raises:
        ValueError: fewer than 4 samples, or weights or outputs that are not finite.
    """
    if len(x0) < 4:
        raise ValueError(f"{len(x0)} samples were given, but the layers are judged on halves: give at least 4.")
    eps = torch.randn(x0.shape, generator=seeded_generator(seed, 1))
    parts = _parts(model, x0)
    work, total = _steps(model, x0, eps, parts, seed, sparing), _count_steps(model, parts, sparing)
    steps = list(progress(work, total, "layers"))
    (compared,) = [step for step in steps if isinstance(step, LayerActivations)]
    section = _layer_fields(model) | _compared_fields(compared)
    section |= _two_set_fields(steps, sparing) if isinstance(model.net, DPI) else _no_fields(len(section["names"]))
    section |= {"samples": asdict(parts), "seed": seed, "measure": _measure(x0), "most": _most_needed(section)}
    section["notes"] |= compared.notes
    tensors = {
        f"layers.{name}": torch.from_numpy(value.astype(np.float32))
        for name, value in section.items()
        if isinstance(value, np.ndarray)
    }
    return tensors, {name: value for name, value in section.items() if not isinstance(value, np.ndarray)}


def held_out_layers(model: Model, data: Data, progress: Progress = silent) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`analyse_layers` on held-out data, all noise levels; what is stored with a checkpoint."""
    wanted = max(asdict(IMAGES if len(model.recipe.shape) == 3 else POINTS).values())
    return analyse_layers(model, data.held_out_batch(wanted, SEED), SEED, progress=progress)


def _measure(x0: Tensor) -> Measure:
    """As the Parameters page: a single point's PSNR says little, so points are averaged before the logarithm."""
    return "psnr" if x0.ndim == 4 else "mse"


def _parts(model: Model, x0: Tensor) -> Samples:
    wanted = IMAGES if x0.ndim == 4 else POINTS
    if not isinstance(model.net, DPI):
        return Samples(min(wanted.cka, len(x0)), 0, 0, 0)
    # A graph for gradients keeps several tensors for each output.
    in_one_call = max(1, samples_per_batch(model.denoiser, x0) // 4)
    return Samples(
        min(wanted.cka, len(x0)),
        min(wanted.pinned, len(x0)),
        min(wanted.attribution, len(x0), in_one_call),
        min(wanted.derivative, len(x0), in_one_call),
    )


def _costly_levels(sparing: bool) -> tuple[float, ...]:
    return SPARING_LEVELS if sparing else LEVELS


def _count_steps(model: Model, parts: Samples, sparing: bool) -> int:
    m, batch = len(layers_of(model.net)), _batch_size(model, parts)
    count = len(LEVELS) * -(-parts.cka // batch) + 1
    if isinstance(model.net, DPI):
        count += len(LEVELS) * -(-parts.pinned // batch) * (1 + len(HOLDS) * m)
        count += count_holding_steps(m, LEVELS, CANDIDATES, HOLDING_STEPS)
        count += len(LEVELS) + (m + 2) * len(_costly_levels(sparing)) + 2
    return count


def _batch_size(model: Model, parts: Samples) -> int:
    return max(4, min(parts.cka, samples_per_batch(model.denoiser, torch.zeros(1, *model.recipe.shape))))


def _steps(model: Model, x0: Tensor, eps: Tensor, parts: Samples, seed: int, sparing: bool) -> Iterator[Any]:
    """Every result as it is found; one network call or a few between two of them."""
    denoiser, measure, batch = model.denoiser, _measure(x0), _batch_size(model, parts)
    yield from layer_activations(denoiser, x0[: parts.cka], eps[: parts.cka], LEVELS, batch)
    if not isinstance(model.net, DPI):
        return
    judged = (x0[: parts.pinned], eps[: parts.pinned])
    errors = []
    for found in pinned_errors(denoiser, *judged, LEVELS, batch_size=batch):
        errors.append(found)
        yield found
    single = pinning(denoiser, errors, LEVELS, measure, seed)
    yield single
    yield from holding_order(denoiser, *judged, single, CANDIDATES, HOLDING_STEPS, batch, seed)
    few = (x0[: parts.attribution], eps[: parts.attribution])
    options: dict[str, Any] = {"target": quality_target(measure), "seed": seed, "permutations": PERMUTATIONS}
    yield from shares(denoiser, *few, LEVELS, methods=["integrated gradients"], steps=INTEGRATION_STEPS, **options)
    yield from shares(denoiser, *few, _costly_levels(sparing), methods=["shapley"], **options)
    yield from layer_tangents(
        denoiser, x0[: parts.derivative], eps[: parts.derivative], _costly_levels(sparing), measure
    )


def _layer_fields(model: Model) -> dict[str, Any]:
    layers = layers_of(model.net)
    relative = np.full(len(layers), np.nan)
    if isinstance(model.net, DPI):
        distances = {part.name: part.relative for part in weight_distances(model.net).layers}
        relative = np.array([distances[layer.name] for layer in layers])
    lam = model.denoiser.mean_lam(LEVELS)
    curve = np.full(len(LEVELS), np.nan) if lam is None else lam.numpy()
    return {
        "names": [layer.name for layer in layers],
        "kinds": [layer.kind for layer in layers],
        "stages": [layer.stage for layer in layers],
        "numel": np.array([layer.numel for layer in layers]),
        "relative": relative,
        "s": np.array(LEVELS),
        "lam": curve,
        "native": [model.process.describe(s) for s in LEVELS],
        "floor": GAIN_FLOOR,
        "holds": list(HOLDS),
        "check": f"Shapley sampling, {PERMUTATIONS} orders",
    }


def _compared_fields(found: LayerActivations) -> dict[str, Any]:
    return {"activation_change": found.change, "cka": found.cka, "cka_path": found.cka_path}


def _two_set_fields(steps: list[Any], sparing: bool) -> dict[str, Any]:
    (single,) = [step for step in steps if isinstance(step, Pinning)]
    (order,) = [step for step in steps if isinstance(step, HoldingOrder)]
    notes = dict.fromkeys(("attribution_check", "derivative", "moved"), NOT_AT_ALL_LEVELS) if sparing else {}
    if order.enough is None:
        notes["enough"] = NO_GAIN
    return _pinned_fields(single) | _order_fields(single, order) | _attributed_fields(steps) | {"notes": notes}


def _pinned_fields(single: Pinning) -> dict[str, Any]:
    def each(name: str) -> np.ndarray:
        return np.array([[getattr(lost, name) for lost in layers] for layers in single.losses])

    return {
        "held_at": single.held_at,
        "pinned": each("mean"),
        "pinned_low": each("low"),
        "pinned_high": each("high"),
        "pinned_total": each("total"),
        "quality": quality_db(single.own, single.measure),
    }


def _order_fields(single: Pinning, order: HoldingOrder) -> dict[str, Any]:
    return {
        "order": [single.layers[layer].name for layer in order.order],
        "order_holds": [HOLDS[hold] for hold in order.holds],
        "kept": order.kept,
        "kept_loss": order.losses,
        "enough": order.enough,
    }


def _attributed_fields(steps: list[Any]) -> dict[str, Any]:
    integrated = [step for step in steps if isinstance(step, Shares) and step.method == "integrated gradients"]
    checked = [step for step in steps if isinstance(step, Shares) and step.method == "shapley"]
    tangents = [step for step in steps if isinstance(step, Tangent)]
    single, together = ([step for step in tangents if (step.layer is None) == whole] for whole in (False, True))
    levels = list(dict.fromkeys(step.s for step in together))

    def by_layer(name: str) -> np.ndarray:
        return np.array([getattr(step, name) for step in single]).reshape(len(levels), -1).T

    return {
        "gain": np.array([step.gain for step in integrated]),
        "attribution": np.array([step.values for step in integrated]).T,
        "completeness": np.array([step.residual for step in integrated]),
        "attribution_check": _at_levels(levels, np.array([step.values for step in checked]).T),
        "derivative": _at_levels(levels, by_layer("quality")),
        "moved": _at_levels(levels, by_layer("moved")),
        "derivative_residual": _at_levels(levels, np.array([step.residual for step in together])),
    }


def _most_needed(section: dict[str, Any]) -> str:
    """The layer that matters most: in dB when pinned, else by how much its output changes."""
    worst = np.nan_to_num(section["pinned_total"][:, :, 0], nan=-np.inf).max(axis=0)
    if not np.isfinite(worst).any():
        worst = np.nan_to_num(section["activation_change"]).mean(axis=1)
    return str(section["names"][int(np.argmax(worst))])


def _at_levels(levels: list[float], values: np.ndarray) -> np.ndarray:
    """(..., l) values at some of `LEVELS` as (..., t), NaN at the others."""
    whole = np.full((*values.shape[:-1], len(LEVELS)), np.nan)
    whole[..., [LEVELS.index(s) for s in levels]] = values
    return whole


def _no_fields(m: int) -> dict[str, Any]:
    """What needs two parameter sets, for a network that has one."""
    t = len(LEVELS)
    shapes = {
        **dict.fromkeys(("pinned", "pinned_low", "pinned_high"), (len(HOLDS), m, t)),
        **dict.fromkeys(("attribution", "attribution_check", "derivative", "moved"), (m, t)),
        **dict.fromkeys(("gain", "completeness", "derivative_residual", "quality"), (t,)),
        **{"held_at": (len(HOLDS), m), "pinned_total": (len(HOLDS), m, 3), "kept": (0,), "kept_loss": (0, 3)},
    }
    return {
        **{name: np.full(shape, np.nan) for name, shape in shapes.items()},
        **{"order": [], "order_holds": [], "enough": None},
        "notes": dict.fromkeys(
            ("pinned", "attribution", "attribution_check", "derivative", "moved", "enough"), ONE_SET
        ),
    }
