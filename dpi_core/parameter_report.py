"""What the Parameters page shows of a DPI network: weights, landscape, paths, and the pictures of two ways to blend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpi_core.analysis.denoising import decoupled
from dpi_core.analysis.landscape import (
    Landscape,
    Loss,
    Measure,
    curve_errors,
    landscape,
    loss,
    measure_of,
    plane_errors,
)
from dpi_core.analysis.paths import BlendGap, CachedBlends, OutputPath, blend_gaps, cached_blends, output_paths
from dpi_core.analysis.weights import (
    Distance,
    Spectrum,
    histograms,
    layer_of,
    spectra,
    stage_of,
    two_sets,
    weight_distances,
    weight_path,
)
from dpi_core.evaluation import (
    LEVELS,
)
from dpi_core.model import Model
from dpi_core.precision import Precision
from dpi_core.progress import Progress, silent
from dpi_core.seeds import seeded_generator

PAD_CELLS = 33
"""Noise levels, and values of λ, of the landscape; the plane of pictures has the same."""

PAD_IMAGES, PAD_POINTS = 4, 256
SEED = 0
PATH_LEVELS = (0.25, 0.5, 0.75)
PATH_STEPS, SPECTRUM_STEPS = 65, 9
PICTURE_LEVELS, PICTURE_STEPS = (0.1, 0.3, 0.5, 0.7, 0.9), 9
KEPT_BLENDS = (1, 2, 3, 5, 9, 17, 33)


def analyse_parameters(
    model: Model,
    x0: Tensor,
    seed: int = SEED,
    shown: tuple[Tensor, Tensor] | None = None,
    progress: Progress = silent,
    sparing: bool = False,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the Parameters page shows: weights between θ0 and θ1, the error landscape, the path seen in the output.

    Args:
        model: with two parameter sets.
        x0: clean samples to judge on, (n, ...), on the CPU; the halves of them choose λ* for each other.
        seed: of their noise, the halves and the bootstrap.
        shown: samples whose pictures may be stored, and their noise; some of `x0` by default.
        progress: called once; its total is the number of steps.
        sparing: whether the landscape, the longest part, multiplies in bfloat16 where the device computes it.

    Returns:
        Tensors named by section, and the JSON beside them.

    Raises:
        ValueError: one parameter set, fewer than 4 samples, or weights that are not finite.
    """
    two_sets(model.net)
    if len(x0) < 4:
        raise ValueError(f"{len(x0)} samples were given, but λ* is chosen on one half for the other: give at least 4.")
    eps = torch.randn(x0.shape, generator=seeded_generator(seed, 1))
    count = PAD_IMAGES if x0.ndim == 4 else PAD_POINTS
    pictured = shown if shown is not None else (x0[:count], eps[:count])
    work = _parameter_steps(model, x0, eps, pictured, seed, "bfloat16" if sparing else "float32")
    steps = list(progress(work, _count_parameter_steps(model), "parameters"))
    found = {kind: [step for step in steps if type(step) is kind] for kind in {type(step) for step in steps}}
    spectrum, paths, gaps, kept = (found.get(kind, []) for kind in (Spectrum, OutputPath, BlendGap, CachedBlends))
    (plane,) = found[Landscape]
    (exact,) = found[np.ndarray]
    (pictures,) = found[Tensor]
    sections = {
        "weights": _weights_section(model, spectrum),
        "landscape": _landscape_section(model, plane, measure_of(x0)),
        "paths": _paths_section(paths, gaps, kept, exact, measure_of(x0)) | _pictures_section(pictures),
    }
    tensors = {
        f"{section}.{name}": torch.from_numpy(value if value.dtype == np.float16 else value.astype(np.float32))
        for section, values in sections.items()
        for name, value in values.items()
        if isinstance(value, np.ndarray)
    }
    about = {
        section: {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
        for section, values in sections.items()
    }
    return tensors, about


def _count_parameter_steps(model: Model) -> int:
    weights = sum(value.ndim > 1 for value in two_sets(model.net).theta0.values())
    cells = PAD_CELLS**2 + 1
    return weights + cells + 2 * len(PATH_LEVELS) + PAD_CELLS + len(KEPT_BLENDS) + 2


def _parameter_steps(
    model: Model, x0: Tensor, eps: Tensor, pictured: tuple[Tensor, Tensor], seed: int, precision: Precision
) -> Iterator[Any]:
    """Every result as it is found; one network call or a few between two of them."""
    denoiser = model.denoiser
    grid = np.linspace(0, 1, PAD_CELLS).tolist()
    learned = _lam(model, grid)
    yield from spectra(model.net, np.linspace(0, 1, SPECTRUM_STEPS).tolist())
    cells = []
    for cell in plane_errors(denoiser, x0, eps, grid, grid, precision=precision):
        cells.append(cell)
        yield cell
    own = curve_errors(denoiser, x0, eps, grid, precision=precision)
    yield landscape(cells, _one_curve(learned), own, measure_of(x0), seed)
    yield from output_paths(denoiser, x0, eps, PATH_LEVELS, np.linspace(0, 1, PATH_STEPS).tolist())
    yield from blend_gaps(denoiser, x0, eps, PATH_LEVELS, grid)
    for s, lam in zip(grid, _one_curve(learned).tolist(), strict=True):
        yield from blend_gaps(denoiser, x0, eps, [s], [lam])
    yield curve_errors(denoiser, x0, eps, LEVELS)
    yield from cached_blends(denoiser, x0, eps, LEVELS, KEPT_BLENDS)
    rows = decoupled(denoiser, *pictured, list(PICTURE_LEVELS), np.linspace(0, 1, PICTURE_STEPS).tolist())
    yield torch.stack([row.x0_hat for row in rows], dim=1)


def _lam(model: Model, s: list[float]) -> np.ndarray:
    """λ(s), (p,), or (p, g) with groups."""
    lam = model.denoiser.lam(torch.tensor(s, dtype=torch.float64))
    assert lam is not None, "of a network with two parameter sets"
    return lam.detach().cpu().numpy()


def _one_curve(learned: np.ndarray) -> np.ndarray:
    """λ(s), (p,); with groups their mean, which stands for them where a figure has room for one curve."""
    return learned if learned.ndim == 1 else learned.mean(axis=1)


def _weights_section(model: Model, spectrum: list[Spectrum]) -> dict[str, Any]:
    net = two_sets(model.net)
    distances = weight_distances(net)
    s = np.linspace(0, 1, PATH_STEPS)
    path = weight_path(net, [float(model.denoiser.physical(each)) for each in s.tolist()])
    rows: list[tuple[str, Distance]] = [("total", distances.total)]
    for kind, parts in (
        ("stage", distances.stages),
        ("layer", distances.layers),
        ("parameter", distances.parameters),
    ):
        rows += [(kind, part) for part in parts]
    lam = np.linspace(0, 1, PAD_CELLS)
    saturation = net.schedule.saturation()
    spent = saturation if isinstance(saturation, tuple) else (saturation,)
    counted = histograms(net)
    columns = ("numel", "norm0", "norm1", "distance", "relative", "angle", "dip")
    return {
        "kinds": [kind for kind, _ in rows],
        "names": [part.name for _, part in rows],
        "stages": [_stage(kind, part.name) for kind, part in rows],
        **{column: np.array([getattr(part, column) for _, part in rows], dtype=np.float64) for column in columns},
        "norm_lam": lam,
        "norm_path": np.array([[part.norm_at(position) for position in lam] for _, part in rows]),
        "angle_path": np.array([[part.angle_at(position) for position in lam] for _, part in rows]),
        "s": s,
        "lam": _one_curve(path.lam),
        "moved": path.moved,
        "norm": path.norm,
        "residual": path.residual,
        "groups": net.schedule.n_groups or 1,
        "spent": [[each.low, each.high] for each in spent],
        "saturated": any(each.saturated for each in spent),
        "spectrum_names": [each.name for each in spectrum],
        "spectrum_lam": np.linspace(0, 1, SPECTRUM_STEPS),
        "spectral_norm": np.array([each.spectral_norm for each in spectrum]),
        "stable_rank": np.array([each.stable_rank for each in spectrum]),
        "singular_values": np.concatenate([each.singular_values.T for each in spectrum]),
        "spectrum_sizes": [each.singular_values.shape[1] for each in spectrum],
        "histogram_names": [each.name for each in counted],
        "histogram_edges": np.array([each.edges for each in counted]),
        "histogram_counts": np.array([each.counts for each in counted]),
    }


def _stage(kind: str, name: str) -> str:
    if kind in ("total", "stage"):
        return name
    return stage_of(layer_of(name) if kind == "parameter" else name)


def _landscape_section(model: Model, plane: Landscape, measure: Measure) -> dict[str, Any]:
    net = two_sets(model.net)
    curves = _lam(model, plane.s.tolist()).reshape(len(plane.s), -1).T
    names = ("s", "lam", "quality", "learned", "learned_quality", "valley", "valley_quality", "residual", "samples")
    lost = plane.regret
    return {
        **{name: getattr(plane, name) for name in names},
        **{"regret": lost.mean, "regret_low": lost.low, "regret_high": lost.high, "regret_total": list(lost.total)},
        "measure": measure,
        "parts": plane.parts.astype(np.float16),
        "curves": curves,
        "group_names": list(net.group_names),
    }


def _paths_section(
    paths: list[OutputPath], gaps: list[BlendGap], kept: list[CachedBlends], exact: np.ndarray, measure: Measure
) -> dict[str, Any]:
    along, at_learned = gaps[: len(PATH_LEVELS)], gaps[len(PATH_LEVELS) :]
    lost: Loss = loss(
        np.array([gap.level for gap in at_learned]),
        np.stack([gap.weight_mse[0] for gap in at_learned]),
        np.stack([gap.output_mse[0] for gap in at_learned]),
        measure,
        SEED,
    )
    kept_losses = [loss(each.s, exact, each.mse, measure, SEED) for each in kept]
    return {
        "levels": np.array(PATH_LEVELS),
        "s": paths[0].s,
        "distance": np.array([path.distance for path in paths]),
        "arc": np.array([path.arc for path in paths]),
        "blend_lam": along[0].lam,
        "gap": np.array([gap.gap for gap in along]),
        "apart": np.array([gap.apart for gap in along]),
        "blend_s": lost.s,
        **{"blend_loss": lost.mean, "blend_low": lost.low, "blend_high": lost.high, "blend_total": list(lost.total)},
        "counts": np.array([each.count for each in kept]),
        "kept_loss": np.array([each.total for each in kept_losses]),
        "kept_moved": np.array([np.sqrt((each.moved**2).mean()) for each in kept]),
    }


def _pictures_section(pictures: Tensor) -> dict[str, Any]:
    """x̂0 as it is: clipped images could not be blended."""
    values = pictures.numpy()
    return {
        "picture_levels": np.array(PICTURE_LEVELS),
        "picture_lam": np.linspace(0, 1, PICTURE_STEPS),
        "pictures": np.ascontiguousarray(np.moveaxis(values, -3, -1) if values.ndim == 6 else values, dtype=np.float16),
    }
