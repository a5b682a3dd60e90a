"""Who computes the answers: this machine, with the models of a device; a cluster does the same from afar."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.records import ModelKey, Request, Result
from app.services.jobs import Cancelled, Outcome
from app.services.joining import joined
from app.services.logs import event, stack_of
from app.services.reporting import Report
from dpi_core.allocator import give_back_soon, keep_freed_memory

MODEL_BYTES = 2 * 2**30
"""Bound of the weights that stay loaded on a device; the model at hand stays in any case."""
SPINS = "10000"
"""Of a waiting thread before it sleeps, for GNU's OpenMP, which torch for Linux has: a tenth of a millisecond."""

Check = Callable[[], None]
"""Raises `Cancelled` once nobody waits for the computation any more."""


@dataclass(frozen=True, eq=False)
class Task:
    """One request at hand.

    Attributes:
        request: what is asked for.
        report: hears how far it is.
        check: raises `Cancelled` once nobody waits for it.
    """

    request: Request
    report: Report
    check: Check

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it."""
        try:
            self.check()
        except Cancelled:
            return False
        return True


class Computer(Protocol):
    """Computes requests of one device."""

    @property
    def at_once(self) -> int:
        """How many requests it computes at the same time; each is handed in by a thread of its own."""

    def joined(self, first: Request, waiting: Sequence[Request]) -> list[Request]:
        """Those of `waiting` that cost less together with `first` than alone; called before each computation."""

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Computes what was joined, each task's outcome as soon as it is there; what goes wrong is part of it."""

    def forget(self, folder: Path | None = None) -> None:
        """Drops the models that it holds, all or those below a folder."""


class Computers(Protocol):
    """The devices that an engine has."""

    def devices(self) -> tuple[str, ...]:
        """Their names, the best first; takes seconds the first time."""

    def on(self, device: str) -> Computer:
        """What computes there."""

    def computes_apart(self, device: str) -> bool:
        """Whether a second computer of that device may work beside the first: one for long requests, one for the others."""


class ThisMachine:
    """The devices of this machine."""

    def __init__(self) -> None:
        keep_freed_memory()  # here and not with torch: each thread that has started by then has an arena of its own

    def devices(self) -> tuple[str, ...]:
        """Imports torch and finds them."""
        spin_briefly()
        from app.services import compute

        return compute.devices()

    def on(self, device: str) -> Computer:
        """A computer of one device, with models of its own."""
        return DeviceComputer(device)

    def computes_apart(self, device: str) -> bool:
        """Not where two threads crash the process: on Apple's GPUs (https://github.com/pytorch/pytorch/issues/197805)."""
        return not device.startswith("mps")


class DeviceComputer:
    """Owner of the models of one device of this machine; used by one thread at a time.

    Attributes:
        models: those that are loaded, the least recently used first.
    """

    at_once = 1

    def __init__(self, device: str) -> None:
        self.device = device
        self.models: OrderedDict[ModelKey, Any] = OrderedDict()

    def joined(self, first: Request, waiting: Sequence[Request]) -> list[Request]:
        """Small sweeps of the same network, once it is loaded."""
        model = self.models.get(first.model)
        return [] if model is None else joined(first, waiting, model.recipe.shape)

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Computes several sweeps in the same passes; where that breaks, those that are left one after another."""
        left = list(tasks)
        if len(tasks) > 1:
            try:
                for task, outcome in self._together(tasks):
                    left.remove(task)
                    yield task, outcome
            except (Exception, Cancelled) as error:
                event("joined passes stopped", error=type(error).__name__, where=stack_of(error))
        for task in left:
            yield task, self.outcome(task)
        give_back_soon()

    def outcome(self, task: Task) -> Outcome:
        """Computes one request, within the device's memory; stops between two layers."""
        request = task.request
        try:
            return Outcome("done", *self._compute(request, task.report, task.check))
        except Cancelled:
            return Outcome("cancelled")
        except (ValueError, FloatingPointError) as error:
            return Outcome("failed", error=str(error))
        except Exception as error:  # whoever calls has to outlive whatever one request does
            event("request failed", kind=type(request).__name__, error=type(error).__name__, where=stack_of(error))
            return Outcome("failed", error=f"the computation stopped ({error!r}); choose other inputs.")

    def forget(self, folder: Path | None = None) -> None:
        """Drops all models, or those below a folder."""
        for key in [key for key in self.models if folder is None or Path(key.folder).is_relative_to(folder)]:
            del self.models[key]

    def _together(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Some levels of each sweep per pass; one that is complete, or that nobody waits for, leaves the others."""
        from app.services import compute, memory
        from app.services.sweeps import advance

        def check() -> None:
            if not any(task.is_wanted for task in sweeps):
                raise Cancelled

        model = self._model(tasks[0].request.model)
        sweeps = {task: compute.prepared(model, task.request, task.report, self._model) for task in tasks}  # type: ignore[arg-type]
        while sweeps:
            with memory.interruptible(check):
                advance(model, list(sweeps.values()))
            for task, sweep in list(sweeps.items()):
                outcome = _standing(task, sweep)
                if outcome is not None:
                    del sweeps[task]
                    yield task, outcome

    def _compute(self, request: Request, report: Report, check: Check) -> tuple[Result, str]:
        from app.services import compute, memory

        def answer(device: str, limit: memory.Limit) -> Result:
            with ExitStack() as limits:

                def load(key: ModelKey) -> Any:
                    model = self._model(key) if device == self.device else compute.load_model(key, device)
                    limits.enter_context(limit(model))
                    return model

                model = load(request.model)
                with memory.interruptible(check):
                    return compute.answer(model, request, report, load)

        return memory.within_memory(self.device, answer, self.forget)

    def _model(self, key: ModelKey) -> Any:
        from app.services import compute

        if key not in self.models:
            self.models[key] = compute.load_model(key, self.device)
            while len(self.models) > 1 and sum(map(weight_bytes, self.models.values())) > MODEL_BYTES:
                self.models.popitem(last=False)
        self.models.move_to_end(key)
        return self.models[key]


def _standing(task: Task, sweep: Any) -> Outcome | None:
    """The outcome of a sweep that is computed with others, once it has one."""
    try:
        task.report(len(sweep.frames), len(sweep.grid))
        return Outcome("done", sweep.result()) if sweep.is_complete else None
    except Cancelled:
        return Outcome("cancelled")
    except ValueError as error:
        return Outcome("failed", error=str(error))


def spin_briefly() -> None:
    """Has torch's threads sleep soon while they wait for one another; called before torch is imported, which reads it.

    By default they spin for milliseconds, and on a machine that does anything besides, each spins for as long as another has
    no core. Threads that sleep at once have to be woken at every barrier (`benchmarks.waiting`).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.denoiser.parameters())
