"""Drawn curves λ(s) as text for a link: two characters of the URL's alphabet for each λ, groups apart by a dot."""

from __future__ import annotations

import numpy as np

Curves = tuple[tuple[float, ...], ...]
"""λ in [0, 1] at equally spaced s, for each group."""

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
BASE = len(ALPHABET)
STEPS = BASE**2 - 1
DIGITS = 4
"""Decimals that a λ is kept to; the text's steps are coarser."""

MOST_LEVELS, MOST_GROUPS = 257, 16


def encode(curves: Curves) -> str:
    """Text for a link; each λ is kept to 1/4095."""
    return ".".join("".join(_letters(lam) for lam in curve) for curve in curves)


def decode(text: str, groups: int, levels: int) -> Curves:
    """The curves of a link, read at the noise levels of another grid where theirs is another.

    Args:
        text: what `encode` returned.
        groups: how many curves the network has; one curve serves all of them.
        levels: how many values each has.

    Raises:
        ValueError: the text is damaged, or has curves for another number of groups.
    """
    parts = text.split(".")
    if len(parts) > MOST_GROUPS or not all(map(_is_curve, parts)):
        raise ValueError(
            f"the curve {text[:12]!r} in the link is damaged; ask for the link again, or draw the curve anew."
        )
    if len(parts) not in (1, groups):
        raise ValueError(
            f"the link holds {len(parts)} curves, but this network has {groups}; choose the model that they were drawn for."
        )
    curves = tuple(_on_grid(_numbers(part), levels) for part in parts)
    return curves if len(curves) == groups else curves * groups


def _letters(lam: float) -> str:
    high, low = divmod(round(lam * STEPS), BASE)
    return ALPHABET[high] + ALPHABET[low]


def _is_curve(text: str) -> bool:
    return 4 <= len(text) <= 2 * MOST_LEVELS and len(text) % 2 == 0 and set(text) <= set(ALPHABET)


def _numbers(text: str) -> list[float]:
    letters = [ALPHABET.index(letter) for letter in text]
    return [(BASE * high + low) / STEPS for high, low in zip(letters[::2], letters[1::2], strict=True)]


def _on_grid(curve: list[float], levels: int) -> tuple[float, ...]:
    read = np.interp(np.linspace(0, 1, levels), np.linspace(0, 1, len(curve)), curve)
    return tuple(np.round(read, DIGITS).tolist())
