"""Denoising a person's own images: white noise of a given σ on 0..255, PSNR of each image, intervals over images."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpi_core.evaluation import bootstrap_interval, psnr
from dpi_core.images import IMAGE_SUFFIXES, read_image
from dpi_core.model import Model
from dpi_core.seeds import seeded_generator
from dpi_core.types import per_sample

HALF_RANGE_255 = 127.5
"""σ on 0..255 of σ = 1 for images in [-1, 1]."""


@dataclass(frozen=True)
class DenoisedImage:
    """One image under one noise level: its σ on 0..255, its path below the folder, and the PSNR of x̂0 in dB."""

    sigma_255: float
    name: str
    psnr: float


def denoise_folder(model: Model, folder: Path, sigmas_255: Sequence[float], seed: int = 0) -> Iterator[DenoisedImage]:
    """Adds white Gaussian noise to every image below a folder, denoises it, and measures the error.

    The protocol of the BSD68 tables: noise is not clipped, x̂0 is clipped and rounded to 0..255. Each image has noise of
    its own, drawn from `seed` and its name, and the same at every σ up to its scale. Where the process also scales the
    image, the model is given α·y at the s with σ(s) / α(s) = σ.

    Args:
        model: of images of any size, in gray or colour as its recipe says.
        folder: of images of any size.
        sigmas_255: standard deviations on 0..255, each above 0.
        seed: of the noise.

    Raises:
        ValueError: no images there, a damaged one, a model that is not of images, or a σ its process never takes.
    """
    if len(model.recipe.shape) != 3:
        raise ValueError(
            f"{model.recipe.name} is a model of points of shape {model.recipe.shape}; choose one of images."
        )
    levels = [_level(model, sigma) for sigma in sigmas_255]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no images; give a folder with some of {', '.join(IMAGE_SUFFIXES)}.")
    for path in paths:
        name = path.relative_to(folder).as_posix()
        clean = read_image(path, gray=model.recipe.shape[0] == 1)[None]
        noise = torch.randn(clean.shape, generator=seeded_generator(seed, zlib.crc32(name.encode())))
        for sigma, s in zip(sigmas_255, levels, strict=True):
            x0_hat = denoise_noisy(model, clean + sigma / HALF_RANGE_255 * noise, s)
            yield DenoisedImage(sigma, name, _psnr_255(x0_hat, clean))


def denoise_noisy(model: Model, y: Float[Tensor, "b c h w"], s: float) -> Float[Tensor, "b c h w"]:
    """x̂0 of images y = x0 + (σ/α) ε, on the CPU; the model is given α·y."""
    alpha = model.process.coefficients(s).alpha
    return model.denoise(per_sample(alpha, y) * y, s).float().cpu()


def _level(model: Model, sigma_255: float) -> float:
    """The s at which the noise has this σ relative to the image."""
    wanted = sigma_255 / HALF_RANGE_255
    s = model.process.s_at_ratio(wanted)
    c = model.process.coefficients(s)
    found = (c.sigma / c.alpha).item()
    if not (sigma_255 > 0 and abs(found - wanted) <= 1e-6 * wanted):
        raise ValueError(
            f"σ = {sigma_255:g} of 255 is not among the noise levels of {model.recipe.name}, whose nearest is"
            f" {HALF_RANGE_255 * found:.4g}; choose another σ or model."
        )
    return s


def _psnr_255(x0_hat: Tensor, clean: Tensor) -> float:
    """PSNR in dB of images rounded to 0..255."""
    found, wanted = (((x.double().clamp(-1, 1) + 1) * HALF_RANGE_255).round() / HALF_RANGE_255 for x in (x0_hat, clean))
    return psnr(np.array([(found - wanted).square().mean().item()])).item()


def psnr_by_sigma(found: Sequence[DenoisedImage]) -> dict[str, Any]:
    """`{"sigma": {"25": {"psnr_mean", "psnr": {name: dB}, "ci95": [low, high]}}}`, the interval over images."""
    by_sigma: dict[float, dict[str, float]] = {}
    for image in found:
        by_sigma.setdefault(image.sigma_255, {})[image.name] = image.psnr
    return {"sigma": {f"{sigma:g}": _summary(each) for sigma, each in by_sigma.items()}}


def _summary(psnr_of: dict[str, float]) -> dict[str, Any]:
    interval = bootstrap_interval(np.array(list(psnr_of.values())))
    return {"psnr_mean": interval.mean, "psnr": psnr_of, "ci95": [interval.low, interval.high]}
