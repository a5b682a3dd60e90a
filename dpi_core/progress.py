"""How long work says how far it is: whoever starts it hands in what wraps its steps."""

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iterable of known length to show how far it is: (steps, total, label)."""


def silent(steps: Iterable[Any], total: int, label: str) -> Iterable[Any]:
    """No progress shown."""
    return steps
