"""The Denoise page's figures and sentences: results in, what the scrubber draws out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from app.components.scrubber.payload import Beside, Chart, Curve, Pad, Sweep
from app.figures.comparisons import colour_of, method_of
from app.records import PadResult, StoredModel, SweepResult
from dpi_core.judged import psnr

Second = tuple[StoredModel, SweepResult]
"""Another model, and its answers for the inputs, noise and s of the first."""


TRACE = 1e-6
"""A mean squared error that is no more than rounding."""


def sweep_figure(
    model: StoredModel, family: Sequence[StoredModel], result: SweepResult, second: Second | None = None
) -> Sweep:
    """Frames along s, λ(s), the family's held-out error, and a second model under the same cursor."""
    shown = [] if second is None else [shown_chart(model, result, second)]
    return Sweep(
        kind="image" if model.is_image else "points",
        s=result.s,
        lam=result.lam,
        alpha=result.alpha,
        sigma=result.sigma,
        native=result.native,
        clean=result.clean,
        noise=result.noise,
        x0_hat=result.x0_hat,
        charts=(*shown, *error_chart(model, family)),
        title=model.name,
        beside=None if second is None else _beside(result, second),
    )


def _beside(result: SweepResult, second: Second) -> Beside:
    other, found = second
    same = np.allclose(found.alpha, result.alpha, atol=1e-3) and np.allclose(found.sigma, result.sigma, atol=1e-3)
    note = "" if same else "It noises them by its own process: α and σ differ at equal t."
    return Beside(other.name, found.lam, found.x0_hat, note)


def shown_chart(model: StoredModel, result: SweepResult, second: Second) -> Chart:
    """Both models' error on the very inputs that are shown, under the same noise."""
    other, found = second
    pairs = ((model, result, "this"), (other, found, "other"))
    if model.is_image:
        curves = tuple(Curve(card.name, each.s, _mean_psnr(each.mse), role=role) for card, each, role in pairs)  # type: ignore[arg-type]
        caption = f"Mean over the {len(result.clean)} images shown, with the same noise. Higher is better."
        return Chart("PSNR of the images shown", "PSNR (dB)", curves, caption)
    curves = tuple(Curve(card.name, each.s, each.mse.mean(axis=1), role=role) for card, each, role in pairs)  # type: ignore[arg-type]
    caption = f"Mean over the {len(result.clean)} points shown, with the same noise. Lower is better."
    return Chart("Error on the points shown", "mean squared error", curves, caption)


def _mean_psnr(mse: np.ndarray) -> np.ndarray:
    """(t,) in dB of (t, n) errors of images in [-1, 1]; NaN, which is not drawn, where nothing is left of the noise."""
    return np.where(mse.mean(axis=1) > TRACE, psnr(np.maximum(mse, TRACE)).mean(axis=1), np.nan)


def pad_figure(model: StoredModel, result: PadResult) -> Pad:
    """Frames over (noise level, λ) with the error there and the learned curve."""
    return Pad(
        s=result.s,
        lam=result.lam,
        score=gain_over_best(result.score, model.is_image),
        learned=result.learned,
        x0_hat=result.x0_hat,
        inputs=list(range(result.x0_hat.shape[2])),
        alpha=result.alpha,
        sigma=result.sigma,
        native=result.native,
        label="vs best λ",
        unit="dB",
    )


def gain_over_best(score: np.ndarray, is_psnr: bool) -> np.ndarray:
    """DB by which each λ falls short of the best λ at the same noise level: 0 in the valley, negative beside it.

    Args:
        score: (q, p), PSNR in dB, or the mean squared error.
        is_psnr: which of the two.
    """
    quality = score if is_psnr else -10 * np.log10(np.maximum(score, 1e-12))
    return quality - quality.max(axis=0)


def error_chart(model: StoredModel, family: Sequence[StoredModel]) -> list[Chart]:
    """Held-out error against s of the model and the others trained alike; nothing where nothing was measured."""
    measured = [card for card in family if "held_out" in card.metrics]
    if model.name not in [card.name for card in measured]:
        return []
    if model.is_image:
        curves = [_psnr_curve(card, *_look(card, model, measured)) for card in measured]
        caption = (
            f"Mean over {model.metrics['held_out']['n']} held-out images, the same images and noise for all models;"
            " the band is a 95 % bootstrap interval over images. Higher is better."
        )
        return [Chart("Held-out PSNR against t", "PSNR (dB)", tuple(curves), caption)]
    curves = [_mse_curve(card, *_look(card, model, measured)) for card in measured]
    caption = f"Mean squared error of x̂0 per coordinate over {model.metrics['held_out']['n']} fresh points"
    optimum = model.metrics.get("excess_over_optimum", {}).get("optimum_mse")
    if optimum is not None:
        s = model.metrics["held_out"]["s"]
        curves.append(Curve("closed-form optimum", s, np.array(optimum), dashed=True))
        caption += "; dashed: the least possible, from the mixture's closed form"
    caption += ". Lower is better."
    return [Chart("Error against t", "mean squared error", tuple(curves), caption)]


Role = Literal["this", "other"]


def _look(card: StoredModel, model: StoredModel, family: Sequence[StoredModel]) -> tuple[Role, str]:
    """Which part a curve has in the chart, and its method's colour."""
    colour = colour_of(method_of(card), [method_of(each) for each in family])
    return "this" if card.name == model.name else "other", colour


def _psnr_curve(card: StoredModel, role: Role, colour: str) -> Curve:
    held_out = card.metrics["held_out"]
    mean, low, high = (np.array([level[key] for level in held_out["psnr"]]) for key in ("mean", "low", "high"))
    return Curve(card.name, held_out["s"], mean, low, high, role, color=colour)


def _mse_curve(card: StoredModel, role: Role, colour: str) -> Curve:
    held_out = card.metrics["held_out"]
    return Curve(card.name, held_out["s"], np.array(held_out["mse"]), role=role, color=colour)


def error_at(card: StoredModel, s: float) -> float | None:
    """A model's held-out error at s: PSNR in dB for images, else mean squared error; None outside what was measured."""
    held_out = card.metrics.get("held_out")
    if held_out is None or not held_out["s"][0] <= s <= held_out["s"][-1]:
        return None
    values = [level["mean"] for level in held_out["psnr"]] if card.is_image else held_out["mse"]
    return float(np.interp(s, held_out["s"], values))


WITHOUT_LAMBDA = {
    "none": "The network is blind: the same parameters at every t; only the conversion to x̂0 knows t.",
    "blind": "The network is blind: the same parameters at every t; it predicts x̂0 itself, so that nothing knows t.",
    "rescaling": "The network is blind: the same parameters at every t; it predicts the noise, and the conversion knows t.",
    "input_map": "The network has one parameter set; t is one more of its inputs.",
    "embedding": "The network has one parameter set; t scales and shifts what its layers put out.",
}
"""How t reaches the result where there is no λ, by conditioning."""


def sentence(model: StoredModel, result: SweepResult | PadResult, frame: int, lam: float | None) -> str:
    """What is seen at one frame, or in one cell, in words.

    Args:
        model: on show.
        result: its frames along the learned curve, or over the plane.
        frame: index of s.
        lam: the parameters' position over the plane.
    """
    alpha, sigma = float(result.alpha[frame]), float(result.sigma[frame])
    what = "image" if model.is_image else "point"
    parts = [
        f"At **t = {result.s[frame]:.2f}** ({result.native[frame]}) the noised {what} is"
        f" {alpha:.2f} · clean + {sigma:.2f} · noise."
    ]
    curve = result.learned if isinstance(result, PadResult) else result.lam
    learned = None if curve is None else float(curve[frame])
    has_groups = bool(model.recipe["conditioning"].get("groups"))
    if learned is None:
        parts.append(WITHOUT_LAMBDA[model.recipe["conditioning"]["kind"]])
    elif lam is None:
        where = "The groups of layers have a λ each, on average" if has_groups else "The network runs at λ ="
        parts.append(f"{where} {learned:.2f}: {_mixture(learned)}.")
    else:
        curve_of = "groups have, on average," if has_groups else "learned curve has"
        parts.append(f"The parameters are held at λ = {lam:.2f} ({_mixture(lam)}); the {curve_of} {learned:.2f} here.")
    if lam is None and isinstance(result, SweepResult):
        parts.append(_error_sentence(model, result, frame))
    return " ".join(parts)


def second_sentence(model: StoredModel, frame: int, result: SweepResult, second: Second) -> str:
    """What the second model makes of the same inputs at one frame."""
    other, found = second
    ours, theirs = (_error_at_frame(model, each, frame) for each in (result, found))
    if ours is None or theirs is None:
        return ""
    unit = "dB" if model.is_image else "mean squared error"
    digits = 1 if model.is_image else 4
    return f"On the same inputs and noise {other.name} reaches {theirs:.{digits}f} {unit} against {ours:.{digits}f}."


def _error_at_frame(model: StoredModel, result: SweepResult, frame: int) -> float | None:
    value = float(_mean_psnr(result.mse)[frame] if model.is_image else result.mse[frame].mean())
    return value if np.isfinite(value) else None


def _mixture(lam: float) -> str:
    return f"{100 * (1 - lam):.0f} % θ0 and {100 * lam:.0f} % θ1"


def _error_sentence(model: StoredModel, result: SweepResult, frame: int) -> str:
    mse = float(result.mse[frame].mean())
    if not model.is_image:
        return f"The mean squared error of x̂0 over the points shown is {mse:.3g}."
    if mse < 1e-10:
        return "Nothing was added, so x̂0 is the clean image."
    shown = float(psnr(result.mse[frame]).mean())
    held_out = error_at(model, float(result.s[frame]))
    beside = "" if held_out is None else f"; over the held-out set it is {held_out:.1f} dB"
    return f"Mean PSNR of x̂0 over the images shown is {shown:.1f} dB{beside}."
