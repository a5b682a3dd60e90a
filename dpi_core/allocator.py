"""Memory that tensors free on a CPU is kept for the next ones, of whichever thread, until it is given back.

glibc gives large blocks back to the system when they are freed, and the system clears every page that it hands out
again: a sixth of the time of a small network is spent there (benchmarks/memory.py). It also has an arena for each thread, so
that what one thread freed is of no use to another. What is kept lies between what is in use, and is more than that in a
server that has computed for a while. The options are those of mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

KEPT_BYTES = 2**29
"""Freed memory that stays with the process."""

GIVE_BACK_SECONDS = 2.0
"""From a computation until what it has freed goes back to the system; one that runs then is slower by a few hundredths of a
second, for it has to ask for its memory again."""

_ARENAS = 2
"""A server's threads come and go with its visitors; with an arena for each, its memory grows for a long time."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_LARGEST_MMAP_THRESHOLD = 2**25
"""glibc takes no larger one on a machine of 64 bits."""

_STEP_BYTES = 2**26
"""By how much the process grows at a time."""


def keep_freed_memory() -> bool:
    """Makes this process keep up to `KEPT_BYTES` of freed memory; call it before large tensors are made and threads start.

    Returns:
        Whether it does: only glibc knows how, so on systems without it nothing changes.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    chosen = {
        _TRIM_THRESHOLD: KEPT_BYTES,
        _TOP_PAD: _STEP_BYTES,
        _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
        _ARENA_MAX: _ARENAS,
    }
    return all(mallopt(option, value) == 1 for option, value in chosen.items())


def give_back_freed_memory() -> bool:
    """Returns all freed memory to the system, of every thread; the next tensors have to ask for theirs again.

    Returns:
        Whether there was any; False on systems without glibc.
    """
    malloc_trim = _of_glibc("malloc_trim")
    return malloc_trim is not None and malloc_trim(0) == 1


def give_back_soon() -> None:
    """Has freed memory returned to the system in `GIVE_BACK_SECONDS`, by a thread of its own; calls until then are one."""
    with _lock:
        if _giver.ident is None:
            _giver.start()
    _freed.set()


def _give_back_for_ever() -> None:
    while _freed.wait():
        time.sleep(GIVE_BACK_SECONDS)
        _freed.clear()
        give_back_freed_memory()


_freed, _lock = threading.Event(), threading.Lock()
_giver = threading.Thread(target=_give_back_for_ever, name="gives-memory-back", daemon=True)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
