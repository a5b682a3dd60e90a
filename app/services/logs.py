"""Logs for machines: one JSON object a line, about the work and never about what users look at.

An event holds names, counts and seconds. Messages of exceptions stay out, for they quote inputs.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path

log = logging.getLogger("dpi_explorer")


def event(name: str, **fields: str | float | None) -> None:
    """Logs what happened.

    Args:
        name: of the event.
        **fields: names, counts and seconds; no text that a user wrote, no picture.
    """
    log.info(json.dumps({"time": round(time.time(), 3), "event": name, **fields}))


def stack_of(error: BaseException) -> str:
    """Where an exception came from, file:line of the innermost frames, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


def write_to_stderr() -> None:
    """Writes events to standard error; once, however often it is called."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
