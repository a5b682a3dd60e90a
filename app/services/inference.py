"""The engine: it owns the models, computes requests one after another, and remembers results.

Parameters of a DPI network are exchanged while it runs, so a model must never run in two threads; Streamlit runs every
session in a thread of its own. Sessions therefore hand in frozen requests and look at the job they get back; the models are
touched by two worker threads per device, one for the long requests and one for the others, each with models of its own:
nobody's sweep waits for a minute of somebody's analysis. A session's newer request replaces its older one of the same kind;
what its page no longer asks for is dropped once the page is drawn. Results are NumPy arrays in a cache bounded in bytes.
Nothing here imports torch before the first request or `warm_up`.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.records import ComparisonRequest, LongRequest, ModelKey, Request, Result, Upload
from app.services.computer import Computers, ThisMachine
from app.services.jobs import Job as Job
from app.services.jobs import Outcome
from app.services.jobs import ResultCache as ResultCache
from app.services.logs import event
from app.services.worker import Worker

CACHE_BYTES = 512 * 2**20
PARTIAL_BYTES = 64 * 2**20
MOST_WAITING = 64
"""Jobs that may wait for a worker; one more is refused."""


@dataclass(frozen=True)
class Observation:
    """The engine at one moment.

    Attributes:
        ready: torch is imported and every worker has a living thread.
        waiting: jobs that have not started, over all workers.
        most_waiting: that may wait for each worker.
        full: as many wait for one of them, and another job for it is refused.
        running: jobs that are computed.
        cached: results in the cache.
        cache_bytes: that they hold.
        cache_limit: that they may hold.
        partial_bytes: of what computations have found so far.
        outcomes: status -> jobs that ended so, since the start; "refused" where the queue was full.
    """

    ready: bool
    waiting: int
    most_waiting: int
    full: bool
    running: int
    cached: int
    cache_bytes: int
    cache_limit: int
    partial_bytes: int
    outcomes: dict[str, int]


class _Place(NamedTuple):
    """Where a request is computed: on its device, and whether apart from the others."""

    device: str
    is_apart: bool


class Engine:
    """Owner of the models; thread-safe.

    Args:
        cache_bytes: bound of the result cache.
        most_waiting: jobs that may wait for a worker.
        computers: what computes; this machine by default.

    Attributes:
        cache: the results.
        partials: what computations have found so far; kept when one is cancelled.
    """

    def __init__(
        self,
        cache_bytes: int = CACHE_BYTES,
        most_waiting: int = MOST_WAITING,
        computers: Computers | None = None,
    ) -> None:
        self.cache = ResultCache(cache_bytes)
        self.partials = ResultCache(PARTIAL_BYTES)
        self.lock = threading.Lock()
        self._computers = computers or ThisMachine()
        self._most_waiting = most_waiting
        self._outcomes: dict[str, int] = {}
        self._jobs: dict[Request, Job] = {}
        self._latest: dict[tuple[str, Hashable], Job] = {}
        self._asked: dict[str, set[Request]] = {}
        self._workers: dict[_Place, Worker] = {}
        self._devices: Future[tuple[str, ...]] = Future()
        self._warming = False

    def submit(self, session: str, request: Request) -> Job:
        """Asks for a result; returns at once.

        The session's older request of the same kind is dropped, unless another session waits for it too. A request that
        somebody already waits for is computed once. One that failed is tried again after `cancel` or another request of its
        kind: a page that is drawn again finds its error. Where too many wait already, the job that is returned has failed
        with a sentence that says so, and the next attempt counts anew.

        Args:
            session: who asks.
            request: what for.
        """
        with self.lock:
            self._asked.get(session, set()).add(request)
            kind = _kind(request)
            self._drop(lambda who, older: who == session and older != request and _kind(older) == kind)
            latest = self._latest.get((session, kind))
            known, note = self.cache.get_with_note(request)
            if known is not None:
                job = Job(request)
                job.finish(Outcome("done", known, note))
                return job
            if latest is not None and latest.status == "failed":
                return latest
            worker = self._worker(request)
            if request not in self._jobs:
                if len(worker.turns.waiting) >= self._most_waiting:
                    return self._refused(request)
                self._jobs[request] = Job(request)
                self._jobs[request].waiting.add(session)
                worker.enqueue(self._jobs[request])
            job = self._jobs[request]
            job.waiting.add(session)
            self._latest[session, kind] = job
            return job

    @contextmanager
    def draw(self, session: str) -> Iterator[None]:
        """While a session's page is drawn: afterwards what it waits for and the page did not ask for is dropped.

        A page shows one picture at a time, of several requests; those of the last picture are of no use to anybody. A page
        that asks for nothing drops nothing: who looks something up on another page finds the work going on. Nor does one whose
        drawing was interrupted, for nobody knows what it would have asked for.
        """
        asked = self._asked[session] = set()
        try:
            yield
            with self.lock:
                self._drop(lambda who, request: who == session and bool(asked) and request not in asked)
        finally:
            self._asked.pop(session, None)

    def cancel(self, session: str, job: Job) -> None:
        """This session no longer waits; the computation stops within one step if nobody else does."""
        with self.lock:
            if self._latest.get((session, _kind(job.request))) is job:
                del self._latest[session, _kind(job.request)]
            self._leave(session, job)

    def leave(self, session: str) -> None:
        """The session has ended: it waits for nothing, and what only it waited for stops."""
        with self.lock:
            self._drop(lambda who, request: who == session)

    def forget(self, session: str, upload: Upload) -> None:
        """Lets go of all that was computed, or is, of this session's own images."""
        with self.lock:
            self._drop(lambda who, request: who == session and request.inputs.upload == upload)
        for kept in (self.cache, self.partials):
            kept.drop(lambda request: request.inputs.upload == upload)

    def forget_models(self, folder: Path) -> None:
        """Lets go of the models below a folder whose files are gone, and of all that was computed, or is, by them."""

        def names_one(request: Request) -> bool:
            return any(Path(key.folder).is_relative_to(folder) for key in _models(request))

        with self.lock:
            self._drop(lambda who, request: names_one(request))
            for worker in self._workers.values():
                worker.forget(folder)
        for kept in (self.cache, self.partials):
            kept.drop(names_one)

    def ahead_of(self, job: Job) -> int:
        """How many jobs are computed by the same worker or wait for it, apart from this one."""
        with self.lock:
            worker = self._workers.get(self._place(job.request))
            return 0 if worker is None else len({*worker.turns.waiting, *worker.running} - {job})

    def observe(self) -> Observation:
        """Counts and bytes, for whoever looks after the server."""
        with self.lock:
            workers, outcomes = list(self._workers.values()), dict(self._outcomes)
            waiting = [len(worker.turns.waiting) for worker in workers]
            running = sum(len(worker.running) for worker in workers)
        return Observation(
            ready=self._is_ready() and all(worker.alive for worker in workers),
            waiting=sum(waiting),
            most_waiting=self._most_waiting,
            full=max(waiting, default=0) >= self._most_waiting,
            running=running,
            cached=len(self.cache),
            cache_bytes=self.cache.held,
            cache_limit=self.cache.limit,
            partial_bytes=self.partials.held,
            outcomes=outcomes,
        )

    def close(self) -> None:
        """Drops all work and waits for the workers to end: torch must not run while Python shuts down."""
        with self.lock:
            for job in list(self._jobs.values()):
                for session in list(job.waiting):
                    self._leave(session, job)
            workers = list(self._workers.values())
        for worker in workers:
            worker.close()

    def warm_up(self) -> None:
        """Finds the devices, in the background; once. Those of this machine take torch's import."""
        with self.lock:
            if not self._warming:
                self._warming = True
                threading.Thread(target=self._find_devices, name="engine-warm-up", daemon=True).start()

    def devices(self) -> tuple[str, ...] | None:
        """What can compute here, the best first; None while torch is still being imported."""
        return self._devices.result() if self._is_ready() else None

    def best_device(self) -> str:
        """Waits for the warm-up and returns the fastest device."""
        self.warm_up()
        return self._devices.result()[0]

    def _find_devices(self) -> None:
        try:
            devices = self._computers.devices()
            # What is alive now stays: without this every script run pays for a full collection over torch's objects.
            gc.collect()
            gc.freeze()
            self._devices.set_result(devices)
            event("warmed up", devices=", ".join(devices))
        except Exception as error:  # whoever waits for the devices has to hear of it
            self._devices.set_exception(error)
            raise

    def _is_ready(self) -> bool:
        return self._devices.done() and self._devices.exception() is None

    def _worker(self, request: Request) -> Worker:
        place = self._place(request)
        if place not in self._workers:
            computer = self._computers.on(place.device)
            self._workers[place] = Worker(self, place.device, computer, steps_back=place.is_apart)
        return self._workers[place]

    def _place(self, request: Request) -> _Place:
        return _Place(
            request.device, isinstance(request, LongRequest) and self._computers.computes_apart(request.device)
        )

    def _drop(self, is_unwanted: Callable[[str, Request], bool]) -> None:
        """Sessions no longer wait for some of their requests; the caller holds the lock."""
        for (session, kind), job in list(self._latest.items()):
            if is_unwanted(session, job.request):
                del self._latest[session, kind]
                self._leave(session, job)

    def _leave(self, session: str, job: Job) -> None:
        job.waiting.discard(session)
        if not job.waiting and not job.finished:
            self._jobs.pop(job.request, None)
            if job.status == "waiting":
                self._workers[self._place(job.request)].drop(job)
                self._count("cancelled")
                job.finish(Outcome("cancelled"))

    def _refused(self, request: Request) -> Job:
        self._count("refused")
        job, waiting = Job(request), f"{self._most_waiting} computations wait for {request.device}"
        job.finish(Outcome("failed", error=f"the server is busy: {waiting}; try again in a minute."))
        return job

    def _count(self, status: str) -> None:
        self._outcomes[status] = self._outcomes.get(status, 0) + 1

    def wanted(self, job: Job) -> bool:
        """Whether a session still waits for a job; for the workers."""
        return bool(job.waiting)  # without the lock: it is asked before every layer

    def found(self, job: Job, partial: Result) -> None:
        """Keeps what a computation has found so far, while somebody waits for it; for the workers."""
        with self.lock:
            if job.waiting:
                self.partials.put(job.request, partial)

    def complete(self, job: Job, outcome: Outcome) -> None:
        """Takes the outcome of a job, which is kept if somebody waits for it; for the workers."""
        with self.lock:
            if job.finished:
                return
            if outcome.result is not None and job.waiting:
                self.cache.put(job.request, outcome.result, outcome.note)
            self._count(outcome.status)
            if self._jobs.get(job.request) is job:
                del self._jobs[job.request]
            if outcome.status != "failed":
                for key in [key for key, latest in self._latest.items() if latest is job]:
                    del self._latest[key]
            job.finish(outcome)


def _kind(request: Request) -> Hashable:
    """What part of a picture is asked for: of each a session waits for one at a time."""
    return type(request), request.inputs.of is not None


def _models(request: Request) -> tuple[ModelKey, ...]:
    """All models that a request names."""
    others = request.others if isinstance(request, ComparisonRequest) else ()
    of = request.inputs.of
    return (request.model, *others, *(() if of is None else (of,)))
