"""A model's card as HTML: its pictures above its facts, on the Models page and in its file."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from app.figures.cards import SCORED_AT, facts
from app.lessons.lesson import Tile
from app.lessons.pictures import curve_tile, extent_of, sample_tile, to_unit
from app.records import StoredModel, SweepResult

CARD_STYLE = Path(__file__).with_suffix(".css")


def card_html(model: StoredModel, is_shown: bool) -> str:
    """The card; texts come from the model's files and are not markup.

    Args:
        model: the model.
        is_shown: whether it is the one on show.
    """
    marks = [*(["yours"] if model.source.origin != "zoo" else []), *(["on show"] if is_shown else [])]
    mark = f"<small>{', '.join(marks)}</small>" if marks else ""
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts(model))
    return f'<div class="model-card"><h5>{escape(model.name)}{mark}</h5>{_pictures(model)}<dl>{rows}</dl></div>'


def _pictures(model: StoredModel) -> str:
    if model.sweep is None:
        return '<p class="none">No stored frames: open it, and they are computed.</p>'
    tiles = [*_frames(model, model.sweep), *_curve(model.sweep)]
    return f'<div class="pictures">{"".join(_figure(tile) for tile in tiles)}</div>'


def _figure(tile: Tile) -> str:
    return f'<figure><img src="{tile.source}" alt="{escape(tile.alt)}"><figcaption>{escape(tile.note)}</figcaption></figure>'


def _frames(model: StoredModel, sweep: SweepResult) -> list[Tile]:
    """The same few inputs noised and denoised."""
    k = int(np.abs(sweep.s - SCORED_AT).argmin())
    clean, x0_hat = sweep.clean, sweep.x0_hat[k]
    if model.is_image:
        clean, x0_hat = to_unit(clean), to_unit(x0_hat)
    alpha, sigma = float(sweep.alpha[k]), float(sweep.sigma[k])
    noised = (alpha * clean + sigma * sweep.noise) / np.hypot(alpha, sigma)
    extent = 1.0 if model.is_image else extent_of(noised, x0_hat)
    at = f" of {model.name} at t = {sweep.s[k]:.2f}"
    return [
        sample_tile(noised, extent, f"Noised inputs{at}", "Noised"),
        sample_tile(x0_hat, extent, f"Denoised inputs{at}", "Denoised"),
    ]


def _curve(sweep: SweepResult) -> list[Tile]:
    return [] if sweep.lam is None else [curve_tile(sweep.s, sweep.lam, "λ against s", "λ(s)")]
