"""The engine: it owns the models, computes requests one after another per device, and remembers results.

Parameters of a DPI network are exchanged while it runs, so a model must never run in two threads; Streamlit runs every
session in a thread of its own. Sessions therefore hand in frozen requests and look at the job they get back; one worker
thread per device touches models. A session's newer request replaces its older one. Results are NumPy arrays in a cache
bounded in bytes. Nothing here imports torch before the first request or `warm_up`.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from app.records import ModelKey, Request, Result, size_in_bytes
from app.services.reporting import Report

log = logging.getLogger(__name__)

Status = Literal["waiting", "running", "done", "failed", "cancelled"]
CACHE_BYTES = 512 * 2**20
PARTIAL_BYTES = 64 * 2**20
MODELS_IN_MEMORY = 4


class Cancelled(Exception):
    """Raised inside a computation that nobody waits for any more."""


class ResultCache:
    """Least recently used results go first once they hold more than `limit` bytes together."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self._results: OrderedDict[Request, Result] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: Request) -> Result | None:
        """The stored result, now the most recently used."""
        with self._lock:
            if request in self._results:
                self._results.move_to_end(request)
            return self._results.get(request)

    def put(self, request: Request, result: Result) -> None:
        """Stores a result, unless it is larger than the whole cache."""
        size = size_in_bytes(result)
        if size > self.limit:
            return
        with self._lock:
            replaced = self._results.pop(request, None)
            self.held -= 0 if replaced is None else size_in_bytes(replaced)
            while self.held + size > self.limit:
                _, oldest = self._results.popitem(last=False)
                self.held -= size_in_bytes(oldest)
            self._results[request] = result
            self.held += size


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
    """

    request: Request
    status: Status = "waiting"
    done: int = 0
    total: int = 0
    result: Result | None = None
    error: str = ""
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

    def _finish(self, status: Status, result: Result | None = None, error: str = "") -> None:
        self.result, self.error, self.status = result, error, status
        self._finished.set()


class Engine:
    """Owner of the models; thread-safe.

    Args:
        cache_bytes: bound of the result cache.

    Attributes:
        cache: the results.
        partials: what computations have found so far; kept when one is cancelled.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self.cache = ResultCache(cache_bytes)
        self.partials = ResultCache(PARTIAL_BYTES)
        self._lock = threading.Lock()
        self._jobs: dict[Request, Job] = {}
        self._latest: dict[tuple[str, type], Job] = {}
        self._workers: dict[str, Worker] = {}
        self._devices: Future[tuple[str, ...]] = Future()
        self._warming = False

    def submit(self, session: str, request: Request) -> Job:
        """Asks for a result; returns at once.

        The session's older request of the same kind, or about another model or other inputs, is dropped, unless another
        session waits for it too. A request that somebody already waits for is computed once. One that failed is tried
        again after `cancel` or another request: a page that is drawn again finds its error.

        Args:
            session: who asks.
            request: what for.
        """
        with self._lock:
            self._drop_superseded(session, request)
            known, latest = self.cache.get(request), self._latest.get((session, type(request)))
            if known is not None:
                job = Job(request)
                job._finish("done", known)
                return job
            if latest is not None and latest.status == "failed":
                return latest
            if request not in self._jobs:
                self._jobs[request] = Job(request)
                self._worker(request.device).enqueue(self._jobs[request])
            job = self._jobs[request]
            job.waiting.add(session)
            self._latest[session, type(request)] = job
            return job

    def cancel(self, session: str, job: Job) -> None:
        """This session no longer waits; the computation stops within one step if nobody else does."""
        with self._lock:
            if self._latest.get((session, type(job.request))) is job:
                del self._latest[session, type(job.request)]
            self._leave(session, job)

    def close(self) -> None:
        """Drops all work and waits for the workers to end: torch must not run while Python shuts down."""
        with self._lock:
            for job in list(self._jobs.values()):
                for session in list(job.waiting):
                    self._leave(session, job)
            workers = list(self._workers.values())
        for worker in workers:
            worker.close()

    def warm_up(self) -> None:
        """Imports torch and finds the devices, in the background; once."""
        with self._lock:
            if not self._warming:
                self._warming = True
                threading.Thread(target=self._find_devices, name="engine-warm-up", daemon=True).start()

    def devices(self) -> tuple[str, ...] | None:
        """What can compute here, the best first; None while torch is still being imported."""
        return self._devices.result() if self._devices.done() else None

    def best_device(self) -> str:
        """Waits for the warm-up and returns the fastest device."""
        self.warm_up()
        return self._devices.result()[0]

    def _find_devices(self) -> None:
        from app.services import compute

        # What is alive now stays: without this every script run pays for a full collection over torch's objects.
        gc.collect()
        gc.freeze()
        self._devices.set_result(compute.devices())

    def _worker(self, device: str) -> Worker:
        if device not in self._workers:
            self._workers[device] = Worker(self, device)
        return self._workers[device]

    def _drop_superseded(self, session: str, request: Request) -> None:
        """The session shows one picture at a time: its sweep, and the pad of the same model and inputs."""
        for key, job in list(self._latest.items()):
            about = (job.request.model, job.request.inputs)
            same_picture = type(job.request) is not type(request) and about == (request.model, request.inputs)
            if key[0] == session and job.request != request and not same_picture:
                del self._latest[key]
                self._leave(session, job)

    def _leave(self, session: str, job: Job) -> None:
        job.waiting.discard(session)
        if not job.waiting and not job.finished:
            self._jobs.pop(job.request, None)
            if job.status == "waiting":
                job._finish("cancelled")

    def _wanted(self, job: Job) -> bool:
        with self._lock:
            return bool(job.waiting)

    def _complete(self, job: Job, status: Status, result: Result | None = None, error: str = "") -> None:
        if result is not None:
            self.cache.put(job.request, result)
        with self._lock:
            if self._jobs.get(job.request) is job:
                del self._jobs[job.request]
            if status != "failed":
                for key in [key for key, latest in self._latest.items() if latest is job]:
                    del self._latest[key]
            job._finish(status, result, error)


class Worker:
    """The only thread that touches the models of one device."""

    def __init__(self, engine: Engine, device: str) -> None:
        self.engine, self.device = engine, device
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._models: OrderedDict[ModelKey, Any] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name=f"engine-{device}", daemon=True)
        self._thread.start()

    def enqueue(self, job: Job) -> None:
        """Takes its turn behind what is waiting."""
        self._queue.put(job)

    def close(self) -> None:
        """Ends after the job at hand; waits for a few seconds."""
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if self.engine._wanted(job):
                self._answer(job)

    def _answer(self, job: Job) -> None:
        job.status = "running"
        try:
            result = self._compute(job)
        except Cancelled:
            self.engine._complete(job, "cancelled")
        except (ValueError, FloatingPointError) as error:
            self.engine._complete(job, "failed", error=str(error))
        except Exception as error:  # the worker has to outlive whatever one request does
            log.exception("request failed: %s", type(job.request).__name__)
            self.engine._complete(job, "failed", error=f"the computation stopped ({error!r}); choose other inputs.")
        else:
            self.engine._complete(job, "done", result)

    def _compute(self, job: Job) -> Result:
        from app.services import compute

        def load(key: ModelKey) -> Any:
            return self._model(key, compute.load_model)

        return compute.answer(load(job.request.model), job.request, self._reporter(job), load)

    def _model(self, key: ModelKey, load: Callable[[ModelKey, str], Any]) -> Any:
        if key not in self._models:
            self._models[key] = load(key, self.device)
            while len(self._models) > MODELS_IN_MEMORY:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return self._models[key]

    def _reporter(self, job: Job) -> Report:
        def report(done: int, total: int, partial: Result | None = None) -> None:
            if partial is not None:
                self.engine.partials.put(job.request, partial)
            if not self.engine._wanted(job):
                raise Cancelled
            job.done, job.total = done, total

        return report
