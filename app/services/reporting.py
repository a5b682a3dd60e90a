"""How a computation tells the engine how far it is."""

from __future__ import annotations

from typing import Protocol

from app.records import Result


class Report(Protocol):
    """Called between network calls; raises to stop the computation."""

    def __call__(self, done: int, total: int, partial: Result | None = None) -> None:
        """Takes the steps done, the steps in all, and perhaps what they have found so far."""
