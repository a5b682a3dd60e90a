"""Computing within a device's memory, and stopping between two layers. Imports torch."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from app.records import Result
from dpi_core.model import Model

PARTS = (64, 16, 4, 1)
"""Samples per call of the network, tried one after another once memory has run out."""

Limit = Callable[[Model], AbstractContextManager[None]]


def within_memory(
    device: str, answer: Callable[[str, Limit], Result], forget: Callable[[], None]
) -> tuple[Result, str]:
    """Computes; where memory runs out, in smaller and smaller parts, then on the CPU; where the device is lost, there at once.

    Args:
        device: where it is to be computed.
        answer: computes on a device, within a context that limits the samples per call of the network.
        forget: drops the models that the device holds, before another attempt.

    Returns:
        The result, and a sentence for the user; empty if nothing happened.

    Raises:
        ValueError: memory does not suffice anywhere.
    """
    attempts: list[tuple[str, int | None]] = [(device, None), *((device, rows) for rows in PARTS)]
    if device != "cpu":
        attempts.append(("cpu", None))
    lost = False
    for where, rows in attempts:
        if lost and where == device:
            continue
        try:
            result = answer(where, lambda model, rows=rows: at_most(model.denoiser.net, rows))  # type: ignore[misc]
        except RuntimeError as error:
            lost = lost or (where != "cpu" and is_lost(error))
            if not lost and not is_out_of_memory(error):
                raise
        else:
            return result, _lost(device) if lost else _note(device, where, rows)
        forget()
        if not lost:
            release(device)
    raise ValueError(f"the memory of {device} does not suffice; choose fewer inputs or a smaller model.")


def _note(device: str, where: str, rows: int | None) -> str:
    if where != device:
        return f"The memory of {device} did not suffice: computed on the CPU."
    return "" if rows is None else f"The memory of {device} did not suffice for all at once: computed {rows} at a time."


def _lost(device: str) -> str:
    return f"{device} has stopped working: computed on the CPU; start the app again to use {device}."


def is_lost(error: RuntimeError) -> bool:
    """Whether a device has failed: after an error of its own it answers nothing in this process any more."""
    is_its_own = isinstance(error, torch.AcceleratorError) or str(error).startswith("CUDA error")
    return is_its_own and not is_out_of_memory(error)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the CPU's allocator, had no more."""
    texts = "can't allocate memory", "CUDA error: out of memory"
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts)


def release(device: str) -> None:
    """Gives unused memory back to the device."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


@contextmanager
def at_most(net: nn.Module, rows: int | None) -> Iterator[None]:
    """The network answers larger batches in parts of `rows` samples; None, or a limit that it has, leaves it as it is."""
    if rows is None or "forward" in vars(net):
        yield
        return
    whole = net.forward

    def parts(x: Tensor, s: Any, *args: Any, **kwargs: Any) -> Tensor:
        scalars = s.split(rows) if isinstance(s, Tensor) and s.ndim else repeat(s)
        pieces = zip(x.split(rows), scalars, strict=False)
        return torch.cat([whole(piece, scalar, *args, **kwargs) for piece, scalar in pieces])

    net.forward = parts  # type: ignore[method-assign]
    try:
        yield
    finally:
        del net.forward


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Calls `check`, which may raise, before every layer that this thread runs: a large batch stops inside a network."""
    thread = threading.get_ident()

    def before(module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == thread:
            check()

    handle = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
