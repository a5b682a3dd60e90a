"""What the commands measure and store with a checkpoint: scores, and the pictures and curves the app shows first."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpi_core.analysis.denoising import decoupled, sweep
from dpi_core.classifier import accuracy, recognition, train_classifier
from dpi_core.data import Data, DistributionData, GaussianMixture, ImageData, idx_labels
from dpi_core.evaluation import LEVELS, ErrorCurve, denoising_errors, excess_over_optimum, psnr, summarise
from dpi_core.interpolation import DPI
from dpi_core.model import Model
from dpi_core.seeds import seeded_generator

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iterable of known length to show how far it is: (steps, total, label)."""

JUDGED_IMAGES, JUDGED_POINTS = 1000, 20000
RECOGNISED_SAMPLES, JUDGE_EPOCHS = 1000, 10
SHOWN_IMAGES, SHOWN_POINTS = 16, 512
PAD_IMAGES, PAD_POINTS = 4, 256
PAD_JUDGED_IMAGES, PAD_JUDGED_POINTS = 64, 2048
SWEEP_FRAMES, PAD_CELLS = 101, 33
SEED = 0


def silent(steps: Iterable[Any], total: int, label: str) -> Iterable[Any]:
    """No progress shown."""
    return steps


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


def evaluate(model: Model, data: Data, data_path: Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Scores on held-out data, as `metrics.json` keeps them.

    Args:
        model: what is judged.
        data: its data set; only the held-out part is used.
        data_path: the folder of idx files, for the labels that the judge of samples is trained on.
        progress: shows how far it is.
    """
    images = isinstance(data, ImageData)
    x0 = _held_out(data, JUDGED_IMAGES if images else JUDGED_POINTS)
    levels = progress(denoising_errors(model.denoiser, x0, LEVELS, SEED), len(LEVELS), "error against s")
    s, errors = zip(*levels, strict=True)
    curve = ErrorCurve(np.array(s), np.stack(errors))
    scores: dict[str, Any] = {
        "data": {"name": data.name, "licence": data.licence, "source": data.source}
        if isinstance(data, ImageData)
        else {"name": model.recipe.data.kind, "licence": "synthetic", "source": "drawn from its formula"},
        "held_out": {"s": list(LEVELS), "n": len(x0), "seed": SEED, "mse": [row.mean() for row in curve.mse]},
        "parameters": sum(p.numel() for p in model.net.parameters()),
    }
    if images:
        scores["held_out"]["psnr"] = [asdict(interval) for interval in summarise(curve)]
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
    if isinstance(data, ImageData) and data_path is not None and model.process.generative:
        scores["recognition"] = _recognition(model, data, data_path, progress)
    return scores


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


def _recognition(model: Model, data: ImageData, data_path: Path, progress: Progress) -> dict[str, Any]:
    """How a classifier trained on the real training images reads the model's samples, and real held-out ones."""
    labels = idx_labels(data_path)
    judge = train_classifier(data.train, labels.train, epochs=JUDGE_EPOCHS, seed=SEED)
    chunks = torch.arange(RECOGNISED_SAMPLES).split(100)
    samples = []
    for chunk in progress(chunks, len(chunks), "samples"):
        indices = range(int(chunk[0]), int(chunk[-1]) + 1)
        *_, last = model.sample_states(indices, seed=SEED)
        samples.append(last.x.float().cpu())
    return {
        "samples": asdict(recognition(judge, torch.cat(samples))),
        "real_held_out": asdict(recognition(judge, data.held_out[:RECOGNISED_SAMPLES])),
        "judge_accuracy": accuracy(judge, data.held_out, labels.held_out),
        "n": RECOGNISED_SAMPLES,
        "seed": SEED,
        "sampler": asdict(model.recipe.sampling),
    }


def _held_out(data: Data, n: int) -> Tensor:
    if isinstance(data, ImageData):
        n = min(n, len(data.held_out))
    return data.held_out_batch(n, SEED)


# What the app shows first ----------------------------------------------------------------------------------------


def analyse(model: Model, data: Data, progress: Progress = silent) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The Denoise page's stored frames: a sweep along s, and the plane of noise level and λ for DPI models.

    Pictures of data that may not be passed on are never stored: the inputs are then the model's own samples.

    Returns:
        Tensors for `analysis.safetensors`, and the JSON that says what they are.
    """
    points = not isinstance(data, ImageData)
    inputs, sentence = _shown_inputs(model, data, SHOWN_POINTS if points else SHOWN_IMAGES)
    eps = torch.randn(inputs.shape, generator=seeded_generator(SEED))
    grid = np.linspace(0, 1, SWEEP_FRAMES).tolist()
    frames = list(progress(sweep(model.denoiser, inputs, eps, grid), len(grid), "frames along s"))
    x0_hat = torch.stack([frame.x0_hat for frame in frames])
    c = model.process.coefficients(torch.tensor(grid, dtype=torch.float64))
    lam = model.denoiser.lam(torch.tensor(grid, dtype=torch.float64))
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
        "inputs": sentence,
        "seed": SEED,
        "native": [model.process.describe(s) for s in grid],
    }
    if lam is not None:
        tensors["sweep.lam"] = lam.detach().float()
        pad, about["pad"] = _pad(model, data, inputs, eps, progress)
        tensors |= pad
    return tensors, about


def _pad(
    model: Model, data: Data, inputs: Tensor, eps: Tensor, progress: Progress
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Frames of a few inputs over (noise level, λ), and the error there on held-out data."""
    points = not isinstance(data, ImageData)
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


def _shown_inputs(model: Model, data: Data, n: int) -> tuple[Tensor, str]:
    """Inputs that may be stored, and the sentence that says what they are."""
    if model.recipe.data.kind in ("idx", "image_folder"):
        samples = model.sample(n, seed=SEED).x.float().cpu().clamp(-1, 1)
        return samples, f"{n} samples of the model itself (seed {SEED}); no picture of its training data is stored"
    if isinstance(data, ImageData):
        return data.held_out_batch(n, SEED), f"{n} held-out images of {data.name} (seed {SEED})"
    return data.held_out_batch(n, SEED), f"{n} fresh points of the {model.recipe.data.kind.replace('_', ' ')}"


def _stored(values: Tensor, points: bool) -> Tensor:
    """Points as they are; images in [-1, 1] as bytes."""
    if points:
        return values.float()
    return ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
