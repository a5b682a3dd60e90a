"""How a computation tells the engine how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from app.records import Result

T = TypeVar("T")


class Report(Protocol):
    """Called between network calls; raises to stop the computation."""

    def __call__(self, done: int, total: int, partial: Result | None = None) -> None:
        """Takes the steps done, the steps in all, and perhaps what they have found so far."""


def reporting(steps: Iterator[T], total: int, report: Report) -> Iterator[T]:
    """The steps, each told as done when it comes."""
    for done, step in enumerate(steps, start=1):
        report(done, total)
        yield step
