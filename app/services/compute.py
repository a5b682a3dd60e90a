"""The answers, computed with torch. Only an engine worker imports this module: importing torch takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dpi_core
from app.records import (
    ComparisonRequest,
    CurvesRequest,
    CurvesResult,
    LayerDetailRequest,
    LayersRequest,
    ModelKey,
    PadRequest,
    PadResult,
    ParametersRequest,
    ParametersResult,
    PlaneRequest,
    QualityRequest,
    ReceptiveFieldRequest,
    Request,
    Result,
    SweepRequest,
    TrajectoryRequest,
)
from app.services.comparing import comparison
from app.services.conversions import views
from app.services.drawn import drawn
from app.services.held_out import held_out
from app.services.layers import layer_detail, layers, receptive_field
from app.services.reporting import Report, reporting
from app.services.sampling import plane, quality, trajectory
from app.services.sizes import require_affordable
from app.services.stored import digest, parameters_result
from app.services.sweeps import Sweep, channels_last, finite
from dpi_core.analysis.denoising import decoupled, sweep
from dpi_core.analysis.landscape import curve_errors, loss, measure_of
from dpi_core.data import Data, DataConfig, HeldOutImages, fit_images
from dpi_core.evaluation import psnr
from dpi_core.licences import FOLDER_KINDS
from dpi_core.model import Model
from dpi_core.parameter_report import analyse_parameters
from dpi_core.seeds import seeded_generator

DATA_ROOT = Path(os.environ.get("DPI_DATA", Path(__file__).parents[2] / "data"))
"""Folders of data sets that are not bundled, one per model family: data/fashion for fashion-flow-dpi."""


def devices() -> tuple[str, ...]:
    """What can compute here, the best first."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return (*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu")


def load_model(key: ModelKey, device: str) -> Model:
    """A checkpoint on a device, in float32.

    Raises:
        ValueError: the device or the checkpoint is missing, or the checkpoint is no longer the one that `key` names.
    """
    if device not in devices():
        raise ValueError(f"there is no device {device!r} on this machine; choose one of {', '.join(devices())}.")
    model = dpi_core.load(key.folder, device)
    if digest(Path(key.folder)) != key.digest:
        raise ValueError(f"{key.folder} has been replaced since the page was drawn; load the page again.")
    return model


def answer(model: Model, request: Request, report: Report, load: Callable[[ModelKey], Model] | None = None) -> Result:
    """Computes one request.

    Args:
        model: the one that the request names first.
        request: what is asked for.
        report: hears how far it is.
        load: gives the other models of a request that names several.

    Raises:
        ValueError: the inputs are not to be had, the model cannot do what is asked, or the answer is too large; one
            sentence.
    """
    require_affordable(request, model.recipe.shape)
    if isinstance(request, PlaneRequest):
        return plane(model, request, report)
    if isinstance(request, QualityRequest):
        return quality(model, request, report)
    if isinstance(request, TrajectoryRequest) and request.inputs.kind == "samples":
        return trajectory(model, request, report)
    if isinstance(request, SweepRequest):
        asked = prepared(model, request, report, load)
        for frame in sweep(model.denoiser, asked.x0, asked.eps, list(asked.grid)):
            asked.frames.append(frame.x0_hat)
            report(len(asked.frames), len(asked.grid))
        return asked.result()
    x0 = _clean_inputs(model, request, report, load)
    if isinstance(request, TrajectoryRequest):
        return trajectory(model, request, report, x0)
    if isinstance(request, LayersRequest):
        return layers(model, request, x0, report)
    if isinstance(request, LayerDetailRequest):
        return layer_detail(model, request, x0, report)
    if isinstance(request, ReceptiveFieldRequest):
        return receptive_field(model, request, x0, report)
    if isinstance(request, ParametersRequest):
        return _parameters(model, request, x0, report)
    if isinstance(request, CurvesRequest):
        return _curves(model, request, x0, report)
    eps = torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed))
    if isinstance(request, ComparisonRequest):
        assert load is not None or not request.others
        models = (model if load is None else load(key) for key in (request.model, *request.others))
        return comparison(models, request, x0, eps, report)
    if isinstance(request, PadRequest):
        return _pad(model, request, x0[: request.count], eps[: request.count], report)
    return views(model, request, x0, eps, report)


def prepared(
    model: Model, request: SweepRequest, report: Report, load: Callable[[ModelKey], Model] | None = None
) -> Sweep:
    """A sweep before its first level; the arguments are those of `answer`.

    Raises:
        ValueError: the inputs are not to be had.
    """
    x0 = _clean_inputs(model, request, report, load)
    return Sweep(model, request.s_grid, x0, torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed)))


def _pad(model: Model, request: PadRequest, x0: Tensor, eps: Tensor, report: Report) -> PadResult:
    s_grid, lam_grid = list(request.s_grid), list(request.lam_grid)
    rows = list(reporting(decoupled(model.denoiser, x0, eps, s_grid, lam_grid), len(lam_grid), report))
    x0_hat = finite(torch.stack([row.x0_hat for row in rows]))
    per_sample = (x0_hat - x0).square().flatten(3).mean(3).numpy()
    s = torch.tensor(s_grid, dtype=torch.float64)
    c, learned = model.process.coefficients(s), model.denoiser.mean_lam(s_grid)
    assert learned is not None
    return PadResult(
        s=s.numpy(),
        lam=np.array(lam_grid),
        learned=learned.numpy(),
        alpha=c.alpha.numpy(),
        sigma=c.sigma.numpy(),
        native=tuple(model.process.describe(value) for value in s_grid),
        x0_hat=channels_last(x0_hat, model),
        score=(psnr(per_sample) if x0.ndim == 4 else per_sample).mean(2),
        judged=len(x0),
    )


def _parameters(model: Model, request: ParametersRequest, x0: Tensor, report: Report) -> ParametersResult:
    def progress(steps: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        return reporting(iter(steps), total, report)

    tensors, about = analyse_parameters(model, x0, request.inputs.seed, progress=progress, sparing=True)
    return parameters_result({name: value.numpy() for name, value in tensors.items()}, about)


def _curves(model: Model, request: CurvesRequest, x0: Tensor, report: Report) -> CurvesResult:
    """Both curves at every noise level, level by level."""
    drawn = dpi_core.FixedSchedule(list(zip(*request.curves, strict=True)))
    eps = torch.randn(x0.shape, generator=seeded_generator(request.inputs.seed, 1))
    s = np.linspace(0, 1, len(request.curves[0]))
    levels = (
        tuple(curve_errors(model.denoiser, x0, eps, [level], curve)[0] for curve in (None, drawn))
        for level in s.tolist()
    )
    learned_errors, drawn_errors = zip(*reporting(levels, len(s), report), strict=True)
    gained = loss(s, np.stack(drawn_errors), np.stack(learned_errors), measure_of(x0), request.inputs.seed)
    return CurvesResult(gained.mean, list(gained.total))


def _clean_inputs(model: Model, request: Request, report: Report, load: Callable[[ModelKey], Model] | None) -> Tensor:
    """The clean samples, (n, ...), on the CPU; held-out data and samples are those of the model that the inputs name."""
    inputs = request.inputs
    if inputs.of is not None:
        assert load is not None
        model = load(inputs.of)
    if inputs.kind == "upload":
        if inputs.upload is None:
            raise ValueError("no image was uploaded; choose a file first.")
        return torch.from_numpy(inputs.upload.array())[: inputs.taken].repeat(inputs.draws, 1, 1, 1)
    if inputs.kind == "samples":
        return drawn(model, inputs, report)
    if inputs.kind == "held-out":
        return _data_of(model).held_out_batch(inputs.n, inputs.seed)
    bundled = DataConfig(inputs.kind, gray=model.recipe.shape[0] == 1)
    return fit_images(held_out(bundled).held_out_batch(inputs.n, inputs.seed), model.recipe.shape)


def _data_of(model: Model) -> Data | HeldOutImages:
    folder = DATA_ROOT / model.recipe.name.split("-")[0]
    if model.recipe.data.kind in FOLDER_KINDS and not folder.is_dir():
        raise ValueError(f"the held-out data are not on this machine; put their files into {folder}, or choose others.")
    return held_out(model.recipe.data, folder)
