"""Who computes the answers: this machine, with the models of a device; a cluster does the same from afar."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from app.records import ModelKey, Request, Result
from app.services.jobs import Cancelled, Outcome
from app.services.logs import event, stack_of
from app.services.reporting import Report

MODEL_BYTES = 2 * 2**30
"""Bound of the weights that stay loaded on a device; the model at hand stays in any case."""

Check = Callable[[], None]
"""Raises `Cancelled` once nobody waits for the computation any more."""


class Computer(Protocol):
    """Computes requests of one device."""

    @property
    def at_once(self) -> int:
        """How many requests it computes at the same time; each is handed in by a thread of its own."""

    def outcome(self, request: Request, report: Report, check: Check) -> Outcome:
        """Computes one request; what goes wrong with it is part of the outcome."""

    def forget(self) -> None:
        """Drops the models it holds."""


class Computers(Protocol):
    """The devices that an engine has."""

    def devices(self) -> tuple[str, ...]:
        """Their names, the best first; takes seconds the first time."""

    def on(self, device: str) -> Computer:
        """What computes there."""


class ThisMachine:
    """The devices of this machine."""

    def devices(self) -> tuple[str, ...]:
        """Imports torch and finds them."""
        from app.services import compute
        from dpi_core.allocator import keep_freed_memory

        keep_freed_memory()
        return compute.devices()

    def on(self, device: str) -> Computer:
        """The computer of one device."""
        return DeviceComputer(device)


class DeviceComputer:
    """Owner of the models of one device of this machine; used by one thread at a time.

    Attributes:
        models: those that are loaded, the least recently used first.
    """

    at_once = 1

    def __init__(self, device: str) -> None:
        self.device = device
        self.models: OrderedDict[ModelKey, Any] = OrderedDict()

    def outcome(self, request: Request, report: Report, check: Check) -> Outcome:
        """Computes one request, within the device's memory; stops between two layers."""
        try:
            return Outcome("done", *self._compute(request, report, check))
        except Cancelled:
            return Outcome("cancelled")
        except (ValueError, FloatingPointError) as error:
            return Outcome("failed", error=str(error))
        except Exception as error:  # whoever calls has to outlive whatever one request does
            event("request failed", kind=type(request).__name__, error=type(error).__name__, where=stack_of(error))
            return Outcome("failed", error=f"the computation stopped ({error!r}); choose other inputs.")

    def forget(self) -> None:
        """Drops all models."""
        self.models.clear()

    def _compute(self, request: Request, report: Report, check: Check) -> tuple[Result, str]:
        from app.services import compute, memory

        def answer(device: str, limit: memory.Limit) -> Result:
            def load(key: ModelKey) -> Any:
                return self._model(key) if device == self.device else compute.load_model(key, device)

            model = load(request.model)
            with limit(model), memory.interruptible(check):
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


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.denoiser.parameters())
