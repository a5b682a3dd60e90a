"""Small independent computations on a CPU, several at once: each in a thread with a copy of the network and one processor.

The layers of a small network are too short to be shared out between processors: they wait for each other at every layer,
and for long where another program takes one of them. Whole passes side by side wait for nobody.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dpi_core.denoiser import Denoiser
from dpi_core.sample_batches import has_hooks

Item = TypeVar("Item")
Found = TypeVar("Found")

MOST_LANES = 8
"""Threads at once: each keeps a copy of the network and the outputs of its layers."""

MOST_BYTES = 2**28
"""Of weights in all copies together; the layers of a larger network are long enough to be shared out."""

MOMENT = 0.05
"""Seconds between two questions whether somebody still waits."""


def side_by_side(
    denoiser: Denoiser, work: Callable[[Denoiser, Item], Iterator[Found]], items: Sequence[Item]
) -> Iterator[Found]:
    """What `work` finds for each item, in the order of the items, as `work` one after another would give it.

    Args:
        denoiser: handed to `work`, or copies of it; on a CPU there are as many as torch has threads, up to `MOST_LANES`.
        work: finds something for one item; it may change the denoiser it is given, as long as it mends it.
        items: each is looked at once.

    Raises:
        Exception: what `work` raises, once the results before it have been given out.
    """
    lanes = min(_lanes(denoiser), len(items))
    copies = _copies(denoiser, lanes) if lanes > 1 else None
    if copies is None:
        for item in items:
            yield from work(denoiser, item)
        return
    crew = _Crew(work, items)
    with crew.at_work(copies):
        for index in range(len(items)):
            yield from crew.found(index)


def _lanes(denoiser: Denoiser) -> int:
    """How many threads may compute at once."""
    modules = list(denoiser.modules())
    weights = sum(p.numel() * p.element_size() for p in denoiser.parameters())
    # Copies would call what the original is hooked to, or what stands in place of its `forward`.
    is_replaced = has_hooks(denoiser) or any("forward" in module.__dict__ for module in modules)
    if denoiser.device.type != "cpu" or is_replaced or torch.is_inference_mode_enabled():
        return 1
    return min(torch.get_num_threads(), MOST_LANES, MOST_BYTES // max(weights, 1))


def _copies(denoiser: Denoiser, count: int) -> list[Denoiser] | None:
    """Copies that share nothing; None of a network that cannot be copied."""
    try:
        return [copy.deepcopy(denoiser) for _ in range(count)]
    except Exception:  # whatever a foreign network holds that cannot be copied
        return None


class _Stopped(BaseException):
    """Raised inside a lane whose results nobody wants any more; no Exception, for networks must not catch it."""


class _Crew(Generic[Item, Found]):
    """Lanes that take one item after another; what they find lies in a queue for each item."""

    def __init__(self, work: Callable[[Denoiser, Item], Iterator[Found]], items: Sequence[Item]) -> None:
        self._work, self._items = work, items
        self._next = iter(range(len(items)))
        self._taking = threading.Lock()
        self._queues: list[SimpleQueue[tuple[str, Any]]] = [SimpleQueue() for _ in items]
        self._stop = threading.Event()
        self._lanes: set[int] = set()

    @contextmanager
    def at_work(self, copies: Sequence[Denoiser]) -> Iterator[None]:
        """Lanes run while this is entered; at its end they stop at their next layer."""
        threads, ready = torch.get_num_threads(), threading.Barrier(len(copies) + 1)
        options = (max(1, threads // len(copies)), torch.is_grad_enabled(), ready)
        lanes = [threading.Thread(target=self._run, args=(each, *options), daemon=True) for each in copies]
        handle = register_module_forward_pre_hook(self._before_layer)
        try:
            for lane in lanes:
                lane.start()
            ready.wait()
            torch.set_num_threads(threads)  # a lane's number has become that of threads to come as well
            yield
        finally:
            self._stop.set()
            for lane in lanes:
                lane.join()
            handle.remove()

    def found(self, index: int) -> Iterator[Found]:
        """What is found for one item, as it is found."""
        while True:
            try:
                kind, value = self._queues[index].get(timeout=MOMENT)
            except Empty:
                _NOTHING(None)  # whoever may stop this thread does so where it calls a module
                continue
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    def _run(self, denoiser: Denoiser, threads: int, records: bool, ready: threading.Barrier) -> None:
        torch.get_num_threads()  # else the first operator would set it to that of the process
        torch.set_num_threads(threads)
        self._lanes.add(threading.get_ident())
        ready.wait()
        while not self._stop.is_set():
            with self._taking:
                index = next(self._next, None)
            if index is None:
                return
            with torch.set_grad_enabled(records):
                self._find(denoiser, index)

    def _find(self, denoiser: Denoiser, index: int) -> None:
        queue = self._queues[index]
        try:
            for value in self._work(denoiser, self._items[index]):
                queue.put(("found", value))
                if self._stop.is_set():
                    return
            queue.put(("end", None))
        except _Stopped:
            return
        except BaseException as error:
            queue.put(("error", error))

    def _before_layer(self, module: nn.Module, inputs: Any) -> None:
        if self._stop.is_set() and threading.get_ident() in self._lanes:
            raise _Stopped


_NOTHING = nn.Identity()
