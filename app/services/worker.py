"""Threads that have one device compute, and the order in which sessions are served."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from app.records import Request, Result
from app.services.computer import Computer, Task
from app.services.jobs import Cancelled, Job, Outcome
from app.services.logs import event, stack_of
from app.services.reporting import Report

REMEMBERED_SESSIONS = 1000
NICENESS = 10
"""Of a worker that others go before: beside one that does not step back it gets about a tenth of a processor."""


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

    def take(self, joined: Callable[[Request, Sequence[Request]], list[Request]]) -> list[Job]:
        """The next job, and those that are computed with it; their sessions go to the end of the line.

        Args:
            joined: says which of the requests that wait go with the first.
        """
        first, *others = sorted(self.waiting, key=self._last_served)  # the first that came, of those that are equal
        waiting = {job.request: job for job in others}
        jobs = [first, *(waiting[request] for request in joined(first.request, list(waiting)))]
        self.waiting = [job for job in self.waiting if job not in jobs]
        self._count += 1
        for session in [session for job in jobs for session in job.waiting]:
            self._served.pop(session, None)
            self._served[session] = self._count
        while len(self._served) > REMEMBERED_SESSIONS:
            self._served.popitem(last=False)
        return jobs

    def _last_served(self, job: Job) -> int:
        return min((self._served.get(session, 0) for session in job.waiting), default=0)


class Worker:
    """Threads of one device: as many as its computer computes requests at once; nothing else uses that computer.

    A thread outlives whatever a request does. Should it end all the same, it is replaced, the models are loaded anew,
    and the job at hand fails.

    Args:
        engine: whose jobs are computed.
        device: where.
        computer: of that device.
        steps_back: whether others go before it where processors are short; on Linux.
    """

    def __init__(self, engine: Owner, device: str, computer: Computer, steps_back: bool = False) -> None:
        self.engine, self.device, self.computer, self.steps_back = engine, device, computer, steps_back
        self.turns = Turns()
        self.running: set[Job] = set()
        self._closed = False
        self._gone: list[Path] = []
        self._changed = threading.Condition(engine.lock)
        self._threads: list[threading.Thread] = []
        self._start()

    @property
    def alive(self) -> bool:
        """Whether there is a thread that computes."""
        return any(thread.is_alive() for thread in self._threads)

    def enqueue(self, job: Job) -> None:
        """Takes a job; the caller holds the engine's lock."""
        self._start()
        self.turns.waiting.append(job)
        self._changed.notify()

    def drop(self, job: Job) -> None:
        """Forgets a job that has not started; the caller holds the engine's lock."""
        if job in self.turns.waiting:
            self.turns.waiting.remove(job)

    def forget(self, folder: Path) -> None:
        """Has the models below a folder dropped after the jobs at hand; the caller holds the engine's lock."""
        self._gone.append(folder)
        self._changed.notify()

    def close(self) -> None:
        """Ends after the jobs at hand; waits for a few seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    def _start(self) -> None:
        """Starts the threads that are missing: those that ended, and those of a device that has grown."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._threads) < self.computer.at_once and not self._closed:
            self._threads.append(threading.Thread(target=self._run, name=f"engine-{self.device}", daemon=True))
            self._threads[-1].start()

    def _run(self) -> None:
        jobs: list[Job] = []
        if self.steps_back and sys.platform == "linux":  # elsewhere it would be the whole process
            with suppress(OSError):  # a sandbox that forbids it: the work goes on at the usual priority
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            while jobs := self._next():
                self._answer(jobs)
        except BaseException as error:
            event("worker died", device=self.device, error=type(error).__name__, where=stack_of(error))
            self._replace(jobs)

    def _replace(self, jobs: Sequence[Job]) -> None:
        """Leaves another thread behind; called by one that ends."""
        self.computer.forget()  # whatever state the models were left in
        for job in jobs:
            self._complete(job, Outcome("failed", error="the engine was interrupted; try again."))
        with self._changed:
            self._threads.remove(threading.current_thread())
            self._start()

    def _next(self) -> list[Job]:
        """The jobs that are computed together; none once the worker is closed."""
        with self._changed:
            while not (self.turns.waiting or self._closed):
                self._forget_models()
                self._changed.wait()
            self._forget_models()
            if not self.turns.waiting:
                return []
            jobs = self.turns.take(self.computer.joined)
            self.running.update(jobs)
            for job in jobs:
                job.status = "running"
            return jobs

    def _forget_models(self) -> None:
        """By the thread that uses them: a model is in nobody's hands then."""
        for folder in self._gone:
            self.computer.forget(folder)
        self._gone.clear()

    def _answer(self, jobs: Sequence[Job]) -> None:
        began = time.perf_counter()
        tasks = {Task(job.request, self._reporter(job), partial(self._check, job)): job for job in jobs}
        for task, outcome in self.computer.outcomes(list(tasks)):
            event(
                "request",
                kind=type(task.request).__name__,
                model=task.request.model.digest[:12],
                device=self.device,
                status=outcome.status,
                seconds=round(time.perf_counter() - began, 4),
                joined=len(jobs),
                waiting=len(self.turns.waiting),
            )
            self._complete(tasks[task], outcome)

    def _complete(self, job: Job, outcome: Outcome) -> None:
        with self._changed:
            self.running.discard(job)
        self.engine.complete(job, outcome)

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
