"""One replica of the cluster: a device, the models that are loaded there, and the answers it streams.

Ray Serve makes as many as `python -m app.serve` says, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from app import records
from app.records import Result
from app.services import logs, wire
from app.services.computer import DeviceComputer, Task, ThisMachine
from app.services.jobs import Cancelled
from app.services.wire import Progress

HEARTBEAT = 0.1
"""Seconds between two messages."""


class Replica:
    """Answers over HTTP: GET says what it is, POST computes a request.

    Args:
        replicas: how many there may be.
    """

    def __init__(self, replicas: int) -> None:
        logs.write_to_stderr()
        self.about = {"device": ThisMachine().devices()[0], "replicas": replicas}
        self.computer = DeviceComputer(str(self.about["device"]))
        self.thread = ThreadPoolExecutor(1, "replica")

    async def __call__(self, http: HttpRequest) -> Response:
        """One request; a client that hangs up stops it."""
        if http.method != "POST":
            return JSONResponse(self.about)
        try:
            request = wire.unpack(await http.body())
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        if not isinstance(request, get_args(records.Request)):
            return PlainTextResponse(f"a {type(request).__name__} is nothing to compute; send a request.", 400)
        return StreamingResponse(self._messages(request), media_type="application/octet-stream")

    async def _messages(self, request: records.Request) -> AsyncIterator[bytes]:
        """How far it is, several times a second, and the outcome."""
        seen, found, left = [0, 0], deque[Result](maxlen=1), threading.Event()

        def check() -> None:
            if left.is_set():
                raise Cancelled

        def report(done: int, total: int, partial: Result | None = None) -> None:
            if partial is not None:
                found.append(partial)
            check()
            seen[:] = done, total

        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self.thread, self.computer.outcome, Task(request, report, check))
        try:
            is_done = False
            while not is_done:
                await asyncio.wait({work}, timeout=HEARTBEAT)
                is_done = work.done()  # before the progress is looked at: the last message counts to the end
                yield wire.frame(Progress(seen[0], seen[1], found.pop() if found else None))
            yield wire.frame(work.result())
        finally:
            left.set()
