"""What passes between sessions and the engine: jobs, and results in a memory of bounded size. No torch, no streamlit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from app.records import Request, Result, size_in_bytes

Status = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(BaseException):
    """Raised inside a computation that nobody waits for any more; no Exception, for networks must not catch it."""


class ResultCache:
    """Least recently used results go first once they hold more than `limit` bytes together.

    Attributes:
        limit: in bytes.
        held: bytes of all results in it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._results: OrderedDict[Request, tuple[Result, str]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, request: Request) -> Result | None:
        """The stored result, now the most recently used."""
        return self.get_with_note(request)[0]

    def get_with_note(self, request: Request) -> tuple[Result | None, str]:
        """The stored result, now the most recently used, and the sentence that was stored with it."""
        with self._lock:
            if request in self._results:
                self._results.move_to_end(request)
            return self._results.get(request, (None, ""))

    def drop(self, is_unwanted: Callable[[Request], bool]) -> None:
        """Takes out the results of some requests."""
        with self._lock:
            for request in [request for request in self._results if is_unwanted(request)]:
                self.held -= size_in_bytes(self._results.pop(request)[0])

    def put(self, request: Request, result: Result, note: str = "") -> None:
        """Stores a result, unless it is larger than the whole cache."""
        size = size_in_bytes(result)
        if size > self.limit:
            return
        with self._lock:
            replaced = self._results.pop(request, None)
            self.held -= 0 if replaced is None else size_in_bytes(replaced[0])
            while self.held + size > self.limit:
                _, (oldest, _) = self._results.popitem(last=False)
                self.held -= size_in_bytes(oldest)
            self._results[request] = (result, note)
            self.held += size


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
