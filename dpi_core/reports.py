"""What the commands measure and store with a checkpoint: scores, and what the app shows first."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpi_core.analysis.denoising import decoupled, sweep
from dpi_core.classifier import recognition
from dpi_core.data import (
    FOLDER_KINDS,
    Data,
    DistributionData,
    GaussianMixture,
    HeldOutImages,
    ImageData,
    fit_images,
    photos,
)
from dpi_core.distances import ssim
from dpi_core.evaluation import (
    LEVELS,
    bootstrap_intervals,
    denoised,
    excess_over_optimum,
    psnr,
)
from dpi_core.interpolation import DPI
from dpi_core.judges import Judge
from dpi_core.layer_detail import inspect_layer
from dpi_core.layer_report import LEVELS as LAYER_LEVELS
from dpi_core.layer_report import held_out_layers
from dpi_core.model import Model
from dpi_core.parameter_report import PAD_CELLS, PAD_IMAGES, PAD_POINTS, SEED, analyse_parameters
from dpi_core.progress import Progress, silent
from dpi_core.seeds import seeded_generator

JUDGED_IMAGES, JUDGED_POINTS = 1000, 20000
RECOGNISED_SAMPLES = 1000
SHOWN_IMAGES, SHOWN_POINTS = 16, 512
DRAWN_IMAGES, DRAWN_POINTS = 16, 1000
PAD_JUDGED_IMAGES, PAD_JUDGED_POINTS = 32, 2048
SWEEP_FRAMES = 101
PARAMETER_IMAGES, PARAMETER_POINTS = 128, 2048


def hardware(device: str) -> str:
    """The processor a number was measured on."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"


# Scores ----------------------------------------------------------------------------------------------------------


def evaluate(
    model: Model,
    data: Data,
    judge: Judge | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Scores on held-out data, as `metrics.json` keeps them.

    Args:
        model: what is judged.
        data: its data set; only the held-out part is used.
        judge: a classifier of such images, which then says how many of the model's samples it recognises.
        progress: shows how far it is.
    """
    images = isinstance(data, HeldOutImages)
    x0 = _held_out(data, JUDGED_IMAGES if images else JUDGED_POINTS)
    levels = progress(denoised(model.denoiser, x0, LEVELS, SEED), len(LEVELS), "error against s")
    errors, similarities = [], []
    for _, x0_hat in levels:
        errors.append((x0_hat - x0).square().flatten(1).mean(1).double().numpy())
        similarities += [ssim(x0_hat, x0).numpy()] if images else []
    mse = np.stack(errors)
    scores: dict[str, Any] = {
        "data": about_data(data, model.recipe.data.kind),
        "held_out": {"s": list(LEVELS), "n": len(x0), "seed": SEED, "mse": mse.mean(axis=1).tolist()},
        "parameters": sum(p.numel() for p in model.net.parameters()),
    }
    if images:
        scores["held_out"]["psnr"] = [asdict(each) for each in bootstrap_intervals(psnr(mse))]
        scores["held_out"]["ssim"] = [asdict(each) for each in bootstrap_intervals(np.stack(similarities))]
    if isinstance(data, DistributionData) and isinstance(data.distribution, GaussianMixture):
        excess, optimum = excess_over_optimum(model.denoiser, data.distribution, x0, LEVELS, SEED)
        scores["excess_over_optimum"] = {
            "each": excess.tolist(),
            "mean": excess.mean(),
            "max": excess.max(),
            "optimum_mse": optimum.tolist(),
        }
    if isinstance(model.net, DPI):
        scores["lambda"] = lambda_scores(model.net)
    if isinstance(data, ImageData) and judge is not None and model.process.generative:
        scores["recognition"] = _recognition(model, data, judge, progress)
    return scores


def about_data(data: Data, kind: str) -> dict[str, str]:
    """Name, licence and source of a data set."""
    if isinstance(data, HeldOutImages):
        return {"name": data.name, "licence": data.licence, "source": data.source}
    return {"name": kind, "licence": "synthetic", "source": "drawn from its formula"}


def lambda_scores(net: DPI) -> dict[str, Any]:
    """The learned curve and its saturation."""
    grid = np.linspace(0, 1, 33)
    with torch.no_grad():
        curve = net.schedule(torch.tensor(grid))
    saturation = net.schedule.saturation()
    intervals = saturation if isinstance(saturation, tuple) else (saturation,)
    return {
        "s": grid.tolist(),
        "lam": curve.tolist(),
        "saturation": [{**asdict(each), "width": each.width, "saturated": each.saturated} for each in intervals],
    }


def _recognition(model: Model, data: ImageData, judge: Judge, progress: Progress) -> dict[str, Any]:
    """How a classifier trained on the real training images reads the model's samples, and real held-out ones."""
    chunks = torch.arange(RECOGNISED_SAMPLES).split(100)
    samples = []
    for chunk in progress(chunks, len(chunks), "samples"):
        indices = range(int(chunk[0]), int(chunk[-1]) + 1)
        *_, last = model.sample_states(indices, seed=SEED)
        samples.append(last.x.float().cpu().clamp(-1, 1))
    return {
        "samples": asdict(recognition(judge.classifier, torch.cat(samples))),
        "real_held_out": asdict(recognition(judge.classifier, data.held_out[:RECOGNISED_SAMPLES])),
        "judge_accuracy": judge.accuracy,
        "n": RECOGNISED_SAMPLES,
        "seed": SEED,
        "sampler": asdict(model.recipe.sampling),
    }


def _held_out(data: Data, n: int) -> Tensor:
    if isinstance(data, HeldOutImages):
        n = min(n, len(data.held_out))
    return data.held_out_batch(n, SEED)


# What the app shows first ----------------------------------------------------------------------------------------


Found = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors for `analysis.safetensors`, and the JSON that says what they are."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """The samples that are stored with what a model makes of them, and their noise.

    Attributes:
        inputs: clean, (n, ...).
        eps: their noise.
        about: what they are, in one sentence.
        drawn_by: the name of the model whose samples they are, where that is not the analysed one.
    """

    inputs: Tensor
    eps: Tensor
    about: str
    drawn_by: str | None = None


def pictures(model: Model, data: Data, samples_of: Model | None = None) -> Pictures:
    """What of a data set may be stored. Of data that may not be passed on, nothing: there the inputs are samples of a model.

    Args:
        model: what is analysed.
        data: its data set.
        samples_of: the model whose samples stand for such data, so that a family shows the same; by default `model` itself.

    Raises:
        ValueError: `samples_of` makes samples of another shape, or none are needed.
    """
    n, recipe = SHOWN_IMAGES if isinstance(data, HeldOutImages) else SHOWN_POINTS, model.recipe
    drawn_by = None
    if recipe.data.kind in FOLDER_KINDS and model.process.generative:
        painter = model if samples_of is None else samples_of
        if painter.recipe.shape != recipe.shape or not painter.process.generative:
            raise ValueError(f"{painter.recipe.name} makes no samples of shape {recipe.shape}; name a model that does.")
        inputs = painter.sample(n, seed=SEED).x.float().cpu().clamp(-1, 1)
        drawn_by = None if samples_of is None else painter.recipe.name
        about = f"{n} samples of {drawn_by or 'the model itself'} (seed {SEED})"
    elif samples_of is not None:
        raise ValueError(f"{recipe.name} is shown with data and not with samples; leave out whose samples to take.")
    elif recipe.data.kind in FOLDER_KINDS:
        inputs = fit_images(photos(gray=recipe.data.gray).held_out_batch(n, SEED), recipe.shape)
        about = f"{n} parts of photos that come with scikit-image (seed {SEED})"
    elif isinstance(data, HeldOutImages):
        inputs, about = data.held_out_batch(n, SEED), f"{n} held-out images of {data.name} (seed {SEED})"
    else:
        inputs, about = data.held_out_batch(n, SEED), f"{n} fresh points of the {recipe.data.kind.replace('_', ' ')}"
    return Pictures(inputs, torch.randn(inputs.shape, generator=seeded_generator(SEED)), about, drawn_by)


def analyse_frames(model: Model, data: Data, shown: Pictures, progress: Progress = silent) -> Found:
    """A sweep along s, and for DPI models the plane of noise level and λ."""
    points, inputs, eps = not isinstance(data, HeldOutImages), shown.inputs, shown.eps
    grid = np.linspace(0, 1, SWEEP_FRAMES).tolist()
    frames = list(progress(sweep(model.denoiser, inputs, eps, grid), len(grid), "frames along s"))
    x0_hat = torch.stack([frame.x0_hat for frame in frames])
    c = model.process.coefficients(torch.tensor(grid, dtype=torch.float64))
    lam = model.denoiser.mean_lam(grid)
    tensors = {
        "sweep.s": torch.tensor(grid),
        "sweep.alpha": c.alpha.float(),
        "sweep.sigma": c.sigma.float(),
        "sweep.clean": _stored(inputs, points),
        "sweep.noise": eps.half(),
        "sweep.x0_hat": _stored(x0_hat, points),
        "sweep.mse": (x0_hat - inputs).square().flatten(2).mean(2),
    }
    about: dict[str, Any] = {
        "kind": "points" if points else "image",
        "inputs": shown.about,
        "seed": SEED,
        "native": [model.process.describe(s) for s in grid],
    }
    if shown.drawn_by is not None:
        about["drawn_by"] = shown.drawn_by
    if lam is not None:
        tensors["sweep.lam"] = lam.float()
        pad, about["pad"] = _pad(model, data, inputs, eps, progress)
        tensors |= pad
    return tensors, about


def analyse_held_out_parameters(model: Model, data: Data, shown: Pictures, progress: Progress = silent) -> Found:
    """What the Parameters page shows, judged on held-out data; nothing for a model with one parameter set."""
    if not isinstance(model.net, DPI):
        return {}, {}
    points = not isinstance(data, HeldOutImages)
    count = PAD_POINTS if points else PAD_IMAGES
    judged = _held_out(data, PARAMETER_POINTS if points else PARAMETER_IMAGES)
    tensors, about = analyse_parameters(model, judged, SEED, (shown.inputs[:count], shown.eps[:count]), progress)
    return tensors, {"parameters": about}


def analyse_held_out_layers(model: Model, data: Data, shown: Pictures, progress: Progress = silent) -> Found:
    """What the Layers page shows, judged on held-out data, and its most needed layer for the first of the pictures."""
    tensors, about = held_out_layers(model, data, progress)
    detail = inspect_layer(model, shown.inputs, about["most"], LAYER_LEVELS)
    for name in (name for name, value in list(detail.items()) if isinstance(value, np.ndarray)):
        half = name.startswith("activations")  # the page shows them in 16 bits
        tensors[f"layers.detail.{name}"] = torch.from_numpy(detail.pop(name).astype(np.float16 if half else np.float32))
    return tensors, {"layers": about | {"detail": detail}}


def analyse_samples(model: Model, data: Data, shown: Pictures, progress: Progress = silent) -> Found:
    """Samples by the recipe's sampler, from the noise that every model of its shape starts from; nothing without a noise end."""
    if not model.process.generative:
        return {}, {}
    points = not isinstance(data, HeldOutImages)
    count, sampling = DRAWN_POINTS if points else DRAWN_IMAGES, model.recipe.sampling
    *_, last = progress(model.sample_states(range(count), seed=SEED), sampling.steps, "samples")
    about = {"sampler": sampling.sampler, "steps": sampling.steps, "seed": SEED}
    return {"samples.x": _stored(last.x.float().cpu(), points)}, {"samples": about}


@dataclass(frozen=True)
class Part:
    """One part of what is stored for the pages.

    Attributes:
        tensors: beginnings of its tensors' names.
        about: keys of what is said of them.
        analyse: computes it from a model, its data and the pictures of them.
    """

    tensors: tuple[str, ...]
    about: tuple[str, ...]
    analyse: Callable[[Model, Data, Pictures, Progress], Found]


PARTS = {
    "frames": Part(("sweep.", "pad."), ("kind", "inputs", "seed", "native", "drawn_by", "pad"), analyse_frames),
    "samples": Part(("samples.",), ("samples",), analyse_samples),
    "parameters": Part(("weights.", "landscape.", "paths."), ("parameters",), analyse_held_out_parameters),
    "layers": Part(("layers.",), ("layers",), analyse_held_out_layers),
}
"""Of `analysis.safetensors`, by name; each replaces what is stored of it and keeps the rest."""


def _pad(
    model: Model, data: Data, inputs: Tensor, eps: Tensor, progress: Progress
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Frames of a few inputs over (noise level, λ), and the error there on held-out data."""
    points = not isinstance(data, HeldOutImages)
    shown = PAD_POINTS if points else PAD_IMAGES
    judged = _held_out(data, PAD_JUDGED_POINTS if points else PAD_JUDGED_IMAGES)
    together = torch.cat([inputs[:shown], judged])
    noise = torch.cat([eps[:shown], torch.randn(judged.shape, generator=seeded_generator(SEED, 1))])
    grid = np.linspace(0, 1, PAD_CELLS).tolist()
    frames, errors = [], []
    for row in progress(decoupled(model.denoiser, together, noise, grid, grid), len(grid), "noise level × λ"):
        frames.append(_stored(row.x0_hat[:, :shown], points))
        per_sample = (row.x0_hat[:, shown:] - judged).square().flatten(2).mean(2)
        errors.append(per_sample.mean(1) if points else torch.from_numpy(psnr(per_sample.numpy())).float().mean(1))
    tensors = {
        "pad.s": torch.tensor(grid),
        "pad.lam": torch.tensor(grid),
        "pad.score": torch.stack(errors),
        "pad.x0_hat": torch.stack(frames),
    }
    about = {"shown": shown, "judged": len(judged), "native": [model.process.describe(s) for s in grid]}
    return tensors, about


def _stored(values: Tensor, points: bool) -> Tensor:
    """Points as they are; images in [-1, 1] as bytes."""
    if points:
        return values.float()
    return ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
