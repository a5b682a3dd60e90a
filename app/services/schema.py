"""What the pages rely on in a checkpoint's JSON and stored arrays, checked once when it is read.

A checkpoint may come from anywhere: its numbers are drawn, its texts stand on the page. No torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np

MARKUP = re.compile(r"[<>\[\]`*$\\~!#]|://|[\x00-\x1f]")
"""What a text on the page must not hold: it would be read as markup there."""

LONGEST_TEXT = 400


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Checks what the pages read of a config before torch is there; `dpi_core.load` checks all of it.

    Raises:
        ValueError: names the part that is not what it should be.
    """
    name, shape = recipe.get("name"), recipe.get("shape")
    _require(isinstance(name, str) and re.fullmatch(r"[\w-]{1,80}", name), "name", "letters, digits, - and _")
    _require(_are_numbers(shape, 1) and all(type(n) is int and n > 0 for n in shape), "shape", "positive integers")
    for part in ("data", "process", "conditioning"):
        section = recipe.get(part)
        _require(isinstance(section, dict) and isinstance(section.get("kind"), str), part, "an object with its kind")
    groups = recipe["conditioning"].get("groups")
    _require(groups is None or isinstance(groups, dict), "conditioning.groups", "an object or null")


def check_metrics(metrics: Mapping[str, Any], are_images: bool) -> None:
    """Checks what the pages read of the scores.

    Args:
        metrics: the scores.
        are_images: whether the model's samples are images, which are scored by PSNR, or points, by the squared error.

    Raises:
        ValueError: names the part that is not what it should be.
    """
    for part in ("data", "training", "held_out", "excess_over_optimum"):
        _require(isinstance(metrics.get(part, {}), dict), part, "an object")
    data, count = metrics.get("data"), metrics.get("parameters")
    if data is not None:
        _require(
            all(isinstance(data.get(key), str) for key in ("name", "licence")), "data", "name and licence as texts"
        )
    _require(count is None or _is_number(count), "parameters", "a number")
    if "held_out" in metrics:
        _check_held_out(metrics["held_out"], are_images)
    if "excess_over_optimum" in metrics:
        excess = metrics["excess_over_optimum"]
        levels = len(metrics.get("held_out", {}).get("s", []))
        optimum = excess.get("optimum_mse")
        fits = optimum is None or (_are_numbers(optimum, 2) and len(optimum) == levels)
        _require(
            _is_number(excess.get("mean")) and fits, "excess_over_optimum", "a mean and one optimum_mse for each s"
        )


def check_texts(about: Any) -> None:
    """Refuses texts that would be read as markup on the page, and long ones.

    Raises:
        ValueError: quotes the text.
    """
    for text in _texts(about):
        if MARKUP.search(text) or len(text) > LONGEST_TEXT:
            raise ValueError(f"it holds the text {text[:40]!r}, which is not a plain short one")


def check_sweep(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Checks that the stored frames and samples belong to samples of a shape, and the frames to one another.

    Raises:
        ValueError: names the array that does not fit.
    """
    levels, n = len(arrays["sweep.s"]), len(arrays["sweep.clean"])
    expected = {
        **dict.fromkeys(("sweep.s", "sweep.alpha", "sweep.sigma", "sweep.lam"), (levels,)),
        "sweep.clean": (n, *shape),
        "sweep.noise": (n, *shape),
        "sweep.x0_hat": (levels, n, *shape),
        "sweep.mse": (levels, n),
        "samples.x": (len(arrays.get("samples.x", ())), *shape),
    }
    for name, wanted in expected.items():
        if name in arrays and arrays[name].shape != wanted:
            raise ValueError(f"{name} has shape {arrays[name].shape}, but {wanted} is expected")
        if name in arrays and arrays[name].dtype != np.uint8 and not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    if (about["kind"] == "image") != (len(shape) == 3):
        raise ValueError(f"its kind is {about['kind']!r}, but the samples have shape {shape}")


def _check_held_out(held_out: Mapping[str, Any], are_images: bool) -> None:
    s = held_out.get("s")
    if not _are_numbers(s, 2) or not all(0 <= a < b <= 1 for a, b in zip(s, s[1:], strict=False)):
        raise _unexpected("held_out.s", "rising numbers in [0, 1]")
    _require(type(held_out.get("n")) is int, "held_out.n", "an integer")
    if not are_images:
        mse = held_out.get("mse")
        _require(_are_numbers(mse, 2) and len(mse) == len(s), "held_out.mse", "one number for each s")
        return
    psnr: Any = held_out.get("psnr")
    fits = isinstance(psnr, list) and len(psnr) == len(s)
    whole = fits and all(isinstance(each, dict) and all(_is_number(each.get(k)) for k in _ENDS) for each in psnr)
    _require(whole, "held_out.psnr", "mean, low and high for each s")


_ENDS = ("mean", "low", "high")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _require(holds: object, part: str, expected: str) -> None:
    if not holds:
        raise _unexpected(part, expected)


def _unexpected(part: str, expected: str) -> ValueError:
    return ValueError(f"{part} is not what it should be: {expected}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(values: Any, least: int) -> TypeGuard[list[float]]:
    return isinstance(values, list) and len(values) >= least and all(_is_number(value) for value in values)
