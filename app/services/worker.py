"""The thread that computes on one device, and the order in which sessions are served."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Protocol

from app.records import ModelKey, Result
from app.services.jobs import Cancelled, Job, Outcome
from app.services.logs import event, stack_of
from app.services.reporting import Report

MODEL_BYTES = 2 * 2**30
"""Bound of the weights that stay loaded on a device; the model at hand stays in any case."""

REMEMBERED_SESSIONS = 1000


class Owner(Protocol):
    """What a worker needs of the engine."""

    lock: threading.Lock

    def wanted(self, job: Job) -> bool:
        """Whether somebody still waits for it."""

    def found(self, job: Job, partial: Result) -> None:
        """Takes what a computation has found so far."""

    def complete(self, job: Job, outcome: Outcome) -> None:
        """Takes the outcome of a job."""


class Turns:
    """Who is served next: of all waiting jobs the one whose session was served longest ago.

    A session that asks for much waits behind one that asks for little. Not thread-safe: its owner holds a lock.
    """

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self._served: OrderedDict[str, int] = OrderedDict()
        self._count = 0

    def take(self) -> Job:
        """The next job; its sessions go to the end of the line."""
        job = min(self.waiting, key=self._last_served)  # the first that came, of those that are equal
        self.waiting.remove(job)
        self._count += 1
        for session in job.waiting:
            self._served.pop(session, None)
            self._served[session] = self._count
        while len(self._served) > REMEMBERED_SESSIONS:
            self._served.popitem(last=False)
        return job

    def _last_served(self, job: Job) -> int:
        return min((self._served.get(session, 0) for session in job.waiting), default=0)


class Worker:
    """Owner of the models of one device; its thread is the only one that touches them.

    The thread outlives whatever a request does. Should it end all the same, it is replaced, its models are loaded
    anew, and the job at hand fails.

    Args:
        engine: whose jobs it computes.
        device: where.
    """

    def __init__(self, engine: Owner, device: str) -> None:
        self.engine, self.device = engine, device
        self.models: OrderedDict[ModelKey, Any] = OrderedDict()
        self.turns = Turns()
        self.running: Job | None = None
        self._closed = False
        self._changed = threading.Condition(engine.lock)
        self._thread = self._start()

    @property
    def alive(self) -> bool:
        """Whether there is a thread that computes."""
        return self._thread.is_alive()

    def enqueue(self, job: Job) -> None:
        """Takes a job; the caller holds the engine's lock."""
        if not self.alive and not self._closed:
            self._thread = self._start()
        self.turns.waiting.append(job)
        self._changed.notify()

    def drop(self, job: Job) -> None:
        """Forgets a job that has not started; the caller holds the engine's lock."""
        if job in self.turns.waiting:
            self.turns.waiting.remove(job)

    def close(self) -> None:
        """Ends after the job at hand; waits for a few seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=f"engine-{self.device}", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._answer(job)
        except BaseException as error:
            event("worker died", device=self.device, error=type(error).__name__, where=stack_of(error))
            self._replace()

    def _replace(self) -> None:
        self.models.clear()  # whatever state they were left in
        if self.running is not None:
            self.engine.complete(self.running, Outcome("failed", error="the engine was interrupted; try again."))
        with self._changed:
            self.running = None
            if not self._closed:
                self._thread = self._start()

    def _next(self) -> Job | None:
        with self._changed:
            self.running = None
            self._changed.wait_for(lambda: self.turns.waiting or self._closed)
            if not self.turns.waiting:
                return None
            self.running = self.turns.take()
            self.running.status = "running"
            return self.running

    def _answer(self, job: Job) -> None:
        began = time.perf_counter()
        outcome = self._outcome(job)
        event(
            "request",
            kind=type(job.request).__name__,
            model=job.request.model.digest[:12],
            device=self.device,
            status=outcome.status,
            seconds=round(time.perf_counter() - began, 4),
            waiting=len(self.turns.waiting),
        )
        self.engine.complete(job, outcome)

    def _outcome(self, job: Job) -> Outcome:
        try:
            return Outcome("done", *self._compute(job))
        except Cancelled:
            return Outcome("cancelled")
        except (ValueError, FloatingPointError) as error:
            return Outcome("failed", error=str(error))
        except Exception as error:  # the worker has to outlive whatever one request does
            event("request failed", kind=type(job.request).__name__, error=type(error).__name__, where=stack_of(error))
            return Outcome("failed", error=f"the computation stopped ({error!r}); choose other inputs.")

    def _compute(self, job: Job) -> tuple[Result, str]:
        from app.services import compute, memory

        key, report = job.request.model, self._reporter(job)

        def answer(device: str, limit: memory.Limit) -> Result:
            def load(key: ModelKey) -> Any:
                return self._model(key) if device == self.device else compute.load_model(key, device)

            model = load(key)
            with limit(model), memory.interruptible(lambda: self._check(job)):
                return compute.answer(model, job.request, report, load)

        return memory.within_memory(self.device, answer, self.models.clear)

    def _model(self, key: ModelKey) -> Any:
        from app.services import compute

        if key not in self.models:
            self.models[key] = compute.load_model(key, self.device)
            while len(self.models) > 1 and sum(map(weight_bytes, self.models.values())) > MODEL_BYTES:
                self.models.popitem(last=False)
        self.models.move_to_end(key)
        return self.models[key]

    def _check(self, job: Job) -> None:
        if not self.engine.wanted(job):
            raise Cancelled

    def _reporter(self, job: Job) -> Report:
        def report(done: int, total: int, partial: Result | None = None) -> None:
            if partial is not None:
                self.engine.found(job, partial)
            self._check(job)
            job.done, job.total = done, total

        return report


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.denoiser.parameters())
