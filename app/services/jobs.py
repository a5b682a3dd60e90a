"""What passes between sessions and the engine: jobs, and results in a memory of bounded size. No torch, no streamlit."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from app.records import Request, Result, size_in_bytes
from app.services.bounded import BoundedCache

Status = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(BaseException):
    """Raised inside a computation that nobody waits for any more; no Exception, for networks must not catch it."""


class ResultCache(BoundedCache[Request, tuple[Result, str]]):
    """Results by their requests, each with a sentence about how it was computed, in at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, lambda kept: size_in_bytes(kept[0]))

    def get(self, request: Request) -> Result | None:
        """The stored result, now the most recently used."""
        return self.get_with_note(request)[0]

    def get_with_note(self, request: Request) -> tuple[Result | None, str]:
        """The stored result, now the most recently used, and the sentence that was stored with it."""
        return self.find(request) or (None, "")

    def put(self, request: Request, result: Result, note: str = "") -> None:
        """Stores a result, unless it is larger than the whole cache."""
        self.keep(request, (result, note))


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a job ended; the attributes are those of `Job`."""

    status: Status
    result: Result | None = None
    note: str = ""
    error: str = ""


@dataclass(eq=False)
class Job:
    """A request on its way; any thread may look at it.

    Attributes:
        request: what was asked.
        status: where it stands.
        done: steps computed so far.
        total: steps in all, 0 while unknown.
        result: the answer, once `status` is "done".
        error: one sentence, once `status` is "failed".
        note: one sentence about how it was computed, if that was not as asked for.
        waiting: the sessions that wait for it.
    """

    request: Request
    status: Status = "waiting"
    done: int = 0
    total: int = 0
    result: Result | None = None
    error: str = ""
    note: str = ""
    waiting: set[str] = field(default_factory=set)
    _finished: threading.Event = field(default_factory=threading.Event)

    @property
    def finished(self) -> bool:
        """Whether it will not change any more."""
        return self._finished.is_set()

    @property
    def progress(self) -> float:
        """Share done, in [0, 1]."""
        return self.done / self.total if self.total else 0.0

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is finished; False where the timeout came first."""
        return self._finished.wait(timeout)

    def finish(self, outcome: Outcome) -> None:
        """Called once, by the engine."""
        self.result, self.error, self.note = outcome.result, outcome.error, outcome.note
        self.status = outcome.status
        self._finished.set()
